"""Plan: how a run is cut into batches, blocks and windows, and what it takes: memory, disk, bytes moved, time.

From shapes, and a few rates that were measured (probe.py); which of several plans is taken is planner.py's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from neurolens.decoder import Shape
from neurolens.shards import WHOLE, Shard
from neurolens.slots import SPARE

# Costs that do not depend on the machine as much as on the code; the benchmarks named measure them
COMMIT_BYTES = 60e6  # raw bits into context order, compressed and written, in bytes a second and core (collect.py)
SCAN_NEURONS = 1.2e9  # neuron · tokens analysed in a second and core (analyze.py: 39 s for 38.7e9 at 7.7% active)
SPOOLS = ("memory", "disk")
LINK_BYTES = 10e9  # between the memories of the machine and a GPU, a second, where nothing is pinned
OVERHEAD = 256 << 20  # threads, compiled code, and what the allocator holds back: 50–220 MB seen
CORPUS_BYTES = 40  # a token: ids, order, labels, and what sorting takes while the run is made
INDEX_BYTES = 150  # a token: what counting needs to know of it (tokens.py), and sorting n-grams takes


@dataclass(frozen=True)
class Rates:
    """What a probe has measured.

    compute   seconds that a token takes in a layer, in batches as planned
    load      seconds in which a layer is read from the page cache and converted
    load_cpu  CPU seconds of that
    read      bytes a second that come from the checkpoint's disk
    spool     bytes a second to and from the disk of the spool
    """

    compute: float
    load: float
    load_cpu: float
    read: float
    spool: float


@dataclass(frozen=True)
class Plan:
    """How a run is done.

    weights        `resident` or `streamed`
    spool          where hidden states wait between layers: in `memory` or on `disk`
    keep           whose bitmaps stay once they are counted: `all`, `sparse` or `none`
    window_blocks  blocks that go through a layer before the next layer is due
    gpu            whether a GPU computes; `hidden_there`: whether states in memory are in its own
    base           bytes the process had taken beforehand
    unmapped       bytes of the largest file of weights that is in memory while it is read
    cached         whether the page cache holds the checkpoint from the second window on
    rates          what was measured, None for nothing
    shard          which blocks of the run these are: it takes its own only, and keeps bitmaps until all are there
    not_chosen     other ways to do it, a line each
    """

    shape: Shape
    corpus: tuple[int, int]
    layers: list[int]
    batch_sequences: int
    block_sequences: int
    bytes_per_value: int
    weights: str = "resident"
    spool: str = "memory"
    keep: str = "all"
    window_blocks: int = 1
    gpu: bool = False
    hidden_there: bool = False
    base: int = 0
    unmapped: int = 0
    cached: bool = False
    rates: Rates | None = None
    not_chosen: tuple[str, ...] = ()
    shard: Shard = WHOLE

    # -- sizes ---------------------------------------------------------------------------------------------------

    @property
    def tokens(self) -> int:
        """Tokens of the corpus, n = S · T."""
        return self.corpus[0] * self.corpus[1]

    @property
    def blocks(self) -> int:
        """Blocks of the corpus."""
        return -(-self.corpus[0] // self.block_sequences)

    @property
    def own_blocks(self) -> int:
        """Blocks that are done: those of the shard."""
        first, stop = self.shard.span(self.blocks)
        return stop - first

    @property
    def own_tokens(self) -> int:
        """Tokens of these."""
        first, stop = (min(at * self.block_sequences, self.corpus[0]) for at in self.shard.span(self.blocks))
        return (stop - first) * self.corpus[1]

    @property
    def drops(self) -> bool:
        """Whether a layer is counted, and its bits dropped, as soon as it is complete."""
        return self.keep != "all" and self.shard.whole

    @property
    def windows(self) -> int:
        """Windows of these blocks: so many times streamed weights are read."""
        return -(-self.own_blocks // self.window_blocks)

    @property
    def passes(self) -> int:
        """Layers that the text goes through: up to the last one that is recorded."""
        return max(self.layers) + 1

    @property
    def batch_tokens(self) -> int:
        """Tokens of the largest batch."""
        return min(self.batch_sequences, self.corpus[0]) * self.corpus[1]

    @property
    def block_tokens(self) -> int:
        """Tokens of the largest block."""
        return min(self.block_sequences, self.corpus[0]) * self.corpus[1]

    @property
    def hidden_bytes(self) -> int:
        """Hidden states of the largest block."""
        return self.block_tokens * self.shape.hidden * self.bytes_per_value

    @property
    def raw_bytes(self) -> int:
        """Bits of all neurons, layers and tokens before compression, in bytes."""
        return len(self.layers) * self.shape.neurons * (self.tokens // 8)

    # -- memory --------------------------------------------------------------------------------------------------

    @property
    def weight_memory(self) -> int:
        """All weights; of streamed ones two layers, and what is not a layer."""
        held = self.shape.layers if self.weights == "resident" else min(2, self.shape.layers)
        return (self.shape.parameters_elsewhere + held * self.shape.parameters_per_layer) * self.bytes_per_value

    @property
    def mapped_memory(self) -> int:
        """A streamed layer as it is stored, mapped while it is copied; on its way to a GPU a tensor of it, pinned."""
        layer = self.shape.parameters_per_layer * self.shape.bytes_per_stored_value
        pinned = self.shape.hidden * self.shape.neurons * self.bytes_per_value if self.gpu else 0
        return layer + pinned if self.weights == "streamed" else 0

    @property
    def batch_memory(self) -> int:
        """What a batch takes within a layer: twice what its neurons yield, some hidden states, the mask."""
        inside = self.batch_tokens * (2 * self.shape.neurons + 8 * self.shape.hidden) * self.bytes_per_value
        return inside + self.batch_tokens * self.corpus[1] * (1 + self.bytes_per_value)

    @property
    def hidden_memory(self) -> int:
        """Hidden states that wait in memory: those of a window, or a batch on its way from and to the disk."""
        if self.spool == "memory":
            return min(self.window_blocks, self.own_blocks) * self.hidden_bytes
        return 2 * self.batch_tokens * self.shape.hidden * self.bytes_per_value

    @property
    def bits_memory(self) -> int:
        """Packed rows of a block: one filled, one put into order, that one written."""
        return 5 * self.block_tokens * self.shape.neurons // 8

    @property
    def analysis_memory(self) -> int:
        """What counting a complete layer takes beside, if its bits are not kept: the tokens by what they are counted
        by, counts by position, and some neurons at a time."""
        if self.keep == "all":
            return 0
        counts = 2 * self.shape.neurons * (self.corpus[1] * 4 + 600)
        return self.tokens * INDEX_BYTES + counts + (os.cpu_count() or 1) * (160 << 20)

    @property
    def memory_bytes(self) -> int:
        """Of the machine's memory, beside what Python and torch take."""
        return sum(self.memory_parts.values())

    @property
    def memory_parts(self) -> dict[str, int]:
        """What the machine's memory goes to."""
        parts = {
            "weights": 0 if self.gpu else self.weight_memory,
            "layer as stored": self.mapped_memory,
            "batch": 0 if self.gpu else self.batch_memory,
            "hidden states": 0 if self.gpu and self.hidden_there else self.hidden_memory,
            "bits": self.bits_memory,
            "text": self.tokens * CORPUS_BYTES,
            "analysis": self.analysis_memory,
            "files that cannot be mapped": self.unmapped,
            "threads, allocator": OVERHEAD,
        }
        return {name: size for name, size in parts.items() if size}

    @property
    def device_bytes(self) -> int:
        """Of a GPU's memory; 0 without one."""
        batch = 2 * self.batch_tokens * self.shape.hidden * self.bytes_per_value
        hidden = self.hidden_memory if self.hidden_there else batch
        return self.weight_memory + self.batch_memory + hidden if self.gpu else 0

    # -- disk ----------------------------------------------------------------------------------------------------

    @property
    def spool_bytes(self) -> int:
        """Of the disk that the spool is on: a slot for each block, and two more."""
        return (self.own_blocks + SPARE) * self.hidden_bytes if self.spool == "disk" else 0

    @property
    def bits_bytes(self) -> int:
        """Of the run's disk at most, before compression: all bits, of a shard its own, or one layer's."""
        own = len(self.layers) * self.shape.neurons * (self.own_tokens // 8)
        return own // len(self.layers) if self.drops else own

    @property
    def result_bytes(self) -> int:
        """What results take at most where they are made as the run goes: counts by position and label, contexts."""
        if self.keep == "all":
            return 0
        return len(self.layers) * self.shape.neurons * (self.corpus[1] * 4 + 2000) + self.tokens * 8

    # -- what is moved, and how long it takes --------------------------------------------------------------------

    @property
    def weight_bytes_per_window(self) -> int:
        """Stored weights that streaming reads for each window: every layer up to the last one that is recorded."""
        if self.weights == "resident":
            return 0
        return self.passes * self.shape.parameters_per_layer * self.shape.bytes_per_stored_value

    @property
    def weight_bytes(self) -> int:
        """Stored weights that are read in all: resident ones once."""
        if self.weights == "streamed":
            elsewhere = self.shape.parameters_elsewhere * self.shape.bytes_per_stored_value
            return self.windows * self.weight_bytes_per_window + elsewhere
        parameters = self.shape.parameters_elsewhere + self.shape.layers * self.shape.parameters_per_layer
        return parameters * self.shape.bytes_per_stored_value

    @property
    def spool_bytes_moved(self) -> int:
        """Hidden states written to the disk and read again, between every two layers."""
        moved = 2 * (self.passes - 1) * self.own_tokens * self.shape.hidden * self.bytes_per_value
        return moved if self.spool == "disk" else 0

    @cached_property
    def seconds(self) -> float:
        """How long it takes, with what was measured; NaN without."""
        if self.rates is None:
            return float("nan")
        stored = self.shape.parameters_per_layer * self.shape.bytes_per_stored_value
        cold = self.rates.load + stored / self.rates.read
        if self.weights == "resident":
            return self.shape.layers * cold + self.passes * self._layer_seconds(self.own_tokens, 0, 0)
        total, left = 0.0, self.own_tokens
        for window in range(self.windows):
            tokens = min(left, self.window_blocks * self.block_tokens)
            load = self.rates.load if window and self.cached else cold
            total += load + self.passes * self._layer_seconds(tokens, load, self.rates.load_cpu)
            left -= tokens
        return total

    def _layer_seconds(self, tokens: int, load: float, load_cpu: float) -> float:
        """A layer of so many tokens, while the next one is read: each of several things may be the slowest."""
        assert self.rates is not None
        cores, recorded = os.cpu_count() or 1, len(self.layers) / self.passes
        compute = tokens * self.rates.compute
        states = tokens * self.shape.hidden * self.bytes_per_value
        commit = recorded * tokens * self.shape.neurons / 8 / COMMIT_BYTES
        count = recorded * tokens * self.shape.neurons / SCAN_NEURONS / cores if self.drops else 0.0
        disk = 2 * states / self.rates.spool if self.spool == "disk" else 0.0
        if self.gpu:
            link = 0.0 if self.hidden_there else 2 * states / LINK_BYTES
            return max(compute + link, commit / max(1, cores - 1), load, disk) + count
        return max(compute + (commit + load_cpu) / cores, load, disk) + count

    @property
    def kill_seconds(self) -> float:
        """What a kill costs at most: a window's layers anew, or on a disk the two blocks of a layer under way."""
        if self.spool == "disk":
            return 2 * self.seconds / self.own_blocks / self.passes
        return self.seconds / self.windows

    # -- in words ------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """The plan in plain numbers; times are null without rates."""
        sequences, positions = self.corpus
        return {
            "layers": self.layers,
            "neurons_per_layer": self.shape.neurons,
            "tokens": self.tokens,
            "sequences": sequences,
            "positions": positions,
            "blocks": self.blocks,
            "shard": str(self.shard),
            "own_blocks": self.own_blocks,
            "block_tokens": self.block_sequences * positions,
            "batch_tokens": self.batch_sequences * positions,
            "windows": self.windows,
            "window_blocks": min(self.window_blocks, self.own_blocks),
            "weights": self.weights,
            "spool": self.spool,
            "keep_bitmaps": self.keep,
            "weight_bytes_per_window": self.weight_bytes_per_window,
            "weight_bytes": self.weight_bytes,
            "spool_bytes_moved": self.spool_bytes_moved,
            "memory_bytes": self.memory_bytes,
            "memory_parts": self.memory_parts,
            "process_bytes": self.base,
            "device_bytes": self.device_bytes,
            "raw_bytes": self.raw_bytes,
            "bits_bytes": self.bits_bytes,
            "spool_bytes": self.spool_bytes,
            "result_bytes": self.result_bytes,
            "seconds": self.seconds,
            "kill_seconds": self.kill_seconds,
            "rates": None if self.rates is None else vars(self.rates),
            "not_chosen": list(self.not_chosen),
        }

    def name(self) -> str:
        """What tells this plan from the others for the same run."""
        states = {"disk": "hidden states on the disk", "memory": "hidden states in memory"}[self.spool]
        if self.gpu and self.spool == "memory":
            states += f" of the {'GPU' if self.hidden_there else 'machine'}"
        if self.weights == "resident":
            return f"weights resident, {states}"
        gigabytes = self.weight_bytes_per_window / 1e9
        read = "once" if self.windows == 1 else f"for each of {self.windows} windows"
        return f"weights streamed, {gigabytes:.2f} GB read {read}, {states}"

    def lines(self) -> list[str]:
        """The plan in words, a line each."""
        sequences, positions = self.corpus
        total = (self.base + self.memory_bytes) / 1e9
        process = {"Python and torch": self.base} if self.base else {}
        parts = ", ".join(
            f"{name} {_size(size)}" for name, size in (process | self.memory_parts).items() if size >= 1e6
        )
        gpu = f"; GPU memory {_size(self.device_bytes)}" if self.gpu else ""
        kept = {"all": "all kept", "sparse": "a layer's; rare ones kept", "none": "a layer's, dropped once counted"}
        of_bits = kept[self.keep] if self.drops or self.keep == "all" else "its own, until all shards are there"
        disk = [f"bits {_size(self.bits_bytes)} raw ({of_bits}; usually a third of that)"]
        disk += [f"results {_size(self.result_bytes)}"] if self.result_bytes else []
        disk += [f"hidden states {_size(self.spool_bytes)}"] if self.spool_bytes else []
        moved = [f"{_size(self.weight_bytes)} of weights"]
        moved += [f"{_size(self.spool_bytes_moved)} of hidden states to the disk and back"] if self.spool_bytes else []
        first, stop = self.shard.span(self.blocks)
        shard = "" if self.shard.whole else f"shard {self.shard}: blocks {first}–{stop - 1} of "
        lines = [
            f"{self.tokens:,} tokens ({sequences:,} sequences of {positions}) through {len(self.layers)} "
            f"layers of {self.shape.neurons:,} neurons",
            f"{shard}{self.blocks} blocks of {self.block_sequences * positions:,} tokens, batches of "
            f"{self.batch_sequences * positions:,}; {self.name()}",
            f"memory at most {total:.2f} GB ({parts}){gpu}",
            f"disk at most: {', '.join(disk)}; moved: {', '.join(moved)}",
        ]
        if self.rates is None:
            return lines
        lines.append(
            f"time about {_time(self.seconds)} ({self.own_tokens / self.seconds:,.0f} tokens a second); a kill costs "
            f"at most {_time(self.kill_seconds)}"
        )
        return [*lines, *(f"not chosen: {line}" for line in self.not_chosen)]


def summarize(name: str, plans: Sequence[Plan]) -> str:
    """What one run, or several one after another, would take, in a line: memory at most, disk and time together."""
    memory = max(plan.base + plan.memory_bytes for plan in plans)
    gpu = max(plan.device_bytes for plan in plans)
    disk = sum(plan.bits_bytes + plan.result_bytes for plan in plans)
    return (
        f"{name}: {sum(plan.own_tokens for plan in plans):,} tokens, memory {_size(memory)}"
        f"{f', GPU memory {_size(gpu)}' if gpu else ''}, disk {_size(disk)} raw, about "
        f"{_time(sum(plan.seconds for plan in plans))}"
    )


def describe_alternative(plan: Plan, why: str) -> str:
    """A plan that was not taken, in a line; `why` it does not fit, "" if it does."""
    time = "" if plan.rates is None else f": {_time(plan.seconds)}"
    return f"{plan.name()}{time}{f' ({why})' if why else ''}"


def _size(size: float) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9)):
        if size >= scale:
            return f"{size / scale:.2f} {unit}"
    return f"{size / 1e6:.0f} MB"


def _time(seconds: float) -> str:
    for unit, scale in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * scale:
            return f"{seconds / scale:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
