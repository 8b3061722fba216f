"""Spools: hidden states that wait beside a run, or where collect was told to put them, against their hashes.

They are no part of what a run holds: of a block whose states are damaged, collect does some layers again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neurolens.corpus import Block
from neurolens.durable import MAKING
from neurolens.inspection.findings import Findings
from neurolens.location import beside
from neurolens.progress import Progress
from neurolens.shards import WHOLE, Shard
from neurolens.slots import (
    DESCRIPTION,
    Slot,
    describe_spool,
    entry_path,
    fingerprint_run,
    is_whole,
    lay_out,
    read_entry,
    shard_spools,
    slot_path,
    spool_folder,
)


def check_spools(seen: Findings) -> None:
    """Spools of the run and of its shards in the folder that was given for them and in that of the run."""
    run = seen.store.path
    here = beside(run).parent
    places = [here, *([seen.spool] if seen.spool and seen.spool.resolve() != here.resolve() else [])]
    for place in places:
        folder = spool_folder(run, place)
        found = {folder: WHOLE} if folder.is_dir() else {}
        found |= shard_spools(run, place)
        for each, shard in found.items():
            _check(seen, each, shard)
        if not found and place == seen.spool:
            seen.remarks.append(f"no hidden states wait in {folder}")


def _check(seen: Findings, folder: Path, shard: Shard) -> None:
    before, known = len(seen.damages), describe_spool(folder)
    if seen.complete:
        seen.remarks.append(f"{folder}: left by a collect that was stopped; it is not needed and may be removed")
        return
    for path in sorted(folder.glob(f"*{MAKING}")):
        seen.remarks.append(f"{path}: left by a write that was stopped; it may be removed")
    if not (folder / DESCRIPTION).exists():
        seen.remarks.append(f"{folder}: no {DESCRIPTION}: nothing in it is used; it may be removed")
        return
    if known is not None and known.get("run") != fingerprint_run(seen.store.attrs):
        seen.remarks.append(f"{folder}: hidden states of another run, not read; collect needs another --spool")
        return
    if known is None or not _is_laid_out(shard.part(seen.store.blocks), known):
        found = "unreadable" if known is None else "other slots than the run's"
        lost = "all states are lost, and collect begins anew"
        seen.damage(str(folder / DESCRIPTION), f"{found}: {lost}", "what is in the folder", ("spool", str(folder)))
        return
    held = _check_slots(seen, folder, known["sequence_bytes"])
    seen.holds(f"hidden states: those of {held} blocks wait in {folder}, and are whole", before)


def _is_laid_out(blocks: list[Block], known: dict[str, Any]) -> bool:
    """Whether a description is one of slots for these blocks."""
    width = known.get("sequence_bytes")
    if type(width) is not int or width < 1 or not blocks:
        return False
    return known == {"run": known["run"], **lay_out(blocks, width)}


def _check_slots(seen: Findings, folder: Path, width: int) -> int:
    """Hash every slot that says what is in it. Returns of how many blocks there are states to go on from."""
    blocks, size = seen.store.blocks, int(seen.store.attrs["batch_sequences"])
    sound: dict[int, list[Slot]] = {}
    wrong: dict[int, list[Slot]] = {}
    numbers = list(_described(folder))
    with Progress("verify", len(numbers), "slots") as progress:
        for number in numbers:
            progress.update()
            entry = read_entry(folder, number)
            if entry is None or not 0 <= entry[0] < len(blocks):
                what = "unreadable" if entry is None else "a block that is none"
                found, path = f"{what}: a block is done again from older states", entry_path(folder, number)
                seen.damage(str(path), found, "what is in the slot", ("slot", str(folder), number))
                continue
            whole = is_whole(folder, blocks[entry[0]], entry[1], size, width)
            (sound if whole else wrong).setdefault(entry[0], []).append(entry[1])
    # after how many layers the latest states are that each block can go on from
    most = {block.index: lacking for block in blocks if (lacking := _first_lacking(seen, block.index)) is not None}
    start = {
        index: max((slot.layers for slot in sound.get(index, []) if slot.layers <= layers), default=0)
        for index, layers in most.items()
    }
    for index, slots in sorted(wrong.items()):
        for slot in slots:
            path = slot_path(folder, slot.number)
            states = f"the states of block {index} after {slot.layers} layers"
            if index in most and start[index] < slot.layers <= most[index]:
                found = f"other bytes than were written: the block is done again from layer {start[index]}"
                seen.damage(str(path), found, states, ("slot", str(folder), slot.number))
            else:
                seen.remarks.append(f"{path}: {states} are not whole, and not needed")
    return sum(layers > 0 for layers in start.values())


def _described(folder: Path) -> Iterator[int]:
    """Numbers of the slots that say what is in them, ascending."""
    for path in sorted(folder.iterdir()):
        if found := re.fullmatch(r"slot-(\d{3,})\.json", path.name):
            yield int(found[1])


def _first_lacking(seen: Findings, block: int) -> int | None:
    """The first layer that a block lacks; None for a block that is done."""
    return next((layer for layer in seen.store.layers if not seen.row_done(layer, block)), None)
