"""Positional: neurons whose activation depends on where a token stands in its sequence (paper, §5, App. B).

Column 0 holds `</s>` in every sequence, so that a neuron which is active on nothing else seems to depend on the
position: the plug-in estimate takes all columns, as the paper's; whatever decides takes the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurolens.bootstrap import Groups
from neurolens.curves import (
    PositionRules,
    Ranges,
    Types,
    find_periods,
    find_types,
    measure_agreement,
    resample_types,
    tile_positions,
)
from neurolens.information import Information, measure_information, mutual_information
from neurolens.tables import STRENGTHS, TYPES


@dataclass(frozen=True)
class Positions:
    """How much some neurons depend on the position: `plug_in` float64 `(neuron,)` of all columns, nats (paper, §5);
    `rest` of columns from 1 on; `positional` bool `(neuron,)`: rest's corrected information is above the threshold."""

    plug_in: np.ndarray
    rest: Information
    positional: np.ndarray

    def near(self, rules: PositionRules) -> np.ndarray:
        """Which are positional, or nearly: int64 `(any,)`."""
        return np.flatnonzero(self.rest.corrected > rules.near * rules.threshold)


@dataclass(frozen=True)
class Positional:
    """What is known of the positional neurons of a layer, or of a part of it.

    rows        columns of the table of positional neurons, `(row, …)` each (docs/store.md)
    ranges      of `rows`
    replicates  int64 `(replicate, type, strength)`: positional neurons of each kind, resampled; types and strengths as
                in TYPES and STRENGTHS, without the empty ones
    """

    rows: dict[str, np.ndarray]
    ranges: Ranges
    replicates: np.ndarray


def measure_positions(on: np.ndarray, sequences: int, rules: PositionRules) -> Positions:
    """Mutual information of bits and positions: `on` unsigned `(neuron, position)`, of `sequences` tokens each."""
    total = np.full(on.shape[1], sequences)
    rest = measure_information(on[:, 1:], total[1:])
    return Positions(mutual_information(on.astype(np.int64), total), rest, rest.corrected > rules.threshold)


def describe_positional(
    found: Positions,
    chosen: np.ndarray,
    by_group: np.ndarray,
    by_label: np.ndarray,
    sequences: np.ndarray,
    groups: Groups,
    rules: PositionRules,
) -> Positional:
    """Types, intervals and agreement of positional neurons, with how these vary over groups of sequences.

    `chosen` int64 `(any,)`: the neurons of `found` that are positional or near (`Positions.near`); `by_group` unsigned
    `(any, group, position)` and `by_label` unsigned `(any, label, position)`: their activations; `sequences` int
    `(group, label)`; `groups` those of the sequences. Column `neuron` is that of `found`.
    """
    positions, replicates, every = by_group.shape[-1], groups.settings.replicates, int(sequences.sum())
    whole = by_group.sum(1, dtype=np.int64)
    types = find_types(whole, every, rules)
    plug_in, kind, strength = resample_types(by_group, groups.weights, sequences.sum(1), rules)
    corrected, positional = found.rest.corrected[chosen], found.positional[chosen]
    low, high = groups.interval(corrected, plug_in)
    above = corrected + plug_in - np.median(plug_in, axis=0) > rules.threshold
    counts = np.zeros((replicates, len(TYPES), len(STRENGTHS)), np.int64)
    which = np.broadcast_to(np.arange(replicates)[:, None], kind.shape)
    np.add.at(counts, (which[above], kind[above], strength[above]), 1)
    same = above & (kind == types.kind) & (strength == types.strength)
    period, phase = find_periods(types, rules.window(positions))
    rows = {
        "neuron": chosen,
        "type": types.kind,
        "strength": types.strength,
        "mi": found.plug_in[chosen],
        "mi_corrected": corrected,
        "mi_low": low,
        "mi_high": high,
        "p": found.rest.p[chosen],
        "rough": found.rest.rough[chosen],
        "period": period,
        "phase": phase,
        "agreement": measure_agreement(by_label, sequences.sum(0), rules.window(positions)),
        "stability": same.mean(0) if groups.there > 1 else np.full(len(chosen), np.nan),
        "curve": whole,
    }
    kept = np.flatnonzero(positional)
    rows = {name: values[kept] for name, values in rows.items()}
    return Positional(rows, _ranges_of(types.ranges, kept), counts[:, 1:, 1:])


def _ranges_of(ranges: Ranges, kept: np.ndarray) -> Ranges:
    """The ranges of some rows, ascending, which are numbered anew."""
    of = np.isin(ranges.row, kept)
    columns = {name: values[of] for name, values in vars(ranges).items()}
    return Ranges(**{**columns, "row": np.searchsorted(kept, columns["row"])})


def join_positional(parts: list[Positional]) -> Positional:
    """What is known of the neurons of all parts, in their order; there is at least one part."""
    starts = np.cumsum([0, *(len(part.rows["neuron"]) for part in parts)])
    rows = {name: np.concatenate([part.rows[name] for part in parts]) for name in parts[0].rows}
    ranges = {name: np.concatenate([getattr(part.ranges, name) for part in parts]) for name in vars(parts[0].ranges)}
    ranges["row"] = np.concatenate([part.ranges.row + at for part, at in zip(parts, starts, strict=False)])
    return Positional(rows, Ranges(**ranges), np.sum([part.replicates for part in parts], axis=0))


def summarize_positional(
    layers: list[Positional], groups: Groups, neurons: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Positional neurons by kind, by layer and in all, and how the strong oscillatory ones tile the positions.

    `layers` has at least one, of `neurons` each. Returns columns of `results/positions/by_layer`, whose last axis are
    the layers, and those of `results/positions/overall`, `(type, strength)`, and `()` of all kinds together
    (docs/store.md).
    """
    kinds = [
        np.bincount(each.rows["type"] * len(STRENGTHS) + each.rows["strength"], minlength=len(TYPES) * len(STRENGTHS))
        for each in layers
    ]
    count = np.stack(kinds, axis=-1).reshape(len(TYPES), len(STRENGTHS), -1)[1:, 1:]
    replicates = np.stack([each.replicates for each in layers], axis=-1)
    tiling = [
        tile_positions(Types(each.rows["type"], each.rows["strength"], each.ranges), each.rows["curve"].shape[1])
        for each in layers
    ]
    share, shares = count.sum((0, 1)) / max(1, neurons), replicates.sum((1, 2)) / max(1, neurons)
    most = neurons * len(layers)
    columns = {
        **groups.columns("count", count, replicates, most=neurons),
        **groups.columns("share", share, shares),
    }
    overall = {
        **groups.columns("count", count.sum(-1), replicates.sum(-1), most=most),
        **groups.columns("total", count.sum(), replicates.sum((1, 2, 3)), most=most),
    }
    for i, name in enumerate(("tiling_neurons", "tiling_covered", "tiling_expected")):
        columns[name] = np.array([each[i] for each in tiling])
    return columns, overall
