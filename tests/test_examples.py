"""Examples: chosen by the rule that is stated, evenly over layers; triggers and marks as the tables say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurolens import NeurolensError
from neurolens.examples import Examples, find_examples, spread
from neurolens.tables import Neurons

K, TOKENS = 4, 30
Table = dict[str, np.ndarray]


def made_up(
    layers: list[int], neurons: int, seed: int, *, share: float = 0.5
) -> tuple[Neurons, dict[int, Table], dict[int, Table]]:
    """(table of neurons, triggers by layer, updates by layer) of random detectors."""
    rng = np.random.default_rng(seed)
    columns = {
        "unigram_detector_supported": rng.random((len(layers), neurons)) < share,
        "activations_on_text": rng.integers(100, 104, (len(layers), neurons)),  # few values: many are equal
    }
    triggers, updates = {}, {}
    for row, layer in enumerate(layers):
        rows = []
        for neuron in range(neurons):
            for n in (1, 2):
                for token in rng.choice(TOKENS, rng.integers(1, 6), replace=False).tolist():
                    rows.append((neuron, n, token, *rng.integers(1, 9, 2).tolist(), bool(rng.random() < 0.7)))
        rows.sort(key=lambda r: (r[0], r[1], -r[3], r[2]))
        neuron, n, token, on, total, covered = (np.array(column) for column in zip(*rows, strict=True))
        tokens = np.stack([np.where(n == 2, 0, -1), token], axis=1)
        triggers[layer] = {"neuron": neuron, "n": n, "tokens": tokens, "on": on, "total": total, "covered": covered}
        projected = np.flatnonzero(columns["unigram_detector_supported"][row] | (rng.random(neurons) < 0.2))
        sides = rng.permuted(np.tile(np.arange(TOKENS), (len(projected), 1)), axis=1)[:, : 2 * K]
        updates[layer] = {"neuron": projected, "promoted": sides[:, :K], "suppressed": sides[:, K:]}
    table = Neurons(
        "run", layers=layers, neurons=neurons, model_layers=9, n_tokens=1000, rules={"support_occurrences": 5},
        names=list(columns), read=columns.__getitem__,
    )  # fmt: skip
    return table, triggers, updates


def found(tables: tuple[Neurons, dict[int, Table], dict[int, Table]], count: int = 8) -> Examples:
    neurons, triggers, updates = tables
    return find_examples(neurons, triggers.__getitem__, updates.__getitem__, str, asked={"k": K}, count=count)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [1, 3, 8, 1000])
def test_examples_are_the_detectors_with_the_most_triggers_and_hold_what_the_tables_say(seed: int, count: int):
    neurons, triggers, updates = made_up([0, 2, 5], 12, seed)
    result = found((neurons, triggers, updates), count)
    expected = []
    supported = neurons["unigram_detector_supported"].tolist()
    numbers = spread(np.array([sum(row) for row in supported]), count)
    for row, layer in enumerate([0, 2, 5]):
        ranked = []
        for neuron in range(12):
            own = [
                (-on, place, token)
                for place, (who, n, (_, token), on, total, covered) in enumerate(zip(*(
                    triggers[layer][name].tolist() for name in ("neuron", "n", "tokens", "on", "total", "covered")
                ), strict=True))
                if who == neuron and n == 1 and covered and total >= 5
            ]  # fmt: skip
            if supported[row][neuron]:
                active = int(neurons["activations_on_text"][row, neuron])
                ranked.append((-len(own), -active, neuron, [token for *_, token in sorted(own)]))
        for _, active, neuron, own in sorted(ranked)[: numbers.get(row, 0)]:
            at = updates[layer]["neuron"].tolist().index(neuron)
            sides = [updates[layer][side][at].tolist() for side in ("promoted", "suppressed")]
            marked = [[(token, token in own) for token in tokens] for tokens in (own, *sides)]
            expected.append((layer, neuron, -active, *marked))
    shown = []
    for one in result.examples:
        sides = ([(token.id, token.trigger) for token in side] for side in (one.triggers, one.promoted, one.suppressed))
        shown.append((one.layer, one.neuron, one.activations, *sides))
    assert shown == expected
    assert len(expected) == min(count, sum(map(sum, supported)))
    assert result.detectors == sum(map(sum, supported)) and result.token(7) == "7"
    assert (result.name, result.model_layers, result.n_tokens) == ("run", 9, 1000)
    assert result.rules == {"support_occurrences": 5, "k": K}


def test_only_tables_of_layers_with_examples_are_read():
    neurons, triggers, updates = made_up(list(range(6)), 3, 0, share=1)
    neurons["unigram_detector_supported"][[1, 3, 4, 5]] = False
    kept = {layer: triggers[layer] for layer in (0, 2)}
    assert {one.layer for one in found((neurons, kept, updates)).examples} == {0, 2}


def test_no_detectors_no_examples():
    neurons, *_ = made_up([0, 1], 5, 0, share=0)
    result = found((neurons, {}, {}))
    assert result.examples == () and result.detectors == 0
    empty = made_up([], 0, 0)
    assert found(empty).examples == ()


def test_a_detector_without_a_projected_value_vector_is_named():
    neurons, triggers, updates = made_up([3], 4, 1, share=1)
    updates[3] = {name: column[[0, 1, 3]] for name, column in updates[3].items()}
    with pytest.raises(NeurolensError, match=r"neuron 3\.2 is a detector, but .* analyse the run again"):
        found((neurons, triggers, updates))


def test_places_without_a_token_are_left_out():
    neurons, triggers, updates = made_up([0], 2, 1, share=1)
    updates[0]["suppressed"][:, -1] = -1
    for one in found((neurons, triggers, updates)).examples:
        assert len(one.suppressed) == K - 1 and all(token.id >= 0 for token in one.suppressed)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 12), max_size=20), st.integers(1, 30))
def test_spread_takes_all_it_can_as_evenly_as_it_can(available: list[int], count: int):
    taken = spread(np.array(available, int), count)
    places = [place for place, number in enumerate(available) if number]
    assert all(1 <= number <= available[place] for place, number in taken.items())
    assert list(taken) == sorted(taken)
    if len(places) > count:
        assert set(taken.values()) == {1} and len(taken) == count
        assert places[0] in taken and (places[-1] in taken or count == 1)
    else:
        assert list(taken) == places and sum(taken.values()) == min(count, sum(available))
        for place, number in taken.items():  # no place has two more than one that could have given another
            assert all(number <= taken[other] + 1 for other in taken if taken[other] < available[other]), place
