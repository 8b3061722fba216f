"""Parity: bits of a real collect against HF's own forward, at the true shapes of OPT-125m and OPT-350m.

Random weights, every layer, full-length sequences of 2,048 tokens, the same batch grid and threads. The bound is
exact: not one bit may differ. `--quick`: 4 layers of each.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import at_most, finish, quick_asked
from transformers import OPTForCausalLM

from neurolens.collect import collect
from neurolens.corpus import Corpus
from neurolens.store import Store
from neurolens.testing import random_opt

BATCH = 1  # sequences


def flipped_bits(size: str, layers: int | None, sequences: int) -> tuple[int, int]:
    """(bits that differ, bits compared) at a shape."""
    with tempfile.TemporaryDirectory() as folder:
        model = random_opt(Path(folder) / "model", size, layers=layers)
        tokens = np.random.default_rng(0).integers(4, 50265, (sequences, 2048), dtype=np.int32)
        tokens[:, 0] = 2
        store = collect(model, Corpus.from_tokens(tokens), Path(folder) / "r.zarr", batch_tokens=2048 * BATCH)
        assert isinstance(store, Store)
        hf = OPTForCausalLM.from_pretrained(model, attn_implementation="sdpa").eval()
        seen: list[list[np.ndarray]] = [[] for _ in store.layers]
        decoder: Any = hf.model.decoder
        for number, layer in enumerate(decoder.layers):
            layer.activation_fn.register_forward_hook(
                lambda module, args, output, number=number: seen[number].append((output > 0).numpy())
            )
        with torch.inference_mode():
            for first in range(0, sequences, BATCH):
                hf(torch.from_numpy(tokens[first : first + BATCH]).long())
        order, flips, compared = store.read("order"), 0, 0
        for layer in store.layers:
            expected = np.concatenate(seen[layer]).T
            bits = np.unpackbits(store.read(f"layers/{layer:02d}/active"), axis=1, bitorder="little")
            flips += int((bits[:, : len(order)] != expected[:, order]).sum())
            compared += expected.size
        return flips, compared


def main() -> int:
    """Compare at both shapes; 0 if not one bit differs."""
    quick = quick_asked(__doc__, "4 layers and 1 sequence of each, under a minute")
    figures, bounds = {}, {}
    for size in ("125m", "350m"):
        flips, compared = flipped_bits(size, 4 if quick else None, 1 if quick else 3)
        figures[f"bits_compared_{size}"] = compared
        bounds[f"flipped_bits_{size}"] = at_most(flips, 0)
        print(f"{size}: {flips} of {compared:,} bits differ", flush=True)
    return finish("parity", figures, bounds)


if __name__ == "__main__":
    sys.exit(main())
