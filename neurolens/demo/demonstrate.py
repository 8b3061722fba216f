"""demonstrate: the embedded model on held-out text of this Python installation, from text to figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from neurolens.activity import dead_upper_bound, mean_frequency_of_alive
from neurolens.analyze import analyze_run
from neurolens.checkpoint import Checkpoint
from neurolens.collect import collect
from neurolens.corpus import Corpus, pack_documents
from neurolens.demo.text import documents
from neurolens.documents import Document
from neurolens.plots import FIGURES, draw, drawable, save
from neurolens.run import Run, open_run

MODEL = Path(__file__).with_name("model")
RUN = "demo.zarr"  # in the folder
TOKENS = 393_216  # a block and a half: enough for the curve of dead neurons to flatten, under a minute on two cores


def demonstrate(
    folder: Path, *, model: Path = MODEL, tokens: int = TOKENS, say: Callable[[str], object] = print
) -> list[str]:
    """Collect, analyze and plot into `folder`; returns what was written and found, a line each."""
    folder.mkdir(parents=True, exist_ok=True)
    run_path = folder / RUN
    say("neurolens demo: a small OPT, trained on this kind of text, reads held-out code, prose and math")
    corpus = demo_corpus(model, tokens)
    collect(model, corpus, run_path, say=say)
    analyze_run(run_path, say=say)
    run = open_run(run_path)
    figures = [
        path
        for name in drawable([run])[0]
        for path in save(draw(name, [run.table(FIGURES[name].table)]), folder / "figures", name)
    ]
    return [
        f"wrote {run_path} and {len(figures)} figures in {folder / 'figures'}",
        *summary(run, Checkpoint(model)),
    ]


def demo_corpus(model: Path, tokens: int) -> Corpus:
    """Held-out documents of this Python installation, in equal shares of code, prose and math."""
    checkpoint = Checkpoint(model)
    texts = (Document(text, label, 0, i) for i, (text, label) in enumerate(documents("held")))
    return pack_documents(
        texts, checkpoint.encoder(), positions=int(checkpoint.config["max_position_embeddings"]), tokens=tokens
    )


def summary(run: Run, checkpoint: Checkpoint) -> list[str]:
    """What was found, in five lines."""
    neurons, facts = run.neurons, run.info()
    layers, width = neurons.shape
    dead = neurons["dead"]
    frequency = mean_frequency_of_alive(neurons["frequency"], dead)
    return [
        f"  text       {run.store.n_tokens:,} tokens through {layers} layers of {width:,} neurons; bits take "
        f"{facts['stored_bytes'] / 1e6:.0f} MB ({facts['stored_over_entropy']:.2f} of their zero-order entropy)",
        f"  dead       {int(dead.sum()):,} of {dead.size:,} neurons never fired (by layer: {_listed(dead.sum(1))}): "
        f"each fires on less than 1 token in {1 / dead_upper_bound(run.store.n_tokens):,.0f} (95%)",
        f"  only </s>  {int(neurons['dead_but_bos'].sum()):,} fired on sequence starts and separators alone",
        f"  frequency  of those alive, mean by layer: {_listed(f'{100 * value:.1f}%' for value in frequency)}",
        f"  detectors  {int(neurons['unigram_detector'].sum()):,} token detectors by the paper's rules, "
        f"{int(neurons['unigram_detector_supported'].sum()):,} well supported{_example(run, checkpoint)}",
    ]


def _example(run: Run, checkpoint: Checkpoint) -> str:
    """The supported detector with the most tokens, of these the most active, and its tokens; nothing if none is."""
    neurons, tokenizer = run.neurons, checkpoint.tokenizer()
    best = (0, 0, "")
    for row, layer in enumerate(neurons.layers):
        triggers = run.triggers(int(layer))
        for neuron in np.flatnonzero(neurons["unigram_detector_supported"][row] & neurons["unigram_detector"][row]):
            tokens = triggers["tokens"][triggers["covered"] & (triggers["neuron"] == neuron), -1]
            texts = ", ".join(ascii(tokenizer.decode([int(token)])) for token in tokens)
            says = f"; e.g. neuron {layer}.{neuron} fires on {texts}"
            best = max(best, (len(tokens), int(neurons["activations"][row, neuron]), says))
    return best[2]


def _listed(values: object) -> str:
    return " ".join(map(str, values))  # type: ignore[call-overload]
