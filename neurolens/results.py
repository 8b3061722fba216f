"""Results: what analyses find → arrays of the store, with their axes, units and names (docs/store.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurolens.bootstrap import Groups
from neurolens.parts import units_of
from neurolens.positional import Positional, join_positional, summarize_positional
from neurolens.store import Store
from neurolens.tables import NAMES, STRENGTHS, SUPPORT, TYPES

Columns = Mapping[str, np.ndarray]


def write_array(store: Store, name: str, values: np.ndarray, dims: tuple[str, ...], **attributes: Any) -> None:
    """Write an array with its units, if it has any, and what its numbers stand for, if they are names'."""
    units, column = units_of(name), name.rpartition("/")[2]
    known = ({"units": units} if units else {}) | ({"names": list(NAMES[column])} if column in NAMES else {})
    store.write(name, values, dims, attributes | known)


def write_counts(store: Store, folder: str, counts: Columns, first: tuple[str, ...] = ()) -> None:
    """Write counts by what they are counted by, `group_label` by both; `first`: axes before these."""
    for name, values in counts.items():
        write_array(store, f"{folder}/{name}", values, (*first, *name.split("_")))


def write_columns(store: Store, folder: str, columns: Columns, dims: tuple[str, ...]) -> None:
    """Write columns of a table whose axes are the last of `dims`; the layers' numbers if they are one of them."""
    for name, values in columns.items():
        write_array(store, f"{folder}/{name}", values, dims[-values.ndim :])
    if "layer" in dims:
        store.write(f"{folder}/layer", np.array(store.layers, "<i4"), ("layer",))


def write_neurons(store: Store, layers: Sequence[Columns]) -> None:
    """Write columns of `results/neurons`, `(neuron,)` each, from every layer's."""
    for name in layers[0]:
        write_array(store, f"results/neurons/{name}", np.stack([each[name] for each in layers]), ("layer", "neuron"))


def write_by_layer(store: Store, by_layer: Columns, overall: Columns) -> None:
    """Write columns of `results/by_layer` and `results/overall`, with their coordinates if these are not there."""
    axes = {"n": np.arange(1, next(iter(overall.values())).shape[1] + 1), "layer": np.array(store.layers, "<i4")}
    for folder, columns, dims in (
        ("results/by_layer", by_layer, ("support", "n", "layer")),
        ("results/overall", overall, ("support", "n")),
    ):
        if not store.has(folder):  # else they are of a part that is marked
            store.set_attributes(folder, {"support": list(SUPPORT)})
            for axis in dims[1:]:
                store.write(f"{folder}/{axis}", axes[axis].astype("<i4"), (axis,))
        for name, values in columns.items():
            write_array(store, f"{folder}/{name}", values, dims)


def write_positional(store: Store, layers: list[Positional], groups: Groups) -> None:
    """Write the positional neurons of all layers as one table, their ranges as another, and how many there are."""
    whole = join_positional(layers)
    sizes = [len(each.rows["neuron"]) for each in layers]
    rows = {"layer": np.repeat(np.array(store.layers, "<i4"), sizes), **whole.rows}
    for name, values in rows.items():
        write_array(store, f"results/positions/{name}", values, ("row", "position")[: values.ndim])
    whole_numbers = {name: getattr(whole.ranges, name).astype(np.int32) for name in ("row", "first", "stop")}
    write_columns(store, "results/positions/ranges", vars(whole.ranges) | whole_numbers, ("range",))
    by_layer, overall = summarize_positional(layers, groups, store.neurons)
    kinds = {"type": list(TYPES[1:]), "strength": list(STRENGTHS[1:])}
    total = [overall.pop(f"total{end}").item() for end in ("", "_low", "_high")]
    store.set_attributes("results/positions/by_layer", kinds)
    write_columns(store, "results/positions/by_layer", by_layer, (*kinds, "layer"))
    known = [value if math.isfinite(value) else None for value in total]
    store.set_attributes("results/positions/overall", {**kinds, "total": known})
    write_columns(store, "results/positions/overall", overall, tuple(kinds))
