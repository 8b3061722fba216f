"""Compiled loops over curves: stretches at an extreme, and the same for curves resampled by group.

Nothing but arrays in, arrays out, and no interpreter lock; what the numbers mean stands in curves.py. A curve of 256
positions takes 3 µs on one core, resampled and smoothed: 11 ns a position, of which 20 groups take 5 at least.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# numba compiles to machine code; its type system is not Python's
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false

LOW, HIGH, TURNS, LOOSE = range(4)  # what is counted of a curve's ranges: of never, of always, alternations, not exact


@njit(nogil=True, cache=True)
def _measure(curve, sequences, window, extreme, exact, sums, ranges, counts):  # pragma: no cover - compiled
    """Ranges of a curve int64 `(column,)`: fills `ranges` int64 `(4, any)` with first, stop, always and the sum without
    outer parts, and `counts` int64 `(4,)`; returns how many, and Σ (raw − smoothed)² / (smoothed · (1 − smoothed)).

    `sums` int64 `(column + 1,)` is overwritten.
    """
    columns, shrink = len(curve), (window - 1) // 2
    sums[0] = 0
    for i in range(columns):
        sums[i + 1] = sums[i] + curve[i]
    counts[:] = 0
    found, level, begin, scatter = 0, 0, 0, 0.0
    for i in range(columns + 1):
        now = 9  # the end is no level
        if i < columns:
            low, high = max(0, i - window // 2), min(columns, i + shrink + 1)
            smoothed = (sums[high] - sums[low]) / (sequences * (high - low))
            now = -1 if smoothed <= extreme else (1 if smoothed >= 1 - extreme else 0)
            spread = smoothed * (1 - smoothed)
            if spread > 0:
                scatter += (curve[i] / sequences - smoothed) ** 2 / spread
        if now != level:
            if (level == -1 or level == 1) and i - begin >= window:
                inner = sums[i - shrink] - sums[begin + shrink]
                frequency = inner / (sequences * (i - begin - 2 * shrink))
                counts[HIGH if level == 1 else LOW] += 1
                counts[LOOSE] += frequency > exact and frequency < 1 - exact
                counts[TURNS] += found > 0 and ranges[2, found - 1] != (level == 1)
                ranges[0, found], ranges[1, found], ranges[2, found], ranges[3, found] = begin, i, level == 1, inner
                found += 1
            level, begin = now, i
    return found, scatter


@njit(nogil=True, cache=True)
def find_ranges(curves, sequences, window, extreme, exact):  # pragma: no cover - compiled
    """Ranges of curves int64 `(row, column)`: int64 `(5, range)` of row, first, stop, always and the sum without outer
    parts; int64 `(row, 4)` how many of what; float64 `(row,)` the scatter."""
    rows, columns = curves.shape
    most = columns // window + 1
    sums, each = np.empty(columns + 1, np.int64), np.empty((4, most), np.int64)
    every, total = np.empty((5, rows * most), np.int64), 0
    counts, scatter = np.empty((rows, 4), np.int64), np.empty(rows)
    for row in range(rows):
        found, scatter[row] = _measure(curves[row], sequences, window, extreme, exact, sums, each, counts[row])
        for i in range(found):
            every[0, total] = row
            for j in range(4):  # a slice at once takes numba 3 seconds more to compile
                every[j + 1, total] = each[j, i]
            total += 1
    return every[:, :total], counts, scatter


@njit(nogil=True, cache=True)
def resample_curves(by_group, weights, sequences, window, extreme, exact):  # pragma: no cover - compiled
    """Curves added up by the weights of their groups, and what becomes of them.

    `by_group` int64 `(row, group, column)`, `weights` int64 `(replicate, group)`, `sequences` int64 `(replicate,)`, at
    least 1. Returns mutual information with the column float64 `(replicate, row)`, nats; int64 `(replicate, row, 4)` as
    `find_ranges`, and float64 `(replicate, row)` the scatter.
    """
    rows, groups, columns = by_group.shape
    replicates = len(weights)
    logs = np.zeros(sequences.max() + 1)  # k · log k
    for k in range(2, len(logs)):
        logs[k] = k * math.log(k)
    information, scatter = np.zeros((replicates, rows)), np.empty((replicates, rows))
    counts = np.empty((replicates, rows, 4), np.int64)
    curve, sums = np.empty(columns, np.int64), np.empty(columns + 1, np.int64)
    ranges = np.empty((4, columns // window + 1), np.int64)
    for row in range(rows):
        for i in range(replicates):
            curve[:] = 0
            for group in range(groups):
                weight = weights[i, group]
                if weight:
                    for t in range(columns):
                        curve[t] += weight * by_group[row, group, t]
            size = sequences[i]
            told = 0.0
            for t in range(columns):
                told += logs[curve[t]] + logs[size - curve[t]]
            _, scatter[i, row] = _measure(curve, size, window, extreme, exact, sums, ranges, counts[i, row])
            active, tokens = float(sums[columns]), float(size * columns)
            if 0 < active < tokens:
                apart = active * math.log(active / tokens) + (tokens - active) * math.log(1 - active / tokens)
                information[i, row] = max(0.0, (told - tokens * math.log(size) - apart) / tokens)
    return information, counts, scatter
