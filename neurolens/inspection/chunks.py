"""Chunks: all are read, which checks their checksums; bits are counted on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np

from neurolens import NeurolensError, first_line
from neurolens.inspection.findings import Findings
from neurolens.progress import Progress


def check_chunks(seen: Findings) -> None:
    """Read every chunk, which checks its crc32c; count bits on the way."""
    jobs = list(_jobs(seen))
    failed: dict[tuple[str, int | None], list[tuple[str, str]]] = {}
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        Progress("verify", len(jobs), "chunks") as progress,
    ):
        for job, (error, counts) in zip(jobs, pool.map(lambda job: _read(seen, *job), jobs), strict=True):
            name, key, part, block = job
            progress.update()
            if error:
                failed.setdefault((name, block), []).append(("/".join(map(str, key)), error))
            elif counts is not None:
                if name not in seen.active:
                    seen.active[name] = np.zeros(seen.store.neurons, np.int64)
                seen.active[name][part[0]] += counts
    for (name, block), errors in failed.items():
        undo = seen.remedy(name)
        if name == "progress":
            undo = ("block", block)
        elif undo[:1] == ("layer",) and undo[1] not in seen.thinned:
            undo = ("bits", undo[1], block)
        path, found = f"{name}/c/{errors[0][0]}", errors[0][1]
        more = f" (and {len(errors) - 1} chunks more)" if len(errors) > 1 else ""
        seen.unsound.add(name)
        seen.damage(path, found + more, "a chunk as it was written", undo)
    read = len(jobs) - sum(map(len, failed.values()))
    seen.holds(f"chunks: all {read:,} read, their checksums hold", len(seen.damages) - len(failed))


def _jobs(seen: Findings) -> Iterator[tuple[str, tuple[int, ...], tuple[slice, ...], int | None]]:
    """(path, chunk, what of the array it holds, its block) of chunks that must be there."""
    for name in seen.expected:
        if not seen.sound(name):
            continue
        shape, chunk, counts = seen.grid(name)
        active = name.endswith("/active")
        for key in product(*map(range, counts)):
            if active and not seen.row_done(int(name.split("/")[1]), key[1]):
                continue  # it is done again
            part = tuple(
                slice(i * step, min((i + 1) * step, size)) for i, size, step in zip(key, shape, chunk, strict=True)
            )
            yield name, key, part, key[1] if active or name == "progress" else None


def _read(
    seen: Findings, name: str, key: tuple[int, ...], part: tuple[slice, ...], block: int | None
) -> tuple[str, np.ndarray | None]:
    """(what is wrong with a chunk, "" for nothing; of bits the activations int64 `(neuron,)`)."""
    if not seen.store.has_chunk(name, key):
        return "missing", None
    try:
        values = seen.store.read(name, part)
    except NeurolensError as error:
        return first_line(error.__cause__ or error), None
    if not name.endswith("/active"):
        return "", None
    rest = seen.store.n_tokens % 64
    if rest and block == len(seen.store.blocks) - 1:
        last = np.ascontiguousarray(values[:, -8:]).view("<u8")
        if (last >> np.uint64(rest)).any():
            return "bits beyond the last token that are 1", None
    return "", np.bitwise_count(values).sum(1, dtype=np.int64)
