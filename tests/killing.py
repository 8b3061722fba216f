"""Kinds of run that are killed: what test_kills.py has done in a process of its own, since it is forked.

python killing.py MODEL FOLDER KILLS   →   as JSON, by kind of run, what became of it
"""

from __future__ import annotations

import json
import os
import random
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import zarr.core.sync
from conftest import POSITIONS
from test_collect import BATCH, random_corpus
from tqdm import tqdm

from neurolens.collect import collect
from neurolens.testing.kills import kill_at_random

SPOOL = "spool"  # an empty folder beside the run, where one is asked for
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "disk, no bits kept": {"weights": "streamed", "spool": SPOOL, "keep_bitmaps": "none", "layers": [1, 3]},
    "two of the layers, rare bits kept": {"keep_bitmaps": "sparse", "layers": [0, 2]},
}


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


def main() -> None:
    """Kill, and say what became of it."""
    model, folder, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    os.fsync = lambda handle: None  # as the fixture `hasty`
    tqdm.monitor_interval = 0  # it would be a thread
    (folder / "warm").mkdir(parents=True)
    run(model, "disk, no bits kept", folder / "warm")
    zarr.core.sync.cleanup_resources()
    reports = {
        kind: kill_at_random(partial(run, model, kind), folder / kind, kills=kills, rng=random.Random(number))
        for number, kind in enumerate(KINDS)
    }
    print(json.dumps({kind: asdict(report) for kind, report in reports.items()}))


if __name__ == "__main__":
    main()
