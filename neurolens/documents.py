"""Files → documents: jsonl as in the Pile, and plain text. Names file and line of what is wrong."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurolens import NeurolensError, UsageError

TEXT_KEY = "text"
LABEL_KEY = "meta.pile_set_name"  # where the Pile says which of its parts a document is from
SUFFIXES = (".jsonl", ".txt")


@dataclass(frozen=True)
class Document:
    """One text with the label it counts under, and where it was found: record `record` (from 0) of file `file`."""

    text: str
    label: str
    file: int = 0
    record: int = 0


def read_documents(
    paths: Iterable[str | Path], *, text_key: str = TEXT_KEY, label_key: str | None = None
) -> Iterator[Document]:
    """Yield the documents of jsonl and txt files, in the order given.

    A jsonl line is a document: its text under `text_key`, its label under `label_key`, both dotted for nested
    objects (`meta.pile_set_name`). A txt file is one document. Without a label in the record the label is the
    file's name without its ending; a `label_key` given by the caller that no record of a file has is an error
    (a typing mistake would else be read as one label). Raises NeurolensError with file and line.
    """
    for number, path in enumerate(map(Path, paths)):
        if path.suffix == ".txt":
            yield Document(_decode(_read(path), path, "the file"), path.stem, number, 0)
        else:
            yield from _read_jsonl(path, number, text_key, label_key)


def check_paths(paths: Iterable[str | Path]) -> list[Path]:
    """The paths, each an existing jsonl or txt file; raises UsageError naming the first that is not."""
    checked = [Path(path) for path in paths]
    for path in checked:
        if path.is_dir():
            raise UsageError(f"{path} is a folder; give the {' and '.join(SUFFIXES)} files in it")
        if not path.is_file():
            raise UsageError(f"no file {path}; give existing {' or '.join(SUFFIXES)} files")
        if path.suffix not in SUFFIXES:
            raise UsageError(f"{path} ends in {path.suffix or 'nothing'!r}; expected {' or '.join(SUFFIXES)}")
    return checked


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NeurolensError(f"cannot read {path}: {error.strerror}") from error


def _decode(data: bytes, path: Path, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NeurolensError(
            f"{path}: {where} is not UTF-8 (byte 0x{error.object[error.start]:02x} at offset "
            f"{error.start + len(data) - len(error.object)}); convert the file"  # the decoder cuts off a BOM first
        ) from error


def _read_jsonl(path: Path, number: int, text_key: str, label_key: str | None) -> Iterator[Document]:
    labelled = unlabelled = 0
    record = -1
    try:
        with path.open("rb") as lines:
            for line_number, line in enumerate(lines, start=1):
                if not line.removeprefix(codecs.BOM_UTF8).strip():
                    continue
                record += 1
                where = f"line {line_number}"
                value = _parse(_decode(line, path, where), path, where)
                text = look_up(value, text_key)
                if not isinstance(text, str):
                    found = "no" if text is None else f"a {type(text).__name__} under"
                    keys = ", ".join(repr(key)[:40] for key in list(value)[:8]) or "no keys"
                    raise NeurolensError(f"{path}: {where} has {found} {text_key!r} (it has: {keys}); give --text-key")
                given = look_up(value, label_key or LABEL_KEY)
                label = str(given) if isinstance(given, (str, int)) else None
                labelled += label is not None
                unlabelled += label is None
                if b"\\u" in line:
                    text, label = _whole(text), label and _whole(label)
                yield Document(text, path.stem if label is None else label, number, record)
    except OSError as error:
        raise NeurolensError(f"cannot read {path}: {error.strerror}") from error
    if label_key and unlabelled and not labelled:
        raise NeurolensError(
            f"{path}: none of its {unlabelled} records has a text or a number under {label_key!r}; correct --label-key"
        )


def _whole(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair: JSON escapes can spell one, UTF-8 cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _parse(line: str, path: Path, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = str(error).split(":")[0] or "nested too deeply"
        raise NeurolensError(f"{path}: {where} is not JSON ({reason}); expected one object a line") from error
    if not isinstance(value, dict):
        raise NeurolensError(f"{path}: {where} is a JSON {type(value).__name__}; expected an object with the text")
    return value


def look_up(record: Any, key: str) -> Any:
    """The value under a dotted key, a literal key with dots first; None where there is none."""
    if isinstance(record, dict) and key in record:
        return record[key]
    for part in key.split("."):
        if not isinstance(record, dict):
            return None
        record = record.get(part)
    return record
