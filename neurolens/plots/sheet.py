"""Sheet: how every figure looks: a title, a body with its legends, a caption that needs no paper beside it.

Runs differ by colour (distinct in luminance, too) and marker, kinds of line by dash and filling, bins by shade and
hatch: grey print and colour-blind readers lose nothing. No mathtext is ever parsed. pyplot, and with it global
state, is not used.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from neurolens.plots.text import FONT, run_names, wrapped
from neurolens.tables import Neurons

WIDTH, MARGIN, HEAD, DPI = 7.2, 0.12, 0.34, 160  # inches: the sheet, beside its text, its title; pixels an inch
SMALL = 8.5  # points of the caption
SHOWN = 100  # pixels an inch that a notebook shows it at: smaller than it is, and sharp
METADATA: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}  # no times, no versions
# The first five differ by ≥ 11 in CIE L*; from the sixth on it takes the markers to tell runs apart in grey.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#6A1B60", "#009E73", "#56B4E9", "#CC79A7", "#D55E00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # 7 and 8 have no common factor: 56 runs differ
MOST_MARKERS = 24  # on a line; of more layers only every second, third, … is marked
SHADES = "cividis"  # for what has an order: monotone in luminance, made for colour-blind readers
HATCHES = ("", "//", "..", "\\\\", "")
# The companion is hollow and larger, so that it shows around the solid line where it lies under it.
SOLID = {"linewidth": 1.6, "markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.4, "zorder": 3}
COMPANION = {"linewidth": 1, "linestyle": (0, (4, 2)), "markersize": 8, "markerfacecolor": "white", "zorder": 2}
STYLE: dict[Any, Any] = {
    "font.family": FONT, "font.size": 9.5, "legend.fontsize": 9, "text.parse_math": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#DDDDDD", "grid.linewidth": 0.6, "hatch.linewidth": 0.7, "legend.frameon": False,
    "savefig.dpi": DPI, "svg.hashsalt": "neurolens", "svg.fonttype": "path",
}  # fmt: skip
ACTIVE = "A neuron, one unit of a feed-forward block, is active on a token if its output is above 0. "


@dataclass(frozen=True)
class FigureSpec:
    """A figure that can be drawn.

    paper     its number in the paper, or "ours"
    title     what it shows
    function  (this, tables, **options) → Figure
    columns   what it reads of a table
    table     which kind of table it draws, as `Run.table` names them
    part      of an analysis, that it needs
    n         length of the n-grams it is about; 0 if it is about none
    """

    paper: str
    title: str
    function: Callable[..., Figure]
    columns: tuple[str, ...]
    table: str = "neurons"
    part: str = "ngrams"
    n: int = 1


@contextmanager
def style() -> Iterator[None]:
    """Our settings over matplotlib's own defaults, whatever the user's are; afterwards the user's are back."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def render(figure: Figure, kind: str) -> bytes:
    """A figure as a file of a kind of `METADATA`: the same bytes for the same figure, whatever the user's settings."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=kind, metadata=METADATA[kind])
    return buffer.getvalue()


class Sheet(Figure):
    """A figure that a notebook shows by itself, as it is saved: without pyplot matplotlib's own are not shown."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return render(self, "png"), {"width": round(SHOWN * self.get_figwidth())}


@contextmanager
def sheet(
    spec: FigureSpec, caption: str, runs: Sequence[Any], fact: Callable[[Any], str], *, height: float = 3.4
) -> Iterator[Figure]:
    """A figure with a title, a body that the `with` block fills, and a caption: an explanation, then a line a run.

    `height` is that of the body in inches; a legend of many runs may need more.
    """
    source = (
        ""
        if spec.paper == "ours"
        else f" After Fig{'s' * (',' in spec.paper)}. {spec.paper} of Voita et al. 2023 (arXiv 2309.04827)."
    )
    told = [f"• {name}: {scope(run)}; {fact(run)}." for name, run in zip(run_names(runs), runs, strict=True)]
    lines = wrapped("\n".join([f"{ACTIVE}{caption}{source}", *told]), WIDTH - 2 * MARGIN, SMALL)
    foot = (1.35 * len(lines) + 1.5) * SMALL / 72  # inches
    height = max(height, 0.2 * len(runs) + 1)
    total = HEAD + height + foot
    layout = ConstrainedLayoutEngine(rect=(0, foot / total, 1, height / total), w_pad=0.08, h_pad=0.05)
    with style():
        figure = Sheet(figsize=(WIDTH, total), dpi=DPI, layout=layout)
        figure.text(MARGIN / WIDTH, 1 - 0.6 * HEAD / total, spec.title, va="center", fontsize=12, fontweight="bold")
        top = (foot - 0.7 * SMALL / 72) / total
        figure.text(MARGIN / WIDTH, top, "\n".join(lines), va="top", fontsize=SMALL, linespacing=1.35)
        yield figure
        if any(ax.get_subplotspec() for ax in figure.axes):
            layout.execute(figure)  # once, so that every saving has the same
        figure.set_layout_engine(None)  # which "none" is not: saving would draw twice for it
        for ax in figure.axes:  # the solver's last digits depend on memory addresses, and SVG ids on these digits
            ax.set_position(np.round(ax.get_position(original=True).bounds, 5).tolist())


def draw_lines(
    ax: Axes,
    runs: Sequence[Any],
    kinds: dict[str, list[np.ndarray]],
    ylabel: str,
    nothing: str,
    *,
    intervals: Sequence[tuple[np.ndarray, np.ndarray] | None] = (),
) -> None:
    """Lines over the layers: of each kind a `(layer,)` array a run; the first kind solid, the second its companion.

    `intervals`: of the first kind, (low, high) a run, `(layer,)` each, drawn as thin bars; None or NaN for none.
    `nothing` is said if no value is above 0.
    """
    names, depths = run_names(runs), {run.model_layers for run in runs}
    places = [run.layers if len(depths) == 1 else run.layers / max(1, run.model_layers - 1) for run in runs]
    for values, look in zip(kinds.values(), (SOLID, COMPANION), strict=False):
        for i, (x, y) in enumerate(zip(places, values, strict=True)):
            marks = {"marker": MARKERS[i % len(MARKERS)], "markevery": -(-max(1, len(x)) // MOST_MARKERS)}
            ax.plot(x, y, color=COLOURS[i % len(COLOURS)], label=names[i], **marks, **look)
    for i, bars in enumerate(intervals):
        if bars is not None:
            ax.vlines(places[i], *bars, color=COLOURS[i % len(COLOURS)], linewidth=0.8, zorder=2)
    if len(depths) == 1:
        ax.set(xlabel="layer (0 is the first)", xlim=(-0.5, max(depths) - 0.5))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    else:
        ax.set(xlabel="relative depth: layer / (number of layers − 1), from 0 (first) to 1 (last)", xlim=(-0.03, 1.03))
    drawn = [*(y for values in kinds.values() for y in values), *(bars[1] for bars in intervals if bars is not None)]
    top = max(float(y[np.isfinite(y)].max(initial=0)) for y in drawn)
    ax.set(ylim=(-0.02 * (top or 1), 1.08 * (top or 1)), ylabel=ylabel)
    if not top:
        words(ax, nothing, 0.6)


def title_lines(ax: Axes, runs: Sequence[Any], text: str = "") -> None:
    """The axes' title: the run if it is the only one (several have a legend), then a text of ours."""
    ax.set_title(": ".join(filter(None, [run_names(runs)[0] if len(runs) == 1 else "", text])), loc="left", fontsize=10)


def line_legends(figure: Figure, ax: Axes, runs: Sequence[Any], kinds: Sequence[str]) -> None:
    """What the lines of `draw_lines` mean: the kinds on top, the runs at the right."""
    if len(kinds) > 1:
        looks = [Line2D([], [], color="#555555", marker="o", **look) for look in (SOLID, COMPANION)]
        legend(figure, looks, kinds, "top", ncols=2, handlelength=3)
    if len(runs) > 1:
        legend(figure, ax.get_lines()[: len(runs)], run_names(runs), "right")


def panels(figure: Figure, runs: Sequence[Any], columns: int, ylabel: str, *, title_pad: float = 6) -> list[Axes]:
    """One axes a run, row by row, named after it."""
    grid, axes = figure.add_gridspec(-(-len(runs) // columns), columns), []
    for i, name in enumerate(run_names(runs, most=min(2.5, WIDTH / columns - 0.7))):
        axes.append(figure.add_subplot(grid[divmod(i, columns)]))
        axes[-1].set_title(name, loc="left", fontsize=10 if columns == 1 else 9, pad=title_pad)
        if i % columns == 0:
            axes[-1].set_ylabel(ylabel)
    return axes


def stack_bars(ax: Axes, layers: np.ndarray, parts: Sequence[np.ndarray], looks: Sequence[dict[str, Any]]) -> None:
    """A bar a layer, its parts (each `(layer,)`) on each other from the bottom up; see `part_looks`."""
    bottom = np.zeros(len(layers))
    for part, look in zip(parts, looks, strict=True):
        ax.bar(layers, part, bottom=bottom, width=0.85, **look)
        bottom = bottom + part
    ax.set(xlabel="layer")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.grid(visible=False)


def part_looks(count: int) -> list[dict[str, Any]]:
    """Looks of the parts of a bar: shades from dark to light with hatches."""
    edges = np.repeat(["white", "#333333"], [-(-count // 2), count // 2])
    return [
        {"facecolor": shade, "hatch": hatch, "edgecolor": edge, "linewidth": 0.5}
        for shade, hatch, edge in zip(shades(count, last=0.97), np.resize(HATCHES, count), edges, strict=True)
    ]


def part_legend(figure: Figure, looks: Sequence[dict[str, Any]], names: Sequence[str], title: str) -> None:
    """What the parts of the bars mean, above the axes."""
    legend(
        figure, [Patch(**look) for look in looks], names, "top", ncols=len(names), handleheight=1.2, title=title,
        alignment="left", columnspacing=1.4,
    )  # fmt: skip


def legend(figure: Figure, handles: Sequence[Any], names: Sequence[str], where: str, **options: Any) -> None:
    """A legend at the "top" or the "right" of what is left for the axes; it takes its room from them."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    x, y, width, height = engine.get()["rect"]
    loc: Any = {"top": "upper left", "right": "upper right"}[where]
    box = figure.legend(handles, ["?"] * len(names), loc=loc, bbox_to_anchor=(x, y, width, height), **options)
    for text, name in zip(box.get_texts(), names, strict=True):
        text.set_text(name)  # only now: a legend drops labels that begin with an underscore
    taken = box.get_window_extent().transformed(figure.transFigure.inverted())
    if where == "top":
        height -= taken.height + MARGIN / figure.get_figheight()
    else:
        width -= taken.width + MARGIN / WIDTH
    engine.set(rect=(x, y, width, height))


def words(ax: Axes, text: str, share: float) -> None:
    """Say in the middle of the axes that there is nothing to show; they are about `share` of the figure wide."""
    lines = "\n".join(wrapped(text, share * WIDTH - 0.6, 11))
    ax.text(0.5, 0.5, lines, transform=ax.transAxes, ha="center", va="center", fontsize=11)


def scope(run: Any) -> str:
    """What was looked at: layers, neurons of a layer where the table says so, and tokens."""
    layers = [int(layer) for layer in run.layers]
    which = f"{len(layers)} layers"
    if len(layers) < run.model_layers:
        ranged = len(layers) > 2 and layers[-1] - layers[0] == len(layers) - 1
        named = f"{layers[0]}–{layers[-1]}" if ranged else ", ".join(map(str, layers)) or "none"
        which = f"{len(layers)} of {run.model_layers} layers ({named})"
    neurons = f" × {run.shape[1]:,} neurons" if isinstance(run, Neurons) else ""
    return f"{which}{neurons}, {run.n_tokens:,} tokens"


def percent(which: np.ndarray) -> np.ndarray:
    """Percent of each layer's neurons: bool `(layer, neuron)` → float64 `(layer,)`; 0 for layers without neurons."""
    return 100 * which.sum(1) / max(1, which.shape[1])


def shades(count: int, *, last: float) -> list[tuple[float, ...]]:
    """Colours from dark to light, up to `last` of the scale."""
    return [matplotlib.colormaps[SHADES](float(x)) for x in np.linspace(0, last, count)]
