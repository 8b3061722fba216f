"""factors: what runs of a study differ in, in what order, and what the runs are called by them.

A *factor* is a name and a value that a run has: `step` 500, `size` "1.3b", `algorithm` "dpo".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurolens import UsageError

Value = str | int | float | bool
LINEAGE = ("step", "stage", "algorithm", "revision")  # along which neurons stay the same ones, in this order
PLACES = ("model", "revision")  # factors that say where weights are, which differs along any lineage
REPLICATES = ("seed",)  # factors whose values are repetitions: their runs are averaged
SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


@dataclass(frozen=True)
class Member:
    """A run of a comparison.

    run      the open run
    factors  name → value of each factor it has
    name     what to call it in tables and figures; see `name_members`
    """

    run: Any
    factors: Mapping[str, Value]
    name: str = ""

    @property
    def called(self) -> str:
        """Its name, or else that of its run."""
        return self.name or self.run.name


def magnitude(value: Value) -> float | None:
    """A number, or a size in words such as `1.3b`, as a number; None for anything else.

    >>> magnitude("350m"), magnitude(7), magnitude("dpo"), magnitude(True)
    (350000000.0, 7.0, None, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmbt]?)", value.strip().lower(), re.ASCII)
    return float(match[1]) * SCALES[match[2]] if match else None


def order_values(values: Iterable[Value]) -> list[Value]:
    """Distinct values in order: by `magnitude` where all have one, else as they first appear.

    >>> order_values(["66b", "125m", "1.3b"]), order_values(["sft", "base", "sft"])
    (['125m', '1.3b', '66b'], ['sft', 'base'])
    """
    distinct = list(dict.fromkeys(values))
    sizes = [magnitude(value) for value in distinct]
    if any(size is None for size in sizes):
        return distinct
    return [value for _, value in sorted(zip(sizes, distinct, strict=True), key=lambda each: each[0] or 0)]


def factor_of(member: Member, factor: str) -> Value:
    """A run's value of a factor. Raises UsageError, naming both, if it has none."""
    if factor not in member.factors:
        known = ", ".join(member.factors) or "none"
        raise UsageError(
            f"{member.run.name} has no factor {factor!r} (it has: {known}); give it with --factor or in study.json, or "
            "leave the run out"
        )
    return member.factors[factor]


def group_by(members: Sequence[Member], factor: str) -> dict[Value, list[Member]]:
    """Runs by their value of a factor, values in order (`order_values`), runs of one in the order given.

    Raises UsageError naming the run that lacks the factor.
    """
    values = order_values(factor_of(member, factor) for member in members)
    return {value: [m for m in members if m.factors[factor] == value] for value in values}


def varying(members: Sequence[Member]) -> list[str]:
    """Factors that all runs have and that have several values: lineage first, then size, then as they appear; those
    that say where weights are, and repetitions, last."""
    names = dict.fromkeys(name for member in members for name in member.factors)
    found = [
        name for name in names if all(name in member.factors for member in members) and len(group_by(members, name)) > 1
    ]
    first = [name for name in ("step", "size", "stage", "algorithm") if name in found]
    last = [name for name in (*PLACES, *REPLICATES) if name in found]
    return [*first, *(name for name in found if name not in first + last), *last]


def name_members(members: Sequence[Member]) -> list[Member]:
    """Runs with names, all different: the values of as few factors as tell them apart, else also the run's own name.

    Members that have a name keep it. Text factors are told by their value alone, numbers with the factor's name.
    """
    chosen: list[str] = []
    for factor in _differing(members):
        if len(set(_told(members, chosen))) == len(members):
            break
        if len(set(_told(members, [*chosen, factor]))) > len(set(_told(members, chosen))):
            chosen.append(factor)
    named: list[Member] = []
    taken: set[str] = set()
    told = _told(members, chosen)
    for member, text in zip(members, told, strict=True):
        alone = bool(text) and told.count(text) == 1
        name = unique = member.name or (text if alone else " ".join(filter(None, (text, member.called))))
        number = 1
        while unique in taken:
            number += 1
            unique = f"{name} ({number})"
        taken.add(unique)
        named.append(Member(member.run, member.factors, unique))
    return named


def _differing(members: Sequence[Member]) -> list[str]:
    """Factors in which runs differ, also by lacking them; in the order in which names are made of them."""
    names = list(dict.fromkeys(name for member in members for name in member.factors))
    first = [name for name in ("size", *LINEAGE) if name in names and name not in PLACES]
    last = [name for name in PLACES if name in names]
    return [*first, *(name for name in names if name not in first + last), *last]


def _told(members: Sequence[Member], factors: Sequence[str]) -> list[str]:
    """The values of some factors in words, a text a run."""
    return [
        " ".join(
            value if isinstance(value := member.factors[name], str) else f"{name} {value}"
            for name in factors
            if name in member.factors
        )
        for member in members
    ]
