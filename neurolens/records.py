"""Sources → records: lines of JSON, rows of parquet, rows of the hub.

Each comes with the words that say where it stands. Nothing is read whole: memory does not grow with the source.
Nothing of a data set is run.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neurolens import NeurolensError, UsageError, first_line
from neurolens.compressed import CHUNK, opened
from neurolens.sources import HUB, FileSource, HubSource, Source

LONGEST = 1 << 30  # bytes of a document: a longer line is a file without line ends, or a bomb
BOM = b"\xef\xbb\xbf"

Where = tuple[str, dict[str, Any]]


def read_records(source: FileSource | HubSource, keys: Mapping[str, str]) -> Iterator[Where]:
    """Yield (where, record) for each record: "line 3" or "row 3", counted from 1, and the object that stands there.

    `keys` are the dotted keys that will be looked up, each with the option it was given by ("": it may be missing).
    Of a table only their columns are read, and one that is missing is an error before any row. Raises NeurolensError
    with source and place; UsageError for a data set of the hub that does not exist or has no such part.
    """
    if isinstance(source, HubSource):
        return _read_hub(source, keys)
    return _read_parquet(source, keys) if source.kind == "parquet" else _read_jsonl(source)


def read_text(source: FileSource) -> str:
    """The text of a txt file, without a byte order mark. Raises NeurolensError."""
    with opened(source) as file:
        data = file.read(LONGEST + 1)
        if len(data) > LONGEST:
            raise NeurolensError(f"{source} holds more than {_size(LONGEST)}; split it, or make jsonl of it")
    return _decode(data, source, "the file")


def key_error(
    source: object, where: str, key: str, names: Iterable[object], *, found: str = "no", option: str = "--text-key"
) -> NeurolensError:
    """What to raise when a key has nothing of use; `found` says what it has instead, `names` which keys there are."""
    keys = ", ".join(repr(name)[:40] for name in list(names)[:8]) or "no keys"
    return NeurolensError(f"{source}: {where} has {found} {key!r} (it has: {keys}); give {option}")


def _size(count: int) -> str:
    return f"{count / (1 << 30):g} GiB" if count >= 1 << 30 else f"{count:,} bytes"


def _after(noun: str, number: int) -> str:
    return f" after {noun} {number}" if number else ""


# -- lines -----------------------------------------------------------------------------------------------------------


def _read_jsonl(source: FileSource) -> Iterator[Where]:
    number = 0
    with opened(source, lambda: _after("line", number)) as file:
        while line := file.readline(LONGEST + 1):
            number += 1
            where = f"line {number}"
            if len(line) > LONGEST:
                raise NeurolensError(f"{source}: {where} is longer than {_size(LONGEST)}; expected one document a line")
            if line.removeprefix(BOM).strip():
                yield where, _parse(_decode(line, source, where), source, where)


def _parse(line: str, source: Source, where: str) -> dict[str, Any]:
    lines = "; if it is one array, make lines of it: jq -c '.[]'" if line.lstrip().startswith("[") else ""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = str(error).split(":")[0] or "nested too deeply"
        raise NeurolensError(f"{source}: {where} is not JSON ({reason}); expected one object a line{lines}") from error
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise NeurolensError(f"{source}: {where} is a JSON {kind}; expected an object with the text{lines}")
    return value


def _decode(data: bytes, source: Source, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        cut_off = len(data) - len(error.object)  # the decoder leaves out the mark first
        raise _not_utf8(error, source, where, error.start + cut_off) from error


def _not_utf8(error: UnicodeDecodeError, source: Source, where: str, offset: int) -> NeurolensError:
    return NeurolensError(
        f"{source}: {where} is not UTF-8 (byte 0x{error.object[error.start]:02x} at offset {offset}); convert the file"
    )


# -- rows ------------------------------------------------------------------------------------------------------------


def _columns(source: Source, keys: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """The columns that the keys are looked up in. Raises NeurolensError where one that was asked for has none."""
    columns: list[str] = []
    for key, option in keys.items():
        found = [name for name in (key, key.split(".")[0]) if name in names]
        if option and not found:
            raise key_error(source, "the table", key, names, option=option)
        columns += found
    return list(dict.fromkeys(columns))


def _read_parquet(source: FileSource, keys: Mapping[str, str]) -> Iterator[Where]:
    from pyarrow import ArrowException, default_memory_pool
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        # buffered, or a row group's columns are read at once: some files are one row group of gigabytes
        file = ParquetFile(source.path, pre_buffer=False, buffer_size=CHUNK, page_checksum_verification=True)
        with file:
            if not file.metadata.num_rows:
                return
            columns = _columns(source, keys, file.schema_arrow.names)
            batches = file.iter_batches(_rows_at_a_time(file.metadata), columns=columns, use_threads=False)
            for turn, batch in enumerate(batches):
                if turn % 16 == 0:
                    default_memory_pool().release_unused()  # its allocator keeps ever more of what was freed
                try:
                    rows = batch.to_pylist()
                except UnicodeDecodeError:
                    rows = _row_by_row(batch, source, number)
                for row in rows:
                    number += 1
                    yield f"row {number}", row
    except (ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise NeurolensError(f"cannot read {source}: {os.strerror(error.errno)}") from error
        raise NeurolensError(
            f"{source} cannot be read{_after('row', number)} ({first_line(error)}); it is cut off, damaged or no "
            "parquet file: fetch or write it again"
        ) from error


def _rows_at_a_time(metadata: Any) -> int:
    """Rows that take about CHUNK bytes, as the file's own figures have it."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    largest = max(group.total_byte_size / max(1, group.num_rows) for group in groups)
    return int(min(max(1, CHUNK / max(1, largest)), 4096))


def _row_by_row(batch: Any, source: Source, before: int) -> Iterator[dict[str, Any]]:
    """The rows of a batch, up to the one that is not UTF-8."""
    for i in range(batch.num_rows):
        try:
            yield batch.slice(i, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            raise _not_utf8(error, source, f"row {before + i + 1}", error.start) from error


# -- the hub ---------------------------------------------------------------------------------------------------------


def _read_hub(source: HubSource, keys: Mapping[str, str]) -> Iterator[Where]:
    number = 0
    with _quiet():
        try:
            table = _load(source)
            if table.column_names is not None:  # known beforehand for most kinds of files
                table = table.select_columns(_columns(source, keys, table.column_names))
            for row in table:
                number += 1
                yield f"row {number}", row
        except NeurolensError:
            raise
        except Exception as error:  # of any library that datasets reads with
            raise _hub_error(source, number, error) from error


def _load(source: HubSource) -> Any:
    import datasets
    from datasets import packaged_modules

    readers = getattr(packaged_modules, "_PACKAGED_DATASETS_MODULES", {})
    if Path(source.name).exists() or source.name in readers:  # datasets would read files of this folder instead
        what = "the name of a kind of files" if source.name in readers else "a file or folder here"
        raise UsageError(f"{source}: {source.name!r} is {what}; give files by their path, without {HUB}")
    return datasets.load_dataset(source.name, source.config or None, split=source.split, streaming=True)


def _hub_error(source: HubSource, number: int, error: Exception) -> NeurolensError:
    reason = " ".join(str(error).split("Example of usage")[0].split())[:300] or type(error).__name__
    if isinstance(error, FileNotFoundError) and not number:
        return UsageError(f"{source} is not to be had ({reason}); check the name, or log in with hf auth login")
    if isinstance(error, ValueError) and any(word in reason for word in ("BuilderConfig", "Config name", "Bad split")):
        return UsageError(f"{source}: {reason}; expected {HUB}NAME[:CONFIG][:SPLIT]")
    if isinstance(error, (ConnectionError, TimeoutError)):
        todo = "check the network, or that HF_HUB_OFFLINE is not set, or download the data and give the files"
    else:
        todo = "expected a data set of plain files; no code of a data set is run"
    return NeurolensError(f"{source} cannot be read{_after('row', number)} ({reason}); {todo}")


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no log lines of the libraries that speak to the hub: their errors are raised, and ours."""
    import datasets
    from huggingface_hub import utils

    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub", "fsspec", "httpx")]
    levels = [logger.level for logger in loggers]
    bars = [
        (library.enable_progress_bars, library.disable_progress_bars)
        for library in (datasets, utils)
        if not library.are_progress_bars_disabled()
    ]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        for _, disable in bars:
            disable()
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for enable, _ in bars:
            enable()
