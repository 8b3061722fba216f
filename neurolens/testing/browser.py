"""browser: the Chromium that reports are looked at in, by tests, benchmarks and whoever takes screenshots."""

from __future__ import annotations

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# headless as root, and without anything that it would fetch for itself
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


def find_chromium() -> str | None:
    """Path of a Chromium that is installed; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)
