"""analyze: bits of a run → counts → results, layer by layer, in parts that are done again only when asked differently.

The one analysis loop: `neurolens analyze` calls it on a complete run. What is counted from bits is scan.py's, what
the weights say is updates.py's; here is what is read, written and marked (parts.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from neurolens import IncompleteError, NeurolensError, UsageError, variables
from neurolens.checkpoint import Checkpoint
from neurolens.detectors import TOP, Rules
from neurolens.nulls import Controls
from neurolens.parts import NEEDS, PARTS, mark, marks, units_of, withdraw
from neurolens.scan import SAMPLES, SEED, Scan, count_covered, index_tokens, join_scans, scan_rows
from neurolens.shares import summarize
from neurolens.store import Store, lock
from neurolens.tables import GRAMS, SUPPORT
from neurolens.updates import Settings, project_layer
from neurolens.vocabulary import Vocabulary

LENGTHS = 3  # of n-grams counted unless asked (paper, §4 and App. A)


def analyze_run(
    path: str | Path,
    *,
    only: Collection[str] | None = None,
    lengths: int = LENGTHS,
    rules: Rules | None = None,
    settings: Settings | None = None,
    every: bool = False,
    fold_norm: bool = False,
    model: str | Path | None = None,
    device: str = "cpu",
    say: Callable[[str], object] = lambda line: None,
) -> Store:
    """Analyse a complete run: frequency, dead neurons, contexts; n-gram detectors and triggers; what neurons suppress.

    `only`: parts to do (`dead`, `ngrams`, `updates`), with those they need; None for all. `lengths`: longest n-gram,
    up to 5. Of updates: `every` projects all neurons instead of detectors, `fold_norm` folds in the final LayerNorm's
    gain, `model` is where the checkpoint is now (as the run says), `device` is what multiplies.

    Results and what was asked are written into the run; a part that is there as asked is left alone. Raises
    IncompleteError if the run lacks blocks, or, with all else done, if the checkpoint is gone or has changed;
    NeurolensError if it is no run, is damaged or no longer has bits that a part needs; UsageError for an unknown part
    or a length out of range.
    """
    rules, settings = rules or Rules(), settings or Settings()
    if not 1 <= lengths <= len(GRAMS):
        raise UsageError(f"n-grams of up to {lengths} tokens; expected 1 to {len(GRAMS)}")
    store = Store.open(Path(path), write=True)
    store.require_complete()
    asked: dict[str, dict[str, Any]] = {
        "dead": {"samples": SAMPLES, "seed": SEED, "groups": variables.GROUPS},
        "ngrams": {"lengths": lengths, "rules": asdict(rules), "top": TOP},
        "updates": {**asdict(settings), "every": every, "fold_norm": fold_norm},
    }
    wanted = _with_needs(PARTS if only is None else only)
    done = marks(store)
    todo: list[str] = []
    for part in (part for part in PARTS if part in wanted):  # what builds on a part that is done again is, too
        if done.get(part) != asked[part] or not set(NEEDS[part]).isdisjoint(todo):
            todo.append(part)
    if not todo:
        say(f"{path} is analysed with these thresholds; nothing to do")
        return store
    with lock(store.path):
        store.clean()
        gone: list[str] = []
        if from_bits := [part for part in todo if part != "updates"]:
            store.require_bits()
            gone += withdraw(store, from_bits)
            _scan(store, from_bits, rules, lengths)
            for part in from_bits:
                mark(store, part, asked[part])
        if "updates" in todo:
            checkpoint = _open_checkpoint(store, model, say)  # before what is there is given up
            gone += withdraw(store, ["updates"])
            _project(store, checkpoint, settings, every=every, fold_norm=fold_norm, device=device, say=say)
            mark(store, "updates", asked["updates"])
    if left := [part for part in gone if part in done and part not in todo]:
        say(f"{path}: {', '.join(left)} built on other results and are gone; analyze without --only makes them anew")
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
            for name, counts in whole.dense.items():
                _write(store, f"counts/layers/{layer:02d}/{name}", counts, ("neuron", name))
            for name, values in whole.triggers.items():
                dims = ("trigger", "gram")[: values.ndim]
                _write(store, f"results/layers/{layer:02d}/triggers/{name}", values, dims)
            layers.append(replace(whole, dense={}, triggers={}))  # what is written need not be held
    for name in layers[0].columns:
        _write(store, f"results/neurons/{name}", np.stack([scan.columns[name] for scan in layers]), ("layer", "neuron"))
    if counted:
        for name, total in tokens.totals().items():
            _write(store, f"counts/total/{name}", total, (name,))
        store.write("results/neurons/layer", np.array(store.layers, "<i4"), ("layer",))
        _write(
            store,
            "results/contexts",
            np.stack([scan.contexts for scan in layers]),
            ("layer", "neuron", "sample"),
            seed=SEED,
        )
    if tokens.grams:
        write_by_layer(store, *count_covered(layers, lengths))


def _open_checkpoint(store: Store, model: str | Path | None, say: Callable[[str], object]) -> Checkpoint:
    """The checkpoint that the run was made with. Raises IncompleteError if it is not there."""
    known = store.attrs["model"]
    where = known["id"] if model is None else model
    try:
        checkpoint = Checkpoint(where, known["revision"] if where == known["id"] else None, say=say)
        if checkpoint.fingerprint() != store.attrs["checkpoint"]:
            raise NeurolensError(f"the checkpoint at {where} is not the one the run was made with")
    except NeurolensError as error:
        raise IncompleteError(
            f"{store.path}: all is analysed but updates, which need the run's checkpoint ({error}); "
            "give it with --model FOLDER"
        ) from error
    return checkpoint


def _project(
    store: Store,
    checkpoint: Checkpoint,
    settings: Settings,
    *,
    every: bool,
    fold_norm: bool,
    device: str,
    say: Callable[[str], object],
) -> None:
    """Do what the weights say: value vectors on the vocabulary, detectors beside their nulls."""
    from neurolens.projection import Unembedding  # torch

    vocab_size = int(store.attrs["model"]["config"]["vocab_size"])
    real, texts = np.arange(vocab_size), None
    if store.has("vocabulary"):
        vocabulary = Vocabulary.read(store)
        real, texts = vocabulary.real, vocabulary.texts("surrogateescape")
    else:
        say(f"{store.path} knows no texts of tokens: every row of the embedding is ranked, variants are not recognised")
    projector = Unembedding(checkpoint, real, fold_norm=fold_norm, device=device)
    occurrences = np.bincount(store.read("tokens").reshape(-1), minlength=vocab_size)
    controls = Controls(occurrences, real, texts, separator=int(store.attrs["eos"]))
    dead = store.read("results/neurons/dead")
    columns: dict[str, list[np.ndarray]] = {}
    observed = []
    lengths = marks(store)["ngrams"]["lengths"]
    flags = {
        n: np.stack([store.read(f"results/neurons/{gram}_detector{suffix}") for suffix in ("", "_supported")], axis=1)
        for n, gram in enumerate(GRAMS[:lengths], 1)
    }
    for row, layer in enumerate(tqdm(store.layers, unit="layer", desc="updates", disable=None)):
        folder = f"results/layers/{layer:02d}"
        found = project_layer(
            projector,
            layer,
            np.arange(store.neurons if every else 0),
            {name: store.read(f"{folder}/triggers/{name}") for name in ("neuron", "n", "tokens", "on", "covered")},
            alive=~dead[row],
            detectors={n: of_n[row] for n, of_n in flags.items()},
            controls=controls,
            settings=settings,
        )
        for name, values in found.triggers.items():
            _write(store, f"{folder}/triggers/{name}", values, ("trigger",))
        for name, values in found.updates.items():
            _write(store, f"{folder}/updates/{name}", values, ("row", "place")[: values.ndim])
        for name, values in found.neurons.items():
            columns.setdefault(name, []).append(values)
        observed.append(found.detectors)
    for name, values in columns.items():
        _write(store, f"results/neurons/{name}", np.stack(values), ("layer", "neuron"))
    write_by_layer(store, *summarize(observed))


def write_by_layer(store: Store, by_layer: dict[str, np.ndarray], overall: dict[str, np.ndarray]) -> None:
    """Write columns of `results/by_layer` and `results/overall`, with their coordinates if these are not there."""
    axes = {"n": np.arange(1, next(iter(overall.values())).shape[1] + 1), "layer": np.array(store.layers, "<i4")}
    for folder, columns, dims in (
        ("results/by_layer", by_layer, ("support", "n", "layer")),
        ("results/overall", overall, ("support", "n")),
    ):
        if not store.has(folder):  # else they are of a part that is marked
            store.set_attributes(folder, {"support": list(SUPPORT)})
            for axis in dims[1:]:
                store.write(f"{folder}/{axis}", axes[axis].astype("<i4"), (axis,))
        for name, values in columns.items():
            _write(store, f"{folder}/{name}", values, dims)


def _write(store: Store, name: str, values: np.ndarray, dims: tuple[str, ...], **attributes: Any) -> None:
    """Write an array with its units, if it has any."""
    units = units_of(name)
    store.write(name, values, dims, attributes | ({"units": units} if units else {}))
