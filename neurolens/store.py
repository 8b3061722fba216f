"""Store: a run on disk or elsewhere, one zarr v3 group. What is in it, provenance, progress marks.

`docs/store.md` documents the schema to the byte. What holds:

* A run appears whole: it is made beside its place and renamed into it (place.py, also how it is elsewhere).
* A block's bits are on the disk before its mark is: chunks, fsync, mark, fsync. What has no mark is done again.
* Nothing but the arrays and their metadata is inside the group; times and hosts go to `RUN.zarr.log` beside it, which
  also carries the lock (locks.py).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr

from neurolens import IncompleteError, NeurolensError
from neurolens.arrays import writing
from neurolens.bitmaps import Bitmaps
from neurolens.corpus import Block, Corpus, blocks
from neurolens.durable import BEGUN
from neurolens.location import Where, beside
from neurolens.locks import log_path
from neurolens.place import Place, disk, find_place

SCHEMA = 1
# attributes a reader cannot do without
REQUIRED = {"model", "layers", "neurons", "block_sequences", "label_names", "eos"}


class Store(Bitmaps):
    """A run on disk or elsewhere. Open with `Store.open`, make with `Store.create`."""

    def __init__(self, place: Place, group: zarr.Group, attributes: Mapping[str, Any]) -> None:
        super().__init__(place, group, attributes)
        self.journal = log_path(place.at)

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
        with writing(), place.writing(), place.appearing() as made:
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

    # -- writing -----------------------------------------------------------------------------------------------

    def clean(self) -> None:
        """Remove what an interrupted write left behind; call it holding the lock."""
        self.place.clean()

    def commit(self, block: Block, layer: int, rows: np.ndarray) -> None:
        """Write a block of a layer, make sure it is on the disk, then mark it; see `write_bits`."""
        self.write_bits(block, layer, rows)
        self.mark(block, layer)

    def mark(self, block: Block, layer: int) -> None:
        """Say that a block of a layer is on the disk."""
        with writing(), self.place.writing():
            column: Any = self._group["progress"]
            marks = column[:, block.index]
            marks[self.layers.index(layer)] = 1
            column[:, block.index] = marks
            self.place.sync(f"progress/c/0/{block.index}", "progress/c/0")

    def unmark(self, wanted: np.ndarray) -> None:
        """Take marks back, so that collect does these again: all but those of `wanted`, bool `(layer, block)`.

        Written a block at a time, where they are others than on the disk, or what is there cannot be read.
        """
        with writing(), self.place.writing():
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

    def log(self, **entry: Any) -> None:
        """Append a line to the `journal`, the log beside the run unless it is set to another: times and hosts, which
        are no part of what is reproduced."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "host": os.uname().nodename, **entry})
        with disk(beside(self.path)), self.journal.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
