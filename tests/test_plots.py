"""Plots: what is drawn equals numbers worked out here; every figure draws, says what it lacks, saves the same."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

from neurolens import NeurolensError, UsageError
from neurolens.activity import dead_upper_bound
from neurolens.curves import PositionRules
from neurolens.examples import Example, Examples, Token, spread
from neurolens.plots import FIGURES, draw, drawable, save, sheet
from neurolens.plots.positions import COLOUR
from neurolens.plots.text import glyphs, run_names, token_text, width
from neurolens.tables import STRENGTHS, SUPPORT, TYPES, ByLabel, ByLayer, Neurons, Positions, Table

RULES = {
    "max_covering": 5, "max_covering_ngrams": 50, "coverage": 95, "min_rate": 95, "min_occurrences": 1,
    "support_occurrences": 5, "support_activations": 100, "null_neurons": 99, "null_tokens": 49, "fold_norm": False,
}  # fmt: skip
HOSTILE = [
    "$\\frac{1}{$^_x_", "_underscore", "W" * 300, "a\n\x1b[31mb\u202ec\ud800</svg>&amp;",
    "\U0001f9e0中" * 40, "", "same", "same",
]  # fmt: skip


def table(
    name: str = "run", *, depth: int = 4, layers: Sequence[int] | None = None, neurons: int = 60, tokens: int = 400,
    seed: int = 0, rules: dict | None = None,
) -> Neurons:  # fmt: skip
    """A table as analysis would write it, of random bits; its columns are consistent with each other."""
    rng = np.random.default_rng(seed)
    layers = range(depth) if layers is None else layers
    bits = rng.random((len(layers), neurons, tokens)) < rng.choice([0, 0.002, 0.3], (len(layers), neurons, 1))
    separator = np.arange(tokens) % 50 == 0
    bits[:, :3] &= separator
    dead, on_text = ~bits.any(-1), (bits & ~separator).any(-1)
    columns = {
        "frequency": bits.mean(-1) if tokens else np.zeros(dead.shape),
        "dead": dead,
        "dead_but_bos": ~dead & ~on_text,
        "first_active": np.where(dead, -1, bits.argmax(-1)) if tokens else np.full(dead.shape, -1),
    }
    for gram in ("unigram", "bigram", "trigram"):
        number = rng.choice([1, 5, 6, 50, 51, 500, 501, 5000, 5001, 50000, 50001, 99999], dead.shape)
        detector = on_text & (rng.random(dead.shape) < 0.3)
        supported = detector & (rng.random(dead.shape) < 0.5)
        columns |= {f"{gram}s_95": np.where(on_text, number, 0)}
        columns |= {f"{gram}_detector": detector, f"{gram}_detector_supported": supported}
    return as_table(name, columns, layers, depth, tokens, rules or RULES)


def as_table(name: str, columns: dict, layers: Sequence[int], depth: int, tokens: int, rules: dict) -> Neurons:
    neurons = next(iter(columns.values())).shape[1]
    return Neurons(
        name, layers=layers, neurons=neurons, model_layers=depth, n_tokens=tokens, rules=rules, names=list(columns),
        read=columns.__getitem__,
    )  # fmt: skip


def silent(name: str = "silent", *, depth: int = 4, neurons: int = 1536, tokens: int = 1000) -> Neurons:
    """A table of a model in which no neuron is ever active."""
    whole = table(name, depth=depth, neurons=neurons, tokens=0)
    return as_table(name, dict(whole), range(depth), depth, tokens, RULES)


def with_detectors(number: int) -> Neurons:
    """A table with so many token detectors, all in one layer, well supported, and no other ones."""
    columns = {name: np.zeros_like(column) if "detector" in name else column for name, column in table().items()}
    columns["unigram_detector"][2, :number] = columns["unigram_detector_supported"][2, :number] = True
    return as_table("run", columns, range(4), 4, 400, RULES)


def by_layer(run: Neurons, *, n: Sequence[int] = (1, 2, 3)) -> ByLayer:
    """What detectors of a table cover and suppress, made up; the figures are consistent with each other."""
    rng, shape = np.random.default_rng(len(run.layers)), (2, len(n), len(run.layers))
    columns = {name: np.zeros(shape, np.int64) for name in ("detectors", *COVERED)}
    overall = {name: np.zeros(shape[:2], np.int64) for name in ("detectors", "covered")}
    columns |= {name: np.full(shape, np.nan) for name in SHARES}
    overall |= {name: np.full(shape[:2], np.nan) for name in SHARES}
    for support, at in np.ndindex(*shape[:2]):
        suffix = ("", "_supported")[support]
        count = run[f"{('unigram', 'bigram', 'trigram')[n[at] - 1]}_detector{suffix}"].sum(1)
        seen: set[int] = set()
        last: set[int] = set()
        for layer, detectors in enumerate(count.tolist()):
            here = set(rng.integers(0, 100, 2 * detectors).tolist())
            values = (len(here), len(here - seen), len(here - last), len(seen | here))
            for name, value in zip(("detectors", *COVERED), (detectors, *values), strict=True):
                columns[name][support, at, layer] = value
            seen, last = seen | here, here
            if detectors:
                for name, share in zip(SHARES, shares(rng), strict=True):
                    columns[name][support, at, layer] = share
        overall["detectors"][support, at], overall["covered"][support, at] = count.sum(), len(seen)
        if count.any():
            for name, share in zip(SHARES, shares(rng), strict=True):
                overall[name][support, at] = share
    header = {key: getattr(run, key) for key in ("name", "layers", "model_layers", "n_tokens", "rules")}
    whole = Table(**header, coords={"support": SUPPORT, "n": n}, names=list(overall), read=overall.__getitem__)
    return ByLayer(**header, n=n, overall=whole, names=list(columns), read=columns.__getitem__)


COVERED = ("covered", "new", "new_to_previous", "cumulative")
SHARES = [f"{name}{end}" for name in ("suppressing", "null_neurons", "null_tokens") for end in ("", "_low", "_high")]


def shares(rng: np.random.Generator) -> list[float]:
    """A share with its interval, and two nulls with theirs."""
    middle, half = rng.uniform((0.7, 0.4, 0.4), (0.95, 0.6, 0.6)), rng.uniform((0.05, 0.01, 0.02), (0.3, 0.05, 0.1))
    return np.stack([middle, middle - half, np.minimum(1, middle + half)], axis=1).ravel().tolist()


TOKENS = [
    " the", "the", "The", " THE", "\n",
    "$\\frac{1}{$", "_", "W" * 300, "\u202e", "\U0001f9e0", "", "\x1b[31m", "␣", " ",
]  # fmt: skip


def examples(run: Neurons, *, count: int = 4) -> Examples:
    """Examples of a table's detectors, with made up tokens."""
    rng, found = np.random.default_rng(len(run.layers)), []
    supported = run["unigram_detector_supported"]
    for row, number in spread(supported.sum(1), count).items():
        for neuron in np.flatnonzero(supported[row])[:number].tolist():
            own = rng.choice(40, rng.integers(1, 5), replace=False).tolist()
            sides = own, rng.choice(40, 10, replace=False).tolist(), [*own, *range(60, 70 - len(own))]
            tokens = [tuple(Token(id_, id_ in own) for id_ in ids) for ids in sides]
            found.append(Example(int(run.layers[row]), neuron, int(rng.integers(100, 10**6)), *tokens))
    return Examples(
        run.name, run.layers, run.model_layers, run.n_tokens, run.rules, int(supported.sum()), tuple(found),
        lambda id_: TOKENS[id_] if id_ < len(TOKENS) else f" token{id_}",
    )  # fmt: skip


POSITION_RULES = {**asdict(PositionRules()), "replicates": 200, "seed": 0, "confidence": 0.95}
LABELS = ("code", "math", "prose")
ROWS = ("layer", "neuron", "type", "strength", "mi_corrected", "rough", "stability")  # columns of positional neurons


def positions(
    run: Neurons, *, number: Sequence[int] | None = None, length: int = 64, sequences: int = 40,
    kinds: Sequence[int] = (), rules: dict | None = None,
) -> Positions:  # fmt: skip
    """Positional neurons of a table's layers, made up: `number` of each layer, of all kinds or of `kinds`.

    A table in which nothing is active has none.
    """
    rng = np.random.default_rng(len(run.layers))
    if number is None:
        number = (rng.poisson(4, len(run.layers)) * bool(run["frequency"].any())).tolist()
    assert number is not None
    layer = np.repeat(run.layers, np.array(number, int)).astype(np.int32)
    rows = len(layer)
    neuron = np.concatenate([np.arange(n) for n in number] or [[]]).astype(np.int32)
    kind, strength = rng.choice(kinds or [1, 2, 3, 4], rows), rng.choice([1, 2], rows)
    ranges: dict[str, list] = {"row": [], "first": [], "stop": [], "always": []}
    chance = np.full((rows, length), 0.5)
    for row in range(rows):
        bounds = np.sort(rng.choice(np.arange(1, length), {1: 8, 2: 4, 3: 2, 4: 0}[int(kind[row])], replace=False))
        side = int(rng.integers(2))
        for i, (first, stop) in enumerate(bounds.reshape(-1, 2).tolist()):
            always = bool((i + side) % 2)
            chance[row, first:stop] = always
            for name, value in zip(ranges, (row, first, stop, always), strict=True):
                ranges[name].append(value)
    values = (layer, neuron, np.array(TYPES)[kind], np.array(STRENGTHS)[strength], rng.uniform(0.05, 0.6, rows))
    columns = dict(zip(ROWS, (*values, rng.random(rows) < 0.3, rng.random(rows)), strict=True))
    count = np.zeros((len(TYPES) - 1, len(STRENGTHS) - 1, len(run.layers)), np.int64)
    np.add.at(count, (kind - 1, strength - 1, np.searchsorted(run.layers, layer)), 1)
    covered, expected = rng.random((2, len(run.layers)))
    tiling = {"tiling_neurons": count[0, 1], "tiling_covered": covered, "tiling_expected": expected}
    whole = count.sum(-1)
    overall = {"count": whole, "count_low": 0.7 * whole, "count_high": 1.5 * whole + 0.5}
    header = {key: getattr(run, key) for key in ("name", "layers", "model_layers", "n_tokens")}
    header["rules"] = rules or POSITION_RULES
    curve = rng.binomial(sequences, chance).astype(np.uint16)

    def part(columns: dict, **coords: Any) -> Table:
        return Table(**header, coords=coords, names=list(columns), read=columns.__getitem__)

    return Positions(
        **header, rows=rows, sequences=sequences, neurons_per_layer=60, curve=lambda: curve, names=list(columns),
        ranges=lambda: {name: np.array(values) for name, values in ranges.items()}, read=columns.__getitem__,
        by_layer=part({"count": count}, type=TYPES[1:], strength=STRENGTHS[1:], layer=run.layers),
        overall=part(overall, type=TYPES[1:], strength=STRENGTHS[1:]), tiling=part(tiling, layer=run.layers),
        total=(rows, rows - 0.6, rows + 2.4) if sequences > 1 else (rows, None, None),
    )  # fmt: skip


def labelled(run: Neurons, *, names: Sequence[str] = LABELS, most: int = 9) -> ByLabel:
    """What labels differ in, made up: of each label and layer up to `most` neurons, half of them well supported."""
    rng, shape = np.random.default_rng(len(run.layers)), (len(names), len(run.layers))
    alive = bool(run["frequency"].any()) and len(names) > 1
    columns = {}
    for name in ("only", "silent"):
        columns[name] = rng.integers(0, most + 1, shape) * alive
        columns[f"{name}_supported"] = rng.binomial(columns[name], 0.5)
    header = {key: getattr(run, key) for key in ("name", "layers", "model_layers", "n_tokens")}
    header["rules"] = {"least_expected": 7.5, "confidence": 0.95}
    of_neurons = {"label_mi_corrected": rng.normal(0.02, 0.02, run["dead"].shape), "dead": run["dead"]}
    neurons = Neurons(**header, neurons=run.shape[1], names=list(of_neurons), read=of_neurons.__getitem__)
    return ByLabel(**header, labels=names, neurons=neurons, names=list(columns), read=columns.__getitem__)


KINDS: dict[str, Callable[[Neurons], Any]] = {
    "neurons": lambda run: run, "by_layer": by_layer, "examples": examples, "positions": positions,
    "contrast": labelled,
}  # fmt: skip
CASES: dict[str, Callable[[], list[Neurons]]] = {
    "one run": lambda: [table()],
    "three depths": lambda: [table("125m"), table("1.3b", depth=7, seed=1), table("66b", depth=64, neurons=8)],
    "a subset of layers": lambda: [table(layers=[0, 3], depth=12)],
    "one layer, one model of one layer": lambda: [table(layers=[2], depth=12), table(depth=1)],
    "no layer of the first half": lambda: [table(layers=[9, 10, 11], depth=12)],
    "no layer, no neuron, no token": lambda: [table("l", layers=[]), table("n", neurons=0), table("t", tokens=0)],
    "silent": lambda: [silent(depth=2)],
    "one detector": lambda: [with_detectors(1)],
    "hostile names": lambda: [table(name, depth=2, neurons=20, seed=i) for i, name in enumerate(HOSTILE[:4])],
}  # fmt: skip


VARIANTS = [name for name, spec in FIGURES.items() if spec.n > 1]  # as the figures of tokens, in other words
OF_POSITIONS = [name for name, spec in FIGURES.items() if spec.part == "positions"]
# cases for figures that look at these, or place names in their own way
AS_OTHERS = ("one run", "a subset of layers", "one layer, one model of one layer")
FIRST_HALF, ONE_DETECTOR, HOSTILE_NAMES = "no layer of the first half", "one detector", "hostile names"


def all_cases() -> list[tuple[str, str]]:
    """Figures and cases, without those in which a figure shows the same as in another case."""
    named = ("dead", "covering", "new-tokens", "examples", "positional-types", "positional-training", "contrast")
    return [
        (figure, case)
        for figure, spec in FIGURES.items()
        for case in (("three depths",) if figure in VARIANTS else CASES)
        if (case != FIRST_HALF or figure == "covering")
        and (case != ONE_DETECTOR or spec.part in ("ngrams", "updates"))
        and (case != HOSTILE_NAMES or figure in named)
        and (case not in AS_OTHERS or spec.part not in ("positions", "contrast"))
    ]


@cache
def drawn(figure: str, case: str) -> Figure:
    return draw(figure, of_kind(figure, CASES[case]()))


def of_kind(figure: str, runs: Sequence[Neurons]) -> list[Any]:
    """Tables of the kind that a figure draws."""
    return [KINDS[FIGURES[figure].table](run) for run in runs]


def words(figure: Figure) -> str:
    """Everything a figure says, lines joined: wrapping changes nothing."""
    return " ".join(" ".join(text.get_text().split()) for text in texts(figure))


def texts(figure: Figure) -> list[Text]:
    """Texts that are drawn: not the labels of ticks outside the axes, which matplotlib keeps at hand."""
    kept = set()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks() + axis.get_minor_ticks():
                if not low <= tick.get_loc() <= high:
                    kept |= {tick.label1, tick.label2}
    return [text for text in set(figure.findobj(Text)) - kept if text.get_visible() and text.get_text()]  # type: ignore


def points(line: Line2D) -> tuple[list[float], list[float]]:
    return np.asarray(line.get_xdata(), float).tolist(), np.asarray(line.get_ydata(), float).tolist()


def heights(ax: Axes) -> dict[int, list[float]]:
    """Of each layer's stacked bar, the shares from the bottom up; they stand on each other."""
    bars: dict[int, list[float]] = {}
    for patch in ax.patches:
        layer = round(patch.get_x() + patch.get_width() / 2)  # type: ignore[attr-defined]
        below = bars.setdefault(layer, [])
        assert patch.get_y() == pytest.approx(sum(below))  # type: ignore[attr-defined]
        below.append(patch.get_height())  # type: ignore[attr-defined]
    return bars


# What is drawn


def test_dead_is_percent_of_the_layer_and_its_companion_includes_those_on_separators_only():
    runs = CASES["three depths"]()
    lines = drawn("dead", "three depths").axes[0].get_lines()
    assert len(lines) == 6
    for run, solid, dashed in zip(runs, lines[:3], lines[3:], strict=True):
        x = [layer / (run.model_layers - 1) for layer in run.layers]
        dead = [100 * sum(row) / len(row) for row in run["dead"].tolist()]
        only = [100 * sum(row) / len(row) for row in run["dead_but_bos"].tolist()]
        np.testing.assert_allclose(points(solid), (x, dead))
        np.testing.assert_allclose(points(dashed), (x, np.add(dead, only)))
        assert any(only) and solid.get_linestyle() == "-" and dashed.get_linestyle() == "--"
        assert solid.get_color() == dashed.get_color() and solid.get_marker() == dashed.get_marker()


def test_frequency_is_the_mean_of_those_not_dead_and_has_no_point_where_all_are():
    run = table()
    columns = {"frequency": run["frequency"].copy(), "dead": run["dead"].copy()}
    columns["frequency"][2], columns["dead"][2] = 0, True
    line = draw("frequency", [as_table("r", columns, range(4), 4, 400, RULES)]).axes[0].get_lines()[0]
    for layer, y in enumerate(points(line)[1]):
        alive = [f for f, dead in zip(columns["frequency"][layer], columns["dead"][layer], strict=True) if not dead]
        assert y == pytest.approx(100 * sum(alive) / len(alive)) if alive else np.isnan(y)
    assert points(line)[0] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("figure", "column", "bins"),
    [
        ("covering", "unigrams_95", [(1, 5), (6, 50), (51, 500), (501, 5000), (5001, 10**9)]),
        ("covering-trigrams", "trigrams_95", [(1, 50), (51, 500), (501, 5000), (5001, 50000), (50001, 10**9)]),
    ],
)
def test_covering_bins_the_first_half_by_edges_that_belong_below(figure: str, column: str, bins: list):
    runs = CASES["three depths"]()
    axes = drawn(figure, "three depths").axes
    for run, ax in zip(runs, axes, strict=True):
        half = [layer for layer in range(run.model_layers) if 2 * layer < run.model_layers]
        assert len(half) == (run.model_layers + 1) // 2
        bars = heights(ax)
        assert sorted(bars) == half
        for layer in half:
            number = [n for n in run[column][layer].tolist() if n > 0]
            shares = [100 * sum(low <= n <= high for n in number) / max(1, len(number)) for low, high in bins]
            np.testing.assert_allclose(bars[layer], shares)
            assert sum(shares) == pytest.approx(100 if number else 0)


def test_covering_says_how_many_neurons_are_shown_and_left_out():
    run, half = table(), slice(0, 2)
    said = words(drawn("covering", "one run"))
    shown, dead, only = ((run["unigrams_95"] > 0)[half].sum(), run["dead"][half].sum(), run["dead_but_bos"][half].sum())
    assert f"{shown} shown; left out {dead} dead, {only} on </s> only" in said
    assert shown + dead + only == 2 * 60 and only > 0
    above = [text.get_text() for text in drawn("covering", "one run").axes[0].texts]
    assert above == [str(n) for n in (run["unigrams_95"] > 0)[half].sum(1)]


def test_covering_takes_other_edges():
    figure = draw("covering", [table()], edges=(10, 100))
    number = table()["unigrams_95"][0]
    number = number[number > 0]
    shares = [np.mean(number <= 10), np.mean((number > 10) & (number <= 100)), np.mean(number > 100)]
    assert heights(figure.axes[0])[0] == pytest.approx([100 * share for share in shares])
    assert "11–100" in words(figure) and "over 100" in words(figure)


@pytest.mark.parametrize(
    ("figure", "gram", "word"), [("detectors", "unigram", "token"), ("detectors-trigrams", "trigram", "trigram")]
)
def test_detectors_counts_all_and_supported(figure: str, gram: str, word: str):
    run = table()
    drawing = draw(figure, [run])
    solid, dashed = drawing.axes[0].get_lines()
    assert points(solid)[1] == [sum(row) for row in run[f"{gram}_detector"].tolist()]
    assert points(dashed)[1] == [sum(row) for row in run[f"{gram}_detector_supported"].tolist()]
    found, supported = run[f"{gram}_detector"].sum(), run[f"{gram}_detector_supported"].sum()
    assert f"{found} {word} detectors, {supported} well supported" in words(drawing)


@pytest.mark.parametrize(("figure", "at"), [("covered", 0), ("covered-trigrams", 2)])
def test_covered_counts_in_the_layer_and_up_to_it_for_both_levels_of_support(figure: str, at: int):
    runs = [by_layer(run) for run in CASES["three depths"]()]
    drawing = drawn(figure, "three depths")
    said, word = words(drawing), ("token", "", "trigram")[at]
    assert len(drawing.axes) == 2
    for support, ax in enumerate(drawing.axes):
        lines = ax.get_lines()
        for run, solid, dashed in zip(runs, lines[:3], lines[3:], strict=True):
            assert points(solid)[1] == run["covered"][support, at].tolist()
            assert points(dashed)[1] == run["cumulative"][support, at].tolist()
            assert solid.get_linestyle() == "-" and dashed.get_linestyle() == "--"
            assert points(solid)[0] == points(dashed)[0] == [x / (run.model_layers - 1) for x in run.layers]
    for run in runs:
        every, supported = run.overall["covered"][:, at]
        assert f"{every} distinct {word}s have a detector, {supported} a well supported one" in said
    assert runs[0]["covered"][0, at].tolist() != runs[0]["covered"][1, at].tolist()


@pytest.mark.parametrize(("figure", "at"), [("new-tokens", 0), ("new-trigrams", 2)])
def test_new_divides_what_a_layer_covers(figure: str, at: int):
    runs = [by_layer(run) for run in CASES["three depths"]()]
    axes = iter(drawn(figure, "three depths").axes)
    repeated = 0
    for run in runs:
        for support in (0, 1):
            bars = heights(next(axes))
            for layer in run.layers.tolist():
                new, against, every = (run[name][support, at, layer] for name in COVERED[1:3] + COVERED[:1])
                bottom, middle, top = bars[layer]
                assert (bottom, bottom + middle, bottom + middle + top) == (new, against, every)
                repeated += middle > 0 < top
    assert repeated and next(axes, None) is None


def test_suppression_shows_shares_beside_nulls_with_intervals_by_layer_and_over_all():
    runs = [by_layer(run) for run in CASES["three depths"]()]
    drawing = drawn("suppression", "three depths")
    axes = iter(drawing.axes)
    for run in runs:
        for support in (0, 1):
            ax, below = next(axes), next(axes)
            lines, bars = ax.get_lines(), ax.collections
            assert len(lines) == len(bars) == 6 and len({line.get_color() for line in lines}) == 3
            assert len({str(line.get_marker()) for line in lines}) == 3
            for i, line in enumerate(lines):
                source, place = (run.overall, np.s_[support, :1]) if i % 2 else (run, np.s_[support, 0])
                share, low, high = (100 * source[name][place] for name in SHARES[3 * (i // 2) :][:3])
                np.testing.assert_array_equal(points(line)[1], share)
                segments = np.array([path.vertices for path in bars[i].get_paths()])
                np.testing.assert_array_equal(segments[:, :, 1], np.stack([low, high], axis=1))
                there = np.isfinite(low)
                np.testing.assert_array_equal(segments[there, :, 0].T, [np.array(points(line)[0])[there]] * 2)
                if i % 2:
                    assert min(points(line)[0]) > run.model_layers - 1
                else:
                    assert [round(x) for x in points(line)[0]] == run.layers.tolist()
            assert [patch.get_height() for patch in below.patches] == run["detectors"][support, 0].tolist()  # type: ignore
            assert ax.get_xlim() == below.get_xlim()
    assert next(axes, None) is None
    assert any(np.isnan(run["suppressing"]).any() for run in runs)
    of = {name: float(runs[0].overall[name][1, 0]) for name in runs[0].overall}
    told = f"{of['detectors']:.0f} detectors, {of['suppressing']:.0%} ({100 * of['suppressing_low']:.0f}–"
    assert f"well supported: {told}" in words(drawing) and f"other tokens {of['null_tokens']:.0%}" in words(drawing)


def shown_tokens(ax: Axes) -> dict[str, list[tuple[str, bool]]]:
    """Of a table of examples: neuron → its tokens in reading order, each column after the other; whether dark."""
    rows = sorted(text.get_position()[1] for text in ax.texts if text.get_text().startswith("active "))
    neurons = [text for text in ax.texts if re.fullmatch(r"\d+\.\d+", text.get_text())]
    found: dict[str, list] = {text.get_text(): [] for text in neurons}
    starts = sorted(text.get_position()[1] for text in neurons)
    assert len(rows) == len(starts)
    name = {text.get_position()[1]: text.get_text() for text in neurons}
    columns = sorted(text.get_position()[0] for text in ax.texts if text.get_fontweight() == "bold")
    for text in ax.texts:
        if box := text.get_bbox_patch():
            x, y = text.get_position()
            row = max(start for start in starts if start <= y + 1e-6)
            column = max(left for left in columns if left <= x)
            dark = sum(to_rgb(box.get_facecolor())) < 1.5
            assert dark == (text.get_color() == "white")
            found[name[row]].append((column, y, x, text.get_text(), dark))
    return {neuron: [(text, dark) for *_, text, dark in sorted(tokens)] for neuron, tokens in found.items()}


@pytest.mark.parametrize("case", ["three depths", "hostile names", "one detector"])
def test_examples_show_triggers_promoted_and_suppressed_tokens_and_mark_the_triggers(case: str):
    runs = [examples(run) for run in CASES[case]()]
    drawing = drawn("examples", case)
    assert len(drawing.axes) == len(runs) and any(run.examples for run in runs)
    for run, ax in zip(runs, drawing.axes, strict=True):
        shown = shown_tokens(ax)
        assert list(shown) == [f"{example.layer}.{example.neuron}" for example in run.examples]
        for example, tokens in zip(run.examples, shown.values(), strict=True):
            every = [*example.triggers, *example.promoted, *example.suppressed]
            assert tokens == [(token_text(run.token(token.id), size=8.5), token.trigger) for token in every]
            assert f"active {example.activations:,}×" in [text.get_text() for text in ax.texts]
        suppress = sum(any(token.trigger for token in example.suppressed) for example in run.examples)
        promote = sum(any(token.trigger for token in example.promoted) for example in run.examples)
        assert (
            f"{len(run.examples)} of {run.detectors} well supported token detectors; {suppress} of these suppress a"
            f" trigger among the tokens shown, {promote} promote one"
        ) in words(drawing)


@pytest.mark.parametrize("case", ["three depths", "hostile names"])
def test_texts_of_examples_do_not_touch(case: str):
    drawing = drawn("examples", case)
    renderer = FigureCanvasAgg(drawing).get_renderer()
    for ax in drawing.axes:
        for text in ax.texts:
            text.update_bbox_position_size(renderer)
        boxes = [(text.get_bbox_patch() or text).get_window_extent(renderer) for text in ax.texts if text.get_text()]
        x0, y0, x1, y1 = np.array([box.extents for box in boxes]).T
        touch = (x0[:, None] < x1) & (x0 < x1[:, None]) & (y0[:, None] < y1) & (y0 < y1[:, None])
        assert touch.sum() == len(boxes)  # each itself


def test_of_many_triggers_the_first_are_shown_and_the_rest_counted():
    run = examples(table())
    triggers = tuple(Token(id_, True) for id_ in range(15, 26))
    figure = draw("examples", [replace(run, examples=(replace(run.examples[0], triggers=triggers),))])
    shown = [text for text, dark in shown_tokens(figure.axes[0]).popitem()[1] if dark]
    assert shown[:8] == [f"␣token{id_}" for id_ in range(15, 23)] and "␣token23" not in shown
    assert "and 3 more" in words(figure)


def test_saturation_counts_neurons_seen_by_each_number_of_tokens():
    run = table()
    figure = drawn("saturation", "one run")
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == [f"layer {layer}" for layer in run.layers]
    for layer, line in enumerate(lines):
        first = run["first_active"][layer]
        for tokens, y in zip(*points(line), strict=True):
            assert y == pytest.approx(100 * sum(0 <= f < tokens for f in first) / len(first))
        assert points(line)[0][-1] == run.n_tokens
        assert points(line)[1][-1] == pytest.approx(100 - 100 * run["dead"][layer].mean())
    late = sum(f >= 200 for f in run["first_active"].ravel())
    assert f"{late} first active in the second half of the tokens" in words(figure) and late > 0


def test_saturation_spreads_its_lines_over_many_layers():
    lines = drawn("saturation", "three depths").axes[2].get_lines()
    assert [line.get_label() for line in lines] == [f"layer {n}" for n in (0, 9, 18, 27, 36, 45, 54, 63)]


# Positions


def texts_of(ax: Axes) -> str:
    """What stands in an axes, lines joined."""
    return " ".join(" ".join(text.get_text().split()) for text in ax.texts)


def spans(ax: Axes) -> list[tuple[float, float, bool]]:
    """(first, stop, dark) of the shaded stretches of an axes, from the left."""
    shaded = [patch for patch in ax.patches if patch.get_zorder() == 0]
    return sorted(
        (patch.get_x(), patch.get_x() + patch.get_width(), to_rgb(patch.get_facecolor())[0] < 0.9)  # type: ignore
        for patch in shaded
    )


def test_types_show_the_clearest_neuron_of_each_kind_by_position():
    run = positions(table(), number=(20, 20, 0, 3))
    drawing = draw("positional-types", [run])
    kinds = [(kind, strength) for strength in ("strong", "weak") for kind in TYPES[1:]]
    assert len(drawing.axes) == 8
    width = 3  # 64 positions: not a 64th, but at least three
    for ax, kind in zip(drawing.axes, kinds, strict=True):
        own = [row for row in range(43) if (run["type"][row], run["strength"][row]) == kind]
        sure = [row for row in own if not run["rough"][row]] or own
        row = max(sure, key=lambda row: run["mi_corrected"][row])
        raw, smoothed = ax.get_lines()
        on = run.curve[row].tolist()
        assert points(raw) == (list(range(1, 64)), pytest.approx([100 * n / 40 for n in on[1:]]))
        for x, y in zip(*points(smoothed), strict=True):
            near = on[max(1, int(x) - 1) : min(64, int(x) + 2)]  # of width 3: the one before, itself, the one after
            assert y == pytest.approx(100 * sum(near) / len(near) / 40) and len(near) <= width
        mine = [i for i, of in enumerate(run.ranges["row"]) if of == row]
        first, stop, always = (run.ranges[name][mine] for name in ("first", "stop", "always"))
        assert spans(ax) == list(zip(first - 0.5, stop - 0.5, always.tolist(), strict=True))
        title = ax.get_title(loc="left").split("\n")
        assert f"{kind[0].replace('_', ' ')}, {kind[1]}" in title
        rough = ", rough" if run["rough"][row] else ""
        name = f"{run['layer'][row]}.{run['neuron'][row]}"
        assert title[-1] == f"{name}: {run['mi_corrected'][row]:.2f}, {run['stability'][row]:.0%}{rough}"
    assert sum(map(len, map(spans, drawing.axes))) > 8


def test_types_without_a_neuron_say_so_and_a_run_without_any_takes_one_panel():
    some = positions(table("some"), number=(1, 0, 0, 0), kinds=[1])
    drawing = draw("positional-types", [some, positions(silent(neurons=60)), some])
    assert len(drawing.axes) == 17
    for block in (drawing.axes[:8], drawing.axes[9:]):
        assert [texts_of(ax) for ax in block].count("no such neuron") == 7
        assert [len(ax.get_lines()) for ax in block].count(2) == 1
        assert block[0].get_title(loc="left").startswith("some")
    assert texts_of(drawing.axes[8]) == "none of 240 neurons is positional"
    assert drawing.axes[8].get_title(loc="left") == "silent"


def marks(ax: Axes) -> dict[tuple[str, bool], list[tuple[float, float, float]]]:
    """(marker, filled) → (x, y, size) of each mark."""
    found: dict[tuple[str, bool], list] = {}
    for line in ax.get_lines():
        filled = to_rgb(line.get_markerfacecolor()) != (1, 1, 1)  # type: ignore[arg-type]
        own = found.setdefault((str(line.get_marker()), filled), [])
        own += [(x, y, line.get_markersize()) for x, y in zip(*points(line), strict=True)]
    return found


MARKS = {(kind, strength): (marker, strength == "strong") for kind, marker in zip(TYPES[1:], "os^D", strict=True)
         for strength in ("weak", "strong")}  # fmt: skip


@pytest.mark.parametrize("case", ["three depths", "a subset of layers"])
def test_positional_has_a_mark_for_each_neuron_in_its_layer_and_numbers_above(case: str):
    runs = [positions(run) for run in CASES[case]()]
    drawing = drawn("positional", case)
    for run, ax in zip(runs, drawing.axes, strict=True):
        shown = marks(ax)
        for kind, mark in MARKS.items():
            for layer in run.layers.tolist():
                of = (run["layer"] == layer) & (run["type"] == kind[0]) & (run["strength"] == kind[1])
                assert sum(round(x) == layer for x, *_ in shown.get(mark, [])) == of.sum()
        places = [(x, y) for own in shown.values() for x, y, _ in own]
        assert len(places) == len(set(places)) == len(run["type"])
        numbers = {text.xy[0]: text.get_text() for text in ax.texts}  # type: ignore[attr-defined]
        assert numbers == {n: str((run["layer"] == n).sum()) for n in run.layers if (run["layer"] == n).any()}
    assert "A mark is a positional neuron in the layer;" in words(drawing)
    assert len({ax.get_ylim() for ax in drawing.axes}) == 1


@pytest.mark.parametrize(("number", "depth"), [((3000, 0, 2, 7), 4), ([300] * 30, 30), ([60] * 110, 110)])
def test_thousands_of_positional_neurons_stay_readable(number: Sequence[int], depth: int):
    run = positions(table(depth=depth, neurons=3), number=number, length=20)
    drawing = draw("positional", [run])
    (ax,) = drawing.axes
    stated = re.search(r"A mark is (\d+) positional neurons of one kind", words(drawing))
    assert stated
    each = int(stated[1])
    shown = marks(ax)
    for kind, mark in MARKS.items():
        sizes = sorted({size for *_, size in shown[mark]})
        for layer in range(depth):
            of = int(((run["layer"] == layer) & (run["type"] == kind[0]) & (run["strength"] == kind[1])).sum())
            mine = [size for x, _, size in shown[mark] if round(x) == layer]
            assert len(mine) == -(-of // each)
            assert of % each == 0 or sum(size < sizes[-1] for size in mine) <= 1
    drawing.draw_without_rendering()
    every = np.array([(x, y, size) for own in shown.values() for x, y, size in own])
    place = ax.transData.transform(every[:, :2]) * 72 / drawing.dpi  # points
    assert place[:, 1].max() < ax.get_window_extent().y1 * 72 / drawing.dpi
    if depth < 100:  # of these each layer has too little room
        order = np.lexsort((place[:, 0].round(3), place[:, 1].round(3)))
        apart = np.diff(place[order], axis=0)
        beside = np.abs(apart[:, 1]) < 1e-3
        assert apart[beside, 0].min() > 0.9 * every[:, 2].max() and every[:, 2].max() > 2.5
        numbers = [text.get_text() for text in ax.texts]
        assert numbers == [f"{n:,}" for n in number if n] and len(ax.get_yticks()) == 0
    else:
        assert not ax.texts and "Above" not in words(drawing) and len(ax.get_yticks()) > 0


def bars_of(ax: Axes) -> list[tuple[list[tuple[float, float]], float, str]]:
    """Of each row of broken bars (first, stop) of its bars, its middle and its colour."""
    rows = []
    for collection in ax.collections:
        boxes = [path.get_extents() for path in collection.get_paths()]
        if boxes:
            middle = (boxes[0].y0 + boxes[0].y1) / 2
            rows.append(([(box.x0, box.x1) for box in boxes], middle, str(to_rgb(collection.get_facecolor()[0]))))  # type: ignore
    return rows


def test_ranges_of_always_of_the_layer_with_the_most_stand_on_each_other():
    run = positions(table(), number=(5, 30, 2, 0), kinds=[1, 1, 2])
    drawing = draw("position-ranges", [run])
    ax, beside = drawing.axes
    mine = (run["layer"] == 1) & (run["type"] == "oscillatory") & (run["strength"] == "strong")
    ranges: dict[int, list[tuple[float, float]]] = {}
    for row in np.flatnonzero(mine).tolist():
        columns = ("first", "stop", "always")
        each = [*zip(*(run.ranges[name][run.ranges["row"] == row].tolist() for name in columns), strict=True)]
        level = np.full(run.positions, each[0][2])  # from turn to turn: halfway between ranges that differ
        for (_, stop, was), (first, _, now) in pairwise(each):
            if was != now:
                level[(stop + first) // 2 :] = now
        level[0] = False
        edges = np.flatnonzero(np.diff(level.astype(int), prepend=0, append=0)).tolist()
        ranges[row] = [(first - 0.5, stop - 0.5) for first, stop in zip(edges[::2], edges[1::2], strict=True)]
    *rows, together = bars_of(ax)
    assert len(rows) == mine.sum() > 3
    assert sorted(bars for bars, *_ in rows) == sorted(ranges.values())
    assert [bars[0][0] for bars, *_ in rows] == sorted(bars[0][0] for bars in ranges.values())  # from the top
    assert sorted(together[0]) == sorted(bar for bars in ranges.values() for bar in bars)
    heights = [y for _, y, _ in (*rows, together)]
    assert heights == sorted(heights) and ax.yaxis_inverted()
    named = [label.get_text() for label in ax.get_yticklabels()]
    assert sorted(named[:-1]) == sorted(f"1.{neuron}" for neuron in run["neuron"][mine]) and named[-1] == "any"
    chance, covered = beside.get_lines()
    some = run.tiling["tiling_neurons"] > 0
    for line, column in ((chance, "tiling_expected"), (covered, "tiling_covered")):
        np.testing.assert_allclose(points(line), (run.layers[some], 100 * run.tiling[column][some]))
    assert to_rgb(chance.get_markerfacecolor()) == (1, 1, 1)  # type: ignore[arg-type]
    share, expected = (float(run.tiling[f"tiling_{name}"][1]) for name in ("covered", "expected"))
    told = f"layer 1: {mine.sum()} strong oscillatory neurons, all together cover {share:.0%} of the positions,"
    assert f"{told} {expected:.0%} by chance" in words(drawing)
    assert ax.get_title(loc="left") == "run: layer 1"


def test_of_many_ranges_those_of_the_most_information_are_drawn_and_a_layer_can_be_chosen():
    run = positions(table(), number=(5, 90, 0, 0), kinds=[1])
    mine = np.flatnonzero((run["layer"] == 1) & (run["strength"] == "strong"))
    drawing = draw("position-ranges", [run], most=7)
    best = sorted(mine, key=lambda row: -run["mi_corrected"][row])[:7]
    named = {label.get_text() for label in drawing.axes[0].get_yticklabels()}
    assert named == {"any", *(f"1.{run['neuron'][row]}" for row in best)}
    assert f"{len(mine)} strong oscillatory neurons, the 7 of them with the most information are drawn" in words(
        drawing
    )
    first = draw("position-ranges", [run], layer=0)
    assert first.axes[0].get_title(loc="left") == "run: layer 0"
    none = draw("position-ranges", [run], layer=3)
    assert texts_of(none.axes[0]) == "no strong oscillatory neuron in layer 3"
    assert points(none.axes[1].get_lines()[0])[0] == [0, 1]


def test_training_shows_how_many_of_each_kind_a_run_has_in_the_order_given_with_intervals():
    runs = [positions(run) for run in (table("b"), table("a", depth=7), silent("none", neurons=60))]
    drawing = draw("positional-training", runs)
    for ax, kind in zip(drawing.axes, TYPES[1:], strict=True):
        assert ax.get_title(loc="left") == kind.replace("_", " ")
        shown = []
        for i, strength in enumerate(("strong", "weak")):
            bars, lines = ax.patches[3 * i : 3 * i + 3], ax.collections[i]
            count = [int(((run["type"] == kind) & (run["strength"] == strength)).sum()) for run in runs]
            assert [bar.get_height() for bar in bars] == count  # type: ignore[attr-defined]
            assert [bool(bar.get_hatch()) for bar in bars] == [strength == "weak"] * 3  # by more than hue
            for at, (bar, path) in enumerate(zip(bars, lines.get_paths(), strict=True)):
                middle = bar.get_x() + bar.get_width() / 2  # type: ignore[attr-defined]
                assert round(middle) == at
                expected = [(middle, 0.7 * count[at]), (middle, 1.5 * count[at] + 0.5)]
                np.testing.assert_allclose(np.asarray(path.vertices, float), expected)
                assert ax.get_ylim()[1] > 1.5 * count[at] + 0.5
            shown += [str(number) for number in count if number]
        assert [text.get_text() for text in ax.texts] == shown
    for run in runs:
        number = len(run["type"])
        number = f"{number} (95%: {number - 1}–{number + 2})" if number else "0"
        told = f"{number} of {60 * len(run.layers)} neurons positional"
        scope = f"{run.name}: {len(run.layers)} layers, {run.n_tokens:,} tokens; 40 sequences of 64; {told}"
        assert scope in words(drawing)
    assert [label.get_text() for label in drawing.axes[2].get_xticklabels()] == ["b", "a", "none"]
    assert "95% intervals" in words(drawing)
    assert len({patch.get_hatch() for ax in drawing.axes for patch in ax.patches}) == 5


def test_types_differ_in_grey():
    linear = [c for kind in TYPES[1:] for c in [to_rgb(COLOUR[kind])]]
    grey = sorted(float(np.dot([0.299, 0.587, 0.114], colour)) for colour in linear)
    assert min(np.diff(grey)) > 0.09 and len(set(MARKS.values())) == 8


def test_what_positional_means_is_told_by_the_rules_of_the_runs():
    said = words(drawn("positional", "three depths"))
    for part in (
        "less what it is by chance, is above 0.05", "w is 3", "(≤ 5%)", "(≥ 95%)", "at least 3×",
        "≤ 0.5% or ≥ 99.5%", "p > 0.05", "Position 0, </s>, is left out", "Rough ones have so few",
    ):  # fmt: skip
        assert part in said, part
    other = {**POSITION_RULES, "threshold": 0.07, "exact": 0.01, "windows": 8}
    runs = [positions(table("a")), positions(table("b"), rules=other, length=128, sequences=9)]
    for figure in OF_POSITIONS:
        said = words(draw(figure, runs))
        a, b = said.split("• a:")[1].split("• b:")
        assert "rules differ" in said and "above 0.05" in a and "above 0.07" in b and "≥ 99%" in b
        assert "w is 3 or 16" in a
        assert "9 sequences of 128" in b and "so few sequences tell little" in b and "so few" not in a


def test_two_stages_over_depth_are_told():
    run = positions(table(depth=6), number=(6, 6, 6, 0, 0, 0), kinds=[4])
    assert "cut in two between layers 2 and 3, where numbers and types differ most" in words(draw("positional", [run]))
    assert "cut in two" not in words(drawn("positional", "silent"))


@pytest.mark.parametrize("figure", OF_POSITIONS)
def test_positions_without_any_say_so(figure: str):
    said = {"position-ranges": "no strong oscillatory neuron in 2 layers", "positional-training": "no such neuron"}
    drawing = drawn(figure, "silent")
    assert texts_of(drawing.axes[0]) == said.get(figure, "none of 120 neurons is positional")
    assert "0 of 120 neurons positional" in words(drawing)


# Labels


def test_contrast_counts_neurons_of_one_label_and_of_all_but_one_and_how_much_labels_tell():
    runs = [labelled(run) for run in CASES["three depths"]()]
    axes = iter(drawn("contrast", "three depths").axes)
    for run in runs:
        for column in ("only", "silent"):
            lines = next(axes).get_lines()
            for i, (solid, dashed) in enumerate(zip(lines[:3], lines[3:], strict=True)):
                size = run.neurons.shape[1]
                np.testing.assert_allclose(points(solid), (run.layers, 100 * run[f"{column}_supported"][i] / size))
                np.testing.assert_allclose(points(dashed), (run.layers, 100 * run[column][i] / size))
                assert solid.get_marker() == dashed.get_marker() and solid.get_color() == dashed.get_color()
                assert solid.get_linestyle() == "-" and dashed.get_linestyle() == "--"
        for share, line in zip((0.5, 0.9, 0.99), next(axes).get_lines(), strict=True):
            for layer, y in zip(*points(line), strict=True):
                at = run.layers.tolist().index(int(layer))
                alive = run.neurons["label_mi_corrected"][at][~run.neurons["dead"][at]]
                assert y == pytest.approx(np.quantile(alive, share)) if len(alive) else np.isnan(y)
    assert next(axes, None) is None
    said = words(drawn("contrast", "three depths"))
    assert "as 7.5 activations or more were to be expected" in said and "Shades" not in said
    count = [runs[0][name].sum() for name in ("only", "only_supported", "silent", "silent_supported")]
    told = "3 labels; {} neurons active in one label only ({} well supported), {} in all but one ({} well supported)"
    assert told.format(*count) in said


@pytest.mark.parametrize("count", [2, 5, 6, 12, 30])
def test_any_number_of_labels_is_shown(count: int):
    names = [f"label {i}" for i in range(count)]
    run = labelled(table(layers=[0, 3], depth=5), names=names)
    drawing = draw("contrast", [run])
    left = drawing.axes[0]
    legends = [text.get_text() for box in drawing.findobj(Legend) for text in box.get_texts()]  # type: ignore
    if count <= 5:
        assert len(left.get_lines()) == 2 * count and set(names) < set(legends)
        return
    number = run["only"].sum(1) + run["silent"].sum(1)
    kept = sorted(sorted(range(count), key=lambda i: (-number[i], i))[:24])
    (mesh,) = left.collections
    shades = np.ma.filled(np.ma.asarray(mesh.get_array()), np.nan)
    assert shades.shape == (len(kept), 5) and np.isnan(shades[:, [1, 2, 4]]).all()
    np.testing.assert_allclose(shades[:, [0, 3]], 100 * run["only_supported"][kept] / 60)
    assert [label.get_text() for label in left.get_yticklabels()] == [names[i] for i in kept]
    assert left.yaxis_inverted() and left.get_xlim() == (-0.5, 4.5)
    assert not set(names) & set(legends)
    assert ("30 labels, the 24 with the most such neurons shown" in words(drawing)) == (count == 30)


@pytest.mark.parametrize("count", [4, 8])
def test_hostile_labels_are_shown_escaped_and_apart(count: int, tmp_path: Path):
    drawing = draw("contrast", [labelled(table("a"), names=HOSTILE[:count]), labelled(table("b"))])
    (path,) = save(drawing, tmp_path, "contrast", formats=["svg"])
    ElementTree.fromstring(path.read_text(encoding="utf-8"))
    shown = [text.get_text() for box in drawing.findobj(Legend) for text in box.get_texts()]  # type: ignore
    shown += [label.get_text() for label in drawing.axes[0].get_yticklabels()]
    assert {HOSTILE[0], "_underscore"} <= set(shown)
    if count == 8:
        assert {"(no name)", "same", "same (2)"} <= set(shown)
    for text in texts(drawing):
        assert text.get_text().replace("\n", "").isprintable() and not text.get_parse_math()


def test_one_label_and_silent_neurons_leave_nothing_to_compare():
    drawing = draw("contrast", [labelled(table(), names=["x"])])
    assert [texts_of(ax) for ax in drawing.axes] == ["one label: nothing to compare"] * 3
    quiet = [texts_of(ax) for ax in drawn("contrast", "silent").axes]
    assert quiet == ["no such neuron", "no such neuron", "no neuron is ever active"]


# Intervals


def with_intervals(run: Neurons, *, confidence: float = 0.9) -> Neurons:
    """The same table with intervals of what its layers have, made up."""
    rng, columns = np.random.default_rng(3), {}
    values = {"dead": run["dead"].mean(1), "frequency": np.where(run["dead"].all(1), np.nan, run["frequency"].mean(1))}
    for name, value in values.items():
        columns[name] = value
        columns[f"{name}_low"], columns[f"{name}_high"] = value * rng.uniform(0.5, 1), value * rng.uniform(1, 2.5)
    header = {key: getattr(run, key) for key in ("name", "layers", "model_layers", "n_tokens")}
    activity = Table(
        **header, rules={"confidence": confidence}, coords={"layer": run.layers.tolist()}, names=list(columns),
        read=columns.__getitem__,
    )  # fmt: skip
    return Neurons(
        **header, rules=run.rules, neurons=run.shape[1], names=list(run), read=run.__getitem__, activity=activity
    )


@pytest.mark.parametrize("figure", ["dead", "frequency"])
def test_intervals_are_thin_bars_of_the_runs_that_have_them(figure: str):
    runs = [table("a"), with_intervals(table("b", depth=7, seed=1)), with_intervals(table("c", seed=2))]
    drawing = draw(figure, runs)
    (ax,) = drawing.axes
    assert len(ax.collections) == 2
    for run, line, bars in zip(runs[1:], ax.get_lines()[1:3], ax.collections, strict=True):
        assert run.activity is not None
        low, high = (100 * run.activity[f"{figure}_{end}"] for end in ("low", "high"))
        segments = np.array([path.vertices for path in bars.get_paths()])
        np.testing.assert_allclose(segments[:, :, 1], np.stack([low, high], axis=1))
        np.testing.assert_allclose(segments[:, 0, 0], points(line)[0])
        assert ax.get_ylim()[1] > high.max() and to_rgb(bars.get_edgecolor()[0]) == to_rgb(line.get_color())  # type: ignore
    assert "Thin bars, where longer than the mark: 90% intervals" in words(drawing)
    assert "Thin bars" not in words(drawn(figure, "three depths"))


# Axes and captions


def test_layers_are_the_axis_for_runs_of_one_depth_and_relative_depth_otherwise():
    same = draw("dead", [table("a"), table("b", layers=[0, 3], seed=1)]).axes[0]
    assert same.get_xlabel().startswith("layer") and same.get_xlim() == (-0.5, 3.5)
    assert points(same.get_lines()[1])[0] == [0, 3]
    assert "number of layers − 1" in drawn("dead", "three depths").axes[0].get_xlabel()


def test_captions_state_model_tokens_layers_and_thresholds():
    said = words(drawn("dead", "a subset of layers"))
    assert "run: 2 of 12 layers (0, 3) × 60 neurons, 400 tokens" in said
    assert f"frequency ≤ {dead_upper_bound(400):.1e}" in said and "95% confidence" in said
    assert f"{dead_upper_bound(400, confidence=0.5):.1e}" in words(draw("dead", [table()], confidence=0.5))
    said = words(drawn("detectors", "one run"))
    assert all(part in said for part in ("at most 5 distinct", "95% of the time", "at least 1×", "5×", "at least 100×"))
    assert "account for 95% of its activations" in words(drawn("covering", "one run"))
    said = words(draw("covering", [table(rules={**RULES, "coverage": 90})]))
    assert "account for 90% of its activations" in said


def test_what_was_asked_of_the_updates_is_told():
    said = words(drawn("suppression", "one run"))
    assert "for 99 alive neurons" in said and "with 49 sets of other tokens" in said and "gain" not in said
    folded = table("b", rules={**RULES, "fold_norm": True, "null_tokens": 7})
    said = words(draw("examples", of_kind("examples", [folded])))
    assert "(the gain of the final norm folded in)." in said
    said = words(draw("suppression", of_kind("suppression", [table("a"), folded])))
    assert "(the gain of the final norm folded in for some runs)." in said and "with 7 or 49 sets" in said


def test_rules_that_differ_are_told_by_run():
    said = words(draw("detectors", [table("a"), table("b", rules={**RULES, "max_covering": 7})]))
    a, b = said.split("• a:")[1].split("• b:")
    assert "at most 5 distinct" in a and "at most 7 distinct" in b


@pytest.mark.parametrize(
    ("figure", "case", "sentence"),
    [
        ("frequency", "silent", "none of 3,072 neurons is ever active"),
        ("covering", "silent", "none of 1,536 neurons is active on text"),
        ("covering", "no layer of the first half", "no layer of the first half of the network was recorded"),
        ("detectors", "silent", "no token detectors among 3,072 neurons"),
        ("detectors-trigrams", "silent", "no trigram detectors among 3,072 neurons"),
        ("covering-bigrams", "silent", "none of 1,536 neurons is active on text"),
        ("covered", "silent", "no token has a well supported detector"),
        ("covered-trigrams", "one detector", "no trigram has a well supported detector"),
        ("new-tokens", "silent", "no token has a well supported detector"),
        ("new-tokens", "one detector", None),
        ("saturation", "silent", "none of 3,072 neurons is ever active"),
        ("saturation", "no layer, no neuron, no token", "none of 240 neurons is ever active"),
        ("saturation", "one run", None),
    ],
)
def test_a_figure_with_nothing_to_show_says_so_in_its_axes(figure: str, case: str, sentence: str | None):
    axes = drawn(figure, case).axes
    ax = axes[-1]
    said = " ".join(" ".join(text.get_text().split()) for text in ax.texts)
    assert sentence in said if sentence else "none of" not in said and "no " not in said
    assert ax.axison and ax.get_xlabel() and any(ax.get_ylabel() for ax in axes)


def test_suppression_and_examples_without_detectors_say_so():
    figure = drawn("suppression", "silent")
    said = ["no token has a detector", "no token has a well supported detector"]
    assert [" ".join(ax.texts[0].get_text().split()) for ax in figure.axes[::2]] == said
    assert "all by the rules: 0 detectors; well supported: 0 detectors." in words(figure)
    assert "no well supported token detector in 2 layers" in words(drawn("examples", "silent"))
    assert "0 of 0 well supported" in words(drawn("examples", "silent"))
    assert "no token has" not in words(drawn("suppression", "one detector"))


def test_no_dead_neurons_is_said():
    run = table()
    alive = as_table("r", dict.fromkeys(run, np.zeros((4, 60), bool)), range(4), 4, 9, RULES)
    assert "no dead neurons among 240 neurons" in words(draw("dead", [alive]))


@pytest.mark.parametrize(("figure", "case"), all_cases())
def test_everything_fits_and_legends_cover_no_data(figure: str, case: str):
    drawing = drawn(figure, case)
    whole, renderer = drawing.bbox, FigureCanvasAgg(drawing).get_renderer()
    drawing.draw_without_rendering()  # places the texts of legends
    assert drawing.axes
    for text in texts(drawing):
        box = text.get_window_extent(renderer)
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= whole.x1 + 1 and box.y1 <= whole.y1 + 1, text
        assert float(text.get_fontsize()) >= 8 and not text.get_parse_math()
        assert text.get_text().replace("\n", "").isprintable()
    for legend in drawing.findobj(Legend):
        for ax in drawing.axes:
            assert not legend.get_window_extent(renderer).overlaps(ax.get_window_extent().padded(-1))  # type: ignore[attr-defined]
    title, caption = (text.get_window_extent(renderer) for text in drawing.texts)
    for ax in drawing.axes:
        box = ax.get_tightbbox(renderer)
        assert box is not None and box.y0 >= caption.y1 and box.y1 <= title.y0 + 1


def test_one_layer_shows_a_marker():
    for figure in ("dead", "frequency", "detectors"):
        for line in drawn(figure, "one layer, one model of one layer").axes[0].get_lines():
            assert line.get_marker() not in ("", "None") and len(points(line)[0]) == 1


def test_runs_are_told_apart_without_colour():
    linear = [
        [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(x)] for x in sheet.COLOURS[:5]
    ]
    lightness = sorted(116 * max(0.008856, np.dot([0.2126, 0.7152, 0.0722], c)) ** (1 / 3) - 16 for c in linear)
    assert min(np.diff(lightness)) >= 11 and lightness[-1] < 75  # and none vanishes on white
    runs = [table(str(i), depth=1, neurons=2) for i in range(56)]
    lines = draw("frequency", runs).axes[0].get_lines()
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 56


# Names


def test_hostile_names_are_shown_escaped_and_apart():
    names = run_names([table(name, depth=1, neurons=1) for name in HOSTILE])
    assert names[0] == HOSTILE[0] and names[1] == "_underscore" and names[5] == "(no name)"
    assert names[3].startswith(r"a\n\x1b[31mb") and names[3].endswith("&amp;")
    assert names[6:] == ["same", "same (2)"] and all("…" in names[i] for i in (2, 4))
    legend = drawn("dead", "hostile names").findobj(Legend)[-1]
    assert [text.get_text() for text in legend.get_texts()] == names[:4]  # type: ignore[attr-defined]


def test_a_name_that_looks_numbered_stays_apart():
    names = run_names([table(name, depth=1, neurons=1) for name in ("a", "a (3)", "a", "a", "a (2)")])
    assert len(set(names)) == 5 and names[:3] == ["a", "a (3)", "a (2)"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(), max_size=80), min_size=1, max_size=3))
def test_any_name_is_printable_short_and_unique(given_names: list[str]):
    names = run_names([table(name, depth=1, neurons=1, tokens=1) for name in given_names])
    assert len(set(names)) == len(names)
    for name in names:
        assert name.strip() and name.isprintable() and len(name) < 100
        assert all(ord(c) in glyphs() for c in name)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(), max_size=200))
def test_any_token_is_printable_short_and_not_empty(text: str):
    shown = token_text(text)
    assert shown and shown.isprintable() and " " not in shown and width(shown) <= 1
    assert all(ord(c) in glyphs() for c in shown)


def test_tokens_show_their_spaces_and_what_is_no_text():
    assert [token_text(text) for text in (" the", "\n", "", "␣", "a b ", "\u202e$x$", "\\x")] == [
        "␣the", "\\n", '""', "\\u2423", "a␣b␣", "\\u202e$x$", "\\x",
    ]  # fmt: skip


# Files


@pytest.mark.parametrize("figure", [figure for figure in FIGURES if figure not in VARIANTS])
def test_saved_twice_is_the_same_bytes_whatever_the_settings(figure: str, tmp_path: Path):
    runs = [table("a $x$"), table("b", seed=1)] if figure in ("dead", "covered") else [table("a $x$")]
    first = save(draw(figure, of_kind(figure, runs)), tmp_path / "one", figure)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "other", "savefig.dpi": 20}):
        before = dict(matplotlib.rcParams)
        drawing = draw(figure, of_kind(figure, runs))
        second = save(drawing, tmp_path / "two", figure)
        if figure == "dead":  # a figure survives being saved
            save(drawing, tmp_path / "two", figure)
        assert dict(matplotlib.rcParams) == before
    assert [path.name for path in first] == [f"{figure}.png", f"{figure}.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [f"{figure}.png", f"{figure}.svg"]
    with Image.open(first[0]) as image:
        image.load()
        assert image.format == "PNG" and image.width == round(sheet.WIDTH * sheet.DPI) and "Software" not in image.info
        grey = np.asarray(image.convert("L"))
        assert grey.min() < 60 and grey.max() == 255
    root = ElementTree.fromstring(first[1].read_text(encoding="utf-8"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "date>" not in first[1].read_text(encoding="utf-8")


def test_a_notebook_shows_a_figure_as_it_is_saved(tmp_path: Path):
    """IPython asks for a PNG and how large to show it."""
    figure = draw("dead", [table()])
    png, shown = figure._repr_png_()  # type: ignore[attr-defined]
    assert [path.read_bytes() for path in save(figure, tmp_path, "dead", ["png"])] == [png]
    assert shown == {"width": 720}
    with Image.open(tmp_path / "dead.png") as image:
        assert image.width == 1152


def test_hostile_names_make_valid_files(tmp_path: Path):
    png, svg = save(drawn("dead", "hostile names"), tmp_path / "new" / "folder", "dead")
    with Image.open(png) as image:
        image.load()
    ElementTree.fromstring(svg.read_text(encoding="utf-8"))


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "dead.png").write_bytes(b"old")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        save(drawn("dead", "one run"), tmp_path, "dead", formats=["png"])
    assert [path.name for path in tmp_path.iterdir()] == ["dead.png"]
    assert (tmp_path / "dead.png").read_bytes() == b"old"


def test_only_the_formats_asked_for(tmp_path: Path):
    assert [path.name for path in save(drawn("dead", "one run"), tmp_path, "x", formats=("svg",))] == ["x.svg"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.svg"]


# Requests that cannot be meant


def test_registry_names_the_paper_figures():
    assert {name: spec.paper for name, spec in FIGURES.items()} == {
        "dead": "1a", "frequency": "1b", "covering": "2", "covering-bigrams": "12", "covering-trigrams": "13",
        "detectors": "3a", "covered": "3b", "new-tokens": "4", "detectors-trigrams": "14", "covered-trigrams": "15",
        "new-trigrams": "15", "examples": "5", "positional-types": "7", "positional": "8, 16", "position-ranges": "9",
        "positional-training": "10, 11", "contrast": "ours", "suppression": "ours", "saturation": "ours",
    }  # fmt: skip
    assert len({spec.title for spec in FIGURES.values()}) == len(FIGURES)


def test_what_cannot_be_drawn_or_saved_is_refused_with_what_can(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no figure fig\\n1; expected one of dead, frequency, covering"):
        draw("fig\n1", [table()])
    with pytest.raises(UsageError, match="at least one analysed run"):
        draw("dead", [])
    with pytest.raises(UsageError, match="no format pdf; expected png or svg"):
        save(drawn("dead", "one run"), tmp_path, "dead", formats=["png", "pdf"])
    for name in ("", "../dead", "a/b"):
        with pytest.raises(UsageError, match="no file name"):
            save(drawn("dead", "one run"), tmp_path / "new", name)
    assert not list(tmp_path.iterdir())
    old = as_table("old", {"dead": np.ones((1, 1), bool)}, [0], 1, 1, {})
    with pytest.raises(NeurolensError, match="old has no column dead_but_bos"):
        draw("dead", [old])


@dataclass
class Analysis:
    """What a run says of its analysis."""

    name: str
    parts: dict[str, dict]


def test_figures_of_what_was_not_analysed_are_left_out_with_a_reason_or_refused_by_name():
    every = {"dead": {}, "ngrams": {"lengths": 3}, "positions": {}, "contrast": {}, "updates": {}}
    whole = Analysis("whole", every)
    short = Analysis("sh\nort", {"dead": {}, "ngrams": {"lengths": 1}})
    bare = Analysis("bare", {"dead": {}})
    assert drawable([whole]) == (list(FIGURES), {})
    names, reasons = drawable([whole, short])
    assert set(reasons) == {*VARIANTS, "examples", "suppression", *OF_POSITIONS, "contrast"}
    assert not set(names) & set(reasons)
    assert reasons["examples"] == r"sh\nort is not analysed for updates"
    assert reasons["new-trigrams"] == r"sh\nort is analysed for n-grams of up to 1, not 3, tokens"
    assert drawable([bare])[0] == ["dead", "frequency", "saturation"]
    assert drawable([bare])[1]["positional"] == "bare is not analysed for positions"
    placed = Analysis("placed", {"dead": {}, "positions": {}, "contrast": {}})
    assert drawable([placed])[0] == ["dead", "frequency", *OF_POSITIONS, "contrast", "saturation"]
    assert drawable([placed, bare], ["dead"]) == (["dead"], {})
    with pytest.raises(NeurolensError, match="cannot draw contrast: bare is not analysed for contrast"):
        drawable([placed, bare], ["contrast"])
    assert drawable([short], ["covered", "dead"]) == (["covered", "dead"], {})
    with pytest.raises(NeurolensError, match="cannot draw suppression: bare is not analysed for updates"):
        drawable([bare], ["dead", "suppression"])
    with pytest.raises(UsageError, match="no figure nope"):
        drawable([whole], ["nope"])
    with pytest.raises(NeurolensError, match="run has no n-grams of 3 for new-trigrams"):
        draw("new-trigrams", [by_layer(table(), n=(1,))])


def test_pyplot_is_not_imported_and_no_backend_chosen(tmp_path: Path):
    script = """
import sys, numpy as np, matplotlib
from neurolens.tables import Neurons
from neurolens.plots import draw, save
columns = {"dead": np.zeros((2, 5), bool), "dead_but_bos": np.ones((2, 5), bool)}
header = {"layers": [0, 1], "model_layers": 2, "n_tokens": 9, "rules": {}}
run = Neurons("r", **header, neurons=5, names=list(columns), read=columns.__getitem__)
backend = dict.__getitem__(matplotlib.rcParams, "backend")
save(draw("dead", [run]), sys.argv[1], "dead")
assert dict.__getitem__(matplotlib.rcParams, "backend") is backend
heavy = {"matplotlib.pyplot", "torch", "zarr", "numba"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script, str(tmp_path)], check=True)
