"""Thin launcher: `python cli.py …` is `neurolens …`."""

from neurolens.cli import main

if __name__ == "__main__":
    main()
