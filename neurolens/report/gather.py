"""gather: an open run → what a page says of it: blobs of arrays, and what is told beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neurolens import NeurolensError
from neurolens.detectors import WILSON_Z
from neurolens.parts import neuron_columns, require
from neurolens.report.choose import choose_rows
from neurolens.report.columns import (
    first_tokens,
    flag_names,
    index_tokens,
    join_contexts,
    make_table,
    take_curves,
    take_triggers,
    take_updates,
)
from neurolens.report.marks import MarksReader
from neurolens.report.passages import WINDOW, choose_contexts, cut_passages
from neurolens.report.payload import Payload
from neurolens.run import Run
from neurolens.tables import GRAMS, STRENGTHS, TYPES

MOST_LABELS = 12  # labels by which a neuron's frequency is shown
FINE_CURVES = 2000  # neurons that have a finer curve, those that depend on the position most


def gather_run(run: Run, payload: Payload, done: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Put what a page needs of a run into the payload; returns what is told beside it.

    `done` is called after each layer. Raises NeurolensError if the run is not analysed, or damaged.
    """
    require(run.store, "dead")
    store = run.store
    columns = {name: store.read(f"results/neurons/{name}") for name in neuron_columns(store)}
    rows, each = choose_rows(columns, (len(store.layers), store.neurons))
    layer, neuron = np.divmod(rows, store.neurons)
    grams = run.parts["ngrams"]["lengths"] if "ngrams" in run.parts else 0
    picked = {name: values.reshape(-1)[rows] for name, values in columns.items()}
    samples = store.read("results/contexts")
    samples = samples.reshape(-1, samples.shape[-1])[rows]
    contexts, covered = choose_contexts(samples, store.shape)
    finer = np.zeros(len(rows), bool) if "positional" not in picked else _most_positional(picked, FINE_CURVES)
    edges = np.searchsorted(layer, np.arange(len(store.layers) + 1)).tolist()
    blobs: dict[str, str] = {}
    triggers: list[dict[str, np.ndarray]] = []
    with MarksReader(store, grams, rows=len(rows)) as reader:
        for number, first, stop in zip(store.layers, edges, edges[1:], strict=False):
            part, of = slice(first, stop), neuron[first:stop]
            marks = reader.read(number, of, contexts[part], samples[part])
            arrays = join_contexts(contexts[part], marks.masks) | _counts(run, number, of, finer[part])
            if grams:
                detector = np.stack([picked[f"{gram}_detector"][part] for gram in GRAMS[:grams]], axis=1)
                triggers.append(take_triggers(run.triggers(number), of, detector))
                arrays |= triggers[-1] | {"activations_n": marks.activations}
            if "updates" in run.parts:
                arrays |= take_updates(run.updates(number), of)
            blobs[str(number)] = payload.add(arrays)
            done()
        masked = reader.all_there and reader.small_enough
        without = int(((samples >= 0).any(1) & (contexts < 0).all(1)).sum())
        limits = list(_limits(run, len(rows), each, without, reader))
    table = make_table(picked, np.array(store.layers)[layer], neuron, grams)
    if grams:
        table |= index_tokens(triggers) | {"trigger": np.concatenate([first_tokens(each) for each in triggers])}
    text = cut_passages(covered, store.read("tokens").reshape(-1)) | {"label": store.read("label").astype(np.uint16)}
    vocabulary = {"start": run.vocabulary.start.astype(np.uint32), "bytes": run.vocabulary.arrays()["bytes"]}
    return _describe(run, columns, grams) | {
        "rows": len(rows),
        "complete": each is None,
        "limits": limits,
        "bitmaps": masked,
        "blobs": {name: payload.add(of) for name, of in (("table", table), ("vocabulary", vocabulary), ("text", text))}
        | {"layers": blobs},
    }


def _counts(run: Run, layer: int, neurons: np.ndarray, finer: np.ndarray) -> dict[str, np.ndarray]:
    """Frequency by label and by position."""
    store, folder = run.store, f"counts/layers/{layer:02d}"
    on = store.read(f"{folder}/label")[neurons][:, :MOST_LABELS]
    curves = take_curves(store.read(f"{folder}/position")[neurons], store.read("counts/total/position"), finer)
    return curves | {"label_on": on.astype(np.uint32)}


def _most_positional(picked: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    """The positional neurons that depend on the position most: bool `(row,)`."""
    mi = np.where(picked["positional"], picked["position_mi_corrected"], -np.inf)
    finer = np.zeros(len(mi), bool)
    finer[np.argsort(-mi, kind="stable")[:count]] = True
    return finer & picked["positional"]


def _describe(run: Run, columns: Mapping[str, np.ndarray], grams: int) -> dict[str, Any]:
    store, parts = run.store, run.parts
    flags = flag_names(columns)
    classes: dict[str, np.ndarray] = {}  # in the order in which they are shown
    for name in flags:
        if name.startswith("label_"):
            classes[name.removesuffix("_supported")] = columns[name.removesuffix("_supported")] >= 0
        classes[name] = columns["suppresses_triggers"] > 0 if name == "suppresses" else columns[name]
        if name == "positional":
            classes |= {kind: columns["position_type"] == i for i, kind in enumerate(TYPES) if kind}
    rules = {**parts.get("ngrams", {}).get("rules", {})}
    rules |= {"wilson_z": WILSON_Z, "confidence": parts["dead"]["bootstrap"]["confidence"]}
    if "positions" in parts:
        rules["mi_threshold"] = parts["positions"]["rules"]["threshold"]
    total = store.read("counts/total/label")
    return {
        "name": run.name,
        "model": name_model(run),
        "n_tokens": store.n_tokens,
        "sequences": store.shape[0],
        "positions": store.shape[1],
        "layers": store.layers,
        "neurons": store.neurons,
        "facts": list(_facts(run)),
        "totals": {name: int(on.sum()) for name, on in classes.items()},
        "by_layer": {name: on.sum(1).tolist() for name, on in classes.items()},
        "labels": list(store.attrs["label_names"])[:MOST_LABELS],
        "label_totals": total[:MOST_LABELS].tolist(),
        "parts": list(parts),
        "rules": rules,
        "flags": flags,
        "types": list(TYPES),
        "strengths": list(STRENGTHS),
        "grams": grams,
        "eos": int(store.attrs["eos"]),
        "window": list(WINDOW),
    }


def name_model(run: Run) -> str:
    """The model's name; of a folder its last two parts: a page is sent to people whom the rest does not concern."""
    name = str(run.store.attrs["model"]["id"])
    return str(Path(*Path(name).parts[-2:])) if Path(name).is_absolute() else name


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    store = run.store
    yield "model", name_model(run)
    yield "neurons", f"{len(store.layers)} layers × {store.neurons:,}"
    sequences, positions = store.shape
    yield "text", f"{store.n_tokens:,} tokens, {sequences:,} sequences of {positions:,}"
    names = store.attrs["label_names"]
    if len(names) > 1:
        more = f" and {len(names) - MOST_LABELS} more" if len(names) > MOST_LABELS else ""
        yield "labels", ", ".join(names[:MOST_LABELS]) + more
    yield "computed in", " on ".join(str(store.attrs[name]) for name in ("dtype", "device") if name in store.attrs)
    try:
        certificate = run.certificate
    except NeurolensError:
        certificate = None
    if certificate is not None:
        yield "certified", certificate.headline()
    yield "analysed", ", ".join(run.parts)
    yield "neurolens", str(store.attrs["versions"].get("neurolens", "unknown"))


def _limits(run: Run, rows: int, each: int | None, without: int, reader: MarksReader) -> Iterator[str]:
    """What is left out of the page, a sentence each."""
    neurons = len(run.store.layers) * run.store.neurons
    if each is not None:
        yield (
            f"This page shows {rows:,} of {neurons:,} neurons: of each class the first {each:,} of every layer (well"
            " supported ones, then the most active; of neurons in no class some at every frequency). Figures and totals"
            " are over all of them."
        )
    if not reader.all_there:
        yield (
            "The bits of this run were dropped once they were counted: in contexts, only those tokens are marked that"
            " are in a neuron's sample."
        )
    elif not reader.small_enough:
        yield "The bits of this run were too many to read for a page: in contexts, only sampled tokens are marked."
    if without:
        yield f"{without:,} neurons have no context here, whose text would make the page too large."
    if (labels := len(run.store.attrs["label_names"])) > MOST_LABELS:
        yield f"Frequency by label is shown for {MOST_LABELS} of {labels:,} labels."
