"""trends: runs over the values of a factor, a line for each setting of the others, repetitions averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neurolens.comparison.factors import PLACES, REPLICATES, Member, Value, group_by


@dataclass(frozen=True)
class Line:
    """Runs that differ in the factor alone, and in what changes along with it.

    settings  the other factors that tell this line from others, name → value; one that its runs lack is not in it
    points    value of the factor → its runs, in the factor's order; values without a run are not in it
    """

    settings: Mapping[str, Value]
    points: Mapping[Value, tuple[Member, ...]]


@dataclass(frozen=True)
class Trend:
    """Runs over a factor: its values in order, the lines, and which other factors change along with it alone."""

    factor: str
    values: tuple[Value, ...]
    lines: tuple[Line, ...]
    along: tuple[str, ...]


def arrange(members: Sequence[Member], factor: str, *, replicates: Sequence[str] = REPLICATES) -> Trend:
    """Arrange runs over a factor; lines by all other factors but `replicates`, whose runs are repetitions of a point.

    A factor that has one value for each value of this one (the model, over sizes) changes along with it and tells no
    lines apart; nor is one named that the others tell. Raises UsageError naming the run that lacks the factor.
    """
    groups = group_by(members, factor)
    names = list(dict.fromkeys(name for member in members for name in member.factors))
    others = [name for name in names if name != factor and name not in replicates and _differs(members, name)]
    along = [name for name in others if all(not _differs(of, name) for of in groups.values())]
    kept = [name for name in others if name not in along]
    for name in sorted(kept, key=lambda name: name in PLACES, reverse=True):  # the model says no more than its size
        rest = [other for other in kept if other != name]
        if rest and not any(_differs(of, name) for of in _by_all(members, rest)):
            kept = rest
    lines: dict[tuple, dict[Value, list[Member]]] = {}
    settings: dict[tuple, dict[str, Value]] = {}
    for value, of in groups.items():
        for member in of:
            here = {name: member.factors[name] for name in kept if name in member.factors}
            key = tuple(sorted(here.items(), key=lambda item: item[0]))
            settings[key] = here
            lines.setdefault(key, {}).setdefault(value, []).append(member)
    return Trend(
        factor,
        tuple(groups),
        tuple(Line(settings[key], {v: tuple(of) for v, of in points.items()}) for key, points in lines.items()),
        tuple(along),
    )


def _by_all(members: Sequence[Member], names: Sequence[str]) -> list[list[Member]]:
    """Runs that are alike in some factors, also in lacking them."""
    groups: dict[tuple, list[Member]] = {}
    for member in members:
        groups.setdefault(tuple((name in member.factors, member.factors.get(name)) for name in names), []).append(
            member
        )
    return list(groups.values())


def _differs(members: Sequence[Member], name: str) -> bool:
    """Whether a factor has several values among some runs, or some lack it."""
    having = [member for member in members if name in member.factors]
    return len(having) not in (0, len(members)) or any(
        member.factors[name] != having[0].factors[name] for member in having
    )
