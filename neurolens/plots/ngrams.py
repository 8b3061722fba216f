"""Figures of tokens and n-grams: covering numbers, detectors, what the detectors of a layer cover."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neurolens.plots.sheet import (
    FigureSpec,
    draw_lines,
    line_legends,
    panels,
    part_legend,
    part_looks,
    sheet,
    stack_bars,
    title_lines,
    words,
)
from neurolens.plots.text import run_names
from neurolens.tables import EDGES, GRAMS, WORDS, ByLayer, Neurons, Table

SUPPORT = (("all by the rules", "a detector"), ("well supported", "a well supported detector"))  # title, noun


def covering(
    spec: FigureSpec,
    runs: Sequence[Neurons],
    *,
    edges: Sequence[int] | None = None,
    columns: int = 3,
    most_labels: int = 12,
) -> Figure:
    """Paper, Figs. 2, 12, 13: alive neurons of the first half of the network by covering number, per layer.

    First half: layers < model_layers / 2, so the middle one of an odd number belongs to it. Bins end at `edges`, the
    last one is open: the first is what a detector may need (paper, §4 and App. A), each next one reaches ten times as
    far. Shares are of the neurons that have a covering number (an activation that counts). `columns` panels a row;
    numbers of neurons stand above the bars of up to `most_labels` layers a row.
    """
    edges, gram, name = edges or EDGES[spec.n], WORDS[spec.n - 1], f"{GRAMS[spec.n - 1]}s_95"
    columns = min(columns, len(runs))
    depths = [(run.model_layers + 1) // 2 for run in runs]
    labelled = max(depths) * columns <= most_labels
    elsewhere = "on </s> only" if spec.n == 1 else f"active only where no {gram} ends"

    def first_half(run: Neurons, name: str) -> np.ndarray:
        return run[name][run.layers < run.model_layers / 2]

    def fact(run: Neurons) -> str:
        number, gone = first_half(run, name), first_half(run, "dead")
        silent = int(((number == 0) & ~gone).sum())
        return f"{(number > 0).sum():,} shown; left out {gone.sum():,} dead, {silent:,} {elsewhere}"

    share = " or ".join(f"{n}%" for n in sorted({run.rules["coverage"] for run in runs}))
    what = {
        1: "its activations, </s> set aside",
        2: "its activations; a bigram is a token and the one before it",
        3: "its activations; a trigram is a token and the two before it",
    }[spec.n]
    if spec.n > 1:
        what += ", within a document (activations nearer to its start do not count)"
    caption = (
        f"Its covering number is the least number of distinct {gram}s that account for {share} of {what}:"
        f" a low one means that it responds to a handful of {gram}s. Shown are the layers of the first half of a"
        " network (the middle one of an odd number, too)"
        + ("; above each bar, how many neurons it divides." if labelled else ".")
    )
    starts, ends = [1, *(edge + 1 for edge in edges)], [*edges, np.inf]
    names = [f"{a:,}–{b:,}" for a, b in zip(starts, edges, strict=False)] + [f"over {edges[-1]:,}"]
    looks = part_looks(len(names))
    with sheet(spec, caption, runs, fact, height=3.1 * -(-len(runs) // columns) + 0.3) as figure:
        axes = panels(figure, runs, columns, "neurons shown (%)", title_pad=14)
        for ax, run, depth in zip(axes, runs, depths, strict=True):
            layers, number = run.layers[run.layers < run.model_layers / 2], first_half(run, name)
            shown = (number > 0).sum(1)
            parts = [
                100 * ((number >= start) & (number <= end)).sum(1) / np.maximum(1, shown)
                for start, end in zip(starts, ends, strict=True)
            ]
            stack_bars(ax, layers, parts, looks)
            for layer, count in zip(layers, shown, strict=True) if labelled else ():
                ax.annotate(f"{count:,}", (layer, 100), (0, 2), textcoords="offset points", ha="center", fontsize=8)
            ax.set(xlim=(-0.6, depth - 0.4), ylim=(0, 100))
            if not len(layers):
                words(ax, "no layer of the first half of the network was recorded", 1 / columns)
            elif not shown.any():
                words(ax, f"none of {number.size:,} neurons is active on text", 1 / columns)
        part_legend(figure, looks, names, f"covering number (distinct {gram}s), from the bottom up")
    return figure


def detectors(spec: FigureSpec, runs: Sequence[Neurons]) -> Figure:
    """Paper, Figs. 3a, 14: detectors per layer: all by the rules of the run, and those that are well supported."""
    gram, column = WORDS[spec.n - 1], f"{GRAMS[spec.n - 1]}_detector"
    kinds = {
        f"all {gram} detectors": [run[column].sum(1) for run in runs],
        "well supported": [run[f"{column}_supported"].sum(1) for run in runs],
    }
    meaning, rest = detector_rules(runs, spec.n)

    def fact(run: Neurons) -> str:
        found, supported = run[column].sum(), run[f"{column}_supported"].sum()
        return f"{found:,} {gram} detectors, {supported:,} well supported{rest(run)}"

    neurons = sum(int(np.prod(run.shape)) for run in runs)
    with sheet(spec, meaning, runs, fact) as figure:
        ax = figure.add_subplot()
        draw_lines(ax, runs, kinds, f"{gram} detectors (neurons)", f"no {gram} detectors among {neurons:,} neurons")
        title_lines(ax, runs)
        line_legends(figure, ax, runs, list(kinds))
        ax.yaxis.set_major_locator(whole_numbers())
    return figure


def covered(spec: FigureSpec, runs: Sequence[ByLayer]) -> Figure:
    """Paper, Figs. 3b, 15: distinct n-grams that have a detector: in a layer, and in it or an earlier one.

    One axes for all detectors by the rules of the run, one for those that are well supported.
    """
    gram = WORDS[spec.n - 1]
    meaning, rest = detector_rules(runs, spec.n)
    caption = (
        f"{meaning} Counted are distinct {gram}s that have a detector (covered ones). Solid: in the layer; dashed: in"
        " it or an earlier one of those recorded, so that its rise is what a layer adds. Above: all detectors by the"
        " rules; below: the well supported ones."
    )
    kinds = {"in the layer": "covered", "in the layer or an earlier one": "cumulative"}
    with sheet(spec, caption, runs, lambda run: _covered_fact(run, spec.n) + rest(run), height=5.2) as figure:
        axes = figure.subplots(2, 1, sharex=True)
        for support, (ax, which) in enumerate(zip(axes, SUPPORT, strict=True)):
            values = {kind: [of_ngrams(run, name, spec.n)[support] for run in runs] for kind, name in kinds.items()}
            draw_lines(ax, runs, values, f"distinct {gram}s", f"no {gram} has {which[1]}")
            title_lines(ax, runs, which[0])
            ax.yaxis.set_major_locator(whole_numbers())
            ax.label_outer()
        line_legends(figure, axes[0], runs, list(kinds))
    return figure


def new(spec: FigureSpec, runs: Sequence[ByLayer]) -> Figure:
    """Paper, Figs. 4, 15: of the n-grams that have a detector in a layer, how many are new, overall and to the last.

    A row a run; left all detectors by the rules of the run, right those that are well supported.
    """
    gram = WORDS[spec.n - 1]
    meaning, rest = detector_rules(runs, spec.n)
    caption = (
        f"{meaning} A bar is the distinct {gram}s that have a detector in the layer, split into those that had none in"
        " any earlier layer of those recorded (new), those that had one, but not in the layer before (with the new"
        " ones: new against that layer), and those that had one there. Left: all detectors by the rules; right: the"
        " well supported ones."
    )
    looks = part_looks(3)
    with sheet(
        spec, caption, runs, lambda run: _covered_fact(run, spec.n) + rest(run), height=2.7 * len(runs) + 0.5
    ) as figure:
        grid = figure.add_gridspec(len(runs), 2)
        for row, (run, name) in enumerate(zip(runs, run_names(runs, most=2.2), strict=True)):
            columns = [of_ngrams(run, column, spec.n) for column in ("new", "new_to_previous", "covered")]
            for support, which in enumerate(SUPPORT):
                ax = figure.add_subplot(grid[row, support])
                parts = list(np.diff([column[support] for column in columns], axis=0, prepend=0))
                stack_bars(ax, run.layers, parts, looks)
                top = max(1, columns[-1][support].max(initial=0))
                ax.set(xlim=(-0.6, run.model_layers - 0.4), ylim=(0, 1.05 * top))
                ax.yaxis.set_major_locator(whole_numbers())
                ax.set_title(f"{name}: {which[0]}" if support == 0 else which[0], loc="left", fontsize=9)
                if support == 0:
                    ax.set_ylabel(f"distinct {gram}s")
                if not columns[-1][support].any():
                    words(ax, f"no {gram} has {which[1]}", 0.45)
        names = ("new: in no earlier layer", "in an earlier one, not the one before", "in the layer before, too")
        part_legend(figure, looks, names, f"{gram}s that have a detector in the layer, from the bottom up")
    return figure


def detector_rules(runs: Sequence[Table], n: int) -> tuple[str, Callable[[Table], str]]:
    """What an n-gram detector is, by the thresholds of the runs: for the caption, and what a run's line adds to it.

    Thresholds that differ between the runs go to the lines.
    """
    gram = WORDS[n - 1]

    def rules(run: Table) -> str:
        limit = run.rules
        return (
            f"at most {limit['max_covering' if n == 1 else 'max_covering_ngrams']} distinct {gram}s, on each of which"
            f" it is active at least {limit['min_rate']}% of the time, account for {limit['coverage']}% of its"
            f" activations (</s> set aside); each occurs at least {limit['min_occurrences']}×. Well supported:"
            f" those that occur at least {limit['support_occurrences']}× suffice, and the neuron is active at least"
            f" {limit['support_activations']:,}×"
        )

    common = len({rules(run) for run in runs}) == 1
    meaning = f"A {gram} detector responds to a handful of {gram}s, always, and to little else"
    return (
        f"{meaning}: {rules(runs[0])}." if common else f"{meaning} (rules differ, see below).",
        lambda run: "" if common else f"; rules: {rules(run)}",
    )


def of_ngrams(run: ByLayer, column: str, n: int) -> np.ndarray:
    """A column's figures for n-grams of length n: `(support, layer)`."""
    return run[column][:, list(run.coords["n"]).index(n)]


def whole_numbers() -> MaxNLocator:
    """Ticks for counts."""
    return MaxNLocator(integer=True, steps=[1, 2, 5, 10])


def _covered_fact(run: ByLayer, n: int) -> str:
    at = list(run.coords["n"]).index(n)
    found, supported = run.overall["covered"][:, at]
    return f"{found:,} distinct {WORDS[n - 1]}s have a detector, {supported:,} a well supported one"
