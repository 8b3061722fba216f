"""Profile: how often a neuron is active by position and by label, and how much it depends on them, in words.

Values for a card and the lines it prints of them; information is in nats. Names of labels are of unknown origin: they
are escaped in lines and as they are in values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from neurolens.sparkline import draw_bars, find_top, pool
from neurolens.terminal import cut, pieces, sentence, wrapped
from neurolens.verdict import count, percent

INDENT = 12  # cells in front of what a section says
ROWS = 4  # lines that a curve is high
NAME = 24  # cells of a label's name, at most
LEAST_P = 1e-12  # below, p is not told: nothing that was assumed for it is known so well


@dataclass(frozen=True)
class Dependence:
    """Mutual information of the neuron's bit and a category of its token: the `plug_in` estimate; `corrected` by what
    chance alone gives, with its interval (None where there is none); nominal `p`; `rough`, for few tokens."""

    plug_in: float
    corrected: float
    low: float | None
    high: float | None
    p: float
    rough: bool

    def clauses(self, bound: str = "") -> list[str]:
        """The numbers as clauses of a sentence; `bound` stands behind the corrected one, in brackets."""
        interval = "" if self.low is None or self.high is None else f"{nats(self.low)} to {nats(self.high)}"
        behind = ", ".join(filter(None, (interval, bound)))
        p = f"p < {LEAST_P:.0e}" if self.p < LEAST_P else f"p {self.p:.2g}"
        return [
            f"mutual information {nats(self.plug_in)} nats",
            f"corrected {nats(self.corrected)}" + (f" ({behind})" if behind else ""),
            p + (" (rough: few activations, or silences, in each)" if self.rough else ""),
        ]


@dataclass(frozen=True)
class Range:
    """Positions [first, stop) at which the neuron is (almost) `always` active, or never: its `frequency` inside,
    without the outer parts, of `n` tokens."""

    first: int
    stop: int
    always: bool
    frequency: float
    n: int


@dataclass(frozen=True)
class Kind:
    """What a positional neuron is: type and strength, as tables name them; period and phase in positions (None for what
    does not oscillate); mean correlation of the labels' curves (None with one label); share of resamplings in which it
    is positional, of the same type and strength (None with one group); its ranges, by position."""

    type: str
    strength: str
    period: float | None
    phase: float | None
    agreement: float | None
    stability: float | None
    ranges: tuple[Range, ...]

    @property
    def words(self) -> str:
        """`both extremes, strong`."""
        return f"{self.type}, {self.strength}".replace("_", " ")


@dataclass(frozen=True)
class Profile:
    """By position 0, 1, …: `activations` of `tokens`. `dependence` None if positions are not analysed; `kind`
    None for what is not. More than `threshold` corrected information makes a neuron positional."""

    activations: tuple[int, ...]
    tokens: tuple[int, ...]
    dependence: Dependence | None = None
    kind: Kind | None = None
    threshold: float = 0.0

    @property
    def frequency(self) -> tuple[float, ...]:
        """P(active) at each position."""
        return tuple(on / max(1, total) for on, total in zip(self.activations, self.tokens, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {"frequency": self.frequency, **asdict(self)}

    def lines(self, width: int) -> list[str]:
        """The curve, and below it what the analysis says of it."""
        return self._curve(width) + self._verdict(width)

    def _curve(self, width: int) -> list[str]:
        positions = len(self.activations)
        step, shares = pool(self.activations, self.tokens, width - INDENT)
        top = find_top(shares)
        each = f", {step} a column" if step > 1 else ""
        lines = [f"P(active) at {count(positions, 'position')}{each}; {percent(shares[0])} at 0"]
        names = [percent(top), *[""] * (ROWS - 2), "0%"]
        lines += [
            f"{name:>10} │{bars}".rstrip() for name, bars in zip(names, draw_bars(shares, top, ROWS), strict=True)
        ]
        last = str(positions - 1) if positions > 1 else ""
        axis = "0" + " " * max(1, len(shares) - 1 - len(last)) + last
        return [*lines, f"{'':{INDENT}}{axis}".rstrip()]

    def clauses(self) -> list[str]:
        """What the analysis says of it; nothing if it was not analysed."""
        if self.dependence is None:
            return []
        if self.kind is None:
            return ["not positional", *self.dependence.clauses(f"at most {nats(self.threshold)}")]
        what = self.kind
        clauses = [f"positional: {what.words}", *self.dependence.clauses()]
        if what.period is not None and what.phase is not None:
            clauses.append(f"period {what.period:.1f}, phase {what.phase:.1f}")
        if what.agreement is not None:
            clauses.append(f"mean correlation of the labels' curves {what.agreement:.2f}")
        if what.stability is not None:
            clauses.append(f"of this type and strength in {percent(what.stability)} of resamplings")
        return clauses

    def ranges(self) -> dict[str, list[str]]:
        """Positions at which it is (almost) always and never active: `always` → `0–31`, …; those there are."""
        if self.kind is None:
            return {}
        nearly = "" if self.kind.strength == "strong" else "nearly "
        found = {
            f"{nearly}{name}": [f"{each.first}–{each.stop - 1}" for each in self.kind.ranges if each.always == always]
            for name, always in (("always", True), ("never", False))
        }
        return {name: ranges for name, ranges in found.items() if ranges}

    def _verdict(self, width: int) -> list[str]:
        if self.dependence is None:
            return []
        lines = sentence("  ✗ " if self.kind is None else "  ✓ ", self.clauses(), width)
        for name, ranges in self.ranges().items():
            *first, last = name.split()
            title = f"    {' '.join([*first, f'{last:<8}'])}"
            lines.append(title + cut([*ranges[:1], *(f", {text}" for text in ranges[1:])], width - len(title)))
        return lines


@dataclass(frozen=True)
class Rate:
    """Active on `on` of `total` tokens; the interval of that share (None where there is none)."""

    on: int
    total: int
    low: float | None = None
    high: float | None = None

    @property
    def frequency(self) -> float:
        """P(active)."""
        return self.on / max(1, self.total)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "activations": self.on,
            "tokens": self.total,
            "frequency": self.frequency,
            "frequency_low": self.low,
            "frequency_high": self.high,
        }

    def __str__(self) -> str:
        return percent(self.frequency) + interval(self.low, self.high)


@dataclass(frozen=True)
class Contrast:
    """How much a neuron depends on the label; the one label it is active in (`only`), the one it is never active in
    though in every other (`silent`), None where there is none; whether enough tokens say so."""

    dependence: Dependence
    only: str | None
    only_supported: bool
    silent: str | None
    silent_supported: bool

    def tell(self, only: str, silent: str) -> list[tuple[str, str, bool]]:
        """(text, label, whether supported) of what it is: with two labels, of which it is both, the first text's."""
        both = (only, self.only, self.only_supported), (silent, self.silent, self.silent_supported)
        return [(text, name, supported) for text, name, supported in both if name is not None][:1]


def label_lines(labels: Mapping[str, Rate], contrast: Contrast | None, width: int) -> list[str]:
    """Frequency by label, and how much it depends on the label; none with a single label."""
    if len(labels) < 2:
        return []
    lines = wrapped("  by label  ", [f"{printable(name)} {rate}" for name, rate in labels.items()], width)
    if contrast is None:
        return lines
    clauses = contrast.dependence.clauses()
    for text, name, supported in contrast.tell("active in {} only", "never in {}, though in every other label"):
        clauses.append(f"{text.format(printable(name))} ({'' if supported else 'not '}well supported)")
    return lines + sentence(" " * INDENT, clauses, width)


def printable(label: str) -> str:
    """A label's name, escaped, and cut if it is long."""
    return cut(pieces(label), NAME)


def interval(low: float | None, high: float | None, confidence: float | None = None) -> str:
    """` (17.9–18.7%)`: the interval of a share, with its level if it is given; nothing where there is none."""
    if low is None or high is None:
        return ""
    level = "" if confidence is None else f"{confidence:.0%}: "
    return f" ({level}{percent(low).removesuffix('%')}–{percent(high)})"


def nats(value: float) -> str:
    """Information to three digits."""
    return f"{value:.3g}"
