"""headlines: the numbers of a run that runs are compared by, all its layers together, each with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurolens.bootstrap import Bootstrap, Groups, draw_groups
from neurolens.comparison.estimates import Estimate
from neurolens.comparison.sizes import published_size, size_of
from neurolens.parts import require
from neurolens.tables import STRENGTHS, TYPES

UNKNOWN = Estimate()


@dataclass(frozen=True)
class Headlines:
    """A run in numbers. What it is not analysed for is None, or an Estimate of NaN.

    size, published         what its model's size is called; the published OPT of that shape, None for another one
    layers, model_layers    numbers of the collected layers `(layer,)`; how many the model has
    neurons, n_tokens       of a layer; of the corpus
    positions               tokens of a sequence
    dead, frequency         share of all neurons that are dead; mean frequency of the others
    dead_by_layer           share of each layer's, float64 `(layer,)`
    detectors, supported    token detectors by the paper's rules, and the well supported ones: shares of all neurons
    detectors_by_layer      how many by the paper's rules, int64 `(layer,)`
    covered_by_layer        distinct tokens that they cover, int64 `(layer,)`
    covered                 … in all layers together
    suppressing             share of the token detectors that point away from their triggers
    positional              share of all neurons that are positional
    types                   how many of each type and strength: `types["oscillatory"]["strong"]`
    oscillatory, tiled      strong oscillatory neurons of each layer, and the share of positions on which one of them is
                            active: int64, float64 `(layer,)`
    """

    size: str
    published: str | None
    layers: np.ndarray
    model_layers: int
    neurons: int
    n_tokens: int
    positions: int
    dead: Estimate
    frequency: Estimate
    dead_by_layer: np.ndarray
    detectors: Estimate = UNKNOWN
    supported: Estimate = UNKNOWN
    detectors_by_layer: np.ndarray | None = None
    covered_by_layer: np.ndarray | None = None
    covered: int | None = None
    suppressing: Estimate = UNKNOWN
    positional: Estimate = UNKNOWN
    types: Mapping[str, Mapping[str, int]] | None = None
    oscillatory: np.ndarray | None = None
    tiled: np.ndarray | None = None

    @property
    def total(self) -> int:
        """Neurons of all collected layers."""
        return self.neurons * len(self.layers)

    @property
    def first_half(self) -> np.ndarray:
        """Bool `(layer,)`: which layers are below half of the model's, the middle one of an odd number too."""
        return self.layers < self.model_layers / 2

    @property
    def whole(self) -> bool:
        """Whether every layer of the model was collected."""
        return len(self.layers) == self.model_layers

    @property
    def most_frequent_type(self) -> str | None:
        """The type that most positional neurons have, the first of several; "" if there is none, None if unknown."""
        if self.types is None:
            return None
        counts = {kind: sum(found.values()) for kind, found in self.types.items()}
        kind = max(counts, key=lambda name: counts[name])
        return kind if counts[kind] else ""


def read_headlines(run: Any) -> Headlines:
    """The numbers of an open `Run`. Raises NeurolensError if it is not analysed, or what is stored is damaged."""
    store, neurons, config = run.store, run.neurons, run.store.attrs["model"]["config"]
    parts = require(store, "dead")
    dead, frequency = _activity(run, parts["dead"].get("bootstrap", {}))
    found: dict[str, Any] = {}
    total = max(1, dead_neurons := int(neurons["dead"].size))
    if "ngrams" in parts:
        counts = [int(number) for number in run.by_layer.overall["detectors"][:, 0]]
        found |= {"detectors": Estimate(counts[0] / total), "supported": Estimate(counts[1] / total)}
        found |= {f"{name}_by_layer": run.by_layer[name][0, 0] for name in ("detectors", "covered")}
        found["covered"] = int(run.by_layer.overall["covered"][0, 0])
    if "updates" in parts:
        overall = run.by_layer.overall
        share, low, high = (float(overall[f"suppressing{end}"][0, 0]) for end in ("", "_low", "_high"))
        found["suppressing"] = Estimate(share, low, high)
    if "positions" in parts:
        table = run.positions
        share, low, high = (np.nan if number is None else number / total for number in table.total)
        count = table.overall["count"]
        found["positional"] = Estimate(share, low, high)
        found["types"] = {
            kind: {strength: int(count[i, j]) for j, strength in enumerate(STRENGTHS[1:])}
            for i, kind in enumerate(TYPES[1:])
        }
        found |= {"oscillatory": table.tiling["tiling_neurons"], "tiled": table.tiling["tiling_covered"]}
    return Headlines(
        size=size_of(config),
        published=published_size(config),
        layers=np.array(store.layers),
        model_layers=int(config["num_hidden_layers"]),
        neurons=dead_neurons // max(1, len(store.layers)),
        n_tokens=store.n_tokens,
        positions=store.shape[1],
        dead=dead,
        frequency=frequency,
        dead_by_layer=neurons["dead"].mean(1) if dead_neurons else np.zeros(len(store.layers)),
        **found,
    )


def _activity(run: Any, settings: Mapping[str, Any]) -> tuple[Estimate, Estimate]:
    """(share of dead neurons, mean frequency of the others) over all layers, with intervals over groups."""
    store, neurons = run.store, run.neurons
    dead, frequency = neurons["dead"], neurons["frequency"]
    alive = int((~dead).sum())
    mean = float(frequency[~dead].sum() / alive) if alive else np.nan
    share = float(dead.mean()) if dead.size else np.nan
    if not store.has("counts/total/group"):
        return Estimate(share), Estimate(mean)
    groups = draw_groups(store.read("counts/total/group"), Bootstrap(**settings))
    on = (store.read(f"counts/layers/{layer:02d}/group") for layer in store.layers)
    silent, means = resample_activity(on, groups)
    estimates = []
    for value, replicates in ((share, silent / max(1, dead.size)), (mean, means)):
        low, high = np.clip(groups.interval(np.array(value), replicates), 0, 1)
        estimates.append(Estimate(value, float(low), float(high)))
    return estimates[0], estimates[1]


def resample_activity(layers: Iterable[np.ndarray], groups: Groups) -> tuple[np.ndarray, np.ndarray]:
    """Replicates over all neurons of some layers: (how many are silent, mean frequency of the others).

    `layers`: unsigned `(neuron, group)` each. Float64 `(replicate,)`; the mean is 0 where all are silent. The drawing
    is the same for every layer, so that replicates add.
    """
    tokens = np.maximum(1, groups.weights @ groups.total)
    silent, alive, rates = np.zeros((3, len(groups.weights)))
    for on in layers:
        counts = on.astype(np.float64) @ groups.weights.T
        here = (counts > 0).sum(0)
        silent += len(on) - here
        alive += here
        rates += counts.sum(0)
    return silent, rates / tokens / np.maximum(1, alive)
