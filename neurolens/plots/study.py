"""Figures of several runs together, by name; and that of their numbers over a factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from neurolens.comparison.estimates import CONFIDENCE, Estimate, average
from neurolens.comparison.trends import Line, Trend
from neurolens.plots import changes
from neurolens.plots.sheet import COLOURS, COMPANION, MARKERS, SOLID, WIDTH, FigureSpec, legend, sheet, words
from neurolens.plots.text import distinct, printable, width

if TYPE_CHECKING:  # it reads runs, which plots do not
    from neurolens.comparison.headlines import Headlines

# title, column of the solid line, of its companion
PANELS: tuple[tuple[str, str, str], ...] = (
    ("dead\n(% of neurons)", "dead", ""),
    ("mean frequency of the\nothers (% of tokens)", "frequency", ""),
    ("token detectors\n(% of neurons)", "detectors", "supported"),
    ("… that point away from\ntheir triggers (%)", "suppressing", ""),
    ("positional\n(% of neurons)", "positional", ""),
)


def trends(spec: FigureSpec, trend: Trend, numbers: Mapping[str, Headlines], *, most_beside: int = 9) -> Figure:
    """Ours: the headlines of runs over the values of a factor, a line for each setting of the others.

    `numbers`: of each run by its name. Lines are named beside the panels, if more than `most_beside` above them.
    """
    several = sum(len(of) > 1 for line in trend.lines for of in line.points.values())
    runs = sum(len(of) for line in trend.lines for of in line.points.values())
    names = distinct([_settings(line) for line in trend.lines], most=1.6)
    tokens = sorted({run.n_tokens for run in numbers.values()})
    caption = (
        "All layers recorded, together; dead: active on no token; token detectors by the paper's rules (solid) and the"
        " well supported ones (hollow), and of the former the share whose value vector points away from their triggers;"
        " positional: depending on the position. A point is a run"
        + (", or the mean of runs that differ in repetitions alone" if several else "")
        + ". Bars: of a single run its own interval, over sequences drawn anew, or of detectors clustered by token (the"
        " number of detectors has none)"
        + (f"; of two runs their range, of more the {CONFIDENCE:.0%} t interval between them" if several else "")
        + ". Values of the factor stand evenly, in order."
        + (f" Along with it change: {printable(', '.join(trend.along))}." if trend.along else "")
        + f"\n• {runs} run{'s' * (runs != 1)}; {_ranged(tokens)} tokens each."
    )
    beside = 1 < len(trend.lines) <= most_beside
    with sheet(spec, caption, [], str, height=4.9 + (0 if beside else 0.2 * -(-len(names) // 3))) as figure:
        axes = list(figure.subplots(2, 3, sharex=True).flat)
        looks = [_look(i) for i in range(len(trend.lines))]
        for ax, (title, solid, companion) in zip(axes, PANELS, strict=False):
            ax.set_title(title, loc="left", fontsize=9)
            _draw_points(ax, trend, numbers, {solid: SOLID} | ({companion: COMPANION} if companion else {}), looks)
            ax.xaxis.set_tick_params(labelbottom=ax in axes[2:5])
        for ax in axes[2:5]:
            _name_values(ax, trend)
        axes[5].set_axis_off()
        handles = [Line2D([], [], **look, **SOLID) for look in looks]
        if beside:
            box = axes[5].legend(handles, ["?"] * len(names), loc="upper left", borderaxespad=0)
            for text, name in zip(box.get_texts(), names, strict=True):
                text.set_text(name)
        elif len(names) > 1:
            legend(figure, handles, names, "top", ncols=3)
    return figure


FIGURES: dict[str, FigureSpec] = {
    "trends": FigureSpec("ours", "Runs over a factor", trends, (), n=0),
    "transitions": FigureSpec("ours", "What became of each neuron", changes.transitions, (), n=0),
    "drift": FigureSpec("ours", "How far neurons moved", changes.drift, (), n=0),
}


def draw_study(name: str, *given: Any, title: str = "", **options: Any) -> Figure:
    """Draw a figure of several runs (`FIGURES` here): of a Trend and the headlines by name, or of changes.

    `title` instead of the usual one: it says which factor.
    """
    spec = FIGURES[name]
    titled = FigureSpec(spec.paper, printable(title) or spec.title, spec.function, spec.columns, n=0)
    return spec.function(titled, *given, **options)


def _draw_points(
    ax: Axes,
    trend: Trend,
    numbers: Mapping[str, Headlines],
    columns: Mapping[str, Any],
    looks: Sequence[dict[str, Any]],
) -> None:
    """Lines over the factor, of each column, in percent; beside each other where their values are the same."""
    top = 0.0
    for i, line in enumerate(trend.lines):
        aside = 0.07 * (i - (len(trend.lines) - 1) / 2) * min(1, 6 / len(trend.lines))
        for column, kind in columns.items():
            of = {v: average([getattr(numbers[m.called], column) for m in runs]) for v, runs in line.points.items()}
            found = [(trend.values.index(value) + aside, each) for value, each in of.items() if each.known]
            x = [place for place, _ in found]
            ax.plot(x, [100 * each.value for _, each in found], **looks[i], **kind)
            if kind is SOLID:
                bars = [(place, 100 * each.low, 100 * each.high) for place, each in found if _has_bar(each)]
                if bars:
                    ax.vlines(*zip(*bars, strict=True), color=looks[i]["color"], linewidth=0.9, zorder=2)
                top = max([top, *(high for _, _, high in bars)])
            top = max([top, *(100 * each.value for _, each in found)])
    ax.set(xlim=(-0.5, len(trend.values) - 0.5), ylim=(-0.02 * (top or 1), 1.08 * (top or 1)))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    if not any(len(line.get_xdata()) for line in ax.get_lines()):  # type: ignore[arg-type]
        ax.set(ylim=(0, 1), yticks=())
        words(ax, "not known", 0.25)


def _has_bar(each: Estimate) -> bool:
    return bool(np.isfinite([each.low, each.high]).all()) and each.high > each.low


def _name_values(ax: Axes, trend: Trend) -> None:
    """The factor's values along the axis, on end where they are long."""
    names = distinct([_short(value) for value in trend.values], most=1.1)
    room = (WIDTH / 3 - 0.6) / len(names) - 0.06
    shown = max(1, -(-len(names) // 14))  # of very many values every second, third, …
    turned = max(width(name, 9) for name in names) > room * shown
    places = range(0, len(names), shown)
    ax.set_xticks(list(places), [names[i] for i in places], rotation=90 if turned else 0)
    ax.set_xlabel(distinct([trend.factor], most=2)[0])


def _short(value: object) -> str:
    """A value for the axis.

    >>> _short(150000), _short(250), _short("dpo")
    ('150k', '250', 'dpo')
    """
    thousands = isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 and value % 1000 == 0
    return f"{int(value) // 1000:,}k" if thousands else str(value)  # type: ignore[call-overload]


def _look(i: int) -> dict[str, Any]:
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


def _settings(line: Line) -> str:
    """What tells a line from others: `size 1.3b, lr 0.1`."""
    return ", ".join(
        value if isinstance(value, str) else f"{name} {value}" for name, value in line.settings.items()
    ) or ("all runs" if not line.settings else "")


def _ranged(tokens: Sequence[int]) -> str:
    return f"{tokens[0]:,}" if len(tokens) == 1 else f"{tokens[0]:,} to {tokens[-1]:,}"
