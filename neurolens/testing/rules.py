"""When a planted neuron is active, and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

BOS, UNK, SPECIAL = 2, 3, 4  # `<s>`, `<pad>`, `</s>` (begins a sequence, ends a document), `<unk>`; words from 4

DEAD, DEAD_BUT_BOS, POSITIONAL, DOMAIN, OTHER = "dead", "dead_but_bos", "positional", "domain", "other"
UNIGRAM_DETECTOR, BIGRAM_DETECTOR, TRIGRAM_DETECTOR = "unigram_detector", "bigram_detector", "trigram_detector"
DETECTORS = {1: UNIGRAM_DETECTOR, 2: BIGRAM_DETECTOR, 3: TRIGRAM_DETECTOR}
OSCILLATORY, BOTH_EXTREMES, ONE_EXTREME = "oscillatory", "both_extremes", "one_extreme"  # and `other`
STRONG, WEAK = "strong", "weak"

Ngram = tuple[int, ...]


@dataclass(frozen=True)
class Rule:
    """Active where the points of what stands there add up to at least `need`.

    `now`, `before`, `before2`: points by token id for the token itself, the previous one and the one before that,
    whether or not a document ends between them; before the first column stands what the first column holds (BOS).
    `at`: points by position. What is not named has 0 points.

    >>> rule = Rule(2, now={7: 1}, before={5: 1})  # the bigram 5 7
    >>> rule.active(np.array([[2, 7, 5, 7]])).tolist()
    [[False, False, False, True]]
    """

    need: int
    now: Mapping[int, int] = field(default_factory=dict)
    before: Mapping[int, int] = field(default_factory=dict)
    before2: Mapping[int, int] = field(default_factory=dict)
    at: Mapping[int, int] = field(default_factory=dict)

    def active(self, tokens: np.ndarray) -> np.ndarray:
        """Token ids `(S, T)` integer → where the neuron is active, `(S, T)` bool. No model is asked."""
        points = np.zeros(tokens.shape, dtype=np.int64)
        for given, what in (
            (self.now, tokens),
            (self.before, earlier(tokens, 1)),
            (self.before2, earlier(tokens, 2)),
            (self.at, columns(tokens)),
        ):
            if given:
                of = np.zeros(max(int(what.max(initial=0)), *given) + 1, dtype=np.int64)
                of[list(given)] = list(given.values())
                points += of[what]
        return points >= self.need

    @property
    def excess(self) -> float:
        """By how much the pre-activation exceeds 0 at most, as built: half a point where points just suffice."""
        return sum(max(0, *g.values(), 0) for g in (self.now, self.before, self.before2, self.at)) - self.need + 0.5


def earlier(tokens: np.ndarray, by: int) -> np.ndarray:
    """The token `by` columns to the left, `(S, T)`; where there is none, that of column 0."""
    return tokens[:, np.maximum(np.arange(tokens.shape[1]) - by, 0)]


def columns(tokens: np.ndarray) -> np.ndarray:
    """The position of each token, `(S, T)`."""
    return np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)


@dataclass(frozen=True)
class PlantedNeuron:
    """What one neuron was planted for. What else is true of it stands in `Planted.truth`.

    layer, neuron      where it is
    kind               `dead`, `dead_but_bos`, `unigram_detector`, `bigram_detector`, `trigram_detector`, `positional`,
                       `domain` or `other` (near misses among them)
    rule               when it is active
    n                  length of the n-grams that a detector, or a near miss of one, was planted for; else 0
    triggers           their covered n-grams, token ids in reading order, ascending; of a near miss those that would be
    misses             the rule that a near miss fails, and fails alone: `rate` (active at 94% of its n-gram),
                       `coverage` (covered n-grams account for 94% of its activations), `number` (covering number 6 for
                       tokens, 51 for bigrams and trigrams), `dead` (one activation), `dead_but_bos` (on `</s>` and at
                       one other token), `domain` (one activation outside its label); empty for the rest
    position_type      of a positional neuron (paper, §5): `oscillatory`, `both_extremes`, `one_extreme` or `other`;
                       empty for neurons that are not positional
    position_strength  `strong` or `weak`; empty for neurons that are not positional
    labels             of a domain neuron the labels, as indices, of sequences it is active in; else empty
    suppresses         tokens with the smallest projections of its value vector, in this order: ranks 0, 1, …; their
                       projections are below 0. Empty: the value vector is random, or only promotes
    promotes           tokens with the largest projections, the largest first; above 0
    """

    layer: int
    neuron: int
    kind: str
    rule: Rule
    n: int = 0
    triggers: tuple[Ngram, ...] = ()
    misses: str = ""
    position_type: str = ""
    position_strength: str = ""
    labels: tuple[int, ...] = ()
    suppresses: tuple[int, ...] = ()
    promotes: tuple[int, ...] = ()

    @property
    def near_miss(self) -> bool:
        """Whether it was planted to fail one rule narrowly."""
        return bool(self.misses)
