"""certify: a run's recorded bits against the plain Hugging Face forward in fp32, batch by batch.

What is compared is what stands in a store: a run's own bits on its own text, or, for other text, those of a run that
`collect` makes for the occasion. So dtype, schedule, packing and storing are all in it. For each batch the recorded
bits of all layers are fetched (a stretch of batches of one block at a time, so that a chunk is not read once a batch),
then the reference runs and compares (reference.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurolens import IncompleteError, UsageError
from neurolens.bits import pack, transpose
from neurolens.certificate import Certificate
from neurolens.checkpoint import Checkpoint
from neurolens.collect import collect, versions
from neurolens.corpus import Block, Corpus
from neurolens.data import DataSpec, spec_of
from neurolens.decoder import check_device, family_of
from neurolens.location import Where, locate
from neurolens.locks import lock
from neurolens.progress import Progress
from neurolens.reference import Tally, compare_forward, load_reference
from neurolens.store import Store

TOKENS = 16_384  # certified unless told: bits enough to see one flip in 10⁸, minutes even where fp32 is slow
STRETCH_BYTES = 1 << 28  # of recorded bits, packed, that are held at a time (a batch in any case)


def certify(
    model: str | Path,
    data: Corpus | DataSpec | str | Path | Iterable[Any] | None = None,
    *,
    run: str | Where | None = None,
    revision: str | None = None,
    dtype: str | None = None,
    device: str | None = None,
    batch_tokens: int | None = None,
    tokens: int | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Certificate:
    """Compare recorded bits with those of the plain HF model in fp32, layer by layer.

    With `run`, the bits of that run on its own text are compared and the certificate is stored in it, replacing an
    earlier one; dtype, batches, threads and commit on the hub are the run's, `device` (default: the run's) is where
    the reference is computed. Batches are taken evenly from those that are committed in all of its layers. Without
    `run`, `data` (as for `collect`, or the path of one RUN.zarr, whose text it then is) is collected with the given
    `dtype`, `device` and `batch_tokens` into a temporary run; nothing is stored.

    `tokens`: how many, rounded down to whole batches of a run; default TOKENS, or what there is. Raises UsageError for
    a request that cannot be meant (another model than the run's, a dtype that is not the run's, less text than a
    batch), IncompleteError if the run has no complete block yet, NeurolensError if the model does not load or yields
    values that are not finite.
    """
    if run is None:
        return _certify_text(model, data, revision, dtype, device or "cpu", batch_tokens, tokens, say)
    if data is not None:
        raise UsageError("--run certifies a run's own bits on its own text; leave DATA out, or leave --run out")
    store = Store.open(locate(run))
    known = store.attrs
    if dtype not in (None, known["dtype"]):
        raise UsageError(f"{run} was recorded in {known['dtype']}, not in {dtype}; leave --dtype out, or --run")
    if batch_tokens is not None and max(1, batch_tokens // store.shape[1]) != known["batch_sequences"]:
        has = int(known["batch_sequences"]) * store.shape[1]
        raise UsageError(f"{run} was recorded in batches of {has:,} tokens; leave --batch-tokens out, or --run")
    device = str(device or known["device"])
    check_device(device)
    if revision is None and str(model) == known["model"]["id"]:
        revision = known["model"]["revision"]  # of a name on the hub the commit it was, None of a folder
    checkpoint = Checkpoint(model, revision, say=say)
    if checkpoint.fingerprint() != known["checkpoint"]:
        raise UsageError(
            f"{run} was recorded from {known['model']['id']} ({known['checkpoint'][:12]}…), {model} is another model "
            f"({checkpoint.fingerprint()[:12]}…); give the model it was recorded from"
        )
    with lock(store.path):
        store = Store.open(store.path, write=True)
        store.clean()
        batches = _choose(store, tokens, say)
        certificate = _compare(store, checkpoint, device, batches, say)
        store.set_attributes("certificate", certificate.to_dict())
    return certificate


def _certify_text(
    model: str | Path,
    data: Corpus | DataSpec | str | Path | Iterable[Any] | None,
    revision: str | None,
    dtype: str | None,
    device: str,
    batch_tokens: int | None,
    tokens: int | None,
    say: Callable[[str], object],
) -> Certificate:
    """Collect `data` into a temporary run and compare all of it."""
    if data is None:
        raise UsageError("nothing to certify on; give DATA, or --run RUN.zarr for a run's own bits")
    checkpoint = Checkpoint(model, revision, say=say)
    if not isinstance(data, (Corpus, DataSpec)):
        data = spec_of(data)
    if isinstance(data, DataSpec) and len(data.paths) == 1 and (Path(data.paths[0]) / "zarr.json").is_file():
        if data.seq_len is not None:
            raise UsageError("the sequences of a run have the length they have; leave --seq-len out, or give text")
        tokens, data = tokens or data.tokens, _text_of(Store.open(Path(data.paths[0])), checkpoint)
    if isinstance(data, Corpus):
        data = _cut(data, tokens or TOKENS)
        _check_batch(batch_tokens, data.tokens.size)
    else:
        data = replace(data, tokens=tokens or data.tokens or TOKENS)
        _check_batch(batch_tokens, data.tokens)
    with tempfile.TemporaryDirectory(prefix="neurolens-") as folder:
        store = collect(
            model,
            data,
            Path(folder) / "certified.zarr",
            revision=revision,
            dtype=dtype,
            device=device,
            batch_tokens=batch_tokens,
            say=say,
        )
        assert isinstance(store, Store)  # no dry run
        _check_batch(batch_tokens, store.n_tokens)
        batches = range(-(-store.shape[0] // int(store.attrs["batch_sequences"])))
        return _compare(store, checkpoint, device, list(batches), say)


def _text_of(store: Store, checkpoint: Checkpoint) -> Corpus:
    """The text of another run, for a model with the same tokenizer."""
    if store.attrs["tokenizer"] != checkpoint.tokenizer_fingerprint():
        raise UsageError(
            f"the text of {store.path} was made with another tokenizer than that of {checkpoint.folder}; "
            "give text, or a run of the same tokenizer"
        )
    return store.corpus()


def _cut(corpus: Corpus, tokens: int) -> Corpus:
    """The first whole sequences of a corpus, at most `tokens` (labels are interleaved: a fair sample of them)."""
    count = tokens // corpus.shape[1]
    if not count:
        raise UsageError(f"--tokens {tokens} is less than one sequence of {corpus.shape[1]}; raise it")
    if count >= corpus.shape[0]:
        return corpus
    return Corpus.from_tokens(corpus.tokens[:count], eos=corpus.eos)


def _check_batch(batch_tokens: int | None, tokens: int | None) -> None:
    if batch_tokens is not None and tokens is not None and batch_tokens > tokens:
        raise UsageError(
            f"--batch-tokens {batch_tokens} is more than the {tokens:,} tokens to certify on; lower it, or give more"
        )


def _choose(store: Store, tokens: int | None, say: Callable[[str], object]) -> list[int]:
    """Numbers of the batches to compare, ascending: evenly over those that are committed in every layer."""
    size = int(store.attrs["batch_sequences"])
    done: np.ndarray = np.all(store.progress(), axis=0)
    there = [
        (block.first_sequence + batch.start) // size
        for block in store.blocks
        if done[block.index]
        for batch in block.batches(size)
    ]
    if not there:
        raise IncompleteError(
            f"{store.path} has no block yet that is collected in every layer; give the same 'neurolens collect' "
            "command again to continue, then certify"
        )
    if not done.all():
        say(f"{store.path} is incomplete: certifying the {done.sum()} of {done.size} blocks that are there")
    per_batch = min(size, store.shape[0]) * store.shape[1]
    if tokens is not None and tokens < per_batch:
        raise UsageError(f"--tokens {tokens} is less than a batch of {store.path} ({per_batch:,} tokens); raise it")
    count = min(len(there), max(1, (tokens or TOKENS) // per_batch))
    return [there[i * len(there) // count] for i in range(count)]


def _compare(
    store: Store, checkpoint: Checkpoint, device: str, batches: list[int], say: Callable[[str], object]
) -> Certificate:
    """The certificate of some batches of a run, whose model's checkpoint this is."""
    known = store.attrs
    changed = [
        f"{name} {known['versions'].get(name)} → {found}"
        for name, found in versions().items()
        if known["versions"].get(name) != found
    ]
    if changed:
        say(f"the run was recorded with other versions: {', '.join(changed)}")
    size, (sequences, positions) = int(known["batch_sequences"]), store.shape
    tallies = {layer: Tally(store.neurons) for layer in store.layers}
    lengths = [min(size, sequences - number * size) * positions for number in batches]
    with (
        _as_recorded(int(known["threads"])),
        Progress("certify", sum(lengths), "tokens") as progress,
    ):
        family = family_of(checkpoint.config, checkpoint.folder)
        reference = load_reference(checkpoint, family, device)
        for (rows, recorded), tokens in zip(_recorded(store, batches), lengths, strict=True):
            ids = torch.from_numpy(store.read("tokens", rows).astype(np.int64)).to(device)
            compare_forward(reference, family, ids, tallies, recorded)
            progress.update(tokens)
    return Certificate(
        model=str(known["model"]["id"]),
        revision=known["model"].get("revision"),
        checkpoint=known["checkpoint"],
        dtype=known["dtype"],
        device=known["device"],
        threads=int(known["threads"]),
        batch_sequences=size,
        positions=positions,
        batches=tuple(batches),
        tokens=sum(lengths),
        corpus_fingerprint=known["corpus_fingerprint"],
        reference_device=torch.device(device).type,
        versions=versions(),
        layers=tuple(tally.result(layer) for layer, tally in tallies.items()),
    )


# -- what was recorded ---------------------------------------------------------------------------------------------


def _recorded(store: Store, batches: list[int]) -> Iterator[tuple[slice, dict[int, np.ndarray]]]:
    """For each batch its sequences and by layer the recorded bits, packed uint8 `(tokens, ≥ neurons / 8)`."""
    size, per_block = int(store.attrs["batch_sequences"]), int(store.attrs["block_sequences"])
    sequences, positions = store.shape
    most = max(1, STRETCH_BYTES // (len(store.layers) * -(-store.neurons // 8) * size * positions))
    for number, group in groupby(batches, lambda batch: batch * size // per_block):
        block, members = store.blocks[number], list(group)
        order = store.read("order", slice(block.first_token, block.first_token + block.tokens))
        rank = np.empty(block.tokens, np.int64)
        rank[order - block.first_token] = np.arange(block.tokens)
        for start in range(0, len(members), most):
            parts = [slice(b * size, min((b + 1) * size, sequences)) for b in members[start : start + most]]
            inside = [rank[p.start * positions - block.first_token :][: (p.stop - p.start) * positions] for p in parts]
            bits = {layer: _token_rows(store, layer, block, np.concatenate(inside)) for layer in store.layers}
            first = 0
            for part, ranks in zip(parts, inside, strict=True):
                yield part, {layer: rows[first : first + len(ranks)] for layer, rows in bits.items()}
                first += len(ranks)


def _token_rows(store: Store, layer: int, block: Block, rank: np.ndarray) -> np.ndarray:
    """Bits of the tokens of a block that have these ranks, int64 `(tokens,)` → packed `(tokens, 8 * ceil(N / 64))`."""
    byte, bit = rank >> 3, (rank & 7).astype(np.uint8)
    columns = np.empty((store.neurons, -(-len(rank) // 8)), np.uint8)
    for neurons in store.neuron_chunks():
        rows = store.rows(layer, neurons, block).view(np.uint8)
        columns[neurons] = pack((rows[:, byte] >> bit) & 1)
    return transpose(columns, np.arange(store.neurons))[: len(rank)]


# -- the reference -------------------------------------------------------------------------------------------------


@contextmanager
def _as_recorded(threads: int) -> Iterator[None]:
    """Compute with a run's number of threads, and let fp32 mean fp32."""
    before = torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before[1:]
