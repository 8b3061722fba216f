"""Kinds of run that are killed: what test_kills.py has done in a process of its own, since it is forked.

python killing.py MODEL FOLDER KILLS   →   as JSON, by kind of run, what became of it
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr.core.sync
from conftest import POSITIONS
from test_collect import BATCH, random_corpus

from neurolens import IncompleteError
from neurolens.collect import collect
from neurolens.merge import merge
from neurolens.store import Store
from neurolens.testing.kills import kill_at_random

SPOOL = "spool"  # an empty folder beside the run, where one is asked for
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "disk, no bits kept": {"weights": "streamed", "spool": SPOOL, "keep_bitmaps": "none", "layers": [1, 3]},
    "two of the layers, rare bits kept": {"keep_bitmaps": "sparse", "layers": [0, 2]},
}
MERGES = ("merged parts", "merged texts")


def run(model: Path, kind: str, folder: Path) -> None:
    """Make or continue a run in a folder."""
    options = dict(KINDS[kind])
    if "spool" in options:
        (folder / SPOOL).mkdir(exist_ok=True)
        options |= {"spool": folder / SPOOL, "say": not_again}
    corpus = random_corpus(22, vocabulary=40)
    collect(model, corpus, folder / "r.zarr", batch_tokens=2 * POSITIONS, block_tokens=BATCH, **options)


def not_again(line: str) -> None:
    """Hears what a run with a spool on a disk says: a kill leaves states of each block, and they are whole."""
    if " again" in line:
        raise RuntimeError(line)


def merge_runs(runs: list[Path], folder: Path) -> None:
    """Make or continue a merged run in a folder."""
    with suppress(IncompleteError):  # of parts that lack some blocks together
        merge(runs, folder / "r.zarr")


def make_runs(model: Path, folder: Path) -> dict[str, list[Path]]:
    """The runs that are merged, by kind: of one text, with other blocks each; of two texts."""
    for name, sequences in (("a", 22), ("b", 10)):
        corpus = random_corpus(sequences, vocabulary=40)
        collect(model, corpus, folder / name, batch_tokens=2 * POSITIONS, block_tokens=BATCH)
    marks = np.indices(Store.open(folder / "a").progress().shape).sum(0) % 3
    for i in range(2):
        shutil.copytree(folder / "a", folder / f"part-{i}")
        Store.open(folder / f"part-{i}", write=True).unmark(marks == i)
    names = (("part-0", "part-1"), ("b", "a"))
    return {kind: [folder / name for name in some] for kind, some in zip(MERGES, names, strict=True)}


def main() -> None:
    """Kill, and say what became of it."""
    model, folder, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    os.fsync = lambda handle: None  # as the fixture `hasty`
    (folder / "warm").mkdir(parents=True)
    run(model, "disk, no bits kept", folder / "warm")
    merged = make_runs(model, folder / "warm")
    for kind, runs in merged.items():
        (folder / "warm" / kind).mkdir()
        merge_runs(runs, folder / "warm" / kind)  # compiles what it needs
    zarr.core.sync.cleanup_resources()
    reports = {
        kind: kill_at_random(partial(run, model, kind), folder / kind, kills=kills, rng=random.Random(number))
        for number, kind in enumerate(KINDS)
    }
    reports |= {
        kind: kill_at_random(partial(merge_runs, runs), folder / kind, kills=kills, rng=random.Random(kind))
        for kind, runs in merged.items()
    }
    print(json.dumps({kind: asdict(report) for kind, report in reports.items()}))


if __name__ == "__main__":
    main()
