"""Windows, spool and kept bitmaps change no bit and no result; a stop anywhere costs what the plan says, no more."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import POSITIONS, snapshot
from test_collect import BATCH, plain_forward, random_corpus, stop_after, stored_bits

from neurolens import IncompleteError, NeurolensError, UsageError
from neurolens.analyze import analyze_run
from neurolens.checkpoint import Checkpoint
from neurolens.collect import collect
from neurolens.committer import Committer
from neurolens.corpus import Corpus
from neurolens.decoder import Decoder
from neurolens.run import open_run
from neurolens.store import Store
from neurolens.testing import random_opt

pytestmark = pytest.mark.usefixtures("hasty")
LAYERS, SEQUENCES = 4, 22
SHAPE = {"hidden_size": 32, "ffn_dim": 72, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
CUT: dict[str, Any] = {"batch_tokens": 2 * POSITIONS, "block_tokens": BATCH}  # 6 blocks of 2 batches, the last of one
BLOCKS = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OPT of 4 layers."""
    return random_opt(tmp_path_factory.mktemp("windows") / "model", SHAPE, vocab_size=272, positions=POSITIONS)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return random_corpus(SEQUENCES)


@pytest.fixture(scope="module")
def whole(model: Path, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ordinary run: weights resident, one block a window, all bits kept."""
    path = tmp_path_factory.mktemp("whole") / "whole.zarr"
    collect(model, corpus, path, weights="resident", **CUT)
    return path


@pytest.fixture(scope="module")
def analysed(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("analysed") / "whole.zarr"
    shutil.copytree(whole, path)
    analyze_run(path)
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Another disk."""
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def results(run: Path) -> dict[str, bytes]:
    """All that is not bits, nor says which are kept."""
    return {
        name: data for name, data in snapshot(run).items() if not name.startswith("layers/") and name != "zarr.json"
    }


def beside(path: Path) -> set[str]:
    """What stands beside a run."""
    return {each.name for each in path.parent.iterdir() if each.name.startswith(path.name)} - {path.name}


# -- the same bits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, 2, 4, 100])
@pytest.mark.parametrize("weights", ["resident", "streamed"])
def test_windows_change_no_bit(
    model: Path, corpus: Corpus, whole: Path, tmp_path: Path, weights: str, blocks: int
) -> None:
    collect(model, corpus, tmp_path / "r.zarr", weights=weights, window_tokens=blocks * BATCH, **CUT)
    assert snapshot(tmp_path / "r.zarr") == snapshot(whole)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("weights", ["resident", "streamed"])
def test_a_spool_on_a_disk_changes_no_bit(
    model: Path, corpus: Corpus, tmp_path: Path, disk: Path, weights: str, dtype: str
) -> None:
    collect(model, corpus, tmp_path / "m.zarr", weights="resident", spool="memory", dtype=dtype, **CUT)
    store = collect(model, corpus, tmp_path / "r.zarr", weights=weights, spool=disk, dtype=dtype, **CUT)
    assert snapshot(tmp_path / "r.zarr") == snapshot(tmp_path / "m.zarr")
    assert list(disk.iterdir()) == []
    assert isinstance(store, Store) and 0.01 < stored_bits(store, 2).mean() < 0.99


def test_bits_of_a_window_on_a_disk_are_those_of_the_plain_model(
    model: Path, corpus: Corpus, tmp_path: Path, disk: Path
) -> None:
    store = collect(model, corpus, tmp_path / "r.zarr", weights="streamed", spool=disk, **CUT)
    assert isinstance(store, Store)
    for layer, expected in enumerate(plain_forward(model, corpus.tokens, 2)):
        np.testing.assert_array_equal(stored_bits(store, layer), expected)


def test_some_layers_from_a_disk(model: Path, corpus: Corpus, tmp_path: Path, disk: Path) -> None:
    collect(model, corpus, tmp_path / "m.zarr", layers=[1, 2], weights="resident", **CUT)
    collect(model, corpus, tmp_path / "r.zarr", layers=[1, 2], weights="streamed", spool=disk, **CUT)
    assert snapshot(tmp_path / "r.zarr") == snapshot(tmp_path / "m.zarr")


def test_weights_are_read_once_a_window(
    model: Path, corpus: Corpus, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the batches: the probe's reading is counted apart."""
    opened: list[Checkpoint] = []
    monkeypatch.setattr(
        "neurolens.collect.Checkpoint", lambda *a, **k: opened.append(Checkpoint(*a, **k)) or opened[-1]
    )
    layers = sum(t.nbytes for n, t in Checkpoint(model).mapped(_names(model, inside=True)))
    elsewhere = sum(t.nbytes for n, t in Checkpoint(model).mapped(_names(model, inside=False)))
    ways: list[tuple[int, dict[str, Any]]] = [
        (3, {"window_tokens": 2 * BATCH}),
        (1, {"window_tokens": 6 * BATCH}),
        (1, {"spool": disk}),
    ]
    for times, how in ways:
        collect(model, corpus, tmp_path / f"{len(opened)}.zarr", weights="streamed", **CUT, **how)
        assert opened[-1].bytes_read == elsewhere + times * layers


def _names(model: Path, *, inside: bool) -> list[str]:
    names = Decoder.load(Checkpoint(model))._model.state_dict()
    return [name for name in names if name.startswith("decoder.layers.") == inside]


# -- what is kept of the bits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spool", ["memory", "disk"])
@pytest.mark.parametrize("weights", ["resident", "streamed"])
@pytest.mark.parametrize("keep", ["none", "sparse"])
def test_results_are_those_of_kept_bits(
    model: Path, corpus: Corpus, analysed: Path, tmp_path: Path, disk: Path, keep: str, weights: str, spool: str
) -> None:
    path = tmp_path / "r.zarr"
    place = disk if spool == "disk" else "memory"
    collect(model, corpus, path, weights=weights, spool=place, keep_bitmaps=keep, **CUT)
    assert set(open_run(path).parts) == {"dead", "ngrams", "positions"}
    assert beside(path) == {"r.zarr.log"} and list(disk.iterdir()) == []
    analyze_run(path)
    assert results(path) == results(analysed)
    assert any("/active/" in name for name in snapshot(path)) == (keep == "sparse")


def test_dropped_bits_are_not_taken_for_silence(model: Path, corpus: Corpus, analysed: Path, tmp_path: Path) -> None:
    """`sparse` keeps the rare ones bit for bit, and says of the others that they are gone."""
    path = tmp_path / "r.zarr"
    collect(model, corpus, path, keep_bitmaps="sparse", **CUT)
    run, before = open_run(path), open_run(analysed)
    frequency = before.neurons["frequency"]
    kept = np.stack([run.store.kept(layer) for layer in range(LAYERS)])
    np.testing.assert_array_equal(kept, frequency <= 0.01)
    assert 0 < kept.sum() < kept.size and (frequency[kept] > 0).any()
    layer, neuron = np.argwhere(kept & (frequency > 0))[0]
    np.testing.assert_array_equal(run.active(layer, neuron), before.active(layer, neuron))
    layer, neuron = np.argwhere(~kept)[0]
    with pytest.raises(NeurolensError, match=f"neuron {layer}.{neuron} were dropped once they were counted"):
        run.active(layer, neuron)
    assert run.neuron(layer, neuron).to_dict()["frequency"] == frequency[layer, neuron]
    with pytest.raises(NeurolensError, match="the bits of layer 0, 1, 2, 3 were dropped"):
        analyze_run(path, lengths=2)
    assert results(path) == results(path) and set(run.parts) == {"dead", "ngrams", "positions"}


@pytest.mark.parametrize("keep", ["none", "sparse"])
def test_the_same_command_again_does_nothing(model: Path, corpus: Corpus, tmp_path: Path, keep: str) -> None:
    path = tmp_path / "r.zarr"
    collect(model, corpus, path, keep_bitmaps=keep, **CUT)
    before, said = snapshot(path), list[str]()
    collect(model, corpus, path, say=said.append)  # what is kept: the run's
    assert "nothing to do" in said[-1] and snapshot(path) == before
    with pytest.raises(UsageError, match=f"its keep_bitmaps is {keep}, this command's all"):
        collect(model, corpus, path, keep_bitmaps="all")


def test_at_most_one_layer_of_bits_is_there(
    model: Path, corpus: Corpus, whole: Path, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, put, path = [], Committer.put, tmp_path / "r.zarr"

    def looking(self: Any, *args: Any) -> None:
        put(self, *args)
        self.drain()
        with_bits = {file.parts[-5] for file in path.rglob("layers/*/active/c/*/*") if file.is_file()}
        seen.append(len(with_bits))

    monkeypatch.setattr(Committer, "put", looking)
    collect(model, corpus, path, weights="streamed", spool=disk, keep_bitmaps="none", **CUT)
    assert seen == [1] * BLOCKS * LAYERS


# -- stopped and continued ---------------------------------------------------------------------------------------------

WAYS: list[dict[str, Any]] = [
    {"weights": weights, "spool": spool, "keep_bitmaps": keep}
    for weights, spool, keep in itertools.product(["resident", "streamed"], ["memory", "disk"], ["all", "none"])
]


@pytest.mark.parametrize("commits", [7, 13])  # within the second layer, or the second block; later
@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(way.values()))
def test_stopped_and_continued(
    model: Path,
    corpus: Corpus,
    whole: Path,
    analysed: Path,
    tmp_path: Path,
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: dict[str, Any],
    commits: int,
) -> None:
    path, options = tmp_path / "r.zarr", {**CUT, **way, "spool": disk if way["spool"] == "disk" else "memory"}
    with monkeypatch.context() as patched:
        stop_after(commits, patched)
        with pytest.raises(KeyboardInterrupt):
            collect(model, corpus, path, **options)
    assert Store.open(path).progress().sum() == commits
    computed, said = counted_blocks(monkeypatch), list[str]()
    collect(model, corpus, path, say=said.append, **options)
    again = [line for line in said if "go through up to" in line]
    if way["spool"] == "disk":  # nothing but what was not committed is computed
        assert len(computed) == BLOCKS * LAYERS - commits and again == []
    else:
        assert again
    assert beside(path) == {"r.zarr.log"} and list(disk.iterdir()) == []
    if way["keep_bitmaps"] == "all":
        assert snapshot(path) == snapshot(whole)
    else:
        analyze_run(path)
        assert results(path) == results(analysed)


def counted_blocks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(block, layer) of each block that goes through a layer from now on."""
    seen: list[tuple[int, int]] = []
    put = Committer.put

    def counting(self: Any, block: Any, layer: int, *rest: Any) -> None:
        seen.append((block.index, layer))
        put(self, block, layer, *rest)

    monkeypatch.setattr(Committer, "put", counting)
    return seen


@pytest.mark.parametrize(
    ("keep", "stage"),
    [
        ("sparse", "scan"),
        ("none", "save_scan"),
        ("sparse", "save_scan"),
        ("none", "drop_bits"),
        ("sparse", "thin_bits"),
        ("none", "write_scans"),
        ("sparse", "write_scans"),
        ("none", "mark"),
    ],
)
def test_stopped_while_a_layer_is_counted(
    model: Path, corpus: Corpus, analysed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str, stage: str
) -> None:
    """Before and after each step of what becomes of a layer, and of the results at the end."""
    path, homes = (
        tmp_path / "r.zarr",
        {"scan": "scanner.Scanner", "thin_bits": "store.Store", "drop_bits": "store.Store"},
    )
    collect(model, corpus, tmp_path / "undisturbed.zarr", keep_bitmaps=keep, **CUT)
    for after, wanted in ((False, 1), (True, 2)):
        with monkeypatch.context() as patched:
            stop_at(patched, f"neurolens.{homes.get(stage, 'keep')}.{stage}", wanted, after=after)
            with pytest.raises(KeyboardInterrupt) if stage != "write_scans" or wanted < 2 else nullcontext():
                collect(model, corpus, path, keep_bitmaps=keep, **CUT)
    collect(model, corpus, path, keep_bitmaps=keep, **CUT)
    assert snapshot(path) == snapshot(tmp_path / "undisturbed.zarr")
    assert beside(path) == {"r.zarr.log"}


def stop_at(patched: pytest.MonkeyPatch, name: str, wanted: int, *, after: bool) -> None:
    """Raise KeyboardInterrupt before or after a function is called for the so-manieth time."""
    home, _, function = name.rpartition(".")
    from pydoc import locate

    owner: Any = locate(home)
    call, seen = getattr(owner, function), []

    def stopping(*args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        if len(seen) == wanted and not after:
            raise KeyboardInterrupt
        result = call(*args, **kwargs)
        if len(seen) == wanted:
            raise KeyboardInterrupt
        return result

    patched.setattr(owner, function, stopping)


def test_counts_that_are_lost_are_collected_again(
    model: Path, corpus: Corpus, analysed: Path, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers whose bits were dropped and whose counts somebody has removed, or damaged."""
    path, way = tmp_path / "r.zarr", {**CUT, "weights": "streamed", "spool": disk, "keep_bitmaps": "none"}
    with monkeypatch.context() as patched:
        stop_after(3 * BLOCKS + 1, patched)
        with pytest.raises(KeyboardInterrupt):
            collect(model, corpus, path, **way)
    scans = sorted((tmp_path / "r.zarr.scans").iterdir())
    assert [scan.name for scan in scans] == ["00.npz", "01.npz", "02.npz"]
    scans[0].unlink()
    data = bytearray(scans[1].read_bytes())
    data[len(data) // 2] ^= 1
    scans[1].write_bytes(data)
    said: list[str] = []
    collect(model, corpus, path, say=said.append, **way)
    for layer in (0, 1):
        assert any(line.startswith(f"layer {layer} has neither all of its bits nor") for line in said)
    analyze_run(path)
    assert results(path) == results(analysed)


# -- a spool that is not as it was left --------------------------------------------------------------------------------


@pytest.fixture
def stopped(model: Path, corpus: Corpus, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped in its third layer, states on the disk."""
    with monkeypatch.context() as patched:
        stop_after(2 * BLOCKS + 3, patched)
        with pytest.raises(KeyboardInterrupt):
            collect(model, corpus, tmp_path / "r.zarr", weights="streamed", spool=disk, **CUT)
    return tmp_path / "r.zarr"


def slots(disk: Path) -> dict[int, list[tuple[int, Path]]]:
    """By block: (layers, file) of the slots that describe themselves, latest first."""
    found: dict[int, list[tuple[int, Path]]] = {}
    for path in sorted(disk.glob("*/slot-*.json")):
        entry = json.loads(path.read_text())
        found.setdefault(entry["block"], []).append((entry["layers"], path.with_suffix("")))
    return {block: sorted(held, reverse=True) for block, held in sorted(found.items())}


def test_a_slot_more_than_blocks_at_any_time(stopped: Path, disk: Path) -> None:
    held = slots(disk)
    assert [held[block][0][0] for block in range(BLOCKS)] == [3, 3, 3, 2, 2, 2]
    files = [path for path in disk.glob("*/slot-*") if not path.suffix]
    assert len(files) == BLOCKS + 2
    assert {path.stat().st_size for path in files} == {4 * POSITIONS * 32 * 4}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


HARMS: dict[str, Callable[[Path], object]] = {
    "a bit": flip,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "gone": Path.unlink,
    "undescribed": lambda path: path.with_suffix(".json").unlink(),
    "nonsense": lambda path: path.with_suffix(".json").write_text('{"block": 1, "layers": "x"}'),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_block_goes_through_its_layers_again(
    model: Path,
    corpus: Corpus,
    whole: Path,
    stopped: Path,
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    harm: str,
) -> None:
    """From the latest state before that is sound, or from its text; the other blocks from where they were."""
    held = slots(disk)
    for _, path in held[1]:
        HARMS[harm](path)
    HARMS[harm](held[4][0][1])
    older = [layers for layers, _ in held[4][1:]]
    computed, said = counted_blocks(monkeypatch), list[str]()
    collect(model, corpus, stopped, weights="streamed", spool=disk, say=said.append, **CUT)
    assert snapshot(stopped) == snapshot(whole)
    again = [layer for block, layer in computed if block == 4]
    assert again == list(range(older[0] if older else 0, LAYERS))
    assert [layer for block, layer in computed if block == 1] == list(range(LAYERS))
    assert [layer for block, layer in computed if block == 0] == [3]
    if harm in ("a bit", "cut", "gone"):
        assert any("the states of block 4 after 2 layers are damaged" in line for line in said)
    assert list(disk.iterdir()) == []


def test_a_spool_that_is_gone(
    model: Path, corpus: Corpus, whole: Path, stopped: Path, disk: Path, tmp_path: Path
) -> None:
    shutil.rmtree(disk / "r.zarr.spool")
    collect(model, corpus, stopped, weights="streamed", spool=disk, **CUT)
    assert snapshot(stopped) == snapshot(whole)


def test_marks_that_are_taken_back_reach_further_back_than_the_spool(
    model: Path, corpus: Corpus, whole: Path, stopped: Path, disk: Path
) -> None:
    """Block 0 has states after three layers, and its first layer must be done again."""
    store = Store.open(stopped, write=True)
    wanted = store.progress()
    wanted[0, 0] = False
    store.unmark(wanted)
    collect(model, corpus, stopped, weights="streamed", spool=disk, **CUT)
    assert snapshot(stopped) == snapshot(whole)


def test_states_of_another_run_are_not_taken(model: Path, stopped: Path, disk: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    before = snapshot(disk)
    with pytest.raises(NeurolensError, match="holds hidden states of another run; give another --spool, or remove it"):
        collect(model, random_corpus(SEQUENCES, seed=1), tmp_path / "elsewhere/r.zarr", spool=disk, **CUT)
    assert snapshot(disk) == before


def test_a_spool_in_use(model: Path, corpus: Corpus, stopped: Path, disk: Path) -> None:
    import fcntl

    handle = os.open(disk / "r.zarr.spool", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(NeurolensError, match=r"the spool .* is in use by another process; wait"):
            collect(model, corpus, stopped, weights="streamed", spool=disk, **CUT)
    finally:
        os.close(handle)
    collect(model, corpus, stopped, weights="streamed", spool=disk, **CUT)  # a lock ends with its process


# -- disks that are full, or closed ------------------------------------------------------------------------------------


def test_no_room_for_the_spool(
    model: Path, corpus: Corpus, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken beforehand, so that it cannot run out on the way; the run is made all the same, and goes on elsewhere."""

    def full(file: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(IncompleteError, match=r"No space left .* free, it takes 0\.00 GB\); make room, or"):
            collect(model, corpus, tmp_path / "r.zarr", weights="streamed", spool=disk, **CUT)
    assert list((disk / "r.zarr.spool").iterdir()) == []
    collect(model, corpus, tmp_path / "r.zarr", weights="streamed", spool=disk, **CUT)
    assert Store.open(tmp_path / "r.zarr").progress().all()


def test_a_disk_that_fails_on_the_way(
    model: Path, corpus: Corpus, whole: Path, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, seen = os.pwrite, []

    def failing(file: int, data: Any, offset: int) -> int:
        seen.append(1)
        if len(seen) > 17:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[: max(1, len(data) // 2)], offset)  # and writes less than it is asked to

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", failing)
        with pytest.raises(IncompleteError, match=r"cannot write the spool .*it continues"):
            collect(model, corpus, tmp_path / "r.zarr", weights="streamed", spool=disk, **CUT)
    collect(model, corpus, tmp_path / "r.zarr", weights="streamed", spool=disk, **CUT)
    assert snapshot(tmp_path / "r.zarr") == snapshot(whole)


def test_a_commit_that_fails_frees_no_states(
    model: Path, corpus: Corpus, whole: Path, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of the thread that commits is the one that is raised, and the run continues."""
    mark, seen = Store.mark, []

    def failing(self: Store, *args: Any) -> None:
        seen.append(1)
        if len(seen) == 9:
            raise IncompleteError("no room for a mark")
        mark(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "mark", failing)
        with pytest.raises(IncompleteError, match="no room for a mark"):
            collect(model, corpus, tmp_path / "r.zarr", weights="streamed", spool=disk, **CUT)
    assert Store.open(tmp_path / "r.zarr").progress().sum() == 8
    computed = counted_blocks(monkeypatch)
    collect(model, corpus, tmp_path / "r.zarr", weights="streamed", spool=disk, **CUT)
    assert snapshot(tmp_path / "r.zarr") == snapshot(whole)
    assert len(computed) == BLOCKS * LAYERS - 8


def test_a_spool_that_cannot_be_made(model: Path, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NeurolensError, match=r"cannot make the spool .*; give another --spool"):
        collect(model, corpus, tmp_path / "r.zarr", spool=tmp_path / "file", **CUT)


def test_another_checkpoint_cannot_continue(
    model: Path, corpus: Corpus, stopped: Path, disk: Path, tmp_path: Path
) -> None:
    other = random_opt(tmp_path / "other", SHAPE, vocab_size=272, positions=POSITIONS, seed=1)
    before = snapshot(stopped), snapshot(disk)
    with pytest.raises(UsageError, match="another run: its checkpoint is"):
        collect(other, corpus, stopped, weights="streamed", spool=disk, **CUT)
    assert (snapshot(stopped), snapshot(disk)) == before


def test_a_newer_schema_is_refused(model: Path, corpus: Corpus, stopped: Path) -> None:
    metadata = json.loads((stopped / "zarr.json").read_text())
    metadata["attributes"]["schema"] = 2
    (stopped / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(NeurolensError, match="has schema 2, this neurolens reads up to 1; update neurolens"):
        collect(model, corpus, stopped, **CUT)


# -- hidden states of another process ----------------------------------------------------------------------------------


def test_a_layer_can_be_called_before_anything_was_embedded(model: Path) -> None:
    """Masks and positions are those of HF's own forward, also where another process has embedded."""
    ids = torch.from_numpy(random_corpus(3).tokens).long()
    first, second = Decoder.load(Checkpoint(model)), Decoder.load(Checkpoint(model))
    hidden = first.embed(ids)
    (_, call), (_, other) = next(first.layers(1)), next(second.layers(1))
    assert torch.equal(call(hidden)[0], other(hidden)[0])
