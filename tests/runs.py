"""Runs made of bits that a test has drawn, without any model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurolens.corpus import Corpus
from neurolens.store import Store


def make_run(
    path: Path,
    corpus: Corpus,
    active: np.ndarray,
    *,
    layers: Sequence[int],
    sequences_per_block: int,
    vocab_size: int,
    blocks: int | None = None,
) -> Path:
    """A collected run of bits `active` bool `(layer, neuron, token)`, tokens in corpus order.

    `blocks`: how many are there, from the first on; None for all.
    """
    config = {"vocab_size": vocab_size, "num_hidden_layers": max(layers) + 1}
    spec = {"model": {"id": "drawn", "revision": None, "config": config}, "dtype": "fp32", "versions": {}}
    store = Store.create(
        path, spec, corpus, layers=list(layers), neurons=active.shape[1], sequences_per_block=sequences_per_block
    )
    store, order = Store.open(path, write=True), store.read("order")
    for block in store.blocks[:blocks]:
        inside = order[block.first_token : block.first_token + block.tokens]
        for layer, bits in zip(layers, active, strict=True):
            rows = np.zeros((len(bits), -(-block.tokens // 64) * 64), bool)
            rows[:, : block.tokens] = bits[:, inside]
            store.commit(block, layer, np.packbits(rows, axis=1, bitorder="little"))
    return path
