"""read: files → documents → corpus. How fast, beside `datasets` and the bare tokenizer, and in how much memory.

The files are made here, of the Python sources of this installation, cut into documents of some kilobytes: jsonl, the
same compressed, and parquet in a single row group, the hardest to read piece by piece. `datasets` streams the same
files, as the quickest way it has to the text without a copy of all of it; its rows are compared with ours. Rates are
megabytes of text a second.

The bound on time is for making the corpus of documents in memory, with the tokenizer of the embedded model, against
that tokenizer alone on the same texts in the same batches. The bound on memory is for the peak of a process that reads
four times as much.

`--quick`: one round of reading, a quarter of the text for the corpus; memory and the bounds are the same (in files of a
few megabytes what pyarrow reads ahead still grows).
"""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from _common import at_most, finish, interleaved, quick_asked, ratios

SIZE = 100_000_000  # characters of text
FORMATS = ("jsonl", "jsonl.gz", "jsonl.zst", "parquet")
PEAK = "--peak"  # how this script calls itself for a process of its own


def texts(size: int, rng: random.Random) -> Iterator[str]:
    """Documents of 200 to 10,000 characters, `size` in all, from Python sources, again and again."""
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    rng.shuffle(files)
    for path in cycle(files):
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        place = 0
        while place < len(source):
            text = source[place : place + rng.randrange(200, 10_000)][:size]
            place += len(text)
            size -= len(text)
            yield text
            if not size:
                return


def make_files(folder: Path, size: int) -> int:
    """The same documents in every format, as `folder/t.FORMAT`. Returns the bytes of their text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    documents = list(texts(size, random.Random(0)))
    lines = "".join(json.dumps({"text": text, "meta": {"set": "code"}}) + "\n" for text in documents).encode()
    (folder / "t.jsonl").write_bytes(lines)
    (folder / "t.jsonl.gz").write_bytes(gzip.compress(lines, 1))
    (folder / "t.jsonl.zst").write_bytes(pa.compress(lines, codec="zstd", asbytes=True))
    pq.write_table(pa.table({"text": documents, "meta": [{"set": "code"}] * len(documents)}), folder / "t.parquet")
    return sum(len(text.encode()) for text in documents)


def read(path: Path) -> int:
    """Read all documents of a file, with labels; returns their characters."""
    from neurolens.documents import read_documents
    from neurolens.sources import find_sources

    return sum(len(document.text) for document in read_documents(find_sources([path]), label_key="meta.set"))


def stream(path: Path) -> int:
    """Read a file's rows with `datasets` alone; returns the characters of their text."""
    import datasets

    kind = "parquet" if path.suffix == ".parquet" else "json"
    rows: Any = datasets.load_dataset(kind, data_files=str(path), split="train", streaming=True)
    return sum(len(row["text"]) for row in rows if row["meta"]["set"])


def reading(folder: Path, size: int, rounds: int) -> dict[str, Any]:
    """Figures of reading every format, ours beside `datasets`."""
    figures: dict[str, Any] = {}
    total = make_files(folder, size)
    print(f"{total / 1e6:.0f} MB of text; MB a second of wall time (of CPU time), median of {rounds}")
    for name in FORMATS:
        path = folder / f"t.{name}"
        methods: dict[str, Callable[[], object]] = {"ours": lambda path=path: read(path)}
        if name != "jsonl.zst":  # there datasets asks for a package more
            methods["datasets"] = lambda path=path: stream(path)
        if {method() for method in methods.values()} != {size}:
            raise SystemExit(f"what was read of {path.name} differs")
        times = interleaved(methods, rounds)
        cells = []
        for method, values in times.items():
            cpu, wall = (total / 1e6 / np.median(values, axis=0)).tolist()
            figures[f"{name}_{method}_MB_per_s"] = {"cpu": round(cpu, 1), "wall": round(wall, 1)}
            cells.append(f"{method} {wall:7.1f} ({cpu:7.1f})")
        if "datasets" in times:
            over = figures[f"{name}_datasets_over_ours_wall"] = round(ratios(times, "datasets", "ours")[1], 2)
            cells.append(f"datasets takes {over:.2f}×")
        print(f"  {name:<10} {'   '.join(cells)}", flush=True)
    return figures


def corpus(size: int, rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and bounds of making a corpus."""
    from neurolens.checkpoint import Checkpoint
    from neurolens.corpus import ENCODE_CHARACTERS, pack_documents
    from neurolens.demo.demonstrate import MODEL
    from neurolens.documents import Document

    documents = [Document(text, "code", 0, i) for i, text in enumerate(texts(size, random.Random(0)))]
    batches: list[list[str]] = [[]]
    for document in documents:
        if sum(map(len, batches[-1])) >= ENCODE_CHARACTERS:
            batches.append([])
        batches[-1].append(document.text)
    encode = Checkpoint(MODEL).encoder()

    def bare() -> None:
        for batch in batches:
            encode(batch)

    times = interleaved({"corpus": lambda: pack_documents(documents, encode, positions=256), "tokenizer": bare}, rounds)
    cpu, wall = ratios(times, "corpus", "tokenizer")
    rate = {name: size / 1e6 / np.median(values[:, 1]) for name, values in times.items()}
    print(f"{size / 1e6:.0f} MB of text: corpus {rate['corpus']:.2f} MB/s, bare tokenizer {rate['tokenizer']:.2f} MB/s")
    figures = {f"{name}_MB_per_s": float(value) for name, value in rate.items()}
    bounds = {"corpus_over_tokenizer_cpu": at_most(cpu, 1.15), "corpus_over_tokenizer_wall": at_most(wall, 1.15)}
    return figures, bounds


def memory(folder: Path, size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and bounds of memory: a process that reads all of it beside one that reads a quarter."""
    figures, bounds = {}, {}
    quarter = folder / "quarter"
    quarter.mkdir()
    make_files(quarter, size // 4)
    print("peak of a process that reads a quarter of it, and all of it, in MB")
    for name in FORMATS:
        small, large = (peak_in_process(place / f"t.{name}") for place in (quarter, folder))
        figures[f"{name}_peak_MB"] = {"quarter": round(small, 1), "all": round(large, 1)}
        bounds[f"{name}_peak_memory_4x_over_1x"] = at_most(large / small, 1.10)
        print(f"  {name:<10} {small:7.1f} {large:7.1f}", flush=True)
    return figures, bounds


def peak_in_process(path: Path) -> float:
    """Peak resident memory, in MB, of a process that reads the file."""
    done = subprocess.run([sys.executable, __file__, PEAK, str(path)], stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def read_and_print_peak(path: Path) -> None:
    """What that process does."""
    assert read(path)
    # not ru_maxrss: that of a process begins with its parent's, which it was copied from
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps(int(peak.split()[1]) * 1024 / 1e6))


def main() -> int:
    """Measure; 0 if all bounds hold."""
    if sys.argv[1:2] == [PEAK]:
        read_and_print_peak(Path(sys.argv[2]))
        return 0
    quick = quick_asked(__doc__, "one round of reading, less text for the corpus, under a minute")
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures: dict[str, Any] = {"characters": SIZE, **reading(folder, SIZE, 1 if quick else 5)}
        memory_figures, memory_bounds = memory(folder, SIZE)
    corpus_figures, corpus_bounds = corpus(SIZE // (32 if quick else 8), 5)
    return finish("read", figures | memory_figures | corpus_figures, memory_bounds | corpus_bounds)


if __name__ == "__main__":
    sys.exit(main())
