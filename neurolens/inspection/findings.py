"""Findings: what an inspection has found so far, and what its later checks are told by the earlier ones."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurolens.parts import PARTS
from neurolens.schema import Expected
from neurolens.store import Store

Undo = tuple[Any, ...]  # what mends something: a kind, and what of it; () for nothing


@dataclass(frozen=True)
class Damage:
    """Something of a run that is not as it was written.

    path      of the array, chunk or attributes, in the run
    found     what is there
    expected  what should be
    mends     the command that mends it
    undo      what `mend` does about it; empty for nothing
    """

    path: str
    found: str
    expected: str
    mends: str
    undo: Undo = ()


class Findings:
    """Damage by path, lines for checks that hold, and remarks; a law over an array that is damaged itself is not asked.

    marks     what was asked of each part, of those whose marks can be meant
    done      bool `(layer, block)`: marked
    expected  the arrays that must be there, by path
    unsound   paths of arrays that laws leave alone
    active    by path of a layer's bits, activations int64 `(neuron,)`
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.checks: list[str] = []
        self.damages: list[Damage] = []
        self.remarks: list[str] = []
        self.marks: dict[str, dict[str, Any]] = {}
        self.done = np.zeros((0, 0), bool)
        self.expected: dict[str, Expected] = {}
        self.unsound: set[str] = set()
        self.active: dict[str, np.ndarray] = {}

    @property
    def complete(self) -> bool:
        """Whether every block of every layer is marked."""
        return bool(self.done.size and self.done.all())

    def damage(self, path: str, found: str, expected: str, undo: Undo = ()) -> None:
        """Note damage, with the command that mends it."""
        self.unsound.add(path)
        run = shlex.quote(str(self.store.path))
        collect = ", then the same 'neurolens collect' command"
        again = {
            "bits": f"{collect} and 'neurolens analyze'",
            "layer": f"{collect} and 'neurolens analyze'",
            "block": collect,
            "part": f", then 'neurolens analyze {run}'",
            "certificate": f", then 'neurolens certify MODEL --run {run}'",
            "group": "",
        }
        mends = f"mend with 'neurolens verify {run} --mend'" + again[undo[0]] if undo else ""
        self.damages.append(Damage(path, found, expected, mends or "collect into another output", undo))

    def remedy(self, name: str) -> Undo:
        """What mends an array as a whole."""
        owner = self.expected[name].owner if name in self.expected else ""
        if name.endswith("/active"):
            return ("layer", int(name.split("/")[1]))
        return ("part", owner) if owner in PARTS else ()

    def holds(self, line: str, before: int) -> None:
        """A line for a check, if it found nothing since there were `before` damages."""
        if len(self.damages) == before:
            self.checks.append(line)

    def sound(self, *names: str) -> bool:
        """Whether arrays are there and, as far as is known, whole."""
        return all(name in self.expected and name not in self.unsound for name in names)

    def grid(self, name: str) -> tuple[list[int], list[int], list[int]]:
        """(shape, shape of a chunk, number of chunks along each axis) of an array that is sound."""
        metadata = self.store.metadata(name) or {}
        shape, chunk = metadata["shape"], metadata["chunk_grid"]["configuration"]["chunk_shape"]
        return shape, chunk, [-(-size // step) for size, step in zip(shape, chunk, strict=True)]


def brief(value: Any) -> str:
    """A value as text, at most 40 characters."""
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"
