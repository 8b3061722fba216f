"""Counts: how often each neuron is on, by category. They add: over blocks, shards, data sets.

Two shapes. `Counts` is a dense table for few categories. `SparseCounts` is a list of (category, on) for every
neuron, for tokens and n-grams, where neurons × categories cannot exist (7.4 GB a layer at 66b for tokens alone).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from neurolens import NeurolensError, kernels, lanes
from neurolens.nested import Intervals, Nested
from neurolens.variables import Variable

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


def sum_categories(values: np.ndarray, category: np.ndarray, categories: int) -> np.ndarray:
    """Sums of columns of one category: `(neuron, column)` and int `(column,)` → `(neuron, categories)`; 0 for none."""
    order = np.argsort(category, kind="stable")
    present, first = np.unique(category[order], return_index=True)
    sums = np.zeros((len(values), categories), values.dtype)
    if len(present):
        sums[:, present] = np.add.reduceat(values[:, order], first, axis=1)
    return sums


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
        sums = np.zeros(len(self.starts) - 1, np.int64)
        some = self.starts[1:] > self.starts[:-1]  # reduceat knows no empty stretch
        if some.any():
            sums[some] = np.add.reduceat(self.on, self.starts[:-1][some], dtype=np.int64)
        return sums


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
    covering, least, activations = kernels.covering(counts.starts, counts.on, share)
    within = (covering > 0) & (covering <= limit)
    kept = kernels.choose(counts.starts, counts.category, counts.on, least, within, top)
    neuron = np.searchsorted(counts.starts, kept, side="right") - 1
    on, category = counts.on[kept].astype(np.int64), counts.category[kept].astype(np.int64)
    return Reduced(activations, covering, least, neuron, category, on)


def tabulate(rows: np.ndarray, variable: Variable) -> Counts:
    """Dense counts of a variable.

    `rows` uint64 `(neuron, words)`; bit i of a row belongs to code i of the variable (`Variable.in_order`).
    """
    on = np.zeros((len(rows), variable.categories), np.uint32)
    kernels.scatter(rows, variable.codes, on)
    return Counts(on, variable.total)


def tabulate_sparse(
    rows: np.ndarray, nested: Nested, *, chosen: np.ndarray | None = None, entries: int = LIST_ENTRIES
) -> Iterator[tuple[np.ndarray, list[SparseCounts]]]:
    """Sparse counts of nested variables in one pass, some neurons at a time: (which rows, counts by variable).

    `rows` and variables as in `tabulate`; `chosen` integer `(any,)`: only these rows. At a time as many as have
    `entries` activations together (one, if it alone has more), so that memory does not depend on how many there are.
    """
    chosen = np.arange(len(rows)) if chosen is None else chosen
    levels, table = len(nested.variables), np.zeros(len(nested.parent), np.uint32)
    set_bits = np.concatenate([[0], np.cumsum(kernels.count_bits(rows, chosen))])
    first = 0
    while first < len(chosen):
        last = int(np.searchsorted(set_bits, set_bits[first] + entries, side="right")) - 1
        part = chosen[first : max(first + 1, last)]
        size = int(set_bits[first + len(part)] - set_bits[first]) + 1
        starts = np.zeros((levels, len(part) + 1), np.int64)
        category, on = np.empty((levels, size), np.int32), np.empty((levels, size), np.uint32)
        kernels.runs(rows, part, nested.codes, nested.parent, nested.base, nested.complete, table, starts, category, on)
        finest_last = zip(range(levels - 1, -1, -1), nested.variables, strict=True)
        yield (
            part,
            [
                SparseCounts(starts[k], category[k, : starts[k, -1]], on[k, : starts[k, -1]], variable.total)
                for k, variable in finest_last
            ],
        )
        first += len(part)


def tabulate_reduced(rows: np.ndarray, nested: Nested, *, share: int, limits: Sequence[int], top: int) -> list[Reduced]:
    """Nested variables counted and reduced: what is kept of each variable.

    `rows` and variables as in `tabulate`, `limits` by variable. Which way a row is counted — by set bit, or by
    interval where a neuron is active often — changes the time it takes and nothing else.
    """
    set_bits = kernels.count_bits(rows, np.arange(len(rows)))
    intervals = nested.intervals
    by_interval = sum(lanes.RUN_COST * len(runs.stop) + lanes.GRAM_COST * len(runs.often) for runs in intervals)
    silent, dense = set_bits == 0, set_bits * lanes.BIT_COST > by_interval
    none = np.zeros(silent.sum(), np.int64)
    nothing = Reduced(none, none, none, none[:0], none[:0], none[:0])
    parts = [(np.flatnonzero(silent), [nothing] * len(intervals))]
    falling = np.argsort(-set_bits, kind="stable")
    falling, full = falling[: np.count_nonzero(~silent)], np.count_nonzero(dense & ~silent)
    rest = full % lanes.LANES  # a group that is not full costs as much as one that is
    if set_bits[falling[full - rest : full]].sum() * lanes.BIT_COST <= lanes.LANES * by_interval:
        full -= rest
    chosen, found, again = _reduce_dense(rows, falling[:full], intervals, share, limits, top)
    parts.append((chosen, found))
    sparse = np.concatenate([falling[full:], again])
    for part, counts in tabulate_sparse(rows, nested, chosen=sparse):
        found = [reduce_counts(each, share=share, limit=n, top=top) for each, n in zip(counts, limits, strict=True)]
        parts.append((part, found))
    return [_join([(chosen, found[k]) for chosen, found in parts]) for k in range(len(intervals))]


def _join(parts: list[tuple[np.ndarray, Reduced]]) -> Reduced:
    """What was kept of all rows, from some rows at a time."""
    order = np.argsort(np.concatenate([chosen for chosen, _ in parts]))
    activations, covering, least = (
        np.concatenate([getattr(found, name) for _, found in parts])[order]
        for name in ("activations", "covering", "least")
    )
    neuron = np.concatenate([chosen[found.neuron] for chosen, found in parts])
    category, on = (np.concatenate([getattr(found, name) for _, found in parts]) for name in ("category", "on"))
    return Reduced(activations, covering, least, neuron, category, on)


def _reduce_dense(
    rows: np.ndarray, dense: np.ndarray, intervals: list[Intervals], share: int, limits: Sequence[int], top: int
) -> tuple[np.ndarray, list[Reduced], np.ndarray]:
    """The rows `dense` by interval: (which, what is kept by variable, those to be counted the other way)."""
    found, again, kept = lanes.count_lanes(
        rows,
        dense,
        tuple(runs.stop for runs in intervals),
        tuple(runs.code for runs in intervals),
        tuple(runs.once for runs in intervals),
        tuple(runs.often for runs in intervals),
        tuple(runs.few for runs in intervals),
        tuple(runs.common for runs in intervals),
        share,
        tuple(limits),
        top,
    )
    number = np.cumsum(~again) - 1
    kept = kept[:, ~again[kept[1]]]
    reduced = []
    for k in range(len(intervals)):
        _, neuron, category, on = kept[:, kept[0] == k]
        activations, covering, least = found[:, k, ~again]
        reduced.append(Reduced(activations, covering, least, number[neuron], category, on))
    return dense[~again], reduced, dense[again]
