"""What benchmarks share: interleaved timing, bounds, and the JSON object that ends their output."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from neurolens.store import Store

# a script's folder comes first where modules are looked for: tabulate.py would hide a package that torch asks for
sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]

Times = dict[str, np.ndarray]


def make_parser(description: str | None, quick: str) -> argparse.ArgumentParser:
    """A parser of the command line that knows `--quick`, which means `quick`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


def quick_asked(description: str | None, quick: str) -> bool:
    """Parse a command line without other options: whether `--quick`, which means `quick`, is given."""
    return make_parser(description, quick).parse_args().quick


def demo_bits(path: Path | None, folder: Path, tokens: int) -> Store:
    """The complete run at `path`; without one, the embedded model on so much held-out text, collected into `folder`."""
    from neurolens.collect import collect
    from neurolens.demo.demonstrate import MODEL, demo_corpus
    from neurolens.store import Store

    if path is None:
        path = folder / "demo.zarr"
        collect(MODEL, demo_corpus(MODEL, tokens), path)
    store = Store.open(path)
    store.require_complete()
    return store


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of a call: (CPU of this process, all its threads; wall)."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def interleaved(
    methods: Mapping[str, Callable[[], object]], rounds: int, prepare: Callable[[], object] = lambda: None
) -> Times:
    """Time every method once a round, each round beginning with another one; `prepare` is called before a round.

    Returns for each method float64 `(round, 2)`: CPU and wall seconds.
    """
    names = list(methods)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(rounds):
        prepare()
        for i in range(len(names)):
            name = names[(turn + i) % len(names)]
            times[name].append(timed(methods[name]))
    return {name: np.array(values) for name, values in times.items()}


def ratios(times: Times, ours: str, theirs: str) -> tuple[float, float]:
    """Median over the rounds of ours / theirs: (CPU, wall). Neighbours in time are compared: load drifts."""
    cpu, wall = np.median(times[ours] / times[theirs], axis=0)
    return float(cpu), float(wall)


def in_process(
    script: Path,
    *args: str,
    seen: Callable[[int], Mapping[str, float]] = lambda process: {"own_GB": memory(process, "RssAnon")},
    every: float = 0.02,
) -> dict[str, Any]:
    """Run a Python script: the JSON object of its last line, and each figure that `seen` gives of the process when at
    its most, looked at `every` so many seconds; by default `own_GB`, its anonymous memory.

    Raises SystemExit if it fails.
    """
    with subprocess.Popen([sys.executable, str(script), *args], stdout=subprocess.PIPE) as process:
        most: dict[str, float] = {}
        while process.poll() is None:
            most |= {name: max(value, most.get(name, 0.0)) for name, value in seen(process.pid).items()}
            time.sleep(every)
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{script.name} {' '.join(args)} failed")
    return {**json.loads(said.splitlines()[-1]), **most}


def memory(process: int | str, *fields: str) -> float:
    """A size, or several together, in what the kernel says of a process, in GB; 0 when it has ended. Its highest peak
    is `VmHWM`; that of `ru_maxrss` begins with its parent's, which it was copied from."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith(fields))


def at_most(value: float, bound: float) -> dict[str, Any]:
    """A bound that holds while `value` does not exceed it."""
    return {"value": _rounded(value), "bound": bound, "holds": bool(value <= bound)}


def below(value: float, bound: float) -> dict[str, Any]:
    """A bound that `value` has to stay below."""
    return {"value": _rounded(value), "bound": bound, "holds": bool(value < bound)}


def at_least(value: float, bound: float) -> dict[str, Any]:
    """A bound that holds while `value` reaches it."""
    return {"value": _rounded(value), "bound": bound, "holds": bool(value >= bound)}


def finish(name: str, figures: Mapping[str, Any], bounds: Mapping[str, dict[str, Any]]) -> int:
    """Print the bounds, then one JSON object as the last line. Returns the exit code: 0 if all bounds hold."""
    for key, bound in bounds.items():
        print(f"{'holds' if bound['holds'] else 'FAILS'}  {key}: {bound['value']} (bound {bound['bound']})")
    holds = all(bound["holds"] for bound in bounds.values())
    rounded = {key: _rounded(value) for key, value in figures.items()}
    rounded |= {"load_average": os.getloadavg()[0], "cores": os.cpu_count()}
    print(json.dumps({"benchmark": name, "figures": rounded, "bounds": bounds, "holds": holds}), flush=True)
    return 0 if holds else 1


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
