"""choose: which neurons a page has rows of: all, or of a large model the first of every class in every layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from neurolens.tables import GRAMS

MOST_ROWS = 40_000  # 125m's 36,864 neurons, whole; about 20 MB


def choose_rows(
    columns: Mapping[str, np.ndarray], shape: tuple[int, int], *, most: int = MOST_ROWS
) -> tuple[np.ndarray, int | None]:
    """Which neurons to show: int64 flat indices `(row,)` into `(layer, neuron)`, ascending; and how many of a class in
    a layer these are at most, None for all neurons there are.

    `columns` of `results/neurons`, `(layer, neuron)`. Of more than `most` neurons those are taken that come first in
    their class (`rank_classes`), the same number of each class in each layer, as many as fit.
    """
    layers, neurons = shape
    if layers * neurons <= most:
        return np.arange(layers * neurons), None
    ranked = [each for row in range(layers) for each in rank_classes({n: v[row] for n, v in columns.items()}, row)]
    low, high = 0, most  # the greatest number with which what is chosen fits
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(_first(ranked, middle)) <= most else (low, middle - 1)
    return _first(ranked, low), low


def _first(ranked: Sequence[np.ndarray], count: int) -> np.ndarray:
    return np.unique(np.concatenate([each[:count] for each in ranked])) if ranked else np.zeros(0, np.int64)


def rank_classes(columns: Mapping[str, np.ndarray], row: int) -> Iterator[np.ndarray]:
    """The neurons of each class of a layer, the best first: int64 flat indices, the layer being the one in `row`.

    Detectors and neurons of a label: well supported ones first, then the most active. Positional neurons: those that
    depend on the position most. Of those in no class: one at every quantile of the frequency, so that any number of
    them is spread evenly. Dead neurons are left out: there is nothing to show.
    """
    activations, dead = columns["activations"], columns["dead"]
    first, rest = row * len(dead), ~dead
    kinds: list[tuple[np.ndarray, tuple[np.ndarray, ...]]] = [
        (columns[f"{gram}_detector"], (columns[f"{gram}_detector_supported"], activations))
        for gram in GRAMS
        if f"{gram}_detector" in columns
    ]
    if "positional" in columns:
        kinds.append((columns["positional"], (columns["position_mi_corrected"],)))
    for name in ("label_only", "label_silent"):
        if name in columns:
            kinds.append((columns[name] >= 0, (columns[f"{name}_supported"], activations)))
    kinds.append((columns["dead_but_bos"], (activations,)))
    for members, keys in kinds:
        order = np.lexsort(tuple(-key.astype(np.float64) for key in reversed(keys)))  # ties: the smallest number
        yield first + order[members[order]]
        rest = rest & ~members
    others = np.flatnonzero(rest)
    yield first + others[np.argsort(-activations[others], kind="stable")][spread(len(others))]


def spread(count: int) -> np.ndarray:
    """0 … count − 1 in an order whose every beginning is spread evenly: int64 `(count,)`.

    By bits reversed (van der Corput 1935).

    >>> spread(5).tolist()
    [0, 4, 2, 1, 3]
    """
    bits = max(1, (count - 1).bit_length())
    numbers = np.arange(1 << bits)
    turned = np.zeros_like(numbers)
    for bit in range(bits):
        turned |= ((numbers >> bit) & 1) << (bits - 1 - bit)
    return turned[turned < count]
