"""Attributes: what a run says of itself, what was asked of its results, and which of its blocks are marked."""

from __future__ import annotations

import numpy as np

from neurolens import NeurolensError, first_line
from neurolens.inspection.findings import Findings, brief
from neurolens.parts import NEEDS, PARTS
from neurolens.schema import KEEP
from neurolens.tables import GRAMS

_ATTRIBUTES = {
    "model": dict, "checkpoint": str, "tokenizer": str, "dtype": str, "device": str, "activation": str,
    "batch_sequences": int, "block_sequences": int, "threads": int, "versions": dict, "layers": list, "neurons": int,
    "label_names": list, "eos": int, "corpus": dict, "corpus_fingerprint": str, "corpus_notes": dict,
}  # fmt: skip


def check_attributes(seen: Findings) -> bool:
    """Whether the attributes and the shape of the text are there and can be meant."""
    attrs, before = seen.store.attrs, len(seen.damages)
    for name, kind in _ATTRIBUTES.items():
        if not isinstance(attrs.get(name), kind) or isinstance(attrs.get(name), bool):
            found = f"{name} is {brief(attrs[name])}" if name in attrs else f"no {name}"
            seen.damage("zarr.json", found, f"{name}, a {kind.__name__}")
    if len(seen.damages) == before:
        model, layers, names = attrs["model"], attrs["layers"], attrs["label_names"]
        config = model.get("config")
        vocab = config.get("vocab_size") if isinstance(config, dict) else None
        revision = model.get("revision")
        numbered = all(type(layer) is int and layer >= 0 for layer in layers)
        for wrong, found, expected in (
            (not layers or not numbered or sorted({*layers}) != layers, f"layers {brief(layers)}", "numbers"),
            (not names or not all(isinstance(x, str) for x in names), f"label_names {brief(names)}", "names"),
            (type(vocab) is not int or vocab < 1, f"vocab_size {brief(vocab)}", "a number above 0"),
            (not isinstance(model.get("id"), str), f"model id {brief(model.get('id'))}", "a folder or name"),
            (attrs["keep_bitmaps"] not in KEEP, f"keep_bitmaps {brief(attrs['keep_bitmaps'])}", "all, sparse or none"),
            (attrs.get("merged") not in (None, "counts"), f"merged {brief(attrs.get('merged'))}", "counts, or nothing"),
            (not isinstance(revision, str | None), f"revision {brief(revision)}", "a commit, or null"),
            *(
                (attrs[name] < 1, f"{name} {attrs[name]}", "a number above 0")
                for name in ("neurons", "block_sequences", "batch_sequences")
            ),
        ):
            if wrong:
                seen.damage("zarr.json", found, expected)
    shape = (seen.store.metadata("tokens") or {}).get("shape")
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(n) is int and n > 0 for n in shape):
        seen.damage("tokens", "no readable array", "the text, sequence by position")
    elif len(seen.damages) == before:
        try:
            sequences, positions = seen.store.shape
        except Exception as error:  # zarr's errors are of many kinds
            seen.damage("tokens", f"no readable array ({first_line(error)})", "the text, sequence by position")
            return False
        per_block, batch = attrs["block_sequences"], attrs["batch_sequences"]
        if sequences > per_block and (per_block * positions % 64 or per_block % batch):
            found = f"blocks of {per_block} sequences of {positions} tokens, batches of {batch}"
            seen.damage("zarr.json", found, "blocks of whole batches and of a multiple of 64 tokens")
        size = f"{len(attrs['layers'])} layers of {attrs['neurons']} neurons, {sequences * positions:,} tokens"
        seen.holds(f"attributes: {size}, {len(attrs['label_names'])} labels", before)
    return len(seen.damages) == before


def check_marks(seen: Findings) -> None:
    """What was asked of each part, of those whose marks can be meant."""
    if not seen.store.place.is_folder("results"):
        seen.remarks.append("not analysed")
        return
    before = len(seen.damages)
    attributes = (seen.store.metadata("results") or {}).get("attributes")
    parts = attributes.get("parts", {}) if isinstance(attributes, dict) else None
    sizes = {"dead": ("groups", "samples"), "ngrams": ("lengths",), "updates": ("k",)}
    if not isinstance(attributes, dict) or not isinstance(parts, dict):
        seen.damage("results/zarr.json", "unreadable marks", "what was asked of each part", ("part", *PARTS))
        return
    for part in [*(part for part in PARTS if part in parts), *(set(parts) - set(PARTS))]:
        asked = parts[part]
        keys = sizes.get(part, ())
        whole = isinstance(asked, dict) and all(type(asked.get(key)) is int and asked[key] > 0 for key in keys)
        whole = whole and part in PARTS and (part != "ngrams" or asked["lengths"] <= len(GRAMS))
        if not whole:
            undo = ("part", part) if part in PARTS else ("part",)
            seen.damage("results/zarr.json", f"a mark {part!r} with {brief(asked)}", "what was asked", undo)
        elif missing := set(NEEDS[part]) - set(parts):
            found = f"{part} is marked and {', '.join(sorted(missing))} is not"
            seen.damage("results/zarr.json", found, "marks of what a part needs", ("part", part))
        elif seen.marks.keys() >= set(NEEDS[part]):  # else taken back with what it needs
            seen.marks[part] = asked
    if parts and attributes.get("n_tokens") != seen.store.n_tokens:
        found = f"results of {brief(attributes.get('n_tokens'))} tokens"
        seen.damage("results/zarr.json", found, f"{seen.store.n_tokens}", ("part", *PARTS))
    if left := [part for part in PARTS if part not in seen.marks]:
        seen.remarks.append(f"not analysed for {', '.join(left)}")
    seen.holds(f"marks of results: {', '.join(seen.marks)}", before) if seen.marks else None


def check_progress(seen: Findings) -> None:
    """Which blocks are marked; what cannot be read counts as not."""
    layers, blocks = len(seen.store.layers), len(seen.store.blocks)
    seen.done = np.zeros((layers, blocks), bool)
    if (seen.store.metadata("progress") or {}).get("shape") == [layers, blocks]:
        for block in range(blocks):
            try:
                if not seen.store.has_chunk("progress", (0, block)):
                    raise NeurolensError("missing")
                marks = seen.store.read("progress", (slice(None), block))
            except NeurolensError:  # said where all chunks are read
                continue
            if (marks > 1).any():
                found = f"marks {', '.join(map(str, marks.tolist()))}"
                seen.damage(f"progress/c/0/{block}", found, "0 or 1", ("block", block))
            seen.done[:, block] = marks == 1
    if not seen.done.all():
        seen.remarks.append(
            f"incomplete: {seen.done.sum()} of {seen.done.size} blocks of layers are collected; the same "
            f"'neurolens {seen.store.made_by}' command continues"
        )
