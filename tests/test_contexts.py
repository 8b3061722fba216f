"""Contexts of a neuron: those that a loop over its bits finds, whatever tokens say and whoever's bits are there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from drawn import Drawn
from hostile import COUNTS, LABELS, LAYER, POSITIONS, SEQUENCES, TOKENS, VOCABULARY, draw_hostile, make_hostile

from neurolens import NeurolensError, UsageError
from neurolens.analyze import analyze_run
from neurolens.cli import run as neurolens
from neurolens.context import Context, Contexts
from neurolens.run import Run, open_run
from neurolens.store import Store


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw_hostile()


@pytest.fixture(scope="module")
def path(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An analysed run of five blocks."""
    path = make_hostile(drawn, tmp_path_factory.mktemp("contexts") / "r.zarr")
    analyze_run(path, only=["dead", "ngrams"])
    assert len(Store.open(path).blocks) == 5
    return path


@pytest.fixture(scope="module")
def run(path: Path) -> Run:
    return open_run(path)


def without_bits(path: Path, folder: Path, keep: str) -> Run:
    """A copy of a run that has dropped its bits, or kept those of neurons that are active on at most 16 tokens."""
    copy = shutil.copytree(path, folder / f"{keep}.zarr")
    store = Store.open(copy, write=True)
    if keep == "none":
        store.drop_bits(LAYER)
    else:
        store.thin_bits(LAYER, np.array(COUNTS) <= 40, {"frequency": 40 / TOKENS})
    return open_run(copy)


def priority(index: int, seed: int) -> int:
    """SplitMix64, in whole numbers."""
    z = (index + 1 + seed * 0xD1B54A32D192ED03) * 0x9E3779B97F4A7C15 % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def on(drawn: Drawn, neuron: int, label: str | None = None) -> list[int]:
    """Indices of the tokens that a neuron is active on, bit by bit."""
    bits = drawn.bits(0, neuron)
    return [
        sequence * POSITIONS + position
        for sequence in range(SEQUENCES)
        for position in range(POSITIONS)
        if bits[sequence][position] and (label is None or LABELS[drawn.labels[sequence]] == label)
    ]


def check(context: Context, drawn: Drawn, neuron: int, window: tuple[int, int] = (48, 24)) -> None:
    """It is what stands in the corpus."""
    sequence, position = divmod(context.index, POSITIONS)
    first, last = max(0, position - window[0]), min(POSITIONS, position + window[1] + 1)
    ids = drawn.corpus.tokens[sequence, first:last].tolist()
    bits = drawn.bits(0, neuron)[sequence]
    assert (context.sequence, context.position, context.at) == (sequence, position, position - first)
    assert context.label == LABELS[drawn.labels[sequence]] and list(context.ids) == ids
    assert (context.starts, context.ends) == (first == 0, last == POSITIONS)
    assert context.active == tuple(bool(bit) for bit in bits[first:last]) and context.known
    contents = [VOCABULARY[id_] or f"⟨{id_}⟩".encode() for id_ in ids]
    shown = b"".join(contents).decode(errors="ignore")  # how many � stand for bytes that are no character is open
    assert (context.before + context.token + context.after).replace("�", "") == shown
    assert len(context.texts) == len(ids) and "".join(context.texts).replace("�", "") == shown
    here = next(at for at in range(context.at, -1, -1) if context.texts[at])  # whose text has the token's first byte
    assert context.token.strip("�") in context.texts[here]


# -- which they are ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("neuron", range(len(COUNTS)))
def test_all_are_every_bit_in_order(drawn: Drawn, run: Run, neuron: int) -> None:
    card = run.neuron(LAYER, neuron)
    for label in (None, *LABELS):
        found = card.contexts(all=True, label=label)
        expected = on(drawn, neuron, label)
        assert found.tokens.tolist() == expected and found.tokens.dtype == np.int64
        assert found.total == len(found) == len(expected) and not found.drawn
        assert [context.index for context in found] == expected
    assert run.active(LAYER, neuron).tolist() == drawn.active[0, neuron].tolist()


@pytest.mark.parametrize("neuron", range(len(COUNTS)))
def test_samples_are_the_least_hashes(drawn: Drawn, run: Run, neuron: int) -> None:
    card = run.neuron(LAYER, neuron)
    stored = run.store.read("results/contexts")[0, neuron]
    assert card.contexts().tokens.tolist() == stored[stored >= 0].tolist()
    for label in (None, *LABELS):
        for seed in (None, 0, 1, 12345678901):
            order = sorted(on(drawn, neuron, label), key=lambda index: priority(index, seed or 0))
            for sample in (None, 1, 5, 16, 17, 100, 10**6):
                found = card.contexts(label=label, sample=sample, seed=seed)
                assert found.tokens.tolist() == order[: sample or 16]  # a larger one begins with a smaller one
                assert found.drawn and found.total == len(order)


def test_samples_of_two_seeds_are_not_neighbours(run: Run) -> None:
    """As they would be, were the seed only added to the index."""
    card = run.neuron(LAYER, COUNTS.index(TOKENS))
    first, second = (card.contexts(sample=100, seed=seed).tokens for seed in (0, 1))
    assert len(np.intersect1d(first, second)) < 30
    assert all(len(np.intersect1d(first, second + by)) < 30 for by in (-2, -1, 1, 2))


@pytest.mark.parametrize("window", [(0, 0), (1, 0), (0, 1), (3, 5), (48, 24)])
def test_contexts_are_what_stands_in_the_corpus(drawn: Drawn, run: Run, window: tuple[int, int]) -> None:
    for neuron in range(len(COUNTS)):
        card = run.neuron(LAYER, neuron)
        assert card.contexts() == card.contexts(window=(48, 24))
        for found in (*(card.contexts(label=label, window=window) for label in LABELS),
                      card.contexts(all=True, window=window)[::7]):  # fmt: skip
            for context in found:
                check(context, drawn, neuron, window)


def test_contexts_are_a_sequence(drawn: Drawn, run: Run) -> None:
    neuron = COUNTS.index(300)
    found = run.neuron(LAYER, neuron).contexts(all=True)
    listed = list(found)
    assert len(listed) == len(found) == 300
    assert found[0] == listed[0] and found[-1] == listed[-1]
    assert found[cast(int, np.int64(7))] == listed[7]
    assert list(found[10:90:3]) == listed[10:90:3] and list(found[::-1]) == listed[::-1] == list(reversed(found))
    assert isinstance(found[:0], Contexts) and len(found[:0]) == 0 and found[:9] == found[:9] != found[:8]
    assert listed[5] in found and found.index(listed[5]) == 5
    with pytest.raises(IndexError):
        found[300]


def test_as_a_data_frame(drawn: Drawn, run: Run) -> None:
    found = run.neuron(LAYER, COUNTS.index(40)).contexts(all=True, label="code")
    frame = found.to_pandas()
    assert frame["index"].tolist() == found.tokens.tolist() and set(frame["label"]) == {"code"}
    assert frame["token"].tolist() == [context.token for context in found]
    active = [sum(map(bool, context.active)) for context in found]
    assert frame["active"].tolist() == active and min(active) > 0
    empty = run.neuron(LAYER, 0).contexts().to_pandas()
    assert len(empty) == 0 and empty.dtypes.to_dict() == frame.dtypes.to_dict()


def test_contexts_print_themselves(run: Run) -> None:
    some = run.neuron(LAYER, COUNTS.index(300)).contexts(sample=20)
    lines = repr(some).splitlines()
    assert lines[0] == f"contexts of neuron {LAYER}.7 of r: 20 of 300 activations, at random"
    assert sum("«" in line for line in lines) == 8 and lines[-1] == "  and 12 contexts more"
    assert all(line.isprintable() for line in lines)
    every = run.neuron(LAYER, COUNTS.index(16)).contexts()
    assert repr(every).splitlines()[0].endswith("all 16 activations")
    part = run.neuron(LAYER, COUNTS.index(300)).contexts(all=True, label=LABELS[2])[:3]
    assert repr(part).splitlines()[0].endswith(r" activations in \x1b[2J<b>\u202e, in the corpus' order")
    assert repr(run.neuron(LAYER, 0).contexts()).splitlines() == [f"contexts of neuron {LAYER}.0 of r: 0 activations"]
    assert repr(run.neuron(LAYER, 1).contexts()).splitlines()[0].endswith("of r: 1 activation")


# -- what they cost ------------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of what zarr asks its store for, from now on."""
    from zarr.storage import LocalStore

    found, get = [], LocalStore.get

    async def counted(self: LocalStore, key: str, *arguments: Any, **options: Any) -> Any:
        found.append(key)
        return await get(self, key, *arguments, **options)

    monkeypatch.setattr(LocalStore, "get", counted)
    return found


def test_a_chunk_is_read_once_a_block(path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurolens.bitmaps.CHUNK_BYTES", 1 << 6)  # as large as it was when the run was made
    card = open_run(path).neuron(LAYER, 7)
    found = card.contexts(all=True)
    card.contexts(label="wiki", sample=100)
    list(found)
    bits = [key for key in reads if key.startswith(f"layers/{LAYER:02d}/active/c/")]
    assert sorted(bits) == [f"layers/{LAYER:02d}/active/c/0/{block}" for block in range(5)]


def test_nothing_is_read_before_it_is_needed(path: Path, reads: list[str]) -> None:
    analysed = shutil.copytree(path, path.with_name("dead.zarr"))
    analyze_run(analysed, only=["dead"])
    store = Store.open(analysed, write=True)
    marks = store.attributes("results")
    store.set_attributes("results", {**marks, "parts": {"dead": marks["parts"]["dead"]}})
    reads.clear()
    found = open_run(analysed).neuron(LAYER, 7).contexts()
    assert len(found) == 16 and not any("/active/" in key or key.startswith("tokens/c/") for key in reads)
    found[3]
    assert sum("/active/c/" in key for key in reads) == 5 and sum(key.startswith("tokens/c/") for key in reads) == 1


def test_text_is_read_a_stretch_at_a_time(path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurolens.firing.STRETCH", 4 * POSITIONS * 10)
    found = open_run(path).neuron(LAYER, COUNTS.index(TOKENS)).contexts(all=True)
    reads.clear()
    assert [context.index for context in found] == list(range(TOKENS))
    assert sum(key.startswith("tokens/c/") for key in reads) == SEQUENCES // 10


# -- bits that were dropped ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["none", "sparse"])
def test_without_bits_there_are_those_that_were_stored(
    drawn: Drawn, run: Run, path: Path, tmp_path: Path, keep: str
) -> None:
    dropped = without_bits(path, tmp_path, keep)
    for neuron, count in enumerate(COUNTS):
        card, whole = dropped.neuron(LAYER, neuron), run.neuron(LAYER, neuron)
        kept = count <= 16 or (keep == "sparse" and count <= 40)
        found, expected = card.contexts(), whole.contexts()
        assert [replace(each, active=()) for each in found] == [replace(each, active=()) for each in expected]
        if kept:
            assert found == expected and card.contexts(all=True) == whole.contexts(all=True)
            assert card.contexts(seed=3, sample=20) == whole.contexts(seed=3, sample=20)
            continue
        for context in found:  # known is what was drawn
            first = context.index - context.at
            said = [first + place for place, active in enumerate(context.active) if active]
            assert said == sorted(set(found.tokens) & {*range(first, first + len(context.ids))})
            assert set(context.active) <= {True, None} and not context.known
        assert card.contexts(sample=7).tokens.tolist() == whole.contexts(sample=7).tokens.tolist()
        for label in LABELS:
            mine = card.contexts(label=label)
            assert mine.tokens.tolist() == whole.contexts(label=label).tokens.tolist()[: len(mine)]
            assert mine.total == len(on(drawn, neuron, label))
        requests: list[dict[str, Any]] = [{"sample": 17}, {"all": True}, {"seed": 1}, {"label": "wiki", "sample": 16}]
        for asked in requests:
            with pytest.raises(NeurolensError) as caught:
                card.contexts(**asked)
            assert "were dropped" in str(caught.value) and "--keep-bitmaps all" in str(caught.value)
            assert f"of its {count} activations 16 are known" in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_bits_are_named_where_they_are_needed(path: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(path, tmp_path / "r.zarr")
    chunk = copy / f"layers/{LAYER:02d}/active/c/0/2"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    card = open_run(copy).neuron(LAYER, 7)
    assert not any(context.known for context in card.contexts()) and "16 of 300" in repr(card.contexts())
    with pytest.raises(NeurolensError, match="bits of layer 3 are damaged"):
        card.contexts(all=True)


# -- requests that cannot be meant -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"sample": 3, "all": True}, "sample=3 and all=True: .* give one"),
        ({"sample": 0}, "sample is 0; expected .* at least 1"),
        ({"sample": -1}, "sample is -1"),
        ({"sample": 2.5}, "sample is 2.5"),
        ({"seed": -1}, "seed is -1; expected a whole number from 0 on"),
        ({"label": "wikis"}, "has no label 'wikis'; did you mean 'wiki'?"),
        ({"label": "\x1b[2J"}, r"has no label '\\x1b\[2J'"),
        ({"label": "none of them"}, "has no label .*; expected one of wiki, code, "),
        ({"window": 5}, r"window is 5; expected \(before, after\)"),
        ({"window": (1, -1)}, "window is"),
        ({"window": (1, 2, 3)}, "window is"),
        ({"window": (1.5, 2)}, "window is"),
    ],
)
def test_requests_that_cannot_be_meant(run: Run, asked: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=expected) as caught:
        run.neuron(LAYER, 7).contexts(**asked)
    assert len(str(caught.value).splitlines()) == 1


def test_a_card_without_a_run_says_so(run: Run) -> None:
    card = replace(run.neuron(LAYER, 7), source=None)
    with pytest.raises(UsageError, match="has no contexts"):
        card.contexts()
    assert "contexts" not in str(card) and card.to_dict()["contexts"] == []


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_shows_as_many_as_are_asked_for(
    drawn: Drawn, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(at: Path, *options: str) -> list[str]:
        assert neurolens(["neuron", str(at), f"{LAYER}.7", *options]) == 0
        lines = capsys.readouterr().out.splitlines()
        return lines[next(i for i, line in enumerate(lines) if line.startswith("contexts")) :]

    def marked(lines: list[str]) -> int:
        return sum("«" in line for line in lines)

    assert marked(shown(path)) == 8 and marked(shown(path, "--contexts", "40")) == 40
    wiki = len(on(drawn, 7, "wiki"))
    lines = shown(path, "--contexts", "1000", "--label", "wiki")
    assert lines[0] == f"contexts    all {wiki} activations in wiki" and marked(lines) == wiki
    dropped = without_bits(path, tmp_path, "none")
    assert marked(shown(dropped.path, "--contexts", "40")) == 16
    assert neurolens(["neuron", str(path), f"{LAYER}.7", "--label", "wik"]) == 2
    assert "did you mean 'wiki'?" in capsys.readouterr().err
