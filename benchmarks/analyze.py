"""analyze: time and share of each part, and the peak of its memory, at the shape of OPT-125m and a million tokens.

36,864 neurons of 1M tokens: bits are drawn, and nothing else is made up. Each neuron's frequency is drawn from those
of the demo run's neurons in the same depth, and clipped at 1 in a second run of twice the density. The text is this
Python's, through the demo's tokenizer, in sequences of 2,048; the checkpoint has OPT-125m's shape, random weights and
50,265 real tokens. Bits are independent: the worst case for context order, which finds no runs in them, and for the
store, which cannot compress them; and hardly a neuron detects anything, so that what detectors cost shows in
`updates --all` alone. No neuron depends on the position: what describing those costs is not in here (5 ms a
positional neuron at T = 2,048).

Every part is done by a process of its own: `dead`, then `ngrams`, `positions` and `contrast`, then `updates`, then
`updates` of every neuron; at last all at once, as `neurolens analyze` does by default, from the start. Beside that,
bits are read and no more. Where CPU time goes is measured in the same processes, around calls that take a stretch of
neurons at a time. What is left out: Python's start and imports. What is compiled is compiled before, on a small run.

Bounded is the peak of resident memory, shared libraries and mapped weights included; beside it what is the process's
own (anonymous), as seen 50 times a second.

`--quick`: 2 layers of 1,024 neurons, 131,072 tokens, in blocks of a quarter, and at twice the density all parts at once
alone; the bound is the same. Needs at most as much disk as the raw bits take (5 GB) and 1 GB, for a while.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from _common import at_most, demo_bits, finish, in_process, make_parser
from numba import njit, uint64

from neurolens.checkpoint import Checkpoint
from neurolens.corpus import Corpus, pack_documents
from neurolens.demo.demonstrate import MODEL, TOKENS
from neurolens.demo.text import documents
from neurolens.documents import Document
from neurolens.parts import PARTS, withdraw
from neurolens.planner import BLOCK_TOKENS
from neurolens.store import Store
from neurolens.testing import OPT_SHAPES, random_opt
from neurolens.vocabulary import Vocabulary

BOUND_GB = 2.0
POSITIONS, REAL = 2048, 50265
DIGITS = 24  # binary ones of a frequency: a millionth of a bit a row is lost
WHOLE = "all at once"
# what a process of its own does: parts, and of how many neurons the updates
STEPS = {
    "read": ("", ""),
    "dead": ("dead", ""),
    "ngrams": ("ngrams", ""),
    "positions": ("positions", ""),
    "contrast": ("contrast", ""),
    "updates": ("updates", ""),
    "updates --all": ("updates", "all"),
    WHOLE: (",".join(PARTS), ""),
}
SCRIPT = Path(__file__).with_name("_analyze.py")
ONE_BY_ONE = ("dead", "ngrams", "updates")


@dataclass(frozen=True)
class Size:
    """What is analysed."""

    shape: dict[str, Any]
    sequences: int
    block_sequences: int

    @property
    def layers(self) -> int:
        return int(self.shape["num_hidden_layers"])

    @property
    def neurons(self) -> int:
        return int(self.shape["ffn_dim"])

    @property
    def raw_bytes(self) -> int:
        return self.layers * self.neurons * self.sequences * POSITIONS // 8


FULL = Size(OPT_SHAPES["125m"], 512, BLOCK_TOKENS // POSITIONS)
SMALL = Size({**OPT_SHAPES["125m"], "num_hidden_layers": 2, "ffn_dim": 1024}, 64, 16)
TINY = Size({"hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 1, "num_attention_heads": 1}, 2, 1)  # to compile


@njit
def draw_bits(digits, seed, rows):  # pragma: no cover - compiled
    """Fill `rows` uint64 `(neuron, words)` with independent bits; `digits` uint8 `(neuron, DIGITS)`: those of each
    neuron's frequency after the binary point, the last one first.

    Or-ing a fair random bit halves the distance to 1, and-ing one that to 0: digit by digit the frequency comes out.
    """
    for n in range(rows.shape[0]):
        row = rows[n]
        row[:] = 0
        for digit in range(digits.shape[1]):
            start = uint64(seed) + (uint64(n) * uint64(digits.shape[1]) + uint64(digit)) * uint64(len(row))
            either = uint64(0) - uint64(digits[n, digit])
            for w in range(uint64(len(row))):
                z = (start + w) * uint64(0x9E3779B97F4A7C15)  # SplitMix64
                z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
                z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
                z ^= z >> uint64(31)
                row[w] = (row[w] & z) | (either & (row[w] | z))


def digits_of(frequency: np.ndarray) -> np.ndarray:
    """uint8 `(neuron, DIGITS + 1)`, the last digit first; a frequency of 1 is all ones, to a 16-millionth."""
    whole = np.minimum(np.round(frequency * (1 << DIGITS)), (1 << DIGITS) - 1).astype(np.int64)
    return ((whole[:, None] >> np.arange(DIGITS)) & 1).astype(np.uint8)


def read_corpus(sequences: int) -> Corpus:
    """Text of this Python in so many sequences, by the demo's tokenizer."""
    texts = chain(documents("held"), documents("train") if sequences * POSITIONS > TOKENS else ())
    numbered = (Document(text, label, 0, i) for i, (text, label) in enumerate(texts))
    return pack_documents(numbered, Checkpoint(MODEL).encoder(), positions=POSITIONS, tokens=sequences * POSITIONS)


def make_run(path: Path, model: Path, corpus: Corpus, size: Size, frequencies: list[np.ndarray], times: float) -> float:
    """A complete run of drawn bits, `times` as dense as the frequencies. Returns the share of bits that are set."""
    checkpoint = Checkpoint(model)
    known = Vocabulary.of(Checkpoint(MODEL))
    texts = [known[i] or f"word{i}".encode() for i in range(REAL)]  # the others are padding, as OPT's
    store = Store.create(
        path,
        {
            "model": {"id": str(model), "revision": None, "config": checkpoint.config},
            "checkpoint": checkpoint.fingerprint(),
            "batch_sequences": 1,
            "dtype": "fp32",
        },
        corpus,
        layers=list(range(size.layers)),
        neurons=size.neurons,
        sequences_per_block=size.block_sequences,
        vocabulary=Vocabulary.from_bytes([*texts, *[b""] * (checkpoint.config["vocab_size"] - REAL)]).arrays(),
    )
    store, rng, seed, on = Store.open(path, write=True), np.random.default_rng(0), 0, 0
    for layer in store.layers:
        of_layer = frequencies[layer * len(frequencies) // size.layers]
        digits = digits_of(np.minimum(1.0, times * rng.choice(of_layer, size.neurons)))
        for block in store.blocks:
            rows = np.empty((size.neurons, block.tokens // 64), np.uint64)
            draw_bits(digits, seed, rows)
            seed += rows.size * DIGITS
            on += int(np.bitwise_count(rows).sum())
            store.commit(block, layer, rows.view(np.uint8))
    return on / (size.raw_bytes * 8)


def measure(path: Path, size: Size, density: float, steps: Iterable[str]) -> tuple[dict[str, Any], float]:
    """Figures of steps on a run, and the highest peak of memory in GB."""
    bits = size.raw_bytes * 8
    store = Store.open(path)
    disk = sum(store.stored_bytes(f"layers/{layer:02d}/active") for layer in store.layers)
    print(
        f"{size.layers} layers × {size.neurons:,} neurons × {store.n_tokens:,} tokens, {density:.2%} of bits set, "
        f"{disk / 1e9:.2f} GB on disk"
    )
    found: dict[str, dict[str, Any]] = {}
    figures: dict[str, Any] = {"density": density, "disk_GB": disk / 1e9}
    for step in steps:
        if step == WHOLE:
            withdraw(Store.open(path, write=True), PARTS)
        one = found[step] = in_process(SCRIPT, str(path), *STEPS[step])
        print(
            f"  {step:<14} {one['wall_s']:7.1f} s wall {one['cpu_s']:7.1f} s CPU  "
            f"{bits / one['wall_s'] / 1e9:6.2f}e9 neuron·tokens/s  "
            f"peak {one['peak_GB']:.2f} GB ({one['own_GB']:.2f} its own)",
            flush=True,
        )
        figures[step] = {
            "neuron_tokens_per_s": float(f"{bits / one['wall_s']:.4g}"),
            **{name: round(one[name], 3) for name in ("wall_s", "cpu_s", "peak_GB", "own_GB")},
            "cpu_s_by_span": {name: round(seconds, 3) for name, seconds in one["spans"].items()},
        }
    if found.keys() > set(ONE_BY_ONE):
        for clock, name in (("wall_s", "wall"), ("cpu_s", "CPU")):
            total = sum(found[step][clock] for step in ONE_BY_ONE)
            shares = {step: found[step][clock] / total for step in ONE_BY_ONE}
            figures[f"shares_of_{name}"] = {step: round(share, 3) for step, share in shares.items()}
            print(f"  shares of {name} time: " + ", ".join(f"{step} {share:.1%}" for step, share in shares.items()))
        for step in (*ONE_BY_ONE, "updates --all"):
            say_spans(step, found[step], found["read"]["cpu_s"])
    return figures, max(one["peak_GB"] for one in found.values())


def say_spans(step: str, found: dict[str, Any], reading: float) -> None:
    """Print where a step's CPU time goes. Reading is done by threads of zarr: what it takes alone stands for it."""
    spans = dict(found["spans"])
    if not step.startswith("updates"):
        spans["bits read (as measured alone)"] = reading
    spans["all else"] = found["cpu_s"] - sum(spans.values())
    print(f"  {step}, {found['cpu_s']:.1f} s of CPU time:")
    for name, seconds in sorted(spans.items(), key=lambda item: -item[1]):
        if seconds > 0.005 * found["cpu_s"]:
            print(f"    {seconds / found['cpu_s']:6.1%} {seconds:7.2f} s  {name}")


def main() -> int:
    """Measure; 0 if the bounds hold."""
    parser = make_parser(__doc__, "2 layers of 1,024 neurons and 131,072 tokens, under a minute")
    parser.add_argument("--run", type=Path, help="a demo run that is there, to draw frequencies from")
    asked = parser.parse_args()
    size = SMALL if asked.quick else FULL
    figures: dict[str, Any] = {"layers": size.layers, "neurons": size.neurons, "tokens": size.sequences * POSITIONS}
    bounds = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        need, free = 1.1 * size.raw_bytes + 1e9, shutil.disk_usage(folder).free
        if free < need:
            raise SystemExit(f"{folder} has {free / 1e9:.1f} GB free, {need / 1e9:.1f} are needed; set TMPDIR")
        frequencies = frequencies_of(demo_bits(asked.run, folder, 1 << 15 if asked.quick else TOKENS))
        corpus = read_corpus(size.sequences)
        compile_all(folder / "tiny", corpus, frequencies)
        model = random_opt(folder / "model", size.shape)
        for times in (1, 2):
            start, path = time.perf_counter(), folder / f"{times}.zarr"
            density = make_run(path, model, corpus, size, frequencies, times)
            print(f"made in {time.perf_counter() - start:.0f} s: ", end="", flush=True)
            figures[f"density_{times}x"], peak = measure(
                path, size, density, [WHOLE] if asked.quick and times > 1 else STEPS
            )
            bounds[f"peak_GB_density_{times}x"] = at_most(peak, BOUND_GB)
            shutil.rmtree(path)
    return finish("analyze", figures, bounds)


def frequencies_of(store: Store) -> list[np.ndarray]:
    """How often each neuron of a run is active, by layer: float64 `(neuron,)`."""
    return [
        np.concatenate([np.bitwise_count(store.rows(layer, part)).sum(1) for part in store.neuron_chunks()])
        / store.n_tokens
        for layer in store.layers
    ]


def compile_all(folder: Path, corpus: Corpus, frequencies: list[np.ndarray]) -> None:
    """Every step once on a small run, so that what numba compiles is in its cache."""
    model = random_opt(folder / "model", TINY.shape)
    some = Corpus.from_tokens(corpus.tokens[: TINY.sequences])
    make_run(folder / "run.zarr", model, some, TINY, frequencies, 1)
    in_process(SCRIPT, str(folder / "run.zarr"), *STEPS[WHOLE])


if __name__ == "__main__":
    sys.exit(main())
