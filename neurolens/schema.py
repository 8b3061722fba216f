"""Schema: which arrays a run must hold, by what it is and what is marked, with axes, lengths and types (docs/store.md).

The one table of names beside the page itself; `neurolens verify` holds a run against it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from neurolens.tables import GRAMS, STRENGTHS, SUPPORT, TYPES

KEEP = ("all", "sparse", "none")  # whose bits stay once they are counted

# whose (what collect writes is "run", and "sparse" where it keeps but some bits of a layer), folder, type, axes, names;
# uint+ is the least unsigned type that fits, from uint16 on; LL stands for every layer
_TABLE = """
run        .                            int32    sequence,position     tokens
run        .                            uint16   sequence              label
run        .                            int64    document              document_start
run        .                            int64    document,source       document_source
run        .                            int32    layer                 layer
run        .                            uint32   token                 order
run        .                            uint8    layer,block           progress
run        layers/LL                    uint8    neuron,token_byte     active
sparse     layers/LL                    bool     neuron                kept
vocabulary vocabulary                   uint8    byte                  bytes
vocabulary vocabulary                   int64    boundary              start
dead       counts/layers/LL             uint+    neuron,position       position
dead       counts/layers/LL             uint+    neuron,label          label
dead       counts/layers/LL             uint+    neuron,group          group
dead       counts/layers/LL             uint+    neuron,group,label    group_label
dead       counts/total                 int64    position              position
dead       counts/total                 int64    label                 label
dead       counts/total                 int64    group                 group
dead       counts/total                 int64    group,label           group_label
dead       results                      int64    layer,neuron,sample   contexts
dead       results/neurons              int32    layer                 layer
dead       results/neurons              int64    layer,neuron          activations activations_on_text first_active
dead       results/neurons              float64  layer,neuron          frequency frequency_low frequency_high
dead       results/neurons              float64  layer,neuron          design_effect
dead       results/neurons              bool     layer,neuron          dead dead_but_bos
dead       results/activity             int32    layer                 layer
dead       results/activity             float64  layer                 dead dead_low dead_high
dead       results/activity             float64  layer                 frequency frequency_low frequency_high
ngrams     results/neurons              int32    layer,neuron          GRAMs_95
ngrams     results/neurons              bool     layer,neuron          GRAM_detector GRAM_detector_supported
ngrams     results/layers/LL/triggers   int32    trigger               neuron
ngrams     results/layers/LL/triggers   uint8    trigger               n
ngrams     results/layers/LL/triggers   int32    trigger,gram          tokens
ngrams     results/layers/LL/triggers   int64    trigger               on total
ngrams     results/layers/LL/triggers   float64  trigger               rate_lower
ngrams     results/layers/LL/triggers   bool     trigger               member covered
ngrams     results/by_layer             int32    n                     n
ngrams     results/by_layer             int32    layer                 layer
ngrams     results/by_layer             int64    support,n,layer       detectors covered new new_to_previous cumulative
ngrams     results/overall              int32    n                     n
ngrams     results/overall              int64    support,n             detectors covered
positions  results/neurons              float64  layer,neuron          position_mi position_mi_corrected position_p
positions  results/neurons              bool     layer,neuron          position_rough positional
positions  results/neurons              uint8    layer,neuron          position_type position_strength
positions  results/positions            int32    row                   layer neuron
positions  results/positions            uint8    row                   type strength
positions  results/positions            float64  row                   mi mi_corrected mi_low mi_high p
positions  results/positions            float64  row                   period phase agreement stability
positions  results/positions            bool     row                   rough
positions  results/positions            uint+    row,position          curve
positions  results/positions/ranges     int32    range                 row first stop
positions  results/positions/ranges     bool     range                 always
positions  results/positions/ranges     float64  range                 frequency
positions  results/positions/ranges     int64    range                 n
positions  results/positions/by_layer   int32    layer                 layer
positions  results/positions/by_layer   int64    type,strength,layer   count
positions  results/positions/by_layer   float64  type,strength,layer   count_low count_high
positions  results/positions/by_layer   float64  layer                 share share_low share_high
positions  results/positions/by_layer   int64    layer                 tiling_neurons
positions  results/positions/by_layer   float64  layer                 tiling_covered tiling_expected
positions  results/positions/overall    int64    type,strength         count
positions  results/positions/overall    float64  type,strength         count_low count_high
contrast   results/neurons              float64  layer,neuron          label_mi label_mi_corrected label_mi_low
contrast   results/neurons              float64  layer,neuron          label_mi_high label_p
contrast   results/neurons              bool     layer,neuron          label_rough
contrast   results/neurons              int32    layer,neuron          label_only label_silent
contrast   results/neurons              bool     layer,neuron          label_only_supported label_silent_supported
contrast   results/contrast             int32    layer                 layer
contrast   results/contrast             int64    label,layer           only only_supported silent silent_supported
contrast   results/contrast             float64  label,layer           frequency frequency_low frequency_high
contrast   results/contrast             float64  label,layer           dead dead_low dead_high
updates    results/neurons              int8     layer,neuron          suppresses_triggers
updates    results/neurons              float32  layer,neuron          trigger_projection trigger_projection_centred
updates    results/layers/LL/triggers   float32  trigger               projection projection_centred cosine
updates    results/layers/LL/triggers   int32    trigger               rank
updates    results/layers/LL/updates    int32    row                   neuron
updates    results/layers/LL/updates    int32    row,place             promoted suppressed
updates    results/layers/LL/updates    float32  row,place             promoted_projection suppressed_projection
updates    results/layers/LL/updates    float32  row                   projection_mean
updates    results/by_layer             float64  support,n,layer       SHARE SHARE_low SHARE_high
updates    results/overall              float64  support,n             SHARE SHARE_low SHARE_high
"""
_WORDS = {"SHARE": ("suppressing", "null_neurons", "null_tokens")}


@dataclass(frozen=True)
class Expected:
    """An array that must be there.

    owner  the part of the analysis it is of; `run`, `sparse` and `vocabulary`: collect writes it
    types  zarr's names of the types it may have
    dims   its axes
    shape  their lengths; None: any, but the same for all arrays of the folder
    """

    owner: str
    types: tuple[str, ...]
    dims: tuple[str, ...]
    shape: tuple[int | None, ...]


def expected_arrays(
    attrs: Mapping[str, Any],
    shape: tuple[int, int],
    marks: Mapping[str, Mapping[str, Any]],
    *,
    vocabulary: bool,
    thinned: Collection[int] = (),
    most_labels: int,
) -> dict[str, Expected]:
    """Every array of a run by its path: what collect writes, and what marked parts own.

    `attrs` those of the root, `shape` (S, T), `marks` what was asked of each part whose results are there,
    `vocabulary` whether the run has one, `thinned` the layers of which it keeps but some bits; with more labels than
    `most_labels` there is no `group_label` of neurons.
    """
    (sequences, positions), layers = shape, attrs["layers"]
    sizes: dict[str, int] = {
        "sequence": sequences, "position": positions, "token": sequences * positions,
        "token_byte": row_bytes(sequences * positions),
        "layer": len(layers), "neuron": attrs["neurons"], "block": -(-sequences // attrs["block_sequences"]),
        "label": len(attrs["label_names"]), "source": 2, "boundary": attrs["model"]["config"]["vocab_size"] + 1,
        "support": len(SUPPORT), "type": len(TYPES) - 1, "strength": len(STRENGTHS) - 1,
        "group": marks.get("dead", {}).get("groups", 0), "sample": marks.get("dead", {}).get("samples", 0),
        "place": marks.get("updates", {}).get("k", 0), "n": marks.get("ngrams", {}).get("lengths", 0),
    }  # fmt: skip
    sizes["gram"] = sizes["n"]
    owners = {"run", "sparse", *marks} | ({"vocabulary"} if vocabulary else set())
    found: dict[str, Expected] = {}
    for name, owner, kind, dims in table(layers, sizes["n"], owners):
        if owner == "sparse" and int(name.split("/")[1]) not in thinned:
            continue
        if name.startswith("counts/layers/") and name.endswith("/group_label") and sizes["label"] > most_labels:
            continue
        types = ("uint16", "uint32") if kind == "uint+" else (kind,)
        found[name] = Expected(owner, types, dims, tuple(sizes.get(dim) for dim in dims))
    return found


def row_bytes(tokens: int) -> int:
    """Bytes of a neuron's bits over so many tokens: whole words of 64."""
    return -(-tokens // 64) * 8


def table(
    layers: Collection[int], lengths: int, owners: Collection[str]
) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """(path, owner, type, axes) of every array of these owners, with n-grams of up to `lengths` tokens."""
    words, found = {"GRAM": GRAMS[:lengths], **_WORDS}, []
    for line in _TABLE.split("\n"):
        owner, folder, kind, dims, *names = line.split() or [""] * 4
        if owner not in owners:
            continue
        for name in names:
            word = next((word for word in words if word in name), "")
            for said in [name.replace(word, each) for each in words[word]] if word else [name]:
                path = f"{folder}/{said}".removeprefix("./")
                for each in [path.replace("LL", f"{n:02d}") for n in layers] if "LL" in path else [path]:
                    found.append((each, owner, kind, tuple(dims.split(","))))
    return found
