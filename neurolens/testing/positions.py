"""Planted by the position: the types of the paper's §5, strong and weak.

A *range* is a stretch of positions on which a neuron is active always or never (strong), or but for a rare token
(weak). What is neither is active about half of the time, by the token.
"""

from __future__ import annotations

import numpy as np

from neurolens.testing.draft import Draft, points
from neurolens.testing.rules import (
    BOTH_EXTREMES,
    ONE_EXTREME,
    OSCILLATORY,
    OTHER,
    POSITIONAL,
    SPECIAL,
    STRONG,
    WEAK,
    Rule,
)

# Share of the tokens that weak ranges err on: exact ones err on 0.5% at most, and what errs on more than 5% is no range
RARE = (0.01, 0.025)
RARE_NEARBY = 0.04  # … and in any window of the smoothing
WINDOW_SHARE, LEAST_WINDOW = 64, 3  # positions smoothed over: T / 64, at least 3
STEPS = 60  # levels of a ramp
FROM, TO = 0.12, 0.88  # frequencies between which curves without a range run
SCATTER = (0.7, 1.1)  # variance around a strong ramp's smoothed curve, over the binomial one
TRIES = 200


def plan_positions(draft: Draft) -> None:
    """Each type, strong and weak. Position 0 is left to the rules: it holds `</s>` in every sequence."""
    tokens = draft.text.tokens
    at = np.arange(tokens.shape[1])
    size = len(at)
    half, third = size // 2, size // 3
    many, few = (at // max(8, size // 8)) % 2 == 0, (at // max(8, size // 4)) % 2 == 0

    def add(kind: str, strength: str, rule: Rule) -> None:
        draft.add(POSITIONAL, rule, position_type=kind, position_strength=strength)

    def always(on: np.ndarray) -> Rule:
        return Rule(1, at=_points(on))

    def nearly(on: np.ndarray) -> Rule:
        off, extra = _rare(draft), _rare(draft)  # words it fails on in its ranges, and those it is active on outside
        return Rule(2, at=_points(on, 2), now=points(set(off) - set(extra), -1) | points(extra, 2))

    for on in (many, ~many, few):
        add(OSCILLATORY, STRONG, always(on))
    add(OSCILLATORY, WEAK, nearly(many))
    add(OSCILLATORY, WEAK, nearly(~few))
    # an indicator of half of the positions: mutual information log 2, position 0 included
    for on in (at < half, at >= half, at < third, (at >= third) & (at < 2 * third)):
        add(BOTH_EXTREMES, STRONG, always(on))
    add(BOTH_EXTREMES, WEAK, nearly(at < half))
    add(BOTH_EXTREMES, WEAK, nearly(at >= third))

    fair = [_words(draft, 0.5, SPECIAL) for _ in range(4)]
    add(ONE_EXTREME, STRONG, Rule(2, now=points(fair[0]), at=_points(at >= half)))
    add(ONE_EXTREME, STRONG, Rule(1, now=points(fair[1]), at=_points(at < half)))
    add(ONE_EXTREME, WEAK, Rule(2, now=points(fair[2]) | points(_rare(draft), 2), at=_points(at < half)))
    rare = _rare(draft)
    add(ONE_EXTREME, WEAK, Rule(1, now=points(set(fair[3]) - set(rare)) | points(rare, -1), at=_points(at >= half)))

    for rising in (True, False):
        add(OTHER, STRONG, _ramp(draft, at if rising else at[::-1]))
    # as often as not three words in ten, else seven, by positions in no order: neighbours tell nothing
    low = _words(draft, 0.3, SPECIAL)
    high = [*low, *_words(draft, 0.4, SPECIAL, besides=low)]
    mixed = np.zeros(size, dtype=bool)
    mixed[draft.rng.permutation(size)[:half]] = True
    add(OTHER, WEAK, Rule(2, now=points(high) | points(low, 2), at=_points(mixed)))


def _points(on: np.ndarray, value: int = 1) -> dict[int, int]:
    """The same points for each position that is true."""
    return points(np.flatnonzero(on).tolist(), value)


def _words(draft: Draft, share: float, least: int, besides: list[int] | None = None) -> list[int]:
    """Random words that together make up about this share of the corpus, or a little more."""
    count = np.bincount(draft.text.tokens.ravel(), minlength=least)
    left = draft.rng.permutation(np.setdiff1d(draft.words, besides or []))
    reached = np.cumsum(count[left])
    return left[: 1 + int(np.searchsorted(reached, share * draft.text.tokens.size))].tolist()


def _rare(draft: Draft) -> list[int]:
    """Random words that are rare enough together to leave a range a range, and not rare enough for an exact one."""
    tokens = draft.text.tokens[:, 1:]
    for _ in range(TRIES):
        words = _words(draft, RARE[0], SPECIAL)
        rate = np.isin(tokens, words).mean(0)
        if RARE[0] <= rate.mean() <= RARE[1] and _smooth(rate).max() <= RARE_NEARBY:
            return words
    raise ValueError(f"no words make up {RARE[0]:.1%} to {RARE[1]:.1%} of the tokens; raise sequences")


def _ramp(draft: Draft, rank: np.ndarray) -> Rule:
    """More often active the higher the rank of the position `(T,)`: words and positions have graded points.

    Raises ValueError if no grading of the words scatters as binomial samples do.
    """
    tokens = draft.text.tokens
    count = np.bincount(tokens.ravel(), minlength=len(draft.words) + SPECIAL)
    level = np.rint(STEPS * (FROM + (TO - FROM) * rank / (len(rank) - 1))).astype(int)
    for _ in range(TRIES):
        order = draft.rng.permutation(draft.words)
        below = np.cumsum(count[order]) - count[order] / 2
        score = np.floor(STEPS * below / tokens.size).astype(int)
        # active where score + level ≥ STEPS, both counted from the middle: rows of W_in stay small
        at = dict(enumerate((level - STEPS // 2).tolist()))
        rule = Rule(0, now=dict(zip(order.tolist(), (score - STEPS // 2).tolist(), strict=True)), at=at)
        rate = rule.active(tokens)[:, 1:].mean(0)
        smooth = _smooth(rate)
        expected = smooth * (1 - smooth) / len(tokens) * (1 - 1 / _window(len(rate)))
        if SCATTER[0] <= ((rate - smooth) ** 2 / expected).mean() <= SCATTER[1]:
            return rule
    raise ValueError("no grading of the words makes a smooth ramp; try another seed")


def _window(size: int) -> int:
    return max(LEAST_WINDOW, round(size / WINDOW_SHARE))


def _smooth(rate: np.ndarray) -> np.ndarray:
    """Running mean over the window, which is cut off at the ends: `(T,)` → `(T,)`."""
    ones = np.ones(_window(len(rate)))
    return np.convolve(rate, ones, "same") / np.convolve(np.ones_like(rate), ones, "same")
