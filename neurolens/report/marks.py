"""marks: what a page needs of the bits themselves: which tokens of a context a neuron is active on, and on how many
tokens that end an n-gram. One pass over the bits of the neurons that the page shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from neurolens import corpus, kernels
from neurolens.bits import pack, words
from neurolens.corpus import Block
from neurolens.report.passages import mask_samples, mask_windows
from neurolens.store import Store

MOST_BYTES = 64 << 30  # of bits that are read for a page: a minute or two
UNKNOWN = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True)
class Marks:
    """What bits say of some neurons of a layer.

    masks        uint64 `(row, context)`: bit i is set if the neuron is active on the token `context − 40 + i`
    activations  uint32 `(row, gram)`: activations on tokens that end an n-gram, UNKNOWN where the bits are gone
    """

    masks: np.ndarray
    activations: np.ndarray


class MarksReader:
    """Reads bits of a run's neurons, layer by layer. A context manager: it holds threads."""

    def __init__(self, store: Store, grams: int, *, rows: int, most_bytes: int = MOST_BYTES) -> None:
        """`grams`: the longest n-gram asked for; `rows`: how many neurons will be asked for, of all layers."""
        self._store, self._grams = store, grams
        self.all_there = all(store.kept(layer).all() for layer in store.layers)
        self.small_enough = rows * store.n_tokens // 8 <= most_bytes
        self._order, self._tokens, self._eos = store.read("order"), store.read("tokens"), int(store.attrs["eos"])
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._blocks = [self._describe(block) for block in store.blocks] if self.small_enough else []

    def __enter__(self) -> MarksReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _describe(self, block: Block) -> tuple[Block, np.ndarray, list[np.ndarray]]:
        """The block, where each of its tokens is in a row, and by n bits of the tokens that end an n-gram."""
        part = slice(block.first_token, block.first_token + block.tokens)
        order = self._order[part].astype(np.int64) - block.first_token
        rank = np.empty(block.tokens, np.int64)
        rank[order] = np.arange(block.tokens)
        ends = np.zeros((self._grams, -(-block.tokens // 64) * 64), bool)
        tokens = self._tokens[block.first_sequence : block.first_sequence + block.sequences]
        ends[:, : block.tokens] = corpus.contexts(tokens, self._grams, self._eos)[:, order] >= 0
        return block, rank, [words(pack(row)) for row in ends]

    def read(self, layer: int, neurons: np.ndarray, contexts: np.ndarray, samples: np.ndarray) -> Marks:
        """Of neurons int64 `(row,)`, ascending, with contexts int64 `(row, context)` and the samples that these are of,
        `(row, sample)`; −1 for none. Raises NeurolensError for damaged bits.
        """
        positions = self._store.shape[1]
        masks = mask_samples(samples, contexts, positions)
        activations = np.zeros((len(neurons), self._grams), np.int64)
        there = self._store.kept(layer)[neurons] & self.small_enough
        for chosen, found, counts in self._pool.map(
            lambda part: self._count(layer, neurons, contexts, part), self._parts(neurons, there)
        ):
            masks[chosen] = found
            activations[chosen] = counts
        return Marks(masks, np.where(there[:, None], activations, UNKNOWN).astype(np.uint32))

    def _parts(self, neurons: np.ndarray, there: np.ndarray) -> Iterator[np.ndarray]:
        """Rows whose neurons share chunks."""
        for some in self._store.neuron_chunks(self._store.blocks[0]):
            first, stop = np.searchsorted(neurons, [some.start, some.stop])
            if len(chosen := first + np.flatnonzero(there[first:stop])):
                yield chosen

    def _count(
        self, layer: int, neurons: np.ndarray, contexts: np.ndarray, chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        of, index = neurons[chosen], contexts[chosen]
        masks, counts = np.zeros(index.shape, np.uint64), np.zeros((len(chosen), self._grams), np.int64)
        every = np.arange(len(of))
        for block, rank, ends in self._blocks:
            rows = self._store.rows(layer, slice(int(of[0]), int(of[-1]) + 1), block)[of - of[0]]
            for n, each in enumerate(ends):
                counts[:, n] += kernels.count_bits(rows & each, every)
            inside = (index >= block.first_token) & (index < block.first_token + block.tokens)
            row, column = np.nonzero(inside)
            masks[row, column] = mask_windows(
                rows.view(np.uint8), row, index[row, column], rank, block.first_token, block.positions
            )
        return chosen, masks, counts
