"""ngrams: counting and reducing n = 1, 2, 3 at once against numpy's `unique` for n = 3 alone, one thread each.

The bits are those of the demo run: the embedded model on its held-out text, collected into a temporary folder, or
taken from `--run RUN`. Ours is what `analyze` calls on as many neurons as share a chunk: all three lengths counted,
and reduced to covering numbers, covering sets and top triggers. Theirs, a neuron at a time, only counts, and only
trigrams: `unique(keys[bits], return_counts=True)` of keys made beforehand, from a packed row without the tokens that
end no trigram. Bounded is the plain way, named first; the others are given more beforehand, or something else to do:

    corpus order   int64 keys (x_{k-2}·V + x_{k-1})·V + x_k and bits in the order of the text, put so beforehand
    context order  the same keys and bits in the order of our rows, in which the keys are nearly sorted
    dense ranks    corpus order, int32 numbers of the distinct trigrams as keys
    bincount       corpus order, the numbers counted in a dense table, its counts above 0 taken: no `unique`
    three columns  `unique(axis=0)` of the (active, 3) token ids, on a few neurons of middling frequency

Everything takes turns, a batch of neurons at a time; medians over rounds of CPU time, per set bit of the rows.
Activations, covering number and largest count of n = 3 are made from numpy's counts, too, and compared for every
neuron and way. Left out: compilation, and what is made once for a corpus (n-grams numbered, put in order, cut into
intervals; `prepare_s`).

numpy (≥ 2.0) sorts with AVX-512 or AVX2 where the machine has them. Without, which NPY_DISABLE_CPU_FEATURES shows, all
that sorts takes two and a half times as long.

All neurons would take a minute a round: one in four is measured, evenly chosen, in 5 rounds. `--quick`: one in 24, in
one round, of the whole text, too (a shorter one has more n-grams a token); the bound is the same.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _common import at_least, demo_bits, finish, make_parser, timed

from neurolens import variables
from neurolens.bits import pack, unpack
from neurolens.corpus import contexts
from neurolens.counts import Reduced, tabulate_reduced
from neurolens.demo.demonstrate import TOKENS
from neurolens.detectors import TOP, Rules
from neurolens.nested import nest
from neurolens.store import Store

BOUND = 15.0
CLASSES = (0, 0.003, 0.01, 0.03, 0.1, 0.3)  # of frequency: where each begins
FEW = 2  # neurons a layer for `unique(axis=0)`, which takes long
OURS, PLAIN, COLUMNS = "ours", "corpus order", "three columns"
WAYS = (PLAIN, "context order", "dense ranks", "bincount")

Found = tuple[int, int, int]  # of n = 3: activations that have one, covering number, largest count


class Text:
    """What is made once for a corpus: n-grams for us; for them keys, and packed which tokens have one."""

    def __init__(self, store: Store) -> None:
        corpus, self.order = store.corpus(), store.read("order")
        vocab_size = int(store.attrs["model"]["config"]["vocab_size"])
        self.prepare_s = timed(lambda: self._number(store, vocab_size))[0]
        newest, second, third = contexts(corpus.tokens, 3, corpus.eos).astype(np.int64)
        keys, there = (third * vocab_size + second) * vocab_size + newest, pack(third >= 0)
        ranks = np.empty(len(keys), np.int32)
        ranks[self.order] = self.nested.variables[2].codes
        columns = np.stack([third, second, newest], axis=1).astype(np.int32)
        self._keys = {PLAIN: keys, "context order": keys[self.order], "dense ranks": ranks, "bincount": ranks}
        self._keys[COLUMNS] = columns
        self._there = dict.fromkeys(self._keys, there) | {"context order": pack((third >= 0)[self.order])}

    def _number(self, store: Store, vocab_size: int) -> None:
        found = variables.ngrams(store.corpus(), 3, vocab_size)
        self.nested = nest([each.in_order(self.order).variable for each in found])

    def ours(self, rows: np.ndarray) -> list[Reduced]:
        """All three lengths of rows uint64 `(neuron, words)`."""
        rules = Rules()
        limits = [rules.limit(n) for n in (1, 2, 3)]
        return tabulate_reduced(rows, self.nested, share=rules.coverage, limits=limits, top=TOP)

    def theirs(self, way: str, row: np.ndarray) -> np.ndarray:
        """Counts of the trigrams on which a neuron is active; `row` packed uint8 `(token bytes,)`."""
        keys = self._keys[way]
        active = keys[unpack(row & self._there[way], len(keys))]
        if way == "bincount":
            counts = np.bincount(active)
            category = np.flatnonzero(counts)
            return counts[category]
        return np.unique(active, return_counts=True, axis=0 if way == COLUMNS else None)[1]

    def in_corpus_order(self, rows: np.ndarray) -> np.ndarray:
        """Packed uint8 rows of a run, as they would be without its context order."""
        bits = np.empty((len(rows), len(self.order)), bool)
        bits[:, self.order] = unpack(rows, len(self.order))
        return pack(bits)


@dataclass
class Times:
    """CPU and wall seconds of one or more batches: `ours` `(round, 2)`, `theirs` by way `(round, neuron, 2)`."""

    ours: np.ndarray
    theirs: dict[str, np.ndarray]


def measure(text: Text, rows: np.ndarray, rounds: int) -> Times:
    """Time ours and every way of theirs in turns on rows uint64 `(neuron, words)`; stop if they disagree."""
    packed = np.ascontiguousarray(rows.view(np.uint8)[:, : -(-len(text.order) // 8)])
    given = dict.fromkeys(WAYS, text.in_corpus_order(packed)) | {"context order": packed}
    times = Times(np.zeros((rounds, 2)), {way: np.zeros((rounds, len(rows), 2)) for way in WAYS})
    want = found_by_us(text.ours(rows))  # compiled, and in the cache
    names = [OURS, *WAYS]
    for turn in range(rounds):
        for way in (*names[turn % len(names) :], *names[: turn % len(names)]):
            if way == OURS:
                times.ours[turn] = timed(lambda: text.ours(rows))
                continue
            for neuron, row in enumerate(given[way]):
                times.theirs[way][turn, neuron] = check(text, way, row, want[neuron])
    return times


def check(text: Text, way: str, row: np.ndarray, want: Found) -> tuple[float, float]:
    """Time a way of theirs on a neuron; stop unless it finds what we did."""
    counts: list[np.ndarray] = []
    seconds = timed(lambda: counts.append(text.theirs(way, row)))
    falling = np.sort(counts[0])[::-1]
    number = int(np.searchsorted(100 * np.cumsum(falling), Rules.coverage * falling.sum())) + 1 if len(falling) else 0
    if (int(falling.sum()), number, int(falling.max(initial=0))) != want:
        raise SystemExit(f"trigrams of a neuron differ from numpy's ({way})")
    return seconds


def found_by_us(reduced: list[Reduced]) -> list[Found]:
    """What ours says of n = 3, by neuron."""
    three = reduced[2]
    most = np.zeros(len(three.activations), np.int64)
    np.maximum.at(most, three.neuron, three.on)
    return list(zip(three.activations.tolist(), three.covering.tolist(), most.tolist(), strict=True))


def rows_of(store: Store, layer: int, one_in: int) -> np.ndarray:
    """Rows of one neuron in so many of a layer, uint64 `(neuron, words)`."""
    parts = []
    for part in store.neuron_chunks():
        parts.append(store.rows(layer, part)[-part.start % one_in :: one_in])
    return np.concatenate(parts)


def batches(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """So many rows at a time."""
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def ns(seconds: np.ndarray, bits: int) -> float:
    """Nanoseconds of CPU time per set bit, from `(round, 2)`."""
    return float(1e9 * np.median(seconds[:, 0]) / max(1, bits))


def over(theirs: np.ndarray, ours: np.ndarray) -> dict[str, float]:
    """Median over the rounds of theirs / ours, from `(round, 2)` each."""
    cpu, wall = np.median(theirs / ours, axis=0).tolist()
    return {"cpu": round(cpu, 2), "wall": round(wall, 2)}


def run(store: Store, one_in: int, rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and bounds."""
    text, size = Text(store), store.neuron_chunks()[0].stop
    bits = {}  # of every neuron, by layer
    by_layer: dict[int, Times] = {}
    by_class: list[list[np.ndarray]] = [[] for _ in CLASSES]  # rows of every layer
    few: list[tuple[float, float]] = []
    bits_of_few = 0
    for layer in store.layers:
        rows = rows_of(store, layer, one_in)
        bits[layer] = np.bitwise_count(rows).sum(1, dtype=np.int64)
        parts = [measure(text, batch, rounds) for batch in batches(rows, size)]
        by_layer[layer] = Times(
            np.sum([part.ours for part in parts], axis=0),
            {way: np.concatenate([part.theirs[way] for part in parts], axis=1) for way in WAYS},
        )
        group = class_of(bits[layer], store.n_tokens)
        for number, of_class in enumerate(by_class):
            of_class.append(rows[group == number])
        middling = np.argsort(bits[layer])[len(rows) // 2 :][:FEW]
        want = found_by_us(text.ours(rows[middling]))
        for row, found in zip(text.in_corpus_order(rows[middling].view(np.uint8)), want, strict=True):
            few.append(check(text, COLUMNS, row, found))
        bits_of_few += int(bits[layer][middling].sum())
        print(f"layer {layer}: {line(by_layer[layer], int(bits[layer].sum()))}", flush=True)
    every = np.concatenate(list(bits.values()))
    whole = Times(
        np.sum([times.ours for times in by_layer.values()], axis=0),
        {way: np.concatenate([times.theirs[way] for times in by_layer.values()], axis=1) for way in WAYS},
    )
    print(f"all:     {line(whole, int(every.sum()))}")
    figures: dict[str, Any] = {
        "neurons": len(every),
        "tokens": store.n_tokens,
        "numpy": np.__version__,
        "set_bits": int(every.sum()),
        "distinct_ngrams": [int((variable.total > 0).sum()) for variable in text.nested.variables],
        "prepare_s": text.prepare_s,
        "ours_ns_per_set_bit": ns(whole.ours, int(every.sum())),
        "ours_ns_per_set_bit_by_layer": {
            layer: round(ns(times.ours, int(bits[layer].sum())), 2) for layer, times in by_layer.items()
        },
        "ours_neuron_tokens_per_s": len(every) * store.n_tokens / float(np.median(whole.ours[:, 0])),
    }
    for way in WAYS:
        seconds = whole.theirs[way].sum(axis=1)
        figures[f"{way}_ns_per_set_bit"] = ns(seconds, int(every.sum()))
        figures[f"{way}_over_ours"] = over(seconds, whole.ours)
    figures[f"{COLUMNS}_ns_per_set_bit"] = ns(np.array([np.sum(few, axis=0)]), bits_of_few)
    print(f"{COLUMNS}, {len(few)} neurons: {figures[f'{COLUMNS}_ns_per_set_bit']:.0f} ns per set bit")
    figures["by_frequency"] = {}
    group = class_of(every, store.n_tokens)
    for number in np.unique(group).tolist():
        mine = group == number
        ours = np.zeros((rounds, 2))
        for batch in batches(np.concatenate(by_class[number]), size):
            ours += [timed(lambda: text.ours(batch)) for _ in range(rounds)]  # noqa: B023
        part = Times(ours, {way: times[:, mine] for way, times in whole.theirs.items()})
        name = f"{CLASSES[number]:.1%}–{(*CLASSES, 1)[number + 1]:.1%}"
        print(f"{name:<12} {int(mine.sum()):>5} neurons: {line(part, int(every[mine].sum()))}")
        figures["by_frequency"][name] = {
            "neurons": int(mine.sum()),
            "ours_ns_per_set_bit": round(ns(part.ours, int(every[mine].sum())), 2),
            "ours_us_per_neuron": round(1e6 * float(np.median(part.ours[:, 0])) / int(mine.sum()), 1),
            f"{PLAIN}_over_ours": over(part.theirs[PLAIN].sum(axis=1), part.ours),
        }
    plain = figures[f"{PLAIN}_over_ours"]
    return figures, {"unique_in_corpus_order_over_ours_cpu": at_least(plain["cpu"], BOUND)}


def class_of(bits: np.ndarray, tokens: int) -> np.ndarray:
    """Each neuron's index into CLASSES."""
    return np.searchsorted(CLASSES, bits / tokens, side="right") - 1


def line(times: Times, bits: int) -> str:
    """One line of figures."""
    cells = [f"ours {ns(times.ours, bits):6.2f}"]
    for way in WAYS:
        seconds = times.theirs[way].sum(axis=1)
        cells.append(f"{way} {ns(seconds, bits):6.1f} ({over(seconds, times.ours)['cpu']:5.1f}×)")
    return "  ".join(cells)


def main() -> int:
    """Measure; 0 if the bound holds."""
    parser = make_parser(__doc__, "one neuron in 24 and one round, under a minute")
    parser.add_argument("--run", type=Path, help="a demo run that is there, instead of a new one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = demo_bits(asked.run, Path(folder), TOKENS)
        one_in = 24 if asked.quick else 4
        neurons = -(-store.neurons // one_in)
        print(
            f"{len(store.layers)} layers × {neurons:,} of {store.neurons:,} neurons × {store.n_tokens:,} tokens; "
            "ns of CPU time per set bit: n = 1, 2, 3 together (ours), n = 3 alone (numpy)"
        )
        figures, bounds = run(store, one_in, 1 if asked.quick else 5)
    return finish("ngrams", figures, bounds)


if __name__ == "__main__":
    sys.exit(main())
