"""demonstrate: the embedded model on held-out text of this Python installation, from text to figures and a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from neurolens.activity import dead_upper_bound, mean_frequency_of_alive
from neurolens.analyze import analyze_run
from neurolens.checkpoint import Checkpoint
from neurolens.collect import collect
from neurolens.corpus import Corpus
from neurolens.data import DataSpec, read_corpus
from neurolens.decoder import shape_of
from neurolens.demo import MODEL
from neurolens.plots import FIGURES, draw, drawable, save
from neurolens.report.page import write_report
from neurolens.run import Run, open_run
from neurolens.sources import DEMO, find_sources

RUN, REPORT = "demo.zarr", "report.html"  # in the folder
TOKENS = 393_216  # a block and a half: enough for the curve of dead neurons to flatten, under a minute on two cores


def demonstrate(
    folder: Path, *, model: Path = MODEL, tokens: int = TOKENS, say: Callable[[str], object] = print
) -> list[str]:
    """Collect, analyze, plot and report into `folder`; returns what was written and found, a line each."""
    folder.mkdir(parents=True, exist_ok=True)
    run_path = folder / RUN
    say("neurolens demo: a small OPT, trained on this kind of text, reads held-out code, prose and math")
    corpus = demo_corpus(model, tokens)
    collect(model, corpus, run_path, keep_bitmaps="all", say=say)  # 122 MB
    analyze_run(run_path, say=say)
    run = open_run(run_path)
    figures = [
        path
        for name in drawable([run])[0]
        for path in save(draw(name, [run.table(FIGURES[name].table)]), folder / "figures", name)
    ]
    report = write_report([run], folder / REPORT)
    return [
        f"wrote {run_path} and {len(figures)} figures in {folder / 'figures'}",
        *summary(run),
        f"  to look    open {report} in a browser: figures, every neuron, every token",
    ]


def demo_corpus(model: Path, tokens: int) -> Corpus:
    """Held-out documents of this Python installation, in equal shares of code, prose and math."""
    checkpoint, spec = Checkpoint(model), DataSpec((DEMO,), tokens=tokens)
    return read_corpus(spec, find_sources(spec.paths), checkpoint, shape_of(checkpoint).positions)


def summary(run: Run) -> list[str]:
    """What was found, a line a question."""
    neurons, facts = run.neurons, run.info()
    layers, width = neurons.shape
    dead = neurons["dead"]
    frequency = mean_frequency_of_alive(neurons["frequency"], dead)
    found, supported = run.by_layer.overall["detectors"]
    return [
        f"  text       {run.store.n_tokens:,} tokens through {layers} layers of {width:,} neurons; bits take "
        f"{facts['stored_bytes'] / 1e6:.0f} MB ({facts['stored_over_entropy']:.2f} of their zero-order entropy)",
        f"  dead       {int(dead.sum()):,} of {dead.size:,} neurons never fired (by layer: {_listed(dead.sum(1))}): "
        f"each fires on less than 1 token in {1 / dead_upper_bound(run.store.n_tokens):,.0f} (95%)",
        f"  only </s>  {int(neurons['dead_but_bos'].sum()):,} fired on sequence starts and separators alone",
        f"  frequency  of those alive, mean by layer: {_listed(f'{100 * value:.1f}%' for value in frequency)}",
        f"  detectors  {found[0]} of tokens, {found[1]} of bigrams, {found[2]} of trigrams by the paper's rules; "
        f"well supported: {supported[0]}, {supported[1]}, {supported[2]}",
        *_suppression(run),
        *_positional(facts),
        *_contrast(facts),
        *_example(run),
        *_clearest(run),
    ]


def _suppression(run: Run) -> list[str]:
    """The share of token detectors that suppress their triggers, at both levels of support, beside both nulls."""
    overall, lines = run.by_layer.overall, []
    for support, text in enumerate(
        (
            "  suppress   {} of the token detectors push their own triggers down; of other neurons {} do, of the same "
            "ones {} at other tokens as frequent",
            "             well supported: {}; {}; {}",
        )
    ):
        share, low, high, neurons, tokens = (
            100 * float(overall[column][support, 0])
            for column in ("suppressing", "suppressing_low", "suppressing_high", "null_neurons", "null_tokens")
        )
        if not isnan(share):
            lines.append(text.format(f"{share:.0f}% ({low:.0f}–{high:.0f}%)", f"{neurons:.0f}%", f"{tokens:.0f}%"))
    return lines


def _positional(facts: Mapping[str, Any]) -> list[str]:
    """Positional neurons, and the type that most of them are; no line if positions are not analysed."""
    if "positional" not in facts:
        return []
    types = {name.replace("_", " "): sum(count.values()) for name, count in facts["position_types"].items()}
    strong = sum(count["strong"] for count in facts["position_types"].values())
    found, most = sum(facts["positional"]), max(types, key=lambda name: types[name])
    line = (
        f"  positions  {found} positional neurons (by layer: {_listed(facts['positional'])}), {strong} of them strong"
    )
    return [f"{line}; the most frequent type: {most} ({types[most]})" if found else line]


def _contrast(facts: Mapping[str, Any]) -> list[str]:
    """Neurons of one label, and of these the well supported ones; no line if labels are not contrasted."""
    if "label_only" not in facts:
        return []
    found = facts["label_only"]
    each = ", ".join(f"{label} {count['all']:,}" for label, count in found.items())
    supported = ", ".join(f"{count['supported']:,}" for count in found.values())
    return [f"  contrast   neurons active in one kind of text alone: {each}; well supported: {supported}"]


def _example(run: Run) -> list[str]:
    """The example with the most tokens, of these the most active; no line if there is none."""
    examples = run.examples()
    if not examples.examples:
        return []
    best = max(examples.examples, key=lambda example: (len(example.triggers), example.activations))
    texts = ", ".join(ascii(examples.token(token.id)) for token in best.triggers)
    name = f"{best.layer}.{best.neuron}"
    return [f"  for example {name} fires on {texts}: neurolens neuron {run.path} {name}"]


def _clearest(run: Run) -> list[str]:
    """The positional neuron that depends most on the position, strong ones first; no line without any."""
    if "positions" not in run.parts or not len(run.positions["neuron"]):
        return []
    found = run.positions
    best = np.lexsort((found["mi_corrected"], found["strength"] == "strong"))[-1]
    name = f"{found['layer'][best]}.{found['neuron'][best]}"
    kind = f"{found['type'][best]}, {found['strength'][best]}".replace("_", " ")
    return [f"  for example {name} depends on the position ({kind}): neurolens neuron {run.path} {name}"]


def _listed(values: object) -> str:
    return " ".join(map(str, values))  # type: ignore[call-overload]
