"""planner: of all ways to do a run, the fastest that fits memory and disk; the cut into batches and blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from neurolens import NeurolensError, UsageError
from neurolens.corpus import block_sequences
from neurolens.decoder import WEIGHTS, Shape
from neurolens.plan import SPOOLS, Plan, Rates, describe_alternative
from neurolens.schema import KEEP
from neurolens.shards import WHOLE, Shard
from neurolens.store import Store

BATCH_TOKENS = 4096  # enough for matrix products to run at full speed; larger only costs memory
LEAST_BATCH = 512  # smaller ones are slow; only where one sequence is shorter than that
BLOCK_TOKENS = 1 << 18  # context order compresses the better the larger the block (design: 0.20 against 0.28 bits)
FASTER, NOTICED = 1.05, 1.0  # a plan must be faster by so much, and so many seconds, than one that is to be preferred
KEPT_SHARE = 0.5  # of the free disk that raw bits may take to be kept unless asked (design)


@dataclass(frozen=True)
class Budget:
    """Bytes that a run may take: of memory, beside what the process has taken; of the GPU's, None without one; of the
    run's disk, and of the spool's."""

    memory: float = float("inf")
    device: float | None = None
    disk: float = float("inf")
    spool: float = float("inf")


def make_plan(
    shape: Shape,
    corpus: tuple[int, int],
    *,
    layers: Iterable[int] | None = None,
    dtype: str = "fp32",
    batch_tokens: int | None = None,
    block_tokens: int | None = None,
    window_tokens: int | None = None,
    weights: str | None = None,
    spool: str | None = None,
    keep: str | None = None,
    budget: Budget | None = None,
    base: int = 0,
    unmapped: int = 0,
    rates: Callable[[int], Rates] | None = None,
    existing: Store | None = None,
    shard: Shard = WHOLE,
) -> Plan:
    """The plan of a run over a corpus of shape (S, T): of those that fit, the one that is done first.

    `layers` defaults to all. `batch_tokens` and `block_tokens` default to those of an `existing` run, else to
    BATCH_TOKENS and BLOCK_TOKENS, or the largest that fit. `weights`, `spool` and `keep` (WEIGHTS, SPOOLS, KEEP) are
    chosen where they are None, `keep` from what the disk has. `window_tokens`: rather than as many as fit. `base`: what
    the process has taken; `unmapped`, `shard`: see Plan. `rates` measures, for batches of so many sequences; without it
    the order of preference is weights resident, streamed, states on a disk. Raises UsageError for layers that the model
    does not have, a shard without blocks, and choices that are none; NeurolensError, with the least that would do, if
    nothing fits.
    """
    budget = budget or Budget()
    chosen = sorted(set(range(shape.layers) if layers is None else layers))
    if not chosen or chosen[0] < 0 or chosen[-1] >= shape.layers:
        raise UsageError(
            f"--layers {','.join(map(str, chosen)) or 'none'}: the model has layers 0 to {shape.layers - 1}"
        )
    for what, value, names in (("weights", weights, WEIGHTS), ("spool", spool, SPOOLS), ("bitmaps", keep, KEEP)):
        if value is not None and value not in names:
            raise UsageError(f"unknown {what} {value!r}; expected {' or '.join(names)}")
    width, gpu = 4 if dtype == "fp32" else 2, budget.device is not None
    rough = Plan(shape, corpus, chosen, 1, 1, width, gpu=gpu, base=base, unmapped=unmapped, shard=shard)
    if keep is None:
        keep = "all" if rough.raw_bytes <= KEPT_SHARE * budget.disk else "none"
        if existing is not None:
            keep = str(existing.attrs["keep_bitmaps"])
    rough = replace(rough, keep=keep)
    measured: dict[int, Rates] = {}
    least: Plan | None = None
    for batch, block in _cuts(corpus[1], batch_tokens, block_tokens, existing):
        if rates is not None and batch not in measured:
            measured[batch] = rates(batch)
        cut = replace(rough, batch_sequences=batch, block_sequences=block, rates=measured.get(batch))
        if not cut.own_blocks:
            raise UsageError(
                f"--shard {shard}: the run has {cut.blocks} blocks of {cut.block_tokens:,} tokens; expected at most "
                "as many shards, or smaller --block-tokens"
            )
        plans = list(_ways(cut, budget, weights, spool, window_tokens))
        fitting = [plan for plan in plans if not _excess(plan, budget)]
        if fitting:
            enough = FASTER * min(plan.seconds for plan in fitting) + NOTICED
            best = next((plan for plan in fitting if plan.seconds <= enough), fitting[0])
            return replace(best, not_chosen=tuple(_others(best, plans, budget)))
        least = min(filter(None, [least, *plans]), key=lambda plan: _needs(plan, budget))
    assert least is not None  # there is at least one cut, and one way to do it
    total = base + least.memory_bytes
    gpu = f" and {least.device_bytes / 1e9:.2f} GB of GPU memory" if least.gpu else ""
    raise NeurolensError(
        f"this does not fit: {_excess(least, budget)}; the least that would do is {total / 1e9:.2f} GB of memory{gpu} "
        f"({least.name()}, batches of {least.batch_sequences * corpus[1]:,} tokens in blocks of "
        f"{least.block_tokens:,}, {least.keep} bitmaps kept): raise --memory, or lower --batch-tokens, --block-tokens "
        "or --dtype"
    )


def _cuts(
    positions: int, batch_tokens: int | None, block_tokens: int | None, existing: Store | None
) -> Iterator[tuple[int, int]]:
    """(sequences of a batch, of a block), those to be preferred first."""
    batches = [max(1, (batch_tokens or BATCH_TOKENS) // positions)]
    while batch_tokens is None and batches[-1] > 1 and batches[-1] // 2 * positions >= LEAST_BATCH:
        batches.append(batches[-1] // 2)
    if batch_tokens is None and existing is not None:
        batches = [int(existing.attrs["batch_sequences"])]
    tokens = [block_tokens or BLOCK_TOKENS]
    while block_tokens is None and tokens[-1] > min(batches) * positions:
        tokens.append(tokens[-1] // 2)
    seen = set()
    for size in tokens:
        for batch in batches:
            block = block_sequences(size, positions, batch)
            if block_tokens is None and existing is not None:
                block = int(existing.attrs["block_sequences"])
            if (batch, block) not in seen:
                seen.add((batch, block))
                yield batch, block


def _ways(
    cut: Plan, budget: Budget, weights: str | None, spool: str | None, window_tokens: int | None
) -> Iterator[Plan]:
    """Every way to do a run that is cut like this, in the order of preference, whether it fits or not."""
    if window_tokens is not None and spool is None:
        spool = "memory"  # a disk holds all states at once
    for kind in WEIGHTS if weights is None else [weights]:
        for place in SPOOLS if spool is None else [spool]:
            if place == "disk" and kind == "resident" and not cut.drops and spool is None:
                continue  # a block at a time in memory is as good
            for there in [True, False] if cut.gpu and place == "memory" else [False]:
                plan = replace(cut, weights=kind, spool=place, hidden_there=there, window_blocks=cut.own_blocks)
                if place == "memory" and not cut.drops:
                    plan = _windowed(plan, budget, window_tokens)
                yield replace(plan, cached=_stored(plan) <= budget.memory - plan.memory_bytes)


def _windowed(plan: Plan, budget: Budget, window_tokens: int | None) -> Plan:
    """With as many blocks a window as memory holds, alike for all windows; resident weights gain nothing by it."""
    one = replace(plan, window_blocks=1)
    if window_tokens is not None:
        return replace(plan, window_blocks=max(1, window_tokens // one.block_tokens))
    if plan.weights == "resident":
        return one
    there, taken = budget.memory, one.memory_bytes
    if plan.hidden_there and budget.device is not None:
        there, taken = budget.device, one.device_bytes
    most = 1 + max(0, int(min((there - taken) / max(1, one.hidden_bytes), plan.own_blocks)))
    windows = -(-plan.own_blocks // most)
    return replace(plan, window_blocks=-(-plan.own_blocks // windows))


def _stored(plan: Plan) -> int:
    return plan.shape.layers * plan.shape.parameters_per_layer * plan.shape.bytes_per_stored_value


def _excess(plan: Plan, budget: Budget) -> str:
    """In what a plan does not fit; "" if it does. Bits that are kept on request are not held against the disk: how far
    they compress is not known."""
    disk = 0 if plan.keep == "all" else plan.bits_bytes + plan.result_bytes
    for wanted, there, what in (
        (plan.memory_bytes, budget.memory, "memory"),
        (plan.device_bytes, float("inf") if budget.device is None else budget.device, "GPU memory"),
        (disk, budget.disk, "disk for a layer's bits and results"),
        (plan.spool_bytes, budget.spool, "disk for hidden states"),
    ):
        if wanted > there:
            base = plan.base if what == "memory" else 0
            return f"it takes {(base + wanted) / 1e9:.2f} GB of {what}, {(base + there) / 1e9:.2f} GB are there"
    return ""


def _needs(plan: Plan, budget: Budget) -> float:
    """By how much a plan is too large, relative to what is there: the least of these would do first."""
    device = plan.device_bytes / budget.device if budget.device else 0.0
    return max(plan.memory_bytes / max(1.0, budget.memory), device, plan.spool_bytes / max(1.0, budget.spool))


def _others(best: Plan, plans: list[Plan], budget: Budget) -> Iterator[str]:
    """A line for each other way, and why it was not taken."""

    def way(plan: Plan) -> tuple[Any, ...]:
        return plan.weights, plan.spool, plan.hidden_there

    for plan in plans:
        if way(plan) != way(best):
            yield describe_alternative(plan, _excess(plan, budget))
