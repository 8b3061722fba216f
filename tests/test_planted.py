"""The planted model is what it says: through the plain Hugging Face forward, and by the paper's rules read literally.

Nothing of the package is used here but `neurolens.testing`; the forward, the hooks and the rules are our own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM

from neurolens.testing import BOS, COUNTS, OPT_SHAPES, SPECIAL, Planted, planted_opt, random_opt

LAYERS = 3


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


def load(folder: Path) -> Any:
    made: Any = OPTForCausalLM.from_pretrained(
        folder, attn_implementation="sdpa", torch_dtype=torch.float32, output_loading_info=True
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


@dataclass
class Found:
    number: int  # covering number
    activations: int  # on anything but `</s>`
    on: Counter
    covered: dict[int, int]  # token → activations
    candidates: int  # tokens in the covering set
    detector: bool


def token_rules(active: np.ndarray, tokens: np.ndarray, rate: int = 95, coverage: int = 95) -> Found:
    """Covering number and token detector, from the words of the method and with Python's integers."""
    ids = tokens.ravel().tolist()
    total = Counter(ids)
    on = Counter(t for t, a in zip(ids, active.tolist(), strict=True) if a and t != BOS)
    activations, number, taken, least = sum(on.values()), 0, 0, 0
    for _, count in on.most_common():
        if 100 * taken >= 95 * activations:
            break
        number, taken, least = number + 1, taken + count, count
    candidates = [t for t, count in on.items() if count >= least]
    covered = {t: on[t] for t in candidates if 100 * on[t] >= rate * total[t]}
    detector = 1 <= number <= 5 and len(covered) > 0 and 100 * sum(covered.values()) >= coverage * activations
    return Found(number, activations, on, covered, len(candidates), detector)


@pytest.mark.parametrize("batch", [1, 8])
def test_every_bit_is_the_planted_one(planted, batch):
    bits, margin = forward(load(planted.folder), planted.tokens, batch)
    for layer in range(LAYERS):
        assert bits[layer].shape == (64, planted.tokens.size)
        assert (bits[layer] != planted.active(layer)).sum() == 0, layer
        assert margin[layer] > 1, layer  # rounding is 1e-5: dead neurons too are far from 0


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
        before = disguised.active(layer).reshape(64, *disguised.tokens.shape)
        assert np.array_equal(bits[layer], before[:, order].reshape(64, -1))


def test_the_disguise_changes_no_output_and_hides_the_axes(plain, disguised):
    assert np.array_equal(plain.tokens, disguised.tokens)
    ids = torch.from_numpy(plain.tokens[:4]).long()
    models = [load(planted.folder) for planted in (plain, disguised)]
    with torch.inference_mode():
        one, other = (model(ids).logits for model in models)
    assert one.std() > 0.1
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    for model, hidden in zip(models, (False, True), strict=True):
        for layer in model.model.decoder.layers:
            for weight in (layer.fc1.weight, layer.fc2.weight):
                assert ((weight.abs() > 1e-6).float().mean() > 0.99) == hidden
    same = [p.kind == d.kind for p, d in zip(plain.neurons, disguised.neurons, strict=True)]
    assert not all(same)
    assert Counter(n.rule.need for n in plain.neurons) == Counter(n.rule.need for n in disguised.neurons)


def test_the_rules_accept_exactly_the_planted_neurons(planted):
    truth = planted.truth()
    assert all(kind.shape == (LAYERS, 64) for kind in truth.values())
    special = planted.tokens.ravel() == BOS
    for layer in range(LAYERS):
        active = planted.active(layer)
        neurons = [n for n in planted.neurons if n.layer == layer]
        assert [n.neuron for n in neurons] == list(range(64))
        assert np.array_equal(truth["dead"][layer], ~active.any(1))
        assert np.array_equal(truth["dead_but_bos"][layer], active.any(1) & ~active[:, ~special].any(1))
        found = [token_rules(row, planted.tokens) for row in active]
        assert truth["unigram_detector"][layer].tolist() == [f.detector for f in found]
        for neuron, f in zip(neurons, found, strict=True):
            if f.detector:
                assert neuron.triggers == tuple(sorted(f.covered))


def test_what_every_layer_holds(planted):
    tokens = planted.tokens.ravel()
    special = tokens == BOS
    total = Counter(tokens.tolist())
    for layer in range(LAYERS):
        active = planted.active(layer)
        assert len(planted.of("dead", layer)) >= 3
        at = [np.flatnonzero(active[n.neuron]) % planted.tokens.shape[1] for n in planted.of("dead_but_bos", layer)]
        assert {(bool((a == 0).any()), bool((a > 0).any())) for a in at} == {(1, 1), (1, 0), (0, 1)}
        detectors = planted.of("unigram_detector", layer)
        found = [token_rules(active[n.neuron], planted.tokens) for n in detectors]
        for count in range(1, 6):  # with and without activations on `</s>`
            with_bos = [active[n.neuron, special].any() for n in detectors if len(n.triggers) == count]
            assert set(with_bos) == {False, True}
        assert any(100 * f.on[t] == 95 * total[t] for f in found for t in f.covered)
        assert any(100 * sum(f.covered.values()) == 95 * f.activations for f in found)
        assert {f.activations for f in found} >= {1, 4}
        assert any(f.candidates > f.number and len(f.covered) < f.candidates for f in found)  # ties
        density = active.mean(1)
        assert (density == 1).any()
        others = [density[n.neuron] for n in planted.of("other", layer) if not n.near_miss]
        assert sum(0.4 < d < 0.6 for d in others) >= 3 and len(others) >= 10


def test_near_misses_fail_the_rule_they_were_planted_to_fail(planted):
    special = planted.tokens.ravel() == BOS
    total = Counter(planted.tokens.ravel().tolist())
    for layer in range(LAYERS):
        active = planted.active(layer)

        def found(neuron, active=active, **thresholds) -> Found:
            assert neuron.kind == "other" and neuron.near_miss
            return token_rules(active[neuron.neuron], planted.tokens, **thresholds)

        kinds = ("rate", "coverage", "number", "dead", "dead_but_bos")
        rate, coverage, number, dead, bos = (planted.near_misses(kind, layer) for kind in kinds)
        assert min(map(len, (rate, coverage, number, dead, bos))) >= 1
        for neuron in rate:
            (token,) = neuron.triggers
            f = found(neuron)
            assert f.number == 1 and not f.covered and not f.detector
            assert 100 * f.on[token] == 94 * total[token] and f.on[token] == f.activations
            assert found(neuron, rate=94).detector and not found(neuron, coverage=94).detector
        for neuron in coverage:
            f = found(neuron)
            assert f.number == len(neuron.triggers) + 1 <= 5 and tuple(sorted(f.covered)) == neuron.triggers
            assert 100 * sum(f.covered.values()) == 94 * f.activations and not f.detector
            assert found(neuron, coverage=94).detector and not found(neuron, rate=94).detector
        for neuron in number:
            f = found(neuron)
            assert f.number == len(neuron.triggers) == 6 and tuple(sorted(f.covered)) == neuron.triggers
            assert sum(f.covered.values()) == f.activations and all(f.on[t] == total[t] for t in f.on)
        assert [active[n.neuron].sum() for n in dead] == [1] * len(dead)
        for neuron in bos:
            assert active[neuron.neuron, ~special].sum() == 1 and active[neuron.neuron, special].all()


def test_the_corpus(plain):
    tokens = plain.tokens
    assert tokens.dtype == np.int32 and tokens.shape == (128, 64)
    special = tokens == BOS
    assert special[:, 0].all() and not special[:, [1, -1]].any()
    assert not (special[:, 1:] & special[:, :-1]).any()
    assert (special.sum(1) > 2).any() and (special.sum(1) == 1).any()
    counts = np.bincount(tokens.ravel(), minlength=48)
    assert (counts[[0, 1, 3]] == 0).all() and (counts[SPECIAL:] > 0).all() and len(counts) == 48
    assert not Counter(COUNTS.values()) - Counter(counts.tolist())


def test_the_texts_are_the_corpus(plain):
    tokenizer = AutoTokenizer.from_pretrained(plain.folder)
    assert len(tokenizer) == 48 and tokenizer.bos_token_id == tokenizer.eos_token_id == BOS
    stream: list[int] = []
    for text in plain.texts():
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert ids and BOS not in ids
        stream += [BOS, *ids] if stream else ids
    assert np.array_equal(np.array(stream).reshape(128, 63), plain.tokens[:, 1:])
    assert tokenizer("t4 new")["input_ids"] == [BOS, 4, 3]  # as OPT's own, it puts `</s>` in front unless told not to
    assert BOS not in tokenizer("t4 </s>", add_special_tokens=False, split_special_tokens=True)["input_ids"]


@pytest.mark.parametrize("vocab_size, positions, sequences", [(64, 32, 160), (40, 128, 64), (96, 65, 80)])
def test_other_shapes(tmp_path, vocab_size, positions, sequences):
    planted = planted_opt(
        tmp_path, vocab_size=vocab_size, positions=positions, sequences=sequences, layers=1, disguise=True, seed=7
    )
    bits, margin = forward(load(tmp_path), planted.tokens, 8)
    assert (bits[0] != planted.active(0)).sum() == 0 and margin[0] > 1
    found = [token_rules(row, planted.tokens).detector for row in bits[0]]
    assert planted.truth()["unigram_detector"][0].tolist() == found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_seeds(tmp_path, seed):
    planted = planted_opt(tmp_path, layers=1, seed=seed)
    found = [token_rules(row, planted.tokens).detector for row in planted.active(0)]
    assert planted.truth()["unigram_detector"][0].tolist() == found


@pytest.mark.parametrize("wrong", [{"vocab_size": 20}, {"sequences": 16}, {"neurons": 8}])
def test_too_small_is_said(tmp_path, wrong):
    with pytest.raises(ValueError, match="expected at least"):
        planted_opt(tmp_path / "model", **wrong)
    assert not (tmp_path / "model").exists()


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
