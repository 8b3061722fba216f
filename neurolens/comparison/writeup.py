"""writeup: a comparison as a page of Markdown and as tables of csv. Names are anybody's, and escaped in both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from neurolens.comparison.anchors import Claim, Finding
from neurolens.comparison.estimates import Estimate
from neurolens.durable import writing
from neurolens.export import quoted
from neurolens.terminal import pieces

_PLAIN = re.compile(r"([\w./][\w .:/→%()-]*)?")  # text that no reader of csv takes for anything else


def write_csv(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns of equal length as csv, the file whole or not at all: numbers that read back exactly, text as it is
    or, where a reader might take it for something else, as a JSON string (`text_cell`). Raises OSError."""
    table = pa.table({text_cell(name): _column(values) for name, values in columns.items()})
    with writing(path) as file:
        csv.write_csv(table, file, csv.WriteOptions(quoting_style="needed"))


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all. Raises OSError."""
    with writing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def text_cell(text: str) -> str:
    """Text in a cell of csv: as it is if it is plain, else as a JSON string (with its quotes) of printable characters.

    >>> print(text_cell("125m step 500"), text_cell("=1+1"))
    125m step 500 "=1+1"
    """
    return text if _PLAIN.fullmatch(text) and text.isprintable() else quoted(text)


def escaped(text: object) -> str:
    r"""Text of unknown origin in Markdown: one line, shown as it stands.

    >>> print(escaped("a|b_<i>"))
    a\|b\_&lt;i&gt;
    """
    line = re.sub(r"[\\`*_\[\]{}|~#!$]", r"\\\g<0>", "".join(pieces(str(text))))
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def table_lines(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table in Markdown; cells are escaped, but for what is `Raw`."""
    cells = ([cell if isinstance(cell, Raw) else escaped(cell) for cell in row] for row in rows)
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in cells), ""]


class Raw(str):
    """A cell that is Markdown already."""


def percent(each: Estimate, *, digits: int = 1) -> str:
    """`12.3% (11.0–13.5%)`, without an interval where there is none, – for nothing.

    >>> percent(Estimate(0.123, 0.11, 0.135)), percent(Estimate())
    ('12.3% (11.0–13.5%)', '–')
    """
    if not each.known:
        return "–"
    ends = f" ({100 * each.low:.{digits}f}–{each.high:.{digits}%})" if np.isfinite([each.low, each.high]).all() else ""
    return f"{each.value:.{digits}%}{ends}"


def number(value: float, form: str = ".3f") -> str:
    """A number, – for NaN."""
    return format(value, form) if np.isfinite(value) else "–"


def claim_rows(judged: Mapping[str, Sequence[tuple[Claim, Finding]]], sizes: Mapping[str, str]) -> list[dict[str, str]]:
    """A row a run and claim, by column: `run`, `size`, `claim`, `source`, `found`, `verdict`, `why`."""
    return [
        {
            "run": name,
            "size": sizes[name],
            "claim": claim.text,
            "source": claim.source,
            "found": finding.found,
            "verdict": finding.verdict,
            "why": finding.why,
        }
        for name, found in judged.items()
        for claim, finding in found
    ]


def _column(values: Any) -> Any:
    """Values of a column, text made safe, None and NaN as nothing."""
    if isinstance(values, np.ndarray):
        return pa.array(values, from_pandas=True)
    cells = [None if isinstance(v, float) and not np.isfinite(v) else v for v in values]
    if all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for v in cells):
        return pa.array(cells, pa.int64() if all(v is None or isinstance(v, int) for v in cells) else pa.float64())
    return pa.array([None if v is None else text_cell(_worded(v)) for v in cells], pa.string())


def _worded(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
