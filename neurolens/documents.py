"""Records → documents: which of a record is text, which its label. Names source and place of what is wrong."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from neurolens import NeurolensError
from neurolens.demo import text as demo
from neurolens.records import key_error, read_records, read_text
from neurolens.sources import DemoSource, FileSource, Source

TEXT_KEY = "text"
LABEL_KEY = "meta.pile_set_name"  # where the Pile says which of its parts a document is from
PARTS = ("content", "value")  # where a chat's messages have their text


@dataclass(frozen=True)
class Document:
    """One text with the label it counts under, and where it was found: record `record` (from 0) of file `file`."""

    text: str
    label: str
    file: int = 0
    record: int = 0


def read_documents(
    sources: Iterable[Source], *, text_key: str = TEXT_KEY, label_key: str | None = None, left: Container[int] = ()
) -> Iterator[Document]:
    """Yield the documents of the sources (`find_sources`), in their order; no sources, no documents.

    A record is a document: its text under `text_key`, its label under `label_key`, both dotted for nested objects
    (`meta.pile_set_name`). The text is a string, a list of strings, or a chat: a list of objects with `content` (or
    `value`); parts are joined by line ends. A txt file is one document. Without a label in the record the label is
    the source's; a `label_key` given by the caller that no record of a source has is an error (a typing mistake would
    else be read as one label). The number of a source that turns up in `left` is looked at after each of its
    documents: its rest is left unread. Raises NeurolensError with source and line or row.
    """
    keys = {text_key: "--text-key"} | {label_key or LABEL_KEY: "--label-key" if label_key else ""}
    for number, source in enumerate(sources):
        if isinstance(source, FileSource) and source.kind == "txt":
            yield Document(read_text(source), source.label, number, 0)
            continue
        if isinstance(source, DemoSource):
            for record, (text, label) in enumerate(demo.documents("held")):
                yield Document(text, label, number, record)
            continue
        labelled = unlabelled = 0
        for record, (where, value) in enumerate(read_records(source, keys)):
            found = look_up(value, text_key)
            text = join(found)
            if text is None:
                raise key_error(source, where, text_key, value, found=_kind(found))
            given = look_up(value, label_key or LABEL_KEY)
            label = str(given) if isinstance(given, (str, int)) else None
            labelled += label is not None
            unlabelled += label is None
            yield Document(_whole(text), source.label if label is None else _whole(label), number, record)
            if number in left:
                break
        if label_key and unlabelled and not labelled:
            raise NeurolensError(
                f"{source}: none of its {unlabelled} records has a text or a number under {label_key!r}; "
                "correct --label-key"
            )


def number_documents(items: Iterable[Any]) -> Iterator[Document]:
    """Yield the documents of any iterable of (text, label) pairs or of Documents, which stay as they are.

    Labels are strings or integers; a pair's `record` is its place in the iterable. Raises NeurolensError naming the
    place, counted from 1, of what is no such thing.
    """
    for record, item in enumerate(items):
        if isinstance(item, Document):
            yield item
        elif _is_pair(item):
            yield Document(_whole(item[0]), _whole(str(item[1])), 0, record)
        else:
            raise NeurolensError(
                f"document {record + 1} is {_shown(item)}; expected (text, label), or a neurolens.documents.Document"
            )


def join(value: Any) -> str | None:
    """The text of a string, of a list of strings, or of a chat's messages, joined by line ends; None for all else.

    An empty list is an empty text.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return None
    parts = [_part(part) for part in value]
    return None if None in parts else "\n".join(part for part in parts if part is not None)


def _part(value: Any) -> str | None:
    if isinstance(value, dict):
        value = next((value[key] for key in PARTS if isinstance(value.get(key), str)), None)
    return value if isinstance(value, str) else None


def _kind(value: Any) -> str:
    """What there is in place of a text, for an error's "has … 'key'"."""
    if value is None:
        return "no"
    if not isinstance(value, list):
        return f"a {type(value).__name__} under"
    i, part = next((i, part) for i, part in enumerate(value, start=1) if _part(part) is None)
    what = (
        f"an object without text under {' or '.join(PARTS)}" if isinstance(part, dict) else f"a {type(part).__name__}"
    )
    return f"a list whose part {i} is {what} under"


def _is_pair(item: Any) -> bool:
    pair = isinstance(item, (tuple, list)) and len(item) == 2
    return pair and isinstance(item[0], str) and isinstance(item[1], (str, int))


def _shown(item: Any) -> str:
    parts = f" of {', '.join(type(part).__name__ for part in item[:3])}" if isinstance(item, (tuple, list)) else ""
    return f"a {type(item).__name__}{parts}"


def _whole(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair: JSON escapes and Python can spell one, UTF-8 cannot."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def look_up(record: Any, key: str) -> Any:
    """The value under a dotted key, a literal key with dots first; None where there is none."""
    if isinstance(record, dict) and key in record:
        return record[key]
    for part in key.split("."):
        if not isinstance(record, dict):
            return None
        record = record.get(part)
    return record
