"""scan: the bits of a layer → everything that is counted from bits, a stretch of neurons at a time.

One pass over a row counts every variable at once. Neurons are independent, so stretches go to as many threads as
there are cores (the kernels hold no interpreter lock) and memory depends on the length of a row, not on how many
neurons there are. Arrays in, arrays out; analyze.py reads and writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from neurolens import kernels, variables
from neurolens.activity import Activity
from neurolens.bits import pack, words
from neurolens.corpus import Corpus
from neurolens.counts import Counts, tabulate, tabulate_reduced
from neurolens.detectors import TOP, Rules, cover_layers, judge, wilson_lower_bound
from neurolens.nested import Nested, nest
from neurolens.tables import GRAMS
from neurolens.variables import Ngrams, Variable

Walk = tuple[np.ndarray, np.ndarray]
SAMPLES = 16  # contexts kept for every neuron
SEED = 0  # of their choice


@dataclass(frozen=True)
class Tokens:
    """What every stretch of neurons needs to know of the tokens, in the order of the rows' bits.

    index     uint32 `(token,)`: the token's place in the corpus
    corpus    a walk through the rows in the order of the corpus, and one in a random order: as `kernels.first_along`
    random    takes them, both `(walk, rank)`
    text      uint64 `(word,)`: a bit for each token that is not `</s>`
    position  what is counted
    sequence
    labels    int64 `(sequence, label)`: 1 for the label of each sequence
    groups    int64 `(sequence, group)`: 1 for its group
    grams     n-grams by length; empty if they are not asked for
    nested    the same, made for counting
    """

    index: np.ndarray
    corpus: Walk
    random: Walk
    text: np.ndarray
    position: Variable
    sequence: Variable
    labels: np.ndarray
    groups: np.ndarray
    grams: list[Ngrams]
    nested: Nested | None

    def totals(self) -> dict[str, np.ndarray]:
        """Tokens at each position, of each label and in each group: int64 `(category,)`."""
        by_sequence = self.sequence.total
        return {"position": self.position.total, "label": by_sequence @ self.labels, "group": by_sequence @ self.groups}


def index_tokens(corpus: Corpus, order: np.ndarray, vocab_size: int, *, most: int, seed: int = SEED) -> Tokens:
    """Variables of a corpus in the order of a store's rows; `most`: longest n-gram, 0 for none."""
    grams = [each.in_order(order) for each in variables.ngrams(corpus, most, vocab_size)] if most else []
    text = np.zeros(-(-len(order) // 64) * 64, bool)
    text[: len(order)] = corpus.tokens.reshape(-1)[order] != corpus.eos
    places = np.argsort(order).astype(np.uint32)
    shuffled = np.argsort(token_priority(order, seed=seed)).astype(np.uint32)
    rank = np.empty(len(order), np.uint32)
    rank[shuffled] = np.arange(len(order))
    return Tokens(
        index=order,
        corpus=(places, order.astype(np.uint32)),
        random=(shuffled, rank),
        text=words(pack(text)),
        position=variables.position(corpus).in_order(order),
        sequence=variables.sequence(corpus).in_order(order),
        labels=_by_sequence(variables.label(corpus), corpus),
        groups=_by_sequence(variables.group(corpus), corpus),
        grams=grams,
        nested=nest([each.variable for each in grams]) if grams else None,
    )


def _by_sequence(variable: Variable, corpus: Corpus) -> np.ndarray:
    """A variable that all tokens of a sequence share: int64 `(sequence, category)`, 1 for the category of each."""
    return np.eye(variable.categories, dtype=np.int64)[variable.codes[:: corpus.shape[1]]]


@dataclass(frozen=True)
class Scan:
    """What was counted of some neurons.

    columns   of `results/neurons`, each `(neuron,)`
    dense     `(neuron, category)` by the variable's name, in the smallest type that holds them
    contexts  int64 `(neuron, sample)`
    triggers  columns of the triggers table, each `(trigger,)`; empty if no n-grams were asked for
    covered   by n-gram length: categories that detectors cover, and that well supported ones do, each `(any,)`
    """

    columns: dict[str, np.ndarray]
    dense: dict[str, np.ndarray]
    contexts: np.ndarray
    triggers: dict[str, np.ndarray]
    covered: list[tuple[np.ndarray, np.ndarray]]


def scan_rows(rows: np.ndarray, first: int, tokens: Tokens, rules: Rules, *, counted: bool, top: int = TOP) -> Scan:
    """Count rows uint64 `(neuron, words)`, the first of which is neuron `first`.

    `counted`: activity, dense counts and contexts as well; without, n-grams alone.
    """
    columns, dense, contexts = {}, {}, np.zeros((len(rows), 0), np.int64)
    if counted:
        contexts = _first_along(rows, tokens.random, SAMPLES, tokens.index)
        every = np.arange(len(rows))
        activity = Activity(
            kernels.count_bits(rows, every),
            kernels.count_bits(rows & tokens.text, every),
            _first_along(rows, tokens.corpus, 1, tokens.index)[:, 0],
            len(tokens.index),
        )
        columns = {
            "frequency": activity.frequency,
            "activations": activity.activations,
            "activations_on_text": activity.on_text,
            "first_active": activity.first_active,
            "dead": activity.dead,
            "dead_but_bos": activity.dead_but_bos,
        }
        dense = {"position": tabulate(rows, tokens.position).compact()}
        by_sequence, totals = tabulate(rows, tokens.sequence).on.astype(np.int64), tokens.totals()
        for name, which in (("label", tokens.labels), ("group", tokens.groups)):
            dense[name] = Counts(by_sequence @ which, totals[name]).compact()
    triggers, covered = {}, []
    if tokens.nested:
        found, triggers, covered = _count_grams(rows, first, tokens.grams, tokens.nested, rules, top)
        columns |= found
    return Scan(columns, dense, contexts, triggers, covered)


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


def token_priority(index: np.ndarray, *, seed: int) -> np.ndarray:
    """A hash of each token's index: uint64 `(tokens,)`; the least ones of a set are a uniform sample of it.

    SplitMix64 (Steele, Lea and Flood 2014) of index and seed: depends on nothing else, so the sample is the same
    in whatever order, split or merge the tokens are met.
    """
    with np.errstate(over="ignore"):
        z = (index.astype(np.uint64) + np.uint64(seed + 1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
