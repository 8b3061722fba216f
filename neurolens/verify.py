"""verify: is what a run holds what was written, and what it says it is? What is damaged, and what mends it.

What is looked at is inspection's, what is done about it mend.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurolens import UsageError
from neurolens.inspection import inspect_run
from neurolens.inspection.findings import Damage
from neurolens.inspection.fingerprints import find_checkpoint
from neurolens.location import Where, locate
from neurolens.locks import lock, still
from neurolens.mend import mend as mend_run
from neurolens.store import Store


@dataclass(frozen=True)
class Verification:
    """What `verify_run` found.

    checks    a line for each check that holds
    damages   what is damaged
    remarks   what is worth saying and no damage: what is incomplete, left over, or could not be compared
    complete  whether every block of every layer is marked and, if not all bits are kept, what they say is written
    mended    what `mend` did, a line each
    redo      commands that make anew what it took back, in this order
    """

    path: Where
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
    path: str | Where,
    model: str | Path | None = None,
    mend: bool = False,
    say: Callable[[str], object] = lambda line: None,
    *,
    spool: str | Path | None = None,
) -> Verification:
    """Read all of a run and hold it against its checksums, its marks, its schema and itself.

    `model`: where the run's checkpoint is, for the fingerprints; by default where the run says, or in the hub's cache;
    nothing is fetched. `spool`: the folder that collect was given for hidden states, if it was. `mend` takes back,
    under the run's lock, the marks of what is damaged and can be made again, and of results that build on it; `say`
    hears what is done, as it is done. Without it nothing is written. Raises NeurolensError if `path` is no run or is
    being written, UsageError for a `model` or `spool` that is not there, IncompleteError if it gets out of reach.
    """
    path = locate(path)
    folder = None if model is None else find_checkpoint(model)
    if model is not None and folder is None:
        raise UsageError(f"no model folder {model}, nor in the hub's cache; give the folder of the run's checkpoint")
    place = None if spool in (None, "memory") else Path(spool)
    if place is not None and not place.is_dir():
        raise UsageError(f"no folder {place}; give the one that collect was given as --spool")
    Store.open(path)  # before a lock leaves a log beside what is no run
    with lock(path) if mend else still(path):
        store = Store.open(path, write=mend)
        seen = inspect_run(store, folder, place)
        if store.place.lost:  # what could not be read may look damaged, and is not
            raise store.place.lost
        mended, redo = mend_run(seen, say) if mend else ([], [])
    return Verification(
        path,
        tuple(seen.checks),
        tuple(seen.damages),
        tuple(seen.remarks),
        seen.complete,
        tuple(mended),
        tuple(redo),
    )
