"""Shards: blocks of one run that several processes collect, one after another or at once; the run is the same."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import POSITIONS, snapshot
from hypothesis import given
from hypothesis import strategies as st
from test_collect import BATCH, random_corpus, stop_after

from neurolens import InUseError, NeurolensError, UsageError, cli
from neurolens.analyze import analyze_run
from neurolens.collect import collect
from neurolens.corpus import Corpus
from neurolens.decoder import Decoder
from neurolens.locks import lock, log_path, still
from neurolens.plan import Plan
from neurolens.shards import Shard
from neurolens.store import Store
from neurolens.verify import verify_run

pytestmark = pytest.mark.usefixtures("hasty")
CUT: dict[str, Any] = {"batch_tokens": 2 * POSITIONS, "block_tokens": BATCH}  # 6 blocks
BLOCKS = 6


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return random_corpus(22)


@pytest.fixture(scope="module")
def whole(tiny_model: Path, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "r.zarr"
    collect(tiny_model, corpus, path, **CUT)
    return path


@pytest.fixture(scope="module")
def dropped(tiny_model: Path, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dropped") / "r.zarr"
    collect(tiny_model, corpus, path, keep_bitmaps="none", **CUT)
    return path


def beside(path: Path) -> list[str]:
    """What stands beside a run."""
    return sorted(each.name for each in path.parent.iterdir() if each != path)


# -- which blocks ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 200), st.integers(1, 60))
def test_shards_have_each_block_once_in_order_and_evenly(blocks: int, of: int) -> None:
    parts = [Shard(number, of).part(range(blocks)) for number in range(1, of + 1)]
    assert [block for part in parts for block in part] == list(range(blocks))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1.0/2", "١/٢"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no shard"):
        Shard.parse(text)


def test_a_shard_is_told_by_its_suffix() -> None:
    assert Shard.of_suffix(Shard(2, 4).suffix) == Shard(2, 4) == Shard.parse("2/4")
    assert Shard().suffix == "" and Shard().whole
    for wrong in ("", ".shard-0-of-2", ".shard-3-of-2", ".shard-1-of-2.log"):
        assert Shard.of_suffix(wrong) is None


# -- the same run ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(1, 2), (2, 1), (2, 3, 1), (6, 5, 4, 3, 2, 1)])
@pytest.mark.parametrize("how", [{}, {"weights": "streamed", "spool": "disk"}])
def test_shards_one_after_another(
    tiny_model: Path, corpus: Corpus, whole: Path, tmp_path: Path, order: tuple[int, ...], how: dict[str, Any]
) -> None:
    said: list[str] = []
    for number in order:
        assert not (tmp_path / "r.zarr").exists() or not Store.open(tmp_path / "r.zarr").progress().all()
        how = how | ({"spool": tmp_path} if "spool" in how else {})
        collect(tiny_model, corpus, tmp_path / "r.zarr", shard=Shard(number, len(order)), say=said.append, **CUT, **how)
    assert snapshot(tmp_path / "r.zarr") == snapshot(whole)
    assert beside(tmp_path / "r.zarr") == ["r.zarr.log"]
    assert log_path(tmp_path / "r.zarr").read_text().count('"commit"') == 3 * BLOCKS
    assert sum("the rest is other shards'" in line for line in said) == len(order) - 1


@pytest.mark.parametrize("keep", ["all", "none", "sparse"])
def test_shards_at_once(
    tiny_model: Path,
    corpus: Corpus,
    whole: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    keep: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody makes the run beforehand; all begin together, and the last one ends it."""
    path, errors, together = tmp_path / "r.zarr", [], threading.Barrier(3)
    create = Store.create
    made: list[Path] = []
    monkeypatch.setattr(Store, "create", lambda path, *a, **k: made.append(path) or create(path, *a, **k))

    def work(number: int) -> None:
        try:
            together.wait(60)
            collect(tiny_model, corpus, path, shard=Shard(number, 3), keep_bitmaps=keep, **CUT)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and made == [path]
    expected = whole if keep == "all" else tmp_path_factory.mktemp("alone") / "r.zarr"
    collect(tiny_model, corpus, expected, keep_bitmaps=keep, **CUT)
    assert snapshot(path) == snapshot(expected)
    assert beside(path) == ["r.zarr.log"]


def test_bits_are_kept_until_all_shards_are_there(
    tiny_model: Path, corpus: Corpus, dropped: Path, tmp_path: Path
) -> None:
    path = tmp_path / "r.zarr"
    collect(tiny_model, corpus, path, shard=Shard(1, 2), keep_bitmaps="none", **CUT)
    assert all(Store.open(path).kept(layer).all() for layer in range(3)) and not Store.open(path).has("results")
    collect(tiny_model, corpus, path, shard=Shard(2, 2), keep_bitmaps="none", **CUT)
    assert snapshot(path) == snapshot(dropped)
    analyze_run(path)


def test_the_whole_command_ends_what_shards_began(
    tiny_model: Path, corpus: Corpus, dropped: Path, tmp_path: Path
) -> None:
    path = tmp_path / "r.zarr"
    collect(tiny_model, corpus, path, shard=Shard(2, 3), keep_bitmaps="none", **CUT)
    collect(tiny_model, corpus, path, keep_bitmaps="none", **CUT)
    assert snapshot(path) == snapshot(dropped)


def test_shards_end_what_the_whole_command_began(
    tiny_model: Path, corpus: Corpus, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.zarr"
    stop_after(5, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        collect(tiny_model, corpus, path, **CUT)
    monkeypatch.undo()
    for number in (1, 2):
        collect(tiny_model, corpus, path, shard=Shard(number, 2), **CUT)
    assert snapshot(path) == snapshot(whole)


def test_a_shard_that_is_stopped_continues_from_its_spool(
    tiny_model: Path, corpus: Corpus, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, spool = tmp_path / "r.zarr", tmp_path / "spool"
    spool.mkdir()
    how: dict[str, Any] = {"weights": "streamed", "spool": spool, **CUT}
    stop_after(7, monkeypatch)  # of 9 commits
    with pytest.raises(KeyboardInterrupt):
        collect(tiny_model, corpus, path, shard=Shard(1, 2), **how)
    monkeypatch.undo()
    assert [each.name for each in spool.iterdir()] == ["r.zarr.shard-1-of-2.spool"]
    found = verify_run(path, spool=spool)
    assert found.damages == () and any("hidden states: those of" in line for line in found.checks)
    said: list[str] = []
    collect(tiny_model, corpus, path, shard=Shard(1, 2), say=said.append, **how)
    assert not any(" again" in line for line in said)
    collect(tiny_model, corpus, path, shard=Shard(2, 2), **how)
    assert snapshot(path) == snapshot(whole) and list(spool.iterdir()) == []


def test_the_last_shard_stopped_before_the_end_is_ended_by_any(
    tiny_model: Path, corpus: Corpus, dropped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.zarr"
    collect(tiny_model, corpus, path, shard=Shard(1, 2), keep_bitmaps="none", **CUT)

    def stop(*_: Any) -> None:
        raise RuntimeError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr("neurolens.keep.save_scan", stop)
        with pytest.raises(RuntimeError):
            collect(tiny_model, corpus, path, shard=Shard(2, 2), keep_bitmaps="none", **CUT)
    assert Store.open(path).progress().all()
    monkeypatch.setattr(Decoder, "load", stop)  # nothing is left for a model to do
    collect(tiny_model, corpus, path, shard=Shard(1, 2), keep_bitmaps="none", **CUT)
    assert snapshot(path) == snapshot(dropped)


# -- who may write -----------------------------------------------------------------------------------------------------


def test_locks_of_shards(tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    with lock(path, Shard(1, 3)):
        with lock(path, Shard(2, 3)):
            pass
        with pytest.raises(InUseError, match="shard 1/3"), lock(path, Shard(1, 3)):
            pass
        with pytest.raises(InUseError, match="in use"), lock(path):
            pass
        with pytest.raises(InUseError, match="being written"), still(path):
            pass
        with pytest.raises(UsageError, match="3 shards"), lock(path, Shard(1, 2)):
            pass
    with lock(path, Shard(1, 2)):  # the other's log is there, and nobody has it
        pass
    with still(path), still(path):
        pass
    with lock(path), pytest.raises(InUseError), lock(path, Shard(1, 3), grace=0.2):
        pass


def test_a_shard_waits_for_nobody_who_has_it(tiny_model: Path, corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    collect(tiny_model, corpus, path, shard=Shard(1, 2), **CUT)
    with lock(path, Shard(2, 2)), pytest.raises(InUseError, match="shard 2/2"):
        collect(tiny_model, corpus, path, shard=Shard(2, 2), **CUT)


def test_a_name_with_signs_of_a_pattern(tiny_model: Path, corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "r[1]*.zarr"
    for number in (1, 2):
        collect(tiny_model, corpus, path, shard=Shard(number, 2), **CUT)
    assert beside(path) == [f"{path.name}.log"]


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_more_shards_than_blocks(tiny_model: Path, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--shard 1/7: the run has 6 blocks"):
        collect(tiny_model, corpus, tmp_path / "r.zarr", shard=Shard(1, 7), **CUT)
    assert beside(tmp_path / "r.zarr") == []


def test_a_shard_of_another_run_is_refused(tiny_model: Path, corpus: Corpus, whole: Path) -> None:
    before = snapshot(whole)
    with pytest.raises(UsageError, match="dtype"):
        collect(tiny_model, corpus, whole, shard=Shard(1, 2), dtype="bf16", **CUT)
    assert snapshot(whole) == before


def test_the_plan_of_a_shard_is_its_own(tiny_model: Path, corpus: Corpus, tmp_path: Path) -> None:
    plans = [
        collect(tiny_model, corpus, tmp_path / "r.zarr", shard=shard, dry_run=True, **CUT)
        for shard in (Shard(), Shard(1, 4), Shard(4, 4))
    ]
    all_of_it, first, last = (plan for plan in plans if isinstance(plan, Plan))
    assert (first.own_blocks, last.own_blocks) == (1, 2)
    assert first.own_tokens == 4 * POSITIONS and last.own_tokens == 6 * POSITIONS  # the last block is half as large
    assert first.bits_bytes * 22 == all_of_it.bits_bytes * 4
    assert any(line.startswith("shard 4/4: blocks 4–5 of 6 blocks") for line in last.lines())


def test_on_the_command_line(
    tiny_model: Path, write_jsonl: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_jsonl("text.jsonl", [{"text": f"{i} bottles of beer on the wall, " * 9} for i in range(40)])
    cut = ["--batch-tokens", str(2 * POSITIONS), "--block-tokens", str(BATCH)]
    command = ["collect", str(tiny_model), str(data), "-o", str(tmp_path / "r.zarr"), *cut]
    assert cli.run([*command, "--shard", "2/2"]) == 0
    assert "next: neurolens analyze" not in capsys.readouterr().err
    assert cli.run([*command, "--shard", "3/2"]) == 2
    assert "no shard 3/2" in capsys.readouterr().err
    assert cli.run([*command, "--shard", "1/2"]) == 0
    assert "next: neurolens analyze" in capsys.readouterr().err
    with pytest.raises(NeurolensError):
        Store.open(tmp_path / "no.zarr")
