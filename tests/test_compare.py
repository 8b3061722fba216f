"""Comparison of runs: planted differences are found exactly, every file is right and whole, names are escaped."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from math import isnan, sqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import snapshot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from runs import make_run

from neurolens import NeurolensError, UsageError
from neurolens.analyze import analyze_run
from neurolens.bootstrap import Bootstrap, draw_groups
from neurolens.cli import run as neurolens
from neurolens.compare import compare_runs
from neurolens.comparison.change import Change, read_change
from neurolens.comparison.estimates import Estimate
from neurolens.comparison.factors import Member
from neurolens.comparison.headlines import read_headlines, resample_activity
from neurolens.comparison.lineage import Pair
from neurolens.comparison.members import find_members, parse_value, read_factors
from neurolens.comparison.transitions import CLASSES
from neurolens.comparison.trends import arrange
from neurolens.comparison.writeup import escaped, text_cell, write_csv
from neurolens.corpus import Corpus
from neurolens.plots.study import draw_study
from neurolens.run import Run, open_run

SEQUENCES, LENGTH, NEURONS, VOCABULARY = 40, 32, 24, 40
LAYERS = [0, 2]  # of four
HOSTILE = "=1|<b>_x_\n\x1b[31m`$\u202e"


def corpus(seed: int = 0) -> Corpus:
    """Random tokens, in which 6 often follows 5, anywhere."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(7, VOCABULARY, (SEQUENCES, LENGTH))
    tokens[rng.random(tokens.shape) < 0.06] = 5
    tokens[rng.random(tokens.shape) < 0.05] = 6
    follows = np.roll(tokens == 5, 1, axis=1) & (rng.random(tokens.shape) < 0.8)
    tokens[follows] = 6
    tokens[:, 0] = 2
    return Corpus.from_tokens(tokens)


def plant(text: Corpus) -> tuple[np.ndarray, np.ndarray, dict[tuple[int, int], tuple[str, str]]]:
    """Bits before and after, `(layer, neuron, token)`, and the classes of the neurons that have one, by index."""
    tokens, rng = text.tokens, np.random.default_rng(1)
    before = rng.random((len(LAYERS), NEURONS, *tokens.shape)) < 0.3
    after = before.copy()
    never, half = np.zeros(tokens.shape, bool), np.broadcast_to(np.arange(LENGTH) < LENGTH // 2, tokens.shape)
    pair = (tokens == 6) & np.roll(tokens == 5, 1, axis=1)
    kinds = {
        "dead": never, "token detector": tokens == 5, "n-gram detector": pair, "positional": half,
    }  # fmt: skip
    told: dict[tuple[int, int], tuple[str, str]] = {}
    changes = [(a, b) for a in CLASSES for b in CLASSES]
    for row in range(len(LAYERS)):
        for neuron, (first, second) in enumerate(changes[row * 12 : row * 12 + 12]):
            told[row, neuron] = first, second
            before[row, neuron] = kinds.get(first, before[row, neuron])
            after[row, neuron] = kinds.get(second, after[row, neuron])
    before[0, 20], after[0, 20] = tokens == 5, tokens == 6  # other triggers
    before[0, 21], after[0, 21] = np.isin(tokens, [5, 7]), np.isin(tokens, [7, 8])  # one of three the same
    after[1, 20] = before[1, 20] | (rng.random(tokens.shape) < 0.5)  # much more often
    after[1, 21] = before[1, 21] & (rng.random(tokens.shape) < 0.5)  # less often
    shape = len(LAYERS), NEURONS, tokens.size
    return before.reshape(shape), after.reshape(shape), told


@pytest.fixture(scope="module")
def bits() -> tuple[np.ndarray, np.ndarray, dict]:
    return plant(corpus())


@pytest.fixture(scope="module")
def folder(bits: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Analysed runs before.zarr, after.zarr and other.zarr, which has read another text."""
    folder = tmp_path_factory.mktemp("compare")
    for name, active, text in (
        ("before", bits[0], corpus()),
        ("after", bits[1], corpus()),
        ("other", bits[1], corpus(1)),
    ):
        path = folder / f"{name}.zarr"
        make_run(path, text, active, layers=LAYERS, sequences_per_block=20, vocab_size=VOCABULARY)
        analyze_run(path, only=["ngrams", "positions"])
    return folder


def members(folder: Path, *names: str, **given: list) -> list[Member]:
    return find_members([folder / f"{name}.zarr" for name in names], given)


def pair_of(folder: Path) -> Pair:
    before, after = members(folder, "before", "after", step=[0, 1])
    return Pair(before, after, "step")


def no_model(run: Run) -> None:
    return None


@pytest.fixture(scope="module")
def change(folder: Path) -> Change:
    return read_change(pair_of(folder), model_of=no_model)


# what is found


def test_every_change_of_class_is_found_and_no_other(change: Change, bits: tuple):
    for (row, neuron), (before, after) in bits[2].items():
        assert CLASSES[change.before[row, neuron]] == before and CLASSES[change.after[row, neuron]] == after
    planted = {at for at, (before, after) in bits[2].items() if before != after}
    assert {(int(i), int(j)) for i, j in np.argwhere(change.changed)} == planted
    died = {at for at, (before, after) in bits[2].items() if before != "dead" and after == "dead"}
    assert {(int(i), int(j)) for i, j in np.argwhere(change.died)} == died
    assert {(int(i), int(j)) for i, j in np.argwhere(change.woke)} == {
        at for at, (before, after) in bits[2].items() if before == "dead" and after != "dead"
    }
    assert change.table.sum() == 2 * NEURONS and change.classes == CLASSES
    for number, name in enumerate(CLASSES):
        first, second = (
            {(int(i), int(j)) for i, j in np.argwhere(of == number)} for of in (change.before, change.after)
        )
        found = change.overlaps[name]
        assert (found.before, found.after, found.both) == (len(first), len(second), len(first & second))
        assert found.jaccard == len(first & second) / len(first | second) and 0 < found.expected < 1


def test_frequencies_differ_by_what_the_bits_say(change: Change, bits: tuple):
    apart, low, high = change.difference
    np.testing.assert_allclose(apart, bits[1].mean(-1) - bits[0].mean(-1), atol=1e-15)
    assert (low <= apart).all() and (apart <= high).all()
    assert low[1, 20] > 0 > high[1, 21]
    same = (bits[0] == bits[1]).all(-1)
    assert same.any() and not low[same].any() and not high[same].any()
    assert change.moved == (int((low > 0).sum()), int((high < 0).sum())) and min(change.moved) > 2


def test_triggers_of_detectors_of_both_are_compared(change: Change):
    assert change.triggers[0, 20] == 0 and change.triggers[0, 21] == pytest.approx(1 / 3)
    token = CLASSES.index("token detector")
    there = (change.before == token) & (change.after == token)
    np.testing.assert_array_equal(~np.isnan(change.triggers), there)
    assert (change.triggers[there] == 1).sum() == there.sum() - 2 > 0


def checkpoint(vectors: np.ndarray) -> Any:
    """A checkpoint of value vectors `(layer, neuron, D)`, which are the columns of what is stored."""
    import torch

    stored = {f"decoder.layers.{n}.fc2.weight": torch.tensor(v.T) for n, v in zip(LAYERS, vectors, strict=True)}
    return SimpleNamespace(mapped=lambda names: ((name, stored[name]) for name in names))


def test_value_vectors_are_compared_where_both_are_at_hand(folder: Path):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, len(LAYERS), NEURONS, 7)).astype(np.float16)
    second[1] = first[1]
    second[0, 3], second[0, 4] = -first[0, 3], 0
    pair = pair_of(folder)
    models = {"before": checkpoint(first), "after": checkpoint(second)}
    found = read_change(pair, model_of=lambda run: models[run.name]).cosine
    np.testing.assert_allclose(found[1], 1, rtol=1e-12)
    assert found[0, 3] == pytest.approx(-1) and isnan(found[0, 4])
    a, b = (each[0, 0].astype(float).tolist() for each in (first, second))
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    assert found[0, 0] == pytest.approx(dot / sqrt(sum(x * x for x in a) * sum(x * x for x in b)))

    def unreadable(run: Run) -> None:
        raise NeurolensError("x/config.json is damaged")

    for model_of, why in ((lambda run: models.get(run.name) if run.name == "after" else None, "before is not at hand"),
                          (unreadable, "x/config.json is damaged")):  # fmt: skip
        without = read_change(pair, model_of=model_of)
        assert np.isnan(without.cosine).all() and any(why in note for note in without.notes)
    models["after"] = checkpoint(second[:, :, :5])
    assert any("is (7, 24) and (5, 24)" in n for n in read_change(pair, model_of=lambda r: models[r.name]).notes)


def test_a_class_that_one_run_is_not_analysed_for_is_nobodys(folder: Path, tmp_path: Path):
    text = corpus()
    make_run(tmp_path / "r.zarr", text, plant(text)[0], layers=LAYERS, sequences_per_block=20, vocab_size=VOCABULARY)
    analyze_run(tmp_path / "r.zarr", only=["dead"])
    pair = Pair(Member(open_run(tmp_path / "r.zarr"), {}), Member(open_run(folder / "after.zarr"), {}), "step")
    found = read_change(pair, model_of=no_model)
    assert found.classes == ("dead", "other") and set(np.unique(found.after)) == {0, 4}
    assert any("not told" in note and "token detector, n-gram detector, positional" in note for note in found.notes)
    numbers = read_headlines(pair.before.run)
    assert not numbers.detectors.known and numbers.types is None and numbers.most_frequent_type is None


def test_headlines_of_all_layers_are_those_of_the_layers_together(folder: Path, bits: tuple):
    run = open_run(folder / "before.zarr")
    found, dead = read_headlines(run), ~bits[0].any(-1)
    assert found.dead.value == dead.mean() and found.total == dead.size and not found.whole
    assert found.frequency.value == pytest.approx(bits[0].mean(-1)[~dead].mean())
    assert found.dead.low <= found.dead.value <= found.dead.high and found.size == "unknown"
    assert found.detectors.value * found.total == run.neurons["unigram_detector"].sum()
    assert found.detectors_by_layer is not None
    assert found.detectors_by_layer.tolist() == run.neurons["unigram_detector"].sum(1).tolist()
    assert found.positional.value * found.total == pytest.approx(run.neurons["positional"].sum())
    assert found.first_half.tolist() == [True, False] and found.most_frequent_type == "both_extremes"


def test_replicates_over_layers_are_of_the_tokens_drawn():
    rng = np.random.default_rng(0)
    total = np.array([30, 0, 20, 10])
    layers = [rng.binomial(total, 0.1 * (rng.random((n, 1)) < 0.5)) for n in (5, 3)]
    groups = draw_groups(total, Bootstrap(replicates=20))
    silent, means = resample_activity(iter(layers), groups)
    for i, drawn in enumerate(groups.weights.tolist()):
        on = [sum(k * w for k, w in zip(row, drawn, strict=True)) for layer in layers for row in layer.tolist()]
        tokens = sum(t * w for t, w in zip(total.tolist(), drawn, strict=True))
        assert silent[i] == on.count(0)
        assert means[i] == pytest.approx(sum(on) / tokens / max(1, len(on) - on.count(0)))


# what is written


@pytest.fixture(scope="module")
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of three runs, one of which no other is like, under hostile factors."""
    output = tmp_path_factory.mktemp("written") / "new" / "comparison"
    given = {"step": [0, 1, 2], HOSTILE: [HOSTILE] * 3}
    done = compare_runs(find_members([folder / f"{n}.zarr" for n in ("after", "before", "other")], {
        **given, "step": [1, 0, 2]}), output, formats=["png"], model_of=no_model)  # fmt: skip
    assert len(done.changes) == 1 and done.changes[0]["died"] == 4
    return output


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_tables_hold_what_was_found(written: Path, change: Change):
    rows = table(written / "transitions.csv")
    assert sum(int(row["neurons"]) for row in rows) == 2 * NEURONS
    assert {row["layer"] for row in rows} == {"0", "2"} and {row["along"] for row in rows} == {"step"}
    changed = table(written / "neurons-1-step-0-step-1.csv")
    at = [(LAYERS.index(int(row["layer"])), int(row["neuron"])) for row in changed]
    assert at == [(int(i), int(j)) for i, j in np.argwhere(change.changed)]
    for row, here in zip(changed, at, strict=True):
        assert row["class_before"] == CLASSES[change.before[here]] and row["class_after"] == CLASSES[change.after[here]]
        assert float(row["difference"]) == change.difference[0][here] and row["cosine"] == ""
    runs = table(written / "runs.csv")
    assert [row["run"] for row in runs] == ["step 1", "step 0", "step 2"]
    assert [row["factor:step"] for row in runs] == ["1", "0", "2"]
    assert [float(row["dead"]) for row in runs[:2]] == [(change.after == 0).mean(), (change.before == 0).mean()]
    points = table(written / "trends.csv")
    assert [(row["factor"], row["value"], row["runs"]) for row in points] == [("step", str(i), "1") for i in range(3)]
    assert {row["verdict"] for row in table(written / "anchors.csv")} == {"cannot say"}


def test_hostile_factors_are_escaped_everywhere(written: Path):
    name = next(name for name in table(written / "runs.csv")[0] if "1b" in name)
    assert json.loads(name) == f"factor:{HOSTILE}"
    assert json.loads(table(written / "runs.csv")[0][name]) == HOSTILE
    for path in written.rglob("*"):
        if path.suffix in (".md", ".csv", ".json"):
            text = path.read_text(encoding="utf-8")
            assert "\x1b" not in text and "\u202e" not in text, path
    page = (written / "report.md").read_text(encoding="utf-8")
    assert "<b>" not in page and "\\_x\\_" in page and re.search(r"^\| run \| step \| =1\\\|&lt;b", page, re.MULTILINE)


def test_the_page_links_what_is_there_and_says_what_is_not(written: Path):
    page = (written / "report.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert links and all((written / link).is_file() for link in links)
    drawn = {path.stem for path in (written / "figures").iterdir()}
    assert {"trends", "transitions", "drift", "dead", "positional-training", "covered"} <= drawn
    assert {f"figures/{stem}.png" for stem in drawn} | {"neurons-1-step-0-step-1.csv"} == set(links)
    assert "suppression: step 1 is not analysed for updates" in page
    assert "step 2, along step: not compared with step 1: they have read other texts" in page
    assert "Not all have read the same text" in page and "the checkpoint of before is not at hand" in page
    for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):  # tables: as many cells in every row
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block
    record = json.loads((written / "comparison.json").read_text(encoding="utf-8"))
    files = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    assert set(record["files"]) | {"comparison.json"} == files
    assert record["anchor_rules"]["none"] == 0.01


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the paper's figures one alone is drawn."""
    monkeypatch.setattr("neurolens.compare.drawable", lambda runs: (["dead"], {}))


def test_a_comparison_again_is_the_same_and_another_one_replaces_it(folder: Path, tmp_path: Path, few: None):
    def compare(*names: str) -> dict[str, bytes]:
        done = compare_runs(members(folder, *names, step=list(range(len(names)))), tmp_path, formats=["svg"])
        assert {str(done.folder / name) for name in done.written} == set(done.to_dict()["written"])
        return snapshot(tmp_path)

    (tmp_path / "mine.csv").write_text("kept")
    first = compare("before", "after")
    assert compare("before", "after") == first and "neurons-1-step-0-step-1.csv" in first
    alone = compare("after")
    assert set(first) - set(alone) == {
        "neurons-1-step-0-step-1.csv", "transitions.csv", "trends.csv", *(f"figures/{name}.svg" for name in
        ("trends", "transitions", "drift")),
    }  # fmt: skip
    assert alone["mine.csv"] == b"kept"
    (tmp_path / "comparison.json").write_text('{"files": ["../x.csv", "mine.csv", 3]}')
    (tmp_path.parent / "x.csv").write_text("not ours")
    compare("after")
    assert (tmp_path.parent / "x.csv").is_file()


def test_names_in_csv_read_back(tmp_path: Path):
    texts = ["125m step 500", HOSTILE, "=1+1", "", '"', "-1", "a → b", "@x", "\ud800", "a,b"]
    write_csv(tmp_path / "t.csv", {"a b": texts, "n": [*range(9), None], "x": [*np.arange(9) / 3, float("nan")]})
    rows = table(tmp_path / "t.csv")
    read = [json.loads(row["a b"]) if row["a b"].startswith('"') else row["a b"] for row in rows]
    assert read == texts and [text_cell(t)[0] for t in ("=1", "+1", "@1", "-1")] == ['"'] * 4
    assert [row["n"] for row in rows] == [*map(str, range(9)), ""] and rows[9]["x"] == ""
    assert float(rows[1]["x"]) == 1 / 3
    assert escaped("a\nb|c") == "a\\\\nb\\|c" and escaped("<x&y>") == "&lt;x&amp;y&gt;"


# requests that cannot be meant


def test_what_cannot_be_compared_is_refused(folder: Path, tmp_path: Path):
    runs = members(folder, "before", "after", step=[0, 1])
    with pytest.raises(UsageError, match="before has no factor 'lr'"):
        compare_runs(runs, tmp_path / "x", by=["lr"])
    with pytest.raises(UsageError, match="no run to compare"):
        compare_runs([], tmp_path / "x")
    with pytest.raises(UsageError, match=r"inside the run before"):
        compare_runs(runs, folder / "before.zarr" / "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file is a file; give a folder"):
        compare_runs(runs, tmp_path / "file")
    with pytest.raises(UsageError, match="given twice"):
        members(folder, "before", "before")
    with pytest.raises(UsageError, match="factor step has 1 values for 2 runs"):
        members(folder, "before", "after", step=[0])
    bare = shutil.copytree(folder / "before.zarr", tmp_path / "bare.zarr")
    shutil.rmtree(bare / "results")
    with pytest.raises(NeurolensError, match=r"bare\.zarr is not analysed for dead"):
        compare_runs(find_members([bare]), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_factors_come_from_a_study_the_user_and_the_model(folder: Path, tmp_path: Path):
    run = shutil.copytree(folder / "before.zarr", tmp_path / "a.zarr")
    assert find_members([run])[0].factors == {"model": "model-unknown", "size": "unknown"}
    study = tmp_path / "study.json"
    study.write_text(json.dumps({"runs": {"a.zarr": {"factors": {"step": 5, "size": "7m", "tuned": True}}, "b": {}}}))
    factors = find_members([run], {"step": [6]})[0].factors
    assert factors == {"step": 6, "size": "7m", "tuned": True, "model": "model-unknown"}
    assert read_factors(tmp_path / "other.zarr") == {}
    for text in ("", "[]", '{"runs": 3}', '{"runs": {"a.zarr": {"factors": {"x": [1]}}}}', "{" * 9,
                 '{"runs": {"a.zarr": {"factors": {"x": NaN}}}}', '{"runs": {"a.zarr": 3}}'):  # fmt: skip
        study.write_text(text)
        with pytest.raises(NeurolensError, match=r"study.json is no readable study .*; expected") as error:
            find_members([run])
        assert "\n" not in str(error.value)
    assert [parse_value(text) for text in ("1", "0.5", "x", "nan", "1_0", "1.3b")] == [
        1,
        0.5,
        "x",
        "nan",
        "1_0",
        "1.3b",
    ]


def test_the_command(folder: Path, tmp_path: Path, few: None, capsys: pytest.CaptureFixture[str]):
    runs = [str(folder / f"{name}.zarr") for name in ("before", "after")]
    output = ["-o", str(tmp_path / "out")]
    assert neurolens(["compare", *runs, "--factor", "step=0,250", *output]) == 0
    out, err = capsys.readouterr()
    assert all(Path(line).is_file() for line in out.splitlines()) and str(tmp_path / "out" / "report.md") in out
    assert "comparing step 0 → step 250, neuron by neuron" in err
    assert neurolens(["compare", *runs, "--factor", "stage=base, tuned", "--by", "stage", *output, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["changes"][0]["before"] == "base" and found["changes"][0]["cosine_mean"] is None
    assert set(found) == {"folder", "written", "left_out", "changes", "anchors"}
    for wrong, code, said in (
        (["--by", "lr"], 2, "before has no factor 'lr'"),
        (["--factor", "step=1"], 2, "factor step has 1 values for 2 runs"),
        (["--factor", "step"], 2, "expected for example step=0,250,500"),
        (["--factor", "step=1,"], 2, "expected for example"),
        ([runs[0]], 2, "given twice"),
        ([str(tmp_path / "none.zarr")], 1, "no run at"),
    ):
        assert neurolens(["compare", *runs, *wrong, *output]) == code
        assert said in capsys.readouterr().err.splitlines()[-1]


# figures


def fits(figure: Figure) -> None:
    """All text is on the sheet, and shown as it stands."""
    renderer, whole = FigureCanvasAgg(figure).get_renderer(), figure.bbox
    figure.draw_without_rendering()
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text() and not any(
            text in (tick.label1, tick.label2) for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)
            for tick in axis.get_major_ticks()
        ):  # fmt: skip
            box = text.get_window_extent(renderer)
            assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= whole.x1 + 1 and box.y1 <= whole.y1 + 1, text
            assert text.get_text().replace("\n", "").isprintable() and not text.get_parse_math()
    title, caption = (text.get_window_extent(renderer) for text in figure.texts[:2])
    for ax in figure.axes:
        box = ax.get_tightbbox(renderer)
        assert box is None or (box.y0 >= caption.y1 and box.y1 <= title.y0 + 1)


def said(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text().split()) for text in figure.findobj(Text))  # type: ignore[attr-defined]


def study_of(lines: int, seeds: int, values: list) -> tuple[Any, dict[str, Any]]:
    """A trend of made up runs, and their headlines by name; every other one is not analysed for detectors."""
    runs, numbers, rng = [], {}, np.random.default_rng(0)
    for i in range(lines):
        for value in values:
            for seed in range(seeds):
                name = f"{i} {value} {seed}"
                runs.append(
                    Member(SimpleNamespace(name=name), {"x": value, "$kind_": f"{HOSTILE}{i}", "seed": seed}, name)
                )
                share = rng.random()
                each = Estimate(share, 0.9 * share, 1.1 * share)
                nothing = Estimate() if len(runs) % 2 else each
                numbers[name] = SimpleNamespace(
                    dead=each, frequency=each, detectors=Estimate(share), supported=nothing, suppressing=nothing,
                    positional=Estimate(), n_tokens=1000 + i,
                )  # fmt: skip
    return arrange(runs, "x"), numbers


@pytest.mark.parametrize(
    ("lines", "seeds", "values"),
    [(1, 1, [0]), (2, 3, [0, 10, 20]), (1, 1, list(range(40))), (14, 2, ["a" * 99, HOSTILE, "base"])],
)
def test_trends_fit_whatever_the_factors(lines: int, seeds: int, values: list):
    trend, numbers = study_of(lines, seeds, values)
    figure = draw_study("trends", trend, numbers, title=f"Runs over {HOSTILE}")
    fits(figure)
    assert ("mean of runs that differ in repetitions alone" in said(figure)) == (seeds > 1)
    assert f"{lines * seeds * len(values)} run" in said(figure) and "not known" in said(figure)
    drawn = figure.axes[0].get_lines()
    assert len(drawn) == lines and all(len(line.get_xdata()) == len(values) for line in drawn)  # type: ignore[arg-type]


def test_points_of_trends_are_the_means():
    trend, numbers = study_of(2, 3, [0, 10, 20])
    figure = draw_study("trends", trend, numbers)
    for i, line in enumerate(figure.axes[0].get_lines()):
        wanted = [100 * np.mean([numbers[f"{i} {x} {seed}"].dead.value for seed in range(3)]) for x in (0, 10, 20)]
        np.testing.assert_allclose(np.asarray(line.get_ydata(), float), wanted)


def test_transitions_and_drift_show_each_pair(change: Change):
    cosine = np.linspace(-1, 1, change.cosine.size).reshape(change.cosine.shape)
    named = replace(change.pair, before=replace(change.pair.before, name=HOSTILE * 9))
    several = [change, replace(change, cosine=cosine), *[replace(change, pair=named)] * 8]
    for count in (1, 3, 10):
        for name in ("transitions", "drift"):
            figure = draw_study(name, several[:count])
            fits(figure)
            most = {"transitions": 8, "drift": 6}[name]
            left = f"Left out, for there are more than {most}: {count - most} pairs."
            assert (left in said(figure)) == (count > most)
    figure = draw_study("transitions", [change])
    numbers = {text.get_text() for text in figure.axes[0].texts}
    assert numbers == {str(n) for n in change.table.sum(0).ravel() if n}
    assert "4 died, 4 woke" in said(figure)
    assert "value vectors are not at hand" in said(draw_study("drift", [change]))


def test_figures_with_hostile_names_are_valid_files(change: Change, tmp_path: Path):
    from neurolens.plots import save

    trend, numbers = study_of(2, 1, [HOSTILE, "x"])
    (path,) = save(draw_study("trends", trend, numbers, title=HOSTILE), tmp_path, "trends", ["svg"])
    ElementTree.fromstring(path.read_text(encoding="utf-8"))


def test_the_record_of_what_is_drawn_is_the_callables(few: None, folder: Path, tmp_path: Path):
    heard: list[str] = []
    hear: Callable[[str], None] = heard.append
    done = compare_runs(members(folder, "before", "other", step=[0, 1]), tmp_path, formats=["svg"], say=hear)
    assert not done.changes and done.left_out == {"transitions": "no two runs are one model before and after"}
    assert any("step 1, along step: not compared with step 0: they have read other texts" in line for line in heard)
