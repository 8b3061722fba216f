"""Detectors: neurons that are active on a handful of tokens or n-grams, always, and on little else (paper, §4).

Rules of the paper, in integers (percent), so that no rounding decides:
1. the covering number — the least number of n-grams that account for `coverage`% of the activations — is at most
   `max_covering`;
2. of the covering set (ties included) those on which the neuron is active at ≥ `min_rate`% of the occurrences are
   *covered*;
3. the covered ones account for ≥ `coverage`% of the activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurolens import UsageError
from neurolens.counts import Reduced, SparseCounts, reduce_counts

WILSON_Z = 1.6448536269514722  # one-sided 95%
TOP = 5  # n-grams kept of every neuron, whether or not they make it a detector (ours)


@dataclass(frozen=True)
class Rules:
    """What makes a detector, and what makes it well supported. Percentages are integers.

    max_covering     greatest covering number for tokens (paper, §4: 5)
    max_covering_ngrams
                     the same for longer n-grams (paper, App. A: 50 for trigrams; for other lengths it names none)
    coverage         percent of the activations that n-grams must account for (paper: 95)
    min_rate         percent of an n-gram's occurrences on which a detector is active (paper: 95)
    min_occurrences  least occurrences of a covered n-gram (1 = the paper, which names none)
    support_occurrences, support_activations
                     what makes a detector *well supported* (ours): it is one by those covered n-grams alone that
                     occur at least 5 times in the corpus, and is active at least 100 times on n-grams
    """

    max_covering: int = 5
    max_covering_ngrams: int = 50
    coverage: int = 95
    min_rate: int = 95
    min_occurrences: int = 1
    support_occurrences: int = 5
    support_activations: int = 100

    def __post_init__(self) -> None:
        for name in ("coverage", "min_rate"):
            if not 1 <= getattr(self, name) <= 100:
                raise UsageError(f"{name} is {getattr(self, name)}; expected a percentage from 1 to 100")
        for name, value in vars(self).items():
            if value < 1:
                raise UsageError(f"{name} is {value}; expected at least 1")

    def limit(self, n: int) -> int:
        """Greatest covering number of a detector of n-grams."""
        return self.max_covering if n == 1 else self.max_covering_ngrams


@dataclass(frozen=True)
class Detectors:
    """What the rules find among some neurons, for n-grams of one length.

    covering    int64 `(neuron,)`: covering number, 0 for a neuron without activations that count
    detector    bool `(neuron,)`
    supported   bool `(neuron,)`: still a detector when only n-grams with enough occurrences may be covered, and with
                enough activations
    triggers    the covering sets of neurons whose covering number is within the rule — detectors and near misses —
                and the `top` most frequent n-grams of every neuron: columns `neuron`, `category`, `on`, `total`
                int64, `member` (of the covering set), `covered` bool, all `(trigger,)`, ordered by neuron, then
                falling `on`, then category. Of a neuron beyond the rule not all members are there.
    """

    covering: np.ndarray
    detector: np.ndarray
    supported: np.ndarray
    triggers: dict[str, np.ndarray]


def find_detectors(counts: SparseCounts, rules: Rules, n: int = 1, *, top: int = TOP) -> Detectors:
    """Apply the rules for n-grams of length n to the counts of each neuron; see `judge`."""
    return judge(reduce_counts(counts, share=rules.coverage, limit=rules.limit(n), top=top), counts.total, rules, n)


def judge(found: Reduced, totals: np.ndarray, rules: Rules, n: int = 1) -> Detectors:
    """Apply the rules for n-grams of length n (paper, §4 and App. A). Activations are those that have an n-gram.

    `found` was reduced with `rules.coverage` and `rules.limit(n)`; `totals` int64 `(category,)`: occurrences.
    """
    within = (found.covering > 0) & (found.covering <= rules.limit(n))
    order = np.lexsort((found.category, -found.on, found.neuron))
    neuron, on, category = found.neuron[order], found.on[order], found.category[order]
    total, member = totals[category], on >= found.least[neuron]
    covered = member & (100 * on >= rules.min_rate * total) & (total >= rules.min_occurrences)
    supported = within & _accounts(covered & (total >= rules.support_occurrences), neuron, on, found.activations, rules)
    return Detectors(
        found.covering,
        within & _accounts(covered, neuron, on, found.activations, rules),
        supported & (found.activations >= rules.support_activations),
        {"neuron": neuron, "category": category, "on": on, "total": total, "member": member, "covered": covered},
    )


def _accounts(
    covered: np.ndarray, neuron: np.ndarray, on: np.ndarray, activations: np.ndarray, rules: Rules
) -> np.ndarray:
    """Rule 3: bool `(neuron,)`, whether the covered entries account for enough of the activations."""
    share = np.zeros(len(activations), np.int64)
    np.add.at(share, neuron[covered], on[covered])
    return (activations > 0) & (100 * share >= rules.coverage * activations)


def cover_layers(covered: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """What each layer's detectors cover, and what of it is new (paper, Figs. 3b and 4; App. A, Fig. 15).

    `covered`: for each collected layer the categories its detectors cover, integer `(any,)`, repeats allowed. Returns
    int64 `(layer,)` each: `covered`, distinct n-grams of the layer; `new`, of them in no earlier layer;
    `new_to_previous`, of them not in the layer before; `cumulative`, distinct up to and with the layer.
    """
    seen = previous = np.zeros(0, np.int64)
    lines = []
    for categories in covered:
        here = np.unique(categories)
        all_seen = np.union1d(seen, here)
        lines.append((len(here), len(all_seen) - len(seen), len(np.setdiff1d(here, previous)), len(all_seen)))
        seen, previous = all_seen, here
    columns = np.array(lines, np.int64).reshape(-1, 4).T
    return dict(zip(("covered", "new", "new_to_previous", "cumulative"), columns, strict=True))


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
