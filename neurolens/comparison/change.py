"""change: what became of every neuron between two runs of one lineage, from the runs and, if at hand, their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurolens import NeurolensError
from neurolens.bootstrap import Bootstrap, draw_groups
from neurolens.checkpoint import Checkpoint
from neurolens.comparison.lineage import Pair
from neurolens.comparison.transitions import (
    CLASSES,
    Overlap,
    classify,
    cosines,
    measure_overlap,
    overlap_triggers,
    tabulate_transitions,
)
from neurolens.contrast import difference
from neurolens.parts import require
from neurolens.tables import GRAMS

BLOCK = 2048  # neurons whose value vectors are compared at a time: 75 MB each of 66b
CLASS_OF = {"token detector": "ngrams", "n-gram detector": "ngrams", "positional": "positions"}  # the part it needs


@dataclass(frozen=True)
class Change:
    """What became of each neuron between two runs.

    pair               which
    layers             the collected layers' numbers `(layer,)`
    classes            those of CLASSES that both runs are analysed for
    before, after      index into CLASSES: uint8 `(layer, neuron)`
    table              neurons by class before and after: int64 `(layer, class, class)`
    overlaps           of each of `classes`: the set of its neurons before and after, all layers together
    frequency          before and after: float64 `(layer, neuron)` each
    difference         frequency after − before, with its interval over groups, float64 `(layer, neuron)` each; NaN for
                       the interval where groups were not counted
    triggers           of neurons that are token detectors in both, Jaccard of the tokens: float64 `(layer, neuron)`,
                       NaN for the others
    cosine             of the value vectors: float64 `(layer, neuron)`, all NaN where they are not at hand
    notes              what is to be known beside: what was not at hand, what the runs differ in
    """

    pair: Pair
    layers: np.ndarray
    classes: tuple[str, ...]
    before: np.ndarray
    after: np.ndarray
    table: np.ndarray
    overlaps: Mapping[str, Overlap]
    frequency: tuple[np.ndarray, np.ndarray]
    difference: tuple[np.ndarray, np.ndarray, np.ndarray]
    triggers: np.ndarray
    cosine: np.ndarray
    notes: tuple[str, ...]

    @property
    def died(self) -> np.ndarray:
        """Active before and never after: bool `(layer, neuron)`."""
        return (self.before != 0) & (self.after == 0)

    @property
    def woke(self) -> np.ndarray:
        """Never active before, and active after: bool `(layer, neuron)`."""
        return (self.before == 0) & (self.after != 0)

    @property
    def changed(self) -> np.ndarray:
        """Of another class: bool `(layer, neuron)`."""
        return self.before != self.after

    @property
    def moved(self) -> tuple[int, int]:
        """Neurons (more often, less often) active, whose interval of the difference does not hold 0."""
        _, low, high = self.difference
        return int((low > 0).sum()), int((high < 0).sum())

    def facts(self) -> dict[str, Any]:
        """The headlines as plain numbers, NaN where there is none."""
        more, less = self.moved
        return {
            "before": self.pair.before.called,
            "after": self.pair.after.called,
            "factor": self.pair.factor,
            "neurons": int(self.before.size),
            "died": int(self.died.sum()),
            "woke": int(self.woke.sum()),
            "changed_class": int(self.changed.sum()),
            "more_often": more,
            "less_often": less,
            "detectors_of_both": int((~np.isnan(self.triggers)).sum()),
            "triggers_jaccard_mean": mean(self.triggers),
            "cosine_mean": mean(self.cosine),
            "overlaps": {name: vars(found) for name, found in self.overlaps.items()},
            "notes": list(self.notes),
        }


def mean(values: np.ndarray) -> float:
    """The mean without NaN; NaN of nothing."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")


def read_change(pair: Pair, *, model_of: Callable[[Any], Checkpoint | None]) -> Change:
    """Read two analysed runs whose neurons are the same ones (`find_pairs`).

    `model_of` gives a run's checkpoint if it is at hand, or None. Classes are by the paper's rules, whatever the
    support; those that one of the runs is not analysed for are nobody's. Raises NeurolensError if a run is not analysed
    or what is stored is damaged.
    """
    runs = (pair.before.run, pair.after.run)
    parts = [require(run.store, "dead") for run in runs]
    classes = tuple(name for name in CLASSES if all(CLASS_OF.get(name, "dead") in of for of in parts))
    lengths = min(of["ngrams"]["lengths"] if "ngrams" in of else 0 for of in parts)
    classes = tuple(name for name in classes if name != "n-gram detector" or lengths > 1)
    before, after = (_classes(run.neurons, classes, lengths) for run in runs)
    frequency = (runs[0].neurons["frequency"], runs[1].neurons["frequency"])
    notes = _notes(runs, parts, classes)
    apart, counted = _difference(runs, frequency, parts[0]["dead"].get("bootstrap", {}))
    notes += [] if counted else ["activations were not counted by groups of sequences: differences have no interval"]
    drift, why = _drift(runs, model_of)
    return Change(
        pair=pair,
        layers=np.array(runs[0].store.layers),
        classes=classes,
        before=before,
        after=after,
        table=tabulate_transitions(before, after),
        overlaps={
            name: measure_overlap(before == number, after == number)
            for number, name in enumerate(CLASSES)
            if name in classes
        },
        frequency=frequency,
        difference=apart,
        triggers=_triggers(runs, "token detector" in classes),
        cosine=drift,
        notes=(*notes, *([f"value vectors are not compared: {why}"] if why else [])),
    )


def _classes(neurons: Mapping[str, np.ndarray], classes: Sequence[str], lengths: int) -> np.ndarray:
    ngram = [neurons[f"{gram}_detector"] for gram in GRAMS[1:lengths]]  # none if one of the two has none
    return classify(
        neurons["dead"],
        neurons["unigram_detector"] if "token detector" in classes else None,
        np.logical_or.reduce(ngram) if ngram else None,
        neurons["positional"] if "positional" in classes else None,
    )


def _notes(runs: Sequence[Any], parts: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> list[str]:
    """What the two runs differ in besides their factor, and which classes cannot be told."""
    missing = [name for name in CLASSES if name not in classes]
    notes = [f"not told, for one of the two is not analysed for it: {', '.join(missing)}"] if missing else []
    for part in ("ngrams", "positions"):
        if all(part in of for of in parts) and parts[0][part] != parts[1][part]:
            notes.append(f"analysed for {part} by different rules")
    dtypes = [run.store.attrs["dtype"] for run in runs]
    if dtypes[0] != dtypes[1]:
        notes.append(f"computed in {dtypes[0]} and {dtypes[1]}, which alone flips bits near zero")
    return notes


def _difference(
    runs: Sequence[Any], frequency: tuple[np.ndarray, np.ndarray], settings: Mapping[str, Any]
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], bool]:
    """((difference after − before, low, high), whether there are intervals): both runs read the same groups of
    sequences, which are drawn together, so that the text that both share does not count as a difference."""
    apart = frequency[1] - frequency[0]
    nothing = np.full(apart.shape, np.nan)
    if not all(run.store.has("counts/total/group") for run in runs):
        return (apart, nothing, nothing.copy()), False
    total = runs[0].store.read("counts/total/group")
    both, groups = np.stack([total, total], axis=1), draw_groups(total, Bootstrap(**settings))
    low, high = nothing, nothing.copy()
    for row, layer in enumerate(runs[0].store.layers):
        on = np.stack([run.store.read(f"counts/layers/{layer:02d}/group") for run in runs], axis=2)
        _, _, apart[row], low[row], high[row] = difference(on, both, groups, 1, 0)
    return (apart, low, high), True


def _triggers(runs: Sequence[Any], told: bool) -> np.ndarray:
    """Jaccard of the covered tokens of neurons that are token detectors in both runs; NaN for all others."""
    found = np.full(runs[0].neurons.shape, np.nan)
    for row, layer in enumerate(runs[0].store.layers if told else ()):
        pairs = []
        for run in runs:
            table, detector = run.triggers(layer), run.neurons["unigram_detector"][row]
            mine = (table["n"] == 1) & table["covered"] & detector[table["neuron"]]
            pairs.append(np.stack([table["neuron"][mine], table["tokens"][mine, -1]], axis=1))
        found[row] = overlap_triggers(*pairs, neurons=runs[0].store.neurons)
    return found


def _drift(runs: Sequence[Any], model_of: Callable[[Any], Checkpoint | None]) -> tuple[np.ndarray, str]:
    """(cosine of the value vectors `(layer, neuron)`, why there are none: then all are NaN)."""
    neurons = runs[0].store.neurons
    found = np.full(runs[0].neurons.shape, np.nan)
    try:
        models = [model_of(run) for run in runs]
        for run, model in zip(runs, models, strict=True):
            if model is None:
                return found, f"the checkpoint of {run.name} is not at hand"
        for row, layer in enumerate(runs[0].store.layers):
            name = f"decoder.layers.{layer}.fc2.weight"
            first, second = (dict(model.mapped([name]))[name] for model in models if model)
            if first.shape != second.shape or first.shape[1] != neurons:
                return np.full_like(found, np.nan), f"{name} is {tuple(first.shape)} and {tuple(second.shape)}"
            for start in range(0, neurons, BLOCK):
                part = slice(start, start + BLOCK)
                found[row, part] = cosines(*(each[:, part].float().numpy().T for each in (first, second)))
    except (NeurolensError, OSError) as error:  # a comparison of bits does not fail for a file that is not needed
        return np.full_like(found, np.nan), str(error)
    return found, ""
