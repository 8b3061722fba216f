"""promotions: the tokens that a layer's neurons promote and suppress, the first and last rows."""

from __future__ import annotations

from typing import Any

from neurolens.display.html import Html, tag
from neurolens.display.look import grid, head, items, token, view
from neurolens.display.tables import ENDS, column_head, ends_of, value_of

TOKENS = 5  # shown of each row


def view_promotions(table: Any) -> str:
    """`Promotions`, with the text of the first tokens of each row."""
    (rows,) = table.shape
    numbers = {name: ends for name in table if (ends := ends_of(table, name, rows)).ndim == 1 and name != "neuron"}
    neurons, promoted, suppressed = (ends_of(table, name, rows) for name in ("neuron", "promoted", "suppressed"))
    lines: list[list[object]] = [
        [
            str(neurons[i]),
            *(items(token(table.content([id_])) for id_ in ids[i][:TOKENS].tolist() if id_ >= 0)
              for ids in (promoted, suppressed)),
            *(value_of(column[i]) for column in numbers.values()),
        ]
        for i in range(len(neurons))
    ]  # fmt: skip
    if rows > 2 * ENDS:
        lines.insert(ENDS, ["⋮"] * (3 + len(numbers)))
    heads = [Html("neuron"), Html("promoted"), Html("suppressed")]
    heads += [column_head(name, column.dtype, table.units.get(name)) for name, column in numbers.items()]
    return view(
        repr(table),
        head("Promotions", f"of {table.name}, layer {table.layer}: {rows:,} neurons"),
        grid(heads, lines, left=[1, 2]) if rows else tag("div", "no neuron", role="muted"),
    )
