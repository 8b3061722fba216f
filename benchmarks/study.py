"""Studies: what giving out tasks costs, what a second worker brings, and how fast separate stores become one run.

identical  the runs of a study done by two workers of a cluster that the job asks for, against the same runs done one
           after another in this process: files that differ.
overhead   a study whose runs are all done by other means than its index knows: each task finds that nothing is left.
           On one dask worker against this process, which does the same without one: milliseconds a task.
speed-up   the same runs, one thread each, by one worker and by two, each worker warm. A run's commits and analysis
           have threads of their own, so that one worker already uses more than one core: on two cores two workers
           bring less than twice.
merge      parts of a run in separate stores, whose chunks are copied and read once; and runs of two texts whose
           blocks lie across each other, so that bits are put together anew. Raw bits a second, beside those of the
           same files copied one by one to the disk, which is what a merge by hand would be.

`--quick`: fewer runs and tokens.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

if __name__ == "__main__":  # workers import this file as well, from elsewhere
    from _common import at_least, at_most, finish, quick_asked

import numpy as np

from neurolens.corpus import Corpus
from neurolens.jobs import Job, RunSpec
from neurolens.merge import merge
from neurolens.store import Store
from neurolens.study import run_study
from neurolens.testing import random_opt

SHAPE = {"hidden_size": 128, "ffn_dim": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
NEURONS = 3072  # a layer of 125m
POSITIONS = 256


def main() -> int:
    """Measure all of it."""
    quick = quick_asked(__doc__, "fewer runs and tokens")
    figures: dict[str, Any] = {"quick": quick}
    # a study ends with a comparison, which one process makes: it is not measured here
    with tempfile.TemporaryDirectory() as name, patch("neurolens.study.compare_runs"):
        folder = Path(name)
        job = write_job(folder, runs=2 if quick else 4, tokens=(1 << 14) if quick else (1 << 17))
        with local_cluster(1) as one, local_cluster(2) as two:  # workers take long to start: once
            clusters = {1: one, 2: two}
            for cluster in clusters.values():
                warm_up(job, folder, cluster)
            figures |= measure_speed_up(job, folder, clusters, rounds=1 if quick else 3)
            figures |= measure_overhead(job, folder, one, rounds=3 if quick else 10)
        figures |= compare_with_serial(job, folder, quick)
        figures |= measure_merge(folder, block=1 << (17 if quick else 18), rounds=1 if quick else 3)
    bounds = {
        "differing_files": at_most(figures["differing_files"], 0),
        "overhead_ms_a_task": at_most(figures["overhead_ms_a_task"], 100.0),
        "speed_up_of_two_workers": at_least(figures["speed_up_of_two_workers"], 1.2),
        "merge_copied_over_copy": at_least(figures["merge_copied_over_copy"], 0.4),
        "merge_woven_over_copy": at_least(figures["merge_woven_over_copy"], 0.1),
    }
    return finish("study", figures, bounds)


def write_job(folder: Path, *, runs: int, tokens: int) -> Job:
    """A study of models of one size, on random words."""
    rng = np.random.default_rng(0)
    texts = (bytes(row).decode() for row in rng.integers(97, 123, size=(tokens // 1000 + 1, 1100), dtype=np.uint8))
    (folder / "text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    specs = []
    for number in range(runs):
        random_opt(folder / f"opt-{number}", SHAPE, vocab_size=272, positions=POSITIONS, seed=number)
        text = {"paths": (str(folder / "text.jsonl"),), "tokens": tokens}
        cut = {"block_tokens": max(POSITIONS * 16, tokens // 8)}
        specs.append(RunSpec(f"opt-{number}", str(folder / f"opt-{number}"), text, cut, {"only": ["dead"]}, threads=1))
    return Job("bench", tuple(specs))


def measure_speed_up(job: Job, folder: Path, clusters: dict[int, Any], *, rounds: int) -> dict[str, float]:
    """Wall time of the study by one worker over that by two, by turns; each worker has done a run before."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(rounds):
        for workers in (1, 2) if turn % 2 == 0 else (2, 1):
            seconds[workers].append(_work(job, folder / f"by-{workers}", clusters[workers]))
    one, two = (float(np.median(seconds[workers])) for workers in (1, 2))
    return {
        "runs": len(job.runs),
        "one_worker_s": one,
        "two_workers_s": two,
        "speed_up_of_two_workers": float(np.median(np.array(seconds[1]) / np.array(seconds[2]))),
    }


def local_cluster(workers: int) -> Any:
    """Workers of one thread each."""
    from distributed import LocalCluster

    return LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=cast(Any, None))


def compare_with_serial(job: Job, folder: Path, quick: bool) -> dict[str, int]:
    """Files of the runs that are not what this process makes, one run after another."""
    clusters: dict[str, dict[str, Any]] = {"serial": {}, "cluster": {"kind": "local", "jobs": 2}}
    if quick:
        del clusters["cluster"]  # workers take long to start; those of the speed-up have done the same
    for name, cluster in clusters.items():
        found = run_study(replace(job, cluster=cluster), folder / name)
        assert not found.failed, found.failed
    files = {name: _contents(folder / name) for name in (*clusters, "by-1", "by-2")}
    serial = files["serial"]
    return {
        "files_compared": len(serial),
        "differing_files": sum(
            theirs.get(path) != serial.get(path) for theirs in files.values() for path in serial.keys() | theirs.keys()
        ),
    }


def _contents(folder: Path) -> dict[str, bytes]:
    runs = [path for run in sorted(folder.glob("*.zarr")) for path in sorted(run.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in runs}


def warm_up(job: Job, folder: Path, cluster: Any) -> None:
    """Have every worker import everything, and do a run."""
    from distributed import Client

    with Client(cluster) as client:
        client.run(_warm, job, str(folder / "warm"))


def _work(job: Job, out: Path, cluster: Any) -> float:
    """Seconds from the first task given out to the last one done."""
    shutil.rmtree(out, ignore_errors=True)
    started, done = time.perf_counter(), [0.0]

    def say(line: str) -> None:
        if ": done in " in line:  # at the end workers are let go
            done.append(time.perf_counter())

    found = run_study(job, out, scheduler=cluster.scheduler_address, say=say)
    assert not found.failed, found.failed
    return done[-1] - started


def _warm(job: Job, folder: str) -> None:
    """Do a run in a folder of this process."""
    from neurolens.study import Task, do_task

    own = Path(folder) / str(os.getpid())
    own.mkdir(parents=True)
    do_task(Task(job.runs[0], str(own)), lambda line: None)


def measure_overhead(job: Job, folder: Path, cluster: Any, *, rounds: int) -> dict[str, float]:
    """What a task costs that has nothing to do: on a worker, beyond what it costs here."""
    from distributed import Client

    from neurolens.study import Task, do_task

    task = Task(job.runs[0], str(folder / "by-1"))
    here, there = [], []
    with Client(cluster) as client, client.get_executor(pure=False) as executor:
        executor.submit(do_task, task).result()  # imports
        for _ in range(rounds):
            started = time.perf_counter()
            do_task(task, lambda line: None)
            here.append(time.perf_counter() - started)
            started = time.perf_counter()
            executor.submit(do_task, task).result()
            there.append(time.perf_counter() - started)
    return {
        "task_here_ms": 1000 * float(np.median(here)),
        "task_on_worker_ms": 1000 * float(np.median(there)),
        "overhead_ms_a_task": 1000 * float(np.median(np.array(there) - np.array(here))),
    }


def measure_merge(folder: Path, *, block: int, rounds: int, blocks: int = 4) -> dict[str, float]:
    """Raw bits a second, of chunks that are copied and of blocks that are put together anew."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(4, 272, size=(blocks * block // POSITIONS, POSITIONS), dtype=np.int32)
    tokens[:, 0] = 2
    parts = [folder / "first.zarr", folder / "second.zarr"]
    for number, path in enumerate(parts):
        _draw_run(path, tokens, block, range(number, blocks, 2))
    half = len(tokens) // 2 - block // POSITIONS // 2  # its last block is half of one: the next text lies across
    texts = [folder / "former.zarr", folder / "latter.zarr"]
    for path, rows in zip(texts, (tokens[:half], tokens[half:]), strict=True):
        _draw_run(path, rows, block, range(blocks))
    raw = tokens.size * NEURONS / 8 / 1e6
    woven = (tokens.size - half // (block // POSITIONS) * block) * NEURONS / 8 / 1e6
    copied_s, both_s, plain_s = [], [], []
    for _ in range(rounds):
        plain_s.append(_copied(parts, folder / "plain"))
        copied_s.append(_merged(parts, folder / "whole.zarr"))
        both_s.append(_merged(texts, folder / "joined.zarr"))
    copied, plain = float(np.median(copied_s)), raw / float(np.median(plain_s))
    # of the two texts' run the blocks before the seam are copied
    weaving = woven / max(1e-9, float(np.median(both_s)) - copied * (raw - woven) / raw)
    return {
        "merge_raw_MB": raw,
        "plain_copy_MB_s": plain,
        "merge_copied_MB_s": raw / copied,
        "merge_copied_over_copy": raw / copied / plain,
        "merge_woven_MB": woven,
        "merge_woven_MB_s": weaving,
        "merge_woven_over_copy": weaving / plain,
    }


def _draw_run(path: Path, tokens: np.ndarray, block: int, chosen: range) -> None:
    """A layer of as many neurons as 125m's, bits a quarter of which are 1, as a run has them: some of its blocks."""
    spec = {"model": {"id": "drawn", "revision": None, "config": {"vocab_size": 272, "num_hidden_layers": 1}}}
    spec |= {"dtype": "fp32", "versions": {}, "batch_sequences": 16}
    corpus = Corpus.from_tokens(tokens)
    Store.create(path, spec, corpus, layers=[0], neurons=NEURONS, sequences_per_block=block // POSITIONS)
    store, rng = Store.open(path, write=True), np.random.default_rng(len(tokens))
    for each in store.blocks:
        if each.index in chosen:
            first, second = rng.integers(0, 256, (2, NEURONS, -(-each.tokens // 64) * 8), dtype=np.uint8)
            store.commit(each, 0, first & second)


def _copied(runs: list[Path], output: Path) -> float:
    """Seconds that all files take to be copied, each made sure of to be on the disk."""
    shutil.rmtree(output, ignore_errors=True)
    started = time.perf_counter()
    for run in runs:
        for file in (each for each in run.rglob("*") if each.is_file()):
            copy = output / file.relative_to(run.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            with copy.open("rb") as handle:
                os.fsync(handle.fileno())
    return time.perf_counter() - started


def _merged(runs: list[Path], output: Path) -> float:
    shutil.rmtree(output, ignore_errors=True)
    started = time.perf_counter()
    merge(runs, output)
    return time.perf_counter() - started


if __name__ == "__main__":
    raise SystemExit(main())
