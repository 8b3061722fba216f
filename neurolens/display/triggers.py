"""triggers: the n-grams of a layer's neurons, the first and last rows; and those of one neuron's card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neurolens.display.html import Html, tag
from neurolens.display.look import grid, head, mark, meter, token, view
from neurolens.display.tables import ENDS, column_head, ends_of, value_of
from neurolens.verdict import percent

AFTER = ("on", "total", "rate_lower", "member", "covered")  # columns behind the n-gram, before the others


def view_triggers(table: Any) -> str:
    """`Triggers`, with the text of each n-gram."""
    (rows,) = table.shape
    first = ["neuron", "n"]
    rest = [*AFTER, *(name for name in table if name not in (*first, *AFTER, "tokens"))]
    columns = {name: ends_of(table, name, rows) for name in (*first, *rest)}
    content = [table.content([id_ for id_ in ids if id_ >= 0]) for ids in ends_of(table, "tokens", rows).tolist()]
    lines: list[list[object]] = [
        [
            *(str(columns[name][i]) for name in first),
            token(said),
            *(value_of(columns[name][i]) for name in rest),
        ]
        for i, said in enumerate(content)
    ]
    if rows > 2 * ENDS:
        lines.insert(ENDS, ["⋮"] * (len(columns) + 1))
    heads = [column_head(name, column.dtype, table.units.get(name)) for name, column in columns.items()]
    heads.insert(len(first), Html("n-gram"))
    return view(
        repr(table),
        head("Triggers", f"of {table.name}, layer {table.layer}: {rows:,} n-grams, from {table.n_tokens:,} tokens"),
        grid(heads, lines, left=[len(first)]) if rows else tag("div", "none", role="muted"),
    )


def triggers_of(triggers: Sequence[Any], rows: int) -> Html:
    """`Trigger`s of a verdict, the first `rows`: what each is, how often the neuron is active on it."""
    projected = any(one.rank is not None for one in triggers)
    heads = ["", "n-gram", "active", "of", "rate", "at least", *(["projected", "rank"] if projected else [])]
    lines = []
    for one in triggers[:rows]:
        tick = mark(one.covered) if one.covered or one.member else ""
        rate = tag("span", meter(one.rate), percent(one.rate))
        line = [tick, token(one.content), f"{one.on:,}", f"{one.total:,}", rate, percent(one.rate_lower)]
        if projected:
            line += ["–" if one.projection is None else f"{one.projection:+.3g}"]
            line += ["–" if one.rank is None else f"{one.rank:,}"]
        lines.append(line)
    more = len(triggers) - rows
    return tag(
        "div", grid(heads, lines, left=[0, 1, 4]), tag("div", f"and {more:,} more", role="muted") if more > 0 else ""
    )
