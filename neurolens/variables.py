"""Corpus → Variable: something discrete about every token. What is counted is how often a neuron is on, given it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurolens import NeurolensError
from neurolens.bits import pack, words
from neurolens.corpus import Corpus, contexts

COMMON, FEW = 256, 3  # tokens of a category that is common, or rare, to lanes.py
GROUPS = 20  # interleaved groups of sequences: enough for a bootstrap over groups


@dataclass(frozen=True)
class Intervals:
    """A variable by runs of equal codes, as `lanes.py` counts it.

    stop   uint32 `(run,)`: where each run ends; the first begins at 0
    code   int32 `(run,)`: an index into `often`; from its length on those of the `few` categories that have 2 to FEW
           tokens; `len(often) + few` where there is no category, or one of a single token
    often  int32 `(any,)`: categories with more than FEW tokens, ascending
    few    how many categories have 2 to FEW tokens
    common int32 `(any,)`: indices into `often` of those with COMMON tokens or more
    once   uint64 `(words,)`: a bit for each token that has a category to itself
    """

    stop: np.ndarray
    code: np.ndarray
    often: np.ndarray
    few: int
    common: np.ndarray
    once: np.ndarray


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

    @cached_property
    def intervals(self) -> Intervals:
        """Runs of equal codes. Few and long for n-grams in context order."""
        often = np.flatnonzero(self.total > FEW).astype(np.int32)
        few = np.flatnonzero((self.total > 1) & (self.total <= FEW))
        row = np.full(self.categories + 1, len(often) + len(few), np.int32)  # −1 is the last one
        row[often], row[few] = np.arange(len(often)), np.arange(len(often), len(often) + len(few))
        rows = row[self.codes]
        stop = np.append(np.flatnonzero(np.diff(rows)) + 1, len(rows))[: len(rows)]
        once = np.zeros(-(-len(rows) // 64) * 64, bool)
        once[: len(rows)] = np.append(self.total, 0)[self.codes] == 1
        common = np.flatnonzero(self.total[often] >= COMMON).astype(np.int32)
        return Intervals(stop.astype(np.uint32), rows[stop - 1], often, len(few), common, words(pack(once)))

    def in_order(self, order: np.ndarray) -> Variable:
        """The same variable with its codes in the order of a store's rows: code i is that of token `order[i]`."""
        return Variable(self.name, np.ascontiguousarray(self.codes[order]), self.categories)


@dataclass(frozen=True)
class Nested:
    """Variables of which each is nested in the one before, as bigrams are in their last tokens, made for one pass.

    variables  the coarsest first
    codes      int32 `(tokens,)`: of the finest; where it has none, a category made of the next coarser one that has,
               so that no token is lost to these; −1 where none has
    parent, base, complete
               as `kernels.runs` takes them, the finest first
    """

    variables: list[Variable]
    codes: np.ndarray
    parent: np.ndarray
    base: np.ndarray
    complete: np.ndarray


def nest(variables: Sequence[Variable]) -> Nested:
    """Number the categories of nested variables together. Raises NeurolensError if one is not nested in the next."""
    numbers, sizes = variables[0].codes.astype(np.int64), [variables[0].categories]
    parents = [np.full(sizes[0], -1, np.int64)]
    for finer in variables[1:]:
        inner = np.where(finer.codes >= 0, finer.codes, np.where(numbers >= 0, finer.categories + numbers, -1))
        parent, there = np.full(finer.categories + sizes[-1], -1, np.int64), inner >= 0
        parent[inner[there]] = numbers[there]
        if (parent[inner[there]] != numbers[there]).any() or (numbers[there] < 0).any():
            raise NeurolensError(f"variable {finer.name!r} is not nested in the one before; each must divide the last")
        numbers = inner
        sizes.append(len(parent))
        parents.append(parent)
    base = np.cumsum([0, *sizes[:0:-1]])
    up = [np.where(of >= 0, of + start, -1) for of, start in zip(parents[::-1], [*base[1:], 0], strict=True)]
    complete = np.array([variable.categories for variable in variables[::-1]])
    return Nested(list(variables), numbers.astype(np.int32), np.concatenate(up).astype(np.int32), base, complete)


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


def label(corpus: Corpus) -> Variable:
    """The label of the token's sequence."""
    return Variable("label", np.repeat(corpus.label.astype(np.int32), corpus.shape[1]), len(corpus.label_names))


def group(corpus: Corpus, groups: int = GROUPS) -> Variable:
    """The sequence's number modulo `groups`: interleaved groups, for bootstraps over sequences."""
    sequences, positions = corpus.shape
    return Variable("group", np.repeat(np.arange(sequences, dtype=np.int32) % groups, positions), groups)
