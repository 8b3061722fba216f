"""collect: text through the model, one bit a neuron and token into the store. The one loop nest.

    for block:  for layer:  for batch:  hidden, active = layer(hidden)     # streamed weights: layer read, then dropped

A block's hidden states wait in memory while all of its batches go through one layer, so that a layer's bits of a
block are complete at once: they are put into context order, compressed and committed by a second thread while the
next layer runs. Stopped at any time, the same command continues with the first block that lacks a mark.
"""

from __future__ import annotations

import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from neurolens import NeurolensError, UsageError, __version__
from neurolens.bits import transpose
from neurolens.checkpoint import Checkpoint
from neurolens.corpus import Block, Corpus
from neurolens.data import DataSpec, describe, read_corpus, spec_of
from neurolens.decoder import ACTIVATION_RULE, Decoder, Shape, check_device, default_dtype, shape_of
from neurolens.documents import Document
from neurolens.plan import Plan, make_plan
from neurolens.sources import find_sources
from neurolens.store import Store, lock
from neurolens.vocabulary import Vocabulary


def collect(
    model: str | Path,
    data: Corpus | DataSpec | str | Path | Iterable[str | Path | tuple[str, str | int] | Document],
    output: str | Path,
    *,
    revision: str | None = None,
    layers: Iterable[int] | None = None,
    dtype: str | None = None,
    device: str = "cpu",
    batch_tokens: int | None = None,
    block_tokens: int | None = None,
    weights: str = "resident",
    dry_run: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> Store | Plan:
    """Run text through a model and store which neurons are active on which token.

    `model` is a checkpoint's folder, or a name on the hub with `revision`; `dtype` defaults to fp32 on a CPU and
    elsewhere to how the checkpoint was saved. `data` is a path or paths (files, folders, globs, `hf:NAME`), an
    iterable of (text, label), a DataSpec or a ready Corpus; `output` the run to make or to continue. `layers` defaults
    to all; `batch_tokens` and `block_tokens` as in `make_plan`. `weights`: `resident`, all in memory, or `streamed`,
    two layers at a time, read from the checkpoint once a block; the bits are the same, and a run may be continued
    the other way. Returns the complete Store, or with `dry_run` the
    Plan. `say` receives what a user should know, a line at a time. Raises UsageError,
    NeurolensError, and IncompleteError where the same call continues.
    """
    output = Path(output)
    check_device(device)
    checkpoint = Checkpoint(model, revision, say=say)
    shape = shape_of(checkpoint)
    dtype = dtype or default_dtype(checkpoint.config, device)
    spec = data if isinstance(data, (Corpus, DataSpec)) else spec_of(data)
    sources = [] if isinstance(spec, Corpus) else find_sources(spec.paths, say=say)
    existing = Store.open(output) if output.exists() else None
    corpus = spec if isinstance(spec, Corpus) else read_corpus(spec, sources, checkpoint, shape.positions, say)
    _check_corpus(corpus, checkpoint, shape)
    plan = make_plan(
        shape,
        corpus.shape,
        layers=layers,
        dtype=dtype,
        device=device,
        batch_tokens=batch_tokens,
        block_tokens=block_tokens,
        weights=weights,
        existing=existing,
    )
    for line in plan.lines():
        say(line)
    if dry_run:
        return plan
    _check_output(output)
    identity = {  # what two runs must share to be one
        "checkpoint": checkpoint.fingerprint(),
        "tokenizer": checkpoint.tokenizer_fingerprint(),
        "dtype": dtype,
        "device": torch.device(device).type,
        "activation": ACTIVATION_RULE,
        "corpus_fingerprint": corpus.fingerprint(),
        "layers": plan.layers,
        "batch_sequences": plan.batch_sequences,
        "block_sequences": plan.block_sequences,
    }
    with lock(output):
        if existing is None and output.exists():
            existing = Store.open(output)  # made by another process while the corpus was read
        if existing is not None:
            _check_same(existing, identity)
            if existing.progress().all():
                say(f"{output} is complete; nothing to do")
                return existing
            _continue_as(existing, say)
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
        store = Store.open(output, write=True)
        store.clean()
        _run(decoder, store, corpus)
    return Store.open(output)


def _run(decoder: Decoder, store: Store, corpus: Corpus) -> None:
    """Every block that lacks a mark, through every layer."""
    done = store.progress()
    size = int(store.attrs["batch_sequences"])
    last = max(store.layers) + 1
    missing = [block for block in store.blocks if not done[:, block.index].all()]
    total = sum(block.tokens for block in missing) * last
    hidden: torch.Tensor | None = None  # one for all blocks: allocated anew, it would leave holes in the heap
    with _Committer(store) as committer, tqdm(total=total, unit="tok·layer", unit_scale=True, disable=None) as bar:
        for block in missing:
            ids = torch.from_numpy(corpus.tokens[block.first_sequence : block.first_sequence + block.sequences]).long()
            for batch in block.batches(size):
                embedded = decoder.embed(ids[batch])
                if hidden is None:
                    most = max(part.sequences for part in missing)
                    hidden = embedded.new_empty((most, *embedded.shape[1:]))
                hidden[batch] = embedded
            assert hidden is not None  # a block has at least one sequence
            with closing(decoder.layers(last)) as layers:  # what reads weights ahead ends with the loop
                for number, layer in layers:
                    wanted = number in store.layers and not done[store.layers.index(number), block.index]
                    rows = committer.rows() if wanted else None
                    sums = hidden.new_zeros((), dtype=torch.float32)
                    for batch in block.batches(size):
                        out, active = layer(hidden[batch])
                        hidden[batch] = out
                        if rows is not None:
                            rows[batch.start * block.positions : batch.stop * block.positions] = active
                        sums += out.sum(dtype=torch.float32)  # NaN > 0 is False: a layer of NaN would look dead
                        bar.update(out.shape[0] * out.shape[1])
                    if not torch.isfinite(sums):
                        raise NeurolensError(
                            f"layer {number} yields values that are not finite in {store.attrs['dtype']}; "
                            "give another --dtype (bf16 or fp32), or check the checkpoint"
                        )
                    if rows is not None:
                        committer.put(block, number, rows)


class _Committer:
    """A thread that puts rows into context order and commits them. Two buffers: one is filled, one is committed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: queue.Queue[tuple[Block, int, np.ndarray] | None] = queue.Queue()
        self._free: queue.Queue[np.ndarray] = queue.Queue()
        most = max(block.tokens for block in store.blocks)
        for _ in range(2):
            self._free.put(np.empty((most, -(-store.neurons // 8)), np.uint8))
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="commit", daemon=True)

    def __enter__(self) -> _Committer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._queue.put(None)  # what is queued is still committed: it is sound whatever stopped the loop
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def rows(self) -> np.ndarray:
        """Room for a layer's token-major rows of any block, uint8 `(tokens, neurons/8)`, once there is some."""
        return self._free.get()

    def put(self, block: Block, layer: int, rows: np.ndarray) -> None:
        """Queue what `rows` gave, filled; raises what went wrong with an earlier one."""
        if self._error is not None:
            raise self._error
        self._queue.put((block, layer, rows))

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            block, layer, rows = item
            try:
                if self._error is None:  # after an error only the buffers go back, so that nobody waits for ever
                    started = time.monotonic()
                    order = self._store.read("order", slice(block.first_token, block.first_token + block.tokens))
                    active = transpose(rows[: block.tokens], order - block.first_token)[: self._store.neurons]
                    self._store.commit(block, layer, active)
                    self._store.log(event="commit", block=block.index, layer=layer, seconds=time.monotonic() - started)
            except BaseException as error:
                self._error = error
            finally:
                self._free.put(rows)


def _vocabulary(checkpoint: Checkpoint, say: Callable[[str], object]) -> dict[str, np.ndarray] | None:
    """The run's vocabulary; None, said, for a model without a tokenizer, which reads a ready corpus as any other."""
    try:
        return Vocabulary.of(checkpoint).arrays()
    except NeurolensError as error:
        say(f"the run will show token ids instead of text: {error}")
        return None


def _check_corpus(corpus: Corpus, checkpoint: Checkpoint, shape: Shape) -> None:
    least, most = int(corpus.tokens.min()), int(corpus.tokens.max())
    if least < 0 or most >= int(checkpoint.config["vocab_size"]):
        raise NeurolensError(
            f"the corpus has token ids {least}…{most}, the model's vocabulary ends at "
            f"{checkpoint.config['vocab_size'] - 1}; tokenise with the model's own tokenizer"
        )
    if corpus.shape[1] > shape.positions:
        raise UsageError(f"sequences of {corpus.shape[1]} tokens exceed the model's {shape.positions} positions")


def _check_output(output: Path) -> None:
    if not output.parent.is_dir():
        raise UsageError(f"no folder {output.parent}; make it, or give another --output")
    if not os.access(output.parent, os.W_OK):
        raise UsageError(f"cannot write into {output.parent}; give another --output")
    if shutil.disk_usage(output.parent).free < 1 << 20:
        raise NeurolensError(f"no space left in {output.parent}; make room or give another --output")


def _check_same(store: Store, asked: Mapping[str, Any]) -> None:
    for key, value in asked.items():
        found = store.attrs.get(key)
        if found != value:
            raise UsageError(
                f"{store.path} is another run: its {key} is {_brief(found)}, this command's {_brief(value)}; "
                "give another --output, or the command it was made with"
            )


def _continue_as(store: Store, say: Callable[[str], object]) -> None:
    """Take the run's thread count; refuse other library versions: both decide bits near zero."""
    threads = int(store.attrs["threads"])
    if threads != torch.get_num_threads():
        say(f"continuing with {threads} threads, as the run began")
        torch.set_num_threads(threads)
    for name, found in versions().items():
        before = store.attrs["versions"].get(name)
        if name != "neurolens" and before != found:
            raise UsageError(
                f"{store.path} was begun with {name} {before}, this is {found}; install {name}=={before} to continue "
                "it, or give another --output"
            )
    marks = store.progress()
    say(f"continuing {store.path}: {int(marks.sum())} of {marks.size} blocks of layers are there")


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:12] + "…"


def versions() -> dict[str, str]:
    """The versions that can decide a bit."""
    return {"neurolens": __version__, **{name: version(name) for name in ("torch", "transformers", "numpy")}}
