"""Plan: how a run is cut into batches and blocks, and what it will take, from shapes alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from neurolens import UsageError
from neurolens.corpus import block_sequences, blocks
from neurolens.decoder import WEIGHTS, Shape, memory_of
from neurolens.store import Store

BATCH_TOKENS = 4096  # enough for matrix products to run at full speed; larger only costs memory
BLOCK_TOKENS = 1 << 18  # context order compresses the better the larger the block (design: 0.20 against 0.28 bits)
HIDDEN_SHARE = 0.25  # of the memory of the machine, or the GPU, that a block's hidden states may take


@dataclass(frozen=True)
class Plan:
    """What a run will take, from shapes alone."""

    shape: Shape
    corpus: tuple[int, int]
    layers: list[int]
    batch_sequences: int
    block_sequences: int
    bytes_per_value: int
    weights: str = "resident"  # or streamed

    @property
    def raw_bytes(self) -> int:
        """Bits of all neurons, layers and tokens before compression, in bytes."""
        return len(self.layers) * self.shape.neurons * (self.corpus[0] * self.corpus[1] // 8)

    @property
    def memory_bytes(self) -> int:
        """Weights, a block's hidden states, its packed rows (queued, transposed, compressed) and a batch.

        Of streamed weights two layers, one more as it is stored (mapped while it is read), and what is not a layer.
        """
        positions = self.corpus[1]
        block = min(self.block_sequences, self.corpus[0]) * positions
        batch = self.batch_sequences * positions
        held = self.shape.layers if self.weights == "resident" else min(2, self.shape.layers)
        layer = self.shape.parameters_per_layer
        weights = (self.shape.parameters_elsewhere + held * layer) * self.bytes_per_value
        if self.weights == "streamed":
            weights += layer * self.shape.bytes_per_stored_value
        hidden = block * self.shape.hidden * self.bytes_per_value
        rows = 4 * block * self.shape.neurons // 8
        return weights + hidden + rows + 3 * batch * self.shape.neurons * self.bytes_per_value

    @property
    def weight_bytes_per_block(self) -> int:
        """Stored weights that streaming reads for each block: every layer up to the last one that is recorded."""
        if self.weights == "resident":
            return 0
        return (max(self.layers) + 1) * self.shape.parameters_per_layer * self.shape.bytes_per_stored_value

    def facts(self) -> dict[str, Any]:
        """The plan in plain numbers."""
        sequences, positions = self.corpus
        return {
            "layers": self.layers,
            "neurons_per_layer": self.shape.neurons,
            "tokens": sequences * positions,
            "sequences": sequences,
            "positions": positions,
            "blocks": len(blocks(self.corpus, self.block_sequences)),
            "block_tokens": self.block_sequences * positions,
            "batch_tokens": self.batch_sequences * positions,
            "weights": self.weights,
            "weight_bytes_per_block": self.weight_bytes_per_block,
            "memory_bytes": self.memory_bytes,
            "raw_bytes": self.raw_bytes,
        }

    def lines(self) -> list[str]:
        """The plan in words, a line each."""
        sequences, positions = self.corpus
        count = len(blocks(self.corpus, self.block_sequences))
        weights = "weights resident"
        if self.weights == "streamed":
            weights = f"weights streamed: {self.weight_bytes_per_block / 1e9:.2f} GB read for each of {count} blocks"
        return [
            f"{sequences * positions:,} tokens ({sequences:,} sequences of {positions}) through {len(self.layers)} "
            f"layers of {self.shape.neurons:,} neurons",
            f"{count} blocks of {self.block_sequences * positions:,} tokens, batches of "
            f"{self.batch_sequences * positions:,}; {weights}; a kill costs at most one block",
            f"memory about {self.memory_bytes / 1e9:.2f} GB beside Python and torch; disk at most "
            f"{self.raw_bytes / 1e9:.3f} GB (raw bits; usually a third of that)",
        ]


def make_plan(
    shape: Shape,
    corpus: tuple[int, int],
    *,
    layers: Iterable[int] | None = None,
    dtype: str = "fp32",
    device: str = "cpu",
    batch_tokens: int | None = None,
    block_tokens: int | None = None,
    weights: str = "resident",
    existing: Store | None = None,
) -> Plan:
    """The plan of a run over a corpus of shape (S, T).

    `layers` defaults to all. `batch_tokens` and `block_tokens` default to those of an `existing` run, else to
    BATCH_TOKENS and to BLOCK_TOKENS, or what a block's hidden states leave of the memory. Raises UsageError for layers
    that the model does not have, and for `weights` that are neither resident nor streamed.
    """
    chosen = sorted(set(range(shape.layers) if layers is None else layers))
    if not chosen or chosen[0] < 0 or chosen[-1] >= shape.layers:
        raise UsageError(
            f"--layers {','.join(map(str, chosen)) or 'none'}: the model has layers 0 to {shape.layers - 1}"
        )
    if weights not in WEIGHTS:
        raise UsageError(f"unknown weights {weights!r}; expected {' or '.join(WEIGHTS)}")
    positions = corpus[1]
    width = 4 if dtype == "fp32" else 2
    batch = max(1, (batch_tokens or BATCH_TOKENS) // positions)
    if batch_tokens is None and existing is not None:
        batch = int(existing.attrs["batch_sequences"])
    roomy = int(HIDDEN_SHARE * memory_of(device) / (shape.hidden * width))
    block = block_sequences(block_tokens or max(1 << 16, min(BLOCK_TOKENS, roomy)), positions, batch)
    if block_tokens is None and existing is not None:
        block = int(existing.attrs["block_sequences"])
    return Plan(shape, corpus, chosen, batch, block, width, weights)
