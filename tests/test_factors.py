"""Factors and lineage: order, groups, names, which runs are one model before and after; trends, means between runs."""

from __future__ import annotations

from dataclasses import replace
from math import isnan, sqrt
from statistics import fmean, stdev
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurolens import UsageError
from neurolens.comparison.estimates import Estimate, average
from neurolens.comparison.factors import Member, factor_of, group_by, magnitude, name_members, order_values, varying
from neurolens.comparison.lineage import find_pairs, why_not_comparable
from neurolens.comparison.sizes import OPT, count_parameters, published_size, size_of
from neurolens.comparison.trends import arrange

CONFIG = {"model_type": "opt", "hidden_size": 8, "num_hidden_layers": 2, "ffn_dim": 32}


def member(
    run: str = "run", *, corpus: str = "c", config: dict | None = None, layers: int = 2, **factors: Any
) -> Member:
    attrs = {"model": {"config": config or CONFIG}, "corpus_fingerprint": corpus, "tokenizer": "t"}
    store = SimpleNamespace(attrs=attrs, layers=list(range(layers)), neurons=32)
    return Member(SimpleNamespace(name=run, store=store), factors)


def led(members: list[Member]) -> set[tuple[str, str, str]]:
    return {(pair.before.called, pair.after.called, pair.factor) for pair in find_pairs(members)[0]}


# order and groups


def test_values_are_ordered_by_number_or_size_else_as_they_appear():
    assert order_values([500, 0, 2.5, 500]) == [0, 2.5, 500]
    assert order_values(["66b", "350m", "1.3b", "125m", "350m"]) == ["125m", "350m", "1.3b", "66b"]
    assert order_values(["10k", 500]) == [500, "10k"]
    assert order_values(["sft", "base", "125m"]) == ["sft", "base", "125m"]
    assert order_values([True, False]) == [True, False]
    assert magnitude("1.3B") == 1.3e9 and magnitude("v2") is None and magnitude("") is None and magnitude("1e3") is None


def test_groups_are_in_order_and_a_missing_factor_names_run_and_factor():
    members = [member(str(step), step=step) for step in (500, 0, 500)]
    groups = group_by(members, "step")
    assert list(groups) == [0, 500] and [len(of) for of in groups.values()] == [1, 2]
    with pytest.raises(UsageError, match=r"late has no factor 'step' \(it has: lr\); give it with --factor"):
        group_by([*members, member("late", lr=1)], "step")
    with pytest.raises(UsageError, match=r"bare has no factor 'x' \(it has: none"):
        factor_of(member("bare"), "x")


def test_what_varies_begins_with_lineage_and_ends_with_places():
    members = [member(model=str(i), seed=i, lr=i, step=i, size=f"{i}m", same=1, some=i) for i in range(2)]
    members[1] = replace(members[1], factors={k: v for k, v in members[1].factors.items() if k != "some"})
    assert varying(members) == ["step", "size", "lr", "model", "seed"]
    assert varying(members[:1]) == []


# names


def test_names_are_the_values_that_tell_runs_apart():
    def names(*members: Member) -> list[str]:
        return [each.name for each in name_members(members)]

    of_size = [member(model=f"opt-{size}", size=size, dtype="fp16") for size in ("125m", "1.3b")]
    assert names(*of_size) == ["125m", "1.3b"]
    assert names(member(step=0, model="a"), member(step=500, model="b")) == ["step 0", "step 500"]
    both = [member(size=size, step=step) for size in ("125m", "1.3b") for step in (0, 1)]
    assert names(*both) == ["125m step 0", "125m step 1", "1.3b step 0", "1.3b step 1"]
    assert names(member("alone", size="125m")) == ["alone"]
    assert names(member("a", size="125m"), member("b", size="125m")) == ["a", "b"]
    assert names(member("a", size="125m"), member("a", size="125m")) == ["a", "a (2)"]
    assert names(member("base", stage="base"), member("x", stage="sft", seed=1), member("y", stage="sft", seed=2)) == [
        "base", "sft seed 1", "sft seed 2",
    ]  # fmt: skip
    assert names(replace(member(size="1b"), name="mine"), member(size="2b")) == ["mine", "2b"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.one_of(st.text(max_size=3), st.integers(0, 2))), max_size=6))
def test_names_are_never_empty_and_all_different(factors: list[dict]):
    names = [each.name for each in name_members([Member(member("r").run, of) for of in factors])]
    assert len(set(names)) == len(names) and all(names)


# lineage


def test_steps_are_followed_in_their_order_and_runs_of_other_settings_are_not():
    runs = [member(f"{lr} {step}", step=step, lr=lr) for lr in (1, 2) for step in (500, 0, 250)]
    assert led(runs) == {(f"{lr} {a}", f"{lr} {b}", "step") for lr in (1, 2) for a, b in ((0, 250), (250, 500))}
    assert find_pairs(runs)[1] == []
    alone = [member("a", step=0, lr=1), member("b", step=5, lr=2)]
    pairs, without = find_pairs(alone)
    assert not pairs and "no run before it is like it but for step; a differs in lr" in without[0].reason


def test_a_base_is_before_all_its_branches():
    runs = [member("base", stage="base"), *(member(f"s{i}", stage="sft", seed=i) for i in range(3))]
    assert led(runs) == {("base", f"s{i}", "stage") for i in range(3)}
    runs += [member("p", stage="rl", algorithm="ppo", seed=0), member("d", stage="rl", algorithm="dpo", seed=0)]
    assert led(runs) - {("base", f"s{i}", "stage") for i in range(3)} == {
        ("s0", "p", "stage"), ("s0", "d", "stage"), ("p", "d", "algorithm"),
    }  # fmt: skip


def test_a_revision_that_goes_with_a_step_is_no_second_lineage():
    runs = [member(str(step), step=step, revision=f"step{step}", model="x") for step in (0, 1, 2)]
    assert led(runs) == {("0", "1", "step"), ("1", "2", "step")}
    revisions = [member(name, revision=name) for name in ("main", "later")]
    assert led(revisions) == {("main", "later", "revision")}


def test_sizes_are_no_lineage():
    assert find_pairs([member("a", size="125m"), member("b", size="1.3b")]) == ([], [])


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"corpus": "d"}, "they have read other texts"),
        ({"config": {**CONFIG, "ffn_dim": 64}}, r"other architectures \(ffn_dim is 32 and 64\)"),
        ({"layers": 1}, "other layers were collected"),
    ],
)
def test_what_is_not_the_same_neuron_is_not_compared_and_why_is_said(other: dict, reason: str):
    runs = [member("a", step=0), member("b", step=1, **other)]
    pairs, without = find_pairs(runs)
    assert not pairs and len(without) == 1 and without[0].member is runs[1] and without[0].factor == "step"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(without[0].reason)
    runs[1].run.store.attrs = {**runs[0].run.store.attrs, "tokenizer": "u"}
    runs[1].run.store.layers = runs[0].run.store.layers
    assert why_not_comparable(runs[0].run, runs[1].run) == "other tokenizers"


# trends


def test_only_repetitions_are_averaged_and_what_changes_along_is_named():
    runs = [
        member(size=size, model=f"opt-{size}", lr=lr, seed=seed)
        for size in ("1.3b", "125m") for lr in (1, 2) for seed in range(3)
    ]  # fmt: skip
    trend = arrange(runs, "size")
    assert trend.values == ("125m", "1.3b") and trend.along == ("model",)
    assert [dict(line.settings) for line in trend.lines] == [{"lr": 1}, {"lr": 2}]
    assert [[len(of) for of in line.points.values()] for line in trend.lines] == [[3, 3], [3, 3]]
    assert all(
        m.factors["lr"] == line.settings["lr"] for line in trend.lines for of in line.points.values() for m in of
    )
    seeds = arrange(runs, "seed", replicates=())
    assert len(seeds.lines) == 4 and seeds.values == (0, 1, 2)


def test_a_factor_that_others_tell_is_not_named():
    runs = [member(step=s, model=f"opt-{size}", size=size, lr=lr) for s in (0, 1) for size in "ab" for lr in (1, 2)]
    lines = arrange(runs, "step").lines
    assert [dict(line.settings) for line in lines] == [{"size": size, "lr": lr} for size in "ab" for lr in (1, 2)]


def test_runs_that_lack_another_factor_are_a_line_of_their_own():
    trend = arrange([member(step=0), member(step=1, lr=1), member(step=1, lr=2)], "step")
    assert [dict(line.settings) for line in trend.lines] == [{}, {"lr": 1}, {"lr": 2}]
    with pytest.raises(UsageError, match="no factor 'lr'"):
        arrange([member("x", step=0), member(step=1, lr=1)], "lr")


def test_a_point_is_the_mean_of_its_runs_with_what_lies_between_them():
    one = Estimate(0.3, 0.2, 0.5)
    assert average([one]) == average([one, Estimate()]) == one
    assert average([Estimate(0.1), Estimate(0.4)]) == Estimate(0.25, 0.1, 0.4, 2)
    values, t = [0.1, 0.2, 0.6], 4.302652729911275  # of 2 degrees of freedom, from a table
    found = average([Estimate(x) for x in values])
    reach = t * stdev(values) / sqrt(3)
    assert found.of == 3 and found.value == pytest.approx(fmean(values))
    assert (found.low, found.high) == pytest.approx((fmean(values) - reach, fmean(values) + reach))
    five = average([Estimate(x) for x in range(5)], confidence=0.9)
    assert five.high - five.value == pytest.approx(2.131846786 * stdev(range(5)) / sqrt(5))  # 4 degrees
    nothing = average([Estimate(), Estimate()])
    assert nothing.of == 0 and isnan(nothing.value)


# sizes


def test_sizes_are_those_of_the_published_models():
    from neurolens.decoder import shape_of
    from neurolens.testing.shapes import OPT_SHAPES

    assert {name: (s["hidden_size"], s["num_hidden_layers"], s["ffn_dim"]) for name, s in OPT_SHAPES.items()} == OPT
    for name, shape in OPT_SHAPES.items():
        config = {"model_type": "opt", "vocab_size": 50272, "max_position_embeddings": 2048, **shape}
        assert published_size(config) == size_of(config) == name
        of = shape_of(SimpleNamespace(config=config, folder="x"))  # type: ignore[arg-type]
        assert count_parameters(config) == of.layers * of.parameters_per_layer + of.parameters_elsewhere
        billions, said = (count_parameters(config) or 0) / 1e9, magnitude(name)
        assert said is not None and billions == pytest.approx(said / 1e9, rel=0.06)
    small = {"model_type": "opt", "vocab_size": 1024, "max_position_embeddings": 256, **CONFIG}
    assert size_of(small).endswith("k") and published_size({**OPT_SHAPES["125m"], "model_type": "other"}) is None
    assert size_of({"hidden_size": None}) == "unknown"
