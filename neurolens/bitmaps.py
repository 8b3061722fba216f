"""Bitmaps: the bits of a run's layers among its arrays, `layers/LL/active`: read and written some neurons of a block at
a time, a chunk each; dropped or thinned once they are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import zarr

from neurolens import NeurolensError, UsageError, first_line
from neurolens.arrays import Arrays, checksum, writing
from neurolens.corpus import Block, blocks
from neurolens.place import Place
from neurolens.schema import row_bytes

CHUNK_BYTES = 1 << 21  # ≥ 1 MB, and small enough that one neuron is read quickly
READ_BYTES = 1 << 24  # of rows handed to a thread at a time: enough that what every call costs does not count

Each = Callable[[Callable[[Any], None], Iterable[Any]], Iterable[None]]  # `map`, or that of an executor


class Bitmaps(Arrays):
    """Arrays with the bits of layers among them; `attrs` are the attributes of the run."""

    def __init__(self, place: Place, group: zarr.Group, attributes: Mapping[str, Any]) -> None:
        super().__init__(place, group)
        self.attrs: dict[str, Any] = {"keep_bitmaps": "all", **attributes}
        self._shape: tuple[int, int] | None = None

    @property
    def layers(self) -> list[int]:
        """The collected layers' numbers, ascending."""
        return list(self.attrs["layers"])

    @property
    def neurons(self) -> int:
        """Neurons a layer (d_ff)."""
        return int(self.attrs["neurons"])

    @property
    def shape(self) -> tuple[int, int]:
        """(sequences, positions)."""
        if self._shape is None:  # it never changes; elsewhere it takes a while
            sequences, positions = self._group["tokens"].shape  # type: ignore[union-attr]
            self._shape = int(sequences), int(positions)
        return self._shape

    @property
    def n_tokens(self) -> int:
        """Tokens of the corpus, BOS and separators included."""
        return self.shape[0] * self.shape[1]

    @property
    def blocks(self) -> list[Block]:
        """The blocks of the corpus."""
        return blocks(self.shape, int(self.attrs["block_sequences"]))

    def require_layers(self, layers: Iterable[int]) -> None:
        """Raise UsageError unless these layers were collected."""
        if missing := [layer for layer in layers if layer not in self.layers]:
            raise UsageError(
                f"{self.path} has no layer {', '.join(map(str, missing))}; it has {', '.join(map(str, self.layers))}"
            )

    def kept(self, layer: int) -> np.ndarray:
        """Whose bits of a layer are there: bool `(neuron,)`; of a layer whose bits were dropped nobody's."""
        folder = f"layers/{layer:02d}"
        if not self.place.is_folder(f"{folder}/active"):
            return np.zeros(self.neurons, bool)
        return self.read(f"{folder}/kept") if self.place.is_folder(f"{folder}/kept") else np.ones(self.neurons, bool)

    def require_bits(self) -> None:
        """Raise NeurolensError unless the bits of every layer are there: they may be dropped once they are counted."""
        if gone := [layer for layer in self.layers if not self.kept(layer).all()]:
            raise NeurolensError(
                f"{self.path}: the bits of layer {', '.join(map(str, gone))} were dropped, and what is asked must be "
                "counted from them; collect it again"
            )

    def rows(self, layer: int, neurons: slice, block: Block | None = None) -> np.ndarray:
        """Bits of some neurons over all blocks, or one, in context order: uint64 `(neurons, ceil(tokens / 64))`."""
        name = f"layers/{layer:02d}/active"
        if not (kept := self.kept(layer)[neurons]).all():
            gone = neurons.start + int(np.flatnonzero(~kept)[0])
            raise NeurolensError(
                f"{self.path}: the bits of neuron {layer}.{gone} were dropped once they were counted; collect it again "
                "with --keep-bitmaps all to see them"
            )
        try:
            array: Any = self._group[name]
            chunk = array.chunks[0]
            lacking = self.place.lacking(  # zarr reads a missing chunk as zeros: as dead
                f"{name}/c/{part}/{each.index}"
                for part in range(neurons.start // chunk, -(-neurons.stop // chunk))
                for each in (self.blocks if block is None else [block])
            )
            if lacking is not None:
                raise FileNotFoundError(f"chunk {lacking.removeprefix(f'{name}/c/')} is missing")
            first = 0 if block is None else block.first_token // 8
            data = array[neurons, first : None if block is None else first + row_bytes(block.tokens)]
        except NeurolensError:
            raise
        except Exception as error:
            raise NeurolensError(
                f"{self.path}: bits of layer {layer} are damaged ({first_line(error)}); collect the run anew"
            ) from error
        return np.ascontiguousarray(data).view("<u8")

    def neuron_chunks(self, block: Block | None = None) -> list[slice]:
        """Neurons to read together: those that share chunks, of as many chunks as make READ_BYTES of rows over all
        blocks, or one."""
        chunk, _ = self._bits_chunk()
        step = chunk * max(1, READ_BYTES // (chunk * row_bytes(self.n_tokens if block is None else block.tokens)))
        return [slice(first, min(first + step, self.neurons)) for first in range(0, self.neurons, step)]

    def write_bits(self, block: Block, layer: int, rows: np.ndarray) -> None:
        """Write a block of a layer and make sure it is on the disk.

        `rows` uint8 `(neuron, 8 * ceil(tokens / 64))`, neuron-major in context order.
        """
        first = block.first_token // 8
        with writing(), self.place.writing():
            active: Any = self._group[f"layers/{layer:02d}/active"]  # an array keeps the setting it was opened with
            active[:, first : first + rows.shape[1]] = rows
            self._sync_bits(layer, block.index)

    def write_bits_of(self, block: Block, layer: int, rows: Callable[[slice], np.ndarray], each: Each = map) -> None:
        """`write_bits`, some neurons at a time: `rows` gives those of a slice; `each` may map it by several threads."""
        first = block.first_token // 8
        with writing(), self.place.writing():
            active: Any = self._group[f"layers/{layer:02d}/active"]

            def write(neurons: slice) -> None:
                active[neurons, first : first + row_bytes(block.tokens)] = rows(neurons)

            for _ in each(write, self.neuron_chunks(block)):
                pass
            self._sync_bits(layer, block.index)

    def write_chunks(self, block: Block, layer: int, files: Callable[[int], bytes], each: Each = map) -> None:
        """`write_bits` of what is encoded already: `files` gives the file of a chunk, by its place among the neurons.

        Of a run whose bits are in the same chunks and codecs, see `read_chunk`.
        """
        name = f"layers/{layer:02d}/active"
        with self.place.writing():

            def write(part: int) -> None:
                self.place.write(f"{name}/c/{part}/{block.index}", files(part))  # no chunk is ever torn

            for _ in each(write, range(-(-self.neurons // self._bits_chunk()[0]))):
                pass
            self._sync_bits(layer, block.index)

    def read_chunk(self, block: Block, layer: int, part: int) -> bytes:
        """The file of a chunk of a block's bits, as it is. Raises NeurolensError if it cannot be read, or is not what
        its checksum, the last four bytes, says."""
        try:
            content = self.place.read(f"layers/{layer:02d}/active/c/{part}/{block.index}")
            wrong = None if content[-4:] == checksum(content[:-4]) else "its checksum is another"
        except OSError as error:
            content, wrong = b"", error.strerror
        if wrong:
            raise NeurolensError(
                f"{self.path}: bits of layer {layer} are damaged (chunk {part}/{block.index}: {wrong}); "
                "collect the run anew"
            )
        return content

    def drop_bits(self, layer: int) -> None:
        """Remove the bits of a layer, which have been counted; nothing happens if they are gone."""
        self.remove(f"layers/{layer:02d}/active")

    def thin_bits(self, layer: int, kept: np.ndarray, attributes: Mapping[str, Any]) -> None:
        """Keep the bits of some neurons of a layer, bool `(neuron,)`, and make those of the others 0.

        Which are kept is on the disk before any other is changed, so that no reader takes what is gone for silence; its
        attribute `thinned` says whether all others are. Done again after a stop it ends the same.
        """
        name = f"layers/{layer:02d}/kept"
        self.write(name, kept, ("neuron",), {**attributes, "thinned": False})
        self.settle(name)
        with writing(), self.place.writing():
            active: Any = self._group[f"layers/{layer:02d}/active"]
            for block in self.blocks:
                part = slice(block.first_token // 8, block.first_token // 8 + row_bytes(block.tokens))
                for neurons in self.neuron_chunks():
                    active[neurons, part] = np.where(kept[neurons, None], active[neurons, part], np.uint8(0))
                self._sync_bits(layer, block.index)
        self.set_attributes(name, {**attributes, "thinned": True})

    def thinned(self, layer: int) -> bool:
        """Whether `thin_bits` of a layer was done to its end."""
        name = f"layers/{layer:02d}/kept"
        return self.has(name) and bool(self.attributes(name).get("thinned"))

    def restore_bits(self, layer: int) -> None:
        """Make the array of a layer's bits one of which all are collected, its marks being taken back: its metadata,
        which follow from the run's, are written anew, and nothing tells of bits that were dropped. Chunks stay."""
        self.remove(f"layers/{layer:02d}/kept")
        with self.place.writing():
            self.place.unlink(f"layers/{layer:02d}/active/zarr.json")
            self._make_bits(layer)
            self.place.sync_tree(f"layers/{layer:02d}")

    def _make_bits(self, layer: int) -> None:
        shape = (self.neurons, row_bytes(self.n_tokens))
        self._make(f"layers/{layer:02d}/active", shape, "u1", ("neuron", "token_byte"), self._bits_chunk())

    def _bits_chunk(self) -> tuple[int, int]:
        """Neurons and bytes of a chunk of bits: one block of as many neurons as make CHUNK_BYTES."""
        step = min(int(self.attrs["block_sequences"]) * self.shape[1] // 8, row_bytes(self.n_tokens))
        return max(1, min(self.neurons, CHUNK_BYTES // max(1, step))), step

    def _sync_bits(self, layer: int, block: int) -> None:
        self.place.sync_matches(f"layers/{layer:02d}/active/c", f"*/{block}")
