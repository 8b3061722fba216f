"""OPT checkpoints of a given or published shape with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurolens.testing.checkpoint import config, save_tokenizer
from neurolens.testing.rules import SPECIAL

_POST_LN = {"word_embed_proj_dim": 512, "do_layer_norm_before": False}
OPT_SHAPES: dict[str, dict[str, Any]] = {
    name: {"hidden_size": width, "ffn_dim": 4 * width, "num_hidden_layers": layers, "num_attention_heads": heads}
    | (_POST_LN if name == "350m" else {})
    for name, width, layers, heads in (
        ("125m", 768, 12, 12),
        ("350m", 1024, 24, 16),
        ("1.3b", 2048, 24, 32),
        ("2.7b", 2560, 32, 32),
        ("6.7b", 4096, 32, 32),
        ("13b", 5120, 40, 40),
        ("30b", 7168, 48, 56),
        ("66b", 9216, 64, 72),
    )
}
"""The published OPT models, by size, in the words of `OPTConfig`; all have 50272 embeddings and 2048 positions."""


def random_opt(
    folder: str | Path,
    shape: str | Mapping[str, Any] = "125m",
    *,
    layers: int | None = None,
    vocab_size: int = 50272,
    positions: int = 2048,
    dtype: str = "float32",
    words: int | None = None,
    threshold: float = 1.0,
    seed: int = 0,
) -> Path:
    """Write an OPT checkpoint with random weights into `folder`, and return that.

    `shape`: a name of `OPT_SHAPES` or settings of `OPTConfig` (at least those of `OPT_SHAPES["125m"]`, which win over
    `vocab_size` and `positions`). `layers`: only so many. `dtype`: `float32` or `float16`, of the stored weights.
    `words`: None for a byte-level tokenizer (260 ids; any text), else a word-level one that knows `t4` … `t{words-1}`;
    either may be smaller than the model's vocabulary, as OPT's own is. `threshold`: how far, in standard deviations
    of the pre-activation, the mean of fc1.bias lies below 0; 1 gives about a fifth of all bits. Biases and
    LayerNorms are random as well, so that one left out shows.
    """
    import torch
    from transformers import OPTForCausalLM

    settings = {"vocab_size": vocab_size, "max_position_embeddings": positions}
    settings |= OPT_SHAPES[shape] if isinstance(shape, str) else dict(shape)
    if layers is not None:
        settings["num_hidden_layers"] = layers
    size = 260 if words is None else words
    if not SPECIAL < size <= settings["vocab_size"]:
        raise ValueError(f"a tokenizer of {size} ids: expected {SPECIAL + 1} to {settings['vocab_size']}, the model's")
    with torch.device("meta"):
        model: Any = OPTForCausalLM(config(settings))
    model = model.to(getattr(torch, dtype)).to_empty(device="cpu")
    model.tie_weights()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean, deviation = 0.0, 0.1
            if "layer_norm.weight" in name:
                mean = 1.0
            elif name.endswith("fc1.bias"):
                mean, deviation = -threshold, 0.5
            elif "embed_" in name:
                deviation = 1.0
            elif parameter.dim() == 2:
                # what is written is small, else a deep post-LN model loses its input and every bit is constant
                writes = "out_proj" in name or "fc2" in name
                deviation = (parameter.shape[1] * (2 * settings["num_hidden_layers"] if writes else 1)) ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation + mean)
    folder = Path(folder)
    model.save_pretrained(folder)
    save_tokenizer(folder, None if words is None else [f"t{i}" for i in range(SPECIAL, words)])
    return folder
