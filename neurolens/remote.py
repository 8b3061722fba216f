"""remote: a run of objects behind a URL that fsspec knows, `s3://bucket/opt.zarr`; what goes wrong on the way.

An object that was put is there, whole, and in the order of the calls: there is nothing to sync, and a mark that is
there tells the truth. Nothing can be renamed: a run in the making says so in its root's attributes, which are written
last, so that it, too, appears whole.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import errno
import json
import os
import re
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from zarr.core.sync import sync
from zarr.storage import FsspecStore

from neurolens import IncompleteError, NeurolensError, UsageError, first_line
from neurolens.durable import BEGUN
from neurolens.location import Url

T = TypeVar("T")
ROOT = "zarr.json"
OPTIONS = {"use_listings_cache": False, "skip_instance_cache": True}  # others write as well; a session has one loop
OF_SCHEME = {"s3": {"max_concurrency": 1}}  # of the parts of an object: else s3fs asks for its size before it is read

_files: dict[str, Any] = {}  # by bucket: fsspec's, whose connections are zarr's loop's
_opening = threading.Lock()


class Remote:
    """Objects below a URL; a Place."""

    made = None

    def __init__(self, at: Url) -> None:
        """Raises UsageError for a scheme that is none, NeurolensError if what it takes is not installed."""
        self.at, self.lost = at, None
        with self.reaching():
            files = _connect(at.root)
            self.zarr = Objects(files, path=files._strip_protocol(str(at)))
        self.zarr.place = self
        self._files, self._root = files, self.zarr.path

    def is_there(self) -> bool:
        if self._kind(self._root) is None:
            with self.reaching():  # nothing is in a bucket that is there, or there is none: FileNotFoundError
                if bucket := self._root.split("/")[0]:
                    sync(self._files._info(bucket))
            return False
        try:
            return not _is_begun(self.read(ROOT))
        except FileNotFoundError:  # somebody else's, or another process has just removed what was begun
            return self._kind(self._root) is not None

    def exists(self, name: str) -> bool:
        return self._kind(self._path(name)) is not None

    def is_folder(self, name: str) -> bool:
        return self._kind(self._path(name)) == "directory"

    def is_file(self, *names: str) -> bool:
        return self._kind(self._path(*names)) == "file"

    def lacking(self, files: Iterable[str]) -> str | None:
        names = list(files)

        async def kinds() -> list[str | None]:
            return await asyncio.gather(*(self.find_kind(self._path(name)) for name in names))

        found = self._do(kinds())
        return next((name for name, kind in zip(names, found, strict=True) if kind != "file"), None)

    def folders(self, name: str) -> list[str]:
        async def listed() -> list[dict[str, Any]]:
            with contextlib.suppress(FileNotFoundError):
                return await self._files._ls(self._path(name), detail=True)
            return []

        found = self._do(listed())
        return sorted(each["name"].rstrip("/").rpartition("/")[2] for each in found if each["type"] == "directory")

    def files(self) -> Iterator[str]:
        for path in sorted(self._do(self._find(self._root))):
            if name := path.removeprefix(f"{self._root}/"):  # consoles make empty objects that stand for folders
                yield name

    def size(self, folder: str) -> int:
        found = self._do(self._find(self._path(folder)))
        inside = len(self._root)  # a bucket may have folders called c, too
        return sum(each["size"] for path, each in found.items() if "/c/" in path[inside:])

    def read(self, name: str) -> bytes:
        async def fetched() -> bytes | None:
            with contextlib.suppress(FileNotFoundError):
                return await self._files._cat_file(self._path(name))
            return None

        if (content := self._do(fetched())) is None:
            raise FileNotFoundError(errno.ENOENT, "No such object", f"{self.at}/{name}")
        return content

    def write(self, name: str, content: bytes) -> None:
        self._do(self._files._pipe_file(self._path(name), content))

    def remove(self, name: str) -> None:
        self._do(self._remove(self._path(name)))

    def unlink(self, name: str) -> None:
        async def removed() -> None:
            with contextlib.suppress(FileNotFoundError):
                await self._files._rm(self._path(name))

        self._do(removed())

    def sync(self, *names: str) -> None:
        """Nothing is to be done, here and below."""

    def sync_matches(self, folder: str, pattern: str) -> None: ...

    def sync_tree(self, *folders: str) -> None: ...

    def clean(self) -> None: ...

    def writing(self) -> AbstractContextManager[None]:
        return nullcontext()  # `Objects` says what goes wrong

    @contextlib.contextmanager
    def appearing(self) -> Iterator[Remote]:
        self._remove_begun()
        yield self  # of a failure what was begun stays: a put may still be under way, and come after its removal

    @contextlib.contextmanager
    def reaching(self) -> Iterator[None]:
        """Turns what goes wrong on the way into one line."""
        try:
            yield
        except NeurolensError:
            raise
        except Exception as error:  # those of fsspec's file systems are of many kinds
            found = explain(error, self.at)
            self.lost = self.lost or found
            raise found from error

    def _path(self, *names: str) -> str:
        return "/".join((self._root, *names))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        with self.reaching():
            return sync(work)

    def _kind(self, path: str) -> str | None:
        return self._do(self.find_kind(path))

    async def find_kind(self, path: str) -> str | None:
        """`file`, `directory`, or None for what is not there."""
        with contextlib.suppress(FileNotFoundError):
            return (await self._files._info(path))["type"]
        return None

    async def _find(self, path: str) -> dict[str, dict[str, Any]]:
        """All objects below a path, and what is known of each."""
        with contextlib.suppress(FileNotFoundError):
            return dict(await self._files._find(path, detail=True))
        return {}

    async def _remove(self, path: str) -> None:
        if await self.find_kind(path) is None:  # mostly there is nothing
            return
        with contextlib.suppress(FileNotFoundError):
            await self._files._rm(path, recursive=True)
        if left := await self._find(path):  # some file systems do not say that they must not
            raise PermissionError(f"{len(left)} objects of {path} cannot be removed")

    def _remove_begun(self) -> None:
        """Remove a run in the making; what says so goes last. What is somebody else's is left alone."""
        with contextlib.suppress(FileNotFoundError):
            if _is_begun(self.read(ROOT)):
                for name in sorted({name.split("/")[0] for name in self.files()} - {ROOT}):
                    self.remove(name)
                self.unlink(ROOT)


class Objects(FsspecStore):
    """What zarr reads and writes of a place, which explains what goes wrong."""

    place: Remote

    def with_read_only(self, read_only: bool = False) -> Objects:
        made = super().with_read_only(read_only)
        assert isinstance(made, Objects)
        made.place = self.place
        return made

    async def get(self, *args: Any, **kwargs: Any) -> Any:
        with self.place.reaching():
            return await super().get(*args, **kwargs)

    async def get_partial_values(self, *args: Any, **kwargs: Any) -> Any:
        with self.place.reaching():
            return await super().get_partial_values(*args, **kwargs)

    async def exists(self, key: str) -> bool:
        with self.place.reaching():
            return await super().exists(key)

    async def set(self, *args: Any, **kwargs: Any) -> None:
        with self.place.reaching():
            await super().set(*args, **kwargs)

    async def delete(self, key: str) -> None:
        with self.place.reaching():
            await super().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        with self.place.reaching():  # zarr does it before each array that it makes; mostly there is nothing
            if await self.place.find_kind(f"{self.path}/{prefix}".rstrip("/")) is not None:
                await super().delete_dir(prefix)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        with self.place.reaching():
            async for each in super().list_dir(prefix):
                yield each

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        with self.place.reaching():
            async for each in super().list_prefix(prefix):
                yield each


def _is_begun(root: bytes) -> bool:
    """Whether the metadata of a root are those of a run in the making."""
    try:
        return json.loads(root)["attributes"] == BEGUN
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def explain(error: Exception, at: Url) -> NeurolensError:
    """What went wrong on the way to a place, and what to do. Passwords of URLs in its text are left out."""
    why, kind = re.sub(r"//[^/@\s]*@", "//", first_line(error)), type(error).__name__
    if isinstance(error, ImportError):
        install = "; pip install neurolens-llm[remote]" if at.scheme == "s3" else ""
        return NeurolensError(f"{at} needs a package that is not installed ({why}){install}")
    if isinstance(error, ValueError) and "rotocol" in why:
        return UsageError(f"{at}: {at.scheme}:// is no scheme that fsspec knows; expected s3://BUCKET/RUN.zarr")
    if "Credential" in kind or kind == "ProfileNotFound":
        return NeurolensError(
            f"no credentials for {at} ({why}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if isinstance(error, PermissionError):
        return NeurolensError(f"access to {at} is denied ({why}); check credentials and what the bucket allows them")
    if isinstance(error, FileNotFoundError):
        return NeurolensError(f"there is no {at.root}, or it is gone; make it, or give another place than {at}")
    if kind == "ParamValidationError":
        return UsageError(f"{at.root} cannot be the name of a bucket ({why}); expected s3://BUCKET/RUN.zarr")
    return IncompleteError(f"cannot reach {at} ({why}); once it can be reached, give the same command again")


def close() -> None:
    """Close all connections; what is used after it opens them anew."""
    with _opening:
        for files in _files.values():
            if hasattr(files, "set_session"):  # s3fs closes none that is asynchronous by itself
                with contextlib.suppress(Exception):
                    sync(_close(files))
        _files.clear()


async def _close(files: Any) -> None:
    await (await files.set_session()).close()


def _connect(root: Url) -> Any:
    """fsspec's file system of a bucket; one for all runs in it."""
    with _opening:
        if str(root) not in _files:
            _files[str(root)] = FsspecStore.from_url(
                str(root), storage_options={**OPTIONS, **OF_SCHEME.get(root.scheme, {})}
            ).fs
        return _files[str(root)]


atexit.register(close)  # before zarr's loop ends, which was registered earlier
os.register_at_fork(after_in_child=_files.clear)
