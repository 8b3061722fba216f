"""Positional neurons of whole runs, from bits on the disk to tables, against the words of the method read literally
(literal.py): every column, every interval from sequences that are drawn again and counted again."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from math import log, nan
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from conftest import snapshot
from drawn import FEW, KINDS, Drawn, draw, draw_corpus, rules_of
from hypothesis import given, settings
from hypothesis import strategies as st
from literal import (
    STRENGTHS,
    TYPES,
    Asked,
    Bits,
    Range,
    agreement,
    chance,
    groups_of,
    independent,
    information,
    interval,
    is_rough,
    period,
    read_curve,
    resample,
    where_active,
)

from neurolens.analyze import analyze_run
from neurolens.bootstrap import Bootstrap, draw_groups
from neurolens.corpus import pack_documents
from neurolens.documents import Document
from neurolens.information import measure_information
from neurolens.run import Run, open_run
from neurolens.store import Store

pytestmark = pytest.mark.usefixtures("hasty", "in_pieces")

CELLS = [(kind, strength) for kind in TYPES for strength in STRENGTHS]
BOOTSTRAP = Bootstrap(replicates=9, seed=3, confidence=0.8)


# -- the oracle ----------------------------------------------------------------------------------------------------


class Reading:
    """What is to be found of the neurons of one layer."""

    def __init__(self, drawn: Drawn, asked: Asked, resampled: Bootstrap) -> None:
        self.drawn, self.asked, self.confidence = drawn, asked, resampled.confidence
        self.neurons = drawn.active.shape[1]
        total = np.array([drawn.group.count(group) for group in range(20)])
        self.weights = draw_groups(total, resampled).weights.tolist()
        self.kinds: list[Counter[tuple[str, str]]] = [Counter() for _ in self.weights]  # of each replicate
        self.columns: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.ranges: list[tuple[int, Range]] = []  # with the row
        self.notes: Counter[str] = Counter()

    def read(self, neuron: int, bits: Bits) -> None:
        """The next neuron."""
        drawn, asked, sequences = self.drawn, self.asked, len(bits)
        curve = [sum(column) for column in zip(*bits, strict=True)]
        of = (sequences,) * len(curve)
        rest = information(curve[1:], of[1:])
        corrected = rest - chance(sum(curve[1:]), of[1:])
        assert min(abs(corrected - limit) for limit in (asked.threshold, asked.near * asked.threshold)) > 1e-9
        found = read_curve(curve, sequences, asked)
        positional = corrected > asked.threshold
        column = {
            "position_mi": information(curve, of),
            "position_mi_corrected": corrected,
            "position_rough": is_rough(curve[1:], of[1:]),
            "positional": positional,
            "position_type": found.kind if positional else "",
            "position_strength": found.strength if positional else "",
        }
        self.columns.append(column)
        if corrected <= asked.near * asked.threshold:
            self.notes["only positional with `</s>`"] += (
                column["position_mi"] - chance(sum(curve), of) > asked.threshold
            )
            return
        of_replicates, same = [], 0
        for weights in self.weights:
            again = resample(bits, drawn.group, weights)
            counts = [sum(column) for column in zip(*again, strict=True)]
            kind = read_curve(counts, len(again), asked, independent(drawn.group, weights))
            of_replicates.append((information(counts[1:], (len(again),) * len(counts[1:])), kind.kind, kind.strength))
        middle = median(plug_in for plug_in, *_ in of_replicates)
        for i, (plug_in, *kind) in enumerate(of_replicates):
            if corrected + plug_in - middle > asked.threshold:
                self.kinds[i][kind[0], kind[1]] += 1
                same += kind == [found.kind, found.strength]
                self.notes["near, and found in a replicate"] += not positional
            else:
                self.notes["lost in a replicate"] += positional
        if not positional:
            return
        self.notes.update([*found.notes, f"{found.kind} {found.strength}"])
        self.notes["another kind in a replicate"] += same < len(of_replicates)
        low, high = interval(corrected, [each[0] for each in of_replicates], drawn.there, self.confidence)
        by_label, window = [], asked.window(len(curve))
        for label in range(len(drawn.corpus.label_names)):
            mine = [row for row, other in zip(bits, drawn.labels, strict=True) if other == label]
            by_label.append(([sum(column) for column in zip(*mine, strict=True)], len(mine)))
        periods = period(found.ranges, window) if found.kind == "oscillatory" else (nan, nan)
        self.ranges += [(len(self.rows), each) for each in found.ranges]
        self.rows.append(
            {
                "neuron": neuron,
                "type": found.kind,
                "strength": found.strength,
                "mi": column["position_mi"],
                "mi_corrected": corrected,
                "mi_low": low,
                "mi_high": high,
                "rough": column["position_rough"],
                "period": periods[0],
                "phase": periods[1],
                "agreement": agreement([on for on, _ in by_label], [many for _, many in by_label], window),
                "stability": same / len(of_replicates) if drawn.there > 1 else nan,
                "curve": curve,
            }
        )

    def by_layer(self) -> dict[str, Any]:
        """The layer's figures: counts by kind, and what its strong oscillatory neurons cover."""
        found: dict[str, Any] = {"count": [], "count_low": [], "count_high": []}
        number = Counter((row["type"], row["strength"]) for row in self.rows)
        for kind in CELLS:
            low, high = self.interval(number[kind], [each[kind] for each in self.kinds])
            found["count"].append(number[kind])
            found["count_low"].append(max(low, 0))  # NaN stays
            found["count_high"].append(min(high, self.neurons))
        low, high = self.interval(len(self.rows) / self.neurons, [each.total() / self.neurons for each in self.kinds])
        tiles = [
            set(where_active([each for of, each in self.ranges if of == i], self.drawn.corpus.shape[1]))
            for i, row in enumerate(self.rows)
            if (row["type"], row["strength"]) == ("oscillatory", "strong")
        ]
        places, missed = self.drawn.corpus.shape[1] - 1, 1.0
        for tile in tiles:
            missed *= 1 - len(tile) / places
        return found | {
            "share": len(self.rows) / self.neurons,
            "share_low": max(low, 0),
            "share_high": min(high, 1),
            "tiling_neurons": len(tiles),
            "tiling_covered": len(set().union(*tiles)) / places,
            "tiling_expected": 1 - missed,
        }

    def interval(self, estimate: float, replicates: Sequence[float]) -> tuple[float, float]:
        return interval(estimate, replicates, self.drawn.there, self.confidence)


def in_all(readings: list[Reading], kinds: Sequence[tuple[str, str]]) -> tuple[float, float, float]:
    """How many neurons of all layers are of one of these kinds, with its interval."""
    estimate = sum((row["type"], row["strength"]) in kinds for each in readings for row in each.rows)
    replicates = [
        sum(each.kinds[i][kind] for each in readings for kind in kinds) for i in range(len(readings[0].kinds))
    ]
    low, high = readings[0].interval(estimate, replicates)
    return estimate, max(low, 0), min(high, sum(each.neurons for each in readings))


def same(found: Any, expected: Any, what: Any) -> None:
    """Equal, numbers to 1e-9."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9, err_msg=str(what))
    else:
        assert found.tolist() == expected.tolist(), what


def check(
    run: Run, drawn: Drawn, asked: Asked, resampled: Bootstrap, chosen: Sequence[np.ndarray] | None = None
) -> Counter[str]:
    """Every number of the run is the oracle's. Counts what of interest there was.

    `chosen`: by layer, the neurons to look at, all that are positional, or nearly, among them; None for all.
    """
    seen: Counter[str] = Counter()
    table, rows, ranges, readings = run.positions, 0, 0, []
    for row, layer in enumerate(drawn.layers):
        reading = Reading(drawn, asked, resampled)
        readings.append(reading)
        numbers = range(reading.neurons) if chosen is None else chosen[row].tolist()
        for neuron in numbers:
            reading.read(neuron, drawn.bits(row, neuron))
        seen.update(reading.notes)
        for name in reading.columns[0]:
            same(run.neurons[name][row][numbers], [each[name] for each in reading.columns], (layer, name))
        mine, these = slice(rows, rows + len(reading.rows)), slice(ranges, ranges + len(reading.ranges))
        for name in reading.rows[0] if reading.rows else ():
            found = table.curve if name == "curve" else table[name]
            same(found[mine], [each[name] for each in reading.rows], (layer, name))
        same(table.ranges["row"][these], [rows + of for of, _ in reading.ranges], (layer, "row"))
        for name in ("first", "stop", "always", "frequency", "n"):
            known = [getattr(each, name) for _, each in reading.ranges]
            same(table.ranges[name][these], np.array(known, table.ranges[name].dtype), (layer, name))
        same(table["layer"][mine], [layer] * len(reading.rows), layer)
        same(table["p"][mine], run.neurons["position_p"][row][table["neuron"][mine]], layer)
        for name, value in reading.by_layer().items():
            found = table.by_layer[name].reshape(8, -1) if "count" in name else table.tiling[name]
            same(found[..., row], value, (layer, name))
        rows, ranges = mine.stop, these.stop
        on, of = drawn.active[row].sum(1)[:, 1:], np.full(drawn.corpus.shape[1] - 1, len(drawn.labels))
        same(run.neurons["position_p"][row], measure_information(on, of).p, layer)  # which test_information.py knows
    assert len(table["layer"]) == rows and len(table.ranges["row"]) == ranges
    for kind, found in zip(([each] for each in CELLS), np.ndindex(4, 2), strict=True):
        known = (table.overall[name][found] for name in ("count", "count_low", "count_high"))
        same(list(known), in_all(readings, kind), kind)
    same([nan if each is None else each for each in table.total], in_all(readings, CELLS), "total")
    same(table.frequency, table.curve / len(drawn.labels), "frequency")
    return seen


# -- laws ----------------------------------------------------------------------------------------------------------


def test_the_words_by_hand() -> None:
    """The oracle itself, on what can be counted: three of six tokens, in categories of two, three and one."""
    assert information([2, 0], [2, 2]) == pytest.approx(log(2)) and information([1, 2, 0], [2, 4, 0]) == 0
    cells = [0, 0, 1, 1, 1, 2]
    placed = [[sum(cells[i] == c for i in chosen) for c in range(3)] for chosen in combinations(range(6), 3)]
    assert chance(3, (2, 3, 1)) == pytest.approx(sum(information(on, [2, 3, 1]) for on in placed) / 20)
    assert chance(0, (2, 2)) == chance(4, (2, 2)) == 0
    assert groups_of([5, 5, 7, 5, *[7] * 20]) == [0, 1, 0, 2, *range(1, 20), 0]
    assert resample("abc", [0, 1, 0], [2, 0]) == ["a", "a", "c", "c"] and independent([0, 1, 0], [2, 1]) == 25 / 9
    assert interval(7, [1, 2, 3, 4, 105], 2, 0.5) == pytest.approx((7 - 2**0.5, 7 + 2**0.5))
    assert agreement([[9, 1, 2, 3], [9, 3, 2, 1], [0] * 4, [5] * 4], [10, 10, 0, 10], 1) == pytest.approx(-1 / 3)
    found = read_curve([5, *[0] * 6, *[9] * 6, *[0] * 6, *[10] * 6], 10, Asked(extreme=Fraction(1, 10)))
    assert [(each.first, each.stop, each.always, each.frequency) for each in found.ranges] == [
        (1, 6, False, 0), (8, 12, True, Fraction(9, 10)), (14, 18, False, 0), (20, 25, True, 1),
    ]  # fmt: skip
    assert (found.kind, found.strength) == ("oscillatory", "weak") and period(found.ranges, 3) == (12, 9.5)


CURVES = (*KINDS, "curve", "curve", "curve", "curve")


def test_a_run_is_read_as_the_method_says(tmp_path_factory: pytest.TempPathFactory) -> None:
    seen: Counter[str] = Counter()

    @settings(FEW, max_examples=10)
    @given(seed=st.integers(0, 2**20))
    def compare(seed: int) -> None:
        drawn = draw(seed, CURVES)
        run = drawn.run(tmp_path_factory.mktemp("oracle") / "r.zarr", only=["positions"], bootstrap=BOOTSTRAP)
        seen.update(check(run, drawn, Asked(), BOOTSTRAP))

    compare()
    # the law has been held where it matters: every kind, and what just is, or just is not
    wanted = [*map(" ".join, CELLS), "just a range", "just no range", "just an extreme", "just oscillatory"]
    wanted += ["just not oscillatory", "only positional with `</s>`"]
    wanted += ["lost in a replicate", "another kind in a replicate"]
    assert not [note for note in wanted if not seen[note]], seen


asked_differently = st.builds(
    Asked,
    threshold=st.sampled_from([0.01, 0.05, 0.3]),
    extreme=st.sampled_from([Fraction(0), Fraction(1, 20), Fraction(1, 10), Fraction(2, 5)]),
    exact=st.sampled_from([Fraction(0), Fraction(1, 20), Fraction(1, 10)]),
    windows=st.sampled_from([4, 16, 64]),
    least_window=st.sampled_from([2, 3, 4]),
    alternations=st.sampled_from([1, 2, 3, 4]),
    scatter_p=st.sampled_from([0, 0.3, 0.9]),
    near=st.sampled_from([0.2, 0.5, 0.95]),
)


@settings(FEW, max_examples=5)
@given(asked=asked_differently, seed=st.integers(0, 3))
def test_other_thresholds(stored: tuple[Drawn, Path], asked: Asked, seed: int) -> None:
    """The same run, analysed again and again: what is in it is what was asked last."""
    drawn, path = stored
    resampled = Bootstrap(replicates=4 + seed, seed=seed, confidence=0.5 + seed / 10)
    analyze_run(path, only=["positions"], positions=rules_of(asked), bootstrap=resampled)
    run = open_run(path)
    assert run.positions.rules == vars(rules_of(asked)) | vars(resampled)
    check(run, drawn, asked, resampled)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Drawn, Path]:
    drawn = draw(4, CURVES)
    assert len(set(drawn.labels)) == 3
    return drawn, drawn.run(tmp_path_factory.mktemp("thresholds") / "r.zarr", only=["dead"]).path


def estimates(path: Path) -> dict[str, Any]:
    """What does not depend on the order of sequences: all results but intervals, and which token or sequence it was."""
    store = Store.open(path)
    folders = ["results/neurons", "results/activity", "results/contrast"]
    folders += [f"results/positions{below}" for below in ("", "/ranges", "/by_layer")]
    names = [f"{folder}/{name}" for folder in folders for name in store.names(folder)]
    return {
        name: store.read(name) for name in names if not name.endswith(("_low", "_high", "/stability", "/first_active"))
    }


def test_the_order_of_sequences_changes_nothing_but_intervals(tmp_path: Path) -> None:
    drawn = draw(4, CURVES)
    order = np.random.default_rng(0).permutation(len(drawn.labels))
    parts = ["positions", "contrast"]
    before = drawn.run(tmp_path / "before.zarr", only=parts, bootstrap=BOOTSTRAP)
    after = drawn.permuted(order).run(tmp_path / "after.zarr", only=parts, bootstrap=BOOTSTRAP)
    expected, found = estimates(before.path), estimates(after.path)
    assert expected.keys() == found.keys() and len(expected["results/positions/neuron"]) > 5
    for name, values in expected.items():
        same(found[name], values, name)
    assert (before.positions["mi_low"] != after.positions["mi_low"]).any()


def test_never_for_always(tmp_path: Path) -> None:
    """Silences instead of activations: as much information, the same types, ranges that have changed sides."""
    drawn = draw(4, CURVES)
    before = drawn.run(tmp_path / "before.zarr", only=["positions"], bootstrap=BOOTSTRAP)
    drawn.active = ~drawn.active
    after = drawn.run(tmp_path / "after.zarr", only=["positions"], bootstrap=BOOTSTRAP)
    assert len(before.positions["neuron"]) > 5
    for name in [name for name in before.neurons if name.startswith("position")]:
        same(after.neurons[name], before.neurons[name], name)
    for name in set(before.positions) - {"phase"}:
        same(after.positions[name], before.positions[name], name)
    for name in before.positions.by_layer:
        same(after.positions.by_layer[name], before.positions.by_layer[name], name)
    ranges = before.positions.ranges
    mirrored = {**ranges, "always": ~ranges["always"], "frequency": 1 - ranges["frequency"]}
    for name, values in mirrored.items():
        same(after.positions.ranges[name], values, name)
    same(after.positions.curve, len(drawn.labels) - before.positions.curve.astype(int), "curve")


def test_stretches_of_neurons_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block or many, all neurons at once or few, all positional ones at once or one by one: the same results."""
    drawn, found, stretches = draw(4, CURVES, neurons=29), [], []
    assert drawn.corpus.shape[1] == 64, "a block may be of any number of sequences"
    ways = [(99, 1 << 21, 1 << 21, 1 << 22), (8, 1 << 21, 1, 1), (12, 1, 1, 1 << 22), (15, 1, 1999, 7000)]
    for sequences, chunk_bytes, read_bytes, entries in ways:
        monkeypatch.setattr("neurolens.bitmaps.CHUNK_BYTES", chunk_bytes)
        monkeypatch.setattr("neurolens.bitmaps.READ_BYTES", read_bytes)
        monkeypatch.setattr("neurolens.scan.POSITIONAL_ENTRIES", entries)
        drawn.sequences_per_block = sequences
        run = drawn.run(tmp_path / f"{sequences}.zarr", only=["positions", "contrast"], bootstrap=BOOTSTRAP)
        stretches.append(len(run.store.neuron_chunks()))
        found.append({**snapshot(run.path / "results"), **snapshot(run.path / "counts")})
    assert stretches[:3] == [1, 1, 29] and 1 < stretches[3] < 29 and len(run.positions["neuron"]) > 6
    for each in found[1:]:
        assert [name for name in each if each[name] != found[0][name]] == []


def test_an_interval_is_of_numbers_that_can_be(tmp_path: Path) -> None:
    """Neurons that are all just positional: in no replicate are there more than the layer has."""
    rng = np.random.default_rng(3)
    rates = np.where(np.arange(32) % 8 < 4, 0.33, 0.67)
    corpus = draw_corpus(rng, 60, 32, [0] * 60, 1)
    run = Drawn(corpus, (rng.random((12, 60, 32)) < rates)[None], [0], 2).run(tmp_path / "r.zarr", only=["positions"])
    table = run.positions
    assert table.tiling["share"] > 0.9 and table.tiling["share_low"] < 0.9
    assert table.tiling["share_high"] <= 1 and (table.by_layer["count_high"] <= 12).all()
    assert (table.overall["count_high"] <= 12).all() and (table.total[2] or 0) <= 12


def test_the_embedded_model(tmp_path: Path) -> None:
    """Positional neurons of the demonstration's model, and others, on text in two labels."""
    from neurolens.checkpoint import Checkpoint
    from neurolens.collect import collect
    from neurolens.demo.demonstrate import MODEL

    text = Path(argparse.__file__).read_text(encoding="utf-8")
    documents = [Document(part, "ab"[i % 3 == 0], 0, i) for i, part in enumerate(text[:20_000].split("\n\n"))]
    corpus = pack_documents(documents, Checkpoint(MODEL).encoder(), positions=64, tokens=1280)
    collect(MODEL, corpus, tmp_path / "r.zarr", batch_tokens=512, block_tokens=512, layers=[0])
    asked = Asked(near=0.9)
    analyze_run(tmp_path / "r.zarr", only=["positions"], positions=rules_of(asked), bootstrap=BOOTSTRAP)
    run = open_run(tmp_path / "r.zarr")
    active = np.zeros((1, run.store.neurons, run.store.n_tokens), bool)
    bits = np.unpackbits(run.store.read("layers/00/active"), axis=1, bitorder="little")
    active[0][:, run.store.read("order")] = bits[:, : run.store.n_tokens]
    drawn = Drawn(corpus, active.reshape(1, -1, *corpus.shape), [0], 8)
    near = run.neurons["position_mi_corrected"][0] > 0.044
    near[np.random.default_rng(0).choice(len(near), 60)] = True
    seen = check(run, drawn, asked, BOOTSTRAP, [np.flatnonzero(near)])
    assert near.sum() < 200 and seen["other weak"] > 9 and seen["one_extreme strong"]
    assert seen["near, and found in a replicate"] > 9 and seen["lost in a replicate"] > 9
