"""Plots: tables of neurons → matplotlib figures that need no paper beside them. The only file that imports matplotlib.

    save(draw("dead", [run.neurons]), "figures", "dead")

Runs differ by colour (distinct in luminance, too) and marker, kinds of line by dash and filling, bins by shade and
hatch: grey print and colour-blind readers lose nothing. Names of runs are text of unknown origin: no mathtext is ever
parsed, and what is not printable or not in the font is shown escaped. pyplot, and with it global state, is not used.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.textpath import TextToPath
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter

from neurolens import NeurolensError, UsageError, activity
from neurolens.tables import Neurons

WIDTH, MARGIN, DPI = 7.2, 0.12, 160  # inches, inches, pixels an inch
FONT, SMALL = "DejaVu Sans", 8.5  # comes with matplotlib; points of the caption
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
METADATA = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}  # no times, no versions
ACTIVE = "A neuron, one unit of a feed-forward block, is active on a token if its output is above 0. "


@dataclass(frozen=True)
class FigureSpec:
    """A figure that can be drawn.

    paper     its number in the paper, or "ours"
    title     what it shows
    function  tables of neurons → Figure
    columns   what it reads of a table
    """

    paper: str
    title: str
    function: Callable[..., Figure]
    columns: tuple[str, ...]


def draw(name: str, runs: Sequence[Neurons]) -> Figure:
    """Draw a figure of `FIGURES` for one or several runs.

    Raises UsageError if there is no such figure or no run, NeurolensError if a table lacks a column.
    """
    if name not in FIGURES:
        raise UsageError(f"no figure {printable(name)}; expected one of {', '.join(FIGURES)}")
    if not runs:
        raise UsageError(f"no run to draw {name} of; expected at least one analysed run")
    for run in runs:
        if missing := [column for column in FIGURES[name].columns if column not in list(run)]:
            raise NeurolensError(
                f"{printable(run.name)} has no column {', '.join(missing)} for {name}; analyse it again"
            )
    return FIGURES[name].function(runs)


def save(figure: Figure, folder: str | Path, name: str, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write `folder/name.format`, each file whole or not at all; the same figure gives the same bytes.

    Returns the paths. Raises UsageError for another format than png or svg, or a name that is no file name.
    """
    if unknown := [kind for kind in formats if kind not in METADATA]:
        raise UsageError(f"no format {printable(unknown[0])}; expected {' or '.join(METADATA)}")
    if not name or Path(name).name != name:
        raise UsageError(f"{printable(name)!r} is no file name; expected for example dead")
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = [Path(folder) / f"{name}.{kind}" for kind in formats]
    for kind, path in zip(formats, paths, strict=True):
        buffer = io.BytesIO()
        with _style():
            figure.savefig(buffer, format=kind, metadata=METADATA[kind])
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(buffer.getvalue())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return paths


def dead(runs: Sequence[Neurons], *, confidence: float = activity.CONFIDENCE) -> Figure:
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
    )
    silent = [run["dead"] | run["dead_but_bos"] for run in runs]
    kinds = {
        "dead: never active": [_percent(run["dead"]) for run in runs],
        "dead, or active on </s> only": [_percent(which) for which in silent],
    }
    with _sheet("dead", caption, runs, fact) as figure:
        _by_layer(figure, runs, kinds, "neurons (% of the layer)", "no dead neurons among {} neurons")
    return figure


def frequency(runs: Sequence[Neurons]) -> Figure:
    """Paper, Fig. 1b: mean activation frequency per layer among the neurons that are not dead."""
    caption = (
        "Its frequency is the share of tokens, all positions counted, on which it is active. The mean is over the"
        " neurons of a layer that are active at least once; a layer without any has no point."
    )
    means = [100 * activity.mean_frequency_of_alive(run["frequency"], run["dead"]) for run in runs]
    with _sheet("frequency", caption, runs, lambda run: f"{(~run['dead']).sum():,} not dead") as figure:
        ylabel = "mean activation frequency of\nneurons not dead (% of tokens)"
        _by_layer(figure, runs, {"": means}, ylabel, "none of {} neurons is ever active:\nno frequency to show")
    return figure


def covering(
    runs: Sequence[Neurons], *, edges: Sequence[int] = (5, 50, 500, 5000), columns: int = 3, most_labels: int = 12
) -> Figure:
    """Paper, Fig. 2 for tokens: alive neurons of the first half of the network by covering number, per layer.

    First half: layers < model_layers / 2, so the middle one of an odd number belongs to it. Bins end at `edges`, the
    last one is open: the first is what a token detector may need (paper, §4), each next one reaches ten times as far.
    Shares are of the neurons that have a covering number (an activation that counts). `columns` panels a row; numbers
    of neurons stand above the bars of up to `most_labels` layers a row.
    """
    columns = min(columns, len(runs))
    depths = [(run.model_layers + 1) // 2 for run in runs]
    labelled = max(depths) * columns <= most_labels

    def first_half(run: Neurons, name: str) -> np.ndarray:
        return run[name][run.layers < run.model_layers / 2]

    def fact(run: Neurons) -> str:
        number, gone = first_half(run, "unigrams_95"), first_half(run, "dead")
        silent = int(((number == 0) & ~gone).sum())
        return f"{(number > 0).sum():,} shown; left out {gone.sum():,} dead, {silent:,} on </s> only"

    percent = " or ".join(f"{n}%" for n in sorted({run.rules["coverage"] for run in runs}))
    caption = (
        f"Its covering number is the least number of distinct tokens that account for {percent} of its activations,"
        " </s> set aside: a low one means that it responds to a handful of tokens. Shown are the layers of the first"
        " half of a network (the middle one of an odd number, too)"
        + ("; above each bar, how many neurons it divides." if labelled else ".")
    )
    starts, ends = [1, *(edge + 1 for edge in edges)], [*edges, np.inf]
    names = [f"{a:,}–{b:,}" for a, b in zip(starts, edges, strict=False)] + [f"over {edges[-1]:,}"]
    looks = [
        {"facecolor": shade, "hatch": hatch, "edgecolor": edge, "linewidth": 0.5}
        for shade, hatch, edge in zip(
            _shades(len(names), last=0.97), np.resize(HATCHES, len(names)),
            np.repeat(["white", "#333333"], [-(-len(names) // 2), len(names) // 2]), strict=True,
        )
    ]  # fmt: skip
    with _sheet("covering", caption, runs, fact, rows=-(-len(runs) // columns)) as figure:
        panels = _panels(figure, runs, columns, "neurons shown (%)", title_pad=14)
        for ax, run, depth in zip(panels, runs, depths, strict=True):
            layers, number = run.layers[run.layers < run.model_layers / 2], first_half(run, "unigrams_95")
            shown, bottom = (number > 0).sum(1), np.zeros(len(number))
            for start, end, look in zip(starts, ends, looks, strict=True):
                share = 100 * ((number >= start) & (number <= end)).sum(1) / np.maximum(1, shown)
                ax.bar(layers, share, bottom=bottom, width=0.85, **look)
                bottom += share
            for layer, count in zip(layers, shown, strict=True) if labelled else ():
                ax.annotate(f"{count:,}", (layer, 100), (0, 2), textcoords="offset points", ha="center", fontsize=8)
            ax.set(xlim=(-0.6, depth - 0.4), ylim=(0, 100), xlabel="layer")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            ax.grid(visible=False)
            if not len(layers):
                _words(ax, "no layer of the first half of the network was recorded", 1 / columns)
            elif not shown.any():
                _words(ax, f"none of {number.size:,} neurons is active on text", 1 / columns)
        _legend(
            figure, [Patch(**look) for look in looks], names, "top", ncols=len(names), handleheight=1.2,
            title="covering number (distinct tokens), from the bottom up", alignment="left", columnspacing=1.4,
        )  # fmt: skip
    return figure


def detectors(runs: Sequence[Neurons]) -> Figure:
    """Paper, Fig. 3a: token detectors per layer: all by the rules of the run, and those that are well supported."""

    def rules(run: Neurons) -> str:
        limit = run.rules
        return (
            f"at most {limit['max_covering']} distinct tokens, on each of which it is active at least"
            f" {limit['min_rate']}% of the time, account for {limit['coverage']}% of its activations (</s> set aside)."
            f" Solid: each token occurs at least {limit['min_occurrences']}×; dashed, well supported: at least"
            f" {limit['support_occurrences']}×, and the neuron is active at least {limit['support_activations']:,}×"
        )

    def fact(run: Neurons) -> str:
        found, supported = run["unigram_detector"].sum(), run["unigram_detector_supported"].sum()
        return f"{found:,} token detectors, {supported:,} well supported" + ("" if common else f"; rules: {rules(run)}")

    common = len({rules(run) for run in runs}) == 1
    caption = "A token detector responds to a handful of tokens, always, and to little else" + (
        f": {rules(runs[0])}." if common else " (rules differ, see below)."
    )
    kinds = {
        "all token detectors": [run["unigram_detector"].sum(1) for run in runs],
        "well supported": [run["unigram_detector_supported"].sum(1) for run in runs],
    }
    with _sheet("detectors", caption, runs, fact) as figure:
        ax = _by_layer(figure, runs, kinds, "token detectors (neurons)", "no token detectors among {} neurons")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return figure


def saturation(runs: Sequence[Neurons], *, columns: int = 2, most_layers: int = 8, points: int = 64) -> Figure:
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
    with _sheet("saturation", caption, runs, fact, rows=-(-len(runs) // columns)) as figure:
        panels = _panels(figure, runs, columns, "active at least once\n(% of the layer's neurons)")
        for ax, run in zip(panels, runs, strict=True):
            count = len(run.layers)
            chosen = np.unique(np.linspace(0, count - 1, min(count, most_layers)).round().astype(int))
            tokens, seen = activity.saturation(run["first_active"][chosen], run.n_tokens, points=points)
            share = 100 * seen / max(1, run.shape[1])
            shades = _shades(len(chosen), last=0.8)
            for i, y in enumerate(share if run.n_tokens > 0 else ()):
                ax.plot(
                    tokens, y, color=shades[i], marker=MARKERS[i % len(MARKERS)], markevery=(i % 8, 8),
                    label=f"layer {run.layers[chosen[i]]}", clip_on=False, **{**SOLID, "markersize": 4.5},
                )  # fmt: skip
            ax.set(xscale="log", xlim=(1, max(10, run.n_tokens)), ylim=(0, 103), xlabel="tokens seen")
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # the default writes mathtext
            ax.xaxis.set_minor_formatter(NullFormatter())
            if ax.lines:
                ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, handlelength=1.6)
            if not share.any():
                _words(ax, f"none of {run['first_active'].size:,} neurons is ever active", 0.7 / columns)
    return figure


FIGURES: dict[str, FigureSpec] = {
    "dead": FigureSpec("1a", "Neurons that are never active", dead, ("dead", "dead_but_bos")),
    "frequency": FigureSpec(
        "1b", "How often the neurons that are not dead are active", frequency, ("frequency", "dead")
    ),
    "covering": FigureSpec("2", "How many tokens a neuron responds to", covering, ("unigrams_95", "dead")),
    "detectors": FigureSpec(
        "3a", "Token detectors by layer", detectors, ("unigram_detector", "unigram_detector_supported")
    ),
    "saturation": FigureSpec(
        "ours", "How certain is dead? Neurons found alive as text goes by", saturation, ("first_active",)
    ),
}


def printable(text: object) -> str:
    """Text of unknown origin as one line: what is not printable, or not in the font of the figures, escaped."""
    return "".join(c if c.isprintable() and ord(c) in _glyphs() else ascii(c)[1:-1] for c in str(text))


def run_names(runs: Sequence[Neurons], *, width: float = 2) -> list[str]:
    """Names for legends: printable, never empty, at most about `width` inches wide, a number where two are the same.

    Long names lose their middle, as runs of one family differ at the end (-step300k) more than there.
    """
    names: list[str] = []
    for run in runs:
        name = unique = _shortened(str(run.name).strip() or "(no name)", width)
        number = 1
        while unique in names:
            number += 1
            unique = f"{name} ({number})"
        names.append(unique)
    return names


def _shortened(text: str, width: float, *, most: int = 128) -> str:
    pieces = [printable(c) for c in text]  # by character: no escape is cut in two
    pieces = pieces if len(pieces) <= most else pieces[: most // 2] + pieces[-most // 2 :]  # does not fit anyway
    name = "".join(pieces)
    while _width(name) > width:
        half = len(pieces) // 2
        del pieces[half]
        name = f"{''.join(pieces[:half])}…{''.join(pieces[half:])}"
    return name


@lru_cache
def _glyphs() -> frozenset[int]:
    """Code points the figures' font has; any other would be drawn as a box."""
    return frozenset(font_manager.get_font(font_manager.findfont(FONT)).get_charmap())


@contextmanager
def _style() -> Iterator[None]:
    """Our settings over matplotlib's own defaults, whatever the user's are; afterwards the user's are back."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


@contextmanager
def _sheet(
    name: str, caption: str, runs: Sequence[Neurons], fact: Callable[[Neurons], str], *, rows: int = 1
) -> Iterator[Figure]:
    """A figure with a title, a body that the `with` block fills, and a caption: an explanation, then a line a run."""
    spec = FIGURES[name]
    source = "" if spec.paper == "ours" else f" After Fig. {spec.paper} of Voita et al. 2023 (arXiv 2309.04827)."
    told = [f"• {name}: {_scope(run)}; {fact(run)}." for name, run in zip(run_names(runs), runs, strict=True)]
    lines = _wrapped("\n".join([f"{ACTIVE}{caption}{source}", *told]), WIDTH - 2 * MARGIN, SMALL)
    head, foot = 0.34, (1.35 * len(lines) + 1.5) * SMALL / 72
    height = max(3.1 * rows + 0.3, 0.2 * len(runs) + 1)  # a long legend needs its room
    total = head + height + foot
    layout = ConstrainedLayoutEngine(rect=(0, foot / total, 1, height / total), w_pad=0.08, h_pad=0.05)
    with _style():
        figure = Figure(figsize=(WIDTH, total), dpi=DPI, layout=layout)
        figure.text(MARGIN / WIDTH, 1 - 0.6 * head / total, spec.title, va="center", fontsize=12, fontweight="bold")
        top = (foot - 0.7 * SMALL / 72) / total
        figure.text(MARGIN / WIDTH, top, "\n".join(lines), va="top", fontsize=SMALL, linespacing=1.35)
        yield figure
        figure.draw_without_rendering()  # settles the layout once, so that every saving has the same
        figure.set_layout_engine("none")
        for ax in figure.axes:  # the solver's last digits depend on memory addresses, and SVG ids on these digits
            ax.set_position(np.round(ax.get_position(original=True).bounds, 5).tolist())


def _by_layer(
    figure: Figure, runs: Sequence[Neurons], kinds: dict[str, list[np.ndarray]], ylabel: str, nothing: str
) -> Axes:
    """Lines over the layers: of each kind a `(layer,)` array a run; the first kind solid, the second its companion."""
    ax, names = figure.add_subplot(), run_names(runs)
    depths = {run.model_layers for run in runs}
    for values, look in zip(kinds.values(), (SOLID, COMPANION), strict=False):
        for i, (run, y) in enumerate(zip(runs, values, strict=True)):
            x = run.layers if len(depths) == 1 else run.layers / max(1, run.model_layers - 1)
            marks = {"marker": MARKERS[i % len(MARKERS)], "markevery": -(-max(1, len(x)) // MOST_MARKERS)}
            ax.plot(x, y, color=COLOURS[i % len(COLOURS)], label=names[i], **marks, **look)
    if len(depths) == 1:
        ax.set(xlabel="layer (0 is the first)", xlim=(-0.5, max(depths) - 0.5))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    else:
        ax.set(xlabel="relative depth: layer / (number of layers − 1), from 0 (first) to 1 (last)", xlim=(-0.03, 1.03))
    top = max(float(y[np.isfinite(y)].max(initial=0)) for values in kinds.values() for y in values)
    ax.set(ylim=(-0.02 * (top or 1), 1.08 * (top or 1)), ylabel=ylabel)
    if not top:
        _words(ax, nothing.format(f"{sum(int(np.prod(run.shape)) for run in runs):,}"), 0.6)
    if len(kinds) > 1:
        looks = [Line2D([], [], color="#555555", marker="o", **look) for look in (SOLID, COMPANION)]
        _legend(figure, looks, list(kinds), "top", ncols=2, handlelength=3)
    if len(runs) == 1:
        ax.set_title(names[0], loc="left", fontsize=10)
    else:
        _legend(figure, ax.get_lines()[: len(runs)], names, "right")
    return ax


def _panels(figure: Figure, runs: Sequence[Neurons], columns: int, ylabel: str, *, title_pad: float = 6) -> list[Axes]:
    """One axes a run, row by row, named after it."""
    grid, panels = figure.add_gridspec(-(-len(runs) // columns), columns), []
    for i, name in enumerate(run_names(runs, width=min(2.5, WIDTH / columns - 0.7))):
        panels.append(figure.add_subplot(grid[divmod(i, columns)]))
        panels[-1].set_title(name, loc="left", fontsize=10 if columns == 1 else 9, pad=title_pad)
        if i % columns == 0:
            panels[-1].set_ylabel(ylabel)
    return panels


def _legend(figure: Figure, handles: Sequence[Any], names: Sequence[str], where: str, **options: Any) -> None:
    """A legend at the "top" or the "right" of what is left for the axes; it takes its room from them."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    x, y, width, height = engine.get()["rect"]
    loc: Any = {"top": "upper left", "right": "upper right"}[where]
    legend = figure.legend(handles, ["?"] * len(names), loc=loc, bbox_to_anchor=(x, y, width, height), **options)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)  # only now: a legend drops labels that begin with an underscore
    box = legend.get_window_extent().transformed(figure.transFigure.inverted())
    if where == "top":
        height -= box.height + MARGIN / figure.get_figheight()
    else:
        width -= box.width + MARGIN / WIDTH
    engine.set(rect=(x, y, width, height))


def _words(ax: Axes, text: str, share: float) -> None:
    """Say in the middle of the axes that there is nothing to show; they are about `share` of the figure wide."""
    lines = "\n".join(_wrapped(text, share * WIDTH - 0.6, 11))
    ax.text(0.5, 0.5, lines, transform=ax.transAxes, ha="center", va="center", fontsize=11)


def _wrapped(text: str, width: float, size: float) -> list[str]:
    """Lines of at most `width` inches in the figures' font (a single longer word stays whole); newlines are kept."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines.append("")
        for word in paragraph.split():
            line = f"{lines[-1]} {word}".strip()
            if lines[-1] and _width(line, size) > width:
                lines.append(word)
            else:
                lines[-1] = line
    return lines


def _width(text: str, size: float = 9) -> float:
    """Inches that a text takes in the figures' font."""
    font = font_manager.FontProperties(family=FONT, size=size)
    return TextToPath().get_text_width_height_descent(text, font, False)[0] / 72


def _scope(run: Neurons) -> str:
    """What was looked at: layers, neurons and tokens."""
    layers = [int(layer) for layer in run.layers]
    which = f"{len(layers)} layers"
    if len(layers) < run.model_layers:
        ranged = len(layers) > 2 and layers[-1] - layers[0] == len(layers) - 1
        named = f"{layers[0]}–{layers[-1]}" if ranged else ", ".join(map(str, layers)) or "none"
        which = f"{len(layers)} of {run.model_layers} layers ({named})"
    return f"{which} × {run.shape[1]:,} neurons, {run.n_tokens:,} tokens"


def _percent(which: np.ndarray) -> np.ndarray:
    """Percent of each layer's neurons: bool `(layer, neuron)` → float64 `(layer,)`; 0 for layers without neurons."""
    return 100 * which.sum(1) / max(1, which.shape[1])


def _shades(count: int, *, last: float) -> list[tuple[float, ...]]:
    """Colours from dark to light, up to `last` of the scale."""
    return [matplotlib.colormaps[SHADES](float(x)) for x in np.linspace(0, last, count)]
