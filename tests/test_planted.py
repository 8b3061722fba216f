"""The planted model computes what it says: through the plain Hugging Face forward every bit is that of its rule. And
the corpus is what it says. What else is known of the neurons is the matter of test_planted_answers.py.

Nothing of the package is used here but `neurolens.testing`; the forward and the hooks are our own."""

from __future__ import annotations

import doctest
import json
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM

import neurolens.testing
from neurolens.testing import BOS, COUNTS, LABELS, OPT_SHAPES, SPECIAL, Planted, planted_opt, random_opt

LAYERS, NEURONS, WORDS = 3, 128, 64


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Planted:
    return planted_opt(tmp_path_factory.mktemp("plain"), layers=LAYERS)


@pytest.fixture(scope="module")
def disguised(tmp_path_factory) -> Planted:
    return planted_opt(tmp_path_factory.mktemp("disguised"), layers=LAYERS, disguise=True)


@pytest.fixture(scope="module", params=["plain", "disguised"])
def planted(request) -> Planted:
    return request.getfixturevalue(request.param)


def load(folder: Path, *, attention: str = "sdpa", dtype: torch.dtype = torch.float32) -> Any:
    made: Any = OPTForCausalLM.from_pretrained(
        folder, attn_implementation=attention, torch_dtype=dtype, output_loading_info=True
    )
    model, info = made
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval()


def forward(model: Any, tokens: np.ndarray, batch: int) -> tuple[list[np.ndarray], list[float]]:
    """Bits `(neurons, S·T)` of each layer, and its smallest distance of a pre-activation from 0."""
    decoder = model.model.decoder
    bits: list[list[torch.Tensor]] = [[] for _ in decoder.layers]
    margin = [float("inf")] * len(bits)

    def keep(i, before, after):
        bits[i].append((after > 0).reshape(-1, after.shape[-1]))
        margin[i] = min(margin[i], before.abs().min().item())

    hooks = [
        layer.activation_fn.register_forward_hook(lambda _, inputs, output, i=i: keep(i, inputs[0], output))
        for i, layer in enumerate(decoder.layers)
    ]
    with torch.inference_mode():
        for start in range(0, len(tokens), batch):
            decoder(torch.from_numpy(tokens[start : start + batch]).long())
    for hook in hooks:
        hook.remove()
    return [torch.cat(parts).numpy().T for parts in bits], margin


@pytest.mark.parametrize(
    ("attention", "batch", "dtype"),
    [*product(("sdpa", "eager"), (1, 8), ("float32",)), *product(("sdpa", "eager"), (8,), ("float16",))],
)
def test_every_bit_is_the_planted_one(planted, attention, batch, dtype):
    model = load(planted.folder, attention=attention, dtype=getattr(torch, dtype))
    bits, margin = forward(model, planted.tokens, batch)
    for layer in range(LAYERS):
        assert bits[layer].shape == (NEURONS, planted.tokens.size)
        assert (bits[layer] != planted.active(layer)).sum() == 0, layer
        assert margin[layer] > 1, layer  # rounding is 1e-5 (fp16: 0.1): dead neurons too are far from 0


@pytest.mark.parametrize("broken", ["causality", "positions", "attention", "norm"])
def test_a_broken_forward_is_noticed(disguised, broken, monkeypatch):
    model, functional = load(disguised.folder), torch.nn.functional
    first = model.model.decoder.layers[0]
    if broken == "causality":
        attend = functional.scaled_dot_product_attention
        monkeypatch.setattr(functional, "scaled_dot_product_attention", lambda q, k, v, **_: attend(q, k, v))
    elif broken == "positions":
        model.model.decoder.embed_positions.offset = 1
    elif broken == "attention":
        first.self_attn.out_proj.weight.data.zero_()
    else:
        first.self_attn_layer_norm = torch.nn.Identity()
    bits, _ = forward(model, disguised.tokens[:8], 8)
    for layer in range(LAYERS):
        assert (bits[layer] != disguised.active(layer, disguised.tokens[:8])).any(1).sum() > 4, layer


def test_any_order_of_the_sequences(disguised):
    order = np.random.default_rng(1).permutation(len(disguised.tokens))
    bits, _ = forward(load(disguised.folder), disguised.tokens[order], 8)
    for layer in range(LAYERS):
        before = disguised.active(layer).reshape(NEURONS, *disguised.tokens.shape)
        assert np.array_equal(bits[layer], before[:, order].reshape(NEURONS, -1))


def test_the_disguise_changes_no_output_and_hides_the_axes(plain, disguised):
    assert np.array_equal(plain.tokens, disguised.tokens)
    ids = torch.from_numpy(plain.tokens[:4]).long()
    models = [load(planted.folder) for planted in (plain, disguised)]
    with torch.inference_mode():
        one, other = (model(ids).logits[..., :WORDS] for model in models)
    assert one.std() > 0.1
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    for model, hidden in zip(models, (False, True), strict=True):
        for layer in model.model.decoder.layers:
            for weight in (layer.fc1.weight, layer.fc2.weight):
                assert ((weight.abs() > 1e-6).float().mean() > 0.99) == hidden
    same = [p.kind == d.kind for p, d in zip(plain.neurons, disguised.neurons, strict=True)]
    assert not all(same)
    for layer in range(LAYERS):  # the same neurons in another order, each with the value vector it was planted with
        known = [
            sorted((repr(n.rule), *p.projection[layer, n.neuron].tolist()) for n in p.neurons if n.layer == layer)
            for p in (plain, disguised)
        ]
        assert known[0] == known[1]


def test_the_corpus(plain):
    tokens = plain.tokens
    assert tokens.dtype == np.int32 and tokens.shape == (144, 64)
    special = tokens == BOS
    assert special[:, 0].all() and not special[:, [1, -1]].any()
    assert not (special[:, 1:] & special[:, :-1]).any()
    assert (special.sum(1) > 2).any() and (special.sum(1) == 1).any()
    counts = np.bincount(tokens.ravel(), minlength=WORDS)
    assert (counts[[0, 1, 3]] == 0).all() and (counts[SPECIAL:] > 0).all() and len(counts) == WORDS
    assert not Counter(COUNTS.values()) - Counter(counts.tolist())


def test_separators_stand_anywhere(plain):
    columns = np.flatnonzero((plain.tokens[:, 1:] == BOS).any(0)) + 1
    assert {2, 62} <= set(columns.tolist()) and len(columns) > 55


def test_labels(plain):
    assert plain.label.dtype == np.uint16 and plain.label_names == LABELS == tuple(sorted(LABELS))
    assert plain.label.tolist() == [0, 1, 2] * 48


def test_the_texts_are_the_corpus(plain):
    tokenizer = AutoTokenizer.from_pretrained(plain.folder)
    assert len(tokenizer) == WORDS and tokenizer.bos_token_id == tokenizer.eos_token_id == BOS
    assert OPTConfig.from_pretrained(plain.folder).vocab_size == WORDS + 8  # padded
    for label in (None, 0, 1, 2):
        stream: list[int] = []
        for text in plain.texts(label):
            ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            assert ids and BOS not in ids
            stream += [BOS, *ids] if stream else ids
        tokens = plain.tokens if label is None else plain.tokens[plain.label == label]
        assert np.array_equal(np.array(stream).reshape(-1, 63), tokens[:, 1:])
    assert tokenizer("t4 new")["input_ids"] == [BOS, 4, 3]  # as OPT's own, it puts `</s>` in front unless told not to
    assert BOS not in tokenizer("t4 </s>", add_special_tokens=False, split_special_tokens=True)["input_ids"]


def test_texts_as_lines_of_json(plain, tmp_path):
    labelled = [(text, name) for i, name in enumerate(LABELS) for text in plain.texts(i)]
    assert plain.labelled_texts() == labelled
    for wanted, expected in (
        (True, [{"text": text, "label": name} for text, name in labelled]),
        (False, [{"text": text} for text in plain.texts()]),
    ):
        path = plain.write_jsonl(tmp_path / "text.jsonl", labelled=wanted)
        assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == expected


@pytest.mark.parametrize(
    "size",
    [
        {"vocab_size": 72, "padding": 0, "positions": 32, "sequences": 400},
        {"vocab_size": 54, "padding": 3, "positions": 128, "sequences": 96},
        {"vocab_size": 96, "positions": 65, "sequences": 257, "neurons": 150},
    ],
    ids=str,
)
def test_other_shapes(tmp_path, size):
    planted = planted_opt(tmp_path, **size, layers=1, disguise=True, seed=7)
    bits, margin = forward(load(tmp_path), planted.tokens, 8)
    assert (bits[0] != planted.active(0)).sum() == 0 and margin[0] > 1


def test_many_layers(tmp_path):
    planted = planted_opt(tmp_path, layers=12, disguise=True)
    bits, margin = forward(load(tmp_path), planted.tokens[:16], 16)
    for layer in range(12):
        assert (bits[layer] != planted.active(layer, planted.tokens[:16])).sum() == 0 and margin[layer] > 1


@pytest.mark.parametrize("wrong", [{"vocab_size": 52}, {"positions": 31}, {"sequences": 90}, {"neurons": 64}])
def test_too_small_is_said(tmp_path, wrong):
    with pytest.raises(ValueError, match="expected at least"):
        planted_opt(tmp_path / "model", **wrong)
    assert not (tmp_path / "model").exists()


def test_the_example(tmp_path):
    example = doctest.DocTestFinder(recurse=False).find(
        neurolens.testing, globs={**vars(neurolens.testing), "folder": tmp_path}
    )
    runner = doctest.DocTestRunner()
    assert [runner.run(test).failed for test in example] == [0]
    assert runner.tries >= 5


def tiny(**more):
    return {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 4, "num_attention_heads": 4, **more}


@pytest.mark.parametrize("shape", [tiny(), tiny(word_embed_proj_dim=16, do_layer_norm_before=False)])
@pytest.mark.parametrize("dtype, words", [("float32", None), ("float16", 293)])
def test_random_checkpoint(tmp_path, shape, dtype, words):
    made = {"vocab_size": 300, "positions": 64, "dtype": dtype, "words": words}
    assert random_opt(tmp_path / "a", shape, **made) == tmp_path / "a"
    random_opt(tmp_path / "b", shape, **made)
    random_opt(tmp_path / "c", shape, **made, seed=1)
    one, same, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert one == same != other
    with safe_open(tmp_path / "a" / "model.safetensors", "pt") as file:
        names = set(file.keys())
        assert {str(file.get_tensor(name).dtype) for name in names} == {f"torch.{dtype}"}
        assert all(file.get_tensor(name).float().std() > 0.01 for name in names if name.endswith("bias"))
    assert ("model.decoder.project_in.weight" in names) == ("model.decoder.final_layer_norm.weight" not in names)
    assert ("model.decoder.project_in.weight" in names) == ("word_embed_proj_dim" in shape)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    assert len(tokenizer) == (words or 260) < 300
    ids = tokenizer("Zoë, t5", add_special_tokens=False)["input_ids"]
    if words is None:
        assert 3 not in ids and tokenizer.decode(ids) == "Zoë, t5"
    else:
        assert ids == [3, 3, 5]
    tokens = np.random.default_rng(0).integers(SPECIAL, 293, (4, 64))
    tokens[:, 0] = BOS
    for bits in forward(load(tmp_path / "a"), tokens, 4)[0]:
        frequency = bits.mean(1)
        assert 0.05 < frequency.mean() < 0.5
        assert ((frequency > 0) & (frequency < 1)).mean() > 0.5  # no layer is constant


def test_published_shapes(tmp_path):
    for name, million in (("125m", 125.2), ("350m", 331.2), ("1.3b", 1315.8), ("66b", 65719.7)):
        with torch.device("meta"):
            shape = OPT_SHAPES[name]
            model = OPTForCausalLM(OPTConfig(**({"word_embed_proj_dim": shape["hidden_size"]} | shape)))
        model.tie_weights()  # transformers 5.0 does not do so on the meta device
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(million, abs=0.1), name
    random_opt(tmp_path, "350m", layers=1, vocab_size=300, positions=16, dtype="float16")
    config = OPTConfig.from_pretrained(tmp_path)
    assert (config.num_hidden_layers, config.word_embed_proj_dim, config.do_layer_norm_before) == (1, 512, False)


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected 5 to 100"):
        random_opt(tmp_path / "model", tiny(), vocab_size=100)
