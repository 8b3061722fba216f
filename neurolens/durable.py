"""durable: what is on the disk whenever the power fails: a file whole, or the one before it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAKING = ".making"  # ends the name of what is not whole yet
PARTIAL = "*.partial"  # what zarr leaves behind when it is killed during a write
BEGUN = {"neurolens": "making"}  # attributes of a run that is not whole yet


def sync(path: Path) -> None:
    """Make sure that a file's bytes, or a folder's names, are on the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(path: Path) -> None:
    """`sync` of all files and folders below one, and of itself."""
    for folder, _, files in os.walk(path):
        for name in files:
            sync(Path(folder, name))
        sync(Path(folder))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file that is at `path` once all is written and on the disk, in place of what was there; until then it lies
    beside it, where a stop leaves it. Raises OSError."""
    made = path.with_name(path.name + MAKING)
    with made.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    made.rename(path)
    sync(path.parent)
