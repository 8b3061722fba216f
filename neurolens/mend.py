"""mend: marks of what is damaged and can be made again are taken back, so that what made it makes exactly that again.

Of what is in a run nothing is removed but what would pass for more than it is: whose bits of a layer are kept, once all
of it is collected again. Beside it, files of counts and of hidden states that are not what was written.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np

from neurolens.inspection.findings import Findings, Undo
from neurolens.parts import FROM_BITS, PARTS, take_back
from neurolens.scanner import forget_layer, scan_path
from neurolens.slots import entry_path, fingerprint_run, remove_spool


def mend(seen: Findings, say: Callable[[str], object]) -> tuple[list[str], list[str]]:
    """(what was done, commands that must follow). Marks go first: a stop at any moment leaves a run whose marks are
    true. Holds the lock."""
    work = _Mending(seen, say)
    work.parts()
    work.blocks()
    work.metadata()
    work.files()
    work.certificate()
    return work.done, work.redo


class _Mending:
    """What is to be undone, and what was done so far."""

    def __init__(self, seen: Findings, say: Callable[[str], object]) -> None:
        self._seen, self._store, self._say = seen, seen.store, say
        self._run = shlex.quote(str(seen.store.path))
        self._made = f"the same 'neurolens {seen.store.made_by}' command"
        self._undo: set[Undo] = {damage.undo for damage in seen.damages if damage.undo}
        self._parts = {part for kind, *names in self._undo if kind == "part" for part in names}
        if not self._parts.isdisjoint(FROM_BITS):  # they cannot be counted again of bits that are gone
            self._undo |= {("layer", layer) for layer in seen.bare}
        self._kinds = {kind for kind, *_ in self._undo}
        if self._kinds & {"bits", "layer"}:
            self._parts |= set(PARTS)  # they may have been computed from what is damaged
            self._undo |= {("layer", layer) for layer in seen.bare}
        self.done: list[str] = []
        self.redo: list[str] = []

    def parts(self) -> None:
        """Take back the marks of results, and of those that build on them."""
        seen, store, parts = self._seen, self._store, self._parts
        if "part" not in self._kinds and not seen.marks.keys() & parts:
            return
        if any(damage.path == "results/zarr.json" and "unreadable" in damage.found for damage in seen.damages):
            store.restore_group("results")
        gone = [part for part in take_back(store, parts) if part in seen.marks]
        for part in gone:
            self._did(f"the mark of {part} is taken back (it was asked for with {json.dumps(seen.marks[part])})")
        if not gone:
            self._did("the marks of results are taken back")
        if not seen.keeps_all and not parts.isdisjoint(FROM_BITS):  # collect counts them as well
            self.redo.append(self._made)
        if seen.keeps_all or not gone or set(gone) - set(FROM_BITS):
            self.redo.append(f"neurolens analyze {self._run}")

    def blocks(self) -> None:
        """Take back the marks of blocks; give back those of layers that were counted, which had all of them."""
        seen, store = self._seen, self._store
        if not self._kinds & {"bits", "layer", "block"}:
            return
        again = {of[0] for kind, *of in self._undo if kind == "layer"}
        wanted = seen.done.copy()
        for kind, *of in self._undo:
            if kind == "bits":
                wanted[store.layers.index(of[0]), of[1]] = False
            elif kind == "block":
                wanted[:, of[0]] = [seen.counted(layer) for layer in store.layers]
        wanted[np.isin(store.layers, list(again))] = False
        store.unmark(wanted)
        if given := int((wanted & ~seen.done).sum()):
            self._did(f"{given} marks of blocks of layers are given back: these were counted, so they were there")
        if not wanted.all():
            self._did(f"{int((seen.done & ~wanted).sum())} marks of blocks of layers are taken back")
            self.redo = [self._made, *(each for each in self.redo if each != self._made)]

    def metadata(self) -> None:
        """Write anew what follows from the run's attributes."""
        seen, store = self._seen, self._store
        for kind, *of in sorted(self._undo, key=str):
            if kind == "layer":
                forget_layer(store, of[0])
                self._did(f"the metadata of the bits of layer {of[0]} are written anew")
            elif kind == "group":
                store.restore_group(of[0])
                self._did(f"the metadata of the group {of[0]} are written anew")
        for damage in seen.damages:
            part, path = damage.undo[:1] == ("part",), damage.path
            if part and path.endswith("/zarr.json") and path != "results/zarr.json":
                store.restore_group(path.removesuffix("/zarr.json"))

    def files(self) -> None:
        """Remove files beside the run that are not what was written, and what says what is in them."""
        for kind, *of in sorted(self._undo, key=str):
            if kind == "scan":
                path = scan_path(self._store.path, of[0])
                path.unlink(missing_ok=True)
                self._did(f"{path} is removed; the layer is counted again")
            elif kind == "slot":
                path = entry_path(Path(of[0]), of[1])
                path.unlink(missing_ok=True)
                self._did(f"{path} is removed; nothing goes on from that slot")
            elif kind == "spool":
                remove_spool(Path(of[0]), fingerprint_run(self._store.attrs))
                self._did(f"the hidden states in {of[0]} are removed")
        if self._kinds & {"scan", "slot", "spool"} and self._made not in self.redo:
            self.redo.insert(0, self._made)

    def certificate(self) -> None:
        """Take back a certificate that is not the run's."""
        if "certificate" in self._kinds:
            self._store.restore_group("certificate")
            self._did("the certificate is taken back")
            self.redo.append(f"neurolens certify MODEL --run {self._run}")

    def _did(self, line: str) -> None:
        self.done.append(line)
        self._say(f"{self._store.path}: {line}")
