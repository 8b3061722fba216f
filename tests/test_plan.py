"""The plan: sums by hand, the choice among ways that fit, what is said of it, and what is free."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import POSITIONS
from test_collect import BATCH, random_corpus

from neurolens import NeurolensError, UsageError, budget
from neurolens.budget import free_disk, free_memory, own_memory
from neurolens.checkpoint import Checkpoint
from neurolens.cli import run as neurolens
from neurolens.collect import collect
from neurolens.decoder import Shape, shape_of
from neurolens.plan import OVERHEAD, Plan, Rates
from neurolens.planner import Budget, make_plan
from neurolens.probe import measure_rates

GB = 10**9
# 66b, in round numbers: a layer of 1e9 parameters, 0.5e9 elsewhere, stored in fp16
LARGE = Shape(64, 36864, 9216, 2048, 1_000_000_000, 500_000_000, 2)
TOKENS = (2560, 2048)  # 20 blocks of 262,144
RATES = Rates(compute=1e-5, load=1.0, load_cpu=0.5, read=1e9, spool=1e9)


def plan_of(**changes: Any) -> Plan:
    settings: dict[str, Any] = {"dtype": "fp16", "rates": lambda batch: RATES}
    return make_plan(LARGE, TOKENS, **settings | changes)


# -- sums --------------------------------------------------------------------------------------------------------------


def test_memory_is_the_sum_of_what_is_held() -> None:
    plan = plan_of(weights="streamed", spool="disk", keep="all")
    block = 262_144
    assert plan.memory_parts == {
        "weights": (2 * 1_000_000_000 + 500_000_000) * 2,
        "layer as stored": 2 * GB,
        "batch": 4096 * (2 * 36864 + 8 * 9216) * 2 + 2 * 2048 * 2048 * 3,
        "hidden states": 2 * 4096 * 9216 * 2,
        "bits": 5 * block * 36864 // 8,
        "text": 2560 * 2048 * 40,
        "threads, allocator": OVERHEAD,
    }
    assert plan.memory_bytes == sum(plan.memory_parts.values())
    assert plan.spool_bytes == (20 + 2) * block * 9216 * 2
    assert plan.spool_bytes_moved == 2 * 63 * 2560 * 2048 * 9216 * 2
    assert plan.weight_bytes == (64 * 1_000_000_000 + 500_000_000) * 2
    assert plan.bits_bytes == plan.raw_bytes == 64 * 36864 * 2560 * 2048 // 8
    dropped = replace(plan, keep="none")
    assert dropped.bits_bytes == 36864 * 2560 * 2048 // 8 and dropped.result_bytes > 0
    assert dropped.analysis_memory > 0 == plan.analysis_memory


def test_windows_in_memory_read_the_weights_as_often() -> None:
    """66b in 40 GB: as many blocks at a time as fit, alike for all windows."""
    plan = plan_of(weights="streamed", spool="memory", keep="all", budget=Budget(memory=40 * GB))
    assert plan.memory_bytes <= 40 * GB
    assert replace(plan, window_blocks=plan.window_blocks + 1).windows < plan.windows or (
        replace(plan, window_blocks=plan.window_blocks + 1).memory_bytes > 40 * GB
    )
    assert plan.windows == -(-20 // plan.window_blocks) > 1
    assert plan.weight_bytes == (plan.windows * 64 * 1_000_000_000 + 500_000_000) * 2
    assert f"for each of {plan.windows} windows" in plan.name()


def test_time_is_that_of_the_slowest_of_what_goes_on_at_once() -> None:
    """Ten blocks of 1,000 tokens, two layers: compute 10 ms a token, load 1 s + 2 s from the disk."""
    cores = os.cpu_count() or 1
    shape = Shape(2, 64, 16, 1000, 1000, 500, 2)
    rates = Rates(compute=1e-2, load=1.0, load_cpu=0.0, read=1000.0, spool=1e9)
    cut: dict[str, Any] = {"batch_tokens": 1000, "block_tokens": 8000, "keep": "all"}
    plan = make_plan(shape, (80, 1000), rates=lambda batch: rates, weights="streamed", spool="memory", **cut)
    commit = 80_000 * 64 / 8 / 60e6 / cores
    assert plan.windows == 1
    assert plan.seconds == pytest.approx(3 + 2 * (800 + commit))
    slow = replace(plan, rates=replace(rates, read=1.0))  # 2,001 s a layer: longer than it is computed
    assert slow.seconds == pytest.approx(2001 + 2 * 2001)
    resident = replace(plan, weights="resident")
    assert resident.seconds == pytest.approx(2 * 3 + 2 * (800 + commit))
    windows = replace(slow, window_blocks=1, cached=False)
    assert windows.windows == 10
    assert windows.seconds == pytest.approx(10 * (2001 + 2 * 2001))
    assert replace(windows, cached=True).seconds == pytest.approx(3 * 2001 + 9 * (1 + 2 * (80 + commit / 10)))
    disk = replace(plan, spool="disk", rates=replace(rates, spool=1.0))
    assert disk.seconds == pytest.approx(3 + 2 * 2 * 80_000 * 16 * 4)
    assert plan.kill_seconds == pytest.approx(plan.seconds)
    assert disk.kill_seconds == pytest.approx(2 * disk.seconds / 10 / 2)


def test_a_gpu_holds_what_the_machine_need_not() -> None:
    plan = plan_of(weights="streamed", budget=Budget(memory=64 * GB, device=24 * GB))
    assert plan.gpu and plan.memory_parts.keys() >= {"layer as stored", "bits", "text"}
    assert "weights" not in plan.memory_parts and plan.device_bytes <= 24 * GB
    assert plan.device_bytes >= plan.weight_memory + plan.batch_memory
    everything = plan_of(budget=Budget(memory=64 * GB, device=200 * GB))
    assert everything.weights == "resident" and everything.hidden_there


# -- the choice --------------------------------------------------------------------------------------------------------


def test_what_fits_is_resident() -> None:
    plan = plan_of(budget=Budget(memory=200 * GB))
    assert (plan.weights, plan.spool, plan.window_blocks) == ("resident", "memory", 1)


def test_what_does_not_is_streamed_and_what_was_not_chosen_is_said() -> None:
    plan = plan_of(budget=Budget(memory=32 * GB))
    assert plan.weights == "streamed" and plan.memory_bytes <= 32 * GB
    (resident,) = (line for line in plan.not_chosen if "resident" in line)
    assert "it takes 1" in resident and "GB of memory, 32.00 GB are there" in resident
    assert f"not chosen: {resident}" in plan.lines()
    assert len({plan.name(), *plan.not_chosen}) == 3


def test_a_slow_disk_of_weights_is_read_once_and_a_slow_disk_of_states_is_left_alone() -> None:
    """30 GB of memory hold 2 blocks of 20 at a time."""
    slow_weights = replace(RATES, read=1e7, spool=3e9)
    plan = plan_of(budget=Budget(memory=30 * GB), rates=lambda batch: slow_weights)
    assert (plan.spool, plan.windows) == ("disk", 1)
    slow_states = replace(RATES, read=3e9, spool=1e7)
    plan = plan_of(budget=Budget(memory=30 * GB), rates=lambda batch: slow_states)
    assert plan.spool == "memory" and plan.windows > 1
    plan = plan_of(budget=Budget(memory=30 * GB, spool=GB), rates=lambda batch: slow_weights)
    assert plan.spool == "memory", "the disk has no room for the states"


def test_every_plan_that_is_made_fits_and_is_nearly_the_fastest() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        memory, disk, device = (10 ** rng.uniform(9.8, 12) for _ in range(3))
        gpu = device if rng.random() < 0.5 else None
        limits = Budget(memory, gpu, disk, disk)
        rates = Rates(*(10 ** rng.uniform(low, high) for low, high in ((-6, -3), (-1, 1), (-1, 0), (8, 10), (8, 10))))
        try:
            plan = plan_of(budget=limits, rates=lambda batch, found=rates: found)
        except NeurolensError as error:
            assert "the least that would do is" in str(error)
            continue
        assert plan.memory_bytes <= memory and plan.spool_bytes <= disk
        assert gpu is None or plan.device_bytes <= gpu
        cut: dict[str, Any] = {"batch_tokens": plan.batch_sequences * 2048, "block_tokens": plan.block_tokens}
        for weights in ("resident", "streamed"):
            for spool in ("memory", "disk"):
                try:
                    other = plan_of(
                        budget=limits, weights=weights, spool=spool, rates=lambda batch, found=rates: found, **cut
                    )
                except NeurolensError:
                    continue
                assert plan.seconds <= 1.05 * other.seconds + 1


@pytest.mark.parametrize("memory", [12, 10.5, 9.5])
def test_blocks_and_batches_shrink_until_it_fits(memory: float) -> None:
    plan = plan_of(budget=Budget(memory=memory * GB))
    assert plan.memory_bytes <= memory * GB
    assert plan.block_tokens < 262_144


def test_nothing_fits() -> None:
    with pytest.raises(NeurolensError) as caught:
        plan_of(budget=Budget(memory=6 * GB))
    line = str(caught.value)
    least = float(line.split("the least that would do is ")[1].split(" GB")[0])
    assert 7 < least < 9 and "\n" not in line and "raise --memory" in line
    plan = plan_of(budget=Budget(memory=(least + 0.01) * GB))  # which is true
    assert plan.memory_bytes <= (least + 0.01) * GB


def test_bits_are_kept_if_half_the_disk_holds_them() -> None:
    raw = plan_of().raw_bytes
    assert plan_of(budget=Budget(disk=2 * raw)).keep == "all"
    plan = plan_of(budget=Budget(disk=2 * raw - 2))
    assert plan.keep == "none" and plan.windows == 1
    assert plan_of(keep="all", budget=Budget(disk=2 * raw - 2)).keep == "all"  # on request, however far they compress
    with pytest.raises(NeurolensError, match="disk for a layer's bits and results"):
        plan_of(budget=Budget(disk=GB))


@pytest.mark.parametrize("what", ["weights", "spool", "keep"])
def test_a_choice_that_is_none(what: str) -> None:
    with pytest.raises(UsageError, match=r"unknown .* 'lazy'; expected"):
        plan_of(**{what: "lazy"})


# -- what is free ------------------------------------------------------------------------------------------------------


def test_what_is_free(tmp_path: Path) -> None:
    assert 0 < free_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert free_disk(tmp_path / "not/there") == pytest.approx(free_disk(tmp_path), rel=0.1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_own_memory_grows_by_what_is_taken() -> None:
    before = own_memory()
    taken = np.ones(1 << 26, np.uint8)
    assert own_memory() - before == pytest.approx(taken.nbytes, rel=0.1)


def test_a_container_leaves_less(tmp_path: Path) -> None:
    for name, text in (("max", "3000"), ("now", "2500"), ("memory.stat", "anon 1\ninactive_file 400\n")):
        (tmp_path / name).write_text(text)
    assert budget._left(tmp_path, "max", "now", "inactive_file") == [900]
    (tmp_path / "max").write_text("max\n")
    assert budget._left(tmp_path, "max", "now", "inactive_file") == []


# -- a probe -----------------------------------------------------------------------------------------------------------


def test_a_probe_measures_and_leaves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tiny_model)
    rates = measure_rates(
        checkpoint, shape_of(checkpoint), 4, corpus=(11, POSITIONS), dtype="fp32", device="cpu", spool=tmp_path / "s"
    )
    assert all(0 < value < 1e13 for value in vars(rates).values())
    assert checkpoint.bytes_read == 0 and list(tmp_path.iterdir()) == []


def test_the_plan_is_measured_and_said(tiny_model: Path, tmp_path: Path) -> None:
    said: list[str] = []
    plan = collect(tiny_model, random_corpus(16), tmp_path / "r.zarr", dry_run=True, say=said.append)
    assert isinstance(plan, Plan) and plan.rates is not None
    assert 0 < plan.seconds < 60 and plan.base > 50e6
    text = "\n".join(said)
    for word in ("memory at most", "disk at most", "moved:", "time about", "a kill costs at most", "not chosen:"):
        assert word in text
    assert plan.facts()["seconds"] == plan.seconds and plan.facts()["not_chosen"]
    assert list(tmp_path.iterdir()) == []


# -- the command -------------------------------------------------------------------------------------------------------


def test_too_little_memory_is_one_line_and_nothing_is_written(
    tiny_model: Path, tmp_path: Path, write_jsonl: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, path = write_jsonl("text.jsonl", ["some text " * 60]), tmp_path / "r.zarr"
    command = ["collect", str(tiny_model), str(data), "-o", str(path), "--memory", "100MB"]
    assert neurolens(command) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the least that would do is" in error and "raise --memory" in error
    assert sorted(each.name for each in tmp_path.iterdir()) == ["text.jsonl"]
    for size in ("much", "0", "-3GB", "4XB"):
        assert neurolens([*command[:-1], size]) == 2
        assert "is no size" in capsys.readouterr().err


def test_sizes_of_memory() -> None:
    from neurolens.options import ByteSize

    read = {text: ByteSize().convert(text, None, None) for text in ("20GiB", "1.5T", "500 MB", "7k", "12")}
    assert read == {"20GiB": 20 << 30, "1.5T": 1_500_000_000_000, "500 MB": 500_000_000, "7k": 7000, "12": 12}


def test_a_complete_run_is_not_planned_again(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect(tiny_model, random_corpus(8), tmp_path / "r.zarr", batch_tokens=BATCH)

    def no_probe(*_: Any, **__: Any) -> Rates:
        raise AssertionError("measured for nothing")

    monkeypatch.setattr("neurolens.collect.measure_rates", no_probe)
    said: list[str] = []
    collect(tiny_model, random_corpus(8), tmp_path / "r.zarr", memory=1, say=said.append)
    assert "nothing to do" in said[-1]
