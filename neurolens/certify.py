"""certify: a run's recorded bits against the plain Hugging Face forward in fp32, batch by batch.

What is compared is what stands in a store: a run's own bits on its own text, or, for other text, those of a run that
`collect` makes for the occasion. So dtype, schedule, packing and storing are all in it. The reference is HF's own
model, read and called by HF's own code, with nothing of `decoder.py` in between; only the names of its parts are.

For each batch the recorded bits of all layers are fetched (a stretch of batches of one block at a time, so that a
chunk is not read once a batch), then the forward runs and a hook on each layer's activation module compares. Distances
from zero go into histograms of 128 steps an octave: memory is flat however much text is certified and however many
bits flip.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from neurolens import IncompleteError, NeurolensError, UsageError, first_line
from neurolens.bits import pack, transpose, unpack
from neurolens.certificate import Certificate, LayerParity
from neurolens.checkpoint import Checkpoint
from neurolens.collect import collect, versions
from neurolens.corpus import Block, Corpus
from neurolens.data import DataSpec, spec_of
from neurolens.decoder import Family, check_device, family_of
from neurolens.store import Store, lock
from neurolens.weights import BIN, SAFETENSORS

TOKENS = 16_384  # certified unless told: bits enough to see one flip in 10⁸, minutes even where fp32 is slow
STRETCH_BYTES = 1 << 28  # of recorded bits, packed, that are held at a time (a batch in any case)
DROPPED_BITS = 16  # of a float32's mantissa in the histograms: 2^(23 − 16) = 128 steps an octave
BUCKETS = 1 << (31 - DROPPED_BITS)  # without the sign
NOT_FINITE = 0xFF << (23 - DROPPED_BITS)  # first bucket of infinities and NaN


def certify(
    model: str | Path,
    data: Corpus | DataSpec | str | Path | Iterable[Any] | None = None,
    *,
    run: str | Path | None = None,
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
    store = Store.open(Path(run))
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
    tallies = {layer: _Tally(store.neurons) for layer in store.layers}
    lengths = [min(size, sequences - number * size) * positions for number in batches]
    with (
        _as_recorded(int(known["threads"])),
        tqdm(total=sum(lengths), unit="tok", unit_scale=True, desc="certify", disable=None) as bar,
    ):
        family = family_of(checkpoint.config, checkpoint.folder)
        reference = _reference(checkpoint, family, device)
        for (rows, recorded), tokens in zip(_recorded(store, batches), lengths, strict=True):
            ids = torch.from_numpy(store.read("tokens", rows).astype(np.int64)).to(device)
            _forward(reference, family, ids, tallies, recorded)
            bar.update(tokens)
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


def _reference(checkpoint: Checkpoint, family: Family, device: str) -> Any:
    """HF's own model with its own reading of the weights, fp32.

    HF sees a folder with nothing but the weights' files and a configuration with nothing but the architecture's own
    keys: adapters, quantisation, kernels, other formats and code that a folder may bring along never reach it.
    """
    import transformers
    from transformers.utils import logging

    keyword = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"
    config_class = transformers.CONFIG_MAPPING[checkpoint.config["model_type"]]
    quiet = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        keys = set(config_class().to_dict()) - {"dtype", "torch_dtype"}
        config = config_class.from_dict({key: value for key, value in checkpoint.config.items() if key in keys})
        with tempfile.TemporaryDirectory(prefix="neurolens-") as folder:
            for name in {*SAFETENSORS, *BIN, *(path.name for path in checkpoint.files)}:
                if (checkpoint.folder / name).is_file():
                    (Path(folder) / name).symlink_to((checkpoint.folder / name).resolve())
            model, report = getattr(transformers, family.model).from_pretrained(
                folder,
                config=config,
                attn_implementation="sdpa",
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                output_loading_info=True,
                **{keyword: torch.float32},
            )
    except Exception as error:  # whatever the checkpoint leads HF to
        raise NeurolensError(f"HF cannot load {checkpoint.folder} ({first_line(error)}); check its files") from error
    finally:
        logging.set_verbosity(quiet[0])
        if quiet[1]:
            logging.enable_progress_bar()
    for problem in ("missing_keys", "mismatched_keys"):  # HF fills these with random numbers and only warns
        if report[problem]:
            raise NeurolensError(
                f"HF finds no weights for {sorted(map(str, report[problem]))[0]} in {checkpoint.folder}; check it"
            )
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        raise NeurolensError(f"HF does not load {checkpoint.folder} in fp32; give a checkpoint that is not quantised")
    return model.eval().requires_grad_(False).to(device)


@torch.inference_mode()
def _forward(
    model: Any, family: Family, ids: torch.Tensor, tallies: dict[int, _Tally], recorded: dict[int, np.ndarray]
) -> None:
    """One plain forward of ids `(B, T)`; what each layer's activation module saw is compared with what was recorded."""
    layers = model.get_submodule(family.layers)
    seen: list[int] = []

    def comparing(number: int) -> Callable[[Any, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def hook(module: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            flat = (-1, output.shape[-1])
            on = (output.reshape(flat) > 0).cpu().numpy()
            tallies[number].add(args[0].reshape(flat).cpu().numpy(), on, recorded[number])
            if not tallies[number].finite:
                raise NeurolensError(
                    f"layer {number} of plain HF yields values that are not finite in fp32; check the checkpoint"
                )
            seen.append(number)

        return hook

    with ExitStack() as hooks:
        for number in tallies:
            handle = layers[number].get_submodule(family.activation).register_forward_hook(comparing(number))
            hooks.callback(handle.remove)
        model(input_ids=ids, use_cache=False)
    if seen != list(tallies):
        raise NeurolensError(f"the activations of layers {seen} ran, expected {list(tallies)} once each")


class _Tally:
    """What is counted of a layer, batch after batch."""

    def __init__(self, neurons: int) -> None:
        self.bits = self.active = self.on_to_off = self.off_to_on = 0
        self.farthest = 0.0  # of what flipped
        self._all, self._flipped = np.zeros(BUCKETS, np.int64), np.zeros(BUCKETS, np.int64)
        self._fires, self._recorded = np.zeros(neurons, bool), np.zeros(neurons, bool)

    def add(self, before: np.ndarray, on: np.ndarray, recorded: np.ndarray) -> None:
        """Pre-activations float32 `(tokens, neurons)`, which are active, bool, and the recorded bits, packed."""
        bits = unpack(recorded, on.shape[1])
        flipped = on != bits
        off = int(np.count_nonzero(flipped & on))
        self.bits += on.size
        self.active += int(np.count_nonzero(on))
        self.on_to_off += off
        self.off_to_on += int(np.count_nonzero(flipped)) - off
        self._fires |= on.any(0)
        self._recorded |= bits.any(0)
        distances = np.abs(before[flipped])
        self._all += histogram(before)
        self._flipped += histogram(distances)
        self.farthest = max(self.farthest, float(distances.max(initial=0.0)))

    @property
    def finite(self) -> bool:
        """Whether all pre-activations so far are."""
        return not self._all[NOT_FINITE:].any()

    def result(self, layer: int) -> LayerParity:
        """The numbers of the layer with this number."""
        median, p99 = (percentile(self._flipped, percent) for percent in (50, 99))
        typical = percentile(self._all, 50)
        assert typical is not None  # a run has at least one token
        return LayerParity(
            layer=layer,
            bits=self.bits,
            active=self.active,
            on_to_off=self.on_to_off,
            off_to_on=self.off_to_on,
            flipped_median=None if median is None else min(median, self.farthest),
            flipped_p99=None if p99 is None else min(p99, self.farthest),
            flipped_max=None if median is None else self.farthest,
            typical=typical,
            silent=int((~self._fires).sum()),
            silenced=int((self._fires & ~self._recorded).sum()),
            woken=int((~self._fires & self._recorded).sum()),
        )


def histogram(values: np.ndarray) -> np.ndarray:
    """How many magnitudes of float32 values, any shape, fall into each bucket: int64 `(BUCKETS,)`.

    A bucket is all the floats that share sign-less exponent and leading bits of the mantissa, so buckets ascend with
    magnitude and each is at most 1/128 of it wide (wider only for subnormal ones, below 1.2e-38).
    """
    kept = (np.ascontiguousarray(values).view(np.uint32).ravel() & np.uint32(0x7FFFFFFF)) >> np.uint32(DROPPED_BITS)
    return np.bincount(kept, minlength=BUCKETS)


def percentile(counts: np.ndarray, percent: int) -> float | None:
    """The least magnitude that `percent`% of those counted do not exceed, to 0.4%: the middle of its bucket.

    `counts` as `histogram` gives them, `percent` 1 to 100; None of nothing.
    """
    total = int(counts.sum())
    if not total:
        return None
    bucket = int(np.searchsorted(np.cumsum(counts), -(-total * percent // 100)))
    middle = np.array([bucket << DROPPED_BITS | 1 << (DROPPED_BITS - 1)], np.uint32).view(np.float32)
    return float(middle[0]) if bucket else 0.0
