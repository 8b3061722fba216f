"""Detectors: neurons that are active on a handful of tokens or n-grams, always, and on little else (paper, §4).

Rules of the paper, in integers (percent), so that no rounding decides:
1. the covering number — the least number of n-grams that account for `coverage`% of the activations — is at most
   `max_covering`;
2. of the covering set (ties included) those on which the neuron is active at ≥ `min_rate`% of the occurrences are
   *covered*;
3. the covered ones account for ≥ `coverage`% of the activations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurolens import UsageError, kernels
from neurolens.counts import SparseCounts

MAX_COVERING = {1: 5, 2: 50, 3: 50}  # by n; paper §4 (tokens), App. A (trigrams); bigrams: ours, as for trigrams
WILSON_Z = 1.6448536269514722  # one-sided 95%


@dataclass(frozen=True)
class Rules:
    """What makes a detector, and what makes it well supported. Percentages are integers.

    max_covering     greatest covering number (paper: 5 for tokens, 50 for trigrams)
    coverage         percent of the activations that n-grams must account for (paper: 95)
    min_rate         percent of an n-gram's occurrences on which a detector is active (paper: 95)
    min_occurrences  least occurrences of a covered n-gram (1 = the paper, which names none)
    support_occurrences, support_activations
                     what a *supported* detector has besides (ours): each covered n-gram at least 5 times in the
                     corpus, and 100 activations of the neuron
    """

    max_covering: int = MAX_COVERING[1]
    coverage: int = 95
    min_rate: int = 95
    min_occurrences: int = 1
    support_occurrences: int = 5
    support_activations: int = 100

    def __post_init__(self) -> None:
        for name in ("coverage", "min_rate"):
            if not 1 <= getattr(self, name) <= 100:
                raise UsageError(f"{name} is {getattr(self, name)}; expected a percentage from 1 to 100")
        for name in ("max_covering", "min_occurrences", "support_occurrences", "support_activations"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least 1")


@dataclass(frozen=True)
class Detectors:
    """What the rules find among some neurons.

    covering    int64 `(neuron,)`: covering number, 0 for a neuron without activations that count
    detector    bool `(neuron,)`
    supported   bool `(neuron,)`: still a detector when only n-grams with enough occurrences may be covered, and with
                enough activations
    triggers    the covering sets of neurons whose covering number is within the rule — detectors and near misses:
                columns `neuron`, `token`, `on`, `total` int64, `covered` bool, all `(trigger,)`, ordered by neuron,
                then falling `on`, then token
    rules       the thresholds used
    """

    covering: np.ndarray
    detector: np.ndarray
    supported: np.ndarray
    triggers: dict[str, np.ndarray]
    rules: Rules


def find_detectors(counts: SparseCounts, rules: Rules) -> Detectors:
    """Apply the rules to the counts of each neuron (paper, §4 and App. A)."""
    covering, least = kernels.covering(counts.starts, counts.on, rules.coverage)
    neuron = counts.neuron()
    on, total = counts.on.astype(np.int64), counts.total[counts.category]
    candidate = (covering > 0) & (covering <= rules.max_covering)
    member = candidate[neuron] & (on >= least[neuron])
    covered = member & (100 * on >= rules.min_rate * total) & (total >= rules.min_occurrences)
    activations = counts.activations()
    supported = _accounts(covered & (total >= rules.support_occurrences), neuron, on, activations, rules)
    kept = np.flatnonzero(member)
    kept = kept[np.lexsort((counts.category[kept], -on[kept], neuron[kept]))]
    return Detectors(
        covering,
        _accounts(covered, neuron, on, activations, rules),
        supported & (activations >= rules.support_activations),
        {
            "neuron": neuron[kept],
            "token": counts.category[kept].astype(np.int64),
            "on": on[kept],
            "total": total[kept],
            "covered": covered[kept],
        },
        rules,
    )


def _accounts(
    covered: np.ndarray, neuron: np.ndarray, on: np.ndarray, activations: np.ndarray, rules: Rules
) -> np.ndarray:
    """Rule 3: bool `(neuron,)`, whether the covered entries account for enough of the activations."""
    share = np.zeros(len(activations), np.int64)
    np.add.at(share, neuron[covered], on[covered])
    return (activations > 0) & (100 * share >= rules.coverage * activations)


def wilson_lower_bound(on: np.ndarray, total: np.ndarray, *, z: float = WILSON_Z) -> np.ndarray:
    """Lower bound of a rate `on / total` (Wilson 1927), one-sided 95%: float64 in [0, 1]; 0 where total is 0.

    >>> float(wilson_lower_bound(np.array([10]), np.array([10])).round(4)[0])
    0.7871
    """
    on, total = np.asarray(on, float), np.asarray(total, float)
    n = np.maximum(total, 1)
    rate = on / n
    centre = rate + z * z / (2 * n)
    spread = z * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return np.where(total > 0, np.maximum(0.0, (centre - spread) / (1 + z * z / n)), 0.0)
