"""Detectors: the rules of the paper, read literally and in fractions, against what the compiled loops find.

Whole runs, from bits on the disk to tables, are held to another such reading in test_ngrams.py.
"""

from __future__ import annotations

import doctest
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from neurolens import UsageError, detectors
from neurolens.corpus import Corpus
from neurolens.counts import SparseCounts, tabulate_sparse
from neurolens.detectors import TOP, Rules, cover_layers, find_detectors, wilson_lower_bound
from neurolens.nested import nest
from neurolens.variables import ngrams

settings.register_profile("laws", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("laws")


@dataclass
class Verdict:
    covering: int
    members: dict[int, bool]  # token of the covering set → is it covered
    within: bool  # the rule for the covering number
    detector: bool
    supported: bool


def judge(on: dict[int, int], total: dict[int, int], rules: Rules, n: int = 1) -> Verdict:
    """One neuron by the words of the method. `on`: activations by token; `total`: occurrences by token."""
    coverage, rate = Fraction(rules.coverage, 100), Fraction(rules.min_rate, 100)
    activations = sum(on.values())
    taken: list[int] = []  # greedy, by descending count
    for count in sorted(on.values(), reverse=True):
        if sum(taken) >= coverage * activations:
            break
        taken.append(count)
    members = {t for t, count in on.items() if count >= taken[-1]} if taken else set()
    within = 1 <= len(taken) <= (rules.max_covering if n == 1 else rules.max_covering_ngrams)

    def accounted(min_occurrences: int) -> tuple[set[int], bool]:
        covered = {
            t for t in members if total[t] >= min_occurrences and Fraction(on[t], total[t]) >= rate
        }  # fmt: skip
        return covered, within and activations > 0 and sum(on[t] for t in covered) >= coverage * activations

    covered, detector = accounted(rules.min_occurrences)
    _, well = accounted(max(rules.min_occurrences, rules.support_occurrences))
    return Verdict(
        covering=len(taken),
        members={t: t in covered for t in members},
        within=within,
        detector=detector,
        supported=well and activations >= rules.support_activations,
    )


def sparse(
    neurons: list[dict[int, int]], total: dict[int, int], rng: np.random.Generator | None = None
) -> SparseCounts:
    """The lists of several neurons, each in any order."""
    entries = [list(on.items()) for on in neurons]
    for each in entries:
        if rng:
            rng.shuffle(each)
    flat = [entry for each in entries for entry in each]
    return SparseCounts(
        np.cumsum([0, *map(len, entries)]),
        np.array([category for category, _ in flat], np.int32),
        np.array([count for _, count in flat], np.uint32),
        np.array([total.get(t, 0) for t in range(max(total, default=0) + 1)]),
    )


def listed(on: dict[int, int], verdict: Verdict, top: int) -> list[int]:
    """The tokens that the table has of a neuron: the most frequent ones, and the covering set if it is not too wide."""
    falling = sorted(on, key=lambda t: (-on[t], t))
    return [t for i, t in enumerate(falling) if i < top or (verdict.within and t in verdict.members)]


def check(
    neurons: list[dict[int, int]],
    total: dict[int, int],
    counts: SparseCounts,
    rules: Rules,
    n: int = 1,
    top: int = TOP,
) -> list[Verdict]:
    """What is found is what the words say, and the triggers table lists the same. Returns the verdicts."""
    found = find_detectors(counts, rules, n, top=top)
    verdicts = [judge(on, total, rules, n) for on in neurons]
    assert found.covering.tolist() == [verdict.covering for verdict in verdicts]
    assert found.detector.tolist() == [verdict.detector for verdict in verdicts]
    assert found.supported.tolist() == [verdict.supported for verdict in verdicts]
    flags = [found.detector, found.supported, found.triggers["member"], found.triggers["covered"]]
    assert {flag.dtype for flag in flags} == {np.dtype(bool)}
    expected = [
        (number, t, on[t], total[t], t in verdict.members, verdict.members.get(t, False))
        for number, (on, verdict) in enumerate(zip(neurons, verdicts, strict=True))
        for t in listed(on, verdict, top)
    ]
    assert list(found.triggers) == ["neuron", "category", "on", "total", "member", "covered"]
    assert list(zip(*(column.tolist() for column in found.triggers.values()), strict=True)) == expected
    return verdicts


@st.composite
def layers(draw) -> tuple[list[dict[int, int]], dict[int, int]]:
    """Some neurons over some tokens; rates and shares tend to lie on both sides of 95%."""
    totals = st.one_of(st.integers(1, 6), st.sampled_from([19, 20, 21, 39, 40, 95, 100, 200, 1000]))
    total = dict(enumerate(draw(st.lists(totals, min_size=1, max_size=12))))
    neurons = []
    for _ in range(draw(st.integers(1, 4))):
        on: dict[int, int] = {}
        for t, occurrences in total.items():
            at = -(-95 * occurrences // 100)  # least count with a rate of 95%
            choices = [0, 0, 1, at, occurrences, at - 1, max(1, occurrences // 20)]
            count = draw(st.sampled_from(choices))
            if count > 0:
                on[t] = count
        neurons.append(on)
    return neurons, total


rule_sets = st.builds(
    Rules,
    max_covering=st.sampled_from([1, 2, 5, 50]),
    max_covering_ngrams=st.sampled_from([1, 2, 5, 50]),
    coverage=st.sampled_from([95, 95, 95, 50, 94, 96, 100, 1]),
    min_rate=st.sampled_from([95, 95, 95, 50, 94, 96, 100, 1]),
    min_occurrences=st.sampled_from([1, 1, 2, 5, 20]),
    support_occurrences=st.sampled_from([1, 5, 20]),
    support_activations=st.sampled_from([1, 20, 100, 1000]),
)


@settings(max_examples=300)
@given(
    layer=layers(),
    rules=rule_sets,
    n=st.sampled_from([1, 1, 2, 3, 5]),
    top=st.sampled_from([TOP, TOP, 1, 2, 30]),
    seed=st.integers(0, 99),
)
def test_detectors_are_those_of_the_paper(layer, rules, n, top, seed):
    neurons, total = layer
    check(neurons, total, sparse(neurons, total, np.random.default_rng(seed)), rules, n, top)


def test_the_random_layers_hold_every_kind_of_verdict():
    """The law above compares on detectors, supported ones, near misses, covered and uncovered members."""
    seen = Counter()

    @settings(max_examples=300)
    @given(layer=layers())
    def collect(layer):
        neurons, total = layer
        for on in neurons:
            verdict = judge(on, total, Rules())
            kind = "supported" if verdict.supported else "detector" if verdict.detector else "not"
            seen[kind, verdict.covering <= 5] += 1
            seen["ties"] += len(verdict.members) > verdict.covering
            seen["mixed"] += len(set(verdict.members.values())) == 2
            seen["members beyond the table"] += not verdict.within and len(verdict.members) > TOP
            seen["more than the covering set"] += verdict.within and len(verdict.members) < min(TOP, len(on))
            seen["ties at the top"] += len(on) > TOP and sorted(on.values())[-TOP] == sorted(on.values())[-TOP - 1]

    collect()
    kinds = [("supported", True), ("detector", True), ("not", True), ("not", False), "ties", "mixed"]
    kinds += ["members beyond the table", "more than the covering set", "ties at the top"]
    assert all(seen[kind] >= 10 for kind in kinds), seen


@given(
    seed=st.integers(0, 2**20),
    vocabulary=st.sampled_from([4, 8, 30]),
    noise=st.sampled_from([0.0, 0.01, 0.1]),
    entries=st.sampled_from([1, 50, 1 << 20]),
)
def test_detectors_from_bits_and_token_ids(seed, vocabulary, noise, entries):
    """From a forward pass's booleans to verdicts: BOS and separators trigger nothing."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, vocabulary, (12, 16))
    tokens[:, 0], tokens[:, 1] = 2, 3
    flat = tokens.reshape(-1)
    likes = [rng.choice(vocabulary, rng.integers(0, 7)) for _ in range(6)] + [[2]]
    active = np.stack([np.isin(flat, like) ^ (rng.random(flat.size) < noise) for like in likes])
    total = {t: count for t, count in Counter(flat.tolist()).items() if t != 2}
    rows = np.array(
        [[sum(1 << i for i, b in enumerate(row[w : w + 64]) if b) for w in range(0, flat.size, 64)] for row in active],
        np.uint64,
    )
    rules = Rules(support_activations=20)
    done = 0
    (grams,) = ngrams(Corpus.from_tokens(tokens), 1, vocabulary)
    for part, (counts,) in tabulate_sparse(rows, nest([grams.variable]), entries=entries):
        neurons = [Counter(t for t, a in zip(flat.tolist(), row, strict=True) if a and t != 2) for row in active[part]]
        check([dict(on) for on in neurons], total, counts, rules)
        done += len(neurons)
    assert done == len(active)


def one(on: dict[int, int], total: dict[int, int], **rules) -> Verdict:
    return check([on], total, sparse([on], total), Rules(**rules))[0]


@pytest.mark.parametrize(
    ("on", "total", "detector", "why"),
    [
        ({7: 100}, {7: 100}, True, "one trigger, always"),
        ({7: 95}, {7: 100}, True, "exactly 95% of the occurrences"),
        ({7: 94}, {7: 100}, False, "94% of the occurrences"),
        ({7: 19}, {7: 20}, True, "19 of 20"),
        ({7: 18}, {7: 19}, False, "18 of 19 is 94.7%"),
        ({7: 949999}, {7: 1000000}, False, "a millionth below"),
        ({7: 950000}, {7: 1000000}, True, "exact in large numbers"),
        ({t: 20 for t in range(5)}, {t: 20 for t in range(5)}, True, "five triggers"),
        ({t: 20 for t in range(6)}, {t: 20 for t in range(6)}, False, "six triggers"),
        ({7: 95, **{t: 1 for t in range(5)}}, {7: 95, **{t: 9 for t in range(5)}}, True, "exactly 95% on the trigger"),
        ({7: 94, **{t: 1 for t in range(6)}}, {7: 94, **{t: 9 for t in range(6)}}, False, "94% on the trigger"),
        # 50 + 45 reach 95%, but the second is not covered: the first alone accounts for half
        ({1: 50, 2: 45, 3: 5}, {1: 50, 2: 60, 3: 5}, False, "a member of the covering set that is not covered"),
        # 48 + 48 + 4: the third ties with nothing; two members, both covered
        ({1: 48, 2: 48, 3: 4}, {1: 48, 2: 48, 3: 400}, True, "what is left over need not be covered"),
        # greedy takes 90 and one of two fives; the tie brings the other in, which is covered too
        ({1: 90, 2: 5, 3: 5}, {1: 90, 2: 5, 3: 50}, True, "a tie at the end: one of the two is covered"),
        ({1: 90, 2: 5, 3: 5}, {1: 90, 2: 50, 3: 50}, False, "a tie at the end: neither is covered"),
        ({1: 1}, {1: 1}, True, "a token seen once passes trivially (the paper names no minimum)"),
        ({}, {1: 10}, False, "no activation that counts"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_near_misses(on, total, detector, why):
    assert one(on, total).detector is detector, why


def test_ties_join_the_covering_set_and_not_the_covering_number():
    on = {t: 1 for t in range(6)} | {9: 94}
    verdict = one(on, {t: 1 for t in range(6)} | {9: 94})
    assert verdict.covering == 2 and len(verdict.members) == 7 and verdict.detector


def test_silent_neurons_have_covering_number_0_and_no_triggers():
    total = {0: 5, 1: 5}
    verdicts = check([{}, {1: 5}, {}], total, sparse([{}, {1: 5}, {}], total), Rules())
    assert [verdict.covering for verdict in verdicts] == [0, 1, 0]
    assert [verdict.detector for verdict in verdicts] == [False, True, False]


def test_a_layer_without_any_activation():
    found = find_detectors(sparse([{}, {}], {0: 5}), Rules())
    assert found.covering.tolist() == [0, 0] and not found.detector.any() and not found.supported.any()
    assert all(column.shape == (0,) for column in found.triggers.values())
    assert find_detectors(sparse([], {0: 5}), Rules()).covering.shape == (0,)


def test_occurrences_and_support():
    total = {1: 4, 2: 5, 3: 200}
    assert one({1: 4}, total).detector
    assert not one({1: 4}, total, min_occurrences=5).detector
    assert one({2: 5}, total, min_occurrences=5).detector
    assert not one({2: 5}, total).supported  # too few activations
    assert one({2: 5}, total, support_activations=5).supported
    assert not one({1: 4}, total, support_activations=4).supported  # too few occurrences
    assert one({3: 200}, total).supported and one({3: 200}, total, support_activations=200).supported
    assert not one({3: 200}, total, support_activations=201).supported
    assert not one({3: 100}, total).supported  # not a detector, however often
    # activations on a rare trigger do not count for support, those on the frequent one suffice or not
    assert one({3: 200, 1: 4}, total).supported
    assert not one({2: 5, 1: 4}, total, support_activations=9).supported
    assert one({2: 5, 1: 4}, total, support_activations=9).detector


def test_the_table_holds_covering_sets_and_of_what_is_spread_too_far_the_top():
    total = {t: 10 for t in range(30)}
    wide, miss = {t: 10 for t in range(10)}, {3: 5, 1: 5, 2: 4, 8: 1}
    found = find_detectors(sparse([wide, miss, {0: 10}], total), Rules(coverage=90))
    assert found.covering.tolist() == [9, 3, 1]
    assert found.triggers["neuron"].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert found.triggers["category"].tolist() == [0, 1, 2, 3, 4, 1, 3, 2, 8, 0]
    assert found.triggers["member"].tolist() == [True] * 8 + [False, True]
    assert found.triggers["covered"].tolist() == [True] * 5 + [False] * 4 + [True]
    assert found.detector.tolist() == [False, False, True]
    flags = {name: found.triggers.pop(name).dtype for name in ("member", "covered")}
    assert set(flags.values()) == {np.dtype(bool)}
    assert {column.dtype for column in found.triggers.values()} == {np.dtype(np.int64)}


def test_longer_ngrams_have_a_limit_of_their_own():
    total = {t: 10 for t in range(60)}
    for n, most in ((1, 5), (2, 50), (3, 50), (5, 50)):
        for number in (most, most + 1):
            on = {t: 10 for t in range(number)}
            verdict = check([on], total, sparse([on], total), Rules(coverage=100), n)[0]
            assert verdict.detector == (number <= most), (n, number)
            rows = len(find_detectors(sparse([on], total), Rules(coverage=100), n).triggers["on"])
            assert rows == (most if number <= most else TOP)
    assert [Rules(max_covering=3, max_covering_ngrams=7).limit(n) for n in (1, 2, 3)] == [3, 7, 7]


def test_a_covering_set_may_be_wider_than_its_number():
    """Ties: one number of n-grams suffices, but a hundred of them could have been it."""
    total = {t: 2 for t in range(100)}
    on = {t: 1 for t in range(100)}
    verdict = check([on], total, sparse([on], total), Rules(coverage=50), 2)[0]
    assert verdict.covering == 50 and verdict.within and len(verdict.members) == 100


# what layers cover


def covered_one_by_one(layers: list[list[int]]) -> dict[str, list[int]]:
    lines = []
    for i, here in enumerate(layers):
        before = {t for layer in layers[:i] for t in layer}
        previous = set(layers[i - 1]) if i else set()
        distinct = set(here)
        lines.append((len(distinct), len(distinct - before), len(distinct - previous), len(distinct | before)))
    names = ("covered", "new", "new_to_previous", "cumulative")
    return {name: [line[i] for line in lines] for i, name in enumerate(names)}


@given(st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=6))
def test_what_each_layer_adds(layers):
    found = cover_layers([np.array(layer, np.int64) for layer in layers])
    assert {name: column.tolist() for name, column in found.items()} == covered_one_by_one(layers)
    assert {column.dtype for column in found.values()} == {np.dtype(np.int64)}


def test_a_token_that_comes_back_is_new_to_the_layer_before_only():
    found = cover_layers([np.array(layer, np.int64) for layer in ([1, 2, 2], [], [2, 3])])
    assert found["covered"].tolist() == [2, 0, 2] and found["new"].tolist() == [2, 0, 1]
    assert found["new_to_previous"].tolist() == [2, 0, 2] and found["cumulative"].tolist() == [2, 2, 3]


def test_the_defaults_are_the_papers():
    rules = Rules()
    assert (rules.max_covering, rules.coverage, rules.min_rate, rules.min_occurrences) == (5, 95, 95, 1)
    assert (rules.support_occurrences, rules.support_activations) == (5, 100)
    assert [rules.limit(n) for n in (1, 2, 3, 4, 5)] == [5, 50, 50, 50, 50]
    assert TOP == 5


@pytest.mark.parametrize("name", ["coverage", "min_rate"])
@pytest.mark.parametrize("value", [0, -5, 101])
def test_percentages_out_of_range(name, value):
    with pytest.raises(UsageError, match=f"{name} is {value}; expected a percentage from 1 to 100"):
        Rules(**{name: value})
    assert replace(Rules(), **{name: 1}) != replace(Rules(), **{name: 100})


@pytest.mark.parametrize(
    "name",
    ["max_covering", "max_covering_ngrams", "min_occurrences", "support_occurrences", "support_activations"],
)
@pytest.mark.parametrize("value", [0, -1])
def test_counts_out_of_range(name, value):
    with pytest.raises(UsageError, match=f"{name} is {value}; expected at least 1"):
        Rules(**{name: value})
    Rules(**{name: 1})


@given(st.integers(1, 3000), st.data())
def test_the_wilson_bound_is_scipys(total, data):
    on = data.draw(st.integers(0, total))
    # one-sided 95% is the lower end of the two-sided 90% interval
    expected = binomtest(on, total).proportion_ci(confidence_level=0.9, method="wilson").low
    bound = wilson_lower_bound(np.array([on]), np.array([total]))
    assert bound[0] == pytest.approx(expected, abs=1e-12)
    assert 0 <= bound[0] <= on / total + 1e-12


def test_the_wilson_bound_of_nothing_and_of_other_confidence():
    assert wilson_lower_bound(np.array([0, 0]), np.array([0, 7])) == pytest.approx([0, 0], abs=1e-12)
    expected = binomtest(30, 40).proportion_ci(confidence_level=0.95, method="wilson").low
    assert wilson_lower_bound(np.array(30), np.array(40), z=1.959963984540054) == pytest.approx(expected, abs=1e-12)


def test_examples_in_the_documentation():
    found = doctest.testmod(detectors)
    assert found.attempted > 0 and found.failed == 0
