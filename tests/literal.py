"""What the method says of bits by position, by label and over groups of sequences, read literally.

Plain Python over the bits of one neuron, `bits[sequence][position]` in {0, 1}; fractions where a limit may be met
exactly. Nothing of neurolens is used, so that it can be compared with this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, groupby, pairwise
from math import comb, fsum, log, nan, sqrt
from statistics import median

from scipy.stats import chi2

Bits = Sequence[Sequence[int]]
TYPES = ("oscillatory", "both_extremes", "one_extreme", "other")
STRENGTHS = ("weak", "strong")


# -- information ---------------------------------------------------------------------------------------------------


def divergence(rate: float, frequency: float) -> float:
    """fr(c)·log(fr(c)/fr) + (1 − fr(c))·log((1 − fr(c))/(1 − fr)), with 0·log 0 = 0."""
    found = rate * log(rate / frequency) if rate > 0 else 0.0
    return found + ((1 - rate) * log((1 - rate) / (1 - frequency)) if rate < 1 else 0.0)


def information(on: Sequence[int], of: Sequence[int]) -> float:
    """Plug-in: `on` activations of `of` tokens in each category. A category without tokens is none."""
    tokens, active = sum(of), sum(on)
    if active in (0, tokens):
        return 0.0
    return fsum(n / tokens * divergence(k / n, active / tokens) for k, n in zip(on, of, strict=True) if n)


@lru_cache(4096)
def chance(active: int, of: tuple[int, ...]) -> float:
    """Its mean if the `active` tokens are any of all: the count of a category is hypergeometric."""
    tokens = sum(of)
    if active in (0, tokens):
        return 0.0
    found = []
    for size, many in Counter(filter(None, of)).items():
        k = max(0, size - (tokens - active))
        ways, every = comb(active, k) * comb(tokens - active, size - k), comb(tokens, size)
        for held in range(k, min(size, active) + 1):
            found.append(many * size / tokens * (ways / every) * divergence(held / size, active / tokens))
            ways = ways * (active - held) * (size - held) // ((held + 1) * (tokens - active - size + held + 1))
    return fsum(found)


def is_rough(on: Sequence[int], of: Sequence[int], least: int = 5) -> bool:
    """Fewer activations, or silences, than `least` are expected in the smallest category."""
    active, tokens = sum(on), sum(of)
    return min(active, tokens - active) * min(n for n in of if n) < least * tokens


# -- groups --------------------------------------------------------------------------------------------------------


def groups_of(labels: Iterable[int], groups: int = 20) -> list[int]:
    """Of each sequence: its number among those of its label, modulo 20."""
    seen: Counter[int] = Counter()
    found = []
    for label in labels:
        found.append(seen[label] % groups)
        seen[label] += 1
    return found


def resample(rows: Sequence, group: Sequence[int], weights: Sequence[int]) -> list:
    """The sequences that a replicate has: each as often as its group was drawn."""
    return [row for row, mine in zip(rows, group, strict=True) for _ in range(weights[mine])]


def independent(group: Sequence[int], weights: Sequence[int]) -> float:
    """As how many sequences those of a replicate count: (Σ w)² / Σ w² of how often each of the text's was drawn."""
    often = [weights[mine] for mine in group]
    return sum(often) ** 2 / sum(w * w for w in often)


def interval(estimate: float, replicates: Sequence[float], groups: int, confidence: float) -> tuple[float, float]:
    """Percentiles of the replicates, moved so that their median is the estimate, spread by √(g / (g − 1))."""
    if groups < 2:
        return nan, nan
    middle, spread = median(replicates), sqrt(groups / (groups - 1))
    apart = sorted((each - middle) * spread for each in replicates)

    def percentile(share: float) -> float:
        place = share * (len(apart) - 1)
        below = min(int(place), len(apart) - 2)
        return apart[below] + (place - below) * (apart[below + 1] - apart[below])

    return estimate + percentile((1 - confidence) / 2), estimate + percentile((1 + confidence) / 2)


# -- positions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """The thresholds of positional neurons and their types."""

    threshold: float = 0.05
    extreme: Fraction = Fraction(1, 20)
    exact: Fraction = Fraction(1, 200)
    windows: int = 64
    least_window: int = 3
    alternations: int = 3
    scatter_p: float = 0.05
    near: float = 0.5

    def window(self, positions: int) -> int:
        return max(self.least_window, round(positions / self.windows))


@dataclass
class Range:
    first: int
    stop: int
    always: bool
    on: int  # without the outer parts
    n: int

    @property
    def frequency(self) -> Fraction:
        return Fraction(self.on, self.n)


@dataclass
class Curve:
    kind: str
    strength: str
    ranges: list[Range]
    notes: list[str] = field(default_factory=list)  # what of interest this curve has


def running_mean(on: Sequence[int], sequences: int, window: int) -> list[Fraction]:
    """Of positions 1 … T − 1: the mean over the window, of which only what is there counts."""
    found = []
    for position in range(1, len(on)):
        inside = range(max(1, position - window // 2), min(len(on) - 1, position + (window - 1) // 2) + 1)
        found.append(Fraction(sum(on[i] for i in inside), sequences * len(inside)))
    return found


def read_curve(on: Sequence[int], sequences: int, asked: Asked, independent: float | None = None) -> Curve:
    """Type, strength and ranges of a curve of activations at each position, of `sequences` tokens each.

    They scatter as so many `independent` ones: fewer if some of them are the same.
    """
    window = asked.window(len(on))
    smooth, half = running_mean(on, sequences, window), (window - 1) // 2
    levels = [-1 if each <= asked.extreme else 1 if each >= 1 - asked.extreme else 0 for each in smooth]
    ranges, notes, position = [], [], 1
    for level, stretch in groupby(levels):
        first, position = position, position + len(list(stretch))
        if level and position - first >= window:
            inner = range(first + half, position - half)
            ranges.append(Range(first, position, level > 0, sum(on[i] for i in inner), sequences * len(inner)))
            notes += ["just a range"] * (position - first == window)
        notes += ["just no range"] * (level != 0 and position - first == window - 1)
    low = {Fraction(0), asked.extreme, 1 - asked.extreme, Fraction(1)}
    notes += ["just an extreme"] * any(each in low and 0 < each < 1 for each in smooth)
    changes = sum(a.always != b.always for a, b in pairwise(ranges))
    notes += ["just oscillatory"] * (changes == asked.alternations)
    notes += ["just not oscillatory"] * (changes == asked.alternations - 1 > 0)
    if not ranges:
        kind = "other"
        apart = [
            (on[i + 1] / sequences - mean) ** 2 / (mean * (1 - mean) * (1 - 1 / window)) * (independent or sequences)
            for i, mean in enumerate(map(float, smooth))
            if 0 < mean < 1
        ]
        strong = chi2.sf(fsum(apart), len(smooth)) > asked.scatter_p
    else:
        kinds = {each.always for each in ranges}
        kind = "oscillatory" if changes >= asked.alternations else "both_extremes" if len(kinds) == 2 else "one_extreme"
        strong = all(not asked.exact < each.frequency < 1 - asked.exact for each in ranges)
        exact = {asked.exact, 1 - asked.exact}
        notes += ["just exact"] * any(each.frequency in exact and 0 < each.frequency < 1 for each in ranges)
    return Curve(kind, "strong" if strong else "weak", ranges, notes)


def period(ranges: Sequence[Range]) -> tuple[float, float]:
    """(period, phase) by the turns from one kind of range to the other, each halfway between the two.

    Least squares of turns up and turns down, both at one distance; the phase is the middle of what is always active,
    from a turn up to the next one down. NaN of fewer than three turns, which tell no distance.
    """
    turns = [(Fraction(a.stop + b.first, 2), b.always) for a, b in pairwise(ranges) if a.always != b.always]
    if len(turns) < 3:
        return nan, nan
    products = squares = Fraction(0)
    kinds = {up: [at for at, rises in turns if rises == up] for up in (True, False)}
    means = {up: (Fraction(len(at) - 1, 2), sum(at) / len(at)) for up, at in kinds.items()}
    for up, at in kinds.items():
        products += sum((i - means[up][0]) * (each - means[up][1]) for i, each in enumerate(at))
        squares += sum((i - means[up][0]) ** 2 for i in range(len(at)))
    distance = products / squares
    first = {up: mean - distance * number for up, (number, mean) in means.items()}
    down = first[False] + (0 if turns[0][1] else distance)
    return float(distance), float((first[True] + down - 1) / 2 % distance)


def where_active(ranges: Sequence[Range], positions: int) -> list[int]:
    """Positions from 1 on where a curve is active, from turn to turn: it turns halfway to a range of the other kind."""
    found, active = [], ranges[0].always
    turns = [(a.stop + b.first) // 2 for a, b in pairwise(ranges) if a.always != b.always]
    for position in range(1, positions):
        active ^= position in turns
        found += [position] * active
    return found


def correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's; 0 if one of them is constant."""
    means = [fsum(each) / len(each) for each in (first, second)]
    products = fsum((a - means[0]) * (b - means[1]) for a, b in zip(first, second, strict=True))
    squares = [fsum((a - mean) ** 2 for a in each) for each, mean in zip((first, second), means, strict=True)]
    return products / sqrt(squares[0] * squares[1]) if min(map(len, map(set, (first, second)))) > 1 else 0.0


def agreement(by_label: Sequence[Sequence[int]], sequences: Sequence[int], window: int) -> float:
    """Mean correlation of the smoothed curves of labels that there are, two by two; NaN if there are not two."""
    there = [running_mean(on, many, window) for on, many in zip(by_label, sequences, strict=True) if many]
    pairs = [correlation([float(x) for x in a], [float(x) for x in b]) for a, b in combinations(there, 2)]
    return fsum(pairs) / len(pairs) if pairs else nan


# -- sequences and labels ------------------------------------------------------------------------------------------


def design_effect(bits: Bits, labels: Sequence[int]) -> Fraction:
    """Variance of activations between sequences of a label, over that of independent tokens of the same frequency."""
    held, positions = [sum(row) for row in bits], len(bits[0])
    frequency, free = Fraction(sum(held), len(bits) * positions), len(bits) - len(set(labels))
    if frequency in (0, 1) or not free:
        return Fraction(1)
    squares = Fraction(0)
    for label in set(labels):
        mine = [k for k, other in zip(held, labels, strict=True) if other == label]
        squares += sum((k - Fraction(sum(mine), len(mine))) ** 2 for k in mine)
    return squares / free / (positions * frequency * (1 - frequency))


def one_label(on: Sequence[int], of: Sequence[int], effect: Fraction, least: Fraction) -> dict[str, tuple[int, bool]]:
    """The label a neuron is active in alone, and that in which alone it is silent (−1: there is none); whether in each
    label without activations at least `least` were to be expected, tokens that hang together counted as one."""
    there = [i for i, tokens in enumerate(of) if tokens]
    active, silent = [i for i in there if on[i]], [i for i in there if not on[i]]
    independent = sum(on) / max(Fraction(1), effect)
    told = all(independent * Fraction(of[i], sum(of)) >= least for i in silent)
    only, one_silent = len(active) == 1 and len(there) > 1, len(silent) == 1 and len(there) > 1 and bool(active)
    return {
        "only": (active[0] if only else -1, only and told),
        "silent": (silent[0] if one_silent else -1, one_silent and told),
    }
