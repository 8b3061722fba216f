"""Figure of labels: neurons active on one kind of text only, or on all but one, and how much a label tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from neurolens.plots.sheet import COLOURS, MARKERS, MOST_MARKERS, SHADES, WIDTH, FigureSpec, legend, sheet, words
from neurolens.plots.text import distinct, run_names, width
from neurolens.tables import ByLabel

QUANTILES = {0.5: (0, (1, 1.5)), 0.9: (0, (4, 2)), 0.99: "-"}  # of the neurons' label information; dashes of the lines
PANELS = {"only": "one label only", "silent": "all but one label"}  # columns and titles
_SOLID = {"linewidth": 1.4, "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.4, "zorder": 3}
_ALL = {"linewidth": 0.8, "linestyle": (0, (4, 2)), "markersize": 6.5, "markerfacecolor": "white", "zorder": 2}
_INFORMATION: dict[str, Any] = {"color": "#000000", "linewidth": 1.2, "marker": "o", "markersize": 3.5}
_NOTHING = "one label: nothing to compare"


def contrast(spec: FigureSpec, runs: Sequence[ByLabel], *, most_lines: int = 5, most: int = 24) -> Figure:
    """Ours: by layer, neurons active in one label only, neurons silent in one label only, information of the label.

    A row a run. Up to `most_lines` labels are lines, more are rows of shades, at most `most`: those with the most such
    neurons.
    """
    least = " or ".join(f"{n:g}" for n in sorted({run.rules["least_expected"] for run in runs}))
    shown = [_most(run, most) for run in runs]
    as_lines = [len(run.coords["label"]) <= most_lines for run in runs]
    named = list(dict.fromkeys(run.coords["label"][i] for run, of, line in zip(runs, shown, as_lines, strict=True)
                               if line for i in of))  # fmt: skip
    looks = {
        label: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, label in enumerate(named)
    }
    caption = (
        "A label names the kind of a text. Left: neurons that are active on texts of one label and on no other token."
        " Middle: neurons that are active in every label but one, under the name of that one. Well supported: their"
        f" silence is hardly chance, as {least} activations or more were to be expected in each label without any, if"
        " the label did not matter (those that come in bursts counted as fewer)."
        + (" Solid: these; dashed: all, also the others." if any(as_lines) else "")
        + (" Shades: these alone, in % of the layer." if not all(as_lines) else "")
        + " With two labels left and middle are the same neurons. Right: how much a label says about activity, their"
        " mutual information less what it is by chance (nats), of the neurons that are not dead: half, 90% and 99% of"
        " a layer's have at most so much."
    )
    heights = [2.5 if line else max(2.5, 1.2 + 0.15 * len(of)) for of, line in zip(shown, as_lines, strict=True)]
    room = 0.25 * -(-len(named) // 4) + 0.6
    with sheet(spec, caption, runs, lambda run: _fact(run, most), height=sum(heights) + room) as figure:
        grid = figure.add_gridspec(len(runs), 3, height_ratios=heights)
        for row, (run, name) in enumerate(zip(runs, run_names(runs, most=1.4), strict=True)):
            axes = [figure.add_subplot(grid[row, column]) for column in range(3)]
            for ax, (column, title) in zip(axes, PANELS.items(), strict=False):
                first = column == "only"
                title += "" if as_lines[row] else " (%)"
                ax.set_title(f"{name}\n{title}" if first else title, loc="left", fontsize=9)
                if as_lines[row]:
                    _draw_lines(ax, run, column, looks)
                    ax.set_ylabel("neurons (% of the layer)" if first else "")
                else:
                    _draw_shades(figure, ax, run, column, shown[row])
                    ax.tick_params(labelleft=first)
            _draw_information(axes[2], run)
            for ax in axes:
                ax.set(xlim=(-0.5, run.model_layers - 0.5), xlabel="layer")
                ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        _legends(figure, looks)
    return figure


def _most(run: ByLabel, most: int) -> list[int]:
    """Indices of at most so many labels, ascending: those of which the most neurons are, or are silent in."""
    number = run["only"].sum(1) + run["silent"].sum(1)
    return sorted(np.argsort(-number, kind="stable")[:most].tolist())


def _draw_lines(ax: Axes, run: ByLabel, column: str, looks: dict[str, dict[str, Any]]) -> None:
    """Percent of each layer's neurons, a line a label: all of a column and, solid, the well supported ones."""
    labels = list(run.coords["label"])
    if len(labels) < 2:
        ax.set(ylim=(0, 1), yticks=())
        words(ax, _NOTHING, 0.3)
        return
    marked, top = -(-max(1, len(run.layers)) // MOST_MARKERS), 0.0
    for name, kind in ((f"{column}_supported", _SOLID), (column, _ALL)):
        for label, share in zip(labels, _percent(run, name), strict=True):
            top = max(top, float(share.max(initial=0)))
            ax.plot(run.layers, share, markevery=marked, **looks[label], **kind)
    ax.set_ylim(-0.02 * (top or 1), 1.08 * (top or 1))
    if not top:
        words(ax, "no such neuron", 0.3)


def _draw_shades(figure: Figure, ax: Axes, run: ByLabel, column: str, shown: list[int]) -> None:
    """Percent of each layer's neurons that are well supported, a row a label, a column a layer of the model."""
    share = np.full((len(shown), run.model_layers), np.nan)
    share[:, run.layers] = _percent(run, f"{column}_supported")[shown]
    top = float(np.nan_to_num(share).max(initial=0))
    mesh = ax.pcolormesh(
        np.arange(run.model_layers + 1) - 0.5, np.arange(len(shown) + 1) - 0.5, share, cmap=SHADES, vmin=0,
        vmax=top or 1, rasterized=True,
    )  # fmt: skip
    names = distinct([run.coords["label"][i] for i in shown], most=1.1)
    ax.set_yticks(range(len(shown)), names, fontsize=8)
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.grid(visible=False)
    bar = figure.colorbar(mesh, ax=ax, aspect=30)
    bar.ax.tick_params(labelsize=8)
    bar.ax.yaxis.set_major_locator(MaxNLocator(4))
    if not top:
        words(ax, "no such neuron", 0.2)


def _draw_information(ax: Axes, run: ByLabel) -> None:
    """Quantiles of the label information of each layer's neurons that are not dead."""
    ax.set_title("information (nats)", loc="left", fontsize=9)
    information, dead = run.neurons["label_mi_corrected"], run.neurons["dead"]
    values = np.full((len(QUANTILES), len(run.layers)), np.nan)
    for layer, (row, gone) in enumerate(zip(information, dead, strict=True)):
        if not gone.all():
            values[:, layer] = np.quantile(row[~gone], list(QUANTILES))
    if len(run.coords["label"]) < 2 or not np.isfinite(values).any():
        ax.set(ylim=(0, 1), yticks=())
        words(ax, _NOTHING if len(run.coords["label"]) < 2 else "no neuron is ever active", 0.3)
        return
    for line, dash in zip(values, QUANTILES.values(), strict=True):
        ax.plot(run.layers, line, linestyle=dash, markevery=-(-len(line) // MOST_MARKERS), **_INFORMATION)
    top, bottom = float(np.nanmax(values)), min(0.0, float(np.nanmin(values)))
    spread = top - bottom or 1
    ax.set_ylim(bottom - 0.02 * spread, top + 0.08 * spread)


def _legends(figure: Figure, looks: dict[str, dict[str, Any]]) -> None:
    """What the lines mean: labels above, kinds below."""
    kinds = {f"{q:.0%} of neurons below": {"linestyle": dash, **_INFORMATION} for q, dash in QUANTILES.items()}
    if looks:
        names = distinct(list(looks), most=1.5)
        columns = int((WIDTH - 0.3) / (max(width(name) for name in names) + 0.6))
        marks = [Line2D([], [], **look, **_SOLID) for look in looks.values()]
        legend(figure, marks, names, "top", ncols=max(1, columns), columnspacing=1.2)
        grey = {"color": "#555555", "marker": "o"}
        kinds = {"well supported": {**grey, **_SOLID}, "all": {**grey, **_ALL}, **kinds}
    handles = [Line2D([], [], **look) for look in kinds.values()]
    legend(figure, handles, list(kinds), "top", ncols=5, handlelength=2.6, columnspacing=1.0, fontsize=8)


def _percent(run: ByLabel, column: str) -> np.ndarray:
    """A column of counts in percent of each layer's neurons: float64 `(label, layer)`."""
    return 100 * run[column] / max(1, run.neurons.shape[1])


def _fact(run: ByLabel, most: int) -> str:
    count = {name: int(run[name].sum()) for name in ("only", "only_supported", "silent", "silent_supported")}
    labels = len(run.coords["label"])
    return (
        f"{labels:,} label{'s' * (labels != 1)}{f', the {most} with the most such neurons shown' * (labels > most)};"
        f" {count['only']:,} neurons active in one label only ({count['only_supported']:,} well supported),"
        f" {count['silent']:,} in all but one ({count['silent_supported']:,} well supported)"
    )
