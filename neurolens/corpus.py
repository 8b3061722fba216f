"""Documents → Corpus: full-length sequences of token ids, their labels, and the context order of their blocks.

Every sequence is as long as every other and starts with BOS, so that each position is equally frequent (paper,
§5) and no padding exists. Within a label documents are joined by one `</s>`; labels are interleaved in
proportion, so that "the first n tokens" is a fair sample of all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd, inf, lcm

import numpy as np

from neurolens import NeurolensError, UsageError
from neurolens.documents import Document

EOS = 2  # OPT: `</s>` begins every sequence and separates documents
ENCODE_CHARACTERS = 1 << 20  # text handed to the tokenizer at a time: enough for all cores, little memory

Encode = Callable[[list[str]], Iterable[Sequence[int]]]


@dataclass(frozen=True)
class Corpus:
    """Packed token ids and where they come from.

    tokens          int32 `(sequence, position)`; column 0 is BOS
    label           uint16 `(sequence,)`, an index into `label_names`
    document_start  int64 `(document,)`: index `sequence * T + position` of a document's first token, ascending
    document_source int64 `(document, 2)`: file and record within it that the document was read from
    notes           for each label what was read and dropped: documents, used, empty, sequences, tail_tokens,
                    unread_documents, short_of_share
    """

    tokens: np.ndarray
    label: np.ndarray
    label_names: tuple[str, ...]
    document_start: np.ndarray
    document_source: np.ndarray
    notes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    eos: int = EOS

    @property
    def shape(self) -> tuple[int, int]:
        """(sequences S, positions T)."""
        return self.tokens.shape[0], self.tokens.shape[1]

    def fingerprint(self) -> str:
        """SHA-256 over token ids, labels and their names: equal if and only if the analysed text is."""
        digest = hashlib.sha256(repr((self.tokens.shape, self.label_names, self.eos)).encode())
        digest.update(self.tokens.astype("<i4").tobytes())
        digest.update(self.label.astype("<u2").tobytes())
        return digest.hexdigest()

    @classmethod
    def from_tokens(
        cls,
        tokens: np.ndarray,
        *,
        label: np.ndarray | None = None,
        label_names: Sequence[str] = ("text",),
        eos: int = EOS,
    ) -> Corpus:
        """A corpus from ready token ids `(S, T)`: BOS in column 0 of every row, `</s>` between documents.

        Raises NeurolensError if a row does not start with `eos`, or starts with two of them.
        """
        tokens = np.ascontiguousarray(tokens, dtype=np.int32)
        if tokens.ndim != 2 or not tokens.shape[0] or tokens.shape[1] < 2:
            raise NeurolensError(f"token ids of shape {tokens.shape}; expected at least one row of two tokens")
        sequences = len(tokens)
        if not (tokens[:, 0] == eos).all() or (tokens[:, 1] == eos).any():
            raise NeurolensError(f"token ids must have exactly one BOS (id {eos}) at the start of every row")
        starts = np.flatnonzero(tokens.reshape(-1)[:-1] == eos) + 1
        starts = starts[tokens.reshape(-1)[starts] != eos].astype(np.int64)
        source = np.stack([np.zeros_like(starts), np.arange(len(starts))], axis=1)
        labels = np.zeros(sequences, np.uint16) if label is None else np.asarray(label, np.uint16)
        return cls(tokens, labels, tuple(label_names), starts, source, {}, eos)


@dataclass(frozen=True)
class Block:
    """A stretch of the corpus: the unit of context order, of a chunk of the store, of commit and of resume."""

    index: int
    first_sequence: int
    sequences: int
    positions: int

    @property
    def first_token(self) -> int:
        """Index `sequence * T + position` of the block's first token."""
        return self.first_sequence * self.positions

    @property
    def tokens(self) -> int:
        """Number of tokens in the block."""
        return self.sequences * self.positions

    def order(self, tokens: np.ndarray, eos: int) -> np.ndarray:
        """The block's stretch of the context order of a corpus's ids `(S, T)`: int64 `(tokens,)` indices into them."""
        inside = tokens[self.first_sequence : self.first_sequence + self.sequences]
        return context_order(inside, eos) + self.first_token

    def batches(self, batch_sequences: int) -> Iterator[slice]:
        """Slices of sequences, counted from the block's first, on the grid of the whole corpus."""
        for first in range(0, self.sequences, batch_sequences):
            yield slice(first, min(first + batch_sequences, self.sequences))


def block_sequences(block_tokens: int, positions: int, batch_sequences: int) -> int:
    """Sequences in a block of about `block_tokens`: whole batches, and a multiple of 64 tokens."""
    unit = lcm(batch_sequences, 64 // gcd(64, positions))
    return unit * max(1, block_tokens // (unit * positions))


def blocks(shape: tuple[int, int], sequences_per_block: int) -> list[Block]:
    """The blocks of a corpus of shape (S, T); the last one may be shorter."""
    sequences, positions = shape
    return [
        Block(index, first, min(sequences_per_block, sequences - first), positions)
        for index, first in enumerate(range(0, sequences, sequences_per_block))
    ]


def contexts(tokens: np.ndarray, n: int, eos: int = EOS) -> np.ndarray:
    """The last n tokens at every position, newest first: int32 `(n, S * T)` from ids `(S, T)`.

    Row j is x_{k−j}, or −1 from the first `</s>` or sequence start backwards: an n-gram contains neither BOS nor
    a separator and crosses no document (paper, §4 and footnote 8).
    """
    out = np.full((n, *tokens.shape), -1, dtype=np.int32)
    if n:
        out[0] = np.where(tokens == eos, -1, tokens)
    for back in range(1, n):
        out[back, :, 1:] = np.where(out[0, :, 1:] < 0, -1, out[back - 1, :, :-1])
    return out.reshape(n, tokens.size)


def context_order(tokens: np.ndarray, eos: int = EOS) -> np.ndarray:
    """The tokens of a block sorted by reversed context: int64 `(S * T,)` indices into its ids `(S, T)`.

    Sorted by (x_k, x_{k−1}, x_{k−2}), ties in corpus order, as a suffix array of the reversed text would be: every
    token, bigram and trigram is one interval, so neurons that look at them become runs of bits.
    """
    newest, second, third = (each.astype(np.int64) + 1 for each in contexts(tokens, 3, eos))
    bits = int(max(newest.max(initial=0), second.max(initial=0), third.max(initial=0))).bit_length()
    if 3 * bits > 63:
        return np.lexsort((third, second, newest))
    return np.argsort(newest << 2 * bits | second << bits | third, kind="stable")  # one sort instead of three


@dataclass
class _Stream:
    """The packed tokens of one label so far, without the BOS column: rows of `width` tokens, one after another."""

    width: int
    parts: list[np.ndarray] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    sources: list[tuple[int, int]] = field(default_factory=list)
    length: int = 0
    documents: int = 0
    empty: int = 0
    read_tokens: int = 0

    def add(self, ids: Sequence[int], document: Document, eos: int) -> None:
        self.documents += 1
        if not len(ids):
            self.empty += 1
            return
        if self.length % self.width:  # at the start of a row the BOS already separates
            self.parts.append(np.array([eos], dtype=np.int32))
            self.length += 1
        self.starts.append(self.length)
        self.sources.append((document.file, document.record))
        self.parts.append(np.asarray(ids, dtype=np.int32))
        self.length += len(ids)
        self.read_tokens += len(ids)

    def rows(self, count: int, eos: int) -> np.ndarray:
        flat = np.concatenate(self.parts)[: count * self.width].reshape(count, self.width)
        return np.concatenate([np.full((count, 1), eos, dtype=np.int32), flat], axis=1)


def pack_documents(
    documents: Iterable[Document],
    encode: Encode,
    *,
    positions: int,
    tokens: int | None = None,
    shares: Mapping[str, float] | None = None,
    eos: int = EOS,
    progress: Callable[[int], object] | None = None,
    not_needed: Callable[[Document], object] | None = None,
) -> Corpus:
    """Tokenise, pack, cut to size and interleave.

    `encode` maps texts to token ids without special tokens. `tokens` is the size wanted (S·T, rounded down to
    whole sequences), in shares given by label (default 1 each); None takes all there is. One pass over the
    documents: a label whose share is full is read on but no longer tokenised; `progress` is called with the number
    of tokens gained, `not_needed` with each document of a full label. A label with less than its share is used whole
    (noted in `notes`). Raises NeurolensError for an empty corpus and for a label shorter than one sequence,
    UsageError for shares of unknown labels or not above 0.
    """
    shares = dict(shares or {})
    for name, share in shares.items():
        if not 0 < share < inf:
            raise UsageError(f"--share {name}={share:g}; expected a number above 0")
    width = positions - 1
    streams: dict[str, _Stream] = {}
    skipped: dict[str, int] = {}
    waiting: list[Document] = []
    wanted = None if tokens is None else tokens // positions
    if wanted is not None and wanted < 1:
        raise UsageError(f"--tokens {tokens} is less than one sequence of {positions}; raise it")

    def full(label: str) -> bool:
        if wanted is None or label not in streams:
            return False
        weight = sum(shares.get(name, 1.0) for name in streams)  # grows as labels appear: the cap only falls
        return streams[label].length >= width * -(-wanted * shares.get(label, 1.0) // weight)

    def flush() -> None:
        gained = 0
        for document, ids in zip(waiting, encode([document.text for document in waiting]), strict=True):
            streams[document.label].add(ids, document, eos)
            gained += len(ids)
        waiting.clear()
        if progress:
            progress(gained)

    held = 0
    for document in documents:
        streams.setdefault(document.label, _Stream(width))
        if full(document.label):
            skipped[document.label] = skipped.get(document.label, 0) + 1
            if not_needed:
                not_needed(document)
            continue
        waiting.append(document)
        held += len(document.text)
        if held >= ENCODE_CHARACTERS:
            flush()
            held = 0
    if waiting:
        flush()
    _check(streams, shares, positions)
    return _interleave(streams, _sequences(streams, shares, wanted, width), skipped, positions, eos)


def _check(streams: Mapping[str, _Stream], shares: Mapping[str, float], positions: int) -> None:
    if not any(stream.length for stream in streams.values()):
        raise NeurolensError("the corpus is empty: no document has any token; give files with text")
    unknown = sorted(set(shares) - set(streams))
    if unknown:
        raise UsageError(
            f"--share names label {unknown[0]!r}, which no document has; labels: {', '.join(sorted(streams))}"
        )
    for label, stream in streams.items():
        if stream.length < positions - 1:
            raise NeurolensError(
                f"label {label!r} has {stream.length} tokens, less than one sequence of {positions}; "
                "give it more text, lower --seq-len, or leave it out"
            )


def _sequences(
    streams: Mapping[str, _Stream], shares: Mapping[str, float], wanted: int | None, width: int
) -> dict[str, int]:
    """Sequences of each label: its share of `wanted` by largest remainder (it may have less), or all it has."""
    if wanted is None:
        return {label: stream.length // width for label, stream in streams.items()}
    weight = sum(shares.get(label, 1.0) for label in streams)
    exact = {label: wanted * shares.get(label, 1.0) / weight for label in streams}
    counts = {label: int(value) for label, value in exact.items()}
    for label in sorted(exact, key=lambda name: counts[name] - exact[name])[: wanted - sum(counts.values())]:
        counts[label] += 1
    for label, count in counts.items():
        if not count:
            raise UsageError(f"--tokens leaves no sequence of {width + 1} tokens for label {label!r}; raise it")
    return counts


def _turns(counts: Sequence[int]) -> np.ndarray:
    """An order of labels with `counts[i]` turns of label i: uint16 `(sum of counts,)`.

    After any number of turns every label has had its proportional share to within less than one (Tijdeman 1980, *The
    chairman assignment problem*): of the labels that are owed at least 1 / (2 L − 2), whose next turn is due first.
    """
    total, labels = sum(counts), range(len(counts))
    scale = 2 * len(counts) - 2
    taken = [0] * len(counts)
    turns = np.zeros(total, dtype=np.uint16)
    for n in range(1, total + 1 if scale else 1):
        owed = [scale * (counts[i] * n - total * taken[i]) for i in labels]
        due = [((scale - 1) * total - owed[i]) / counts[i] if owed[i] >= total else inf for i in labels]
        turns[n - 1] = turn = due.index(min(due))
        taken[turn] += 1
    return turns


def _interleave(
    streams: Mapping[str, _Stream], asked: Mapping[str, int], skipped: Mapping[str, int], positions: int, eos: int
) -> Corpus:
    names = tuple(sorted(streams))
    counts = {name: min(asked[name], streams[name].length // (positions - 1)) for name in names}
    label = _turns([counts[name] for name in names])
    tokens = np.empty((len(label), positions), dtype=np.int32)
    starts, sources, notes = [], [], {}
    for i, name in enumerate(names):
        stream, count = streams[name], counts[name]
        rows = np.flatnonzero(label == i)
        tokens[rows] = stream.rows(count, eos)
        begun = np.array([start for start in stream.starts if start < count * (positions - 1)], dtype=np.int64)
        starts.append(rows[begun // (positions - 1)] * positions + begun % (positions - 1) + 1)
        sources.append(np.array(stream.sources[: len(begun)], dtype=np.int64).reshape(-1, 2))
        kept = int((tokens[rows, 1:] != eos).sum())
        notes[name] = {
            "documents": stream.documents + skipped.get(name, 0),
            "used": len(begun),
            "empty": stream.empty,
            "sequences": count,
            "tail_tokens": stream.read_tokens - kept,
            "unread_documents": skipped.get(name, 0),
            "short_of_share": int(count < asked[name]),
        }
    start = np.concatenate(starts)
    by_place = np.argsort(start, kind="stable")
    source = np.concatenate(sources)[by_place]
    return Corpus(tokens, label, names, start[by_place], source, notes, eos)
