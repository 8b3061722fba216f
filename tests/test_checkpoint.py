"""Checkpoints in every layout: the same bits; torn or hostile ones: one line, and nothing in them runs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import POSITIONS
from safetensors.torch import load_file, save_file
from transformers import OPTForCausalLM

from neurolens import NeurolensError
from neurolens.checkpoint import Checkpoint
from neurolens.decoder import Decoder, default_dtype

Weights = dict[str, torch.Tensor]


def tokens() -> torch.Tensor:
    ids = torch.randint(4, 260, (3, POSITIONS), generator=torch.Generator().manual_seed(5))
    ids[:, 0] = 2
    return ids


def bits_of_neurolens(checkpoint: Checkpoint) -> list[np.ndarray]:
    """What collect records, by layer, packed along neurons."""
    decoder = Decoder.load(checkpoint)
    hidden, rows = decoder.embed(tokens()), []
    for _, layer in decoder.layers(int(checkpoint.config["num_hidden_layers"])):
        hidden, active = layer(hidden)
        rows.append(active)
    return rows


def bits_of_transformers(model: Any) -> list[np.ndarray]:
    """The same from HF's own forward of a HF model, packed by numpy."""
    seen: list[np.ndarray] = []

    def record(module: Any, args: Any, output: torch.Tensor) -> None:
        flat = (output > 0).reshape(-1, output.shape[-1]).numpy()
        seen.append(np.packbits(flat, axis=1, bitorder="little"))

    for layer in model.model.decoder.layers:
        layer.activation_fn.register_forward_hook(record)
    with torch.inference_mode():
        model.eval()(tokens(), use_cache=False)
    return seen


# -- writers of layouts: weights by name into a folder ---------------------------------------------------------------


def _halves(weights: Weights) -> list[Weights]:
    names = sorted(weights)
    return [{name: weights[name] for name in part} for part in (names[::2], names[1::2])]


def _sharded(folder: Path, weights: Weights, stem: str, suffix: str, save: Callable[[Weights, Path], object]) -> None:
    home = {}
    for number, part in enumerate(_halves(weights), start=1):
        name = f"{stem}-{number:05d}-of-00002.{suffix}"
        save(part, folder / name)
        home |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 1}, "weight_map": home}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))


def _save_legacy(weights: Weights, path: Path) -> None:
    torch.save(weights, path, _use_new_zipfile_serialization=False)


LAYOUTS: dict[str, Callable[[Path, Weights], object]] = {
    "safetensors": lambda folder, weights: save_file(weights, folder / "model.safetensors"),
    "sharded safetensors": lambda folder, weights: _sharded(folder, weights, "model", "safetensors", save_file),
    "bin": lambda folder, weights: torch.save(weights, folder / "pytorch_model.bin"),
    "sharded bin": lambda folder, weights: _sharded(folder, weights, "pytorch_model", "bin", torch.save),
    "legacy bin": lambda folder, weights: _save_legacy(weights, folder / "pytorch_model.bin"),
    "sharded legacy bin": lambda folder, weights: _sharded(folder, weights, "pytorch_model", "bin", _save_legacy),
}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def rewrite(model: Path, folder: Path, layout: str, *, prefix: str = "model.", dtype: str = "fp32") -> Path:
    """A copy of a checkpoint in another layout, its names with or without a prefix, stored in another dtype."""
    weights = load_file(model / "model.safetensors")
    stored = {
        prefix + name.removeprefix("model."): value.to(DTYPES[dtype]).contiguous() for name, value in weights.items()
    }
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    LAYOUTS[layout](folder, stored)
    return folder


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prefix", ["model.", ""])
@pytest.mark.parametrize("norm", ["tiny_model", "post_ln_model"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_bits_of_transformers(
    request: pytest.FixtureRequest, tmp_path: Path, layout: str, norm: str, prefix: str, dtype: str
) -> None:
    model: Path = request.getfixturevalue(norm)
    checkpoint = Checkpoint(rewrite(model, tmp_path / "m", layout, prefix=prefix, dtype=dtype))
    assert checkpoint.config["vocab_size"] > len(checkpoint.tokenizer())  # padded
    plain: Any = OPTForCausalLM.from_pretrained(model, attn_implementation="sdpa").float()
    plain.to(DTYPES[dtype]).float()  # what the stored numbers are worth
    expected, found = bits_of_transformers(plain), bits_of_neurolens(checkpoint)
    assert len(found) == 3 and 0 < np.bitwise_count(np.stack(found)).mean() < 8
    assert all((a == b).all() for a, b in zip(found, expected, strict=True))


def test_where_several_formats_are_there_the_one_is_read_that_transformers_reads(tiny_model: Path, tmp_path: Path):
    folder = rewrite(tiny_model, tmp_path / "m", "safetensors")
    for other in ("sharded safetensors", "bin", "sharded bin"):
        weights = {name: torch.zeros(1) for name in load_file(folder / "model.safetensors")}
        LAYOUTS[other](folder, weights)
    assert [path.name for path in Checkpoint(folder).files] == ["model.safetensors"]
    (folder / "model.safetensors").unlink()
    assert len(Checkpoint(folder).files) == 2


@pytest.mark.parametrize("layout", ["safetensors", "sharded safetensors", "bin", "sharded bin", "legacy bin"])
def test_the_fingerprint_tells_weights_apart_and_not_copies(tiny_model: Path, tmp_path: Path, layout: str):
    one = rewrite(tiny_model, tmp_path / "one", layout)
    shutil.copytree(one, tmp_path / "two")
    before = Checkpoint(one).fingerprint()
    assert Checkpoint(tmp_path / "two").fingerprint() == before
    weights = load_file(tiny_model / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.1.fc1.bias"))
    weights[name][3] += 1
    shutil.rmtree(one)
    shutil.copytree(tiny_model, one, ignore=shutil.ignore_patterns("*.safetensors"))
    LAYOUTS[layout](one, weights)
    if layout == "legacy bin":  # no table of checksums in it: found where a sampled page holds the change
        return
    assert Checkpoint(one).fingerprint() != before


def test_extra_tensors_and_values_do_no_harm(tiny_model: Path, tmp_path: Path):
    folder = rewrite(tiny_model, tmp_path / "m", "bin")
    weights: dict[str, Any] = torch.load(folder / "pytorch_model.bin", weights_only=True)
    weights |= {"lm_head.weight": weights["model.decoder.embed_tokens.weight"], "steps": 5, "x": torch.ones(3).int()}
    torch.save(weights, folder / "pytorch_model.bin")
    assert all(
        (a == b).all()
        for a, b in zip(bits_of_neurolens(Checkpoint(folder)), bits_of_neurolens(Checkpoint(tiny_model)), strict=True)
    )


@pytest.mark.parametrize(
    ("config", "device", "expected"),
    [
        ({"dtype": "float16"}, "cpu", "fp32"),
        ({"torch_dtype": "float16"}, "cuda", "fp16"),
        ({"dtype": "bfloat16"}, "cuda:1", "bf16"),
        ({"torch_dtype": "torch.float16"}, "cuda", "fp16"),
        ({"dtype": "float32"}, "cuda", "fp32"),
        ({"dtype": "float64"}, "cuda", "fp32"),
        ({}, "cuda", "fp32"),
    ],
)
def test_the_dtype_nobody_asked_for(config: dict, device: str, expected: str):
    assert default_dtype(config, device) == expected


# -- bad input ---------------------------------------------------------------------------------------------------------


def says(folder: Path) -> str:
    """The one line with which loading fails."""
    with pytest.raises(NeurolensError) as caught:
        checkpoint = Checkpoint(folder)
        Decoder.load(checkpoint)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 500
    return line


@pytest.mark.parametrize("keep", [0, 3, 100, 0.3, 0.9, -1, -100])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_truncated_file(tiny_model: Path, tmp_path: Path, layout: str, keep: float):
    folder = rewrite(tiny_model, tmp_path / "m", layout)
    path = Checkpoint(folder).files[-1]
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    line = says(folder)
    assert path.name in line and "not a sound" in line and "fetch it again" in line


@pytest.mark.parametrize("layout", ["sharded safetensors", "sharded bin"])
def test_index_that_names_a_missing_file(tiny_model: Path, tmp_path: Path, layout: str):
    folder = rewrite(tiny_model, tmp_path / "m", layout)
    (shard := Checkpoint(folder).files[1]).unlink()
    line = says(folder)
    assert f"has no {shard.name}" in line and ".index.json names" in line


@pytest.mark.parametrize("named", ["../elsewhere.safetensors", "/etc/passwd", "a/b.bin", "model.pkl", ".."])
def test_index_that_names_a_file_elsewhere(tiny_model: Path, tmp_path: Path, named: str):
    folder = rewrite(tiny_model, tmp_path / "m", "sharded safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": named}}))
    assert "of the same folder" in says(folder)


@pytest.mark.parametrize("index", ['{"weight_map": {}}', '{"weight_map": [1]}', "{}", '{"weight_map": {"x": 3}}'])
def test_unusable_index(tiny_model: Path, tmp_path: Path, index: str):
    folder = rewrite(tiny_model, tmp_path / "m", "sharded bin")
    (folder / "pytorch_model.bin.index.json").write_text(index)
    assert "no usable weight_map" in says(folder)


def test_no_weights_at_all(tiny_model: Path, tmp_path: Path):
    shutil.copytree(tiny_model, tmp_path / "m", ignore=shutil.ignore_patterns("*.safetensors"))
    line = says(tmp_path / "m")
    assert "no weights" in line and "model.safetensors" in line and "pytorch_model.bin" in line


class _Payload:
    """Unpickled by a reader that runs what it finds, this leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self._path),))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", ["value", "whole", "plain pickle"])
def test_a_pickle_with_a_payload_never_runs(tiny_model: Path, tmp_path: Path, legacy: bool, kind: str):
    folder, trace = rewrite(tiny_model, tmp_path / "m", "bin"), tmp_path / "it ran"
    path = folder / "pytorch_model.bin"
    payload: Any = _Payload(trace)
    if kind == "value":
        payload = {**torch.load(path, weights_only=True), "x": payload}
    if kind == "plain pickle":
        path.write_bytes(pickle.dumps(payload))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=not legacy)
    line = says(folder)
    assert "pytorch_model.bin" in line
    assert kind == "plain pickle" or ("code that neurolens does not run" in line and ".mkdir)" in line)
    assert not trace.exists()
    pickle.loads(pickle.dumps(_Payload(trace)))
    assert trace.exists()  # it would have


def test_a_header_larger_than_the_file(tiny_model: Path, tmp_path: Path):
    folder = rewrite(tiny_model, tmp_path / "m", "safetensors")
    for size in (10**9, 2**63, 2**64 - 1):
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", size) + b"{}" * 30)
        assert "not a sound safetensors file" in says(folder)


@pytest.mark.parametrize("dtype", ["X9", "I8", "U8", "I64", "BOOL"])
def test_a_dtype_that_is_no_float(tiny_model: Path, tmp_path: Path, dtype: str):
    folder = rewrite(tiny_model, tmp_path / "m", "safetensors")
    path = folder / "model.safetensors"
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    name = "model.decoder.layers.1.fc1.bias"
    header[name]["dtype"] = dtype
    begin, end = header[name]["data_offsets"]
    bytes_each = {"I64": 8}.get(dtype, 1)
    header[name]["shape"] = [(end - begin) // bytes_each]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    line = says(folder)
    assert "not a sound safetensors" in line if dtype == "X9" else ("shape" in line or "not quantised" in line)


def test_quantised_weights_are_refused(tiny_model: Path, tmp_path: Path):
    folder = rewrite(tiny_model, tmp_path / "m", "safetensors")
    weights = load_file(folder / "model.safetensors")
    name = "model.decoder.layers.1.fc1.weight"
    weights[name] = weights[name].to(torch.int8)
    save_file(weights, folder / "model.safetensors")
    line = says(folder)
    assert "'decoder.layers.1.fc1.weight' is stored as int8" in line and "not quantised" in line


@pytest.mark.parametrize("layout", ["safetensors", "bin", "legacy bin"])
def test_wrong_shape(tiny_model: Path, tmp_path: Path, layout: str):
    folder = rewrite(tiny_model, tmp_path / "m", layout)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "ffn_dim": 80}))
    assert "shape (72, 32), the configuration says (80, 32)" in says(folder)


def test_missing_tensor_says_what_is_there(tiny_model: Path, tmp_path: Path):
    folder = rewrite(tiny_model, tmp_path / "m", "bin", prefix="base_model.model.model.")
    line = says(folder)
    assert "lacks tensor 'decoder." in line and "base_model.model" in line


@pytest.mark.parametrize("value", [[torch.ones(2)], torch.ones(2), 3])
def test_a_bin_that_holds_no_names(tiny_model: Path, tmp_path: Path, value: Any):
    folder = rewrite(tiny_model, tmp_path / "m", "bin")
    torch.save(value, folder / "pytorch_model.bin")
    assert "expected named tensors" in says(folder)
