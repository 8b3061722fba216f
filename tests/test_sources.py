"""What names mean: files, folders, globs, data sets of the hub; and what is said of names that mean nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurolens import NeurolensError, UsageError
from neurolens.sources import COMPRESSIONS, KINDS, FileSource, HubSource, find_sources, parse_hub

settings.register_profile("laws", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("laws")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `data` of many kinds of files, as the current directory's."""
    names = [
        "data/b.txt",
        "data/a.jsonl.zst",
        "data/config.json",
        "data/en/part-1.json.gz",
        "data/en/part-0.parquet",
        "data/en/deep/er/x.txt.xz",
        "data/.cache/y.txt",
        "data/.z.txt",
        "data/README.md",
        "data/old.parquet.gz",
        "other/only.md",
    ]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "data" / "gone.txt").symlink_to(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*names: str | Path) -> list[tuple[str, str, str, str]]:
    sources = find_sources(names)
    assert all(isinstance(source, FileSource) for source in sources)
    return [(str(s), s.kind, s.compression, s.label) for s in sources if isinstance(s, FileSource)]


def complaint(*names: str, error: type[NeurolensError] = UsageError) -> str:
    with pytest.raises(error) as caught:
        find_sources(names)
    assert type(caught.value) is error
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_files_in_the_order_they_are_named(tree: Path) -> None:
    assert found("data/b.txt", Path("data/a.jsonl.zst"), "data/config.json", "data/b.txt") == [
        ("data/b.txt", "txt", "", "b"),
        ("data/a.jsonl.zst", "jsonl", ".zst", "a"),
        ("data/config.json", "jsonl", "", "config"),
        ("data/b.txt", "txt", "", "b"),
    ]
    assert find_sources([]) == []


@given(
    st.from_regex(r"\A[a-z](\.?[a-z0-9])*\Z").filter(lambda stem: not stem.endswith(tuple(COMPRESSIONS))),
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(["", *COMPRESSIONS]),
)
def test_kind_compression_and_label_are_read_off_the_name(tmp_path_factory, stem, ending, compression):
    path = tmp_path_factory.mktemp("names") / f"{stem}{ending}{compression}"
    path.touch()
    if ending == ".parquet" and compression:
        assert "decompress it" in complaint(str(path))
    else:
        assert found(path) == [(str(path), KINDS[ending], compression, stem)]


def test_a_folder_is_all_readable_files_below_it(tree: Path) -> None:
    said: list[str] = []
    sources = find_sources(["data"], say=said.append)
    assert [str(source) for source in sources] == [
        "data/a.jsonl.zst",
        "data/b.txt",
        "data/en/deep/er/x.txt.xz",
        "data/en/part-0.parquet",
        "data/en/part-1.json.gz",
    ]
    assert [source.label for source in sources] == ["data", "data", "er", "en", "en"]  # not a label a piece
    assert said == ["data: 5 files, 4 of other kinds left out"]  # config.json, README, old.parquet.gz, gone.txt


@pytest.mark.parametrize("name", [".", "../data", "./", "en/.."])
def test_a_folder_lends_its_name_however_it_is_written(tree: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tree / "data")
    assert {source.label for source in find_sources([name])} == {"data", "er", "en"}


def test_nothing_is_said_of_a_folder_that_is_read_whole(tree: Path) -> None:
    said: list[str] = []
    assert [str(source) for source in find_sources(["data/en/deep"], say=said.append)] == ["data/en/deep/er/x.txt.xz"]
    assert said == []


def test_a_folder_named_like_a_file_is_a_folder(tree: Path) -> None:
    (tree / "a.jsonl").mkdir()
    (tree / "a.jsonl" / "x.txt").touch()
    assert found("a.jsonl") == [("a.jsonl/x.txt", "txt", "", "a.jsonl")]


def test_globs_are_the_files_they_match(tree: Path) -> None:
    said: list[str] = []
    sources = find_sources(["data/*", "data/**/*.xz"], say=said.append)
    assert [(str(source), source.label) for source in sources] == [
        ("data/a.jsonl.zst", "a"),
        ("data/b.txt", "b"),
        ("data/config.json", "config"),
        ("data/en/deep/er/x.txt.xz", "x"),
    ]
    assert said == ["data/*: 3 files, 2 of other kinds left out"]
    assert found("data/[ab].*") == found("data/a.jsonl.zst", "data/b.txt")
    assert found(str(tree / "data" / "?.txt")) == [(str(tree / "data" / "b.txt"), "txt", "", "b")]


def test_a_file_whose_name_looks_like_a_glob_is_itself(tree: Path) -> None:
    for name in ("a[b].txt", "ab.txt"):
        (tree / name).touch()
    assert found("a[b].txt") == [("a[b].txt", "txt", "", "a[b]")]


def test_names_that_are_no_utf8_become_labels_that_are(tree: Path) -> None:
    name = os.fsdecode(b"na\xefve.txt")
    (tree / name).touch()
    (source,) = find_sources([name])
    assert source.label == "na\ufffdve"
    assert source.describe() == {"name": "na\ufffdve.txt", "bytes": 0}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none.jsonl", "no file none.jsonl"),
        ("data/README.md", "ends in '.md'"),
        ("data/old.parquet.gz", "is a compressed parquet file"),
        ("empty", "holds no readable file (0 files of other kinds)"),
        ("other", "holds no readable file (1 file of other kinds)"),
        ("*.jsonl", "*.jsonl matches no file"),
        ("other/*", "other/* matches no readable file, 1 file of other kinds"),
        ("dat*", "matches no file and 1 folder (name the folders themselves)"),
        ("a.csv.gz", "ends in '.csv.gz'"),
        ("plain", "ends in 'nothing'"),
        ("a.JSONL", "ends in '.JSONL'"),
        (".txt", "ends in 'nothing'"),
    ],
)
def test_names_that_mean_nothing_readable(tree: Path, name: str, expected: str) -> None:
    if name in ("a.csv.gz", "plain", "a.JSONL", ".txt"):
        (tree / name).touch()
    message = complaint("data/b.txt", name)
    assert expected in message and name in message
    assert (".jsonl" in message and ".txt" in message and ".parquet" in message) or "decompress it" in message


def test_a_folder_that_cannot_be_listed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert "cannot list folder data/en/deep: Permission denied" in complaint("data", error=NeurolensError)


# the hub


@pytest.mark.parametrize(
    ("text", "name", "config", "split"),
    [
        ("hf:imdb", "imdb", "", "train"),
        ("hf:allenai/c4", "allenai/c4", "", "train"),
        ("hf:allenai/c4:en", "allenai/c4", "en", "train"),
        ("hf:allenai/c4:en:validation", "allenai/c4", "en", "validation"),
        ("hf:a/b:test", "a/b", "", "test"),
        ("hf:a/b:test:", "a/b", "test", "train"),
        ("hf:a/b::odd", "a/b", "", "odd"),
        ("hf:a/b::", "a/b", "", "train"),
        ("hf:A.b_c-d/E.f", "A.b_c-d/E.f", "", "train"),
    ],
)
def test_a_data_set_of_the_hub(text: str, name: str, config: str, split: str) -> None:
    source = HubSource(name, config, split)
    assert parse_hub(text) == source and find_sources([Path(text)]) == [source]
    assert source.label == name
    assert source.describe() == {"hub": name, "config": config or None, "split": split}
    assert parse_hub(str(source)) == source


@pytest.mark.parametrize("text", ["hf:", "hf::train", "hf:a/b/c", "hf:../x", "hf:/x", "hf:a b", "hf:a:b:c:d", "hf:a/"])
def test_what_is_no_name_of_a_data_set(text: str) -> None:
    assert text in (message := complaint(text)) and "hf:NAME[:CONFIG][:SPLIT]" in message
