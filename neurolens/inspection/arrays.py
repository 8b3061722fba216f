"""Arrays: whether those that must be there are, with the metadata that they must have; and what else is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from neurolens.durable import PARTIAL
from neurolens.inspection.findings import Findings, brief
from neurolens.parts import PARTS
from neurolens.schema import Expected, row_bytes, table
from neurolens.tables import GRAMS

CODECS = ["bytes", "zstd", "crc32c"]


def check_arrays(seen: Findings) -> None:
    """Every array and group that must be there is, and is what the schema says."""
    before, groups, lengths = len(seen.damages), set[str](), dict[tuple[str, str], tuple[int, str]]()
    for name, expected in seen.expected.items():
        groups |= {str(parent) for parent in Path(name).parents} - {"."}
        if name in seen.dropped:
            continue
        metadata = seen.store.metadata(name)
        if metadata is None:
            there = seen.store.place.exists(f"{name}/zarr.json")
            seen.damage(name, "unreadable zarr.json" if there else "missing", "an array", seen.remedy(name))
            continue
        if wrong := _compare(metadata, expected, _chunk_shape(seen, name)):
            seen.damage(name, *wrong, seen.remedy(name))
            continue
        folder = name.rpartition("/")[0]
        for dim, wanted, size in zip(expected.dims, expected.shape, metadata["shape"], strict=True):
            if wanted is None:
                first, other = lengths.setdefault((folder, dim), (size, name))
                if size != first:
                    seen.damage(name, f"{dim} of {size}", f"{first}, as {other}", seen.remedy(name))
    for name in sorted(groups - {"results"}):
        if (seen.store.metadata(name) or {}).get("node_type") != "group" and seen.store.place.is_folder(name):
            owners = {seen.expected[each].owner for each in seen.expected if each.startswith(f"{name}/")}
            attributes = name in ("results/by_layer", "results/overall") or name.startswith("results/positions/")
            undo = ("part", *sorted(owners)) if attributes else ("group", name)
            seen.damage(f"{name}/zarr.json", "missing or unreadable", "a group", undo)
    seen.holds(f"schema: {len(seen.expected.keys() - seen.dropped)} arrays with their axes, types and codecs", before)


def _chunk_shape(seen: Findings, name: str) -> list[int | None] | None:
    """What the chunks of some arrays must be, for a chunk to be of one block; None inside for any length."""
    if name == "progress":
        return [len(seen.store.layers), 1]
    if not name.endswith("/active"):
        return None
    (sequences, positions), attrs = seen.store.shape, seen.store.attrs
    return [None, min(attrs["block_sequences"] * positions // 8, row_bytes(sequences * positions))]


def _compare(metadata: Mapping[str, Any], expected: Expected, chunk: list[int | None] | None) -> tuple[str, str] | None:
    """(found, expected) of the first thing in which an array's metadata are not as they should be."""

    def fits(values: Any, wanted: Iterable[int | None]) -> bool:
        listed, wanted = isinstance(values, list), list(wanted)
        return (
            listed
            and len(values) == len(wanted)
            and all(type(n) is int and n >= 0 and m in (None, n) for n, m in zip(values, wanted, strict=True))
        )

    def get(*keys: str) -> Any:
        value: Any = metadata
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    codecs, steps = get("codecs"), get("chunk_grid", "configuration", "chunk_shape")
    named = [codec.get("name") for codec in codecs if isinstance(codec, dict)] if isinstance(codecs, list) else None
    little = named == CODECS and (codecs[0].get("configuration") or {}).get("endian", "little") == "little"
    for right, found, wanted in (
        (get("node_type") == "array", get("node_type"), "an array"),
        (fits(get("shape"), expected.shape), get("shape"), f"shape {_shape(expected)}"),
        (get("data_type") in expected.types, get("data_type"), " or ".join(expected.types)),
        (get("dimension_names") == [*expected.dims], get("dimension_names"), f"axes {', '.join(expected.dims)}"),
        (little, named, f"codecs {', '.join(CODECS)}, little endian"),
        (get("fill_value") == 0, get("fill_value"), "fill value 0"),
        (get("chunk_grid", "name") == "regular", get("chunk_grid", "name"), "a regular grid"),
        (
            get("chunk_key_encoding", "configuration", "separator") in (None, "/"),
            get("chunk_key_encoding"),
            "chunks by /",
        ),
        (fits(steps, chunk or [None] * len(expected.dims)) and 0 not in steps, steps, f"chunks {chunk or 'above 0'}"),
    ):
        if not right:
            return brief(found), wanted
    return None


def _shape(expected: Expected) -> str:
    return " × ".join(
        dim if size is None else str(size) for dim, size in zip(expected.dims, expected.shape, strict=True)
    )


def note_foreign(seen: Findings) -> None:
    """Files that no array of this schema has, and what stops have left. None of them harms."""
    place = seen.store.place
    owners = {"run", "vocabulary", *PARTS} | ({"sparse"} if seen.store.attrs["keep_bitmaps"] == "sparse" else set())
    everything = {name for name, *_ in table(seen.store.layers, len(GRAMS), owners)}
    groups = {"", "certificate", *(str(each) for name in everything for each in Path(name).parents)}
    foreign: list[str] = []
    partial = 0
    for path in place.files():
        name, _, file = path.rpartition("/")
        if Path(file).match(PARTIAL):
            partial += 1
        elif not (file == "zarr.json" and (name in everything or name in groups)):
            array, _, key = path.partition("/c/")
            if array not in everything or not _on_grid(seen, array, key):
                foreign.append(path)
    for file in foreign:
        seen.remarks.append(f"{file}: a file that is not neurolens'; it may be removed")
    if partial:
        files = f"{partial} file{'s'[: partial > 1]} {PARTIAL}"
        seen.remarks.append(f"{files}: left by a write that was stopped; the next collect or analyze removes them")
    if place.made is not None and place.made.exists():
        seen.remarks.append(f"{place.made}: left by a collect that was stopped; it may be removed")


def _on_grid(seen: Findings, name: str, key: str) -> bool:
    """Whether an array has a chunk of that key; True for one whose metadata may be wrong."""
    if not seen.sound(name):
        return True
    _, _, counts = seen.grid(name)
    numbers = key.split("/")
    return len(numbers) == len(counts) and all(
        number.isdecimal() and str(int(number)) == number and int(number) < count
        for number, count in zip(numbers, counts, strict=True)
    )
