"""tally: the run of several texts from what was counted of each, where bits were dropped.

    add                 counts, activations, squares of a sequence's activations (of the design effect)
    follow from these   frequencies and intervals, the dead, mutual information, types, ranges and periods of positions
    is a sample still   contexts: of each text those of least hash, of these the least; the hash is of the token's index
                        in the text that was collected
    are not there       n-grams; of positional neurons intervals, agreement and stability, which need counts by group or
                        label and position, as if the text were one group of one label

Results are marked once they are on the disk, and blocks after them: the same command continues what was stopped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurolens import NeurolensError, first_line
from neurolens.activity import Activity
from neurolens.analyze import write_scans
from neurolens.bootstrap import Bootstrap, draw_groups
from neurolens.contrast import MOST_LABELS, design_of_sums, squares_of_design
from neurolens.counts import Counts
from neurolens.curves import PositionRules
from neurolens.keep import is_finished
from neurolens.merging.counted import COLUMNS, counted_by
from neurolens.merging.together import Say, Whole
from neurolens.parts import BY_COUNTS, PARTS, mark, marks, withdraw
from neurolens.progress import Progress
from neurolens.scan import Scan, find_positional, join_scans
from neurolens.store import Store
from neurolens.tokens import token_priority
from neurolens.variables import group

ENTRIES = 1 << 22  # counts held at a time (8 bytes each): 32 MB a thread
NEVER = np.iinfo(np.int64).max  # beyond every token
LAST = np.uint64(2**64 - 1)  # and every hash


@dataclass(frozen=True)
class _Source:
    """A text in the joined one.

    first      its first sequence
    number     int64 `(label,)`: what its labels are there
    before     int64 `(label,)`: sequences of these before it
    sequences  int64 `(label,)`: its own
    lengths    sequences of the texts that it was collected as
    """

    store: Store
    first: int
    number: np.ndarray
    before: np.ndarray
    sequences: np.ndarray
    lengths: list[int]

    def read(self, layer: int, neurons: slice) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
        """(counts, columns, contexts) of some neurons."""
        store, row = self.store, self.store.layers.index(layer)
        on = {name: store.read(f"counts/layers/{layer:02d}/{name}", neurons) for name in counted_by(store)}
        known = {name: store.read(f"results/neurons/{name}", (row, neurons)) for name in COLUMNS}
        return on, known, store.read("results/contexts", (row, neurons))


class Tally:
    """Counts of the joined text, layer by layer; what `write_scans` must know of them."""

    counted, lengths = True, 0

    def __init__(self, whole: Whole) -> None:
        corpus, asked = whole.corpus, marks(whole.texts[0].parts[0])
        self._sources, self._positions = _find_sources(whole), corpus.shape[1]
        self._sequences, labels = np.bincount(corpus.label), len(corpus.label_names)
        self._samples, self._seed, groups = (int(asked["dead"][name]) for name in ("samples", "seed", "groups"))
        self._rules = PositionRules(**asked["positions"]["rules"])
        cell = group(corpus, groups).codes[:: self._positions].astype(np.int64) * labels + corpus.label
        both = np.bincount(cell, minlength=groups * labels).reshape(groups, labels) * self._positions
        position = np.full(self._positions, len(corpus.label))
        self.totals = {"position": position, "label": both.sum(0), "group": both.sum(1), "group_label": both}
        self._kept = {name: total for name, total in self.totals.items() if total.ndim < 2 or labels <= MOST_LABELS}
        self.groups = draw_groups(both.sum(1), Bootstrap(**asked["dead"].get("bootstrap", {})))
        self._alone = np.array([[len(corpus.label)]])  # sequences, of one group and label
        self.curves = draw_groups(np.array([corpus.tokens.size]), Bootstrap(replicates=2))  # of one: no intervals
        self.texts = [length for source in self._sources for length in source.lengths]

    def scan(self, layer: int, each: Callable[..., Any], progress: Callable[[int], object]) -> Scan:
        """All that is known of a layer; `each` may map by several threads. Raises NeurolensError for what is damaged,
        and as `shift_groups`."""
        neurons = self._sources[0].store.neurons
        step = max(1, ENTRIES // max(self._positions, *(values.size for values in self._kept.values())))
        stretches = [slice(first, min(first + step, neurons)) for first in range(0, neurons, step)]
        parts = []
        for part in each(lambda some: self._scan(layer, some), stretches):
            parts.append(part)
            progress(len(part.contexts))
        return join_scans(parts)

    def _scan(self, layer: int, neurons: slice) -> Scan:
        count, positions = neurons.stop - neurons.start, self._positions
        sums = {name: np.zeros((count, *total.shape), np.uint32) for name, total in self._kept.items()}
        activations, on_text, squares, firsts, contexts = *np.zeros((2, count), np.int64), np.zeros(count), [], []
        for source in self._sources:
            on, known, sample = source.read(layer, neurons)
            try:
                own = _by_label(on["label"], source.sequences)
                squares += squares_of_design(known["design_effect"], *own, positions)
                by_group, both = shift_groups(on["group"], on.get("group_label"), source.before, source.sequences)
            except NeurolensError as error:
                raise NeurolensError(f"{source.store.path}, layer {layer}: {first_line(error)}") from error
            sums["position"] += on["position"]
            sums["label"][:, source.number] += on["label"]
            sums["group"] += by_group
            if both is not None and "group_label" in sums:
                sums["group_label"][:, :, source.number] += both
            activations, on_text = activations + known["activations"], on_text + known["activations_on_text"]
            start, first = source.first * positions, known["first_active"]
            firsts.append(np.where(first < 0, NEVER, first + start))
            contexts.append((sample, start, np.cumsum([0, *source.lengths]) * positions))
        first = np.min(firsts, axis=0)
        tokens = int(self.totals["position"].sum())
        activity = Activity(activations, on_text, np.where(first == NEVER, -1, first), tokens)
        alone = sums["position"][:, None]  # by group, or label, and position: of one
        found, positional = find_positional(
            alone[:, 0], neurons.start, self._alone, self.curves, self._rules, lambda some: (alone[some], alone[some])
        )
        found["design_effect"] = design_of_sums(squares, *_by_label(sums["label"], self._sequences), positions)
        dense = {name: Counts(values, self.totals[name]).compact() for name, values in sums.items()}
        contexts = pool_contexts(contexts, self._samples, self._seed)
        return Scan(activity.columns | found, dense, contexts, {}, [], positional)


def shift_groups(
    by_group: np.ndarray, both: np.ndarray | None, before: np.ndarray, sequences: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Counts by group, and by group and label, of a text that others stand before.

    A sequence's group is its number among those of its label, mod the groups: with `before` int64 `(label,)` sequences
    of its label before the text, group g becomes (g + before) mod the groups. `by_group` unsigned `(neuron, group)`,
    `both` `(neuron, group, label)` or None, `sequences` int64 `(label,)`. Raises NeurolensError without `both` where
    labels are shifted differently.
    """
    groups = by_group.shape[1]
    shift = before % groups
    if both is not None:
        place = (np.arange(groups)[:, None] - shift) % groups
        shifted = np.take_along_axis(both, place[None], axis=1)
        return shifted.sum(2, dtype=np.uint32), shifted
    if len(different := np.unique(shift[sequences > 0])) > 1:
        raise NeurolensError(
            f"{len(before):,} labels were not counted by group, so that groups of sequences of a longer text cannot be "
            "told; collect the texts with --keep-bitmaps all, or with fewer labels"
        )
    return np.roll(by_group, int(different[0]), axis=1), None


def pool_contexts(samples: Sequence[tuple[np.ndarray, int, np.ndarray]], wanted: int, seed: int) -> np.ndarray:
    """A sample of the tokens of several texts from those of each: int64 `(neuron, wanted)`, −1 for no more.

    By text: indices in it int64 `(neuron, sample)`, −1 for none; index of its first token in the joined text; ends of
    the texts that it was collected as, int64 `(text + 1,)`, from 0 on. Those of least hash in the latter come first, as
    in the sample of one text: a token is in it as probably as any other.
    """
    index, hashes = [], []
    for sample, start, ends in samples:
        own = sample - ends[np.searchsorted(ends, sample, side="right") - 1]
        index.append(np.where(sample < 0, -1, sample + start))
        hashes.append(np.where(sample < 0, LAST, token_priority(own, seed=seed)))
    joined, hashed = np.concatenate(index, axis=1), np.concatenate(hashes, axis=1)
    order = np.lexsort((joined, hashed, joined < 0))[:, :wanted]
    return np.take_along_axis(joined, order, axis=1)


def fill_counts(store: Store, whole: Whole, say: Say) -> None:
    """Write and mark what follows from the counts of the texts, then mark all blocks."""
    if is_finished(store):
        say(f"{store.path} is complete; nothing to do")
        return
    started = time.monotonic()
    if not set(BY_COUNTS) <= set(marks(store)):
        tally, asked = Tally(whole), marks(whole.texts[0].parts[0])
        withdraw(store, PARTS)
        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            Progress("merge", len(store.layers) * store.neurons, "neurons") as progress,
        ):
            write_scans(store, (tally.scan(layer, pool.map, progress.update) for layer in store.layers), tally)
        known = store.attributes("results/contexts")
        store.set_attributes("results/contexts", {**known, "texts": tally.texts})
        mark(store, "dead", asked["dead"])
        mark(store, "positions", {"rules": asked["positions"]["rules"], "bootstrap": {}})
    for layer in store.layers:
        store.drop_bits(layer)
    store.unmark(np.ones_like(store.progress()))  # gives all marks
    store.log(event="merge", seconds=time.monotonic() - started)
    say(
        f"{store.path}: merged by counts, since bits of texts were dropped: no n-grams, no updates, and of positional "
        "neurons no intervals, agreement and stability; all else is that of one run, but contexts are another sample"
    )


def _find_sources(whole: Whole) -> list[_Source]:
    names = list(whole.corpus.label_names)
    seen, first, found = np.zeros(len(names), np.int64), 0, []
    for text in whole.texts:
        store = text.parts[0]
        number = np.array([names.index(name) for name in store.attrs["label_names"]])
        sequences = np.bincount(store.read("label"), minlength=len(number))
        lengths = store.attributes("results/contexts").get("texts", [store.shape[0]])
        found.append(_Source(store, first, number, seen[number], sequences, lengths))
        seen[number] += sequences
        first += store.shape[0]
    return found


def _by_label(on: np.ndarray, sequences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activations by label as float64 in the order of memory that design effects are computed in, and sequences; up to
    the last label that has any."""
    there = int(np.flatnonzero(sequences)[-1]) + 1
    return np.ascontiguousarray(on[:, :there], np.float64), sequences[:there]
