"""Transitions: classes, overlap and its chance level, triggers, cosines, against enumeration and plain Python."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, product
from math import comb, isnan, sqrt
from statistics import fmean

import numpy as np
import pytest

from neurolens.comparison.transitions import (
    CLASSES,
    classify,
    cosines,
    hypergeometric,
    measure_overlap,
    overlap_triggers,
    quantiles,
    tabulate_transitions,
)


def test_of_several_classes_the_first_holds():
    every = np.array(list(product([False, True], repeat=4)))
    names = [
        name for flags in every for name in [next((c for c, f in zip(CLASSES, flags, strict=False) if f), "other")]
    ]
    assert [CLASSES[i] for i in classify(*every.T)] == names
    assert classify(*every.T).dtype == np.uint8
    assert CLASSES[classify(np.array([False]), None, np.array([True]))[0]] == "n-gram detector"
    assert CLASSES[classify(np.array([False]), None, None, None)[0]] == "other"
    assert classify(np.zeros((3, 0), bool)).shape == (3, 0)


def test_transitions_are_counted_by_layer():
    rng = np.random.default_rng(0)
    before, after = rng.integers(0, len(CLASSES), (2, 3, 200)).astype(np.uint8)
    table = tabulate_transitions(before, after)
    for layer in range(3):
        found = Counter(zip(before[layer].tolist(), after[layer].tolist(), strict=True))
        assert {(i, j): table[layer, i, j] for i, j in np.argwhere(table[layer]).tolist()} == found
    assert table.sum((1, 2)).tolist() == [200] * 3
    assert tabulate_transitions(np.zeros((2, 0), np.uint8), np.zeros((2, 0), np.uint8)).sum() == 0


@pytest.mark.parametrize(
    ("neurons", "sizes"),
    [(4, [(1, 2)]), (5, [(3, 4)]), (4, [(2, 2), (1, 3)]), (4, [(0, 2), (2, 1)]), (2, [(2, 2)]), (3, [(1, 1), (2, 1)])],
)
def test_chance_level_is_the_mean_over_all_independent_sets(neurons: int, sizes: list[tuple[int, int]]):
    """Every pair of sets with as many neurons in each layer, written out."""

    def sets(which: int) -> list[set]:
        of_layers = [
            [{(layer, i) for i in chosen} for chosen in combinations(range(neurons), size[which])]
            for layer, size in enumerate(sizes)
        ]
        return [set().union(*each) for each in product(*of_layers)]

    found = [(len(a & b), len(a & b) / len(a | b)) for a in sets(0) for b in sets(1)]
    before, after = np.zeros((2, len(sizes), neurons), bool)
    for layer, (a, b) in enumerate(sizes):
        before[layer, :a], after[layer, neurons - b :] = True, True
    overlap, both = measure_overlap(before, after), int((before & after).sum())
    assert overlap.expected == pytest.approx(fmean(j for _, j in found), rel=1e-12)
    assert overlap.p == pytest.approx(fmean(k >= both for k, _ in found), rel=1e-12)
    assert (overlap.before, overlap.after, overlap.both) == (before.sum(), after.sum(), both)


def test_chance_level_is_what_sets_drawn_at_random_have():
    rng, drawn = np.random.default_rng(1), []
    before, after = rng.random((2, 4, 60)) < np.array([0.1, 0.5, 0.9, 0.3])[:, None]
    overlap = measure_overlap(before, after)
    for _ in range(2000):
        other = rng.permuted(after, axis=1)
        drawn.append((before & other).sum() / (before | other).sum())
    assert overlap.expected == pytest.approx(np.mean(drawn), abs=4 * float(np.std(drawn)) / sqrt(len(drawn)))
    assert overlap.p == pytest.approx(np.mean(np.array(drawn) >= overlap.jaccard - 1e-12), abs=0.06)


def test_overlap_of_the_same_of_disjoint_and_of_empty_sets():
    some = np.arange(40).reshape(2, 20) % 3 == 0
    same, apart = measure_overlap(some, some), measure_overlap(some, ~some)
    assert same.jaccard == 1 and same.expected < 0.35 and same.p < 1e-6
    assert apart.jaccard == 0 and apart.expected > 0 and apart.p == pytest.approx(1)
    nothing = np.zeros((2, 20), bool)
    empty = measure_overlap(nothing, nothing)
    assert isnan(empty.jaccard) and isnan(empty.expected) and empty.p == 1
    one_empty = measure_overlap(some, nothing)
    assert one_empty.jaccard == 0 and one_empty.expected == 0 and one_empty.p == 1
    whole = measure_overlap(~nothing, ~nothing)
    assert whole.jaccard == whole.expected == 1 and whole.p == 1
    assert isnan(measure_overlap(np.zeros((2, 0), bool), np.zeros((2, 0), bool)).jaccard)


def test_overlap_of_a_large_model_is_quick_and_right():
    """66b: the mean number in both is Σ ab / N, about which the index is nearly linear."""
    rng = np.random.default_rng(2)
    before, after = rng.random((2, 64, 36864)) < rng.random((64, 1)) ** 3
    found = measure_overlap(before, after)
    mean = float((before.sum(1) * after.sum(1) / 36864).sum())
    assert found.expected == pytest.approx(mean / (found.before + found.after - mean), rel=1e-4)
    assert found.jaccard == pytest.approx(found.expected, rel=0.01) and 0 < found.p < 1


@pytest.mark.parametrize(
    ("population", "a", "b"), [(7, 3, 4), (10, 9, 8), (5, 0, 3), (5, 5, 5), (0, 0, 0), (30, 11, 13)]
)
def test_hypergeometric_is_counted_out(population: int, a: int, b: int):
    least, chance = hypergeometric(population, a, b)
    wanted = [comb(a, k) * comb(population - a, b - k) / comb(population, b) for k in range(min(a, b) + 1)]
    assert chance.sum() == pytest.approx(1) and least == next(k for k, p in enumerate(wanted) if p)
    np.testing.assert_allclose(chance, wanted[least : least + len(chance)], rtol=1e-12)


def test_triggers_of_detectors_of_both():
    rng, neurons = np.random.default_rng(3), 30
    tables = [np.stack([rng.integers(0, neurons, 40), rng.integers(0, 6, 40)], axis=1) for _ in range(2)]
    found = overlap_triggers(*tables, neurons=neurons)
    for neuron in range(neurons):
        first, second = ({token for n, token in table.tolist() if n == neuron} for table in tables)
        wanted = len(first & second) / len(first | second) if first and second else np.nan
        np.testing.assert_equal(found[neuron], wanted)
    nothing = np.zeros((0, 2), np.int32)
    assert np.isnan(overlap_triggers(nothing, tables[0], neurons)).all()
    assert overlap_triggers(nothing, nothing, 0).shape == (0,)


def test_cosines_do_not_see_length_and_see_the_sign():
    rng = np.random.default_rng(4)
    before, after = rng.normal(size=(2, 9, 5)).astype(np.float32)
    after[3], after[4], before[5], after[5] = 1e-20 * before[3], -before[4], 0, 1
    found = cosines(before, after)
    for i in (0, 1, 2, 6):
        a, b = before[i].tolist(), after[i].tolist()
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        assert found[i] == pytest.approx(dot / sqrt(sum(x * x for x in a) * sum(x * x for x in b)), rel=1e-9)
    assert found[3] == pytest.approx(1) and found[4] == -1 and isnan(found[5])
    assert cosines(np.zeros((0, 5)), np.zeros((0, 5))).shape == (0,)


def test_quantiles_are_of_the_neurons_asked_for():
    values = np.array([[1.0, 2, 3, np.nan], [4, 5, 6, 7]])
    which = np.array([[True, True, True, True], [False, False, False, False]])
    np.testing.assert_equal(quantiles(values, which, (0, 0.5, 1)), [[1, np.nan], [2, np.nan], [3, np.nan]])
