"""Information of bits and categories, against the formula in plain Python and against every placement of activations.

The oracles share no code with neurolens: fractions, `math.log`, combinations of tokens, and binomial coefficients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import combinations, groupby, pairwise
from math import comb, erfc, factorial, fsum, inf, isclose, log, prod, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurolens import kernels
from neurolens.information import FEW_PAIRS, Information, measure_information, mutual_information

LAWS = settings(deadline=None, derandomize=True, max_examples=100)
SMALL = (
    (2, 2, 2),
    (3, 3, 3),
    (1, 3, 4),
    (6, 6),
    (1, 9),
    (1, 1, 1, 1, 1),
    (2, 2, 2, 2, 2),
    (4, 0, 3),
    (1, 2, 3, 4),
    (5,),
)
Outcomes = dict[tuple[int, ...], int]  # counts of the categories: in how many placements


# -- the oracles ---------------------------------------------------------------------------------------------------


@cache
def tell(k: int, size: int, active: int, tokens: int) -> float:
    """KL(k / size ‖ active / tokens) of a bit, nats; 0 · log 0 = 0."""
    rate, frequency = Fraction(k, size), Fraction(active, tokens)
    return fsum(float(p) * log(p / q) for p, q in ((rate, frequency), (1 - rate, 1 - frequency)) if p)


def spell_out(on: Sequence[int], total: Sequence[int]) -> float:
    """Σ_c P(c) · KL(P(active | c) ‖ P(active)); 0 without tokens."""
    active, tokens = sum(on), sum(total)
    return fsum(m / tokens * tell(k, m, active, tokens) for k, m in zip(on, total, strict=True) if m)


@cache
def place_all(total: tuple[int, ...], active: int) -> Outcomes:
    """Every way to place the activations on tokens, one by one."""
    of = [c for c, size in enumerate(total) for _ in range(size)]
    counted: Counter[tuple[int, ...]] = Counter()
    for placed in combinations(of, active):
        counted[tuple(placed.count(c) for c in range(len(total)))] += 1
    return counted


def split_all(total: Sequence[int], active: int) -> Outcomes:
    """As `place_all`, tokens of a category taken together: for more of them."""

    def split(left: int, sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
        if len(sizes) == 1:
            if left <= sizes[0]:
                yield (left,)
            return
        for k in range(min(left, sizes[0]) + 1):
            yield from ((k, *rest) for rest in split(left - k, sizes[1:]))

    return {on: prod(map(comb, total, on)) for on in split(active, total)}


def deal(active: int, categories: int, size: int) -> Outcomes:
    """As `place_all` for categories of one size, those that differ by order taken together: for many categories."""

    def parts(left: int, most: int) -> Iterator[tuple[int, ...]]:
        if left == 0:
            yield ()
        for part in range(min(left, most), 0, -1):
            yield from ((part, *rest) for rest in parts(left - part, part))

    dealt = {}
    for part in parts(active, size):
        if len(part) <= categories:
            on = part + (0,) * (categories - len(part))
            orders = factorial(categories) // prod(map(factorial, Counter(on).values()))
            dealt[on] = orders * prod(comb(size, k) for k in part)
    return dealt


def bound_p(outcomes: Outcomes, total: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """P(a larger plug-in) and P(one at least as large), for every outcome. Values that differ by rounding are one."""
    told = np.array([spell_out(on, total) for on in outcomes])
    order, ways = np.argsort(-told), list(outcomes.values())
    low, high, above = np.zeros(len(told)), np.zeros(len(told)), 0
    for _, same in groupby(order, key=lambda i: float(f"{told[i]:.10g}")):
        at = list(same)
        low[at] = above / sum(ways)
        above += sum(ways[i] for i in at)
        high[at] = above / sum(ways)
    return low, high


def mid_p(outcomes: Outcomes, total: Sequence[int]) -> np.ndarray:
    """The middle of those."""
    low, high = bound_p(outcomes, total)
    return (low + high) / 2


def average(chance: Sequence[float], values: Sequence[float]) -> float:
    return fsum(p * x for p, x in zip(chance, values, strict=True))


def measure(outcomes: Outcomes, total: Sequence[int]) -> Information:
    return measure_information(np.array(list(outcomes), np.uint16).reshape(len(outcomes), -1), np.array(total))


def columns(rng: np.random.Generator, neurons: int, total: Sequence[int], frequency: float) -> np.ndarray:
    """Activations of neurons whose bits depend on nothing."""
    return rng.binomial(total, frequency, (neurons, len(total))).astype(np.uint32)


@st.composite
def tables(draw, most: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """(on, total) of some neurons: empty categories, all active and never active occur often."""
    total = draw(st.lists(st.integers(0, most), max_size=6))
    dtype = draw(st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]))
    neurons = [
        draw(st.sampled_from([[0] * len(total), total, [draw(st.integers(0, size)) for size in total]]))
        for _ in range(draw(st.integers(0, 4)))
    ]
    return np.array(neurons, dtype).reshape(len(neurons), len(total)), np.array(total, np.int64)


def close(one: np.ndarray, two: np.ndarray, within: float = 1e-12) -> None:
    np.testing.assert_allclose(one, two, rtol=0, atol=within)


def alike(one: Information, two: Information) -> None:
    """All but the last digits are the same."""
    for name in ("plug_in", "expected", "corrected"):
        close(getattr(one, name), getattr(two, name))
    close(one.p, two.p, 1e-7)
    assert one.rough.tolist() == two.rough.tolist()


# -- the plug-in ---------------------------------------------------------------------------------------------------


@LAWS
@given(tables())
def test_plug_in_is_the_formula(table: tuple[np.ndarray, np.ndarray]) -> None:
    on, total = table
    found = measure_information(on, total)
    want = np.array([spell_out(row, total.tolist()) for row in on.tolist()])
    close(found.plug_in, want)
    close(mutual_information(on, total), want)
    close(mutual_information(on.astype(np.float64), total.astype(np.float64)), want)
    assert ((found.plug_in >= 0) & (found.plug_in <= log(2) + 1e-12)).all()
    for values in (found.plug_in, found.expected, found.corrected, found.p):
        assert values.shape == (len(on),) and values.dtype == np.float64
    assert found.rough.shape == (len(on),) and found.rough.dtype == bool
    assert ((found.p >= 0) & (found.p <= 1)).all()


def test_half_range_indicator_is_worth_log_2() -> None:
    """Rates of 0 and 1 count: leaving those positions out finds nothing in the clearest of all positional neurons."""
    on, total = np.zeros((2, 2048), np.uint16), np.full(2048, 10)
    on[0, :1024] = on[1, ::2] = 10
    found = measure_information(on, total)
    close(found.plug_in, np.full(2, log(2)))
    close(found.corrected, log(2) - found.expected)
    assert (found.corrected > 0.63).all()
    assert (found.p < 1e-300).all()


@pytest.mark.parametrize("there", range(1, 8))
def test_indicator_of_some_categories_is_worth_its_entropy(there: int) -> None:
    on, total = np.zeros((1, 8), np.uint16), np.full(8, 100)
    on[0, :there] = 100
    f = there / 8
    close(measure_information(on, total).plug_in, np.array([-f * log(f) - (1 - f) * log(1 - f)]))


@pytest.mark.parametrize(
    ("on", "total"),
    [([[0, 0, 0]], [4, 5, 6]), ([[4, 5, 6]], [4, 5, 6]), ([[3]], [7]), ([[0, 3, 0]], [0, 7, 0]), ([[0, 0]], [0, 0])],
)
def test_nothing_is_told_where_nothing_can_be(on: list[list[int]], total: list[int]) -> None:
    """Never and always active, one category, no tokens."""
    found = measure_information(np.array(on, np.uint32), np.array(total))
    assert found.plug_in == found.expected == found.corrected == 0
    assert found.p == 1


@pytest.mark.parametrize("shape", [(0, 3), (0, 0), (3, 0)])
def test_no_neurons_or_no_categories(shape: tuple[int, int]) -> None:
    found = measure_information(np.zeros(shape, np.uint32), np.full(shape[1], 5))
    assert found.plug_in.tolist() == found.expected.tolist() == found.corrected.tolist() == [0] * shape[0]
    assert found.p.tolist() == [1] * shape[0]


# -- laws ----------------------------------------------------------------------------------------------------------


@LAWS
@given(tables(), st.randoms(use_true_random=False))
def test_order_of_categories_does_not_matter(table: tuple[np.ndarray, np.ndarray], random) -> None:
    on, total = table
    order = random.sample(range(len(total)), len(total))
    alike(measure_information(on, total), measure_information(on[:, order], total[order]))


@LAWS
@given(tables())
def test_silence_tells_as_much_as_activation(table: tuple[np.ndarray, np.ndarray]) -> None:
    on, total = table
    alike(measure_information(on, total), measure_information(total - on, total))


@LAWS
@given(tables(), st.integers(0, 6))
def test_categories_without_tokens_do_not_count(table: tuple[np.ndarray, np.ndarray], place: int) -> None:
    on, total = table
    place = min(place, len(total))
    one, two = (
        measure_information(on, total),
        measure_information(np.insert(on, place, 0, 1), np.insert(total, place, 0)),
    )
    for name in ("plug_in", "expected", "corrected", "p", "rough"):
        assert np.array_equal(getattr(one, name), getattr(two, name))


@LAWS
@given(tables(), st.integers(0, 5), st.integers(2, 4))
def test_parts_of_one_rate_tell_what_their_whole_does(
    table: tuple[np.ndarray, np.ndarray], place: int, parts: int
) -> None:
    on, total = (each.astype(np.int64) for each in table)
    if len(total):
        place %= len(total)
        whole = on.copy(), total.copy()
        whole[0][:, place] *= parts
        whole[1][place] *= parts
        split = np.repeat(on[:, [place]], parts - 1, 1), np.repeat(total[[place]], parts - 1)
        close(mutual_information(*whole), mutual_information(np.hstack([on, split[0]]), np.hstack([total, split[1]])))


@LAWS
@given(tables())
def test_a_neuron_is_measured_by_itself(table: tuple[np.ndarray, np.ndarray]) -> None:
    on, total = table
    together = measure_information(on, total)
    for i in range(len(on)):
        alone = measure_information(on[i : i + 1], total)
        for name in ("plug_in", "expected", "p"):
            close(getattr(alone, name), getattr(together, name)[i : i + 1])


# -- the null, every placement -------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", SMALL)
def test_corrected_is_0_on_average_over_all_placements(total: tuple[int, ...]) -> None:
    for active in range(sum(total) + 1):
        outcomes = place_all(total, active)
        found = measure(outcomes, total)
        ways = [ways / comb(sum(total), active) for ways in outcomes.values()]
        assert abs(fsum(w * x for w, x in zip(ways, found.corrected, strict=True))) < 1e-12
        mean = fsum(w * spell_out(on, total) for w, on in zip(ways, outcomes, strict=True))
        close(found.expected, np.full(len(outcomes), mean))


@LAWS
@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.integers(0, 16))
def test_corrected_is_0_on_average_for_any_sizes(sizes: list[int], active: int) -> None:
    outcomes = place_all(tuple(sizes), min(active, sum(sizes)))
    found = measure(outcomes, sizes)
    whole = sum(outcomes.values())
    assert abs(fsum(w / whole * x for w, x in zip(outcomes.values(), found.corrected, strict=True))) < 1e-12


@pytest.mark.parametrize("size", [1, 2, 7, 60])
@pytest.mark.parametrize("tokens", [60, 61, 200])
def test_moments_of_a_category(size: int, tokens: int) -> None:
    """Mean of the divergence; variance and third moment of what is left of it beside a regression on the count."""
    several = [0, 1, 2, tokens // 3, tokens // 2, tokens - 1, tokens]
    found = kernels.null_information(np.array(several), tokens, size)
    for i, active in enumerate(several):
        counts = range(max(0, size - (tokens - active)), min(size, active) + 1)
        chance = [comb(active, k) * comb(tokens - active, size - k) / comb(tokens, size) for k in counts]
        told = [tell(k, size, active, tokens) for k in counts]
        mean, apart = average(chance, told), [k - size * active / tokens for k in counts]
        spread = average(chance, [x * x for x in apart])
        slope = average(chance, [x * y for x, y in zip(apart, told, strict=True)]) / spread if spread else 0
        rest = [y - mean - slope * x for x, y in zip(apart, told, strict=True)]
        assert isclose(found[0, i], mean, rel_tol=1e-9, abs_tol=1e-15)
        assert isclose(found[1, i], average(chance, [x**2 for x in rest]), rel_tol=1e-6, abs_tol=1e-18)
        assert isclose(found[2, i], average(chance, [x**3 for x in rest]), rel_tol=1e-6, abs_tol=1e-18)


RARE = [
    (total, active)
    for total in ((3, 3, 3, 3), (2,) * 6, (4, 4, 4), (6, 6), (1,) * 7, (5, 5))
    for active in range(1, sum(total))
    if (few := min(active, sum(total) - active)) * (few - 1) / 2 * (total[0] - 1) / (sum(total) - 1) < FEW_PAIRS
]


@pytest.mark.parametrize(("total", "active"), RARE)
def test_rare_activations_are_counted_out(total: tuple[int, ...], active: int) -> None:
    outcomes = place_all(total, active)
    close(measure(outcomes, total).p, mid_p(outcomes, total), 3e-9)


@pytest.mark.parametrize(
    ("categories", "size", "active"),
    [(50, 5, 2), (50, 5, 7), (50, 5, 11), (200, 2, 20), (60, 30, 9), (2048, 10, 5), (2048, 10, 21), (9, 1000, 4)],
)
def test_rare_activations_among_many_categories_are_counted_out(categories: int, size: int, active: int) -> None:
    """Every value the plug-in can take, in a tail of less than 10⁻⁹ at least bounded."""
    outcomes, total = deal(active, categories, size), [size] * categories
    assert sum(outcomes.values()) == comb(categories * size, active)
    want = mid_p(outcomes, total)
    close(measure(outcomes, total).p, want, 3e-9)
    silences = {tuple(size - k for k in on): ways for on, ways in outcomes.items()}
    close(measure(silences, total).p, want, 3e-9)


def test_two_activations_at_one_of_2048_positions() -> None:
    """By hand: the second is where the first is with 9 / 20,479."""
    on, total = np.zeros((2, 2048), np.uint16), np.full(2048, 10)
    on[0, 7] = 2
    on[1, [7, 300]] = 1
    together = 9 / 20479
    close(measure_information(on, total).p, np.array([together / 2, together + (1 - together) / 2]), 1e-9)


@pytest.mark.parametrize(
    ("total", "active"),
    [
        ((60, 60, 60), 60),
        ((40, 60, 80), 60),
        ((40, 60, 80), 25),
        ((40, 60, 80), 155),
        ((100, 300), 150),
        ((25, 25, 25, 25), 40),
        ((15, 25, 30, 40), 30),
        ((10, 10, 10, 10, 10), 12),
    ],
)
def test_p_is_that_of_all_placements(total: tuple[int, ...], active: int) -> None:
    """Three moments instead of every outcome: between P(larger) and P(at least as large), give or take what a curve
    does not know of steps. An outcome has up to 2% here; in the tail, where it matters, it is off by less."""
    outcomes = split_all(total, active)
    assert sum(outcomes.values()) == comb(sum(total), active)
    found, (low, high) = measure(outcomes, total).p, bound_p(outcomes, total)
    off = np.maximum(low - found, found - high)
    for level, within in ((0.2, 0.02), (0.01, 0.0015)):
        assert off[low + high < 2 * level].max() < within
    tail = (low + high < 0.4) & (high > 1e-5)
    assert (found[tail] > 0.7 * low[tail]).all() and (found[tail] < 2.6 * high[tail]).all()


@pytest.mark.parametrize("active", [512, 2048, 3000])
def test_p_of_columns_of_two(active: int) -> None:
    """Their plug-in grows with the number that hold two activations; at half of all it is as good as normal."""
    outcomes, total = {}, [2] * 2048
    for two in range(max(0, active - 2048), active // 2 + 1):
        one = active - 2 * two
        on = (2,) * two + (1,) * one + (0,) * (2048 - one - two)
        outcomes[on] = comb(2048, two) * comb(2048 - two, one) * 2**one
    assert sum(outcomes.values()) == comb(4096, active)
    likely = {on: ways for on, ways in outcomes.items() if ways * 10**9 > comb(4096, active)}
    low, high = bound_p(likely, total)
    close(measure(likely, total).p, (low + high) / 2, 0.006)


FEW = [(60, 90, 150), (6000, 9000, 15000), (100, 300), (10, 100, 1000), (20, 480), (1, 2), (7, 7, 7, 8)]


@pytest.mark.parametrize("total", FEW)
@pytest.mark.parametrize("active", [1, 2, 3, 5, 8, 12])
def test_few_activations_find_no_label(total: tuple[int, ...], active: int) -> None:
    """A category is seldom found by chance: a few values cannot have the level exactly, but not ten times it either."""
    active = min(active, sum(total))
    outcomes = split_all(total, active)
    chance = np.array([ways / comb(sum(total), active) for ways in outcomes.values()])
    found = measure(outcomes, total)
    p = found.p
    assert (np.diff(p[np.argsort(found.plug_in)]) <= 1e-9).all()
    assert chance[p <= 0.05].sum() < 0.16
    assert chance[p <= 0.001].sum() < 0.016


@pytest.mark.parametrize("total", [(15360,) * 3, (15360,) * 4, (5_000_000,) * 2, (12345,) * 7, (100,) * 20])
def test_one_activation_tells_nothing_of_categories_of_one_size(total: tuple[int, ...]) -> None:
    """Wherever it is, the plug-in is the same, also where a design effect is known."""
    on, many = np.eye(len(total), dtype=np.uint32), np.ones(len(total))
    assert (measure_information(on, np.array(total)).p >= 0.5).all()
    assert (measure_information(on, np.array(total), design_effect=many).p >= 0.5).all()


@pytest.mark.parametrize("sizes", [(1, 1), (2, 3), (1, 1, 1), (1, 2, 3), (1, 1, 1, 1, 1), (5, 4, 3, 2, 1)])
@pytest.mark.parametrize("share", [0.03, 0.5, 0.9])
def test_p_of_many_tokens_is_that_of_chi_squared(sizes: tuple[int, ...], share: float) -> None:
    """In closed form for 1, 2 and 4 degrees of freedom."""
    total = np.array(sizes) * 2_000_000
    spread = np.sqrt(total * share * (1 - share))[None]
    apart = np.arange(1, 8)[:, None] * np.where(np.arange(len(sizes)) % 2, 1, -1) * 0.4
    on = np.rint(total * share + apart * spread).astype(np.uint32)
    found = measure_information(on, total)
    x = 2 * int(total.sum()) * found.plug_in
    closed = {2: [erfc(sqrt(v / 2)) for v in x], 3: np.exp(-x / 2), 5: np.exp(-x / 2) * (1 + x / 2)}
    want = np.array(closed[len(sizes)])
    assert want.min() < 0.01 and want.max() > 0.4
    np.testing.assert_allclose(found.p, want, rtol=0.005)


# -- the null, drawn -----------------------------------------------------------------------------------------------


def within_chance(p: np.ndarray, level: float) -> bool:
    """As many p below the level as there should be, to four standard errors: 1 in 10,000 tests fails by chance."""
    return abs((p <= level).mean() - level) < 4 * sqrt(level * (1 - level) / len(p))


@pytest.mark.parametrize(
    ("total", "frequency"),
    [
        ((10,) * 256, 0.5),
        ((10,) * 256, 0.05),
        ((10,) * 256, 0.97),
        ((50,) * 256, 0.2),
        ((200,) * 128, 0.01),
        ((3,) * 512, 0.3),
        ((7000, 9000, 15000), 0.02),
        ((2000, 2500, 3000, 8000), 0.5),
    ],
)
def test_p_is_uniform_where_nothing_is_to_be_found(total: tuple[int, ...], frequency: float) -> None:
    on = columns(np.random.default_rng(len(total)), 3000, total, frequency)
    found = measure_information(on, np.array(total))
    for level in (0.01, 0.05, 0.2, 0.5):
        assert within_chance(found.p, level), level
    assert abs(found.corrected.mean()) < 4 * found.corrected.std() / sqrt(len(on))


@pytest.mark.parametrize(("positions", "size", "frequency"), [(256, 10, 0.0005), (256, 10, 0.004), (512, 50, 0.0003)])
def test_rare_neurons_are_seldom_positional(positions: int, size: int, frequency: float) -> None:
    """Few values of the plug-in: the mid-p is below the level at most twice as often, and a half on average."""
    total = np.full(positions, size)
    p = measure_information(columns(np.random.default_rng(0), 3000, total.tolist(), frequency), total).p
    for level in (0.001, 0.01, 0.05):
        assert (p <= level).mean() < 2 * level + 4 * sqrt(level / len(p))
    alive = p[p < 1]
    assert abs(alive.mean() - 0.5) < 4 * sqrt(1 / 12 / len(alive))


# -- tokens that hang together -------------------------------------------------------------------------------------


def test_design_effect_of_1_is_none() -> None:
    """For categories of different sizes, where nothing is counted out."""
    total = np.array([500, 700, 1100])
    on = columns(np.random.default_rng(0), 200, total.tolist(), 0.1)
    alike(measure_information(on, total), measure_information(on, total, design_effect=np.ones(200)))


def test_copies_of_tokens_say_no_more() -> None:
    """Every token eight times over: what they tell is the same, and with a design effect of 8, so is p."""
    total = np.array([5000, 7000, 11000])
    on = columns(np.random.default_rng(0), 200, total.tolist(), 0.1)
    once, often = (
        measure_information(on, total),
        measure_information(8 * on, 8 * total, design_effect=np.full(200, 8.0)),
    )
    close(often.plug_in, once.plug_in)
    np.testing.assert_allclose(often.expected, once.expected, rtol=2e-3)
    close(often.corrected, often.plug_in - often.expected, 0)
    close(often.p, once.p, 2e-3)
    assert (measure_information(8 * on, 8 * total).p <= often.p).all()
    assert within_chance(often.p, 0.5) or within_chance(once.p, 0.5)


@pytest.mark.parametrize("total", [(300, 300, 300), (200, 300, 400)])
def test_two_activations_that_hang_together(total: tuple[int, ...]) -> None:
    """Both in one of three labels, which one alone would be."""
    both, sizes = np.array([[2, 0, 0]], np.uint32), np.array(total)
    assert measure_information(both, sizes).p < 0.2
    assert measure_information(both, sizes, design_effect=np.array([2.0])).p > 0.3


def test_the_more_hangs_together_the_less_is_found() -> None:
    total = np.array([500, 700, 1100])
    on = columns(np.random.default_rng(0), 50, total.tolist(), 0.1)
    found = [measure_information(on, total, design_effect=np.full(50, d)) for d in (1.0, 1.5, 4.0, 50.0)]
    for less, more in pairwise(found):
        assert (less.p <= more.p).all() and (less.p < more.p).any()
        close(less.plug_in, more.plug_in, 0)
        assert (less.expected < more.expected).all() and (less.corrected > more.corrected).all()
    several = measure_information(on, total, design_effect=np.repeat([1.0, 4.0], 25))
    assert np.array_equal(several.p, np.concatenate([found[0].p[:25], found[2].p[25:]]))


# -- rough, and large ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "active", "rough"),
    [
        ((10, 10, 10, 10), 19, True),
        ((10, 10, 10, 10), 20, False),
        ((10, 10, 10, 10), 21, True),  # 19 silences
        ((100, 300), 19, True),
        ((100, 300), 20, False),
        ((100, 300), 380, False),
        ((100, 300), 381, True),
        ((100, 0, 300), 20, False),  # nothing is expected of no tokens
        ((40,), 5, False),
        ((40,), 4, True),
    ],
)
def test_rough_is_less_than_five_in_the_smallest_category(total: tuple[int, ...], active: int, rough: bool) -> None:
    on, left = [], active
    for size in total:
        on.append(min(size, left))
        left -= on[-1]
    assert measure_information(np.array([on]), np.array(total)).rough.tolist() == [rough]
    least = min(active, sum(total) - active) * min(size for size in total if size) / sum(total)
    for bound, want in ((least, False), (least * 1.001, True), (0.0, False), (inf, True)):
        assert measure_information(np.array([on]), np.array(total), least_expected=bound).rough.tolist() == [want]


@pytest.mark.parametrize("frequency", [1e-6, 0.3, 0.97])
def test_five_billion_tokens_of_2048_positions(frequency: float) -> None:
    total = np.full(2048, 2_441_406)
    on = columns(np.random.default_rng(0), 20, total.tolist(), frequency)
    found = measure_information(on, total)
    np.testing.assert_allclose(found.plug_in, [spell_out(row, total.tolist()) for row in on.tolist()], rtol=1e-5)
    if frequency > 0.01:
        np.testing.assert_allclose(found.expected, 2047 / 2 / total.sum(), rtol=1e-5)  # Miller and Madow
    assert 1e-4 < found.p.min() < 0.5 < found.p.max() < 1 - 1e-4


@pytest.mark.parametrize("frequency", [1e-6, 0.5, 0.95])
def test_a_billion_tokens_of_three_labels(frequency: float) -> None:
    total = np.array([200_000_000, 300_000_000, 500_000_000])
    on = columns(np.random.default_rng(0), 20, total.tolist(), frequency)
    found = measure_information(on, total)
    np.testing.assert_allclose(found.expected, 2 / 2 / 1e9, rtol=0.01)  # Miller and Madow
    np.testing.assert_allclose(found.p, np.exp(-1e9 * found.plug_in), rtol=0.02)
    clear = measure_information(np.array([[4, 15, 25]], np.uint32) * 20_000_000, total)
    close(clear.plug_in, np.array([spell_out((4, 15, 25), (10, 15, 25))]))
    assert clear.p == 0 or clear.p < 1e-300


def test_two_silences_in_five_billion_tokens() -> None:
    """Rates of nearly 1 have few digits; what is compared has to have the same ones. Factorials have six."""
    total, together = np.full(2048, 2_441_406), 2_441_405 / (2048 * 2_441_406 - 1)
    off = np.zeros((2, 2048), np.uint32)
    off[0, 7] = 2
    off[1, [7, 300]] = 1
    want = np.array([together / 2, together + (1 - together) / 2])
    close(measure_information(off, total).p, want, 1e-6)
    close(measure_information(total - off, total).p, want, 1e-6)
