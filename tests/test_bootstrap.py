"""Resampled groups and the intervals made of them: against every way to draw, plain Python, and the standard error."""

from __future__ import annotations

from itertools import product
from math import inf, isclose, nan, sqrt
from statistics import NormalDist, median, stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurolens import UsageError
from neurolens.bootstrap import Bootstrap, Groups, draw_groups

LAWS = settings(deadline=None, derandomize=True, max_examples=60)
numbers = st.floats(-100, 100, allow_nan=False)


def quantile(values: list[float], share: float) -> float:
    """With straight lines between the order statistics, the first of which is the 0 quantile and the last the 1."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = min(int(place), len(ordered) - 2)
    return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])


def spread(groups: int) -> np.ndarray:
    """As many tokens in each of so many groups."""
    return np.full(groups, 100, np.int64)


# -- drawing -------------------------------------------------------------------------------------------------------


@LAWS
@given(st.lists(st.sampled_from([0, 1, 7, 10**9]), max_size=12), st.integers(2, 30), st.integers(0, 5))
def test_as_many_groups_as_there_are_and_none_that_is_empty(total: list[int], replicates: int, seed: int) -> None:
    asked = Bootstrap(replicates=replicates, seed=seed)
    groups = draw_groups(np.array(total, np.int64), asked)
    there = sum(size > 0 for size in total)
    assert groups.weights.dtype == np.int64 and groups.weights.shape == (replicates, len(total))
    assert groups.there == there
    assert (groups.weights >= 0).all()
    assert groups.weights.sum(1).tolist() == [there] * replicates
    assert not groups.weights[:, [i for i, size in enumerate(total) if not size]].any()
    assert groups.total.tolist() == total and groups.settings == asked


def test_the_same_settings_draw_the_same() -> None:
    total = np.array([5, 0, 7, 1000, 3])
    first = draw_groups(total, Bootstrap(seed=3)).weights
    assert np.array_equal(first, draw_groups(total, Bootstrap(seed=3)).weights)
    assert np.array_equal(first, draw_groups(3 * total, Bootstrap(seed=3)).weights)  # which are there, not how large
    assert not np.array_equal(first, draw_groups(total, Bootstrap(seed=4)).weights)
    more = draw_groups(total, Bootstrap(seed=3, replicates=300)).weights
    assert np.array_equal(first, more[:200])


def test_every_draw_is_as_probable_as_it_is() -> None:
    """All 3 ** 3 ways to draw three groups from three, one by one."""
    expected: dict[tuple[int, ...], float] = {}
    for drawn in product(range(3), repeat=3):
        weights = tuple(drawn.count(g) for g in range(3))
        expected[weights] = expected.get(weights, 0) + 1 / 27
    found = draw_groups(spread(3), Bootstrap(replicates=20_000)).weights
    seen, often = np.unique(found, axis=0, return_counts=True)
    assert {tuple(row) for row in seen.tolist()} == set(expected)
    for row, count in zip(seen.tolist(), often.tolist(), strict=True):
        p = expected[tuple(row)]
        assert abs(count / 20_000 - p) < 4.5 * sqrt(p * (1 - p) / 20_000)


@pytest.mark.parametrize("replicates", [-1, 0, 1])
def test_fewer_than_two_replicates_are_refused(replicates: int) -> None:
    with pytest.raises(UsageError, match=f"^{replicates} replicates; expected at least 2$"):
        Bootstrap(replicates=replicates)


@pytest.mark.parametrize("confidence", [-0.5, 0, 0.0, 1, 1.0, 95, inf, nan])
def test_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(UsageError, match=f"^confidence is {confidence}; expected between 0 and 1$"):
        Bootstrap(confidence=confidence)


def test_the_least_that_is_allowed() -> None:
    groups = draw_groups(spread(2), Bootstrap(replicates=2, confidence=1e-9))
    low, high = groups.interval(np.array(1.0), np.array([0.0, 4.0]))
    assert isclose(low, 1, abs_tol=1e-6) and isclose(high, 1, abs_tol=1e-6)


# -- intervals -----------------------------------------------------------------------------------------------------


@LAWS
@given(
    st.lists(numbers, min_size=2, max_size=40),
    numbers,
    st.integers(2, 30),
    st.sampled_from([0.5, 0.8, 0.95, 0.99]),
)
def test_interval_is_the_middle_of_the_replicates_around_the_estimate(
    replicates: list[float], estimate: float, groups: int, confidence: float
) -> None:
    asked = Bootstrap(replicates=len(replicates), confidence=confidence)
    low, high = draw_groups(spread(groups), asked).interval(np.array(estimate), np.array(replicates))
    wider, middle = sqrt(groups / (groups - 1)), median(replicates)
    assert isclose(low, estimate + wider * (quantile(replicates, (1 - confidence) / 2) - middle), abs_tol=1e-9)
    assert isclose(high, estimate + wider * (quantile(replicates, (1 + confidence) / 2) - middle), abs_tol=1e-9)
    assert low <= estimate <= high


def test_every_number_has_its_own_interval() -> None:
    rng = np.random.default_rng(0)
    estimate, replicates = rng.normal(size=(3, 4)), rng.normal(size=(50, 3, 4))
    kept = estimate.copy(), replicates.copy()
    groups = draw_groups(spread(6), Bootstrap(replicates=50))
    low, high = groups.interval(estimate, replicates)
    assert low.shape == high.shape == (3, 4)
    for place in np.ndindex(3, 4):
        alone = groups.interval(estimate[place], replicates[:, *place])
        assert (low[place], high[place]) == pytest.approx(alone, rel=1e-12)
    assert np.array_equal(estimate, kept[0]) and np.array_equal(replicates, kept[1])


@pytest.mark.parametrize("total", [[], [0, 0], [5], [0, 5, 0]])
def test_fewer_than_two_groups_have_no_interval(total: list[int]) -> None:
    groups = draw_groups(np.array(total, np.int64), Bootstrap(replicates=3))
    for shape in ((), (2,), (2, 3), (0,)):
        low, high = groups.interval(np.ones(shape), np.ones((3, *shape)))
        assert low.shape == high.shape == shape
        assert np.isnan(low).all() and np.isnan(high).all()
        low[...] = 0
        assert np.isnan(high).all()  # not the same array


def test_what_does_not_vary_has_no_width() -> None:
    low, high = draw_groups(spread(4), Bootstrap()).interval(np.array([0.25, 0.0]), np.full((200, 2), 0.25))
    assert low.tolist() == high.tolist() == [0.25, 0.0]


@pytest.mark.parametrize("groups", [5, 6])
def test_all_draws_of_few_groups(groups: int) -> None:
    """The interval from every way to draw is that of many random draws; spread as widely as the standard error says."""
    values = np.random.default_rng(groups).normal(size=groups)
    every = np.array([np.bincount(drawn, minlength=groups) for drawn in product(range(groups), repeat=groups)])
    means = every @ values / groups
    resampled = Groups(spread(groups), every, Bootstrap(replicates=len(every)))
    assert isclose(means.std() * sqrt(groups / (groups - 1)), stdev(values) / sqrt(groups))
    low, high = resampled.interval(values.mean(), means)
    drawn = draw_groups(spread(groups), Bootstrap(replicates=40_000))
    again = drawn.interval(values.mean(), drawn.weights @ values / groups)
    assert again == pytest.approx((low, high), abs=0.05 * float(high - low))


@pytest.mark.parametrize("groups", [20, 40])
def test_width_is_that_of_the_standard_error(groups: int) -> None:
    """Of the mean of normal numbers: to 2%, which the widening for few groups (2.6% for 20) is more than."""
    rng, ratios = np.random.default_rng(1), []
    drawn = draw_groups(spread(groups), Bootstrap(replicates=4000))
    for _ in range(40):
        values = rng.normal(size=groups)
        low, high = drawn.interval(values.mean(), drawn.weights @ values / groups)
        ratios.append((high - low) / 2 / (stdev(values) / sqrt(groups)))
    assert isclose(float(np.mean(ratios)), NormalDist().inv_cdf(0.975), rel_tol=0.02)


@pytest.mark.parametrize("equal", [True, False])
def test_an_interval_holds_what_it_says(equal: bool) -> None:
    """A frequency over 20 groups of sequences that differ, of one size or not: within 2.5% of 95%. It is a little
    less than 95%, as with any interval that takes a spread seen in 20 groups for the true one (t says 93.5%)."""
    rng = np.random.default_rng(2)
    total = spread(20) if equal else rng.integers(50, 200, 20)
    drawn, rounds = draw_groups(total, Bootstrap()), 2000
    resampled = drawn.weights @ total
    on = rng.binomial(total, np.clip(rng.normal(0.3, 0.05, (rounds, 20)), 0, 1))
    low, high = drawn.interval(on.sum(1) / total.sum(), (drawn.weights @ on.T) / resampled[:, None])
    held = ((low <= 0.3) & (high >= 0.3)).mean()
    assert abs(held - 0.935) < 0.025


def test_an_estimate_is_in_its_interval_where_replicates_are_biased() -> None:
    """A replicate has fewer different groups, so that more neurons are dead in it than in all of them."""
    rng = np.random.default_rng(3)
    on = rng.random((1000, 20)) < 0.03
    drawn = draw_groups(spread(20), Bootstrap())
    dead = (on @ drawn.weights.T == 0).mean(0)
    estimate = np.array((~on.any(1)).mean())
    assert dead.min() > estimate  # all of them
    low, high = drawn.interval(estimate, dead)
    assert low < estimate < high and high - low < 0.2
