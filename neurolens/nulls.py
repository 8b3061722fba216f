"""Nulls: what detectors are compared with — tokens as frequent as their triggers, and neurons that detect nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SEPARATOR = 2  # `</s>`


class Controls:
    """Which tokens are about as frequent as a trigger, and no variants of it (ours).

    `occurrences` integer `(token,)`: of each id in the corpus. `real`: the ids that may be chosen; `separator` never
    is. `texts`: the text of each id, None if unknown. Texts that differ in case and outer space alone are variants of
    one token, and `group[token]` int64 is the first id of them. (Ids that are no text by themselves, as parts of a
    character, should have texts of their own, or they are taken for variants of each other.)
    """

    def __init__(
        self,
        occurrences: np.ndarray,
        real: np.ndarray,
        texts: Sequence[str] | None = None,
        *,
        separator: int = SEPARATOR,
    ) -> None:
        self.group = np.arange(len(occurrences), dtype=np.int64)
        if texts is not None:
            first: dict[str, int] = {}
            for token, text in enumerate(texts):
                self.group[token] = first.setdefault(text.strip().casefold(), token)
        self._by_group = np.argsort(self.group, kind="stable")
        self._group_ends = np.searchsorted(self.group[self._by_group], np.arange(len(self.group) + 1))
        self._occurrences = occurrences.astype(np.int64)
        pool = np.sort(real[real != separator])
        self._pool = pool[np.argsort(self._occurrences[pool], kind="stable")]  # by occurrences, then id
        self._near: dict[int, np.ndarray] = {}
        self._banned = np.zeros(len(occurrences), bool)

    def choose(self, tokens: np.ndarray, triggers: np.ndarray, count: int) -> np.ndarray:
        """Sets of control tokens, int64 `(set, token)`: in set k stands the k-th nearest of each of `tokens`.

        Near is a small |difference of occurrences|, ties by id; `triggers` and their variants are left out. At most
        `count` sets, fewer where there are not so many tokens, down to `(0, token)`.
        """
        banned = np.concatenate(
            [self._by_group[slice(*self._group_ends[g : g + 2])] for g in np.unique(self.group[triggers])]
        )
        self._banned[banned] = True
        near = [self._nearest(int(self._occurrences[token]), count + len(banned)) for token in tokens]
        chosen = [of_one[~self._banned[of_one]][:count] for of_one in near]
        self._banned[banned] = False
        return np.stack(chosen, axis=1).astype(np.int64)

    def _nearest(self, occurrences: int, count: int) -> np.ndarray:
        """At least the `count` nearest tokens, or all, nearest first. Kept: many tokens are equally frequent."""
        count = min(count, len(self._pool))
        if count and len(self._near.get(occurrences, ())) < count:
            ordered = self._occurrences[self._pool]
            place = int(np.searchsorted(ordered, occurrences))
            window = ordered[max(0, place - count) : place + count]  # holds the `count` least differences
            reach = np.partition(np.abs(window - occurrences), count - 1)[count - 1]
            ends = np.searchsorted(ordered, [occurrences - reach, occurrences + reach + 1])
            near = self._pool[slice(*ends)]
            difference = np.abs(self._occurrences[near] - occurrences)
            self._near[occurrences] = near[np.lexsort((near, difference))[:count]]
        return self._near.get(occurrences, self._pool[:0])


def sample_neurons(candidates: np.ndarray, count: int, *, seed: int, layer: int) -> np.ndarray:
    """`count` of the neurons for which `candidates` bool `(neuron,)` is True, or all if there are fewer.

    Int64, ascending, without replacement; the choice depends on `seed`, `layer` and the candidates alone.
    """
    of = np.flatnonzero(candidates)
    if len(of) <= count:
        return of
    return np.sort(np.random.default_rng([seed, layer]).choice(of, count, replace=False))
