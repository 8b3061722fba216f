"""Figure of examples: token detectors with what they respond to, promote and suppress, a table."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurolens.examples import Example, Examples
from neurolens.plots.sheet import HEAD, MARGIN, WIDTH, FigureSpec, sheet, words
from neurolens.plots.text import run_names, token_text, width
from neurolens.plots.updates import projected

_HEAD, _LINE, _SIZE = 0.65, 0.205, 8.5  # inches above the rows of a run, inches a line of tokens, points
_TITLES = ("neuron", "triggers", "promotes", "suppresses")
_LEFT = (MARGIN, 1.3, 2.85, 5.0)  # inches
_RIGHT = (1.2, 2.75, 4.9, WIDTH - MARGIN)


def examples(spec: FigureSpec, runs: Sequence[Examples], *, most_triggers: int = 8) -> Figure:
    """Paper, Fig. 5: token detectors with their triggers and the tokens they promote and suppress most.

    A part a run, a row a detector; of the triggers up to `most_triggers` are shown.
    """
    limit = {(run.rules["support_occurrences"], run.rules["support_activations"]) for run in runs}
    least = "; ".join(f"each trigger at least {seen:,}×, the neuron active at least {on:,}×" for seen, on in limit)
    caption = (
        f"{projected(runs)} Shown are well supported token detectors ({least if len(limit) == 1 else 'rules differ'}),"
        " chosen evenly over the layers that have any, of a layer's those with the most triggers first, then the most"
        " active: not for what they promote. Triggers: tokens the neuron responds to always and to little else, from"
        " the one it is most often active on. Promoted and suppressed tokens: the most extreme ones, from the most"
        " extreme on; dark ones are triggers. ␣ is a space."
    )

    def fact(run: Examples) -> str:
        marked = [sum(any(token.trigger for token in tokens) for tokens in side) for side in (
            [example.suppressed for example in run.examples], [example.promoted for example in run.examples],
        )]  # fmt: skip
        return (
            f"{len(run.examples):,} of {run.detectors:,} well supported token detectors; {marked[0]:,} of these"
            f" suppress a trigger among the tokens shown, {marked[1]:,} promote one"
        )

    bodies = [[_Row(example, run, most_triggers) for example in run.examples] for run in runs]
    heights = [_HEAD + (sum(row.height for row in rows) or 0.6) for rows in bodies]
    with sheet(spec, caption, runs, fact, height=sum(heights) + 0.1) as figure:
        total = figure.get_figheight()
        top = total - HEAD
        for rows, height, name, run in zip(bodies, heights, run_names(runs, most=5), runs, strict=True):
            ax = figure.add_axes((0, (top - height) / total, 1, height / total))
            ax.set(xlim=(0, WIDTH), ylim=(height, 0))  # inches, from the top
            ax.axis("off")
            ax.text(MARGIN, 0.2, name, va="center", fontsize=10)
            for x, title in zip(_LEFT, _TITLES, strict=True) if rows else ():
                ax.text(x, 0.48, title, va="center", fontsize=_SIZE, fontweight="bold")
            y = _HEAD
            for row in rows:
                row.draw(ax, y)
                y += row.height
            if not rows:
                words(ax, f"no well supported token detector in {len(run.layers):,} layers", 0.8)
            top -= height
    return figure


class _Row:
    """A detector as a row of the table: its tokens in lines that fit their columns."""

    def __init__(self, example: Example, run: Examples, most_triggers: int) -> None:
        more = len(example.triggers) - most_triggers
        sides = (example.triggers[:most_triggers], example.promoted, example.suppressed)
        self.example = example
        self.cells = [
            _flow([(token_text(run.token(token.id), size=_SIZE), token.trigger) for token in tokens], left, right)
            for tokens, left, right in zip(sides, _LEFT[1:], _RIGHT[1:], strict=True)
        ]
        self.more = f"and {more:,} more" if more > 0 else ""
        lines = [1 + max((line for line, *_ in cell), default=0) for cell in self.cells]
        self.height = _LINE * max(2, lines[0] + bool(self.more), *lines[1:]) + 0.1

    def draw(self, ax: Axes, y: float) -> None:
        ax.plot([MARGIN, WIDTH - MARGIN], [y, y], color="#BBBBBB", linewidth=0.6)
        first = y + 0.05 + _LINE / 2
        ax.text(MARGIN, first, f"{self.example.layer}.{self.example.neuron}", va="center", fontsize=_SIZE)
        ax.text(MARGIN, first + _LINE, f"active {self.example.activations:,}×", va="center", fontsize=8)
        for cell in self.cells:
            for line, x, text, trigger in cell:
                face, ink = ("#333333", "white") if trigger else ("#EEEEEE", "black")
                box = {"boxstyle": "round,pad=0.12,rounding_size=0.15", "facecolor": face, "linewidth": 0}
                ax.text(x, first + line * _LINE, text, va="center_baseline", fontsize=_SIZE, color=ink, bbox=box)
        if self.more:
            line = 1 + max(line for line, *_ in self.cells[0])
            ax.text(_LEFT[1], first + line * _LINE, self.more, va="center", fontsize=8)


def _flow(tokens: Sequence[tuple[str, bool]], left: float, right: float) -> list[tuple[int, float, str, bool]]:
    """(line, x, text, trigger) of tokens one after the other, a new line where the column ends; inches."""
    placed, line, x = [], 0, left
    for text, trigger in tokens:
        taken = width(text, _SIZE) + 0.04
        if x > left and x + taken > right:
            line, x = line + 1, left
        placed.append((line, x + 0.02, text, trigger))
        x += taken + 0.07
    return placed
