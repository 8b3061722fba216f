"""Which text a run reads: files, iterables and streams through `collect`, and what a run remembers of them."""

from __future__ import annotations

import gzip
import itertools
import json
import lzma
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import POSITIONS, random_texts, snapshot

from neurolens import NeurolensError, UsageError, data
from neurolens.checkpoint import Checkpoint
from neurolens.cli import run as neurolens
from neurolens.collect import collect
from neurolens.corpus import pack_documents
from neurolens.data import DataSpec, read_corpus, spec_of
from neurolens.documents import Document
from neurolens.sources import FileSource, HubSource, find_sources
from neurolens.store import Store

TEXTS = random_texts(40, seed=3)
LABELS = ["ab"[i % 3 == 0] for i in range(40)]
PAIRS = list(zip(TEXTS, LABELS, strict=True))


def corpus_of(run: Path) -> Any:
    store = Store.open(run)
    assert store.progress().all()
    return store.corpus()


@pytest.fixture
def formats(tmp_path: Path) -> Path:
    """A folder with the same documents as jsonl, gzipped and zstandard jsonl and parquet, labels under `set`."""
    folder = tmp_path / "formats"
    folder.mkdir()
    rows = [{"text": text, "set": label} for text, label in PAIRS]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / "t.jsonl").write_bytes(lines)
    (folder / "t.jsonl.gz").write_bytes(gzip.compress(lines[:1000]) + gzip.compress(lines[1000:]))
    (folder / "t.jsonl.zst").write_bytes(pa.compress(lines, codec="zstd", asbytes=True))
    pq.write_table(pa.Table.from_pylist(rows), folder / "t.parquet", row_group_size=7)
    return folder


def test_every_format_makes_the_same_corpus(tiny_model: Path, formats: Path, tmp_path: Path) -> None:
    expected = pack_documents(
        [Document(text, label, 0, i) for i, (text, label) in enumerate(PAIRS)],
        Checkpoint(tiny_model).encoder(),
        positions=POSITIONS,
        tokens=2000,
        shares={"a": 2},
    )
    wanted = {"label_key": "set", "tokens": 2000, "shares": {"a": 2}}
    specs = [DataSpec((path,), **wanted) for path in sorted(formats.iterdir())]
    specs += [
        DataSpec(documents=iter(PAIRS), tokens=2000, shares={"a": 2}),
        DataSpec(documents=(Document(*pair, 0, i) for i, pair in enumerate(PAIRS)), tokens=2000, shares={"a": 2}),
    ]
    assert len(specs) == 6
    for number, spec in enumerate(specs):
        run = tmp_path / f"{number}.zarr"
        collect(tiny_model, spec, run)
        found = corpus_of(run)
        assert found.fingerprint() == expected.fingerprint() and found.label_names == ("a", "b")
        assert found.document_start.tolist() == expected.document_start.tolist()
        assert found.document_source.tolist() == expected.document_source.tolist()
        assert found.notes == expected.notes


def test_data_given_in_any_way(tiny_model: Path, formats: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(formats)
    one = formats / "t.parquet"
    fingerprints = set()
    for number, given in enumerate([one, str(one), [one], iter([str(one)]), "*.parquet", (text for text in [one])]):
        collect(tiny_model, given, run := tmp_path / f"{number}.zarr")
        fingerprints.add(corpus_of(run).fingerprint())
    assert len(fingerprints) == 1
    pairs = [(text, "t") for text in TEXTS]
    for number, given in enumerate([pairs, iter(pairs), (pair for pair in pairs)], start=10):
        collect(tiny_model, given, run := tmp_path / f"{number}.zarr")
        fingerprints.add(corpus_of(run).fingerprint())
    assert len(fingerprints) == 1


def test_the_first_item_tells_and_no_more_is_taken() -> None:
    taken = []

    def items() -> Iterator[tuple[str, str]]:
        for pair in PAIRS:
            taken.append(pair)
            yield pair

    spec = spec_of(items())
    assert len(taken) == 1 and spec.paths == () and spec.documents is not None
    assert list(spec.documents) == PAIRS
    assert spec_of("a.txt").paths == ("a.txt",)
    assert spec_of(Path("a.txt")).paths == (Path("a.txt"),)
    assert spec_of(["a.txt", Path("b")]).paths == ("a.txt", Path("b"))


def test_nothing_at_all(tiny_model: Path, tmp_path: Path) -> None:
    for nothing in ([], iter([]), DataSpec(), DataSpec(documents=[])):
        with pytest.raises(NeurolensError, match="the corpus is empty"):
            collect(tiny_model, nothing, tmp_path / "r.zarr")


def test_what_is_no_document_is_named_by_its_place(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(NeurolensError, match="document 41 is a dict; expected"):
        collect(tiny_model, [*PAIRS, {"text": "x"}], tmp_path / "r.zarr")  # type: ignore[list-item]
    with pytest.raises(UsageError, match="give one of them"):
        DataSpec(("a.txt",), documents=PAIRS)
    assert not (tmp_path / "r.zarr").exists()


def test_an_iterable_continues_a_run(tiny_model: Path, tmp_path: Path) -> None:
    collect(tiny_model, PAIRS, tmp_path / "r.zarr", block_tokens=192)
    whole = snapshot(tmp_path / "r.zarr")
    said: list[str] = []
    collect(tiny_model, iter(PAIRS), tmp_path / "r.zarr", block_tokens=192, say=said.append)
    assert "complete; nothing to do" in said[-1] and snapshot(tmp_path / "r.zarr") == whole
    with pytest.raises(UsageError, match="corpus_fingerprint"):
        collect(tiny_model, PAIRS[:-5], tmp_path / "r.zarr", block_tokens=192)


def test_what_a_run_remembers_of_its_text(tiny_model: Path, formats: Path, tmp_path: Path) -> None:
    spec = DataSpec((formats,), label_key="set", tokens=3000)
    collect(tiny_model, spec, tmp_path / "r.zarr")
    names = ["t.jsonl", "t.jsonl.gz", "t.jsonl.zst", "t.parquet"]
    corpus = Store.open(tmp_path / "r.zarr").attrs["corpus"]
    assert corpus == {
        "paths": [{"name": name, "bytes": (formats / name).stat().st_size} for name in names],
        "text_key": "text",
        "label_key": "set",
        "tokens": 3000,
        "shares": {},
        "seq_len": None,
    }
    assert set(corpus_of(tmp_path / "r.zarr").document_source[:, 0].tolist()) <= set(range(4))
    collect(tiny_model, PAIRS, tmp_path / "s.zarr")
    assert Store.open(tmp_path / "s.zarr").attrs["corpus"]["paths"] == []


# streams of the hub


class Hub:
    """Stands for `load_dataset`: endless streams of rows; remembers how many rows each has given."""

    column_names = None

    def __init__(self, labels: dict[str, Any]) -> None:
        self.labels, self.given = labels, dict.fromkeys(labels, 0)

    def __call__(self, name: str, *_: Any, **__: Any) -> Any:
        return self.rows(name)

    def rows(self, name: str) -> Any:
        hub = self

        class Stream:
            column_names = None

            def __iter__(self) -> Iterator[dict[str, str]]:
                for i in itertools.count():
                    hub.given[name] += 1
                    yield {"text": TEXTS[i % 40], "set": hub.labels[name](i)}

        return Stream()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    import datasets

    endless = Hub({"one": lambda i: "x", "two": lambda i: "y" if i < 500 else "z"})
    monkeypatch.setattr(datasets, "load_dataset", endless)
    monkeypatch.setattr(data, "HUB_PATIENCE", 50)
    monkeypatch.chdir(tmp_path)
    return endless


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurolens.corpus.ENCODE_CHARACTERS", 200)


def test_a_stream_is_left_when_it_is_not_needed(
    hub: Hub, small_batches: None, tiny_model: Path, formats: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    given = ("hf:one:config:test", formats / "t.jsonl", "hf:two")
    collect(tiny_model, DataSpec(given, label_key="set", tokens=9600), tmp_path / "r.zarr", say=said.append)
    corpus = corpus_of(tmp_path / "r.zarr")
    assert corpus.label_names == ("a", "b", "x", "y")  # z begins after 450 documents that nobody needed
    assert [note["documents"] for note in corpus.notes.values()] == [26, 14, hub.given["one"], hub.given["two"]]
    for name, label in (("one", "x"), ("two", "y")):
        note = corpus.notes[label]
        assert note["unread_documents"] == 50 and 50 < hub.given[name] < 500
        assert any(line.startswith(f"hf:{name}:") and f"{hub.given[name]:,} documents" in line for line in said)
    assert "hf:one:config:test: streamed from the hub" in said
    assert Store.open(tmp_path / "r.zarr").attrs["corpus"]["paths"] == [
        {"hub": "one", "config": "config", "split": "test"},
        {"name": "t.jsonl", "bytes": (formats / "t.jsonl").stat().st_size},
        {"hub": "two", "config": None, "split": "train"},
    ]
    assert corpus.document_source[:, 0].min() == 0 and corpus.document_source[:, 0].max() == 2


def test_patience_begins_anew_with_a_document_that_is_needed(hub: Hub, small_batches: None, tiny_model: Path) -> None:
    hub.labels["one"] = lambda i: "rare" if i % 40 == 39 else "x"
    spec = DataSpec(("hf:one",), label_key="set", tokens=2400)
    corpus = read_corpus(spec, [HubSource("one")], Checkpoint(tiny_model), POSITIONS)
    assert corpus.notes["x"]["unread_documents"] > 50  # of which never 50 came together
    assert not any(note["short_of_share"] for note in corpus.notes.values())


def test_files_are_read_to_their_end(small_batches: None, tiny_model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """However much of one label comes before the first of another."""
    monkeypatch.setattr(data, "HUB_PATIENCE", 2)
    path = tmp_path / "sorted.jsonl"
    rows = [{"text": text, "set": "first"} for text in TEXTS] + [{"text": TEXTS[0] * 9, "set": "last"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = find_sources([path])
    assert isinstance(sources[0], FileSource)
    corpus = read_corpus(DataSpec((path,), label_key="set", tokens=200), sources, Checkpoint(tiny_model), POSITIONS)
    assert corpus.label_names == ("first", "last") and corpus.notes["first"]["unread_documents"] > 2


def test_a_label_key_that_a_stream_has_not_is_found_when_it_is_left(
    hub: Hub, small_batches: None, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(NeurolensError, match=r"hf:one::train: none of its .* records has .* under 'sett'"):
        collect(tiny_model, DataSpec(("hf:one",), label_key="sett", tokens=2400), tmp_path / "r.zarr")


# docs/data.md


def example_files(folder: Path, model: Path) -> None:
    """What the examples of the page name."""
    text = "".join(TEXTS)
    (folder / "opt-1.3b").symlink_to(model)
    for name in ("novels/a.txt", "novels/deep/b.txt", "papers/c.txt", "code.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "wiki.txt.xz").write_bytes(lzma.compress(text.encode()))
    layouts = {
        "pile/val.jsonl.zst": {"text": text, "meta": {"pile_set_name": "Github"}},
        "SlimPajama-627B/validation/chunk1/x_1.jsonl.zst": {"text": text, "meta": {"redpajama_set_name": "C4"}},
        "wiki.jsonl.zst": {"text": text},
        "chats.jsonl.gz": {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "x"}]},
    }
    for name, row in layouts.items():
        lines = (json.dumps(row) + "\n").encode() * 2
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        packed = gzip.compress(lines) if name.endswith("gz") else pa.compress(lines, codec="zstd", asbytes=True)
        (folder / name).write_bytes(packed)
    (folder / "data").mkdir()
    pq.write_table(pa.table({"content": [text], "meta": [{"language": "en"}]}), folder / "data" / "0.parquet")


def blocks_of_the_page(language: str) -> list[str]:
    page = (Path(__file__).parent.parent / "docs" / "data.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def test_the_commands_of_the_page_work(
    tiny_model: Path, tmp_path: Path, monkeypatch: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    import datasets

    asked = []

    def load(name: str, config: str | None, *, split: str, streaming: bool) -> Any:
        asked.append((name, config, split))
        rows = datasets.Dataset.from_dict({"text": TEXTS, "label": [i % 2 for i in range(40)]})
        return rows.to_iterable_dataset()

    example_files(tmp_path, tiny_model)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", load)
    commands = [line for block in blocks_of_the_page("sh") for line in block.splitlines()]
    labels = [["Github"], ["C4"], ["novels", "deep", "papers"], ["wiki", "code"], ["chats"], ["en"]]
    labels += [["allenai/c4"], ["0", "1"]]
    for command, expected in zip(commands, labels, strict=True):
        name, *arguments = shlex.split(command, comments=True)
        assert name == "neurolens" and neurolens([*arguments, "--dry-run"]) == 0, command
        said = capfd.readouterr().err
        assert re.findall(r"^(\S+): [\d,]+ sequences from", said, flags=re.MULTILINE) == sorted(expected), said
    assert asked == [("allenai/c4", "en", "validation"), ("stanfordnlp/imdb", None, "test")]


def test_the_python_of_the_page_works(tiny_model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    import datasets

    example_files(tmp_path, tiny_model)
    monkeypatch.chdir(tmp_path)
    rows = datasets.Dataset.from_dict({"text": TEXTS}).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    (block,) = blocks_of_the_page("python")
    exec(block, {"database": [SimpleNamespace(body=text, language="en") for text in TEXTS]})
    found = [corpus_of(tmp_path / name).label_names for name in re.findall(r'"(\w+\.zarr)"', block)]
    assert found == [("en",), ("en",), ("allenai/c4", "wiki")]


def test_offline_is_asked_for_in_these_tests() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
