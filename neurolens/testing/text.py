"""The corpus a model is planted for: tokens and n-grams with constructed numbers of occurrences, labelled sequences.

Words and what they are for, all drawn at random from the vocabulary:
- *counted* words occur as often as `COUNTS` says, so that a share of exactly 94% or 95% is a whole number of them;
- *leaders* begin n-grams and stand nowhere else: every n-gram that begins with one is constructed, none is an accident.
  The first begins the counted bigrams and trigrams (`NGRAM_COUNTS`), the others the grid of each;
- *middles* stand second in trigrams, also without a leader in front: no trigram follows from its last two tokens;
- each label has words that occur in its sequences only;
- *usual* words are about equally frequent. The first of them are the last words of n-grams.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import product

import numpy as np

from neurolens.testing.rules import BOS, SPECIAL, Ngram, earlier

COUNTS = {"once": 1, "few": 4, "ten": 10, "ten'": 10, "ten''": 10, "94": 94, "188": 188, "95": 95, "190": 190}
COUNTS |= {"100": 100, "200": 200, "360": 360}
NGRAM_COUNTS = {"100": 100, "47": 47, "19": 19, "36": 36, "one": 1, "one'": 1, "one''": 1}
GRIDS = {2: (6, 9), 3: (3, 3, 6)}  # words in each place; all 54 combinations of a grid occur equally often
GRID_COUNT = 2
LABELS = ("code", "math", "prose")
LABEL_WORDS, LABEL_COUNT = 2, 60  # words of each label, occurrences of each
MIDDLE_COUNT = 40  # occurrences of a middle outside n-grams
LEAST_ALONE = 20  # … and of a usual word: being last in an n-gram is never most of what it does
SPREAD = 0.2  # usual words differ in frequency by so much, either way
LEAST_POSITIONS = 32  # fewer hold no four ranges to alternate between


@dataclass(frozen=True, eq=False)
class Text:
    """A corpus and the words that were chosen for it.

    tokens    int32 `(S, T)`, BOS in column 0
    label     uint16 `(S,)`, an index into `LABELS`
    counted   token id by name in `COUNTS`
    ngrams    for n = 2 and 3: n-gram by name in `NGRAM_COUNTS`; all share their first n − 1 tokens
    grids     for n = 2 and 3: the words in each place
    of_label  the words of each label
    usual     the usual words
    """

    tokens: np.ndarray
    label: np.ndarray
    counted: dict[str, int]
    ngrams: dict[int, dict[str, Ngram]]
    grids: dict[int, tuple[list[int], ...]]
    of_label: tuple[list[int], ...]
    usual: np.ndarray

    def ends(self, ngram: Ngram) -> np.ndarray:
        """Where the n-gram ends, bool `(S, T)`."""
        places = [earlier(self.tokens, by) == token for by, token in enumerate(reversed(ngram))]
        return np.logical_and.reduce(places)


def construct_text(vocab: int, positions: int, sequences: int, rng: np.random.Generator) -> Text:
    """Build the corpus of `sequences` × `positions` tokens.

    Raises ValueError if one of the three is too small for all that is constructed.
    """
    if positions < LEAST_POSITIONS:
        raise ValueError(f"positions {positions}: expected at least {LEAST_POSITIONS}")
    words = rng.permutation(np.arange(SPECIAL, vocab)).tolist()
    sizes = (len(COUNTS), LABEL_WORDS * len(LABELS), 1 + max(g[0] for g in GRIDS.values()), 1 + GRIDS[3][1])
    last = len(NGRAM_COUNTS) + GRIDS[2][-1]  # usual words that bigrams end with
    least = SPECIAL + sum(sizes) + last + 4
    if vocab < least:
        raise ValueError(f"vocab_size {vocab}: expected at least {least}")
    counted, special, leaders, middles, usual = np.split(np.array(words), np.cumsum(sizes))
    counted = dict(zip(COUNTS, counted.tolist(), strict=True))
    of_label = tuple(part.tolist() for part in np.split(special, len(LABELS)))
    ngrams, grids = _ngrams(leaders.tolist(), middles.tolist(), usual[:last].tolist())
    units = _units(ngrams, grids)

    tokens, label = _separators(sequences, positions, rng), (np.arange(sequences) % len(LABELS)).astype(np.uint16)
    counts = Counter({counted[name]: count for name, count in COUNTS.items()})
    counts.update({word: MIDDLE_COUNT for word in middles.tolist()})
    inside = Counter(word for unit in units for word in unit)
    left = int((tokens == 0).sum()) - sum(map(len, units)) - sum(counts.values()) - len(special) * LABEL_COUNT
    left += sum(inside[word] for word in usual.tolist())
    share = rng.uniform(1 - SPREAD, 1 + SPREAD, len(usual))
    totals = np.floor(max(left, 0) * share / share.sum()).astype(int)
    totals[: left - totals.sum()] += 1
    alone = totals - [inside[word] for word in usual.tolist()]
    if alone.min() < LEAST_ALONE:
        short = (LEAST_ALONE + max(inside[word] for word in usual.tolist())) / (1 - SPREAD) * (1 + SPREAD) * len(usual)
        raise ValueError(
            f"{sequences} sequences of {positions} tokens: expected at least {int(short) - left + tokens.size} tokens "
            f"for a vocabulary of {vocab}"
        )
    counts.update(dict(zip(usual.tolist(), alone.tolist(), strict=True)))

    for unit in sorted(units, key=len, reverse=True):
        _place(tokens, unit, rng)
    for i, those in enumerate(of_label):
        cells = np.flatnonzero((tokens == 0) & (label == i)[:, None])
        tokens.ravel()[rng.choice(cells, LABEL_COUNT * len(those), replace=False)] = np.repeat(those, LABEL_COUNT)
    tokens.ravel()[tokens.ravel() == 0] = rng.permutation(np.repeat(list(counts), list(counts.values())))
    return Text(tokens, label, counted, ngrams, grids, of_label, usual)


def _ngrams(
    leaders: list[int], middles: list[int], last: list[int]
) -> tuple[dict[int, dict[str, Ngram]], dict[int, tuple[list[int], ...]]]:
    """The counted n-grams and the grids. What ends many bigrams ends few trigrams."""
    several = len(NGRAM_COUNTS)
    shifted = last[several:] + last[:several]
    ngrams = {
        2: {name: (leaders[0], word) for name, word in zip(NGRAM_COUNTS, last, strict=False)},
        3: {name: (leaders[0], middles[0], word) for name, word in zip(NGRAM_COUNTS, shifted, strict=False)},
    }
    bigram, trigram = GRIDS[2], GRIDS[3]
    grids = {
        2: (leaders[1 : 1 + bigram[0]], last[several : several + bigram[1]]),
        3: (leaders[1 : 1 + trigram[0]], middles[1 : 1 + trigram[1]], last[: trigram[2]]),
    }
    return ngrams, grids


def _units(ngrams: dict[int, dict[str, Ngram]], grids: dict[int, tuple[list[int], ...]]) -> list[Ngram]:
    """The tokens to be laid out side by side, once for each occurrence."""
    units: list[Ngram] = []
    for n, named in ngrams.items():
        units += [named[name] for name, count in NGRAM_COUNTS.items() for _ in range(count)]
        units += [ngram for ngram in product(*grids[n]) for _ in range(GRID_COUNT)]
    # the last two tokens of each trigram without the first, so often that a rate by bigram is below 95%
    ends = Counter(unit[1:] for unit in units if len(unit) == 3)
    return units + [end for end, count in ends.items() for _ in range(count // 19 + 1)]


def _separators(sequences: int, positions: int, rng: np.random.Generator) -> np.ndarray:
    """BOS in column 0, up to three `</s>` further on in each sequence, 0 elsewhere.

    Between two of them stands a word, and none stands at either end of a sequence, where packers may differ.
    """
    tokens = np.zeros((sequences, positions), dtype=np.int32)
    tokens[:, 0] = BOS
    for row in tokens:
        count = int(rng.integers(0, 4))
        row[2 + np.sort(rng.choice(positions - 2 - count, count, replace=False)) + np.arange(count)] = BOS
    return tokens


def _place(tokens: np.ndarray, unit: Ngram, rng: np.random.Generator) -> None:
    """Write the unit to a random free place, in place."""
    for _ in range(10_000):
        row, column = rng.integers(len(tokens)), rng.integers(1, tokens.shape[1] - len(unit) + 1)
        cells = tokens[row, column : column + len(unit)]
        if not cells.any():
            cells[:] = unit
            return
    raise ValueError("no room for an n-gram: expected at least as many tokens again; raise sequences")
