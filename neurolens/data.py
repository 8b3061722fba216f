"""Which text a run reads: a spec → its Corpus, and what the run remembers of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain, islice
from pathlib import Path
from typing import Any

from neurolens import UsageError
from neurolens.checkpoint import Checkpoint
from neurolens.corpus import Corpus, pack_documents
from neurolens.documents import Document, number_documents, read_documents
from neurolens.progress import Progress
from neurolens.sources import HubSource, Say, Source

HUB_PATIENCE = 100_000  # documents


@dataclass(frozen=True)
class DataSpec:
    """Which text a run reads, how much of it and in which shares.

    `paths` are files, folders, globs, `hf:NAME[:CONFIG][:SPLIT]` and `demo:` (docs/data.md). In their place `documents`
    takes any iterable of (text, label) pairs or Documents; it is gone through once, to its end. Raises UsageError for
    both.
    """

    paths: tuple[str | Path, ...] = ()
    text_key: str = "text"
    label_key: str | None = None
    tokens: int | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    seq_len: int | None = None
    documents: Iterable[tuple[str, str | int] | Document] | None = None

    def __post_init__(self) -> None:
        if self.paths and self.documents is not None:
            raise UsageError("both paths and documents are given; give one of them")


def spec_of(data: str | Path | Iterable[Any]) -> DataSpec:
    """The spec of one path, of paths or of documents (the first of an iterable tells), with all else at its default.

    Nothing but that first is taken from a generator of documents. Nothing in the iterable: a spec without documents.
    """
    if isinstance(data, (str, os.PathLike)):
        return DataSpec((data,))
    items = iter(data)
    first = list(islice(items, 1))
    if isinstance(next(iter(first), None), (str, os.PathLike)):
        return DataSpec((*first, *items))
    return DataSpec(documents=chain(first, items))


class _Enough:
    """Says of a stream when to leave it: HUB_PATIENCE of its documents, one after another, were not needed.

    A data set of the hub may be a thousand times as long as what was asked for. Files are read to their end, since
    a label may begin anywhere.
    """

    def __init__(self, sources: Sequence[Source], say: Say) -> None:
        self.left: set[int] = set()
        self._sources, self._say = sources, say
        self._place, self._count = (-1, -1), 0

    def not_needed(self, document: Document) -> None:
        """Told of every document that no label needed."""
        if not isinstance(self._sources[document.file], HubSource):
            return
        follows = self._place == (document.file, document.record - 1)
        self._place, self._count = (document.file, document.record), self._count + 1 if follows else 1
        if self._count == HUB_PATIENCE:
            self.left.add(document.file)
            self._say(
                f"{self._sources[document.file]}: left after {document.record + 1:,} documents, since the last "
                f"{HUB_PATIENCE:,} were not needed"
            )


def read_corpus(
    spec: DataSpec, sources: Sequence[Source], checkpoint: Checkpoint, positions: int, say: Say = lambda line: None
) -> Corpus:
    """Read and pack the text of `spec`, whose paths mean `sources`, into sequences of at most `positions` tokens.

    `say` receives what of it was used and dropped, a line a label. Raises UsageError and NeurolensError.
    """
    length = spec.seq_len or positions
    if not 2 <= length <= positions:
        raise UsageError(f"--seq-len {length} is out of range: the model has {positions} positions (at least 2)")
    if spec.shares and spec.tokens is None:
        raise UsageError("--share needs --tokens: shares of how many?")
    enough = _Enough(sources, say)
    documents = (
        read_documents(sources, text_key=spec.text_key, label_key=spec.label_key, left=enough.left)
        if spec.documents is None
        else number_documents(spec.documents)
    )
    for source in sources:
        if isinstance(source, HubSource):
            say(f"{source}: streamed from the hub")
    with Progress("tokenise", spec.tokens, "tokens") as progress:
        corpus = pack_documents(
            documents,
            checkpoint.encoder(),
            positions=length,
            tokens=spec.tokens,
            shares=spec.shares,
            eos=checkpoint.config.get("bos_token_id", 2),
            progress=progress.update,
            not_needed=enough.not_needed if sources else None,
        )
    for label, note in corpus.notes.items():
        unread = f", {note['unread_documents']:,} not needed" if note["unread_documents"] else ""
        short = "; less than its share" if note["short_of_share"] else ""
        tail = f"{note['tail_tokens']:,} tokens beyond the last sequence"
        say(
            f"{label}: {note['sequences']:,} sequences from {note['used']:,} of {note['documents']:,} documents "
            f"(dropped: {note['empty']:,} empty, {tail}{unread}){short}"
        )
    return corpus


def describe(spec: DataSpec, sources: Sequence[Source]) -> dict[str, Any]:
    """What a run remembers of its text: the sources in the order that documents number them, and what was asked."""
    described = {part.name: getattr(spec, part.name) for part in fields(spec) if part.name != "documents"}
    described["paths"] = [source.describe() for source in sources]
    described["shares"] = dict(spec.shares)
    return described
