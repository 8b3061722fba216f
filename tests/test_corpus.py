"""Packing, interleaving, blocks and context order, against a packer that moves one token at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurolens import NeurolensError, UsageError, corpus
from neurolens.corpus import Block, Corpus, block_sequences, blocks, context_order, contexts, pack_documents
from neurolens.documents import Document

settings.register_profile("laws", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("laws")

EOS = 2


def ids_of(text: str) -> list[int]:
    return [ord(character) for character in text]


class Encoder:
    """A token a character; remembers what it was given."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, texts: list[str]) -> Iterable[Sequence[int]]:
        assert texts
        self.seen += texts
        return [ids_of(text) for text in texts]


def pack(documents: Iterable[Document], positions: int, **options) -> Corpus:
    return pack_documents(documents, Encoder(), positions=positions, **options)


def number(records: Iterable[tuple[str, int]]) -> list[Document]:
    """Documents of given labels and lengths. Every token is a character of its own, so each can be traced."""
    documents, next_character = [], 1000
    for record, (label, length) in enumerate(records):
        text = "".join(map(chr, range(next_character, next_character + length)))
        documents.append(Document(text, label, record % 3, record))
        next_character += length
    assert next_character < 0xD800
    return documents


# the packer of the oracle


@dataclass
class Packed:
    rows: list[list[int]] = field(default_factory=list)
    row: list[int] = field(default_factory=lambda: [EOS])
    starts: list[tuple[int, int, Document]] = field(default_factory=list)  # row, column, document

    def put(self, token: int, positions: int) -> None:
        self.row.append(token)
        if len(self.row) == positions:
            self.rows.append(self.row)
            self.row = [EOS]


def packed(documents: Iterable[Document], positions: int) -> dict[str, Packed]:
    """Full rows of each label: BOS, then documents with one `</s>` between, which a row's BOS makes superfluous."""
    labels: dict[str, Packed] = {}
    for document in documents:
        label = labels.setdefault(document.label, Packed())
        if document.text and len(label.row) > 1:
            label.put(EOS, positions)
        for i, token in enumerate(ids_of(document.text)):
            if i == 0:
                label.starts.append((len(label.rows), len(label.row), document))
            label.put(token, positions)
    return labels


def rows_of(c: Corpus, name: str) -> list[list[int]]:
    return c.tokens[c.label == c.label_names.index(name)].tolist()


def split(rows: list[list[int]]) -> list[int]:
    """The tokens of documents, one after another, without BOS and `</s>`."""
    return [token for row in rows for token in row if token != EOS]


records = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 25)), min_size=1, max_size=25)


@given(records=records, positions=st.integers(2, 9))
def test_rows_are_those_of_the_slow_packer(records, positions):
    documents = number(records)
    expected = packed(documents, positions)
    if not all(label.rows for label in expected.values()):
        with pytest.raises(NeurolensError):
            pack(documents, positions)
        return
    c = pack(iter(documents), positions)
    assert c.tokens.dtype == np.int32 and c.label.dtype == np.uint16 and c.eos == EOS
    assert c.shape == (sum(len(label.rows) for label in expected.values()), positions)
    assert c.label_names == tuple(sorted(expected))
    for name, label in expected.items():
        assert rows_of(c, name) == label.rows

    starts = []
    for name, label in expected.items():
        places = np.flatnonzero(c.label == c.label_names.index(name)).tolist()
        starts += [
            (places[row] * positions + column, document.file, document.record)
            for row, column, document in label.starts
            if row < len(places)
        ]
    assert list(zip(c.document_start.tolist(), *c.document_source.T.tolist(), strict=True)) == sorted(starts)
    assert c.document_start.dtype == c.document_source.dtype == np.int64


@given(records=records, positions=st.integers(2, 9))
def test_laws_of_packing(records, positions):
    documents = number([*records, ("a", 30), ("b", 31), ("c", 32)])
    c = pack(documents, positions)
    assert (c.tokens[:, 0] == EOS).all()
    assert (c.tokens[:, 1] != EOS).all()
    for name in c.label_names:
        rows = rows_of(c, name)
        source = [token for document in documents if document.label == name for token in ids_of(document.text)]
        assert split(rows) == source[: len(split(rows))]
        stream = [token for row in rows for token in row[1:]]
        ends = {ids_of(document.text)[-1] for document in documents if document.text}
        for before, token in pairwise(stream):
            assert token != EOS or before in ends  # never two; never within a document
        for row in rows:
            for before, token in pairwise(row[1:]):
                assert before not in ends or token == EOS  # always one, unless the row ends there
        assert len(source) - len(split(rows)) == c.notes[name]["tail_tokens"]
        assert c.notes[name]["sequences"] == len(rows)
    heads = {ids_of(document.text)[0]: document for document in documents if document.text}
    found = c.tokens.reshape(-1)[c.document_start]
    assert [[heads[token].file, heads[token].record] for token in found.tolist()] == c.document_source.tolist()
    assert len(found) == sum(token in heads for token in c.tokens.reshape(-1).tolist())


def test_a_document_that_ends_with_its_row_needs_no_separator():
    c = pack(number([("a", 3), ("a", 2), ("a", 4), ("a", 1)]), 4)
    a = 1000
    assert c.tokens.tolist() == [
        [EOS, a, a + 1, a + 2],
        [EOS, a + 3, a + 4, EOS],
        [EOS, a + 5, a + 6, a + 7],
        # the last token of the third document, </s> and the fourth document fill the last row
        [EOS, a + 8, EOS, a + 9],
    ]
    assert c.document_start.tolist() == [1, 5, 9, 15]


@given(
    records=records,
    positions=st.integers(2, 6),
    wanted=st.one_of(st.none(), st.integers(3, 30)),
    characters=st.sampled_from([1, 10, 40, 1 << 20]),
)
def test_everything_read_is_accounted_for(records, positions, wanted, characters):
    documents = number([*records, ("a", 12), ("b", 12), ("c", 12)])
    encode, gained = Encoder(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "ENCODE_CHARACTERS", characters)
        tokens = None if wanted is None else wanted * positions
        c = pack_documents(documents, encode, positions=positions, tokens=tokens, progress=gained.append)
    assert sum(gained) == sum(map(len, encode.seen))
    for name, note in c.notes.items():
        mine = [document for document in documents if document.label == name]
        encoded = [document for document in mine if not document.text or document.text in encode.seen]
        unread = len(mine) - note["unread_documents"]
        assert note["documents"] == len(mine)
        assert note["unread_documents"] == 0 or wanted is not None
        # unread is what was neither tokenised nor, being empty, came before what was not
        assert len([d for d in mine if d.text and d.text in encode.seen]) == len([d for d in mine[:unread] if d.text])
        assert note["empty"] == len([document for document in mine[:unread] if not document.text])
        rows = rows_of(c, name)
        used = {document.record for document in encoded if set(ids_of(document.text)) & set(split(rows))}
        assert note["used"] == len(used) <= note["documents"] - note["empty"] - note["unread_documents"]
        assert note["tail_tokens"] == sum(len(d.text) for d in mine[:unread]) - len(split(rows))
    assert set(c.notes) == set(c.label_names)


@given(
    records=records,
    positions=st.integers(2, 6),
    wanted=st.integers(3, 40),
    characters=st.integers(1, 60),
    shares=st.sampled_from([{}, {"a": 3, "b": 0.5}, {"a": 0.1, "b": 0.2, "c": 0.1}, {"c": 9}]),
)
def test_not_reading_what_is_not_needed_changes_nothing(records, positions, wanted, characters, shares):
    documents = number([("c", 5), *records, ("a", 40), ("b", 40), ("c", 40), *records])
    options = {"positions": positions, "tokens": wanted * positions, "shares": shares}
    encode = Encoder()
    try:
        whole = pack_documents(documents, Encoder(), **options)
    except UsageError:  # too few tokens for one sequence of every label
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "ENCODE_CHARACTERS", characters)
        c = pack_documents(documents, encode, **options)
    assert c.fingerprint() == whole.fingerprint()
    assert (c.document_start == whole.document_start).all() and (c.document_source == whole.document_source).all()
    for name in c.notes:
        assert c.notes[name]["short_of_share"] == whole.notes[name]["short_of_share"]
        assert c.notes[name]["used"] == whole.notes[name]["used"]


def test_a_label_that_is_full_is_no_longer_tokenised(monkeypatch):
    monkeypatch.setattr(corpus, "ENCODE_CHARACTERS", 1)
    documents = number([("a", 50), ("b", 50)] + [("a", 10)] * 100)
    encode = Encoder()
    c = pack_documents(documents, encode, positions=5, tokens=40)
    assert len(encode.seen) == 2 and c.notes["a"]["unread_documents"] == 100
    assert Counter(c.label.tolist()) == {0: 4, 1: 4}


# shares


def lavish(names: Iterable[str], each: int = 3000) -> list[Document]:
    return [Document("x" * each, name, 0, i) for i, name in enumerate(names)]


@given(
    weights=st.lists(st.one_of(st.none(), st.integers(1, 9), st.floats(0.1, 9)), min_size=1, max_size=6),
    wanted=st.integers(1, 60),
    positions=st.integers(2, 5),
)
def test_shares_are_cut_by_largest_remainder(weights, wanted, positions):
    names = [f"label {i}" for i in range(len(weights))]
    shares = {name: weight for name, weight in zip(names, weights, strict=True) if weight is not None}
    weight = {name: Fraction(shares.get(name, 1)) for name in names}
    exact = {name: wanted * weight[name] / sum(weight.values()) for name in names}
    try:
        c = pack(lavish(names), positions, tokens=wanted * positions + positions - 1, shares=shares)
    except UsageError as error:
        assert "--tokens leaves no sequence" in str(error) and min(exact.values()) < 1
        return
    assert len(c.label) == wanted
    count = {name: c.notes[name]["sequences"] for name in names}
    assert sum(count.values()) == wanted
    # rounding never takes a label further than to a neighbouring integer, and takes up the largest remainders
    nearly = Fraction(1, 10**9)
    up = [name for name in names if count[name] > math.floor(exact[name] + nearly)]
    assert all(math.floor(exact[n] - nearly) <= count[n] <= math.ceil(exact[n] + nearly) for n in names)
    left = [exact[name] % 1 for name in names if name not in up and nearly < exact[name] % 1 < 1 - nearly]
    assert all(exact[name] % 1 + nearly >= remainder for name in up for remainder in left)


@pytest.mark.parametrize(
    ("shares", "wanted", "expected"),
    [
        ({}, 9, (3, 3, 3)),
        ({}, 3, (1, 1, 1)),
        ({"wiki": 2}, 8, (2, 2, 4)),
        ({"wiki": 0.5}, 10, (4, 4, 2)),
        ({"code": 10, "math": 20, "wiki": 70}, 10, (1, 2, 7)),
        ({"code": 0.1, "math": 0.2, "wiki": 0.7}, 10, (1, 2, 7)),
        ({"code": 3, "math": 2, "wiki": 2}, 9, (4, 3, 2)),  # 3.86, 2.57, 2.57: of two equal remainders one is taken
    ],
)
def test_shares_by_hand(shares, wanted, expected):
    c = pack(lavish(["code", "math", "wiki"]), 4, tokens=wanted * 4, shares=shares)
    assert tuple(np.bincount(c.label).tolist()) == expected
    assert not any(note["short_of_share"] for note in c.notes.values())


def test_a_label_short_of_its_share_is_used_whole_and_said():
    documents = [Document("x" * 11, "poor"), Document("y" * 500, "rich")]
    c = pack(documents, 6, tokens=10 * 6)
    assert {name: note["sequences"] for name, note in c.notes.items()} == {"poor": 2, "rich": 5}
    assert {name: note["short_of_share"] for name, note in c.notes.items()} == {"poor": 1, "rich": 0}
    assert len(c.label) == 7


def test_a_label_with_exactly_its_share_is_not_short():
    documents = [Document("x" * 10, "a"), Document("y" * 10, "b")]
    assert [note["short_of_share"] for note in pack(documents, 6, tokens=24).notes.values()] == [0, 0]
    assert [note["short_of_share"] for note in pack(documents, 6, tokens=36).notes.values()] == [1, 1]
    assert [note["short_of_share"] for note in pack(documents, 6).notes.values()] == [0, 0]


def prefixes_are_fair(label: list[int]) -> bool:
    counts, taken = Counter(label), Counter()
    for n, turn in enumerate(label, start=1):
        taken[turn] += 1
        if any(abs(taken[i] - Fraction(n * counts[i], len(label))) >= 1 for i in counts):
            return False
    return True


@given(st.lists(st.one_of(st.integers(1, 12), st.just(1)), min_size=1, max_size=9))
def test_every_prefix_holds_the_labels_in_proportion(counts):
    c = pack(number([(f"{i}", 2 * count) for i, count in enumerate(counts)]), 3)
    assert np.bincount(c.label).tolist() == counts
    assert prefixes_are_fair(c.label.tolist())


@pytest.mark.parametrize("counts", [[300, *[1] * 9], [1, 1, 1, 1, 20], [50, 7, 7, 1], [40, 40, 40], [97, 89, 83, 2, 1]])
def test_every_prefix_holds_lopsided_labels_in_proportion(counts):
    c = pack([Document("x" * 2 * count, f"{i:02d}") for i, count in enumerate(counts)], 3)
    assert np.bincount(c.label).tolist() == counts
    assert prefixes_are_fair(c.label.tolist())


def test_equal_labels_take_turns():
    assert pack(lavish("abc", 20), 5).label.tolist() == [0, 1, 2] * 5


def test_a_measure_of_fairness_that_notices():
    assert prefixes_are_fair([0, 1, 0, 1]) and not prefixes_are_fair([0, 0, 0, 1, 1, 1])


# what cannot be packed


def refused(documents: Iterable[Document], error: type[NeurolensError], *said: str, **options) -> None:
    with pytest.raises(error) as caught:
        pack(documents, 8, **options)
    message = str(caught.value)
    assert type(caught.value) is error and message.isprintable()
    assert all(part in message for part in said), message


def test_an_empty_corpus():
    refused([], NeurolensError, "empty")
    refused([], NeurolensError, "empty", tokens=100, shares={"a": 1})
    refused([Document("", "a"), Document("", "b")], NeurolensError, "empty")


def test_a_label_shorter_than_one_sequence():
    refused([Document("x" * 6, "a")], NeurolensError, "label 'a' has 6 tokens", "one sequence of 8", "--seq-len")
    refused([Document("x" * 70, "a"), Document("", "b")], NeurolensError, "label 'b' has 0 tokens")
    assert pack([Document("x" * 7, "a")], 8).shape == (1, 8)


def test_a_share_of_a_label_that_no_document_has():
    documents = lavish(["b", "a"])
    refused(documents, UsageError, "--share", "'wikki'", "labels: a, b", tokens=800, shares={"wikki": 2})


@pytest.mark.parametrize("share", [0, -1, math.nan, math.inf])
def test_a_share_that_is_none(share):
    refused(lavish("ab"), UsageError, "--share a=", "above 0", tokens=800, shares={"a": share})


def test_too_few_tokens_for_every_label():
    refused(lavish("ab"), UsageError, "--tokens 7", "one sequence of 8", tokens=7)
    refused(lavish("ab"), UsageError, "--tokens", "'b'", tokens=8)
    refused(lavish("ab"), UsageError, "--tokens", "'b'", tokens=80, shares={"a": 100})


# a corpus from ready ids


def test_ready_ids_keep_their_documents():
    tokens = np.array([[2, 5, 6, 2, 7], [2, 8, 2, 2, 9], [2, 3, 4, 5, 2]])
    c = Corpus.from_tokens(tokens, label=np.array([1, 0, 1]), label_names=["x", "y"])
    assert c.tokens.dtype == np.int32 and c.tokens.tolist() == tokens.tolist()
    assert c.document_start.tolist() == [1, 4, 6, 9, 11]
    assert c.label.tolist() == [1, 0, 1] and c.label_names == ("x", "y") and c.shape == (3, 5)
    assert len(c.document_source) == 5
    plain = Corpus.from_tokens(np.array([[0, 2, 2]]), eos=0)
    assert plain.document_start.tolist() == [1] and plain.label_names == ("text",) and plain.label.tolist() == [0]


@given(st.integers(1, 5), st.integers(2, 9), st.integers(0, 99))
def test_documents_of_ready_ids_start_after_a_separator(sequences, positions, seed):
    tokens = np.random.default_rng(seed).integers(1, 5, (sequences, positions))
    tokens[:, 0], tokens[:, 1] = EOS, 3
    flat = tokens.reshape(-1).tolist()
    expected = [i for i in range(1, len(flat)) if flat[i] != EOS and flat[i - 1] == EOS]
    assert Corpus.from_tokens(tokens).document_start.tolist() == expected


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (np.zeros((0, 4), int), "shape (0, 4)"),
        (np.full((3, 1), EOS), "shape (3, 1)"),
        (np.full(5, EOS), "shape (5,)"),
        (np.full((1, 2, 3), EOS), "shape (1, 2, 3)"),
        ([[EOS, 5, 6], [7, 8, 9]], "exactly one BOS (id 2)"),
        ([[EOS, 5, 6], [EOS, EOS, 9]], "exactly one BOS (id 2)"),
    ],
)
def test_ready_ids_that_are_no_corpus(tokens, said):
    with pytest.raises(NeurolensError) as caught:
        Corpus.from_tokens(np.array(tokens))
    assert said in str(caught.value) and str(caught.value).isprintable()


def test_a_fingerprint_follows_the_content_and_nothing_else():
    tokens = np.array([[2, 5, 6, 2], [2, 8, 9, 7]])
    c = Corpus.from_tokens(tokens, label_names=["a", "b"])
    same = [
        Corpus.from_tokens(np.asfortranarray(tokens.astype(np.int64)), label_names=("a", "b")),
        replace(c, notes={"a": {"empty": 3}}, document_start=c.document_start[:1]),
        replace(c, tokens=np.asfortranarray(c.tokens), label=c.label.astype(np.int64)),
    ]
    assert {other.fingerprint() for other in same} == {c.fingerprint()}
    changed = tokens.copy()
    changed[1, 3] = 6
    other = [
        Corpus.from_tokens(changed, label_names=["a", "b"]),
        Corpus.from_tokens(tokens[::-1], label_names=["a", "b"]),
        Corpus.from_tokens(tokens[:1], label_names=["a", "b"]),
        Corpus.from_tokens(tokens, label_names=["a", "c"]),
        Corpus.from_tokens(tokens, label_names=["a"]),
        Corpus.from_tokens(tokens, label_names=["a", "b"], label=np.array([0, 1])),
        replace(c, tokens=c.tokens.reshape(1, 8), label=c.label[:1]),
        replace(c, tokens=c.tokens.reshape(4, 2)),
        replace(c, eos=1),
    ]
    assert len({c.fingerprint(), *(other.fingerprint() for other in other)}) == len(other) + 1


# blocks


@given(block_tokens=st.integers(1, 9000), positions=st.integers(2, 300), batch=st.integers(1, 12))
def test_a_block_is_whole_batches_and_a_multiple_of_64_tokens(block_tokens, positions, batch):
    size = block_sequences(block_tokens, positions, batch)
    assert size > 0 and size % batch == 0 and size * positions % 64 == 0
    # the largest such size that is not above what was asked for, else the least there is
    sizes = [s for s in range(batch, size + 64 * batch + 1, batch) if s * positions % 64 == 0]
    below = [s for s in sizes if s * positions <= block_tokens]
    assert size == (max(below) if below else sizes[0])


@given(sequences=st.integers(1, 50), positions=st.integers(2, 30), size=st.integers(1, 60), batch=st.integers(1, 9))
def test_blocks_and_batches_cover_every_sequence_once(sequences, positions, size, batch):
    parts = blocks((sequences, positions), size)
    assert [block.index for block in parts] == list(range(len(parts)))
    assert all(block.sequences == size for block in parts[:-1]) and 0 < parts[-1].sequences <= size
    covered = []
    for block in parts:
        assert isinstance(block, Block) and block.positions == positions
        assert block.first_token == block.first_sequence * positions and block.tokens == block.sequences * positions
        inside = [list(range(batch.start, batch.stop)) for batch in block.batches(batch)]
        assert all(len(part) == batch for part in inside[:-1]) and 0 < len(inside[-1]) <= batch
        covered += [block.first_sequence + i for part in inside for i in part]
    assert covered == list(range(sequences))


def test_batches_lie_on_one_grid_whatever_the_blocks():
    size = block_sequences(1, 16, 3)
    for parts in (blocks((50, 16), size), blocks((50, 16), 2 * size), blocks((50, 16), 60)):
        grid = [block.first_sequence + batch.start for block in parts for batch in block.batches(3)]
        assert grid == list(range(0, 50, 3))


# context order


def context_of(tokens: list[list[int]], sequence: int, position: int, n: int, eos: int) -> list[int]:
    """The last n tokens, newest first, −1 from the first `</s>` or sequence start backwards: one step at a time."""
    out, stopped = [], False
    for back in range(n):
        k = position - back
        stopped = stopped or k < 0 or tokens[sequence][k] == eos
        out.append(-1 if stopped else tokens[sequence][k])
    return out


@st.composite
def ids(draw) -> np.ndarray:
    sequences, positions = draw(st.integers(1, 6)), draw(st.integers(1, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    tokens = rng.integers(0, draw(st.sampled_from([3, 4, 6, 40])), (sequences, positions))
    if draw(st.booleans()):
        tokens[:, 0] = EOS
    return tokens.astype(np.int32)


@given(tokens=ids(), n=st.integers(1, 5), eos=st.sampled_from([EOS, 0]))
def test_contexts_are_those_of_the_slow_loop(tokens, n, eos):
    found = contexts(tokens, n, eos)
    assert found.dtype == np.int32 and found.shape == (n, tokens.size)
    places = [(s, p) for s in range(tokens.shape[0]) for p in range(tokens.shape[1])]
    assert found.T.tolist() == [context_of(tokens.tolist(), s, p, n, eos) for s, p in places]


def test_no_context_at_all():
    assert contexts(np.array([[EOS, 5]], np.int32), 0).shape == (0, 2)


@given(tokens=ids(), eos=st.sampled_from([EOS, 0]))
def test_context_order_sorts_by_reversed_context_then_place(tokens, eos):
    order = context_order(tokens, eos)
    width = tokens.shape[1]
    context = [context_of(tokens.tolist(), i // width, i % width, 3, eos) for i in range(tokens.size)]
    assert order.tolist() == sorted(range(tokens.size), key=lambda i: (context[i], i))


@given(tokens=ids(), largest=st.sampled_from([(1 << 21) - 2, (1 << 21) - 1, (1 << 31) - 2]))
def test_context_order_of_ids_of_any_size(tokens, largest):
    wide = np.where(tokens > EOS, largest - tokens.max() + tokens, tokens).astype(np.int32)
    assert context_order(wide).tolist() == context_order(tokens).tolist()


@given(tokens=ids())
def test_every_token_bigram_and_trigram_is_one_interval(tokens):
    order = context_order(tokens).tolist()
    assert sorted(order) == list(range(tokens.size))
    for n in (1, 2, 3):
        width = tokens.shape[1]
        grams = [tuple(context_of(tokens.tolist(), i // width, i % width, n, EOS)) for i in order]
        changes = [i for i in range(1, len(grams)) if grams[i] != grams[i - 1]]
        assert len(changes) + 1 == len(set(grams))


@given(records=records, positions=st.integers(3, 9), n=st.integers(1, 4))
def test_ngrams_hold_no_separator_and_cross_no_document(records, positions, n):
    documents = number([*records, ("a", 30), ("b", 30), ("c", 30)])
    c = pack(documents, positions)
    home = {token: document.record for document in documents for token in ids_of(document.text)}
    found = contexts(c.tokens, n, c.eos).T.tolist()
    whole = 0
    for i, gram in enumerate(found):
        kept = [token for token in gram if token >= 0]
        assert EOS not in kept and gram == kept + [-1] * (n - len(kept))
        assert len({home[token] for token in kept}) <= 1
        assert kept == [kept[0] - back for back in range(len(kept))] if kept else c.tokens.reshape(-1)[i] == EOS
        whole += len(kept) == n
    # nothing that lies within one document and one sequence is left out
    rows = [[home.get(token) for token in row] for row in c.tokens.tolist()]
    runs = [row[k - n + 1 : k + 1] for row in rows for k in range(n - 1, positions)]
    assert whole == sum(None not in run and len(set(run)) == 1 for run in runs)
