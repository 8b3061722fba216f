"""analyze: bits of a run → counts → results, layer by layer, a stretch of neurons at a time.

The one analysis loop: `neurolens analyze` calls it on a complete run. A pass over the rows of a layer counts every
variable at once; neurons are independent, so stretches go to as many threads as there are cores (the kernels hold
no interpreter lock) and memory depends on the length of a row, not on the number of neurons.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from neurolens import kernels, variables
from neurolens.activity import Activity
from neurolens.bits import popcount
from neurolens.counts import tabulate, tabulate_sparse
from neurolens.detectors import Detectors, Rules, find_detectors, wilson_lower_bound
from neurolens.store import Store, lock
from neurolens.variables import Variable

SAMPLES = 16  # contexts kept for every neuron
SEED = 0  # of their choice


@dataclass(frozen=True)
class _Tokens:
    """What every stretch of neurons needs to know of the tokens, in the order of the rows' bits."""

    index: np.ndarray  # of the token in the corpus
    priority: np.ndarray  # for the sample of contexts
    token: Variable
    dense: list[Variable]


@dataclass(frozen=True)
class _Part:
    """Results of a stretch of neurons."""

    activity: Activity
    detectors: list[tuple[int, Detectors]]  # (first neuron, what was found from there on)
    dense: dict[str, np.ndarray]
    contexts: np.ndarray


def analyze_run(
    path: str | Path, *, rules: Rules | None = None, say: Callable[[str], object] = lambda line: None
) -> Store:
    """Analyse a complete run: frequency, dead neurons, unigram covering numbers, token detectors, counts, contexts.

    Results and the thresholds they were made with are written into the run; analysing again with the same ones does
    nothing. Raises IncompleteError if the run lacks blocks, NeurolensError if it is none or is damaged.
    """
    rules = rules or Rules()
    store = Store.open(Path(path), write=True)
    store.require_complete()
    asked = {"rules": asdict(rules), "samples": SAMPLES, "seed": SEED, "groups": variables.GROUPS}
    if store.has("results") and store.attributes("results").get("analysis") == asked:
        say(f"{path} is analysed with these thresholds; nothing to do")
        return store
    with lock(store.path):
        store.clean()
        store.set_attributes("results", {})  # no mark while results change: a stop leaves the run *not analysed*
        _analyze(store, rules)
        store.set_attributes("results", {"analysis": asked, "n_tokens": store.n_tokens})
    return Store.open(Path(path))


def _analyze(store: Store, rules: Rules) -> None:
    corpus, order = store.corpus(), store.read("order")
    vocab_size = int(store.attrs["model"]["config"]["vocab_size"])
    dense = [variables.position(corpus), variables.label(corpus), variables.group(corpus)]
    tokens = _Tokens(
        index=order,
        priority=token_priority(order, seed=SEED),
        token=variables.token(corpus, vocab_size).in_order(order),
        dense=[variable.in_order(order) for variable in dense],
    )
    columns: dict[str, list[np.ndarray]] = {}
    contexts = []
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(store.layers) * store.neurons, unit="neuron", desc="analyze", disable=None) as bar,
    ):
        for layer in store.layers:
            parts = []
            for part in pool.map(
                lambda neurons: _analyze_rows(store, layer, neurons, tokens, rules),  # noqa: B023
                store.neuron_chunks(),
            ):
                parts.append(part)
                bar.update(len(part.activity.activations))
            for name, values in _columns(parts).items():
                columns.setdefault(name, []).append(values)
            contexts.append(np.concatenate([part.contexts for part in parts]))
            for variable in tokens.dense:
                counts = np.concatenate([part.dense[variable.name] for part in parts])
                store.write(f"counts/layers/{layer:02d}/{variable.name}", counts, ("neuron", variable.name))
            for name, values in _triggers(parts).items():
                dims = ("trigger", "gram")[: values.ndim]
                store.write(f"results/layers/{layer:02d}/triggers/{name}", values, dims)
    for variable in dense:
        store.write(f"counts/total/{variable.name}", variable.total, (variable.name,))
    for name, values in columns.items():
        store.write(f"results/neurons/{name}", np.stack(values), ("layer", "neuron"))
    store.write("results/neurons/layer", np.array(store.layers, "<i4"), ("layer",))
    store.write("results/contexts", np.stack(contexts), ("layer", "neuron", "sample"), {"seed": SEED})


def _analyze_rows(store: Store, layer: int, neurons: slice, tokens: _Tokens, rules: Rules) -> _Part:
    rows = store.rows(layer, neurons)
    on_text = np.zeros(len(rows), np.int64)
    detectors = []
    for part, counts in tabulate_sparse(rows, tokens.token):
        on_text[part] = counts.activations()
        detectors.append((neurons.start + part.start, find_detectors(counts, rules)))
    contexts = np.empty((len(rows), SAMPLES), np.int64)
    kernels.sample(rows, tokens.index, tokens.priority, contexts)
    activity = Activity(
        popcount(rows.view(np.uint8)), on_text, kernels.first_set(rows, tokens.index), len(tokens.index)
    )
    dense = {variable.name: tabulate(rows, variable).compact() for variable in tokens.dense}
    return _Part(activity, detectors, dense, contexts)


def _columns(parts: list[_Part]) -> dict[str, np.ndarray]:
    """Columns of `results/neurons` for one layer, each `(neuron,)`."""

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(part.activity, name) for part in parts])

    def found(name: str) -> np.ndarray:
        return np.concatenate([getattr(detectors, name) for part in parts for _, detectors in part.detectors])

    return {
        "frequency": joined("frequency"),
        "activations": joined("activations"),
        "activations_on_text": joined("on_text"),
        "first_active": joined("first_active"),
        "dead": joined("dead"),
        "dead_but_bos": joined("dead_but_bos"),
        "unigrams_95": found("covering").astype(np.int32),
        "unigram_detector": found("detector"),
        "unigram_detector_supported": found("supported"),
    }


def _triggers(parts: list[_Part]) -> dict[str, np.ndarray]:
    """Columns of a layer's `triggers` table, each `(trigger,)`; `tokens` `(trigger, gram)` in reading order."""
    found = [(first, detectors.triggers) for part in parts for first, detectors in part.detectors]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([triggers[name] for _, triggers in found])

    on, total = joined("on"), joined("total")
    return {
        "neuron": np.concatenate([triggers["neuron"] + first for first, triggers in found]).astype(np.int32),
        "n": np.ones(len(on), np.uint8),
        "tokens": joined("token").astype(np.int32)[:, None],
        "on": on,
        "total": total,
        "rate_lower": wilson_lower_bound(on, total),
        "covered": joined("covered"),
    }


def token_priority(index: np.ndarray, *, seed: int) -> np.ndarray:
    """A hash of each token's index: uint64 `(tokens,)`; the least ones of a set are a uniform sample of it.

    SplitMix64 (Steele, Lea and Flood 2014) of index and seed: depends on nothing else, so the sample is the same
    in whatever order, split or merge the tokens are met.
    """
    with np.errstate(over="ignore"):
        z = (index.astype(np.uint64) + np.uint64(seed + 1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
