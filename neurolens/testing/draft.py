"""What a layer will hold, neuron by neuron."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from neurolens.testing.rules import SPECIAL, Ngram, PlantedNeuron, Rule, columns, earlier
from neurolens.testing.text import Text


class Draft:
    """Collects the neurons of one layer; their places are given later, by `planted_opt`."""

    def __init__(self, text: Text, vocab: int, rng: np.random.Generator) -> None:
        self.text, self.rng = text, rng
        self.words = np.arange(SPECIAL, vocab)
        self.neurons: list[PlantedNeuron] = []

    def add(self, kind: str, rule: Rule, *, triggers: Iterable[Ngram] = (), **known: Any) -> None:
        """Add a neuron. `known`: further fields of `PlantedNeuron`."""
        self.neurons.append(PlantedNeuron(0, len(self.neurons), kind, rule, triggers=tuple(sorted(triggers)), **known))

    def some(self, of: Sequence[int] | np.ndarray, count: int, besides: Iterable[int] = ()) -> list[int]:
        """So many different ones at random, none of `besides`."""
        left = np.setdiff1d(of, list(besides))
        return self.rng.choice(left, size=count, replace=False).tolist()

    def where(self, on: np.ndarray, target: int, by: str = "at") -> list[int]:
        """Positions (`at`) or earlier tokens (`before`, `before2`) with which `on` `(S, T)` is true `target` times.

        A random subset sum. Raises ValueError if there is none.
        """
        tokens = self.text.tokens
        context = columns(tokens) if by == "at" else earlier(tokens, {"before": 1, "before2": 2}[by])
        values, counts = np.unique(context[on], return_counts=True)
        reached: dict[int, list[int]] = {0: []}
        for i in self.rng.permutation(len(values)):
            for total, chosen in list(reached.items()):
                if (more := total + int(counts[i])) <= target:
                    reached.setdefault(more, [*chosen, int(values[i])])
        if target not in reached:
            raise ValueError(f"no choice of {by} makes {target} of {int(on.sum())} occurrences; try another seed")
        return reached[target]


def points(given: Iterable[int], value: int = 1) -> dict[int, int]:
    """The same points for each."""
    return dict.fromkeys(given, value)
