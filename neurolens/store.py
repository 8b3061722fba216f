"""Store: a run on disk or elsewhere, one zarr v3 group. The schema, provenance, progress marks.

`docs/store.md` documents the schema to the byte. What holds:

* A run appears whole: it is made beside its place and renamed into it (place.py, also how it is elsewhere).
* A block's bits are on the disk before its mark is: chunks, fsync, mark, fsync. What has no mark is done again.
* Nothing but the arrays and their metadata is inside the group; times and hosts go to `RUN.zarr.log` beside it, which
  also carries the lock (locks.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import zarr
from google_crc32c import value as crc32c
from zarr.codecs import Crc32cCodec, ZstdCodec

from neurolens import IncompleteError, NeurolensError, UsageError, first_line
from neurolens.corpus import Block, Corpus, blocks
from neurolens.durable import BEGUN
from neurolens.location import Where, beside
from neurolens.locks import log_path
from neurolens.place import Place, disk, find_place
from neurolens.schema import row_bytes

SCHEMA = 1
CHUNK_BYTES = 1 << 21  # of the bitmaps: ≥ 1 MB, and small enough that one neuron is read quickly
READ_BYTES = 1 << 24  # of rows handed to a thread at a time: enough that what every call costs does not count
# attributes a reader cannot do without
REQUIRED = {"model", "layers", "neurons", "block_sequences", "label_names", "eos"}

Each = Callable[[Callable[[Any], None], Iterable[Any]], Iterable[None]]  # `map`, or that of an executor


class Store:
    """A run on disk or elsewhere. Open with `Store.open`, make with `Store.create`."""

    def __init__(self, place: Place, group: zarr.Group, attributes: Mapping[str, Any]) -> None:
        self.place, self._group = place, group
        self.path: Any = place.at  # a Path, or the Url of a run that is elsewhere
        self.journal = log_path(place.at)
        self.attrs: dict[str, Any] = {"keep_bitmaps": "all", **attributes}
        self._shape: tuple[int, int] | None = None

    # -- making and opening ------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: Where,
        spec: Mapping[str, Any],
        corpus: Corpus,
        *,
        layers: list[int],
        neurons: int,
        sequences_per_block: int,
        vocabulary: Mapping[str, np.ndarray] | None = None,
    ) -> Store:
        """Make the empty run at `path`: every array of the schema that collect fills, and the corpus.

        `spec` is what identifies the run (see docs/store.md); `vocabulary` the arrays `bytes` and `start` of a
        Vocabulary, without which the run shows token ids. Raises NeurolensError if `path` exists.
        """
        place = find_place(path)
        if place.is_there():
            raise NeurolensError(f"{path} exists; choose another output")
        positions, tokens = corpus.shape[1], corpus.tokens.size
        if tokens >= 1 << 32:
            raise NeurolensError(f"the corpus has {tokens} tokens; a run holds at most {(1 << 32) - 1}")
        attributes = {
            "schema": SCHEMA,
            **spec,
            "layers": layers,
            "neurons": neurons,
            "block_sequences": sequences_per_block,
            "label_names": list(corpus.label_names),
            "eos": corpus.eos,
            "corpus_fingerprint": corpus.fingerprint(),
            "corpus_notes": {label: dict(note) for label, note in corpus.notes.items()},
        }
        with _writing(), place.writing(), place.appearing() as made:
            group = zarr.create_group(made.zarr, attributes=dict(BEGUN))  # which it clears
            store = cls(made, group, attributes)
            rows = max(1, (1 << 20) // (4 * positions))
            store._write("tokens", corpus.tokens.astype("<i4"), ("sequence", "position"), (rows, positions))
            store._write("label", corpus.label.astype("<u2"), ("sequence",))
            store._write("document_start", corpus.document_start.astype("<i8"), ("document",))
            store._write("document_source", corpus.document_source.astype("<i8"), ("document", "source"))
            parts = blocks(corpus.shape, sequences_per_block)
            per_block = sequences_per_block * positions
            order = store._make("order", (tokens,), "<u4", ("token",), (min(tokens, per_block),))
            for block in parts:
                stretch = slice(block.first_token, block.first_token + block.tokens)
                order[stretch] = block.order(corpus.tokens, corpus.eos).astype("<u4")
            for layer in layers:
                store._make_bits(layer)
            progress = store._make("progress", (len(layers), len(parts)), "u1", ("layer", "block"), (len(layers), 1))
            progress[:] = 0
            store._write("layer", np.array(layers, "<i4"), ("layer",))
            if vocabulary is not None:
                store._write("vocabulary/bytes", vocabulary["bytes"], ("byte",))
                store._write("vocabulary/start", vocabulary["start"].astype("<i8"), ("boundary",))
            group.attrs.put(attributes)
        return cls.open(path)

    @classmethod
    def is_at(cls, path: Where) -> bool:
        """Whether there is something at `path` already, a run or not. Raises as `find_place`."""
        return find_place(path).is_there()

    @classmethod
    def open(cls, path: Where, *, write: bool = False) -> Store:
        """Open an existing run. Raises NeurolensError if it is none, of a newer schema, or out of reach."""
        place = find_place(path)
        if not place.is_there():
            raise NeurolensError(f"no run at {path}; make one with 'neurolens collect MODEL DATA -o {path}'")
        try:
            group = zarr.open_group(place.zarr, mode="r+" if write else "r")
            schema = group.attrs.get("schema")
        except NeurolensError:
            raise
        except Exception as error:
            raise NeurolensError(f"{path} is not a neurolens run (no readable zarr group); give a RUN.zarr") from error
        if isinstance(schema, int) and schema > SCHEMA:
            raise NeurolensError(f"{path} has schema {schema}, this neurolens reads up to {SCHEMA}; update neurolens")
        if schema != SCHEMA or not REQUIRED.issubset(group.attrs):
            raise NeurolensError(f"{path} is a zarr group but not a neurolens run; give a RUN.zarr")
        return cls(place, group, dict(group.attrs))

    # -- what is in it -----------------------------------------------------------------------------------------

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

    def corpus(self) -> Corpus:
        """The corpus of the run."""
        return Corpus(
            self.read("tokens"),
            self.read("label"),
            tuple(self.attrs["label_names"]),
            self.read("document_start"),
            self.read("document_source"),
            self.attrs["corpus_notes"],
            self.attrs["eos"],
        )

    def progress(self) -> np.ndarray:
        """Bool `(layer, block)`: which bits are on the disk."""
        return self.read("progress").astype(bool)

    def require_complete(self) -> None:
        """Raise IncompleteError, with how much is there, unless every block of every layer is marked."""
        marks = self.progress()
        if not marks.all():
            raise IncompleteError(
                f"{self.path} is incomplete: {marks.sum()} of {marks.size} blocks of layers are collected; "
                f"give the same 'neurolens {self.made_by}' command again to continue"
            )

    @property
    def made_by(self) -> str:
        """The command that continues the run: `merge` for one of several texts that were read apart, else `collect`."""
        corpus = self.attrs.get("corpus")
        return "merge" if isinstance(corpus, dict) and "parts" in corpus else "collect"

    @property
    def by_counts(self) -> bool:
        """Whether the run was merged of what had been counted of its texts: it never had bits of its own."""
        return self.attrs.get("merged") == "counts"

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

    def read(self, name: str, part: Any = ...) -> np.ndarray:
        """An array by its path in the store, or a part of it. Raises NeurolensError naming it if it cannot be read."""
        try:
            return np.asarray(self._group[name][part])  # type: ignore[index]
        except NeurolensError:  # out of reach, which is no damage
            raise
        except KeyError as error:
            raise NeurolensError(f"{self.path} has no {name}; run 'neurolens analyze {self.path}'") from error
        except Exception as error:
            raise NeurolensError(f"{self.path}: {name} is damaged ({first_line(error)}); collect it anew") from error

    def has(self, name: str) -> bool:
        """Whether an array or group of that path exists."""
        return name in self._group

    def names(self, folder: str) -> list[str]:
        """Names of the arrays directly in a group, sorted; none if it does not exist."""
        if folder not in self._group:
            return []
        return sorted(self._group[folder].array_keys())  # type: ignore[union-attr]

    def folders(self, name: str) -> list[str]:
        """Folders directly in that of a group, sorted, also those a stop has left half removed; none if it is none."""
        return self.place.folders(name)

    def metadata(self, name: str) -> dict[str, Any] | None:
        """What stands in the `zarr.json` of an array or group; None if there is none, or it is no JSON object."""
        try:
            found = json.loads(self.place.read(_metadata_of(name)))
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def has_chunk(self, name: str, key: tuple[int, ...]) -> bool:
        """Whether a chunk of an array is on the disk: zarr reads one that is not as zeros."""
        return self.place.is_file(name, "c", *map(str, key))

    def attributes(self, name: str) -> dict[str, Any]:
        """Attributes of an array or group."""
        return dict(self._group[name].attrs)

    def stored_bytes(self, folder: str) -> int:
        """Bytes on disk of the chunks below a group or array."""
        return self.place.size(folder)

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

    # -- writing -----------------------------------------------------------------------------------------------

    def clean(self) -> None:
        """Remove what an interrupted write left behind; call it holding the lock."""
        self.place.clean()

    def commit(self, block: Block, layer: int, rows: np.ndarray) -> None:
        """Write a block of a layer, make sure it is on the disk, then mark it; see `write_bits`."""
        self.write_bits(block, layer, rows)
        self.mark(block, layer)

    def write_bits(self, block: Block, layer: int, rows: np.ndarray) -> None:
        """Write a block of a layer and make sure it is on the disk.

        `rows` uint8 `(neuron, 8 * ceil(tokens / 64))`, neuron-major in context order.
        """
        first = block.first_token // 8
        with _writing(), self.place.writing():
            active: Any = self._group[f"layers/{layer:02d}/active"]  # an array keeps the setting it was opened with
            active[:, first : first + rows.shape[1]] = rows
            self._sync_bits(layer, block.index)

    def write_bits_of(self, block: Block, layer: int, rows: Callable[[slice], np.ndarray], each: Each = map) -> None:
        """`write_bits`, some neurons at a time: `rows` gives those of a slice; `each` may map it by several threads."""
        first = block.first_token // 8
        with _writing(), self.place.writing():
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
            wrong = None if content[-4:] == crc32c(content[:-4]).to_bytes(4, "little") else "its checksum is another"
        except OSError as error:
            content, wrong = b"", error.strerror
        if wrong:
            raise NeurolensError(
                f"{self.path}: bits of layer {layer} are damaged (chunk {part}/{block.index}: {wrong}); "
                "collect the run anew"
            )
        return content

    def mark(self, block: Block, layer: int) -> None:
        """Say that a block of a layer is on the disk."""
        with _writing(), self.place.writing():
            column: Any = self._group["progress"]
            marks = column[:, block.index]
            marks[self.layers.index(layer)] = 1
            column[:, block.index] = marks
            self.place.sync(f"progress/c/0/{block.index}", "progress/c/0")

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
        with _writing(), self.place.writing():
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

    def _sync_bits(self, layer: int, block: int) -> None:
        self.place.sync_matches(f"layers/{layer:02d}/active/c", f"*/{block}")

    def unmark(self, wanted: np.ndarray) -> None:
        """Take marks back, so that collect does these again: all but those of `wanted`, bool `(layer, block)`.

        Written a block at a time, where they are others than on the disk, or what is there cannot be read.
        """
        with _writing(), self.place.writing():
            column: Any = self._group["progress"]
            for block, marks in enumerate(wanted.T.astype(np.uint8)):
                try:
                    same = self.has_chunk("progress", (0, block)) and (column[:, block] == marks).all()
                except NeurolensError:
                    raise
                except Exception:  # zarr's errors are of many kinds; that it is damaged is why it is written
                    same = False
                if not same:
                    column[:, block] = marks
                    self.place.sync(f"progress/c/0/{block}")
            self.place.sync("progress/c/0")

    def restore_bits(self, layer: int) -> None:
        """Make the array of a layer's bits one of which all are collected, its marks being taken back: its metadata,
        which follow from the run's, are written anew, and nothing tells of bits that were dropped. Chunks stay."""
        self.remove(f"layers/{layer:02d}/kept")
        with self.place.writing():
            self.place.unlink(f"layers/{layer:02d}/active/zarr.json")
            self._make_bits(layer)
            self.place.sync_tree(f"layers/{layer:02d}")

    def restore_group(self, name: str) -> None:
        """Write the metadata of a group, which cannot be read, anew, without attributes; what is in it stays."""
        with self.place.writing():
            self.place.unlink(_metadata_of(name))
        self.set_attributes(name, {})

    def write(
        self, name: str, values: np.ndarray, dims: tuple[str, ...], attributes: Mapping[str, Any] | None = None
    ) -> None:
        """Write a result whole, replacing what was there."""
        with _writing(), self.place.writing():
            self._write(name, values, dims, attributes=attributes)

    def set_attributes(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Replace the attributes of an array or group, making a group if there is none; `{}` takes a mark back."""
        with self.place.writing():
            node: Any = self._group[name] if self.has(name) else self._group.create_group(name)
            node.attrs.put(dict(attributes))
            self.place.sync(_metadata_of(name), name)

    def settle(self, *folders: str) -> None:
        """Make sure that what was written below these is on the disk, so that a mark never outlives what it marks."""
        with self.place.writing():
            self.place.sync_tree(*folders)

    def remove(self, name: str) -> None:
        """Remove an array or group with all that is in it; nothing happens if there is none."""
        with self.place.writing():
            self.place.remove(name)

    def log(self, **entry: Any) -> None:
        """Append a line to the `journal`, the log beside the run unless it is set to another: times and hosts, which
        are no part of what is reproduced."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "host": os.uname().nodename, **entry})
        with disk(beside(self.path)), self.journal.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _make_bits(self, layer: int) -> None:
        shape = (self.neurons, row_bytes(self.n_tokens))
        self._make(f"layers/{layer:02d}/active", shape, "u1", ("neuron", "token_byte"), self._bits_chunk())

    def _bits_chunk(self) -> tuple[int, int]:
        """Neurons and bytes of a chunk of bits: one block of as many neurons as make CHUNK_BYTES."""
        step = min(int(self.attrs["block_sequences"]) * self.shape[1] // 8, row_bytes(self.n_tokens))
        return max(1, min(self.neurons, CHUNK_BYTES // max(1, step))), step

    def _make(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        dims: tuple[str, ...],
        chunks: tuple[int, ...],
        attributes: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> Any:
        return self._group.create_array(
            name,
            shape=shape,
            chunks=tuple(max(1, c) for c in chunks),
            dtype=dtype,
            filters=None,
            compressors=[ZstdCodec(level=1), Crc32cCodec()],
            dimension_names=dims,
            fill_value=0,
            attributes=dict(attributes or {}),
            overwrite=overwrite,
        )

    def _write(
        self,
        name: str,
        values: np.ndarray,
        dims: tuple[str, ...],
        chunks: tuple[int, ...] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        rows = max(1, (8 << 20) // max(1, values.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))))
        chunks = chunks or (min(rows, values.shape[0]), *values.shape[1:])
        array = self._make(name, values.shape, values.dtype.str, dims, chunks, attributes, overwrite=True)
        if values.size:
            array[...] = values


def _metadata_of(name: str) -> str:
    """The file of an array's metadata, or a group's; of the root for ""."""
    return f"{name}/zarr.json".lstrip("/")


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    # zarr's check for empty chunks makes writes 2–7 times slower; without it a missing chunk means *not written*
    with zarr.config.set({"array.write_empty_chunks": True}):
        yield
