"""tables: the first and last rows of a table, its columns with their types and units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from neurolens.display.html import Html, tag, text
from neurolens.display.look import fold, grid, head, view

ENDS = 5  # rows shown from the start, and from the end
COLUMNS = 14  # columns of which values are shown; the others are named
# those shown first, where there are more
FIRST = (
    "frequency", "activations", "dead", "unigrams_95", "unigram_detector", "bigram_detector", "trigram_detector",
    "positional", "position_type", "position_mi_corrected", "label_only", "suppresses_triggers",
)  # fmt: skip


def view_table(table: Any, *, more: tuple[object, ...] = ()) -> str:
    """A `Table`; no column is read beyond what is shown of it, as far as its chunks allow. `more`: further parts."""
    first = [name for name in FIRST if name in table] if len(table) > COLUMNS else []
    shown = [*first, *(name for name in table if name not in first)][:COLUMNS]
    size = ", ".join(f"{axis}: {length:,}" for axis, length in zip(table.coords, table.shape, strict=True))
    rows = int(np.prod(table.shape, dtype=np.int64))
    places = [*range(min(rows, ENDS)), *range(max(ENDS, rows - ENDS), rows)]
    columns = {name: ends_of(table, name, rows) for name in shown}
    axes = [_cells(table, axis, places) for axis in range(len(table.shape))]
    lines: list[list[object]] = [
        [*(axis[i] for axis in axes), *(value_of(column[i]) for column in columns.values())] for i in range(len(places))
    ]
    if rows > 2 * ENDS:
        lines.insert(ENDS, ["⋮" for _ in [*axes, *columns]])
    heads = [Html(f"{text(axis)}<i>axis</i>") for axis in table.coords]
    heads += [column_head(name, column.dtype, table.units.get(name)) for name, column in columns.items()]
    words = [i for i, column in enumerate(columns.values(), len(axes)) if column.dtype.kind in "OUS"]
    rest = [name for name in table if name not in columns]
    others = [[name, str(table.dtype(name)), table.units.get(name) or ""] for name in rest]
    rules = [[name, str(value)] for name, value in table.rules.items()]
    return view(
        repr(table),
        head(type(table).__name__, f"of {table.name} ({size}), from {table.n_tokens:,} tokens"),
        grid(heads, lines, left=words) if rows else tag("div", "no rows", role="muted"),
        *more,
        fold(f"{len(rest)} more columns", grid(["name", "type", "units"], others, left=[0, 1, 2])) if rest else "",
        fold("Thresholds", grid(["name", "value"], rules, left=[0])) if rules else "",
    )


def ends_of(table: Any, name: str, rows: int) -> np.ndarray:
    """The first and last `ENDS` rows of a column, all if they are no more: `(row, …)`, axes of the table in one."""
    if rows <= 2 * ENDS or len(table.shape) == 0 or table.shape[-1] < ENDS:
        values = table[name].reshape(rows, *table[name].shape[len(table.shape) :])
        return values if rows <= 2 * ENDS else np.concatenate([values[:ENDS], values[-ENDS:]])
    outer = len(table.shape) - 1
    start = table.part(name, (*[0] * outer, slice(0, ENDS)))
    end = table.part(name, (*[length - 1 for length in table.shape[:-1]], slice(table.shape[-1] - ENDS, None)))
    return np.concatenate([start, end])


def _cells(table: Any, axis: int, places: list[int]) -> list[object]:
    at = np.unravel_index(np.array(places, np.int64), table.shape)[axis] if places else []
    values = list(table.coords.values())[axis]
    return [tag("span", text(values[place], most=40), role="muted") for place in at]


def column_head(name: str, dtype: np.dtype, units: str | None) -> Html:
    return Html(f"{text(name)}<i>{text(units or '')}</i><i>{text(kind(dtype))}</i>")


def kind(dtype: np.dtype) -> str:
    """`float64`; `text` for names."""
    return "text" if dtype.kind in "OUS" else str(dtype)


def value_of(value: Any) -> object:
    """A value of a column: numbers short, flags as ✓, arrays as their values."""
    if isinstance(value, Html):
        return value
    if isinstance(value, np.ndarray):
        return " ".join(str(value_of(each)) for each in value[:8]) + (" …" if len(value) > 8 else "")
    if isinstance(value, bool | np.bool_):
        return tag("span", "✓" if value else "·", role="yes" if value else "muted")
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    if isinstance(value, float | np.floating):
        return f"{float(value):.4g}" if math.isfinite(value) else "–"
    return text(value, most=40)
