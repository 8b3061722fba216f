"""place: what a store does with files, in a folder of this machine or with objects somewhere else.

    here        a run is made beside its place and renamed into it; what is written is on the disk once it is synced
    elsewhere   an object that was put is there, whole, and nothing is renamed (remote.py)

All but what is in the arrays, which zarr reads and writes. Names are those inside the run, with `/`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from neurolens import IncompleteError, NeurolensError
from neurolens.durable import MAKING, PARTIAL, sync, sync_tree
from neurolens.location import Where, locate

SYNCS = 4  # files made durable at a time


class Place(Protocol):
    """Where a run is, or is to be. Reading raises OSError for what is not there or cannot be read; of a place that
    cannot be reached everything raises NeurolensError, which is `lost` from then on."""

    lost: NeurolensError | None

    @property
    def at(self) -> Where:
        """The folder or URL."""
        ...

    @property
    def zarr(self) -> Any:
        """What zarr opens and makes groups in."""
        ...

    @property
    def made(self) -> Path | None:
        """Where a run is made, if that is elsewhere than its place."""
        ...

    def is_there(self) -> bool:
        """Whether there is anything, but for a run in the making."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is a file or a folder of that name."""
        ...

    def is_folder(self, name: str) -> bool:
        """Whether there is a folder of that name; elsewhere: anything in it."""
        ...

    def is_file(self, *names: str) -> bool:
        """Whether there is a file."""
        ...

    def lacking(self, files: Iterable[str]) -> str | None:
        """The first of these files that is not there, None if all are."""
        ...

    def folders(self, name: str) -> list[str]:
        """Names of the folders directly in one, sorted; none if it is none."""
        ...

    def files(self) -> Iterator[str]:
        """All files there are."""
        ...

    def size(self, folder: str) -> int:
        """Bytes of the chunks below a folder."""
        ...

    def read(self, name: str) -> bytes:
        """What is in a file."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Make a file, whole or not at all; it is on the disk once it is synced."""
        ...

    def remove(self, name: str) -> None:
        """Remove a folder with all that is in it, if there is one."""
        ...

    def unlink(self, name: str) -> None:
        """Remove a file, if there is one."""
        ...

    def sync(self, *names: str) -> None:
        """Make sure that files and folders are on the disk."""
        ...

    def sync_matches(self, folder: str, pattern: str) -> None:
        """`sync` of files in a folder by a glob, of the folders that they are in, of it, and of the one it is in."""
        ...

    def sync_tree(self, *folders: str) -> None:
        """`sync` of all that is below."""
        ...

    def clean(self) -> None:
        """Remove what an interrupted write has left."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """Turns what goes wrong while something is written into IncompleteError."""
        ...

    def appearing(self) -> AbstractContextManager[Place]:
        """Where a run is made that is at its place once all is written, in one moment. Its root is made with the
        attributes BEGUN, and gets its own last. Of a failure nothing stays, or what is not taken for a run and is
        removed by whoever makes it again."""
        ...


class Folder:
    """A folder of this machine."""

    lost: NeurolensError | None = None

    def __init__(self, at: Path) -> None:
        self.at = at

    @property
    def zarr(self) -> Path:
        return self.at

    @property
    def made(self) -> Path:
        return self.at.with_name(self.at.name + MAKING)

    def is_there(self) -> bool:
        return self.at.exists()

    def exists(self, name: str) -> bool:
        return (self.at / name).exists()

    def is_folder(self, name: str) -> bool:
        return (self.at / name).is_dir()

    def is_file(self, *names: str) -> bool:
        return self.at.joinpath(*names).is_file()

    def lacking(self, files: Iterable[str]) -> str | None:
        return next((name for name in files if not (self.at / name).is_file()), None)

    def folders(self, name: str) -> list[str]:
        path = self.at / name
        return sorted(each.name for each in path.iterdir() if each.is_dir()) if path.is_dir() else []

    def files(self) -> Iterator[str]:
        for folder, _, files in os.walk(self.at):
            for file in files:
                yield Path(folder, file).relative_to(self.at).as_posix()

    def size(self, folder: str) -> int:
        return sum(path.stat().st_size for path in (self.at / folder).rglob("c/**/*") if path.is_file())

    def read(self, name: str) -> bytes:
        return (self.at / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        path = self.at / name
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_name(path.name + PARTIAL.removeprefix("*"))
        made.write_bytes(content)
        made.replace(path)

    def remove(self, name: str) -> None:
        shutil.rmtree(self.at / name, ignore_errors=not (self.at / name).exists())

    def unlink(self, name: str) -> None:
        (self.at / name).unlink(missing_ok=True)

    def sync(self, *names: str) -> None:
        for name in names:
            sync(self.at / name)

    def sync_matches(self, folder: str, pattern: str) -> None:
        paths = list((self.at / folder).glob(pattern))
        with ThreadPoolExecutor(SYNCS) as pool:  # disks take several at once: two finish three times as many
            for _ in pool.map(sync, [*paths, *(path.parent for path in paths)]):
                pass
        sync(self.at / folder)
        sync((self.at / folder).parent)  # whose first file has made the folder

    def sync_tree(self, *folders: str) -> None:
        for folder in folders:
            sync_tree(self.at / folder)

    def clean(self) -> None:
        for partial in self.at.rglob(PARTIAL):
            partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        with disk(self.at):
            yield

    @contextlib.contextmanager
    def appearing(self) -> Iterator[Folder]:
        made = self.made
        shutil.rmtree(made, ignore_errors=True)
        try:
            yield Folder(made)
            sync_tree(made)
            made.rename(self.at)
            sync(self.at.parent)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turns a failure of the disk, while what is at `path` is written, into IncompleteError."""
    try:
        yield
    except OSError as error:
        free = shutil.disk_usage(path.parent).free / 1e6
        raise IncompleteError(
            f"cannot write to {path}: {error.strerror or error} ({free:.0f} MB free); make room and give the same "
            "command again, it continues"
        ) from error


def find_place(where: str | Where) -> Place:
    """The place of a run. Raises UsageError for what can be none, NeurolensError for one that cannot be reached."""
    at = locate(where)
    if isinstance(at, Path):
        return Folder(at)
    from neurolens.remote import Remote  # which opens a connection, with what that takes

    return Remote(at)
