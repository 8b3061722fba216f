"""merge: runs in separate stores → one run. Parts of a text add their blocks; texts follow one another.

    one text     the blocks that its parts have together: the run that was never divided, byte for byte
    more texts   the run of the joined text

What is merged is bits; what is computed from them is computed again. Bits are on the disk before their mark is: the
same command continues a merge that was stopped. Of texts whose bits were dropped, what adds is merged (tally.py).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from neurolens import IncompleteError, UsageError, brief
from neurolens.keep import end_shards
from neurolens.location import Where, locate
from neurolens.locks import lock, still
from neurolens.merging.counted import check_counted
from neurolens.merging.tally import fill_counts
from neurolens.merging.together import ONE_MODEL, Say, Whole, differences, find_texts, join_texts
from neurolens.merging.weave import Weaver
from neurolens.progress import Progress
from neurolens.store import Store


def merge(runs: Iterable[str | Where], output: str | Where, *, say: Say = lambda line: None) -> Store:
    """Merge runs into one at `output`, or continue a merge that was stopped, or add parts to those that are there.

    Runs of one text are parts of one run: what comes out has the blocks that any of them has. Runs of several texts
    give the run of these texts one after another, in the order of `runs`. Results are not taken over, but where bits of
    a text were dropped: then those that add are merged, and there are no bits. The runs are only read. `say` hears what
    a user should know.

    Returns the complete Store. Raises UsageError for runs that do not go together, NeurolensError for what is damaged,
    parts of a text whose bits were dropped, or counts that are not there, and IncompleteError where blocks are missing:
    in a text that others follow, or, all that there is being merged, in the output.
    """
    output, paths = locate(output), [locate(run) for run in runs]
    _check_paths(paths, output)
    with contextlib.ExitStack() as held:
        for path in paths:
            held.enter_context(still(path))
        texts = find_texts([Store.open(path) for path in paths])
        whole = join_texts(texts, say)
        if whole.by_counts:
            check_counted(texts)
        held.enter_context(lock(output))
        if Store.is_at(output):
            _check_output(Store.open(output), whole)
        else:
            _create(output, whole)
        store = Store.open(output, write=True)
        store.clean()
        (fill_counts if whole.by_counts else _fill)(store, whole, say)
    marks = store.progress()
    if not marks.all():
        raise IncompleteError(
            f"{output} has all that these runs have, {marks.sum()} of {marks.size} blocks of layers; merge the other "
            "parts into it, or give the 'neurolens collect' command of these with it as --output: it continues"
        )
    return end_shards(output, None, say)


def _check_paths(paths: Sequence[Where], output: Where) -> None:
    seen: set[Where] = set()
    for path in paths:
        if path.resolve() == output.resolve():
            raise UsageError(f"{output} is one of the runs to merge; give another --output")
        if path.resolve() in seen:
            raise UsageError(f"{path} is given twice; name each run once")
        seen.add(path.resolve())
    if not paths or (len(paths) == 1 and not Store.is_at(output)):
        raise UsageError(f"{len(paths)} run to merge; give two or more")
    if isinstance(output, Path) and not output.parent.is_dir():
        raise UsageError(f"no folder {output.parent}; make it, or give another --output")


def _create(output: Where, whole: Whole) -> None:
    first = whole.texts[0].parts[0]
    names = ("bytes", "start")
    vocabulary = {name: first.read(f"vocabulary/{name}") for name in names} if first.has("vocabulary/start") else None
    Store.create(
        output,
        whole.spec,
        whole.corpus,
        layers=first.layers,
        neurons=first.neurons,
        sequences_per_block=int(first.attrs["block_sequences"]),
        vocabulary=vocabulary,
    )


def _check_output(there: Store, whole: Whole) -> None:
    """Raise UsageError, with the differences, unless the run that is there is what would be made."""
    found = differences(there, whole.texts[0].parts[0], (*ONE_MODEL, "block_sequences"))
    for name, default in (("keep_bitmaps", "all"), ("merged", "")):
        if (ours := there.attrs.get(name, default)) != (theirs := whole.spec.get(name, default)):
            found.append(f"{name} is {brief(ours or 'bits')} and {brief(theirs or 'bits')}")
    if there.attrs.get("corpus_fingerprint") != whole.corpus.fingerprint():
        found.append("its text is not theirs")
    if found:
        raise UsageError(
            f"{there.path} is another run than these make: {', '.join(found)}; give another --output, or the runs that "
            "it was made of, in their order"
        )


def _fill(store: Store, whole: Whole, say: Say) -> None:
    """Put every block of a layer that has no mark, and that the runs have, into the output."""
    due, raw = ~store.progress(), store.neurons / 8
    if not due.any():
        say(f"{store.path} is complete; nothing to do")
        return
    left = raw * sum(block.tokens * int(due[:, block.index].sum()) for block in store.blocks)
    total = raw * store.n_tokens * len(store.layers)
    copied = woven = 0
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        Progress("merge", total, "B", done=total - left) as progress,
    ):
        for block in store.blocks:
            weaver = Weaver(store, block, whole, pool.map)
            for row in np.flatnonzero(due[:, block.index]).tolist():
                started, choices = time.monotonic(), weaver.choices(row)
                if all(choices):
                    as_it_is = weaver.put(store.layers[row], choices)
                    store.mark(block, store.layers[row])
                    copied, woven = copied + as_it_is, woven + (not as_it_is)
                    seconds = time.monotonic() - started
                    store.log(event="merge", block=block.index, layer=store.layers[row], seconds=seconds)
                progress.update(block.tokens * raw)
    say(f"{store.path}: {copied} blocks of layers taken over as they are, {woven} put together from others")
