"""Ways to damage a run, and what was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr

from neurolens.verify import Verification


def flip(file: Path, at: float = 0.5) -> None:
    """A bit of a file, some way into it."""
    content = bytearray(file.read_bytes())
    content[int(len(content) * at)] ^= 1
    file.write_bytes(content)


def rewrite(path: Path, name: str, change: Callable[[np.ndarray], object]) -> None:
    """Change an array so that its checksums hold."""
    array = zarr.open_group(path, mode="r+")[name]
    assert isinstance(array, zarr.Array)
    values = np.array(array[...])
    change(values)
    with zarr.config.set({"array.write_empty_chunks": True}):
        array[...] = values


def edit(path: Path, name: str, **attributes: object) -> None:
    """Change attributes of an array or group."""
    file = path / name / "zarr.json"
    content = json.loads(file.read_text())
    content["attributes"] |= attributes
    file.write_text(json.dumps(content))


def named(found: Verification) -> set[str]:
    """Paths of what is damaged."""
    return {damage.path for damage in found.damages}


def times(path: Path) -> dict[str, int]:
    """When each file below a folder was written."""
    return {str(each): each.stat().st_mtime_ns for each in sorted(path.rglob("*"))}
