"""Figures of what became of neurons from one run to the next of the same model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from neurolens.comparison.transitions import CLASSES, quantiles
from neurolens.plots.sheet import COLOURS, MARKERS, SHADES, FigureSpec, legend, sheet, words
from neurolens.plots.text import distinct

if TYPE_CHECKING:  # it reads runs, which plots do not
    from neurolens.comparison.change import Change

SHORT = dict(zip(CLASSES, ("dead", "token", "n-gram", "positional", "other"), strict=True))
MEANING = (
    "Classes are exclusive, of several that hold the first: dead (never active), token detector, n-gram detector (of"
    " two tokens or more; both by the paper's rules), positional, other."
)
SPREAD = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles of a layer's neurons that bands are drawn between
_BANDS = ("#E4E4E4", "#BDBDBD")  # of the outer quantiles, of the inner ones


def transitions(spec: FigureSpec, changes: Sequence[Change], *, most: int = 8, columns: int = 2) -> Figure:
    """Ours: how many neurons went from each class (row) to each (column), a panel a pair of runs, `most` of them."""
    shown = changes[:most]
    names = distinct([change.pair.name for change in shown], most=2.2)
    caption = (
        f"From one run to the next of the same model, on the same text. {MEANING} Row: class before; column: class"
        " after; the number of neurons, shaded by its share of the row (grey: nobody before). Overlap (Jaccard:"
        " in both / in either) is told beside what independent sets of the same size in each layer would have on"
        " average."
    )
    told = [
        f"• {name}: {change.before.size:,} neurons, {int(change.died.sum()):,} died, {int(change.woke.sum()):,} woke,"
        f" {int(change.changed.sum()):,} of another class; overlap of {_overlaps(change)}."
        for name, change in zip(names, shown, strict=True)
    ]
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    with sheet(spec, "\n".join([caption, *told, *_left_out(changes, most)]), [], str, height=2.9 * rows) as figure:
        for ax, change, name in zip(
            np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).flat, shown, names, strict=False
        ):
            ax.set_title(name, loc="left", fontsize=9)
            _draw_table(ax, change)
        for ax in figure.axes[len(shown) :]:
            ax.set_axis_off()
    return figure


def drift(spec: FigureSpec, changes: Sequence[Change], *, most: int = 6) -> Figure:
    """Ours: how far value vectors turned, and how much more or less often neurons are active, by layer and class.

    A row a pair of runs, `most` of them.
    """
    shown = changes[:most]
    names = distinct([change.pair.name for change in shown], most=2.2)
    low, high = (f"{share:.0%}" for share in (SPREAD[0], SPREAD[-1]))
    caption = (
        "From one run to the next of the same model, on the same text. Left: cosine of a neuron's value vector (what"
        " it adds to the residual stream) before and after; 1: it has not turned. Right: its activation frequency"
        f" after, less that before. Grey: from {low} to {high} of a layer's neurons, dark its middle half; marks: the"
        f" median of each class before. {MEANING}"
    )
    told = [f"• {name}: {_moved(change)}." for name, change in zip(names, shown, strict=True)]
    text = "\n".join([caption, *told, *_left_out(changes, most)])
    with sheet(spec, text, [], str, height=2.5 * len(shown) + 0.5) as figure:
        grid = figure.subplots(len(shown), 2, squeeze=False)
        for (left, right), change, name in zip(grid, shown, names, strict=True):
            left.set_title(f"{name}\nvalue vectors (cosine)", loc="left", fontsize=9)
            right.set_title("frequency (% of tokens, after − before)", loc="left", fontsize=9)
            if np.isnan(change.cosine).all():
                left.set(xticks=(), yticks=())
                words(left, "value vectors are not at hand", 0.4)
            else:
                _draw_spread(left, change, change.cosine)
            _draw_spread(right, change, 100 * change.difference[0])
            right.axhline(0, color="#000000", linewidth=0.6, zorder=1)
        kinds = [name for name in CLASSES if any(name in change.classes for change in shown)]
        handles: list[Any] = [Line2D([], [], linestyle="", **_class_look(name)) for name in kinds]
        handles += [Patch(facecolor=shade) for shade in _BANDS]
        legend(figure, handles, [*kinds, f"{low} to {high}", "middle half"], "top", ncols=4, columnspacing=1.2)
    return figure


def _draw_table(ax: Axes, change: Change) -> None:
    """A table of classes, its cells shaded by their share of the row."""
    told = [number for number, name in enumerate(CLASSES) if name in change.classes]
    table = change.table.sum(0)[np.ix_(told, told)]
    number = table.sum(1, keepdims=True)
    share = np.divide(table, number, out=np.full(table.shape, np.nan), where=number > 0)
    ax.set_facecolor("#EEEEEE")  # of rows that nobody is in
    ax.imshow(share, cmap=SHADES, vmin=0, vmax=1, aspect="auto")
    for row, column in np.argwhere(table):
        r, g, b, _ = colormaps[SHADES](share[row, column])
        ink = "#000000" if 0.21 * r + 0.72 * g + 0.07 * b > 0.45 else "#FFFFFF"
        ax.text(column, row, _short(int(table[row, column])), ha="center", va="center", fontsize=8, color=ink)
    names = [SHORT[CLASSES[number]] for number in told]
    ax.set_xticks(range(len(told)), names, fontsize=8)
    ax.set_yticks(range(len(told)), names, fontsize=8)
    ax.set(xlabel="after", ylabel="before")
    ax.grid(visible=False)


def _short(number: int) -> str:
    """A number that fits into a cell.

    >>> _short(12345), _short(1234567)
    ('12,345', '1.2M')
    """
    return f"{number:,}" if number < 100_000 else f"{number / 1e3:.0f}k" if number < 10**6 else f"{number / 1e6:.1f}M"


def _draw_spread(ax: Axes, change: Change, values: np.ndarray) -> None:
    """Bands between quantiles of each layer's neurons, and the median of each class before."""
    everybody = np.ones(values.shape, bool)
    outer, first, _, third, last = quantiles(values, everybody, SPREAD)
    depth = len(change.layers)
    for shade, bottom, top in zip(_BANDS, (outer, first), (last, third), strict=True):
        ax.bar(change.layers, top - bottom, bottom=bottom, width=0.86, color=shade, zorder=1)
    size = float(np.clip(60 / max(1, depth), 2, 5.5))
    for i, name in enumerate(change.classes):
        of = quantiles(values, change.before == CLASSES.index(name), (0.5,))[0]
        aside = 0.15 * (i - (len(change.classes) - 1) / 2)
        ax.plot(change.layers + aside, of, linestyle="", **{**_class_look(name), "markersize": size})
    layers = change.layers if depth else np.array([0])
    ax.set(xlim=(layers[0] - 0.6, layers[-1] + 0.6), xlabel="layer")
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.grid(visible=False, axis="x")


def _class_look(name: str) -> dict[str, Any]:
    i = CLASSES.index(name)
    return {
        "color": COLOURS[i], "marker": MARKERS[i], "markeredgecolor": "white", "markeredgewidth": 0.4, "zorder": 3,
        "markersize": 6,
    }  # fmt: skip


def _overlaps(change: Change) -> str:
    """`dead 0.82 (by chance 0.11), …`; only classes that some neuron has."""
    told = [
        f"{name} {found.jaccard:.2f} (by chance {found.expected:.2f})"
        for name, found in change.overlaps.items()
        if found.before + found.after
    ]
    return ", ".join(told)


def _moved(change: Change) -> str:
    more, less = change.moved
    cosine = change.cosine[~np.isnan(change.cosine)]
    told = [f"median cosine {np.median(cosine):.3f}"] if len(cosine) else []
    apart, low, _ = change.difference
    if np.isnan(low).all():
        told.append(f"{int((apart > 0).sum()):,} neurons more often active, {int((apart < 0).sum()):,} less often")
    else:
        told.append(f"{more:,} neurons surely more often active, {less:,} less often, of {apart.size:,} (their interval"
                    " is beyond 0)")  # fmt: skip
    return "; ".join(told)


def _left_out(changes: Sequence[Change], most: int) -> list[str]:
    return [f"Left out, for there are more than {most}: {len(changes) - most} pairs."] if len(changes) > most else []
