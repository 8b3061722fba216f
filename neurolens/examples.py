"""Examples: well supported token detectors with what they respond to, promote and suppress (paper, Fig. 5).

Chosen by rule, not by hand, and without a look at what they promote: evenly over the layers that have any; in a layer
those with the most covered tokens first, of these the most active.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurolens import NeurolensError
from neurolens.tables import Neurons


@dataclass(frozen=True)
class Token:
    """A token of an example: its id, and whether the neuron is a detector of it."""

    id: int
    trigger: bool


@dataclass(frozen=True)
class Example:
    """A token detector.

    layer, neuron  which
    activations    on how many tokens it is active, separators set aside
    triggers       the tokens it covers, the one with the most activations first
    promoted       tokens whose scores its value vector raises most, falling
    suppressed     tokens whose scores it lowers most, the most suppressed first
    """

    layer: int
    neuron: int
    activations: int
    triggers: tuple[Token, ...]
    promoted: tuple[Token, ...]
    suppressed: tuple[Token, ...]


@dataclass(frozen=True)
class Examples:
    """Examples of a run, by layer.

    name, layers, model_layers, n_tokens  as those of a `Table`
    rules      thresholds of the detectors, and what was asked of the updates
    detectors  how many well supported token detectors there were to choose from
    examples   those chosen; none if there are no such detectors
    token      id → text
    """

    name: str
    layers: np.ndarray
    model_layers: int
    n_tokens: int
    rules: dict[str, Any]
    detectors: int
    examples: tuple[Example, ...]
    token: Callable[[int], str]

    def _repr_html_(self) -> str:
        from neurolens.display.runs import view_examples

        return view_examples(self)


def find_examples(
    neurons: Neurons,
    triggers: Callable[[int], Mapping[str, np.ndarray]],
    updates: Callable[[int], Mapping[str, np.ndarray]],
    token: Callable[[int], str],
    *,
    asked: Mapping[str, Any],
    count: int = 8,
) -> Examples:
    """At most `count` examples of a run; the tables of the layers they are in are read, no others.

    neurons   columns unigram_detector_supported bool, activations_on_text int64 `(layer, neuron)`
    triggers  layer → columns neuron, n, on, total, covered `(trigger,)`, tokens `(trigger, gram)`
    updates   layer → columns neuron `(row,)` ascending, promoted, suppressed `(row, token)`, −1 for none
    asked     what was asked of the updates

    Raises NeurolensError if a chosen neuron has no row in `updates`.
    """
    supported, found = neurons["unigram_detector_supported"], []
    for row, number in spread(supported.sum(1), count).items():
        layer, table = int(neurons.layers[row]), triggers(int(neurons.layers[row]))
        kept = (table["n"] == 1) & table["covered"] & (table["total"] >= neurons.rules["support_occurrences"])
        covered = np.bincount(table["neuron"][kept], minlength=supported.shape[1])
        candidates = np.flatnonzero(supported[row])
        active = neurons["activations_on_text"][row]
        best = candidates[np.lexsort((candidates, -active[candidates], -covered[candidates]))][:number]
        changes = updates(layer)
        for neuron in best.tolist():
            own = np.flatnonzero(kept & (table["neuron"] == neuron))
            own = table["tokens"][own[np.argsort(-table["on"][own], kind="stable")], -1]
            at = np.flatnonzero(changes["neuron"] == neuron)
            if not len(at):
                raise NeurolensError(
                    f"{neurons.name}: neuron {layer}.{neuron} is a detector, but its value vector was not projected;"
                    " analyse the run again"
                )
            shown = [own, changes["promoted"][at[0]], changes["suppressed"][at[0]]]
            tokens = [tuple(Token(int(id_), bool(id_ in own)) for id_ in ids if id_ >= 0) for ids in shown]
            found.append(Example(layer, neuron, int(active[neuron]), *tokens))
    return Examples(
        neurons.name, neurons.layers, neurons.model_layers, neurons.n_tokens,
        {**neurons.rules, **asked}, int(supported.sum()), tuple(found), token,
    )  # fmt: skip


def spread(available: np.ndarray, count: int) -> dict[int, int]:
    """How many of `count` to take where: place → number ≥ 1, as evenly as what is available allows.

    available  int `(place,)`

    With more places than `count`, one from each of places evenly spaced among those that have any.

    >>> spread(np.array([0, 5, 1, 9]), 8)
    {1: 4, 2: 1, 3: 3}
    """
    places = np.flatnonzero(available)
    if len(places) > count:
        places = places[np.linspace(0, len(places) - 1, count).round().astype(int)]
    taken = dict.fromkeys(places.tolist(), 0)
    left = min(count, int(available[places].sum()))
    while left:
        for place in taken:
            if left and taken[place] < available[place]:
                taken[place] += 1
                left -= 1
    return taken
