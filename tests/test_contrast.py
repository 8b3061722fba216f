"""What labels differ in, and how much of it depends on which sequences were read: whole runs, from bits on the disk to
tables, against the words of the method read literally (literal.py), sequences drawn again and counted again."""

from __future__ import annotations

import argparse
from collections import Counter
from fractions import Fraction
from itertools import combinations
from math import fsum, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import FEW, KINDS, Drawn, draw, draw_corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from literal import chance, design_effect, information, interval, is_rough, one_label, resample

from neurolens import NeurolensError, UsageError
from neurolens.analyze import analyze_run
from neurolens.bootstrap import Bootstrap, draw_groups
from neurolens.cli import run as neurolens
from neurolens.contrast import MOST_LABELS, ContrastRules
from neurolens.corpus import pack_documents
from neurolens.documents import Document
from neurolens.information import measure_information
from neurolens.run import Run, open_run

pytestmark = pytest.mark.usefixtures("hasty", "in_pieces")

BOOTSTRAP = Bootstrap(replicates=9, seed=3, confidence=0.8)
OF_LABELS = (*KINDS, "label", "label", "burst")


# -- the oracle ----------------------------------------------------------------------------------------------------


class Reading:
    """What is to be found of the neurons of one layer."""

    def __init__(self, drawn: Drawn, resampled: Bootstrap, least: Fraction = Fraction(5)) -> None:
        self.drawn, self.least, self.confidence = drawn, least, resampled.confidence
        self.positions, self.labels = drawn.corpus.shape[1], range(len(drawn.corpus.label_names))
        total = np.array([drawn.group.count(group) for group in range(20)])
        self.weights = draw_groups(total, resampled).weights.tolist()
        self.labels_again = [resample(drawn.labels, drawn.group, weights) for weights in self.weights]
        self.columns: list[dict[str, Any]] = []
        self.rates: list[list[float]] = []  # by neuron and label
        self.rates_again: list[list[list[float]]] = []  # by replicate, too
        self.often_again: list[list[float]] = []  # by neuron and replicate: frequency in all labels
        self.notes: Counter[str] = Counter()

    def count(self, held: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
        """Activations and tokens in each label, of sequences with so many activations."""
        on = [sum(k for k, label in zip(held, labels, strict=True) if label == mine) for mine in self.labels]
        return on, [labels.count(mine) * self.positions for mine in self.labels]

    def read(self, row: int, neuron: int) -> None:
        """The next neuron."""
        bits, group = self.drawn.bits(row, neuron), self.drawn.group
        held = [sum(each) for each in bits]
        on, of = self.count(held, self.drawn.labels)
        effect = design_effect(bits, self.drawn.labels)
        corrected = information(on, of) - max(1, float(effect)) * chance(sum(on), tuple(of))
        again = [
            self.count(resample(held, group, weights), labels)
            for weights, labels in zip(self.weights, self.labels_again, strict=True)
        ]
        self.often_again.append([sum(k) / sum(n) for k, n in again])
        self.rates.append([k / max(1, n) for k, n in zip(on, of, strict=True)])
        self.rates_again.append([[k / max(1, n) for k, n in zip(*each, strict=True)] for each in again])
        frequency = sum(on) / sum(of)
        low, high = self.interval(frequency, self.often_again[-1])
        mi_low, mi_high = self.interval(corrected, [information(*each) for each in again])
        column = {
            "frequency": frequency,
            "frequency_low": max(low, 0),
            "frequency_high": min(high, 1),
            "design_effect": float(effect),
            "label_mi": information(on, of),
            "label_mi_corrected": corrected,
            "label_mi_low": mi_low,
            "label_mi_high": mi_high,
            "label_rough": is_rough(on, of),
        }
        for name, (label, supported) in one_label(on, of, effect, self.least).items():
            column |= {f"label_{name}": label, f"label_{name}_supported": supported}
            self.notes[f"{name}, supported"] += supported
            self.notes[f"{name}, not supported"] += label >= 0 and not supported
            independent = one_label(on, of, Fraction(1), self.least)[name][1]
            self.notes[f"{name}, supported but for the design effect"] += independent > supported
        self.notes["one token too many"] += sorted(on)[-2:][0] == 1 and len(on) > 1
        self.columns.append(column)

    def interval(self, estimate: float, replicates: list[float]) -> tuple[float, float]:
        return interval(estimate, replicates, self.drawn.there, self.confidence)

    def activity(self) -> dict[str, float]:
        """The layer's share of dead neurons, and the mean frequency of the others."""
        often, neurons = [each["frequency"] for each in self.columns], len(self.columns)
        again = list(zip(*self.often_again, strict=True))
        return self._bounded("dead", often.count(0) / neurons, [each.count(0) / neurons for each in again]) | (
            self._bounded("frequency", mean_of_alive(often), [mean_of_alive(each) for each in again])
        )

    def by_label(self, label: int) -> dict[str, float]:
        """The layer's figures of a label."""
        neurons, found = len(self.columns), {}
        for name in ("only", "silent"):
            mine = [each for each in self.columns if each[f"label_{name}"] == label]
            found |= {name: len(mine), f"{name}_supported": sum(each[f"label_{name}_supported"] for each in mine)}
        rates = [each[label] for each in self.rates]
        again = [[each[i][label] for each in self.rates_again] for i in range(len(self.weights))]
        found |= self._bounded("frequency", fsum(rates) / neurons, [fsum(each) / neurons for each in again])
        return found | self._bounded("dead", rates.count(0) / neurons, [each.count(0) / neurons for each in again])

    def difference(self, first: int, second: int) -> list[tuple[float, ...]]:
        """By neuron: how often in both labels, how much more often in the first, and the interval of that."""
        found = []
        for rates, again in zip(self.rates, self.rates_again, strict=True):
            apart = rates[first] - rates[second]
            bounds = self.interval(apart, [each[first] - each[second] for each in again])
            found.append((rates[first], rates[second], apart, *bounds))
        return found

    def _bounded(self, name: str, estimate: float, replicates: list[float]) -> dict[str, float]:
        low, high = self.interval(estimate, replicates)
        return {name: estimate, f"{name}_low": max(low, 0), f"{name}_high": min(high, 1)}  # NaN stays


def mean_of_alive(often: Any) -> float:
    alive = [each for each in often if each]
    return fsum(alive) / len(alive) if alive else nan


def same(found: Any, expected: Any, what: Any) -> None:
    """Equal, numbers to 1e-9."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9, err_msg=str(what))
    else:
        assert found.tolist() == expected.tolist(), what


def check(run: Run, drawn: Drawn, resampled: Bootstrap, least: Fraction = Fraction(5)) -> Counter[str]:
    """Every number of the run is the oracle's. Counts what of interest there was."""
    seen: Counter[str] = Counter()
    names = drawn.corpus.label_names
    assert run.contrast.coords["label"] == list(names) and run.contrast.shape == (len(names), len(drawn.layers))
    pairs = {(a, b): run.difference(names[a], names[b]) for a, b in combinations(range(len(names)), 2)}
    for row, layer in enumerate(drawn.layers):
        reading = Reading(drawn, resampled, least)
        for neuron in range(drawn.active.shape[1]):
            reading.read(row, neuron)
        seen.update(reading.notes)
        for name in reading.columns[0]:
            same(run.neurons[name][row], [each[name] for each in reading.columns], (layer, name))
        assert run.neurons.activity is not None
        for name, value in reading.activity().items():
            same(run.neurons.activity[name][row], value, (layer, name))
        for label in range(len(names)):
            for name, value in reading.by_label(label).items():
                same(run.contrast[name][label, row], value, (layer, label, name))
        for (first, second), table in pairs.items():
            expected = zip(*reading.difference(first, second), strict=True)
            for name, values in zip(table, expected, strict=True):
                same(table[name][row], list(values), (layer, first, second, name))
        held = drawn.active[row].sum(2)
        on = np.stack([held[:, np.array(drawn.labels) == label].sum(1) for label in range(len(names))], axis=1)
        of = np.array([drawn.labels.count(label) * drawn.corpus.shape[1] for label in range(len(names))])
        effect = np.array([max(1, each["design_effect"]) for each in reading.columns])
        p = measure_information(on, of, design_effect=effect).p  # which test_information.py knows
        np.testing.assert_allclose(run.neurons["label_p"][row], p, atol=1e-9)
    return seen


# -- laws ----------------------------------------------------------------------------------------------------------


def test_a_run_is_read_as_the_method_says(tmp_path_factory: pytest.TempPathFactory) -> None:
    seen: Counter[str] = Counter()

    @settings(FEW, max_examples=9)
    @given(seed=st.integers(0, 2**20))
    def compare(seed: int) -> None:
        drawn = draw(seed, OF_LABELS)
        run = drawn.run(tmp_path_factory.mktemp("oracle") / "r.zarr", only=["contrast"], bootstrap=BOOTSTRAP)
        seen.update(check(run, drawn, BOOTSTRAP))

    compare()
    # the law has been held where it matters
    support = ("supported", "not supported", "supported but for the design effect")
    wanted = [f"{name}, {note}" for name in ("only", "silent") for note in support] + ["one token too many"]
    assert not [note for note in wanted if not seen[note]], seen


@settings(FEW, max_examples=4)
@given(least=st.sampled_from([0, 1, 5, 12.5, 1000]), seed=st.integers(0, 3))
def test_other_thresholds(stored: tuple[Drawn, Path], least: float, seed: int) -> None:
    """The same run, analysed again and again: what is in it is what was asked last."""
    drawn, path = stored
    resampled = Bootstrap(replicates=4 + seed, seed=seed, confidence=0.5 + seed / 10)
    analyze_run(path, only=["contrast"], contrast=ContrastRules(least_expected=least), bootstrap=resampled)
    run = open_run(path)
    assert run.contrast.rules == {"least_expected": least, **vars(resampled)}
    check(run, drawn, resampled, Fraction(least))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Drawn, Path]:
    drawn = draw(4, OF_LABELS)
    assert len(set(drawn.labels)) == 3
    return drawn, drawn.run(tmp_path_factory.mktemp("thresholds") / "r.zarr", only=["dead"]).path


def made(labels: list[int], names: int, neurons: list[np.ndarray], positions: int = 8) -> Drawn:
    """A run of neurons `(sequence, position)` that are made by hand."""
    corpus = draw_corpus(np.random.default_rng(0), len(labels), positions, labels, names)
    return Drawn(corpus, np.stack(neurons)[None], [0], 64 // positions)


def test_neurons_of_one_label(tmp_path: Path) -> None:
    """By hand: how many activations make a silence tell, in how many sequences; one token elsewhere is one too many."""
    labels = [0, 1] * 20
    nothing = np.zeros((40, 8), bool)

    def active(*places: tuple[int, int]) -> np.ndarray:
        bits = nothing.copy()
        for sequence, position in places:
            bits[sequence, position] = True
        return bits

    ten, nine = ([(2 * i, 1 + i % 7) for i in range(number)] for number in (10, 9))
    neurons = {
        "ten activations: five expected in the other label": active(*ten),
        "nine": active(*nine),
        "ten, and one in the other": active(*ten, (1, 1)),
        "ten, in two sequences": active(*[(2 * (i % 2), 1 + i // 2) for i in range(10)]),
        "always in the other": ~nothing & (np.array(labels) == 1)[:, None],
        "never": nothing,
        "always": ~nothing,
    }
    drawn = made(labels, 2, list(neurons.values()))
    run = drawn.run(tmp_path / "r.zarr", only=["contrast"], bootstrap=BOOTSTRAP)
    assert run.neurons["label_only"][0].tolist() == [0, 0, -1, 0, 1, -1, -1]
    assert run.neurons["label_silent"][0].tolist() == [1, 1, -1, 1, 0, -1, -1], "with two labels the other one"
    for name in ("only", "silent"):
        assert run.neurons[f"label_{name}_supported"][0].tolist() == [1, 0, 0, 0, 1, 0, 0]
    assert run.neurons["design_effect"][0, 3] > 4 and run.neurons["design_effect"][0, 5:].tolist() == [1, 1]
    assert run.contrast["only"].tolist() == [[3], [1]] and run.contrast["only_supported"].tolist() == [[1], [1]]
    assert run.neurons["label_mi"][0, 4] == pytest.approx(np.log(2)) and (run.neurons["label_p"][0, 5:] == 1).all()
    check(run, drawn, BOOTSTRAP)


@pytest.mark.parametrize(
    ("labels", "names"),
    [([0] * 7, 1), ([0], 1), ([1], 3), ([1] * 5, 2), ([0, 2] * 6, 3), ([0, 1], 2), ([0] * 30 + [1], 2)],
    ids=[
        "one label",
        "one sequence",
        "one of three",
        "one of two",
        "two of three",
        "two sequences",
        "one of its label",
    ],
)
def test_few_labels_and_few_sequences(labels: list[int], names: int, tmp_path: Path) -> None:
    """What cannot be told is not: no neuron is of the only label, no interval is of one group."""
    rng = np.random.default_rng(1)
    neurons = [rng.random((len(labels), 8)) < rate for rate in (0, 0.1, 0.5, 0.9, 1)]
    neurons += [(np.array(labels) == labels[0])[:, None] & (rng.random((len(labels), 8)) < 0.8)]
    drawn = made(labels, names, neurons)
    run = drawn.run(tmp_path / "r.zarr", only=["contrast", "positions"], bootstrap=BOOTSTRAP)
    check(run, drawn, BOOTSTRAP)
    if len(set(labels)) == 1:
        assert (run.neurons["label_only"] == -1).all() and (run.neurons["label_silent"] == -1).all()
        assert not run.contrast["only"].any() and not run.contrast["silent"].any()
        np.testing.assert_allclose(run.neurons["label_mi_corrected"], 0, atol=1e-12)
        assert np.isnan(run.positions["agreement"]).all()
    bounds = [name for name in run.neurons if name.endswith(("_low", "_high"))]
    assert len(bounds) == 4 and all(np.isnan(run.neurons[name]).all() == (drawn.there < 2) for name in bounds)


def test_difference(tmp_path: Path) -> None:
    """By hand, and its laws: what it takes from one label it gives to the other."""
    labels = [0, 1, 2] * 20
    often = [[0.9, 0.1, 0], [0.5, 0.5, 0.5], [0, 1, 1]]
    rng = np.random.default_rng(0)
    drawn = made(labels, 3, [rng.random((60, 8)) < np.array(rates)[labels][:, None] for rates in often])
    run = drawn.run(tmp_path / "r.zarr", only=["contrast"])
    found = run.difference("label 0", "label 1")
    assert list(found) == ["frequency_first", "frequency_second", "difference", "low", "high"]
    assert list(found.coords["neuron"]) == [0, 1, 2] and list(found.coords["layer"]) == [0] and found.shape == (1, 3)
    low, high = found["low"][0], found["high"][0]
    assert (low <= found["difference"][0]).all() and (found["difference"][0] <= high).all()
    assert low[0] > 0.6 and low[1] < 0 < high[1] and low[2] == high[2] == -1
    other = run.difference("label 1", "label 0")
    for name, opposite in (("difference", "difference"), ("low", "high"), ("high", "low")):
        np.testing.assert_allclose(other[name], -found[opposite], atol=1e-12)
    assert not run.difference("label 2", "label 2")["high"].any()
    frame = found.to_pandas()
    assert frame.index.names == ["layer", "neuron"] and frame["difference"].tolist() == found["difference"][0].tolist()
    for names in (("label 0", "label 3"), ("", "label 0")):
        with pytest.raises(UsageError, match=r"has no label '(label 3|)'; expected label 0 or label 1 or label 2"):
            run.difference(*names)


def test_more_labels_than_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All else is done, and said; asked for by name it is refused, before anything is written."""
    labels = list(range(MOST_LABELS + 1)) * 2
    rng = np.random.default_rng(0)
    threshold = np.tile(np.arange(8) < 4, (len(labels), 1))
    drawn = made(labels, MOST_LABELS + 1, [rng.random((len(labels), 8)) < 0.1, threshold])
    run = drawn.run(tmp_path / "r.zarr", only=["positions"])
    assert list(run.parts) == ["dead", "positions"]
    by_label = [drawn.active[0][:, np.array(labels) == label].sum((1, 2)) for label in range(MOST_LABELS + 1)]
    np.testing.assert_array_equal(run.store.read("counts/layers/00/label"), np.stack(by_label, axis=1))
    assert not run.store.has("counts/layers/00/group_label")
    assert run.positions["agreement"] == pytest.approx([1])
    command = ["analyze", str(run.path), "--only"]
    assert neurolens([*command, "dead,contrast"]) == 2
    assert "has 101 labels; contrast compares up to 100" in capsys.readouterr().err
    with pytest.raises(UsageError, match="has 101 labels; contrast compares up to 100"):
        analyze_run(run.path, only=["contrast"])
    assert neurolens(["analyze", str(run.path)]) == 3  # for updates, which need a checkpoint
    said = capsys.readouterr().err
    assert "has 101 labels; contrast compares up to 100 and is left out" in said and "contrast" not in run.parts
    for asked in (lambda: run.contrast, lambda: run.difference("label 0", "label 1"), lambda: run.table("contrast")):
        with pytest.raises(NeurolensError, match="is not analysed for contrast; run 'neurolens analyze"):
            asked()


def test_as_many_labels_as_are_compared(tmp_path: Path) -> None:
    labels = list(range(MOST_LABELS)) * 2
    drawn = made(labels, MOST_LABELS, [np.random.default_rng(0).random((len(labels), 8)) < 0.3])
    run = drawn.run(tmp_path / "r.zarr", only=["contrast"], bootstrap=BOOTSTRAP)
    assert run.contrast.shape == (MOST_LABELS, 1) and run.contrast["frequency"].mean() == pytest.approx(0.3, abs=0.05)


def test_groups_of_sequences(tmp_path: Path) -> None:
    """A sequence is in the group of its number among those of its label, modulo 20."""
    drawn = draw(9, OF_LABELS)
    sequences, positions = drawn.corpus.shape
    assert sequences > 60 and len(set(drawn.labels)) == 3
    run = drawn.run(tmp_path / "r.zarr", only=["dead"])
    total = np.zeros((20, 3), int)
    counts = np.zeros((len(drawn.layers), drawn.active.shape[1], 20, 3), int)
    for sequence, place in enumerate(zip(drawn.group, drawn.labels, strict=True)):
        total[place] += positions
        counts[:, :, *place] += drawn.active[:, :, sequence].sum(-1)
    store = run.store
    assert store.read("counts/total/group_label").tolist() == total.tolist()
    for name, sums in (("group", total.sum(1)), ("label", total.sum(0))):
        assert store.read(f"counts/total/{name}").tolist() == sums.tolist()
    for row, layer in enumerate(drawn.layers):
        folder = f"counts/layers/{layer:02d}"
        assert store.read(f"{folder}/group_label").tolist() == counts[row].tolist()
        assert store.read(f"{folder}/group").tolist() == counts[row].sum(2).tolist()
        assert store.read(f"{folder}/label").tolist() == counts[row].sum(1).tolist()


@pytest.mark.parametrize("least", [-1, float("nan"), -0.001])
def test_rules_out_of_range(least: float) -> None:
    with pytest.raises(UsageError, match=f"least_expected is {least}; expected at least 0"):
        ContrastRules(least_expected=least)


def test_the_embedded_model(tmp_path: Path) -> None:
    """Every neuron of a layer of the demonstration's model, on text in two labels of different sizes."""
    from neurolens.checkpoint import Checkpoint
    from neurolens.collect import collect
    from neurolens.demo.demonstrate import MODEL

    text = Path(argparse.__file__).read_text(encoding="utf-8")
    documents = [Document(part, "ab"[i % 3 == 0], 0, i) for i, part in enumerate(text[:20_000].split("\n\n"))]
    corpus = pack_documents(documents, Checkpoint(MODEL).encoder(), positions=64, tokens=640)
    collect(MODEL, corpus, tmp_path / "r.zarr", batch_tokens=512, block_tokens=512, layers=[1])
    resampled = Bootstrap(replicates=4)
    analyze_run(tmp_path / "r.zarr", only=["contrast"], bootstrap=resampled)
    run = open_run(tmp_path / "r.zarr")
    active = np.zeros((1, run.store.neurons, run.store.n_tokens), bool)
    bits = np.unpackbits(run.store.read("layers/01/active"), axis=1, bitorder="little")
    active[0][:, run.store.read("order")] = bits[:, : run.store.n_tokens]
    seen = check(run, Drawn(corpus, active.reshape(1, -1, *corpus.shape), [1], 8), resampled)
    assert seen["only, not supported"] > 100 and seen["only, supported"] and seen["one token too many"] > 100
