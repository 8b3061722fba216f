"""Anchors: what the paper found, held against numbers made up to agree, to disagree, and to say nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurolens.comparison.anchors import AGREES, CANNOT_SAY, CLAIMS, DISAGREES, AnchorRules, judge_growth, judge_run
from neurolens.comparison.estimates import Estimate
from neurolens.comparison.headlines import Headlines
from neurolens.comparison.sizes import OPT

ENOUGH = 30_000_000
KINDS = ("oscillatory", "both_extremes", "one_extreme", "other")


def types(**strong: int) -> dict[str, dict[str, int]]:
    return {kind: {"weak": 0, "strong": strong.get(kind, 0)} for kind in KINDS}


def like_the_paper(size: str, /, **other: Any) -> Headlines:
    """A run of a published size in which everything is as the paper says."""
    layers = OPT[size][1]
    first = np.arange(layers) < layers / 2
    dead = np.where(first, 0.0 if size == "350m" else 0.75, 0.0)
    detectors = np.full(layers, 10)
    detectors[0] += 5351 - detectors.sum() if size == "66b" else 0
    large = size in ("13b", "30b", "66b")
    oscillatory = np.zeros(layers, int)
    oscillatory[1] = 0 if large else 10
    run = Headlines(
        size=size, published=size, layers=np.arange(layers), model_layers=layers, neurons=OPT[size][2],
        n_tokens=ENOUGH, positions=2048, dead=Estimate(float(dead.mean())), frequency=Estimate(0.1),
        dead_by_layer=dead, detectors=Estimate(0.1), supported=Estimate(0.1), detectors_by_layer=detectors,
        covered_by_layer=np.full(layers, 1500), covered=10_001, suppressing=Estimate(0.9, 0.85, 0.95),
        positional=Estimate(0.01), types=types(**{"one_extreme" if large else "oscillatory": 30}),
        oscillatory=oscillatory, tiled=np.ones(layers),
    )  # fmt: skip
    return replace(run, **other)


def verdicts(run: Headlines, **rules: Any) -> dict[str, str]:
    return {claim.name: finding.verdict for claim, finding in judge_run(run, AnchorRules(**rules))}


@pytest.mark.parametrize("size", OPT)
def test_runs_like_the_paper_agree_with_every_claim_about_their_size(size: str):
    found = verdicts(like_the_paper(size))
    assert set(found.values()) == {AGREES}
    assert ("dead where" in found) == (size != "350m") and ("none dead" in found) == (size == "350m")
    assert ("tiling" in found) == (size == "125m") and ("first layer" in found) == (size in ("13b", "30b", "66b"))
    assert ("types" in found) == (size != "6.7b") and ("token detectors" in found) == (size == "66b")


def test_every_claim_can_be_disagreed_with():
    seen = set()
    for size, name, other in (
        ("66b", "most dead", {"dead_by_layer": np.repeat([0.5, 0.0], 32)}),
        ("1.3b", "dead where", {"dead_by_layer": np.full(24, 0.5)}),
        ("350m", "none dead", {"dead": Estimate(0.2)}),
        ("66b", "token detectors", {"detectors_by_layer": np.full(64, 5)}),
        ("66b", "tokens covered", {"covered": 9000}),
        ("66b", "tokens covered", {"covered_by_layer": np.full(64, 1501)}),
        ("13b", "first layer", {"detectors_by_layer": np.arange(40)}),
        ("2.7b", "suppression", {"suppressing": Estimate(0.5, 0.4, 0.6)}),
        ("125m", "tiling", {"oscillatory": np.full(12, 9)}),
        ("125m", "tiling", {"tiled": np.full(12, 0.9)}),
        ("1.3b", "types", {"types": types(oscillatory=2, other=3)}),
        ("30b", "types", {"types": types(oscillatory=1, other=3)}),
    ):
        found = verdicts(like_the_paper(size, **other))
        assert found.pop(name) == DISAGREES and set(found.values()) == {AGREES}, (size, name)
        seen.add(name)
    assert seen == {claim.name for claim in CLAIMS}


def test_few_tokens_show_that_a_neuron_is_alive_and_not_that_it_is_dead():
    few = {"n_tokens": 1_000_000}
    run = like_the_paper("66b", **few)
    assert verdicts(run)["most dead"] == CANNOT_SAY
    assert verdicts(replace(run, dead_by_layer=np.full(64, 0.6)))["most dead"] == DISAGREES
    assert verdicts(run)["dead where"] == AGREES
    assert verdicts(replace(run, dead_by_layer=np.full(64, 0.6)))["dead where"] == CANNOT_SAY
    assert verdicts(like_the_paper("350m", **few))["none dead"] == AGREES
    assert verdicts(like_the_paper("350m", dead=Estimate(0.5), **few))["none dead"] == CANNOT_SAY
    for claim, finding in judge_run(run):
        assert (
            finding.holds is not None
            or finding.why == "1,000,000 tokens; expected 5,000,000 or more"
            or (claim.name == "most dead" and "20,000,000" in finding.why)
        )
    assert set(verdicts(run, dead_tokens=1, tokens=1).values()) == {AGREES}


def test_what_is_not_there_is_not_judged():
    bare = like_the_paper(
        "125m", detectors_by_layer=None, covered_by_layer=None, covered=None, suppressing=Estimate(), types=None,
        oscillatory=None, tiled=None,
    )  # fmt: skip
    found = verdicts(bare)
    assert found.pop("dead where") == AGREES and set(found.values()) == {CANNOT_SAY}
    part = like_the_paper("66b")
    part = replace(part, **{
        name: getattr(part, name)[2:]
        for name in ("layers", "dead_by_layer", "detectors_by_layer", "covered_by_layer", "oscillatory", "tiled")
    })  # fmt: skip
    found = verdicts(part)
    assert found.pop("most dead") == found.pop("suppression") == AGREES  # more layers could not take that back
    assert set(found.values()) == {CANNOT_SAY}
    short = dict((claim.name, finding) for claim, finding in judge_run(like_the_paper("125m", positions=256)))
    assert short["tiling"].verdict == CANNOT_SAY and "sequences of 256 tokens" in short["tiling"].why
    wide = like_the_paper("1.3b", suppressing=Estimate(0.85, 0.7, 0.95))
    assert verdicts(wide)["suppression"] == CANNOT_SAY


def test_a_model_of_no_published_shape_is_held_against_what_is_said_of_all():
    assert set(verdicts(like_the_paper("1.3b", published=None, size="3.7m"))) == {"dead where", "suppression"}


def test_dead_neurons_grow_with_size():
    def run(size: str, dead: float, **other: Any) -> Headlines:
        return like_the_paper(size, dead=Estimate(dead), **other)

    runs = {"a": run("1.3b", 0.1), "b": run("125m", 0.05), "odd": run("350m", 0.9), "c": run("13b", 0.2)}
    found = judge_growth(runs)
    assert found is not None and found.verdict == AGREES and found.found == "125m 5.0%, 1.3b 10.0%, 13b 20.0%"
    assert judge_growth({**runs, "d": run("13b", 0.0)}).verdict == DISAGREES  # type: ignore[union-attr]
    assert judge_growth({"a": runs["a"], "odd": runs["odd"]}) is None
    few = {name: replace(each, n_tokens=9) for name, each in runs.items()}
    assert judge_growth(few).verdict == CANNOT_SAY  # type: ignore[union-attr]
    assert "differ in their number" in judge_growth({**runs, "b": few["b"]}).why  # type: ignore[union-attr]
