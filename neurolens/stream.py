"""stream: weights from a checkpoint's files to where they are used: at once, or each layer when it is due.

A streamed layer is read while the one before it is used and dropped when the next one is asked for: at most two are in
memory, whatever the model. Files are mapped while a layer is copied from them, and closed before it is used.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor, nn

from neurolens import NeurolensError
from neurolens.checkpoint import Checkpoint

Weights = dict[str, Tensor]


def give_back_memory() -> None:
    """What the allocator holds back of freed memory, to the system: between large tensors it grows from layer to layer,
    by 0.5 GB over the 40 of OPT-13b. Nothing where there is no glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def check_shapes(found: Iterable[tuple[str, Tensor]], expected: Mapping[str, torch.Size], where: object) -> None:
    """Raise NeurolensError unless each of the tensors has the shape that is expected of its name."""
    for name, tensor in found:
        if tensor.shape != expected[name]:
            raise NeurolensError(
                f"{where}: tensor {name!r} has shape {tuple(tensor.shape)}, the configuration "
                f"says {tuple(expected[name])}; config.json and weights are not of one model"
            )


def read_weights(
    checkpoint: Checkpoint, shapes: Mapping[str, torch.Size], place: Callable[[Tensor], Tensor]
) -> Weights:
    """What `place` makes of the named tensors, file by file; it must copy: files are closed afterwards.

    Raises NeurolensError for a tensor that is missing, unreadable, of another kind or of another shape.
    """
    weights = {}
    for name, tensor in checkpoint.tensors(list(shapes)):
        check_shapes([(name, tensor)], shapes, checkpoint.folder)
        weights[name] = place(tensor)
    return weights


class Mover(Protocol):
    """How a stored tensor gets to a device, in a dtype."""

    def place(self, tensor: Tensor) -> Tensor:
        """A copy of a mapped CPU tensor there; called by one thread at a time, the reading one."""
        ...

    def hand_over(self, weights: Weights) -> None:
        """Called by the thread that computes, before it uses what was placed and before more is."""
        ...

    def take_back(self, weights: Weights) -> None:
        """Called by that thread with what is no longer used: more of the same shapes is going to be placed."""
        ...

    def forget(self) -> None:
        """Called once nothing more is placed."""


class Copy:
    """Copies and is done: any device. What it gets back it writes over: memory that is new to a process costs ten
    times the copy (0.6 GB/s against 6.9 from fp16 to fp32 on a core that faults every page)."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._spare: dict[torch.Size, list[Tensor]] = {}

    def place(self, tensor: Tensor) -> Tensor:
        spare = self._spare.get(tensor.shape)
        if not spare:
            return tensor.to(device=self._device, dtype=self._dtype, copy=True)
        return spare.pop().copy_(tensor)

    def hand_over(self, weights: Weights) -> None:
        pass

    def take_back(self, weights: Weights) -> None:
        for tensor in weights.values():
            self._spare.setdefault(tensor.shape, []).append(tensor)

    def forget(self) -> None:
        self._spare.clear()


class SideStream:
    """Copies to a CUDA device beside what it computes: through one pinned buffer, on a stream of its own."""

    def __init__(self, device: torch.device, dtype: torch.dtype, most: int) -> None:
        """`most`: values of the largest tensor."""
        self._device = device
        self._buffer = torch.empty(most, dtype=dtype, pin_memory=True)
        self._stream = torch.cuda.Stream(device)

    def place(self, tensor: Tensor) -> Tensor:
        self._stream.synchronize()  # the tensor before this one has left the buffer
        host = self._buffer[: tensor.numel()].view(tensor.shape)
        host.copy_(tensor)
        with torch.cuda.stream(self._stream):
            return host.to(self._device, non_blocking=True, copy=True)

    def hand_over(self, weights: Weights) -> None:
        computing = torch.cuda.current_stream(self._device)
        computing.wait_event(self._stream.record_event())
        for tensor in weights.values():
            tensor.record_stream(computing)  # its memory is not given away while a kernel may still read it

    def take_back(self, weights: Weights) -> None:
        pass  # torch's allocator keeps what is freed on a GPU

    def forget(self) -> None:
        pass


class LayerStream:
    """The layers of a model on the meta device, each filled while it is used."""

    def __init__(
        self, checkpoint: Checkpoint, modules: nn.ModuleList, prefix: str, dtype: torch.dtype, device: torch.device
    ) -> None:
        """`prefix`: what precedes a layer's number in the checkpoint's names, `decoder.layers.`.

        Opens all files of the layers, reading no numbers. Raises NeurolensError if a tensor is missing, no plain
        floating-point one or of another shape than the model's.
        """
        self._checkpoint, self._modules = checkpoint, modules
        self._prefixes = [f"{prefix}{number}." for number in range(len(modules))]
        self._shapes = [
            {before + name: value.shape for name, value in module.state_dict().items()}
            for before, module in zip(self._prefixes, modules, strict=True)
        ]
        shapes = {name: shape for layer in self._shapes for name, shape in layer.items()}
        check_shapes(checkpoint.mapped(list(shapes)), shapes, checkpoint.folder)
        most = max((shape.numel() for shape in shapes.values()), default=0)
        self._mover: Mover = SideStream(device, dtype, most) if device.type == "cuda" else Copy(device, dtype)

    def layers(self, count: int, first: int = 0) -> Generator[tuple[int, nn.Module]]:
        """(number, module) of layers `first` … `count` − 1; a module has weights until the next one is asked for.

        One thread reads ahead; it has ended when this generator has, however that came about. What it fails with is
        raised here: NeurolensError as in `read_weights`.
        """
        ended = threading.Event()
        ahead: list[Future[Weights]] = []  # popped: an error would else hold the frame that holds its future
        try:
            with ThreadPoolExecutor(max_workers=1, thread_name_prefix="weights") as thread:
                try:
                    for number in range(first, count):
                        if number == first:
                            ahead.append(thread.submit(self._read, first, ended))
                        module = self._modules[number]
                        try:
                            weights = ahead.pop().result()
                            self._mover.hand_over(weights)
                            if number + 1 < count:  # not earlier: the layer before this one has only now been dropped
                                ahead.append(thread.submit(self._read, number + 1, ended))
                            module.load_state_dict(weights, assign=True)
                            yield number, module
                            if number + 2 < count:
                                self._mover.take_back(weights)
                            del weights
                        finally:
                            module.to("meta")
                            give_back_memory()
                finally:
                    ended.set()
        finally:
            self._mover.forget()

    def _read(self, number: int, ended: threading.Event) -> Weights:
        """A layer's weights, by their names in its module; nothing if it is no longer wanted."""

        def place(tensor: Tensor) -> Tensor:
            if ended.is_set():
                raise _Unwanted
            return self._mover.place(tensor)

        try:
            weights = read_weights(self._checkpoint, self._shapes[number], place)
        except _Unwanted:
            return {}
        return {name.removeprefix(self._prefixes[number]): tensor for name, tensor in weights.items()}


class _Unwanted(Exception):
    """Ends the reading of a layer that nobody waits for."""
