"""Laws: what must be so between bits, counts and results that are whole. Those over what is damaged are not asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np

from neurolens.inspection.findings import Findings, brief

# path of what is to blame, paths of what it is held against, law over their values, what was expected
_Law = tuple[str, tuple[str, ...], Callable[..., bool], str]


def check_laws(seen: Findings) -> None:
    """Every law whose arrays are whole, one after another: what one finds damaged, the next leave alone."""
    if not seen.marks and not seen.counts:
        return
    before, held = len(seen.damages), 0
    layers = enumerate(seen.store.layers)
    for path, names, law, expected in chain(*(_of_layer(seen, row, layer) for row, layer in layers), _of_run(seen)):
        if seen.sound(path, *names):
            held += 1
            values = (seen.active[name] if name in seen.active else seen.store.read(name) for name in (path, *names))
            if not law(*values):
                seen.damage(path, "other values", expected, seen.remedy(path))
    if held:
        seen.holds(f"results: {held:,} laws between bits, counts and results hold", before)


def _of_layer(seen: Findings, row: int, layer: int) -> Iterator[_Law]:
    """Of the layer in a row of the results: activations are the same however they are counted; tables of n-grams."""
    bits, counts, activations = (
        f"layers/{layer:02d}/active",
        f"counts/layers/{layer:02d}/",
        "results/neurons/activations",
    )
    by = [f"{counts}{name}" for name in ("position", "label", "group", "group_label")]
    by = [name for name in by if name in seen.expected]
    sums = {name: _by_neuron(seen.store.read(name)) for name in by if seen.sound(name)}
    if seen.sound(activations):
        sums[activations] = seen.store.read(activations)[row]
    if layer not in seen.thinned and seen.row_done(layer) and bits in seen.active and seen.sound(bits):
        sums[bits] = seen.active[bits]
    votes = {one: sum(np.array_equal(sums[one], other) for other in sums.values()) for one in sums}
    agreed = max(votes, key=votes.__getitem__, default="")  # those that agree outvote one that does not
    for name in sums:
        right, total = np.array_equal(sums[name], sums[agreed]), f"as many for each neuron of layer {layer}"
        yield name, (), lambda _, r=right: r, f"{total} as {agreed if agreed != name else 'elsewhere'}"
    yield from _of_kept(seen, row, layer, sums.get(agreed) if agreed != bits else None)
    if len(by) > 3:
        for axis, name in ((1, by[1]), (2, by[2])):
            text = f"the sums of group_label of layer {layer}"
            yield name, (by[3],), lambda c, b, i=axis: np.array_equal(c, b.sum(i)), text

    def ascend(neurons: np.ndarray) -> bool:
        """One may stand several times."""
        whole = bool((np.diff(neurons) >= 0).all())
        return not len(neurons) or (whole and neurons[0] >= 0 and neurons[-1] < seen.store.neurons)

    triggers, updates = f"results/layers/{layer:02d}/triggers/", f"results/layers/{layer:02d}/updates/"
    ascending = "neurons of the layer, ascending"
    yield f"{triggers}neuron", (), ascend, ascending
    yield f"{triggers}on", (f"{triggers}total",), lambda o, t: bool(((o > 0) & (o <= t)).all()), "1 … total"
    yield f"{updates}neuron", (), lambda v: ascend(v) and bool((np.diff(v) > 0).all()), ascending


def _of_kept(seen: Findings, row: int, layer: int, activations: np.ndarray | None) -> Iterator[_Law]:
    """Of bits that are kept in part, or may be: what was counted is that of whose are kept, and says whose these are;
    those of others are 0 once they are thinned. `activations` is what results agree on, None where there are none."""
    bits, kept, frequency = f"layers/{layer:02d}/active", f"layers/{layer:02d}/kept", "results/neurons/frequency"
    counts = seen.counts.get(layer, {})
    counted = counts.get("activations") if activations is None else activations
    if layer not in seen.thinned:
        if counts:
            total = f"as many for each neuron of layer {layer} as were counted"
            yield bits, (), lambda a: np.array_equal(a, counts["activations"]), total
        return
    if not seen.sound(kept):
        return
    attributes = (seen.store.metadata(kept) or {}).get("attributes") or {}
    if seen.sound(frequency):
        seldom = seen.store.read(frequency)[row] <= attributes.get("frequency", -1)
    else:
        seldom = counts["frequency"] <= attributes.get("frequency", -1) if counts else None
    if seldom is not None:
        yield kept, (), lambda k: np.array_equal(k, seldom), "neurons that are active as rarely as its attribute says"

    def as_counted(active: np.ndarray, k: np.ndarray) -> bool:
        same = counted is None or np.array_equal(active[k], counted[k])
        return same and not (attributes["thinned"] and active[~k].any())

    yield bits, (kept,), as_counted, f"activations of layer {layer} as were counted of whose are kept, 0 of the others"


def _of_run(seen: Findings) -> Iterator[_Law]:
    """Of the run as a whole: totals, columns of neurons, contexts, layers, positional neurons."""
    column, layers, (sequences, positions) = "results/neurons/", seen.store.layers, seen.store.shape
    n = sequences * positions

    def tokens_of_labels(total: np.ndarray, label: np.ndarray) -> bool:
        return np.array_equal(total, np.bincount(label, minlength=len(total)) * positions)

    def flagged(layer: np.ndarray, neuron: np.ndarray, flags: np.ndarray) -> bool:
        row, which = flags.nonzero()
        return np.array_equal(layer, np.array(layers)[row]) and np.array_equal(neuron, which)

    def rows_of(row: np.ndarray, table: np.ndarray) -> bool:
        return not len(row) or (row[0] >= 0 and row[-1] < len(table) and bool((np.diff(row) >= 0).all()))

    total, activations = "counts/total/", f"{column}activations"
    for name in ("position", "label", "group", "group_label"):
        yield f"{total}{name}", (), lambda t: int(t.sum()) == n, f"{n} tokens in all"
    yield f"{total}label", ("label",), tokens_of_labels, "tokens of each label"
    yield f"{total}group_label", (f"{total}label",), lambda b, t: np.array_equal(b.sum(0), t), "those of labels"
    yield f"{column}frequency", (activations,), lambda f, a: np.array_equal(f, a / n), "activations / n"
    yield f"{column}dead", (activations,), lambda d, a: np.array_equal(d, a == 0), "active on no token"
    yield "results/contexts", (), lambda c: bool(((c >= -1) & (c < n)).all()), f"indices of {n} tokens, or −1"
    for name, expected in seen.expected.items():
        if name.endswith("/layer") and expected.dims == ("layer",):
            yield name, (), lambda v: v.tolist() == layers, f"layers {brief(layers)}"
    rows = "results/positions/"
    yield f"{rows}layer", (f"{rows}neuron", f"{column}positional"), flagged, "the positional neurons"
    count = f"{rows}by_layer/count"
    yield f"{rows}overall/count", (count,), lambda o, c: np.array_equal(o, c.sum(-1)), "the sum over layers"
    yield f"{rows}ranges/row", (f"{rows}neuron",), rows_of, "rows of the table, ascending"


def _by_neuron(counts: np.ndarray) -> np.ndarray:
    """Counts `(neuron, …)` summed to int64 `(neuron,)`."""
    return counts.reshape(len(counts), -1).sum(1, dtype=np.int64)
