"""The README's table of sizes: what OPT-125m to 66b take, as `neurolens collect --dry-run` would plan it on MACHINE.

    python docs/sizes.py        prints the table; a test holds the README against it

Memory and disk follow from shapes. Times are estimates from the speeds below, which are assumed, not measured: on a
machine that is there, `--dry-run` measures them.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from neurolens.decoder import Shape, shape_of
from neurolens.plan import SCAN_NEURONS, Plan, Rates
from neurolens.planner import Budget, make_plan
from neurolens.testing import OPT_SHAPES

TOKENS, POSITIONS, DTYPE = 5_000_000, 2048, "fp16"
GB = 10**9
CORES = 16
FREE = Budget(memory=0.9 * 64 * GB, device=0.9 * 24 * GB, disk=1000 * GB, spool=1000 * GB)  # a tenth is left to others
COMPUTE = 50e12  # operations a second of the GPU in fp16, of which a token takes two a parameter
READ, SPOOL = 2e9, 1e9  # bytes a second: weights from the disk; hidden states to the disk and back
LOAD = 5e9  # bytes a second: weights from the page cache to the GPU


def shape(size: str) -> Shape:
    """The published model's shape, from its configuration alone."""
    settings = OPT_SHAPES[size]
    config = {"model_type": "opt", "vocab_size": 50272, "max_position_embeddings": POSITIONS, "dtype": "float16"}
    checkpoint: Any = SimpleNamespace(config=config | settings, folder=Path(size))
    return shape_of(checkpoint)


def plan(size: str) -> Plan:
    """What is planned for a size on this machine; its seconds are those of the speeds above."""
    model = shape(size)
    load = model.parameters_per_layer * model.bytes_per_stored_value / LOAD
    rates = Rates(2 * model.parameters_per_layer / COMPUTE, load, load, READ, SPOOL)
    corpus = TOKENS // POSITIONS, POSITIONS
    return make_plan(model, corpus, dtype=DTYPE, budget=FREE, rates=lambda batch: rates)


def checkpoint_bytes(found: Plan) -> int:
    """All weights as they are stored."""
    parameters = found.shape.parameters_elsewhere + found.shape.layers * found.shape.parameters_per_layer
    return parameters * found.shape.bytes_per_stored_value


def counting(found: Plan) -> float:
    """Seconds that `analyze` takes to count the bits, where they are kept: else the plan has them."""
    return 0.0 if found.drops else len(found.layers) * found.tokens * found.shape.neurons / SCAN_NEURONS / CORES


def row(size: str) -> str:
    """A line of the table."""
    with patch("os.cpu_count", lambda: CORES):  # of the machine that is planned for
        found = plan(size)
        again = found.weights == "streamed" and found.windows > 1
        weights = f"read {found.windows} times" if again else found.weights
        cells = (
            size,
            f"{found.shape.layers} × {found.shape.neurons:,}",
            f"{gigabytes(checkpoint_bytes(found))}, {weights}",
            gigabytes(found.device_bytes),
            gigabytes(found.memory_bytes),
            f"{gigabytes(found.bits_bytes + found.result_bytes)}{'' if found.keep == 'all' else ', one layer of bits'}",
            gigabytes(found.spool_bytes) if found.spool_bytes else "–",
            duration(found.seconds + counting(found)),
        )
    return f"| {' | '.join(cells)} |"


def gigabytes(size: float) -> str:
    return f"{size / GB:.1f} GB" if size < 9.95 * GB else f"{size / GB:.0f} GB"


def duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


HEAD = (
    "| OPT | layers × neurons | weights | GPU | memory | bits and results | hidden states on disk | time, estimated |",
    "|---|---|---|---|---|---|---|---|",
)


def table() -> list[str]:
    """The table, a line each."""
    return [*HEAD, *map(row, OPT_SHAPES)]


if __name__ == "__main__":
    print("\n".join(table()))
