"""Decoder: a HF causal LM as embed → layers. The only torch model code.

Layers are called through HF's own modules with the arguments HF's own forward gives its first layer: that forward
is run up to there and stopped (a pre-hook), so that masks and positions are never rebuilt here. Verified bit for
bit against the plain forward (tests/test_decoder.py).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurolens import NeurolensError, UsageError, first_line
from neurolens.bits import pack_positive
from neurolens.checkpoint import Checkpoint
from neurolens.stream import Copy, LayerStream, read_weights

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
WEIGHTS = ("resident", "streamed")  # all in memory, or each layer while it is used
STORED_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
ACTIVATION_RULE = "output of activation_fn > 0"


@dataclass(frozen=True)
class Family:
    """How to find the parts of an architecture inside HF's bare model (the one without a head)."""

    model: str  # class in transformers
    layers: str  # the list of layers
    activation: str  # in a layer, the module whose output says whether a neuron is active
    width: str  # the configuration's name for d_ff
    positions: str  # and for the greatest number of positions


FAMILIES = {"opt": Family("OPTModel", "decoder.layers", "activation_fn", "ffn_dim", "max_position_embeddings")}


def family_of(config: dict[str, Any], where: object) -> Family:
    """The architecture's entry in the families table. Raises UsageError for one that is not supported."""
    name = config.get("model_type")
    if name not in FAMILIES:
        raise UsageError(f"{where} is a {name!r} model; neurolens reads {', '.join(sorted(FAMILIES))}")
    return FAMILIES[name]


@dataclass(frozen=True)
class Shape:
    """What planning needs to know of a model, from its configuration alone."""

    layers: int
    neurons: int
    hidden: int
    positions: int
    parameters_per_layer: int
    parameters_elsewhere: int  # embeddings, projections, the final norm
    bytes_per_stored_value: int  # as the configuration says; 4 if it does not


def shape_of(checkpoint: Checkpoint) -> Shape:
    """The model's shape. Raises NeurolensError if the configuration lacks a field."""
    config, family = checkpoint.config, family_of(checkpoint.config, checkpoint.folder)
    try:
        hidden, neurons = int(config["hidden_size"]), int(config[family.width])
        return Shape(
            layers=int(config["num_hidden_layers"]),
            neurons=neurons,
            hidden=hidden,
            positions=int(config[family.positions]),
            parameters_per_layer=hidden * (4 * hidden + 2 * neurons) + 9 * hidden + neurons,
            parameters_elsewhere=_parameters_elsewhere(config, hidden, int(config[family.positions])),
            bytes_per_stored_value=STORED_BYTES.get(_stored_dtype(config), 4),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NeurolensError(f"{checkpoint.folder}/config.json: missing or unusable {error}; fetch it again") from error


def _parameters_elsewhere(config: dict[str, Any], hidden: int, positions: int) -> int:
    """Of an OPT: token embeddings, and projections where they are narrower; positions (offset by 2); final norm."""
    embedded, pre_norm = int(config.get("word_embed_proj_dim") or hidden), config.get("do_layer_norm_before", True)
    projections = 2 * embedded * hidden if embedded != hidden else 0
    return int(config["vocab_size"]) * embedded + projections + (positions + 2 + (2 if pre_norm else 0)) * hidden


def _stored_dtype(config: dict[str, Any]) -> str:
    """How a checkpoint was saved, `float16`; `None` if its configuration does not say."""
    return str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch.")


def default_dtype(config: dict[str, Any], device: str) -> str:
    """What a model computes in unless told: fp32 on a CPU, else as its checkpoint was saved (fp32 if unknown).

    fp16 on a CPU is slower than fp32 and flips bits near zero; on a GPU it is how OPT was trained and published.
    """
    names = {str(dtype).removeprefix("torch."): name for name, dtype in DTYPES.items()}
    return "fp32" if torch.device(device).type == "cpu" else names.get(_stored_dtype(config), "fp32")


def check_device(device: str) -> None:
    """Raise UsageError unless torch can use the device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"cannot use device {device!r} ({first_line(error)}); give --device cpu") from error


def free_device_memory(device: str) -> int | None:
    """Bytes that are free in a CUDA GPU's own memory; None for what computes in the machine's."""
    if torch.device(device).type != "cuda":
        return None
    return torch.cuda.mem_get_info(device)[0]


Layer = Callable[[Tensor], tuple[Tensor, np.ndarray]]


class _Stop(Exception):
    """Ends HF's forward at its first layer."""


class Decoder:
    """A decoder called layer by layer; its layers are in memory, or read from the checkpoint when they are due."""

    def __init__(
        self, model: nn.Module, family: Family, device: torch.device, stream: LayerStream | None = None
    ) -> None:
        self._model = model.eval().requires_grad_(False)
        self._family, self.device, self._stream = family, device, stream
        self._layers: nn.ModuleList = model.get_submodule(family.layers)  # type: ignore[assignment]
        self._arguments: dict[tuple[int, ...], tuple[tuple[Any, ...], dict[str, Any]]] = {}

    @classmethod
    def load(
        cls, checkpoint: Checkpoint, *, dtype: str = "fp32", device: str = "cpu", streamed: bool = False
    ) -> Decoder:
        """Read the weights of a checkpoint in `dtype` onto `device`; `streamed`: all but those of the layers.

        Raises UsageError for an unknown architecture or device, NeurolensError for a missing or misshapen tensor, be
        it a layer's that is not read yet.
        """
        family = family_of(checkpoint.config, checkpoint.folder)
        if dtype not in DTYPES:
            raise UsageError(f"unknown dtype {dtype!r}; expected {', '.join(DTYPES)}")
        torch.backends.cuda.matmul.allow_tf32 = False  # fp32 means fp32
        torch.backends.cudnn.allow_tf32 = False
        model, there = build_model(checkpoint), torch.device(device)
        shapes = {name: value.shape for name, value in model.state_dict().items()}
        stream = None
        if streamed:
            layers: nn.ModuleList = model.get_submodule(family.layers)  # type: ignore[assignment]
            prefix = f"{family.layers}."
            stream = LayerStream(checkpoint, layers, prefix, DTYPES[dtype], there)
            shapes = {name: shape for name, shape in shapes.items() if not name.startswith(prefix)}
        weights = read_weights(checkpoint, shapes, Copy(there, DTYPES[dtype]).place)
        model.load_state_dict(weights, strict=not streamed, assign=True)
        return cls(model, family, there, stream)

    @torch.inference_mode()
    def embed(self, ids: Tensor) -> Tensor:
        """Hidden states `(B, T, D)` that enter the first layer, from ids `(B, T)` of full-length sequences."""
        captured: dict[str, Any] = {}

        def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            captured.update(args=args, kwargs=kwargs)
            raise _Stop

        handle = self._layers[0].register_forward_pre_hook(stop, with_kwargs=True)
        try:
            self._model(ids.to(self.device), use_cache=False)
        except _Stop:
            pass
        finally:
            handle.remove()
        args, kwargs = captured["args"], dict(captured["kwargs"])
        hidden, rest = (args[0], args[1:]) if args else (kwargs.pop("hidden_states"), ())
        # masks and position ids depend on the shape alone: every row is full-length and unpadded
        self._arguments[tuple(ids.shape)] = (rest, kwargs)
        return hidden

    def layers(self, count: int, first: int = 0) -> Generator[tuple[int, Layer]]:
        """(number, call) of layers `first` … `count` − 1; a call maps hidden `(B, T, D)` to (hidden, rows of bits).

        A streamed layer can be called until the next one is asked for. Close the generator (`contextlib.closing`)
        where the loop may end early: what reads ahead ends with it. Raises NeurolensError for weights that cannot be
        read any more.
        """
        stream = self._stream
        with closing(self._resident(count, first) if stream is None else stream.layers(count, first)) as modules:
            for number, module in modules:
                yield number, self._caller(module)

    def _resident(self, count: int, first: int) -> Generator[tuple[int, nn.Module]]:
        for number in range(first, count):
            yield number, self._layers[number]

    def _caller(self, layer: nn.Module) -> Layer:
        @torch.inference_mode()
        def call(hidden: Tensor) -> tuple[Tensor, np.ndarray]:
            """hidden `(B, T, D)` → hidden `(B, T, D)`, active neurons token-major uint8 `(B * T, d_ff / 8)`."""
            if (shape := tuple(hidden.shape[:2])) not in self._arguments:  # hidden states of another process
                self.embed(torch.zeros(shape, dtype=torch.long))
            args, kwargs = self._arguments[shape]
            with _recorded(layer.get_submodule(self._family.activation)) as seen:
                out = layer(hidden, *args, **kwargs)
            if len(seen) != 1:
                raise NeurolensError(f"the layer's {self._family.activation} ran {len(seen)} times, expected once")
            return (out if isinstance(out, Tensor) else out[0]), seen[0]

        return call


@contextmanager
def _recorded(activation: nn.Module) -> Iterator[list[np.ndarray]]:
    """Collect `output > 0` of a module, packed, while inside."""
    seen: list[np.ndarray] = []

    def record(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        seen.append(pack_positive(output.reshape(-1, output.shape[-1])))

    handle = activation.register_forward_hook(record)
    try:
        yield seen
    finally:
        handle.remove()


def build_model(checkpoint: Checkpoint) -> nn.Module:
    """The architecture without weights, on the meta device. Raises UsageError for one that is not supported,
    NeurolensError for a configuration that describes none."""
    import transformers

    family = family_of(checkpoint.config, checkpoint.folder)
    config_class = transformers.CONFIG_MAPPING[checkpoint.config["model_type"]]
    try:
        config = config_class.from_dict(checkpoint.config)
        # eager attention with mask None was not causal in any version tried
        config._attn_implementation = "sdpa"
        with torch.device("meta"):
            return getattr(transformers, family.model)(config)
    except Exception as error:
        raise NeurolensError(
            f"{checkpoint.folder}/config.json describes no model that can be built ({first_line(error)})"
        ) from error
