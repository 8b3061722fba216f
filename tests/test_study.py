"""Studies: many runs, each as its own commands make it; what is done is left alone, what fails is named."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import POSITIONS, TINY, snapshot
from test_collect import stop_after

from neurolens import NeurolensError, UsageError, cli
from neurolens.analyze import analyze_run
from neurolens.checkpoint import Checkpoint
from neurolens.collect import collect
from neurolens.comparison.members import STUDY
from neurolens.corpora import load_corpus, save_corpus, share_corpus
from neurolens.data import DataSpec, read_corpus
from neurolens.decoder import Decoder
from neurolens.engine import Here, open_executor
from neurolens.jobs import Job, read_job
from neurolens.locks import lock
from neurolens.progress import Progress
from neurolens.run import open_run
from neurolens.sources import find_sources
from neurolens.study import CORPORA, Task, do_task, plan_study, run_study
from neurolens.testing import random_opt

pytestmark = pytest.mark.usefixtures("hasty")
SIZES = ("24", "32", "40")
HEAD = f"""
[defaults]
data = "text.jsonl"
tokens = {40 * POSITIONS}
batch_tokens = {2 * POSITIONS}
block_tokens = {8 * POSITIONS}
"""


@pytest.fixture(autouse=True)
def compared(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Names of the runs of every comparison; none is drawn, which takes long (test_cluster.py has one)."""
    seen: list[list[str]] = []

    def compare(members: Any, folder: Path, **how: Any) -> None:
        seen.append([member.run.name for member in members])
        folder.mkdir(exist_ok=True)

    monkeypatch.setattr("neurolens.study.compare_runs", compare)
    return seen


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three OPTs of growing size, and text, in a folder."""
    folder = tmp_path_factory.mktemp("models")
    for size in SIZES:
        shape = {**TINY, "hidden_size": int(size), "ffn_dim": 2 * int(size), "num_hidden_layers": 2}
        random_opt(folder / f"opt-{size}", shape, vocab_size=272, positions=POSITIONS)
    words = np.random.default_rng(0).integers(97, 123, size=(60, 200), dtype=np.uint8)
    records = [json.dumps({"text": bytes(row).decode(), "label": "ab"[i % 2]}) for i, row in enumerate(words)]
    (folder / "text.jsonl").write_text("\n".join(records))
    return folder


@pytest.fixture
def study(models: Path, tmp_path: Path) -> Callable[..., Job]:
    """A job of these models in a folder of its own."""
    for each in models.iterdir():
        (tmp_path / each.name).symlink_to(each)

    def make(text: str = "", head: str = HEAD) -> Job:
        runs = text or "".join(f'[[run]]\nmodel = "opt-{size}"\nsize = "{size}m"\n' for size in SIZES)
        (tmp_path / "job.toml").write_text(head + runs)
        return read_job(tmp_path / "job.toml")

    return make


def test_a_study_makes_the_runs_that_commands_make(
    study: Callable[..., Job], models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    monkeypatch.setattr("neurolens.corpora.read_corpus", lambda *a: read.append(1) or read_corpus(*a))
    found = run_study(study(), tmp_path / "out")
    assert (found.done, found.skipped, found.failed) == ([f"opt-{size}" for size in SIZES], [], {})
    assert len(read) == 1 and found.exit_code == 0
    cut: dict[str, Any] = {"batch_tokens": 2 * POSITIONS, "block_tokens": 8 * POSITIONS}
    for size in SIZES:
        spec = DataSpec((tmp_path / "text.jsonl",), tokens=40 * POSITIONS)
        path = tmp_path / "alone" / f"opt-{size}.zarr"
        path.parent.mkdir(exist_ok=True)
        collect(models / f"opt-{size}", spec, path, **cut)
        analyze_run(path)
        assert snapshot(tmp_path / "out" / path.name) == snapshot(path)
    index = json.loads((tmp_path / "out" / STUDY).read_text())
    assert {name: run["factors"] for name, run in index["runs"].items()} == {
        f"opt-{size}.zarr": {"size": f"{size}m"} for size in SIZES
    }


def test_what_is_done_is_left_alone(
    study: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: list[list[str]]
) -> None:
    run_study(study(), tmp_path / "out")
    before = snapshot(tmp_path / "out")
    for name in ("collect", "analyze_run"):
        monkeypatch.setattr(f"neurolens.study.{name}", lambda *a, **k: pytest.fail("done again"))
    again = run_study(study(), tmp_path / "out")
    assert again.skipped == [f"opt-{size}" for size in SIZES] and not again.done and not again.failed
    assert snapshot(tmp_path / "out") == before and compared == [again.skipped]


def test_runs_that_cannot_be_compared_are_done_all_the_same(
    study: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(*_: Any, **__: Any) -> None:
        raise NeurolensError("cannot be compared")

    monkeypatch.setattr("neurolens.study.compare_runs", compare)
    found = run_study(study('[[run]]\nmodel = "opt-24"\n'), tmp_path / "out")
    assert found.done == ["opt-24"] and found.exit_code == 3
    assert next(found.lines()) == "comparison: failed: cannot be compared"
    assert ": 1 of 1 runs are done" in list(found.lines())[-1]


def test_a_run_that_fails_is_named_and_the_rest_goes_on(
    study: Callable[..., Job], models: Path, tmp_path: Path
) -> None:
    (tmp_path / "opt-32").unlink()
    said: list[str] = []
    found = run_study(study(), tmp_path / "out", say=said.append)
    assert found.done == ["opt-24", "opt-40"] and list(found.failed) == ["opt-32"] and found.exit_code == 3
    assert any(line.startswith("opt-32: failed: ") for line in found.lines())
    (tmp_path / "opt-32").symlink_to(models / "opt-32")
    found = run_study(study(), tmp_path / "out")
    assert found.done == ["opt-32"] and found.skipped == ["opt-24", "opt-40"] and found.exit_code == 0


def test_an_error_that_nobody_foresaw_fails_one_run(
    study: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Decoder.load

    def fail(checkpoint: Any, **how: Any) -> Any:
        if checkpoint.config["hidden_size"] == 32:
            raise ZeroDivisionError("by zero\nand more")
        return load(checkpoint, **how)

    monkeypatch.setattr(Decoder, "load", fail)
    found = run_study(study(), tmp_path / "out")
    assert found.failed == {"opt-32": "ZeroDivisionError: by zero"} and len(found.done) == 2


def test_a_study_that_is_stopped_continues(
    study: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_study(study(), tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        stop_after(13, patch)  # of 10 commits a run
        with pytest.raises(KeyboardInterrupt):
            run_study(study(), tmp_path / "out")
    found = run_study(study(), tmp_path / "out")
    assert found.skipped == ["opt-24"] and found.done == ["opt-32", "opt-40"]
    runs = [f"opt-{size}.zarr" for size in SIZES]
    assert [snapshot(tmp_path / "out" / run) for run in runs] == [
        snapshot(tmp_path / "undisturbed" / run) for run in runs
    ]


def test_other_rules_are_analysed_again_and_other_text_is_another_run(
    study: Callable[..., Job], tmp_path: Path
) -> None:
    run_study(study(), tmp_path / "out")
    ruled = study(head=HEAD + "analyze = { min_rate = 50, min_position_mi = 0.2, ngrams = 2, all = true }\n")
    assert run_study(ruled, tmp_path / "out").done == [f"opt-{size}" for size in SIZES]
    parts = open_run(tmp_path / "out" / "opt-24.zarr").parts
    assert parts["ngrams"]["rules"]["min_rate"] == 50 and parts["ngrams"]["lengths"] == 2
    assert parts["positions"]["rules"]["threshold"] == 0.2 and parts["updates"]["every"]
    found = run_study(study(head=HEAD.replace("tokens = 1920", "tokens = 960")), tmp_path / "out")
    assert all("is another run" in why for why in found.failed.values()) and len(found.failed) == 3


def test_shards_in_one_process_are_done_as_one(study: Callable[..., Job], tmp_path: Path) -> None:
    found = run_study(study(head=HEAD + "shards = 2\n"), tmp_path / "out")
    assert len(found.done) == 3
    assert not list((tmp_path / "out").glob("*shard*"))


def test_shards_are_tasks_and_analysis_follows_them(study: Callable[..., Job], tmp_path: Path) -> None:
    """With an executor that does tasks when they are waited for."""
    run_study(study(), tmp_path / "whole")
    order: list[str] = []

    class Elsewhere(Here):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            order.append(f"{args[0]} {'analyze' if args[0].analyze else 'collect'}")
            return super().submit(fn, *args, **kwargs)

    from neurolens.index import Index
    from neurolens.study import Outcome, _Tasks

    job = study('[[run]]\nmodel = "opt-24"\nshards = 3\n')
    (tmp_path / "out").mkdir()
    outcome, progress = Outcome(tmp_path / "out"), None
    with Elsewhere() as executor:
        progress = _Tasks(executor, Index(tmp_path / "out", job), outcome, list(job.runs), lambda line: None)
        progress._here, progress._runs = False, list(job.runs)
        progress.work()
    assert order == ["opt-24 1/3 collect", "opt-24 2/3 collect", "opt-24 3/3 collect", "opt-24 analyze"]
    assert outcome.done == ["opt-24"]
    assert snapshot(tmp_path / "out" / "opt-24.zarr") == snapshot(tmp_path / "whole" / "opt-24.zarr")


@pytest.mark.parametrize(
    ("sizes", "said"),
    [  # each takes a minute; what is left takes, by sizes, more
        (
            ("10m", "20m", "30m"),
            ["1 of 3 runs, 2 left, about 5 min", "2 of 3 runs, 1 left, about 2 min", "3 of 3 runs"],
        ),
        (
            ("10m", "small", "30m"),
            [
                "1 of 3 runs, 2 left, about 2 min if they take as long",
                "2 of 3 runs, 1 left, about 1 min if they take as long",
                "3 of 3 runs",
            ],
        ),
    ],
)
def test_every_run_that_is_done_says_what_is_left(
    sizes: tuple[str, ...],
    said: list[str],
    study: Callable[..., Job],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]

    def minute(task: Task, say: Any) -> float:
        now[0] += 60
        return 60.0

    monkeypatch.setattr("neurolens.study.attempt_task", minute)
    monkeypatch.setattr("neurolens.study.time", SimpleNamespace(monotonic=lambda: now[0]))
    job = study("".join(f'[[run]]\nmodel = "opt-24"\nname = "r{i}"\nsize = "{s}"\n' for i, s in enumerate(sizes)))
    heard: list[str] = []
    monkeypatch.setattr("neurolens.study.find_members", lambda paths: [])
    run_study(job, tmp_path / "out", say=heard.append)
    assert heard == [f"r{i}: done in 1 min; {each}" for i, each in enumerate(said)]


def test_how_long_a_run_takes(study: Callable[..., Job]) -> None:
    tokens = 40 * POSITIONS
    for size, work in (("1.3b", 1.3e9), ("125m", 125e6), ("0m", None), ("large", None), ("66", None)):
        (run,) = study(f'[[run]]\nmodel = "opt-24"\nsize = "{size}"\n').runs
        assert run.work() == (work and pytest.approx(tokens * work))
    (run,) = study('[[run]]\nmodel = "opt-24"\n').runs
    assert run.work() is None
    (run,) = study('[[run]]\nmodel = "opt-24"\nsize = "125m"\n', '[defaults]\ndata = "text.jsonl"\n').runs
    assert run.work() is None


@pytest.mark.parametrize("elsewhere", [False, True])
def test_workers_draw_no_bars(
    elsewhere: bool, study: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several may share the terminal of whoever started them."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for module in ("loop", "analyze", "data"):
        told = partial(Progress, every=(0.0, 0.0), short=0.0)
        monkeypatch.setattr(f"neurolens.{module}.Progress", told)
    monkeypatch.setattr(sys, "stderr", seen := Terminal())
    job = study('[[run]]\nmodel = "opt-24"\n')
    do_task(Task(job.runs[0], str(tmp_path)), None if elsewhere else lambda line: None)
    text = seen.getvalue()
    assert ("\r" in text) != elsewhere and "opt-24: collect" in text
    assert not elsewhere or all(line.startswith("opt-24: ") for line in text.splitlines())
    for what in ("tokenise", "collect", "analyze", "updates"):
        assert f"opt-24: {what}" in text


def test_a_lost_shard_fails_its_run_alone(study: Callable[..., Job], tmp_path: Path) -> None:
    """More shards than blocks: the last ones have none."""
    from neurolens.index import Index
    from neurolens.study import Outcome, _Tasks

    job = study('[[run]]\nmodel = "opt-24"\nshards = 9\n[[run]]\nmodel = "opt-32"\n')
    (tmp_path / "out").mkdir()
    outcome = Outcome(tmp_path / "out")
    with Here() as executor:
        progress = _Tasks(executor, Index(tmp_path / "out", job), outcome, list(job.runs), lambda line: None)
        progress._runs = list(job.runs)
        progress.work()
    assert "at most as many shards" in outcome.failed["opt-24"] and outcome.done == ["opt-32"]


def test_a_run_that_another_process_has_is_waited_for(study: Callable[..., Job], tmp_path: Path) -> None:
    job, said, waiting = study('[[run]]\nmodel = "opt-24"\n'), [], threading.Event()
    (tmp_path / "out").mkdir()

    def say(line: str) -> None:
        said.append(line)
        if line.endswith("; waiting"):
            waiting.set()

    with lock(tmp_path / "out" / "opt-24.zarr"):
        thread = threading.Thread(target=run_study, args=(job, tmp_path / "out"), kwargs={"say": say})
        thread.start()
        assert waiting.wait(60)
    thread.join()
    assert said[-1].startswith("opt-24: done in ")


def test_threads_are_those_of_the_run_and_then_as_before(study: Callable[..., Job], tmp_path: Path) -> None:
    before = torch.get_num_threads()
    job = study('[[run]]\nmodel = "opt-24"\nthreads = 2\n')
    do_task(Task(job.runs[0], str(tmp_path)), lambda line: None)
    assert open_run(tmp_path / "opt-24.zarr").store.attrs["threads"] == 2
    assert torch.get_num_threads() == before


def test_a_plan_of_a_study(study: Callable[..., Job], tmp_path: Path) -> None:
    (tmp_path / "opt-40").unlink()
    run_study(study('[[run]]\nmodel = "opt-24"\n'), tmp_path / "out")
    before = snapshot(tmp_path / "out")
    planned = plan_study(study(), tmp_path / "out")
    assert planned.done == ["opt-24"] and list(planned.plans) == ["opt-32"] and list(planned.failed) == ["opt-40"]
    assert planned.exit_code == 1 and snapshot(tmp_path / "out") == before
    lines = list(planned.lines())
    assert lines[0] == "opt-24: done" and lines[1].startswith("opt-32: 1,920 tokens, memory ")
    assert lines[2].startswith("opt-40: cannot be done: ") and lines[3].startswith("all together")
    plan_study(study(), tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("index", [b"", b"[]", b'{"runs": 3}', b'{"runs": {"opt-24.zarr": 1}}', b"[" * 9999, b"\xff"])
def test_an_index_that_is_none_is_made_anew(study: Callable[..., Job], tmp_path: Path, index: bytes) -> None:
    job = study('[[run]]\nmodel = "opt-24"\nanalyze = { only = ["dead"] }\n')
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / STUDY).write_bytes(index)
    assert run_study(job, tmp_path / "out").done == ["opt-24"]
    assert run_study(job, tmp_path / "out").skipped == ["opt-24"]


def test_on_the_command_line(
    study: Callable[..., Job], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study()
    monkeypatch.chdir(tmp_path)
    assert cli.run(["study", "job.toml", "--dry-run"]) == 0
    assert "opt-40: 1,920 tokens" in capsys.readouterr().out and not (tmp_path / "job").exists()
    assert cli.run(["study", "job.toml", "--dry-run", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["runs"]) == {f"opt-{size}" for size in SIZES}
    (tmp_path / "opt-24").unlink()
    assert cli.run(["study", "job.toml"]) == 3
    out = capsys.readouterr().out
    assert "opt-24: failed: " in out and "job: 2 of 3 runs are done" in out
    assert cli.run(["study", "job.toml", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["skipped"] == ["opt-32", "opt-40"]
    assert cli.run(["study", "none.toml"]) == 2


# -- text that is read once --------------------------------------------------------------------------------------------


def test_corpora_are_read_once_and_made_anew_when_damaged(models: Path, tmp_path: Path) -> None:
    checkpoint, text = Checkpoint(models / "opt-24"), tmp_path / "text.jsonl"
    shutil.copy(models / "text.jsonl", text)
    spec = DataSpec((text,), tokens=20 * POSITIONS)
    sources, folder, said = find_sources(spec.paths), tmp_path / CORPORA, []
    expected = read_corpus(spec, sources, checkpoint, POSITIONS)

    def shared(spec: DataSpec = spec) -> Any:
        return share_corpus(folder, spec, sources, checkpoint, POSITIONS, said.append)

    for _ in range(2):
        found = shared()
        assert found.fingerprint() == expected.fingerprint() and found.notes == expected.notes
        np.testing.assert_array_equal(found.document_source, expected.document_source)
    assert len(said) == 1  # of reading, once
    (path,) = folder.glob("*.npz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert shared().fingerprint() == expected.fingerprint() and any("is read again" in line for line in said)
    shared(DataSpec((text,), tokens=10 * POSITIONS))
    os.utime(text, ns=(1, 1))
    shared()
    assert len(list(folder.glob("*.npz"))) == 3


def test_a_corpus_of_other_text_than_was_written_is_refused(models: Path, tmp_path: Path) -> None:
    spec = DataSpec((models / "text.jsonl",), tokens=20 * POSITIONS)
    corpus = read_corpus(spec, find_sources(spec.paths), Checkpoint(models / "opt-24"), POSITIONS)
    save_corpus(tmp_path / "c.npz", corpus)
    corpus.tokens[0, 3] += 1
    loaded = load_corpus(tmp_path / "c.npz")
    assert loaded.tokens[0, 3] != corpus.tokens[0, 3]
    (tmp_path / "not.npz").write_bytes(b"no")
    for name in ("not.npz", "none.npz"):
        with pytest.raises(NeurolensError, match="no sound corpus"):
            load_corpus(tmp_path / name)


# -- who does it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ({"kind": "slrm"}, "kind is 'slrm'; expected slurm, pbs, lsf, sge, local"),
        ({"jobs": 2}, "kind is None"),
        ({"kind": "local", "jobs": 0}, "jobs is 0"),
        ({"kind": "local", "job": 2}, "'local': "),
    ],
)
def test_clusters_that_are_none(cluster: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match="cluster") as error, open_executor(cluster):
        pass
    assert said in str(error.value)


def test_without_dask_a_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with (
        pytest.raises(NeurolensError, match=r"pip install neurolens-llm\[distributed\]"),
        open_executor({}, "tcp://x:1"),
    ):
        pass
