"""runs: a run at a glance: what it is, what was found by layer; its certificate; what token detectors write."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from neurolens import NeurolensError
from neurolens.display.html import Html, join, tag, text
from neurolens.display.look import facts, fold, grid, head, items, lines, sparks, token, view
from neurolens.tables import GRAMS, PARTS, WORDS

Chart = tuple[str, str, np.ndarray]  # what, in words how much, values by layer
LABELS = 12  # labels named
TOKENS = 6  # tokens of an example shown of each kind
BITS = {"all": "all kept", "sparse": "those of rarely active neurons kept", "none": "dropped once they were counted"}


def view_run(run: Any) -> str:
    """`Run`. Results by layer are read, columns of neurons are not."""
    store = run.store
    layers = f"{len(store.layers)} layers × {store.neurons:,} neurons"
    found, failed = [], []
    for part, chart in CHARTS.items():
        if part in run.parts:
            try:
                found += chart(run)
            except NeurolensError as error:
                failed.append(text(error, most=400))
    return view(
        repr(run),
        head("Run", f"{run.name}: {layers}, {store.n_tokens:,} tokens"),
        _facts(run),
        sparks((name, said, values.tolist()) for name, said, values in found),
        lines(failed),
        _by_layer(store.layers, found) if found else "",
    )


def _facts(run: Any) -> Html:
    store = run.store
    model, (sequences, positions) = store.attrs["model"], store.shape
    done = store.progress()
    revision = f", revision {model['revision']}" if model.get("revision") else ""
    state = "" if done.all() else f"incomplete: {int(done.sum())} of {done.size} blocks of layers"
    there = join(tag("span", part, role="chip") for part in PARTS if part in run.parts)
    missing = [part for part in PARTS if part not in run.parts]
    todo = f"not {', '.join(missing)}: neurolens analyze" if missing else ""
    return facts(
        [
            ("model", f"{model['id']}{revision}, in {store.attrs['dtype']}"),
            ("layers", ", ".join(map(str, store.layers))),
            ("text", f"{sequences:,} sequences × {positions:,} positions"),
            ("labels", _labels(store, positions)),
            ("bits", BITS.get(str(store.attrs["keep_bitmaps"]), "")),
            ("collected", state),
            ("parity", _parity(run)),
            ("analysed", join([there, tag("span", todo, role="muted")])),
            ("in", str(run.path)),
        ]
    )


def _labels(store: Any, positions: int) -> Html:
    names = store.attrs["label_names"]
    tokens = np.bincount(store.read("label"), minlength=len(names)) * positions
    shown = [join([text(name, most=40), f" {n:,}"]) for name, n in zip(names[:LABELS], tokens.tolist(), strict=False)]
    more = [f"and {len(names) - LABELS:,} more"] if len(names) > LABELS else []
    return join([*shown, *more], ", ")


def _parity(run: Any) -> str:
    try:
        certificate = run.certificate
    except NeurolensError as error:
        return str(error)
    return certificate.headline() if certificate else "not certified"


def _activity(run: Any) -> list[Chart]:
    spread, neurons = run.neurons.activity, run.store.neurons
    dead = np.rint(spread["dead"] * neurons)
    said = f"{int(dead.sum()):,} of {neurons * len(dead):,} neurons"
    mean = spread["frequency"]
    alive = mean[np.isfinite(mean)]
    most = f"{100 * alive.min():.3g} to {100 * alive.max():.3g}%" if len(alive) else "none alive"
    return [("dead", said, dead), ("mean frequency of the others", most, 100 * mean)]


def _detectors(run: Any) -> list[Chart]:
    found = run.by_layer["detectors"]  # (support, n, layer)
    return [
        (f"{WORDS[i]} detectors", f"{found[0, i].sum():,}, well supported {found[1, i].sum():,}", found[0, i])
        for i in range(min(found.shape[1], len(GRAMS)))
    ]


def _positional(run: Any) -> list[Chart]:
    count = run.positions.by_layer["count"]  # (type, strength, layer)
    return [("positional", f"{count.sum():,}, strong {count[:, 1].sum():,}", count.sum((0, 1)))]


def _contrast(run: Any) -> list[Chart]:
    table = run.contrast
    if len(table.coords["label"]) < 2:
        return []
    return [("of one label", f"{table['only'].sum():,}", table["only"].sum(0))]


CHARTS: Mapping[str, Callable[[Any], list[Chart]]] = {
    "dead": _activity,
    "ngrams": _detectors,
    "positions": _positional,
    "contrast": _contrast,
}


def _by_layer(layers: Sequence[int], found: Sequence[Chart]) -> Html:
    def shown(value: float) -> str:
        if not math.isfinite(value):
            return "–"
        return f"{int(value):,}" if value == int(value) else f"{value:.3g}"

    rows = [[str(layer), *(shown(values[i]) for _, _, values in found)] for i, layer in enumerate(layers)]
    units = [Html(f"{name}<i>{'% of tokens' if 'frequency' in name else 'neurons'}</i>") for name, _, _ in found]
    return fold("By layer", grid(["layer", *units], rows))


def view_certificate(certificate: Any) -> str:
    """`Certificate`: what was compared with what, and a line a layer."""
    versions = ", ".join(f"{name} {version}" for name, version in certificate.versions.items())
    return view(
        "\n".join(certificate.lines()),
        head("Certificate", certificate.headline()),
        facts(
            [
                ("recorded", f"{certificate.model} in {certificate.dtype} on {certificate.device}"),
                ("reference", f"plain HF in fp32 on {certificate.reference_device}; {versions}"),
                ("text", f"{certificate.tokens:,} tokens, {certificate.bits:,} bits"),
            ]
        ),
        fold("By layer", grid(*certificate.by_layer()), open=True),
    )


def view_examples(examples: Any) -> str:
    """`Examples`: token detectors, what they respond to, promote and suppress."""

    def boxes(tokens: Sequence[Any]) -> Html:
        return items(token(examples.token(each.id), trigger=each.trigger) for each in tokens[:TOKENS])

    rows = [
        [f"{one.layer}.{one.neuron}", f"{one.activations:,}", *map(boxes, (one.triggers, one.promoted, one.suppressed))]
        for one in examples.examples
    ]
    columns = ["neuron", "active", "responds to", "promotes", "suppresses"]
    of = f"of {examples.name}: {len(rows)} of {examples.detectors:,} well supported token detectors"
    table = grid(columns, rows, left=[2, 3, 4]) if rows else tag("div", "none", role="muted")
    return view(repr(examples), head("Examples", of), table)
