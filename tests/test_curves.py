"""Curves: types, ranges, periods, agreement and tiling, of curves made by hand and against literal.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations
from math import isnan
from typing import Any

import numpy as np
import pytest
from drawn import draw_curve, rules_of
from hypothesis import given, settings
from hypothesis import strategies as st
from literal import (
    STRENGTHS,
    TYPES,
    Asked,
    agreement,
    independent,
    information,
    period,
    read_curve,
    resample,
    running_mean,
    where_active,
)

from neurolens import UsageError, tables
from neurolens.curves import (
    PositionRules,
    Types,
    find_periods,
    find_stages,
    find_stretches,
    find_types,
    measure_agreement,
    resample_types,
    smooth,
    tile_positions,
)

LAWS = settings(deadline=None, derandomize=True, max_examples=80)
S = 200  # sequences of the curves that are made by hand: an activation is half a percent of a position


def kinds(types: Types) -> list[tuple[str, str]]:
    return [(tables.TYPES[k], tables.STRENGTHS[s]) for k, s in zip(types.kind, types.strength, strict=True)]


def ranges(types: Types, row: int = 0) -> list[tuple[int, int, bool]]:
    """(first, stop, always) of a curve."""
    found, columns = types.ranges, ("first", "stop", "always")
    return [tuple(getattr(found, name)[i].item() for name in columns) for i in np.flatnonzero(found.row == row)]


def curve(*stretches: tuple[int, float]) -> np.ndarray:
    """Counts `(position,)` of stretches of (positions, frequency); position 0 is of another kind than any of them."""
    return np.array([S // 2] + [round(S * rate) for length, rate in stretches for _ in range(length)])


def read(*curves: np.ndarray, rules: PositionRules | None = None) -> Types:
    return find_types(np.stack(curves).astype(np.uint16), S, rules or PositionRules())


# -- by hand -------------------------------------------------------------------------------------------------------


def test_smoothing() -> None:
    on = np.array([[0, 12, 0, 0, 24]])
    assert smooth(on, 1, 3).tolist() == [[6, 4, 4, 8, 12]]
    assert smooth(on, 1, 4).tolist() == [[6, 4, 3, 9, 8]]  # two back, one ahead
    assert smooth(on, 2, 1).tolist() == [[0, 6, 0, 0, 12]]


@pytest.mark.parametrize(
    ("stretches", "expected"),
    [
        ([(10, 0), (10, 1), (10, 0), (10, 1)], "oscillatory strong"),
        ([(10, 1), (10, 0), (10, 1), (10, 0)], "oscillatory strong"),
        ([(10, 0), (10, 1), (10, 0), (10, 0.02)], "both_extremes weak"),  # which makes one range of two stretches
        ([(10, 0), (10, 0.98), (10, 0), (10, 1)], "oscillatory weak"),
        ([(10, 0), (10, 1), (10, 0), (10, 0.9)], "both_extremes strong"),
        ([(10, 0), (10, 1), (10, 0), (1, 1), (9, 0)], "both_extremes strong"),  # too short
        ([(10, 0), (10, 0.5), (10, 0), (10, 0.5), (10, 1)], "both_extremes strong"),  # never, never, always
        ([(8, 0), (8, 0.5), (8, 1), (8, 0.5), (8, 0), (8, 0.5), (8, 1)], "oscillatory strong"),
        ([(20, 0), (20, 1)], "both_extremes strong"),
        ([(20, 0.05), (20, 1)], "both_extremes weak"),  # just at the extreme
        ([(20, 0.055), (20, 1)], "one_extreme strong"),
        ([(20, 0), (20, 0.95)], "both_extremes weak"),
        ([(20, 0), (20, 0.945)], "one_extreme strong"),
        ([(20, 0.005), (20, 0.995)], "both_extremes strong"),  # just exact
        ([(20, 0.01), (20, 0.995)], "both_extremes weak"),
        ([(20, 0.005), (20, 0.99)], "both_extremes weak"),
        ([(40, 0.5)], "other strong"),
        ([(20, 0.3), (20, 0.6)], "other strong"),
        ([(1, 0.2), (1, 0.8)] * 20, "other weak"),
        ([(2, 0), (2, 1)] * 10, "other weak"),  # no stretch is long enough
    ],
    ids=str,
)
def test_types(stretches: Sequence[tuple[int, float]], expected: str) -> None:
    made = curve(*stretches)
    assert [" ".join(found) for found in kinds(read(made))] == [expected]
    assert kinds(read(S - made)) == kinds(read(made)), "never and always are alike"
    for first in (0, S):  # position 0 is not looked at
        assert kinds(read(np.concatenate([[first], made[1:]]))) == kinds(read(made))


@pytest.mark.parametrize(("positions", "window"), [(64, 3), (256, 4), (289, 5), (2048, 32)])
@pytest.mark.parametrize("rate", [0, 1])
def test_a_range_is_as_long_as_the_window(positions: int, window: int, rate: int) -> None:
    """What is not at the extreme is half-way; at the ends the window is cut off, and a shorter stretch will do."""
    back, ahead, last = window // 2, (window - 1) // 2, positions - 1
    for place, cut in (("start", ahead), ("middle", back + ahead), ("end", back)):
        for length, number in ((window + cut - 1, 0), (window + cut, 1)):
            before = {"start": 0, "middle": window, "end": last - length}[place]
            made = curve((before, 0.5), (length, rate), (last - before - length, 0.5))
            found = ranges(read(made, rules=PositionRules(extreme=0)))
            assert len(found) == number, (place, length)
            assert all(
                before + 1 <= first < stop <= before + 1 + length and always == rate for first, stop, always in found
            )


def test_rows_do_not_run_on_into_each_other() -> None:
    rows = [curve((18, 0.5), (2, 1)), curve((2, 1), (18, 0.5)), curve((10, 0.5), (10, 1)), curve((10, 1), (10, 0.5))]
    rows += [curve((10, 0), (10, 1)), curve((10, 0), (10, 1))]  # which were oscillatory, together
    found = read(*rows)
    assert kinds(found)[4:] == [("both_extremes", "strong")] * 2
    assert [ranges(found, row) for row in range(6)] == [ranges(read(row)) for row in rows]
    assert [len(ranges(found, row)) for row in range(6)] == [0, 0, 1, 1, 2, 2]


# -- against the words of the method -------------------------------------------------------------------------------


asked_differently = st.builds(
    Asked,
    extreme=st.sampled_from([Fraction(0), Fraction(1, 20), Fraction(1, 20), Fraction(1, 10), Fraction(2, 5)]),
    exact=st.sampled_from([Fraction(0), Fraction(1, 200), Fraction(1, 20), Fraction(1, 10)]),
    windows=st.sampled_from([4, 16, 64]),
    least_window=st.sampled_from([2, 3, 4]),
    alternations=st.sampled_from([1, 2, 3, 3, 4]),
    scatter_p=st.sampled_from([0, 0.05, 0.3, 0.9]),
)


def test_curves_are_read_as_the_method_says() -> None:
    seen: Counter[str] = Counter()

    @LAWS
    @given(seed=st.integers(0, 2**20), asked=asked_differently)
    def compare(seed: int, asked: Asked) -> None:
        rng = np.random.default_rng(seed)
        sequences, positions = int(rng.choice([1, 2, 20, 40, 200])), int(rng.choice([2, 3, 9, 40, 64, 130, 289]))
        on = np.stack([draw_curve(rng, sequences, positions).sum(0) for _ in range(6)]).astype(np.uint16)
        found = find_types(on, sequences, rules_of(asked))
        smoothed = smooth(on[:, 1:], sequences, asked.window(positions))
        periods = np.stack(find_periods(found), axis=1)
        for row, counts in enumerate(on.tolist()):
            expected = read_curve(counts, sequences, asked)
            seen.update([*expected.notes, f"{expected.kind} {expected.strength}"])
            mean = running_mean(counts, sequences, asked.window(positions))
            np.testing.assert_allclose(smoothed[row], [float(each) for each in mean], rtol=1e-12)
            assert kinds(found)[row] == (expected.kind, expected.strength)
            assert ranges(found, row) == [(each.first, each.stop, each.always) for each in expected.ranges]
            mine = found.ranges.row == row
            assert found.ranges.n[mine].tolist() == [each.n for each in expected.ranges]
            assert found.ranges.frequency[mine].tolist() == [float(each.frequency) for each in expected.ranges]
            active = [
                i for first, stop in find_stretches(vars(found.ranges), row, positions) for i in range(first, stop)
            ]
            assert active == (where_active(expected.ranges, positions) if expected.ranges else [])
            wanted = period(expected.ranges) if expected.kind == "oscillatory" else (np.nan, np.nan)
            np.testing.assert_allclose(periods[row], wanted, rtol=1e-9)
            seen["no period"] += expected.kind == "oscillatory" and isnan(wanted[0])

    compare()
    wanted = [f"{kind} {strength}" for kind in TYPES for strength in STRENGTHS]
    wanted += ["just a range", "just no range", "just an extreme", "just exact", "just oscillatory", "no period"]
    assert not [note for note in wanted if not seen[note]], seen


@LAWS
@given(seed=st.integers(0, 2**20), asked=asked_differently)
def test_resampled_curves(seed: int, asked: Asked) -> None:
    """Sequences of groups, each as often as its group was drawn, counted again; they scatter as fewer."""
    rng = np.random.default_rng(seed)
    positions, group = int(rng.choice([2, 9, 40, 130])), rng.integers(0, 4, rng.integers(4, 40)).tolist()
    bits = [draw_curve(rng, len(group), positions).astype(int) for _ in range(4)]
    by_group = np.zeros((4, 5, positions), np.uint16)
    for row, mine in enumerate(bits):
        np.add.at(by_group[row], group, mine)
    weights = rng.multinomial(5, [0.2] * 5, 3)
    weights[:, group[0]] += 1  # of the groups one may be empty; a replicate has sequences
    found = resample_types(by_group, weights, np.bincount(group, minlength=5), rules_of(asked))
    for replicate, drawn in enumerate(weights.tolist()):
        for row, mine in enumerate(bits):
            again = resample(mine.tolist(), group, drawn)
            counts = [sum(column) for column in zip(*again, strict=True)]
            expected = read_curve(counts, len(again), asked, independent(group, drawn))
            told, kind, strength = (values[replicate, row] for values in found)
            assert told == pytest.approx(information(counts[1:], [len(again)] * (positions - 1)), abs=1e-12)
            assert (tables.TYPES[kind], tables.STRENGTHS[strength]) == (expected.kind, expected.strength)


@LAWS
@given(seed=st.integers(0, 2**20), labels=st.integers(1, 4), window=st.sampled_from([1, 3, 4]))
def test_agreement(seed: int, labels: int, window: int) -> None:
    """Mean correlation of labels, two by two; a constant curve agrees with none, a label without sequences is none."""
    rng = np.random.default_rng(seed)
    sequences = rng.choice([0, 1, 20, 33], labels)
    on = np.stack([[draw_curve(rng, many, 30).sum(0) for many in sequences.tolist()] for _ in range(4)])
    on[0] = 0
    on[1] = on[1, :1] if rng.random() < 0.5 else on[1]
    found = measure_agreement(on.astype(np.uint16), sequences, window)
    expected = [agreement(by_label, sequences.tolist(), window) for by_label in on.tolist()]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.isnan(found).all() == ((sequences > 0).sum() < 2)


# -- oscillation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", [64, 512, 2048])
@pytest.mark.parametrize("windows", [5, 7, 12])
def test_periods_are_those_that_were_made(positions: int, windows: int) -> None:
    """Wherever the sequence cuts the first range off; in positions, to half a one for windows of an even length."""
    made = windows * PositionRules().window(positions)
    place = np.arange(positions)
    for shift in range(0, made, max(1, made // 9)):
        on = np.where((place - shift) % made < made // 2, S, 0)
        types = read(on)
        (found,), (phase,) = find_periods(types)
        if kinds(types) == [("oscillatory", "strong")]:
            assert found == pytest.approx(made)
            middle = shift + (made // 2 - 1) / 2
            assert abs((phase - middle + made / 2) % made - made / 2) < 0.500001, (shift, phase, middle)
        else:
            assert 2.5 * made > positions, "too long a period to turn three times"


@pytest.mark.parametrize(("positions", "length"), [(64, 5), (64, 8), (256, 16), (2048, 100)])
def test_indicators_of_all_positions_tile_them(positions: int, length: int) -> None:
    """Three neurons, each active in every third stretch, cover all there is; two of them the rest."""
    place = np.arange(positions) // length % 3
    types = read(*[np.where(place == i, S, 0) for i in range(3)])
    assert kinds(types) == [("oscillatory", "strong")] * 3
    shares = [float((place[1:] == i).mean()) for i in range(3)]
    neurons, covered, expected = tile_positions(types, positions)
    assert (neurons, covered) == (3, 1)
    assert expected == pytest.approx(1 - np.prod([1 - share for share in shares]))
    for i in range(3):
        two = read(*[np.where(place == j, S, 0) for j in range(3) if j != i])
        assert tile_positions(two, positions)[:2] == (2, pytest.approx(1 - shares[i]))


def test_what_does_not_tile() -> None:
    """Weak ones, and other types, do not count; nor do ranges of never."""
    weak = curve((10, 0), (10, 0.98), (10, 0), (10, 1))
    assert tile_positions(read(weak, curve((20, 0), (20, 1)), curve((40, 0.5))), 41) == (0, 0, 0)
    strong = curve((10, 0), (10, 1), (10, 0), (10, 1))
    with_others = read(weak, strong, curve((20, 1), (20, 0)))
    neurons, covered, expected = tile_positions(with_others, 41)
    assert (neurons, covered, expected) == tile_positions(read(strong), 41)
    assert (neurons, covered, expected) == (1, 0.5, pytest.approx(0.5))


# -- depth ---------------------------------------------------------------------------------------------------------


def best_cut(share: np.ndarray) -> tuple[float, int]:
    """The share of the layers' squared differences that are between two stages, and the last layer of the first."""

    def apart(part: np.ndarray) -> float:
        return sum(sum((x - sum(row) / len(row)) ** 2 for x in row) for row in part.tolist())

    whole = apart(share)
    return max(
        (1 - (apart(share[:, : cut + 1]) + apart(share[:, cut + 1 :])) / whole, cut)
        for cut in range(share.shape[1] - 1)
    )


def test_stages() -> None:
    share = np.random.default_rng(0).random((4, 5))
    found = find_stages(share, orders=3000)
    assert found and (found.explained, found.last) == pytest.approx(best_cut(share))
    by_chance = [best_cut(share[:, order])[0] for order in permutations(range(5))]
    assert found.by_chance == pytest.approx(np.mean(by_chance), abs=0.01)
    two = np.array([[0.1, 0.1, 0.1, 0.4, 0.4], [0.3, 0.3, 0.3, 0, 0]])
    clear = find_stages(two)
    assert clear and clear.last == 2 and clear.explained == pytest.approx(1) and clear.by_chance < 0.9
    assert find_stages(two[:, :2]) is None and find_stages(two[:, :1]) is None and find_stages(two[:, 3:]) is None


def test_layers_that_are_all_the_same_have_no_stages() -> None:
    assert find_stages(np.tile([[0.25], [0.5]], 4)) is None
    assert find_stages(np.tile([[0.1], [0.3]], 3)) is None


# -- what cannot be meant ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"threshold": -0.01}, "threshold is -0.01; expected at least 0 and below 0.693"),
        ({"threshold": 0.7}, "threshold is 0.7"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"extreme": -0.1}, "extreme is -0.1; expected at least 0 and below 0.5"),
        ({"extreme": 0.5}, "extreme is 0.5"),
        ({"exact": 0.5}, "exact is 0.5"),
        ({"exact": -1}, "exact is -1"),
        ({"scatter_p": 1}, "scatter_p is 1; expected at least 0 and below 1"),
        ({"near": 1}, "near is 1"),
        ({"near": -0.5}, "near is -0.5"),
        ({"windows": 0}, "windows is 0; expected at least 1"),
        ({"least_window": 1}, "least_window is 1; expected at least 2"),
        ({"alternations": 0}, "alternations is 0"),
    ],
    ids=str,
)
def test_rules_out_of_range(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PositionRules(**rules)


def test_the_window() -> None:
    assert [PositionRules().window(positions) for positions in (2, 64, 223, 225, 2048)] == [3, 3, 3, 4, 32]
    assert PositionRules(windows=4, least_window=7).window(100) == 25
