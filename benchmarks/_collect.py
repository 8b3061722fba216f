"""What a process of stream.py does: `_collect.py MODEL OUTPUT SEQUENCES POSITIONS OPTIONS`.

It collects and says what that took; OPTIONS: of `collect`, a JSON object. `collect_counted` is what stream.py itself
calls, too.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from _checkpoints import LAYERS
from _common import memory

from neurolens import collect as collect_module
from neurolens.budget import own_memory
from neurolens.checkpoint import Checkpoint
from neurolens.corpus import EOS, Corpus
from neurolens.decoder import Decoder
from neurolens.plan import Plan
from neurolens.testing.rules import SPECIAL


def zipf_corpus(sequences: int, positions: int, vocabulary: int) -> Corpus:
    """Tokens as often as words are, the r-th one 1 / r: n-grams come again."""
    chance = 1 / np.arange(1, vocabulary - SPECIAL + 1)
    ids = np.random.default_rng(0).choice(
        np.arange(SPECIAL, vocabulary, dtype=np.int32), (sequences, positions), p=chance / chance.sum()
    )
    ids[:, 0] = EOS
    return Corpus.from_tokens(ids)


@dataclass
class Taken:
    """What a call of collect took.

    plan     the one it made
    seconds  in `all`, in the `probe` and in the `loop`
    read     bytes of weights as stored, counted where they are handed out: `layers` and `elsewhere` of the run itself,
             `probe` what was read to measure rates
    own      bytes of memory that were the process's own when it was `planned` and when weights were `loaded`
    """

    plan: Plan | None = None
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    read: Counter[str] = field(default_factory=Counter)
    own: dict[str, int] = field(default_factory=dict)


def collect_counted(model: Path, corpus: Corpus, output: Path, **options: Any) -> Taken:
    """Collect, and count what it takes."""
    taken, probing = Taken(), False
    tensors, load = Checkpoint.tensors, Decoder.load

    def counted_tensors(checkpoint: Checkpoint, names: list[str]) -> Iterator[tuple[str, Any]]:
        for name, tensor in tensors(checkpoint, names):
            kind = "probe" if probing else "layers" if name.startswith(LAYERS) else "elsewhere"
            taken.read[kind] += tensor.nbytes
            yield name, tensor

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any, **kwargs: Any) -> Any:
            nonlocal probing
            probing, started = name == "probe", time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                taken.seconds[name] += time.perf_counter() - started
                probing = False

        return count

    def noted_plan(*args: Any, **kwargs: Any) -> Plan:
        taken.plan = make_plan(*args, **kwargs)
        taken.own["planned"] = own_memory()
        return taken.plan

    def noted_load(*args: Any, **kwargs: Any) -> Decoder:
        decoder = load(*args, **kwargs)
        taken.own["loaded"] = own_memory()
        return decoder

    make_plan = collect_module.make_plan
    with contextlib.ExitStack() as stack:
        for owner, name, value in (
            (Checkpoint, "tensors", counted_tensors),
            (collect_module, "make_plan", noted_plan),
            (collect_module, "measure_rates", timed("probe", collect_module.measure_rates)),
            (collect_module, "run_windows", timed("loop", collect_module.run_windows)),
            (Decoder, "load", noted_load),
        ):
            stack.enter_context(patch.object(owner, name, value))
        timed("all", collect_module.collect)(model, corpus, output, **options)
    return taken


def main(model: Path, output: Path, sequences: int, positions: int, options: dict[str, Any]) -> None:
    """Collect, and print what it took."""
    corpus = zipf_corpus(sequences, positions, Checkpoint(model).config["vocab_size"])
    taken = collect_counted(model, corpus, output, **options)
    assert taken.plan is not None
    plan, peak = taken.plan.facts(), memory("self", "VmHWM")
    print(
        json.dumps({"plan": plan, **{name: vars(taken)[name] for name in ("seconds", "read", "own")}, "peak_GB": peak})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), json.loads(sys.argv[5]))
