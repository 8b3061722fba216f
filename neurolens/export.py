"""Export: results of an analysed run → one parquet or csv file, layer by layer, whole or not at all.

Parquet keeps every column's type; a row group is a layer, and the schema's metadata hold, as JSON under `neurolens`,
what the run is and the thresholds its results were made with. A csv file is a header and rows and nothing else, as its
readers expect: types and provenance stay in the run.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from neurolens import NeurolensError, UsageError, __version__, first_line
from neurolens.location import Where, here
from neurolens.parts import marks, neuron_columns, require
from neurolens.store import Store
from neurolens.tables import named
from neurolens.vocabulary import Vocabulary

TABLES = {"neurons": "dead", "triggers": "ngrams", "positions": "positions"}  # and the part that each is of
SUFFIXES = (".parquet", ".csv")
KEY = "neurolens"  # of the metadata
STRETCH = 1 << 26  # bytes of columns held at once
# of the run's attributes, what says where its numbers come from
PROVENANCE = ("dtype", "device", "activation", "checkpoint", "tokenizer", "corpus_fingerprint", "threads", "versions")


@dataclass(frozen=True)
class Export:
    """What was written: the file, which table, its column names in order, and its number of rows."""

    path: Path
    table: str
    columns: tuple[str, ...]
    rows: int


def export_table(
    store: Store,
    path: str | Path,
    *,
    table: str = "neurons",
    layers: Iterable[int] | None = None,
    force: bool = False,
) -> Export:
    """Write a table of an analysed run to `path`, as parquet or csv by its suffix.

    `table` is `neurons`, a row a neuron; `triggers`, a row a trigger (an n-gram of a neuron), with its text in the
    column `text`; or `positions`, a row a positional neuron, without its curve. All begin with `layer` and `neuron` and
    are in that order. `layers` defaults to all. An existing file is replaced only with `force`. Layers without triggers
    have no rows; a file without rows still has its columns. Memory does not grow with the number of layers.

    Raises UsageError for another suffix or table, layers that the run has not, an existing file, or a missing folder;
    NeurolensError if the run is not analysed, is analysed anew meanwhile, is damaged, or the file cannot be written.
    """
    path = here(path, "a file")
    _check_target(path, store.path, force)
    if table not in TABLES:
        raise UsageError(f"no table {table!r} to export; expected {', '.join(TABLES)}")
    chosen = _chosen(store, layers)
    analysis = require(store, TABLES[table])
    tables = {
        "neurons": lambda: _neurons(store, chosen),
        "triggers": lambda: _triggers(store, chosen, path.suffix == ".csv"),
        "positions": lambda: _positions(store, chosen),
    }[table]()
    first = next(tables)
    schema = first.schema.with_metadata({KEY: json.dumps(_provenance(store, table, chosen, analysis), sort_keys=True)})
    rows = 0
    with _appearing(path, force) as file, _writer(file, schema, path.suffix) as writer:
        for part in chain([first], tables):
            if part.num_rows:
                writer.write_table(part.cast(schema))
            rows += part.num_rows
        if marks(store) != analysis:
            raise NeurolensError(f"{store.path} was analysed anew while it was exported; export it again")
    return Export(path, table, tuple(schema.names), rows)


def _check_target(path: Path, run: Where, force: bool) -> None:
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path} ends in {path.suffix or 'nothing'!r}; expected {' or '.join(SUFFIXES)}")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give a file")
    if not path.parent.is_dir():
        raise UsageError(f"no folder {path.parent}; make it, or give another file")
    if run.resolve() in path.resolve().parents:
        raise UsageError(f"{path} is inside the run, which holds arrays only; give a file beside it")
    _check_free(path, force)


def _check_free(path: Path, force: bool) -> None:
    if not force and os.path.lexists(path):
        raise UsageError(f"{path} exists; give another file, or replace it with --force")


def _chosen(store: Store, layers: Iterable[int] | None) -> list[int]:
    """The layers to export, ascending."""
    chosen = store.layers if layers is None else sorted(set(layers))
    store.require_layers(chosen)
    if not chosen:
        raise UsageError(f"no layer to export; {store.path} has {', '.join(map(str, store.layers))}")
    return chosen


def _provenance(store: Store, table: str, layers: list[int], analysis: dict[str, Any]) -> dict[str, Any]:
    attrs = store.attrs
    return {
        "table": table,
        "run": store.path.name,
        "schema": attrs["schema"],
        "model": {key: attrs["model"].get(key) for key in ("id", "revision")},
        "layers": layers,
        "neurons_per_layer": store.neurons,
        "n_tokens": store.n_tokens,
        "labels": attrs["label_names"],
        "analysis": analysis,
        **{key: attrs.get(key) for key in PROVENANCE},
        "exported_by": f"neurolens {__version__}",
    }


def _neurons(store: Store, layers: list[int]) -> Iterator[pa.Table]:
    names = neuron_columns(store)
    number, numbers = np.arange(store.neurons, dtype=np.int32), store.layers
    step = max(1, STRETCH // max(1, 8 * len(number) * len(names)))
    for first in range(0, len(numbers), step):  # a chunk holds several layers: read one by one, each decodes it anew
        if wanted := [row for row in range(first, min(first + step, len(numbers))) if numbers[row] in layers]:
            part = slice(first, first + step)
            columns = {name: named(name, store.read(f"results/neurons/{name}", part)) for name in names}
            for row in wanted:
                yield _table(numbers[row], number, {name: values[row - first] for name, values in columns.items()})


def _triggers(store: Store, layers: list[int], as_csv: bool) -> Iterator[pa.Table]:
    """Column `token` is the token the neuron is active on, `token_minus_1` the one before it, as far as there are any;
    −1 where a trigger is shorter than that."""
    folders = {layer: f"results/layers/{layer:02d}/triggers" for layer in layers}
    longest = max(store.read(f"{folder}/tokens", slice(0, 0)).shape[1] for folder in folders.values())
    text = lru_cache(1 << 17)(Vocabulary.read(store).text)
    for layer, folder in folders.items():
        columns = {name: store.read(f"{folder}/{name}") for name in store.names(folder)}
        neuron, length, tokens = (columns.pop(name) for name in ("neuron", "n", "tokens"))
        found: dict[str, Any] = {"n": length}
        for back in range(longest - 1, -1, -1):
            inside = back < tokens.shape[1]
            values = tokens[:, -1 - back] if inside else np.full(len(tokens), -1, tokens.dtype)
            found[f"token_minus_{back}" if back else "token"] = np.where(back < length, values, values.dtype.type(-1))
        grams = (tuple(gram[len(gram) - n :]) for gram, n in zip(tokens.tolist(), length.tolist(), strict=True))
        texts = [text(gram) for gram in grams]
        found["text"] = pa.array([quoted(each) for each in texts] if as_csv else texts, pa.string())
        yield _table(layer, neuron, {**found, **columns})


def _positions(store: Store, layers: list[int]) -> Iterator[pa.Table]:
    folder = "results/positions"
    columns = {name: named(name, store.read(f"{folder}/{name}")) for name in store.names(folder) if name != "curve"}
    of, neuron = columns.pop("layer"), columns.pop("neuron")
    for layer in layers:
        here = of == layer
        yield _table(layer, neuron[here], {name: values[here] for name, values in columns.items()})


def _table(layer: int, neuron: np.ndarray, columns: dict[str, Any]) -> pa.Table:
    return pa.table({"layer": np.full(len(neuron), layer, np.int32), "neuron": neuron, **columns})


def quoted(text: str) -> str:
    """Text as a JSON string of printable characters: one line, its spaces seen, and no formula to a spreadsheet.

    >>> print(quoted(" =a\\n"))
    " =a\\n"
    """
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in json.dumps(text, ensure_ascii=False))


def _writer(file: BinaryIO, schema: pa.Schema, suffix: str) -> parquet.ParquetWriter | csv.CSVWriter:
    if suffix == ".parquet":
        return parquet.ParquetWriter(file, schema, compression="zstd")
    return csv.CSVWriter(file, schema, write_options=csv.WriteOptions(quoting_style="needed"))


@contextmanager
def _appearing(path: Path, force: bool) -> Iterator[BinaryIO]:
    """A file that is at `path` once it is whole and on the disk. Of a failure nothing stays."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _check_free(path, force)  # it may have come into being meanwhile
        partial.replace(path)
    except OSError as error:
        free = shutil.disk_usage(path.parent).free / 1e6
        raise NeurolensError(
            f"cannot write {path}: {error.strerror or first_line(error)} ({free:.0f} MB free); make room, or give "
            "another file"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
