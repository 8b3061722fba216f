"""The store: what docs/store.md says is what is there; its reader works as printed; xarray opens it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import POSITIONS, snapshot
from runs import make_run

from neurolens import NeurolensError, UsageError
from neurolens.analyze import analyze_run
from neurolens.collect import collect
from neurolens.corpus import Corpus
from neurolens.detectors import Rules
from neurolens.facts import entropy_bytes
from neurolens.locks import lock
from neurolens.run import open_run
from neurolens.store import Store

DOCUMENT = Path(__file__).parents[1] / "docs" / "store.md"


@pytest.fixture(scope="module")
def run_path(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An analysed run of three blocks, the last one short, with a number of tokens that is no multiple of 64."""
    rng = np.random.default_rng(3)
    tokens = rng.integers(4, 260, (21, POSITIONS), dtype=np.int32)
    tokens[:, 0] = 2
    tokens[3, 7] = 2
    corpus = Corpus.from_tokens(tokens, label=np.arange(21) % 3, label_names=("a", "b", "c"))
    path = tmp_path_factory.mktemp("store") / "r.zarr"
    collect(tiny_model, corpus, path, batch_tokens=4 * POSITIONS, block_tokens=8 * POSITIONS)
    analyze_run(path)
    return path


def arrays(path: Path) -> dict[str, dict]:
    """Metadata of every array by path, with `layers/01` and the like as `layers/LL`."""
    return {
        re.sub(r"layers/\d\d", "layers/LL", str(file.parent.relative_to(path))): metadata
        for file in path.rglob("zarr.json")
        if (metadata := json.loads(file.read_text()))["node_type"] == "array"
    }


def test_printed_reader_reads(run_path: Path) -> None:
    code = DOCUMENT.read_text().split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
    scope: dict = {}
    exec(code, scope)
    tokens, active = scope["read_run"](run_path)
    run = open_run(run_path)
    np.testing.assert_array_equal(tokens, run.store.corpus().tokens)
    for layer in run.store.layers:
        bits = active(layer)
        np.testing.assert_array_equal(bits.sum((1, 2)), run.neurons["activations"][layer])
        for neuron in (0, 41, 71):
            np.testing.assert_array_equal(bits[neuron], run.active(layer, neuron))


def test_every_array_and_attribute_is_documented(run_path: Path) -> None:
    text = DOCUMENT.read_text()
    for name in arrays(run_path):
        folder, _, column = name.rpartition("/")
        assert f"`{name}`" in text or (f"{folder}/…" in text and re.search(rf"[`(]{column}[`)]", text)), name
    for attribute in Store.open(run_path).attrs:
        assert f"`{attribute}`" in text, attribute


def test_codecs_and_dimensions(run_path: Path) -> None:
    for name, metadata in arrays(run_path).items():
        codecs = [(codec["name"], codec.get("configuration", {}).get("level")) for codec in metadata["codecs"]]
        assert codecs == [("bytes", None), ("zstd", 1), ("crc32c", None)], name
        assert metadata["fill_value"] in (0, False), name
        assert len(metadata["dimension_names"]) == len(metadata["shape"]) and all(metadata["dimension_names"]), name
    assert not json.loads((run_path / "zarr.json").read_text()).get("consolidated_metadata")


def test_intervals_of_the_order(run_path: Path) -> None:
    """Within a block every token, bigram and trigram is one interval of ranks, checked with Python strings of ids."""
    store = Store.open(run_path)
    tokens, order = store.read("tokens"), store.read("order")
    positions = tokens.shape[1]
    for block in store.blocks:
        ranks = order[block.first_token : block.first_token + block.tokens].tolist()
        assert sorted(ranks) == list(range(block.first_token, block.first_token + block.tokens))
        for n in (1, 2, 3):
            grams = []
            for index in ranks:
                row, column = divmod(index, positions)
                gram = tokens[row, max(0, column - n + 1) : column + 1].tolist()
                grams.append(tuple(gram) if len(gram) == n and 2 not in gram else None)
            changes = [gram for before, gram in zip([None, *grams], grams, strict=False) if gram != before and gram]
            assert len(changes) == len(set(changes)), "an n-gram stands in two places"


def test_opens_in_xarray(run_path: Path) -> None:
    import xarray

    table = xarray.open_zarr(run_path / "results/neurons", consolidated=False)
    run = open_run(run_path)
    np.testing.assert_array_equal(table["frequency"].values, run.neurons["frequency"])
    assert table["dead"].dims == ("layer", "neuron") and table["layer"].values.tolist() == [0, 1, 2]
    tree = xarray.open_datatree(run_path, engine="zarr", consolidated=False)
    assert tree["layers/01/active"].dims == ("neuron", "token_byte")
    assert tree["counts/layers/01/position"].sum() == run.neurons["activations"][1].sum()
    assert tree["tokens"].shape == (21, POSITIONS)


def test_neurons_as_tables(run_path: Path) -> None:
    run = open_run(run_path)
    frame, dataset = run.neurons.to_pandas(), run.neurons.to_xarray()
    assert frame.shape == (3 * 72, len(run.neurons)) and frame.index.names == ["layer", "neuron"]
    assert frame.loc[(2, 5), "activations"] == run.neurons["activations"][2, 5]
    assert dataset["frequency"].sel(layer=1, neuron=7) == run.neurons["frequency"][1, 7]
    with pytest.raises(KeyError, match="no column 'nothing'"):
        run.neurons["nothing"]


def test_entropy_and_size(run_path: Path) -> None:
    run = open_run(run_path)
    facts = run.info()
    frequency = run.neurons["frequency"].ravel().tolist()
    expected = sum(-f * np.log2(f) - (1 - f) * np.log2(1 - f) for f in frequency if 0 < f < 1) * run.store.n_tokens / 8
    assert facts["entropy_bytes"] == round(expected)
    chunks = [path for path in (run_path / "layers").rglob("*") if path.is_file() and path.name != "zarr.json"]
    assert facts["stored_bytes"] == sum(path.stat().st_size for path in chunks)
    assert facts["raw_bytes"] == 3 * 72 * 21 * POSITIONS // 8
    assert repr(json.loads(json.dumps(facts))) == repr(facts)  # NaN, which no NaN equals, among them
    assert entropy_bytes(np.array([0.0, 1.0]), 100) == 0


def test_analysis_is_repeatable_and_depends_on_its_rules(run_path: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy.zarr"
    shutil.copytree(run_path, copy)
    before = snapshot(copy)
    said: list[str] = []
    analyze_run(copy, say=said.append)
    assert said == [f"{copy} is analysed with these thresholds; nothing to do"]
    analyze_run(copy, rules=Rules(max_covering=40, min_rate=50, coverage=50))
    changed = snapshot(copy)
    assert {name for name in before if before[name] != changed.get(name)} >= {"results/neurons/unigrams_95/c/0/0"}
    assert open_run(copy).neurons.rules["max_covering"] == 40
    analyze_run(copy)
    assert snapshot(copy) == before


def test_bits_of_silent_neurons_are_written_like_any_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk of zeros is on the disk: one that is not there has not been written, and is damage."""
    monkeypatch.setattr("neurolens.bitmaps.READ_BYTES", 1)
    monkeypatch.setattr("neurolens.bitmaps.CHUNK_BYTES", 16)  # two neurons of a block
    tokens = np.full((48, 4), 5)
    tokens[:, 0] = 2
    active = np.zeros((1, 8, tokens.size), bool)
    active[0, 4:6, 70] = True
    path = make_run(
        tmp_path / "r.zarr", Corpus.from_tokens(tokens), active, layers=[3], sequences_per_block=16, vocab_size=9
    )
    store = Store.open(path)
    assert len(store.neuron_chunks()) == 4 and len(store.blocks) == 3
    assert len([file for file in (path / "layers/03/active/c").rglob("*") if file.is_file()]) == 12
    rows = [store.rows(3, neurons) for neurons in store.neuron_chunks()]
    assert [int(np.bitwise_count(part).sum()) for part in rows] == [0, 0, 2, 0]
    (path / "layers/03/active/c/1/2").unlink()
    with pytest.raises(NeurolensError, match=r"layer 3 are damaged \(chunk 1/2 is missing"):
        store.rows(3, slice(2, 4))


def test_lock_is_held_by_one(tmp_path: Path) -> None:
    with lock(tmp_path / "r.zarr"):
        with pytest.raises(NeurolensError, match="another process"), lock(tmp_path / "r.zarr"):
            pass
        with lock(tmp_path / "other.zarr"):
            pass
    with lock(tmp_path / "r.zarr"):
        pass


def test_names_that_do_not_exist(run_path: Path) -> None:
    run = open_run(run_path)
    with pytest.raises(NeurolensError, match="no layer 9"):
        run.triggers(9)
    with pytest.raises(NeurolensError, match="no neuron 72"):
        run.active(0, 72)
    with pytest.raises(UsageError, match="percentage"):
        Rules(min_rate=0)
