"""project: value vectors × unembedding at the shape of OPT-125m, against the bare matrix product.

12 layers of 3,072 neurons, D = 768, on 50,265 tokens (of 50,272 rows), random weights in a checkpoint on disk. Ours
is what `analyze --all` asks for: value vectors read and transposed, products, the ten most promoted and suppressed
tokens and the mean of every neuron, and value, rank and cosine at 15 triggers of each (five for each of n = 1, 2, 3);
beside it the same without triggers. The bare product is torch's, of the same blocks, transposed beforehand, into one
buffer. All take turns, layer by layer, and neighbours in time are compared: load drifts. The last neurons of each
layer are checked against a stable sort of the bare product. Memory is what the peak grows by after the embedding is
read and the bare product has its buffer: ours, and the value vectors.

`--quick`: three layers; the bounds are the same.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import at_most, finish, quick_asked, ratios, timed

from neurolens.checkpoint import Checkpoint
from neurolens.projection import BLOCK, Unembedding, reduce_compiled, reduce_on_device
from neurolens.updates import Projections

NEURONS, REAL, TRIGGERS, PROMOTED = 3072, 50265, 15, 10
BOUND, MEMORY_MB = 1.5, 500
NONE = (np.zeros(0, np.int64), np.zeros(0, np.int64))


def ways_of(unembedding: Unembedding, layer: int, out: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """What is compared, for one layer."""
    blocks = torch.from_numpy(unembedding.value_vectors(layer)).split(BLOCK)
    neurons, rng = np.arange(NEURONS), np.random.default_rng(layer)
    pairs = (np.repeat(neurons, TRIGGERS), rng.integers(0, REAL, NEURONS * TRIGGERS))

    def bare() -> None:
        for block in blocks:
            torch.mm(block, unembedding._rows.T, out=out)

    return {
        "bare": bare,
        "ours": lambda: unembedding.project(layer, neurons, k=PROMOTED, pairs=pairs, controls=NONE),
        "ours_without_triggers": lambda: unembedding.project(layer, neurons, k=PROMOTED, pairs=NONE, controls=NONE),
    }


def agree(found: Projections, product: np.ndarray) -> None:
    """Stop unless the last neurons are projected as a stable sort of their bare product says."""
    for name, sign in (("promoted", -1), ("suppressed", 1)):
        order = np.argsort(sign * product, axis=1, kind="stable")[:, :PROMOTED]
        if not np.array_equal(getattr(found, name)[-len(product) :], order):
            raise SystemExit(f"{name} tokens are not those of the sorted product")


def measure(unembedding: Unembedding, layer: int, out: torch.Tensor) -> dict[str, tuple[float, float]]:
    """CPU and wall seconds of each way, each layer beginning with another one; the results are compared."""
    ways, found, seconds = ways_of(unembedding, layer, out), {}, {}
    for i in range(len(ways)):
        name = list(ways)[(layer + i) % len(ways)]
        start = time.process_time(), time.perf_counter()
        found[name] = ways[name]()
        seconds[name] = time.process_time() - start[0], time.perf_counter() - start[1]
    for name in ("ours", "ours_without_triggers"):
        agree(found[name], out[-8:].numpy())  # what the bare product leaves
    return seconds


def reduction(reduce: Callable[..., Any], product: torch.Tensor) -> float:
    """CPU ms of reducing a block."""
    return round(1000 * float(np.median([timed(lambda: reduce(product, PROMOTED, *NONE))[0] for _ in range(3)])), 2)


def main() -> int:
    """Measure; 0 if the bounds hold."""
    layers = 3 if quick_asked(__doc__, "three layers instead of twelve, under a minute") else 12
    with tempfile.TemporaryDirectory() as folder:
        made = f"from neurolens.testing import random_opt; random_opt({folder!r} + '/model', '125m', layers={layers})"
        subprocess.run([sys.executable, "-c", made], check=True)  # what it takes is not memory of ours
        checkpoint = Checkpoint(Path(folder) / "model")
        unembedding, out = Unembedding(checkpoint, np.arange(REAL)), torch.zeros((BLOCK, REAL))
        some = np.arange(8)
        unembedding.project(0, some, k=PROMOTED, pairs=(some, some), controls=NONE)  # compile, or read the cache
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        measured = []
        for layer in range(layers):
            measured.append(measure(unembedding, layer, out))
            print(
                f"layer {layer}: " + ", ".join(f"{name} {of[1]:.2f} s" for name, of in measured[-1].items()), flush=True
            )
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    times = {name: np.array([of[name] for of in measured]) for name in measured[0]}
    figures: dict[str, Any] = {"layers": layers, "neurons": NEURONS, "tokens": REAL, "block": BLOCK}
    figures |= {"triggers_per_neuron": TRIGGERS, "memory_grown_MB": round(grown, 1)}
    figures["bare_gflop_per_s"] = 2e-9 * NEURONS * 768 * REAL / float(np.median(times["bare"][:, 1]))
    for name, of in times.items():
        figures[f"{name}_s_per_layer"] = dict(
            zip(("cpu", "wall"), np.median(of, axis=0).round(3).tolist(), strict=True)
        )
    for reduce in (reduce_compiled, reduce_on_device):  # the second for scale: on a GPU it costs other things
        figures[f"{reduce.__name__}_cpu_ms_per_block"] = reduction(reduce, out)
    bounds = {"memory_beyond_the_embedding_MB": at_most(grown, MEMORY_MB)}
    for name in ("ours", "ours_without_triggers"):
        cpu, wall = ratios(times, name, "bare")
        bounds |= {f"{name}_over_bare_{of}": at_most(x, BOUND) for of, x in (("cpu", cpu), ("wall", wall))}
    return finish("project", figures, bounds)


if __name__ == "__main__":
    sys.exit(main())
