"""analyze: bits of a run → counts → results, layer by layer, in parts that are done again only when asked differently.

The one analysis loop: `neurolens analyze` calls it on a complete run. What is counted from bits is scan.py's, what
the weights say is updates.py's; here is what is read, written and marked (parts.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from neurolens import UsageError, variables
from neurolens.detectors import TOP, Rules
from neurolens.parts import NEEDS, PARTS, mark, marks, withdraw
from neurolens.scan import SAMPLES, SEED, Scan, count_covered, index_tokens, join_scans, scan_rows
from neurolens.store import Store, lock
from neurolens.tables import GRAMS, SUPPORT

LENGTHS = 3  # of n-grams counted unless asked (paper, §4 and App. A)


def analyze_run(
    path: str | Path,
    *,
    only: Collection[str] | None = None,
    lengths: int = LENGTHS,
    rules: Rules | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Store:
    """Analyse a complete run: frequency, dead neurons, covering numbers, detectors and triggers of n-grams, contexts.

    `only`: parts to do (`dead`, `ngrams`), with those they need; None for all. `lengths`: longest n-gram, up to 5.
    Results and what was asked are written into the run; a part that is there as asked is left alone. Raises
    IncompleteError if the run lacks blocks, NeurolensError if it is none, is damaged or no longer has bits that a
    part needs, UsageError for an unknown part or a length out of range.
    """
    rules = rules or Rules()
    if not 1 <= lengths <= len(GRAMS):
        raise UsageError(f"n-grams of up to {lengths} tokens; expected 1 to {len(GRAMS)}")
    store = Store.open(Path(path), write=True)
    store.require_complete()
    asked: dict[str, dict[str, Any]] = {
        "dead": {"samples": SAMPLES, "seed": SEED, "groups": variables.GROUPS},
        "ngrams": {"lengths": lengths, "rules": asdict(rules), "top": TOP},
    }
    wanted = _with_needs(PARTS if only is None else only)
    done = marks(store)
    todo = [part for part in asked if part in wanted and done.get(part) != asked[part]]
    if not todo:
        say(f"{path} is analysed with these thresholds; nothing to do")
        return store
    with lock(store.path):
        store.clean()
        withdraw(store, todo)
        _scan(store, todo, rules, lengths)
        for part in todo:
            mark(store, part, asked[part])
    return Store.open(Path(path))


def _with_needs(parts: Collection[str]) -> set[str]:
    if unknown := sorted(set(parts) - set(PARTS)):
        raise UsageError(f"no analysis {unknown[0]!r}; expected {', '.join(PARTS)}")
    return set(parts).union(*(NEEDS[part] for part in parts))


def _scan(store: Store, todo: Collection[str], rules: Rules, lengths: int) -> None:
    """Do what is counted from bits, in one pass."""
    corpus, order = store.corpus(), store.read("order")
    vocab_size = int(store.attrs["model"]["config"]["vocab_size"])
    counted = "dead" in todo
    tokens = index_tokens(corpus, order, vocab_size, most=lengths if "ngrams" in todo else 0)
    layers: list[Scan] = []
    contexts = []

    def scan(layer: int, neurons: slice) -> Scan:
        return scan_rows(store.rows(layer, neurons), neurons.start, tokens, rules, counted=counted)

    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(store.layers) * store.neurons, unit="neuron", desc="analyze", disable=None) as bar,
    ):
        for layer in store.layers:
            parts = []
            for part in pool.map(lambda neurons: scan(layer, neurons), store.neuron_chunks()):  # noqa: B023
                parts.append(part)
                bar.update(len(part.contexts))
            whole = join_scans(parts)
            contexts.append(whole.contexts)
            for name, counts in whole.dense.items():
                store.write(f"counts/layers/{layer:02d}/{name}", counts, ("neuron", name))
            for name, values in whole.triggers.items():
                dims = ("trigger", "gram")[: values.ndim]
                store.write(f"results/layers/{layer:02d}/triggers/{name}", values, dims)
            layers.append(Scan(whole.columns, {}, whole.contexts[:0], {}, whole.covered))
    for name in layers[0].columns:
        store.write(f"results/neurons/{name}", np.stack([scan.columns[name] for scan in layers]), ("layer", "neuron"))
    if counted:
        for variable in tokens.dense:
            store.write(f"counts/total/{variable.name}", variable.total, (variable.name,))
        store.write("results/neurons/layer", np.array(store.layers, "<i4"), ("layer",))
        store.write("results/contexts", np.stack(contexts), ("layer", "neuron", "sample"), {"seed": SEED})
    if tokens.grams:
        write_by_layer(store, *count_covered(layers, lengths))


def write_by_layer(store: Store, by_layer: dict[str, np.ndarray], overall: dict[str, np.ndarray]) -> None:
    """Write columns of `results/by_layer` and `results/overall`, with their coordinates."""
    axes = {"n": np.arange(1, next(iter(overall.values())).shape[1] + 1), "layer": np.array(store.layers, "<i4")}
    for folder, columns, dims in (
        ("results/by_layer", by_layer, ("support", "n", "layer")),
        ("results/overall", overall, ("support", "n")),
    ):
        store.set_attributes(folder, {"support": list(SUPPORT)})
        for axis in dims[1:]:
            store.write(f"{folder}/{axis}", axes[axis].astype("<i4"), (axis,))
        for name, values in columns.items():
            store.write(f"{folder}/{name}", values, dims)
