"""Information: how much a neuron's bit says about a category of its token, and how much of that is chance (paper, §5).

With few tokens a category the plug-in estimate is too large: by about 1/(2S) nats for S sequences a position, 0.05 at
S = 10, as much as makes a neuron positional. Asymptotic corrections and χ² fail for rare neurons. Here the null is
exact: given K activations among n tokens, a category of m tokens has as many of them as m draws without replacement
find (hypergeometric), and all of them together have K: what a category adds beyond its linear part in the count is
what varies (docs/decisions/0010).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import exp, lgamma

import numpy as np
from scipy.special import gammainc, gammaincc, ndtr

from neurolens import kernels

LEAST_EXPECTED = 5.0  # activations, or silences, a category: below, a neuron is marked rough; ours, after χ²'s rule
FEW_PAIRS = 1.0  # activations expected two by two in a category, below which the null is no curve: it is counted out
SAME = 1e-9  # relative difference of values that are one, computed in another order
NEGLIGIBLE = 1e-9  # probability of the outcomes that are left out
LEAST_SKEW = 1e-3  # of what is not normal


@dataclass(frozen=True)
class Information:
    """Mutual information of a bit and a category, for some neurons; float64 `(neuron,)`, in nats.

    plug_in    Σ_c P(c) · KL(P(active | c) ‖ P(active)), in [0, log 2]
    expected   its mean under the null, times the design effect; 0 for a neuron that is never or always active
    corrected  plug_in − expected; may be negative
    p          P(a plug-in as large | the null), tokens taken as independent: nominal; 1 for a neuron never or always
               active
    rough      bool: in some category fewer than `least_expected` activations, or silences, are expected
    """

    plug_in: np.ndarray
    expected: np.ndarray
    corrected: np.ndarray
    p: np.ndarray
    rough: np.ndarray


def measure_information(
    on: np.ndarray,
    total: np.ndarray,
    *,
    design_effect: np.ndarray | None = None,
    least_expected: float = LEAST_EXPECTED,
) -> Information:
    """Information of bits and categories: `on` unsigned `(neuron, category)` activations, `total` int64 `(category,)`.

    `design_effect` float64 `(neuron,)`, at least 1: how many tokens that hang together count as one; what the null
    gives is multiplied by it (Rao and Scott 1981). None where tokens of a category are of different sequences.
    Categories without tokens do not count. Zeros, and p = 1, for no tokens at all.

    >>> half = measure_information(np.array([[4, 0]]), np.array([4, 4]))
    >>> bool(np.isclose(half.plug_in[0], np.log(2)))
    True
    """
    there = np.asarray(total) > 0
    on, total = np.asarray(on)[:, there].astype(np.int64), np.asarray(total)[there].astype(np.int64)
    tokens = int(total.sum())
    on = np.where(2 * on.sum(1, keepdims=True) > tokens, total - on, on)  # bits the other way say as much
    active, plug_in = on.sum(1), mutual_information(on, total)
    distinct, place = np.unique(active, return_inverse=True)
    moments = _null_moments(distinct, total)
    mean, variance, third = (each[place] for each in moments)
    effect = np.ones(len(on)) if design_effect is None else design_effect
    p = _tail(plug_in / effect, mean, variance, third)
    if design_effect is None and len(total) > 1 and (total == total[0]).all():
        pairs = distinct * (distinct - 1) / 2 * (total[0] - 1) / max(1, tokens - 1)
        for i in np.flatnonzero((distinct > 0) & (pairs < FEW_PAIRS)):
            of = place == i
            p[of] = _count_tail(plug_in[of], int(distinct[i]), len(total), int(total[0]))
    least = total.min(initial=tokens) * active / max(1, tokens)
    return Information(plug_in, effect * mean, plug_in - effect * mean, p, least < least_expected)


def mutual_information(on: np.ndarray, total: np.ndarray) -> np.ndarray:
    """The plug-in estimate alone: float64 `(neuron,)`, nats (paper, §5, with 0 · log 0 = 0); 0 without tokens.

    `on` numbers `(neuron, category)`, `total` numbers `(category,)`; categories without tokens do not count.
    """
    there, tokens = total > 0, total.sum()
    if not tokens:
        return np.zeros(len(on))
    on, total = on[:, there], total[there]
    parts = _divergence(on / total, (on.sum(1) / tokens)[:, None]) * (total / tokens)
    # row by row, in memory too: else numpy adds up in an order that depends on how many rows there are
    return np.maximum(0, np.ascontiguousarray(parts).sum(1))


def _divergence(rate: np.ndarray, frequency: np.ndarray | float) -> np.ndarray:
    """KL(rate ‖ frequency) of a bit, nats, element by element."""
    with np.errstate(divide="ignore", invalid="ignore"):
        active = np.where(rate > 0, rate * np.log(rate / frequency), 0)
        return active + np.where(rate < 1, (1 - rate) * np.log((1 - rate) / (1 - frequency)), 0)


def _null_moments(active: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance and third central moment of the plug-in under the null, by number of activations: `(any,)` each.

    The mean is exact. The others are of two parts. One is linear in the counts, a sum over tokens drawn without
    replacement: 0 for categories of one size. What is left beside it is uncorrelated with any count, and correlates
    between categories as squares of counts do: exact for many activations, where the moments are those of χ² with one
    degree of freedom less than there are categories.
    """
    tokens = int(total.sum())
    mean, alone, third, linked, own = np.zeros((5, len(active)))
    shares, worths = [], []
    for size, count in zip(*np.unique(total, return_counts=True), strict=True):  # those of one size are alike
        share = size / tokens
        first, second, cubed, slope = kernels.null_information(active, tokens, size)
        mean += count * share * first
        alone += count * share**2 * second
        third += count * share**3 * cubed
        odds = share / (1 - share) if share < 1 else 0.0  # two counts correlate by −√(odds · odds)
        linked += count * odds * share * np.sqrt(second)
        own += count * (odds * share) ** 2 * second
        shares.append(count * share)
        worths.append(share * slope)  # of an activation there
    variance = alone + linked**2 - own
    if len(total) > 1:
        third *= (len(total) - 1) / ((1 - total / tokens) ** 3).sum()
    of, worth = np.array(shares)[:, None], np.array(worths).reshape(len(worths), len(active))
    apart, drawn = worth - (of * worth).sum(0), active * (tokens - active) / max(1, tokens - 1)
    skewed = (tokens - 2 * active) / max(1, tokens - 2)
    second, cubed = (of * apart**2).sum(0), (of * apart**3).sum(0)
    return mean, variance + drawn * second, third + drawn * skewed * cubed


def _tail(value: np.ndarray, mean: np.ndarray, variance: np.ndarray, third: np.ndarray) -> np.ndarray:
    """P(X ≥ value) of Pearson's type III with these moments (a shifted gamma): `(any,)`; normal where it has no skew.

    1 where the variance is 0.
    """
    there = variance > (SAME * mean) ** 2
    spread = np.sqrt(np.where(there, variance, 1))
    x, skew = (value - mean) / spread, third / spread**3
    shape = 4 / np.where(np.abs(skew) > LEAST_SKEW, skew, 1) ** 2
    at = np.maximum(0, shape + np.sign(skew) * x * np.sqrt(shape))
    p = np.where(np.abs(skew) <= LEAST_SKEW, ndtr(-x), np.where(skew > 0, gammaincc(shape, at), gammainc(shape, at)))
    return np.where(there, p, 1.0)


def _count_tail(value: np.ndarray, active: int, categories: int, size: int) -> np.ndarray:
    """P(plug-in > value) + P(plug-in = value) / 2 (mid-p, Lancaster 1961), every outcome counted: `(any,)`.

    Of `active` activations among `categories` of `size` tokens each. Outcomes that are left out count as larger.
    """
    outcomes, chances = _outcomes(active, categories, size)
    above = outcomes > value[:, None] * (1 + SAME)
    same = ~above & (outcomes >= value[:, None] * (1 - SAME))
    return above @ chances + same @ chances / 2 + max(0.0, 1 - float(chances.sum()))


@lru_cache(1024)
def _outcomes(active: int, categories: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Values that the plug-in can take and the probability of each: float64 `(outcome,)` twice.

    An outcome is how many categories hold two of the activations, three, and so on: what is held beyond one each adds
    up to an excess, and outcomes are listed by growing excess until what is left out is improbable.
    """
    frequency, tokens = active / (categories * size), categories * size
    ways = [lgamma(size + 1) - lgamma(j + 1) - lgamma(size - j + 1) for j in range(min(size, active) + 1)]
    all_ways = lgamma(tokens + 1) - lgamma(active + 1) - lgamma(tokens - active + 1)
    part = _divergence(np.arange(len(ways)) / size, frequency)
    values, chances, excess = [], [], 0
    while excess < active and sum(chances) < 1 - NEGLIGIBLE:
        for held in _partitions(excess, len(ways) - 2):  # held: number of categories by activations beyond one
            several = sum(held.values())
            single = active - excess - several
            none = categories - several - single
            if single < 0 or none < 0:
                continue
            log = lgamma(categories + 1) - lgamma(none + 1) - lgamma(single + 1) + single * ways[1] - all_ways
            log += sum(many * ways[more + 1] - lgamma(many + 1) for more, many in held.items())
            told = none * part[0] + single * part[1] + sum(many * part[more + 1] for more, many in held.items())
            values.append(told / categories)
            chances.append(exp(log))
        excess += 1
    return np.array(values), np.array(chances)


def _partitions(whole: int, most: int) -> Iterator[dict[int, int]]:
    """Ways to write `whole` as a sum of numbers from 1 to `most`, in no order: {number: how often}."""
    if whole == 0:
        yield {}
    elif most >= 1:
        for often in range(whole // most + 1):
            for rest in _partitions(whole - often * most, min(most - 1, whole - often * most)):
                yield {most: often, **rest} if often else rest
