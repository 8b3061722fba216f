"""Activity of neurons, and how sure it is that a dead one is dead."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from neurolens import activity
from neurolens.activity import Activity, dead_upper_bound, mean_frequency_of_alive, saturation

settings.register_profile("laws", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("laws")


@given(st.integers(1, 6), st.integers(1, 40), st.sampled_from([0.0, 0.03, 0.5, 1.0]), st.integers(0, 999))
def test_every_neuron_is_dead_alive_only_on_separators_or_alive_on_text(neurons, tokens, density, seed):
    rng = np.random.default_rng(seed)
    active, separator = rng.random((neurons, tokens)) < density, rng.random(tokens) < 0.4
    found = Activity(
        activations=active.sum(1),
        on_text=(active & ~separator).sum(1),
        first_active=np.array([row.index(True) if True in row else -1 for row in active.tolist()]),
        n_tokens=tokens,
    )
    for n, row in enumerate(active.tolist()):
        where = [t for t in range(tokens) if row[t]]
        assert found.frequency[n] == len(where) / tokens
        assert found.dead[n] == (where == [])
        assert found.dead_but_bos[n] == (where != [] and all(separator[t] for t in where))
    assert found.dead.dtype == found.dead_but_bos.dtype == bool
    assert not (found.dead & found.dead_but_bos).any()


def test_activity_on_no_tokens():
    none = np.zeros(3, np.int64)
    found = Activity(none, none, none - 1, 0)
    assert found.frequency.tolist() == [0, 0, 0] and found.dead.all() and not found.dead_but_bos.any()


@pytest.mark.parametrize("n", [1, 2, 10, 1000, 10**6, 5 * 10**9])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_at_the_bound_silence_is_exactly_as_unlikely_as_stated(n, confidence):
    bound = dead_upper_bound(n, confidence=confidence)
    assert 0 < bound < 1
    assert binom.pmf(0, n, bound) == pytest.approx(1 - confidence, rel=1e-6)


@pytest.mark.parametrize("n", [1000, 10**5, 10**7])
def test_the_rule_of_three(n):
    assert dead_upper_bound(n) == pytest.approx(3 / n, rel=4e-3)
    assert dead_upper_bound(n) == pytest.approx(-math.log(0.05) / n, rel=2 / n)
    assert dead_upper_bound(n) < 3 / n


def test_bounds_of_little_and_of_nothing():
    assert dead_upper_bound(0) == 1
    assert dead_upper_bound(1) == pytest.approx(0.95)
    bounds = [dead_upper_bound(n) for n in range(0, 50)]
    assert bounds == sorted(bounds, reverse=True)


@given(
    n_tokens=st.sampled_from([1, 2, 3, 10, 64, 65, 1000, 123_457]),
    points=st.sampled_from([1, 2, 5, 64]),
    seed=st.integers(0, 999),
)
def test_saturation_counts_who_was_active_by_then(n_tokens, points, seed):
    rng = np.random.default_rng(seed)
    first = rng.integers(-1, n_tokens, (2, 30))
    first[0, :3] = [-1, 0, n_tokens - 1]
    tokens, alive = saturation(first, n_tokens, points=points)
    assert tokens[0] == 1 and len(tokens) <= points and tokens.tolist() == sorted(set(tokens.tolist()))
    assert alive.shape == (2, len(tokens))
    for layer in range(2):
        for i, seen in enumerate(tokens.tolist()):
            assert alive[layer, i] == sum(0 <= index < seen for index in first[layer].tolist())
    if points > 1:
        assert set(tokens.tolist()) == {round(n_tokens ** (i / (points - 1))) for i in range(points)}
        assert (alive[:, -1] == (first >= 0).sum(1)).all()
    one = saturation(first[1], n_tokens, points=points)
    assert (one[0] == tokens).all() and (one[1] == alive[1]).all()


def test_saturation_of_nothing():
    tokens, alive = saturation(np.full((3, 4), -1), 0)
    assert tokens.shape == (0,) and alive.shape == (3, 0)
    assert not saturation(np.full((3, 4), -1), 100)[1].any()


@given(st.integers(1, 4), st.integers(1, 30), st.integers(0, 999))
def test_mean_frequency_leaves_the_dead_out(layers, neurons, seed):
    rng = np.random.default_rng(seed)
    frequency = rng.random((layers, neurons))
    dead = rng.random((layers, neurons)) < rng.choice([0, 0.5, 1], (layers, 1))
    mean = mean_frequency_of_alive(frequency, dead)
    for layer in range(layers):
        alive = [f for f, d in zip(frequency[layer], dead[layer], strict=True) if not d]
        assert mean[layer] == pytest.approx(sum(alive) / len(alive)) if alive else math.isnan(mean[layer])
    assert mean_frequency_of_alive(frequency[0], dead[0]) == pytest.approx(mean[0], nan_ok=True)


def test_examples_in_the_documentation():
    found = doctest.testmod(activity)
    assert found.attempted > 0 and found.failed == 0
