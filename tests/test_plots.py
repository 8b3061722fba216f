"""Plots: what is drawn equals numbers worked out here; every figure draws, says what it lacks, saves the same."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
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
from neurolens.examples import Example, Examples, Token, spread
from neurolens.plots import FIGURES, draw, drawable, save, sheet
from neurolens.plots.text import glyphs, run_names, token_text, width
from neurolens.tables import SUPPORT, ByLayer, Neurons, Table

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
    whole = Table(
        **header, coords={"support": SUPPORT, "n": n}, names=list(overall), read=overall.__getitem__
    )
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


KINDS: dict[str, Callable[[Neurons], Any]] = {"neurons": lambda run: run, "by_layer": by_layer, "examples": examples}
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
# cases for figures that look at these, or place names in their own way
FIRST_HALF, ONE_DETECTOR, HOSTILE_NAMES = "no layer of the first half", "one detector", "hostile names"


def all_cases() -> list[tuple[str, str]]:
    """Figures and cases, without those in which a figure shows the same as in another case."""
    return [
        (figure, case)
        for figure, spec in FIGURES.items()
        for case in (("three depths",) if figure in VARIANTS else CASES)
        if (case != FIRST_HALF or figure == "covering")
        and (case != ONE_DETECTOR or spec.part != "dead")
        and (case != HOSTILE_NAMES or figure in ("dead", "covering", "new-tokens", "examples"))
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
        "new-trigrams": "15", "examples": "5", "suppression": "ours", "saturation": "ours",
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
    whole = Analysis("whole", {"dead": {}, "ngrams": {"lengths": 3}, "updates": {}})
    short = Analysis("sh\nort", {"dead": {}, "ngrams": {"lengths": 1}})
    bare = Analysis("bare", {"dead": {}})
    assert drawable([whole]) == (list(FIGURES), {})
    names, reasons = drawable([whole, short])
    assert set(reasons) == {*VARIANTS, "examples", "suppression"} and not set(names) & set(reasons)
    assert reasons["examples"] == r"sh\nort is not analysed for updates"
    assert reasons["new-trigrams"] == r"sh\nort is analysed for n-grams of up to 1, not 3, tokens"
    assert drawable([bare])[0] == ["dead", "frequency", "saturation"]
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
