"""What a report says is what the runs say: every array of a page against the run, read by other means."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_payload
from click.testing import CliRunner
from conftest import POSITIONS, random_texts
from runs import make_run

import neurolens as nl
from neurolens import IncompleteError, NeurolensError, UsageError
from neurolens.analyze import analyze_run
from neurolens.cli import cli
from neurolens.collect import collect
from neurolens.corpus import Corpus
from neurolens.report import columns, page
from neurolens.report.charts import draw_charts
from neurolens.report.choose import choose_rows, rank_classes, spread
from neurolens.report.gather import gather_run
from neurolens.report.passages import choose_contexts
from neurolens.report.payload import Payload, pack, to_script
from neurolens.run import Run

BEFORE, AFTER = 40, 23
pytestmark = pytest.mark.usefixtures("hasty")


def unpack(text: str) -> dict[str, np.ndarray]:
    """A blob as a browser reads it."""
    raw = zlib.decompress(base64.b64decode(text), wbits=31)
    length = int.from_bytes(raw[:4], "little")
    header = json.loads(raw[4 : 4 + length])
    found = {}
    for name, (dtype, shape, offset) in header.items():
        assert offset % 8 == 0 and (4 + length) % 8 == 0
        count = int(np.prod(shape))
        found[name] = np.frombuffer(raw, f"<{dtype}", count, 4 + length + offset).reshape(shape)
    return found


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, in_pieces: None, hasty: None) -> Run:
    """3 layers × 72 neurons on three labels in several blocks and chunks, all parts analysed."""
    folder = tmp_path_factory.mktemp("report")
    texts = [(text, f"label {i % 3}") for i, text in enumerate(random_texts(120, seed=4))]
    collect(tiny_model, texts, folder / "tiny.zarr", block_tokens=1024, batch_tokens=4 * POSITIONS)
    analyze_run(folder / "tiny.zarr", every=True)
    found = nl.open(folder / "tiny.zarr")
    assert len(found.store.blocks) > 2 and len(found.store.neuron_chunks(found.store.blocks[0])) > 1
    return found


class Told:
    """What a page is told of a run, unpacked."""

    def __init__(self, run: Run) -> None:
        payload = Payload()
        self.meta: dict[str, Any] = json.loads(to_script(gather_run(run, payload)))
        blobs = dict(payload.blobs())
        names = self.meta["blobs"]
        self.table, self.vocabulary, self.text = (unpack(blobs[names[n]]) for n in ("table", "vocabulary", "text"))
        self.layers = {int(layer): unpack(blobs[name]) for layer, name in names["layers"].items()}

    def rows(self, layer: int) -> list[int]:
        """Neurons of the layer's rows."""
        return self.table["neuron"][self.table["layer"] == layer].tolist()

    def tokens(self, first: int, count: int) -> list[int]:
        """Tokens of the text from one on, from the passages."""
        at = self.text["passage_at"].astype(int)
        for start, begin, end in zip(self.text["passage_first"].astype(int), at, at[1:], strict=False):
            if start <= first and first + count <= start + end - begin:
                return self.text["passage_token"][begin + first - start :][:count].tolist()
        raise AssertionError(f"{first} is in no passage")


@pytest.fixture(scope="module")
def told(run: Run) -> Told:
    return Told(run)


def bit(value: np.ndarray, place: int) -> int:
    """Of a mask in two halves."""
    return int(value[place // 32]) >> place % 32 & 1


def test_the_table_is_that_of_the_run(run: Run, told: Told) -> None:
    frame, table = run.neurons.to_pandas().reset_index(), told.table
    assert told.meta["complete"] and told.meta["rows"] == len(frame) == len(table["layer"])
    assert (table["layer"] == frame["layer"]).all() and (table["neuron"] == frame["neuron"]).all()
    assert (table["activations"] == frame["activations"]).all()
    assert (table["frequency"] == frame["frequency"].astype("float32")).all()
    for i, gram in enumerate(("unigrams_95", "bigrams_95", "trigrams_95")):
        assert (table["covering"][:, i] == frame[gram]).all()
    for name, column in (("position_mi", "position_mi_corrected"), ("label_mi", "label_mi_corrected")):
        np.testing.assert_allclose(table[name], frame[column], rtol=2**-12, atol=1e-9)
    assert [told.meta["types"][i] for i in table["position_type"]] == frame["position_type"].tolist()
    assert (table["label_only"] == frame["label_only"]).all() and (table["label_silent"] == frame["label_silent"]).all()
    for place, name in enumerate(told.meta["flags"]):
        wanted = np.asarray(frame["suppresses_triggers"] > 0 if name == "suppresses" else frame[name])
        assert ((table["flags"] >> place & 1) == wanted).all(), name
        assert told.meta["totals"][name] == wanted.sum()
        assert told.meta["by_layer"][name] == wanted.reshape(3, 72).sum(1).tolist()
    for name in told.meta["types"][1:]:
        assert told.meta["by_layer"][name] == (run.neurons["position_type"] == name).sum(1).tolist()
    assert told.meta["totals"]["label_only"] == (frame["label_only"] >= 0).sum()
    assert {"dead", "unigram_detector", "positional", "suppresses"} <= set(told.meta["flags"])


def test_contexts_are_samples_and_their_marks_are_bits(run: Run, told: Told) -> None:
    tokens, (_, positions) = run.store.read("tokens").reshape(-1), run.store.shape
    seen = 0
    for row, layer in enumerate(run.store.layers):
        found, samples = told.layers[layer], run.store.read("results/contexts", row)
        for i, neuron in enumerate(told.rows(layer)):
            active = run.active(layer, neuron).reshape(-1)
            begin, end = found["context_start"][i : i + 2].astype(int)
            index = found["context_token"][begin:end].astype(int)
            assert index.tolist() == sorted(samples[neuron][samples[neuron] >= 0][:8].tolist())
            for each, mask in zip(index, found["context_mask"][begin:end], strict=True):
                first = each // positions * positions
                for place in range(64):
                    token = each - BEFORE + place
                    inside = first <= token < first + positions
                    assert bit(mask, place) == (inside and active[token]), (layer, neuron, each, place)
                low, high = max(first, each - BEFORE), min(first + positions, each + AFTER + 1)
                assert told.tokens(low, high - low) == tokens[low:high].tolist()
                seen += 1
    assert seen > 100 and told.meta["bitmaps"] and told.meta["limits"] == []


def test_activations_with_an_ngram_are_counted_from_the_bits(run: Run, told: Told) -> None:
    text = run.store.read("tokens") != run.store.attrs["eos"]
    ends = [
        np.array([[t >= n and all(row[t - n + 1 : t + 1]) for t in range(len(row))] for row in text.tolist()])
        for n in (1, 2, 3)
    ]
    for layer in run.store.layers:
        for i, neuron in enumerate(told.rows(layer)):
            active = run.active(layer, neuron)
            counts = [(active & each).sum() for each in ends]
            assert told.layers[layer]["activations_n"][i].tolist() == counts


def test_triggers_are_those_of_the_run(run: Run, told: Told) -> None:
    grams = 3
    for row, layer in enumerate(run.store.layers):
        found, frame = told.layers[layer], run.triggers(layer)
        whole = [
            tuple(values)
            for values in zip(
                frame["neuron"].tolist(), frame["n"].tolist(), map(tuple, frame["tokens"].tolist()),
                frame["on"].tolist(), frame["total"].tolist(), (frame["member"] + 2 * frame["covered"]).tolist(),
                frame["rank"].tolist(), strict=True,
            )
        ]  # fmt: skip
        for i, neuron in enumerate(told.rows(layer)):
            begin, end = found["trigger_start"][i : i + 2].astype(int)
            part = slice(begin, end)
            shown = list(
                zip(
                    [neuron] * (end - begin), found["trigger_n"][part].tolist(),
                    map(tuple, found["trigger_tokens"][part].tolist()), found["on"][part].tolist(),
                    found["total"][part].tolist(), found["trigger_flags"][part].tolist(),
                    found["rank"][part].tolist(), strict=True,
                )
            )  # fmt: skip
            wanted = []
            for n in range(1, grams + 1):
                mine = [each for each in whole if each[:2] == (neuron, n)]
                detector = run.neurons[f"{('unigram', 'bigram', 'trigram')[n - 1]}_detector"][row, neuron]
                wanted += mine if detector else mine[: 5 if n == 1 else 3]
            assert shown == wanted
            at = np.flatnonzero((told.table["layer"] == layer) & (told.table["neuron"] == neuron))[0]
            searched = told.table["search_token"][slice(*told.table["search_start"][at : at + 2].astype(int))]
            assert searched.tolist() == sorted({token for each in wanted for token in each[2] if token >= 0})
            assert told.table["trigger"][at] == (wanted[0][2][-1] if wanted else -1)


def test_updates_are_those_of_the_run(run: Run, told: Told) -> None:
    for layer in run.store.layers:
        found, known = told.layers[layer], run.updates(layer)
        assert [told.rows(layer)[i] for i in found["update_row"]] == known["neuron"].tolist()
        for name in ("promoted", "suppressed"):
            assert (found[name] == known[name]).all()
            np.testing.assert_allclose(found[f"{name}_projection"], known[f"{name}_projection"], rtol=2**-12)


def test_curves_and_labels_are_frequencies(run: Run, told: Told) -> None:
    labels = run.store.read("label")
    for row, layer in enumerate(run.store.layers):
        found = told.layers[layer]
        assert found["curve"].shape == (72, 32)
        fine = {int(i): k for k, i in enumerate(found["fine_row"])}
        positional = run.neurons["positional"][row]
        assert sorted(fine) == np.flatnonzero(positional).tolist()
        for i, neuron in enumerate(told.rows(layer)):
            active = run.active(layer, neuron)
            assert found["label_on"][i].tolist() == [int(active[labels == label].sum()) for label in range(3)]
            for curve, top, bins in [
                (found["curve"][i], found["curve_top"][i], 32),
                *((found["fine"][k], found["fine_top"][k], POSITIONS) for k in [fine.get(i)] if k is not None),
            ]:
                edges = [b * POSITIONS // bins for b in range(bins + 1)]
                mean = [active[:, a:b].mean() for a, b in pairwise(edges)]
                assert top == pytest.approx(max(mean), rel=1e-6)
                np.testing.assert_allclose(curve / 255 * top, mean, atol=float(top) / 500)


def test_dropped_bits_are_said_and_only_samples_are_marked(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    texts = [(text, f"label {i % 3}") for i, text in enumerate(random_texts(120, seed=4))]
    collect(tiny_model, texts, tmp_path / "gone.zarr", block_tokens=1024, keep_bitmaps="none")
    told, whole = Told(nl.open(tmp_path / "gone.zarr")), Told(run)
    assert not told.meta["bitmaps"] and "dropped" in " ".join(told.meta["limits"])
    some = 0
    for row, layer in enumerate(run.store.layers):
        found, samples = told.layers[layer], run.store.read("results/contexts", row)
        assert (found["context_token"] == whole.layers[layer]["context_token"]).all()
        assert (found["activations_n"] == 0xFFFFFFFF).all()
        for i, neuron in enumerate(told.rows(layer)):
            for each, mask in list(zip(found["context_token"], found["context_mask"], strict=True))[
                slice(*found["context_start"][i : i + 2].astype(int))
            ]:
                on = {int(each) - BEFORE + place for place in range(64) if bit(mask, place)}
                near = {
                    s
                    for s in samples[neuron].tolist()
                    if s >= 0 and s // POSITIONS == each // POSITIONS and -BEFORE <= s - int(each) <= AFTER
                }
                assert on == near
                some += len(on) > 1
    assert some


def test_of_a_large_model_the_first_of_every_class_are_shown(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr("neurolens.report.gather.choose_rows", lambda of, shape: choose_rows(of, shape, most=60))
    told = Told(run)
    assert 30 < told.meta["rows"] <= 60 and not told.meta["complete"] and "of 216 neurons" in told.meta["limits"][0]
    assert told.meta["totals"]["positional"] == run.neurons["positional"].sum()  # … of all of them
    assert all(told.layers[layer]["context_start"].shape == (len(told.rows(layer)) + 1,) for layer in told.layers)


@pytest.mark.parametrize("most", [1, 7, 40, 299])
def test_rows_of_a_class_come_in_order_as_many_of_each(most: int) -> None:
    rng = np.random.default_rng(most)
    shape = (3, 100)
    of = {
        "activations": rng.integers(0, 50, shape),
        "unigram_detector": rng.random(shape) < 0.2,
        "unigram_detector_supported": rng.random(shape) < 0.1,
        "positional": rng.random(shape) < 0.3,
        "position_mi_corrected": rng.random(shape),
        "dead_but_bos": rng.random(shape) < 0.02,
    }
    of["dead"] = of["activations"] == 0
    rows, each = choose_rows(of, shape, most=most)
    assert len(rows) <= most and each is not None and (np.diff(rows) > 0).all()
    taken = set(rows.tolist())
    for layer in range(3):
        detectors = sorted(
            np.flatnonzero(of["unigram_detector"][layer]),
            key=lambda n: (not of["unigram_detector_supported"][layer, n], -of["activations"][layer, n], n),
        )
        assert {layer * 100 + int(n) for n in detectors[:each]} <= taken
    more = np.unique(np.concatenate([
        cls[: each + 1] for layer in range(3) for cls in rank_classes({n: v[layer] for n, v in of.items()}, layer)
    ]))  # fmt: skip
    assert len(more) > most or len(more) == len(rows)  # no more of each would fit, or there are no more
    everything, all_of_them = choose_rows(of, shape, most=300)
    assert len(everything) == 300 and all_of_them is None


def test_spread_begins_evenly() -> None:
    for count in (0, 1, 2, 7, 64, 100):
        order = spread(count)
        assert sorted(order.tolist()) == list(range(count))
        for first in (4, 16, 50):
            if first < count:
                gaps = np.diff([-1, *sorted(order[:first].tolist()), count])
                assert gaps.max() <= 4 * count / first + 1


def test_text_of_contexts_is_bounded_and_later_ones_go_first() -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 100 * 64, (50, 16))
    samples[7, 3:] = -1
    for budget in (0, 64, 700, 3000, 6400):
        contexts, covered = choose_contexts(samples, (100, 64), tokens=budget)
        assert covered.sum() <= budget
        for row, kept in enumerate(contexts):
            assert all(a in (-1, b) for a, b in zip(kept.tolist(), samples[row].tolist(), strict=False))
            for token in kept[kept >= 0].tolist():
                first = token // 64 * 64
                assert covered[max(first, token - BEFORE) : min(first + 64, token + AFTER + 1)].all()
    assert (contexts == samples[:, :8]).all()  # all of it fits
    there = (choose_contexts(samples, (100, 64), tokens=1500)[0] >= 0).sum(0)
    assert there[0] >= there[-1] and there[0] > 0


def test_blobs_hold_arrays_and_the_same_ones_once() -> None:
    payload = Payload()
    arrays = {"a": np.arange(5, dtype=np.uint8), "b": np.array([[1.5, np.nan]], np.float32), "c": np.zeros(0, np.int32)}
    first = payload.add(arrays)
    assert payload.add({name: values.copy() for name, values in arrays.items()}) == first
    assert payload.add({"a": arrays["a"]}) != first and len(payload.blobs()) == 2
    found = unpack(dict(payload.blobs())[first])
    assert found["a"].tolist() == [0, 1, 2, 3, 4] and found["c"].shape == (0,) and found["b"].shape == (1, 2)
    assert gzip.decompress(base64.b64decode(dict(payload.blobs())[first])) == pack(arrays)
    with pytest.raises(TypeError, match="int64"):
        pack({"a": np.zeros(2, np.int64)})


HOSTILE = "</script><img src=x onerror=alert(1)>&<!--\u2028\u202e\x00\ud800'\""


def test_what_is_told_is_no_markup() -> None:
    text = to_script({"name": HOSTILE, "of": [HOSTILE, np.float32("nan"), np.int64(3), (1.5, None, True)]})
    assert not set("<>&\u2028\u202e\x00") & set(text) and text.isascii()
    assert json.loads(text) == {"name": HOSTILE, "of": [HOSTILE, None, 3, [1.5, None, True]]}


def test_charts_are_the_figures_numbers(run: Run) -> None:
    charts = {chart["id"]: chart for chart in draw_charts([run])}
    dead = charts["dead"]["series"][0]
    assert np.allclose(dead["y"], run.neurons["dead"].mean(1)) and dead["x"] == run.store.layers
    assert np.allclose(dead["low"], run.neurons.activity["dead_low"]) if run.neurons.activity else False
    shares = np.sum([each["y"] for each in charts["covering-1-0"]["series"]], axis=0)
    assert np.allclose(shares[(run.neurons["unigrams_95"] > 0).any(1)], 1)
    kinds = {each["name"]: each["y"] for each in charts["positional-0"]["series"]}
    for kind, counts in kinds.items():
        assert np.array_equal(counts, (run.neurons["position_type"] == kind.replace(" ", "_")).sum(1))
    both = {chart["id"]: chart for chart in draw_charts([run, run])}
    assert [each["run"] for each in both["frequency"]["series"]] == [0, 1] and "positional" in both
    for chart in both.values():
        for series in chart["series"]:
            assert len(series["x"]) == len(series["y"]) == len(series.get("low", series["y"]))


def test_a_run_without_some_parts_is_told_without_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    tokens = rng.integers(3, 20, (32, 16), dtype=np.int32)
    tokens[:, 0] = 2
    corpus = Corpus.from_tokens(tokens)
    active = rng.random((2, 10, corpus.tokens.size)) < 0.1
    make_run(tmp_path / "r.zarr", corpus, active, layers=[0, 3], sequences_per_block=16, vocab_size=20)
    with pytest.raises(NeurolensError, match="not analysed for dead"):
        gather_run(nl.open(tmp_path / "r.zarr"), Payload())
    analyze_run(tmp_path / "r.zarr", only=["dead"])
    told = Told(nl.open(tmp_path / "r.zarr"))
    assert told.meta["parts"] == ["dead"] and told.meta["grams"] == 0 and "covering" not in told.table
    assert sorted(told.layers) == [0, 3] and "trigger_start" not in told.layers[3]
    assert len(told.vocabulary["start"]) == 1  # no vocabulary: ids are shown
    assert {chart["part"] for chart in draw_charts([nl.open(tmp_path / "r.zarr")])} == {"dead"}


def test_numbers_keep_three_digits_and_a_half() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=1000) * 10.0 ** np.arange(-20, 20).repeat(25), [0]])
    short = columns.shorten(values)
    assert short.dtype == np.float32 and (abs(short - values) <= abs(values) * 2.0**-12).all()
    assert np.isnan(columns.shorten(np.array([np.nan]))).all() and np.isinf(columns.shorten(np.array([np.inf]))).all()


def test_the_command_writes_one_file(run: Run, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["report", str(run.path), "-o", str(tmp_path / "r.html"), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    content = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert str(tmp_path.parent.parent) not in content and f"{run.store.attrs['model']['id'][-10:]}" in content
    assert told["bytes"] == len(content.encode()) and [each.name for each in tmp_path.iterdir()] == ["r.html"]
    assert content == page.render_report([run])  # the same run, the same bytes
    assert "Content-Security-Policy" in content
    assert "http" not in content.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")


def test_the_browser_tests_read_the_same_scripts() -> None:
    assert page.SCRIPTS == report_payload.SCRIPTS
    assert sorted(page.SCRIPTS) == sorted(path.stem for path in page.ASSETS.glob("*.js"))


def test_bad_input_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no run to report"):
        page.write_report([], tmp_path / "r.html")
    with pytest.raises(UsageError, match="no folder"):
        page.write_report([run], tmp_path / "nowhere" / "r.html")
    with pytest.raises(UsageError, match="is a folder"):
        page.write_report([run], tmp_path)
    (tmp_path / "old.html").write_text("old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(IncompleteError, match="No space left"):
        page.write_report([run], tmp_path / "old.html")
    assert (tmp_path / "old.html").read_text() == "old"
