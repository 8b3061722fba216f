"""probe: how fast this machine computes a layer, reads one, and writes hidden states; a short measurement."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import closing
from copy import copy
from pathlib import Path

import numpy as np
import torch

from neurolens.checkpoint import Checkpoint
from neurolens.decoder import Decoder, Shape
from neurolens.plan import Rates

CPU_WORK, GPU_WORK = 1e11, 1e13  # operations that a layer may take once, half a second or so
SAMPLE = 64 << 20  # bytes read from the checkpoint's disk, and written to the spool's
LEAST = 64  # tokens, however slow


def measure_rates(
    checkpoint: Checkpoint,
    shape: Shape,
    batch_sequences: int,
    *,
    corpus: tuple[int, int],
    dtype: str,
    device: str,
    spool: Path,
) -> Rates:
    """Rates of the model's first layer, in batches of so many sequences, and of the disk that `spool` is to be on.

    `corpus`: its shape (S, T). Where a batch would take long, fewer of its tokens. Raises as Decoder.load.
    """
    checkpoint = copy(checkpoint)  # whose bytes read are counted apart
    decoder = Decoder.load(checkpoint, dtype=dtype, device=device, streamed=True)
    work = GPU_WORK if decoder.device.type == "cuda" else CPU_WORK
    tokens = max(LEAST, int(work / (2 * shape.parameters_per_layer)))
    length = min(corpus[1], tokens)
    ids = torch.full((max(1, min(batch_sequences, corpus[0], tokens // length)), length), 3)
    ids[:, 0] = int(checkpoint.config.get("bos_token_id", 2))
    hidden = decoder.embed(ids)
    cpu, wall = [], []
    compute = float("inf")
    for _ in range(2):  # the second one from the page cache, and into memory that is not new
        with closing(decoder.layers(1)) as layers:
            cpu.append(time.process_time())
            wall.append(time.perf_counter())
            _, layer = next(layers)
            cpu[-1], wall[-1] = time.process_time() - cpu[-1], time.perf_counter() - wall[-1]
            started = time.perf_counter()
            out, _ = layer(hidden)
            float(out.sum(dtype=torch.float32))  # which waits for a GPU
            compute = min(compute, time.perf_counter() - started)
    return Rates(
        compute=compute / ids.numel(),
        load=min(wall),
        load_cpu=min(cpu),
        read=_read_rate(max(checkpoint.files, key=lambda path: path.stat().st_size)),
        spool=_disk_rate(spool, 2 * hidden.numel() * hidden.element_size()),
    )


def _read_rate(path: Path) -> float:
    """Bytes a second of a stretch of a file that the page cache has just given up."""
    size = path.stat().st_size
    wanted = min(SAMPLE, size)
    with path.open("rb") as file:
        first = (size - wanted) // 2
        _forget(file.fileno(), first, wanted)
        file.seek(first)
        started = time.perf_counter()
        while wanted > 0 and (got := len(file.read(1 << 22))):
            wanted -= got
    return max(1.0, min(SAMPLE, size)) / max(1e-6, time.perf_counter() - started)


def _disk_rate(folder: Path, most: int) -> float:
    """Bytes a second that are written and on the disk, then read from it: of both together. Where nothing can be
    written, that is found out later."""
    data = np.random.default_rng(0).bytes(max(4096, min(SAMPLE, most)))
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    started = time.perf_counter()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:  # it has no name: nothing of it stays, whatever happens
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            _forget(file.fileno(), 0, len(data))
            file.seek(0)
            file.read()
    except OSError:
        return 1e9
    return 2 * len(data) / max(1e-6, time.perf_counter() - started)


def _forget(file: int, first: int, size: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, first, size, os.POSIX_FADV_DONTNEED)
