"""Facts: what a run is and holds, and the headlines of its results, as plain numbers and strings."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurolens.activity import dead_upper_bound, mean_frequency_of_alive
from neurolens.parts import LAYER_UPDATES
from neurolens.tables import GRAMS, SUPPORT


def gather_facts(run: Any) -> dict[str, Any]:
    """What `info` and `--json` say of an open `Run`; numbers that are not there are NaN.

    Of results, what is analysed: lists by layer, `position_types` by type and strength, `label_only` and `label_silent`
    by label (with two labels or more).
    """
    store = run.store
    progress, certificate = store.progress(), run.certificate
    sequences, positions = store.shape
    by_label = np.bincount(store.read("label"), minlength=1) * positions
    facts = {
        "path": str(store.path),
        "model": store.attrs["model"]["id"],
        "layers": store.layers,
        "neurons_per_layer": store.neurons,
        "tokens": store.n_tokens,
        "sequences": sequences,
        "positions": positions,
        "labels": {name: int(n) for name, n in zip(store.attrs["label_names"], by_label, strict=False)},
        "dtype": store.attrs["dtype"],
        "keep_bitmaps": store.attrs["keep_bitmaps"],
        "merged": store.attrs.get("merged"),
        "blocks_done": int(progress.sum()),
        "blocks": int(progress.size),
        "block_tokens": int(store.attrs["block_sequences"]) * positions,
        "stored_bytes": store.stored_bytes("layers"),
        "raw_bytes": len(store.layers) * store.neurons * store.n_tokens // 8,
        "versions": store.attrs["versions"],
        "certificate": None if certificate is None else certificate.to_dict(),
        "analyzed": list(run.parts),
    }
    for part, gather in GATHER.items():
        if part in run.parts:
            facts |= gather(run)
    if "dead" in run.parts and facts["entropy_bytes"] and all(store.kept(layer).all() for layer in store.layers):
        facts["stored_over_entropy"] = round(facts["stored_bytes"] / facts["entropy_bytes"], 4)
    return facts


def entropy_bytes(frequency: np.ndarray, n_tokens: int) -> float:
    """Zero-order entropy of the bits in bytes, Σ H(frequency) · tokens / 8: what independent bits would take at least.

    `frequency` float64, any shape, in [0, 1]. 0 for neurons that are never or always active.
    """
    rest = 1 - frequency
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(frequency > 0, frequency * np.log2(frequency), 0) + np.where(rest > 0, rest * np.log2(rest), 0)
    return float(-terms.sum()) * n_tokens / 8


def _activity(run: Any) -> dict[str, Any]:
    neurons, spread = run.neurons, run.neurons.activity
    assert spread is not None
    frequency, dead = neurons["frequency"], neurons["dead"]
    return {
        "entropy_bytes": round(entropy_bytes(frequency, run.store.n_tokens)),
        "stored_over_entropy": None,
        "rules": neurons.rules,
        "dead": dead.sum(1).tolist(),
        "dead_low": spread["dead_low"].tolist(),
        "dead_high": spread["dead_high"].tolist(),
        "dead_but_bos": neurons["dead_but_bos"].sum(1).tolist(),
        "dead_frequency_upper_bound": dead_upper_bound(run.store.n_tokens),
        "mean_frequency_of_alive": [round(x, 6) for x in mean_frequency_of_alive(frequency, dead).tolist()],
    }


def _detectors(run: Any) -> dict[str, Any]:
    return {
        f"{gram}_detectors{suffix}": run.neurons[f"{gram}_detector{suffix}"].sum(1).tolist()
        for gram in GRAMS[: run.parts["ngrams"]["lengths"]]
        for suffix in ("", "_supported")
    }


def _suppression(run: Any) -> dict[str, Any]:
    """Of the token detectors the share that suppress their triggers, beside the nulls; by support."""
    overall = run.by_layer.overall
    return {name: {support: float(overall[name][i, 0]) for i, support in enumerate(SUPPORT)} for name in LAYER_UPDATES}


def _positional(run: Any) -> dict[str, Any]:
    by_layer = run.positions.by_layer
    count = by_layer["count"].sum(2)
    return {
        "positional": by_layer["count"].sum((0, 1)).tolist(),
        "position_types": {
            kind: {strength: int(count[i, j]) for j, strength in enumerate(by_layer.coords["strength"])}
            for i, kind in enumerate(by_layer.coords["type"])
        },
    }


def _contrast(run: Any) -> dict[str, Any]:
    table = run.contrast
    labels = table.coords["label"]
    if len(labels) < 2:
        return {}
    return {
        f"label_{name}": {
            label: {"all": int(table[name][i].sum()), "supported": int(table[f"{name}_supported"][i].sum())}
            for i, label in enumerate(labels)
        }
        for name in ("only", "silent")
    }


GATHER = {
    "dead": _activity,
    "ngrams": _detectors,
    "updates": _suppression,
    "positions": _positional,
    "contrast": _contrast,
}
