"""Projection: value vectors of a checkpoint × its unembedding, a block of neurons at a time, on a CPU or a GPU.

A product has a row for each neuron of the block and a column for each real token: 51 MB for 256 neurons of OPT. It
is made in one buffer and reduced at once — by compiled loops on a CPU, by torch elsewhere, so that only the small
results cross the bus. Everything is computed in fp32, whatever the weights are stored in.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from neurolens import NeurolensError, UsageError, kernels
from neurolens.checkpoint import Checkpoint
from neurolens.decoder import check_device, family_of, shape_of
from neurolens.updates import Pairs, Projections

BLOCK = 256  # neurons: enough for the product to run at full speed
TOKENS_AT_ONCE, PAIRS_AT_ONCE = 4096, 64  # what else is computed in pieces, to bound memory
LARGEST = float(np.finfo(np.float32).max) / 2  # of |value vector| · |row|, which no sum on the way to a product exceeds
EMBEDDING, HEAD = "decoder.embed_tokens.weight", "lm_head.weight"
Reduced = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class Unembedding:
    """What makes logits of a residual stream, and the value vectors that write into it: the `Projector` of updates.

    The stream is multiplied by `project_out`, where a model has one (OPT-350m), then by the unembedding: lm_head, or
    the embedding it is tied to. The final LayerNorm is left out; with `fold_norm` value vectors are first multiplied
    by its gain (and neither centred nor divided by σ, which differs from token to token).

    real       int32 `(token,)`, ascending: the ids that count; padded rows are no part of any product
    fold_norm  whether the gain is folded in
    """

    def __init__(
        self, checkpoint: Checkpoint, real: np.ndarray, *, fold_norm: bool = False, device: str = "cpu"
    ) -> None:
        """Read the rows of the token ids `real` `(token,)` onto `device`.

        Raises UsageError for an architecture or device that is not supported, ids the model has not, and `fold_norm`
        where there is no final LayerNorm; NeurolensError for missing, misshapen or unusable tensors.
        """
        family_of(checkpoint.config, checkpoint.folder)
        check_device(device)
        torch.backends.cuda.matmul.allow_tf32 = False  # fp32 means fp32
        self._checkpoint, self._device = checkpoint, torch.device(device)
        self._shape = shape_of(checkpoint)
        self._layer: tuple[int, Tensor] | None = None  # the one read last: it is asked for block by block
        self.fold_norm = fold_norm
        hidden, config = self._shape.hidden, checkpoint.config
        width = int(config.get("word_embed_proj_dim") or hidden)
        self._gain = self._read_gain() if fold_norm else None
        self._project_out = None
        if width != hidden:
            self._project_out = self._read("decoder.project_out.weight", (width, hidden)).float()
        self.real, rows = self._read_rows(np.unique(real), width)
        self._norms = _norms(rows)
        if not np.isfinite(self._norms).all():
            raise NeurolensError(f"{checkpoint.folder}: the unembedding holds NaN or infinity; fetch it again")
        self._mean = np.zeros(width)
        for first in range(0, len(rows), TOKENS_AT_ONCE):
            self._mean += rows[first : first + TOKENS_AT_ONCE].double().sum(0).numpy() / len(rows)
        self._rows = rows.to(self._device)
        self._reduce = reduce_compiled if self._device.type == "cpu" else reduce_on_device

    def value_vectors(self, layer: int, neurons: np.ndarray | None = None) -> np.ndarray:
        """The value vectors (rows of W_out) of some neurons or of all: float32 `(neuron, D)`, as stored.

        Raises UsageError for a layer or neuron the model has not, NeurolensError for NaN or infinity in them.
        """
        held = self._layer
        if held is None or held[0] != layer:
            if not 0 <= layer < self._shape.layers:
                raise UsageError(f"layer {layer}; expected 0 to {self._shape.layers - 1}")
            name = f"decoder.layers.{layer}.fc2.weight"
            held = self._layer = layer, self._read(name, (self._shape.hidden, self._shape.neurons))
        weight = held[1]
        if neurons is not None:
            numbers = np.asarray(neurons, np.int64)
            if ((numbers < 0) | (numbers >= self._shape.neurons)).any():
                raise UsageError(f"neurons {numbers.min()} to {numbers.max()}; expected 0 to {self._shape.neurons - 1}")
            weight = weight.index_select(1, torch.from_numpy(numbers))
        # small steps are numpy's: torch would share them among threads, which costs more than they do
        vectors = np.ascontiguousarray(weight.float().numpy().T)
        if not np.isfinite(vectors).all():
            raise NeurolensError(
                f"{self._checkpoint.folder}: value vectors of layer {layer} hold NaN or infinity; fetch it again"
            )
        return vectors

    def project(
        self, layer: int, neurons: np.ndarray, *, k: int, pairs: Pairs, controls: Pairs, block: int = BLOCK
    ) -> Projections:
        """Projections of neurons `(neuron,)`; rank and cosine at `pairs`, the bare product at `controls`.

        Takes `block` × tokens fp32 of memory. Ranks and order follow the rounded fp32 products, whose last digits
        depend on `block`, threads and device. Raises, besides what `value_vectors` does, NeurolensError for a token
        that is not real and for weights so large that a product could overflow.

        The bound is the product, 2 · tokens · width operations a neuron, which torch makes at about the processor's
        peak. At OPT-125m's shape all of this takes 1.02 to 1.2 times the CPU time of the bare product, 1.12 to 1.25
        times with 15 pairs a neuron (benchmarks/project.py; two shared cores). Passes over each row while it is in
        the cache (kernels.py) are 0.06 of that, and 0.07 the pairs; the rest is threads that wait for each other.
        """
        most, size = min(k, len(self.real)), len(neurons)
        result = Projections(
            promoted=np.full((size, k), -1, np.int32),
            promoted_projection=np.full((size, k), np.nan, np.float32),
            suppressed=np.full((size, k), -1, np.int32),
            suppressed_projection=np.full((size, k), np.nan, np.float32),
            mean=np.empty(size, np.float32),
            projection=np.empty(len(pairs[0]), np.float32),
            rank=np.empty(len(pairs[0]), np.int32),
            cosine=np.empty(len(pairs[0]), np.float32),
            control=np.empty(len(controls[0]), np.float32),
        )
        column, control_column = self._columns(pairs[1]), self._columns(controls[1])
        pairs_of, controls_of = _by_block(pairs[0], size, block), _by_block(controls[0], size, block)
        buffer = torch.empty((min(block, size), len(self.real)), dtype=torch.float32, device=self._device)
        for i, first in enumerate(range(0, size, block)):
            part, mine, others = slice(first, first + block), pairs_of[i], controls_of[i]
            written, norms = self._written(layer, neurons[part])
            product = torch.mm(written.to(self._device), self._rows.T, out=buffer[: len(written)])
            high, high_at, low, low_at, smaller = self._reduce(product, most, pairs[0][mine] - first, column[mine])
            result.promoted[part, :most], result.promoted_projection[part, :most] = self.real[high_at], high
            result.suppressed[part, :most], result.suppressed_projection[part, :most] = self.real[low_at], low
            result.mean[part] = np.einsum("nd,d->n", written.numpy(), self._mean)
            result.rank[mine] = smaller
            result.projection[mine] = _pick(product, pairs[0][mine] - first, column[mine])
            result.control[others] = _pick(product, controls[0][others] - first, control_column[others])
            with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
                cosine = result.projection[mine] / (norms[pairs[0][mine] - first] * self._norms[column[mine]])
            result.cosine[mine] = np.clip(cosine, -1, 1)
        return result

    def products(self, layer: int, neurons: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The bare products of all neurons with all tokens: float32 `(neuron, token)`. Raises as `project`."""
        written = self._written(layer, neurons)[0].to(self._device)
        columns = torch.from_numpy(self._columns(tokens)).to(self._device)
        parts = [written @ self._rows[part].T for part in columns.split(TOKENS_AT_ONCE)]
        return torch.cat(parts, dim=1).cpu().numpy()

    def _written(self, layer: int, neurons: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """What reaches the unembedding of the value vectors, fp32 `(neuron, width)`, and its norms `(neuron,)`."""
        written = torch.from_numpy(self.value_vectors(layer, neurons))
        if self._gain is not None:
            written = written * self._gain
        if self._project_out is not None:
            written = written @ self._project_out.T
        norms = _norms(written)
        if not (norms * self._norms.max() <= LARGEST).all():
            raise NeurolensError(
                f"{self._checkpoint.folder}: projections of layer {layer} are NaN or may exceed fp32; fetch it again"
            )
        return written, norms

    def _columns(self, tokens: np.ndarray) -> np.ndarray:
        """Columns of the product where token ids stand, int64."""
        columns = np.searchsorted(self.real, tokens).astype(np.int64)
        wrong = self.real[np.minimum(columns, len(self.real) - 1)] != tokens
        if wrong.any():
            raise NeurolensError(
                f"token {np.asarray(tokens)[wrong][0]} is none of the {len(self.real)} ids of the vocabulary; corpus "
                f"and {self._checkpoint.folder} do not belong together"
            )
        return columns

    def _read(self, name: str, shape: tuple[int | None, ...]) -> Tensor:
        """A tensor as stored; None fits any length."""
        tensor = dict(self._checkpoint.tensors([name]))[name].detach()
        if len(tensor.shape) != len(shape) or any(
            want not in (None, have) for want, have in zip(shape, tensor.shape, strict=True)
        ):
            raise NeurolensError(
                f"{self._checkpoint.folder}: tensor {name!r} has shape {tuple(tensor.shape)}, the configuration says "
                f"{tuple('any' if want is None else want for want in shape)}; config.json and weights are not of one "
                "model"
            )
        return tensor

    def _read_gain(self) -> Tensor:
        config = self._checkpoint.config
        if not config.get("do_layer_norm_before", True) or config.get("_remove_final_layer_norm", False):
            raise UsageError(
                f"{self._checkpoint.folder} has no final LayerNorm to fold in (as OPT-350m); leave out --fold-norm"
            )
        return self._read("decoder.final_layer_norm.weight", (self._shape.hidden,)).float()

    def _read_rows(self, real: np.ndarray, width: int) -> tuple[np.ndarray, Tensor]:
        """The ids and their rows of the unembedding in fp32; those of a usual vocabulary are not copied, if fp32."""
        tied = self._checkpoint.config.get("tie_word_embeddings", True)
        rows = self._read(EMBEDDING if tied else HEAD, (None, width))
        if tied and HEAD in self._checkpoint and not torch.equal(rows, self._read(HEAD, (None, width))):
            raise NeurolensError(  # versions of transformers differ in which one they use
                f"{self._checkpoint.folder}: {HEAD} and {EMBEDDING} differ, though config.json ties them; set "
                "tie_word_embeddings to false if lm_head is meant, else remove it"
            )
        if not len(real) or real[0] < 0 or real[-1] >= len(rows):
            given = f"token ids {real[0]} to {real[-1]}" if len(real) else "no token ids"
            raise UsageError(f"{given}; expected those of {self._checkpoint.folder}, 0 to {len(rows) - 1}")
        leading = real[-1] == len(real) - 1
        rows = rows[: len(real)] if leading else rows.index_select(0, torch.from_numpy(real.astype(np.int64)))
        return real.astype(np.int32), rows.float().contiguous()


def reduce_compiled(product: Tensor, k: int, row: np.ndarray, column: np.ndarray) -> Reduced:
    """What is kept of a product `(neuron, column)` on a CPU, as many neurons at once as torch has threads.

    Returns the k greatest values of each row, falling, and their columns; the k least, rising, and theirs (float32
    and int32 `(neuron, k)`; of equal values the first columns); and for each pair (row, column) int32 `(pair,)` how
    many values of its row are smaller.
    """
    values, threads = product.numpy(), torch.get_num_threads()
    high, high_at, low, low_at = (np.empty((len(values), k), dtype) for dtype in (np.float32, np.int32) * 2)
    smaller = np.empty(len(row), np.int32)

    def reduce(neurons: np.ndarray, pairs: np.ndarray) -> None:
        if len(neurons):
            part = slice(neurons[0], neurons[-1] + 1)
            kernels.extremes(values[part], high[part], high_at[part], low[part], low_at[part])
        if len(pairs):
            part = slice(pairs[0], pairs[-1] + 1)
            kernels.count_smaller(values, row[part], column[part], smaller[part])

    with ThreadPoolExecutor(threads) as pool:
        pieces = (np.array_split(np.arange(count), 2 * threads) for count in (len(values), len(row)))
        list(pool.map(reduce, *pieces))
    return high, high_at, low, low_at, smaller


def reduce_on_device(product: Tensor, k: int, row: np.ndarray, column: np.ndarray) -> Reduced:
    """The same by torch, on whatever device the product is; only what is returned leaves it."""
    rows, columns = (torch.from_numpy(of).to(product.device) for of in (row, column))
    smaller = [
        (product[some] < product[some, at][:, None]).sum(1)
        for some, at in zip(rows.split(PAIRS_AT_ONCE), columns.split(PAIRS_AT_ONCE), strict=True)
    ]
    return (
        *_extremes(product, k, largest=True),
        *_extremes(product, k, largest=False),
        torch.cat(smaller).cpu().numpy().astype(np.int32),
    )


def _extremes(product: Tensor, k: int, *, largest: bool) -> tuple[np.ndarray, np.ndarray]:
    values, at = product.topk(k, dim=1, largest=largest)
    last = values[:, -1:]
    equal, wanted = product == last, (values == last).sum(1, keepdim=True)
    if (equal.sum(1, keepdim=True) > wanted).any():  # more are equal to the last one than there is room for
        numbers = torch.arange(product.shape[1], dtype=torch.int32, device=product.device)
        first = torch.where(equal, numbers, product.shape[1]).topk(k, dim=1, largest=False).values
        place = torch.arange(k, device=product.device) - (k - wanted)
        at = torch.where(place < 0, at, first.gather(1, place.clamp(min=0)))
    high, high_at = values.cpu().numpy(), at.cpu().numpy().astype(np.int32)
    order = np.lexsort((high_at, -high if largest else high))
    return np.take_along_axis(high, order, 1), np.take_along_axis(high_at, order, 1)


def _norms(rows: Tensor) -> np.ndarray:
    """Lengths of rows, float64: squares of fp32 numbers neither overflow nor vanish there."""
    return np.sqrt(np.einsum("rd,rd->r", rows.numpy(), rows.numpy(), dtype=np.float64))


def _pick(product: Tensor, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Values at pairs, float32 `(pair,)`."""
    if product.device.type == "cpu":
        return product.numpy()[row, column]
    rows, columns = (torch.from_numpy(of).to(product.device) for of in (row, column))
    return product[rows, columns].cpu().numpy()


def _by_block(row: np.ndarray, size: int, block: int) -> list[np.ndarray]:
    """The indices of the pairs in each block of rows, by row."""
    order = np.argsort(row, kind="stable")
    ends = np.searchsorted(row[order], np.arange(block, size, block))
    return np.split(order, ends)
