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

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.textpath import TextToPath
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter

from neurolens import NeurolensError, UsageError
from neurolens.activity import CONFIDENCE, dead_upper_bound, mean_frequency_of_alive, saturation
from neurolens.neurons import Neurons

WIDTH, MARGIN, DPI = 7.2, 0.12, 160  # inches, inches, pixels an inch
FONT, CAPTION_SIZE, LINE_HEIGHT = "DejaVu Sans", 8.5, 1.35  # a font every matplotlib has; points; of a font size
# The first five differ by ≥ 11 in CIE L*; from the sixth on markers tell runs of similar luminance apart.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#6A1B60", "#009E73", "#56B4E9", "#CC79A7", "#D55E00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # 7 and 8 have no common factor: 56 runs differ
SHADES = "cividis"  # for what has an order: monotone in luminance, made for colour-blind readers
HATCHES = ("", "///", "...", "\\\\\\", "")
STYLE = {
    "font.family": FONT, "font.size": 9.5, "text.parse_math": False, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6, "legend.frameon": False, "legend.fontsize": 9, "lines.markersize": 5.5,
    "hatch.linewidth": 0.7, "savefig.dpi": DPI, "svg.hashsalt": "neurolens", "svg.fonttype": "path",
}  # fmt: skip
METADATA = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}  # nothing that changes between runs
ACTIVE = "A neuron, one unit of a feed-forward block, is active on a token if its output is above 0."


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
    """Draw a figure of `FIGURES` for one or several runs. Raises UsageError if there is no such figure."""
    if name not in FIGURES:
        raise UsageError(f"no figure {printable(name)}; expected one of {', '.join(FIGURES)}")
    if not runs:
        raise UsageError(f"no runs to draw {name} of; expected at least one analysed run")
    for run in runs:
        if missing := [column for column in FIGURES[name].columns if column not in list(run)]:
            raise NeurolensError(
                f"{printable(run.name)} has no column {', '.join(missing)}, which the figure {name} shows; analyse it again"
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
    paths = []
    for kind in formats:
        buffer = io.BytesIO()
        with _style():
            figure.savefig(buffer, format=kind, metadata=METADATA[kind])
        path = Path(folder) / f"{name}.{kind}"
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(buffer.getvalue())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        paths.append(path)
    return paths


def dead(runs: Sequence[Neurons], *, confidence: float = CONFIDENCE) -> Figure:
    """Paper, Fig. 1a: percent of each layer's neurons that are never active, and beside it those silent on text.

    The companion line *includes* the dead neurons: the gap between both is the neurons active on `</s>` only.
    """
    shares = [_percent(run["dead"]) for run in runs]
    silent = [_percent(run["dead"] | run["dead_but_bos"]) for run in runs]
    caption = (
        f"{ACTIVE} Dead (solid): active on no token at all. Dashed: these, and besides them the neurons that are active"
        " on </s> only, the token at the start of every sequence and between documents. "
        + _each(runs, lambda run: (
            f"{run['dead'].sum():,} of {run['dead'].size:,} neurons are dead, {run['dead_but_bos'].sum():,} active on"
            f" </s> only; after {run.n_tokens:,} silent tokens a dead neuron's frequency is at most"
            f" {dead_upper_bound(run.n_tokens, confidence=confidence):.1e} ({confidence:.0%} confidence, tokens taken as"
            f" independent)"))
    )  # fmt: skip
    kinds = {"dead: never active": shares, "dead, or active only on </s>": silent}
    with _sheet("dead", caption, runs) as (figure, body):
        _by_layer(body, runs, kinds, "neurons (% of the layer)", f"no dead neurons among {_total(runs)} neurons")
    return figure


def frequency(runs: Sequence[Neurons]) -> Figure:
    """Paper, Fig. 1b: mean activation frequency per layer among the neurons that are not dead."""
    means = [100 * mean_frequency_of_alive(run["frequency"], run["dead"]) for run in runs]
    caption = (
        f"{ACTIVE} Its frequency is the share of tokens, all positions counted, on which it is active; the mean is over"
        " the neurons of a layer that are active at least once. A layer without any has no point. "
        + _each(runs, lambda run: f"{(~run['dead']).sum():,} of {run['dead'].size:,} neurons are active at least once")
    )
    with _sheet("frequency", caption, runs) as (figure, body):
        _by_layer(
            body, runs, {"mean": means}, "mean activation frequency of\nneurons not dead (% of tokens)",
            f"none of {_total(runs)} neurons is ever active:\nthere is no frequency to show",
        )  # fmt: skip
    return figure


def covering(
    runs: Sequence[Neurons], *, edges: Sequence[int] = (5, 50, 500, 5000), columns: int = 3, most_labels: int = 12
) -> Figure:
    """Paper, Fig. 2 for tokens: alive neurons of the first half of the network by covering number, per layer.

    First half: layers < model_layers / 2, the middle one of an odd number included. Bins end at `edges`, the last one
    is open: the first is what a token detector may need (paper, §4), each next one ten times as much. Shares are of
    the neurons with an activation that counts (covering number > 0). `columns` panels a row; numbers of neurons stand
    above the bars of up to `most_labels` layers a row.
    """
    halves = [run.layers < run.model_layers / 2 for run in runs]
    numbers = [run["unigrams_95"][half] for run, half in zip(runs, halves, strict=True)]
    columns = min(columns, len(runs))
    labelled = max((run.model_layers + 1) // 2 for run in runs) * columns <= most_labels
    coverages = {run.rules.get("coverage", 95) for run in runs}

    def fact(run: Neurons) -> str:
        number, gone = (run[name][run.layers < run.model_layers / 2] for name in ("unigrams_95", "dead"))
        return (
            f"{(number > 0).sum():,} neurons of these layers counted; left out are {gone.sum():,} dead and"
            f" {((number == 0) & ~gone).sum():,} others without an activation on text"
            + (f" (activations accounted for: {run.rules.get('coverage', 95)}%)" if len(coverages) > 1 else "")
        )

    percent = f"{coverages.pop()}%" if len(coverages) == 1 else "most"
    caption = (
        f"{ACTIVE} Its covering number is the least number of distinct tokens that together account for {percent} of its"
        " activations, those on </s> set aside: low means it responds to a handful of tokens. Shown is the first half"
        " of each network (of an odd number of layers, the middle one, too)"
        + ("; above each bar, the number of neurons it divides" if labelled else "") + ". " + _each(runs, fact)
    )  # fmt: skip
    starts, ends = [1, *(edge + 1 for edge in edges)], [f"–{edge:,}" for edge in edges]
    names = [f"{start:,}{end}" for start, end in zip(starts, ends, strict=False)] + [f"over {edges[-1]:,}"]
    shades = _shades(len(names), last=0.97)
    looks = [
        {"facecolor": shade, "hatch": HATCHES[i % len(HATCHES)], "edgecolor": "white" if i < len(names) / 2 else "#333333"}
        for i, shade in enumerate(shades)
    ]
    with _sheet("covering", caption, runs, rows=-(-len(runs) // columns)) as (figure, body):
        panels = _panels(body, runs, columns)
        for ax, run, half, number in zip(panels, runs, halves, numbers, strict=True):
            counted = np.maximum(1, (number > 0).sum(1))
            bottom = np.zeros(len(number))
            for start, end, look in zip(starts, [*edges, np.inf], looks, strict=True):
                share = 100 * ((number >= start) & (number <= end)).sum(1) / counted
                ax.bar(run.layers[half], share, bottom=bottom, width=0.85, linewidth=0.5, **look)
                bottom += share
            for layer, count in zip(run.layers[half], (number > 0).sum(1), strict=True):
                if labelled:
                    ax.annotate(f"{count:,}", (layer, 100), (0, 2), textcoords="offset points", ha="center", fontsize=8)
            ax.set(xlim=(-0.6, (run.model_layers + 1) // 2 - 0.4), ylim=(0, 100), xlabel="layer")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            ax.grid(visible=False)
            if not half.any():
                _words(ax, "none of the recorded layers is in the first half of the network", 1 / columns)
            elif not number.any():
                _words(ax, f"none of {number.size:,} neurons has an activation on text", 1 / columns)
        for ax in panels[::columns]:
            ax.set_ylabel("neurons counted (%)")
        body.legend(
            [Patch(linewidth=0.5, **look) for look in looks], names, loc="outside upper left", ncols=len(names),
            title="covering number (distinct tokens)", alignment="left", handleheight=1.2, columnspacing=1.4,
        )  # fmt: skip
    return figure


def detectors(runs: Sequence[Neurons]) -> Figure:
    """Paper, Fig. 3a: token detectors per layer: all by the rules of the run, and those that are well supported."""
    found = [run["unigram_detector"].sum(1) for run in runs]
    supported = [run["unigram_detector_supported"].sum(1) for run in runs]

    def fact(run: Neurons) -> str:
        rules = run.rules
        return (
            f"a token detector (solid) responds to at most {rules['max_covering']} distinct tokens, which account for"
            f" {rules['coverage']}% of its activations and of whose occurrences it is active on at least"
            f" {rules['min_rate']}%; each such token occurs at least {_times(rules['min_occurrences'])}. It is well"
            f" supported (dashed) with at least {_times(rules['support_occurrences'])} for each token and"
            f" {rules['support_activations']:,} activations"
        )

    caption = f"{ACTIVE} Activations on </s> are set aside. Rules: {_each(runs, fact)} " + _each(
        runs, lambda run: f"{run['unigram_detector'].sum():,} token detectors among {run['unigram_detector'].size:,} neurons,"
        f" {run['unigram_detector_supported'].sum():,} well supported",
    )  # fmt: skip
    kinds = {"all token detectors": found, "well supported": supported}
    with _sheet("detectors", caption, runs) as (figure, body):
        ax = _by_layer(
            body, runs, kinds, "token detectors (neurons)", f"no token detectors among {_total(runs)} neurons"
        )
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def alive(runs: Sequence[Neurons], *, columns: int = 2, most_layers: int = 8, points: int = 64) -> Figure:
    """Ours: neurons active at least once, against tokens seen: has the text been long enough to call the rest dead?

    Lines for up to `most_layers` layers of a run, evenly spread over those recorded; `columns` panels a row.
    """
    columns = min(columns, len(runs))

    def fact(run: Neurons) -> str:
        late = int((run["first_active"] >= run.n_tokens / 2).sum())
        return f"the second half of the tokens added {late:,} of {run['first_active'].size:,} neurons"

    caption = (
        f"{ACTIVE} A line that still rises at its right end says that more text would find more neurons alive; a flat"
        " one, that those below it are dead for such text. " + _each(runs, fact)
    )
    with _sheet("saturation", caption, runs, rows=-(-len(runs) // columns)) as (figure, body):
        panels = _panels(body, runs, columns)
        for ax, run in zip(panels, runs, strict=True):
            chosen = np.unique(np.linspace(0, len(run.layers) - 1, min(len(run.layers), most_layers)).round().astype(int))
            tokens, counts = saturation(run["first_active"][chosen], run.n_tokens, points=points)
            share = 100 * counts / max(1, run.shape[1])
            for i, (row, colour) in enumerate(zip(share, _shades(len(chosen), last=0.8), strict=True)):
                ax.plot(
                    tokens, row, color=colour, marker=MARKERS[i % len(MARKERS)], linewidth=1.4, markersize=4.5,
                    markeredgecolor="white", markeredgewidth=0.4, label=f"layer {run.layers[chosen[i]]}",
                    markevery=(i % 8, 8) if len(tokens) > 8 else None,
                )  # fmt: skip
            ax.set(xscale="log", xlim=(1, max(10, run.n_tokens)), ylim=(0, 104), xlabel="tokens seen")
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # the default writes mathtext
            ax.xaxis.set_minor_formatter(NullFormatter())
            if len(chosen):
                ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, handlelength=1.6, borderaxespad=0.2)
            if not share.any():
                _words(ax, f"none of {run['first_active'].size:,} neurons is ever active", 0.7 / columns)
        for ax in panels[::columns]:
            ax.set_ylabel("active at least once\n(% of the layer's neurons)")
    return figure


FIGURES: dict[str, FigureSpec] = {
    "dead": FigureSpec("1a", "Neurons that are never active, by layer", dead, ("dead", "dead_but_bos")),
    "frequency": FigureSpec("1b", "How often the other neurons are active, by layer", frequency, ("frequency", "dead")),
    "covering": FigureSpec("2", "How many tokens account for a neuron's activations", covering, ("unigrams_95", "dead")),
    "detectors": FigureSpec(
        "3a", "Token detectors, by layer", detectors, ("unigram_detector", "unigram_detector_supported")
    ),
    "saturation": FigureSpec("ours", "How certain is dead? Neurons found alive as text goes by", alive, ("first_active",)),
}


def printable(text: object) -> str:
    """Text of unknown origin as one line: what is not printable, or not in the font of the figures, escaped."""
    return "".join(c if c.isprintable() and ord(c) in _glyphs() else ascii(c)[1:-1] for c in str(text))


def run_names(runs: Sequence[Neurons], *, longest: int = 28) -> list[str]:
    """Names for legends: printable, at most `longest` characters and a number where two are the same, never empty.

    Long names lose their middle, as runs of one family differ at the end (-step300k) more than there.
    """
    names: list[str] = []
    for run in runs:
        name = printable(run.name).strip() or "(no name)"
        if len(name) > longest:
            name = f"{name[: (longest - 1) // 2]}…{name[-(longest // 2) :]}"
        unique, number = name, 2
        while unique in names:
            unique, number = f"{name} ({number})", number + 1
        names.append(unique)
    return names


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
    name: str, caption: str, runs: Sequence[Neurons], *, rows: int = 1, row_height: float = 3.1
) -> Iterator[tuple[Figure, SubFigure]]:
    """A figure with title and caption; the block of the `with` fills the body between them."""
    spec, lines = FIGURES[name], _wrapped(f"{caption} {_scope(runs)}", WIDTH - 2 * MARGIN, CAPTION_SIZE)
    heads = _wrapped(spec.title + ("" if spec.paper == "ours" else f" (Fig. {spec.paper} of the paper)"), WIDTH - 1, 12)
    height = max(row_height * rows + 0.3, 0.19 * len(runs) + 1)  # a long legend needs its room
    head = 0.26 * len(heads) + 0.1
    foot = (len(lines) + 1) * CAPTION_SIZE * LINE_HEIGHT / 72
    with _style():
        figure = Figure(figsize=(WIDTH, head + height + foot), dpi=DPI, layout="constrained")
        top, body, bottom = figure.subfigures(3, 1, height_ratios=[head, height, foot], hspace=0)
        top.text(MARGIN / WIDTH, 0.5, "\n".join(heads), va="center", fontsize=12, fontweight="bold")
        bottom.text(
            MARGIN / WIDTH, 1, "\n".join(lines), va="top", fontsize=CAPTION_SIZE, linespacing=LINE_HEIGHT, color="#333333"
        )
        yield figure, body
        figure.draw_without_rendering()  # settles the layout once, so that every saving has the same
        figure.set_layout_engine("none")


def _by_layer(
    body: SubFigure, runs: Sequence[Neurons], kinds: dict[str, list[np.ndarray]], ylabel: str, nothing: str
) -> Axes:
    """Lines over the layers: of each kind one `(layer,)` array a run. The first kind is solid, the second dashed."""
    ax, names = body.subplots(), run_names(runs)
    depths = {run.model_layers for run in runs}
    for kind, (values, look) in enumerate(zip(kinds.values(), _kind_looks(), strict=False)):
        for i, (run, y) in enumerate(zip(runs, values, strict=True)):
            x = run.layers if len(depths) == 1 else run.layers / max(1, run.model_layers - 1)
            filled = {} if kind == 0 else {"markerfacecolor": "white"}
            ax.plot(x, y, color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], label=names[i],
                    zorder=3 - kind, **look, **filled)  # fmt: skip
    if len(depths) == 1:
        ax.set(xlabel="layer (0 is the first)", xlim=(-0.5, max(depths) - 0.5))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    else:
        ax.set(xlabel="relative depth: layer / (number of layers − 1); 0 is the first layer, 1 the last", xlim=(-0.03, 1.03))
    top = max((float(np.nanmax(y)) for values in kinds.values() for y in values if np.isfinite(y).any()), default=0.0)
    ax.set(ylim=(-0.02 * (top or 1), 1.08 * (top or 1)), ylabel=ylabel)
    if not top:
        _words(ax, nothing, 0.6)
    if len(kinds) > 1:
        looks = [Line2D([], [], color="#555555", marker="o", **look) for look in _kind_looks()]
        looks[1].set_markerfacecolor("white")
        body.legend(looks, list(kinds), loc="outside upper left", ncols=2, handlelength=3)
    if len(runs) == 1:
        ax.set_title(names[0], loc="left", fontsize=10)
    else:
        _legend_of_runs(body, ax.get_lines()[: len(runs)], names)
    return ax


def _kind_looks() -> tuple[dict, dict]:
    """Solid and filled; dashed, thinner, hollow and larger, so that it shows around a solid line it lies under."""
    return {"linewidth": 1.6, "markeredgecolor": "white", "markeredgewidth": 0.5}, {
        "linewidth": 1.0,
        "linestyle": (0, (4, 2)),
        "markersize": 8.5,
        "markeredgewidth": 0.9,
    }


def _legend_of_runs(body: SubFigure, lines: Sequence[Line2D], names: Sequence[str]) -> None:
    # Labels are set afterwards: matplotlib drops those that begin with an underscore.
    legend = body.legend(lines, [f"run {i}" for i in range(len(names))], loc="outside right upper", handlelength=1.8)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)


def _panels(body: SubFigure, runs: Sequence[Neurons], columns: int) -> list[Axes]:
    """One axes a run, row by row, named after it."""
    grid, names = body.add_gridspec(-(-len(runs) // columns), columns), run_names(runs)
    panels = [body.add_subplot(grid[divmod(i, columns)]) for i in range(len(runs))]
    for ax, name in zip(panels, names, strict=True):
        ax.set_title(name, loc="left", fontsize=10 if columns == 1 else 9, pad=14)
    return panels


def _words(ax: Axes, text: str, share: float) -> None:
    """Say in the middle of the axes that there is nothing to show; they are about `share` of the figure wide."""
    lines = _wrapped(text, share * WIDTH - 0.4, 11)
    ax.text(0.5, 0.5, "\n".join(lines), transform=ax.transAxes, ha="center", va="center", fontsize=11, color="#333333")


def _wrapped(text: str, width: float, size: float) -> list[str]:
    """Lines of at most `width` inches in the figures' font (a single longer word stays whole); newlines are kept."""
    font = font_manager.FontProperties(family=FONT, size=size)
    lines: list[str] = []
    for part in text.split("\n"):
        lines.append("")
        for word in part.split():
            line = f"{lines[-1]} {word}".strip()
            if lines[-1] and TextToPath().get_text_width_height_descent(line, font, False)[0] > 72 * width:
                lines.append(word)
            else:
                lines[-1] = line
    return lines


def _each(runs: Sequence[Neurons], fact: Callable[[Neurons], str]) -> str:
    """What `fact` says of each run as one sentence, said once for all runs it is true of."""
    said: dict[str, list[str]] = {}
    for run, name in zip(runs, run_names(runs), strict=True):
        said.setdefault(fact(run), []).append(name)
    if len(said) == 1 and len(runs) > 1:
        return f"all runs: {next(iter(said))}."
    return "; ".join(f"{', '.join(names)}: {words}" for words, names in said.items()) + "."


def _scope(runs: Sequence[Neurons]) -> str:
    """What was looked at: layers, neurons and tokens of each run."""

    def fact(run: Neurons) -> str:
        whole = len(run.layers) == run.model_layers
        which = f"all {run.model_layers} layers" if whole else f"layers {', '.join(map(str, run.layers))} of {run.model_layers}"
        return f"{which}, {run.shape[1]:,} neurons each, {run.n_tokens:,} tokens"

    return f"Recorded: {_each(runs, fact)}"


def _percent(which: np.ndarray) -> np.ndarray:
    """Percent of the neurons of each layer: bool `(layer, neuron)` → float64 `(layer,)`; 0 for layers without neurons."""
    return 100 * which.sum(1) / max(1, which.shape[1])


def _shades(count: int, *, last: float) -> list[tuple[float, ...]]:
    """Colours from dark to light, up to `last` of the scale."""
    return [matplotlib.colormaps[SHADES](float(x)) for x in np.linspace(0, last, count)]


def _total(runs: Sequence[Neurons]) -> str:
    return f"{sum(int(np.prod(run.shape)) for run in runs):,}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
