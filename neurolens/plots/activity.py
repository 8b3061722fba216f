"""Figures of activity: dead neurons, frequency, and how certain *dead* is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from neurolens import activity
from neurolens.plots.sheet import (
    MARKERS,
    SOLID,
    FigureSpec,
    draw_lines,
    line_legends,
    panels,
    percent,
    shades,
    sheet,
    title_lines,
    words,
)
from neurolens.tables import Neurons


def dead(spec: FigureSpec, runs: Sequence[Neurons], *, confidence: float = activity.CONFIDENCE) -> Figure:
    """Paper, Fig. 1a: percent of each layer's neurons that are dead, and beside it of those silent on text.

    The companion line *includes* the dead neurons: the gap between both is the neurons active on `</s>` only.
    """

    def fact(run: Neurons) -> str:
        bound = activity.dead_upper_bound(run.n_tokens, confidence=confidence)
        return f"{run['dead'].sum():,} dead (frequency ≤ {bound:.1e}), {run['dead_but_bos'].sum():,} on </s> only"

    caption = (
        "Solid: dead, active on no token at all. Dashed: these and the ones that are active on </s> only, the token at"
        " the start of every sequence and between documents. No finite text proves a neuron dead: the frequency given"
        f" beside is what it can have at most ({confidence:.0%} confidence, tokens taken as independent)."
        f"{_meaning(runs)}"
    )
    silent = [run["dead"] | run["dead_but_bos"] for run in runs]
    kinds = {
        "dead: never active": [percent(run["dead"]) for run in runs],
        "dead, or active on </s> only": [percent(which) for which in silent],
    }
    with sheet(spec, caption, runs, fact) as figure:
        ax, nothing = figure.add_subplot(), f"no dead neurons among {_neurons(runs)} neurons"
        draw_lines(ax, runs, kinds, "neurons (% of the layer)", nothing, intervals=_intervals(runs, "dead"))
        title_lines(ax, runs)
        line_legends(figure, ax, runs, list(kinds))
    return figure


def frequency(spec: FigureSpec, runs: Sequence[Neurons]) -> Figure:
    """Paper, Fig. 1b: mean activation frequency per layer among the neurons that are not dead."""
    caption = (
        "Its frequency is the share of tokens, all positions counted, on which it is active. The mean is over the"
        " neurons of a layer that are active at least once; a layer without any has no point."
        f"{_meaning(runs)}"
    )
    means = [100 * activity.mean_frequency_of_alive(run["frequency"], run["dead"]) for run in runs]
    with sheet(spec, caption, runs, lambda run: f"{(~run['dead']).sum():,} not dead") as figure:
        ax = figure.add_subplot()
        ylabel = "mean activation frequency of\nneurons not dead (% of tokens)"
        nothing = f"none of {_neurons(runs)} neurons is ever active:\nno frequency to show"
        draw_lines(ax, runs, {"": means}, ylabel, nothing, intervals=_intervals(runs, "frequency"))
        title_lines(ax, runs)
        line_legends(figure, ax, runs, [""])
    return figure


def saturation(
    spec: FigureSpec, runs: Sequence[Neurons], *, columns: int = 2, most_layers: int = 8, points: int = 64
) -> Figure:
    """Ours: neurons active at least once, against tokens seen: has the text been long enough to call the rest dead?

    Lines for up to `most_layers` layers of a run, evenly spread over those recorded; `columns` panels a row.
    """
    columns = min(columns, len(runs))

    def fact(run: Neurons) -> str:
        late = (run["first_active"] >= run.n_tokens / 2).sum()
        return f"{late:,} first active in the second half of the tokens"

    caption = (
        "A line that still rises at its right end says that more text would find more neurons alive; a flat one, that"
        " the neurons missing to 100% are dead for such text."
    )
    with sheet(spec, caption, runs, fact, height=3.1 * -(-len(runs) // columns) + 0.3) as figure:
        axes = panels(figure, runs, columns, "active at least once\n(% of the layer's neurons)")
        for ax, run in zip(axes, runs, strict=True):
            count = len(run.layers)
            chosen = np.unique(np.linspace(0, count - 1, min(count, most_layers)).round().astype(int))
            tokens, seen = activity.saturation(run["first_active"][chosen], run.n_tokens, points=points)
            share = 100 * seen / max(1, run.shape[1])
            colours = shades(len(chosen), last=0.8)
            for i, y in enumerate(share if run.n_tokens > 0 else ()):
                ax.plot(
                    tokens, y, color=colours[i], marker=MARKERS[i % len(MARKERS)], markevery=(i % 8, 8),
                    label=f"layer {run.layers[chosen[i]]}", clip_on=False, **{**SOLID, "markersize": 4.5},
                )  # fmt: skip
            ax.set(xscale="log", xlim=(1, max(10, run.n_tokens)), ylim=(0, 103), xlabel="tokens seen")
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # the default writes mathtext
            ax.xaxis.set_minor_formatter(NullFormatter())
            if ax.lines:
                ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, handlelength=1.6)
            if not share.any():
                words(ax, f"none of {run['first_active'].size:,} neurons is ever active", 0.7 / columns)
    return figure


def _intervals(runs: Sequence[Neurons], name: str) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """(low, high) in percent of a column of `activity`, `(layer,)` each, a run; None where there is none."""
    tables = [getattr(run, "activity", None) for run in runs]
    return [None if table is None else (100 * table[f"{name}_low"], 100 * table[f"{name}_high"]) for table in tables]


def _meaning(runs: Sequence[Neurons]) -> str:
    """What the bars of `_intervals` are; nothing if there are none."""
    tables = [table for run in runs if (table := getattr(run, "activity", None)) is not None]
    levels = sorted({table.rules["confidence"] for table in tables if "confidence" in table.rules})
    confidence = " or ".join(f"{level:.0%}" for level in levels)
    if not tables:
        return ""
    return f" Thin bars, where longer than the mark: {confidence} intervals, of sequences drawn anew (bootstrap)."


def _neurons(runs: Sequence[Neurons]) -> str:
    """How many neurons there are in all runs."""
    return f"{sum(int(np.prod(run.shape)) for run in runs):,}"
