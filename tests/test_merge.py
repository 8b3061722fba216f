"""Merged runs: parts give the run that was never divided, texts that of the joined text, to the byte.

The oracles join texts and bits sequence by sequence, and read bits with zarr and numpy alone.
"""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from conftest import POSITIONS, snapshot
from damage import edit, flip, rewrite
from drawn import FEW
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import Drawn, draw_text, draw_texts, join_by_hand

from neurolens import IncompleteError, NeurolensError, UsageError
from neurolens.analyze import analyze_run
from neurolens.cli import run as neurolens
from neurolens.collect import collect
from neurolens.corpus import EOS, Block, Corpus
from neurolens.counts import Counts
from neurolens.locks import lock
from neurolens.merge import merge
from neurolens.merging.join import join_corpora
from neurolens.shards import Shard
from neurolens.store import Store
from neurolens.verify import verify_run

pytestmark = pytest.mark.usefixtures("hasty", "small_chunks")


@pytest.fixture(scope="module")
def small_chunks() -> Iterator[None]:
    """Several chunks also of small blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurolens.bitmaps.CHUNK_BYTES", 1 << 9)
        patch.setattr("neurolens.bitmaps.READ_BYTES", 1 << 9)
        yield


def read_bits(path: Path) -> np.ndarray:
    """Bool `(layer, neuron, token)`, tokens as they stand in the text."""
    run: Any = zarr.open_group(path, mode="r")
    order, found = run["order"][:], []
    for layer in run.attrs["layers"]:
        ranks = np.unpackbits(run[f"layers/{layer:02d}/active"][:], axis=1, count=len(order), bitorder="little")
        bits = np.empty(ranks.shape, bool)
        bits[:, order] = ranks
        found.append(bits)
    return np.array(found)


def attributes(path: Path) -> list[tuple[str, Any]]:
    """Those of the run, in their order, but what tells of its texts."""
    found = json.loads((path / "zarr.json").read_text())["attributes"]
    return [(name, value) for name, value in found.items() if name != "corpus"]


def assert_same_but_for_provenance(path: Path, other: Path) -> None:
    ours, theirs = snapshot(path), snapshot(other)
    assert ours.pop("zarr.json") and theirs.pop("zarr.json")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert attributes(path) == attributes(other)


def part_of(whole: Path, path: Path, wanted: np.ndarray) -> Path:
    """A run with some of the blocks of another, bool `(layer, block)`, as if the others had not been collected."""
    shutil.copytree(whole, path)
    store = Store.open(path, write=True)
    store.unmark(wanted)
    for row, block in np.argwhere(~wanted).tolist():
        for chunk in path.glob(f"layers/{store.layers[row]:02d}/active/c/*/{block}"):
            chunk.unlink()
    return path


def divide(rng: np.random.Generator, whole: Path, folder: Path, count: int) -> list[Path]:
    """Parts of a run: each block of a layer in one of them, some in several."""
    shape = Store.open(whole).progress().shape
    owner, twice = rng.integers(count, size=shape), rng.random((count, *shape)) < 0.2
    return [part_of(whole, folder / f"part-{i}.zarr", (owner == i) | twice[i]) for i in range(count)]


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Runs of two texts of several blocks that are not multiples of one another."""
    rng = np.random.default_rng(7)
    return [
        replace(draw_text(rng, size, 16, 70, [1, 4]), per_block=per_block).run(tmp_path / name)
        for name, size, per_block in (("a.zarr", 22, 8), ("b.zarr", 17, 12))
    ]


# -- laws ----------------------------------------------------------------------------------------------------------


@FEW
@given(seed=st.integers(0, 1 << 30), count=st.integers(2, 4))
def test_parts_give_the_run_that_was_never_divided(seed: int, count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(seed)
        whole = draw_texts(seed, 1)[0].run(folder / "whole.zarr")
        parts = divide(rng, whole, folder, count)
        before = [snapshot(part) for part in parts]
        merge(parts, folder / "merged.zarr")
        assert snapshot(folder / "merged.zarr") == snapshot(whole)
        assert [snapshot(part) for part in parts] == before, "they are only read"


@FEW
@given(seed=st.integers(0, 1 << 30))
def test_texts_give_the_run_of_the_joined_text(seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, texts = Path(name), draw_texts(seed)
        runs = [text.run(folder / f"{i}.zarr") for i, text in enumerate(texts)]
        merged = merge(runs, folder / "merged.zarr").path
        joined = join_by_hand(texts)
        assert_same_but_for_provenance(merged, joined.run(folder / "joined.zarr"))
        np.testing.assert_array_equal(read_bits(merged), joined.bits)
        known = [
            (each["sequences"], each["corpus_fingerprint"]) for each in Store.open(merged).attrs["corpus"]["parts"]
        ]
        assert known == [(text.corpus.shape[0], text.corpus.fingerprint()) for text in texts]


@settings(FEW, max_examples=4)
@given(seed=st.integers(0, 1 << 30))
def test_it_does_not_matter_what_is_merged_first(seed: int) -> None:
    """Two of three texts first, and parts of one of them, which need not be whole before."""
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(seed)
        a, b, c = (text.run(folder / f"{i}.zarr") for i, text in enumerate(draw_texts(seed, 3)))
        merge([a, b, c], folder / "all.zarr")
        merge([a, b], folder / "ab.zarr")
        merge([folder / "ab.zarr", c], folder / "ab-c.zarr")
        merge([a, *divide(rng, b, folder, 2), c], folder / "parts.zarr")
        assert snapshot(folder / "ab-c.zarr") == snapshot(folder / "all.zarr") == snapshot(folder / "parts.zarr")


def test_chunks_of_another_size_are_written_anew(two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As of another version: files are not taken over where they are not what would be written."""
    whole, said = snapshot(two[0]), []
    parts = divide(np.random.default_rng(0), two[0], tmp_path, 2)
    merge(parts, tmp_path / "alike.zarr", say=said.append)
    assert snapshot(tmp_path / "alike.zarr") == whole and "6 blocks of layers taken over as they are, 0" in said[-1]
    monkeypatch.setattr("neurolens.bitmaps.CHUNK_BYTES", 1 << 8)
    merge(parts, tmp_path / "other.zarr", say=said.append)
    assert "0 blocks of layers taken over as they are, 6 put together" in said[-1]
    np.testing.assert_array_equal(read_bits(tmp_path / "other.zarr"), read_bits(two[0]))
    assert len(snapshot(tmp_path / "other.zarr")) > len(whole)


def test_blocks_that_fall_together_are_taken_over(tmp_path: Path) -> None:
    rng, said = np.random.default_rng(3), []
    runs = [
        replace(draw_text(rng, size, 16, 24, [0]), per_block=8).run(tmp_path / f"{size}.zarr") for size in (16, 11, 8)
    ]
    merge(runs, tmp_path / "merged.zarr", say=said.append)
    assert "3 blocks of layers taken over as they are, 2 put together" in said[-1]  # the short one, and all after it


def test_results_of_a_merged_run_are_those_of_the_joined_text(two: list[Path], tmp_path: Path) -> None:
    """Those of the runs are left behind. Dense counts of the merged run are theirs, added."""
    for run in two:
        analyze_run(run, only=["dead"])
    merged = merge(two, tmp_path / "merged.zarr").path
    assert not (merged / "results").exists() and not (merged / "counts").exists()
    rng = np.random.default_rng(7)
    texts = [draw_text(rng, size, 16, 70, [1, 4]) for size in (22, 17)]
    joined = replace(join_by_hand(texts), per_block=8).run(tmp_path / "joined.zarr")
    for path in (merged, joined):
        analyze_run(path, only=["dead", "ngrams", "positions", "contrast"])
    assert_same_but_for_provenance(merged, joined)
    a, b, both = (Store.open(path) for path in (*two, merged))
    for layer in (1, 4):
        ours, theirs, sums = (
            Counts(each.read(f"counts/layers/{layer:02d}/position"), each.read("counts/total/position"))
            for each in (a, b, both)
        )
        added = ours + theirs
        np.testing.assert_array_equal(added.on, sums.on)
        np.testing.assert_array_equal(added.total, sums.total)


# -- real runs -----------------------------------------------------------------------------------------------------


def random_corpus(sequences: int, seed: int, names: Sequence[str] = ("text",)) -> Corpus:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(4, 260, (sequences, POSITIONS), dtype=np.int32)
    tokens[:, 0] = EOS
    tokens[::3, 9] = EOS
    return Corpus.from_tokens(tokens, label=np.arange(sequences) % len(names), label_names=names)


def collect_blocks(model: Path, corpus: Corpus, path: Path, block: int = 8) -> Path:
    """A run of batches of 4 sequences and of blocks of so many."""
    collect(model, corpus, path, batch_tokens=4 * POSITIONS, block_tokens=block * POSITIONS)
    return path


def test_parts_that_are_incomplete_together_are_continued_by_collect(tiny_model: Path, tmp_path: Path) -> None:
    corpus = random_corpus(22, 1)
    whole, out = collect_blocks(tiny_model, corpus, tmp_path / "whole.zarr"), tmp_path / "merged.zarr"
    marks = np.zeros((2, 3, 3), bool)
    marks[0, :, 0], marks[1, :2, 2], marks[1, 0, 0] = True, True, True
    parts = [part_of(whole, tmp_path / f"{i}.zarr", each) for i, each in enumerate(marks)]
    with pytest.raises(IncompleteError, match=r"merged\.zarr has all that these runs have, 5 of 9 blocks of layers"):
        merge(parts, out)
    np.testing.assert_array_equal(Store.open(out).progress(), marks.any(0))
    last = part_of(whole, tmp_path / "last.zarr", np.array([[False, False, False], [False] * 3, [False, False, True]]))
    with pytest.raises(IncompleteError, match="6 of 9"):
        merge([last], out)
    assert verify_run(out, tiny_model).exit_code == 0
    collect_blocks(tiny_model, corpus, out)
    assert snapshot(out) == snapshot(whole)


def test_texts_that_a_model_has_read_apart(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """By the command line, as one run over the joined text would have it, blocks of other sizes among them."""
    first, second = random_corpus(20, 2, ("a", "b")), random_corpus(13, 3, ("b", "c"))
    runs = [
        collect_blocks(tiny_model, first, tmp_path / "first.zarr"),
        collect_blocks(tiny_model, second, tmp_path / "second.zarr", 12),
    ]
    out = tmp_path / "merged.zarr"
    assert neurolens(["merge", *map(str, runs), "-o", str(out), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["sequences"] == 33 and "batches" not in said.err
    assert said.err.strip().splitlines()[-1] == f"{out}: merged; next: neurolens analyze {out}"
    none = [Drawn(corpus, np.zeros((1, 1, corpus.tokens.size), bool), [0], 8) for corpus in (first, second)]
    joined = collect_blocks(tiny_model, join_by_hand(none).corpus, tmp_path / "joined.zarr")
    assert_same_but_for_provenance(out, joined)
    assert verify_run(out, tiny_model).damages == ()
    assert neurolens(["merge", *map(str, runs), "-o", str(out)]) == 0
    assert f"{out} is complete; nothing to do" in capsys.readouterr().err


def test_batches_that_are_not_whole_are_told(tiny_model: Path, tmp_path: Path) -> None:
    runs = [collect_blocks(tiny_model, random_corpus(n, n), tmp_path / f"{n}.zarr") for n in (9, 4)]
    said: list[str] = []
    merge(runs[::-1], tmp_path / "whole.zarr", say=said.append)
    assert not any("whole batches" in line for line in said)
    merge(runs, tmp_path / "not.zarr", say=said.append)
    assert any("texts of 9, 4 sequences are not whole batches of 4: bits near zero may differ" in line for line in said)
    np.testing.assert_array_equal(
        read_bits(tmp_path / "not.zarr"), np.concatenate([read_bits(run) for run in runs], axis=2)
    )


def test_files_are_numbered_on(tiny_model: Path, tmp_path: Path, write_jsonl: Callable[..., Path]) -> None:
    """A run's documents are found in the files of all texts; what was no file is null."""
    texts = ["some words, and more of them " * 9] * 2
    files = [write_jsonl(f"{i}.jsonl", texts) for i in range(3)]
    runs = [tmp_path / name for name in ("one.zarr", "none.zarr", "two.zarr")]
    for data, run in zip((files[:1], random_corpus(4, 4), files[1:]), runs, strict=True):
        collect(tiny_model, data, run, batch_tokens=POSITIONS, block_tokens=8 * POSITIONS)
    store = merge(runs, tmp_path / "merged.zarr")
    paths = store.attrs["corpus"]["paths"]
    assert [path and path["name"] for path in paths] == ["0.jsonl", None, "1.jsonl", "2.jsonl"]
    numbers = [Store.open(run).read("document_source")[:, 0] for run in runs]
    wanted = np.concatenate([numbers[0], numbers[1] + 1, numbers[2] + 2])
    np.testing.assert_array_equal(store.read("document_source")[:, 0], wanted)
    starts = store.read("document_start")
    assert (np.diff(starts) > 0).all() and (store.read("tokens").reshape(-1)[starts - 1] == EOS).all()
    assert store.attrs["corpus"]["parts"][0]["text_key"] == "text"


# -- stops ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [0, 1, 3, 5])
@pytest.mark.parametrize("kind", ["parts", "texts"])
def test_stopped_at_any_block_the_same_command_continues(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, stop: int
) -> None:
    """A block that was written and not marked is done again; what stands there says what continues it."""
    runs = two if kind == "texts" else divide(np.random.default_rng(1), two[0], tmp_path, 2)
    out, mark, left = tmp_path / "merged.zarr", Store.mark, stop

    def stopping(store: Store, block: Block, layer: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        mark(store, block, layer)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Store, "mark", stopping)
        merge(runs, out)
    assert Store.open(out).progress().sum() == stop
    (out / "layers/01/active/c/0").mkdir(parents=True, exist_ok=True)
    (out / "layers/01/active/c/0/0.partial").write_bytes(b"a part of it")
    with pytest.raises(IncompleteError, match="merge' command" if kind == "texts" else "collect' command"):
        Store.open(out).require_complete()
    merge(runs, out)
    merge(runs, tmp_path / "at once.zarr")
    assert snapshot(out) == snapshot(tmp_path / "at once.zarr")
    if kind == "parts":
        assert snapshot(out) == snapshot(two[0])


@pytest.mark.parametrize("at", ["tokens", "active"])
def test_a_full_disk_leaves_what_the_same_command_continues(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], at: str
) -> None:
    """Full when the run is made, of which nothing is left, and when its bits are written."""
    parts, out = divide(np.random.default_rng(1), two[0], tmp_path, 2), tmp_path / "merged.zarr"
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if f"/{at}/" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert neurolens(["merge", *map(str, parts), "-o", str(out)]) == 3
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"cannot write to {out}: No space left on device" in line and "same command again, it continues" in line
    if at == "tokens":
        assert not out.exists() and not list(tmp_path.glob("merged.zarr?making*"))
    else:
        assert not Store.open(out).progress().any()
    merge(parts, out)
    assert snapshot(out) == snapshot(two[0])


def test_damage_of_a_merged_run_is_mended_by_the_same_command(tiny_model: Path, tmp_path: Path) -> None:
    runs = [collect_blocks(tiny_model, random_corpus(n, n), tmp_path / f"{n}.zarr") for n in (12, 8)]
    out, said = merge(runs, tmp_path / "merged.zarr").path, []
    before = snapshot(out)
    flip(out / "layers/01/active/c/1/2")
    found = verify_run(out, mend=True)
    assert found.redo == ("the same 'neurolens merge' command",) and "merge' command" in found.damages[0].mends
    merge(runs, out, say=said.append)
    assert said[-1].endswith("0 blocks of layers taken over as they are, 1 put together from others")
    assert snapshot(out) == before


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ours", "theirs", "message"),
    [
        ("checkpoint", "x" * 64, "y" * 64, "checkpoint is xxxxxxxxxxxx… and yyyyyyyyyyyy…"),
        ("tokenizer", "abc", "abd", "tokenizer is abc and abd"),
        ("dtype", "fp32", "bf16", "dtype is fp32 and bf16"),
        ("device", "cpu", "cuda", "device is cpu and cuda"),
        ("activation", "output of activation_fn > 0", "x", "activation is output of activation_fn > 0 and x"),
        ("batch_sequences", 2, 4, "batch_sequences is 2 and 4"),
        ("threads", 1, 2, "threads is 1 and 2"),
        ("eos", 2, 1, "eos is 2 and 1"),
        ("versions", {"torch": "2.6"}, {"torch": "2.7", "neurolens": "9"}, "torch is 2.6 and 2.7"),
    ],
)
def test_what_can_decide_a_bit_must_be_the_same(
    two: list[Path], tmp_path: Path, name: str, ours: Any, theirs: Any, message: str
) -> None:
    edit(two[0], "", **{name: ours})
    edit(two[1], "", **{name: theirs})
    with pytest.raises(UsageError) as error:
        merge(two, tmp_path / "merged.zarr")
    assert f"a.zarr and {two[1]} do not go together: {message}; merge runs of one model" in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def test_a_version_of_neurolens_decides_no_bit(two: list[Path], tmp_path: Path) -> None:
    edit(two[0], "", versions={"neurolens": "1", "torch": "2"})
    edit(two[1], "", versions={"neurolens": "2", "torch": "2"})
    assert merge(two, tmp_path / "merged.zarr").attrs["versions"]["neurolens"] == "1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": 24}, "tokens a sequence is 16 and 24"),
        ({"layers": [1, 5]}, r"layers is \[1, 4\] and \[1, 5\]"),
        ({"neurons": 64}, "neurons is 70 and 64"),
    ],
)
def test_what_has_another_shape_is_refused(two: list[Path], tmp_path: Path, change: dict, message: str) -> None:
    shape = {"sequences": 9, "positions": 16, "neurons": 70, "layers": [1, 4], **change}
    other = draw_text(np.random.default_rng(5), **shape).run(tmp_path / "c.zarr")
    with pytest.raises(UsageError, match=message):
        merge([two[0], other], tmp_path / "merged.zarr")


def test_parts_must_be_of_the_same_blocks(tmp_path: Path) -> None:
    text = replace(draw_text(np.random.default_rng(5), 9, 16, 24, [0]), per_block=4)
    runs = [replace(text, per_block=each).run(tmp_path / f"{each}.zarr") for each in (4, 8)]
    with pytest.raises(UsageError, match="block_sequences is 4 and 8"):
        merge(runs, tmp_path / "merged.zarr")


def test_paths_that_cannot_be_meant(two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link.zarr").symlink_to(two[1])
    out = str(tmp_path / "merged.zarr")
    a, b = map(str, two)
    for runs, where, message in (
        ([a, b], b, "is one of the runs to merge; give another --output"),
        ([a, b, str(tmp_path / "link.zarr")], out, "link.zarr is given twice"),
        ([a], out, "1 run to merge; give two or more"),
        ([a, b], str(tmp_path / "no" / "m.zarr"), f"no folder {tmp_path / 'no'}"),
    ):
        assert neurolens(["merge", *runs, "-o", where]) == 2
        assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not Path(out).exists()


def test_what_is_no_run_is_refused(two: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "merged.zarr"
    with pytest.raises(NeurolensError, match="no run at"):
        merge([two[0], tmp_path / "none.zarr"], out)
    (tmp_path / "folder").mkdir()
    with pytest.raises(NeurolensError, match="is not a neurolens run"):
        merge([two[0], tmp_path / "folder"], out)
    with pytest.raises(NeurolensError, match="is not a neurolens run"):
        merge(two, tmp_path / "folder")
    edit(two[1], "", schema=2)
    with pytest.raises(NeurolensError, match="has schema 2"):
        merge(two, out)
    assert not out.exists()


def test_a_run_that_is_being_written_is_waited_for(two: list[Path], tmp_path: Path) -> None:
    with lock(two[1]), pytest.raises(NeurolensError, match="is being written by another process"):
        merge(two, tmp_path / "merged.zarr")
    with lock(tmp_path / "merged.zarr"), pytest.raises(NeurolensError, match="another process"):
        merge(two, tmp_path / "merged.zarr")
    assert not (tmp_path / "merged.zarr").exists()


def test_an_output_that_is_another_run_stays(two: list[Path], tmp_path: Path) -> None:
    out = merge(two, tmp_path / "merged.zarr").path
    before = snapshot(out)
    with pytest.raises(UsageError, match=r"is another run than these make: .*its text is not theirs"):
        merge(two[::-1], out)
    edit(two[0], "", dtype="fp16")
    edit(two[1], "", dtype="fp16")
    with pytest.raises(UsageError, match="dtype is fp32 and fp16"):
        merge(two, out)
    assert snapshot(out) == before


def test_a_text_counts_once_and_must_be_complete(two: list[Path], tmp_path: Path) -> None:
    ab = merge(two, tmp_path / "ab.zarr").path
    with pytest.raises(UsageError, match="have a text in common"):
        merge([two[0], ab], tmp_path / "merged.zarr")
    marks = Store.open(two[1]).progress()
    marks[1, 0] = False
    part = part_of(two[1], tmp_path / "part.zarr", marks)
    with pytest.raises(IncompleteError, match=r"part\.zarr: 3 of 4 blocks of layers are collected; a text is joined"):
        merge([two[0], part], tmp_path / "merged.zarr")
    assert not (tmp_path / "merged.zarr").exists()


@pytest.mark.parametrize("kind", ["none", "sparse"])
def test_parts_of_a_text_go_together_by_bits_alone(two: list[Path], tmp_path: Path, kind: str) -> None:
    """What was counted of several texts may be merged: test_merge_counts.py."""
    other = shutil.copytree(two[1], tmp_path / "other.zarr")
    store = Store.open(two[1], write=True)
    if kind == "none":
        store.drop_bits(4)
    else:
        store.thin_bits(4, np.arange(70) % 2 == 0, {"frequency": 0.01})
    with pytest.raises(NeurolensError, match="the bits of layer 4 were dropped once they were counted, and parts of"):
        merge([two[1], other], tmp_path / "merged.zarr")


@pytest.mark.parametrize("keep", ["all", "none"])
def test_shards_that_share_no_disk(tiny_model: Path, tmp_path: Path, keep: str) -> None:
    """Parts have bits as long as no layer is whole; in the merged run they are counted and dropped."""
    corpus = random_corpus(22, 1)
    options: dict[str, Any] = {"batch_tokens": 4 * POSITIONS, "block_tokens": 8 * POSITIONS, "keep_bitmaps": keep}
    collect(tiny_model, corpus, tmp_path / "done.zarr", **options)
    parts = [tmp_path / "0.zarr", tmp_path / "1.zarr"]
    for number, part in enumerate(parts, 1):
        collect(tiny_model, corpus, part, shard=Shard(number, 2), **options)
    merge(parts, tmp_path / "merged.zarr")
    assert snapshot(tmp_path / "merged.zarr") == snapshot(tmp_path / "done.zarr")


@pytest.mark.parametrize("kind", ["parts", "texts"])
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_damaged_bits_are_named(two: list[Path], tmp_path: Path, kind: str, damage: str) -> None:
    """With the run, layer and block, and what to do; what was merged before stays, and nothing after it is marked."""
    chunk, out = two[0] / "layers/04/active/c/2/1", tmp_path / "merged.zarr"
    sound = chunk.read_bytes()
    if damage == "missing":
        chunk.unlink()
    else:
        flip(chunk)
    runs = two
    if kind == "parts":
        runs = [two[0], part_of(two[0], tmp_path / "empty.zarr", np.zeros((2, 3), bool))]
    with pytest.raises(NeurolensError) as error:
        merge(runs, out)
    assert f"{two[0]}: layer 4, block 1 is damaged (" in str(error.value) and error.value.exit_code == 1
    assert f"'neurolens verify {two[0]} --mend', the same 'neurolens collect' command" in str(error.value)
    assert not Store.open(out).progress()[1, 1:].any()
    chunk.write_bytes(sound)
    merge(runs, out)
    assert Store.open(out).progress().all()
    assert kind == "texts" or snapshot(out) == snapshot(two[0])


def test_parts_that_differ_where_they_overlap_are_no_parts_of_one_run(two: list[Path], tmp_path: Path) -> None:
    other = shutil.copytree(two[0], tmp_path / "other.zarr")

    def change(bits: np.ndarray) -> None:
        bits[69, 17] ^= 4  # of block 1

    rewrite(other, "layers/04/active", change)
    with pytest.raises(NeurolensError, match=r"a\.zarr and .*other\.zarr have other bits of layer 4, block 1"):
        merge([two[0], other], tmp_path / "merged.zarr")
    assert not Store.open(tmp_path / "merged.zarr").progress()[1, 1:].any()


def test_a_text_that_is_not_what_was_collected_is_refused(two: list[Path], tmp_path: Path) -> None:
    def change(tokens: np.ndarray) -> None:
        tokens[1, 3] = 8 if tokens[1, 3] != 8 else 7

    rewrite(two[1], "tokens", change)
    with pytest.raises(NeurolensError, match=r"b\.zarr: its text is not the one that it was collected from"):
        merge(two, tmp_path / "merged.zarr")


def test_an_order_that_is_none_is_refused(two: list[Path], tmp_path: Path) -> None:
    def change(order: np.ndarray) -> None:
        order[5] = order[6]

    rewrite(two[1], "order", change)
    with pytest.raises(NeurolensError, match=r"the order of block 0 is no order of its tokens"):
        merge(two, tmp_path / "merged.zarr")


def test_corpora_of_several_kinds_do_not_join() -> None:
    texts = [random_corpus(3, 1), Corpus.from_tokens(np.array([[2, 5, 6]]))]
    with pytest.raises(NeurolensError, match="3 tokens a sequence with </s> = 2 and 48"):
        join_corpora(texts, [1, 1])
    assert join_corpora(texts[:1], [1]) is texts[0]
