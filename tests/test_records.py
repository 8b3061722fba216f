"""Compressed files, parquet and the hub: the records of plain lines, and what is said of sources that are damaged."""

from __future__ import annotations

import bz2
import gzip
import json
import logging
import lzma
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurolens import NeurolensError, UsageError, compressed, records
from neurolens.documents import Document, read_documents
from neurolens.sources import HubSource, find_sources

settings.register_profile("laws", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("laws")

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}
each_compression = pytest.mark.parametrize("ending", COMPRESS)


def documents(*names: str | Path, **keys) -> list[Document]:
    return list(read_documents(find_sources(names), **keys))


def complaint(*names: str | Path, error: type[NeurolensError] = NeurolensError, **keys) -> str:
    """What is said of bad input: one line that begins with, or names, what it is about."""
    with pytest.raises(error) as caught:
        documents(*names, **keys)
    assert type(caught.value) is error
    message = str(caught.value)
    assert "\n" not in message
    assert any(str(name) in message for name in names) or str(names[0]).startswith("hf:")
    return message


def lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def noise(count: int, seed: int = 0) -> list[str]:
    """Texts that no compression makes small."""
    rng = random.Random(seed)
    return [rng.randbytes(rng.randrange(10, 200)).hex() for _ in range(count)]


# compressed files


@each_compression
@given(parts=st.lists(st.lists(st.text(max_size=20), max_size=4), min_size=1, max_size=4), whole=st.booleans())
def test_compressed_files_are_their_bytes(tmp_path_factory, ending, parts, whole):
    """In one stream or in several, as the Pile's are: cut at line ends or anywhere."""
    folder = tmp_path_factory.mktemp("compressed")
    data = lines([text for part in parts for text in part])
    cut = [data] if whole else [data[i : i + 17] for i in range(0, len(data), 17)] or [b""]
    path = folder / f"a.jsonl{ending}"
    path.write_bytes(b"".join(map(COMPRESS[ending], cut)))
    plain = folder / "a.jsonl"
    plain.write_bytes(data)
    assert documents(path) == documents(plain)
    txt = folder / f"b.txt{ending}"
    txt.write_bytes(path.read_bytes())
    assert documents(txt) == [Document(data.decode(), "b", 0, 0)]


@each_compression
def test_streams_longer_than_what_is_read_at_a_time(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(compressed, "CHUNK", 64)
    texts = noise(300)
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(COMPRESS[ending](lines(texts[:100])) + COMPRESS[ending](lines(texts[100:])))
    assert [document.text for document in documents(path)] == texts


@pytest.mark.parametrize("zeros", [4, 64, 200])
@pytest.mark.parametrize("ending", [".gz", ".xz"])
def test_zeros_may_follow_a_stream(tmp_path, ending, zeros, monkeypatch):
    monkeypatch.setattr(compressed, "CHUNK", 64)
    part = COMPRESS[ending](lines(["x"]))
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(part + b"\0" * zeros + part + b"\0" * zeros)
    assert [document.text for document in documents(path)] == ["x", "x"]


@each_compression
@pytest.mark.parametrize("streams", [1, 2])
def test_a_file_that_is_cut_off_anywhere_is_an_error(tmp_path, ending, streams):
    """Except where a stream ends: nothing tells that another one followed."""
    texts = noise(8)
    parts = [COMPRESS[ending](lines(texts[i * 8 // streams : (i + 1) * 8 // streams])) for i in range(streams)]
    data = b"".join(parts)
    path = tmp_path / f"a.jsonl{ending}"
    for end in range(len(data)):
        path.write_bytes(data[:end])
        if streams == 2 and end == len(parts[0]):
            assert len(documents(path)) == 4
            continue
        message = complaint(path)
        assert message.startswith(f"{path} cannot be decompressed") and "fetch it again" in message, end
        assert "after line" not in message or int(message.split("after line ")[1].split()[0]) <= 8


@each_compression
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_text_that_is_compressed_a_thousandfold(tmp_path, ending, chunk, monkeypatch):
    """More comes out of a piece than is taken at a time, and the last piece holds much of it."""
    monkeypatch.setattr(compressed, "CHUNK", chunk)
    text = "x" * 100_000
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(COMPRESS[ending](text.encode()))
    assert [document.text for document in documents(path)] == [text]


@each_compression
def test_what_is_no_compressed_data_is_an_error(tmp_path, ending):
    path = tmp_path / f"a.jsonl{ending}"
    good = COMPRESS[ending](lines(["x"]))
    damaged = COMPRESS[ending](lines(noise(3)))
    damaged = (
        damaged[: len(damaged) // 2] + bytes([damaged[len(damaged) // 2] ^ 0xFF]) + damaged[len(damaged) // 2 + 1 :]
    )
    cases = [b"", lines(["x"]), b"garbage" * 100, good + b"garbage", good + lines(["y"]), good + damaged]
    if ending == ".zst":
        cases.pop()  # its frames have no checksum here
    for data in cases:
        path.write_bytes(data)
        message = complaint(path)
        assert message.startswith(f"{path} cannot be decompressed") and f"no {ending} file" in message, data
        txt = path.with_name(f"b.txt{ending}")
        txt.write_bytes(data)
        assert complaint(txt).startswith(f"{txt} cannot be decompressed (")


@each_compression
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"\xff", "line 3 is not UTF-8 (byte 0xff at offset 0)"),
        (b'{"text": ', "line 3 is not JSON ("),
        (b'{"txt": 5}', "line 3 has no 'text' (it has: 'txt')"),
        (b"5", "line 3 is a JSON int"),
    ],
)
def test_lines_of_compressed_files_are_named(tmp_path, ending, line, expected):
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(COMPRESS[ending](b'{"text": "x"}\n\n' + line + b"\n"))
    assert complaint(path).startswith(f"{path}: {expected}")


@each_compression
def test_labels_of_compressed_files(tmp_path, ending):
    path = tmp_path / f"wiki.part.jsonl{ending}"
    path.write_bytes(COMPRESS[ending](b'{"text": "x", "set": "a"}\n{"text": "\\ud800"}\n'))
    assert [(d.text, d.label) for d in documents(path, label_key="set")] == [("x", "a"), ("\ufffd", "wiki.part")]
    assert "none of its 2 records" in complaint(path, label_key="sett")


@pytest.mark.parametrize("ending", ["", *COMPRESS])
def test_a_document_has_a_greatest_length(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(records, "LONGEST", 100)
    compress = COMPRESS.get(ending, bytes)
    path, txt = tmp_path / f"a.jsonl{ending}", tmp_path / f"a.txt{ending}"
    for length, fits in ((100, True), (101, False)):
        line = b'{"text": "' + b"x" * (length - 13) + b'"}\n'
        assert len(line) == length
        path.write_bytes(compress(b"\n" + line))
        txt.write_bytes(compress(b"y" * length))
        if fits:
            assert [d.text for d in documents(path, txt)] == ["x" * 87, "y" * 100]
        else:
            assert complaint(path).startswith(f"{path}: line 2 is longer than 100 bytes")
            assert complaint(txt).startswith(f"{txt} holds more than 100 bytes")
    path.write_bytes(compress(b"\0" * 10_000_000))  # not read to its end
    assert "line 1 is longer" in complaint(path)


def test_xz_that_asks_for_too_much_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "MEMORY", 1 << 20)
    path = tmp_path / "a.txt.xz"
    path.write_bytes(lzma.compress(b"x" * 100, preset=9))
    assert "limit" in complaint(path)


def test_one_array_is_told_how_to_become_lines(tmp_path):
    path = tmp_path / "a.json"
    for data in ('[{"text": "x"}]', '[\n  {"text": "x"}\n]\n'):
        path.write_text(data)
        message = complaint(path)
        assert message.startswith(f"{path}: line 1 is ") and "jq -c '.[]'" in message
    path.write_text('{\n  "text": "x"\n}\n')
    message = complaint(path)
    assert message.startswith(f"{path}: line 1 is not JSON (") and message.endswith("expected one object a line")


@pytest.mark.parametrize("name", ["a.json", "a.ndjson", "a.json.gz"])
def test_other_endings_of_lines(tmp_path, name):
    path = tmp_path / name
    path.write_bytes((gzip.compress if name.endswith("gz") else bytes)(lines(["x", "y"])))
    assert [document.text for document in documents(path)] == ["x", "y"]


# parquet


def write(path: Path, rows: dict[str, Any] | pa.Table, **options: Any) -> Path:
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.table(rows), path, **options)
    return path


record = st.fixed_dictionaries(
    {
        "text": st.one_of(st.text(max_size=30), st.just("long " * 200)),
        "set": st.one_of(st.none(), st.sampled_from(["a", "b"])),
        "meta": st.fixed_dictionaries({"n": st.integers(0, 5), "pile_set_name": st.sampled_from(["P", "Q"])}),
    }
)


@given(rows=st.lists(record, max_size=12), group=st.integers(1, 5), at_a_time=st.sampled_from([1, 100, 1 << 20]))
@pytest.mark.parametrize("label_key", [None, "set", "meta.n", "meta.pile_set_name"])
def test_rows_are_the_lines_of_the_same_records(tmp_path_factory, rows, group, at_a_time, label_key):
    folder = tmp_path_factory.mktemp("rows")
    rows = [{"text": "", "set": "a", "meta": {"n": 0, "pile_set_name": "P"}}, *rows]
    path, plain = folder / "a.parquet", folder / "a.jsonl"
    write(path, pa.Table.from_pylist(rows), row_group_size=group)
    plain.write_text("".join(json.dumps(row) + "\n" for row in rows), newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "CHUNK", at_a_time)
        assert documents(path, label_key=label_key) == documents(plain, label_key=label_key)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_every_kind_of_text_column(tmp_path, kind):
    texts = ["x", "", "näïve", "x", "\U0001f600"]
    path = write(tmp_path / "a.parquet", {"other": list(range(5)), "text": pa.array(texts).cast(kind)})
    assert [document.text for document in documents(path)] == texts


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
def test_every_compression_of_parquet(tmp_path, compression):
    texts = noise(20)
    path = write(tmp_path / "a.parquet", {"text": texts}, compression=compression, write_page_checksum=True)
    assert [document.text for document in documents(path)] == texts


def test_chats_and_lists_in_columns(tmp_path):
    chat = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], []]
    path = write(tmp_path / "a.parquet", {"messages": chat, "parts": [["c", "d"], ["e"]]})
    assert [document.text for document in documents(path, text_key="messages")] == ["a\nb", ""]
    assert [document.text for document in documents(path, text_key="parts")] == ["c\nd", "e"]


def test_columns_with_dots(tmp_path):
    path = write(tmp_path / "a.parquet", {"a.b": ["literal"], "a": [{"b": "nested", "c": "other"}]})
    assert [document.text for document in documents(path, text_key="a.b")] == ["literal"]
    path = write(tmp_path / "b.parquet", {"a": [{"b": "nested", "c": {"d": "deep"}}]})
    assert [(d.text, d.label) for d in documents(path, text_key="a.b", label_key="a.c.d")] == [("nested", "deep")]


def test_only_the_columns_asked_for_are_read(tmp_path):
    """A column that cannot be read does not matter when nobody needs it."""
    path = write(tmp_path / "a.parquet", {"text": ["x"] * 50, "bad": noise(50)}, compression="zstd")
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    data = bytearray(path.read_bytes())
    start = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)))
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    assert len(documents(path)) == 50
    assert complaint(path, text_key="bad").startswith(f"{path} cannot be read")


def test_a_parquet_file_without_rows_has_no_documents(tmp_path):
    assert documents(write(tmp_path / "a.parquet", {"text": pa.array([], pa.string())})) == []
    assert documents(write(tmp_path / "b.parquet", {}), label_key="set") == []


def test_columns_that_are_missing_are_named_before_any_row(tmp_path):
    good = write(tmp_path / "a.parquet", {"text": ["x"], "set": ["y"]})
    other = write(tmp_path / "b.parquet", {"content": ["x"], "id": [1]})
    expected = f"{other}: the table has no 'text' (it has: 'content', 'id'); give --text-key"
    assert complaint(good, other) == expected
    expected = f"{other}: the table has no 'set' (it has: 'content', 'id'); give --label-key"
    assert complaint(other, text_key="content", label_key="set") == expected
    assert "the table has no 'a.b'" in complaint(good, text_key="a.b")


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (["x", "y", None], "no"),
        (pa.array([b"x", b"y", b"z"])[2:], "a bytes under"),
        ([5], "a int under"),
        ([{"a": "x"}], "a dict under"),
        ([[1]], "a list whose part 1 is a int under"),
    ],
)
def test_the_row_without_text_is_named(tmp_path, column, found):
    path = write(tmp_path / "a.parquet", {"text": column})
    assert complaint(path).startswith(f"{path}: row {len(column)} has {found} 'text' (it has: 'text'); give --text-key")


def test_a_label_key_that_no_row_has_is_a_mistake(tmp_path):
    path = write(tmp_path / "a.parquet", {"text": ["x", "y"], "set": [1.5, None], "meta": [{"a": 1}, None]})
    for key in ("set", "meta.b", "meta"):
        assert complaint(path, label_key=key).startswith(f"{path}: none of its 2 records has a text or a number under")
    assert [document.label for document in documents(path)] == ["a", "a"]
    assert [document.label for document in documents(path, label_key="meta.a")] == ["1", "a"]


@pytest.mark.parametrize("at_a_time", [1, 1 << 20])
@pytest.mark.parametrize("place", ["text", "set"])
def test_the_row_that_is_no_utf8_is_named(tmp_path, at_a_time, place, monkeypatch):
    monkeypatch.setattr(records, "CHUNK", at_a_time)
    bad = pa.array([b"ok", b"fine", b"na\xefve", b"x"], pa.binary()).view(pa.string())
    good = pa.array(["a", "b", "c", "d"])
    table = {"text": bad, "set": good} if place == "text" else {"text": good, "set": bad}
    path = write(tmp_path / "a.parquet", table)
    message = complaint(path, label_key="set")
    assert message == f"{path}: row 3 is not UTF-8 (byte 0xef at offset 2); convert the file"
    assert len(documents(path, text_key="set" if place == "text" else "text")) == 4


def test_what_is_no_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    whole = write(tmp_path / "b.parquet", {"text": noise(50)}).read_bytes()
    for data in (b"", b"words\n" * 50, lines(["x"]), b"PAR1", b"PAR1" + b"x" * 50 + b"PAR1", whole[:-1], whole[:500]):
        path.write_bytes(data)
        message = complaint(path)
        assert message.startswith(f"{path} cannot be read (") and "no parquet file" in message


def test_damaged_parquet_is_an_error_or_harmless(tmp_path):
    """Checksums of pages find what is wrong in them; elsewhere a changed byte is our error, or harmless."""
    path = tmp_path / "a.parquet"
    texts = noise(30)
    whole = write(path, {"text": texts}, compression="zstd", write_page_checksum=True, row_group_size=10).read_bytes()
    errors = 0
    for place in range(4, len(whole), 61):
        data = bytearray(whole)
        data[place] ^= 0x55
        path.write_bytes(data)
        try:
            read = [document.text for document in documents(path)]
        except NeurolensError as error:
            errors += 1
            assert str(error).startswith(f"{path}") and "\n" not in str(error)
        else:
            assert read == texts or place > len(whole) - 2000  # names and figures at the end have no checksum
    assert errors > len(whole) / 61 / 2


def test_a_damaged_row_group_is_named_by_the_rows_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "CHUNK", 1)
    path = write(tmp_path / "a.parquet", {"text": noise(30)}, compression="zstd", row_group_size=10)
    place = pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[place : place + 100] = b"\xff" * 100
    path.write_bytes(data)
    assert complaint(path).startswith(f"{path} cannot be read after row 20 (")


# the hub: `datasets` itself, on folders that stand for what the hub has


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that `load_dataset` takes NAMEs from; its data sets are read by the library as those of the hub."""
    import datasets

    folder = tmp_path / "hub"
    folder.mkdir()
    load = datasets.load_dataset

    def load_from_folder(path: str, *arguments: Any, **options: Any) -> Any:
        assert options.pop("streaming") is True and set(options) == {"split"}
        if not (folder / path).is_dir():
            return load(path, *arguments, streaming=True, **options)
        return load(str(folder / path), *arguments, streaming=True, **options)

    monkeypatch.setattr(datasets, "load_dataset", load_from_folder)
    monkeypatch.chdir(tmp_path)
    return folder


def data_set(hub: Path, name: str, files: dict[str, list[dict[str, Any]]], card: str = "") -> None:
    for file, rows in files.items():
        path = hub / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            write(path, pa.Table.from_pylist(rows))
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (hub / name).mkdir(parents=True, exist_ok=True)
    (hub / name / "README.md").write_text(card)


CARD = """---
configs:
- config_name: one
  data_files:
  - {split: train, path: one/train*}
  - {split: test, path: one/test*}
- config_name: two
  data_files: two/*
---
"""


def rows(*texts: str, **more: Any) -> list[dict[str, Any]]:
    return [{"text": text, **more} for text in texts]


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_data_sets_of_the_hub_are_streamed(hub: Path, ending: str) -> None:
    files = {
        f"one/train-0{ending}": rows("a", "b", meta={"set": "x"}, image=None),
        f"one/train-1{ending}": rows("c", meta={"set": "y"}, image=None),
        f"one/test{ending}": rows("d", meta={"set": "x"}, image=None),
        f"two/all{ending}": rows("e"),
    }
    data_set(hub, "own/er", files, CARD)
    assert documents("hf:own/er:one") == [
        Document("a", "own/er", 0, 0),
        Document("b", "own/er", 0, 1),
        Document("c", "own/er", 0, 2),
    ]
    assert [(d.text, d.label) for d in documents("hf:own/er:one:test", label_key="meta.set")] == [("d", "x")]
    assert [(d.text, d.file) for d in documents("hf:own/er:two", "hf:own/er:one:test")] == [("e", 0), ("d", 1)]


def test_a_data_set_without_configurations(hub: Path) -> None:
    data_set(hub, "plain", {"train.jsonl": rows("a"), "test.jsonl": rows("b")})
    assert [d.text for d in documents("hf:plain")] == ["a"]
    assert [d.text for d in documents("hf:plain:test")] == ["b"]


def test_chats_of_the_hub(hub: Path) -> None:
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    data_set(hub, "chat", {"train.parquet": [{"messages": chat}]})
    assert [d.text for d in documents("hf:chat", text_key="messages")] == ["a\nb"]


def test_parts_that_a_data_set_lacks(hub: Path) -> None:
    data_set(hub, "own/er", {"one/train.jsonl": rows("a"), "one/test.jsonl": rows("b"), "two/x.jsonl": rows("c")}, CARD)
    for name in ("hf:own/er", "hf:own/er:three", "hf:own/er:three:test"):
        message = complaint(name, error=UsageError)
        assert message.startswith(f"{name.removesuffix(':test')}:") and "one" in message and "two" in message
        assert "hf:NAME[:CONFIG][:SPLIT]" in message and len(message) < 300
    message = complaint("hf:own/er:one:valid", error=UsageError)
    assert "valid" in message and "train" in message and "test" in message
    message = complaint("hf:own/er:one", text_key="body")
    assert message == "hf:own/er:one:train: the table has no 'body' (it has: 'text'); give --text-key"
    message = complaint("hf:own/er:one", label_key="meta.set")
    assert message == "hf:own/er:one:train: the table has no 'meta.set' (it has: 'text'); give --label-key"


def test_rows_of_the_hub_without_text_are_named(hub: Path) -> None:
    data_set(hub, "holes", {"train.jsonl": [{"text": "a"}, {"text": None}]})
    assert complaint("hf:holes").startswith("hf:holes::train: row 2 has no 'text'")
    data_set(hub, "numbers", {"train.jsonl": [{"text": 1}]})
    assert complaint("hf:numbers").startswith("hf:numbers::train: row 1 has a int under 'text'")


def test_data_of_the_hub_that_cannot_be_read(hub: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data_set(hub, "broken", {"train.jsonl": rows("a")})
    (hub / "broken" / "train.jsonl").write_text('{"text": "a"}\nwords\n')
    assert complaint("hf:broken").startswith("hf:broken::train cannot be read")
    data_set(hub, "code", {})
    (hub / "code" / "code.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(NeurolensError, match="hf:code::train"):
        documents("hf:code")
    assert capfd.readouterr() == ("", "")  # no log lines, no progress bars


@pytest.mark.parametrize("name", ["hf:json", "hf:text", "hf:parquet", "hf:here"])
def test_names_that_mean_files_of_this_folder_are_refused(hub: Path, name: str) -> None:
    (hub.parent / "secret.jsonl").write_text('{"text": "read from the current folder"}')
    (hub.parent / "here").mkdir()
    assert "give files by their path" in complaint(name, error=UsageError)


def test_no_network_is_one_line(tmp_path, monkeypatch):
    """What really happens offline: conftest sets HF_HUB_OFFLINE."""
    from datasets import config

    assert config.HF_HUB_OFFLINE
    monkeypatch.chdir(tmp_path)
    message = complaint("hf:no-such-owner/no-such-set")
    assert message.startswith("hf:no-such-owner/no-such-set::train cannot be read (")
    assert "check the network" in message and "HF_HUB_OFFLINE" in message


def raising(error: BaseException) -> Callable[..., Any]:
    def load(*_: Any, **__: Any) -> Any:
        raise error

    return load


def test_a_name_that_the_hub_has_not(tmp_path, monkeypatch):
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    monkeypatch.chdir(tmp_path)
    error = DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed.")
    monkeypatch.setattr(datasets, "load_dataset", raising(error))
    message = complaint("hf:a/b", error=UsageError)
    assert "doesn't exist on the Hub" in message and "check the name" in message and "log in" in message


@pytest.mark.parametrize("error", [ConnectionError("cut\noff"), TimeoutError(), RuntimeError("odd"), KeyError("k")])
def test_a_stream_that_breaks_off(tmp_path, monkeypatch, error):
    import datasets

    class Stream:
        column_names = None

        def __iter__(self) -> Iterator[dict[str, str]]:
            yield from rows("a", "b")
            raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: Stream())
    stream = read_documents([HubSource("a/b")])
    assert [next(stream).text, next(stream).text] == ["a", "b"]
    with pytest.raises(NeurolensError, match="hf:a/b::train cannot be read after row 2") as caught:
        next(stream)
    assert str(caught.value).isprintable()
    assert ("network" in str(caught.value)) == isinstance(error, OSError)


def test_what_is_silenced_speaks_again_afterwards(hub: Path) -> None:
    import datasets
    from huggingface_hub import utils

    data_set(hub, "plain", {"train.jsonl": rows("a", "b")})
    names = ("datasets", "huggingface_hub", "fsspec", "httpx")

    def state() -> list[Any]:
        levels = [logging.getLogger(name).level for name in names]
        return [*levels, datasets.are_progress_bars_disabled(), utils.are_progress_bars_disabled()]

    before = state()
    stream = read_documents(find_sources(["hf:plain"]))
    next(stream)
    assert state() == [logging.CRITICAL] * 4 + [True, True] != before
    del stream
    assert state() == before
    with pytest.raises(NeurolensError):
        documents("hf:plain:nope")
    assert state() == before
