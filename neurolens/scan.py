"""scan: the bits of a layer → everything that is counted from bits, a stretch of neurons at a time.

One pass over a row counts every variable at once. Neurons are independent, so stretches go to as many threads as
there are cores (the kernels hold no interpreter lock) and memory depends on the length of a row, not on how many
neurons there are. Arrays in, arrays out; analyze.py reads and writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from neurolens import kernels
from neurolens.activity import Activity
from neurolens.bootstrap import Groups
from neurolens.contrast import MOST_LABELS, measure_design
from neurolens.counts import Counts, sum_categories, tabulate, tabulate_reduced
from neurolens.curves import PositionRules
from neurolens.detectors import TOP, Rules, cover_layers, judge, wilson_lower_bound
from neurolens.nested import Nested
from neurolens.positional import Positional, describe_positional, join_positional, measure_positions
from neurolens.tables import GRAMS
from neurolens.tokens import Tokens, Walk
from neurolens.variables import Ngrams

SAMPLES = 16  # contexts kept for every neuron
POSITIONAL_ENTRIES = 1 << 22  # counts by group or label and position held at a time (8 bytes each): 32 MB a thread


@dataclass(frozen=True)
class Scan:
    """What was counted of some neurons.

    columns     of `results/neurons`, each `(neuron,)`
    dense       `(neuron, category)` by the variable's name, in the smallest type that holds them
    contexts    int64 `(neuron, sample)`
    triggers    columns of the triggers table, each `(trigger,)`; empty if no n-grams were asked for
    covered     by n-gram length: categories that detectors cover, and that well supported ones do, each `(any,)`
    positional  neurons that depend on the position; None if they were not asked for
    """

    columns: dict[str, np.ndarray]
    dense: dict[str, np.ndarray]
    contexts: np.ndarray
    triggers: dict[str, np.ndarray]
    covered: list[tuple[np.ndarray, np.ndarray]]
    positional: Positional | None = None


def scan_rows(
    rows: np.ndarray,
    first: int,
    tokens: Tokens,
    rules: Rules,
    *,
    counted: bool,
    positions: PositionRules | None = None,
    top: int = TOP,
) -> Scan:
    """Count rows uint64 `(neuron, words)`, the first of which is neuron `first`.

    `counted`: activity, dense counts and contexts as well. `positions`: rules by which positional neurons are found,
    None to leave them out.
    """
    columns, dense, contexts, positional = {}, {}, np.zeros((len(rows), 0), np.int64), None
    by_position = tabulate(rows, tokens.position) if counted or positions else None
    if by_position and counted:
        contexts = _first_along(rows, tokens.random, SAMPLES, tokens.index)
        every = np.arange(len(rows))
        activity = Activity(
            kernels.count_bits(rows, every),
            kernels.count_bits(rows & tokens.text, every),
            _first_along(rows, tokens.corpus, 1, tokens.index)[:, 0],
            len(tokens.index),
        )
        columns = activity.columns
        by_sequence, totals = tabulate(rows, tokens.sequence).on.astype(np.float64), tokens.totals()
        both = sum_categories(by_sequence, tokens.cell, tokens.sequences.size)  # whole numbers below 2⁵³: exact
        both = both.reshape(-1, *tokens.sequences.shape)
        columns["design_effect"] = measure_design(by_sequence, tokens.label, tokens.position.categories)
        on = {"label": both.sum(1), "group": both.sum(2)}
        on |= {"group_label": both} if both.shape[2] <= MOST_LABELS else {}
        dense = {name: Counts(counts, totals[name]).compact() for name, counts in on.items()}
        dense["position"] = by_position.compact()
    if by_position and positions:
        found, positional = find_positional(
            by_position.on, first, tokens.sequences, tokens.groups, positions, lambda some: _by_both(rows[some], tokens)
        )
        columns |= found
    triggers, covered = {}, []
    if tokens.nested:
        found, triggers, covered = _count_grams(rows, first, tokens.grams, tokens.nested, rules, top)
        columns |= found
    return Scan(columns, dense, contexts, triggers, covered, positional)


def find_positional(
    on: np.ndarray,
    first: int,
    sequences: np.ndarray,
    groups: Groups,
    rules: PositionRules,
    tables: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> tuple[dict[str, np.ndarray], Positional]:
    """Columns and positional neurons of some neurons, the first of which is `first`, some at a time.

    `on` unsigned `(neuron, position)`: activations; `sequences` int64 `(group, label)`, `groups` those of them;
    `tables` gives, of neurons int64 `(any,)`, activations `(any, group, position)` and `(any, label, position)`.
    """
    found = measure_positions(on, int(sequences.sum()), rules)
    near, positions = found.near(rules), on.shape[1]
    at_once = max(1, POSITIONAL_ENTRIES // (sum(sequences.shape) * positions))
    parts = []
    for start in range(0, max(1, len(near)), at_once):
        chosen = near[start : start + at_once]
        parts.append(describe_positional(found, chosen, *tables(chosen), sequences, groups, rules))
    positional = join_positional(parts)
    table, (kind, strength) = positional.rows, np.zeros((2, len(on)), np.uint8)
    kind[table["neuron"]], strength[table["neuron"]] = table["type"], table["strength"]
    table["neuron"] = (first + table["neuron"]).astype(np.int32)
    table["curve"] = Counts(table["curve"], np.full(positions, sequences.sum())).compact()
    columns = {
        "position_mi": found.plug_in,
        "position_mi_corrected": found.rest.corrected,
        "position_p": found.rest.p,
        "position_rough": found.rest.rough,
        "positional": found.positional,
        "position_type": kind,
        "position_strength": strength,
    }
    return columns, positional


def _by_both(rows: np.ndarray, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """Activations of rows by group and position, and by label and position."""
    (groups, labels), positions = tokens.sequences.shape, tokens.position.categories
    return (
        tabulate(rows, tokens.by_group).on.reshape(len(rows), groups, positions),
        tabulate(rows, tokens.by_label).on.reshape(len(rows), labels, positions),
    )


def _first_along(rows: np.ndarray, walk: Walk, wanted: int, index: np.ndarray) -> np.ndarray:
    """Indices in the corpus of the first active tokens along a walk: int64 `(neuron, wanted)`, −1 for no more."""
    out = np.empty((len(rows), wanted), np.int64)
    kernels.first_along(rows, *walk, out)
    return np.where(out >= 0, index[out].astype(np.int64), -1)


def join_scans(parts: Sequence[Scan]) -> Scan:
    """Scans of consecutive stretches of neurons as one."""

    def joined(tables: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        listed = list(tables)
        return {name: np.concatenate([table[name] for table in listed]) for name in listed[0]}

    return Scan(
        joined(part.columns for part in parts),
        joined(part.dense for part in parts),
        np.concatenate([part.contexts for part in parts]),
        joined(part.triggers for part in parts),
        [
            (np.concatenate([every for every, _ in each]), np.concatenate([well for _, well in each]))
            for each in zip(*(part.covered for part in parts), strict=True)
        ],
        join_positional(found) if (found := [part.positional for part in parts if part.positional]) else None,
    )


def count_covered(layers: Sequence[Scan], lengths: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Detectors and what they cover, by n-gram length and support.

    Returns columns of `results/by_layer` `(support, n, layer)`, and those of `results/overall` `(support, n)`.
    """
    by_layer: dict[str, np.ndarray] = {}
    for n in range(1, lengths + 1):
        for support, suffix in enumerate(("", "_supported")):
            found = {
                "detectors": np.array([scan.columns[f"{GRAMS[n - 1]}_detector{suffix}"].sum() for scan in layers]),
                **cover_layers([scan.covered[n - 1][support] for scan in layers]),
            }
            for name, values in found.items():
                table = by_layer.setdefault(name, np.zeros((2, lengths, len(layers)), np.int64))
                table[support, n - 1] = values
    covered = by_layer["cumulative"][:, :, -1]
    return by_layer, {"detectors": by_layer["detectors"].sum(-1), "covered": covered}


def _count_grams(
    rows: np.ndarray, first: int, grams: list[Ngrams], nested: Nested, rules: Rules, top: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[tuple[np.ndarray, np.ndarray]]]:
    """Columns, triggers and covered categories of some neurons, for n-grams of every length."""
    limits = [rules.limit(n) for n in range(1, len(grams) + 1)]
    reduced = tabulate_reduced(rows, nested, share=rules.coverage, limits=limits, top=top)
    columns, tables, covered = {}, [], []
    for n, (each, kept) in enumerate(zip(grams, reduced, strict=True), 1):
        found, name = judge(kept, each.variable.total, rules, n), GRAMS[n - 1]
        columns |= {
            f"{name}s_95": found.covering.astype(np.int32),
            f"{name}_detector": found.detector,
            f"{name}_detector_supported": found.supported,
        }
        table, neuron = dict(found.triggers), found.triggers["neuron"]
        table["tokens"] = np.full((len(neuron), len(grams)), -1, np.int32)
        table["tokens"][:, len(grams) - n :] = each.tokens[table["category"]]
        table |= {"neuron": (first + neuron).astype(np.int32), "n": np.full(len(neuron), n, np.uint8)}
        often = table["total"] >= rules.support_occurrences
        covered.append(
            (
                table["category"][table["covered"] & found.detector[neuron]],
                table["category"][table["covered"] & often & found.supported[neuron]],
            )
        )
        tables.append(table)
    joined = {key: np.concatenate([table[key] for table in tables]) for key in tables[0] if key != "category"}
    order = np.argsort(joined["neuron"], kind="stable")  # within a neuron by n, then as judged
    triggers = {key: values[order] for key, values in joined.items()}
    triggers["rate_lower"] = wilson_lower_bound(triggers["on"], triggers["total"])
    return columns, triggers, covered
