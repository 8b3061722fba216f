"""sizes: what size of the published models a configuration has, and what to call it if it has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# name → d_model, layers, d_ff (Zhang et al. 2022, arXiv 2205.01068, Table 1; OPT's d_ff is 4 d_model)
OPT: dict[str, tuple[int, int, int]] = {
    name: (width, layers, 4 * width)
    for name, width, layers in (
        ("125m", 768, 12),
        ("350m", 1024, 24),
        ("1.3b", 2048, 24),
        ("2.7b", 2560, 32),
        ("6.7b", 4096, 32),
        ("13b", 5120, 40),
        ("30b", 7168, 48),
        ("66b", 9216, 64),
    )
}


def published_size(config: Mapping[str, Any]) -> str | None:
    """The published OPT of this shape, `1.3b`; None for another shape, or a `config.json` that does not say it.

    Told by d_model, layers and d_ff alone: whether it is those weights is not.

    >>> published_size({"model_type": "opt", "hidden_size": 768, "num_hidden_layers": 12, "ffn_dim": 3072})
    '125m'
    """
    shape = tuple(config.get(name) for name in ("hidden_size", "num_hidden_layers", "ffn_dim"))
    if config.get("model_type") != "opt":
        return None
    return next((name for name, known in OPT.items() if known == shape), None)


def count_parameters(config: Mapping[str, Any]) -> int | None:
    """Parameters of an OPT, tied embeddings counted once; None if its `config.json` lacks a field."""
    try:
        hidden, neurons, layers, vocabulary, positions = (
            int(config[name])
            for name in ("hidden_size", "ffn_dim", "num_hidden_layers", "vocab_size", "max_position_embeddings")
        )
    except (KeyError, TypeError, ValueError):
        return None
    embedded = int(config.get("word_embed_proj_dim") or hidden)
    projections = 2 * embedded * hidden if embedded != hidden else 0
    norm = 2 * hidden if config.get("do_layer_norm_before", True) else 0  # the final one
    layer = hidden * (4 * hidden + 2 * neurons) + 9 * hidden + neurons
    return layers * layer + vocabulary * embedded + projections + (positions + 2) * hidden + norm


def size_of(config: Mapping[str, Any]) -> str:
    """What to call the size: the published one of this shape, else the number of parameters, `3.7m`; else `unknown`.

    >>> size_of({"num_hidden_layers": 2})
    'unknown'
    """
    if (known := published_size(config)) is not None:
        return known
    number = count_parameters(config)
    if number is None:
        return "unknown"
    for unit, scale in (("b", 10**9), ("m", 10**6), ("k", 10**3)):
        if number >= scale:
            return f"{number / scale:.1f}".removesuffix(".0") + unit
    return str(number)
