"""analyze: bits of a run → counts → results, layer by layer, in parts that are done again only when asked differently.

The one analysis loop: `neurolens analyze` calls it on a complete run. What is counted from bits is scan.py's, what
the weights say is updates.py's; here is what is read, written and marked (parts.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from neurolens import IncompleteError, NeurolensError, UsageError
from neurolens.activity import measure_spread
from neurolens.bootstrap import Bootstrap, Groups, draw_groups
from neurolens.checkpoint import Checkpoint
from neurolens.contrast import MOST_LABELS, ContrastRules, contrast_labels
from neurolens.curves import PositionRules
from neurolens.detectors import Rules
from neurolens.location import Where, locate
from neurolens.locks import lock
from neurolens.nulls import Controls
from neurolens.parts import FROM_BITS, NEEDS, PARTS, mark, marks, withdraw
from neurolens.progress import Progress
from neurolens.results import write_array, write_by_layer, write_columns, write_counts, write_neurons, write_positional
from neurolens.scan import Scan, count_covered
from neurolens.scanner import LENGTHS, Asked, Scanner
from neurolens.shares import summarize
from neurolens.store import Store
from neurolens.tables import GRAMS
from neurolens.tokens import SEED
from neurolens.updates import Settings, project_layer
from neurolens.vocabulary import Vocabulary


def analyze_run(
    path: str | Where,
    *,
    only: Collection[str] | None = None,
    lengths: int = LENGTHS,
    rules: Rules | None = None,
    settings: Settings | None = None,
    positions: PositionRules | None = None,
    contrast: ContrastRules | None = None,
    bootstrap: Bootstrap | None = None,
    every: bool = False,
    fold_norm: bool = False,
    model: str | Path | None = None,
    device: str = "cpu",
    say: Callable[[str], object] = lambda line: None,
) -> Store:
    """Analyse a complete run: frequency, dead neurons, contexts; n-gram detectors and triggers; positional neurons;
    what labels differ in; what neurons suppress.

    `only`: parts to do (`PARTS`), with those they need; None for all. `lengths`: longest n-gram, up to 5. `rules` are
    those of detectors, `positions` and `contrast` those of their parts, `bootstrap` is how intervals are found. Of
    updates: `settings`; `every` projects all neurons instead of detectors and positional ones, `fold_norm` folds in the
    final LayerNorm's gain, `model` is where the checkpoint is now (as the run says), `device` is what multiplies.

    Results and what was asked are written into the run; a part that is there as asked is left alone. Raises
    IncompleteError if the run lacks blocks, or, with all else done, if the checkpoint is gone or has changed;
    NeurolensError if it is no run, is damaged or no longer has bits that a part needs; UsageError for an unknown part
    or a length out of range.
    """
    settings, contrast, bootstrap = settings or Settings(), contrast or ContrastRules(), bootstrap or Bootstrap()
    of_bits = Asked(lengths, rules or Rules(), positions or PositionRules(), bootstrap)
    if not 1 <= lengths <= len(GRAMS):
        raise UsageError(f"n-grams of up to {lengths} tokens; expected 1 to {len(GRAMS)}")
    store = Store.open(locate(path), write=True)
    store.require_complete()
    asked: dict[str, dict[str, Any]] = {
        **of_bits.marks(),
        "contrast": {"rules": asdict(contrast), "bootstrap": asdict(bootstrap)},
        "updates": {**asdict(settings), "every": every, "fold_norm": fold_norm},
    }
    wanted = _with_needs(PARTS if only is None else only)
    if "contrast" in wanted and (labels := len(store.attrs["label_names"])) > MOST_LABELS:
        if only is not None:
            raise UsageError(f"{path} has {labels:,} labels; contrast compares up to {MOST_LABELS}")
        say(f"{path} has {labels:,} labels; contrast compares up to {MOST_LABELS} and is left out")
        wanted.remove("contrast")
    if store.by_counts and (beyond := wanted - {"dead", "contrast"}):
        line = (
            f"{path} was merged of counts: ngrams, updates and other thresholds of dead and positions need bits, which "
            "it never had"
        )
        if only is not None:
            raise UsageError(f"{line}; of it there can be contrast, or collect its texts with --keep-bitmaps all")
        say(f"{line}; they are left out")
        wanted -= beyond
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
        if from_bits := [part for part in todo if part in FROM_BITS]:
            store.require_bits()
            gone += withdraw(store, from_bits)
            with Scanner(store, from_bits, of_bits) as scanner:
                _scan(store, scanner)
            for part in from_bits:
                mark(store, part, asked[part])
        if "contrast" in todo:
            gone += withdraw(store, ["contrast"])
            _contrast(store, contrast, bootstrap)
            mark(store, "contrast", asked["contrast"])
        if "updates" in todo:
            checkpoint = _open_checkpoint(store, model, say)  # before what is there is given up
            gone += withdraw(store, ["updates"])
            _project(store, checkpoint, settings, every=every, fold_norm=fold_norm, device=device, say=say)
            mark(store, "updates", asked["updates"])
    if left := [part for part in gone if part in done and part not in todo]:
        say(f"{path}: {', '.join(left)} built on other results and are gone; analyze without --only makes them anew")
    return Store.open(store.path)


def _with_needs(parts: Collection[str]) -> set[str]:
    if unknown := sorted(set(parts) - set(PARTS)):
        raise UsageError(f"no analysis {unknown[0]!r}; expected {', '.join(PARTS)}")
    return set(parts).union(*(NEEDS[part] for part in parts))


def _scan(store: Store, scanner: Scanner) -> None:
    """Do what is counted from bits, in one pass."""
    with Progress("analyze", len(store.layers) * store.neurons, "neurons") as progress:
        write_scans(store, (scanner.scan(layer, progress.update) for layer in store.layers), scanner)


class Counted(Protocol):
    """What scans are of.

    counted  whether activity was counted, else the totals are not written
    lengths  the longest n-gram, 0 for none
    totals   tokens in each category, by variable (`Tokens.totals`)
    groups   of sequences, resampled
    curves   those that positional neurons were resampled by
    """

    counted: bool
    lengths: int
    totals: dict[str, np.ndarray]
    groups: Groups
    curves: Groups


def write_scans(store: Store, scans: Iterable[Scan], of: Counted) -> None:
    """Write what was counted of every layer, one after another: the results of the parts that are counted from bits."""
    layers: list[Scan] = []
    activity: list[dict[str, np.ndarray]] = []
    for layer, whole in zip(store.layers, scans, strict=True):
        columns = whole.columns
        if of.counted:
            write_counts(store, f"counts/layers/{layer:02d}", whole.dense, ("neuron",))
            spread, of_layer = measure_spread(whole.dense["group"], columns["frequency"], of.groups)
            columns = columns | spread
            activity.append(of_layer)
        for name, values in whole.triggers.items():
            dims = ("trigger", "gram")[: values.ndim]
            write_array(store, f"results/layers/{layer:02d}/triggers/{name}", values, dims)
        layers.append(replace(whole, columns=columns, dense={}, triggers={}))  # what is written need not be held
    write_neurons(store, [scan.columns for scan in layers])
    if of.counted:
        write_counts(store, "counts/total", of.totals)
        store.write("results/neurons/layer", np.array(store.layers, "<i4"), ("layer",))
        write_columns(store, "results/activity", _stacked(activity), ("layer",))
        contexts = np.stack([scan.contexts for scan in layers])
        write_array(store, "results/contexts", contexts, ("layer", "neuron", "sample"), seed=SEED)
    if of.lengths:
        write_by_layer(store, *count_covered(layers, of.lengths))
    if positional := [scan.positional for scan in layers if scan.positional]:
        write_positional(store, positional, of.curves)


def _contrast(store: Store, rules: ContrastRules, bootstrap: Bootstrap) -> None:
    """Do what is counted by label."""
    total = store.read("counts/total/group_label")
    groups, design_effect = draw_groups(total.sum(1), bootstrap), store.read("results/neurons/design_effect")
    neurons: list[dict[str, np.ndarray]] = []
    layers: list[dict[str, np.ndarray]] = []
    for row, layer in enumerate(store.layers):
        on = store.read(f"counts/layers/{layer:02d}/group_label")
        of_neurons, of_layer = contrast_labels(on, design_effect[row], groups, total, rules)
        neurons.append(of_neurons)
        layers.append(of_layer)
    write_neurons(store, neurons)
    write_columns(store, "results/contrast", _stacked(layers), ("label", "layer"))


def _stacked(layers: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Columns of a layer each as columns whose last axis are the layers."""
    return {name: np.stack([each[name] for each in layers], axis=-1) for name in layers[0]}


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
    neurons, observed = [], []
    lengths = marks(store)["ngrams"]["lengths"]
    flags = {
        n: np.stack([store.read(f"results/neurons/{gram}_detector{suffix}") for suffix in ("", "_supported")], axis=1)
        for n, gram in enumerate(GRAMS[:lengths], 1)
    }
    positional = store.read("results/neurons/positional")
    with Progress("updates", len(store.layers), "layers") as progress:
        for row, layer in enumerate(store.layers):
            folder = f"results/layers/{layer:02d}"
            found = project_layer(
                projector,
                layer,
                np.arange(store.neurons) if every else np.flatnonzero(positional[row]),
                {name: store.read(f"{folder}/triggers/{name}") for name in ("neuron", "n", "tokens", "on", "covered")},
                alive=~dead[row],
                detectors={n: of_n[row] for n, of_n in flags.items()},
                controls=controls,
                settings=settings,
            )
            for name, values in found.triggers.items():
                write_array(store, f"{folder}/triggers/{name}", values, ("trigger",))
            for name, values in found.updates.items():
                write_array(store, f"{folder}/updates/{name}", values, ("row", "place")[: values.ndim])
            neurons.append(found.neurons)
            observed.append(found.detectors)
            progress.update()
    write_neurons(store, neurons)
    write_by_layer(store, *summarize(observed))
