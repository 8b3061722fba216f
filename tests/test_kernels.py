"""Compiled loops over set bits, against loops over Python lists."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurolens import kernels

settings.register_profile("laws", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("laws")


@dataclass
class Case:
    """Bits as lists of token numbers, and as words with garbage after the last token."""

    set_bits: list[list[int]]
    rows: np.ndarray
    tokens: int
    rng: np.random.Generator


@st.composite
def cases(draw, most_tokens: int = 200) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    neurons = draw(st.integers(1, 5))
    tokens = draw(st.one_of(st.integers(0, most_tokens), st.sampled_from([63, 64, 65, 127, 128, 129])))
    density = draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.97, 1.0]))
    spare_words = draw(st.integers(0, 2))
    active = rng.random((neurons, tokens)) < density
    width = -(-tokens // 64) + spare_words
    garbage = rng.random((neurons, width * 64)) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    garbage[:, :tokens] = active
    return case(garbage.tolist(), tokens, rng)


def case(bits: list[list[bool]], tokens: int, rng: np.random.Generator | None = None) -> Case:
    width = -(-max(map(len, bits), default=0) // 64)
    rows = np.zeros((len(bits), width), np.uint64)
    for n, row in enumerate(bits):
        for w in range(width):
            rows[n, w] = sum(1 << i for i, bit in enumerate(row[64 * w : 64 * w + 64]) if bit)
    set_bits = [[t for t in range(tokens) if row[t]] for row in bits]
    return Case(set_bits, rows, tokens, rng or np.random.default_rng(0))


def draw_codes(c: Case, categories: int, kind: str) -> np.ndarray:
    """Codes from −1 to `categories` − 1; the last category is never used where there is another."""
    codes = c.rng.integers(-1, max(1, categories - 1), c.tokens).astype(np.int32)
    if kind == "sorted":
        codes.sort()
    elif kind == "stretches":  # neighbours are equal, but a code comes back later
        codes = np.repeat(codes, 7)[: c.tokens]
    elif kind == "none":
        codes[:] = -1
    return codes


KINDS = ["sorted", "stretches", "random", "none"]


@given(c=cases(), categories=st.sampled_from([1, 2, 3, 50]), kind=st.sampled_from(KINDS), twice=st.booleans())
def test_scatter_counts_each_category(c, categories, kind, twice):
    codes = draw_codes(c, categories, kind)
    on = np.zeros((len(c.rows), categories), np.uint32)
    expected = [[0] * categories for _ in c.rows]
    for _ in range(1 + twice):  # it adds to what is there
        kernels.scatter(c.rows, codes, on)
        for n, ts in enumerate(c.set_bits):
            for t in ts:
                if codes[t] >= 0:
                    expected[n][codes[t]] += 1
    assert on.tolist() == expected


def test_scatter_with_fewer_words_than_tokens():
    c = case([[True] * 64], 64)
    on = np.zeros((1, 2), np.uint32)
    kernels.scatter(c.rows, np.repeat(np.arange(2, dtype=np.int32), [10, 190]), on)
    assert on.tolist() == [[10, 54]]


def run_lists(c: Case, codes: list[int], complete: int) -> list[list[tuple[int, int]]]:
    """(category, on) of the categories below `complete`, in the order in which they first appear among the set bits."""
    lists = []
    for ts in c.set_bits:
        found: dict[int, int] = {}
        for t in ts:
            if 0 <= codes[t] < complete:
                found[codes[t]] = found.get(codes[t], 0) + 1
        lists.append(list(found.items()))
    return lists


@given(
    c=cases(),
    categories=st.lists(st.sampled_from([1, 2, 3, 50]), min_size=1, max_size=4),
    kind=st.sampled_from(KINDS),
    twice=st.booleans(),
)
def test_runs_list_what_each_neuron_is_active_on(c, categories, kind, twice):
    """For the finest coding and for those made of it by joining categories; of each only the first `complete` ones."""
    finest, levels = draw_codes(c, categories[0], kind), len(categories)
    base, complete = np.cumsum([0, *categories[:-1]]), c.rng.integers(0, np.array(categories) + 1)
    parent, codes = np.full(sum(categories), -1, np.int32), [finest.tolist()]
    for k in range(levels - 1):
        up = c.rng.integers(0, categories[k + 1], categories[k])
        parent[base[k] : base[k + 1]] = base[k + 1] + up
        codes.append([int(up[code]) if code >= 0 else -1 for code in codes[-1]])
    chosen = c.rng.permutation(len(c.rows))[: c.rng.integers(1, len(c.rows) + 1)]
    c.set_bits = [c.set_bits[n] for n in chosen]
    table = np.zeros(sum(categories), np.uint32)
    starts = np.full((levels, len(chosen) + 1), -9, np.int64)
    room = sum(map(len, c.set_bits)) + 1
    # as much as is promised to be written, and a fence after it
    category, on = (np.full((levels, room + 3), 77777, dtype) for dtype in (np.int32, np.uint32))
    for _ in range(1 + twice):  # what it leaves behind does not matter to the next call
        kernels.runs(c.rows, chosen, finest, parent, base, complete, table, starts, category, on)
        assert not table.any()
        assert (category[:, room:] == 77777).all() and (on[:, room:] == 77777).all()
        for k in range(levels):
            assert starts[k, 0] == 0
            lists = [
                list(zip(category[k, a:b].tolist(), on[k, a:b].tolist(), strict=True))
                for a, b in zip(starts[k], starts[k, 1:], strict=False)
            ]
            assert lists == run_lists(c, codes[k], complete[k])


@given(c=cases(), wanted=st.sampled_from([1, 2, 5, 16]))
def test_first_along_a_walk_whatever_the_order_of_tokens(c, wanted):
    """Sparse rows, whose bits are listed, and dense ones, which are walked."""
    walk = c.rng.permutation(c.tokens).astype(np.uint32)
    rank = np.argsort(walk).astype(np.uint32)
    out = np.full((len(c.rows), wanted), 99, np.int64)
    kernels.first_along(c.rows, walk, rank, out)
    for n, ts in enumerate(c.set_bits):
        first = sorted(ts, key=lambda t: int(rank[t]))[:wanted]
        assert out[n].tolist() == first + [-1] * (wanted - len(first))
    shuffle = c.rng.permutation(c.tokens)
    moved = case([[int(shuffle[i]) in ts for i in range(c.tokens)] for ts in map(set, c.set_bits)], c.tokens)
    again = np.full_like(out, 55)
    kernels.first_along(moved.rows, np.argsort(rank[shuffle]).astype(np.uint32), rank[shuffle], again)
    assert (np.append(shuffle, -1)[again] == out).all()


def test_a_walk_is_left_where_it_would_be_the_longer_way():
    """One bit, last in the walk, is found; so are two of three when the third is all that is asked for."""
    c = case([[t == 5 for t in range(200)], [t in (3, 7, 190) for t in range(200)], [False] * 200], 200)
    walk = np.roll(np.arange(200, dtype=np.uint32), -6)  # 6, 7, …, 199, 0, …, 5
    out = np.zeros((3, 2), np.int64)
    kernels.first_along(c.rows, walk, np.argsort(walk).astype(np.uint32), out)
    assert out.tolist() == [[5, -1], [7, 190], [-1, -1]]


def covering_of(counts: list[int], share: int) -> tuple[int, int]:
    """The least number of counts that reach the share, over all subsets; and the least count of such a subset."""
    for number in range(1, len(counts) + 1):
        reached = [c for c in combinations(counts, number) if 100 * sum(c) >= share * sum(counts)]
        if reached:
            return number, min(max(reached, key=sum))
    return 0, 0


@given(
    lists=st.lists(
        st.lists(st.one_of(st.integers(1, 6), st.integers(253, 259), st.integers(1, 2**32 - 1)), max_size=7),
        max_size=5,
    ),
    share=st.sampled_from([1, 50, 94, 95, 99, 100]),
)
def test_covering_number_is_the_least_over_all_subsets(lists, share):
    starts = np.cumsum([0, *map(len, lists)])
    on = np.array([count for counts in lists for count in counts], np.uint32)
    before = on.copy()
    number, least, totals = kernels.covering(starts, on, share)
    assert list(zip(number.tolist(), least.tolist(), strict=True)) == [covering_of(c, share) for c in lists]
    assert totals.tolist() == [sum(counts) for counts in lists]
    assert (on == before).all()


@given(
    share=st.sampled_from([1, 50, 94, 95, 99, 100]),
    most=st.sampled_from([1, 3, 255, 256, 300, 2**32 - 1]),
    seed=st.integers(0, 2**20),
)
def test_covering_of_long_lists_is_greedy(share, most, seed):
    """Small and large counts, which are not handled alike, mixed in lists too long to try every subset of."""
    rng = np.random.default_rng(seed)
    lists = [
        rng.integers(1, rng.choice([1, 2, most]) + 1, rng.choice([0, 1, 30, 400])).tolist() + large
        for large in ([], [most], [254, 255, 256, 257])
    ]
    starts = np.cumsum([0, *map(len, lists)])
    number, least, _ = kernels.covering(
        starts, np.array([count for counts in lists for count in counts], np.uint32), share
    )
    for n, counts in enumerate(lists):
        taken: list[int] = []
        for count in sorted(counts, reverse=True):
            if 100 * sum(taken) >= share * sum(counts):
                break
            taken.append(count)
        assert (number[n], least[n]) == (len(taken), taken[-1] if taken else 0)


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([], 95, (0, 0)),
        ([7], 95, (1, 7)),
        ([95, 5], 95, (1, 95)),
        ([94, 6], 95, (2, 6)),
        ([19] * 5 + [5], 95, (5, 19)),  # exactly 95 of 100
        ([5] * 20, 95, (19, 5)),  # ties: any 19 of them
        ([1, 2, 3, 4], 100, (4, 1)),
        ([2**32 - 1] * 3, 95, (3, 2**32 - 1)),
    ],
)
def test_covering_by_hand(counts, share, expected):
    number, least, _ = kernels.covering(np.array([0, len(counts)]), np.array(counts, np.uint32), share)
    assert (number.tolist(), least.tolist()) == ([expected[0]], [expected[1]])
