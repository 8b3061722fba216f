"""verify: is what a run holds what was written, and what it says it is? What is damaged, and what mends it.

What is looked at is inspection's. Mending takes back the marks of what can be made again, so that the commands that
made it make exactly that again; nothing is removed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurolens import UsageError
from neurolens.inspection import inspect_run
from neurolens.inspection.findings import Damage, Findings
from neurolens.inspection.fingerprints import find_checkpoint
from neurolens.parts import PARTS, take_back
from neurolens.store import Store, lock, still


@dataclass(frozen=True)
class Verification:
    """What `verify_run` found.

    checks    a line for each check that holds
    damages   what is damaged
    remarks   what is worth saying and no damage: what is incomplete, left over, or could not be compared
    complete  whether every block of every layer is marked
    mended    what `mend` did, a line each
    redo      commands that make anew what it took back, in this order
    """

    path: Path
    checks: tuple[str, ...]
    damages: tuple[Damage, ...]
    remarks: tuple[str, ...]
    complete: bool
    mended: tuple[str, ...] = ()
    redo: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """1 for damage that is still there, 3 if what was taken back must be made again, else 0."""
        done = bool(self.mended)
        return 1 if any(not (done and damage.undo) for damage in self.damages) else 3 if self.redo else 0

    def to_dict(self) -> dict[str, Any]:
        """As one JSON object."""
        names = ("path", "found", "expected", "mends")
        return {
            "path": str(self.path),
            "sound": not self.damages,
            "complete": self.complete,
            "checks": list(self.checks),
            "damages": [{name: getattr(damage, name) for name in names} for damage in self.damages],
            "remarks": list(self.remarks),
            "mended": list(self.mended),
            "redo": list(self.redo),
        }

    def lines(self) -> Iterator[str]:
        """For people: a line a check, remark and damage, then the outcome. What they name may be anybody's."""
        yield from (f"ok       {line}" for line in self.checks)
        yield from (f"note     {line}" for line in self.remarks)
        for damage in self.damages:
            yield f"DAMAGED  {damage.path}: {damage.found}; expected {damage.expected}; {damage.mends}"
        yield from (f"mended   {line}" for line in self.mended)
        state = "sound" if self.complete else "sound, and incomplete"
        if self.damages:
            state = f"{len(self.damages)} damage{'s'[: len(self.damages) > 1]}"
        yield f"{self.path}: {state}" + (f"; next: {', then '.join(self.redo)}" if self.redo else "")


def verify_run(
    path: str | Path,
    model: str | Path | None = None,
    mend: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> Verification:
    """Read all of a run and hold it against its checksums, its marks, its schema and itself.

    `model`: where the run's checkpoint is, for the fingerprints; by default where the run says, or in the hub's cache;
    nothing is fetched. `mend` takes back, under the run's lock, the marks of what is damaged and can be made again, and
    of results that build on it; `say` hears what is done, as it is done. Without it nothing is written. Raises
    NeurolensError if `path` is no run or is being written, UsageError for a `model` that is not there.
    """
    path = Path(path)
    folder = None if model is None else find_checkpoint(model)
    if model is not None and folder is None:
        raise UsageError(f"no model folder {model}, nor in the hub's cache; give the folder of the run's checkpoint")
    Store.open(path)  # before a lock leaves a log beside what is no run
    with lock(path) if mend else still(path):
        store = Store.open(path, write=mend)
        seen = inspect_run(store, folder)
        mended, redo = _mend(seen, say) if mend else ([], [])
    return Verification(
        path,
        tuple(seen.checks),
        tuple(seen.damages),
        tuple(seen.remarks),
        seen.complete,
        tuple(mended),
        tuple(redo),
    )


def _mend(seen: Findings, say: Callable[[str], object]) -> tuple[list[str], list[str]]:
    """(what was done, commands that must follow). Marks go first: a stop at any moment leaves a run whose marks are
    true. Holds the lock."""
    store, run = seen.store, shlex.quote(str(seen.store.path))
    undo = {damage.undo for damage in seen.damages if damage.undo}
    kinds = {kind for kind, *_ in undo}
    done: list[str] = []
    redo: list[str] = []

    def did(line: str) -> None:
        done.append(line)
        say(f"{store.path}: {line}")

    parts = {part for kind, *names in undo if kind == "part" for part in names}
    if kinds & {"bits", "layer"}:
        parts |= set(PARTS)  # they may have been computed from what is damaged
    if "part" in kinds or seen.marks.keys() & parts:
        if any(damage.path == "results/zarr.json" and "unreadable" in damage.found for damage in seen.damages):
            store.restore_group("results")
        gone = [part for part in take_back(store, parts) if part in seen.marks]
        for part in gone:
            did(f"the mark of {part} is taken back (it was asked for with {json.dumps(seen.marks[part])})")
        if not gone:
            did("the marks of results are taken back")
        redo.append(f"neurolens analyze {run}")
    wanted = seen.done.copy()
    for kind, *of in undo:
        if kind == "layer":
            wanted[store.layers.index(of[0])] = False
        elif kind == "bits":
            wanted[store.layers.index(of[0]), of[1]] = False
        elif kind == "block":
            wanted[:, of[0]] = False
    if kinds & {"bits", "layer", "block"}:
        store.unmark(wanted)
        did(f"{int((seen.done & ~wanted).sum())} marks of blocks of layers are taken back")
        redo.insert(0, "the same 'neurolens collect' command")
    for kind, *of in sorted(undo, key=str):
        if kind == "layer":
            store.restore_bits(of[0])
            did(f"the metadata of the bits of layer {of[0]} are written anew")
        elif kind == "group":
            store.restore_group(of[0])
            did(f"the metadata of the group {of[0]} are written anew")
    for damage in seen.damages:
        if damage.undo[:1] == ("part",) and damage.path.endswith("/zarr.json") and damage.path != "results/zarr.json":
            store.restore_group(damage.path.removesuffix("/zarr.json"))
    if "certificate" in kinds:
        store.restore_group("certificate")
        did("the certificate is taken back")
        redo.append(f"neurolens certify MODEL --run {run}")
    return done, redo
