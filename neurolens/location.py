"""location: where a run is: a folder on this machine, or a URL of somewhere else, as a user types it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from neurolens import UsageError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
WITHOUT_BUCKET = "memory"  # the scheme whose URLs begin with the name itself


@dataclass(frozen=True)
class Url:
    """`s3://bucket/folder/opt.zarr`: `scheme`, and the `parts` between its slashes, of which none is empty."""

    scheme: str
    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        """The last part."""
        return self.parts[-1]

    @property
    def root(self) -> Url:
        """The first part alone: the bucket."""
        return Url(self.scheme, self.parts[:1])

    def resolve(self) -> Url:
        """What tells one from another, as that of a Path: itself."""
        return self

    def __str__(self) -> str:
        return f"{self.scheme}://{'/'.join(self.parts)}"


Where = Path | Url


def locate(where: str | Path | Url) -> Where:
    """A path, or the URL that a text with a scheme is; `file:///…` is a path.

    Raises UsageError for a URL that names no run, or that has credentials in it, which is not repeated then.

    >>> str(locate("s3://bucket/a/opt.zarr/")), locate("a//opt.zarr")
    ('s3://bucket/a/opt.zarr', PosixPath('a/opt.zarr'))
    """
    if isinstance(where, Url):
        return where
    found = _URL.fullmatch(where) if isinstance(where, str) else None
    if found is None:
        return Path(where)
    scheme, rest = found[1].lower(), found[2]
    if scheme == "file":
        if not rest.startswith("/"):
            raise UsageError(f"{where} names no file of this machine; expected file:///FOLDER/RUN.zarr, or a path")
        return Path(rest)
    if re.search(r":.*@|[?#]", rest, re.DOTALL):  # a URL stands in messages, logs and figures
        raise UsageError(
            f"a {scheme}:// URL with a password, '?' or '#' in it is none of a run; give credentials in the "
            "environment, and the URL without them"
        )
    parts = tuple(rest.rstrip("/").split("/"))
    if not all(parts) or {".", ".."} & set(parts) or not rest.isprintable():
        raise UsageError(f"{ascii(where)[1:-1]} has an empty or odd part; expected {scheme}://BUCKET/RUN.zarr")
    if len(parts) < 2 and scheme != WITHOUT_BUCKET:
        raise UsageError(f"{where} names a bucket and no run in it; expected {scheme}://BUCKET/RUN.zarr")
    return Url(scheme, parts)


def here(where: str | Path | Url, what: str = "a path") -> Path:
    """A path, where nothing else will do. Raises UsageError for a URL."""
    if isinstance(found := locate(where), Url):
        raise UsageError(f"{found} is elsewhere; expected {what} on this machine")
    return found


def beside(where: Where) -> Path:
    """What the names of files beside a run begin with: itself; of one that is elsewhere its name in the current folder,
    with what tells it from others of that name."""
    if isinstance(where, Path):
        return where
    return Path(f"{where.name[:80]}.{hashlib.sha256(str(where).encode()).hexdigest()[:8]}")
