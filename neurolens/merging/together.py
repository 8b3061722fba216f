"""together: which runs can be merged, and what comes of it: one text from its parts, or texts one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from neurolens import IncompleteError, NeurolensError, UsageError, brief
from neurolens.corpus import Corpus
from neurolens.merging.join import Piece, join_corpora, lay_out
from neurolens.store import Store

Say = Callable[[str], object]

# what can decide a bit: the same in all runs that are merged
ONE_MODEL = ("checkpoint", "tokenizer", "dtype", "device", "activation", "layers", "neurons", "eos")
ONE_MODEL += ("batch_sequences", "threads", "versions")
ONE_TEXT = ("block_sequences", "keep_bitmaps")  # … and in all parts of one text


@dataclass(frozen=True)
class Text:
    """A text and the runs that have blocks of it: for each which, bool `(layer, block)`."""

    parts: list[Store]
    done: list[np.ndarray]

    @property
    def marks(self) -> np.ndarray:
        """Which blocks any of them has: bool `(layer, block)`."""
        return reduce(np.logical_or, self.done)

    @property
    def gone(self) -> list[tuple[Store, int]]:
        """Layers of runs that lack bits, which were dropped once they were counted."""
        return [(part, layer) for part in self.parts for layer in part.layers if not part.kept(layer).all()]

    @property
    def drops(self) -> bool:
        """Whether bits are gone, or to go."""
        return any(part.attrs["keep_bitmaps"] != "all" for part in self.parts) or bool(self.gone)


@dataclass(frozen=True)
class Whole:
    """The run to be made: its texts, its attributes as far as they are not the corpus', its corpus; whether it is made
    of what was counted of the texts, since bits of one of them are gone."""

    texts: list[Text]
    spec: dict[str, Any]
    corpus: Corpus
    laid: list[Piece]
    by_counts: bool = False


def find_texts(stores: Sequence[Store]) -> list[Text]:
    """The runs by text, once they are seen to go together."""
    by_text: dict[str, list[Store]] = {}
    for store in stores:
        parts = by_text.setdefault(str(store.attrs.get("corpus_fingerprint")), [])
        check_alike(stores[0], store, ONE_MODEL)
        parts.append(store)
        check_alike(parts[0], store, ONE_TEXT)
    return [Text(parts, [part.progress() for part in parts]) for parts in by_text.values()]


def check_alike(first: Store, other: Store, names: Sequence[str]) -> None:
    """Raise UsageError, with all differences, unless two runs share these attributes and the length of sequences."""
    if found := differences(first, other, names):
        raise UsageError(
            f"{first.path} and {other.path} do not go together: {', '.join(found)}; merge runs of one model that were "
            "collected alike, or collect one of them again"
        )


def differences(first: Store, other: Store, names: Sequence[str]) -> list[str]:
    """In which of these attributes, or in the length of sequences, two runs differ: what each is, for people."""
    return unlike(_facts(first, names), _facts(other, names))


def unlike(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """What two have under a name where that is not the same, for people; None where one has no such name."""
    return [
        f"{name} is {brief(ours.get(name))} and {brief(theirs.get(name))}"
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name)
    ]


def _facts(store: Store, names: Sequence[str]) -> dict[str, Any]:
    facts: dict[str, Any] = {name: store.attrs.get(name) for name in names} | {"tokens a sequence": store.shape[1]}
    versions = facts.pop("versions", None) or {}
    return facts | {name: version for name, version in versions.items() if name != "neurolens"}


def join_texts(texts: list[Text], say: Say) -> Whole:
    """What will come out of the texts one after another; of one text as it is.

    By counts, if bits of a text are gone. Raises NeurolensError where its parts, which go together by bits, lack some.
    """
    firsts = [text.parts[0] for text in texts]
    corpora = [_read_corpus(store) for store in firsts]
    spec = dict((firsts[0].metadata("") or {})["attributes"])  # in their order, which is part of the bytes
    laid = lay_out([store.blocks for store in firsts])
    if len(texts) == 1:
        _check_bits(texts[0])
        return Whole(texts, spec, corpora[0], laid)
    for text in texts:
        _check_whole(text)
    known = [_provenance(store, corpus) for store, corpus in zip(firsts, corpora, strict=True)]
    paths, parts = [path for some, _ in known for path in some], [part for _, some in known for part in some]
    if len({part["corpus_fingerprint"] for part in parts}) < len(parts):
        raise UsageError(
            f"{' and '.join(str(store.path) for store in firsts)} have a text in common, which would count twice; "
            "merge each text once"
        )
    spec["corpus"] = {"paths": paths, "parts": parts}
    batch, sizes = int(spec.get("batch_sequences", 1)), [part["sequences"] for part in parts]
    if any(size % batch for size in sizes[:-1]):
        say(
            f"texts of {', '.join(map(str, sizes))} sequences are not whole batches of {batch}: bits near zero may "
            "differ from those of one run over all of it, whose batches would be others"
        )
    by_counts = any(text.drops for text in texts)
    if by_counts:
        spec |= {"keep_bitmaps": "none", "merged": "counts"}
    return Whole(texts, spec, join_corpora(corpora, [len(some) for some, _ in known]), laid, by_counts)


def _read_corpus(store: Store) -> Corpus:
    corpus = store.corpus()
    if corpus.fingerprint() != store.attrs.get("corpus_fingerprint"):
        raise NeurolensError(
            f"{store.path}: its text is not the one that it was collected from; 'neurolens verify {store.path}' says "
            "more, and collect it again"
        )
    return corpus


def _check_whole(text: Text) -> None:
    marks, named = text.marks, " and ".join(str(part.path) for part in text.parts)
    if not marks.all():
        raise IncompleteError(
            f"{named}: {marks.sum()} of {marks.size} blocks of layers are collected; a text is joined to others once "
            "all of it is: give the same 'neurolens collect' command again to continue, then merge"
        )


def _check_bits(text: Text) -> None:
    for part, layer in text.gone:
        raise NeurolensError(
            f"{part.path}: the bits of layer {layer} were dropped once they were counted, and parts of one text go "
            "together by bits; collect it again with --keep-bitmaps all"
        )


def _provenance(store: Store, corpus: Corpus) -> tuple[list[Any], list[dict[str, Any]]]:
    """(the files that documents are numbered by, null for what was none; the texts it is made of)."""
    known = store.attrs.get("corpus", {})
    paths = list(known.get("paths", []))
    files = int(corpus.document_source[:, 0].max(initial=0)) + 1
    itself = {"sequences": store.shape[0], "corpus_fingerprint": corpus.fingerprint()}
    itself |= {name: value for name, value in known.items() if name != "paths"}
    return paths + [None] * (files - len(paths)), list(known.get("parts", [itself]))
