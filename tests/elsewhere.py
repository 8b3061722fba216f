"""Runs that are elsewhere: what is in them, and ways to reach, copy, damage and lose them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import snapshot

from neurolens.location import Url, locate
from neurolens.remote import Remote


def place_of(url: str) -> Remote:
    """The place of a run that is elsewhere."""
    at = locate(url)
    assert isinstance(at, Url)
    return Remote(at)


def objects(url: str) -> dict[str, bytes]:
    """Every object below a URL, by its name there; as `snapshot` of a folder."""
    place = place_of(url)
    return {name: place.read(name) for name in place.files()}


def upload(path: Path, url: str) -> str:
    """Copy a run of this machine; returns where it is."""
    place = place_of(url)
    for name, content in snapshot(path).items():
        place.write(name, content)
    return url


def flip(url: str, name: str) -> None:
    """A bit in the middle of an object."""
    place = place_of(url)
    content = bytearray(place.read(name))
    content[len(content) // 2] ^= 1
    place.write(name, bytes(content))


def break_off(
    url: str, call: str, error: Callable[[], BaseException], patch: pytest.MonkeyPatch, *, after: int = 0
) -> list[str]:
    """Let calls of fsspec's (`_cat_file`, `_pipe_file`) fail, all after so many; returns the paths they were for."""
    files: Any = place_of(url)._files
    do, seen = getattr(files, call), []

    async def failing(path: str, *args: Any, **kwargs: Any) -> Any:
        seen.append(path)
        if len(seen) > after:
            raise error()
        return await do(path, *args, **kwargs)

    patch.setattr(files, call, failing)
    return seen
