"""slots: the files of a spool as they lie in its folder. What each says it holds, and whether that is what was written.

    spool.json      {"run": "…", "slots": 9, "slot_bytes": …, "sequence_bytes": …}   whose states they are, and how many
    slot-003        the states of one block, sequence by sequence, in the run's dtype
    slot-003.json   {"block": 7, "layers": 12, "hashes": ["…", …]}   written last; one hash (xxh3) a batch

`layers` counts those that the states have been through. A slot without its JSON is free. Nothing here needs torch:
spool.py fills and uses slots, `neurolens verify` only looks at them.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from neurolens.corpus import Block
from neurolens.location import Where, beside
from neurolens.shards import PATTERN, WHOLE, Shard

SPARE = 2  # slots more than blocks: one that is filled, one whose commit is under way
DESCRIPTION = "spool.json"
PIECE = 1 << 22  # bytes read at a time to be hashed
# attributes of a run that decide its states, as far as they are not decided by one another
IDENTITY = ("checkpoint", "tokenizer", "dtype", "device", "activation", "corpus_fingerprint")
IDENTITY += ("layers", "batch_sequences", "block_sequences", "keep_bitmaps")


@dataclass
class Slot:
    """States of a block that has been through some layers, with a hash for each batch."""

    number: int
    layers: int
    hashes: list[str]


def spool_folder(output: Where, parent: Path | None = None, shard: Shard = WHOLE) -> Path:
    """Where hidden states of a run, or of a shard of it, wait, if on a disk: in `parent`, or beside the run."""
    output = beside(output)
    return (parent or output.parent) / f"{output.name}{shard.suffix}.spool"


def shard_spools(run: Where, parent: Path | None = None) -> dict[Path, Shard]:
    """The folders of all shards' hidden states that are there."""
    output = beside(run)
    folders = {}
    for folder in sorted((parent or output.parent).glob(f"{glob.escape(output.name)}{PATTERN}.spool")):
        shard = Shard.of_suffix(folder.name.removeprefix(output.name).removesuffix(".spool"))
        if shard is not None:
            folders[folder] = shard
    return folders


def fingerprint_run(attrs: Mapping[str, Any]) -> str:
    """What tells the states of a run from those of others, by its attributes: SHA-256 over those of IDENTITY."""
    return hashlib.sha256(json.dumps({name: attrs[name] for name in IDENTITY}, sort_keys=True).encode()).hexdigest()


def lay_out(blocks: Sequence[Block], width: int) -> dict[str, int]:
    """The slots of a run of these blocks, whose sequences' states take `width` bytes, as its description has them."""
    largest = max(block.sequences for block in blocks) * width
    return {"slots": len(blocks) + SPARE, "slot_bytes": largest, "sequence_bytes": width}


def describe_spool(folder: Path) -> dict[str, Any] | None:
    """What a folder says of the spool in it; None if there is none."""
    try:
        found = json.loads((folder / DESCRIPTION).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def spool_size(folder: Path) -> int:
    """Bytes of the disk that the spool in a folder has taken; 0 if there is none."""
    return sum(path.stat().st_blocks * 512 for path in folder.glob("slot-*")) if describe_spool(folder) else 0


def slot_path(folder: Path, number: int) -> Path:
    """The file of a slot."""
    return folder / f"slot-{number:03d}"


def entry_path(folder: Path, number: int) -> Path:
    """The file that says what is in a slot."""
    return folder / f"slot-{number:03d}.json"


def read_entry(folder: Path, number: int) -> tuple[int, Slot] | None:
    """(index of the block, slot) as a slot says; None for one that says nothing."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        entry = json.loads(entry_path(folder, number).read_bytes())
        return int(entry["block"]), Slot(number, int(entry["layers"]), [str(each) for each in entry["hashes"]])
    return None


def read_slots(folder: Path, slots: int) -> dict[int, list[Slot]]:
    """What the slots of a folder say they hold, by the index of the block; those that say nothing are free."""
    found: dict[int, list[Slot]] = {}
    for number in range(slots):
        if entry := read_entry(folder, number):
            found.setdefault(entry[0], []).append(entry[1])
    return found


def is_whole(folder: Path, block: Block, slot: Slot, batch_sequences: int, width: int) -> bool:
    """Whether what a slot holds of a block is what was written; `width`: bytes of a sequence's states."""
    batches = list(block.batches(batch_sequences))
    if len(batches) != len(slot.hashes):
        return False
    try:
        with slot_path(folder, slot.number).open("rb", buffering=0) as file:
            return all(
                _hash(file.fileno(), batch.start * width, (batch.stop - batch.start) * width) == known
                for batch, known in zip(batches, slot.hashes, strict=True)
            )
    except OSError:  # gone, or a disk that cannot read it
        return False


def clear_spool(folder: Path) -> None:
    """Remove the slots of a folder; first what says that they mean anything."""
    for path in (*folder.glob(f"{DESCRIPTION}*"), *folder.glob("slot-*")):
        path.unlink(missing_ok=True)


def remove_spool(folder: Path, run: str) -> None:
    """Remove the spool of a run, or one without a description, which a stop has left half made or half removed;
    nothing happens if there is none in the folder, or if it is in use."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (describe_spool(folder) or {"run": run}).get("run") == run:
                clear_spool(folder)
                with contextlib.suppress(OSError):  # somebody else's files stay
                    folder.rmdir()
    finally:
        os.close(handle)


def _hash(file: int, offset: int, size: int) -> str:
    """Of a stretch of a file, or of what is there of it."""
    digest, stop = xxhash.xxh3_64(), offset + size
    while offset < stop and (data := os.pread(file, min(PIECE, stop - offset), offset)):
        digest.update(data)
        offset += len(data)
    return digest.hexdigest()
