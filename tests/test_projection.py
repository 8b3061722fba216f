"""Value vectors × unembedding of checkpoints on disk, against loops over the tensors in their files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import OPTForCausalLM

from neurolens import NeurolensError, UsageError
from neurolens.checkpoint import Checkpoint
from neurolens.projection import Unembedding, reduce_compiled, reduce_on_device
from neurolens.testing import random_opt
from neurolens.updates import Projections

settings.register_profile("laws", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("laws")

REAL = np.arange(260)  # of the 272 rows of the fixtures' models
NONE = (np.zeros(0, np.int64), np.zeros(0, np.int64))
REDUCERS = [reduce_compiled, reduce_on_device]
Weights = dict[str, torch.Tensor]


def weights_of(model: Path) -> Weights:
    return {name.removeprefix("model."): tensor for name, tensor in load_file(model / "model.safetensors").items()}


def altered(
    model: Path,
    folder: Path,
    change: Callable[[Weights], Any] = lambda w: None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """A copy of a checkpoint with other weights or settings."""
    shutil.copytree(model, folder)
    tensors = {name: tensor.clone() for name, tensor in weights_of(model).items()}
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    settings = json.loads((folder / "config.json").read_text()) | dict(config or {})
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def whole_numbers(seed: int, most: int = 2) -> Callable[[Weights], None]:
    """Weights that are small integers: products are exact in fp32, and often equal."""

    def change(weights: Weights) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in weights.items():
            if name.endswith(("fc2.weight", "embed_tokens.weight", "project_out.weight", "lm_head.weight")):
                tensor.copy_(torch.randint(-most, most + 1, tensor.shape, generator=generator))

    return change


def written(weights: Weights, layer: int, *, fold: bool = False) -> np.ndarray:
    """What each neuron of a layer writes, as it reaches the unembedding, float64 `(neuron, width)`."""
    vectors = weights[f"decoder.layers.{layer}.fc2.weight"].double().numpy().T
    if fold:
        vectors = vectors * weights["decoder.final_layer_norm.weight"].double().numpy()
    if "decoder.project_out.weight" in weights:
        vectors = vectors @ weights["decoder.project_out.weight"].double().numpy().T
    return vectors


def check(
    got: Projections,
    vectors: np.ndarray,
    rows: np.ndarray,
    real: np.ndarray,
    k: int,
    pairs: tuple[np.ndarray, np.ndarray],
    controls: tuple[np.ndarray, np.ndarray],
    close: float = 1e-5,
) -> None:
    """Compare with the definition, token by token. `vectors` `(neuron, width)` of the neurons asked for, `rows`
    `(token, width)`, padded ones as well."""
    products = [{int(t): float(vector @ rows[t]) for t in real} for vector in vectors]
    assert got.promoted.shape == got.suppressed.shape == (len(vectors), k)
    for n, product in enumerate(products):
        falling = sorted(product, key=lambda t: (-product[t], t))[:k]
        rising = sorted(product, key=lambda t: (product[t], t))[:k]
        spare = k - len(falling)
        assert got.promoted[n].tolist() == falling + [-1] * spare
        assert got.suppressed[n].tolist() == rising + [-1] * spare
        values = [product[t] for t in falling] + [np.nan] * spare
        assert got.promoted_projection[n] == pytest.approx(values, rel=close, abs=close, nan_ok=True)
        values = [product[t] for t in rising] + [np.nan] * spare
        assert got.suppressed_projection[n] == pytest.approx(values, rel=close, abs=close, nan_ok=True)
        assert got.mean[n] == pytest.approx(sum(product.values()) / len(real), rel=close, abs=close)
    for i, (n, t) in enumerate(zip(*pairs, strict=True)):
        assert got.projection[i] == pytest.approx(products[n][t], rel=close, abs=close)
        assert got.rank[i] == sum(other < products[n][t] for other in products[n].values())
        length = float(np.sqrt(vectors[n] @ vectors[n]) * np.sqrt(rows[t] @ rows[t]))
        cosine = products[n][t] / length if length else np.nan
        assert got.cosine[i] == pytest.approx(cosine, rel=close, abs=close, nan_ok=True)
    assert got.control.tolist() == pytest.approx(
        [products[n][t] for n, t in zip(*controls, strict=True)], rel=close, abs=close
    )
    dtypes = {name: getattr(got, name).dtype for name in got.__dataclass_fields__}
    assert dtypes == {name: np.int32 if name in ("promoted", "suppressed", "rank") else np.float32 for name in dtypes}


def some_pairs(rng: np.random.Generator, count: int, size: int, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(0, size, count), rng.choice(real, count)


@pytest.mark.parametrize("reduce", REDUCERS)
@pytest.mark.parametrize("model", ["tiny_model", "post_ln_model"])
@pytest.mark.parametrize(
    ("block", "k", "real"),
    [(256, 10, REAL), (7, 3, np.arange(3, 260, 2)), (1, 300, REAL), (72, 1, np.array([5]))],
    ids=["one block", "every second id", "more asked for than there are", "one id"],
)
def test_whole_numbers_are_exact_ties_included(request, tmp_path, model, reduce, block, k, real):
    folder = altered(request.getfixturevalue(model), tmp_path / "m", whole_numbers(block))
    rng, weights = np.random.default_rng(block), weights_of(folder)
    unembedding = Unembedding(Checkpoint(folder), real)
    unembedding._reduce = reduce
    neurons = rng.permutation(72)[:30]
    pairs, controls = some_pairs(rng, 150, 30, real), some_pairs(rng, 40, 30, real)
    got = unembedding.project(1, neurons, k=k, pairs=pairs, controls=controls, block=block)
    rows = weights["decoder.embed_tokens.weight"].double().numpy()
    check(got, written(weights, 1)[neurons], rows, real, k, pairs, controls)
    exact = written(weights, 1)[neurons] @ rows.T
    assert (got.projection == exact[pairs]).all() and (got.control == exact[controls]).all()


@pytest.mark.parametrize("model", ["tiny_model", "post_ln_model"])
def test_random_weights(request, model):
    folder = request.getfixturevalue(model)
    rng, weights = np.random.default_rng(0), weights_of(folder)
    pairs, controls = some_pairs(rng, 100, 72, REAL), some_pairs(rng, 40, 72, REAL)
    got = Unembedding(Checkpoint(folder), REAL).project(2, np.arange(72), k=10, pairs=pairs, controls=controls)
    rows = weights["decoder.embed_tokens.weight"].double().numpy()
    check(got, written(weights, 2), rows, REAL, 10, pairs, controls)


def test_projections_are_what_the_model_adds_to_its_logits(tiny_model, post_ln_model, tmp_path):
    untied = altered(
        tiny_model,
        tmp_path / "untied",
        lambda w: w.update({"lm_head.weight": w["decoder.embed_tokens.weight"].flip(0) * 2}),
        {"tie_word_embeddings": False},
    )
    for folder in (tiny_model, post_ln_model, untied):
        model: Any = OPTForCausalLM.from_pretrained(folder).eval()
        out = model.model.decoder.project_out or (lambda x: x)
        with torch.inference_mode():
            want = model.lm_head(out(model.model.decoder.layers[1].fc2.weight.T)).numpy()[:, :260]
        unembedding, neurons = Unembedding(Checkpoint(folder), REAL), np.arange(72)
        assert unembedding.products(1, neurons, REAL) == pytest.approx(want, rel=1e-4, abs=1e-5)
        got = unembedding.project(1, neurons, k=260, pairs=NONE, controls=NONE)
        assert np.take_along_axis(want, got.promoted, 1) == pytest.approx(got.promoted_projection, rel=1e-4, abs=1e-5)


def test_value_vectors_are_columns_of_fc2(tiny_model):
    unembedding = Unembedding(Checkpoint(tiny_model), REAL)
    for layer in (0, 2, 0):
        want = weights_of(tiny_model)[f"decoder.layers.{layer}.fc2.weight"].numpy().T
        assert (unembedding.value_vectors(layer) == want).all()
        assert (unembedding.value_vectors(layer, np.array([71, 3, 3])) == want[[71, 3, 3]]).all()
        assert unembedding.value_vectors(layer, np.array([], int)).shape == (0, 32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_computed_in_fp32(tiny_model, tmp_path, dtype):
    folder = altered(
        tiny_model, tmp_path / "m", lambda w: w.update({name: tensor.to(dtype) for name, tensor in w.items()})
    )
    weights, rng = weights_of(folder), np.random.default_rng(0)
    unembedding = Unembedding(Checkpoint(folder), REAL)
    vectors = unembedding.value_vectors(1)
    assert vectors.dtype == np.float32
    assert (vectors == weights["decoder.layers.1.fc2.weight"].float().numpy().T).all()
    pairs = some_pairs(rng, 20, 72, REAL)
    got = unembedding.project(1, np.arange(72), k=5, pairs=pairs, controls=NONE)
    check(got, written(weights, 1), weights["decoder.embed_tokens.weight"].double().numpy(), REAL, 5, pairs, NONE)


def test_a_bin_checkpoint(tiny_model, tmp_path):
    folder = altered(tiny_model, tmp_path / "m")
    (folder / "model.safetensors").unlink()
    torch.save(
        {name: torch.nn.Parameter(w) for name, w in weights_of(tiny_model).items()}, folder / "pytorch_model.bin"
    )
    got, want = (
        Unembedding(Checkpoint(model), REAL).project(0, np.arange(72), k=4, pairs=NONE, controls=NONE)
        for model in (folder, tiny_model)
    )
    assert (got.promoted == want.promoted).all() and (got.promoted_projection == want.promoted_projection).all()


# --- padded rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduce", REDUCERS)
@pytest.mark.parametrize("padding", [1e6, -1e6, float("nan"), float("inf")])
def test_padded_rows_change_nothing(tiny_model, tmp_path, reduce, padding):
    def change(weights: Weights) -> None:
        weights["decoder.embed_tokens.weight"][260:] = padding

    pairs = some_pairs(np.random.default_rng(0), 50, 72, REAL)
    results = []
    for folder in (tiny_model, altered(tiny_model, tmp_path / "m", change)):
        unembedding = Unembedding(Checkpoint(folder), REAL)
        unembedding._reduce = reduce
        results.append(unembedding.project(0, np.arange(72), k=10, pairs=pairs, controls=pairs))
    for name in Projections.__dataclass_fields__:
        assert (getattr(results[0], name) == getattr(results[1], name)).all(), name
    assert results[0].promoted.max() < 260 and results[0].suppressed.max() < 260


# --- heads, norms -------------------------------------------------------------------------------------------------


def test_which_rows_are_the_unembedding(tiny_model, tmp_path):
    def both(weights: Weights) -> None:
        weights["lm_head.weight"] = weights["decoder.embed_tokens.weight"] + 1

    def same(weights: Weights) -> None:
        weights["lm_head.weight"] = weights["decoder.embed_tokens.weight"].clone()

    def products(folder: Path) -> np.ndarray:
        return Unembedding(Checkpoint(folder), REAL).products(0, np.arange(72), REAL)

    weights = weights_of(tiny_model)
    vectors, rows = written(weights, 0), weights["decoder.embed_tokens.weight"].double().numpy()[:260]
    assert products(altered(tiny_model, tmp_path / "same", same)) == pytest.approx(vectors @ rows.T, rel=1e-4, abs=1e-5)
    untied = altered(tiny_model, tmp_path / "untied", both, {"tie_word_embeddings": False})
    assert products(untied) == pytest.approx(vectors @ (rows + 1).T, rel=1e-4, abs=1e-5)
    with pytest.raises(NeurolensError, match=r"differ, though config\.json ties them"):
        products(altered(tiny_model, tmp_path / "both", both))
    with pytest.raises(NeurolensError, match=r"lacks tensor 'lm_head.weight'"):
        products(altered(tiny_model, tmp_path / "none", config={"tie_word_embeddings": False}))


def test_the_final_norm_is_folded_in_when_asked(tiny_model, tmp_path):
    folder = altered(tiny_model, tmp_path / "m", whole_numbers(3))
    weights, rng = weights_of(folder), np.random.default_rng(0)
    rows = weights["decoder.embed_tokens.weight"].double().numpy()
    plain, folded = (Unembedding(Checkpoint(folder), REAL, fold_norm=fold) for fold in (False, True))
    assert (plain.fold_norm, folded.fold_norm) == (False, True)
    pairs = some_pairs(rng, 30, 72, REAL)
    got = folded.project(1, np.arange(72), k=10, pairs=pairs, controls=NONE)
    check(got, written(weights, 1, fold=True), rows, REAL, 10, pairs, NONE, close=1e-4)
    want = written(weights, 1, fold=True) @ rows[:260].T
    assert folded.products(1, np.arange(72), REAL) == pytest.approx(want, rel=1e-4, abs=1e-4)
    assert (folded.products(1, np.arange(72), REAL) != plain.products(1, np.arange(72), REAL)).any()
    assert (folded.value_vectors(1) == plain.value_vectors(1)).all()  # these are as stored


def test_no_final_norm_no_folding(tiny_model, post_ln_model, tmp_path):
    removed = altered(tiny_model, tmp_path / "m", config={"_remove_final_layer_norm": True})
    for folder in (post_ln_model, removed):
        with pytest.raises(UsageError, match=r"has no final LayerNorm to fold in .*leave out --fold-norm"):
            Unembedding(Checkpoint(folder), REAL, fold_norm=True)


# --- what cannot be multiplied ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_value_vectors_that_are_no_numbers(tiny_model, tmp_path, value):
    def change(weights: Weights) -> None:
        weights["decoder.layers.1.fc2.weight"][3, 7] = value

    unembedding = Unembedding(Checkpoint(altered(tiny_model, tmp_path / "m", change)), REAL)
    unembedding.project(0, np.arange(72), k=1, pairs=NONE, controls=NONE)
    for call in (
        lambda: unembedding.project(1, np.arange(72), k=1, pairs=NONE, controls=NONE),
        lambda: unembedding.products(1, np.array([7]), np.array([5])),
        lambda: unembedding.value_vectors(1),
    ):
        with pytest.raises(NeurolensError, match="value vectors of layer 1 hold NaN or infinity; fetch it again"):
            call()
    unembedding.products(1, np.array([6]), np.array([5]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_unembedding_that_is_no_numbers(tiny_model, tmp_path, value):
    def change(weights: Weights) -> None:
        weights["decoder.embed_tokens.weight"][17, 3] = value

    with pytest.raises(NeurolensError, match="the unembedding holds NaN or infinity; fetch it again"):
        Unembedding(Checkpoint(altered(tiny_model, tmp_path / "m", change)), REAL)


@pytest.mark.parametrize("model", ["tiny_model", "post_ln_model"])
def test_products_that_may_overflow(request, tmp_path, model):
    def change(weights: Weights) -> None:
        for name in ("decoder.layers.2.fc2.weight", "decoder.project_out.weight"):
            if name in weights:
                weights[name] *= 1e22
        weights["decoder.embed_tokens.weight"] *= 1e16

    unembedding = Unembedding(Checkpoint(altered(request.getfixturevalue(model), tmp_path / "m", change)), REAL)
    for call in (
        lambda: unembedding.project(2, np.arange(72), k=1, pairs=NONE, controls=NONE),
        lambda: unembedding.products(2, np.arange(72), REAL),
    ):
        with pytest.raises(NeurolensError, match="projections of layer 2 are NaN or may exceed fp32"):
            call()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12])
def test_cosines_of_very_small_and_large_vectors(tiny_model, tmp_path, scale):
    def change(weights: Weights) -> None:
        weights["decoder.layers.0.fc2.weight"] *= scale
        weights["decoder.embed_tokens.weight"][40:80] *= 1e20

    pairs = (np.repeat(np.arange(72), 2), np.tile([7, 50], 72))
    got, want = (
        Unembedding(Checkpoint(model), REAL).project(0, np.arange(72), k=1, pairs=pairs, controls=NONE)
        for model in (altered(tiny_model, tmp_path / "m", change), tiny_model)
    )
    assert got.cosine == pytest.approx(want.cosine, rel=1e-4, abs=1e-6)


def test_neurons_that_write_nothing(tiny_model, tmp_path):
    def change(weights: Weights) -> None:
        weights["decoder.layers.0.fc2.weight"][:, 4] = 0
        weights["decoder.embed_tokens.weight"][9] = 0

    folder = altered(tiny_model, tmp_path / "m", change)
    pairs = (np.array([0, 0, 1]), np.array([9, 10, 9]))
    got = Unembedding(Checkpoint(folder), REAL).project(0, np.array([4, 5]), k=2, pairs=pairs, controls=NONE)
    assert got.promoted[0].tolist() == got.suppressed[0].tolist() == [0, 1] and got.mean[0] == 0
    assert got.projection.tolist() == [0, 0, 0] and got.rank[:2].tolist() == [0, 0] and np.isnan(got.cosine).all()


def test_nothing_to_project(tiny_model):
    unembedding = Unembedding(Checkpoint(tiny_model), REAL)
    got = unembedding.project(0, np.array([], int), k=3, pairs=NONE, controls=NONE)
    assert got.promoted.shape == (0, 3) and all(len(getattr(got, name)) == 0 for name in got.__dataclass_fields__)
    assert unembedding.products(0, np.array([], int), REAL).shape == (0, 260)
    assert unembedding.products(0, np.array([1]), np.array([], int)).shape == (1, 0)


def test_real_ids_are_sorted_and_kept_once(tiny_model):
    real = Unembedding(Checkpoint(tiny_model), np.array([9, 4, 4, 200])).real
    assert real.tolist() == [4, 9, 200] and real.dtype == np.int32


@pytest.mark.parametrize(
    ("real", "message"),
    [
        (np.arange(273), r"token ids 0 to 272; expected those of .*, 0 to 271"),
        (np.array([-1, 3]), r"token ids -1 to 3; expected"),
        (np.array([], int), r"no token ids; expected"),
    ],
)
def test_ids_the_model_has_not(tiny_model, real, message):
    with pytest.raises(UsageError, match=message):
        Unembedding(Checkpoint(tiny_model), real)


@pytest.mark.parametrize("token", [4, 260, 271, 10**6, -1])
def test_tokens_that_are_not_real(tiny_model, token):
    unembedding = Unembedding(Checkpoint(tiny_model), np.delete(REAL, 4))
    pair = (np.array([0]), np.array([token]))
    for call in (
        lambda: unembedding.project(0, np.array([1]), k=1, pairs=pair, controls=NONE),
        lambda: unembedding.project(0, np.array([1]), k=1, pairs=NONE, controls=pair),
        lambda: unembedding.products(0, np.array([1]), pair[1]),
    ):
        with pytest.raises(NeurolensError, match=f"token {token} is none of the 259 ids of the vocabulary"):
            call()


def test_layers_neurons_devices_and_architectures_that_are_not_there(tiny_model, tmp_path):
    unembedding = Unembedding(Checkpoint(tiny_model), REAL)
    for layer in (-1, 3):
        with pytest.raises(UsageError, match=f"layer {layer}; expected 0 to 2"):
            unembedding.value_vectors(layer)
    for neuron in (-1, 72):
        with pytest.raises(UsageError, match=r"neurons .*; expected 0 to 71"):
            unembedding.value_vectors(0, np.array([3, neuron]))
    with pytest.raises(UsageError, match="cannot use device 'nonsense'"):
        Unembedding(Checkpoint(tiny_model), REAL, device="nonsense")
    other = altered(tiny_model, tmp_path / "other", config={"model_type": "bert"})
    with pytest.raises(UsageError, match="is a 'bert' model"):
        Unembedding(Checkpoint(other), REAL)


@pytest.mark.parametrize("name", ["decoder.layers.0.fc2.weight", "decoder.embed_tokens.weight"])
def test_tensors_of_another_shape(tiny_model, tmp_path, name):
    def change(weights: Weights) -> None:
        weights[name] = weights[name][:, :5]

    folder = altered(tiny_model, tmp_path / "m", change)
    with pytest.raises(NeurolensError, match=rf"{name}' has shape .*not of one model"):
        Unembedding(Checkpoint(folder), REAL).value_vectors(0)


# --- the two ways of reducing a product ---------------------------------------------------------------------------


@given(
    shape=st.tuples(st.integers(1, 9), st.sampled_from([1, 2, 63, 64, 65, 128, 200, 500])),
    k=st.integers(1, 12),
    values=st.sampled_from([1, 2, 5, 1000]),
    order=st.sampled_from(["any", "rising", "falling"]),
    seed=st.integers(0, 2**20),
    pairs=st.sampled_from([0, 1, 64, 65, 200]),
)
def test_both_ways_of_reducing_are_the_definition(shape, k, values, order, seed, pairs):
    rng = np.random.default_rng(seed)
    product = rng.integers(-values, values + 1, shape).astype(np.float32)
    product[rng.random(shape) < 0.1] = -0.0
    if order != "any":
        product.sort(axis=1)
        product = np.ascontiguousarray(product if order == "rising" else product[:, ::-1])
    row, column = np.sort(rng.integers(0, shape[0], pairs)), rng.integers(0, shape[1], pairs)
    k = min(k, shape[1])
    for reduce in REDUCERS:
        high, high_at, low, low_at, smaller = reduce(torch.from_numpy(product.copy()), k, row, column)
        for n, of in enumerate(product.tolist()):
            falling = sorted(range(len(of)), key=lambda c: (-of[c], c))[:k]
            rising = sorted(range(len(of)), key=lambda c: (of[c], c))[:k]
            assert high_at[n].tolist() == falling and high[n].tolist() == [of[c] for c in falling]
            assert low_at[n].tolist() == rising and low[n].tolist() == [of[c] for c in rising]
        assert smaller.tolist() == [
            sum(other < product[n, c] for other in product[n]) for n, c in zip(row, column, strict=True)
        ]
        assert [of.dtype for of in (high, high_at, low, low_at, smaller)] == [np.float32, np.int32] * 2 + [np.int32]


def test_a_tie_at_the_last_place_takes_the_first_columns():
    product = torch.tensor([[5.0, 1.0, 7.0, 5.0, 5.0, 1.0, 1.0]])
    for reduce in REDUCERS:
        high, high_at, low, low_at, _ = reduce(product, 2, *NONE)
        assert (high.tolist(), high_at.tolist()) == ([[7, 5]], [[2, 0]])
        assert (low.tolist(), low_at.tolist()) == ([[1, 1]], [[1, 5]])


def test_a_device_that_is_no_cpu_is_reduced_there(tiny_model):
    ways = {device: Unembedding(Checkpoint(tiny_model), REAL, device=device)._reduce for device in ("cpu", "meta")}
    assert ways == {"cpu": reduce_compiled, "meta": reduce_on_device}


def test_published_shape_of_350m(tmp_path):
    folder = random_opt(tmp_path / "m", "350m", layers=1, vocab_size=600, dtype="float16")
    weights, rng = weights_of(folder), np.random.default_rng(0)
    assert weights["decoder.project_out.weight"].shape == (512, 1024)
    real, neurons = np.arange(593), rng.choice(4096, 40, replace=False)
    pairs = some_pairs(rng, 20, 40, real)
    got = Unembedding(Checkpoint(folder), real).project(0, neurons, k=5, pairs=pairs, controls=NONE)
    rows = weights["decoder.embed_tokens.weight"].double().numpy()
    check(got, written(weights, 0)[neurons], rows, real, 5, pairs, NONE, close=1e-4)
