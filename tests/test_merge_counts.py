"""Texts whose bits were dropped: what was counted of them gives what would be counted of the joined text.

The oracle is the run of the joined text, whose bits were there to be counted.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import POSITIONS, snapshot
from damage import edit, flip, named, rewrite
from drawn import FEW
from hypothesis import given, settings
from hypothesis import strategies as st
from test_report import Told
from texts import Drawn, draw_text, draw_texts, join_by_hand

from neurolens import IncompleteError, NeurolensError, UsageError
from neurolens.analyze import analyze_run
from neurolens.bootstrap import Bootstrap
from neurolens.cli import run as neurolens
from neurolens.collect import collect
from neurolens.contrast import measure_design, squares_of_design
from neurolens.corpus import EOS, Corpus
from neurolens.curves import PositionRules
from neurolens.keep import end_shards, is_finished
from neurolens.merge import merge
from neurolens.merging.tally import pool_contexts, shift_groups
from neurolens.parts import marks
from neurolens.run import open_run
from neurolens.store import Store
from neurolens.tokens import token_priority
from neurolens.variables import group
from neurolens.verify import verify_run

pytestmark = pytest.mark.usefixtures("hasty", "few_at_once")

COUNTED = ("dead", "positions")
# of positional neurons: what needs counts by group, or by label, and position
UNKNOWN = {
    *(f"results/positions/{name}" for name in ("mi_low", "mi_high", "agreement", "stability")),
    *(f"results/positions/by_layer/{name}_{end}" for name in ("count", "share") for end in ("low", "high")),
    *(f"results/positions/overall/count_{end}" for end in ("low", "high")),
}


@pytest.fixture(scope="module")
def few_at_once() -> Iterator[None]:
    """Several stretches also of few neurons."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurolens.merging.tally.ENTRIES", 1 << 10)
        yield


def with_kinds(text: Drawn) -> Drawn:
    """The first neurons of each layer: dead, always active, on `</s>` alone, and on parts of the positions."""
    sequences, positions = text.corpus.shape
    place = np.tile(np.arange(positions), sequences)
    kinds = [place < 0, place >= 0, place == 0, place < positions // 2, place // 8 % 2 == 0, (place > 2) & (place < 9)]
    for i, bits in enumerate(kinds[: text.bits.shape[1]]):
        text.bits[:, i] = bits
    return text


def draw(seed: int, count: int | None = None) -> list[Drawn]:
    return [with_kinds(text) for text in draw_texts(seed, count)]


def counted(text: Drawn, path: Path, keep: str = "none") -> Path:
    """Its run, once all bits that are not kept were counted; of one that keeps all, once it is analysed."""
    collected(text, path, keep)
    end_shards(path, None, lambda line: None)
    if keep == "all":
        analyze_run(path, only=COUNTED)
    return path


def collected(text: Drawn, path: Path, keep: str = "all") -> Path:
    """Its run, with all attributes that collect gives one."""
    known = dict.fromkeys(("checkpoint", "tokenizer", "activation"), "drawn")
    edit(text.run(path), "", **known, device="cpu", batch_sequences=1, threads=1, corpus={}, keep_bitmaps=keep)
    return path


def arrays(path: Path) -> dict[str, bytes]:
    """Files of what was collected, and of what was counted and can be merged; metadata of groups left out."""
    skipped = {"zarr.json", "results/zarr.json", "results/positions/overall/zarr.json"}
    asked = ("results/layers", "results/by_layer", "results/overall", "results/contexts")
    files = {name: content for name, content in snapshot(path).items() if name not in skipped}
    grams = ("gram", "grams_95")
    return {
        name: content
        for name, content in files.items()
        if not name.startswith(asked)
        and name.split("/c/")[0].removesuffix("/zarr.json") not in UNKNOWN
        and not any(word in name for word in grams)
    }


def assert_counts_of(path: Path, joined: Path) -> None:
    """All that is promised is that of the run of the joined text, to the byte, and the rest is said to be unknown."""
    ours, theirs = arrays(path), arrays(joined)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    store, asked = Store.open(path), marks(Store.open(joined))
    assert list(marks(store)) == ["dead", "positions"] and marks(store)["dead"] == asked["dead"]
    assert marks(store)["positions"] == {"rules": asked["positions"]["rules"], "bootstrap": {}}
    for name in UNKNOWN:
        assert np.isnan(store.read(name)).all(), name
    there = Store.open(joined).attributes("results/positions/overall")
    assert store.attributes("results/positions/overall") == {**there, "total": [there["total"][0], None, None]}


# -- laws ----------------------------------------------------------------------------------------------------------


@settings(FEW, max_examples=3)
@given(seed=st.integers(0, 1 << 30))
def test_counts_are_those_of_the_joined_text(seed: int) -> None:
    """Of texts of any length and labels, whose bits were dropped, or all kept of some."""
    with tempfile.TemporaryDirectory() as name:
        folder, rng, texts = Path(name), np.random.default_rng(seed), draw(seed)
        keep = rng.permutation(["none", *rng.choice(["all", "sparse", "none"], len(texts) - 1)]).tolist()
        runs = [counted(text, folder / f"{i}.zarr", keep[i]) for i, text in enumerate(texts)]
        before = [snapshot(run) for run in runs]
        merged = merge(runs, folder / "merged.zarr").path
        assert [snapshot(run) for run in runs] == before, "they are only read"
        assert_counts_of(merged, counted(join_by_hand(texts), folder / "joined.zarr"))
        assert verify_run(merged).damages == () and verify_run(merged).complete
        assert_sampled(Store.open(merged), texts)


def assert_sampled(store: Store, texts: Sequence[Drawn]) -> None:
    """Contexts are the active tokens of least hash, each hashed by its index in its own text."""
    positions, lengths = store.shape[1], [text.corpus.shape[0] for text in texts]
    assert store.attributes("results/contexts")["texts"] == lengths
    own = np.concatenate([np.arange(length * positions) for length in lengths])
    order, bits = np.argsort(token_priority(own, seed=0), kind="stable"), join_by_hand(texts).bits
    for row, neuron in np.ndindex(bits.shape[:2]):
        wanted = [token for token in order.tolist() if bits[row, neuron, token]][:16]
        found = store.read("results/contexts", (row, neuron)).tolist()
        assert found == wanted + [-1] * (16 - len(wanted))


@settings(FEW, max_examples=2)
@given(seed=st.integers(0, 1 << 30))
def test_it_does_not_matter_what_is_merged_first(seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        a, b, c = (counted(text, folder / f"{i}.zarr") for i, text in enumerate(draw(seed, 3)))
        merge([a, b, c], folder / "all.zarr")
        merge([a, b], folder / "ab.zarr")
        merge([folder / "ab.zarr", c], folder / "ab-c.zarr")
        assert snapshot(folder / "ab-c.zarr") == snapshot(folder / "all.zarr")


def test_texts_that_were_merged_by_bits_go_on_by_counts(tmp_path: Path) -> None:
    """Contexts of such a text were drawn of it as a whole."""
    texts = draw(11, 3)
    runs = [collected(text, tmp_path / f"{i}.zarr") for i, text in enumerate(texts[:2])]
    both = merge(runs, tmp_path / "both.zarr").path
    analyze_run(both, only=COUNTED)
    merged = merge([both, counted(texts[2], tmp_path / "2.zarr")], tmp_path / "merged.zarr")
    assert_counts_of(merged.path, counted(join_by_hand(texts), tmp_path / "joined.zarr"))
    assert_sampled(merged, [join_by_hand(texts[:2]), texts[2]])
    assert len(merged.attrs["corpus"]["parts"]) == 3


@FEW
@given(seed=st.integers(0, 1 << 30))
def test_squares_are_found_again_in_design_effects(seed: int) -> None:
    """Also of neurons that are always active or never, and of labels with one sequence, or none."""
    rng = np.random.default_rng(seed)
    positions, sequences, labels = (int(rng.integers(1, most)) for most in (3000, 400, 9))
    rate = rng.choice([0, 1, 0.5, 1e-3], (50, sequences), p=[0.3, 0.3, 0.3, 0.1])
    on = rng.binomial(positions, rate * rng.choice([0, 0.3, 1], (50, 1))).astype(float)
    on[0], on[1], on[2] = 0, positions, np.eye(sequences)[0]
    label = rng.integers(labels, size=sequences)
    number = np.bincount(label)
    sums = np.stack([on[:, label == each].sum(1) for each in range(len(number))], axis=1)
    found = squares_of_design(measure_design(on, label, positions), sums, number, positions)
    assert found.tolist() == (on**2).sum(1).tolist()


def test_squares_of_other_counts_are_refused() -> None:
    on, label = np.random.default_rng(0).integers(0, 9, (20, 12)).astype(float), np.arange(12) % 2
    sums, number = np.stack([on[:, label == each].sum(1) for each in (0, 1)], axis=1), np.array([6, 6])
    design = measure_design(on, label, 9)
    with pytest.raises(NeurolensError, match="design effects that are not those of the counts"):
        squares_of_design(design * 1.01, sums, number, 9)
    with pytest.raises(NeurolensError):
        squares_of_design(np.full(20, np.nan), sums, number, 9)


@FEW
@given(seed=st.integers(0, 1 << 30))
def test_groups_are_shifted_by_what_stands_before(seed: int) -> None:
    """By hand: each sequence in its group of the joined text. Without counts by both only where all labels agree."""
    rng = np.random.default_rng(seed)
    labels, groups = int(rng.integers(1, 5)), int(rng.integers(1, 9))
    before, own = (rng.integers(labels, size=int(rng.integers(1, 40))) for _ in range(2))
    on, whole = rng.integers(0, 9, len(own)), np.concatenate([before, own])

    def tabulated(label: np.ndarray, first: int) -> np.ndarray:
        corpus = Corpus.from_tokens(np.tile([EOS, 5], (len(label), 1)), label=label, label_names=list("abcd")[:labels])
        table = np.zeros((1, groups, labels), np.uint16)
        np.add.at(table[0], (group(corpus, groups).codes[::2][first:], label[first:]), on)
        return table

    both, wanted = tabulated(own, 0), tabulated(whole, len(before))
    counts = [np.bincount(each, minlength=labels) for each in (before, own)]
    by_group, shifted = shift_groups(both.sum(2), both, *counts)
    np.testing.assert_array_equal(shifted, wanted)
    np.testing.assert_array_equal(by_group, wanted.sum(2))
    if len(set(counts[0][counts[1] > 0] % groups)) == 1:
        np.testing.assert_array_equal(shift_groups(both.sum(2), None, *counts)[0], wanted.sum(2))
    else:
        with pytest.raises(NeurolensError, match="labels were not counted by group"):
            shift_groups(both.sum(2), None, *counts)


def test_a_token_of_any_text_is_sampled_as_probably() -> None:
    """Of a neuron that is always active, in a text and in one three times as long: a quarter of the contexts, and three
    quarters; hashed by the joined index, those of the second text would hardly ever come first."""
    first = []
    for seed in range(200):
        samples, start = [], 0
        for size in (200, 600):
            own = np.argsort(token_priority(np.arange(size), seed=seed))[None, :16]
            samples.append((own, start, np.array([0, size])))
            start += size
        first.append(int((pool_contexts(samples, 16, seed) < 200).sum()))
    assert 3.5 < np.mean(first) < 4.5


def test_more_labels_than_are_counted_by_group(tmp_path: Path) -> None:
    """Together, they are not either; in one text, its groups can be told where nothing stands before."""
    rng = np.random.default_rng(1)
    texts = [draw_text(rng, size, 16, 24, [0]) for size in (130, 110, 9)]

    def relabelled(text: Drawn, label: np.ndarray, names: str, count: int) -> Drawn:
        known = {"label": label, "label_names": [f"{names}{i}" for i in range(count)]}
        return replace(text, corpus=replace(Corpus.from_tokens(text.corpus.tokens, **known), notes={}))

    many = relabelled(texts[0], np.arange(130) % 101, "x", 101)
    half, few = relabelled(texts[1], np.arange(110) % 60, "y", 60), relabelled(texts[2], np.arange(9) % 2, "x", 2)
    a, b, c = (counted(text, tmp_path / name) for name, text in (("a", many), ("b", half), ("c", few)))
    merged = merge([b, a], tmp_path / "merged.zarr").path
    joined = join_by_hand([half, many])
    oracle = counted(replace(joined, corpus=replace(joined.corpus, notes={})), tmp_path / "joined.zarr")
    assert_counts_of(merged, oracle)
    assert not (merged / "counts/layers/00/group_label").exists() and verify_run(merged).damages == ()
    with pytest.raises(NeurolensError, match="layer 0: 101 labels were not counted by group"):
        merge([c, a], tmp_path / "never.zarr")


# -- stops and damage ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs of two texts without bits."""
    folder, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(7)
    texts = [with_kinds(draw_text(rng, size, 16, 70, [1, 4])) for size in (22, 17)]
    return [counted(text, folder / f"{name}.zarr") for text, name in zip(texts, "ab", strict=True)]


@pytest.fixture
def two(made: list[Path], tmp_path: Path) -> list[Path]:
    return [shutil.copytree(run, tmp_path / run.name) for run in made]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("merging.tally.Tally.scan", 1),
        ("merging.tally.Tally.scan", 2),
        ("merging.tally.write_scans", 1),
        ("merging.tally.mark", 1),
        ("merging.tally.mark", 2),
        ("store.Store.drop_bits", 1),
        ("store.Store.drop_bits", 2),
        ("store.Store.unmark", 1),
    ],
)
@pytest.mark.parametrize("after", [False, True])
def test_stopped_anywhere_the_same_command_continues(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int, after: bool
) -> None:
    from pydoc import locate

    out, (home, _, method) = tmp_path / "merged.zarr", f"neurolens.{name}".rpartition(".")
    owner: Any = locate(home)
    whole, calls = getattr(owner, method), []

    def stopping(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == call and not after:
            raise KeyboardInterrupt
        found = whole(*arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, method, stopping)
        merge(two, out)
    done = name == "store.Store.unmark" and after
    assert is_finished(Store.open(out)) == done
    seen = verify_run(out)
    assert seen.damages == () and seen.complete == done
    if not done:
        with pytest.raises(IncompleteError, match="the same 'neurolens merge' command again"):
            analyze_run(out)
    merge(two, out)
    assert snapshot(out) == snapshot(merge(two, tmp_path / "at once.zarr").path)


def test_damage_of_the_merged_run_is_mended_by_the_same_command(two: list[Path], tmp_path: Path) -> None:
    out = merge(two, tmp_path / "merged.zarr").path
    before = snapshot(out)
    for file in ("counts/layers/04/position/c/0/0", "results/positions/mi/c/0"):
        flip(out / file)
        found = verify_run(out, mend=True)
        assert named(found) == {file} and found.redo == ("the same 'neurolens merge' command",)
        assert verify_run(out).damages == () and not is_finished(Store.open(out))
        merge(two, out)
        assert snapshot(out) == before
    flip(out / "progress/c/0/0")
    assert verify_run(out, mend=True).redo == () and snapshot(out) == before, "marks are given back"
    edit(out, "", merged="twice")
    assert named(verify_run(out)) >= {"zarr.json"}


def test_damage_of_a_text_is_named(two: list[Path], tmp_path: Path) -> None:
    out, chunk = tmp_path / "merged.zarr", two[1] / "counts/layers/04/label/c/0/0"
    sound = chunk.read_bytes()
    chunk.unlink()
    with pytest.raises(NeurolensError, match=r"b\.zarr is damaged: it lacks counts/layers/04/label/c/0/0; 'n"):
        merge(two, out)
    assert not out.exists()
    chunk.write_bytes(sound)
    flip(chunk)
    with pytest.raises(NeurolensError, match=r"b\.zarr: counts/layers/04/label is damaged"):
        merge(two, out)
    chunk.write_bytes(sound)
    assert not is_finished(Store.open(out))

    def change(design: np.ndarray) -> None:
        design[1, 7:] *= 1.5

    rewrite(two[0], "results/neurons/design_effect", change)
    with pytest.raises(NeurolensError, match=r"a\.zarr, layer 4: design effects that are not those of the counts"):
        merge(two, out)


def test_cards_of_positional_neurons_say_what_is_known(two: list[Path], tmp_path: Path) -> None:
    run = open_run(merge(two, tmp_path / "merged.zarr").path)
    table = run.positions
    assert len(table["neuron"]) and set(table.rules) == set(vars(PositionRules()))
    for layer, neuron in zip(table["layer"].tolist(), table["neuron"].tolist(), strict=True):
        card = run.neuron(layer, neuron)
        assert "positional: " in str(card) and "resamplings" not in str(card) and "nan" not in str(card)
        kind = json.loads(json.dumps(card.to_dict(), allow_nan=False))["positions"]["kind"]
        assert kind["stability"] is None and kind["agreement"] is None and kind["type"]


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("checkpoint", "checkpoint is one and another"),
        ("tokenizer", "tokenizer is one and another"),
        ("dtype", "dtype is one and another"),
        ("batch_sequences", "batch_sequences is one and another"),
    ],
)
def test_runs_of_other_models_are_refused(two: list[Path], tmp_path: Path, name: str, message: str) -> None:
    edit(two[0], "", **{name: "one"})
    edit(two[1], "", **{name: "another"})
    with pytest.raises(UsageError, match=f"do not go together: {message}"):
        merge(two, tmp_path / "merged.zarr")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bootstrap": Bootstrap(seed=5)}, "seed of the bootstrap is 0 and 5; analyze"),
        (
            {"bootstrap": Bootstrap(100, confidence=0.5)},
            r"replicates of the bootstrap is 200 and 100, confidence of the bootstrap is 0\.95 and 0\.5; analyze",
        ),
        ({"positions": PositionRules(threshold=0.1)}, r"threshold of positions is 0\.05 and 0\.1; analyze"),
    ],
)
def test_texts_that_were_counted_otherwise_are_refused(
    made: list[Path], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    other = collected(draw_text(np.random.default_rng(3), 9, 16, 70, [1, 4]), tmp_path / "c.zarr")
    analyze_run(other, only=COUNTED, **options)
    with pytest.raises(UsageError, match=rf"a\.zarr and .*c\.zarr were not counted alike: {message}"):
        merge([made[0], other], tmp_path / "merged.zarr")
    asked = marks(Store.open(made[0]))
    edit(other, "results", parts={**asked, "dead": {**asked["dead"], "groups": 9}})
    with pytest.raises(UsageError, match="alike: groups is 20 and 9; analyze"):
        merge([made[0], other], tmp_path / "merged.zarr")
    assert not (tmp_path / "merged.zarr").exists()


def test_texts_must_be_counted_whole_and_once(two: list[Path], tmp_path: Path) -> None:
    out, text = tmp_path / "merged.zarr", draw_text(np.random.default_rng(3), 9, 16, 70, [1, 4])
    kept = collected(text, tmp_path / "c.zarr")
    for only, part in (([], "dead"), (["dead"], "positions")):
        analyze_run(kept, only=only)
        with pytest.raises(NeurolensError, match=rf"c\.zarr is not analysed for {part}; run 'neurolens analyze"):
            merge([*two, kept], out)
    analyze_run(kept, only=COUNTED)
    again = shutil.copytree(kept, tmp_path / "again.zarr")
    with pytest.raises(UsageError, match=r"c\.zarr and .*again\.zarr are parts of one text"):
        merge([*two, kept, again], out)
    ended = collected(draw_text(np.random.default_rng(4), 9, 16, 70, [1, 4]), tmp_path / "d.zarr", "none")
    with pytest.raises(IncompleteError, match=r"d\.zarr: bits are collected and not all .*'neurolens collect' command"):
        merge([*two, ended], out)
    marked = Store.open(two[1]).progress()
    Store.open(two[1], write=True).unmark(np.zeros_like(marked))
    with pytest.raises(IncompleteError, match=r"b\.zarr: 0 of \d blocks of layers are collected"):
        merge(two, out)
    assert not out.exists()
    Store.open(two[1], write=True).unmark(marked)
    ab = merge(two, out).path
    with pytest.raises(UsageError, match="have a text in common"):
        merge([two[0], ab], tmp_path / "more.zarr")
    before = snapshot(ab)
    with pytest.raises(UsageError, match=r"another run than these make: .*its text is not theirs"):
        merge(two[::-1], ab)
    assert snapshot(ab) == before


def test_an_output_of_bits_is_not_one_of_counts(tmp_path: Path) -> None:
    runs = [collected(text, tmp_path / f"{i}.zarr") for i, text in enumerate(draw(5, 2))]
    out = merge(runs, tmp_path / "merged.zarr").path
    analyze_run(runs[0], only=COUNTED)
    shutil.rmtree(runs[1])
    counted(draw(5, 2)[1], runs[1])
    with pytest.raises(UsageError, match="keep_bitmaps is all and none, merged is bits and counts"):
        merge(runs, out)


# -- real runs -----------------------------------------------------------------------------------------------------


def text_of(sequences: int, seed: int, names: Sequence[str]) -> Corpus:
    tokens = np.random.default_rng(seed).integers(4, 260, (sequences, POSITIONS), dtype=np.int32)
    tokens[:, 0] = EOS
    tokens[::3, 9] = EOS
    return Corpus.from_tokens(tokens, label=np.arange(sequences) % len(names), label_names=names)


def test_texts_that_a_model_has_read_apart(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command line, with what there is to do with the run that comes out."""
    options: dict[str, Any] = {"batch_tokens": 4 * POSITIONS, "block_tokens": 8 * POSITIONS, "keep_bitmaps": "none"}
    corpora = [text_of(20, 2, ("a", "b")), text_of(13, 3, ("b", "c"))]
    names = ("first.zarr", "second.zarr", "joined.zarr")
    none = [Drawn(corpus, np.zeros((1, 1, corpus.tokens.size), bool), [0], 8) for corpus in corpora]
    joined = join_by_hand(none).corpus
    for corpus, name in zip((*corpora, joined), names, strict=True):
        collect(tiny_model, corpus, tmp_path / name, **options)
    monkeypatch.chdir(tmp_path)
    assert neurolens(["merge", *names[:2], "-o", "merged.zarr", "--json"]) == 0
    said, out = capsys.readouterr(), tmp_path / "merged.zarr"
    facts = json.loads(said.out)
    assert (facts["sequences"], facts["merged"], facts["keep_bitmaps"]) == (33, "counts", "none")
    assert "merged by counts, since bits of texts were dropped: no n-grams, no updates" in said.err
    assert neurolens(["merge", *names[:2], "-o", "merged.zarr"]) == 0
    assert "merged.zarr is complete; nothing to do" in capsys.readouterr().err
    assert_counts_of(out, tmp_path / "joined.zarr")
    assert verify_run(out, tiny_model).damages == ()

    with pytest.raises(UsageError, match="ngrams, updates and other thresholds of dead and positions need bits, which"):
        analyze_run(out, only=["ngrams"])
    assert neurolens(["analyze", "merged.zarr"]) == 0
    assert "need bits, which it never had; they are left out" in capsys.readouterr().err
    assert list(marks(Store.open(out))) == ["dead", "positions", "contrast"]
    analyze_run(tmp_path / "joined.zarr", only=["contrast"])
    for name in Store.open(out).names("results/contrast"):
        ours, theirs = (Store.open(run).read(f"results/contrast/{name}") for run in (out, tmp_path / "joined.zarr"))
        np.testing.assert_array_equal(ours, theirs)
    assert list(marks(analyze_run(out, only=["contrast"]))) == ["dead", "positions", "contrast"]

    figures = ("dead", "frequency", "contrast", "positional", "positional-types", "positional-training")
    assert neurolens(["plot", "merged.zarr", *(f"--figure={name}" for name in figures), "--format=svg"]) == 0
    assert {path.stem for path in Path("figures").iterdir()} == set(figures)
    assert not any("nan" in path.read_text().lower() for path in Path("figures").iterdir())
    assert neurolens(["info", "merged.zarr"]) == 0
    assert "bits        none: merged of what was counted of its texts" in capsys.readouterr().out
    assert neurolens(["compare", "merged.zarr", "joined.zarr", "-o", "compared"]) == 0
    assert neurolens(["export", "merged.zarr", "neurons.csv"]) == 0
    assert neurolens(["report", "merged.zarr", "-o", "merged.html"]) == 0
    page = re.search(r'id="meta">(.*?)</script>', Path("merged.html").read_text())
    assert page and json.loads(page[1], parse_constant=pytest.fail)["runs"][0]["parts"] == list(marks(Store.open(out)))
    shown, asked = (Told(open_run(name)) for name in ("merged.zarr", "joined.zarr"))
    assert shown.meta["totals"].items() <= asked.meta["totals"].items() and shown.meta["totals"]["positional"] > 0
    for ours, theirs in ((shown.table, asked.table), *zip(shown.layers.values(), asked.layers.values(), strict=True)):
        for name in ours.keys() - {"flags", "context_token", "context_mask"}:  # samples are others, as likely
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    run = open_run(out)
    alive = int(run.neurons["activations"][0].argmax())
    assert neurolens(["neuron", "merged.zarr", f"0.{alive}"]) == 0
    assert len(run.neuron(0, alive).contexts()) == 16 and not run.neuron(0, alive).ngrams
    capsys.readouterr()
    with pytest.raises(UsageError, match="was merged of counts of its texts, which 'neurolens merge' makes; give"):
        collect(tiny_model, joined, out, **options)
    assert neurolens(["verify", "merged.zarr"]) == 0
