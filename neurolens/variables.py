"""Corpus → Variable: something discrete about every token. What is counted is how often a neuron is on, given it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurolens import NeurolensError
from neurolens.corpus import Corpus

GROUPS = 20  # interleaved groups of sequences: enough for a bootstrap over groups


@dataclass(frozen=True)
class Variable:
    """A category for every token of a corpus.

    name        what it is called in the store, also its axis
    codes       int32 `(tokens,)` in [−1, categories), −1 = no category; in corpus order (`sequence * T + position`)
                as the functions below make them, in row order after `in_order`
    categories  C, the number of categories, also of those that never occur
    """

    name: str
    codes: np.ndarray
    categories: int

    def __post_init__(self) -> None:
        if self.codes.size and not (self.codes.min() >= -1 and self.codes.max() < self.categories):
            raise NeurolensError(
                f"variable {self.name!r} has codes {self.codes.min()}…{self.codes.max()}, "
                f"expected −1…{self.categories - 1}"
            )

    @cached_property
    def total(self) -> np.ndarray:
        """Tokens in each category: int64 `(categories,)`."""
        return np.bincount(self.codes[self.codes >= 0], minlength=self.categories)

    def in_order(self, order: np.ndarray) -> Variable:
        """The same variable with its codes in the order of a store's rows: code i is that of token `order[i]`."""
        return Variable(self.name, np.ascontiguousarray(self.codes[order]), self.categories)


def none(corpus: Corpus) -> Variable:
    """One category that every token has."""
    return Variable("none", np.zeros(corpus.tokens.size, np.int32), 1)


def token(corpus: Corpus, vocab_size: int) -> Variable:
    """The token id itself; `</s>` (BOS and separators) has no category (paper, footnote 8)."""
    ids = corpus.tokens.reshape(-1)
    return Variable("token", np.where(ids == corpus.eos, -1, ids).astype(np.int32), vocab_size)


def position(corpus: Corpus) -> Variable:
    """The position in the sequence, 0 … T−1."""
    sequences, positions = corpus.shape
    return Variable("position", np.tile(np.arange(positions, dtype=np.int32), sequences), positions)


def label(corpus: Corpus) -> Variable:
    """The label of the token's sequence."""
    return Variable("label", np.repeat(corpus.label.astype(np.int32), corpus.shape[1]), len(corpus.label_names))


def group(corpus: Corpus, groups: int = GROUPS) -> Variable:
    """The sequence's number modulo `groups`: interleaved groups, for bootstraps over sequences."""
    sequences, positions = corpus.shape
    return Variable("group", np.repeat(np.arange(sequences, dtype=np.int32) % groups, positions), groups)
