"""rows: a comparison as the rows of its csv tables, plain numbers and names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurolens.comparison.change import Change
from neurolens.comparison.estimates import average
from neurolens.comparison.factors import Member
from neurolens.comparison.headlines import Headlines
from neurolens.comparison.transitions import CLASSES
from neurolens.comparison.trends import Trend

MEASURES = ("dead", "frequency", "detectors", "supported", "suppressing", "positional")  # of Headlines


def run_row(member: Member, run: Headlines) -> dict[str, Any]:
    """A run: what it is, its factors, its headlines, and what the paper's claims are about."""
    row: dict[str, Any] = {"run": member.called, "path": str(member.run.path)}
    row |= {f"factor:{name}": value for name, value in member.factors.items()}
    row |= {"published_size": run.published, "layers": len(run.layers), "neurons": run.total, "tokens": run.n_tokens}
    for name in MEASURES:
        each = getattr(run, name)
        row |= {name: each.value}
        row |= {f"{name}_low": each.low, f"{name}_high": each.high} if name not in ("detectors", "supported") else {}
    first, second = run.dead_by_layer[run.first_half], run.dead_by_layer[~run.first_half]
    row |= {"dead_most_in_a_layer": float(run.dead_by_layer.max(initial=0))}
    row |= {f"dead_{half}_half": float(of.mean()) if len(of) else np.nan for half, of in
            (("first", first), ("second", second))}  # fmt: skip
    most = None if run.covered_by_layer is None else int(run.covered_by_layer.max(initial=0))
    row |= {"tokens_covered_most_in_a_layer": most, "tokens_covered": run.covered}
    strong, tiled = (
        None if of is None or 1 not in run.layers else of[list(run.layers).index(1)].item()
        for of in (run.oscillatory, run.tiled)
    )
    row |= {"strong_oscillatory_second_layer": strong, "positions_tiled_second_layer": tiled}
    row |= {"most_frequent_position_type": run.most_frequent_type}
    return row


def trend_rows(arranged: Mapping[str, Trend], numbers: Mapping[str, Headlines]) -> list[dict[str, Any]]:
    """A row a point of a trend: the means of its runs, with what lies between them (`average`)."""
    rows = []
    for factor, trend in arranged.items():
        for line in trend.lines:
            for value, runs in line.points.items():
                row: dict[str, Any] = {"factor": factor, "value": str(value)}
                row["others"] = ", ".join(f"{name}={each}" for name, each in line.settings.items())
                row["runs"] = len(runs)
                for column in MEASURES:
                    each = average([getattr(numbers[member.called], column) for member in runs])
                    row |= {column: each.value, f"{column}_low": each.low, f"{column}_high": each.high}
                rows.append(row)
    return rows


def transition_rows(change: Change) -> list[dict[str, Any]]:
    """A row a layer and pair of classes that some neuron has."""
    pair = {"before": change.pair.before.called, "after": change.pair.after.called, "along": change.pair.factor}
    return [
        {
            **pair,
            "layer": int(change.layers[row]),
            "class_before": CLASSES[first],
            "class_after": CLASSES[second],
            "neurons": int(change.table[row, first, second]),
        }
        for row, first, second in np.argwhere(change.table).tolist()
    ]


def neuron_columns(change: Change) -> dict[str, Any]:
    """A row a neuron that is of another class after than before."""
    row, neuron = np.nonzero(change.changed)
    apart, low, high = change.difference
    before, after = change.frequency
    return {
        "layer": change.layers[row],
        "neuron": neuron,
        "class_before": [CLASSES[i] for i in change.before[row, neuron]],
        "class_after": [CLASSES[i] for i in change.after[row, neuron]],
        "frequency_before": before[row, neuron],
        "frequency_after": after[row, neuron],
        "difference": apart[row, neuron],
        "difference_low": low[row, neuron],
        "difference_high": high[row, neuron],
        "triggers_jaccard": change.triggers[row, neuron],
        "cosine": change.cosine[row, neuron],
    }


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns; None where a row lacks one."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
