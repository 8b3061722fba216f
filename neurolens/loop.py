"""loop: blocks through layers. The one loop nest.

    for window:                                # its hidden states wait in a spool, in memory or on a disk
        for layer:                             # streamed weights: read while the one before is used, then dropped
            for block:                         # the unit of context order, of commit and of resume
                for batch:  hidden, active = layer(hidden)
                commit                         # by a second thread, while the next block is computed
            layer_complete                     # a run that does not keep its bits: counted, then dropped

A window of one block with resident weights is the ordinary run; a window of the whole corpus reads every weight once
and has a layer complete before the next one begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from neurolens import NeurolensError
from neurolens.committer import Committer
from neurolens.corpus import Block, Corpus
from neurolens.decoder import Decoder, Layer
from neurolens.progress import Progress
from neurolens.shards import WHOLE, Shard
from neurolens.spool import Spool
from neurolens.store import Store

# the spool of a window's blocks, told from which layer each that is to be done must be done at the latest, by its index
OpenSpool = Callable[[list[Block], Mapping[int, int]], AbstractContextManager[Spool]]


def run_windows(
    decoder: Decoder,
    store: Store,
    corpus: Corpus,
    window_blocks: int,
    open_spool: OpenSpool,
    layer_complete: Callable[[int], object] | None = None,
    shard: Shard = WHOLE,
) -> None:
    """Every block of the shard that lacks a mark, through every layer up to the last one that it lacks, by windows.

    `layer_complete` is called with each recorded layer that a window has been through, once it is on the disk; without
    it the next layer begins while the last block is still committed. Raises NeurolensError for a layer that yields
    values that are not finite, and what else goes wrong.
    """
    marks, blocks = store.progress(), shard.part(store.blocks)
    lacking = {
        block.index: [store.layers[row] for row in np.flatnonzero(~marks[:, block.index]).tolist()] for block in blocks
    }
    passes, incomplete = store.layers[-1] + 1, set().union(*lacking.values())
    left = sum(block.tokens * (lacking[block.index][-1] + 1) for block in blocks if lacking[block.index])
    total = sum(block.tokens for block in blocks) * passes
    pauses = {"read": 0, "count": 0 if layer_complete is None else len(incomplete)}
    for first in range(0, len(blocks), window_blocks):
        ends = [lacking[block.index][-1] + 1 for block in blocks[first : first + window_blocks] if lacking[block.index]]
        pauses["read"] += max(ends, default=0)
    tells = Progress("collect", total, "tokens", done=total - left, scale=passes, pauses=pauses)
    with Committer(store) as committer, tells as progress:
        for first in range(0, len(blocks), window_blocks):
            window = blocks[first : first + window_blocks]
            due = [block for block in window if lacking[block.index]]
            if not due:
                continue
            with ExitStack() as ends:
                spool = ends.enter_context(open_spool(window, {block.index: lacking[block.index][0] for block in due}))
                ends.callback(committer.wait)  # what is queued is still committed, whatever stops the loop
                work = _Work(decoder, store, corpus, spool, committer, progress)
                start = min(spool.done(block) for block in due)
                stop = 1 + max(lacking[block.index][-1] for block in due)
                progress.skip(sum(block.tokens * spool.done(block) for block in due), read=start)
                with closing(decoder.layers(stop, start)) as layers:  # what reads weights ahead ends with the loop
                    for number, layer in progress.awaited(layers, "read"):
                        for block in due:
                            if spool.done(block) == number <= lacking[block.index][-1]:  # else it is ahead, or done
                                last = number == lacking[block.index][-1]
                                work.run(block, number, layer, record=number in lacking[block.index], last=last)
                        if layer_complete is not None and number in store.layers:
                            committer.drain()
                            due_now = number in incomplete  # else it was counted before
                            with progress.pause("count", f"layer {number} is counted") if due_now else nullcontext():
                                layer_complete(number)


@dataclass
class _Work:
    decoder: Decoder
    store: Store
    corpus: Corpus
    spool: Spool
    committer: Committer
    progress: Progress

    def run(self, block: Block, number: int, layer: Layer, *, record: bool, last: bool) -> None:
        """A block through a layer; its bits are committed if they are to be recorded, its states unless it is the last
        one."""
        size = int(self.store.attrs["batch_sequences"])
        ids = self.corpus.tokens[block.first_sequence : block.first_sequence + block.sequences]
        rows = self.committer.rows() if record else None
        if not last:
            self.spool.begin(block)
        sums: torch.Tensor | None = None
        for batch in block.batches(size):
            if number:
                hidden = self.spool.read(block, batch)
            else:
                hidden = self.decoder.embed(torch.from_numpy(ids[batch]).long())
            out, active = layer(hidden)
            if not last:
                self.spool.write(block, batch, out)
            if rows is not None:
                rows[batch.start * block.positions : batch.stop * block.positions] = active
            finite = out.sum(dtype=torch.float32)  # NaN > 0 is False: a layer of NaN would look dead
            sums = finite if sums is None else sums + finite
            self.progress.update((batch.stop - batch.start) * block.positions)
        if sums is None or not torch.isfinite(sums):
            raise NeurolensError(
                f"layer {number} yields values that are not finite in {self.store.attrs['dtype']}; "
                "give another --dtype (bf16 or fp32), or check the checkpoint"
            )
        written = self.spool.finish(block) if last else self.spool.end(block, number + 1)
        self.committer.put(block, number, rows, written)
