"""Kills: runs that SIGKILL ends at random moments, again and again, and that the same command continues.

The law: such a run ends with a store that is, byte for byte, that of a run which was left alone, and with nothing
beside it but its log. Of several kinds of run, each by every way that hidden states, weights and bitmaps can take;
what keeps all bits has the same bytes whichever way it went, and what keeps none or some has the results that
`analyze` finds in the bits of the one that kept all.

Children are forked from a process that has imported everything and compiled all it needs, and a few of each kind are
processes that begin anew, as a user's do. Moments are drawn evenly from the time that a run takes. Where they have
hit is told from what is on the disk after each kill; of a kill of which nothing tells, the child had not written yet.

`--quick`: two kills of each kind rather than 42.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: what has threads cannot be forked
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import contextlib
import io
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr.core.sync
from _common import at_least, at_most, finish, quick_asked

from neurolens.analyze import analyze_run
from neurolens.collect import collect
from neurolens.corpus import Corpus
from neurolens.keep import is_finished, keeps
from neurolens.parts import FROM_BITS, marks
from neurolens.scanner import scan_path
from neurolens.store import Store
from neurolens.testing import random_opt
from neurolens.testing.kills import Ended, compare, in_child, in_process, kill_at_random

SHAPE = {"hidden_size": 32, "ffn_dim": 72, "num_hidden_layers": 4, "num_attention_heads": 4}
POSITIONS, SEQUENCES = 48, 40
CUT = {"batch_tokens": 2 * POSITIONS, "block_tokens": 4 * POSITIONS}  # 10 blocks
HERE = "here"  # as a spool: a folder beside the run
KINDS: dict[str, dict[str, Any]] = {
    "resident weights, a block at a time": {"weights": "resident", "spool": "memory", "keep_bitmaps": "all"},
    "streamed weights, three blocks in memory": {
        "weights": "streamed",
        "spool": "memory",
        "window_tokens": 3 * CUT["block_tokens"],
        "keep_bitmaps": "all",
    },
    "streamed weights, states on the disk": {"weights": "streamed", "spool": HERE, "keep_bitmaps": "all"},
    "states on the disk, no bits kept": {"weights": "streamed", "spool": HERE, "keep_bitmaps": "none"},
    "states in memory, rare bits kept": {"weights": "resident", "spool": "memory", "keep_bitmaps": "sparse"},
    "two of the layers, states on the disk, rare bits kept": {
        "weights": "resident",
        "spool": HERE,
        "keep_bitmaps": "sparse",
        "layers": [1, 3],
    },
}
STAGES = (
    "before the run is there",
    "making the run",
    "before the first mark",
    *(f"collecting, quarter {quarter} of the blocks" for quarter in (1, 2, 3, 4)),
    "counting a layer, giving up its bits",
    "all collected",
    "writing results",
    "done but for what waited beside it",
)
COLD = "--cold"  # how this script calls itself for a process that begins anew


def text() -> Corpus:
    """Random text of few words, so that some n-grams come often."""
    tokens = np.random.default_rng(0).integers(4, 40, (SEQUENCES, POSITIONS), dtype=np.int32)
    tokens[:, 0] = 2
    return Corpus.from_tokens(tokens, label=np.arange(SEQUENCES) % 2, label_names=("even", "odd"))


def run(model: Path, kind: str, folder: Path) -> None:
    """Make or continue a run in a folder: what is killed.

    Raises RuntimeError if states that were on a disk are not there or not whole: such a run would end with the same
    bytes, but later.
    """
    options = dict(KINDS[kind])
    if options["spool"] == HERE:
        options["spool"] = folder / "spool"
        options["spool"].mkdir(exist_ok=True)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        if KINDS[kind]["spool"] == HERE and " again" in line:
            raise RuntimeError(line)

    collect(model, text(), folder / "r.zarr", say=say, **CUT, **options)


def warm(model: Path, folder: Path) -> None:
    """Do once what takes long only the first time; afterwards there is no other thread."""
    folder.mkdir()
    os.fsync = lambda handle: None  # no power is cut; moments would gather where the disk is waited for
    with contextlib.redirect_stderr(io.StringIO()):
        run(model, "states on the disk, no bits kept", folder)
    zarr.core.sync.cleanup_resources()


class Starts:
    """Starts of one kind of run: forked, but for every other one until enough of those that begin anew were killed."""

    def __init__(self, model: Path, kind: str, cold: int) -> None:
        """`cold`: how many of those."""
        self._model, self._kind, self._cold = model, kind, cold
        self._count, self._began = 0, 0.0
        self.cold_kills = 0

    def start(self, path: Path, moment: float | None) -> Ended:
        """As `kill_at_random` asks."""
        self._count += 1
        self._began = time.time()
        if self.cold_kills == self._cold or moment is None or self._count % 2 == 0:
            return in_child(partial(run, self._model, self._kind, path), moment)
        ended = in_process([sys.executable, __file__, COLD, str(self._model), self._kind, str(path)], moment)
        self.cold_kills += ended.killed
        return ended

    def look(self, path: Path) -> tuple[str, bool, bool]:
        """(stage of a run that was killed, whether a file was torn, whether the child had written anything)."""
        files = [each for each in path.rglob("*") if each.is_file()]
        torn = any(each.suffix in (".partial", ".making") for each in files)
        written = any(each.stat().st_mtime > self._began for each in files)
        return stage(path / "r.zarr"), torn, written


def stage(path: Path) -> str:
    """How far a run has come, by what is on the disk."""
    if not path.exists():
        return STAGES[1] if path.with_name(path.name + ".making").exists() else STAGES[0]
    store = Store.open(path)
    done, keep = store.progress(), keeps(store)
    if is_finished(store) and (keep != "all" or any((path.parent / "spool").glob("*"))):
        return STAGES[-1]
    if done.all() and (marks(store) or store.has("results") or store.has("counts")):
        return STAGES[-2]
    if keep != "all":
        for layer in np.array(store.layers)[done.all(1)].tolist():
            bits = path / f"layers/{layer:02d}/active"
            given_up = not bits.exists() if keep == "none" else store.thinned(layer)
            if not (scan_path(path, layer).exists() and given_up):
                return STAGES[7]
    if done.all():
        return STAGES[8]
    return STAGES[3 + int(4 * done.mean())] if done.any() else STAGES[2]


def across_kinds(runs: dict[str, Path]) -> list[str]:
    """What differs between runs, left alone, that went other ways; and between their results and those that `analyze`
    finds in the bits of one that kept all."""
    kept, *others = (path for kind, path in runs.items() if KINDS[kind]["keep_bitmaps"] == "all")
    found = [name for other in others for part in compare(other, kept) for name in part]
    analysed = kept.with_name("analysed.zarr")
    shutil.copytree(kept, analysed)
    analyze_run(analysed, only=FROM_BITS)
    for kind, path in runs.items():
        if KINDS[kind]["keep_bitmaps"] != "all" and "layers" not in KINDS[kind]:
            for folder in ("results", "counts"):
                found += [f"{folder}/{name}" for part in compare(path / folder, analysed / folder) for name in part]
    return found


def beside(folder: Path) -> list[str]:
    """What lies beside a run, but for its log and the folder that is given for its spool, which is empty."""
    names = {path.name for path in folder.iterdir()} | {path.name for path in folder.glob("spool/*")}
    return sorted(names - {"r.zarr", "r.zarr.log", "spool"})


def main() -> int:
    """Kill; 0 if no byte differs."""
    if sys.argv[1:2] == [COLD]:
        run(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
        return 0
    quick = quick_asked(__doc__, "two kills of each kind, under a minute")
    seen: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    kills = runs = cold = torn = idle = 0
    differing: list[str] = []
    left: list[str] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = in_child(
            partial(random_opt, folder / "model", SHAPE, vocab_size=272, positions=POSITIONS, threshold=2.5)
        )
        warm(model.value, folder / "warm")
        if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):  # most of a start would be compiling Python
            os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
        for number, kind in enumerate(KINDS):
            starts = Starts(model.value, kind, (number == 0) if quick else 2)
            report = kill_at_random(
                partial(run, model.value, kind),
                folder / str(number),
                kills=2 if quick else 42,
                rng=random.Random(number),
                start=starts.start,
                look=starts.look,
            )
            places = Counter(place for place, _, _ in filter(None, report.seen))
            print(
                f"{kind}: {report.seconds:.1f} s left alone; {report.kills} kills ({starts.cold_kills} of what began "
                f"anew), {report.runs} runs; {len(report.differing)} files differ, {len(report.left)} are left over",
                flush=True,
            )
            for line in (*report.differing[:5], *report.left[:5], *report.failed[:5]):
                print(f"  {line.strip().splitlines()[-1]}")
            seen += places
            seconds[kind] = report.seconds
            kills, runs, cold = kills + report.kills, runs + report.runs, cold + starts.cold_kills
            torn += sum(each[1] for each in filter(None, report.seen))
            idle += sum(not each[2] for each in filter(None, report.seen))
            differing += report.differing
            left += report.left + beside(folder / str(number) / "whole")
            failed += report.failed
        wholes = {kind: folder / str(number) / "whole/r.zarr" for number, kind in enumerate(KINDS)}
        across = in_child(partial(across_kinds, wholes))
        differing += across.value or []
        failed += [across.error] if across.error else []
    print("where kills have hit:")
    for place in STAGES:
        print(f"  {seen[place]:4}  {place}")
    print(f"  {torn} left a torn file behind, {idle} hit before anything was written")
    figures = {
        "runs": runs,
        "kills_by_stage": {place: seen[place] for place in STAGES},
        "torn_files": torn,
        "nothing_written": idle,
        "seconds_left_alone": {kind: round(value, 2) for kind, value in seconds.items()},
    }
    bounds = {
        "kills": at_least(kills, 12 if quick else 200),
        "kills_of_cold_starts": at_least(cold, 1 if quick else 5),
        "differing_files": at_most(len(differing), 0),
        "left_over": at_most(len(left), 0),
        "failed": at_most(len(failed), 0),
    }
    return finish("kill", figures, bounds)


if __name__ == "__main__":
    sys.exit(main())
