"""Arrays: what is written directly are the files that zarr writes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from conftest import snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from zarr.codecs import Crc32cCodec, ZstdCodec

from neurolens.arrays import Arrays
from neurolens.place import Folder

DTYPES = ["u1", "<u2", "<u4", "<u8", "i1", "<i4", "<i8", "<f4", "<f8", "?"]
VALUES = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays_of.arrays(np.dtype(dtype), arrays_of.array_shapes(min_side=0, max_side=6, max_dims=3))
)
ATTRIBUTES = st.dictionaries(st.text(max_size=5), st.none() | st.integers(0, 9) | st.text(max_size=5), max_size=2)


def begin(folder: Path) -> Arrays:
    return Arrays(Folder(folder), zarr.create_group(folder, attributes={"of": "a run"}))


def write_by_zarr(folder: Path, name: str, values: np.ndarray, chunks: tuple[int, ...], attributes: Any) -> None:
    with zarr.config.set({"array.write_empty_chunks": True}):
        array: Any = zarr.open_group(folder, mode="r+").create_array(
            name, shape=values.shape, chunks=tuple(max(1, c) for c in chunks), dtype=values.dtype, filters=None,
            compressors=[ZstdCodec(level=1), Crc32cCodec()], dimension_names=list("abc"[: values.ndim]), fill_value=0,
            attributes=attributes, overwrite=True,
        )  # fmt: skip
        array[...] = values


@settings(deadline=None, max_examples=150)
@given(VALUES, VALUES, ATTRIBUTES, st.integers(0, 3))
def test_files_are_those_of_zarr(earlier: np.ndarray, values: np.ndarray, attributes: Any, wider: int) -> None:
    """Whatever was there before; also where a chunk is wider than the array."""
    chunks = tuple(length + wider for length in values.shape)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours"), Path(folder, "theirs")
        arrays = begin(ours)
        arrays.write("deep/er/x", earlier, tuple("abc"[: earlier.ndim]), {"old": 1})
        arrays._write("deep/er/x", values, tuple("abc"[: values.ndim]), chunks if wider else None, attributes)
        begin(theirs)
        write_by_zarr(theirs, "deep/er/x", values, chunks, attributes)
        assert snapshot(ours) == snapshot(theirs)
        np.testing.assert_array_equal(arrays.read("deep/er/x"), values)
        assert arrays.attributes("deep/er/x") == attributes and arrays.names("deep/er") == ["x"]


@pytest.mark.parametrize("entries", [7, 8, 9, 30])
def test_several_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: int) -> None:
    monkeypatch.setattr("neurolens.arrays.WRITE_BYTES", 8 * 2 * 4)
    values = np.arange(entries * 2, dtype="<i4").reshape(entries, 2)
    begin(tmp_path / "ours").write("x", values, ("a", "b"))
    begin(tmp_path / "theirs")
    write_by_zarr(tmp_path / "theirs", "x", values, (min(8, entries), 2), {})
    assert snapshot(tmp_path / "ours") == snapshot(tmp_path / "theirs")
    assert len(list((tmp_path / "ours/x/c").glob("*/*"))) == -(-entries // 8)


def test_values_of_any_layout_and_of_views(tmp_path: Path) -> None:
    values = np.arange(24, dtype="<i8").reshape(4, 6)
    arrays = begin(tmp_path / "r")
    for name, given_ in {"turned": values.T, "some": values[::2, 1::2], "back": values[::-1]}.items():
        arrays.write(name, given_, ("a", "b"))
        assert arrays.read(name).tolist() == given_.tolist()


@pytest.mark.parametrize("call", [1, 2])
def test_a_stop_leaves_no_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Neither an old one with new entries, nor one without: zarr would read what is missing as 0."""
    arrays = begin(tmp_path / "r")
    arrays.write("x", np.arange(3), ("a",))
    calls, write = [], Folder.write

    def stopping(self: Folder, name: str, content: bytes) -> None:
        calls.append(name)
        if len(calls) == call:
            raise KeyboardInterrupt
        write(self, name, content)

    monkeypatch.setattr(Folder, "write", stopping)
    with pytest.raises(KeyboardInterrupt):
        arrays.write("x", np.arange(5), ("a",))
    assert not arrays.has("x")
    monkeypatch.undo()
    arrays.write("x", np.arange(5), ("a",))
    shutil.rmtree(tmp_path / "r" / "x" / "c")
    assert arrays.has("x")  # a chunk that is lost later is for `has_chunk` to find
    assert not arrays.has_chunk("x", (0,))
