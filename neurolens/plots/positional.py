"""Figures of positional neurons by kind: where in the network they are, how many of each kind a run has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count as count_up
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from neurolens.curves import find_stages
from neurolens.plots.positions import COLOUR, IN_WORDS, KINDS, found, position_rules
from neurolens.plots.sheet import WIDTH, FigureSpec, legend, panels, sheet, words
from neurolens.plots.text import run_names, width
from neurolens.tables import STRENGTHS, TYPES, Positions

_MARKER: dict[str, str] = dict(zip(TYPES[1:], ("o", "s", "^", "D"), strict=True))
_SIZE: dict[str, float] = dict(zip(TYPES[1:], (1, 0.85, 1, 0.72), strict=True))  # so that all look as large
_HATCH: dict[str, str] = dict(zip(TYPES[1:], ("////", "....", "\\\\\\\\", "xxxx"), strict=True))
_BAND = 0.86  # of a layer's width, that its marks may take
_NUMBER = 0.09  # inches a layer, below which numbers beside each other would touch
_LEAST_ROWS = 8  # of marks, that an axes has room for


def positional(
    spec: FigureSpec,
    runs: Sequence[Positions],
    *,
    columns: int | None = None,
    smallest: float = 0.055,
    largest: float = 0.12,
    heights: Sequence[float] = (1.1, 1.8, 2.6),
) -> Figure:
    """Paper, Figs. 8, 16: a mark a positional neuron, on top of its layer's others; shape and colour: its type.

    Marks of a layer stand in as many columns as keeps them largest, between `smallest` and `largest` inches. Where not
    all fit, a mark stands for several neurons of one kind, which is said; panels are as high as the least of `heights`
    (inches) in which it stands for as few as in any. All panels, `columns` a row, are alike, so that they compare.
    """
    depth = max(run.model_layers for run in runs)
    columns = columns or (3 if depth <= 6 else 2 if depth <= 12 else 1)
    columns = -(-len(runs) // -(-len(runs) // columns))  # 2 + 2, not 3 + 1
    spacing = (WIDTH / columns - 0.75) / max(1, depth)  # inches a layer, about
    by_kind = [_by_kind(run) for run in runs]
    heights = heights[1:] if columns == len(runs) else heights
    counts = np.concatenate(by_kind, axis=1)
    fits = [(height, _fit(counts, spacing, height, smallest=smallest, largest=largest)) for height in heights]
    height, fit = min(fits, key=lambda each: each[1].each)
    meaning, rest = position_rules(runs)
    mark = (
        "A mark is a positional neuron in the layer"
        if fit.each == 1
        else f"A mark is {fit.each:,} positional neurons of one kind in the layer, a smaller one fewer"
    )
    widest = max((width(f"{number:,}", 8) for number in counts.sum(0)), default=0)
    numbered, turned = spacing >= _NUMBER, widest > spacing - 0.02
    room = 0.05 + numbered * (widest if turned else 0.12)  # inches, for the numbers
    caption = f"{meaning} {mark}; those of a kind are together, row by row from the bottom."
    caption += " Above: how many neurons they are." * numbered
    with sheet(
        spec, caption, runs, lambda run: f"{found(run)}{_stages(run)}{rest(run)}",
        height=(height + 0.95) * -(-len(runs) // columns) + 0.5,
    ) as figure:  # fmt: skip
        axes = panels(figure, runs, columns, "positional neurons")
        for ax, run, number in zip(axes, runs, by_kind, strict=True):
            _draw_marks(ax, run.layers, number, fit)
            if numbered:
                _draw_numbers(ax, run.layers, number, fit, turned)
            top = fit.rows * fit.across * fit.each * (1 + room / height)
            ax.set(xlim=(-0.5, run.model_layers - 0.5), ylim=(0, top), xlabel="layer")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            ax.grid(visible=False, axis="x")
            if fit.each > 1 and numbered:  # a mark's height is not exact, the numbers are
                ax.set_yticks(())
            if not number.any():
                words(ax, f"none of {len(run.layers) * run.neurons_per_layer:,} neurons is positional", 0.8 / columns)
        legend(
            figure, [Line2D([], [], markersize=7, **_look(*kind)) for kind in KINDS],
            [f"{IN_WORDS[kind]}, {strength}" for kind, strength in KINDS], "top", ncols=len(TYPES) - 1,
            columnspacing=1.2, handletextpad=0.4, handlelength=1.4,
        )  # fmt: skip
    return figure


def _by_kind(run: Positions) -> np.ndarray:
    """How many positional neurons of each of KINDS each layer has: int64 `(kind, layer)`."""
    count = run.by_layer["count"]
    return np.stack([count[TYPES.index(kind) - 1, STRENGTHS.index(strength) - 1] for kind, strength in KINDS])


@dataclass(frozen=True)
class _Fit:
    """How marks are laid out: neurons a mark, marks across a layer, rows there is room for, size of a mark (inches),
    from mark to mark (layers)."""

    each: int
    across: int
    rows: int
    size: float
    step: float


def _fit(counts: np.ndarray, spacing: float, height: float, *, smallest: float, largest: float) -> _Fit:
    """A layout in which all of `counts` int `(kind, layer)` fit, each layer `spacing` × `height` inches.

    As few neurons a mark as lets marks be `smallest` inches, of 1, 2, 5, 10, …; then the largest marks; then the
    fewest across. A mark a kind is allowed in any case, and one across, however little room there is.
    """
    band = _BAND * spacing
    for each in (digit * 10**power for power in count_up() for digit in (1, 2, 5)):
        marks = int((-(-counts // each)).sum(0).max(initial=0))
        fits = []
        for across in range(1, max(1, int(band / smallest)) + 1):
            rows = max(_LEAST_ROWS, -(-marks // across))
            size = min(largest, band / across, height / rows)
            fits.append(_Fit(each, across, rows, size, min(_BAND / across, 1.3 * size / spacing)))
        fit = max(fits, key=lambda fit: (round(fit.size, 6), -fit.across))
        if fit.size >= min(smallest, band) or marks <= len(counts):
            return fit
    raise AssertionError


def _draw_marks(ax: Axes, layers: np.ndarray, counts: np.ndarray, fit: _Fit) -> None:
    """Marks of each kind, row by row from the bottom, the last row in the middle of its layer.

    `counts` int `(kind, layer)`. y is in neurons: a full row of marks is `across` · `each` of them.
    """
    marks, points = -(-counts // fit.each), 72 * 0.82 * fit.size
    start, every = np.cumsum(marks, axis=0) - marks, marks.sum(0)
    for kind, number, first, neurons in zip(KINDS, marks, start, counts, strict=True):
        layer = np.repeat(np.arange(len(layers)), number)
        place = np.arange(len(layer)) - np.repeat(np.cumsum(number) - number, number) + first[layer]
        row, column = np.divmod(place, fit.across)
        wide = np.minimum(fit.across, every[layer] - row * fit.across)
        x, y = layers[layer] + fit.step * (column + 0.5 - wide / 2), (row + 0.5) * fit.across * fit.each
        share = np.minimum(1, neurons[layer] / fit.each - (place - first[layer]))  # of the neurons that a mark may be
        for each in np.unique(share):
            size = points * _SIZE[kind[0]] * max(0.5, float(np.sqrt(each)))  # areas are shares, but all are seen
            ax.plot(x[share == each], y[share == each], markersize=size, **_look(*kind))


def _draw_numbers(ax: Axes, layers: np.ndarray, counts: np.ndarray, fit: _Fit, turned: bool) -> None:
    """How many neurons there are, above the marks of each layer that has any."""
    marks = (-(-counts // fit.each)).sum(0)
    for layer, number, whole in zip(layers, counts.sum(0), marks, strict=True):
        if number:
            ax.annotate(
                f"{number:,}", (layer, -(-whole // fit.across) * fit.across * fit.each), (0, 2),
                textcoords="offset points", ha="center", va="bottom", fontsize=8, rotation=90 if turned else 0,
            )  # fmt: skip


def _look(kind: str, strength: str) -> dict[str, Any]:
    """The mark of a type and strength."""
    face = COLOUR[kind] if strength == "strong" else "white"
    return {
        "marker": _MARKER[kind], "linestyle": "", "markerfacecolor": face, "markeredgecolor": COLOUR[kind],
        "markeredgewidth": 0.7,
    }  # fmt: skip


def _stages(run: Positions) -> str:
    """Where the run's layers are best cut in two, for its line; nothing if they are too few or all alike."""
    if not len(run.layers):
        return ""
    stages = find_stages(run.shares)
    if stages is None:
        return ""
    first, then = int(run.layers[stages.last]), int(run.layers[stages.last + 1])
    return (
        f"; cut in two between layers {first} and {then}, where numbers and types differ most, the two stages explain"
        f" {stages.explained:.0%} of the differences between layers (of layers in random order: {stages.by_chance:.0%})"
    )


def training(spec: FigureSpec, runs: Sequence[Positions], *, most_numbers: int = 6) -> Figure:
    """Paper, Figs. 10, 11: positional neurons of each kind, bars a run in the order given, as steps of a training.

    A panel a type, strong and weak ones beside each other; of up to `most_numbers` runs they have their numbers.
    """
    meaning, rest = position_rules(runs)
    levels = sorted({run.rules["confidence"] for run in runs if "confidence" in run.rules})
    confidence = " or ".join(f"{level:.0%}" for level in levels)
    caption = (
        f"{meaning} Bars are the positional neurons of a run in all layers recorded; runs in the order they were given,"
        " as of steps in training or variants of a model; they compare if their layers and texts are the same."
    )
    if levels:
        caption += f" Thin bars: {confidence} intervals, of sequences drawn anew (bootstrap)."
    caption += " Each panel has its own scale."
    names = run_names(runs, most=1.6)
    turned = max(width(name, 9) for name in names) > (WIDTH / 2 - 0.6) / len(runs) - 0.1
    x, spare = np.arange(len(runs)), max(0, 3 - len(runs)) / 2  # few bars stay narrow
    with sheet(spec, caption, runs, lambda run: found(run) + rest(run), height=4.2 + turned) as figure:
        for row, (ax, kind) in enumerate(zip(figure.subplots(2, 2, sharex=True).flat, TYPES[1:], strict=True)):
            ax.set_title(IN_WORDS[kind], loc="left", fontsize=9)
            top = 0.0
            for aside, strength in ((-0.2, "strong"), (0.2, "weak")):
                at = TYPES.index(kind) - 1, STRENGTHS.index(strength) - 1
                count, low, high = (
                    np.array([run.overall[name][at] for run in runs]) for name in ("count", "count_low", "count_high")
                )
                ends = np.fmax(count, high)  # NaN: no interval
                ax.bar(x + aside, count, width=0.36, **_bar(kind, strength))
                bars = ax.vlines(x + aside, low, high, color="#000000", linewidth=0.8)
                bars.set_path_effects([withStroke(linewidth=1.6, foreground="white")])  # seen on a dark bar, too
                for place, number, end in zip(x + aside, count, ends, strict=True):
                    if number and len(runs) <= most_numbers:
                        ax.annotate(
                            f"{number:,}", (place, end), (0, 2), textcoords="offset points", ha="center", fontsize=8
                        )
                top = max(top, float(ends.max()))
            ax.set(xlim=(-0.6 - spare, len(runs) - 0.4 + spare), ylim=(0, 1.15 * (top or 1)))
            ax.set_xticks(x, names, rotation=90 if turned else 0)
            ax.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
            ax.grid(visible=False, axis="x")
            if row % 2 == 0:
                ax.set_ylabel("positional neurons")
            if not any(run.overall["count"][TYPES.index(kind) - 1].any() for run in runs):
                words(ax, "no such neuron", 0.4)
        grey = "#555555"
        looks = [Patch(facecolor=grey), Patch(facecolor="white", edgecolor=grey, hatch=_HATCH["oscillatory"])]
        legend(figure, looks, ("strong", "weak"), "top", ncols=2)
    return figure


def _bar(kind: str, strength: str) -> dict[str, Any]:
    """The part of a bar that is a type and strength."""
    look = {"facecolor": COLOUR[kind], "edgecolor": "white", "linewidth": 0.5}
    return (
        look
        if strength == "strong"
        else {"facecolor": "white", "edgecolor": COLOUR[kind], "hatch": _HATCH[kind], "linewidth": 0.8}
    )
