"""A study on a dask scheduler with two workers: what a killed worker and a dead scheduler cost; bytes are equal.

Scheduler, workers and the command are processes of their own, as they are elsewhere.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import POSITIONS, TINY, snapshot

from neurolens.jobs import read_job
from neurolens.study import run_study
from neurolens.testing import random_opt

pytest.importorskip("distributed", reason="dask.distributed is not installed")

SIZES = tuple(range(16, 64, 8))  # six models
BLOCKS, LAYERS = 20, 3
SOON = 90.0  # seconds for what takes a few
ENVIRONMENT = {**os.environ, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    words = np.random.default_rng(1).integers(97, 123, size=(40, 8 * POSITIONS), dtype=np.uint8)
    (folder / "text.jsonl").write_text("\n".join(json.dumps({"text": bytes(row).decode()}) for row in words))
    lines = ["[defaults]", 'data = "text.jsonl"', f"tokens = {BLOCKS * 4 * POSITIONS}", "threads = 1"]
    lines += ['analyze = { only = ["dead"] }']  # few figures
    lines += [f"batch_tokens = {2 * POSITIONS}", f"block_tokens = {4 * POSITIONS}"]
    for size in SIZES:
        shape = {**TINY, "hidden_size": size, "ffn_dim": 2 * size, "num_hidden_layers": LAYERS}
        random_opt(folder / f"opt-{size}", shape, vocab_size=272, positions=POSITIONS)
        lines += ["[[run]]", f'model = "opt-{size}"', f'size = "{size}m"']
    (folder / "job.toml").write_text("\n".join(lines))
    return folder / "job.toml"


@pytest.fixture(scope="module")
def serial(job: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The runs' bytes, done one after another in this process."""
    folder = tmp_path_factory.mktemp("serial")
    assert len(run_study(read_job(job), folder).done) == len(SIZES)
    return runs_of(folder)


def runs_of(folder: Path) -> dict[str, dict[str, bytes]]:
    return {path.name: snapshot(path) for path in sorted(folder.glob("*.zarr"))}


def dask(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "dask", *arguments], env=ENVIRONMENT, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, subprocess.Popen[bytes], list[subprocess.Popen[bytes]]]]:
    """(address, scheduler, two workers); starting them is what takes long here."""
    tmp_path = tmp_path_factory.mktemp("cluster")
    file = tmp_path / "scheduler.json"
    scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    try:
        until(file.exists)
        place = ("--scheduler-file", str(file), "--local-directory", str(tmp_path))
        workers = [dask("worker", *place, "--nthreads", "1", "--no-nanny", "--no-dashboard") for _ in range(2)]
        try:
            yield json.loads(file.read_text())["address"], scheduler, workers
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    finally:
        scheduler.kill()
        scheduler.wait()


def study(job: Path, folder: Path, address: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "neurolens.cli", "study", str(job), "-o", str(folder), "--scheduler", address]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(happens: Callable[[], object], seconds: float = SOON) -> None:
    stop = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < stop, "it did not happen"
        time.sleep(0.002)


def in_the_middle_of(pid: int) -> Path | None:
    """The log of the run that a process has begun to collect, but not ended."""
    try:
        opened = [Path(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return None
    for log in (path for path in opened if path.name.endswith(".zarr.log")):
        if 2 <= commits(log) < BLOCKS * LAYERS - 4:
            return log
    return None


def commits(log: Path) -> int:
    return log.read_text().count('"commit"') if log.exists() else 0


def test_a_killed_worker_costs_its_current_task_and_bytes_are_those_of_one_process(
    job: Path, serial: dict[str, dict[str, bytes]], tmp_path: Path, cluster: tuple
) -> None:
    address, _, (first, second) = cluster
    driver, seen = study(job, tmp_path / "out", address), []
    until(lambda: seen.append(in_the_middle_of(first.pid)) or seen[-1])
    first.send_signal(signal.SIGKILL)
    out, err = driver.communicate(timeout=SOON)
    assert driver.returncode == 0 and "6 of 6 runs are done" in out, err
    assert second.poll() is None
    assert runs_of(tmp_path / "out") == serial
    done = {path.name: commits(path) for path in (tmp_path / "out").glob("*.zarr.log")}
    killed = done.pop(seen[-1].name)
    assert set(done.values()) == {BLOCKS * LAYERS}  # nobody else's work was done twice
    assert BLOCKS * LAYERS <= killed <= BLOCKS * LAYERS + LAYERS  # hidden states of a block were in its memory


def test_a_dead_scheduler_leaves_a_study_that_continues(
    job: Path, serial: dict[str, dict[str, bytes]], tmp_path: Path, cluster: tuple
) -> None:
    """Comes last: of the workers one may be left."""
    address, scheduler, workers = cluster
    driver = study(job, tmp_path / "out", address)
    until(lambda: any(in_the_middle_of(worker.pid) for worker in workers))
    scheduler.send_signal(signal.SIGKILL)
    _, err = driver.communicate(timeout=SOON)
    assert driver.returncode == 3 and "the same command continues" in err
    for worker in workers:
        worker.kill()
        worker.wait()
    left = [path for path in (tmp_path / "out").glob("*.zarr.log") if commits(path) < BLOCKS * LAYERS]
    assert left or len(runs_of(tmp_path / "out")) < len(SIZES)
    found = run_study(read_job(job), tmp_path / "out")
    assert not found.failed and runs_of(tmp_path / "out") == serial


def test_a_scheduler_that_does_not_answer(job: Path, tmp_path: Path) -> None:
    driver = study(job, tmp_path / "out", "tcp://127.0.0.1:9")
    _, err = driver.communicate(timeout=SOON)
    assert driver.returncode == 1
    assert err.splitlines()[-1].startswith("neurolens: no dask scheduler answers at tcp://127.0.0.1:9")
    assert len(err.splitlines()) == 1, err
