"""Tokens: what everything counted from bits needs to know of the corpus, in the order of a store's rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurolens import variables
from neurolens.bits import pack, words
from neurolens.bootstrap import Bootstrap, Groups, draw_groups
from neurolens.corpus import Corpus
from neurolens.nested import Nested, nest
from neurolens.variables import Ngrams, Variable

Walk = tuple[np.ndarray, np.ndarray]
SEED = 0  # of the random order


@dataclass(frozen=True)
class Tokens:
    """What every stretch of neurons needs to know of the tokens, in the order of the rows' bits.

    index     uint32 `(token,)`: the token's place in the corpus
    corpus    a walk through the rows in the order of the corpus, and one in a random order: as `kernels.first_along`
    random    takes them, both `(walk, rank)`
    text      uint64 `(word,)`: a bit for each token that is not `</s>`
    position  what is counted
    sequence
    label     int64 `(sequence,)`
    cell      int64 `(sequence,)`: its group and label, group · labels + label
    sequences int64 `(group, label)`: how many there are
    by_label  label · T + position, and group · T + position: what positional neurons are counted by
    by_group
    groups    of sequences, resampled
    grams     n-grams by length; empty if they are not asked for
    nested    the same, made for counting
    """

    index: np.ndarray
    corpus: Walk
    random: Walk
    text: np.ndarray
    position: Variable
    sequence: Variable
    label: np.ndarray
    cell: np.ndarray
    sequences: np.ndarray
    by_label: Variable
    by_group: Variable
    groups: Groups
    grams: list[Ngrams]
    nested: Nested | None

    def totals(self) -> dict[str, np.ndarray]:
        """Tokens at each position, of each label and in each group: int64 `(category,)`; of both `(group, label)`."""
        both = self.sequences * self.position.categories
        return {"position": self.position.total, "label": both.sum(0), "group": both.sum(1), "group_label": both}


def index_tokens(
    corpus: Corpus,
    order: np.ndarray,
    vocab_size: int,
    *,
    most: int,
    bootstrap: Bootstrap | None = None,
    seed: int = SEED,
) -> Tokens:
    """Variables of a corpus in the order of a store's rows; `most`: longest n-gram, 0 for none.

    `order` as the store has it, `bootstrap` how groups are resampled, `seed` of the random order.
    """
    grams = [each.in_order(order) for each in variables.ngrams(corpus, most, vocab_size)] if most else []
    text = np.zeros(-(-len(order) // 64) * 64, bool)
    text[: len(order)] = corpus.tokens.reshape(-1)[order] != corpus.eos
    places = np.argsort(order).astype(np.uint32)
    shuffled = np.argsort(token_priority(order, seed=seed)).astype(np.uint32)
    rank = np.empty(len(order), np.uint32)
    rank[shuffled] = np.arange(len(order))
    position, label, group = (make(corpus) for make in (variables.position, variables.label, variables.group))
    both = variables.product(group, label)
    cell = both.codes[:: corpus.shape[1]].astype(np.int64)
    sequences = np.bincount(cell, minlength=both.categories).reshape(group.categories, label.categories)
    return Tokens(
        index=order,
        corpus=(places, order.astype(np.uint32)),
        random=(shuffled, rank),
        text=words(pack(text)),
        position=position.in_order(order),
        sequence=variables.sequence(corpus).in_order(order),
        label=corpus.label.astype(np.int64),
        cell=cell,
        sequences=sequences,
        by_label=variables.product(label, position).in_order(order),
        by_group=variables.product(group, position).in_order(order),
        groups=draw_groups(sequences.sum(1) * corpus.shape[1], bootstrap or Bootstrap()),
        grams=grams,
        nested=nest([each.variable for each in grams]) if grams else None,
    )


def token_priority(index: np.ndarray, *, seed: int) -> np.ndarray:
    """A hash of each token's index: uint64 `(tokens,)`; the least ones of a set are a uniform sample of it.

    SplitMix64 (Steele, Lea and Flood 2014) of index and seed: depends on nothing else, so the sample is the same
    in whatever order, split or merge the tokens are met. Seeds start its sequence far from one another: were they only
    added to the index, samples of two seeds would be neighbours in the text.
    """
    start = np.uint64((1 + seed * 0xD1B54A32D192ED03) % (1 << 64))
    with np.errstate(over="ignore"):
        z = (index.astype(np.uint64) + start) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
