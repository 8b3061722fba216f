"""Kept: whose bits are there in a run that does not keep all, and whether those that are not were counted before.

What is counted waits in a file a layer beside the run (scanner.py) until the last layer is done; bits are dropped once
their layer's file is there. So of every layer whose blocks are marked there are its bits, its file, or the results.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neurolens import NeurolensError, first_line
from neurolens.durable import MAKING
from neurolens.inspection.findings import Findings
from neurolens.scanner import Asked, has_all_bits, load_scan, scan_path

_NOT_NEEDED = "it is not needed any more and may be removed"


def read_scans(seen: Findings) -> dict[int, str]:
    """What is wrong with files of scans, by layer; of the others the counts are noted, and what lacks both."""
    store = seen.store
    wrong: dict[int, str] = {}
    for layer in [] if seen.keeps_all else store.layers:
        path = scan_path(store.path, layer)
        if path.exists():
            try:
                seen.counts[layer] = _read_scan(path, store.neurons)
            except NeurolensError as error:
                wrong[layer] = first_line(error.__cause__ or error)
    seen.bare = {layer for layer in store.layers if layer not in seen.counts and not has_all_bits(store, layer)}
    return wrong


def _read_scan(path: Path, neurons: int) -> dict[str, np.ndarray]:
    """Activations and frequency of each neuron. Raises NeurolensError for a file that is not as it was written."""
    scan = load_scan(path, Asked())
    known = {name: scan.columns.get(name, np.zeros(0)) for name in ("activations", "frequency")}
    for counts in (*known.values(), *scan.dense.values()):
        if len(counts) != neurons:
            raise NeurolensError(f"counts of {len(counts)} neurons")
    for name, counts in scan.dense.items():
        if not np.array_equal(counts.reshape(neurons, -1).sum(1, dtype=np.int64), known["activations"]):
            raise NeurolensError(f"counts by {name} that are not those of activations")
    return known


def check_kept(seen: Findings, wrong: dict[int, str]) -> None:
    """Which bits may be gone, and that what was counted of them is there; `wrong` as `read_scans` has it."""
    for layer, marked in zip(seen.store.layers, seen.done, strict=True):
        bits = f"layers/{layer:02d}/active"
        if seen.store.place.exists(bits):
            continue
        if seen.keeps_all and "dead" in seen.marks:
            seen.remarks.append(f"{bits}: the bits are gone, what was counted from them is there")
            _leave_alone(seen, bits)
        elif not seen.keeps_all and not marked.any() and not seen.counted(layer):
            command = f"the same 'neurolens {seen.store.made_by}' makes it"
            seen.remarks.append(f"{bits}: of a layer that is collected again; {command}")
            _leave_alone(seen, bits)
    _check_scans(seen, wrong)
    before = len(seen.damages)
    if seen.store.attrs["keep_bitmaps"] == "none":
        dropped = sum(_is_dropped(seen, layer) for layer in seen.store.layers)
        seen.holds(f"bits: dropped once they were counted, in {dropped} of {len(seen.store.layers)} layers", before)
    elif not seen.keeps_all:
        seen.thinned = {layer for layer in seen.store.layers if _is_thinned(seen, layer)}
        layers = f"{len(seen.thinned)} of {len(seen.store.layers)} layers"
        seen.holds(f"bits: those of rarely active neurons kept once they were counted, in {layers}", before)
    if seen.done.all() and not seen.complete and not seen.damages:
        seen.remarks.append(
            "incomplete: all bits are collected, and not all that is counted from them is written; the same "
            "'neurolens collect' command continues"
        )


def _check_scans(seen: Findings, wrong: dict[int, str]) -> None:
    """The files of scans, and what else is in their folder."""
    before, folder = len(seen.damages), scan_path(seen.store.path, 0).parent
    if not folder.is_dir():
        return
    if seen.written or seen.keeps_all:
        seen.remarks.append(f"{folder}: left by a collect that was stopped; {_NOT_NEEDED}")
        return
    ours = {scan_path(seen.store.path, layer): layer for layer in seen.store.layers}
    for path in sorted(folder.iterdir()):
        if path.name.endswith(MAKING):
            seen.remarks.append(f"{path}: left by a collect that was stopped; it may be removed")
        elif path not in ours:
            seen.remarks.append(f"{path}: a file that is not neurolens'; it may be removed")
        elif not seen.done[seen.store.layers.index(ours[path])].all():
            seen.remarks.append(f"{path}: of a layer that is collected again; the same 'neurolens collect' removes it")
    for layer, found in wrong.items():
        if not seen.row_done(layer):
            continue
        undo = ("layer", layer) if layer in seen.bare else ("scan", layer)
        seen.damage(str(scan_path(seen.store.path, layer)), found, f"what was counted of layer {layer}", undo)
    seen.holds(f"counts: those of {len(seen.counts)} layers wait in {folder}", before)


def _is_dropped(seen: Findings, layer: int) -> bool:
    """Whether the bits of a layer need not be there; noted, and damage if what was counted of them is not there."""
    bits = f"layers/{layer:02d}/active"
    there = seen.store.place.exists(bits)
    if seen.counted(layer):
        _leave_alone(seen, bits)
        if there and seen.written:
            seen.remarks.append(f"{bits}: bits that were to be dropped; {_NOT_NEEDED}")
        return True
    if there or not seen.row_done(layer):
        return False
    _lacks(seen, layer, "no bits")
    return True


def _is_thinned(seen: Findings, layer: int) -> bool:
    """Whether it must be said whose bits of a layer are kept; damage where it is said wrongly, or nothing counted."""
    name = f"layers/{layer:02d}/kept"
    there = seen.store.place.exists(name)
    if there and not seen.row_done(layer):
        seen.remarks.append(f"{name}: of a layer that is collected again; the same 'neurolens collect' removes it")
        return False
    if there and not seen.counted(layer) and layer in seen.bare:
        _lacks(seen, layer, "some of the bits")
        return False
    attributes = (seen.store.metadata(name) or {}).get("attributes")
    if there and isinstance(attributes, dict):
        frequency, thinned = attributes.get("frequency"), attributes.get("thinned")
        known = isinstance(frequency, int | float) and 0 <= frequency <= 1 and isinstance(thinned, bool)
        if not known or attributes.keys() != {"frequency", "thinned"}:
            expected = "frequency, up to which neurons are kept, and thinned"
            seen.damage(name, f"attributes {attributes}", expected, ("layer", layer))
        elif seen.written and not thinned:
            seen.damage(name, "not thinned", "thinned, as the results are written", ("layer", layer))
    return there or seen.written


def _lacks(seen: Findings, layer: int, found: str) -> None:
    """Damage, unless the layer's file of counts was named for it."""
    bits, counts = f"layers/{layer:02d}/active", str(scan_path(seen.store.path, layer))
    _leave_alone(seen, bits)
    if counts not in seen.unsound:
        expected = f"the bits, or what was counted of them in {counts}"
        seen.damage(bits, f"{found}, and no counts", expected, ("layer", layer))


def _leave_alone(seen: Findings, bits: str) -> None:
    seen.dropped.add(bits)
    seen.unsound.add(bits)
