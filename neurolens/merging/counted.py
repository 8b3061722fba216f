"""counted: whether of all texts there is what was counted, and by the same thresholds."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import product
from typing import Any

from neurolens import IncompleteError, NeurolensError, UsageError
from neurolens.contrast import MOST_LABELS
from neurolens.keep import is_finished
from neurolens.merging.together import Text, unlike
from neurolens.parts import BY_COUNTS, marks, require
from neurolens.store import Store

COLUMNS = ("activations", "activations_on_text", "first_active", "design_effect")  # that are merged


def check_counted(texts: Sequence[Text]) -> None:
    """Raise unless of each text there is one run, with what was counted of it, by the same thresholds: IncompleteError
    for one that is not done, NeurolensError for one without counts, UsageError with all differences."""
    for text in texts:
        if len(text.parts) > 1:
            named = " and ".join(str(part.path) for part in text.parts)
            raise UsageError(
                f"{named} are parts of one text, and bits of some text are gone; merge these first, analyze the run "
                "that they make, and give that one"
            )
        store = text.parts[0]
        if not is_finished(store):
            raise IncompleteError(
                f"{store.path}: bits are collected and not all that is counted from them is written; give the same "
                f"'neurolens {store.made_by}' command again to continue, then merge"
            )
        for part in BY_COUNTS:
            require(store, part)
    for text in texts:
        _check_alike(texts[0].parts[0], text.parts[0])
        _check_chunks(text.parts[0])


def counted_by(store: Store) -> list[str]:
    """What the neurons of a run are counted by."""
    names = ["position", "label", "group"]
    return names if len(store.attrs["label_names"]) > MOST_LABELS else [*names, "group_label"]


def _check_alike(first: Store, other: Store) -> None:
    if found := unlike(_thresholds(first), _thresholds(other)):
        raise UsageError(
            f"{first.path} and {other.path} were not counted alike: {', '.join(found)}; analyze one of them again, as "
            "the other"
        )


def _thresholds(store: Store) -> dict[str, Any]:
    """What was asked of the parts that are merged, by name; of positional neurons the bootstrap plays no part."""
    dead, positions = (marks(store)[part] for part in BY_COUNTS)
    flat = {f"{name} of contexts": dead.get(name) for name in ("samples", "seed")} | {"groups": dead.get("groups")}
    flat |= {f"{name} of the bootstrap": value for name, value in dead.get("bootstrap", {}).items()}
    return flat | {f"{name} of positions": value for name, value in positions["rules"].items()}


def _check_chunks(store: Store) -> None:
    """Raise NeurolensError unless every chunk of what is merged is there: zarr reads missing ones as zeros."""
    names = [f"counts/layers/{layer:02d}/{name}" for layer in store.layers for name in counted_by(store)]
    for name in (*names, *(f"results/neurons/{column}" for column in COLUMNS), "results/contexts"):
        try:
            metadata = store.metadata(name) or {}
            shape, chunk = metadata["shape"], metadata["chunk_grid"]["configuration"]["chunk_shape"]
            keys = product(*(range(-(-size // step)) for size, step in zip(shape, chunk, strict=True)))
            lacking = store.place.lacking(f"{name}/c/{'/'.join(map(str, key))}" for key in keys)
        except (KeyError, TypeError, ValueError):
            lacking = f"{name}/zarr.json"
        if lacking is not None:
            raise NeurolensError(
                f"{store.path} is damaged: it lacks {lacking}; 'neurolens verify {shlex.quote(str(store.path))}' says "
                "what mends it"
            )
