"""Curves: activation frequency by position, its extreme ranges, and the types they make (paper, §5, Fig. 7).

Column 0 of a curve holds `</s>` in every sequence and is not looked at. A *range* is a stretch of at least w positions
on which the smoothed curve is at an extreme, close to never or close to always. The types are the paper's, the rules
by which they are told are ours:

oscillatory    ranges of never and of always alternate at least three times
both_extremes  not so, but there are some of either: mostly a threshold
one_extreme    ranges of one kind alone
other          no range

*Strong* if in every range, without its outer parts, the frequency is exactly that; of *other*, if the scatter around
the smoothed curve is what binomial sampling explains. Else *weak*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from scipy.special import gammaincc

from neurolens import UsageError
from neurolens.tables import STRENGTHS, TYPES

_, OSCILLATORY, BOTH_EXTREMES, ONE_EXTREME, OTHER = range(len(TYPES))
_, WEAK, STRONG = range(len(STRENGTHS))


@dataclass(frozen=True)
class PositionRules:
    """What makes a neuron positional, and of which type.

    threshold     corrected mutual information above which a neuron is positional, nats (paper, §5: 0.05, plug-in)
    extreme       τ: close to never is a smoothed frequency ≤ τ, close to always ≥ 1 − τ (ours)
    exact         ε: never, and always, of strong ones: pooled frequency ≤ ε, or ≥ 1 − ε (ours)
    windows       the curve is smoothed over w = T / windows positions, but at least `least_window`; a range is at
                  least as long (ours)
    least_window  (ours)
    alternations  between never and always that make a neuron oscillatory (ours)
    scatter_p     of *other*: scatter more improbable than this under binomial sampling makes it weak (ours)
    near          share of the threshold from which on neurons are resampled, too: some replicates may be above (ours)
    """

    threshold: float = 0.05
    extreme: float = 0.05
    exact: float = 0.005
    windows: int = 64
    least_window: int = 3
    alternations: int = 3
    scatter_p: float = 0.05
    near: float = 0.5

    def __post_init__(self) -> None:
        for name, below in (("threshold", np.log(2)), ("extreme", 0.5), ("exact", 0.5), ("scatter_p", 1), ("near", 1)):
            if not 0 <= getattr(self, name) < below:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least 0 and below {below:.3g}")
        for name, least in (("windows", 1), ("least_window", 2), ("alternations", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least {least}")

    def window(self, positions: int) -> int:
        """w, in positions, for sequences of `positions`."""
        return max(self.least_window, round(positions / self.windows))


@dataclass(frozen=True)
class Ranges:
    """Stretches of positions at an extreme, by row, then position; a row of a table each.

    row              int64, which curve
    first, stop      int64, the range is positions [first, stop)
    always           bool, else never
    frequency        float64, pooled without the outer parts (half a window at both ends)
    n                int64, tokens that it is pooled of
    """

    row: np.ndarray
    first: np.ndarray
    stop: np.ndarray
    always: np.ndarray
    frequency: np.ndarray
    n: np.ndarray


@dataclass(frozen=True)
class Types:
    """Types of curves: `kind` and `strength` uint8 `(row,)`, indices into TYPES and STRENGTHS, never 0; `ranges`."""

    kind: np.ndarray
    strength: np.ndarray
    ranges: Ranges


def smooth(on: np.ndarray, sequences: int, window: int) -> np.ndarray:
    """Running mean of curves: counts `(…, column)` of `sequences` tokens each → frequency float64 `(…, column)`.

    The window reaches `window // 2` columns back and `(window − 1) // 2` ahead, and is cut off at the ends.
    """
    sums = np.zeros((*on.shape[:-1], on.shape[-1] + 1), np.int64)
    np.cumsum(on, axis=-1, dtype=np.int64, out=sums[..., 1:])
    columns = np.arange(on.shape[-1])
    low = np.maximum(0, columns - window // 2)
    high = np.minimum(on.shape[-1], columns + (window - 1) // 2 + 1)
    # rows of memory are curves: numpy adds up what lies otherwise in an order that depends on the number of rows
    return np.ascontiguousarray((sums[..., high] - sums[..., low]) / (sequences * (high - low)))


def find_types(on: np.ndarray, sequences: int, rules: PositionRules, *, independent: float | None = None) -> Types:
    """Types of curves: `on` unsigned `(row, position)`, counts of `sequences` tokens each, at least one.

    `independent`: as how many sequences they scatter, if some are counted several times; None for all of them.
    """
    from neurolens import ranges  # numba, which figures do without

    window, curves = rules.window(on.shape[1]), on[:, 1:].astype(np.int64)
    found, counts, scatter = ranges.find_ranges(curves, sequences, window, rules.extreme, rules.exact)
    row, first, stop, always, inner = found
    n = sequences * (stop - first - 2 * ((window - 1) // 2))
    stretches = Ranges(row, first + 1, stop + 1, always.astype(bool), inner / n, n)  # column 0 stands before them
    return Types(*_decide(counts, scatter, independent or sequences, on.shape[1], rules), stretches)


def resample_types(
    by_group: np.ndarray, weights: np.ndarray, sequences: np.ndarray, rules: PositionRules
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(information, kind, strength) of resampled curves: float64, nats, plug-in, and uint8, `(replicate, row)` each.

    `by_group` unsigned `(row, group, position)`, `weights` int64 `(replicate, group)`, `sequences` int64 `(group,)`; a
    replicate has sequences. It scatters as fewer sequences than it counts, some of which it counts several times (Kish
    1965).
    """
    from neurolens import ranges  # numba, which figures do without

    positions, drawn = by_group.shape[-1], weights @ sequences
    curves = by_group[:, :, 1:].astype(np.int64)
    window = rules.window(positions)
    information, counts, scatter = ranges.resample_curves(curves, weights, drawn, window, rules.extreme, rules.exact)
    independent = drawn**2 / (weights**2 @ sequences)
    return information, *_decide(counts, scatter, independent[:, None], positions, rules)


def _decide(
    counts: np.ndarray, scatter: np.ndarray, independent: np.ndarray | float, positions: int, rules: PositionRules
) -> tuple[np.ndarray, np.ndarray]:
    """(kind, strength) uint8 `(…)` from what is counted of ranges, int64 `(…, 4)`, and the scatter, float64 `(…)`.

    Scatter of `independent` sequences is χ² with a degree of freedom a column: binomial sampling. A curve that is
    smoothed with itself in the window has 1 − 1/w of the variance around it.
    """
    low, high, turns, loose = np.moveaxis(counts, -1, 0)
    some = low + high > 0
    kind = np.select(
        [~some, turns >= rules.alternations, (low > 0) & (high > 0)], [OTHER, OSCILLATORY, BOTH_EXTREMES], ONE_EXTREME
    )
    likely = gammaincc((positions - 1) / 2, scatter * independent / (1 - 1 / rules.window(positions)) / 2)
    strong = np.where(some, loose == 0, likely > rules.scatter_p)
    return kind.astype(np.uint8), np.where(strong, STRONG, WEAK).astype(np.uint8)


def find_periods(types: Types) -> tuple[np.ndarray, np.ndarray]:
    """(period, phase) of oscillatory curves in positions: float64 `(row,)` each, NaN for the others and under 3 turns.

    From the turns of a curve, each halfway between a range and the next one of the other kind: least squares of turns
    up and turns down at one distance, the period. Phase: the middle of what is between a turn up and the next one
    down, modulo the period. The ends of a sequence, which cut ranges off, are no turns.
    """
    period, phase = np.full((2, len(types.kind)), np.nan)
    found = types.ranges
    for row in np.flatnonzero(types.kind == OSCILLATORY):
        mine = slice(*np.searchsorted(found.row, [row, row + 1]))
        first, stop, always = found.first[mine], found.stop[mine], found.always[mine]
        turns = np.flatnonzero(always[1:] != always[:-1])
        if len(turns) < 3:
            continue  # rules may call it oscillatory all the same; one distance of two kinds cannot be told
        at, up = (stop[turns] + first[turns + 1]) / 2, always[turns + 1]
        number = np.arange(len(turns)) // 2  # of its kind: they alternate
        equations = np.stack([number, up, ~up], axis=1).astype(np.float64)
        (distance, first_up, first_down), *_ = np.linalg.lstsq(equations, at)
        period[row] = distance
        phase[row] = ((first_up + first_down + (0 if up[0] else distance) - 1) / 2) % distance
    return period, phase


def measure_agreement(on: np.ndarray, sequences: np.ndarray, window: int) -> np.ndarray:
    """How alike a neuron's curves of different labels are: mean correlation over pairs, float64 `(row,)` in [−1, 1].

    `on` unsigned `(row, label, position)`, `sequences` int `(label,)`. Pearson's correlation of smoothed curves,
    column 0 left out; 0 for a pair of which one is constant; NaN with fewer than two labels that have sequences.
    """
    there = np.flatnonzero(sequences > 0)
    if len(there) < 2 or not len(on):
        return np.full(len(on), np.nan)
    curves = np.ascontiguousarray(np.stack([smooth(on[:, i, 1:], int(sequences[i]), window) for i in there], axis=1))
    centred = curves - curves.mean(-1, keepdims=True)
    length = np.sqrt((centred**2).sum(-1, keepdims=True))
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-12)
    pairs, together = list(combinations(range(len(there)), 2)), np.zeros(len(on))
    for i, j in pairs:  # one by one: how numpy adds up several depends on the number of rows
        together += (unit[:, i] * unit[:, j]).sum(-1)
    return together / len(pairs)


def find_stretches(ranges: Mapping[str, np.ndarray], row: int, positions: int) -> list[tuple[int, int]]:
    """Stretches [first, stop) of positions from 1 on, from one turn of a curve to the next, on which it is active.

    `ranges`: columns of Ranges. Ranges end where the window of the smoothing meets what is beyond; halfway to the next
    one of the other kind is where the curve turns, of an indicator exactly. Before the first and after the last range
    nothing turns.
    """
    mine = slice(*np.searchsorted(ranges["row"], [row, row + 1]))
    first, stop, always = (ranges[name][mine] for name in ("first", "stop", "always"))
    turns = np.flatnonzero(always[1:] != always[:-1])
    ends = [1, *((stop[turns] + first[turns + 1]) // 2).tolist(), positions]
    active = bool(len(always)) and bool(always[0])
    return [stretch for i, stretch in enumerate(pairwise(ends)) if (i % 2 == 0) == active] if len(always) else []


def tile_positions(types: Types, positions: int) -> tuple[int, float, float]:
    """How a layer's strong oscillatory neurons tile the positions (paper, §5, Fig. 9).

    How many there are, the share of positions 1 … T − 1 on which at least one of them is active (`find_stretches`), and
    the share to expect if each were shifted round by a random distance (ours). 0, 0, 0 if there is none.
    """
    chosen = np.flatnonzero((types.kind == OSCILLATORY) & (types.strength == STRONG))
    covered, missed = np.zeros(positions, bool), 1.0
    for row in chosen:
        mine = np.zeros(positions, bool)
        for first, stop in find_stretches(vars(types.ranges), int(row), positions):
            mine[first:stop] = True
        covered |= mine
        missed *= 1 - mine[1:].mean()
    return len(chosen), float(covered[1:].mean()) if len(chosen) else 0.0, 1 - missed


@dataclass(frozen=True)
class Stages:
    """Two stages over depth (paper, §5): `last` is the index of the first one's last layer; `explained` the share of
    the layers' differences that they explain, `by_chance` that of the best cut of the same layers in random order."""

    last: int
    explained: float
    by_chance: float


def find_stages(share: np.ndarray, *, orders: int = 200, seed: int = 0) -> Stages | None:
    """Cut the layers in two so that those of a stage are alike: `share` float64 `(kind, layer)`, of any kinds.

    Least squares of a constant each stage, over all kinds together; `by_chance` is a mean over random orders (ours: the
    paper tells the stages by eye). None for fewer than three layers or if all are the same.
    """
    layers = share.shape[1]
    if layers < 3 or (share == share[:, :1]).all():
        return None
    apart = share - share.mean(1, keepdims=True)
    whole = float((apart**2).sum())

    def best(of: np.ndarray) -> tuple[int, float]:
        ahead = np.cumsum(of, axis=1)[:, :-1]
        size = np.arange(1, layers)
        between = (ahead**2 * (1 / size + 1 / (layers - size))).sum(0)  # sums of both stages cancel: means are 0
        return int(between.argmax()), float(between.max()) / whole

    last, explained = best(apart)
    rng = np.random.default_rng(seed)
    chance = np.mean([best(apart[:, rng.permutation(layers)])[1] for _ in range(orders)])
    return Stages(last, explained, float(chance))
