"""Arrays: one zarr v3 group on disk or elsewhere, its arrays and their attributes by path. The only file that writes
them: with their codecs, with every chunk, and on the disk when that is asked for."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import zarr
from google_crc32c import value as crc32c
from numcodecs.zstd import Zstd
from zarr.codecs import Crc32cCodec, ZstdCodec

from neurolens import NeurolensError, first_line
from neurolens.place import Place

WRITE_BYTES = 8 << 20  # of a chunk of a result
ZSTD = Zstd(level=1)


class Arrays:
    """The arrays of a run by their path in it, `results/neurons/dead`."""

    def __init__(self, place: Place, group: zarr.Group) -> None:
        self.place, self._group = place, group
        self.path: Any = place.at  # a Path, or the Url of a run that is elsewhere

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
            found = json.loads(self.place.read(metadata_of(name)))
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

    def write(
        self, name: str, values: np.ndarray, dims: tuple[str, ...], attributes: Mapping[str, Any] | None = None
    ) -> None:
        """Write a result whole, replacing what was there."""
        with writing(), self.place.writing():
            self._write(name, values, dims, attributes=attributes)

    def set_attributes(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Replace the attributes of an array or group, making a group if there is none; `{}` takes a mark back."""
        with self.place.writing():
            node: Any = self._group[name] if self.has(name) else self._group.create_group(name)
            node.attrs.put(dict(attributes))
            self.place.sync(metadata_of(name), name)

    def settle(self, *folders: str) -> None:
        """Make sure that what was written below these is on the disk, so that a mark never outlives what it marks."""
        with self.place.writing():
            self.place.sync_tree(*folders)

    def remove(self, name: str) -> None:
        """Remove an array or group with all that is in it; nothing happens if there is none."""
        with self.place.writing():
            self.place.remove(name)

    def restore_group(self, name: str) -> None:
        """Write the metadata of a group, which cannot be read, anew, without attributes; what is in it stays."""
        with self.place.writing():
            self.place.unlink(metadata_of(name))
        self.set_attributes(name, {})

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
        return _create(
            self._group.create_array,
            name,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            dimension_names=dims,
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
        rows = max(1, WRITE_BYTES // max(1, values.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))))
        chunks = tuple(max(1, c) for c in chunks or (min(rows, values.shape[0]), *values.shape[1:]))
        if values.size and all(length <= chunk for length, chunk in zip(values.shape, chunks, strict=True)):
            return self._write_chunk(name, values, dims, chunks, attributes)
        array = self._make(name, values.shape, values.dtype.str, dims, chunks, attributes, overwrite=True)
        if values.size:
            array[...] = values

    def _write_chunk(
        self,
        name: str,
        values: np.ndarray,
        dims: tuple[str, ...],
        chunks: tuple[int, ...],
        attributes: Mapping[str, Any] | None,
    ) -> None:
        """`_write` of one chunk: zarr's files, in a quarter of the time, elsewhere by half the requests.

        An analysis writes hundreds of them, which took 5 ms each. What comes last makes it an array.
        """
        self.place.remove(name)
        parent = name.rpartition("/")[0]
        if parent and not self.place.is_file(metadata_of(parent)):
            self._group.require_group(parent)
        whole = np.zeros(chunks, values.dtype)
        whole[tuple(slice(length) for length in values.shape)] = values
        packed = bytes(ZSTD.encode(whole))
        self.place.write("/".join([name, "c", *("0" for _ in chunks)]), packed + checksum(packed))
        metadata = json.loads(_metadata(values.dtype.str, values.ndim))
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = chunks
        metadata |= {"shape": values.shape, "attributes": dict(attributes or {}), "dimension_names": dims}
        self.place.write(metadata_of(name), json.dumps(metadata, indent=zarr.config.get("json_indent")).encode())


@functools.cache
def _metadata(dtype: str, ndim: int) -> bytes:
    """What zarr writes as metadata of an array of one entry."""
    files: dict[str, Any] = {}
    names = tuple(map(str, range(ndim)))
    _create(zarr.create_array, files, shape=(1,) * ndim, chunks=(1,) * ndim, dtype=dtype, dimension_names=names)
    return files["zarr.json"].to_bytes()


def _create(create: Callable[..., Any], where: Any, **options: Any) -> Any:
    """An array by zarr: no filters, compressed, with a checksum; what is not written is 0."""
    codecs = [ZstdCodec(level=ZSTD.level), Crc32cCodec()]
    return create(where, filters=None, compressors=codecs, fill_value=0, **options)


def checksum(content: bytes) -> bytes:
    """The four bytes, a CRC-32C, that a chunk of this content ends with."""
    return crc32c(content).to_bytes(4, "little")


def metadata_of(name: str) -> str:
    """The file of an array's metadata, or a group's; of the root for ""."""
    return f"{name}/zarr.json".lstrip("/")


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Chunks are written whatever is in them."""
    # zarr's check for empty chunks makes writes 2–7 times slower; without it a missing chunk means *not written*
    with zarr.config.set({"array.write_empty_chunks": True}):
        yield
