"""Figure of updates: do value vectors of token detectors point away from what they respond to?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from neurolens.plots.ngrams import SUPPORT, detector_rules, of_ngrams
from neurolens.plots.sheet import FigureSpec, legend, sheet, words
from neurolens.plots.text import run_names
from neurolens.tables import ByLayer

# what is compared: name in the figure, column, look
SHARES: dict[str, tuple[str, dict[str, Any]]] = {
    "their triggers": ("suppressing", {"color": "#000000", "marker": "o", "linestyle": "-"}),
    "null: other neurons, same tokens": ("null_neurons", {"color": "#0072B2", "marker": "s", "linestyle": (0, (4, 2))}),
    "null: same neurons, other tokens": (
        "null_tokens",
        {"color": "#E69F00", "marker": "^", "linestyle": (0, (1, 1.5))},
    ),
}


def suppression(spec: FigureSpec, runs: Sequence[ByLayer]) -> Figure:
    """Paper, §4.4: the share of token detectors whose value vector points away from their triggers, beside nulls.

    Away: the mean raw projection on the covered tokens, weighted by activations, is below 0. A row a run; left all
    detectors by the rules of the run, right those that are well supported; below each, how many they are.
    """
    meaning, rest = detector_rules(runs, spec.n)
    neurons, tokens = (
        " or ".join(map(str, sorted({run.rules[name] for run in runs}))) for name in ("null_neurons", "null_tokens")
    )
    caption = (
        f"{meaning} {projected(runs)} Shown is the share of token detectors whose value vector points away from their"
        " triggers: its mean product with them, weighted by activations, is below 0. Nulls: the same share for"
        f" {neurons} alive neurons of the layer (or all there are) that are no detectors, with the same tokens; and for"
        f" the detectors with {tokens} sets of other tokens, those nearest to their triggers in frequency (variants of"
        " these left out)."
        " Bars: 95% intervals, clustered by token. The paper (§4.4) found more than 80%, and compares with nothing."
    )

    def fact(run: ByLayer) -> str:
        at = list(run.coords["n"]).index(spec.n)
        told = []
        for support, (which, _) in enumerate(SUPPORT):
            of = {name: float(run.overall[name][support, at]) for name in run.overall}
            away, neurons, tokens = (_interval(of, column) for column, _ in SHARES.values())
            shares = f", {away} point away; nulls: other neurons {neurons}, other tokens {tokens}"
            count = int(of["detectors"])
            told.append(f"{which}: {count:,} detector{'s' * (count != 1)}{shares if count else ''}")
        return "; ".join(told) + rest(run)

    with sheet(spec, caption, runs, fact, height=3.3 * len(runs) + 0.3) as figure:
        grid = figure.add_gridspec(2 * len(runs), 2, height_ratios=[3, 1] * len(runs))
        for row, (run, name) in enumerate(zip(runs, run_names(runs, most=2.2), strict=True)):
            for support, (which, noun) in enumerate(SUPPORT):
                ax = figure.add_subplot(grid[2 * row, support])
                below = figure.add_subplot(grid[2 * row + 1, support], sharex=ax)
                _shares(ax, run, spec.n, support)
                count = of_ngrams(run, "detectors", spec.n)[support]
                below.bar(run.layers, count, width=0.7, color="#777777")
                below.set(ylim=(0, 1.1 * max(1, count.max(initial=0))), xlabel="layer")
                below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
                ax.tick_params(labelbottom=False)
                ax.set_title(f"{name}: {which}" if support == 0 else which, loc="left", fontsize=9)
                if support == 0:
                    ax.set_ylabel("point away (%)")
                    below.set_ylabel("detectors")
                if not count.any():
                    words(ax, f"no token has {noun}", 0.45)
        looks = [Line2D([], [], **look, **_mark(1)) for _, look in SHARES.values()]
        legend(figure, looks, list(SHARES), "top", ncols=3, handlelength=3)
    return figure


def projected(runs: Sequence[Any]) -> str:
    """What promoting and suppressing is, for captions, by the `rules` of the runs."""
    folded = {bool(run.rules["fold_norm"]) for run in runs}
    return (
        "An active neuron adds its value vector, its row of the block's second matrix, to the residual stream; its"
        " product with a token's row of the unembedding says by how much that raises (promotes) or lowers (suppresses)"
        " the score of the token as the next one"
        + (
            f" (the gain of the final norm folded in{' for some runs' if len(folded) > 1 else ''})."
            if any(folded)
            else "."
        )
    )


def _shares(ax: Axes, run: ByLayer, n: int, support: int) -> None:
    """The three shares by layer and, right of the layers, over all of them; whiskers are their intervals."""
    at, depth = list(run.coords["n"]).index(n), run.model_layers
    step = max(0.25, 0.035 * depth)  # between the three shares of all layers
    everything = depth - 1 + 3 * step
    for i, (column, look) in enumerate(SHARES.values()):
        for table, x, mark in (
            (run, run.layers + 0.2 * (i - 1), _mark(depth)),
            (run.overall, np.array([everything + step * (i - 1)]), _mark(1)),
        ):
            share, low, high = (
                100 * np.atleast_1d(table[name][support, at]) for name in (column, f"{column}_low", f"{column}_high")
            )
            ax.plot(x, share, **{**look, **mark})
            ax.vlines(x, low, high, color=look["color"], linewidth=0.8, zorder=2)
    ax.axvspan(everything - 1.9 * step, everything + 1.9 * step, color="#F3F3F3", zorder=0, linewidth=0)
    ticks = [int(x) for x in MaxNLocator(6, integer=True).tick_values(0, max(1, depth - 1)) if 0 <= x < depth]
    ax.set_xticks([*ticks, everything], [*map(str, ticks), "all"])
    ax.set(xlim=(-0.6, everything + 1.9 * step), ylim=(-4, 104))


def _mark(depth: int) -> dict[str, Any]:
    """Size of the marks of a line over `depth` layers."""
    return {"linewidth": 1, "markersize": float(np.clip(90 / depth, 2, 5.5)), "zorder": 3}


def _interval(of: dict[str, float], column: str) -> str:
    share, low, high = (of[name] for name in (column, f"{column}_low", f"{column}_high"))
    return f"{share:.0%} ({100 * low:.0f}–{high:.0%})" if np.isfinite([share, low, high]).all() else "unknown"
