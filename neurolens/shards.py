"""shards: parts of a run that processes and machines share: blocks in a row, none in two of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from neurolens import UsageError

T = TypeVar("T")
PATTERN = ".shard-*-of-*"  # `suffix` of any shard


@dataclass(frozen=True)
class Shard:
    """Shard `number` (from 1) of `of`. Raises UsageError unless 1 ≤ number ≤ of."""

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise UsageError(f"no shard {self}; expected I/N with I from 1 to N, for example 2/4")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`2/4`. Raises UsageError for what is none."""
        if not (found := re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip(), re.ASCII)):
            raise UsageError(f"no shard {text!r}; expected I/N, for example 2/4")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of_suffix(cls, suffix: str) -> Shard | None:
        """The shard with this `suffix`; None for what is none."""
        found = re.fullmatch(r"\.shard-(\d{1,6})-of-(\d{1,6})", suffix, re.ASCII)
        return cls(int(found[1]), int(found[2])) if found and 1 <= int(found[1]) <= int(found[2]) else None

    @property
    def whole(self) -> bool:
        """Whether there is no other."""
        return self.of == 1

    @property
    def suffix(self) -> str:
        """What tells its files beside the run from those of other shards; "" for the whole."""
        return "" if self.whole else f".shard-{self.number}-of-{self.of}"

    def span(self, blocks: int) -> tuple[int, int]:
        """[first, stop) of so many blocks: as many as the other shards, or one more or less."""
        return (self.number - 1) * blocks // self.of, self.number * blocks // self.of

    def part(self, blocks: Sequence[T]) -> list[T]:
        """Its blocks. All shards together have each block once.

        >>> [Shard(i, 3).part("abcd") for i in (1, 2, 3)]
        [['a'], ['b'], ['c', 'd']]
        """
        first, stop = self.span(len(blocks))
        return list(blocks[first:stop])

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


WHOLE = Shard()
