"""What the paper's rules say of bits, read literally and counted one by one: the answers a model is planted with.

Slow and plain on purpose. It shares no code with the analyses, which are to be compared with it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from neurolens.testing.rules import BOS, Ngram

MOST = {1: 5, 2: 50, 3: 50}  # covering number of a detector (paper, §4 and App. A; bigrams as trigrams)
PERCENT = 95  # of the activations to cover, and of an n-gram's occurrences to be active on (paper, §4)
SUPPORT_OCCURRENCES, SUPPORT_ACTIVATIONS = 5, 100  # ours


@dataclass(frozen=True)
class Verdict:
    """What holds of one neuron for one length of n-grams.

    number       covering number: the least number of n-grams that account for 95% of the activations that count,
                 those at positions that have an n-gram; 0 if there are none
    activations  how many count
    members      the covering set, ascending: n-grams (token ids in reading order) with at least as many activations as
                 the last that a greedy cover takes; empty where the number is beyond a detector's
    on           activations on each of them
    total        occurrences of each of them
    covered      those of them with a rate of at least 95%
    detector     covering number at most 5 (tokens) or 50, and covered n-grams account for 95% of the activations
    supported    still so with n-grams of at least 5 occurrences only; at least 100 activations
    """

    number: int
    activations: int
    members: tuple[Ngram, ...] = ()
    on: tuple[int, ...] = ()
    total: tuple[int, ...] = ()
    covered: tuple[Ngram, ...] = ()
    detector: bool = False
    supported: bool = False


class Ngrams:
    """The n-grams of a corpus `(S, T)`: where each ends, and how often. None contains `</s>` or crosses a row."""

    def __init__(self, tokens: np.ndarray, n: int) -> None:
        self.n = n
        number: dict[Ngram, int] = {}  # in order of appearance
        at: list[int] = []
        for row in tokens.tolist():
            for end in range(1, len(row) + 1):
                ngram = tuple(row[max(0, end - n) : end])
                counts = len(ngram) == n and BOS not in ngram
                at.append(number.setdefault(ngram, len(number)) if counts else -1)
        self._at, self._total = np.array(at), Counter(at)
        self._ngrams = list(number)

    def judge(self, active: np.ndarray) -> Verdict:
        """Bits of a neuron `(S·T,)` bool → what the rules say of it."""
        on = Counter(self._at[active].tolist())
        on.pop(-1, None)
        activations = sum(on.values())
        number, taken, least = 0, 0, 0
        for _, count in on.most_common():
            if 100 * taken >= PERCENT * activations:
                break
            number, taken, least = number + 1, taken + count, count
        if not 1 <= number <= MOST[self.n]:
            return Verdict(number, activations)
        members = sorted((i for i, count in on.items() if count >= least), key=self._ngrams.__getitem__)
        covered = [i for i in members if 100 * on[i] >= PERCENT * self._total[i]]
        often = [i for i in covered if self._total[i] >= SUPPORT_OCCURRENCES]
        detector, supported = (100 * sum(on[i] for i in those) >= PERCENT * activations for those in (covered, often))
        return Verdict(
            number,
            activations,
            members=tuple(self._ngrams[i] for i in members),
            on=tuple(on[i] for i in members),
            total=tuple(self._total[i] for i in members),
            covered=tuple(self._ngrams[i] for i in covered),
            detector=detector,
            supported=supported and activations >= SUPPORT_ACTIVATIONS,
        )


def mean_projection(verdict: Verdict, projection: np.ndarray) -> float:
    """Activation-weighted mean over the covered tokens of a token detector; NaN for other neurons.

    `verdict` is for n = 1; `projection` `(V,)`: the neuron's value vector on each token.
    """
    if not verdict.detector:
        return float("nan")
    weights = dict(zip(verdict.members, verdict.on, strict=True))
    values = [projection[token] for (token,) in verdict.covered]
    return float(np.average(values, weights=[weights[token] for token in verdict.covered]))
