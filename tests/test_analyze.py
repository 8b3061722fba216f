"""Parts of an analysis: only what is missing or asked differently is done, marks are true at every moment, and a stop
anywhere followed by the same command is as if there had been none. What the numbers are is test_ngrams.py's."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import POSITIONS, snapshot
from runs import make_run

from neurolens import IncompleteError, NeurolensError, UsageError
from neurolens.analyze import analyze_run
from neurolens.bootstrap import Bootstrap
from neurolens.cli import run as neurolens
from neurolens.contrast import ContrastRules
from neurolens.corpus import Corpus
from neurolens.curves import PositionRules
from neurolens.detectors import Rules
from neurolens.locks import lock
from neurolens.parts import PARTS, marks, withdraw
from neurolens.run import open_run
from neurolens.store import Store
from neurolens.tables import GRAMS
from neurolens.updates import Settings

pytestmark = pytest.mark.usefixtures("hasty")

MARK = "results/zarr.json"  # the file that the marks are in
WIDER = Rules(max_covering=30, max_covering_ngrams=300, coverage=50, min_rate=50)


def draw_run(path: Path, *, blocks: int | None = None) -> Path:
    """A collected run of two blocks and two layers; n-grams of all lengths come back, positions and labels matter."""
    rng = np.random.default_rng(0)
    tokens = np.tile(rng.integers(3, 9, (8, 8)), (3, 1))
    tokens[:, 0] = 2
    active = rng.random((2, 12, tokens.size)) < np.linspace(0, 1, 12)[None, :, None]
    active[:, 3] = tokens.reshape(-1) == 5
    label, position = np.arange(24) % 2, np.tile(np.arange(8), 24)
    active[:, 4], active[:, 5] = position < 4, (position > 4) & (rng.random(tokens.size) < 0.8)
    active[:, 6] &= np.repeat(label == 1, 8)
    corpus = Corpus.from_tokens(tokens, label=label, label_names=("a", "b"))
    return make_run(path, corpus, active, layers=[1, 3], sequences_per_block=16, vocab_size=10, blocks=blocks)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_run(tmp_path_factory.mktemp("analyze") / "r.zarr")


@pytest.fixture
def fresh(collected: Path, tmp_path: Path) -> Path:
    """A run that is not analysed."""
    return Path(shutil.copytree(collected, tmp_path / "r.zarr"))


@pytest.fixture(scope="module")
def projected(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that a model has made, with all parts."""
    from neurolens.collect import collect

    tokens = np.random.default_rng(1).integers(4, 260, (8, POSITIONS), dtype=np.int32)
    tokens[:, 0] = 2
    path = tmp_path_factory.mktemp("projected") / "r.zarr"
    collect(tiny_model, Corpus.from_tokens(tokens), path, layers=[0, 1])
    analyze_run(path, rules=WIDER)
    return path


def files(path: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a run: what it holds and when it was written."""
    return {name: (content, (path / name).stat().st_mtime_ns) for name, content in snapshot(path).items()}


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Files that are not as they were, came or went."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def asked(path: Path) -> dict[str, dict[str, Any]]:
    return marks(Store.open(path))


# -- only what is missing ------------------------------------------------------------------------------------------


def test_the_same_command_again_writes_nothing(fresh: Path) -> None:
    said: list[str] = []
    for again in range(2):
        if again:
            before = files(fresh)
        analyze_run(fresh, only=["ngrams"], say=said.append)
    assert files(fresh) == before and said == [f"{fresh} is analysed with these thresholds; nothing to do"]
    analyze_run(fresh, only=["dead"], rules=WIDER)  # of which dead knows nothing
    assert files(fresh) == before


def test_other_thresholds_redo_ngrams_alone(fresh: Path) -> None:
    """Activity, contexts and counts are not touched, and not one bit of what is redone is another's."""
    analyze_run(fresh, only=["dead"])
    dead = files(fresh)
    assert list(asked(fresh)) == ["dead"]
    for lengths, rules in ((5, Rules()), (5, WIDER), (2, WIDER)):
        before = files(fresh)
        analyze_run(fresh, only=["ngrams"], lengths=lengths, rules=rules)
        assert not (changed(dead, files(fresh)) & dead.keys()) - {MARK}
        assert changed(before, files(fresh)), "something was asked differently"
        assert asked(fresh)["ngrams"]["lengths"] == lengths and asked(fresh)["ngrams"]["rules"] == vars(rules)
    other = draw_run(fresh.with_name("other.zarr"))
    analyze_run(other, only=["ngrams"], lengths=2, rules=WIDER)
    assert snapshot(fresh) == snapshot(other)


def test_activity_alone(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert neurolens(["analyze", str(fresh), "--only", "dead"]) == 0
    run = open_run(fresh)
    assert list(run.parts) == ["dead"] and set(run.neurons) >= {"frequency", "dead"}
    assert not [name for name in run.neurons if "gram" in name] and not (fresh / "results/by_layer").exists()
    for part, tables in {
        "ngrams": (lambda: run.triggers(1), lambda: run.by_layer, lambda: run.table("by_layer")),
        "positions": (lambda: run.positions, run.stages, lambda: run.table("positions")),
        "contrast": (lambda: run.contrast, lambda: run.difference("a", "b"), lambda: run.table("contrast")),
    }.items():
        for table in tables:
            with pytest.raises(NeurolensError, match=f"not analysed for {part}; run 'neurolens analyze"):
                table()
    assert neurolens(["info", str(fresh)]) == 0
    assert "dead " in capsys.readouterr().out


@pytest.mark.parametrize("lengths", [1, 3, 5])
def test_lengths(lengths: int, fresh: Path) -> None:
    """Columns and tables of the lengths that were asked for; of longer ones, asked for before, nothing is left."""
    if lengths < 5:
        analyze_run(fresh, only=["ngrams"], lengths=5)
    assert neurolens(["analyze", str(fresh), "--only", "ngrams", "--ngrams", str(lengths)]) == 0
    run = open_run(fresh)
    wanted = {f"{gram}{end}" for gram in GRAMS[:lengths] for end in ("s_95", "_detector", "_detector_supported")}
    assert {name for name in run.neurons if "gram" in name} == wanted
    assert {path.name for path in (fresh / "results/neurons").iterdir() if "gram" in path.name} == wanted
    assert run.by_layer.shape == (2, lengths, 2) and run.by_layer.overall.shape == (2, lengths)
    triggers = run.triggers(3)
    assert triggers["tokens"].shape[1] == lengths and set(triggers["n"].tolist()) == set(range(1, lengths + 1))


def test_a_part_that_is_made_anew_takes_along_what_builds_on_it(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later version may ask otherwise of what others build on: then they are made anew, too, or it says so."""
    analyze_run(fresh, only=["dead"])
    dead = snapshot(fresh)
    analyze_run(fresh, only=FROM_BITS)
    before = snapshot(fresh)
    monkeypatch.setattr("neurolens.scanner.SAMPLES", 15)
    analyze_run(fresh, only=FROM_BITS)
    assert asked(fresh)["dead"]["samples"] == 15 and list(asked(fresh)) == ["dead", *FROM_BITS]
    monkeypatch.undo()
    said: list[str] = []
    analyze_run(fresh, only=["dead"], say=said.append)
    gone = "ngrams, positions, contrast built on other results and are gone; analyze without --only makes them anew"
    assert said == [f"{fresh}: {gone}"] and snapshot(fresh) == dead
    analyze_run(fresh, only=FROM_BITS)
    assert snapshot(fresh) == before


# -- what cannot be done -------------------------------------------------------------------------------------------


def one_line(arguments: list[Any], code: int, match: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert neurolens([str(each) for each in arguments]) == code
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("neurolens: ", "Error: "))]
    assert match in line


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"only": ["dead", "ngram"]}, "no analysis 'ngram'; expected dead, ngrams"),
        ({"only": [""]}, "no analysis ''"),
        ({"ngrams": 0}, "n-grams of up to 0 tokens; expected 1 to 5"),
        ({"ngrams": 6}, "n-grams of up to 6 tokens; expected 1 to 5"),
        ({"coverage": 0}, "coverage is 0; expected a percentage from 1 to 100"),
        ({"min-rate": 101}, "min_rate is 101; expected a percentage"),
        ({"max-covering": 0}, "max_covering is 0; expected at least 1"),
        ({"max-covering-ngrams": -1}, "max_covering_ngrams is -1; expected at least 1"),
        ({"min-occurrences": 0}, "min_occurrences is 0; expected at least 1"),
        ({"min-position-mi": -0.01}, "threshold is -0.01; expected at least 0 and below 0.693"),
        ({"min-position-mi": 0.7}, "threshold is 0.7; expected at least 0"),
        ({"min-position-mi": "nan"}, "threshold is nan; expected at least 0"),
    ],
    ids=str,
)
def test_what_cannot_be_meant(
    options: dict[str, Any], match: str, collected: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(collected)
    typed = [(f"--{name}", ",".join(value) if isinstance(value, list) else value) for name, value in options.items()]
    one_line(["analyze", collected, *(each for pair in typed for each in pair)], 2, match, capsys)
    assert files(collected) == before
    if "only" in options:
        with pytest.raises(UsageError, match="no analysis"):
            analyze_run(collected, only=options["only"])


def test_an_incomplete_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = draw_run(tmp_path / "r.zarr", blocks=1)
    before = files(path)
    one_line(["analyze", path], 3, "is incomplete: 2 of 4 blocks of layers are collected", capsys)
    with pytest.raises(IncompleteError, match="give the same 'neurolens collect' command again"):
        analyze_run(path)
    assert files(path) == before


def test_a_run_that_is_being_analysed(fresh: Path) -> None:
    with lock(fresh), pytest.raises(NeurolensError, match="another process"):
        analyze_run(fresh, only=["dead"])
    assert not asked(fresh)


def test_dropped_bits(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is there as asked needs none; what needs them says so, and leaves everything as it is."""
    analyze_run(fresh, only=["ngrams"])
    for layer in Store.open(fresh).layers:
        shutil.rmtree(fresh / f"layers/{layer:02d}/active")
    before, run = files(fresh), open_run(fresh)
    analyze_run(fresh, only=["ngrams"])
    assert run.neurons["unigram_detector"].any() and len(run.triggers(1)["n"]) and run.info()["stored_bytes"] == 0
    message = "the bits of layer 1, 3 were dropped, and what is asked must be counted from them; collect it again"
    for options in (["ngrams", "--coverage", 50], ["positions"]):
        one_line(["analyze", fresh, "--only", *options], 1, message, capsys)
        assert files(fresh) == before
    analyze_run(fresh, only=["contrast"])  # which is told from counts
    assert open_run(fresh).contrast["only"].any() and not changed(before, files(fresh)) & before.keys() - {MARK}


# -- with a model --------------------------------------------------------------------------------------------------


def test_all_parts_are_done_unless_told(projected: Path) -> None:
    assert tuple(asked(projected)) == PARTS
    before = files(projected)
    analyze_run(projected, rules=WIDER)
    assert files(projected) == before


def test_updates_are_redone_alone_and_with_the_ngrams(projected: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(projected, tmp_path / "r.zarr"))
    analyze_run(path, only=["ngrams"], rules=Rules())
    assert set(asked(path)) == {*PARTS} - {"updates"}
    others = files(path)
    assert not [name for name in others if "updates" in name or "projection" in name]
    analyze_run(path, rules=Rules(), settings=Settings(null_neurons=3))
    assert asked(path)["updates"]["null_neurons"] == 3
    assert not (changed(others, files(path)) & others.keys()) - {MARK}
    analyze_run(path, rules=WIDER)
    assert snapshot(path) == snapshot(projected)


@pytest.mark.parametrize(
    ("part", "command", "mine"),
    [
        ("positions", {"positions": PositionRules(threshold=0.002)}, r"results/(positions/|neurons/position)"),
        ("contrast", {"contrast": ContrastRules(least_expected=1)}, r"results/(contrast/|neurons/label_)"),
    ],
    ids=["positions", "contrast"],
)
def test_other_rules_redo_that_part_and_what_builds_on_it(
    part: str, command: Command, mine: str, projected: Path, tmp_path: Path
) -> None:
    """No other file is touched; updates, which project positional neurons, go with these, and are made anew."""
    path, said = Path(shutil.copytree(projected, tmp_path / "r.zarr")), []
    before = files(path)
    analyze_run(path, only=[part], rules=WIDER, say=said.append, **command)
    after = files(path)
    assert asked(path)[part]["rules"] == vars(command[part])
    updates = r"/(updates|projection\w*|rank|cosine|suppress\w*|null_\w*|trigger_projection\w*)/"
    gone = {name for name in before if re.search(updates, name) and part == "positions"}
    assert {name for name in before.keys() - after.keys() if not re.match(mine, name)} == gone
    assert {name for name in changed(before, after) - gone if not re.match(mine, name)} == {MARK}
    assert len({name for name in changed(before, after) if re.match(mine, name)}) > 20
    if part == "positions":
        assert len(gone) > 30 and "updates" not in asked(path)
        assert said == [f"{path}: updates built on other results and are gone; analyze without --only makes them anew"]
    else:
        assert tuple(asked(path)) == PARTS and not said
    analyze_run(path, rules=WIDER)
    assert snapshot(path) == snapshot(projected)


def test_without_the_checkpoint_what_is_there_stays(
    projected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that can be done is; updates of the same detectors, asked differently, are not given up for nothing."""
    path = Path(shutil.copytree(projected, tmp_path / "r.zarr"))
    attributes = {**Store.open(path).attrs, "model": {**Store.open(path).attrs["model"], "id": str(tmp_path / "gone")}}
    Store.open(path, write=True).set_attributes("", attributes)
    before = snapshot(path)
    with pytest.raises(IncompleteError, match=r"updates, which need the run's checkpoint .* with --model FOLDER"):
        analyze_run(path, rules=WIDER, settings=Settings(k=3))
    assert snapshot(path) == before
    one_line(["analyze", path, "--max-covering", 3], 3, "updates", capsys)
    assert set(asked(path)) == {*PARTS} - {"updates"} and asked(path)["ngrams"]["rules"]["max_covering"] == 3


# -- stops ---------------------------------------------------------------------------------------------------------


class Stop(BaseException):
    """A stop that nobody catches."""


Command = dict[str, Any]
FROM_BITS = ["ngrams", "positions", "contrast"]  # what is done without a checkpoint, beside what they need
USUAL: Command = {"only": FROM_BITS, "lengths": 2, "bootstrap": Bootstrap(replicates=3)}
OTHER: Command = {
    "only": FROM_BITS,
    "lengths": 3,
    "rules": WIDER,
    "positions": PositionRules(threshold=0.1, near=0.9),
    "contrast": ContrastRules(least_expected=1),
    "bootstrap": Bootstrap(replicates=3),
}


def owned(path: Path, command: Command) -> dict[str, set[str]]:
    """The files of each part that the command writes, beside that of the marks."""
    seen, found = {MARK, *snapshot(path)}, {}
    for part in ["dead", *command["only"]]:
        analyze_run(path, **{**command, "only": [part]})
        found[part] = set(snapshot(path)) - seen
        seen |= found[part]
    return found


def stopping(monkeypatch: pytest.MonkeyPatch, at: int, names: dict[str, Any]) -> Callable[[], int]:
    """Stop before call number `at` of any of these functions; returns how many there have been."""
    calls = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                raise Stop
            return function(*args, **kwargs)

        return call

    for name, function in names.items():
        monkeypatch.setattr(name, counted(function))
    return lambda: calls


# what changes a run: of the store, and, finer, of the disk
STORE = {f"neurolens.store.Store.{name}": getattr(Store, name) for name in ("write", "remove", "set_attributes")}
DISK = {f"os.{name}": getattr(os, name) for name in ("replace", "unlink", "rmdir")}


@pytest.mark.parametrize("operations", [STORE, DISK], ids=["between results", "within results"])
@pytest.mark.parametrize("before", [None, USUAL, OTHER], ids=["fresh", "shorter", "longer"])
def test_a_stop_leaves_marks_that_are_true_and_the_same_command_completes(
    before: Command | None, operations: dict[str, Any], collected: Path, tmp_path: Path
) -> None:
    """Wherever it is stopped: what is marked is whole and as the mark says, and nothing of it shows in the end."""
    command = OTHER if before == USUAL else USUAL
    start = Path(shutil.copytree(collected, tmp_path / "start.zarr"))
    whole: list[tuple[dict[str, Any], dict[str, bytes], dict[str, set[str]]]] = []  # marks, files, whose they are
    for each in (before, command):
        if each is not None:
            path = Path(shutil.copytree(collected, tmp_path / f"whole-{len(whole)}.zarr"))
            belong = owned(path, each)
            whole.append((asked(path), snapshot(path), belong))
    if before is not None:
        analyze_run(start, **before)
    path = Path(shutil.copytree(start, tmp_path / "counted.zarr"))
    with pytest.MonkeyPatch.context() as patch:
        count = stopping(patch, 0, operations)
        analyze_run(path, **command)
        calls = count()
    for i, at in enumerate(np.linspace(1, calls, 5).round().astype(int).tolist()):
        path = Path(shutil.copytree(start, tmp_path / f"{i}.zarr"))
        with pytest.MonkeyPatch.context() as patch:
            stopping(patch, at, operations)
            with pytest.raises(Stop):
                analyze_run(path, **command)
        check_marks(path, whole)
        analyze_run(path, **command)
        assert snapshot(path) == whole[-1][1], at


def test_what_is_withdrawn_is_gone_and_nothing_else(fresh: Path) -> None:
    belong, store = owned(fresh, USUAL), Store.open(fresh, write=True)
    for i, part in enumerate(FROM_BITS):
        before = files(fresh)
        assert withdraw(store, [part])[0] == part and list(asked(fresh)) == ["dead", *FROM_BITS[i + 1 :]]
        assert belong[part] and changed(before, files(fresh)) == belong[part] | {MARK}
        assert not [name for name in open_run(fresh).neurons if f"results/neurons/{name}/zarr.json" in belong[part]]


def check_marks(path: Path, whole: list[tuple[dict[str, Any], dict[str, bytes], dict[str, set[str]]]]) -> None:
    """Every part that is marked is, byte by byte, as in one of the undisturbed runs in which it was asked the same."""
    found = snapshot(path)
    for part, how in asked(path).items():
        same = [(content, belong[part]) for given, content, belong in whole if given.get(part) == how]
        assert same, "nobody asked this"
        assert any(all(found.get(name) == content[name] for name in names) for content, names in same), part


def test_killed_and_given_again(collected: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of writing a file, three times in a row; the command that is left alone completes."""
    whole = Path(shutil.copytree(collected, tmp_path / "whole.zarr"))
    belong = owned(whole, OTHER)
    undisturbed = [(asked(whole), snapshot(whole), belong)]
    path = Path(shutil.copytree(collected, tmp_path / "r.zarr"))
    code = (
        "import os, pickle, signal, sys; from neurolens.analyze import analyze_run\n"
        "left, replace = int(sys.argv[2]), os.replace\n"
        "def dying(*args, **kwargs):\n"
        "    global left\n"
        "    left -= 1\n"
        "    os.kill(os.getpid(), signal.SIGKILL) if not left else replace(*args, **kwargs)\n"
        "os.replace = dying\n"
        "analyze_run(sys.argv[1], **pickle.loads(bytes.fromhex(sys.argv[3])))\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    for at in (10, 200, 60):
        call = [*command, str(at), pickle.dumps(OTHER).hex()]
        ended = subprocess.run(call, capture_output=True, check=False)
        assert ended.returncode == -9, ended.stderr
        check_marks(path, undisturbed)
    analyze_run(path, **OTHER)
    assert snapshot(path) == undisturbed[0][1]


def test_what_is_marked_is_on_the_disk(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut leaves no mark without its results: at every mark each of their files has been synced as it is."""
    synced: dict[int, int] = {}  # number of a file → when what was synced had been written
    marked: list[list[str]] = []
    set_attributes = Store.set_attributes

    def sync(handle: int) -> None:
        synced[os.fstat(handle).st_ino] = os.fstat(handle).st_mtime_ns

    def marking(store: Store, name: str, attributes: dict[str, Any]) -> None:
        if name == "results" and attributes["parts"]:
            marked.append(list(attributes["parts"]))
            for path in (path for folder in ("counts", "results") for path in (fresh / folder).rglob("*")):
                assert path == fresh / MARK or synced.get(path.stat().st_ino) == path.stat().st_mtime_ns, path
        set_attributes(store, name, attributes)

    monkeypatch.setattr("os.fsync", sync)
    monkeypatch.setattr(Store, "set_attributes", marking)
    for command in (USUAL, OTHER):
        analyze_run(fresh, **command)
    whole = ["dead", *FROM_BITS]
    first = [whole[:1], whole[:2], whole[:3], whole[:3], whole]  # the fourth: that contrast is to be written
    assert marked == [*first, ["dead", "contrast"], ["dead", "ngrams", "contrast"], whole, whole[:3], whole]
