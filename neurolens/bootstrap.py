"""Bootstrap: how much a result depends on which sequences were read — intervals from counts by group of sequences.

Groups are drawn with replacement, as many as there are; what is computed of their counts together is a replicate. No
second pass over the bits, and the drawing is the same for all neurons, so that replicates of a layer add.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurolens import UsageError


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are found: `replicates` drawn with `seed`, of which the middle `confidence` is the interval."""

    replicates: int = 200
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.replicates < 2:
            raise UsageError(f"{self.replicates} replicates; expected at least 2")
        if not 0 < self.confidence < 1:
            raise UsageError(f"confidence is {self.confidence}; expected between 0 and 1")


@dataclass(frozen=True)
class Groups:
    """Groups of sequences, resampled.

    total     int64 `(group,)`: tokens of each
    weights   int64 `(replicate, group)`: how often each was drawn; empty ones never are
    settings  how they were drawn
    """

    total: np.ndarray
    weights: np.ndarray
    settings: Bootstrap

    @property
    def there(self) -> int:
        """Groups that have tokens."""
        return int(np.count_nonzero(self.total))

    def interval(self, estimate: np.ndarray, replicates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) of an estimate `(…)` whose replicates are `(replicate, …)`; NaN with fewer than two groups.

        Percentiles of the replicates (Efron and Tibshirani 1993), moved so that their median is the estimate, because a
        replicate has fewer different sequences than the text, which alone makes more neurons dead and information
        larger; and spread by √(g / (g − 1)), which resampling g groups falls short by.
        """
        if self.there < 2:
            nothing = np.full(np.shape(estimate), np.nan)
            return nothing, nothing.copy()
        apart = (replicates - np.median(replicates, axis=0)) * np.sqrt(self.there / (self.there - 1))
        tail = (1 - self.settings.confidence) / 2
        low, high = np.quantile(apart, [tail, 1 - tail], axis=0)
        return estimate + low, estimate + high

    def columns(
        self, name: str, estimate: np.ndarray, replicates: np.ndarray, *, most: float = 1
    ) -> dict[str, np.ndarray]:
        """A column and its interval, `name`, `name_low` and `name_high`, of a number that is from 0 to `most`."""
        low, high = self.interval(estimate, replicates)
        return {name: estimate, f"{name}_low": np.maximum(0, low), f"{name}_high": np.minimum(most, high)}


def draw_groups(total: np.ndarray, settings: Bootstrap) -> Groups:
    """Draw groups: `total` int64 `(group,)`, tokens of each. The same total and settings give the same replicates.

    >>> groups = draw_groups(np.array([5, 0, 5]), Bootstrap(replicates=3))
    >>> groups.weights.sum(1).tolist(), groups.weights[:, 1].tolist()
    ([2, 2, 2], [0, 0, 0])
    """
    there = total > 0
    weights = np.zeros((settings.replicates, len(total)), np.int64)
    if number := np.count_nonzero(there):
        rng = np.random.default_rng(settings.seed)
        weights[:, there] = rng.multinomial(number, np.full(number, 1 / number), settings.replicates)
    return Groups(total, weights, settings)
