"""collect: the bits are those of HF's own forward, whatever the blocks; a stopped run continues to the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import POSITIONS, random_texts, snapshot

from neurolens import NeurolensError, UsageError
from neurolens.collect import DataSpec, collect
from neurolens.corpus import Corpus, pack_documents
from neurolens.documents import Document
from neurolens.locks import log_path
from neurolens.plan import Plan
from neurolens.run import open_run
from neurolens.store import Store

BATCH = 4 * POSITIONS


def plain_forward(model: Path, tokens: np.ndarray, batch_sequences: int, dtype: str = "float32") -> list[np.ndarray]:
    """Which neurons HF's own forward has active: bool `(S, T, d_ff)` of each layer. Shares no code with neurolens."""
    from transformers import OPTForCausalLM

    hf = OPTForCausalLM.from_pretrained(model, attn_implementation="sdpa").to(getattr(torch, dtype)).eval()
    seen: list[list[np.ndarray]] = [[] for _ in hf.model.decoder.layers]
    layers: Any = hf.model.decoder.layers
    for number, layer in enumerate(layers):
        layer.activation_fn.register_forward_hook(
            lambda module, args, output, number=number: seen[number].append((output.detach() > 0).numpy())
        )
    with torch.inference_mode():
        for first in range(0, len(tokens), batch_sequences):
            hf(torch.from_numpy(tokens[first : first + batch_sequences]).long())
    return [
        np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts]).reshape(*tokens.shape, -1)
        for parts in seen
    ]


def random_corpus(sequences: int, *, seed: int = 0, vocabulary: int = 260) -> Corpus:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(4, vocabulary, (sequences, POSITIONS), dtype=np.int32)
    tokens[:, 0] = 2
    tokens[rng.random(tokens.shape) < 0.01] = 2
    tokens[:, 1][tokens[:, 1] == 2] = 5
    return Corpus.from_tokens(tokens, label=np.arange(sequences) % 2, label_names=("even", "odd"))


def stored_bits(store: Store, layer: int) -> np.ndarray:
    """Bool `(S, T, d_ff)` from a store, with numpy alone."""
    order = store.read("order")
    packed = store.read(f"layers/{layer:02d}/active")
    bits = np.unpackbits(packed, axis=1, bitorder="little")
    assert not bits[:, len(order) :].any(), "padding bits must be 0"
    out = np.empty((len(order), len(packed)), bool)
    out[order] = bits[:, : len(order)].T
    return out.reshape(*store.shape, -1)


@pytest.mark.parametrize("kind", ["tiny_model", "post_ln_model"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_bits_equal_plain_forward(kind: str, dtype: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model = request.getfixturevalue(kind)
    corpus = random_corpus(37)  # neither whole batches nor whole blocks
    store = collect(model, corpus, tmp_path / "r.zarr", dtype=dtype, batch_tokens=BATCH, block_tokens=BATCH)
    assert isinstance(store, Store)
    expected = plain_forward(model, corpus.tokens, 4, {"fp32": "float32", "bf16": "bfloat16"}[dtype])
    assert len(store.blocks) > 2
    for layer in store.layers:
        bits = stored_bits(store, layer)
        assert 0.01 < bits.mean() < 0.99, "a model whose bits never change would prove nothing"
        np.testing.assert_array_equal(bits, expected[layer])
    run = open_run(tmp_path / "r.zarr")
    np.testing.assert_array_equal(run.active(1, 5), expected[1][..., 5])


def test_blocks_change_no_bit(tiny_model: Path, tmp_path: Path) -> None:
    corpus = random_corpus(64)
    bits = []
    for block in (BATCH, 3 * BATCH, 100 * BATCH):
        store = collect(tiny_model, corpus, tmp_path / f"{block}.zarr", batch_tokens=BATCH, block_tokens=block)
        assert isinstance(store, Store)
        bits.append([stored_bits(store, layer) for layer in store.layers])
    for other in bits[1:]:
        for first, second in zip(bits[0], other, strict=True):
            np.testing.assert_array_equal(first, second)


def test_some_layers_only(tiny_model: Path, tmp_path: Path) -> None:
    corpus = random_corpus(16)
    everything = collect(tiny_model, corpus, tmp_path / "all.zarr", batch_tokens=BATCH)
    some = collect(tiny_model, corpus, tmp_path / "some.zarr", batch_tokens=BATCH, layers=[2, 0])
    assert isinstance(everything, Store) and isinstance(some, Store)
    assert some.layers == [0, 2]
    for layer in some.layers:
        np.testing.assert_array_equal(stored_bits(some, layer), stored_bits(everything, layer))


def test_hooks_are_removed(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from neurolens import decoder

    loaded = []
    load = decoder.Decoder.load.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        decoder.Decoder, "load", classmethod(lambda cls, *a, **k: loaded.append(load(cls, *a, **k)) or loaded[-1])
    )
    collect(tiny_model, random_corpus(4), tmp_path / "r.zarr", batch_tokens=BATCH)
    modules = list(loaded[0]._model.modules())
    assert len(modules) > 20
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def test_dry_run_writes_nothing(tiny_model: Path, tmp_path: Path) -> None:
    said: list[str] = []
    plan = collect(tiny_model, random_corpus(16), tmp_path / "r.zarr", dry_run=True, say=said.append)
    assert isinstance(plan, Plan)
    assert plan.raw_bytes == 3 * 72 * 16 * POSITIONS // 8
    assert "disk" in " ".join(said) and "memory" in " ".join(said)
    assert list(tmp_path.iterdir()) == []


def test_same_command_again_does_nothing(tiny_model: Path, tmp_path: Path) -> None:
    corpus = random_corpus(16)
    collect(tiny_model, corpus, tmp_path / "r.zarr", batch_tokens=BATCH)
    before = snapshot(tmp_path / "r.zarr")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "r.zarr").rglob("*")}
    said: list[str] = []
    collect(tiny_model, corpus, tmp_path / "r.zarr", say=said.append)  # batch size: the run's
    assert "nothing to do" in said[-1]
    assert snapshot(tmp_path / "r.zarr") == before
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "r.zarr").rglob("*")} == times


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dtype": "bf16"}, "dtype"),
        ({"layers": [0]}, "layers"),
        ({"batch_tokens": 2 * BATCH}, "batch_sequences"),
        ({"block_tokens": 8 * BATCH}, "block_sequences"),
        ({"corpus": 1}, "corpus_fingerprint"),
        ({"model": "post_ln_model"}, "checkpoint"),
    ],
)
def test_another_spec_is_refused(
    change: dict, named: str, tiny_model: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    corpus, path = random_corpus(16), tmp_path / "r.zarr"
    collect(tiny_model, corpus, path, batch_tokens=BATCH, block_tokens=BATCH)
    before = snapshot(path)
    change = dict(change)
    model = request.getfixturevalue(change.pop("model")) if "model" in change else tiny_model
    corpus = random_corpus(16, seed=change.pop("corpus")) if "corpus" in change else corpus
    with pytest.raises(UsageError, match=named):
        collect(model, corpus, path, **change)
    assert snapshot(path) == before


def test_other_versions_cannot_continue(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.zarr"
    stop_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        collect(tiny_model, random_corpus(16), path, batch_tokens=BATCH, block_tokens=BATCH)
    monkeypatch.undo()
    monkeypatch.setattr("neurolens.identity.versions", lambda: {"torch": "9.9"})
    with pytest.raises(UsageError, match=r"torch .* this is 9\.9"):
        collect(tiny_model, random_corpus(16), path)


def stop_after(commits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise KeyboardInterrupt in the main loop once so many blocks of layers are queued."""
    from neurolens.committer import Committer

    put, seen = Committer.put, []

    def counting(self: Any, block: Any, layer: int, rows: Any, written: Any) -> None:
        if rows is not None and len(seen) >= commits:  # None: done before, on the way to what is not
            raise KeyboardInterrupt
        seen.extend([1] * (rows is not None))
        put(self, block, layer, rows, written)

    monkeypatch.setattr(Committer, "put", counting)


@pytest.mark.parametrize("commits", [0, 1, 4, 7])
def test_interrupted_and_continued_is_undisturbed(
    commits: int, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = random_corpus(19)
    collect(tiny_model, corpus, tmp_path / "whole.zarr", batch_tokens=BATCH, block_tokens=BATCH)
    stop_after(commits, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        collect(tiny_model, corpus, tmp_path / "r.zarr", batch_tokens=BATCH, block_tokens=BATCH)
    monkeypatch.undo()
    assert Store.open(tmp_path / "r.zarr").progress().sum() == commits
    leftover = tmp_path / "r.zarr/layers/00/active/c/0/0.0123.partial"
    leftover.parent.mkdir(parents=True, exist_ok=True)
    leftover.write_bytes(b"torn")
    collect(tiny_model, corpus, tmp_path / "r.zarr")
    assert snapshot(tmp_path / "r.zarr") == snapshot(tmp_path / "whole.zarr")


def test_two_writers_exclude_each_other(tiny_model: Path, tmp_path: Path) -> None:
    from neurolens.locks import lock

    with lock(tmp_path / "r.zarr"), pytest.raises(NeurolensError, match="another process"):
        collect(tiny_model, random_corpus(4), tmp_path / "r.zarr")
    assert not (tmp_path / "r.zarr").exists()
    collect(tiny_model, random_corpus(4), tmp_path / "r.zarr")
    assert "commit" in log_path(tmp_path / "r.zarr").read_text()


def test_nan_is_an_error_not_a_dead_layer(tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    weights = load_file(broken / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.1.fc1.weight"))
    weights[name][3, 3] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NeurolensError, match=r"layer 1 .*not finite in fp32"):
        collect(broken, random_corpus(8), tmp_path / "r.zarr", batch_tokens=BATCH)
    assert not Store.open(tmp_path / "r.zarr").progress()[1:].any()


def test_order_of_sequences_changes_no_result(tiny_model: Path, tmp_path: Path) -> None:
    """With one sequence a batch, permuting the sequences permutes the bits and changes no count."""
    from neurolens.analyze import analyze_run

    corpus = random_corpus(24)
    permuted = np.random.default_rng(1).permutation(24)
    other = Corpus.from_tokens(corpus.tokens[permuted], label=corpus.label[permuted], label_names=corpus.label_names)
    tables = []
    for name, text in (("a", corpus), ("b", other)):
        collect(tiny_model, text, tmp_path / f"{name}.zarr", batch_tokens=POSITIONS, block_tokens=8 * POSITIONS)
        analyze_run(tmp_path / f"{name}.zarr")
        tables.append(open_run(tmp_path / f"{name}.zarr"))
    first, second = tables
    # which sequences form a group is told by their order, and intervals by the groups
    intervals = {name for name in first.neurons if name.endswith(("_low", "_high"))}
    assert intervals == {"frequency_low", "frequency_high", "label_mi_low", "label_mi_high"}
    for column in set(first.neurons) - {"first_active"} - intervals:
        np.testing.assert_array_equal(first.neurons[column], second.neurons[column], err_msg=column)
    for name in ("position", "label"):
        np.testing.assert_array_equal(
            first.store.read(f"counts/layers/01/{name}"), second.store.read(f"counts/layers/01/{name}")
        )


def test_tokens_and_texts_agree(tiny_model: Path, tmp_path: Path, write_jsonl: Callable[..., Path]) -> None:
    """The run of files is the run of the corpus packed from the same documents."""
    texts = random_texts(30, seed=5)
    data = write_jsonl("text.jsonl", texts)
    from neurolens.checkpoint import Checkpoint

    corpus = pack_documents(
        [Document(text, "text", 0, i) for i, text in enumerate(texts)],
        Checkpoint(tiny_model).encoder(),
        positions=POSITIONS,
    )
    said: list[str] = []
    store = collect(tiny_model, DataSpec((data,)), tmp_path / "r.zarr", say=said.append)
    assert isinstance(store, Store)
    np.testing.assert_array_equal(store.corpus().tokens, corpus.tokens)
    assert "tokens beyond the last sequence" in said[0]
    assert str(data.name) in str(store.attrs["corpus"]["paths"])
