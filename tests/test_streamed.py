"""Streamed weights: the same bytes as resident ones, read once a block, two layers in memory; nothing stays behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import POSITIONS, snapshot
from safetensors.torch import load_file, save_file
from test_checkpoint import DTYPES, rewrite, tokens
from test_collect import BATCH, random_corpus, stop_after

from neurolens import NeurolensError, UsageError
from neurolens.checkpoint import Checkpoint
from neurolens.cli import run as neurolens
from neurolens.collect import collect
from neurolens.decoder import Decoder, shape_of
from neurolens.plan import OVERHEAD
from neurolens.planner import make_plan
from neurolens.store import Store
from neurolens.stream import Copy
from neurolens.testing import random_opt

LAYERS = 5
SHAPE = {"hidden_size": 32, "ffn_dim": 72, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
SAVE: dict[str, Callable[[Any, Path], object]] = {"safetensors": save_file, "bin": torch.save}


@pytest.fixture(scope="module")
def deep_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OPT of 5 layers."""
    return random_opt(tmp_path_factory.mktemp("deep") / "model", SHAPE, vocab_size=272, positions=POSITIONS)


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    yield
    assert readers() == []


def readers() -> list[str]:
    """The threads that read weights."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("weights")]


def layer_of(name: str) -> int | None:
    parts = name.removeprefix("model.").split(".")
    return int(parts[2]) if parts[1] == "layers" else None


def weights_of(model: Path) -> dict[str, torch.Tensor]:
    return {name: value for name, value in load_file(model / "model.safetensors").items() if "decoder." in name}


def size(weights: dict[str, torch.Tensor], layer: int | None) -> int:
    """Bytes of a layer's tensors, or of those that are no layer's."""
    return sum(value.nbytes for name, value in weights.items() if layer_of(name) == layer)


def sharded_by_layer(model: Path, folder: Path, suffix: str = "safetensors", dtype: str = "fp32") -> Path:
    """A copy of a checkpoint with a shard for each layer, and one for what is not a layer."""
    stem = {"safetensors": "model", "bin": "pytorch_model"}[suffix]
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    shards: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in weights_of(model).items():
        shards.setdefault(f"{stem}-{layer_of(name)}.{suffix}", {})[name] = value.to(DTYPES[dtype])
    for shard, weights in shards.items():
        SAVE[suffix](weights, folder / shard)
    home = {name: shard for shard, weights in shards.items() for name in weights}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": home}))
    return folder


def collected(model: Path, output: Path, weights: str, **options: Any) -> dict[str, bytes]:
    """All files of a run of several blocks."""
    cut: dict[str, Any] = {"batch_tokens": BATCH, "block_tokens": BATCH, "window_tokens": BATCH}
    collect(model, random_corpus(11), output, weights=weights, **cut | options)
    return snapshot(output)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


# -- the same bytes ----------------------------------------------------------------------------------------------------

CASES = [
    ("tiny_model", "safetensors", "fp32", "fp32"),
    ("post_ln_model", "sharded safetensors", "fp32", "fp32"),
    ("tiny_model", "sharded bin", "fp32", "fp32"),
    ("post_ln_model", "bin", "fp32", "fp32"),
    ("tiny_model", "legacy bin", "fp32", "fp32"),
    ("tiny_model", "sharded safetensors", "fp16", "fp32"),
    ("post_ln_model", "sharded bin", "bf16", "bf16"),
    ("tiny_model", "bin", "fp16", "fp16"),
    ("post_ln_model", "safetensors", "fp32", "bf16"),
]


@pytest.mark.parametrize(("norm", "layout", "stored", "dtype"), CASES)
def test_a_streamed_run_is_the_resident_run(
    request: pytest.FixtureRequest, tmp_path: Path, norm: str, layout: str, stored: str, dtype: str
) -> None:
    model = rewrite(request.getfixturevalue(norm), tmp_path / "m", layout, dtype=stored)
    resident = collected(model, tmp_path / "resident.zarr", "resident", dtype=dtype)
    assert collected(model, tmp_path / "streamed.zarr", "streamed", dtype=dtype) == resident
    store = Store.open(tmp_path / "streamed.zarr")
    assert store.progress().all() and len(store.blocks) == 3
    assert all(0.01 < np.bitwise_count(store.read(f"layers/{n:02d}/active")).mean() / 8 < 0.99 for n in store.layers)


def test_some_layers_only(deep_model: Path, tmp_path: Path) -> None:
    resident = collected(deep_model, tmp_path / "resident.zarr", "resident", layers=[0, 2])
    assert collected(deep_model, tmp_path / "streamed.zarr", "streamed", layers=[0, 2]) == resident


def test_a_run_continues_the_other_way(deep_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, path = collected(deep_model, tmp_path / "whole.zarr", "resident"), tmp_path / "r.zarr"
    for weights, commits, done in (("streamed", 2, 2), ("resident", 4, 6), ("streamed", 5, 11)):
        with monkeypatch.context() as patched:
            stop_after(commits, patched)
            with pytest.raises(KeyboardInterrupt):
                collected(deep_model, path, weights)
        assert Store.open(path).progress().sum() == done and readers() == []
    assert collected(deep_model, path, "streamed") == whole


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", ["fp32", "fp16"])
@pytest.mark.parametrize("weights", ["resident", "streamed"])
def test_weights_are_read_once_a_block(
    deep_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, stored: str
) -> None:
    model, opened = sharded_by_layer(deep_model, tmp_path / "m", dtype=stored), []
    monkeypatch.setattr("neurolens.collect.Checkpoint", lambda *a, **k: opened.append(Checkpoint(*a, **k)) or opened[0])
    collected(model, tmp_path / "all.zarr", weights)
    held, width = weights_of(deep_model), {"fp32": 1, "fp16": 2}[stored]
    elsewhere, layers = size(held, None) // width, [size(held, n) // width for n in range(LAYERS)]
    assert min(layers) > 0 and elsewhere > 0
    (checkpoint,) = opened
    assert checkpoint.bytes_read == elsewhere + {"resident": 1, "streamed": 3}[weights] * sum(layers)

    opened.clear()
    collected(model, tmp_path / "some.zarr", weights, layers=[1])
    assert opened[0].bytes_read == elsewhere + (3 * sum(layers[:2]) if weights == "streamed" else sum(layers))


def test_loading_reads_no_layer_and_a_pass_only_those_it_goes_through(deep_model: Path) -> None:
    held, checkpoint = weights_of(deep_model), Checkpoint(deep_model)
    assert checkpoint.bytes_read == 0
    decoder = Decoder.load(checkpoint, streamed=True)
    assert checkpoint.bytes_read == size(held, None)
    with closing(decoder.layers(LAYERS)):
        pass  # nothing is asked for
    for number, _ in decoder.layers(2):
        assert number < 2
    assert checkpoint.bytes_read == size(held, None) + size(held, 0) + size(held, 1)
    assert list(decoder.layers(0)) == []


def test_only_files_with_a_tensor_that_is_wanted_are_opened(deep_model: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(sharded_by_layer(deep_model, tmp_path / "m"))
    (tmp_path / "m/model-3.safetensors").write_bytes(b"torn")
    names = [name.removeprefix("model.") for name in weights_of(deep_model) if layer_of(name) == 2]
    assert sorted(name for name, _ in checkpoint.tensors(names)) == sorted(names) != []


class Alive:
    """Bytes of the weights that were placed and are not freed, whoever holds them; and how they came."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = self.most = self.placed = 0
        self.pause = 0.0
        self._lock = threading.RLock()  # freed by whichever thread lets go, perhaps while counting
        place = Copy.place

        def counted(mover: Copy, tensor: torch.Tensor) -> torch.Tensor:
            array = place(mover, tensor).numpy().copy()
            weakref.finalize(array, self._count, -array.nbytes)  # a Parameter shares its memory, not the tensor
            self._count(array.nbytes)
            self.placed += 1
            time.sleep(self.pause)
            return torch.from_numpy(array)

        monkeypatch.setattr(Copy, "place", counted)

    def _count(self, change: int) -> None:
        with self._lock:
            self.bytes += change
            self.most = max(self.most, self.bytes)


def mapped(folder: Path) -> list[str]:
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
@pytest.mark.parametrize("suffix", SAVE)
def test_two_layers_are_in_memory_and_no_file_is(
    deep_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """While a layer is used the next one is read, and no other; files are closed before either is used."""
    folder = sharded_by_layer(deep_model, tmp_path / "m", suffix)
    decoder = Decoder.load(Checkpoint(folder), streamed=True)
    assert mapped(folder) == []
    alive, layer = Alive(monkeypatch), size(weights_of(deep_model), 0)
    for _ in range(2):  # blocks
        for number, _ in decoder.layers(LAYERS):
            due = min(2, LAYERS - number)
            wait_for(lambda due=due: alive.bytes == due * layer and mapped(folder) == [])
            time.sleep(0.02)  # for one that reads on
            assert alive.bytes == due * layer and len(readers()) == 1
            where = [{str(value.device) for value in module.parameters()} for module in decoder._layers]
            assert where == [{"cpu"} if other == number else {"meta"} for other in range(LAYERS)]
        assert alive.bytes == 0
    assert alive.most == 2 * layer and alive.placed == 2 * len(weights_of(deep_model)) - 2 * 4
    assert mapped(folder) == []


# -- whatever happens, the thread ends ---------------------------------------------------------------------------------


def started(deep_model: Path) -> Generator[Any]:
    """The layers of a streamed decoder, the first one asked for."""
    decoder = Decoder.load(Checkpoint(deep_model), streamed=True)
    decoder.embed(tokens())
    layers = decoder.layers(LAYERS)
    assert readers() == []
    next(layers)
    assert len(readers()) == 1
    return layers


def test_the_thread_ends_with_the_last_layer(deep_model: Path) -> None:
    layers = started(deep_model)
    assert [number for number, _ in layers] == [1, 2, 3, 4]
    assert readers() == []  # and `layers` is still there


@pytest.mark.parametrize("passed", [0, 2])
@pytest.mark.parametrize("end", ["close", "forget", KeyboardInterrupt, ValueError])
def test_the_thread_ends_and_nothing_is_held_when_the_consumer_stops(
    deep_model: Path, monkeypatch: pytest.MonkeyPatch, end: Any, passed: int
) -> None:
    decoder = Decoder.load(Checkpoint(deep_model), streamed=True)
    alive, layers = Alive(monkeypatch), decoder.layers(LAYERS)
    for _ in range(passed + 1):
        next(layers)
    assert alive.bytes > 0 and len(readers()) == 1
    if end == "close":
        layers.close()
    elif end == "forget":
        del layers
    else:
        with pytest.raises(end):
            layers.throw(end())
    assert readers() == [] and alive.bytes == 0
    assert all(value.is_meta for value in decoder._layers.parameters())
    assert [number for number, _ in decoder.layers(LAYERS)] == [0, 1, 2, 3, 4]  # and it can be used again


def test_a_layer_nobody_waits_for_is_not_read_to_its_end(deep_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, names = Decoder.load(Checkpoint(deep_model), streamed=True), len(weights_of(deep_model)) - 4
    alive = Alive(monkeypatch)
    layers = decoder.layers(LAYERS)
    next(layers)
    alive.pause = 0.05
    wait_for(lambda: alive.placed > names // LAYERS)
    layers.close()
    assert alive.placed < 2 * names // LAYERS and alive.bytes == 0


def test_the_loop_of_collect_ends_it(deep_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever still holds the loop's frame, the exception among them."""
    stop_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt) as caught:
        collected(deep_model, tmp_path / "r.zarr", "streamed")
    assert readers() == [] and caught.tb is not None


def test_ctrl_c_while_a_layer_is_awaited(deep_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals go to the main thread")
    decoder, place, main = Decoder.load(Checkpoint(deep_model), streamed=True), Copy.place, threading.get_ident()
    placed = []

    def interrupting(mover: Copy, tensor: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        placed.append(1)
        if len(placed) == 5:
            signal.pthread_kill(main, signal.SIGINT)
        return place(mover, tensor)

    monkeypatch.setattr(Copy, "place", interrupting)
    layers = decoder.layers(LAYERS)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            next(layers)
    finally:
        signal.signal(signal.SIGINT, before)
    assert readers() == [] and len(placed) < 10


# -- weights that cannot be read ---------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("harm", [truncate, Path.unlink])
@pytest.mark.parametrize("suffix", SAVE)
def test_a_shard_that_is_lost_on_the_way(
    deep_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, harm: Callable[[Path], None]
) -> None:
    """One line, the layers before it are there, and once it is repaired the same command continues."""
    from neurolens.committer import Committer

    model, path = sharded_by_layer(deep_model, tmp_path / "m", suffix), tmp_path / "r.zarr"
    whole = collected(model, tmp_path / "whole.zarr", "resident")
    shard = next(model.glob(f"*-3.{suffix}"))
    sound, put = shard.read_bytes(), Committer.put

    def harming(self: Any, block: Any, layer: int, *rest: Any) -> None:
        if (block.index, layer) == (1, 0):
            harm(shard)
        put(self, block, layer, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Committer, "put", harming)
        with pytest.raises(NeurolensError, match=f"{shard.name} is not a sound .*; fetch it again") as caught:
            collected(model, path, "streamed")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert readers() == []
    marks = Store.open(path).progress()
    assert marks.sum() == 8 and marks[:, 0].all() and marks[:3, 1].all()
    shard.write_bytes(sound)
    assert collected(model, path, "streamed") == whole


def harmed(model: Path, change: Callable[[dict[str, torch.Tensor], str], None]) -> str:
    """Change a tensor of the last layer but one; its name."""
    path = model / "model-3.safetensors"
    weights = {name: value.clone() for name, value in load_file(path).items()}
    name = "model.decoder.layers.3.fc1.weight"
    change(weights, name)
    save_file(weights, path)
    return name.removeprefix("model.")


def take(weights: dict[str, torch.Tensor], name: str) -> None:
    del weights[name]


def cut(weights: dict[str, torch.Tensor], name: str) -> None:
    weights[name] = weights[name][:-1]


def quantise(weights: dict[str, torch.Tensor], name: str) -> None:
    weights[name] = weights[name].to(torch.int8)


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        (take, "lacks tensor", "cannot be read"),
        (cut, "has shape", "has shape"),
        (quantise, "not quantised", "not quantised"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    deep_model: Path, tmp_path: Path, change: Callable[..., None], before: str, after: str
) -> None:
    """When loading, as with resident weights and before anything is read; or when it is due, if it was another then."""
    model = sharded_by_layer(deep_model, tmp_path / "m")
    decoder = Decoder.load(Checkpoint(model), streamed=True)
    name = harmed(model, change)
    seen = []
    with pytest.raises(NeurolensError, match=f"{name}.*{after}|{after}.*{name}"):
        for number, _ in decoder.layers(LAYERS):
            seen.append(number)
    assert seen == [0, 1, 2] and readers() == []
    lines = []
    for streamed in (False, True):
        checkpoint = Checkpoint(model)
        with pytest.raises(NeurolensError, match=before) as caught:
            Decoder.load(checkpoint, streamed=streamed)
        lines.append(str(caught.value))
    assert lines[0] == lines[1] and name in lines[0]
    assert checkpoint.bytes_read == 0


# -- the plan ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["tiny_model", "post_ln_model"])
def test_a_shape_counts_every_parameter(request: pytest.FixtureRequest, norm: str) -> None:
    model: Path = request.getfixturevalue(norm)
    shape, held = shape_of(Checkpoint(model)), weights_of(model)
    assert shape.parameters_per_layer == size(held, 2) // 4
    assert shape.parameters_elsewhere == size(held, None) // 4
    assert shape.bytes_per_stored_value == 4


@pytest.mark.parametrize(("said", "width"), [("float16", 2), ("torch.bfloat16", 2), ("float64", 8), (None, 4)])
def test_stored_bytes_are_what_the_configuration_says(tiny_model: Path, said: str | None, width: int) -> None:
    checkpoint = Checkpoint(tiny_model)
    checkpoint.config = {**checkpoint.config, "dtype": None, "torch_dtype": said}
    assert shape_of(checkpoint).bytes_per_stored_value == width


def test_the_plan_says_what_streaming_takes(tiny_model: Path) -> None:
    checkpoint = Checkpoint(tiny_model)
    checkpoint.config = {**checkpoint.config, "dtype": "float16"}
    shape, corpus = shape_of(checkpoint), (11, POSITIONS)
    layer = shape.parameters_per_layer
    cut: dict[str, Any] = {"batch_tokens": BATCH, "block_tokens": BATCH, "window_tokens": BATCH}
    resident, streamed = (make_plan(shape, corpus, weights=kind, **cut) for kind in ("resident", "streamed"))
    assert resident.memory_bytes - streamed.memory_bytes == (3 - 2) * layer * 4 - layer * 2
    assert streamed.weight_bytes_per_window == 3 * layer * 2 and resident.weight_bytes_per_window == 0
    assert make_plan(shape, corpus, weights="streamed", layers=[1], **cut).weight_bytes_per_window == 2 * layer * 2
    assert "weights streamed, 0.00 GB read for each of 3 windows" in " ".join(streamed.lines())
    assert "weights resident" in " ".join(resident.lines())
    assert streamed.facts()["weights"] == "streamed" and resident.facts()["weights"] == "resident"


def test_the_plan_of_a_large_model_holds_two_layers() -> None:
    from neurolens.decoder import Shape

    shape = Shape(64, 36864, 9216, 2048, 1_019_000_000, 480_000_000, 2)  # 66b
    cut: dict[str, Any] = {"dtype": "fp16", "batch_tokens": 2048, "block_tokens": 2048}
    streamed = make_plan(shape, (1, 2048), weights="streamed", **cut)
    assert 7e9 < streamed.memory_bytes - OVERHEAD < 8e9
    assert 130e9 < make_plan(shape, (1, 2048), **cut).memory_bytes < 133e9
    assert "weights streamed, 130.43 GB read once" in " ".join(streamed.lines())


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_streams(
    tiny_model: Path, tmp_path: Path, write_jsonl: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_jsonl("text.jsonl", ["some text " * 60])
    command = ["collect", str(tiny_model), str(data), "--json", "-o"]
    assert neurolens([*command, str(tmp_path / "r.zarr"), "--weights", "resident"]) == 0
    assert "weights resident" in capsys.readouterr().err
    assert neurolens([*command, str(tmp_path / "s.zarr"), "--weights", "streamed"]) == 0
    assert "weights streamed" in capsys.readouterr().err
    assert snapshot(tmp_path / "s.zarr") == snapshot(tmp_path / "r.zarr")
    assert neurolens([*command, str(tmp_path / "s.zarr"), "--weights", "streamed", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["weights"] == "streamed"
    assert neurolens([*command, str(tmp_path / "t.zarr"), "--weights", "other"]) == 2


def test_other_weights_are_refused_before_anything_is_written(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown weights 'lazy'; expected resident or streamed"):
        collect(tiny_model, random_corpus(4), tmp_path / "r.zarr", weights="lazy")
    assert list(tmp_path.iterdir()) == []


# -- a GPU, and one that is played -------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_gpu_is_filled_beside_what_it_computes(deep_model: Path, tmp_path: Path, dtype: str) -> None:
    resident = collected(deep_model, tmp_path / "resident.zarr", "resident", dtype=dtype, device="cuda")
    assert collected(deep_model, tmp_path / "streamed.zarr", "streamed", dtype=dtype, device="cuda") == resident


class Played:
    """Streams and events of CUDA, as a list of what is asked of them."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def note(self, name: str, result: Any = None) -> Callable[..., Any]:
        return lambda *_, **__: self.calls.append(name) or result

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        empty = torch.empty
        names = ("synchronize", "record_event", "wait_event")
        stream: Any = type("Stream", (), {name: self.note(name) for name in names})()
        monkeypatch.setattr(torch, "empty", lambda *size, pin_memory, **options: empty(*size, **options))
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda entered: nullcontext())
        monkeypatch.setattr(torch.Tensor, "record_stream", self.note("record_stream"))


def test_the_way_to_a_gpu_is_that_of_every_layer(deep_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One buffer, which is waited for before it is filled again; computing waits for copies; the weights are those of
    the checkpoint. The device is the CPU, streams are played: what they do to time is not shown."""
    from neurolens.stream import SideStream

    played, decoder = Played(), Decoder.load(Checkpoint(deep_model), streamed=True)
    played.patch(monkeypatch)
    stream, held = decoder._stream, weights_of(deep_model)
    assert stream is not None
    most = max(value.numel() for value in held.values())
    stream._mover = SideStream(torch.device("cpu"), torch.float32, most)
    seen = 0
    for number, module in stream.layers(LAYERS):
        for name, value in module.state_dict().items():
            assert torch.equal(value, held[f"model.decoder.layers.{number}.{name}"])
            seen += 1
    assert seen == len(held) - 4
    assert played.calls.count("synchronize") == seen == played.calls.count("record_stream")
    assert played.calls.count("record_event") == LAYERS == played.calls.count("wait_event")
