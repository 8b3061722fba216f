"""spool: where the hidden states of a window's blocks wait between two layers, in memory or on a disk.

On a disk a block's states are never updated in place: what a layer makes of them goes to a free slot, and the old slot
is free once bits and states are both on the disk and marked. So whatever moment a run is stopped at, each block has
states of some layer, and they are whole. Two slots more than blocks: one is filled while the one before is committed.
What lies in the folder is slots.py's.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import xxhash
from torch import Tensor

from neurolens import IncompleteError, NeurolensError
from neurolens.committer import Written
from neurolens.corpus import Block
from neurolens.durable import writing
from neurolens.slots import (
    DESCRIPTION,
    Slot,
    clear_spool,
    describe_spool,
    entry_path,
    is_whole,
    lay_out,
    read_slots,
    slot_path,
)


class Spool(Protocol):
    """Hidden states by block. A block goes through a layer by `begin`, then `read` and `write` of each batch, then
    `end`; through its last one by `read` alone, then `finish`."""

    def done(self, block: Block) -> int:
        """Layers that a block's states have been through; 0: none are held, it begins with its token ids."""
        ...

    def begin(self, block: Block) -> None:
        """Room for what is going to be written."""
        ...

    def read(self, block: Block, batch: slice) -> Tensor:
        """States `(B, T, D)` of some sequences, on the device; they may be overwritten by the next call."""
        ...

    def write(self, block: Block, batch: slice, hidden: Tensor) -> None:
        """Put what the layer made of them."""
        ...

    def end(self, block: Block, layers: int) -> Written:
        """All batches are written: `done` and `read` speak of these from now on, which are through `layers` layers."""
        ...

    def finish(self, block: Block) -> Written:
        """The block's states are not needed any more."""
        ...


class MemorySpool:
    """States in memory, of a device or the machine's; updated in place, as a stop loses them anyway."""

    def __init__(self, device: torch.device, computing: torch.device | None = None) -> None:
        """Kept on `device`, used on `computing`, by default the same."""
        self._device, self._computing = device, computing or device
        self._held: dict[int, Tensor] = {}
        self._done: dict[int, int] = {}
        self._spare: list[Tensor] = []  # allocated anew, they would leave holes in the heap

    def done(self, block: Block) -> int:
        return self._done.get(block.index, 0)

    def begin(self, block: Block) -> None:
        pass

    def read(self, block: Block, batch: slice) -> Tensor:
        return self._held[block.index][batch].to(self._computing)

    def write(self, block: Block, batch: slice, hidden: Tensor) -> None:
        held = self._held.get(block.index)
        if held is None:
            fits = [i for i, spare in enumerate(self._spare) if len(spare) >= block.sequences]
            shape = (block.sequences, *hidden.shape[1:])
            held = self._spare.pop(fits[0]) if fits else hidden.new_empty(shape, device=self._device)
            self._held[block.index] = held
        held[batch] = hidden

    def end(self, block: Block, layers: int) -> Written:
        self._done[block.index] = layers
        return _Kept()

    def finish(self, block: Block) -> Written:
        self._done.pop(block.index, None)
        if block.index in self._held:
            self._spare.append(self._held.pop(block.index))
        return _Kept()


class _Kept:
    """Of states in memory there is nothing to settle."""

    def settle(self) -> None:
        pass

    def release(self) -> None:
        pass


@dataclass
class _InSlot:
    """States in a slot, and what they were made of."""

    spool: DiskSpool
    block: int
    new: Slot | None
    old: Slot | None

    def settle(self) -> None:
        if self.new is not None:
            self.spool.settle(self.block, self.new)

    def release(self) -> None:
        if self.old is not None:
            self.spool.free(self.old)


class DiskSpool:
    """States in files of a folder, for a run of one window; `open_spool` makes it."""

    def __init__(
        self, folder: Path, slots: int, batch_sequences: int, width: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """`width`: bytes of a sequence's states; `device`: where they are used."""
        self._folder, self._batch, self._width = folder, batch_sequences, width
        self._dtype, self._device = dtype, device
        self._files = [os.open(slot_path(folder, number), os.O_RDWR | os.O_CREAT, 0o644) for number in range(slots)]
        self._buffer = np.empty(batch_sequences * width, np.uint8)  # read into again and again: no page of it is new
        self._now: dict[int, Slot] = {}
        self._next: dict[int, Slot] = {}
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()

    def done(self, block: Block) -> int:
        return self._now[block.index].layers if block.index in self._now else 0

    def begin(self, block: Block) -> None:
        """There is a free slot: at most one commit is under way."""
        number = self._free.get_nowait()
        entry_path(self._folder, number).unlink(missing_ok=True)
        self._next[block.index] = Slot(number, 0, [""] * len(list(block.batches(self._batch))))

    def read(self, block: Block, batch: slice) -> Tensor:
        data = self._read(self._now[block.index].number, batch)
        if len(data) < (batch.stop - batch.start) * self._width:
            raise IncompleteError(f"the spool {self._folder} was cut short meanwhile; give the same command again")
        hidden = torch.from_numpy(data).view(self._dtype)
        return hidden.view(batch.stop - batch.start, block.positions, -1).to(self._device)

    def write(self, block: Block, batch: slice, hidden: Tensor) -> None:
        slot, data = self._next[block.index], hidden.cpu().contiguous().view(torch.uint8).numpy().data.cast("B")
        slot.hashes[batch.start // self._batch] = xxhash.xxh3_64_hexdigest(data)
        with _named_error(self._folder):
            _write_all(self._files[slot.number], data, batch.start * self._width)

    def end(self, block: Block, layers: int) -> Written:
        new, old = self._next.pop(block.index), self._now.get(block.index)
        new.layers = layers
        self._now[block.index] = new
        return _InSlot(self, block.index, new, old)

    def finish(self, block: Block) -> Written:
        return _InSlot(self, block.index, None, self._now.pop(block.index, None))

    def settle(self, block: int, slot: Slot) -> None:
        """Make sure that a slot is on the disk, then describe it."""
        with _named_error(self._folder):
            os.fsync(self._files[slot.number])
            entry = {"block": block, "layers": slot.layers, "hashes": slot.hashes}
            with writing(entry_path(self._folder, slot.number)) as file:
                file.write(json.dumps(entry).encode())

    def free(self, slot: Slot) -> None:
        """Give a slot to whoever waits for one."""
        self._free.put(slot.number)

    def reserve(self, size: int) -> None:
        """Take so many bytes of the disk for each slot. Raises OSError where there is no room."""
        for file in self._files:
            os.posix_fallocate(file, 0, size)

    def close(self) -> None:
        """Close the files; what is in them stays."""
        for file in self._files:
            os.close(file)
        self._files = []

    def recover(self, blocks: Sequence[Block], most: Mapping[int, int], say: Callable[[str], object]) -> None:
        """Take up what an earlier process left: of each block the latest sound states that have been through at most
        `most` layers (by index; blocks without one are not needed)."""
        found = read_slots(self._folder, len(self._files))
        for block in blocks:
            slots = [slot for slot in found.get(block.index, []) if slot.layers <= most.get(block.index, -1)]
            slots.sort(key=lambda slot: -slot.layers)
            sound = next((s for s in slots if is_whole(self._folder, block, s, self._batch, self._width)), None)
            if sound is not None:
                self._now[block.index] = sound
            if slots and slots[0] is not sound:
                say(
                    f"{self._folder}: the states of block {block.index} after {slots[0].layers} layers are damaged; it "
                    f"goes through the layers from {self.done(block)} on again"
                )
        taken = {slot.number for slot in self._now.values()}
        for number in set(range(len(self._files))) - taken:
            self._free.put(number)

    def _read(self, number: int, batch: slice) -> np.ndarray:
        """A batch's bytes, fewer if the file ends."""
        into, done = self._buffer.data[: (batch.stop - batch.start) * self._width], 0
        while done < len(into) and (
            got := os.preadv(self._files[number], [into[done:]], batch.start * self._width + done)
        ):
            done += got
        return self._buffer[:done]


@contextlib.contextmanager
def open_spool(
    folder: Path,
    run: str,
    blocks: Sequence[Block],
    *,
    batch_sequences: int,
    hidden: int,
    dtype: torch.dtype,
    device: torch.device,
    most: Mapping[int, int],
    say: Callable[[str], object],
) -> Iterator[DiskSpool]:
    """The spool of a run in a folder, which is made; closed afterwards, and left there.

    `run`: a fingerprint of what decides the states; those of another run are refused. `hidden`: values of a token's
    state (D). `most`: by the index of each block that is still to be done, how many layers the states it goes on from
    may have been through. Raises NeurolensError where it cannot be made or is in use, IncompleteError where there is no
    room for it.
    """
    width = blocks[0].positions * hidden * dtype.itemsize
    layout = lay_out(blocks, width)
    slots, largest, description = layout["slots"], layout["slot_bytes"], {"run": run, **layout}
    try:
        folder.mkdir(exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise NeurolensError(f"cannot make the spool {folder} ({error.strerror}); give another --spool") from error
    spool = None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise NeurolensError(f"the spool {folder} is in use by another process; wait for it to end") from error
        known = describe_spool(folder)
        if known is not None and known.get("run") != run:
            raise NeurolensError(f"{folder} holds hidden states of another run; give another --spool, or remove it")
        if known != description:
            clear_spool(folder)
        with _named_error(folder, slots * largest):
            spool = DiskSpool(folder, slots, batch_sequences, width, dtype, device)
            if known != description:
                try:
                    spool.reserve(largest)  # now, so that it cannot run out later
                    with writing(folder / DESCRIPTION) as file:
                        file.write(json.dumps(description).encode())
                except OSError:
                    clear_spool(folder)
                    raise
        spool.recover(blocks, most, say)
        yield spool
    finally:
        if spool is not None:
            spool.close()
        os.close(handle)


def _write_all(file: int, data: memoryview, offset: int) -> None:
    while len(data):
        done = os.pwrite(file, data, offset)
        data, offset = data[done:], offset + done


@contextlib.contextmanager
def _named_error(folder: Path, wanted: int | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        free = shutil.disk_usage(folder).free / 1e9
        needs = "" if wanted is None else f", it takes {wanted / 1e9:.2f} GB"
        raise IncompleteError(
            f"cannot write the spool {folder}: {error.strerror or error} ({free:.2f} GB free{needs}); make room, or "
            "give another --spool, and give the same command again: it continues"
        ) from error
