"""locks: who may write a run. They end with the process that holds them, however it ends: none is ever stale.

A run's lock is on its log, a file beside it. Whoever writes a whole run holds it alone. Those who collect shards hold
it together, each alone with the log of its shard. A run that is elsewhere has its log, and lock, on each machine that
writes it: these do not exclude each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from neurolens import InUseError, NeurolensError, UsageError
from neurolens.location import Where, beside
from neurolens.shards import PATTERN, WHOLE, Shard

GRACE = 5.0  # seconds


def log_path(run: Where, shard: Shard = WHOLE) -> Path:
    """The log beside a run, or of a shard of it, which also carries its lock."""
    path = beside(run)
    return path.with_name(f"{path.name}{shard.suffix}.log")


@contextlib.contextmanager
def lock(path: Where, shard: Shard = WHOLE, *, wait: bool = False, grace: float = GRACE) -> Iterator[None]:
    """Hold the run at `path`, which need not exist yet, or a shard of it, for writing.

    `wait` for others to end; a shard waits `grace` seconds in any case, as one of them makes the run alone. Else raises
    InUseError if it is in use, UsageError while a run is collected in another number of shards, whose blocks differ.
    """
    with contextlib.ExitStack() as held:
        whole = held.enter_context(_opened(log_path(path)))
        kind = fcntl.LOCK_EX if shard.whole else fcntl.LOCK_SH
        until = time.monotonic() + (0 if shard.whole else grace)
        while not _held(whole, kind, wait):
            if time.monotonic() >= until:
                raise InUseError(f"{path} is in use by another process; wait for it to end")
            time.sleep(0.05)
        if not shard.whole:
            own = held.enter_context(_opened(log_path(path, shard)))
            if not _held(own, fcntl.LOCK_EX, wait):
                raise InUseError(f"shard {shard} of {path} is in use by another process; wait for it to end")
            for other, log in _shards(path):
                if other.of != shard.of and _is_written(log):
                    raise UsageError(f"{path} is being collected in {other.of} shards; give --shard I/{other.of}")
        yield


@contextlib.contextmanager
def still(path: Where) -> Iterator[None]:
    """Keep others from writing the run at `path` while it is read; several may read. Nothing is written for it.

    Raises InUseError if the run is being written.
    """
    with contextlib.ExitStack() as held:
        for log in (log_path(path), *(log for _, log in _shards(path))):
            try:
                file = held.enter_context(log.open("rb"))
            except OSError:  # no log beside it, as beside a copy, or not ours to read: nobody to wait for
                continue
            if not _held(file, fcntl.LOCK_SH, wait=False):
                raise InUseError(f"{path} is being written by another process; wait for it to end")
        yield


def join_logs(path: Where) -> None:
    """Append the logs of shards to the run's, and remove them; whoever does it holds the whole run."""
    for _, log in _shards(path):
        with log_path(path).open("ab") as whole:
            whole.write(log.read_bytes())
        log.unlink()


def _shards(run: Where) -> Iterator[tuple[Shard, Path]]:
    """Shards of a run that have a log."""
    path = beside(run)
    for log in sorted(path.parent.glob(f"{glob.escape(path.name)}{PATTERN}.log")):
        if shard := Shard.of_suffix(log.name.removeprefix(path.name).removesuffix(".log")):
            yield shard, log


def _is_written(log: Path) -> bool:
    """Whether somebody writes the shard that a log is of."""
    try:
        with log.open("rb") as file:
            return not _held(file, fcntl.LOCK_SH, wait=False)
    except OSError:
        return False


@contextlib.contextmanager
def _opened(log: Path) -> Iterator[IO[str]]:
    try:
        file = log.open("a", encoding="utf-8")
    except OSError as error:
        raise NeurolensError(f"cannot write {log}: {error.strerror}; choose another output") from error
    with file:
        yield file


def _held(file: IO, kind: int, wait: bool) -> bool:
    """Lock a file until it is closed; False if another process has it, and that is not waited for."""
    try:
        fcntl.flock(file, kind | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
