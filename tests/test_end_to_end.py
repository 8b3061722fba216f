"""Text → bits → results, through the real HF forward: planted neurons are found, near misses are not, and every
number equals a brute-force one computed from float activations by code that shares nothing with neurolens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import random_texts

from neurolens.cli import run as neurolens
from neurolens.run import Run, open_run
from neurolens.testing import Planted, planted_opt

DETECTORS = {1: "unigram_detector", 2: "bigram_detector", 3: "trigram_detector"}
TYPES, STRENGTHS = ("oscillatory", "both_extremes", "one_extreme", "other"), ("weak", "strong")


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "disguised"])
def planted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Planted, Run]:
    """A planted model, collected from its labelled text and analysed with the command line."""
    folder = tmp_path_factory.mktemp("planted")
    planted = planted_opt(folder / "model", disguise=request.param)
    data = planted.write_jsonl(folder / "text.jsonl")
    run = folder / "run.zarr"
    command = ["collect", str(folder / "model"), str(data), "-o", str(run), "--label-key", "label"]
    assert neurolens([*command, "--batch-tokens", "512", "--block-tokens", "2048"]) == 0
    assert neurolens(["analyze", str(run), "--all"]) == 0
    return planted, open_run(run)


def test_planted_corpus_comes_back(planted: tuple[Planted, Run]) -> None:
    truth, run = planted
    corpus = run.store.corpus()
    assert corpus.label_names == truth.label_names
    for label in range(len(truth.label_names)):
        np.testing.assert_array_equal(corpus.tokens[corpus.label == label], truth.tokens[truth.label == label])
    assert len(run.store.blocks) > 2


@pytest.mark.parametrize("kind", ["dead", "dead_but_bos", "positional", *DETECTORS.values()])
def test_planted_neurons_are_found_and_nothing_else(kind: str, planted: tuple[Planted, Run]) -> None:
    """Precision and recall 1.0 in every layer."""
    truth, run = planted
    expected = truth.truth()[kind]
    assert expected.any(axis=1).all() and not expected.all(axis=1).any(), "each layer has some and is not all of them"
    np.testing.assert_array_equal(run.neurons[kind], expected)
    for neuron in truth.of(kind):
        assert expected[neuron.layer, neuron.neuron]


@pytest.mark.parametrize("column", ["activations", "activations_on_text", "unigrams_95", "bigrams_95", "trigrams_95"])
def test_planted_numbers(column: str, planted: tuple[Planted, Run]) -> None:
    truth, run = planted
    np.testing.assert_array_equal(run.neurons[column], truth.truth()[column])


@pytest.mark.parametrize("kind", DETECTORS.values())
def test_planted_support(kind: str, planted: tuple[Planted, Run]) -> None:
    truth, run = planted
    np.testing.assert_array_equal(run.neurons[f"{kind}_supported"], truth.truth()[f"{kind}_supported"])


@pytest.mark.parametrize("n", DETECTORS)
@pytest.mark.parametrize("rule", ["rate", "coverage", "number"])
def test_near_misses_of_detectors_are_rejected(rule: str, n: int, planted: tuple[Planted, Run]) -> None:
    truth, run = planted
    for layer in run.store.layers:
        misses = truth.near_misses(rule, layer, n=n)
        assert misses
        for neuron in misses:
            assert not run.neurons[DETECTORS[n]][layer, neuron.neuron]
            if rule == "number":
                number = run.neurons[f"{DETECTORS[n].removesuffix('_detector')}s_95"][layer, neuron.neuron]
                assert number == (6 if n == 1 else 51)


@pytest.mark.parametrize("kind", ["dead", "dead_but_bos"])
def test_near_misses_of_death_are_rejected(kind: str, planted: tuple[Planted, Run]) -> None:
    truth, run = planted
    for layer in run.store.layers:
        misses = truth.near_misses(kind, layer)
        assert misses and not any(run.neurons[kind][layer, neuron.neuron] for neuron in misses)


@pytest.mark.parametrize("n", DETECTORS)
def test_planted_triggers_and_rates(n: int, planted: tuple[Planted, Run]) -> None:
    truth, run = planted
    for layer in run.store.layers:
        triggers = run.triggers(layer)
        for neuron in truth.of(DETECTORS[n], layer):
            mine = (triggers["neuron"] == neuron.neuron) & (triggers["n"] == n)
            grams = [tuple(row) for row in triggers["tokens"][:, -n:].tolist()]
            assert sorted(grams[row] for row in np.flatnonzero(mine & triggers["covered"])) == list(neuron.triggers)
            verdict = truth.verdict(neuron, n)
            counts = zip(verdict.on, verdict.total, strict=True)
            expected = dict(zip(verdict.members, counts, strict=True))
            members = np.flatnonzero(mine & triggers["member"])
            assert {grams[r]: (triggers["on"][r], triggers["total"][r]) for r in members} == expected


def test_planted_updates(planted: tuple[Planted, Run]) -> None:
    """Which detectors suppress their triggers; what each neuron promotes and suppresses; the ranks of triggers."""
    truth, run = planted
    known = truth.truth()
    np.testing.assert_array_equal(run.neurons["suppresses_triggers"], known["suppresses_triggers"])
    for column in ("trigger_projection", "trigger_projection_centred"):
        np.testing.assert_allclose(run.neurons[column], known[column], atol=1e-6)
    for layer in run.store.layers:
        assert {-1, 0, 1} == set(known["suppresses_triggers"][layer].tolist())
        updates, triggers, projection = run.updates(layer), run.triggers(layer), truth.projection[layer]
        assert updates["neuron"].tolist() == list(range(len(projection)))
        rising = projection.argsort(axis=1)
        np.testing.assert_array_equal(updates["suppressed"], rising[:, :10])
        np.testing.assert_array_equal(updates["promoted"], rising[:, ::-1][:, :10])
        place = triggers["neuron"], triggers["tokens"][:, -1]
        np.testing.assert_array_equal(triggers["rank"], rising.argsort(axis=1)[place])
        np.testing.assert_allclose(triggers["projection"], projection[place], atol=1e-6)
        for neuron in (neuron for neuron in truth.neurons if neuron.layer == layer):
            most = min(10, len(neuron.suppresses))
            assert tuple(updates["suppressed"][neuron.neuron, :most].tolist()) == neuron.suppresses[:most]
            most = min(10, len(neuron.promotes))
            assert tuple(updates["promoted"][neuron.neuron, :most].tolist()) == neuron.promotes[:most]


@pytest.mark.parametrize("n", DETECTORS)
def test_planted_layers(n: int, planted: tuple[Planted, Run]) -> None:
    """Detectors of each layer, the n-grams they cover, and how many of them suppress their triggers."""
    truth, run = planted
    known, seen, before = truth.truth(), set(), set()
    found = {name: run.by_layer[name][:, n - 1] for name in ("detectors", "covered", "new", "cumulative")}
    for layer in run.store.layers:
        detects, supported = known[DETECTORS[n]][layer], known[f"{DETECTORS[n]}_supported"][layer]
        assert found["detectors"][:, layer].tolist() == [detects.sum(), supported.sum()]
        detectors = [neuron for neuron in truth.neurons if neuron.layer == layer and detects[neuron.neuron]]
        here = {ngram for neuron in detectors for ngram in truth.verdict(neuron, n).covered}
        expected = (len(here), len(here - seen), len(seen | here))
        assert tuple(found[name][0, layer] for name in ("covered", "new", "cumulative")) == expected
        assert run.by_layer["new_to_previous"][0, n - 1, layer] == len(here - before)
        seen, before = seen | here, here
        if n == 1:
            suppress = known["suppresses_triggers"][layer]
            expected = [(suppress[those] == 1).mean() for those in (detects, supported)]
            np.testing.assert_allclose(run.by_layer["suppressing"][:, 0, layer], expected)


def test_planted_domains(planted: tuple[Planted, Run]) -> None:
    truth, run = planted
    for layer in run.store.layers:
        count = run.store.read(f"counts/layers/{layer:02d}/label")
        for label in range(len(truth.label_names)):
            np.testing.assert_array_equal(count[:, label] == 0, truth.dead_in(label)[layer])


@cache
def planted_bits(truth: Planted, layer: int) -> np.ndarray:
    """Bool `(neuron, sequence, position)`."""
    return truth.active(layer).reshape(-1, *truth.tokens.shape)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("kind", TYPES)
def test_planted_types(kind: str, strength: str, planted: tuple[Planted, Run]) -> None:
    """Precision and recall 1.0 of each type and strength in every layer, in the columns and in the table by layer."""
    truth, run = planted
    known = truth.truth()
    expected = (known["position_type"] == kind) & (known["position_strength"] == strength)
    assert expected.any(axis=1).all()
    found = (run.neurons["position_type"] == kind) & (run.neurons["position_strength"] == strength)
    np.testing.assert_array_equal(found, expected)
    place = TYPES.index(kind), STRENGTHS.index(strength)
    np.testing.assert_array_equal(run.positions.by_layer["count"][place], expected.sum(1))
    table = run.positions
    rows = np.flatnonzero((table["type"] == kind) & (table["strength"] == strength))
    assert [*zip(table["layer"][rows], table["neuron"][rows], strict=True)] == [
        *zip(*np.nonzero(expected), strict=True)
    ]


def test_planted_curves(planted: tuple[Planted, Run]) -> None:
    truth, run = planted
    table = run.positions
    for layer in run.store.layers:
        mine = table["layer"] == layer
        count = planted_bits(truth, layer).sum(1)
        np.testing.assert_array_equal(run.store.read(f"counts/layers/{layer:02d}/position"), count)
        np.testing.assert_array_equal(table.curve[mine], count[truth.truth()["positional"][layer]])
    np.testing.assert_array_equal(table.frequency, table.curve / len(truth.tokens))
    assert table.sequences == len(truth.tokens) and table.positions == truth.tokens.shape[1]
    assert (table["stability"] > 0.7).all() and not table["rough"].any() and (table["p"] < 1e-9).all()
    assert (table["agreement"] > 0.9).all(), "labels have the same positions"


def test_half_of_the_positions_is_one_bit_and_bos_is_none(planted: tuple[Planted, Run]) -> None:
    """An indicator of half of the positions has ln 2, all others less; position 0 alone makes nobody positional."""
    truth, run = planted
    information = run.neurons["position_mi"]
    for layer in run.store.layers:
        bits = planted_bits(truth, layer)
        halves = [n for n, each in enumerate(bits) if (each == each[0]).all() and each[0].mean() == 0.5]
        assert len(halves) >= 4
        np.testing.assert_allclose(information[layer, halves], np.log(2), rtol=0, atol=1e-12)
        assert (np.delete(information[layer], halves) < np.log(2) - 0.01).all()
        only_first = [n for n, each in enumerate(bits) if each[:, 0].all() and not each[:, 1:].any()]
        assert only_first and (information[layer, only_first] > 0.05).all()
        assert not run.neurons["positional"][layer, only_first].any()
        assert not run.neurons["position_mi_corrected"][layer, only_first].any()


def stretches(on: np.ndarray) -> list[tuple[int, int, bool]]:
    """(first, stop, active) of positions from 1 on, bool `(position,)`."""
    bounds = [1, *(i for i in range(2, len(on)) if on[i] != on[i - 1]), len(on)]
    return [(first, stop, bool(on[first])) for first, stop in pairwise(bounds)]


def test_planted_ranges_and_periods(planted: tuple[Planted, Run]) -> None:
    """Of neurons that are indicators: where they turn, and how far apart. Smoothing takes a position at a turn."""
    truth, run = planted
    table, seen = run.positions, 0
    for row, place in enumerate(zip(table["layer"], table["neuron"], strict=True)):
        bits = planted_bits(truth, int(place[0]))[place[1]]
        if not (bits == bits[0]).all():
            continue
        seen += 1
        made, mine = stretches(bits[0]), np.flatnonzero(table.ranges["row"] == row)
        found = [tuple(int(table.ranges[name][i]) for name in ("first", "stop", "always")) for i in mine]
        assert len(found) == len(made)
        for i, ((first, stop, always), (begin, end, active)) in enumerate(zip(found, made, strict=True)):
            assert always == active and table.ranges["frequency"][mine[i]] == active
            assert first - begin in ((0,) if i == 0 else (0, 1)) and end - stop in (
                (0,) if end == len(bits[0]) else (0, 1)
            )
        if table["type"][row] == "oscillatory":
            length = made[1][1] - made[1][0]
            begin = next(first for first, _, active in made[1:] if active)
            assert table["period"][row] == pytest.approx(2 * length)
            assert table["phase"][row] == pytest.approx((begin + (length - 1) / 2) % (2 * length))
        else:
            assert np.isnan(table["period"][row]) and np.isnan(table["phase"][row])
    assert seen >= 7 * run.store.layers[-1]


def test_planted_oscillators_tile_all_positions(planted: tuple[Planted, Run]) -> None:
    """Each layer has one and its opposite."""
    _, run = planted
    assert run.positions.tiling["tiling_neurons"].tolist() == [3] * 3
    assert run.positions.tiling["tiling_covered"].tolist() == [1] * 3


def test_planted_labels(planted: tuple[Planted, Run]) -> None:
    """Neurons of one label, and silent in one; of those that are well supported precision and recall are 1.0."""
    truth, run = planted
    table, names = run.contrast, list(truth.label_names)
    assert table.coords["label"] == names
    for layer in run.store.layers:
        bits = planted_bits(truth, layer)
        on = [bits[:, truth.label == label].sum((1, 2)).tolist() for label in range(3)]
        for neuron, counts in enumerate(zip(*on, strict=True)):
            active, silent = ([i for i, k in enumerate(counts) if (k > 0) == there] for there in (True, False))
            assert run.neurons["label_only"][layer, neuron] == (active[0] if len(active) == 1 else -1)
            assert run.neurons["label_silent"][layer, neuron] == (silent[0] if len(silent) == 1 else -1)
        domains, (miss,) = truth.of("domain", layer), truth.near_misses("domain", layer)
        found = {name: run.neurons[f"label_{name}_supported"][layer] for name in ("only", "silent")}
        only, silent = ({n.neuron: n.labels for n in domains if len(n.labels) == many} for many in (1, 2))
        assert len(only) == 6 and len(silent) == 3
        assert set(np.flatnonzero(found["only"]).tolist()) == set(only)
        for neuron, (label,) in only.items():
            assert run.neurons["label_only"][layer, neuron] == label
        for neuron, labels in silent.items():
            assert run.neurons["label_silent"][layer, neuron] == 3 - sum(labels)
        # one activation outside its label is one too many for the one, and leaves one label for the other
        assert run.neurons["label_only"][layer, miss.neuron] == -1
        assert set(np.flatnonzero(found["silent"]).tolist()) == {*silent, miss.neuron}
        assert not any(found[name][n.neuron] for name in found for n in truth.near_misses("dead", layer))
        for label in range(3):
            for name in ("only", "silent"):
                those = run.neurons[f"label_{name}"][layer] == label
                assert table[name][label, layer] == those.sum()
                assert table[f"{name}_supported"][label, layer] == (those & found[name]).sum()
            assert table["dead"][label, layer] == truth.dead_in(label)[layer].mean()
            assert table["frequency"][label, layer] == pytest.approx(bits[:, truth.label == label].mean())
    difference = run.difference(names[0], names[2])
    for layer in run.store.layers:
        bits = planted_bits(truth, layer)
        rates = [bits[:, truth.label == label].mean((1, 2)) for label in (0, 2)]
        np.testing.assert_allclose(difference["difference"][layer], rates[0] - rates[1], atol=1e-12)
        for neuron in truth.of("domain", layer):
            low, high = difference["low"][layer, neuron.neuron], difference["high"][layer, neuron.neuron]
            sign = (0 in neuron.labels) - (2 in neuron.labels)
            assert low > 0 if sign > 0 else high < 0 if sign < 0 else low <= 0 <= high


def float_activations(model: Path, tokens: np.ndarray, batch: int) -> np.ndarray:
    """Float activations `(layer, neuron, token)` of HF's own forward."""
    return np.stack(list(of_forward(model, tokens, batch, lambda values: values)))


def of_forward(model: Path, tokens: np.ndarray, batch: int, take: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """What `take` takes of the activations of HF's own forward, `(neuron, token)`, layer by layer."""
    from transformers import OPTForCausalLM

    hf = OPTForCausalLM.from_pretrained(model, attn_implementation="sdpa").float().eval()
    layers: Any = hf.model.decoder.layers
    values: list[list[torch.Tensor]] = [[] for _ in layers]
    for layer, part in zip(layers, values, strict=True):
        layer.fc2.register_forward_pre_hook(lambda module, args, part=part: part.append(take(args[0].clone())))
    with torch.inference_mode():
        for first in range(0, len(tokens), batch):
            hf(torch.from_numpy(tokens[first : first + batch]).long(), logits_to_keep=1)
    for part in values:
        yield torch.cat([each.reshape(-1, each.shape[-1]) for each in part]).T.contiguous().numpy()


def brute_force(values: np.ndarray, tokens: np.ndarray) -> dict[str, object]:
    """One neuron's results from its float activations `(token,)`: paper.md's rules in plain Python."""
    ids = tokens.ravel().tolist()
    fired = [i for i, value in enumerate(values.tolist()) if value > 0]
    on = Counter(ids[i] for i in fired if ids[i] != 2)
    total = Counter(i for i in ids if i != 2)
    activations = sum(on.values())
    number, taken, last = 0, 0, 0
    for count in sorted(on.values(), reverse=True):
        if 100 * taken >= 95 * activations:
            break
        taken, number, last = taken + count, number + 1, count
    covered = [t for t, count in on.items() if count >= last and 100 * count >= 95 * total[t]]
    explained = sum(on[t] for t in covered)
    return {
        "activations": len(fired),
        "activations_on_text": activations,
        "frequency": len(fired) / len(ids),
        "first_active": fired[0] if fired else -1,
        "dead": not fired,
        "dead_but_bos": bool(fired) and not on,
        "unigrams_95": number,
        "unigram_detector": 0 < number <= 5 and 100 * explained >= 95 * activations,
    }


@pytest.mark.parametrize("kind", ["tiny_model", "post_ln_model"])
def test_every_number_equals_brute_force(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, write_jsonl: Callable[..., Path]
) -> None:
    model = request.getfixturevalue(kind)
    data = write_jsonl("text.jsonl", random_texts(60, seed=7))
    command = ["collect", str(model), str(data), "-o", str(tmp_path / "r.zarr"), "--block-tokens", "1000"]
    assert neurolens([*command, "--batch-tokens", "192"]) == 0
    assert neurolens(["analyze", str(tmp_path / "r.zarr")]) == 0
    run = open_run(tmp_path / "r.zarr")
    corpus = run.store.corpus()
    sequences, positions = corpus.shape
    values = float_activations(model, corpus.tokens, 4)
    order = run.store.read("order")
    assert sorted(order.tolist()) == list(range(corpus.tokens.size))
    for layer in range(3):
        position = run.store.read(f"counts/layers/{layer:02d}/position")
        label = run.store.read(f"counts/layers/{layer:02d}/label")
        group = run.store.read(f"counts/layers/{layer:02d}/group")
        contexts = run.store.read("results/contexts")[layer]
        for neuron in range(72):
            fired = values[layer, neuron].reshape(sequences, positions) > 0
            for column, value in brute_force(values[layer, neuron], corpus.tokens).items():
                assert run.neurons[column][layer, neuron] == value, (layer, neuron, column)
            np.testing.assert_array_equal(position[neuron], fired.sum(0))
            assert label[neuron].tolist() == [fired.sum()]
            assert group[neuron].tolist() == [fired[g::20].sum() for g in range(20)]
            sampled = contexts[neuron][contexts[neuron] >= 0]
            assert len(set(sampled.tolist())) == len(sampled) == min(16, fired.sum())
            assert fired.ravel()[sampled].all()
    assert run.store.read("counts/total/position").tolist() == [sequences] * positions


def test_demo_model_over_50k_tokens(tmp_path: Path) -> None:
    """The embedded model on the text of this Python installation: HF's bits, 50k tokens, every layer."""
    from neurolens.collect import collect
    from neurolens.demo.demonstrate import MODEL, demo_corpus
    from neurolens.store import Store

    corpus = demo_corpus(MODEL, 51_200)
    assert corpus.tokens.size >= 50_000
    store = collect(MODEL, corpus, tmp_path / "r.zarr", batch_tokens=2048, block_tokens=1 << 14)
    assert isinstance(store, Store) and len(store.blocks) > 2
    order = store.read("order")
    for layer, expected in enumerate(of_forward(MODEL, corpus.tokens, 8, lambda values: values > 0)):
        wanted = np.packbits(np.take(expected, order, axis=1), axis=1, bitorder="little")
        bits = store.read(f"layers/{layer:02d}/active")
        assert (bits[:, : wanted.shape[1]] != wanted).sum() == 0 and not bits[:, wanted.shape[1] :].any()


@pytest.mark.parametrize("size", ["125m", "350m"])
def test_true_shapes(size: str, tmp_path: Path) -> None:
    """Random weights of the true widths, heads, vocabulary and norm placement: HF's bits, every layer.

    Two layers of each here; `benchmarks/parity.py` does all of them at full length.
    """
    from neurolens.collect import collect
    from neurolens.corpus import Corpus
    from neurolens.store import Store
    from neurolens.testing import random_opt

    model = random_opt(tmp_path / "model", size, layers=2)
    tokens = np.random.default_rng(0).integers(4, 50265, (4, 256), dtype=np.int32)
    tokens[:, 0] = 2
    store = collect(model, Corpus.from_tokens(tokens), tmp_path / "r.zarr", batch_tokens=512)
    assert isinstance(store, Store)
    expected = float_activations(model, tokens, 2) > 0
    order = store.read("order")
    for layer in store.layers:
        bits = np.unpackbits(store.read(f"layers/{layer:02d}/active"), axis=1, bitorder="little")[:, : len(order)]
        assert 0.01 < bits.mean() < 0.99
        assert (bits != expected[layer][:, order]).sum() == 0
