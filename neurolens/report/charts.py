"""charts: the paper's figures over all runs of a page, as numbers that its scripts draw and list.

A chart is what the page is told: `id`, `title`, `source`, `part`, `kind` (`line`, `stack`), a `note`, `x` and `y`
with their `label`, and `series`, each of one run: `name`, `run`, `x`, `y`, `low` and `high` where there are intervals.
Shares are in [0, 1], `percent` says that they are shown as percents; NaN is a point that is not there. Charts that
compare kinds of neurons are one a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from neurolens.activity import mean_frequency_of_alive, saturation
from neurolens.run import Run
from neurolens.tables import EDGES, GRAMS, TYPES, WORDS, Table

LINES = 8  # layers of a run whose saturation is shown, and labels, at most
POINTS = 48  # of a line of saturation


class Chart:
    """A chart in the making: series of one run after another."""

    def __init__(self, runs: Sequence[Run], name: str, title: str, source: str, part: str, **more: Any) -> None:
        """`more`: `y`, what is counted, or of what a share is; `note`; `percent`; `stack`; `only` one run's number."""
        self.runs, self.part, only = runs, part, more.get("only")
        if only is not None:
            name, title = f"{name}-{only}", f"{title} · {runs[only].name}" if len(runs) > 1 else title
        y = {"label": more["y"], "percent": more.get("percent", False)}
        kind = "stack" if more.get("stack") else "line"
        self.told: dict[str, Any] = {"id": name, "title": title, "source": source, "part": part, "kind": kind}
        self.told |= {"note": more["note"], "x": {"label": "layer", "values": []}, "y": y, "series": []}
        self._named = only is None and len(runs) > 1

    def add(self, number: int, kind: str, y: Any, table: Table | None = None, column: str = "", **more: Any) -> None:
        """A series of a run: `kind`, what it is of; with the interval of a `column` of a `table` if it has one."""
        run = self.runs[number]
        name = " · ".join(filter(None, (run.name if self._named or not kind else "", kind)))
        if table is not None:
            more |= {end: table[f"{column}_{end}"] for end in ("low", "high")}
        self.told["series"].append({"name": name, "run": number, "x": run.store.layers, "y": y, **more})


def draw_charts(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """All charts of which any run has results, in the order of the paper."""
    kinds = (_dead, _frequency, _covering, _detectors, _covered, _suppression, _positional, _contrast, _saturation)
    drawn = [chart.told for draw in kinds for chart in draw(runs)]
    return [each for each in drawn if any(np.isfinite(np.asarray(of["y"], float)).any() for of in each["series"])]


def _having(runs: Sequence[Run], part: str, n: int = 0) -> Iterator[tuple[int, Run]]:
    """Those that are analysed for a part, n-grams of n tokens; with their numbers."""
    for number, run in enumerate(runs):
        if part in run.parts and run.parts.get("ngrams", {}).get("lengths", 0) >= n:
            yield number, run


def _dead(runs: Sequence[Run]) -> Iterator[Chart]:
    note = "Active on no token of the text; dashed: or on </s> alone. Bands: 95% intervals over groups of sequences."
    y = "of the layer's neurons"
    chart = Chart(runs, "dead", "Dead neurons", "paper, Fig. 1a", "dead", y=y, note=note, percent=True)
    for number, run in _having(runs, "dead"):
        dead, silent = (run.neurons["dead"] | extra for extra in (False, run.neurons["dead_but_bos"]))
        chart.add(number, "dead", dead.mean(1), run.neurons.activity, "dead", rows={"class": "dead"})
        if (silent != dead).any():
            chart.add(number, "dead, or on </s> alone", silent.mean(1), dash=True)
    yield chart


def _frequency(runs: Sequence[Run]) -> Iterator[Chart]:
    note = "Mean over the neurons that are not dead, of the share of tokens each is active on. Bands: 95% intervals."
    title, source = "How often neurons are active", "paper, Fig. 1b"
    chart = Chart(runs, "frequency", title, source, "dead", y="of tokens", note=note, percent=True)
    for number, run in _having(runs, "dead"):
        mean = mean_frequency_of_alive(run.neurons["frequency"], run.neurons["dead"])
        chart.add(number, "", mean, run.neurons.activity, "frequency")
    yield chart


def _covering(runs: Sequence[Run]) -> Iterator[Chart]:
    for n, source in ((1, "paper, Fig. 2"), (2, "paper, Fig. 12"), (3, "paper, Fig. 13")):
        edges, title = EDGES[n], f"How many {WORDS[n - 1]}s a neuron responds to"
        names = [f"{a:,}–{b:,}" for a, b in zip([1, *(edge + 1 for edge in edges)], edges, strict=False)]
        names.append(f"over {edges[-1]:,}")
        for number, run in _having(runs, "ngrams", n):
            share = run.parts["ngrams"]["rules"]["coverage"]
            note = f"Least number of distinct {WORDS[n - 1]}s that account for {share}% of a neuron's activations."
            look = {"y": "of neurons active on any", "percent": True, "stack": True, "only": number}
            chart = Chart(runs, f"covering-{n}", title, source, "ngrams", note=note, **look)
            covering = run.neurons[f"{GRAMS[n - 1]}s_95"]
            bins, some = np.searchsorted(edges, covering), covering > 0
            for i, name in enumerate(names):
                chart.add(number, name, (some & (bins == i)).sum(1) / np.maximum(1, some.sum(1)))
            yield chart


def _detectors(runs: Sequence[Run]) -> Iterator[Chart]:
    for n, source in ((1, "paper, Fig. 3a"), (2, "ours"), (3, "paper, Fig. 14")):
        name, word = f"{GRAMS[n - 1]}_detector", WORDS[n - 1]
        note = f"By the paper's rules; dashed: those whose {word}s are seen often enough to be sure."
        title, y = f"{word.capitalize()} detectors", "neurons of the layer"
        chart = Chart(runs, f"detectors-{n}", title, source, "ngrams", y=y, note=note)
        for number, run in _having(runs, "ngrams", n):
            chart.add(number, "all", run.neurons[name].sum(1), rows={"class": name})
            supported = f"{name}_supported"
            chart.add(number, "well supported", run.neurons[supported].sum(1), dash=True, rows={"class": supported})
        yield chart


def _covered(runs: Sequence[Run]) -> Iterator[Chart]:
    for n, sources in ((1, ("paper, Fig. 3b", "paper, Fig. 4")), (3, ("paper, Fig. 15", "paper, Fig. 15"))):
        word, y = WORDS[n - 1].capitalize(), f"distinct {WORDS[n - 1]}s"
        note = "Those that a detector of the layer covers; dashed: one of it or an earlier layer."
        covered = Chart(runs, f"covered-{n}", f"{word}s that have a detector", sources[0], "ngrams", y=y, note=note)
        note = "Of those with a detector in the layer: with none in an earlier one; dashed: none in the one before."
        new = Chart(runs, f"new-{n}", f"{word}s that a layer adds", sources[1], "ngrams", y=y, note=note)
        for number, run in _having(runs, "ngrams", n):
            of = {name: run.by_layer[name][0, n - 1] for name in ("covered", "cumulative", "new", "new_to_previous")}
            covered.add(number, "in the layer", of["covered"])
            covered.add(number, "so far", of["cumulative"], dash=True)
            new.add(number, "new", of["new"])
            new.add(number, "new to the layer before", of["new_to_previous"], dash=True)
        yield from (covered, new)


def _suppression(runs: Sequence[Run]) -> Iterator[Chart]:
    note = (
        "Token detectors whose value vector points away from their triggers; dashed: other neurons at the same tokens,"
        " and the same neurons at other tokens as frequent. Bands: 95% intervals. In OPT the paper found over 80%."
    )
    kinds = {"detectors": "suppressing", "other neurons": "null_neurons", "other tokens": "null_tokens"}
    title, look = "Do detectors suppress their triggers?", {"y": "of token detectors", "percent": True}
    for number, run in _having(runs, "updates"):
        chart = Chart(runs, "suppression", title, "paper, §4.4", "updates", note=note, only=number, **look)
        for kind, name in kinds.items():
            share, low, high = (run.by_layer[f"{name}{end}"][0, 0] for end in ("", "_low", "_high"))
            chart.add(number, kind, share, low=low, high=high, dash=kind != "detectors")
        yield chart


def _positional(runs: Sequence[Run]) -> Iterator[Chart]:
    note = "Neurons that depend on the position (mutual information above the threshold), by the shape of their curve."
    title, source = "Positional neurons", "paper, Figs. 8, 16"
    for number, run in _having(runs, "positions"):
        look = {"y": "neurons of the layer", "stack": True, "only": number}
        chart = Chart(runs, "positional", title, source, "positions", note=note, **look)
        for kind, count in zip(TYPES[1:], run.positions.by_layer["count"].sum(1), strict=True):
            chart.add(number, kind.replace("_", " "), count, rows={"class": kind})
        yield chart
    if len(runs) > 1:
        note = "Share of each layer's neurons. Bands: 95% intervals."
        look = {"y": "of the layer's neurons", "percent": True}
        chart = Chart(runs, "positional", f"{title} of all runs", "paper, Figs. 10, 11", "positions", note=note, **look)
        for number, run in _having(runs, "positions"):
            chart.add(number, "", run.positions.tiling["share"], run.positions.tiling, "share")
        yield chart


def _contrast(runs: Sequence[Run]) -> Iterator[Chart]:
    note, title = "Neurons active in one kind of text alone.", "Neurons of one kind of text"
    for number, run in _having(runs, "contrast"):
        labels, only = run.contrast.coords["label"], run.contrast["only"]
        if len(labels) > 1:
            look = {"y": "neurons of the layer", "stack": True, "only": number}
            chart = Chart(runs, "contrast", title, "ours", "contrast", note=note, **look)
            for label, count in zip(labels[:LINES], only, strict=False):
                chart.add(number, label, count)
            yield chart


def _saturation(runs: Sequence[Run]) -> Iterator[Chart]:
    note = "A line that still rises at its end says that more text would find more neurons alive."
    for number, run in _having(runs, "dead"):
        look = {"y": "of the layer's neurons, active at least once", "percent": True, "only": number}
        chart = Chart(runs, "saturation", "How certain is dead?", "ours", "dead", note=note, **look)
        chart.told["x"] = {"label": "tokens seen", "values": [], "log": True}
        layers = run.store.layers
        chosen = np.unique(np.linspace(0, len(layers) - 1, min(len(layers), LINES)).round().astype(int))
        tokens, alive = saturation(run.neurons["first_active"][chosen], run.store.n_tokens, points=POINTS)
        for row, count in zip(chosen, alive, strict=True):
            chart.add(number, f"layer {layers[row]}", count / run.store.neurons)
            chart.told["series"][-1]["x"] = tokens
        yield chart
