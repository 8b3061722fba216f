"""Parts of an analysis: what each is called, which results are its own, and the mark that says they are whole.

A part's mark holds what was asked of it — thresholds, seeds — and is written last, so that analysing again does only
what is missing or was asked differently. A part builds on those it `NEEDS`: its mark does not outlive theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from neurolens import NeurolensError
from neurolens.shares import COLUMNS
from neurolens.store import Store
from neurolens.tables import PARTS

FROM_BITS = ("dead", "ngrams", "positions")  # parts that are done in one pass over the bits
BY_COUNTS = ("dead", "positions")  # those of them that a run has which was merged of counts
NEEDS = {
    "dead": (),
    "ngrams": ("dead",),
    "positions": ("dead",),
    "contrast": ("dead",),
    "updates": ("dead", "ngrams", "positions"),
}

# columns of results/neurons; what is not named belongs to n-grams
_OWN = {
    "dead": {"activations", "activations_on_text", "frequency", "first_active", "dead", "dead_but_bos"}
    | {"frequency_low", "frequency_high", "design_effect"},
    "positions": {"positional"},
    "updates": {"suppresses_triggers", "trigger_projection", "trigger_projection_centred"},
}
# … which are named after what they are of
_PREFIXES = {"position_": "positions", "label_": "contrast"}
# groups of arrays that are all of one part
_FOLDERS = {"results/activity": "dead", "results/positions": "positions", "results/contrast": "contrast"}
# columns that the updates add to tables of the n-grams
TRIGGER_UPDATES = ("projection", "projection_centred", "rank", "cosine")
LAYER_UPDATES = COLUMNS

# what a number counts or is a share of; flags, ids and axes have no unit
_UNITS = {
    "tokens": {"activations", "activations_on_text", "on", "total", "rank", "position", "label", "group", "n", "curve"}
    | {"group_label"},
    "share of tokens": {"frequency", "frequency_low", "frequency_high"},
    "nats": {"position_mi", "position_mi_corrected", "mi", "mi_corrected", "mi_low", "mi_high"}
    | {"label_mi", "label_mi_corrected", "label_mi_low", "label_mi_high"},
    "positions": {"period", "phase"},
    "share of positions": {"tiling_covered", "tiling_expected"},
    "share of replicates": {"stability"},
    "share of neurons": {"share", "share_low", "share_high", "dead_low", "dead_high"},
    "correlation": {"agreement"},
    "variance of independent tokens": {"design_effect"},
    "index of a token": {"first_active", "contexts"},
    "share of occurrences": {"rate_lower"},
    "n-grams": {"covered", "new", "new_to_previous", "cumulative"},
    "neurons": {"detectors", "count", "count_low", "count_high", "tiling_neurons"}
    | {"only", "only_supported", "silent", "silent_supported"},
    "share of detectors": set(LAYER_UPDATES),
    "cosine": {"cosine"},
}


def units_of(path: str) -> str | None:
    """Units of an array that analyze writes, by its path in the store; None for flags, ids and axes."""
    *folder, name = path.split("/")
    if name.endswith("s_95"):
        return "n-grams"
    if (name, folder[-1]) in (("covered", "triggers"), ("n", "by_layer"), ("n", "overall"), ("n", "triggers")):
        return None
    if name == "dead" and folder[-1] != "neurons":
        return "share of neurons"
    if "projection" in name:
        return "logit per unit of activation"
    return next((units for units, names in _UNITS.items() if name in names), None)


def part_of(column: str) -> str:
    """The part that writes a column of `results/neurons`."""
    owner = next((part for part, names in _OWN.items() if column in names), None)
    return owner or next((part for prefix, part in _PREFIXES.items() if column.startswith(prefix)), "ngrams")


def marks(store: Store) -> dict[str, dict[str, Any]]:
    """What was asked of each part whose results are whole; empty for a run that is not analysed."""
    return dict(store.attributes("results").get("parts", {})) if store.has("results") else {}


def due(store: Store) -> tuple[str, ...]:
    """The parts without which a run that does not keep all bits is not whole."""
    return BY_COUNTS if store.by_counts else FROM_BITS


def require(store: Store, part: str) -> dict[str, dict[str, Any]]:
    """The marks of a run, that of `part` among them. Raises NeurolensError if it is not."""
    found = marks(store)
    if part not in found:
        raise NeurolensError(f"{store.path} is not analysed for {part}; run 'neurolens analyze {store.path}' first")
    return found


def neuron_columns(store: Store) -> list[str]:
    """Names of the columns of `results/neurons` that belong to a marked part, sorted."""
    found = marks(store)
    return [name for name in store.names("results/neurons") if name != "layer" and part_of(name) in found]


def mark(store: Store, part: str, asked: Mapping[str, Any]) -> None:
    """Say that a part's results are whole, once they are on the disk."""
    store.settle("counts", "results")
    found = {**marks(store), part: dict(asked)}
    in_order = {name: found[name] for name in PARTS if name in found}  # the same whatever was done again
    store.set_attributes("results", {"parts": in_order, "n_tokens": store.n_tokens})


def take_back(store: Store, parts: Iterable[str]) -> list[str]:
    """Take back the marks of parts and of those that build on them, and leave the arrays; returns which."""
    given = set(parts)
    gone = [part for part in PARTS if part in given or given.intersection(NEEDS[part])]
    kept = {part: asked for part, asked in marks(store).items() if part in PARTS and part not in gone}
    store.set_attributes("results", {"parts": kept, "n_tokens": store.n_tokens})
    return gone


def withdraw(store: Store, parts: Iterable[str]) -> list[str]:
    """Take back the marks of parts and of those that build on them, and remove their results; returns which.

    The marks go first: a stop at any moment leaves a run whose marks are true.
    """
    gone = take_back(store, parts)
    for name in store.folders("results/neurons"):
        if name != "layer" and part_of(name) in gone:
            store.remove(f"results/neurons/{name}")
    for folder, part in _FOLDERS.items():
        if part in gone:
            store.remove(folder)
    if "ngrams" in gone:
        for folder in ("results/layers", "results/by_layer", "results/overall"):
            store.remove(folder)
    elif "updates" in gone:
        for layer in store.layers:
            store.remove(f"results/layers/{layer:02d}/updates")
            for name in TRIGGER_UPDATES:
                store.remove(f"results/layers/{layer:02d}/triggers/{name}")
        for folder in ("results/by_layer", "results/overall"):
            for name in LAYER_UPDATES:
                store.remove(f"{folder}/{name}")
    return gone
