"""Figures of positions: curves of positional neurons, and how the ranges of a layer's tile the positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from neurolens.curves import PositionRules, find_stretches, smooth
from neurolens.plots.sheet import COLOURS, FigureSpec, legend, sheet, words
from neurolens.plots.text import run_names
from neurolens.tables import STRENGTHS, TYPES, Positions

KINDS = [(kind, strength) for kind in TYPES[1:] for strength in STRENGTHS[:0:-1]]  # strong before weak
IN_WORDS: dict[str, str] = {kind: kind.replace("_", " ") for kind in TYPES[1:]}
# A type has a colour (distinct in luminance, too) and a marker or hatch; strong is filled, weak is not.
COLOUR: dict[str, str] = dict(zip(TYPES[1:], (COLOURS[2], COLOURS[1], COLOURS[3], COLOURS[0]), strict=True))
ALWAYS, NEVER = "#CFCFCF", "#EFEFEF"  # shades of ranges
_COVERED: dict[str, Any] = {"color": "#000000", "marker": "o", "linestyle": "", "markersize": 5, "zorder": 3}
_CHANCE: dict[str, Any] = {**_COVERED, "marker": "D", "markerfacecolor": "white", "markersize": 5.5, "zorder": 2}
FEW_SEQUENCES = 10  # with fewer no neuron can have 5 activations and 5 silences at a position


def types(spec: FigureSpec, runs: Sequence[Positions]) -> Figure:
    """Paper, Fig. 7: of each type and strength the clearest neuron, its activation frequency by position.

    The clearest: not rough where there is such a one, then the greatest corrected mutual information. Two rows of
    panels a run, strong and weak ones; a panel without such a neuron says so.
    """
    meaning, rest = position_rules(runs)
    caption = (
        f"{meaning} Shown is the neuron with the most information of each kind (a rough one only if all are), named"
        " layer.neuron. Beside it: this information, and in how many of the texts drawn anew from the sequences"
        " (bootstrap) it is positional and of the same kind."
    )
    heights = [1.55 * 2 if len(run["type"]) else 1.1 for run in runs]
    with sheet(spec, caption, runs, lambda run: found(run) + rest(run), height=sum(heights) + 0.5) as figure:
        rows = [row for i, run in enumerate(runs) for row in ((i, 0), (i, 1))[: 1 + bool(len(run["type"]))]]
        ratios = [1 if len(runs[i]["type"]) else 0.5 for i, _ in rows]
        grid, names = figure.add_gridspec(len(rows), len(TYPES) - 1, height_ratios=ratios), run_names(runs, most=1.5)
        for at, (i, row) in enumerate(rows):
            if not len(runs[i]["type"]):
                ax = figure.add_subplot(grid[at, :])
                ax.set_title(names[i], loc="left", fontsize=8)
                ax.set(xticks=(), yticks=())
                words(ax, f"none of {_neurons(runs[i]):,} neurons is positional", 0.9)
                continue
            for column, kind in enumerate(TYPES[1:]):
                ax, strength = figure.add_subplot(grid[at, column]), STRENGTHS[2 - row]
                title = _draw_clearest(ax, runs[i], kind, strength)
                ax.set_title(f"{names[i]}\n{title}" if row == column == 0 else title, loc="left", fontsize=8)
                ax.tick_params(labelleft=column == 0, labelbottom=row == 1)
                if column == 0:
                    ax.set_ylabel("active (% of\nsequences)")
                if row == 1:
                    ax.set_xlabel("position")
        handles = [
            Line2D([], [], color="#777777", linewidth=0.7), Line2D([], [], color="#000000", linewidth=1.5),
            Patch(facecolor=ALWAYS), Patch(facecolor=NEVER),
        ]  # fmt: skip
        legend(figure, handles, ("each position", "smoothed", "close to always", "close to never"), "top", ncols=4)
    return figure


def clearest(run: Positions, kind: str, strength: str) -> int | None:
    """Row of the clearest neuron of a kind; None if there is none."""
    rows = np.flatnonzero((run["type"] == kind) & (run["strength"] == strength))
    order = np.lexsort((rows, -run["mi_corrected"][rows], run["rough"][rows]))
    return int(rows[order[0]]) if len(rows) else None


def _draw_clearest(ax: Axes, run: Positions, kind: str, strength: str) -> str:
    """Draw the curve of the clearest neuron of a kind with its ranges, without position 0; returns a title."""
    ax.set(xlim=(0, run.positions), ylim=(-4, 104), yticks=(0, 50, 100))
    ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    ax.grid(visible=False)
    row = clearest(run, kind, strength)
    if row is None:
        words(ax, "no such neuron", 0.24)
        return f"{IN_WORDS[kind]}, {strength}"
    for first, stop, always in _ranges(run, row):
        ax.axvspan(first - 0.5, stop - 0.5, linewidth=0, zorder=0, color=ALWAYS if always else NEVER)
    on, x = run.curve[row, 1:], np.arange(1, run.positions)
    ax.plot(x, 100 * (on / run.sequences), color="#777777", linewidth=0.5)
    smoothed = smooth(on, run.sequences, rules_of(run).window(run.positions))
    ax.plot(x, 100 * smoothed, color=COLOUR[kind], linewidth=1.5)
    told = [
        f"{run['mi_corrected'][row]:.2f}",
        *([f"{stable:.0%}"] if (stable := run["stability"][row]) == stable else []),  # NaN: nothing to resample
        *(["rough"] if run["rough"][row] else []),
    ]
    return f"{IN_WORDS[kind]}, {strength}\n{run['layer'][row]}.{run['neuron'][row]}: {', '.join(told)}"


def ranges(spec: FigureSpec, runs: Sequence[Positions], *, layer: int | None = None, most: int = 32) -> Figure:
    """Paper, Fig. 9: where the strong oscillatory neurons of a layer are (almost) always active, a row a neuron.

    `layer`: its number; without, the one with the most such neurons, the first of several. Of more than `most` those
    with the most information. Beside: the share of positions that some neuron of a layer covers, by layer, and what
    the same ranges would cover by chance. A row of axes a run.
    """
    meaning, rest = position_rules(runs)
    caption = (
        f"{meaning} Left: a bar is a stretch of positions at which a neuron is active in almost all sequences; a row a"
        " strong oscillatory neuron of the layer, ordered by where it is first; at the bottom, where at least one of"
        " these is. Right: the share of positions that the strong oscillatory neurons of a layer cover so together;"
        " hollow: what they would if each one's were shifted by a random distance. More than that: they divide the"
        " positions among themselves."
    )

    def fact(run: Positions) -> str:
        at, rows, _ = _stack(run, layer, most)
        if not len(rows):
            return f"{found(run)}{rest(run)}"
        which = f"the {most:,} of them with the most information are drawn, " if len(rows) > most else ""
        covered, chance = (
            float(run.tiling[name][run.layers == at][0]) for name in ("tiling_covered", "tiling_expected")
        )
        return (
            f"layer {at}: {len(rows):,} strong oscillatory neuron{'s' * (len(rows) != 1)}, {which}all"
            f" together cover {covered:.0%} of the positions, {chance:.0%} by chance; {found(run)}{rest(run)}"
        )

    stacks = [_stack(run, layer, most) for run in runs]
    heights = [0.155 * max(6, len(kept) + 2) + 0.75 for *_, kept in stacks]
    with sheet(spec, caption, runs, fact, height=sum(heights) + 0.4) as figure:
        grid = figure.add_gridspec(len(runs), 2, width_ratios=(5, 2), height_ratios=heights)
        for i, (run, name, (at, _, rows)) in enumerate(zip(runs, run_names(runs, most=2.5), stacks, strict=True)):
            ax, beside = figure.add_subplot(grid[i, 0]), figure.add_subplot(grid[i, 1])
            ax.set_title(f"{name}: layer {at}" if len(rows) else name, loc="left", fontsize=9)
            _draw_stack(ax, run, rows)
            if not len(rows):
                which = f" in layer {layer}" if layer is not None else f" in {len(run.layers):,} layers"
                words(ax, f"no strong oscillatory neuron{which}", 0.6)
            _draw_tiling(beside, run, at if len(rows) else None)
        looks = [Line2D([], [], **look) for look in (_COVERED, _CHANCE)]
        legend(figure, looks, ("covered by the neurons of a layer together", "by chance"), "top", ncols=2)
    return figure


def _stack(run: Positions, layer: int | None, most: int) -> tuple[int, np.ndarray, np.ndarray]:
    """(layer's number, rows of its strong oscillatory neurons, up to `most` of them with the most information).

    Without `layer` that with the most such neurons; −1 if no layer was recorded.
    """
    neurons = run.tiling["tiling_neurons"]
    if layer is None:
        layer = int(run.layers[neurons.argmax()]) if len(neurons) else -1
    rows = np.flatnonzero((run["layer"] == layer) & (run["type"] == "oscillatory") & (run["strength"] == "strong"))
    return layer, rows, np.sort(rows[np.argsort(-run["mi_corrected"][rows], kind="stable")[:most]])


def _draw_stack(ax: Axes, run: Positions, rows: np.ndarray) -> None:
    """Where some rows are active, from turn to turn, on each other, the first one on top; below, all together."""
    stretches = {int(row): find_stretches(run.ranges, int(row), run.positions) for row in rows}
    bars = {row: [(first, stop - first) for first, stop in each] for row, each in stretches.items()}
    order = sorted(bars, key=lambda row: (bars[row][0] if bars[row] else (run.positions, 0), row))
    for y, row in enumerate(order):
        ax.broken_barh([(x - 0.5, wide) for x, wide in bars[row]], (y - 0.4, 0.8), facecolor=COLOUR["oscillatory"])
    every = [(x - 0.5, wide) for row in order for x, wide in bars[row]]
    ax.broken_barh(every, (len(order) + 0.1, 0.8), facecolor="#000000")
    named = [f"{run['layer'][row]}.{run['neuron'][row]}" for row in order]
    ax.set_yticks([*range(len(order)), len(order) + 0.5] if order else [], [*named, "any"] if order else [])
    ax.tick_params(axis="y", labelsize=8, length=0)
    ax.set(xlim=(0, run.positions), ylim=(len(order) + 1.1, -0.7), xlabel="position")
    ax.grid(visible=False, axis="y")


def _draw_tiling(ax: Axes, run: Positions, layer: int | None) -> None:
    """Share of positions covered, and by chance, of the layers that have such neurons; the layer drawn is shaded."""
    some = run.tiling["tiling_neurons"] > 0
    if some.any():  # the layout fails on a line of nothing that is not clipped
        for column, look in (("tiling_expected", _CHANCE), ("tiling_covered", _COVERED)):
            ax.plot(run.layers[some], 100 * run.tiling[column][some], clip_on=False, **look)
    if layer is not None:
        ax.axvspan(layer - 0.5, layer + 0.5, color="#EEEEEE", linewidth=0, zorder=0)
    ax.set(xlim=(-0.5, run.model_layers - 0.5), ylim=(0, 103), xlabel="layer", ylabel="positions (%)")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))


def _ranges(run: Positions, row: int) -> list[tuple[int, int, bool]]:
    """(first, stop, always) of a row's ranges, in their order."""
    mine = np.flatnonzero(run.ranges["row"] == row)
    return [(int(run.ranges["first"][i]), int(run.ranges["stop"][i]), bool(run.ranges["always"][i])) for i in mine]


def rules_of(run: Positions) -> PositionRules:
    """The rules that a run's positions were analysed with."""
    return PositionRules(**{field.name: run.rules[field.name] for field in fields(PositionRules)})


def position_rules(runs: Sequence[Positions]) -> tuple[str, Callable[[Positions], str]]:
    """What a positional neuron is, and its types, by the rules of the runs: for the caption; what a run's line adds.

    Rules that differ between the runs go to the lines.
    """
    windows = " or ".join(map(str, sorted({rules_of(run).window(run.positions) for run in runs})))

    def told(rules: PositionRules) -> str:
        low, exact = rules.extreme, rules.exact
        return (
            f"above {rules.threshold:g}. Types go by the curve of its frequency by position, smoothed over w positions,"
            f" and its ranges: at least w positions where it is close to never (≤ {_percent(low)}) or close to always"
            f" (≥ {_percent(1 - low)}); w is {windows}. Oscillatory: ranges of never and of always alternate at least"
            f" {rules.alternations}×; both extremes: there are both; one extreme: of one kind only; other: no range."
            f" Strong: inside all ranges it is active in ≤ {_percent(exact)} or ≥ {_percent(1 - exact)} of the"
            f" sequences (other: the curve is as smooth as sampling lets it be, p > {rules.scatter_p:g}); else weak"
        )

    common = len({rules_of(run) for run in runs}) == 1
    rough = " Rough ones have so few activations, or silences, at each position that this is not sure."
    rough *= any(run["rough"].any() for run in runs)
    shared = told(rules_of(runs[0])) if common else "above a threshold (rules differ, see below)"
    return (
        "The activity of a positional neuron depends on the position in the sequence: their mutual information (nats,"
        f" at most 0.69), less what it is by chance, is {shared}. Position 0, </s>, is left out.{rough}",
        lambda run: "" if common else f"; rules: {told(rules_of(run))}",
    )


def found(run: Positions) -> str:
    """How many sequences and how many positional neurons of which kind a run has, and how sure that is."""
    told = f"{run.sequences:,} sequences of {run.positions:,}"
    number, low, high = run.total
    between = f" ({run.rules['confidence']:.0%}: {low:,.0f}–{high:,.0f})" if low is not None and number else ""
    told += f"; {number:,}{between} of {_neurons(run):,} neurons positional"
    both = {
        kind: [int(((run["type"] == kind) & (run["strength"] == strength)).sum()) for strength in STRENGTHS[:0:-1]]
        for kind in TYPES[1:]
    }
    if kinds := [f"{IN_WORDS[kind]} {strong:,} + {weak:,}" for kind, (strong, weak) in both.items() if strong + weak]:
        told += f", strong + weak: {', '.join(kinds)}"
    if rough := int(run["rough"].sum()):
        told += f"; {rough:,} rough"
    if run.sequences < FEW_SEQUENCES:
        told += "; so few sequences tell little"
    return told


def _neurons(run: Positions) -> int:
    """How many neurons were looked at."""
    return len(run.layers) * run.neurons_per_layer


def _percent(share: float) -> str:
    return f"{100 * share:.6g}%"
