"""collect: what it costs beside a plain forward, where its time goes, and that its memory does not grow with the text.

Overhead at the shape of OPT-125m (random weights, full-length sequences of 2,048 tokens): collect's loop, from token
ids to bits on the disk, against HF's `model.model.decoder` (no logits) and against the whole `OPTForCausalLM`, on the
same batches, interleaved. Loading weights and making the empty run are left out of every side. The bits are compared
with those of HF's forward. Wall time means something only on a machine with nothing else to do.

Memory on the embedded model: the peak of a process that collects 2 blocks, and of one that collects 16. Once as it
is, and once with an allocator that gives back at once what was freed: there only what collect holds can grow.

`--quick`: 2 of 12 layers, a third of the vocabulary, 5 rounds; memory in blocks a sixteenth as large, and only with
the allocator that gives back, since what glibc keeps outweighs all else there. The bounds are the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from _common import at_most, below, finish, interleaved, quick_asked, ratios, timed
from transformers import OPTForCausalLM

from neurolens import collect as collect_module
from neurolens import committer, loop, place
from neurolens.bits import transpose
from neurolens.checkpoint import Checkpoint
from neurolens.corpus import Corpus, context_order
from neurolens.decoder import Decoder
from neurolens.demo.demonstrate import MODEL
from neurolens.loop import run_windows
from neurolens.planner import BATCH_TOKENS, BLOCK_TOKENS
from neurolens.spool import MemorySpool
from neurolens.store import Store
from neurolens.testing import random_opt

POSITIONS, VOCABULARY = 2048, 50272
PEAK = "--peak"  # how this script calls itself for a process of its own


class Overhead:
    """Models, corpus and run of the comparison."""

    def __init__(self, folder: Path, *, layers: int | None, sequences: int, vocabulary: int) -> None:
        model = random_opt(folder / "model", "125m", layers=layers, vocab_size=vocabulary)
        self.decoder = Decoder.load(Checkpoint(model))
        self.hf: Any = OPTForCausalLM.from_pretrained(model, attn_implementation="sdpa").eval()
        self.layers, self.neurons = self.hf.config.num_hidden_layers, self.hf.config.ffn_dim
        tokens = np.random.default_rng(0).integers(4, vocabulary, (sequences, POSITIONS), dtype=np.int32)
        tokens[:, 0] = 2
        self.corpus = Corpus.from_tokens(tokens)
        self.batch = BATCH_TOKENS // POSITIONS
        self._folder, self._made = folder, 0
        self.new_run()

    def new_run(self) -> None:
        """An empty run to collect into: one block of the whole corpus."""
        self._made += 1
        path = self._folder / f"{self._made}.zarr"
        spec = {"model": {}, "batch_sequences": self.batch, "dtype": "fp32"}
        layers, sequences = list(range(self.layers)), len(self.corpus.tokens)
        Store.create(path, spec, self.corpus, layers=layers, neurons=self.neurons, sequences_per_block=sequences)
        self.store = Store.open(path, write=True)
        self.spool = contextlib.nullcontext(MemorySpool(self.decoder.device))

    def collect(self) -> None:
        """Ours: collect's own loop."""
        run_windows(self.decoder, self.store, self.corpus, len(self.store.blocks), lambda *_: self.spool)

    def forward(self, module: Any) -> None:
        """Theirs: a module of HF's on the same batches."""
        with torch.inference_mode():
            for first in range(0, len(self.corpus.tokens), self.batch):
                module(torch.from_numpy(self.corpus.tokens[first : first + self.batch]).long(), use_cache=False)

    def flipped_bits(self) -> int:
        """Bits of the run that differ from those of HF's forward."""
        seen: list[list[np.ndarray]] = [[] for _ in range(self.layers)]
        handles = [
            layer.activation_fn.register_forward_hook(
                lambda module, args, output, number=number: seen[number].append((output > 0).numpy())
            )
            for number, layer in enumerate(self.hf.model.decoder.layers)
        ]
        self.forward(self.hf.model.decoder)
        for handle in handles:
            handle.remove()
        order, flips = self.store.read("order"), 0
        for number in range(self.layers):
            bits = np.unpackbits(self.store.read(f"layers/{number:02d}/active"), axis=1, bitorder="little")
            flips += int((bits[:, : len(order)] != np.concatenate(seen[number]).T[:, order]).sum())
        return flips


class Spans:
    """Process CPU time by name. A span inside another one counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open, self._last = ["loop: copies, NaN check, progress"], time.process_time()

    def _charge(self) -> None:
        now = time.process_time()
        self.seconds[self._open[-1]] += now - self._last
        self._last = now

    def enter(self, name: str) -> None:
        """From now on time counts for `name`, until `leave`."""
        self._charge()
        self._open.append(name)

    def leave(self) -> None:
        """From now on time counts for what was counted before `enter`."""
        self._charge()
        self._open.pop()

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """A function that does what `call` does and counts for `name`."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.enter(name)
            try:
                return call(*args, **kwargs)
            finally:
                self.leave()

        return counted


@contextlib.contextmanager
def spans_of(decoder: Any) -> Iterator[Spans]:
    """Count where collect's CPU time goes while inside. Commits run in the main thread there, to be told apart."""

    class Inline(committer.Committer):
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def put(self, *commit: Any) -> None:
            self._commit(committer._Commit(*commit))

    spans = Spans()
    caller, read = Decoder._caller, Store.read
    wrapped = [
        (loop, "Committer", Inline),
        (committer, "transpose", spans.around("context order", transpose)),
        (
            Store,
            "read",
            lambda self, *what: (spans.around("context order", read) if what[0] == "order" else read)(self, *what),
        ),
        (Store, "write_bits", spans.around("compression and writing", Store.write_bits)),
        (Store, "mark", spans.around("compression and writing", Store.mark)),
        (place, "sync", spans.around("fsync", place.sync)),
        (Decoder, "embed", spans.around("forward", Decoder.embed)),
        (Decoder, "_caller", lambda self, layer: spans.around("forward", caller(self, layer))),
    ]
    handles = []
    for layer in decoder._layers:  # the hook of collect comes between these two
        handles.append(
            layer.activation_fn.register_forward_hook(lambda *_: spans.enter("hook: output > 0, packed along neurons"))
        )
        handles.append(layer.fc2.register_forward_pre_hook(lambda *_: spans.leave()))
    with contextlib.ExitStack() as stack:
        for owner, name, value in wrapped:
            stack.enter_context(patch.object(owner, name, value))
        yield spans
        spans._charge()
    for handle in handles:
        handle.remove()


def overhead(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and bounds of time."""
    with tempfile.TemporaryDirectory() as folder:
        shape: dict[str, Any] = {"layers": None, "sequences": 4, "vocabulary": VOCABULARY}
        if quick:
            shape = {"layers": 2, "sequences": 2, "vocabulary": 16384}
        case = Overhead(Path(folder), **shape)
        tokens, decoder = case.corpus.tokens.size, case.hf.model.decoder
        methods = {
            "collect": case.collect,
            "bare decoder": lambda: case.forward(decoder),
            "with logits": lambda: case.forward(case.hf),
        }
        print(f"125m shape, {case.layers} layers, {tokens:,} tokens a round, batches of {case.batch * POSITIONS:,}")
        interleaved(methods, 1)  # compiles, and warms every cache
        flips = case.flipped_bits()
        print(f"bits that differ from HF's forward: {flips}", flush=True)
        times = interleaved(methods, 5 if quick else 9, case.new_run)  # single rounds differ by 10%
        for name, values in times.items():
            cpu, wall = np.median(values, axis=0)
            print(f"  {name:<14} {1e6 * cpu / tokens:8.0f} µs CPU, {1e6 * wall / tokens:8.0f} µs wall a token (median)")
        cpu_bare, wall_bare = ratios(times, "collect", "bare decoder")
        cpu_full, wall_full = ratios(times, "collect", "with logits")
        case.new_run()
        with spans_of(case.decoder) as spans:
            case.collect()
        spans.seconds["context order"] += timed(lambda: context_order(case.corpus.tokens))[0]  # sorted beforehand
        total = sum(spans.seconds.values())
        print(f"where collect's CPU time goes ({1e6 * total / tokens:.0f} µs a token):", flush=True)
        for name, seconds in sorted(spans.seconds.items(), key=lambda item: -item[1]):
            print(f"  {seconds / total:7.2%}  {1e6 * seconds / tokens:8.2f} µs a token  {name}")
        block = context_order_speed(case.neurons, 3 if quick else 5)
        per_token = total / tokens
        share = spans.seconds["context order"] / total
        large = case.layers * case.neurons / 8 / block["transpose_MB_per_s"] / 1e6 / per_token
        print(
            f"context order of a block of 262,144 tokens: {block['transpose_MB_per_s']:.0f} MB/s "
            f"(rows gathered and no more: {block['gather_MB_per_s']:.0f}), {large:.2%} of collect's CPU time"
        )
    figures = {
        "layers": case.layers,
        "tokens_per_round": tokens,
        **{
            f"cpu_us_per_token_{name.replace(' ', '_')}": float(1e6 * np.median(v[:, 0]) / tokens)
            for name, v in times.items()
        },
        **{
            f"wall_us_per_token_{name.replace(' ', '_')}": float(1e6 * np.median(v[:, 1]) / tokens)
            for name, v in times.items()
        },
        "cpu_shares": {name: round(seconds / total, 5) for name, seconds in spans.seconds.items()},
        **block,
    }
    bounds = {
        "cpu_over_bare_decoder": at_most(cpu_bare, 1.08),
        "wall_over_bare_decoder": at_most(wall_bare, 1.08),
        "cpu_over_full_forward": below(cpu_full, 1.0),
        "wall_over_full_forward": below(wall_full, 1.0),
        "context_order_share_of_cpu": at_most(max(share, large), 0.05),
        "flipped_bits": at_most(flips, 0),
    }
    return figures, bounds


def context_order_speed(neurons: int, rounds: int) -> dict[str, float]:
    """MB/s of `bits.transpose` at the default block, beside numpy's gather of the same rows."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (BLOCK_TOKENS, neurons // 8), dtype=np.uint8)
    order = rng.permutation(BLOCK_TOKENS)
    times = interleaved({"transpose": lambda: transpose(rows, order), "gather": lambda: rows[order]}, rounds)
    return {f"{name}_MB_per_s": float(rows.nbytes / 1e6 / np.median(values[:, 0])) for name, values in times.items()}


def memory(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and bounds of memory."""
    figures, bounds = {}, {}
    # glibc keeps what was freed, some 60 MB of it in the end, at 20–40% less CPU time than when it has to give it back
    cases = {"freed_at_once": (4096 if quick else 8192, {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)})}
    if not quick:
        cases["as_it_is"] = (1 << 16, {})
    for case, (block, settings) in cases.items():
        print(f"embedded model, blocks of {block:,} tokens, memory {case.replace('_', ' ')}: peak of a process")
        for blocks in (2, 16):
            peak = figures[f"peak_MB_{blocks}_blocks_{case}"] = peak_in_process(blocks * block, block, settings)
            tokens = blocks * block
            print(f"  {tokens:>9,} tokens: {peak:7.1f} MB (token ids {tokens * 4 / 1e6:.1f} MB of it)", flush=True)
        growth = figures[f"peak_MB_16_blocks_{case}"] / figures[f"peak_MB_2_blocks_{case}"]
        bounds[f"peak_memory_8x_over_1x_{case}"] = at_most(growth, 1.05)
    return figures, bounds


def peak_in_process(tokens: int, block: int, settings: dict[str, str]) -> float:
    """Peak resident memory, in MB, of a process with these environment variables that collects so many tokens."""
    command = [sys.executable, __file__, PEAK, str(tokens), str(block)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | settings)
    return float(json.loads(done.stdout.splitlines()[-1]))


def collect_and_print_peak(tokens: int, block: int) -> None:
    """What that process does."""
    rng = np.random.default_rng(0)
    vocabulary = Checkpoint(MODEL).config["vocab_size"]
    ids = rng.integers(4, vocabulary, (tokens // 256, 256), dtype=np.int32)
    ids[:, 0] = 2
    with tempfile.TemporaryDirectory() as folder:
        store: Any = collect_module.collect(MODEL, Corpus.from_tokens(ids), Path(folder) / "r.zarr", block_tokens=block)
        assert store.progress().all() and len(store.blocks) == tokens // block
    # not ru_maxrss: that of a process begins with its parent's, which it was copied from
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps(int(peak.split()[1]) * 1024 / 1e6))


def main() -> int:
    """Measure; 0 if all bounds hold."""
    if sys.argv[1:2] == [PEAK]:
        collect_and_print_peak(*map(int, sys.argv[2:]))
        return 0
    quick = quick_asked(__doc__, "2 layers, fewer rounds and smaller blocks, under a minute")
    figures, bounds = overhead(quick)
    more_figures, more_bounds = memory(quick)
    return finish("collect", figures | more_figures, bounds | more_bounds)


if __name__ == "__main__":
    sys.exit(main())
