"""Killed at any moment, any number of times: the same command ends with the bytes of an undisturbed run."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import POSITIONS, TINY, random_texts, snapshot
from killing import KINDS, MERGES
from test_collect import BATCH, random_corpus

from neurolens.cli import run as neurolens
from neurolens.collect import collect
from neurolens.committer import Written
from neurolens.corpus import Block
from neurolens.locks import log_path
from neurolens.probe import _disk_rate
from neurolens.slots import describe_spool, remove_spool
from neurolens.spool import DiskSpool
from neurolens.store import Store
from neurolens.testing import random_opt
from neurolens.testing.kills import Report, in_process

KILLS = 7  # of each kind of run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OPT of 4 layers, of which some neurons are rarely active and some are not."""
    folder = tmp_path_factory.mktemp("kills") / "model"
    return random_opt(folder, {**TINY, "num_hidden_layers": 4}, vocab_size=272, positions=POSITIONS, threshold=2.5)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """For processes that begin anew: one thread, and Python that is compiled only once."""
    kept = {**os.environ, "OMP_NUM_THREADS": "1"}
    if kept.pop("PYTHONDONTWRITEBYTECODE", ""):
        kept["PYTHONPYCACHEPREFIX"] = str(tmp_path_factory.mktemp("compiled"))
    return kept


@pytest.fixture(scope="module")
def reports(model: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """What became of runs of all kinds that were killed."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killing.py")), str(model), str(folder), str(KILLS)],
        stdout=subprocess.PIPE,
        env=environment,
        check=True,
    )
    assert all(any(folder.glob(f"{kind}/whole/r.zarr/zarr.json")) for kind in KINDS)
    kept = [
        Store.open(folder / "two of the layers, rare bits kept/whole/r.zarr").kept(layer).mean() for layer in (0, 2)
    ]
    assert min(kept) > 0.1 and max(kept) < 0.9, "all or nothing would prove little"
    return {kind: Report(**report) for kind, report in json.loads(done.stdout.splitlines()[-1]).items()}


@pytest.mark.parametrize("kind", [*KINDS, *MERGES])
def test_killed_and_continued_is_undisturbed(reports: dict[str, Report], kind: str) -> None:
    report = reports[kind]
    assert report.failed == []
    assert report.differing == [] and report.left == []
    assert report.kills == KILLS and report.runs > 0


@pytest.mark.usefixtures("hasty")
def test_a_killed_command_continues(
    model: Path, environment: dict[str, str], tmp_path: Path, write_jsonl: Callable[..., Path]
) -> None:
    """The real command line, as a user has it: a process that begins anew, killed half way."""
    data, spool = write_jsonl("text.jsonl", random_texts(14, seed=3)), tmp_path / "spool"
    spool.mkdir()
    command = ["collect", str(model), str(data), "--batch-tokens", "192", "--block-tokens", "192"]
    command += ["--keep-bitmaps", "none", "--spool", str(spool), "-o"]
    path, log = tmp_path / "r.zarr", log_path(tmp_path / "r.zarr")
    child = subprocess.Popen(
        [sys.executable, "-m", "neurolens.cli", *command, str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("commit") >= 12):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert 0 < Store.open(path).progress().mean() < 1
    assert neurolens([*command, str(path)]) == 0
    assert neurolens([*command, str(tmp_path / "whole.zarr")]) == 0
    assert snapshot(path) == snapshot(tmp_path / "whole.zarr")
    names = {"r.zarr", "r.zarr.log", "whole.zarr", "whole.zarr.log", "text.jsonl", "spool"}
    assert {each.name for each in tmp_path.iterdir()} == names and list(spool.iterdir()) == []


# -- moments too short to be hit often ---------------------------------------------------------------------------------

ENDS = {
    "the spool is there": ("all", "neurolens.collect.remove_spool"),
    "the spool is half removed": ("all", "neurolens.slots.clear_spool"),
    "its folder is there": ("none", "neurolens.collect.remove_spool"),
    "scans are there": ("none", "neurolens.keep.remove_scans"),
}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_by_a_stop_at_the_very_end(
    end: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, where = ENDS[end]
    folder, spool, path = tmp_path / "disk", tmp_path / "disk/r.zarr.spool", tmp_path / "r.zarr"
    folder.mkdir()

    def stop(*_: object) -> None:
        if end != "the spool is there":
            for file in spool.glob("*.json" if end == "the spool is half removed" else "*"):
                file.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(where, stop)
        with pytest.raises(KeyboardInterrupt):
            collect(tiny_model, random_corpus(8), path, spool=folder, keep_bitmaps=keep, block_tokens=BATCH)
    assert spool.exists() or path.with_name("r.zarr.scans").exists()
    whole = snapshot(path)
    collect(tiny_model, random_corpus(8), path, spool=folder, keep_bitmaps=keep, block_tokens=BATCH)
    assert {each.name for each in tmp_path.iterdir()} == {"r.zarr", "r.zarr.log", "disk"} and list(
        folder.iterdir()
    ) == []
    if end != "its folder is there":
        assert snapshot(path) == whole


def test_another_runs_spool_stays(tmp_path: Path) -> None:
    description = {"run": "another", "slots": 0}
    (tmp_path / "spool.json").write_text(json.dumps(description))
    remove_spool(tmp_path, "this")
    assert describe_spool(tmp_path) == description
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        remove_spool(tmp_path, "another")  # it is in use
        assert describe_spool(tmp_path) == description
    finally:
        os.close(handle)
    remove_spool(tmp_path, "another")
    assert not tmp_path.exists()


def test_a_probe_leaves_nothing_whenever_it_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("os.fsync", lambda handle: seen.append((os.fstat(handle).st_size, *tmp_path.iterdir())))
    assert _disk_rate(tmp_path, 1 << 16) > 0
    assert seen == [(1 << 16,)]


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("layer", [None, 0, 1])
def test_a_disk_loses_nothing_of_layers_that_are_not_recorded(
    layer: int | None, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers 0 and 2 are recorded. Whether it begins or was stopped after some layer, nothing is said to be gone."""
    end, said = DiskSpool.end, list[str]()

    def stop(spool: DiskSpool, block: Block, layers: int) -> Written:
        if block.index == 1 and layers - 1 == layer:
            raise KeyboardInterrupt
        return end(spool, block, layers)

    def collected() -> None:
        options: dict[str, Any] = {"spool": tmp_path, "block_tokens": BATCH, "batch_tokens": BATCH, "layers": [0, 2]}
        collect(tiny_model, random_corpus(12), tmp_path / "r.zarr", say=said.append, **options)

    if layer is not None:
        with monkeypatch.context() as patched:
            patched.setattr(DiskSpool, "end", stop)
            with pytest.raises(KeyboardInterrupt):
                collected()
    collected()
    assert [line for line in said if " again" in line] == []


@pytest.mark.usefixtures("hasty")
def test_results_begun_by_a_run_that_was_stopped_are_written_whole(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coordinates are written where their folder is not there yet: a stop may come between the two."""

    def collected(path: Path) -> dict[str, bytes]:
        collect(tiny_model, random_corpus(8), path, keep_bitmaps="none", block_tokens=BATCH)
        return snapshot(path)

    whole, attributes = collected(tmp_path / "whole.zarr"), Store.set_attributes

    def stop(store: Store, name: str, given: Mapping[str, object]) -> None:
        attributes(store, name, given)
        if name == "results/by_layer":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Store, "set_attributes", stop)
        with pytest.raises(KeyboardInterrupt):
            collected(tmp_path / "r.zarr")
    assert collected(tmp_path / "r.zarr") == whole


# -- the instrument ----------------------------------------------------------------------------------------------------

WORKS = """
import json, random, sys, threading, time
from pathlib import Path
from neurolens.testing import kills

def steps(folder, write):
    for i in range(10):
        if not (folder / str(i)).exists():
            time.sleep(0.01)
            write(folder / str(i))

def careful(path):
    made = path.with_name("making")
    made.write_text("whole")
    made.rename(path)

def torn(path):
    with path.open("w") as file:
        file.write("wh")
        file.flush()
        time.sleep(0.005)
        file.write("ole")

def leaving(path):
    made = path.with_name(f"{path.name}-{random.random()}")
    made.touch()
    time.sleep(0.005)
    careful(path)
    made.unlink()

def once(path):
    if path.name == "0":
        assert not list(path.parent.iterdir()), "cannot go on"
        path.with_name("begun").touch()
        time.sleep(0.05)
    careful(path)

reports = {}
for name, write in (("careful", careful), ("torn", torn), ("leaving", leaving), ("once", once)):
    work = lambda folder, write=write: steps(folder, write)
    report = kills.kill_at_random(
        work, Path(sys.argv[1]) / name, kills=12, rng=random.Random(0), look=lambda folder: len(list(folder.iterdir()))
    )
    reports[name] = vars(report)
reports["hung"] = kills.in_child(lambda: time.sleep(60), limit=0.1).error
kills.THREADS_END = 0.1
ended = threading.Event()
threading.Thread(target=ended.wait, name="another").start()
try:
    kills.in_child(int)
except RuntimeError as error:
    reports["threads"] = str(error)
ended.set()
print(json.dumps(reports))
"""


def test_kills_find_what_cannot_be_killed(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WORKS, str(tmp_path)], stdout=subprocess.PIPE, check=True)
    reports = json.loads(done.stdout)
    careful = reports["careful"]
    assert careful["kills"] == 12 and careful["runs"] >= 1 and len(careful["seen"]) == careful["kills"]
    assert len(set(careful["seen"])) > 3, "moments are spread"
    for name, wrong in (("careful", []), ("torn", ["differing"]), ("leaving", ["left"]), ("once", ["failed"])):
        assert [what for what in ("differing", "left", "failed") if reports[name][what]] == wrong, name
    assert "cannot go on" in reports["once"]["failed"][0]
    assert "exit code -9" in reports["hung"] and "another" in reports["threads"]


def test_commands_that_end_by_themselves_or_not() -> None:
    command = [sys.executable, "-c"]
    assert "exit code 1" in (ended := in_process([*command, "raise SystemExit('no')"], 60)).error
    assert "no" in ended.error and not ended.killed
    assert in_process([*command, "pass"]).error == ""
    waiting = "import sys, time; print('begun', file=sys.stderr, flush=True); time.sleep(60)"
    assert in_process([*command, waiting], 0.01).killed
    assert "exit code -9" in in_process([*command, waiting], limit=0.01).error
