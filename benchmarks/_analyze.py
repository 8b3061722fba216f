"""What a process of analyze.py does: `_analyze.py RUN PARTS EVERY` analyses a run and says what it took.

PARTS by commas, none to read the bits and no more; EVERY `all` or nothing. What the parts do not need is not imported:
it would count as memory of theirs.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from _common import memory

from neurolens import analyze, counts, kernels, lanes, scan, scanner, updates
from neurolens.analyze import analyze_run
from neurolens.store import Store


class Spans:
    """CPU seconds by name. A span inside another one of its thread counts for itself alone."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: of a thread where several call, else of the process, whose calls have threads of their own."""
        self.seconds: dict[str, float] = defaultdict(float)
        self._clock, self._inner, self._lock = clock, threading.local(), threading.Lock()

    def counted(self, call: Any, name: str | Callable[..., str]) -> Any:
        """What does as `call` does and counts for `name`, which may depend on its arguments."""

        def count(*args: Any, **kwargs: Any) -> Any:
            outer, self._inner.seconds = getattr(self._inner, "seconds", 0.0), 0.0
            start = self._clock()
            try:
                return call(*args, **kwargs)
            finally:
                whole = self._clock() - start
                with self._lock:
                    self.seconds[name(*args) if callable(name) else name] += whole - self._inner.seconds
                self._inner.seconds = outer + whole

        return count

    def around(self, owner: Any, attribute: str, name: str | Callable[..., str]) -> None:
        """From now on count calls of `owner.attribute`."""
        setattr(owner, attribute, self.counted(getattr(owner, attribute), name))


class Counted:
    """A module whose functions are counted by their names, whatever they are; compiled code calls them uncounted."""

    def __init__(self, module: ModuleType, spans: Spans, *, but: Collection[str] = ()) -> None:
        self._module, self._spans, self._but = module, spans, but

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        if not callable(value) or name in self._but:
            return value
        return self._spans.counted(value, f"{self._module.__name__.rpartition('.')[2]}.{name}")


def spans_of(parts: list[str]) -> Spans:
    """Count where CPU time goes, in this process, from now on."""
    spans = Spans(time.process_time if parts == ["updates"] else time.thread_time)
    for caller in (counts, scan):
        for module in (kernels, lanes):
            name = module.__name__.rpartition(".")[2]
            if hasattr(caller, name):
                setattr(caller, name, Counted(module, spans, but={"scatter"}))  # counted by variable
    spans.around(Store, "write", "results written")
    spans.around(scanner, "index_tokens", "tokens and n-grams numbered")
    spans.around(scan, "tabulate", lambda rows, variable: f"counts by {variable.name}")
    spans.around(scan, "judge", "detectors judged")
    spans.around(scan, "_count_grams", "tables of n-grams")
    spans.around(scan, "measure_positions", "information of positions")
    spans.around(scan, "describe_positional", "positional neurons")
    spans.around(scan, "measure_design", "design effects")
    spans.around(analyze, "measure_spread", "intervals of activity")
    spans.around(analyze, "contrast_labels", "contrasts")
    spans.around(updates, "_list_detectors", "control tokens chosen")
    if "updates" in parts:
        from neurolens.projection import Unembedding

        spans.around(Unembedding, "project", "projections of neurons")
        spans.around(Unembedding, "products", "projections of the null's neurons")
    return spans


def read_bits(path: Path) -> None:
    """All of them, as analyze does, and no more."""
    store = Store.open(path)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for layer in store.layers:
            for _ in pool.map(lambda neurons: len(store.rows(layer, neurons)), store.neuron_chunks()):  # noqa: B023
                pass


def main(path: Path, parts: list[str], *, every: bool) -> None:
    """Do it, and print what it took."""
    kernels.count_bits(np.zeros((1, 1), np.uint64), np.arange(1))  # numba begins
    spans = spans_of(parts)
    cpu, wall = time.process_time(), time.perf_counter()
    if parts:
        analyze_run(path, only=parts, every=every)
    else:
        read_bits(path)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(json.dumps({"cpu_s": cpu, "wall_s": wall, "peak_GB": memory("self", "VmHWM"), "spans": spans.seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(",") if sys.argv[2] else [], every=sys.argv[3] == "all")
