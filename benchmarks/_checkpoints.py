"""Checkpoints of a published shape that take little time, or no disk, to make: for what depends on sizes alone.

A shard for each layer, and one for all else: safetensors maps no file that is larger than the machine's memory.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch

from neurolens.checkpoint import Checkpoint
from neurolens.testing import OPT_SHAPES, random_opt
from neurolens.testing.checkpoint import config, save_tokenizer

LAYERS = "decoder.layers."  # names of their tensors begin with it
INDEX = "model.safetensors.index.json"

Value = TypeVar("Value")


def stored_bytes(model: Path) -> tuple[int, int]:
    """Bytes of a checkpoint's tensors: (those of layers, all others)."""
    checkpoint, sizes = Checkpoint(model), Counter[bool]()
    for name, tensor in checkpoint.mapped(list(checkpoint._file_of)):
        sizes[name.startswith(LAYERS)] += tensor.nbytes
    return sizes[True], sizes[False]


def repeat_layer(folder: Path, shape: str, layers: int) -> Path:
    """A checkpoint with random weights in fp16, the same in every layer, which is quickly made."""
    from safetensors.torch import load_file, save_file

    single = random_opt(folder.with_name(folder.name + ".single"), shape, layers=1, dtype="float16")
    shutil.copytree(single, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"num_hidden_layers": layers}))
    weights, first = {}, f"model.{LAYERS}0."
    for name, value in load_file(single / "model.safetensors").items():
        numbers = range(layers) if name.startswith(first) else [0]
        weights |= {name.replace(first, f"model.{LAYERS}{number}."): value for number in numbers}
    for shard, held in _shards(folder, weights).items():
        save_file(held, folder / shard)
    shutil.rmtree(single)
    return folder


def sparse_checkpoint(folder: Path, shape: str, layers: int | None = None) -> Path:
    """A checkpoint in fp16 whose numbers are all 0: files of their true sizes that take no disk."""
    from transformers import OPTModel

    settings = {"vocab_size": 50272, "max_position_embeddings": 2048, "dtype": "float16", **OPT_SHAPES[shape]}
    settings = config(settings if layers is None else settings | {"num_hidden_layers": layers})
    settings.save_pretrained(folder)
    save_tokenizer(folder, None)
    with torch.device("meta"):
        model = OPTModel(settings)
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    for shard, held in _shards(folder, weights).items():
        header, end = {}, 0
        for name, value in held.items():
            begin, end = end, end + 2 * value.numel()
            header[name] = {"dtype": "F16", "shape": list(value.shape), "data_offsets": [begin, end]}
        data = json.dumps(header).encode()
        data += b" " * (-len(data) % 8)
        with (folder / shard).open("wb") as file:
            file.write(len(data).to_bytes(8, "little") + data)
            file.truncate(8 + len(data) + end)
    return folder


def _shards(folder: Path, weights: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """Which file is to hold which weights; the index that says so is written."""
    shards: dict[str, dict[str, Value]] = defaultdict(dict)
    for name, value in weights.items():
        part = name.split(".")[3] if name.startswith(f"model.{LAYERS}") else "other"
        shards[f"model-{part}.safetensors"][name] = value
    home = {name: shard for shard, held in shards.items() for name in held}
    (folder / INDEX).write_text(json.dumps({"weight_map": home}))
    return shards
