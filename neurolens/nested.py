"""Nested: variables of which each divides the one before — tokens, bigrams, trigrams — made ready to be counted.

For rows that are counted by set bit the categories of all of them are numbered together, each leading on to the one
it is part of (`kernels.runs`); for dense rows each variable is a list of intervals (`lanes.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurolens import NeurolensError
from neurolens.bits import pack, words
from neurolens.kernels import SMALL
from neurolens.lanes import FEW
from neurolens.variables import Variable


@dataclass(frozen=True)
class Intervals:
    """A variable by runs of equal codes, as `lanes.py` counts it.

    stop   uint32 `(run,)`: where each run ends; the first begins at 0
    code   int32 `(run,)`: an index into `often`; from its length on those of the `few` categories that have 2 to FEW
           tokens; `len(often) + few` where there is no category, or one of a single token
    often  int32 `(any,)`: categories with more than FEW tokens, ascending
    few    how many categories have 2 to FEW tokens
    common int32 `(any,)`: indices into `often` of those with SMALL tokens or more
    once   uint64 `(words,)`: a bit for each token that has a category to itself
    """

    stop: np.ndarray
    code: np.ndarray
    often: np.ndarray
    few: int
    common: np.ndarray
    once: np.ndarray


@dataclass(frozen=True)
class Nested:
    """Variables of which each is nested in the one before, as bigrams are in their last tokens, made for one pass.

    variables  the coarsest first
    intervals  of each
    codes      int32 `(tokens,)`: of the finest; where it has none, a category made of the next coarser one that has,
               so that no token is lost to these; −1 where none has
    parent, base, complete
               as `kernels.runs` takes them, the finest first
    """

    variables: list[Variable]
    intervals: list[Intervals]
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
    intervals = [_find_intervals(variable) for variable in variables]
    return Nested(
        list(variables), intervals, numbers.astype(np.int32), np.concatenate(up).astype(np.int32), base, complete
    )


def _find_intervals(variable: Variable) -> Intervals:
    total, codes = variable.total, variable.codes
    often = np.flatnonzero(total > FEW).astype(np.int32)
    few = np.flatnonzero((total > 1) & (total <= FEW))
    row = np.full(len(total) + 1, len(often) + len(few), np.int32)  # −1 is the last one
    row[often], row[few] = np.arange(len(often)), np.arange(len(often), len(often) + len(few))
    rows = row[codes]
    stop = np.append(np.flatnonzero(np.diff(rows)) + 1, len(rows))[: len(rows)]
    once = np.zeros(-(-len(rows) // 64) * 64, bool)
    once[: len(rows)] = np.append(total, 0)[codes] == 1
    common = np.flatnonzero(total[often] >= SMALL).astype(np.int32)
    return Intervals(stop.astype(np.uint32), rows[stop - 1], often, len(few), common, words(pack(once)))
