"""stream: weights that are read when they are due, beside accelerate's disk offload and beside resident ones; memory
and disk that a run takes, beside what its plan said.

`--only` chooses among these parts:

a  Streamed `collect` against `accelerate.disk_offload` of HF's `OPTModel`, without logits, at the shape of OPT-1.3b:
   random weights, fp16 on the disk, computed in fp32 by both; the same 16 sequences, one a batch, of 32, 128 and 512
   tokens. accelerate reads the same safetensors (left to itself it would first write an fp32 copy, twice as large);
   hooks pack its bits as ours are, which stay in memory. Before each, the page cache gives the checkpoint up. Bytes are
   counted where readers hand tensors out, as stored. The wall time of ours is that of a whole call of `collect`: rates
   measured, embeddings loaded, the run made, all bits on the disk. That of accelerate is of its forwards and no more.
   The plan's time is that of a dry run just before, which finds nothing in the page cache either.
b  Streamed over resident weights where both fit and there are enough tokens: whole calls of `collect`, loading
   included, interleaved, weights in the page cache (from a disk, resident weights would be waited for longer). Shape of
   OPT-1.3b, 6 layers, 8,192 tokens. Median of the rounds' ratios.
c  All layers of the shape of OPT-13b in fp32, from 26 GB of fp16 on the disk. One layer's random weights stand in every
   layer. Memory is what is the process's own, anonymous and shared, seen from outside.
d  The same for OPT-66b from sparse files: all weights and so all bits are 0, and no disk is used.
e  Bitmaps dropped once they are counted, hidden states on the disk: what run, spool and waiting counts take of the
   disk, looked at ten times a second, at the shape of OPT-125m in bf16 over 1,048,576 tokens.

On a GPU, where there is one, a and b again, memory of the GPU beside its plan, and how far copying and computing
overlap. Needs the dependency group `bench`, and 28 GB of disk where temporary files are (TMPDIR) for c.

`--quick`: smaller shapes, fewer layers and tokens; the bounds are the same.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from _checkpoints import repeat_layer, sparse_checkpoint, stored_bytes
from _collect import collect_counted, zipf_corpus
from _common import at_least, at_most, finish, in_process, interleaved, make_parser, memory, ratios

from neurolens.bits import pack_positive
from neurolens.checkpoint import Checkpoint
from neurolens.collect import collect
from neurolens.corpus import Corpus
from neurolens.decoder import DTYPES, Decoder, default_dtype
from neurolens.plan import Plan
from neurolens.store import Store
from neurolens.testing import random_opt

SCRIPT = Path(__file__).with_name("_collect.py")
Found = tuple[dict[str, Any], dict[str, dict[str, Any]]]  # figures and bounds
DISK = 28e9  # free bytes that part c needs
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def forget(folder: Path) -> None:
    """Have the page cache give up the files in a folder, which are not in use."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())  # what is still to be written would stay
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Four digits of each."""
    return {name: float(f"{value:.4g}") for name, value in values.items()}


def synchronize(device: str) -> None:
    """Wait for what a GPU still does."""
    if device == "cuda":
        torch.cuda.synchronize()


# -- a: beside accelerate ----------------------------------------------------------------------------------------------


class Offloaded:
    """HF's model, every weight of it offloaded to the checkpoint's own files by accelerate."""

    def __init__(self, model: Path, folder: Path, device: str, dtype: torch.dtype) -> None:
        """`folder`: for accelerate's index."""
        import accelerate  # pyright: ignore[reportMissingImports]
        from transformers import OPTConfig, OPTModel

        config = OPTConfig.from_pretrained(model)
        config._attn_implementation = "sdpa"
        with torch.device("meta"):
            module: Any = OPTModel(config)
        module.to(dtype).eval()
        index = {}
        for name, (file, stored) in Checkpoint(model)._file_of.items():
            index[name] = {"safetensors_file": str(file), "weight_name": stored, "dtype": str(dtype)[6:]}
        folder.mkdir()
        (folder / "index.json").write_text(json.dumps(index))
        accelerate.disk_offload(module, folder, execution_device=torch.device(device))
        self.decoder, self._device = module.decoder, device
        self.rows: list[list[np.ndarray]] = [[] for _ in module.decoder.layers]
        for rows, layer in zip(self.rows, module.decoder.layers, strict=True):
            layer.activation_fn.register_forward_hook(
                lambda module, args, output, rows=rows: rows.append(pack_positive(output.reshape(-1, output.shape[-1])))
            )
        self.read: Counter[str] = Counter()

    @torch.inference_mode()
    def forward(self, tokens: np.ndarray) -> None:
        """All sequences, one by one; packed rows of bits are appended to `rows`, bytes of weights counted in `read`."""
        with patch("accelerate.utils.offload.safe_open", self._open):
            for ids in tokens:
                self.decoder(torch.from_numpy(ids[None]).long().to(self._device), use_cache=False)
        synchronize(self._device)

    @contextlib.contextmanager
    def _open(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        from safetensors import safe_open

        def get_tensor(name: str) -> torch.Tensor:
            tensor = file.get_tensor(name)
            self.read[name] += tensor.nbytes
            return tensor

        with safe_open(*args, **kwargs) as file:
            yield SimpleNamespace(get_tensor=get_tensor)


def flipped_bits(path: Path, rows: list[list[np.ndarray]]) -> int:
    """Bits of a run that differ from packed rows by layer."""
    store, flips = Store.open(path), 0
    order = store.read("order")
    for layer, packed in zip(store.layers, rows, strict=True):
        bits = np.unpackbits(store.read(f"layers/{layer:02d}/active"), axis=1, bitorder="little")[:, : len(order)]
        theirs = np.unpackbits(np.concatenate(packed), axis=1, bitorder="little")[:, : store.neurons]
        flips += int((bits != theirs.T[:, order]).sum())
    return flips


def beside_accelerate(folder: Path, device: str, quick: bool) -> Found:
    """Part a on a device."""
    lengths, sequences = ((32, 128), 4) if quick else ((32, 128, 512), 16)
    shape: dict[str, Any] = {"shape": "125m", "layers": 3, "vocab_size": 8192} if quick else {"shape": "1.3b"}
    model = random_opt(folder / "model", dtype="float16", **shape)
    config = Checkpoint(model).config
    dtype = default_dtype(config, device)
    layers, elsewhere = stored_bytes(model)
    figures: dict[str, Any] = {f"a_{device}_layers": config["num_hidden_layers"]}
    figures |= {f"a_{device}_batches": sequences, f"a_{device}_weights_GB": (layers + elsewhere) / 1e9}
    bounds: dict[str, Any] = {}
    print(f"a: {shape['shape']} shape on {device} in {dtype}, {(layers + elsewhere) / 1e9:.2f} GB of weights as stored")
    options: dict[str, Any] = {"weights": "streamed", "spool": "memory", "device": device}
    collect(model, zipf_corpus(1, 64, 512), folder / "first.zarr", layers=[0], **options)  # compiled code is loaded
    for length in lengths:
        corpus, path = zipf_corpus(sequences, length, config["vocab_size"]), folder / f"{length}.zarr"
        forget(model)
        plan: Any = collect(model, corpus, path, batch_tokens=length, dry_run=True, **options)
        forget(model)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        ours = collect_counted(model, corpus, path, batch_tokens=length, **options)
        key = f"a_{device}_{length}"
        bounds |= device_memory(key, ours.plan, device)
        theirs = Offloaded(model, folder / f"offload-{length}", device, DTYPES[dtype])
        forget(model)
        started = time.perf_counter()
        theirs.forward(corpus.tokens)
        seconds = time.perf_counter() - started
        whole, read = ours.seconds["all"], ours.read["layers"] + ours.read["elsewhere"]
        found = {
            "ours_s": whole,
            "ours_loop_s": ours.seconds["loop"],
            "ours_probe_s": ours.seconds["probe"],
            "theirs_s": seconds,
            "theirs_over_ours_wall": seconds / whole,
            "planned_s": plan.seconds,
            "planned_over_measured_wall": plan.seconds / whole,
            "planned_over_loop_wall": plan.seconds / ours.seconds["loop"],
            "rates": rounded(vars(plan.rates)),
            "ours_read_GB": read / 1e9,
            "ours_read_with_probe_GB": ours.read.total() / 1e9,
            "planned_read_GB": plan.weight_bytes / 1e9,
            "theirs_read_GB": theirs.read.total() / 1e9,
        }
        figures |= {f"{key}_{name}": value for name, value in found.items()}
        bounds[f"{key}_ours_layers_read_times"] = at_most(ours.read["layers"] / layers, 1.0)
        bounds[f"{key}_ours_elsewhere_read_times"] = at_most(ours.read["elsewhere"] / elsewhere, 1.0)
        bounds[f"{key}_theirs_read_times"] = at_least(theirs.read.total() / (layers + elsewhere), sequences)
        bounds[f"{key}_flipped_bits"] = at_most(flipped_bits(path, theirs.rows), 0)
        print(
            f"  {length:>4} tokens a batch: {read / 1e9:6.2f} GB read in {whole:6.1f} s ({plan.seconds:.1f} planned, "
            f"{found['ours_probe_s']:.1f} to measure rates); accelerate {found['theirs_read_GB']:6.2f} GB in "
            f"{seconds:6.1f} s, {seconds / whole:.2f}×",
            flush=True,
        )
    return figures, bounds


def device_memory(key: str, plan: Plan | None, device: str) -> dict[str, Any]:
    """The bound on a GPU's memory, none without one."""
    if device != "cuda" or plan is None:
        return {}
    return {f"{key}_gpu_GB": at_most(torch.cuda.max_memory_allocated() / 1e9, plan.device_bytes / 1e9)}


# -- b: beside resident weights ----------------------------------------------------------------------------------------


def beside_resident(folder: Path, device: str, quick: bool) -> Found:
    """Part b on a device."""
    shape: dict[str, Any] = {"shape": "1.3b", "layers": 6}
    if quick:
        shape = {"shape": "125m", "layers": 2, "vocab_size": 8192}
    model = random_opt(folder / "model", dtype="float16", **shape)
    corpus = zipf_corpus(4, 512 if quick else 2048, Checkpoint(model).config["vocab_size"])
    runs: list[Path] = []

    def call(weights: str) -> None:
        runs.append(folder / f"{len(runs)}.zarr")
        collect(model, corpus, runs[-1], weights=weights, spool="memory", device=device)

    methods = {weights: lambda weights=weights: call(weights) for weights in ("streamed", "resident")}
    interleaved(methods, 1)  # the page cache is filled, compiled code loaded
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    taken = collect_counted(model, corpus, folder / "counted.zarr", weights="streamed", spool="memory", device=device)
    figures: dict[str, Any] = {f"b_{device}_tokens": corpus.tokens.size}
    bounds = device_memory(f"b_{device}", taken.plan, device)
    times = interleaved(methods, 3 if quick else 5, lambda: [shutil.rmtree(run, ignore_errors=True) for run in runs])
    cpu, wall = ratios(times, "streamed", "resident")
    for weights, values in times.items():
        figures[f"b_{device}_{weights}_s"] = float(np.median(values[:, 1]))
    if device == "cuda":
        figures |= {f"b_{device}_{name}": value for name, value in overlap(model, corpus, device).items()}
    print(f"b: {shape['shape']} shape, {shape['layers']} layers on {device}, {corpus.tokens.size:,} tokens: ", end="")
    print(f"streamed over resident weights {cpu:.3f} in CPU time, {wall:.3f} in wall time", flush=True)
    figures[f"b_{device}_streamed_over_resident_cpu"] = cpu
    bounds[f"b_{device}_streamed_over_resident_wall"] = at_most(wall, 1.10)
    return figures, bounds


def overlap(model: Path, corpus: Corpus, device: str) -> dict[str, float]:
    """Seconds of copying layers, of computing them and of both together, and how much of the shorter of the two the
    other one hides: 1 is all of it."""
    checkpoint = Checkpoint(model)
    dtype, count = default_dtype(checkpoint.config, device), int(checkpoint.config["num_hidden_layers"])
    seconds: dict[str, float] = {}
    for name, streamed, batches in (("copy", True, 0), ("compute", False, 1), ("both", True, 1)):
        decoder = Decoder.load(checkpoint, dtype=dtype, device=device, streamed=streamed)
        for _ in range(2):  # the second one counts
            hidden = [decoder.embed(torch.from_numpy(corpus.tokens).long())] * batches
            synchronize(device)
            started = time.perf_counter()
            with closing(decoder.layers(count)) as layers:
                for _, layer in layers:
                    hidden = [layer(each)[0] for each in hidden]
            synchronize(device)
            seconds[f"{name}_s"] = time.perf_counter() - started
        del decoder
    hidden_s = seconds["copy_s"] + seconds["compute_s"] - seconds["both_s"]
    return seconds | {"overlap": hidden_s / min(seconds["copy_s"], seconds["compute_s"])}


# -- c, d: memory ------------------------------------------------------------------------------------------------------


def large_model(part: str, model: Path, folder: Path, sequences: int, positions: int, most: float | None) -> Found:
    """Parts c and d: figures and bounds of a process that collects with streamed weights; `most`: GB."""
    layers = Checkpoint(model).config["num_hidden_layers"]
    forget(model)
    options = {"weights": "streamed", "spool": "memory", "keep_bitmaps": "all"}
    found = in_process(
        SCRIPT,
        *(str(model), str(folder / "run.zarr"), str(sequences), str(positions), json.dumps(options)),
        seen=lambda process: {"own_GB": memory(process, "RssAnon", "RssShmem")},
    )
    progress, plan = Store.open(folder / "run.zarr").progress(), found["plan"]
    assert progress.all() and len(progress) == layers, "the run is not complete"
    stored, planned = sum(stored_bytes(model)) / 1e9, (plan["process_bytes"] + plan["memory_bytes"]) / 1e9
    figures = {
        "layers": layers,
        "tokens": sequences * positions,
        "weights_GB": stored,
        "own_GB": found["own_GB"],
        "own_when_planned_GB": found["own"]["planned"] / 1e9,
        "own_with_embeddings_GB": found["own"]["loaded"] / 1e9,
        "with_mapped_files_GB": found["peak_GB"],
        "planned_GB": rounded(
            {name: size / 1e9 for name, size in {"process": plan["process_bytes"], **plan["memory_parts"]}.items()}
        ),
        "read_GB": (found["read"]["layers"] + found["read"]["elsewhere"]) / 1e9,
        **{f"{name}_s": seconds for name, seconds in found["seconds"].items()},
        "planned_s": plan["seconds"],
        "rates": rounded(plan["rates"]),
    }
    print(
        f"{part}: {layers} layers, {stored:.2f} GB of weights as stored, {sequences * positions:,} tokens in "
        f"{found['seconds']['all']:.0f} s ({plan['seconds']:.0f} planned): {found['own_GB']:.2f} GB of its own "
        f"({planned:.2f} planned), {found['peak_GB']:.2f} with files that are mapped",
        flush=True,
    )
    bounds = {f"{part}_memory_GB_within_plan": at_most(found["own_GB"], planned)}
    if most is not None:
        bounds[f"{part}_memory_GB"] = at_most(found["own_GB"], most)
    return {f"{part}_{name}": value for name, value in figures.items()}, bounds


# -- e: disk -----------------------------------------------------------------------------------------------------------


def disk_bytes(path: Path) -> int:
    """Bytes of the disk that a folder takes, while others make and remove files in it."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(f"{folder}/{name}").st_blocks * 512
    return total


def bits_dropped(folder: Path, quick: bool) -> Found:
    """Part e."""
    shape: dict[str, Any] = {"layers": 2, "vocab_size": 8192} if quick else {}
    model = random_opt(folder / "model", "125m", dtype="float16", **shape)
    tokens, positions, output = (1 << 13 if quick else 1 << 20), (128 if quick else 2048), folder / "run.zarr"
    options = {"weights": "streamed", "spool": str(folder), "keep_bitmaps": "none", "dtype": "bf16"}
    if quick:
        options |= {"block_tokens": tokens // 4}
    places = {"run": output, "spool": folder / "run.zarr.spool", "scans": folder / "run.zarr.scans"}

    def seen(process: int) -> dict[str, float]:
        sizes = {name: disk_bytes(path) / 1e9 for name, path in places.items()}
        return {**sizes, "together": sum(sizes.values()), "own": memory(process, "RssAnon", "RssShmem")}

    arguments = (str(model), str(output), str(tokens // positions), str(positions), json.dumps(options))
    found = in_process(SCRIPT, *arguments, seen=seen, every=0.1)
    plan = found["plan"]
    planned = {name: plan[f"{name}_bytes"] / 1e9 for name in ("bits", "spool", "result")}
    figures = {
        "tokens": tokens,
        "blocks": plan["blocks"],
        **{f"most_GB_{name}": found[name] for name in (*places, "together")},
        **{f"planned_GB_{name}": size for name, size in planned.items()},
        "left_GB_run": disk_bytes(output) / 1e9,
        "raw_bits_GB": plan["raw_bytes"] / 1e9,
        "own_GB": found["own"],
        "planned_own_GB": (plan["process_bytes"] + plan["memory_bytes"]) / 1e9,
        **{f"{name}_s": seconds for name, seconds in found["seconds"].items()},
        "planned_s": plan["seconds"],
        "rates": rounded(plan["rates"]),
    }
    print(
        f"e: {tokens:,} tokens in {found['seconds']['all']:.0f} s ({plan['seconds']:.0f} planned): run "
        f"{found['run']:.3f} GB at its most, spool {found['spool']:.3f}, counts that wait {found['scans']:.3f}, "
        f"together {found['together']:.3f} ({sum(planned.values()):.3f} planned); all bits "
        f"{plan['raw_bytes'] / 1e9:.3f} GB raw",
        flush=True,
    )
    bounds = {
        "e_disk_GB_within_plan": at_most(found["together"], sum(planned.values())),
        "e_memory_GB_within_plan": at_most(found["own"], figures["planned_own_GB"]),
    }
    return {f"e_{name}": value for name, value in figures.items()}, bounds


def run_part(part: str, quick: bool) -> Iterator[Found]:
    """Figures and bounds of a part, by device where it has several."""
    for device in DEVICES if part in "ab" else ["cpu"]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if part == "a":
                yield beside_accelerate(folder, device, quick)
            elif part == "b":
                yield beside_resident(folder, device, quick)
            elif part == "c":
                model = repeat_layer(folder / "model", "1.3b" if quick else "13b", 2 if quick else 40)
                yield large_model(part, model, folder, 1, 128 if quick else 512, 6.0)
            elif part == "d":
                model = sparse_checkpoint(folder / "model", "2.7b" if quick else "66b", 3 if quick else None)
                yield large_model(part, model, folder, 1, 64, None)
            else:
                yield bits_dropped(folder, quick)


def main() -> int:
    """Measure; 0 if all bounds hold."""
    parser = make_parser(__doc__, "smaller shapes, fewer layers and tokens, under a minute")
    parser.add_argument("--only", default="a,b,c,d,e", help="parts, by commas")
    given = parser.parse_args()
    parts = given.only.split(",")
    if unknown := sorted(set(parts) - set("abcde")):
        parser.error(f"--only {given.only}: no part {unknown[0]!r}; expected some of a,b,c,d,e")
    if "a" in parts and importlib.util.find_spec("accelerate") is None:
        raise SystemExit("part a needs accelerate: pip install -c constraints.txt --group bench")
    if "c" in parts and not given.quick and shutil.disk_usage(tempfile.gettempdir()).free < DISK:
        raise SystemExit(f"part c needs {DISK / 1e9:.0f} GB of disk for temporary files; set TMPDIR")
    figures: dict[str, Any] = {"quick": given.quick}
    bounds: dict[str, Any] = {}
    for part in parts:
        for more_figures, more_bounds in run_part(part, given.quick):
            figures |= more_figures
            bounds |= more_bounds
    return finish("stream", figures, bounds)


if __name__ == "__main__":
    sys.exit(main())
