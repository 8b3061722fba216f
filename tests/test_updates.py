"""Updates, nulls and shares: the rules of the method token by token, in fractions, against what the arrays say."""

from __future__ import annotations

import doctest
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isnan, nan, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from neurolens import NeurolensError, UsageError, shares
from neurolens.checkpoint import Checkpoint
from neurolens.nulls import Controls, sample_neurons
from neurolens.projection import Unembedding
from neurolens.shares import Observations, share_interval, summarize
from neurolens.updates import LayerUpdates, Pairs, Projections, Projector, Settings, project_layer

settings.register_profile("laws", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("laws")

BOS = 2


@dataclass
class Stand:
    """A projector of small whole numbers: `vectors` `(neuron, D)`, `rows` `(token, D)`."""

    vectors: np.ndarray
    rows: np.ndarray
    real: np.ndarray

    def project(self, layer: int, neurons: np.ndarray, *, k: int, pairs: Pairs, controls: Pairs) -> Projections:
        product = (self.vectors[neurons] @ self.rows.T).astype(np.float32)
        assert all(token in self.real for token in [*pairs[1], *controls[1]])
        for row in (pairs[0], controls[0]):
            assert all(0 <= i < len(neurons) for i in row)
        length = np.linalg.norm(self.vectors[neurons], axis=1)[pairs[0]] * np.linalg.norm(self.rows, axis=1)[pairs[1]]
        cosine = [p / one if one else nan for p, one in zip(product[pairs], length, strict=True)]
        over = product[:, self.real]
        some: Any = np.zeros((len(neurons), k))
        return Projections(
            promoted=some.astype(np.int32) + 1,
            promoted_projection=some.astype(np.float32) + 2,
            suppressed=some.astype(np.int32) + 3,
            suppressed_projection=some.astype(np.float32) + 4,
            mean=over.mean(axis=1),
            projection=product[pairs],
            rank=(over[pairs[0]] < product[pairs][:, None]).sum(1).astype(np.int32),
            cosine=np.array(cosine, np.float32),
            control=product[controls],
        )

    def products(self, layer: int, neurons: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return (self.vectors[neurons] @ self.rows[tokens].T).astype(np.float32)


@dataclass
class Layer:
    """A layer made up at random, and what `project_layer` takes of it."""

    stand: Stand
    neurons: np.ndarray
    triggers: dict[str, np.ndarray]
    alive: np.ndarray
    detectors: dict[int, np.ndarray]
    occurrences: np.ndarray
    texts: list[str] | None

    def project(self, layer: int = 0, **changed: Any) -> LayerUpdates:
        controls = Controls(self.occurrences, self.stand.real, self.texts)
        return project_layer(
            self.stand,
            layer,
            self.neurons,
            self.triggers,
            alive=self.alive,
            detectors=self.detectors,
            controls=controls,
            settings=Settings(**changed),
        )


TEXTS = ["a", " a", "A", " A ", "b", "B", "c", " straße", "STRASSE", "", " ", "\n", "d"]


@st.composite
def layers(draw, ns: tuple[int, ...] = (1, 2, 3)) -> Layer:
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    neurons, vocabulary = draw(st.integers(1, 10)), draw(st.integers(5, 40))
    real = np.array([t for t in range(vocabulary) if t < 5 or rng.random() < 0.8])
    text = real[real != BOS]
    rows: list[tuple[int, int, tuple[int, ...], int, bool]] = []
    for i in range(neurons):
        for n in ns:
            if rng.random() < 0.6:
                grams = {tuple(rng.choice(text, n)) for _ in range(rng.integers(1, 6))}
                for on, gram in sorted(((int(rng.integers(1, 9)), gram) for gram in grams), reverse=True):
                    rows.append((i, n, gram, on, bool(rng.random() < 0.6)))
    width = max(ns)
    triggers = {
        "neuron": np.array([row[0] for row in rows], np.int32),
        "n": np.array([row[1] for row in rows], np.uint8),
        "tokens": np.array([[-1] * (width - row[1]) + list(row[2]) for row in rows], np.int32).reshape(-1, width),
        "on": np.array([row[3] for row in rows], np.int64),
        "covered": np.array([row[4] for row in rows], bool),
    }
    share = draw(st.sampled_from([0.0, 0.5, 1.0]))
    detectors = {n: np.zeros((2, neurons), bool) for n in ns}
    for i, n, _, _, covered in rows:
        if covered and rng.random() < share:
            detectors[n][0, i] = True
            detectors[n][1, i] = rng.random() < 0.5
    alive = rng.random(neurons) < 0.7
    for flags in detectors.values():
        alive |= flags[0]
    numbers = draw(st.sampled_from([1, 3]))
    stand = Stand(
        rng.integers(-numbers, numbers + 1, (neurons, 3)), rng.integers(-numbers, numbers + 1, (vocabulary, 3)), real
    )
    texts = list(rng.choice(TEXTS, vocabulary)) if draw(st.booleans()) else None
    occurrences = rng.integers(0, draw(st.sampled_from([1, 4, 1000])), vocabulary)
    chosen = np.flatnonzero(rng.random(neurons) < 0.5)
    return Layer(stand, chosen, triggers, alive, detectors, occurrences, texts)


@dataclass
class Verdict:
    mean: Fraction
    centred: float
    cluster: str
    null_neurons: float
    null_tokens: float


def judge(layer: Layer, neuron: int, n: int, sets: int) -> Verdict:
    """One detector by the words of the method; null neurons are all alive ones that detect nothing."""

    def product(i: int, t: int) -> int:
        return sum(int(a) * int(b) for a, b in zip(layer.stand.vectors[i], layer.stand.rows[t], strict=True))

    def variant(t: int) -> str:
        return f"#{t}" if layer.texts is None else "text " + layer.texts[t].strip().casefold()

    def mean(i: int, of: dict[int, int]) -> Fraction:
        """Of a neuron, weighted by `of`, the activations by row, at the tokens `at` these rows."""
        return Fraction(sum(of[r] * product(i, at[r]) for r in of), sum(of.values()))

    table = layer.triggers
    mine = [r for r in range(len(table["n"])) if (table["neuron"][r], table["n"][r]) == (neuron, n)]
    at = {r: int(table["tokens"][r][-1]) for r in mine}
    on = {r: int(table["on"][r]) for r in mine if table["covered"][r]}
    raw, triggers = mean(neuron, on), dict(at)
    real = [int(t) for t in layer.stand.real]
    by_token: Counter[int] = Counter()
    for r in on:
        by_token[at[r]] += on[r]
    top = min(by_token, key=lambda t: (-by_token[t], t))

    some = [i for i, alive in enumerate(layer.alive) if alive and not any(f[0][i] for f in layer.detectors.values())]
    below = [mean(i, on) < 0 for i in some]
    banned = {variant(t) for t in triggers.values()}
    free = [t for t in real if t != BOS and variant(t) not in banned]
    controls = []
    for k in range(min(sets, len(free))):
        for r in on:
            ahead = layer.occurrences[triggers[r]]
            at[r] = sorted(free, key=lambda t: (abs(int(layer.occurrences[t]) - int(ahead)), t))[k]
        controls.append(mean(neuron, on) < 0)
    return Verdict(
        mean=raw,
        centred=float(raw) - sum(product(neuron, t) for t in real) / len(real),
        cluster=variant(top),
        null_neurons=sum(below) / len(below) if below else nan,
        null_tokens=sum(controls) / len(controls) if controls else nan,
    )


def interval(values: list[float], clusters: list[str]) -> tuple[float, float, float]:
    """Wilson's score interval with the effective number of observations, another way round."""
    both = [(value, cluster) for value, cluster in zip(values, clusters, strict=True) if not isnan(value)]
    if not both:
        return nan, nan, nan
    sizes = Counter(cluster for _, cluster in both).values()
    n = Fraction(sum(sizes) ** 2, sum(m * m for m in sizes))
    p, z = sum(value for value, _ in both) / len(both), float(norm.ppf(0.975))
    ends = [(2 * n * p + z * z + s * z * sqrt(z * z + 4 * n * p * (1 - p))) / (2 * (n + z * z)) for s in (-1, 1)]
    return p, float(ends[0]), float(ends[1])


# --- a layer ------------------------------------------------------------------------------------------------------


@given(layer=layers(), sets=st.sampled_from([1, 3, 50]))
def test_detectors_are_judged_by_the_rules(layer, sets):
    got = layer.project(null_neurons=1000, null_tokens=sets)
    for n, flags in layer.detectors.items():
        found, numbers = got.detectors[n], np.flatnonzero(flags[0])
        verdicts = [judge(layer, int(i), n, sets) for i in numbers]
        assert found.supported.tolist() == flags[1][numbers].tolist()
        assert found.suppressing.tolist() == [float(verdict.mean < 0) for verdict in verdicts]
        assert found.null_neurons.tolist() == pytest.approx([v.null_neurons for v in verdicts], nan_ok=True)
        assert found.null_tokens.tolist() == pytest.approx([v.null_tokens for v in verdicts], nan_ok=True)
        names = {(verdict.cluster, int(group)) for verdict, group in zip(verdicts, found.cluster, strict=True)}
        assert len({name for name, _ in names}) == len({group for _, group in names}) == len(names)
    flag, mean, centred = np.full(len(layer.alive), -1), *np.full((2, len(layer.alive)), np.nan)
    for i in np.flatnonzero(layer.detectors[1][0]):
        verdict = judge(layer, int(i), 1, sets)
        flag[i], mean[i], centred[i] = verdict.mean < 0, float(verdict.mean), verdict.centred
    assert got.neurons["suppresses_triggers"].tolist() == flag.tolist()
    for name, want in (("trigger_projection", mean), ("trigger_projection_centred", centred)):
        assert got.neurons[name] == pytest.approx(want, rel=1e-5, abs=1e-5, nan_ok=True)
    assert {name: column.dtype for name, column in got.neurons.items()} == {
        "suppresses_triggers": np.int8,
        "trigger_projection": np.float32,
        "trigger_projection_centred": np.float32,
    }


@given(layer=layers())
def test_what_is_projected_and_where(layer):
    got = layer.project(k=4)
    detects = {int(i) for flags in layer.detectors.values() for i in np.flatnonzero(flags[0])}
    chosen = sorted(detects | set(layer.neurons.tolist()))
    assert got.updates["neuron"].tolist() == chosen and got.updates["neuron"].dtype == np.int32
    for value, name in enumerate(("promoted", "promoted_projection", "suppressed", "suppressed_projection"), start=1):
        assert got.updates[name].tolist() == [[value] * 4] * len(chosen)
    real = layer.stand.real
    products = layer.stand.vectors @ layer.stand.rows.T
    means = products[:, real].mean(axis=1)
    assert got.updates["projection_mean"].tolist() == pytest.approx(means[chosen].tolist(), rel=1e-6, abs=1e-6)
    for r, (i, tokens) in enumerate(zip(layer.triggers["neuron"], layer.triggers["tokens"], strict=True)):
        at = {name: column[r] for name, column in got.triggers.items()}
        if i not in chosen:
            assert at["rank"] == -1 and all(isnan(at[name]) for name in ("projection", "projection_centred", "cosine"))
            continue
        value = products[i, tokens[-1]]
        assert at["projection"] == value
        assert at["projection_centred"] == pytest.approx(value - means[i], rel=1e-5, abs=1e-5)
        assert at["rank"] == (products[i, real] < value).sum()
        length = np.linalg.norm(layer.stand.vectors[i]) * np.linalg.norm(layer.stand.rows[tokens[-1]])
        assert at["cosine"] == pytest.approx(value / length if length else nan, rel=1e-5, nan_ok=True)
    dtypes = {name: np.int32 if name == "rank" else np.float32 for name in got.triggers}
    assert {name: column.dtype for name, column in got.triggers.items()} == dtypes
    assert all(column.shape == (len(layer.triggers["n"]),) for column in got.triggers.values())


def planted(texts: list[str] | None = None) -> Layer:
    """Neurons 0 to 3 detect tokens 10 to 13, the first three of them write against these; 4 and 5 detect nothing."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((200, 64))
    vectors = rng.standard_normal((6, 64))
    vectors[:3] -= 5 * rows[10:13]
    vectors[3] += 5 * rows[13]
    triggers = {
        "neuron": np.arange(4, dtype=np.int32),
        "n": np.ones(4, np.uint8),
        "tokens": np.arange(10, 14, dtype=np.int32)[:, None],
        "on": np.full(4, 9),
        "covered": np.ones(4, bool),
    }
    flags = np.zeros((2, 6), bool)
    flags[:, :4] = True
    flags[1, 0] = False
    occurrences = rng.integers(0, 100, 200)
    stand = Stand(vectors, rows, np.arange(200))
    return Layer(stand, np.zeros(0, int), triggers, np.ones(6, bool), {1: flags}, occurrences, texts)


def test_suppression_is_told_from_chance():
    got = planted().project()
    assert got.neurons["suppresses_triggers"].tolist() == [1, 1, 1, 0, -1, -1]
    assert (got.triggers["rank"][:3] == 0).all() and got.triggers["rank"][3] == 199
    assert (got.triggers["cosine"][:3] < -0.9).all()
    by_layer, overall = summarize([got.detectors])
    assert overall["suppressing"].tolist() == [[0.75], [pytest.approx(2 / 3)]]
    assert 0.2 < overall["null_tokens"][0, 0] < 0.8 and 0 <= overall["null_neurons"][0, 0] <= 1
    assert by_layer["suppressing"].shape == (2, 1, 1) and by_layer.keys() == overall.keys()


def test_the_sample_of_neurons_is_the_one_that_is_drawn():
    rng = np.random.default_rng(1)
    layer = planted()
    layer.stand.vectors = np.concatenate([layer.stand.vectors, rng.standard_normal((300, 64))])
    layer.alive = rng.random(306) < 0.7
    layer.alive[:4] = True
    layer.detectors = {1: np.pad(layer.detectors[1], ((0, 0), (0, 300)))}
    free = layer.alive & ~layer.detectors[1][0]
    for seed, number in ((0, 0), (0, 1), (7, 1)):
        sample = sample_neurons(free, 100, seed=seed, layer=number)
        products = layer.stand.vectors[sample] @ layer.stand.rows[10:14].T
        got = layer.project(number, seed=seed).detectors[1]
        assert got.null_neurons.tolist() == pytest.approx((products < 0).mean(axis=0).tolist())


def test_a_detector_without_covered_triggers():
    for broken in ({"covered": np.zeros(4, bool)}, {"n": np.full(4, 2, np.uint8)}):
        layer = planted()
        layer.triggers |= broken
        with pytest.raises(NeurolensError, match="layer 3: neuron 0 is a detector of n = 1 without covered triggers"):
            layer.project(3)


def test_rows_may_stand_in_any_order():
    layer = planted()
    want = layer.project()
    order = np.array([2, 0, 3, 1])
    layer.triggers = {name: column[order] for name, column in layer.triggers.items()}
    got = layer.project()
    assert (got.triggers["projection"] == want.triggers["projection"][order]).all()
    assert got.neurons["suppresses_triggers"].tolist() == want.neurons["suppresses_triggers"].tolist()


@pytest.mark.parametrize("ns", [(), (1,), (1, 2, 3)])
def test_a_layer_with_nothing_in_it(ns):
    layer = planted()
    layer.triggers = {name: column[:0] for name, column in layer.triggers.items()}
    layer.detectors = {n: np.zeros((2, 6), bool) for n in ns}
    for alive in (True, False):
        layer.alive = np.full(6, alive)
        got = layer.project()
        assert all(len(column) == 0 for column in (got.updates | got.triggers).values())
        assert got.updates["promoted"].shape == (0, 10)
        assert (got.neurons["suppresses_triggers"] == -1).all()
        by_layer, overall = summarize([got.detectors, got.detectors])
        assert all(column.shape == (2, len(ns), 2) and np.isnan(column).all() for column in by_layer.values())
        assert all(column.shape == (2, len(ns)) and np.isnan(column).all() for column in overall.values())


def test_one_neuron_and_no_other_to_compare_with():
    layer = planted()
    layer.stand.vectors, layer.alive = layer.stand.vectors[:1], np.ones(1, bool)
    layer.triggers = {name: column[:1] for name, column in layer.triggers.items()}
    layer.detectors = {1: layer.detectors[1][:, :1]}
    got = layer.project()
    assert got.detectors[1].suppressing.tolist() == [1] and isnan(got.detectors[1].null_neurons[0])
    _, overall = summarize([got.detectors])
    assert overall["suppressing"][0, 0] == 1 and np.isnan(overall["null_neurons"]).all()
    assert np.isnan(overall["suppressing"][1, 0])  # it is not well supported


def test_variants_are_one_cluster_and_no_controls():
    texts = [f"t{i}" for i in range(200)]
    texts[10:14] = ["word", " Word", "WORD ", "other"]
    got, plain = planted(texts).project().detectors[1], planted().project().detectors[1]
    assert len(set(got.cluster.tolist())) == 2 and len(set(plain.cluster.tolist())) == 4
    controls = Controls(planted().occurrences, np.arange(200), texts)
    assert not np.isin(controls.choose(np.array([11]), np.array([11]), 500), [2, 10, 11, 12]).any()
    assert controls.choose(np.array([11]), np.array([11]), 500).shape == (196, 1)


def test_with_the_weights_of_a_model(tiny_model):
    """The torch projector and the stand-in say the same."""
    rng, real = np.random.default_rng(0), np.arange(260)
    projector = Unembedding(Checkpoint(tiny_model), real)
    asked: Projector = projector
    vectors = projector.value_vectors(1).astype(float)
    rows = np.linalg.lstsq(vectors, projector.products(1, np.arange(72), real).astype(float), rcond=None)[0].T
    triggers = {
        "neuron": np.repeat(np.arange(72), 3).astype(np.int32),
        "n": np.tile([1, 1, 2], 72).astype(np.uint8),
        "tokens": rng.integers(4, 260, (216, 2)).astype(np.int32),
        "on": rng.integers(1, 50, 216),
        "covered": np.ones(216, bool),
    }
    layer = Layer(
        Stand(vectors, rows, real),
        np.arange(5),
        triggers,
        np.ones(72, bool),
        {1: np.tile(np.arange(72) % 3 == 0, (2, 1)), 2: np.tile(np.arange(72) % 5 == 0, (2, 1))},
        rng.integers(0, 30, 272),
        None,
    )
    want = layer.project(1)
    controls = Controls(layer.occurrences, real)
    got = project_layer(
        asked, 1, layer.neurons, triggers, alive=layer.alive, detectors=layer.detectors, controls=controls
    )
    for name, column in want.triggers.items():
        assert got.triggers[name] == pytest.approx(column, rel=1e-3, abs=1e-4, nan_ok=True)
    assert got.updates["projection_mean"] == pytest.approx(want.updates["projection_mean"], rel=1e-3, abs=1e-4)
    assert got.neurons["suppresses_triggers"].tolist() == want.neurons["suppresses_triggers"].tolist()
    for n in (1, 2):
        for name in Observations.__dataclass_fields__:
            assert getattr(got.detectors[n], name).tolist() == getattr(want.detectors[n], name).tolist()


# --- nulls --------------------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**20),
    vocabulary=st.sampled_from([3, 10, 60, 300]),
    most=st.sampled_from([1, 3, 50, 10**9]),
    variants=st.booleans(),
)
def test_controls_are_the_nearest_in_frequency(seed, vocabulary, most, variants):
    rng = np.random.default_rng(seed)
    occurrences = rng.integers(0, most, vocabulary)
    texts = (
        [f"{' ' * rng.integers(0, 2)}t{rng.integers(0, vocabulary)}" for _ in range(vocabulary)] if variants else None
    )
    real = np.flatnonzero(rng.random(vocabulary) < 0.9)
    controls = Controls(occurrences, real, texts)
    for count in (1, 4, 50, 2):  # what is kept of smaller requests must not show in larger ones
        triggers = rng.choice(vocabulary, min(vocabulary, int(rng.integers(1, 6))), replace=False)
        tokens = triggers[: rng.integers(1, len(triggers) + 1)]
        name = (lambda t: texts[t].strip()) if texts else (lambda t: t)
        free = [t for t in real if t != BOS and name(t) not in {name(other) for other in triggers}]
        want = [
            sorted(free, key=lambda t: (abs(int(occurrences[t]) - int(occurrences[token])), t))[:count]
            for token in tokens
        ]
        assert controls.choose(tokens, triggers, count).T.tolist() == want


def test_controls_of_another_separator_and_of_none():
    occurrences = np.zeros(4, int)
    assert Controls(occurrences, np.arange(4)).choose(np.array([0]), np.array([0]), 9).tolist() == [[1], [3]]
    controls = Controls(occurrences, np.arange(4), separator=3)
    assert controls.choose(np.array([0]), np.array([0]), 9).tolist() == [[1], [2]]
    assert controls.choose(np.array([0, 1]), np.arange(4), 9).shape == (0, 2)
    assert Controls(occurrences, np.array([BOS])).choose(np.array([0]), np.array([0]), 9).shape == (0, 1)


@given(seed=st.integers(0, 99), layer=st.integers(0, 5), count=st.integers(1, 30), size=st.integers(0, 60))
def test_samples_of_neurons(seed, layer, count, size):
    candidates = np.random.default_rng(seed + 1000).random(size) < 0.5
    sample = sample_neurons(candidates, count, seed=seed, layer=layer)
    assert len(sample) == min(count, candidates.sum()) and candidates[sample].all()
    assert (np.diff(sample) > 0).all()
    assert sample.tolist() == sample_neurons(candidates, count, seed=seed, layer=layer).tolist()


def test_samples_differ_by_seed_and_layer_and_leave_no_one_out():
    candidates = np.ones(40, bool)
    samples = {tuple(sample_neurons(candidates, 10, seed=s, layer=i)) for s in range(10) for i in range(10)}
    assert len(samples) == 100
    drawn = Counter(i for sample in samples for i in sample)
    assert set(drawn) == set(range(40)) and 10 <= min(drawn.values()) <= max(drawn.values()) <= 45


# --- shares -------------------------------------------------------------------------------------------------------


@given(found=st.lists(layers(), min_size=1, max_size=3))
def test_shares_by_layer_and_together(found):
    ns = (1, 2, 3)
    by_layer, overall = summarize([layer.project(null_neurons=1000).detectors for layer in found])
    names = [name + end for name in ("suppressing", "null_neurons", "null_tokens") for end in ("", "_low", "_high")]
    assert sorted(by_layer) == sorted(overall) == sorted(names)
    # tokens of different layers are of one vocabulary: a cluster is a token there, not a text
    for support, (i, n) in ((s, pair) for s in (0, 1) for pair in enumerate(ns)):
        pooled: dict[str, list[Any]] = {name: [] for name in (*names, "cluster")}
        for at, layer in enumerate(found):
            group = Controls(layer.occurrences, layer.stand.real, layer.texts).group
            verdicts = [judge(layer, int(neuron), n, 50) for neuron in np.flatnonzero(layer.detectors[n][support])]
            got = layer.project(null_neurons=1000).detectors[n]
            keep = layer.detectors[n][support][np.flatnonzero(layer.detectors[n][0])]
            clusters = [str(c) for c in got.cluster[keep]]
            assert set(got.cluster.tolist()) <= set(group.tolist())
            values = {
                "suppressing": [float(verdict.mean < 0) for verdict in verdicts],
                "null_neurons": [verdict.null_neurons for verdict in verdicts],
                "null_tokens": [verdict.null_tokens for verdict in verdicts],
            }
            pooled["cluster"] += clusters
            for name, of in values.items():
                pooled[name] += of
                have = [by_layer[name + end][support, i, at] for end in ("", "_low", "_high")]
                assert have == pytest.approx(interval(of, clusters), abs=1e-9, nan_ok=True)
        for name in ("suppressing", "null_neurons", "null_tokens"):
            have = [overall[name + end][support, i] for end in ("", "_low", "_high")]
            assert have == pytest.approx(interval(pooled[name], pooled["cluster"]), abs=1e-9, nan_ok=True)


@given(total=st.integers(1, 300), data=st.data())
def test_single_observations_have_wilsons_interval(total, data):
    on = data.draw(st.integers(0, total))
    values = np.arange(total) < on
    share, low, high = share_interval(values.astype(float), np.arange(total))
    want = binomtest(on, total).proportion_ci(0.95, method="wilson")
    assert (share, low, high) == pytest.approx((on / total, want.low, want.high), abs=1e-9)


def test_clusters_count_as_fewer_observations():
    def width(cluster: list[int]) -> float:
        share, low, high = share_interval(np.array([1.0, 0, 1, 0]), np.array(cluster))
        assert share == 0.5 and low + high == pytest.approx(1)
        # the ends solve (p − x)² = z² x (1 − x) / n, with the n that stands for the clusters
        n = 1.959963984540054**2 * low * (1 - low) / (0.5 - low) ** 2
        sizes = Counter(cluster).values()
        assert n == pytest.approx(16 / sum(m * m for m in sizes))
        return high - low

    assert width([1, 2, 3, 4]) < width([1, 1, 2, 3]) < width([1, 1, 2, 2]) < width([1, 1, 1, 2]) < width([7] * 4)


def test_observations_that_are_missing_and_other_confidence():
    want = share_interval(np.array([1.0, 0.0]), np.array([1, 2]))
    assert share_interval(np.array([1.0, nan, 0.0]), np.array([1, 1, 2])) == want
    for values in (np.array([nan]), np.zeros(0)):
        assert all(isnan(value) for value in share_interval(values, np.arange(len(values))))
    narrow = share_interval(np.array([1.0, 0.0]), np.array([1, 2]), z=1.0)
    assert want[1] < narrow[1] < 0.5 < narrow[2] < want[2]


def test_examples_in_the_documentation():
    found = doctest.testmod(shares)
    assert found.attempted > 0 and found.failed == 0


# --- settings -----------------------------------------------------------------------------------------------------


def test_the_defaults_are_the_methods():
    assert Settings() == Settings(k=10, null_neurons=100, null_tokens=50, seed=0)


@pytest.mark.parametrize(("name", "least"), [("k", 1), ("null_neurons", 1), ("null_tokens", 1), ("seed", 0)])
def test_settings_out_of_range(name, least):
    with pytest.raises(UsageError, match=f"{name} is {least - 1}; expected at least {least}"):
        replace(Settings(), **{name: least - 1})
    replace(Settings(), **{name: least})
