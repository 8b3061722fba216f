"""The bytes of files, compressed or not, as they are read: never a whole file, and never less than one unnoticed."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from neurolens import NeurolensError, first_line
from neurolens.sources import FileSource

CHUNK = 1 << 20  # bytes read at a time
MEMORY = 1 << 30  # bytes an xz file may ask for to be decompressed: its strongest preset takes 65 MiB


class _Gunzip:
    """A stream of gz with the interface that the decompressors of xz and bz2 have."""

    def __init__(self) -> None:
        self._decoder, self._full = zlib.decompressobj(wbits=31), False  # 31: with gzip's header and checksum

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._full and not self._decoder.unconsumed_tail

    def decompress(self, data: bytes, most: int) -> bytes:
        out = self._decoder.decompress(self._decoder.unconsumed_tail + data, most)
        self._full = len(out) == most  # more may wait inside
        return out


class _Streams(io.RawIOBase):
    """The bytes of a gz, xz or bz2 file: compressed streams, one after another, to the last whole one.

    The standard library's readers of xz and bz2 take what follows a stream and is none for waste, a damaged second
    stream as well, and leave out its text; here it is an error. Zeros may follow a stream of gz or xz.
    """

    def __init__(self, path: Path, make: Callable[[], Any], padding: bytes = b"") -> None:
        self._file = path.open("rb")
        self._make, self._decoder, self._padding = make, make(), padding

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            data = b""
            if self._decoder.eof:
                data = self._next_stream()
                if not data:
                    return 0
                self._decoder = self._make()
            elif self._decoder.needs_input:
                data = self._file.read(CHUNK)
                if not data:
                    raise EOFError("it ends within a stream")
            out = self._decoder.decompress(data, len(buffer))
            if out:
                buffer[: len(out)] = out
                return len(out)

    def _next_stream(self) -> bytes:
        data = self._decoder.unused_data.lstrip(self._padding)
        while not data and (chunk := self._file.read(CHUNK)):
            data = chunk.lstrip(self._padding)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()


def _open(path: Path, compression: str) -> BinaryIO:
    raw: Any
    if compression and not path.stat().st_size:
        raise EOFError("it is empty")
    if compression == ".gz":
        raw = _Streams(path, _Gunzip, b"\0")
    elif compression == ".xz":
        raw = _Streams(path, lambda: lzma.LZMADecompressor(memlimit=MEMORY), b"\0")
    elif compression == ".bz2":
        raw = _Streams(path, bz2.BZ2Decompressor)
    elif compression == ".zst":
        import pyarrow

        raw = pyarrow.input_stream(str(path), compression="zstd")
    else:
        return path.open("rb", buffering=CHUNK)
    return io.BufferedReader(raw, CHUNK)


@contextmanager
def opened(source: FileSource, place: Callable[[], str] = lambda: "") -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed, as a file to read from (a context manager).

    Raises NeurolensError for what goes wrong inside, with the place that `place` says was reached.
    """
    try:
        with _open(source.path, source.compression) as file:
            yield file
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise NeurolensError(f"cannot read {source}: {os.strerror(error.errno)}") from error
        raise NeurolensError(
            f"{source} cannot be decompressed{place()} ({first_line(error)}); it is cut off, damaged or no "
            f"{source.compression} file: fetch it again"
        ) from error
