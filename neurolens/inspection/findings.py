"""Findings: what an inspection has found so far, and what its later checks are told by the earlier ones."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurolens.parts import FROM_BITS, PARTS, due
from neurolens.schema import Expected
from neurolens.store import Store

Undo = tuple[Any, ...]  # what mends something: a kind, and what of it; () for nothing


@dataclass(frozen=True)
class Damage:
    """Something of a run that is not as it was written.

    path      of the array, chunk or attributes, in the run; of a file beside it as it is
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

    spool     the folder that collect was given for hidden states, None for none
    counts    by layer: activations and frequency `(neuron,)` of sound scans that wait beside the run
    bare      layers that lack bits, and no scan is there for
    marks     what was asked of each part, of those whose marks can be meant
    done      bool `(layer, block)`: marked
    thinned   layers in which it is said whose bits are kept
    expected  the arrays that must be there, by path
    unsound   paths of arrays that laws leave alone
    dropped   paths of arrays that need not be there any more
    active    by path of a layer's bits, activations int64 `(neuron,)`
    """

    def __init__(self, store: Store, spool: Path | None = None) -> None:
        self.store, self.spool = store, spool
        self.checks: list[str] = []
        self.damages: list[Damage] = []
        self.remarks: list[str] = []
        self.counts: dict[int, dict[str, np.ndarray]] = {}
        self.bare: set[int] = set()
        self.marks: dict[str, dict[str, Any]] = {}
        self.done = np.zeros((0, 0), bool)
        self.thinned: set[int] = set()
        self.expected: dict[str, Expected] = {}
        self.unsound: set[str] = set()
        self.dropped: set[str] = set()
        self.active: dict[str, np.ndarray] = {}

    @property
    def keeps_all(self) -> bool:
        """Whether the run is one that keeps all of its bits."""
        return self.store.attrs["keep_bitmaps"] == "all"

    @property
    def written(self) -> bool:
        """Whether all that is counted from bits stands in the results."""
        return set(due(self.store)) <= self.marks.keys()

    @property
    def complete(self) -> bool:
        """Whether every block of every layer is marked and, if not all bits are kept, what they say is written."""
        return bool(self.done.size and self.done.all()) and (self.keeps_all or self.written)

    def counted(self, layer: int) -> bool:
        """Whether a layer, which then had all of its blocks, was counted, so that its bits may be dropped."""
        return not self.keeps_all and (layer in self.counts or self.written)

    def row_done(self, layer: int, block: int | slice = slice(None)) -> bool:
        """Whether the bits of a layer, or of a block of it, were collected."""
        return bool(self.done[self.store.layers.index(layer), block].all()) or self.counted(layer)

    def damage(self, path: str, found: str, expected: str, undo: Undo = ()) -> None:
        """Note damage, with the command that mends it."""
        self.unsound.add(path)
        run = shlex.quote(str(self.store.path))
        collect = f", then the same 'neurolens {self.store.made_by}' command"
        both = f"{collect} and 'neurolens analyze'"
        again = {
            "bits": both,
            "layer": both,
            "block": collect,
            "part": both if self.bare and needs_bits(undo) else f", then 'neurolens analyze {run}'",
            "certificate": f", then 'neurolens certify MODEL --run {run}'",
            "group": "",
            "scan": collect,
            "spool": f"{collect}, which begins anew",
            "slot": ", or with the same 'neurolens collect' command, which does without it",
        }
        option = (
            f" --spool {shlex.quote(str(self.spool))}" if self.spool and undo[:1] in (("spool",), ("slot",)) else ""
        )
        mends = f"mend with 'neurolens verify {run} --mend{option}'" + again[undo[0]] if undo else ""
        self.damages.append(Damage(path, found, expected, mends or "collect into another output", undo))

    def remedy(self, name: str) -> Undo:
        """What mends an array as a whole."""
        owner = self.expected[name].owner if name in self.expected else ""
        if name.endswith(("/active", "/kept")):
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


def needs_bits(undo: Undo) -> bool:
    """Whether what undoes something takes back results that are counted from bits."""
    return undo[:1] == ("part",) and not set(FROM_BITS).isdisjoint(undo)


def brief(value: Any) -> str:
    """A value as text, at most 40 characters."""
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"
