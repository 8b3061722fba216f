"""The answers of the planted model are right: the paper's rules, read literally here, say of its bits and weights what
`Planted` says. That the model computes these bits is the matter of test_planted.py.

Nothing of the package is used but `neurolens.testing`, and of that neither counts nor verdicts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from scipy.special import gammaln, xlogy
from scipy.stats import chi2

from neurolens.testing import BOS, NGRAM_COUNTS, SPECIAL, Planted, PlantedNeuron, planted_opt

LAYERS = 3
DETECTORS = {1: "unigram_detector", 2: "bigram_detector", 3: "trigram_detector"}
NUMBERS = {1: "unigrams_95", 2: "bigrams_95", 3: "trigrams_95"}
MOST = {1: 5, 2: 50, 3: 50}


@pytest.fixture(scope="module", params=["plain", "disguised"])
def planted(request, tmp_path_factory) -> Planted:
    return planted_opt(tmp_path_factory.mktemp(request.param), layers=LAYERS, disguise=request.param == "disguised")


@pytest.fixture(scope="module")
def active(planted) -> list[np.ndarray]:
    return [planted.active(layer) for layer in range(LAYERS)]


# --- n-grams


@dataclass
class Found:
    number: int  # covering number
    activations: int  # at positions that have an n-gram
    on: Counter
    covered: dict[tuple[int, ...], int]  # n-gram → activations
    candidates: int  # n-grams in the covering set
    detector: bool


def ngrams_of(tokens: np.ndarray, n: int) -> list[tuple[int, ...] | None]:
    """The n-gram that ends at each position, if there is one: within a sequence, without `</s>`."""
    padded = np.hstack([np.full((len(tokens), n - 1), BOS), tokens])
    windows = np.lib.stride_tricks.sliding_window_view(padded, n, axis=1).reshape(-1, n)
    return [None if BOS in window else tuple(window) for window in windows.tolist()]


class Rules:
    """Covering numbers and detectors, from the words of the method and with Python's integers."""

    def __init__(self, tokens: np.ndarray, n: int) -> None:
        self.n, self.at = n, ngrams_of(tokens, n)
        self.total = Counter(self.at)

    def __call__(self, active: np.ndarray, rate: int = 95, coverage: int = 95, least_total: int = 1) -> Found:
        on = Counter(self.at[i] for i in np.flatnonzero(active).tolist())
        on.pop(None, None)
        activations, number, taken, least = sum(on.values()), 0, 0, 0
        for _, count in on.most_common():
            if 100 * taken >= 95 * activations:
                break
            number, taken, least = number + 1, taken + count, count
        candidates: list[Any] = [ngram for ngram, count in on.items() if count >= least]
        covered = {g: on[g] for g in candidates if 100 * on[g] >= rate * self.total[g] >= rate * least_total}
        enough = len(covered) > 0 and 100 * sum(covered.values()) >= coverage * activations
        return Found(number, activations, on, covered, len(candidates), 1 <= number <= MOST[self.n] and enough)


@pytest.fixture(scope="module")
def rules(planted) -> dict[int, Rules]:
    return {n: Rules(planted.tokens, n) for n in (1, 2, 3)}


@pytest.fixture(scope="module")
def found(rules, active) -> dict[int, list[list[Found]]]:
    """By n, layer and neuron."""
    return {n: [[rule(row) for row in rows] for rows in active] for n, rule in rules.items()}


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_truth_is_what_the_rules_say_of_every_neuron(n, planted, active, rules, found):
    truth = planted.truth()
    for layer in range(LAYERS):
        mine = found[n][layer]
        assert truth[DETECTORS[n]][layer].tolist() == [f.detector for f in mine]
        assert truth[NUMBERS[n]][layer].tolist() == [f.number for f in mine]
        supported = [f.detector and f.activations >= 100 for f in mine]
        for neuron in np.flatnonzero(supported):
            supported[neuron] = rules[n](active[layer][neuron], least_total=5).detector
        assert truth[f"{DETECTORS[n]}_supported"][layer].tolist() == supported
        assert any(supported) and any(f.detector and not s for f, s in zip(mine, supported, strict=True))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_planted_detectors_are_what_they_were_planted_for(n, planted, rules, found):
    for layer in range(LAYERS):
        detectors = planted.of(DETECTORS[n], layer)
        assert len(detectors) >= 11 and {d.n for d in detectors} == {n}
        for neuron in detectors:
            f = found[n][layer][neuron.neuron]
            assert f.detector and neuron.triggers == tuple(sorted(f.covered))
            verdict = planted.verdict(neuron, n)
            assert verdict.covered == neuron.triggers and verdict.activations == f.activations
            assert dict(zip(verdict.members, verdict.on, strict=True)).items() <= f.on.items()
            assert all(rules[n].total[g] == t for g, t in zip(verdict.members, verdict.total, strict=True))
            assert len(verdict.members) == f.candidates
        for other in {1, 2, 3} - {n}:  # each length has detectors that none of the shorter ones explains
            if other < n:
                assert sum(not found[other][layer][neuron.neuron].detector for neuron in detectors) >= 8


@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_layer_has_detectors_at_each_limit(n, planted, active, rules, found):
    special = planted.tokens.ravel() == BOS
    no_ngram = np.array([ngram is None for ngram in rules[n].at])
    total = rules[n].total
    for layer in range(LAYERS):
        detectors = planted.of(DETECTORS[n], layer)
        mine = [found[n][layer][neuron.neuron] for neuron in detectors]
        numbers = {f.number for f in mine}
        assert numbers >= ({1, 2, 3, 4, 5} if n == 1 else {1, 2, 3, 4, 9, 50} if n == 2 else {1, 2, 3, 4, 8, 18, 50})
        assert any(100 * f.on[g] == 95 * total[g] for f in mine for g in f.covered)
        assert any(100 * sum(f.covered.values()) == 95 * f.activations for f in mine)
        assert {f.activations for f in mine} >= {95, 99, 100}
        assert any(f.candidates > f.number and len(f.covered) < f.candidates for f in mine)  # ties
        elsewhere = [active[layer][neuron.neuron, no_ngram].any() for neuron in detectors]
        assert set(elsewhere) == {False, True}
        if n == 1:
            assert {f.activations for f in mine} >= {1, 4}
            for count in range(1, 6):  # with and without activations on `</s>`
                with_bos = [active[layer][d.neuron, special].any() for d in detectors if len(d.triggers) == count]
                assert set(with_bos) == {False, True}
        else:
            wide = max(detectors, key=lambda neuron: len(neuron.triggers))
            assert len(wide.triggers) == 52 and found[n][layer][wide.neuron].number == 50


@pytest.mark.parametrize("n", [1, 2, 3])
def test_near_misses_fail_the_rule_they_were_planted_to_fail(n, planted, active, rules, found):
    total = rules[n].total
    for layer in range(LAYERS):

        def retry(neuron, layer=layer, **thresholds) -> bool:
            return rules[n](active[layer][neuron.neuron], **thresholds).detector

        def first(neuron, layer=layer) -> Found:
            assert neuron.kind == "other" and neuron.near_miss
            f = found[n][layer][neuron.neuron]
            assert not f.detector and not planted.verdict(neuron, n).detector
            return f

        rate, coverage, number = (planted.near_misses(rule, layer, n=n) for rule in ("rate", "coverage", "number"))
        assert min(map(len, (rate, coverage, number))) >= 1
        for neuron in rate:
            (ngram,) = neuron.triggers
            f = first(neuron)
            assert f.number == 1 and not f.covered
            assert 100 * f.on[ngram] == 94 * total[ngram] and f.on[ngram] == f.activations
            assert retry(neuron, rate=94) and not retry(neuron, coverage=94)
        for neuron in coverage:
            f = first(neuron)
            assert f.number == len(neuron.triggers) + 1 <= 5 and tuple(sorted(f.covered)) == neuron.triggers
            assert 100 * sum(f.covered.values()) == 94 * f.activations
            assert retry(neuron, coverage=94) and not retry(neuron, rate=94)
        for neuron in number:
            f = first(neuron)
            assert f.number == MOST[n] + 1 and tuple(sorted(f.covered)) == neuron.triggers
            assert sum(f.covered.values()) == f.activations and all(f.on[g] == total[g] for g in f.on)


def test_counted_ngrams_occur_as_often_as_they_say(planted, rules):
    for n in (2, 3):
        kept = {ngram for neuron in planted.of(DETECTORS[n]) for ngram in neuron.triggers}
        assert {rules[n].total[ngram] for ngram in kept} >= {100, 19, 36, 1, 2}
        assert sorted(NGRAM_COUNTS.values()) == [1, 1, 1, 19, 36, 47, 100]


def test_dead_neurons_and_their_near_misses(planted, active):
    truth = planted.truth()
    special = planted.tokens.ravel() == BOS
    for layer in range(LAYERS):
        bits = active[layer]
        assert np.array_equal(truth["activations"][layer], bits.sum(1))
        assert np.array_equal(truth["activations_on_text"][layer], bits[:, ~special].sum(1))
        assert np.array_equal(truth["dead"][layer], ~bits.any(1))
        assert np.array_equal(truth["dead_but_bos"][layer], bits.any(1) & ~bits[:, ~special].any(1))
        for kind, least in (("dead", 5), ("dead_but_bos", 3)):
            planted_for = [neuron.neuron for neuron in planted.of(kind, layer)]
            assert len(planted_for) >= least and np.flatnonzero(truth[kind][layer]).tolist() == planted_for
        at = [np.flatnonzero(bits[n.neuron]) % planted.tokens.shape[1] for n in planted.of("dead_but_bos", layer)]
        assert {(bool((a == 0).any()), bool((a > 0).any())) for a in at} == {(1, 1), (1, 0), (0, 1)}
        dead, bos = (planted.near_misses(kind, layer) for kind in ("dead", "dead_but_bos"))
        assert [bits[n.neuron].sum() for n in dead] == [1]
        assert [bits[n.neuron, ~special].sum() for n in bos] == [1] and bits[bos[0].neuron, special].all()


def test_what_every_layer_holds_besides(planted, active, found):
    for layer in range(LAYERS):
        density = active[layer].mean(1)
        assert (density == 1).any()
        plain = [n.neuron for n in planted.of("other", layer) if not n.near_miss]
        assert sum(0.4 < density[n] < 0.6 for n in plain) >= 3 and len(plain) >= 10
        # alive on text, but on no bigram: activations, and none that counts
        assert any(found[1][layer][n].activations and not found[2][layer][n].activations for n in plain)


# --- labels


def test_domains(planted, active):
    words = [set(planted.tokens[planted.label == i].ravel().tolist()) for i in range(3)]
    special = {*range(SPECIAL)}
    assert all(len(mine - set().union(*words[:i], *words[i + 1 :]) - special) >= 2 for i, mine in enumerate(words))
    dead_in = np.stack([planted.dead_in(i) for i in range(3)])
    for layer in range(LAYERS):
        by_label = active[layer].reshape(-1, *planted.tokens.shape).any(2)
        for i in range(3):
            assert np.array_equal(dead_in[i, layer], ~by_label[:, planted.label == i].any(1))
        domains = planted.of("domain", layer)
        for neuron in domains:
            assert np.flatnonzero(~dead_in[:, layer, neuron.neuron]).tolist() == list(neuron.labels)
        assert Counter(n.labels for n in domains) == {
            **dict.fromkeys([(0,), (1,), (2,)], 2),
            **dict.fromkeys([(0, 1), (0, 2), (1, 2)], 1),
        }
        (miss,) = planted.near_misses("domain", layer)
        counts = active[layer][miss.neuron].reshape(planted.tokens.shape).sum(1)
        by_label = sorted(int(counts[planted.label == i].sum()) for i in range(3))
        assert by_label[:2] == [0, 1] and by_label[2] > 50


# --- positions


def hypergeometric(k: np.ndarray, every: int, total: int, drawn: int) -> np.ndarray:
    """Probability that k of `drawn` are among the `total` of `every`; scipy's own takes milliseconds."""

    def choose(a: Any, b: Any) -> Any:
        return gammaln(a + 1) - gammaln(b + 1) - gammaln(a - b + 1)

    possible = k[(k <= total) & (drawn - k <= every - total)]
    chance = np.zeros(len(k))
    ways = choose(total, possible) + choose(every - total, drawn - possible) - choose(every, drawn)
    chance[possible] = np.exp(ways)
    return chance


def indicator(counts: np.ndarray, sequences: int, rate: float) -> np.ndarray:
    """A column's part of the mutual information, from its activations; 0·log 0 = 0."""

    return xlogy(p := counts / sequences, p / rate) + xlogy(1 - p, (1 - p) / (1 - rate))


def position_rules(active: np.ndarray, shrink: int) -> tuple[float, str, str]:
    """Corrected mutual information, type and strength, from the words of paper.md, §5 [rule]; columns ≥ 1."""
    sequences, positions = active[:, 1:].shape
    count = active[:, 1:].sum(0)
    curve, total, every = count / sequences, int(count.sum()), sequences * positions
    if total in (0, every):
        return 0.0, "", ""
    k = np.arange(sequences + 1)
    null = (hypergeometric(k, every, total, sequences) * indicator(k, sequences, total / every)).sum()
    corrected = indicator(count, sequences, total / every).mean() - null
    if corrected <= 0.05:
        return corrected, "", ""
    w, tau, epsilon = max(3, round(active.shape[1] / 64)), 0.05, 0.005
    before, after = w // 2, (w - 1) // 2
    smooth = np.array([curve[max(0, i - before) : i + after + 1].mean() for i in range(positions)])
    level = np.where(smooth <= tau, -1, np.where(smooth >= 1 - tau, 1, 0)).tolist()
    ranges: list[tuple[int, int, int]] = []  # level, first, end
    first = 0
    for i in range(1, positions + 1):
        if i == positions or level[i] != level[first]:
            if level[first] and i - first >= w:
                ranges.append((level[first], first, i))
            first = i
    kinds = [kind for kind, _, _ in ranges]
    changes = sum(a != b for a, b in pairwise(kinds))
    if not ranges:
        scatter = ((curve - smooth) ** 2 / (smooth * (1 - smooth) / sequences * (1 - 1 / w))).sum()
        return corrected, "other", "strong" if chi2.sf(scatter, positions) > 0.05 else "weak"
    rates = [curve[start + shrink : end - shrink].mean() for _, start, end in ranges]
    strong = all(rate <= epsilon or rate >= 1 - epsilon for rate in rates)
    kind = "oscillatory" if changes >= 3 else "both_extremes" if len(set(kinds)) == 2 else "one_extreme"
    return corrected, kind, "strong" if strong else "weak"


@pytest.mark.parametrize("shrink", [0, 1, 2])
def test_positional_neurons_and_no_others(planted, active, shrink):
    truth = planted.truth()
    for layer in range(LAYERS):
        for neuron in (n for n in planted.neurons if n.layer == layer):
            place = layer, neuron.neuron
            bits = active[layer][neuron.neuron].reshape(planted.tokens.shape)
            information, kind, strength = position_rules(bits, shrink)
            assert (truth["position_type"][place], truth["position_strength"][place]) == (kind, strength), neuron
            assert (kind != "") == truth["positional"][place] == (neuron.kind == "positional")
            assert information < 0.03 or information > 0.07, "nobody is near the limit"
        kinds = Counter((n.position_type, n.position_strength) for n in planted.of("positional", layer))
        types = ("oscillatory", "both_extremes", "one_extreme", "other")
        assert set(kinds) == {(kind, strength) for kind in types for strength in ("strong", "weak")}


def test_half_an_indicator_has_one_bit_and_a_bos_neuron_is_not_positional(planted, active):
    sequences, positions = planted.tokens.shape
    for layer in range(LAYERS):
        curves = active[layer].reshape(-1, sequences, positions).mean(1)
        halves = [
            curves[n.neuron] for n in planted.of("positional", layer) if set(curves[n.neuron].tolist()) == {0.0, 1.0}
        ]
        halves = [curve for curve in halves if curve.mean() == 0.5 and np.abs(np.diff(curve)).sum() == 1]
        assert len(halves) == 2
        for curve in halves:
            assert indicator(curve * sequences, sequences, 0.5).mean() == pytest.approx(log(2))
        only = [n for n in planted.of("dead_but_bos", layer) if curves[n.neuron, 1:].max() == 0]
        assert len(only) == 1 and only[0].position_type == ""
        counts = curves[only[0].neuron] * sequences
        assert indicator(counts, sequences, counts.sum() / sequences / positions).mean() > 0.05


# --- what neurons write


def projections(planted: Planted) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From the checkpoint: raw projections on all rows `(L, N, rows)`, value vectors, unembedding."""
    with safe_open(planted.folder / "model.safetensors", "np") as file:
        unembed = file.get_tensor("model.decoder.embed_tokens.weight")
        values = [file.get_tensor(f"model.decoder.layers.{i}.fc2.weight").T for i in range(LAYERS)]
    return np.stack([v @ unembed.T for v in values]), np.stack(values), unembed


def test_named_tokens_fill_exactly_the_first_and_the_last_ranks(planted):
    raw, values, unembed = projections(planted)
    words = planted.projection.shape[2]
    np.testing.assert_allclose(raw[..., :words], planted.projection, atol=1e-6)
    order = raw[..., :words].argsort(-1)
    sorted_ = np.take_along_axis(raw[..., :words], order, -1)
    gap = np.diff(sorted_, axis=-1).min(-1) / np.abs(sorted_).max(-1)
    assert gap.min() > 1e-4, "no two tokens tie, in fp16 neither"
    named = [n for n in planted.neurons if n.suppresses or n.promotes]
    for neuron in named:
        place = neuron.layer, neuron.neuron
        most = len(neuron.suppresses)
        assert tuple(order[place][:most].tolist()) == neuron.suppresses
        assert tuple(order[place][::-1][: len(neuron.promotes)].tolist()) == neuron.promotes
        assert (raw[place][list(neuron.suppresses)] < 0).all() and (raw[place][list(neuron.promotes)] > 0).all()
        if most == 1 and not neuron.promotes:
            token = unembed[neuron.suppresses[0]]
            cosine = raw[place][neuron.suppresses[0]] / np.linalg.norm(values[place]) / np.linalg.norm(token)
            assert cosine == pytest.approx(-0.7, abs=0.015)
    for layer in range(LAYERS):
        here = [n for n in named if n.layer == layer]
        assert any(n.suppresses and n.promotes for n in here)
        assert any(n.suppresses and not n.promotes for n in here)
        assert any(n.promotes and not n.suppresses for n in here)
        assert {n.n for n in here} == {0, 1, 2, 3}


def test_padded_rows_would_win_any_ranking(planted):
    raw, _, unembed = projections(planted)
    words = planted.projection.shape[2]
    assert len(unembed) == words + 8 == 72
    assert (raw[..., words:].max(-1) > raw[..., :words].max(-1)).all()
    assert (raw[..., words:].min(-1) < raw[..., :words].min(-1)).all()


def test_which_detectors_suppress_their_triggers(planted, found):
    raw = projections(planted)[0][..., : planted.projection.shape[2]].astype(np.float64)
    truth = planted.truth()
    for layer in range(LAYERS):
        signs = set()
        for neuron, f in enumerate(found[1][layer]):
            place = layer, neuron
            if not f.detector:
                assert truth["suppresses_triggers"][place] == -1 and np.isnan(truth["trigger_projection"][place])
                continue
            mean, centred, plain = 0.0, 0.0, 0.0
            for (token,), on in f.covered.items():
                mean += raw[place][token] * on / sum(f.covered.values())
                centred += (raw[place][token] - raw[place].mean()) * on / sum(f.covered.values())
                plain += raw[place][token] / len(f.covered)
            assert truth["trigger_projection"][place] == pytest.approx(mean, abs=1e-6)
            assert truth["trigger_projection_centred"][place] == pytest.approx(centred, abs=1e-6)
            assert truth["suppresses_triggers"][place] == (mean < 0) and abs(mean) > 1e-4
            signs.add((mean < 0, centred < 0, plain < 0))
        # weights and centring both matter to somebody
        assert signs >= {(True, True, True), (False, False, False), (True, False, True), (True, True, False)}


def test_suppressed_triggers_are_the_triggers(planted):
    for n, kind in DETECTORS.items():
        for layer in range(LAYERS):
            last = [({g[-1] for g in d.triggers}, d) for d in planted.of(kind, layer)]
            assert sum(set(d.suppresses) == tokens for tokens, d in last) >= 3
            assert any(set(d.promotes) == tokens for tokens, d in last)
            assert any(d.promotes and not set(d.promotes) & tokens for tokens, d in last)
            assert any(not d.promotes and not d.suppresses for _, d in last) or n == 1


# --- other sizes


@pytest.mark.parametrize(
    "size",
    [
        {"seed": 1},
        {"seed": 2},
        {"seed": 3},
        {"vocab_size": 72, "positions": 32, "sequences": 400, "seed": 7},
        {"vocab_size": 54, "positions": 128, "sequences": 96, "seed": 7},
        {"vocab_size": 96, "positions": 65, "sequences": 257, "seed": 7},
    ],
    ids=str,
)
def test_other_seeds_and_sizes(tmp_path, size):
    planted = planted_opt(tmp_path, layers=1, **size)
    truth, active = planted.truth(), planted.active(0)
    mine = {n: [*map(Rules(planted.tokens, n), active)] for n in (1, 2, 3)}
    for n, kind in DETECTORS.items():
        assert truth[kind][0].tolist() == [f.detector for f in mine[n]]

    def check(neuron: PlantedNeuron) -> bool:
        f = mine[neuron.n][neuron.neuron] if neuron.n else None
        return f is None or f.detector != neuron.near_miss

    assert all(map(check, planted.neurons))
    for neuron in planted.neurons:
        bits = active[neuron.neuron].reshape(planted.tokens.shape)
        assert position_rules(bits, 1)[1:] == (neuron.position_type, neuron.position_strength), neuron
