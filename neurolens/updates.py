"""Updates: what a neuron writes to the vocabulary, and whether detectors suppress their own triggers (paper, §4.4).

An active neuron adds a multiple of its value vector (its row of W_out) to the residual stream. The product of that
with the unembedding, its *projection*, says which tokens it promotes and which it suppresses. A `Projector`
multiplies (projection.py); here is what it is asked, and what follows from the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neurolens import NeurolensError, UsageError
from neurolens.nulls import Controls, sample_neurons
from neurolens.shares import Observations

PROMOTED = 10  # tokens kept at either end of a neuron's projections; ours
NULL_NEURONS = 100  # non-detectors that are given the triggers of the detectors of their layer; ours
NULL_TOKENS = 50  # tokens nearest in frequency that a detector is given instead of each trigger; ours
SEED = 0  # of the sample of neurons


@dataclass(frozen=True)
class Settings:
    """What is counted and compared.

    k             promoted and suppressed tokens kept of each neuron
    null_neurons  alive neurons, detectors of no n, that are sampled in each layer (all of them if fewer)
    null_tokens   sets of control tokens of each detector (as many as a small vocabulary yields)
    seed          of the sample of neurons
    """

    k: int = PROMOTED
    null_neurons: int = NULL_NEURONS
    null_tokens: int = NULL_TOKENS
    seed: int = SEED

    def __post_init__(self) -> None:
        for name, least in (("k", 1), ("null_neurons", 1), ("null_tokens", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least {least}")


@dataclass(frozen=True)
class Projections:
    """Projections of some neurons on the real vocabulary.

    promoted, promoted_projection      int32 and float32 `(neuron, k)`, falling; of equal ones the smaller id first
    suppressed, suppressed_projection  the same, rising; −1 and NaN where the vocabulary has fewer than k tokens
    mean                               float32 `(neuron,)`: over the vocabulary
    projection, rank, cosine           float32, int32, float32 `(pair,)` of the pairs asked for: the product, how many
                                       tokens have a smaller one, the cosine of the two vectors (NaN if one is 0)
    control                            float32 `(control,)`: the products at the control pairs asked for
    """

    promoted: np.ndarray
    promoted_projection: np.ndarray
    suppressed: np.ndarray
    suppressed_projection: np.ndarray
    mean: np.ndarray
    projection: np.ndarray
    rank: np.ndarray
    cosine: np.ndarray
    control: np.ndarray


Pairs = tuple[np.ndarray, np.ndarray]  # index into the neurons given, token id; both `(pair,)`


class Projector(Protocol):
    """What multiplies value vectors with the unembedding."""

    def project(self, layer: int, neurons: np.ndarray, *, k: int, pairs: Pairs, controls: Pairs) -> Projections:
        """Projections of the neurons `(neuron,)`; rank and cosine at `pairs`, the bare product at `controls`."""
        ...

    def products(self, layer: int, neurons: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The bare products of all of the neurons with all of the tokens, float32 `(neuron, token)`."""
        ...


@dataclass(frozen=True)
class LayerUpdates:
    """What is found in one layer, columns named as in the store.

    updates    of the projected neurons: `neuron` int32 `(row,)` ascending; `promoted`, `suppressed` int32 and
               `promoted_projection`, `suppressed_projection` float32 `(row, k)`; `projection_mean` float32 `(row,)`
    triggers   aligned with the table of triggers: `projection`, `projection_centred` (minus the neuron's mean over
               the vocabulary), `cosine` float32, `rank` int32; NaN and −1 where the neuron is not projected
    neurons    all `(neuron,)`: `suppresses_triggers` int8, 1 yes, 0 no, −1 no token detector; `trigger_projection`,
               `trigger_projection_centred` float32: means over the covered tokens, weighted by activations, else NaN
    detectors  observations by n
    """

    updates: dict[str, np.ndarray]
    triggers: dict[str, np.ndarray]
    neurons: dict[str, np.ndarray]
    detectors: dict[int, Observations]


@dataclass(frozen=True)
class _Detector:
    """`rows`: of the table, its covered triggers. `tokens`: the last tokens of these, each once, `weight`: activations
    on each. `controls` `(set, token)`: what stands for the tokens in the null."""

    n: int
    neuron: int
    rows: np.ndarray
    tokens: np.ndarray
    weight: np.ndarray
    controls: np.ndarray


def project_layer(
    projector: Projector,
    layer: int,
    neurons: np.ndarray,
    triggers: Mapping[str, np.ndarray],
    *,
    alive: np.ndarray,
    detectors: Mapping[int, np.ndarray],
    controls: Controls,
    settings: Settings | None = None,
) -> LayerUpdates:
    """Project `neurons` of a layer, its detectors in any case, and judge these by their triggers (paper, §4.4).

    `triggers`: columns `neuron`, `n`, `on`, `covered` `(trigger,)` and `tokens` `(trigger, gram)`, of which the last
    one is looked at. `alive` bool `(neuron,)`; `detectors` bool `(support, neuron)` by n: all, and the well supported
    ones among them. There may be no neurons, triggers or detectors. Raises NeurolensError for a detector without
    covered triggers, and what the projector raises.
    """
    settings = settings or Settings()
    detects = np.zeros(len(alive), bool)
    for flags in detectors.values():
        detects |= flags[0]
    chosen = np.union1d(neurons, np.flatnonzero(detects)).astype(np.int64)
    row = np.full(len(alive), -1)
    row[chosen] = np.arange(len(chosen))
    found = _list_detectors(triggers, detectors, controls, settings.null_tokens, layer)

    row_of, last = row[triggers["neuron"]], triggers["tokens"][:, -1].astype(np.int64)
    asked, vocabulary = np.flatnonzero(row_of >= 0), len(controls.group)
    pairs, pair = np.unique(row_of[asked] * vocabulary + last[asked], return_inverse=True)
    projections = projector.project(
        layer,
        chosen,
        k=settings.k,
        pairs=(pairs // vocabulary, pairs % vocabulary),
        controls=(
            np.concatenate([last[:0], *(np.full(one.controls.size, row[one.neuron]) for one in found)]),
            np.concatenate([last[:0], *(one.controls.ravel() for one in found)]),
        ),
    )

    table: dict[str, np.ndarray] = {
        name: np.full(len(last), np.nan, np.float32) for name in ("projection", "projection_centred", "cosine")
    }
    table["rank"] = np.full(len(last), -1, np.int32)
    for name in ("projection", "cosine", "rank"):
        table[name][asked] = getattr(projections, name)[pair]
    table["projection_centred"][asked] = table["projection"][asked] - projections.mean[row_of[asked]]

    means = _weighted_means(found, triggers["on"], table["projection"])
    sample = sample_neurons(alive & ~detects, settings.null_neurons, seed=settings.seed, layer=layer)
    observed = {
        "supported": np.array([detectors[one.n][1, one.neuron] for one in found], bool),
        "cluster": np.array([controls.group[one.tokens[one.weight.argmax()]] for one in found], np.int64),
        "suppressing": (means < 0).astype(float),
        "null_neurons": _judge_others(found, projector, layer, sample),
        "null_tokens": _judge_controls(found, projections.control),
    }
    n_of = np.array([one.n for one in found], np.int64)
    columns = {
        "suppresses_triggers": np.full(len(alive), -1, np.int8),
        "trigger_projection": np.full(len(alive), np.nan, np.float32),
        "trigger_projection_centred": np.full(len(alive), np.nan, np.float32),
    }
    of_tokens = np.array([one.neuron for one in found if one.n == 1], np.int64)
    columns["suppresses_triggers"][of_tokens] = means[n_of == 1] < 0
    columns["trigger_projection"][of_tokens] = means[n_of == 1]
    centred = _weighted_means(found, triggers["on"], table["projection_centred"])
    columns["trigger_projection_centred"][of_tokens] = centred[n_of == 1]
    return LayerUpdates(
        {
            "neuron": chosen.astype(np.int32),
            "promoted": projections.promoted,
            "promoted_projection": projections.promoted_projection,
            "suppressed": projections.suppressed,
            "suppressed_projection": projections.suppressed_projection,
            "projection_mean": projections.mean,
        },
        table,
        columns,
        {n: Observations(**{name: values[n_of == n] for name, values in observed.items()}) for n in detectors},
    )


def _list_detectors(
    triggers: Mapping[str, np.ndarray], detectors: Mapping[int, np.ndarray], controls: Controls, sets: int, layer: int
) -> list[_Detector]:
    """Every detector with its covered triggers and its sets of control tokens, by neuron, then n."""
    neuron, n = triggers["neuron"].astype(np.int64), triggers["n"].astype(np.int64)
    last = triggers["tokens"][:, -1].astype(np.int64)
    order = np.lexsort((n, neuron))
    ends = np.flatnonzero((np.diff(neuron[order]) != 0) | (np.diff(n[order]) != 0)) + 1
    rows_of = {(int(neuron[rows[0]]), int(n[rows[0]])): rows for rows in np.split(order, ends) if len(rows)}
    found = []
    for number, of_n in sorted((int(i), of_n) for of_n, flags in detectors.items() for i in np.flatnonzero(flags[0])):
        rows = rows_of.get((number, of_n), order[:0])
        covered = rows[triggers["covered"][rows]]
        if not len(covered):
            raise NeurolensError(
                f"layer {layer}: neuron {number} is a detector of n = {of_n} without covered triggers; detectors and "
                "triggers are not of one analysis; analyze the n-grams again"
            )
        tokens, place = np.unique(last[covered], return_inverse=True)
        weight = np.bincount(place, weights=triggers["on"][covered])
        found.append(_Detector(of_n, number, covered, tokens, weight, controls.choose(tokens, last[rows], sets)))
    return found


def _weighted_means(found: list[_Detector], on: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """Mean projection at the covered triggers, weighted by activations: float64 `(detector,)`."""
    return np.array([np.average(projection[one.rows].astype(float), weights=on[one.rows]) for one in found], float)


def _judge_others(found: list[_Detector], projector: Projector, layer: int, sample: np.ndarray) -> np.ndarray:
    """Of the sampled neurons, the share whose weighted mean at a detector's tokens is < 0: float64 `(detector,)`."""
    if not found or not len(sample):
        return np.full(len(found), np.nan)
    tokens = np.unique(np.concatenate([one.tokens for one in found]))
    products = projector.products(layer, sample, tokens).astype(float)
    means = (products[:, np.searchsorted(tokens, one.tokens)] @ one.weight for one in found)
    return np.array([(mean < 0).mean() for mean in means])


def _judge_controls(found: list[_Detector], products: np.ndarray) -> np.ndarray:
    """Of a detector's sets of control tokens, the share whose weighted mean is < 0: float64 `(detector,)`."""
    share, start = np.full(len(found), np.nan), 0
    for i, one in enumerate(found):
        if one.controls.size:
            mine = products[start : start + one.controls.size].reshape(one.controls.shape)
            share[i] = (mine.astype(float) @ one.weight < 0).mean()
            start += one.controls.size
    return share
