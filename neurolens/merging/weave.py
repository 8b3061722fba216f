"""weave: a block of a merged run, from the blocks that other runs have.

A block that is one of theirs is taken over as it is, file by file, each held against its checksum; any other is put
together from theirs, some neurons at a time: rows of neurons become rows of tokens, tokens are gathered into the new
order, and become rows of neurons.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from neurolens import IncompleteError, NeurolensError, first_line
from neurolens.bits import transpose
from neurolens.corpus import Block
from neurolens.location import Where
from neurolens.merging.join import find_pieces, locate_tokens
from neurolens.merging.together import Whole
from neurolens.store import Store


class Weaver:
    """A block of the output, and the pieces of texts that it is made of."""

    def __init__(self, store: Store, block: Block, whole: Whole, each: Callable[..., Any]) -> None:
        self._store, self._block, self._each = store, block, each
        self._texts, self._pieces = whole.texts, find_pieces(block, whole.laid)
        self._order = store.read("order", slice(block.first_token, block.first_token + block.tokens))
        self._places: dict[tuple[Where, ...], np.ndarray] = {}

    def choices(self, row: int) -> list[list[Store]]:
        """For each piece the runs that have it for a layer."""
        return [
            [part for part, done in zip(text.parts, text.done, strict=True) if done[row, piece.block.index]]
            for piece in self._pieces
            for text in [self._texts[piece.text]]
        ]

    def put(self, layer: int, choices: Sequence[list[Store]]) -> bool:
        """Put the bits of a layer on the disk, from the first run that has them; whether they are taken as they are.

        Raises NeurolensError for bits that are damaged, or other ones in another run that has them.
        """
        store, block, sources = self._store, self._block, [some[0] for some in choices]
        as_it_is = self._is_one(sources) and _same_files(store, sources[0], layer)
        if as_it_is:
            source, theirs = sources[0], self._pieces[0].block
            try:
                store.write_chunks(block, layer, lambda part: source.read_chunk(theirs, layer, part), self._each)
            except IncompleteError:  # of the output's disk, or of what cannot be reached
                raise
            except NeurolensError as error:
                if source.place.lost or store.place.lost:
                    raise
                raise _damaged(source, layer, theirs, error) from error
        else:
            store.write_bits_of(block, layer, lambda some: self._rows(layer, sources, some), self._each)
        for i, some in enumerate(choices):
            for other in some[1:]:
                self._compare(layer, sources, i, other)
        return as_it_is

    def _rows(self, layer: int, sources: Sequence[Store], neurons: slice) -> np.ndarray:
        """The block's bits of some neurons: uint8 `(neuron, 8 * ceil(tokens / 64))`, in its context order."""
        found = [_read(source, layer, neurons, each.block) for source, each in zip(sources, self._pieces, strict=True)]
        if self._is_one(sources):
            return found[0]
        count = neurons.stop - neurons.start
        ranks = np.empty((sum(piece.ranks for piece in self._pieces), -(-count // 64) * 8), np.uint8)
        at = 0
        for piece, rows in zip(self._pieces, found, strict=True):
            ranks[at : at + piece.ranks] = transpose(rows, np.arange(count))
            at += piece.ranks
        return transpose(ranks, self._locate(sources))[:count]

    def _is_one(self, sources: Sequence[Store]) -> bool:
        """Whether the block is one of a text, and its tokens in the same order."""
        places = self._locate(sources)
        alone = len(self._pieces) == 1 and self._pieces[0].block.tokens == len(places)
        return alone and np.array_equal(places, np.arange(len(places)))

    def _locate(self, sources: Sequence[Store]) -> np.ndarray:
        """Where its tokens are among those of its pieces, as these runs order them."""
        key = tuple(source.path for source in sources)
        if key not in self._places:
            orders = []
            for source, piece in zip(sources, self._pieces, strict=True):
                first = piece.block.first_token
                orders.append(source.read("order", slice(first, first + piece.block.tokens)))
            try:
                self._places[key] = locate_tokens(self._order, self._pieces, orders)
            except NeurolensError as error:
                raise NeurolensError(f"{' or '.join(map(str, key))}: {error}; collect it again") from error
        return self._places[key]

    def _compare(self, layer: int, sources: Sequence[Store], i: int, other: Store) -> None:
        """Raise NeurolensError if another run has other bits for a piece."""
        swapped = [*sources[:i], other, *sources[i + 1 :]]

        def same(neurons: slice) -> bool:
            rows = self._store.rows(layer, neurons, self._block).view(np.uint8)
            return np.array_equal(self._rows(layer, swapped, neurons), rows)

        if not all(list(self._each(same, self._store.neuron_chunks(self._block)))):
            raise NeurolensError(
                f"{sources[i].path} and {other.path} have other bits of layer {layer}, block "
                f"{self._pieces[i].block.index}, and were to be parts of one run; collect one of them again"
            )


def _read(source: Store, layer: int, neurons: slice, block: Block) -> np.ndarray:
    try:
        return source.rows(layer, neurons, block).view(np.uint8)
    except NeurolensError as error:
        if source.place.lost:  # which is no damage
            raise
        raise _damaged(source, layer, block, error) from error


def _damaged(source: Store, layer: int, block: Block, error: BaseException) -> NeurolensError:
    return NeurolensError(
        f"{source.path}: layer {layer}, block {block.index} is damaged ({first_line(error.__cause__ or error)}); give "
        f"'neurolens verify {shlex.quote(str(source.path))} --mend', the same 'neurolens {source.made_by}' command as "
        "for that run, and this one again"
    )


def _same_files(store: Store, source: Store, layer: int) -> bool:
    """Whether two runs hold the bits of a layer in the same chunks and codecs, so that a file of one is one of both."""
    names = ("data_type", "chunk_grid", "chunk_key_encoding", "codecs", "fill_value")
    ours, theirs = (each.metadata(f"layers/{layer:02d}/active") or {} for each in (store, source))
    return all(ours.get(name) == theirs.get(name) for name in names)
