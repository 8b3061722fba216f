"""committer: a thread that puts rows of bits into context order and on the disk while the next ones are computed."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neurolens.bits import transpose
from neurolens.corpus import Block
from neurolens.store import Store


class Written(Protocol):
    """Hidden states of a block that has been through a layer, as far as committing them goes."""

    def settle(self) -> None:
        """Make sure that they are on the disk, if they are meant to be; before the mark."""
        ...

    def release(self) -> None:
        """Give up those they were made of; after the mark."""
        ...


@dataclass
class _Commit:
    block: Block
    layer: int
    rows: np.ndarray | None
    written: Written


class Committer:
    """Commits a block of a layer while the next one is computed, and no more than one. A context manager.

    The order of a commit: bits, hidden states, the mark; then what they were made of may go.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: queue.SimpleQueue[_Commit | None] = queue.SimpleQueue()
        most = max(block.tokens for block in store.blocks)
        self._rows = [np.empty((most, -(-store.neurons // 8)), np.uint8) for _ in range(2)]  # one filled, one committed
        self._idle = threading.Semaphore(1)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="commit", daemon=True)

    def __enter__(self) -> Committer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._queue.put(None)  # what is queued is still committed: it is sound whatever stopped the loop
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def rows(self) -> np.ndarray:
        """Room for a layer's token-major rows of any block, uint8 `(tokens, neurons/8)`; until it is `put`."""
        return self._rows[0]

    def put(self, block: Block, layer: int, rows: np.ndarray | None, written: Written) -> None:
        """Commit what `rows` gave, filled, or None for a layer that is not recorded, once nothing else is; raises what
        went wrong with an earlier one."""
        self._idle.acquire()
        if self._error is not None:
            self._idle.release()
            raise self._error
        self._rows.reverse()
        self._queue.put(_Commit(block, layer, rows, written))

    def wait(self) -> None:
        """Wait until all that was put is committed, or not: what it needs may go."""
        with self._idle:
            pass

    def drain(self) -> None:
        """Wait until all that was put is committed; raises what went wrong with it."""
        self.wait()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (commit := self._queue.get()) is not None:
            try:
                self._commit(commit)
            except BaseException as error:
                self._error = error  # nothing is put after it: `drain` raises it
            finally:
                self._idle.release()

    def _commit(self, commit: _Commit) -> None:
        started, block, store = time.monotonic(), commit.block, self._store
        if commit.rows is not None:
            order = store.read("order", slice(block.first_token, block.first_token + block.tokens))
            active = transpose(commit.rows[: block.tokens], order - block.first_token)[: store.neurons]
            store.write_bits(block, commit.layer, active)
        commit.written.settle()
        if commit.rows is not None:
            store.mark(block, commit.layer)
            store.log(event="commit", block=block.index, layer=commit.layer, seconds=time.monotonic() - started)
        commit.written.release()
