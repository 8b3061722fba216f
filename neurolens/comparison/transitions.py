"""transitions: what became of each neuron between two states of one model — its class, its triggers, its value vector.

Ours; the classes are the paper's. Arrays in, arrays out: which states are compared is lineage.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Exclusive; of several that hold, the first: a dead neuron is nothing else, a token detector usually also one of
# n-grams, and what a neuron responds to says more than where it does.
CLASSES = ("dead", "token detector", "n-gram detector", "positional", "other")
NEGLIGIBLE = 1e-18  # outcomes less likely than the likeliest by this factor are left out of a distribution


def classify(
    dead: np.ndarray,
    token: np.ndarray | None = None,
    ngram: np.ndarray | None = None,
    positional: np.ndarray | None = None,
) -> np.ndarray:
    """The class of each neuron, index into CLASSES: uint8 of the shape of the flags, bool `(…)`, given.

    `ngram`: detects n-grams of 2 or more tokens. None for a flag that is not known: nobody has that class then, and
    its neurons are of the next that holds.

    >>> classify(np.array([True, False, False]), np.array([False, True, False])).tolist()
    [0, 1, 4]
    """
    found = np.full(dead.shape, len(CLASSES) - 1, np.uint8)
    for number, flags in reversed(list(enumerate((dead, token, ngram, positional)))):
        if flags is not None:
            found[flags] = number
    return found


def tabulate_transitions(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How many neurons of each layer went from one class to another: int64 `(layer, class before, class after)`.

    `before`, `after` unsigned `(layer, neuron)` (`classify`). All 0 for layers without neurons; a layer's entries add
    up to its neurons.
    """
    kinds = len(CLASSES)
    layers = before.shape[0]
    code = before.astype(np.int64) * kinds + after + kinds * kinds * np.arange(layers)[:, None]
    return np.bincount(code.ravel(), minlength=layers * kinds * kinds).reshape(layers, kinds, kinds)


@dataclass(frozen=True)
class Overlap:
    """How far two sets of neurons are the same, beside chance.

    before, after  neurons of each set
    both           of them, in both
    jaccard        both / in either: 0 … 1; NaN if both sets are empty
    expected       what it is on average for independent sets of the same sizes in each layer; NaN likewise
    p              chance of such a one, or more; 1 if both sets are empty
    """

    before: int
    after: int
    both: int
    jaccard: float
    expected: float
    p: float


def measure_overlap(before: np.ndarray, after: np.ndarray) -> Overlap:
    """Overlap of two sets of neurons, bool `(layer, neuron)`: Jaccard index (1901), with its exact chance level.

    By chance: in each layer as many neurons as each set has there, every choice alike. How many are in both is then
    hypergeometric in a layer, and over all layers the sum of independent ones; with k in both the index is
    k / (before + after − k), whose mean is taken over k.

    >>> found = measure_overlap(np.array([[True, True, False, False]]), np.array([[True, False, False, True]]))
    >>> found.both, round(found.jaccard, 4), round(found.expected, 4)
    (1, 0.3333, 0.3889)
    """
    first, second, both = before.sum(1), after.sum(1), int((before & after).sum())
    either = int(first.sum() + second.sum())
    if not either:
        return Overlap(0, 0, 0, np.nan, np.nan, 1.0)
    least, chance = 0, np.ones(1)
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        start, of_layer = hypergeometric(before.shape[1], a, b)
        start += least
        least, chance = _trimmed(start, np.convolve(chance, of_layer))
    k = least + np.arange(len(chance))
    expected = float((chance * (k / (either - k))).sum())
    p = min(1.0, float(chance[k >= both].sum()))
    return Overlap(int(first.sum()), int(second.sum()), both, both / (either - both), expected, p)


def hypergeometric(population: int, first: int, second: int) -> tuple[int, np.ndarray]:
    """How many of `first` and of `second` drawn independently from a population are the same: (least number with a
    chance worth naming, the chances of it and those that follow), which add up to 1.

    >>> hypergeometric(4, 2, 2)[1].round(4).tolist()
    [0.1667, 0.6667, 0.1667]
    """
    k = np.arange(max(0, first + second - population), min(first, second) + 1)
    below = k[:-1].astype(float)
    ratio = (first - below) * (second - below) / ((below + 1) * (population - first - second + below + 1))
    log = np.concatenate([[0.0], np.cumsum(np.log(ratio))])
    chance = np.exp(log - log.max())
    return _trimmed(int(k[0]), chance / chance.sum())


def overlap_triggers(before: np.ndarray, after: np.ndarray, neurons: int) -> np.ndarray:
    """Of each neuron, how far the tokens it detects are the same: Jaccard, float64 `(neuron,)` in 0 … 1.

    `before`, `after` integer `(trigger, 2)`: neuron and token id, a row a token that a detector covers. NaN for neurons
    without any in one of the two.
    """
    first, second = (np.unique(pairs.astype(np.int64).reshape(-1, 2), axis=0) for pairs in (before, after))
    width = 1 + max((int(pairs[:, 1].max()) for pairs in (first, second) if len(pairs)), default=0)
    keys = [pairs[:, 0] * width + pairs[:, 1] for pairs in (first, second)]
    shared = np.intersect1d(*keys, assume_unique=True) // width
    number = [np.bincount(pairs[:, 0], minlength=neurons) for pairs in (first, second)]
    both = np.bincount(shared, minlength=neurons)
    there = (number[0] > 0) & (number[1] > 0)
    return np.divide(both, number[0] + number[1] - both, out=np.full(neurons, np.nan), where=there)


def cosines(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Cosine of each row with the same row of another array: float64 `(neuron,)` in −1 … 1; NaN if one is all 0.

    `before`, `after` float `(neuron, D)`, value vectors; 1 says that a vector's direction has not changed.
    """
    products = np.einsum("nd,nd->n", before, after, dtype=np.float64)
    norms = [np.sqrt(np.einsum("nd,nd->n", each, each, dtype=np.float64)) for each in (before, after)]
    length = norms[0] * norms[1]
    found = np.divide(products, length, out=np.full(len(products), np.nan), where=length > 0)
    return np.clip(found, -1, 1)


def quantiles(values: np.ndarray, which: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Quantiles over the neurons of each layer that `which` says: float64 `(share, layer)`; NaN for a layer without.

    `values` float `(layer, neuron)`, of which NaN are left out; `which` bool of the same shape.
    """
    found = np.full((len(shares), len(values)), np.nan)
    for layer, (row, chosen) in enumerate(zip(values, which & ~np.isnan(values), strict=True)):
        if chosen.any():
            found[:, layer] = np.quantile(row[chosen], shares)
    return found


def _trimmed(least: int, chance: np.ndarray) -> tuple[int, np.ndarray]:
    """A distribution without the negligible outcomes at its ends: sums over the layers of a large model stay short."""
    there = np.flatnonzero(chance > NEGLIGIBLE * chance.max())
    return least + int(there[0]), chance[there[0] : there[-1] + 1]
