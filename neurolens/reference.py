"""Reference: the plain Hugging Face forward in fp32, compared as it runs with bits that were recorded.

HF's own model, read and called by HF's own code, with nothing of `decoder.py` in between; only the names of its parts
are. A hook on each layer's activation module compares. Distances from zero go into histograms of 128 steps an octave:
memory is flat however much text is compared and however many bits flip.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurolens import NeurolensError, first_line
from neurolens.bits import unpack
from neurolens.certificate import LayerParity
from neurolens.checkpoint import Checkpoint
from neurolens.decoder import Family
from neurolens.weights import BIN, SAFETENSORS

DROPPED_BITS = 16  # of a float32's mantissa in the histograms: 2^(23 − 16) = 128 steps an octave
BUCKETS = 1 << (31 - DROPPED_BITS)  # without the sign
NOT_FINITE = 0xFF << (23 - DROPPED_BITS)  # first bucket of infinities and NaN


def load_reference(checkpoint: Checkpoint, family: Family, device: str) -> Any:
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
def compare_forward(
    model: Any, family: Family, ids: torch.Tensor, tallies: dict[int, Tally], recorded: dict[int, np.ndarray]
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


class Tally:
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
