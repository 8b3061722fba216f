"""Corpus → Variable: something discrete about every token. What is counted is how often a neuron is on, given it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurolens import NeurolensError
from neurolens.corpus import Corpus, contexts

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


@dataclass(frozen=True)
class Ngrams:
    """The n-grams of a corpus, each with a number.

    variable  the n-gram that ends at each token, −1 where a document has not begun n tokens before (its categories
              ascend along a stretch of the context order that is sorted so deep)
    tokens    int32 `(category, n)`: the token ids of each, in reading order
    """

    n: int
    variable: Variable
    tokens: np.ndarray

    def in_order(self, order: np.ndarray) -> Ngrams:
        """The same n-grams with their codes in the order of a store's rows."""
        return Ngrams(self.n, self.variable.in_order(order), self.tokens)


def ngrams(corpus: Corpus, most: int, vocab_size: int) -> list[Ngrams]:
    """The n-grams of lengths 1 … `most` that *end* at each token (paper, §4). They hold no `</s>`, nor cross one.

    Those of length 1 are numbered by token id; longer ones by rank among all of the corpus, sorted by their tokens
    from the newest to the oldest, as the context order is. A rank comes from the rank of the n − 1 newest tokens and
    the oldest one: V^n, which overflows at n = 5, is never formed. Memory: 4 bytes a token and length, and 4·n a
    distinct n-gram.
    """
    back = contexts(corpus.tokens, most, corpus.eos)
    found = [Ngrams(1, Variable("unigram", back[0], vocab_size), np.arange(vocab_size, dtype=np.int32)[:, None])]
    for n in range(2, most + 1):
        shorter, oldest = found[-1], back[n - 1]
        there = oldest >= 0
        key = shorter.variable.codes[there].astype(np.int64) * vocab_size + oldest[there]
        distinct, rank = np.unique(key, return_inverse=True)
        codes = np.full(corpus.tokens.size, -1, np.int32)
        codes[there] = rank
        newer = shorter.tokens[distinct // vocab_size]
        tokens = np.concatenate([(distinct % vocab_size).astype(np.int32)[:, None], newer], axis=1)
        found.append(Ngrams(n, Variable(f"{n}-gram", codes, len(distinct)), tokens))
    return found


def position(corpus: Corpus) -> Variable:
    """The position in the sequence, 0 … T−1."""
    sequences, positions = corpus.shape
    return Variable("position", np.tile(np.arange(positions, dtype=np.int32), sequences), positions)


def sequence(corpus: Corpus) -> Variable:
    """The number of the token's sequence."""
    sequences, positions = corpus.shape
    return Variable("sequence", np.repeat(np.arange(sequences, dtype=np.int32), positions), sequences)


def label(corpus: Corpus) -> Variable:
    """The label of the token's sequence."""
    return Variable("label", np.repeat(corpus.label.astype(np.int32), corpus.shape[1]), len(corpus.label_names))


def product(first: Variable, second: Variable) -> Variable:
    """Both at once: category `first · C + second` of C categories of the second; of variables that all tokens have."""
    codes = first.codes * np.int64(second.categories) + second.codes
    return Variable(f"{first.name}_{second.name}", codes.astype(np.int32), first.categories * second.categories)


def group(corpus: Corpus, groups: int = GROUPS) -> Variable:
    """The sequence's number among those of its label, modulo `groups`: interleaved groups, for bootstraps.

    Each has its share of every label: numbered over all labels, 4 interleaved ones would have groups of their own.
    """
    sequences, positions = corpus.shape
    by_label = np.argsort(corpus.label, kind="stable")
    first = np.searchsorted(corpus.label[by_label], corpus.label[by_label])
    number = np.empty(sequences, np.int32)
    number[by_label] = (np.arange(sequences) - first) % groups
    return Variable("group", np.repeat(number, positions), groups)
