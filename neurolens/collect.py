"""collect: text through the model, one bit a neuron and token into the store. What is read, planned and checked.

The loop itself is loop.py's. Stopped at any time, the same command continues: with the first block of a layer that is
not on the disk, from hidden states that are, or from the text.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurolens import IncompleteError, NeurolensError, UsageError
from neurolens.budget import MARGIN, free_disk, free_memory, own_memory
from neurolens.checkpoint import Checkpoint
from neurolens.corpora import share_corpus
from neurolens.corpus import Block, Corpus
from neurolens.data import DataSpec, describe, read_corpus, spec_of
from neurolens.decoder import (
    ACTIVATION_RULE,
    DTYPES,
    Decoder,
    build_model,
    check_device,
    default_dtype,
    free_device_memory,
    shape_of,
)
from neurolens.documents import Document
from neurolens.identity import check_corpus, check_output, check_same, continue_as, versions
from neurolens.keep import Keeper, end_shards, is_finished, remove_scans
from neurolens.location import Url, Where, here, locate
from neurolens.locks import lock, log_path
from neurolens.loop import run_windows
from neurolens.plan import Plan
from neurolens.planner import Budget, make_plan
from neurolens.probe import measure_rates
from neurolens.shards import WHOLE, Shard
from neurolens.slots import describe_spool, fingerprint_run, remove_spool, spool_folder, spool_size
from neurolens.sources import find_sources
from neurolens.spool import MemorySpool, Spool, open_spool
from neurolens.store import Store
from neurolens.vocabulary import Vocabulary

PATIENCE, PAUSE = 600.0, 2.0  # seconds that a shard waits for the first one to make a run that is elsewhere


def collect(
    model: str | Path,
    data: Corpus | DataSpec | str | Path | Iterable[str | Path | tuple[str, str | int] | Document],
    output: str | Where,
    *,
    revision: str | None = None,
    layers: Iterable[int] | None = None,
    dtype: str | None = None,
    device: str = "cpu",
    batch_tokens: int | None = None,
    block_tokens: int | None = None,
    window_tokens: int | None = None,
    weights: str | None = None,
    spool: str | Path | None = None,
    keep_bitmaps: str | None = None,
    memory: int | None = None,
    device_memory: int | None = None,
    shard: Shard = WHOLE,
    corpora: Path | None = None,
    dry_run: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> Store | Plan:
    """Run text through a model and store which neurons are active on which token.

    `model` is a checkpoint's folder, or a name on the hub with `revision`; `dtype` defaults to fp32 on a CPU and
    elsewhere to how the checkpoint was saved. `data` is a path or paths (files, folders, globs, `hf:NAME`), an
    iterable of (text, label), a DataSpec or a ready Corpus; `output` the path or URL of the run to make or to continue.
    `layers` defaults to all; `batch_tokens` and `block_tokens` as in `make_plan`.

    How it is done changes no bit, and is chosen by estimated time, within `memory` and `device_memory` bytes (of the
    process; by default what is free, less a tenth), unless it is given: `weights`, `resident` or `streamed`;
    `window_tokens`, after how many the next layer is due; `spool`, where hidden states wait, `memory` or a folder.
    `keep_bitmaps`: `all`, `sparse` or `none`, what stays of a layer's bits once they are counted, by default all if
    that fits half of the free disk, else none; results are the same. `shard` does a part of the blocks; several
    processes may do theirs at once, and the one that ends last counts and drops bits that are not to be kept.
    `corpora`: a folder in which tokenised text is kept for other runs that read the same.

    Returns the Store, complete unless it lacks other shards, or with `dry_run` the Plan. `say` receives what a user
    should know, a line at a time. Raises UsageError, NeurolensError, and IncompleteError where the same call continues.
    """
    output = locate(output)
    place = None if spool is None else "memory" if spool == "memory" else "disk"
    parent = here(spool, "a folder for hidden states") if spool and place == "disk" else None
    check_device(device)
    checkpoint = Checkpoint(model, revision, say=say)
    shape = shape_of(checkpoint)
    dtype = dtype or default_dtype(checkpoint.config, device)
    spec = data if isinstance(data, (Corpus, DataSpec)) else spec_of(data)
    sources = [] if isinstance(spec, Corpus) else find_sources(spec.paths, say=say)
    existing = Store.open(output) if Store.is_at(output) else None
    if isinstance(output, Url) and not shard.whole and not dry_run:
        existing = _check_remote_shard(output, existing, shard, keep_bitmaps, say)
    read = read_corpus if corpora is None else partial(share_corpus, corpora)
    corpus = spec if isinstance(spec, Corpus) else read(spec, sources, checkpoint, shape.positions, say)
    check_corpus(corpus, checkpoint, shape)
    of_text = {  # what two runs must share to be one; with how the text is cut, below
        "checkpoint": checkpoint.fingerprint(),
        "tokenizer": checkpoint.tokenizer_fingerprint(),
        "dtype": dtype,
        "device": torch.device(device).type,
        "activation": ACTIVATION_RULE,
        "corpus_fingerprint": corpus.fingerprint(),
    }
    folder = spool_folder(output, parent, shard)
    measure = partial(measure_rates, checkpoint, shape, corpus=corpus.shape, dtype=dtype, device=device, spool=folder)
    build_model(checkpoint)  # what this imports is part of what the process takes

    def plan_beside(existing: Store | None) -> Plan:
        finished = existing is not None and (is_finished(existing) or _is_done(existing, shard))
        plan = make_plan(
            shape,
            corpus.shape,
            layers=layers,
            dtype=dtype,
            batch_tokens=batch_tokens,
            block_tokens=block_tokens,
            window_tokens=window_tokens,
            weights=weights,
            spool=place if describe_spool(folder) is None else "disk",  # of a run that was stopped: it goes on there
            keep=keep_bitmaps,
            budget=None if finished else _budget(memory, device, device_memory, output, folder),
            base=own_memory(),
            unmapped=checkpoint.unmapped_bytes(),
            rates=None if finished else measure,
            existing=existing,
            shard=shard,
        )
        for line in plan.lines():
            say(line)
        return plan

    plan = plan_beside(existing)
    if dry_run:
        return plan
    check_output(output)
    with ExitStack() as held:
        if existing is None or shard.whole:  # shards hold a run together, but one of them makes it alone
            held.enter_context(lock(output, wait=not shard.whole))
        if existing is None and Store.is_at(output):  # made by another process while the corpus was read
            existing = Store.open(output)
            if not shard.whole:
                held.close()
                plan = plan_beside(existing)  # perhaps of other blocks
        identity = of_text | {
            "layers": plan.layers,
            "batch_sequences": plan.batch_sequences,
            "block_sequences": plan.block_sequences,
            "keep_bitmaps": plan.keep,
        }
        if existing is not None:
            check_same(existing, identity)
            if is_finished(existing):
                remove_spool(folder, fingerprint_run(identity))  # left by one that was killed at its very end
                remove_scans(output)
                say(f"{output} is complete; nothing to do")
                return existing
            continue_as(existing, say)
        if existing is None or not _is_done(existing, shard):
            # before anything is written: it may not fit
            decoder = Decoder.load(checkpoint, dtype=dtype, device=device, streamed=plan.weights == "streamed")
            if existing is None:
                provenance = {
                    "model": {"id": str(model), "revision": checkpoint.commit, "config": checkpoint.config},
                    "corpus": {} if isinstance(spec, Corpus) else describe(spec, sources),
                    "threads": torch.get_num_threads(),
                    "versions": versions(),
                }
                Store.create(
                    output,
                    {**provenance, **identity},
                    corpus,
                    layers=plan.layers,
                    neurons=shape.neurons,
                    sequences_per_block=plan.block_sequences,
                    vocabulary=_vocabulary(checkpoint, say),
                )
            if not shard.whole:
                held.close()  # the others may begin
                held.enter_context(lock(output, shard))
            store = Store.open(output, write=True)
            store.journal = log_path(output, shard)
            _run(plan, decoder, store, corpus, _Spools(plan, folder, identity, decoder, DTYPES[dtype], say), say)
    return Store.open(output) if shard.whole else end_shards(output, parent, say)


def _is_done(store: Store, shard: Shard) -> bool:
    """Whether nothing is left to do for a shard but to end the run; of a whole run that is not known beforehand."""
    return not shard.whole and bool(np.all(shard.part(list(store.progress().T))))


def _check_remote_shard(
    output: Url, existing: Store | None, shard: Shard, keep: str | None, say: Callable[[str], object]
) -> Store | None:
    """The run of which a shard is elsewhere, where machines do not exclude one another: the first shard makes it, which
    others wait for. Raises IncompleteError if they wait in vain, UsageError where bits are dropped once they are
    counted, as only the last one may do."""
    if keep not in (None, "all") or (existing is not None and existing.attrs["keep_bitmaps"] != "all"):
        raise UsageError(f"shards of {output} keep all bits; leave --keep-bitmaps out, or collect it without --shard")
    until = time.monotonic() + PATIENCE
    if existing is None and shard.number > 1:
        say(f"{output} is not there yet; shard 1/{shard.of} makes it: waiting")
    while existing is None and shard.number > 1:
        if time.monotonic() > until:
            raise IncompleteError(f"{output} is still not there; give this command again once shard 1/{shard.of} runs")
        time.sleep(PAUSE)
        existing = Store.open(output) if Store.is_at(output) else None
    return existing


def _run(
    plan: Plan, decoder: Decoder, store: Store, corpus: Corpus, spools: _Spools, say: Callable[[str], object]
) -> None:
    """Do what is not done, as planned."""
    if plan.shard.whole:
        store.clean()
    if plan.drops:
        with Keeper(store, plan.keep, say) as keeper:
            keeper.recover()
            run_windows(decoder, store, corpus, plan.window_blocks, spools.open, keeper.layer_complete)
            spools.remove()
            keeper.finish()
    else:
        run_windows(decoder, store, corpus, plan.window_blocks, spools.open, shard=plan.shard)
        spools.remove()


class _Spools:
    """The spools of a run's windows."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        identity: Mapping[str, Any],
        decoder: Decoder,
        dtype: torch.dtype,
        say: Callable[[str], object],
    ) -> None:
        self._plan, self._folder, self._dtype, self._say = plan, folder, dtype, say
        self._device = decoder.device
        self._run = fingerprint_run(identity)
        self._memory = MemorySpool(self._device if plan.hidden_there else torch.device("cpu"), self._device)

    @contextlib.contextmanager
    def open(self, blocks: list[Block], most: Mapping[int, int]) -> Iterator[Spool]:
        """That of a window of these blocks; `most` as `open_spool` takes it."""
        if self._plan.spool == "memory":
            self._tell(blocks, most, self._memory)
            yield self._memory
            return
        with open_spool(
            self._folder,
            self._run,
            blocks,
            batch_sequences=self._plan.batch_sequences,
            hidden=self._plan.shape.hidden,
            dtype=self._dtype,
            device=self._device,
            most=most,
            say=self._say,
        ) as spool:
            self._tell(blocks, most, spool)
            yield spool

    def _tell(self, blocks: list[Block], most: Mapping[int, int], spool: Spool) -> None:
        """Say what is done again: the way of blocks from the states that are there to the last layer with a mark."""
        again = []
        for block in blocks:
            marked = max((1 + layer for layer in self._plan.layers if layer < most.get(block.index, 0)), default=0)
            again.append(max(0, marked - spool.done(block)))
        if any(again):
            self._say(
                f"hidden states of {sum(map(bool, again))} blocks are gone: these go through up to {max(again)} layers "
                "again; bits that are on the disk stay"
            )

    def remove(self) -> None:
        """Remove what is on the disk: the run has been through all layers."""
        remove_spool(self._folder, self._run)


def _budget(memory: int | None, device: str, device_memory: int | None, output: Where, spool: Path) -> Budget:
    """What a run may take: of the process what was given, else of what is free all but a margin."""
    left = free_memory() * (1 - MARGIN) if memory is None else memory - own_memory()
    there = free_device_memory(device)
    if there is not None:
        there = there * (1 - MARGIN) if device_memory is None else device_memory
    room = free_disk(output) if isinstance(output, Path) else float("inf")
    return Budget(left, there, room, free_disk(spool) + spool_size(spool))


def _vocabulary(checkpoint: Checkpoint, say: Callable[[str], object]) -> dict[str, np.ndarray] | None:
    """The run's vocabulary; None, said, for a model without a tokenizer, which reads a ready corpus as any other."""
    try:
        return Vocabulary.of(checkpoint).arrays()
    except NeurolensError as error:
        say(f"the run will show token ids instead of text: {error}")
        return None
