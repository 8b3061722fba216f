"""Counts: how often neurons are on, by category. What the categories are is test_variables.py's."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurolens import NeurolensError, lanes, variables
from neurolens.corpus import Corpus
from neurolens.counts import Counts, Reduced, SparseCounts, tabulate, tabulate_reduced, tabulate_sparse
from neurolens.nested import nest
from neurolens.variables import Variable

settings.register_profile("laws", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("laws")

VOCABULARY = 9
GRAMS = {"token": 1, "bigram": 2, "fourgram": 4}
KINDS = ["none", *GRAMS, "position", "label", "group"]


def words_of(active: np.ndarray) -> np.ndarray:
    """Bit t of a neuron at position t % 64 of word t // 64."""
    starts = range(0, active.shape[1], 64)
    rows = [[sum(1 << i for i, bit in enumerate(row[w : w + 64]) if bit) for w in starts] for row in active]
    return np.array(rows, np.uint64).reshape(len(active), len(starts))


def tally(active: np.ndarray, codes: list[int], categories: int) -> list[list[int]]:
    table = [[0] * categories for _ in active]
    for n, row in enumerate(active.tolist()):
        for bit, code in zip(row, codes, strict=True):
            if bit and code >= 0:
                table[n][code] += 1
    return table


def corpus_of(tokens: np.ndarray, label: np.ndarray) -> Corpus:
    return Corpus.from_tokens(tokens, label=label, label_names=["x", "y", "never"])


def variable_of(kind: str, c: Corpus) -> Variable:
    if kind in GRAMS:
        return variables.ngrams(c, GRAMS[kind], VOCABULARY)[-1].variable
    return getattr(variables, kind)(c)


# kinds of which each is nested in the one before
nested_kinds = st.one_of(
    st.sets(st.sampled_from(["none", *GRAMS]), min_size=1).map(lambda some: [kind for kind in KINDS if kind in some]),
    st.sampled_from(KINDS).map(lambda kind: [kind]),
    st.sampled_from(["position", "label", "group"]).map(lambda kind: ["none", kind]),
)


@st.composite
def corpora(draw) -> tuple[Corpus, np.ndarray, np.random.Generator]:
    """A corpus, whether each of some neurons is active on each token, and what to draw from."""
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    sequences, positions = draw(st.integers(1, 45)), draw(st.integers(2, 12))
    tokens = rng.integers(0, VOCABULARY, (sequences, positions))
    tokens[:, 0], tokens[:, 1] = 2, 5
    c = corpus_of(tokens, rng.integers(0, 2, sequences))
    density = draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    return c, rng.random((draw(st.integers(1, 6)), tokens.size)) < density, rng


# dense counts


@given(drawn=corpora(), kind=st.sampled_from(KINDS))
def test_tabulating_is_counting_one_by_one_in_any_order_of_rows(drawn, kind):
    c, active, rng = drawn
    variable = variable_of(kind, c)
    expected = tally(active, variable.codes.tolist(), variable.categories)
    order = rng.permutation(c.tokens.size)
    for counts in (
        tabulate(words_of(active), variable),
        tabulate(words_of(active[:, order]), variable.in_order(order)),
    ):
        assert counts.on.tolist() == expected
        assert counts.total.tolist() == variable.total.tolist()


@given(drawn=corpora(), kind=st.sampled_from(KINDS), cuts=st.lists(st.integers(0, 540), max_size=3))
def test_counts_of_the_parts_add_up_to_those_of_the_whole(drawn, kind, cuts):
    c, active, rng = drawn
    variable = variable_of(kind, c)
    order = rng.permutation(c.tokens.size)  # a part is any tokens
    parts = None
    for first, last in pairwise(sorted({0, c.tokens.size, *(cut for cut in cuts if cut < c.tokens.size)})):
        some = order[first:last]
        part = tabulate(words_of(active[:, some]), variable.in_order(some))
        parts = part if parts is None else parts + part
    whole = tabulate(words_of(active), variable)
    assert parts is not None
    assert (parts.on == whole.on).all() and (parts.total == whole.total).all()


@given(drawn=corpora(), kind=st.sampled_from(["none", *GRAMS, "position", "label"]))
def test_the_order_of_sequences_changes_nothing(drawn, kind):
    c, active, rng = drawn
    order = rng.permutation(len(c.tokens))
    moved = corpus_of(c.tokens[order], c.label[order])
    at = np.arange(c.tokens.size).reshape(c.shape)[order].reshape(-1)
    before = tabulate(words_of(active), variable_of(kind, c))
    after = tabulate(words_of(active[:, at]), variable_of(kind, moved))
    assert (before.on == after.on).all() and (before.total == after.total).all()


def test_addition_is_of_like_with_like():
    two = Counts(np.ones((4, 2), np.uint32), np.ones(2, int))
    more = Counts(np.ones((4, 3), np.uint32), np.ones(3, int))
    fewer = Counts(np.ones((3, 2), np.uint32), np.ones(2, int))
    for other in (more, fewer):
        with pytest.raises(NeurolensError, match=r"counts of shape \(4, 2\) and \(\d, \d\) do not add"):
            _ = two + other


@pytest.mark.parametrize(
    ("most", "dtype"),
    [(0, np.uint16), (65535, np.uint16), (65536, np.uint32), (2**32 - 1, np.uint32), (2**32, np.uint64)],
)
def test_compact_counts_take_the_least_bytes_that_any_count_fits(most, dtype):
    on = np.array([[min(most, 2**32 - 1), 0]], np.uint32)
    compact = Counts(on, np.array([most, 1])).compact()
    assert compact.dtype == dtype and compact.tolist() == on.tolist()


def test_compact_counts_of_nothing():
    assert Counts(np.zeros((3, 0), np.uint32), np.zeros(0, np.int64)).compact().shape == (3, 0)


@pytest.mark.parametrize("count", [40_000, 3_000_000_000])
def test_compact_counts_add_without_wrapping_around(count):
    part = Counts(np.array([[count, 1]], np.uint32), np.array([count, 1]))
    stored = Counts(part.compact(), part.total)
    assert (stored + stored).on.tolist() == [[2 * count, 2]]
    assert (stored + part).total.tolist() == [2 * count, 2]
    assert (stored + stored + stored).on.tolist() == [[3 * count, 3]]


def test_a_rate_is_missing_where_there_are_no_tokens():
    rate = Counts(np.array([[1, 0, 4], [0, 0, 2]], np.uint32), np.array([2, 0, 4])).rate()
    assert rate[:, [0, 2]].tolist() == [[0.5, 1.0], [0.0, 0.5]] and np.isnan(rate[:, 1]).all()


# sparse counts


@given(
    drawn=corpora(),
    kinds=nested_kinds,
    entries=st.sampled_from([1, 2, 7, 40, 1 << 20]),
    data=st.data(),
)
def test_sparse_counts_are_the_dense_ones(drawn, kinds, entries, data):
    c, active, rng = drawn
    active = active.copy()
    active[data.draw(st.integers(0, len(active) - 1))] = False  # a silent neuron somewhere
    counted = [variable_of(kind, c) for kind in kinds]
    order = data.draw(st.sampled_from(["corpus", "runs", "any"]))  # runs: equal codes of the last are neighbours
    if order != "corpus":
        by = np.argsort(counted[-1].codes, kind="stable") if order == "runs" else rng.permutation(c.tokens.size)
        active, counted = active[:, by], [variable.in_order(by) for variable in counted]
    expected = [tally(active, variable.codes.tolist(), variable.categories) for variable in counted]
    chosen = data.draw(st.sampled_from(["all", "some", "none"]))
    wanted = None if chosen == "all" else rng.permutation(len(active))[: len(active) // 2 if chosen == "some" else 0]
    done = []
    for rows, lists in tabulate_sparse(words_of(active), nest(counted), chosen=wanted, entries=entries):
        done += rows.tolist()
        assert len(rows) == 1 or active[rows].sum() <= entries
        for variable, counts, table in zip(counted, lists, expected, strict=True):
            check_lists(counts, variable, [table[row] for row in rows])
    assert done == list(range(len(active)) if wanted is None else wanted.tolist())


def check_lists(counts: SparseCounts, variable: Variable, expected: list[list[int]]) -> None:
    """The lists of a stretch of neurons hold what the dense table does, and nothing twice."""
    assert counts.total.tolist() == variable.total.tolist()
    assert counts.starts[0] == 0 and counts.starts[-1] == len(counts.category) == len(counts.on)
    assert (counts.on > 0).all()
    found = list(zip(counts.neuron().tolist(), counts.category.tolist(), counts.on.tolist(), strict=True))
    assert len({(neuron, category) for neuron, category, _ in found}) == len(found)
    assert {(neuron, category): on for neuron, category, on in found} == {
        (neuron, category): on for neuron, row in enumerate(expected) for category, on in enumerate(row) if on
    }
    assert counts.activations().tolist() == [sum(row) for row in expected]


def test_stretches_hold_as_many_neurons_as_entries_allow():
    active = np.zeros((7, 100), bool)
    for neuron, on in enumerate([3, 4, 0, 50, 0, 7, 1]):
        active[neuron, :on] = True
    variable = Variable("v", np.zeros(100, np.int32), 1)
    stretches = [rows.tolist() for rows, _ in tabulate_sparse(words_of(active), nest([variable]), entries=8)]
    assert stretches == [[0, 1, 2], [3], [4, 5, 6]]


def test_sparse_counts_of_no_neurons():
    variable = Variable("v", np.zeros(64, np.int32), 1)
    assert list(tabulate_sparse(np.zeros((0, 1), np.uint64), nest([variable]))) == []


def test_sparse_counts_of_a_variable_without_categories():
    """Fivegrams of a corpus of sequences of four tokens."""
    active = np.ones((2, 64), bool)
    nothing, all_ = Variable("nothing", np.full(64, -1, np.int32), 0), Variable("all", np.zeros(64, np.int32), 1)
    for counted in ([nothing], [all_, nothing]):
        ((_, lists),) = tabulate_sparse(words_of(active), nest(counted))
        check_lists(lists[-1], nothing, [[], []])
        if len(lists) == 2:
            check_lists(lists[0], all_, [[64], [64]])


@given(st.lists(st.lists(st.integers(1, 2**32 - 1), max_size=4), max_size=5))
def test_activations_are_sums_that_do_not_wrap_around(lists):
    starts = np.cumsum([0, *map(len, lists)])
    on = np.array([count for counts in lists for count in counts], np.uint32)
    counts = SparseCounts(starts, np.zeros(len(on), np.int32), on, np.array([2**40]))
    assert counts.activations().tolist() == [sum(each) for each in lists]
    assert Counter(counts.neuron().tolist()) == Counter({n: len(each) for n, each in enumerate(lists) if each})


# reduced counts


def reduce_by_hand(on: list[int], share: int, limit: int, top: int) -> tuple[int, int, int, dict[int, int]]:
    """Activations, covering number, the count of the last one taken and what is kept, of counts by category."""
    falling = sorted((category for category, count in enumerate(on) if count), key=lambda c: (-on[c], c))
    taken: list[int] = []
    while 100 * sum(taken) < share * sum(on):
        taken.append(on[falling[len(taken)]])
    least = taken[-1] if taken else 0
    members = [c for c in falling if on[c] >= least] if 0 < len(taken) <= limit else []
    return sum(on), len(taken), least, {c: on[c] for c in [*falling[:top], *members]}


def check_reduced(found: list[Reduced], expected: list[list[list[int]]], share: int, limits: list[int], top: int):
    """`expected`: counts by variable, neuron and category."""
    for table, limit, kept in zip(expected, limits, found, strict=True):
        wanted = [reduce_by_hand(row, share, limit, top) for row in table]
        assert [kept.activations.tolist(), kept.covering.tolist(), kept.least.tolist()] == [
            [each[i] for each in wanted] for i in range(3)
        ]
        entries = list(zip(kept.neuron.tolist(), kept.category.tolist(), kept.on.tolist(), strict=True))
        assert len(entries) == len({entry[:2] for entry in entries})
        assert set(entries) == {(n, c, on) for n, each in enumerate(wanted) for c, on in each[3].items()}


@pytest.mark.parametrize("interval_cost", [0, None, 1e9], ids=["by interval", "whichever is faster", "by set bit"])
@settings(max_examples=80)
@given(
    drawn=corpora(),
    kinds=nested_kinds,
    share=st.sampled_from([95, 95, 50, 1, 100]),
    limit=st.sampled_from([1, 3, 50]),
    top=st.sampled_from([1, 5, 5, 30]),
    order=st.sampled_from(["corpus", "runs", "any"]),
)
def test_reduced_counts_are_those_of_one_by_one(interval_cost, drawn, kinds, share, limit, top, order):
    """Whichever way a row is counted. Neurons of every density, more than are counted side by side."""
    c, active, rng = drawn
    densities = rng.choice([0, 0.01, 0.3, 0.9, 1], rng.integers(1, 20))
    active = np.concatenate([active, rng.random((len(densities), c.tokens.size)) < densities[:, None]])
    counted = [variable_of(kind, c) for kind in kinds]
    if order != "corpus":
        by = np.argsort(counted[-1].codes, kind="stable") if order == "runs" else rng.permutation(c.tokens.size)
        active, counted = active[:, by], [variable.in_order(by) for variable in counted]
    expected = [tally(active, variable.codes.tolist(), variable.categories) for variable in counted]
    limits = [limit] * len(counted)
    with pytest.MonkeyPatch.context() as patch:
        if interval_cost is not None:
            patch.setattr(lanes, "RUN_COST", interval_cost)
            patch.setattr(lanes, "GRAM_COST", interval_cost)
        found = tabulate_reduced(words_of(active), nest(counted), share=share, limits=limits, top=top)
    check_reduced(found, expected, share, limits=limits, top=top)


@pytest.mark.parametrize("interval_cost", [0, 1e9], ids=["by interval", "by set bit"])
@pytest.mark.parametrize("limit", [6, 7, 8])
@pytest.mark.parametrize("top", [1, 5])
def test_reduced_counts_at_the_edges(interval_cost, limit, top, monkeypatch):
    """Counts near 256, from which on they are sorted one by one; covering sets just within the limit, of n-grams that
    occur once among them."""
    monkeypatch.setattr(lanes, "RUN_COST", interval_cost)
    monkeypatch.setattr(lanes, "GRAM_COST", interval_cost)
    codes = np.repeat(np.arange(10, dtype=np.int32), [255, 256, 257, 300, 2, 1, 1, 1, 1, 1])
    variable = Variable("v", codes, 10)
    on = [
        [0, 0, 0, 0, 2, 1, 1, 1, 1, 1], [255, 256, 257, 0, 2, 1, 1, 1, 1, 0], [255, 256, 257, 300, 0, 0, 0, 0, 0, 0],
        [255, 255, 255, 255, 0, 0, 0, 0, 0, 0], [0, 256, 256, 257, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1, 1, 0],
        [0, 0, 0, 256, 2, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    ]  # fmt: skip
    active = np.array([[i - codes.searchsorted(c) < row[c] for i, c in enumerate(codes)] for row in on])
    assert tally(active, codes.tolist(), 10) == on
    for share in (50, 95, 100):
        found = tabulate_reduced(words_of(active), nest([variable]), share=share, limits=[limit], top=top)
        check_reduced(found, [on], share, limits=[limit], top=top)


@pytest.mark.parametrize("interval_cost", [0, 1e9], ids=["by interval", "by set bit"])
@pytest.mark.parametrize("size", [16_384, 50_001])
def test_long_rows(size, interval_cost, monkeypatch):
    """Longer than the stretches that rows are looked at in; n-grams that go on from one to the next."""
    monkeypatch.setattr(lanes, "RUN_COST", interval_cost)
    monkeypatch.setattr(lanes, "GRAM_COST", interval_cost)
    rng = np.random.default_rng(size)
    finer = np.sort(rng.geometric(0.001, size) - 2).astype(np.int32).clip(-1, 6000)
    coarser = np.where(finer >= 0, finer // 50, -1).astype(np.int32)
    counted = [Variable("coarser", coarser, 121), Variable("finer", finer, 6001)]
    active = rng.random((11, size)) < np.linspace(0, 1, 11)[:, None]
    expected = [
        [np.bincount(each.codes[row & (each.codes >= 0)], minlength=each.categories).tolist() for row in active]
        for each in counted
    ]
    rows = np.packbits(np.pad(active, ((0, 0), (0, -size % 64))), axis=1, bitorder="little").view(np.uint64)
    found = tabulate_reduced(rows, nest(counted), share=95, limits=[5, 50], top=5)
    check_reduced(found, expected, 95, limits=[5, 50], top=5)
    ((_, lists),) = tabulate_sparse(rows, nest(counted))
    for variable, counts, table in zip(counted, lists, expected, strict=True):
        check_lists(counts, variable, table)
