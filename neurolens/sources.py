"""What a user names → sources: files known by their endings, folders, globs, data sets of the hub, the demo's text.

Opens nothing.
"""

from __future__ import annotations

import glob
import os
import platform
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurolens import NeurolensError, UsageError

KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".txt": "txt", ".parquet": "parquet"}
COMPRESSIONS = (".gz", ".xz", ".bz2", ".zst")
EXPECTED = f".jsonl or .txt, plain or compressed ({', '.join(COMPRESSIONS)}), or .parquet"

HUB = "hf:"
DEMO = "demo:"
SPLIT = "train"
SPLITS = ("train", "validation", "test")  # alone after a NAME they are its split, anything else its configuration
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")

Say = Callable[[str], object]


@dataclass(frozen=True)
class FileSource:
    """A file to read: `kind` is jsonl, txt or parquet, `compression` the ending that says how (or nothing).

    `label` is what its documents count under when they do not say it themselves.
    """

    path: Path
    kind: str
    compression: str
    label: str

    def __str__(self) -> str:
        return str(self.path)

    def describe(self) -> dict[str, Any]:
        """What a run remembers of it: name and bytes. Raises OSError if it has gone."""
        return {"name": _utf8(self.path.name), "bytes": self.path.stat().st_size}


@dataclass(frozen=True)
class HubSource:
    """A split of a data set of the hub, to be streamed. `config` "" means the one the data set has."""

    name: str
    config: str = ""
    split: str = SPLIT

    def __str__(self) -> str:
        return f"{HUB}{self.name}:{self.config}:{self.split}"

    @property
    def label(self) -> str:
        """What its documents count under when they do not say it themselves: the data set's name."""
        return self.name

    def describe(self) -> dict[str, Any]:
        """What a run remembers of it."""
        return {"hub": self.name, "config": self.config or None, "split": self.split}


@dataclass(frozen=True)
class DemoSource:
    """Text that every Python has: code, prose and math, the part that the embedded model has not seen."""

    label = "demo"

    def __str__(self) -> str:
        return DEMO

    def describe(self) -> dict[str, Any]:
        """What a run remembers of it: another Python has slightly other text."""
        return {"demo": "held", "python": platform.python_version()}


Source = FileSource | HubSource | DemoSource


def find_sources(names: Iterable[str | Path], *, say: Say = lambda line: None) -> list[Source]:
    """The sources that the names mean, in their order; no names, no sources.

    A name is a file, a folder (all readable files below it, sorted; hidden ones are left out), a glob (where nothing
    of this name exists; its files, sorted), `hf:NAME[:CONFIG][:SPLIT]` or `demo:`. A file that is named itself, or by a
    glob, has its name without the endings as label; one found in a folder that of the folder it lies in, since files
    of a folder are mostly pieces of one text. `.json` in a folder is taken for metadata and left out. What is left out
    for its ending is counted and said. Raises UsageError for a name that means nothing readable, NeurolensError for a
    folder that cannot be listed.
    """
    sources: list[Source] = []
    for name in names:
        text, path = str(name), Path(name)
        if text.startswith(HUB):
            sources.append(parse_hub(text))
        elif text == DEMO:
            sources.append(DemoSource())
        elif path.is_dir():
            sources += _of_folder(path, say)
        elif path.is_file():
            sources.append(_of_file(path))
        elif glob.has_magic(text) and not path.exists():
            sources += _of_glob(text, say)
        else:
            raise UsageError(f"no file {text}; give existing files ({EXPECTED}), folders, globs, {HUB}NAME or {DEMO}")
    return sources


def parse_hub(text: str) -> HubSource:
    """`hf:NAME[:CONFIG][:SPLIT]` as a source; both may be left out or empty, the split is then `train`.

    One part after NAME is the split if it is train, validation or test, else the configuration. Raises UsageError.
    """
    name, *parts = text.removeprefix(HUB).split(":")
    if not _NAME.fullmatch(name) or len(parts) > 2:
        raise UsageError(
            f"{text} names no data set; expected {HUB}NAME[:CONFIG][:SPLIT], for example {HUB}allenai/c4:en"
        )
    if len(parts) == 1 and parts[0] in SPLITS:
        parts = ["", *parts]
    config, split = [*parts, "", ""][:2]
    return HubSource(name, config, split or SPLIT)


def _endings(path: Path) -> tuple[str, str, str]:
    """(name without its endings, ending of a kind or what stands there, ending of a compression or nothing)."""
    compression = path.suffix if path.suffix in COMPRESSIONS else ""
    inner = Path(path.name.removesuffix(compression))
    return inner.stem, inner.suffix, compression


def _readable(path: Path) -> bool:
    _, ending, compression = _endings(path)
    return ending in KINDS and not (KINDS[ending] == "parquet" and compression)


def _of_file(path: Path, label: str = "") -> FileSource:
    stem, ending, compression = _endings(path)
    if not _readable(path):
        if ending == ".parquet":
            raise UsageError(f"{path} is a compressed parquet file, which is not read; decompress it")
        raise UsageError(f"{path} ends in {ending + compression or 'nothing'!r}; expected {EXPECTED}")
    return FileSource(path, KINDS[ending], compression, _utf8(label or stem))


def _of_folder(folder: Path, say: Say) -> list[FileSource]:
    def refuse(error: OSError) -> None:
        raise NeurolensError(f"cannot list folder {error.filename}: {error.strerror}") from error

    paths: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(parent, name) for name in files if not name.startswith(".")]
    paths.sort()
    taken = [path for path in paths if _readable(path) and path.suffix != ".json" and path.is_file()]
    if not taken:
        raise UsageError(
            f"folder {folder} holds no readable file ({_count(len(paths))} of other kinds); expected {EXPECTED}"
        )
    if len(taken) < len(paths):
        say(f"{folder}: {_count(len(taken))}, {len(paths) - len(taken):,} of other kinds left out")
    return [_of_file(path, path.parent.resolve().name) for path in taken]


def _of_glob(pattern: str, say: Say) -> list[FileSource]:
    found = sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207 (that takes no absolute pattern)
    files = [path for path in found if path.is_file()]
    taken = [path for path in files if _readable(path)]
    if not taken:
        what = f"no readable file, {_count(len(files))} of other kinds" if files else "no file"
        folders = f" and {_count(len(found), 'folder')} (name the folders themselves)" if found and not files else ""
        raise UsageError(f"{pattern} matches {what}{folders}; expected {EXPECTED}")
    if len(taken) < len(files):
        say(f"{pattern}: {_count(len(taken))}, {len(files) - len(taken):,} of other kinds left out")
    return [_of_file(path) for path in taken]


def _utf8(name: str) -> str:
    """A file's name as text: names may be any bytes."""
    return os.fsencode(name).decode("utf-8", "replace")


def _count(count: int, noun: str = "file") -> str:
    return f"{count:,} {noun}" + "s" * (count != 1)
