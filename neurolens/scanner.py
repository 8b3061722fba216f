"""scanner: a layer's bits in a store → a Scan, on all cores; and scans in files, for layers whose bits are dropped."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from neurolens import NeurolensError, first_line, variables
from neurolens.bootstrap import Bootstrap
from neurolens.curves import PositionRules, Ranges
from neurolens.detectors import TOP, Rules
from neurolens.durable import sync, writing
from neurolens.location import Where, beside
from neurolens.positional import Positional
from neurolens.scan import SAMPLES, Scan, join_scans, scan_rows
from neurolens.store import Store
from neurolens.tokens import SEED, index_tokens

LENGTHS = 3  # of n-grams counted unless asked (paper, §4 and App. A)
ASKED = "asked"  # in a file of a scan: what was counted, by which rules, and the arrays in it


@dataclass(frozen=True)
class Asked:
    """What is asked of the parts that are counted from bits: the longest n-gram, and rules, by default the paper's."""

    lengths: int = LENGTHS
    rules: Rules = field(default_factory=Rules)
    positions: PositionRules = field(default_factory=PositionRules)
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def marks(self) -> dict[str, dict[str, Any]]:
        """By part, as it stands in the run."""
        bootstrap = asdict(self.bootstrap)
        return {
            "dead": {"samples": SAMPLES, "seed": SEED, "groups": variables.GROUPS, "bootstrap": bootstrap},
            "ngrams": {"lengths": self.lengths, "rules": asdict(self.rules), "top": TOP},
            "positions": {"rules": asdict(self.positions), "bootstrap": bootstrap},
        }


class Scanner:
    """Counts layers of a run, all by the same rules. A context manager: it holds threads."""

    def __init__(self, store: Store, parts: Collection[str], asked: Asked) -> None:
        """`parts`: those of FROM_BITS that are wanted."""
        self._store, self._rules = store, asked.rules
        self.counted = "dead" in parts
        self.lengths = asked.lengths if "ngrams" in parts else 0
        self._positions = asked.positions if "positions" in parts else None
        vocab_size = int(store.attrs["model"]["config"]["vocab_size"])
        self.tokens = index_tokens(
            store.corpus(), store.read("order"), vocab_size, most=self.lengths, bootstrap=asked.bootstrap
        )
        self.totals, self.groups, self.curves = self.tokens.totals(), self.tokens.groups, self.tokens.groups
        self._pool = ThreadPoolExecutor(os.cpu_count())

    def __enter__(self) -> Scanner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def scan(self, layer: int, progress: Callable[[int], object] = lambda neurons: None) -> Scan:
        """All that is counted of a layer; `progress` hears of neurons as they are done. Raises NeurolensError for bits
        that are damaged or not there."""
        parts = []
        for part in self._pool.map(lambda neurons: self._scan(layer, neurons), self._store.neuron_chunks()):
            parts.append(part)
            progress(len(part.contexts))
        return join_scans(parts)

    def _scan(self, layer: int, neurons: slice) -> Scan:
        rows = self._store.rows(layer, neurons)
        return scan_rows(rows, neurons.start, self.tokens, self._rules, counted=self.counted, positions=self._positions)


def scan_path(run: Where, layer: int) -> Path:
    """Where the scan of a layer waits until all layers are scanned: beside the run."""
    path = beside(run)
    return path.with_name(path.name + ".scans") / f"{layer:02d}.npz"


def has_all_bits(store: Store, layer: int) -> bool:
    """Whether no bits of a layer were dropped, as far as can be told."""
    try:
        return bool(store.kept(layer).all())
    except NeurolensError:  # whose were kept cannot be read
        if store.place.lost:  # which is no damage
            raise
        return False


def forget_layer(store: Store, layer: int) -> None:
    """Make a layer one that is collected from the beginning, its marks being taken back: no counts, all bits due."""
    scan_path(store.path, layer).unlink(missing_ok=True)
    store.restore_bits(layer)


def save_scan(path: Path, scan: Scan, asked: Asked) -> None:
    """Write a scan as arrays in a file, at once and for good: a file that is there is whole. Raises OSError."""
    arrays = {"contexts": scan.contexts}
    for kind in ("columns", "dense", "triggers"):
        arrays |= {f"{kind}/{name}": values for name, values in getattr(scan, kind).items()}
    for n, both in enumerate(scan.covered):
        arrays |= {f"covered/{n}/{i}": values for i, values in enumerate(both)}
    if scan.positional is not None:
        arrays |= {f"rows/{name}": values for name, values in scan.positional.rows.items()}
        arrays |= {f"ranges/{name}": values for name, values in vars(scan.positional.ranges).items()}
        arrays["replicates"] = scan.positional.replicates
    said = {**asked.marks(), "arrays": sorted(arrays)}  # a zip whose list is damaged lacks some
    arrays[ASKED] = np.array(json.dumps(said, sort_keys=True))
    path.parent.mkdir(exist_ok=True)
    with writing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)
    sync(path.parent.parent)  # the folder may be new


def load_scan(path: Path, asked: Asked) -> Scan:
    """A scan as it was saved. Raises NeurolensError if there is none, or it is damaged or of something else asked."""
    try:
        with zipfile.ZipFile(path) as file:  # np.load alone compares no checksum of an array that has become shorter
            arrays = {
                name.removesuffix(".npy"): np.load(io.BytesIO(file.read(name)), allow_pickle=False)
                for name in file.namelist()
            }
        found = json.loads(str(arrays.pop(ASKED)))
        if found.pop("arrays") != sorted(arrays):
            raise NeurolensError("arrays that are missing")
        if found != json.loads(json.dumps(asked.marks())):
            raise NeurolensError("made by other rules, perhaps of another version")
        tables: dict[str, dict[str, np.ndarray]] = {name: {} for name in ("columns", "dense", "triggers", "rows")}
        tables |= {"ranges": {}, "covered": {}}
        for name, values in arrays.items():
            table, _, column = name.partition("/")
            if column:
                tables[table][column] = values
        covered = [
            (tables["covered"][f"{n}/0"], tables["covered"][f"{n}/1"]) for n in range(len(tables["covered"]) // 2)
        ]
        positional = None
        if "replicates" in arrays:
            positional = Positional(tables["rows"], Ranges(**tables["ranges"]), arrays["replicates"])
        return Scan(tables["columns"], tables["dense"], arrays["contexts"], tables["triggers"], covered, positional)
    except Exception as error:  # those of zip files and of numpy are of many kinds
        raise NeurolensError(f"{path} is no sound scan of a layer ({first_line(error)})") from error
