"""Counts: how often each neuron is on, by category. They add: over blocks, shards, data sets.

Two shapes. `Counts` is a dense table for few categories. `SparseCounts` is a list of (category, on) for every
neuron, for tokens and n-grams, where neurons × categories cannot exist (7.4 GB a layer at 66b for tokens alone).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from neurolens import NeurolensError, kernels, lanes
from neurolens.bits import popcount
from neurolens.variables import Intervals, Variable

LIST_ENTRIES = 1 << 22  # entries of a list held at a time (8 bytes each, for every variable): 100 MB a thread


@dataclass(frozen=True)
class Counts:
    """`on` unsigned `(neuron, category)`: activations; `total` int64 `(category,)`: tokens."""

    on: np.ndarray
    total: np.ndarray

    def __add__(self, other: Counts) -> Counts:
        """Counts of the two sets of tokens together. Raises NeurolensError if neurons or categories differ."""
        if self.on.shape != other.on.shape:
            raise NeurolensError(f"counts of shape {self.on.shape} and {other.on.shape} do not add")
        total = self.total + other.total
        width = np.result_type(self.on, other.on, _width(total))  # compact counts would wrap around in their own type
        return Counts(np.add(self.on, other.on, dtype=width), total)

    def rate(self) -> np.ndarray:
        """P(active | category): float64 `(neuron, category)`, NaN for a category without tokens."""
        with np.errstate(invalid="ignore"):
            return self.on / self.total

    def compact(self) -> np.ndarray:
        """`on` in the smallest unsigned type, uint16 or wider, that any count over `total` fits."""
        return self.on.astype(_width(self.total))


def _width(total: np.ndarray) -> type[np.unsignedinteger]:
    most = int(total.max(initial=0))
    return np.uint16 if most < 1 << 16 else np.uint32 if most < 1 << 32 else np.uint64


@dataclass(frozen=True)
class SparseCounts:
    """For each neuron the categories it was active on.

    starts    int64 `(neuron + 1,)`: the entries of neuron n are `[starts[n], starts[n + 1])`
    category  int32 `(entry,)`, each category at most once a neuron, in no promised order
    on        uint32 `(entry,)`: activations, > 0
    total     int64 `(category,)`: tokens of each category in the corpus
    """

    starts: np.ndarray
    category: np.ndarray
    on: np.ndarray
    total: np.ndarray

    def neuron(self) -> np.ndarray:
        """The neuron of every entry: int64 `(entry,)`."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def activations(self) -> np.ndarray:
        """Activations that have a category: int64 `(neuron,)`."""
        sums = np.concatenate([[0], np.cumsum(self.on, dtype=np.int64)])
        return sums[self.starts[1:]] - sums[self.starts[:-1]]


@dataclass(frozen=True)
class Reduced:
    """What is kept of sparse counts: they add, this does not.

    activations  int64 `(neuron,)`: those that have a category
    covering     int64 `(neuron,)`: least number of categories that account for `share`% of them, 0 for none
    least        int64 `(neuron,)`: activations on the last category the greedy cover takes, 0 for none
    neuron, category, on
                 int64 `(kept,)`: every category with at least `least` activations of a neuron whose covering number is
                 within `limit`, and the `top` categories of every neuron (of equal ones the smallest); no order
    """

    activations: np.ndarray
    covering: np.ndarray
    least: np.ndarray
    neuron: np.ndarray
    category: np.ndarray
    on: np.ndarray


def reduce_counts(counts: SparseCounts, *, share: int, limit: int, top: int) -> Reduced:
    """Covering numbers, covering sets and the largest counts of each neuron; `share` in percent."""
    covering, least = kernels.covering(counts.starts, counts.on, share)
    within = (covering > 0) & (covering <= limit)
    kept = kernels.choose(counts.starts, counts.category, counts.on, least, within, top)
    neuron = np.searchsorted(counts.starts, kept, side="right") - 1
    on, category = counts.on[kept].astype(np.int64), counts.category[kept].astype(np.int64)
    return Reduced(counts.activations(), covering, least, neuron, category, on)


def tabulate(rows: np.ndarray, variable: Variable) -> Counts:
    """Dense counts of a variable.

    `rows` uint64 `(neuron, words)`; bit i of a row belongs to code i of the variable (`Variable.in_order`).
    """
    on = np.zeros((len(rows), variable.categories), np.uint32)
    kernels.scatter(rows, variable.codes, on)
    return Counts(on, variable.total)


def tabulate_sparse(
    rows: np.ndarray, variables: Sequence[Variable], *, entries: int = LIST_ENTRIES
) -> Iterator[tuple[slice, list[SparseCounts]]]:
    """Sparse counts of several variables in one pass, a stretch of neurons at a time: (neurons, counts by variable).

    `rows` and `variables` as in `tabulate`. A stretch holds as many neurons as have `entries` activations together
    (one, if it alone has more), so that memory does not depend on the number of neurons.
    """
    codes = np.stack([variable.codes for variable in variables])
    table = np.zeros((len(variables), max(variable.categories for variable in variables)), np.uint32)
    set_bits = np.concatenate([[0], np.cumsum(popcount(rows.view(np.uint8)))])
    first = 0
    while first < len(rows):
        last = int(np.searchsorted(set_bits, set_bits[first] + entries, side="right")) - 1
        neurons = slice(first, max(first + 1, last))
        size = int(set_bits[neurons.stop] - set_bits[first]) + 1
        starts = np.zeros((len(variables), neurons.stop - first + 1), np.int64)
        category, on = np.empty((len(variables), size), np.int32), np.empty((len(variables), size), np.uint32)
        kernels.runs(rows[neurons], codes, table, starts, category, on)
        yield (
            neurons,
            [
                SparseCounts(starts[k], category[k, : starts[k, -1]], on[k, : starts[k, -1]], variable.total)
                for k, variable in enumerate(variables)
            ],
        )
        first = neurons.stop


def tabulate_reduced(
    rows: np.ndarray, variables: Sequence[Variable], *, share: int, limits: Sequence[int], top: int
) -> Iterator[tuple[np.ndarray, list[Reduced]]]:
    """Several variables counted and reduced, some neurons at a time: (which rows, what is kept by variable).

    `rows` and `variables` as in `tabulate`, `limits` by variable. Every row comes once; which way it is counted — by
    set bit, or by interval where a neuron is active often — changes the time it takes and nothing else.
    """
    set_bits = popcount(rows.view(np.uint8))
    runs = sum(len(variable.intervals.stop) for variable in variables)
    often = sum(len(variable.intervals.often) for variable in variables)
    by_interval = lanes.RUN_COST * runs + lanes.GRAM_COST * often
    dense = np.flatnonzero(set_bits * lanes.BIT_COST * len(variables) > by_interval)
    others = [np.flatnonzero(set_bits * lanes.BIT_COST * len(variables) <= by_interval)]
    words, before = (np.empty((rows.shape[1] + 1, lanes.LANES), kind) for kind in (np.uint64, np.uint32))
    for first in range(0, len(dense), lanes.LANES):
        chosen = dense[first : first + lanes.LANES]
        side_by_side = np.zeros((lanes.LANES, rows.shape[1]), np.uint64)
        side_by_side[: len(chosen)] = rows[chosen]
        lanes.widen(side_by_side, words, before)
        found = [
            _reduce_lanes(side_by_side, words, before, variable.intervals, share, limit, top)
            for variable, limit in zip(variables, limits, strict=True)
        ]
        again = np.any([again for _, again in found], axis=0)[: len(chosen)]
        others.append(chosen[again])
        yield chosen[~again], [_rows_of(each, np.flatnonzero(~again)) for each, _ in found]
    sparse = np.concatenate(others)
    for part, counts in tabulate_sparse(rows[sparse], variables):
        yield (
            sparse[part],
            [
                reduce_counts(each, share=share, limit=limit, top=top)
                for each, limit in zip(counts, limits, strict=True)
            ],
        )


def _reduce_lanes(
    rows: np.ndarray, words: np.ndarray, before: np.ndarray, runs: Intervals, share: int, limit: int, top: int
) -> tuple[Reduced, np.ndarray]:
    """What is kept of one variable, and which rows must be counted the other way: bool `(LANES,)`."""
    sums = np.empty((len(runs.often) + 1, lanes.LANES), np.uint32)
    lanes.add_intervals(words, before, runs.stop, runs.code, sums)
    activations, covering, least, again, lane, category, on = lanes.reduce_lanes(
        rows, runs.once, sums, runs.often, runs.common, share, limit, top
    )
    return Reduced(activations, covering, least, lane, category, on), again


def _rows_of(found: Reduced, rows: np.ndarray) -> Reduced:
    """Only these rows, ascending, renumbered from 0."""
    kept = np.isin(found.neuron, rows)
    return Reduced(
        found.activations[rows],
        found.covering[rows],
        found.least[rows],
        np.searchsorted(rows, found.neuron[kept]),
        found.category[kept],
        found.on[kept],
    )
