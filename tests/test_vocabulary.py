"""Vocabulary: its text is the tokenizer's own, its bytes are exact, and a run shows text without its checkpoint."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import POSITIONS, TINY, snapshot
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from neurolens import NeurolensError
from neurolens.checkpoint import Checkpoint
from neurolens.collect import collect
from neurolens.corpus import Corpus
from neurolens.run import open_run
from neurolens.store import Store
from neurolens.testing import planted_opt, random_opt
from neurolens.vocabulary import Vocabulary

DEMO = Path(__file__).parents[1] / "neurolens" / "demo" / "model"
TEXTS = [
    "hello  world\n\tthe ‘quoted’ – 日本語 🦖 é",
    "def f(x):\r\n    return x # \x00\x1b[31m\u202e",
    "</s> <unk> &amp; I 'm",
]
HOSTILE = ["\x1b[2J", "\u202etxt", "</script>", "\x00", "\r\n", "`rm`", "éé", "=1+1", "x" * 300_000, "\u2028"]


def words(names: list[str], holes: int = 0, **kwargs: Any) -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the names after the special tokens, with `holes` ids left out before each."""
    vocab = {name: (1 + holes) * i for i, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", *names])}
    made = Tokenizer(models.WordLevel(vocab=vocab, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = kwargs.get("decoder")
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", unk_token="<unk>")


def byte_level(names: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of the bytes after the special tokens, with the names added as tokens of their own."""
    units = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {unit: i for i, unit in enumerate(["<s>", "<pad>", "</s>", "<unk>", *units])}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_tokens(names)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")


# -- byte-level ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["demo", "tiny"])
def test_byte_level_bytes_are_the_texts(model: str, tiny_model: Path) -> None:
    """The bytes of the ids of a text, joined, are the text; and any ids read as the tokenizer's decoder reads them."""
    checkpoint = Checkpoint(DEMO if model == "demo" else tiny_model)
    vocabulary, encode, tokenizer = Vocabulary.of(checkpoint), checkpoint.encoder(), checkpoint.tokenizer()
    for text, ids in zip(TEXTS, encode(TEXTS), strict=True):
        assert b"".join(vocabulary[i] for i in ids) == text.encode()
        assert vocabulary.text(ids) == text
    rng = np.random.default_rng(0)
    for _ in range(200):
        ids = rng.integers(0, len(tokenizer), 20)
        assert vocabulary.text(ids) == tokenizer.decode(ids.tolist(), clean_up_tokenization_spaces=False)
    assert vocabulary.token(2) == "</s>"
    assert len(vocabulary) == checkpoint.config["vocab_size"]
    assert vocabulary.real.tolist() == sorted(tokenizer.get_vocab().values()) and vocabulary.real.dtype == np.int64


def test_a_character_split_over_tokens_is_whole_again(tiny_model: Path) -> None:
    checkpoint = Checkpoint(tiny_model)
    vocabulary = Vocabulary.of(checkpoint)
    (ids,) = checkpoint.encoder()(["a🦖b"])
    assert len(ids) == 6
    assert vocabulary.text(ids) == "a🦖b"
    assert [vocabulary.token(i) for i in ids] == ["a", "�", "�", "�", "�", "b"]
    assert vocabulary.text(ids[:3]) == "a�"


def test_around_a_split_character(tiny_model: Path) -> None:
    checkpoint = Checkpoint(tiny_model)
    vocabulary = Vocabulary.of(checkpoint)
    (ids,) = checkpoint.encoder()(["a🦖\n"])
    expected = [("", "a", "🦖\n"), *[("a", "🦖", "\n")] * 4, ("a🦖", "\n", "")]
    assert [vocabulary.around(ids, at) for at in range(6)] == expected
    assert [vocabulary.around(ids[2:5], at) for at in range(3)] == [("", "�", "��"), ("�", "�", "�"), ("��", "�", "")]


@given(st.lists(st.binary(min_size=1, max_size=4) | st.text(min_size=1, max_size=2).map(str.encode), max_size=9))
def test_around_is_the_text_in_three(tokens: list[bytes]) -> None:
    vocabulary = Vocabulary.from_bytes(tokens)
    whole = b"".join(tokens)
    for at in range(len(tokens)):
        before, token, after = vocabulary.around(range(len(tokens)), at)
        assert tokens[at].decode(errors="replace").strip("�") in token
        if whole.decode(errors="ignore").encode() == whole:
            assert before + token + after == whole.decode()
            begin = len(b"".join(tokens[:at]))
            assert len(before.encode()) <= begin < len((before + token).encode())
            assert len(token.encode()) < len(tokens[at]) + 7  # whole characters, and no more


def test_texts_that_tell_all_bytes_apart(tiny_model: Path) -> None:
    vocabulary = Vocabulary.of(Checkpoint(tiny_model))
    assert len(set(vocabulary.texts("surrogateescape"))) == len(vocabulary) == 272
    assert len(set(vocabulary.texts())) < 272 and vocabulary.texts()[:4] == ["<s>", "<pad>", "</s>", "<unk>"]


def test_all_256_bytes_stand_once(tiny_model: Path) -> None:
    vocabulary = Vocabulary.of(Checkpoint(tiny_model))
    assert sorted(vocabulary[i] for i in range(4, 260)) == [bytes([byte]) for byte in range(256)]


def test_padding_rows_are_not_real(tiny_model: Path) -> None:
    vocabulary = Vocabulary.of(Checkpoint(tiny_model))
    assert len(vocabulary) == 272 and vocabulary.real.tolist() == list(range(260))
    assert vocabulary[265] == b"" and vocabulary.token(265) == "⟨265⟩"
    assert vocabulary[272] == b"" and vocabulary.token(272) == "⟨272⟩"


def test_added_tokens_are_their_own_text() -> None:
    """`é` is in the byte alphabet, where it stands for a lone byte; in an added token it is the character."""
    vocabulary = Vocabulary.from_tokenizer(byte_level(HOSTILE), 300)
    assert [vocabulary.token(260 + i) for i in range(len(HOSTILE))] == HOSTILE
    assert len(vocabulary.real) == 260 + len(HOSTILE)


# -- other tokenizers ----------------------------------------------------------------------------------------------


def test_word_level_has_the_spaces_of_its_decoder(tmp_path: Path) -> None:
    checkpoint = Checkpoint(planted_opt(tmp_path / "m").folder)
    vocabulary, tokenizer = Vocabulary.of(checkpoint), checkpoint.tokenizer()
    assert vocabulary.token(7) == " t7" and vocabulary.real.tolist() == sorted(tokenizer.get_vocab().values())
    rng = np.random.default_rng(1)
    for ids in rng.choice(vocabulary.real, (50, 9)).tolist():
        assert vocabulary.text(ids) == " " + tokenizer.decode(ids, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize(
    "decoder, said",
    [
        (None, [" a", " ##b", " ▁c"]),
        (decoders.WordPiece(cleanup=False), [" a", "b", " ▁c"]),
        (decoders.Metaspace(), ["a", "##b", " c"]),
        (decoders.Fuse(), ["a", "##b", "▁c"]),
    ],
)
def test_what_a_token_adds_after_another(decoder: Any, said: list[str]) -> None:
    vocabulary = Vocabulary.from_tokenizer(words(["a", "##b", "▁c"], decoder=decoder), 10)
    assert [vocabulary.token(i) for i in (4, 5, 6)] == said
    assert vocabulary.real.tolist() == list(range(7))


def test_ids_with_holes_and_ids_that_the_model_has_not() -> None:
    vocabulary = Vocabulary.from_tokenizer(words(["a", "b", "c"], holes=2), 17)
    assert vocabulary.real.tolist() == [0, 3, 6, 9, 12, 15]
    assert vocabulary.text([12, 13, 15]) == " a⟨13⟩ b"
    assert len(vocabulary) == 17 and vocabulary.token(18) == "⟨18⟩"


def test_a_tokenizer_of_special_tokens_alone() -> None:
    vocabulary = Vocabulary.from_tokenizer(words([]), 6)
    assert [text.strip() for text in vocabulary.texts()] == ["<s>", "<pad>", "</s>", "<unk>", "⟨4⟩", "⟨5⟩"]


def test_fast_at_the_size_of_opt(tmp_path: Path) -> None:
    tokenizer = words([f"w{i}" for i in range(50261)])
    started = time.perf_counter()
    vocabulary = Vocabulary.from_tokenizer(tokenizer, 50272)
    assert vocabulary.texts()[50264:50266] == [" w50260", "⟨50265⟩"]
    assert time.perf_counter() - started < 5  # one second on a machine that does nothing else


# -- what is kept --------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=5), max_size=30))
def test_arrays_give_back_the_bytes(tokens: list[bytes]) -> None:
    made = Vocabulary.from_bytes(tokens)
    arrays = made.arrays()
    assert arrays["bytes"].dtype == np.uint8 and arrays["start"].dtype == np.int64
    assert arrays["start"].shape == (len(tokens) + 1,)
    again = Vocabulary(arrays["bytes"], arrays["start"])
    assert [again[i] for i in range(len(again))] == tokens
    assert again.real.tolist() == [i for i, token in enumerate(tokens) if token]
    assert again.texts() == [t.decode(errors="replace") if t else f"⟨{i}⟩" for i, t in enumerate(tokens)]


@pytest.mark.parametrize(
    "start", [[], [0], [0, 2], [0, 4], [1, 3], [0, 2, 1, 3], [0, -1, 3], [[0, 3]], [0.0, 3.0], [0, 1 << 62, 3]]
)
def test_damaged_boundaries(start: list) -> None:
    with pytest.raises(NeurolensError, match=r"vocabulary is damaged.*collect the run anew") as caught:
        Vocabulary(np.frombuffer(b"abc", np.uint8), np.array(start))
    assert "\n" not in str(caught.value)


def test_unknown() -> None:
    vocabulary = Vocabulary.unknown()
    assert len(vocabulary) == 0 and vocabulary.real.tolist() == [] and vocabulary.texts() == []
    assert vocabulary.text(np.array([-1, 2, 123])) == "⟨2⟩⟨123⟩"


# -- in a run ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    tokens = np.random.default_rng(3).integers(4, 260, (4, POSITIONS), dtype=np.int32)
    tokens[:, 0] = 2
    return Corpus.from_tokens(tokens)


@pytest.fixture
def run_path(tiny_model: Path, corpus: Corpus, tmp_path: Path) -> Path:
    collect(tiny_model, corpus, tmp_path / "r.zarr")
    return tmp_path / "r.zarr"


def test_a_run_shows_text_without_its_checkpoint(corpus: Corpus, tmp_path: Path) -> None:
    model = random_opt(tmp_path / "m", TINY, vocab_size=272, positions=POSITIONS)
    for name in "ab":
        collect(model, corpus, tmp_path / f"{name}.zarr")
    expected = Vocabulary.of(Checkpoint(model)).texts()
    shutil.rmtree(model)
    assert open_run(tmp_path / "a.zarr").vocabulary.texts() == expected
    assert snapshot(tmp_path / "a.zarr") == snapshot(tmp_path / "b.zarr")


def test_a_run_of_a_model_without_tokenizer(corpus: Corpus, tmp_path: Path) -> None:
    model = random_opt(tmp_path / "m", TINY, vocab_size=272, positions=POSITIONS)
    for file in model.glob("*token*"):
        file.unlink()
    said: list[str] = []
    collect(model, corpus, tmp_path / "r.zarr", say=said.append)
    (line,) = [line for line in said if "token ids instead of text" in line]
    assert "\n" not in line
    run = open_run(tmp_path / "r.zarr")
    assert run.vocabulary.token(123) == "⟨123⟩"


def test_a_run_made_by_hand_opens(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "r.zarr"
    Store.create(path, {"model": {}}, corpus, layers=[0], neurons=8, sequences_per_block=4)
    assert open_run(path).vocabulary.text([7, 8]) == "⟨7⟩⟨8⟩"


@pytest.mark.parametrize("damage", ["start", "start missing", "bytes", "boundaries"])
def test_a_damaged_array(run_path: Path, damage: str) -> None:
    if damage == "boundaries":
        Store.open(run_path, write=True).write("vocabulary/start", np.arange(5), ("boundary",))
    elif damage == "start missing":  # zarr reads what is not there as zeros
        (run_path / "vocabulary/start/c/0").unlink()
    else:
        chunk = run_path / "vocabulary" / damage / "c/0"
        data = bytearray(chunk.read_bytes())
        data[len(data) // 2] ^= 1
        chunk.write_bytes(data)
    run = open_run(run_path)
    with pytest.raises(NeurolensError, match=r"r\.zarr: .*vocabulary.* is damaged.*collect .*anew") as caught:
        _ = run.vocabulary
    assert "\n" not in str(caught.value)
    assert run.store.corpus().shape == (4, POSITIONS)  # the rest of the run is read as before


def test_arrays_in_the_store(run_path: Path) -> None:
    for name, dims in (("bytes", ["byte"]), ("start", ["boundary"])):
        metadata = json.loads((run_path / "vocabulary" / name / "zarr.json").read_text())
        assert metadata["dimension_names"] == dims
