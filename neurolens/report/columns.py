"""columns: results of some neurons → arrays of a page: the table of all, and of a layer triggers, updates, curves.

Pure; names, types and shapes are those that the page's scripts read. Rows are those of the page, by layer and neuron.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from neurolens.tables import GRAMS

BINS, FINE_BINS = 32, 256  # of curves by position; the finer ones of positional neurons
KEPT_BITS = 12  # of a mantissa of 24: three digits and a half, and half the size
FREQUENT = (5, 3)  # n-grams shown of a neuron that is no detector, of one token and of more
Columns = Mapping[str, np.ndarray]


def flag_names(columns: Columns) -> list[str]:
    """Classes of a neuron that the results tell, in the order of the bits of `flags`."""
    detectors = [f"{gram}_detector{end}" for gram in GRAMS for end in ("", "_supported")]
    known = ["dead", "dead_but_bos", *detectors, "positional", "label_only_supported", "label_silent_supported"]
    return [name for name in known if name in columns] + ["suppresses"] * ("suppresses_triggers" in columns)


def make_table(columns: Columns, layer: np.ndarray, neuron: np.ndarray, grams: int) -> dict[str, np.ndarray]:
    """The table: a row a neuron, from its columns of `results/neurons`, `(row,)` each."""
    flags = np.zeros(len(layer), np.uint32)
    for bit, name in enumerate(flag_names(columns)):
        on = columns["suppresses_triggers"] > 0 if name == "suppresses" else columns[name]
        flags |= on.astype(np.uint32) << np.uint32(bit)
    table = {"layer": layer.astype(np.uint16), "neuron": neuron.astype(np.uint32), "flags": flags}
    table["activations"] = columns["activations"].astype(np.uint32)
    table["frequency"] = columns["frequency"].astype(np.float32)
    for name in ("frequency_low", "frequency_high"):
        table[name] = shorten(columns[name])
    if grams:
        covering = [columns[f"{gram}s_95"] for gram in GRAMS[:grams]]
        table["covering"] = np.stack(covering, axis=1).astype(np.uint32)
    if "trigger_projection_centred" in columns:
        table["suppression"] = shorten(columns["trigger_projection_centred"])
    if "positional" in columns:
        table["position_mi"] = shorten(columns["position_mi_corrected"])
        for name in ("position_type", "position_strength"):
            table[name] = columns[name].astype(np.uint8)
    if "label_mi" in columns:
        table["label_mi"] = shorten(columns["label_mi_corrected"])
        table["label_only"] = columns["label_only"].astype(np.int16)
        table["label_silent"] = columns["label_silent"].astype(np.int16)
    return table


def take_triggers(triggers: Columns, neurons: np.ndarray, detector: np.ndarray) -> dict[str, np.ndarray]:
    """A layer's triggers of some neurons, `(trigger,)`, and where those of each row begin, `trigger_start`.

    `triggers`: as a run has them, ordered by neuron, n, falling activations; `neurons` int64 `(row,)`, ascending;
    `detector` bool `(row, gram)`. Of what is no detector only the most frequent are taken.
    """
    neuron, n = triggers["neuron"], triggers["n"].astype(np.int64)
    row = np.searchsorted(neurons, neuron)
    there = row < len(neurons)
    there[there] = neurons[row[there]] == neuron[there]
    group = neuron.astype(np.int64) * (detector.shape[1] + 1) + n
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    place = np.arange(len(n)) - np.repeat(begins, np.diff(np.append(begins, len(n))))
    few = place < np.where(n == 1, *FREQUENT)
    few[there] |= detector[row[there], n[there] - 1]
    kept = np.flatnonzero(there & few)
    total, on = triggers["total"][kept], triggers["on"][kept]
    found = {
        "trigger_start": np.searchsorted(row[kept], np.arange(len(neurons) + 1)).astype(np.uint32),
        "trigger_n": triggers["n"][kept],
        "trigger_tokens": triggers["tokens"][kept].astype(np.int32),
        "trigger_flags": (triggers["member"][kept] + 2 * triggers["covered"][kept]).astype(np.uint8),
        "on": on.astype(np.uint32),
        "total": total.astype(np.uint32),
    }
    if "projection_centred" in triggers:
        found["projection"] = shorten(triggers["projection_centred"][kept])
        found["rank"] = triggers["rank"][kept].astype(np.int32)
    return found


def first_tokens(found: Columns) -> np.ndarray:
    """Of each row of triggers the token that it is active on most often: int32 `(row,)`, −1 for none."""
    start = found["trigger_start"].astype(np.int64)
    some = np.flatnonzero(np.diff(start))  # by n: the first is a token
    first = np.full(len(start) - 1, -1, np.int32)
    first[some] = found["trigger_tokens"][start[:-1][some], -1]
    return first


def index_tokens(layers: Sequence[Columns]) -> dict[str, np.ndarray]:
    """Which tokens the triggers of each row have, to search by: `search_token` int32, each once a row, and where those
    of a row begin, `search_start` uint32 `(row + 1,)`. `layers`: the triggers of every layer, one after another."""
    pairs, rows = [np.zeros((0, 2), np.int64)], 0
    for found in layers:
        tokens, start = found["trigger_tokens"], found["trigger_start"]
        row = np.repeat(np.arange(rows, rows + len(start) - 1), np.diff(start.astype(np.int64)))
        row = np.repeat(row, tokens.shape[1])
        both = np.stack([row, tokens.reshape(-1)], axis=1)
        pairs.append(np.unique(both[both[:, 1] >= 0], axis=0))
        rows += len(start) - 1
    joined = np.concatenate(pairs)
    start = np.searchsorted(joined[:, 0], np.arange(rows + 1))
    return {"search_start": start.astype(np.uint32), "search_token": joined[:, 1].astype(np.int32)}


def take_updates(updates: Columns, neurons: np.ndarray) -> dict[str, np.ndarray]:
    """What those of some neurons that were projected promote and suppress; `update_row`: which rows these are."""
    _, row, at = np.intersect1d(neurons, updates["neuron"], assume_unique=True, return_indices=True)
    ids = {name: updates[name][at].astype(np.int32) for name in ("promoted", "suppressed")}
    names = ("promoted_projection", "suppressed_projection", "projection_mean")
    return {"update_row": row.astype(np.uint32)} | ids | {name: shorten(updates[name][at]) for name in names}


def take_curves(on: np.ndarray, total: np.ndarray, finer: np.ndarray) -> dict[str, np.ndarray]:
    """Frequency by position in equal stretches: `curve` uint8 `(row, bin)` in 255ths of its greatest value, float32
    `curve_top` `(row,)`; in more stretches `fine` of the rows `fine_row`, those of `finer`, bool `(row,)`.

    `on` `(row, position)` activations of `total` `(position,)` tokens. Stretch i of B begins at position ⌊i·T/B⌋.
    """
    rows = np.flatnonzero(finer)
    curve, top = _bin(on, total, BINS)
    fine, fine_top = _bin(on[rows], total, FINE_BINS)
    return {
        "curve": curve,
        "curve_top": top,
        "fine_row": rows.astype(np.uint32),
        "fine": fine,
        "fine_top": fine_top,
    }


def _bin(on: np.ndarray, total: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    bins = min(bins, len(total))
    edges = np.arange(bins) * len(total) // max(1, bins)
    of = np.maximum(1, np.add.reduceat(total.astype(np.int64), edges))
    frequency = (np.add.reduceat(on, edges, axis=1, dtype=np.int64) if len(on) else np.zeros((0, bins))) / of
    top = frequency.max(1, initial=0)
    return np.round(255 * frequency / np.where(top > 0, top, 1)[:, None]).astype(np.uint8), top.astype(np.float32)


def shorten(values: np.ndarray) -> np.ndarray:
    """Numbers as float32 to three digits and a half, which gzip makes half as long; infinite and NaN as they are.

    >>> shorten(np.array([1.0, 0.123456789, np.nan])).tolist()
    [1.0, 0.123443603515625, nan]
    """
    mantissa, exponent = np.frexp(values.astype(np.float32))
    return np.ldexp(np.round(np.ldexp(mantissa, KEPT_BITS)), exponent - KEPT_BITS).astype(np.float32)


def join_contexts(contexts: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """Contexts of a layer in the order of the text: `context_token` uint32, `context_mask` uint32 `(context, 2)`, the
    low and the high half, and where those of a row begin, `context_start`.

    `contexts` int64 `(row, context)`, −1 for none, and `masks` uint64 of them.
    """
    order = np.argsort(contexts, axis=1, kind="stable")
    contexts, masks = np.take_along_axis(contexts, order, 1), np.take_along_axis(masks, order, 1)
    there = contexts >= 0
    halves = masks[there].astype("<u8").view("<u4").reshape(-1, 2)
    start = np.concatenate([[0], np.cumsum(there.sum(1))]).astype(np.uint32)
    return {"context_start": start, "context_token": contexts[there].astype(np.uint32), "context_mask": halves}
