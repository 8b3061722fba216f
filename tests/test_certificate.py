"""Certificates: every number equals a brute-force one from two plain HF forwards; toggled bits are found."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from conftest import POSITIONS, TINY, random_texts, snapshot

from neurolens import IncompleteError, NeurolensError, UsageError
from neurolens.analyze import analyze_run
from neurolens.certificate import Certificate, LayerParity
from neurolens.certify import certify
from neurolens.cli import run as neurolens
from neurolens.collect import collect
from neurolens.corpus import Corpus
from neurolens.locks import lock
from neurolens.reference import BUCKETS, NOT_FINITE, histogram, load_reference, percentile
from neurolens.run import open_run
from neurolens.store import Store

SEQUENCES, BATCH = 22, 4  # six batches, the last one short; three blocks of two batches
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def text(sequences: int = SEQUENCES, *, seed: int = 0) -> Corpus:
    tokens = np.random.default_rng(seed).integers(4, 260, (sequences, POSITIONS), dtype=np.int32)
    tokens[:, 0] = 2
    tokens[3, 7] = 2
    return Corpus.from_tokens(tokens)


def recorded(model: Path, path: Path, dtype: str = "fp32", **options: Any) -> Path:
    """A run at `path`."""
    given = {"batch_tokens": BATCH * POSITIONS, "block_tokens": 2 * BATCH * POSITIONS, **options}
    collect(model, text(), path, dtype=dtype, **given)
    return path


def forward(model: Path, tokens: np.ndarray, dtype: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each layer (fc1's output, what enters fc2) of HF's plain forward, float64 `(S · T, d_ff)`."""
    from transformers import OPTForCausalLM

    hf: Any = OPTForCausalLM.from_pretrained(model, attn_implementation="sdpa")
    hf = hf.to(DTYPES[dtype]).eval()
    layers = hf.model.decoder.layers
    before: list[list[np.ndarray]] = [[] for _ in layers]
    after: list[list[np.ndarray]] = [[] for _ in layers]

    def flat(tensor: torch.Tensor) -> np.ndarray:
        return tensor.detach().double().numpy().reshape(-1, tensor.shape[-1])

    for number, layer in enumerate(layers):
        layer.fc1.register_forward_hook(lambda module, args, output, n=number: before[n].append(flat(output)))
        layer.fc2.register_forward_pre_hook(lambda module, args, n=number: after[n].append(flat(args[0])))
    with torch.inference_mode():
        for first in range(0, len(tokens), BATCH):
            hf(torch.from_numpy(tokens[first : first + BATCH]).long())
    return [(np.concatenate(b), np.concatenate(a)) for b, a in zip(before, after, strict=True)]


def brute_force(model: Path, dtype: str, batches: list[int] | None = None) -> list[dict[str, Any]]:
    """A certificate's layers from two forwards, with sorting in place of histograms."""
    tokens = text().tokens
    number = np.repeat(np.arange(len(tokens)) // BATCH, POSITIONS)
    taken = np.isin(number, number if batches is None else batches)
    found = []
    for layer, ((pre, full), (_, low)) in enumerate(
        zip(forward(model, tokens, "fp32"), forward(model, tokens, dtype), strict=True)
    ):
        pre, on, bits = pre[taken], full[taken] > 0, low[taken] > 0
        far = np.sort(np.abs(pre[on != bits]))
        found.append(
            {
                "layer": layer,
                "bits": on.size,
                "active": int(on.sum()),
                "on_to_off": int((on & ~bits).sum()),
                "off_to_on": int((~on & bits).sum()),
                "flipped_median": far[-(-len(far) * 50 // 100) - 1] if len(far) else None,
                "flipped_p99": far[-(-len(far) * 99 // 100) - 1] if len(far) else None,
                "flipped_max": far[-1] if len(far) else None,
                "typical": np.sort(np.abs(pre).ravel())[-(-on.size // 2) - 1],
                "silent": int((~on.any(0)).sum()),
                "silenced": int((on.any(0) & ~bits.any(0)).sum()),
                "woken": int((~on.any(0) & bits.any(0)).sum()),
            }
        )
    return found


def same(layers: tuple[LayerParity, ...], expected: list[dict[str, Any]]) -> None:
    """Counts and greatest distances exactly, medians and percentiles to half a bucket of the histogram."""
    assert len(layers) == len(expected)
    for layer, values in zip(layers, expected, strict=True):
        for name, value in values.items():
            rough = name in ("flipped_median", "flipped_p99", "typical") and value is not None
            assert getattr(layer, name) == (pytest.approx(value, rel=1 / 255) if rough else value), (layer.layer, name)


# -- the numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tiny_model", "post_ln_model"])
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_every_number_equals_brute_force(
    kind: str, dtype: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = request.getfixturevalue(kind)
    expected = brute_force(model, dtype)
    for direction in ("on_to_off", "off_to_on"):
        assert sum(layer[direction] for layer in expected) > 2, "nothing to be found"
    monkeypatch.setattr("neurolens.bitmaps.READ_BYTES", 1)
    monkeypatch.setattr("neurolens.bitmaps.CHUNK_BYTES", 10 * 2 * BATCH * POSITIONS // 8)  # chunks of ten neurons
    run = recorded(model, tmp_path / "r.zarr", dtype)
    assert len(Store.open(run).neuron_chunks()) == 8
    certificate = certify(model, run=run)
    same(certificate.layers, expected)
    assert (certificate.dtype, certificate.tokens) == (dtype, SEQUENCES * POSITIONS)
    assert certificate.batches == (0, 1, 2, 3, 4, 5)
    monkeypatch.setattr("neurolens.certify.STRETCH_BYTES", 1)  # a batch at a time
    assert certify(model, run=run) == certificate
    # the same text, collected for the occasion
    other = certify(model, text(), dtype=dtype, batch_tokens=BATCH * POSITIONS)
    same(other.layers, expected)
    assert replace(other, model="") == replace(certificate, model="")


def test_neurons_that_fall_silent_are_counted(tmp_path: Path) -> None:
    """A layer so narrow in what it does that a dtype decides whether some neurons are ever active."""
    from safetensors.torch import load_file, save_file

    from neurolens.testing import random_opt

    model = random_opt(tmp_path / "model", {**TINY, "ffn_dim": 70}, vocab_size=272, positions=POSITIONS)
    weights = load_file(model / "model.safetensors")
    pre = forward(model, text().tokens, "fp32")[1][0]
    name = next(name for name in weights if name.endswith("layers.1.fc1.bias"))
    weights[name] -= torch.from_numpy(pre.max(0)).float()  # each neuron's greatest value is now within rounding of 0
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    expected = brute_force(model, "bf16")
    assert expected[1]["silenced"] and expected[1]["woken"], "nothing to be found"
    same(certify(model, run=recorded(model, tmp_path / "r.zarr", "bf16")).layers, expected)


@pytest.mark.parametrize("kind", ["tiny_model", "post_ln_model"])
def test_fp32_is_bit_for_bit(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model = request.getfixturevalue(kind)
    run = recorded(model, tmp_path / "r.zarr")
    for certificate in (certify(model, run=run), certify(model, text(), batch_tokens=BATCH * POSITIONS)):
        assert certificate.flips == 0 and certificate.bits == 3 * 72 * SEQUENCES * POSITIONS
        same(certificate.layers, brute_force(model, "fp32"))
        assert "fp32 equals plain HF fp32 bit for bit on 1,056 tokens (228,096 bits)" in certificate.headline()


def test_batches_are_taken_evenly(tiny_model: Path, tmp_path: Path) -> None:
    run = recorded(tiny_model, tmp_path / "r.zarr", "bf16")
    size = BATCH * POSITIONS
    for tokens, batches in ((size, [0]), (2 * size, [0, 3]), (3 * size + 5, [0, 2, 4]), (5 * size, [0, 1, 2, 3, 4])):
        certificate = certify(tiny_model, run=run, tokens=tokens)
        assert certificate.batches == tuple(batches) and certificate.tokens == len(batches) * size
        same(certificate.layers, brute_force(tiny_model, "bf16", batches))
    assert certify(tiny_model, run=run, tokens=10**9).batches == (0, 1, 2, 3, 4, 5)


def test_layers_of_the_run_only(tiny_model: Path, tmp_path: Path) -> None:
    run = recorded(tiny_model, tmp_path / "r.zarr", "bf16", layers=[0, 2])
    same(certify(tiny_model, run=run).layers, [brute_force(tiny_model, "bf16")[layer] for layer in (0, 2)])


def toggle(run: Path, layer: int, bits: list[tuple[int, int]]) -> None:
    """Toggle stored bits, given as (neuron, index of the token), without neurolens."""
    group: Any = zarr.open_group(run, mode="r+")
    rank = {int(index): rank for rank, index in enumerate(group["order"][:])}
    array = group[f"layers/{layer:02d}/active"]
    packed = array[:]
    for neuron, index in bits:
        packed[neuron, rank[index] // 8] ^= 1 << rank[index] % 8
    array[:] = packed


def test_toggled_bits_are_caught(tiny_model: Path, tmp_path: Path) -> None:
    """Count, layer, direction and distance; what lies outside of what was compared is not seen."""
    run = recorded(tiny_model, tmp_path / "r.zarr")
    pre = forward(tiny_model, text().tokens, "fp32")[1][0]
    rng, size = np.random.default_rng(0), BATCH * POSITIONS
    ons, offs = np.argwhere(pre > 0), np.argwhere(pre < 0)
    chosen = np.concatenate([rng.permutation(ons)[:7], rng.permutation(offs)[:4]])
    toggle(run, 1, [(int(neuron), int(index)) for index, neuron in chosen])
    layers = certify(tiny_model, run=run).layers
    assert [layer.flips for layer in layers] == [0, 11, 0]
    assert (layers[1].on_to_off, layers[1].off_to_on) == (7, 4)
    distances = np.sort(np.abs(pre[tuple(chosen.T)]))
    assert layers[1].flipped_max == distances[-1]
    assert layers[1].flipped_median == pytest.approx(distances[5], rel=1 / 255)
    assert layers[0].flipped_max is None
    seen = np.isin(chosen[:, 0] // size, [0, 3])
    partly = certify(tiny_model, run=run, tokens=2 * size)
    assert partly.flips == seen.sum() and 0 < seen.sum() < 11


def test_a_reference_of_its_own(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Decoder does wrongly is found: it records a layer's bits shifted by one neuron."""
    from neurolens import decoder

    right = decoder.pack_positive
    monkeypatch.setattr(decoder, "pack_positive", lambda values: right(values.roll(1, dims=1)))
    on = [full > 0 for _, full in forward(tiny_model, text().tokens, "fp32")]
    certificate = certify(tiny_model, text(), batch_tokens=BATCH * POSITIONS)
    assert [layer.flips for layer in certificate.layers] == [int((x != np.roll(x, 1, axis=1)).sum()) for x in on]


def test_histogram_and_percentiles() -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(5000) * 10.0 ** rng.integers(-30, 30, 5000)).astype(np.float32)
    counts = histogram(values.reshape(50, 100))
    assert counts.shape == (BUCKETS,) and counts.sum() == 5000
    magnitudes = np.sort(np.abs(values))
    for percent in range(1, 101):
        assert percentile(counts, percent) == pytest.approx(magnitudes[-(-5000 * percent // 100) - 1], rel=1 / 255)
    assert percentile(histogram(np.zeros(3, np.float32)), 50) == 0.0
    assert percentile(histogram(np.zeros(0, np.float32)), 50) is None
    infinite = histogram(np.array([np.inf, -np.inf, np.nan, 3e38], np.float32))
    assert infinite[NOT_FINITE:].sum() == 3


# -- in the run ----------------------------------------------------------------------------------------------------


def test_kept_in_the_run_and_nothing_else_changes(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import xarray

    run = recorded(tiny_model, tmp_path / "r.zarr", "bf16")
    before = snapshot(run)
    assert open_run(run).certificate is None and open_run(run).info()["certificate"] is None
    assert neurolens(["info", str(run)]) == 0
    assert f"parity      not certified; neurolens certify {tiny_model} --run {run}" in capsys.readouterr().out
    assert neurolens(["certify", str(tiny_model), "--run", str(run), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    certificate = open_run(run).certificate
    assert certificate is not None and certificate.to_dict() == printed
    after = snapshot(run)
    assert {name: content for name, content in after.items() if name in before} == before
    assert set(after) - set(before) == {"certificate/zarr.json"}
    assert certify(tiny_model, run=run).to_dict() == printed and snapshot(run) == after, "made twice, it is the same"
    # collecting and analysing again keep it, other tools open the run
    collect(tiny_model, text(), run, dtype="bf16")
    analyze_run(run)
    assert open_run(run).certificate == certificate
    assert neurolens(["info", str(run)]) == 0
    assert f"parity      {certificate.headline()}\n" in capsys.readouterr().out
    assert neurolens(["info", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["certificate"] == printed
    tree = xarray.open_datatree(run, engine="zarr", consolidated=False)
    assert tree["certificate"].attrs["layers"] == printed["layers"] and tree["results/neurons"]["dead"].shape == (3, 72)


def test_every_field_is_documented() -> None:
    documented = (Path(__file__).parents[1] / "docs/store.md").read_text().split("## What certify writes")[1]
    for field in (*fields(Certificate), *fields(LayerParity)):
        assert f"`{field.name}`" in documented.split("\n## ")[0], field.name


def test_an_incomplete_run(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed in all layers is certified; the run continues to the bytes it would have had."""
    whole, path = recorded(tiny_model, tmp_path / "whole.zarr"), tmp_path / "r.zarr"
    write_bits, seen = Store.write_bits, []

    def stop(*args: Any) -> None:
        if len(seen) == stops:
            raise KeyboardInterrupt
        seen.append(1)
        write_bits(*args)

    monkeypatch.setattr(Store, "write_bits", stop)
    for stops in (2, 5):  # the first block lacks a layer; then the second one does
        seen.clear()
        with pytest.raises(KeyboardInterrupt):
            recorded(tiny_model, path)
        if stops == 2:
            with pytest.raises(IncompleteError, match="no block yet"):
                certify(tiny_model, run=path)
            assert not Store.open(path).has("certificate")
            shutil.rmtree(path)
    said: list[str] = []
    assert certify(tiny_model, run=path, say=said.append).batches == (0, 1)
    assert "certifying the 1 of 3 blocks" in said[0]
    monkeypatch.undo()
    recorded(tiny_model, path)
    files = snapshot(path)
    assert files.pop("certificate/zarr.json")
    assert files == snapshot(whole)


def test_computed_as_recorded_and_set_back(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, threads, asked = recorded(tiny_model, tmp_path / "r.zarr"), torch.get_num_threads(), []
    group: Any = zarr.open_group(run, mode="r+")
    group.attrs["threads"] = threads + 1
    group.attrs["versions"] = {**group.attrs["versions"], "torch": "0.9"}
    setting = torch.set_num_threads
    monkeypatch.setattr(torch, "set_num_threads", lambda n: (asked.append(n), setting(n)))
    said: list[str] = []
    assert certify(tiny_model, run=run, say=said.append).threads == threads + 1
    assert asked == [threads + 1, threads] and torch.get_num_threads() == threads
    assert any("torch 0.9 → " in line for line in said)


def test_the_commit_of_the_run_is_taken(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a name on the hub, whose main branch may have moved on since."""
    asked = []

    def find(model: str, revision: str | None = None, **_: Any) -> tuple[Path, str]:
        asked.append((model, revision))
        return tiny_model, "c0ffee"

    monkeypatch.setattr("neurolens.checkpoint.find_folder", find)
    run = tmp_path / "r.zarr"
    collect("someone/opt", text(), run, batch_tokens=BATCH * POSITIONS)
    assert certify("someone/opt", run=run).revision == "c0ffee"
    certify("someone/opt", run=run, revision="v2")
    certify("another/name", run=run)
    assert asked[1:] == [("someone/opt", "c0ffee"), ("someone/opt", "v2"), ("another/name", None)]


def test_a_damaged_certificate(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = recorded(tiny_model, tmp_path / "r.zarr")
    good = certify(tiny_model, run=run).to_dict()
    assert Certificate.from_dict(json.loads(json.dumps(good))).to_dict() == good
    layer = good["layers"][0]
    for change in (
        {"layers": []},
        {"layers": [{**layer, "active": "1e9"}]},
        {"layers": [{**layer, "typical": float("nan")}]},
        {"layers": [{key: layer[key] for key in ("layer", "bits")}]},
        {"layers": 3},
        {"tokens": True},
        {"tokens": -1},
        {"batches": ["0"]},
        {"versions": []},
        {"more": 1},
    ):
        with pytest.raises(NeurolensError, match="certify again"):
            Certificate.from_dict({**good, **change})
    Store.open(run, write=True).set_attributes("certificate", {"tokens": 3})
    assert neurolens(["info", str(run)]) == 1
    assert "certify again" in capsys.readouterr().err
    Store.open(run, write=True).set_attributes("certificate", {})  # what a stop may leave
    assert open_run(run).certificate is None


# -- what can go wrong ---------------------------------------------------------------------------------------------


def test_command_and_its_errors(
    tiny_model: Path, tmp_path: Path, write_jsonl: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_jsonl("text.jsonl", random_texts(12))
    run, size = recorded(tiny_model, tmp_path / "r.zarr"), BATCH * POSITIONS
    other = shutil.copytree(tiny_model, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "init_std": 0.5}))
    before = snapshot(run)

    def fails(code: int, *arguments: object) -> str:
        capsys.readouterr()
        assert neurolens(["certify", *map(str, arguments)]) == code
        out, err = capsys.readouterr()
        last = err.strip().splitlines()[-1]
        assert out == "" and "Traceback" not in err and last.startswith("neurolens: ")
        return last

    line = fails(2, other, "--run", run)
    assert str(tiny_model) in line and str(other) in line and "another model" in line and len(line) < 400
    assert "nothing to certify on" in fails(2, tiny_model)
    assert "leave DATA out" in fails(2, tiny_model, data, "--run", run)
    assert "recorded in fp32, not in fp16" in fails(2, tiny_model, "--run", run, "--dtype", "fp16")
    assert "in batches of 192 tokens" in fails(2, tiny_model, "--run", run, "--batch-tokens", 4096)
    assert "less than a batch" in fails(2, tiny_model, "--run", run, "--tokens", size - 1)
    assert "leave --text-key" in fails(2, tiny_model, "--run", run, "--seq-len", 12)
    assert "cannot use device" in fails(2, tiny_model, "--run", run, "--device", "nonsense")
    assert "no run at" in fails(1, tiny_model, "--run", tmp_path / "absent.zarr")
    assert "--batch-tokens 20000 is more than" in fails(2, tiny_model, data, "--batch-tokens", 20_000)
    assert "--batch-tokens 9000 is more than" in fails(2, tiny_model, data, "--batch-tokens", 9000)  # than DATA has
    assert "less than one sequence" in fails(2, tiny_model, data, "--tokens", POSITIONS - 1)
    assert "less than one sequence" in fails(2, tiny_model, run, "--tokens", POSITIONS - 1)
    assert "leave --seq-len out" in fails(2, tiny_model, run, "--seq-len", 12)
    assert "no file" in fails(2, tiny_model, tmp_path / "absent.jsonl")
    with lock(run):
        assert "another process" in fails(1, tiny_model, "--run", run)
    chunk = run / "layers/01/active/c/0/1"
    content = chunk.read_bytes()
    chunk.unlink()
    assert "layer 1 are damaged" in fails(1, tiny_model, "--run", run)
    chunk.write_bytes(content)
    assert snapshot(run) == before

    # the same text in another dtype, from the files and from the run
    for source in (data, run):
        assert neurolens(["certify", str(tiny_model), str(source), "--dtype", "bf16", "--tokens", "500"]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert printed[0].startswith("recorded ") and "in bf16 on cpu, 1 thread" in printed[0]
        assert printed[4].split()[:2] == ["layer", "active"] and len(printed) == 5 + 3 + 4
        assert printed[-1].startswith("parity      bf16 against plain HF fp32 on 480 tokens: 0.")
    assert snapshot(run) == before, "nothing is stored without --run"


def test_the_environment_does_not_contradict_a_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recorded(tiny_model, tmp_path / "r.zarr")
    for name, value in (("DTYPE", "fp16"), ("DEVICE", "nonsense"), ("BATCH_TOKENS", "7"), ("SEQ_LEN", "9")):
        monkeypatch.setenv(f"NEUROLENS_{name}", value)
    assert neurolens(["certify", str(tiny_model), "--run", str(run)]) == 0


def test_values_that_are_not_finite(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neurolens import certify as module

    run, load = recorded(tiny_model, tmp_path / "r.zarr"), module.load_reference

    def broken(*args: Any) -> Any:
        model = load(*args)
        model.decoder.layers[1].fc1.weight.data[3, 3] = float("nan")
        return model

    monkeypatch.setattr(module, "load_reference", broken)
    with pytest.raises(NeurolensError, match="layer 1 of plain HF yields values that are not finite in fp32"):
        certify(tiny_model, run=run)
    assert not Store.open(run).has("certificate")


def test_weights_that_hf_would_make_up(tiny_model: Path, tmp_path: Path) -> None:
    """HF fills what a checkpoint lacks with random numbers and warns; here that is an error."""
    from safetensors.torch import load_file, save_file

    from neurolens.checkpoint import Checkpoint
    from neurolens.decoder import FAMILIES

    model = shutil.copytree(tiny_model, tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    for change in ("lacking", "misshapen"):
        name = next(name for name in weights if name.endswith("layers.2.fc1.weight"))
        changed = {key: value for key, value in weights.items() if key != name}
        if change == "misshapen":
            changed[name] = weights[name][:8].clone()
        save_file(changed, model / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(NeurolensError, match=r"layers\.2\.fc1\.weight|cannot load"):
            load_reference(Checkpoint(model), FAMILIES["opt"], "cpu")


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_hostile_folders_are_harmless(tiny_model: Path, tmp_path: Path) -> None:
    """What a folder brings beside configuration and weights reaches nobody: the certificate is the clean model's."""
    model, bang = shutil.copytree(tiny_model, tmp_path / "model"), tmp_path / "bang"
    config = json.loads((model / "config.json").read_text())
    hostile = {
        "auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"},
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
        "attn_implementation": "someone/kernel",
        "_attn_implementation": "someone/kernel",
        "transformers_weights": "other.safetensors",
        "fusion_config": {"x": True},
        "dtype": "float16",
    }
    (model / "config.json").write_text(json.dumps({**config, **hostile}))
    (model / "evil.py").write_text(f"from pathlib import Path\nPath({str(bang)!r}).touch()\n")
    (model / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "someone/model"}))
    for name in ("pytorch_model.bin", ".metadata", "training_args.bin", "other.safetensors"):
        (model / name).write_bytes(pickle.dumps(Bomb(bang)))
    (model / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"")
    layers = certify(model, text(), dtype="bf16").layers
    assert layers == certify(tiny_model, text(), dtype="bf16").layers
    (model / "model.safetensors").unlink()
    with pytest.raises(NeurolensError):
        certify(model, text())
    assert not bang.exists()
    pickle.loads((model / "pytorch_model.bin").read_bytes())
    assert bang.exists(), "the bomb is none"


def test_text_of_a_run_needs_the_same_tokenizer(tiny_model: Path, tmp_path: Path) -> None:
    run = recorded(tiny_model, tmp_path / "r.zarr")
    model = shutil.copytree(tiny_model, tmp_path / "model")
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": 7}))
    with pytest.raises(UsageError, match="another tokenizer"):
        certify(model, [run])


# -- its words -----------------------------------------------------------------------------------------------------


def test_words() -> None:
    none = LayerParity(0, 10**9, 10**8, 0, 0, None, None, None, 0.9, 0, 0, 0)
    distances = {"flipped_median": 1e-4, "flipped_p99": 0.02, "flipped_max": 0.031}
    some = replace(none, layer=7, on_to_off=30_000, off_to_on=50, **distances)
    certificate = Certificate(
        model="m", revision=None, checkpoint="f" * 64, dtype="fp16", device="cuda", threads=2, batch_sequences=2,
        positions=2048, batches=(0, 5), tokens=8192, corpus_fingerprint="c", reference_device="cpu",
        versions={"torch": "2.13.0"}, layers=(none, some),
    )  # fmt: skip
    assert certificate.headline() == (
        "fp16 against plain HF fp32 on 8,192 tokens: 0.0015% of bits flipped (0.015% of active), "
        "at most 0.031 from zero (layer 7, typical 0.9)"
    )
    lines = certificate.lines()
    assert lines[0] == "recorded    m (ffffffffffff…) in fp16 on cuda, 2 threads"
    assert lines[2] == "text        8,192 tokens: 2 batches of 2 × 2048; 2,000,000,000 bits"
    assert lines[5].split() == ["0", "10%", "0", "0%", "0%", "0", "0", "–", "–", "–", "0.9"]
    assert lines[6].split() == "7 10% 30,050 0.003% 0.03% 30,000 50 0.0001 0.02 0.031 0.9".split()  # noqa: SIM905
    rare = replace(certificate, layers=(replace(some, on_to_off=1, off_to_on=0),))
    assert "<0.0001% of bits flipped (<0.0001% of active)" in rare.headline()
    every = replace(some, active=0, on_to_off=0, off_to_on=10**9, flipped_max=1234.5)
    assert "100% of bits flipped (– of active), at most 1234 from" in replace(certificate, layers=(every,)).headline()
