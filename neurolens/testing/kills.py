"""Work that is killed at random moments and given again, until it is done: does it end as if it had been left alone?

For anyone who writes what a stop must not harm. The work is a function that is given a folder and goes on from what
is in it. It runs in children forked from this process, in which all that is slow (imports, compiled code) has been
done, so that a start takes a few milliseconds and hundreds of kills a few minutes. A kill is SIGKILL: no handler and
no `finally` runs, and what was not in a file is lost. (What was in one is not: for power that fails see fsync.)

    >>> report = kill_at_random(work, folder, kills=20, rng=random.Random(0))
    >>> report.kills, report.differing, report.left, report.failed
    (20, [], [], [])

Forking asks for a process without threads: one that another thread holds a lock of would wait for it for ever. Where
work leaves threads behind, as zarr's do, end them before.
"""

from __future__ import annotations

import os
import pickle
import random
import select
import shutil
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

LIMIT = 120.0  # seconds after which work that nobody kills has hung
THREADS_END = 5.0  # seconds in which threads end that were told to
ENOUGH = 5  # failures after which nothing more is tried
PATIENCE = 8  # kills of one piece of work after which it gets more time: this machine may have less than it had
Work = Callable[[Path], object]


@dataclass(frozen=True)
class Ended:
    """How a child ended: killed, with an error, or with a value."""

    seconds: float
    killed: bool = False
    value: Any = None
    error: str = ""


@dataclass
class Report:
    """What became of work that was killed.

    seconds    that it takes when it is left alone
    kills      children that SIGKILL ended
    seen       what `look` said after each of them
    runs       times that it was killed until it was done
    differing  files of what it made that are not those of work that was left alone
    left       files and folders that such work does not leave
    failed     errors where it could not go on
    """

    seconds: float
    kills: int = 0
    seen: list[Any] = field(default_factory=list)
    runs: int = 0
    differing: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def kill_at_random(
    work: Work,
    folder: Path,
    *,
    kills: int,
    rng: random.Random,
    ignore: str = "*.log",
    start: Callable[[Path, float | None], Ended] | None = None,
    look: Work | None = None,
) -> Report:
    """Have work done in `folder/whole`, left alone; then in other folders, one after another, killed and given again
    until it is done; after so many kills it may end (and after ENOUGH failures).

    Moments are drawn evenly from the time that it takes when it is left alone. `ignore`: names of files that may
    differ. `start` does the work in a folder, killed after so many seconds, by default in a forked child; `look` is
    called, in another child, with the folder of work that has just been killed. Raises RuntimeError if work that is
    left alone fails. What was done in the end is removed, unless it is not as it should be.
    """
    whole = folder / "whole"
    whole.mkdir(parents=True)
    alone = in_child(partial(work, whole))
    if alone.error:
        raise RuntimeError(f"left alone, the work fails:\n{alone.error}")
    report, longest = Report(alone.seconds), alone.seconds
    while report.kills < kills and len(report.failed) < ENOUGH:
        path = folder / f"killed-{report.runs}"
        path.mkdir()
        before = report.kills
        while True:
            hits = report.kills - before
            moment = None if report.kills >= kills else rng.uniform(0, longest * max(1.0, hits / PATIENCE))
            ended = in_child(partial(work, path), moment) if start is None else start(path, moment)
            if not ended.killed:
                longest = longest if hits or ended.error else ended.seconds  # it has not been hit at all
                break
            report.kills += 1
            if look is not None:
                seen = in_child(partial(look, path))
                report.seen.append(seen.value)
                report.failed += [seen.error] if seen.error else []
        report.runs += 1
        found = [[f"{path.name}/{name}" for name in names] for names in compare(path, whole, ignore)]
        if ended.error:
            report.failed.append(ended.error)
        else:
            report.differing += found[0]
            report.left += found[1]
        if not ended.error and not any(found):
            shutil.rmtree(path)
    return report


def in_child(work: Callable[[], object], kill_after: float | None = None, limit: float = LIMIT) -> Ended:
    """Do work in a forked child, which SIGKILL ends after so many seconds unless it has ended by then; or else, as
    hung, after `limit`. Its value must be one that can be pickled; what it writes to stderr is dropped.

    Raises RuntimeError in a process with other threads.
    """
    _require_no_threads()
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _do(work, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        in_time = select.select([said], [], [], limit if kill_after is None else kill_after)[0]
        if not in_time:
            os.kill(child, signal.SIGKILL)
        data = said.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seconds = time.monotonic() - started
    if status == 0:  # it may have ended while it was being killed
        value, error = pickle.loads(data)
        return Ended(seconds, value=value, error=error)
    if in_time or kill_after is None:
        return Ended(seconds, error=f"exit code {status} after {seconds:.1f} s")
    return Ended(seconds, killed=True)


def in_process(command: Sequence[str], kill_after: float | None = None, limit: float = LIMIT) -> Ended:
    """As `in_child`, but a command in a process that begins anew; what it says on stderr, if it fails, is the error.

    The time to the kill begins with the first that it says there: most of what comes before is imports, and the same
    every time.
    """
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        begun = kill_after is None or select.select([process.stderr], [], [], limit)[0]
        try:
            said = process.communicate(timeout=kill_after if begun and kill_after is not None else limit)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            said = process.communicate()[1]
    seconds, code = time.monotonic() - started, process.returncode
    if code == -signal.SIGKILL and kill_after is not None and begun:
        return Ended(seconds, killed=True)
    return Ended(seconds, error=f"exit code {code} after {seconds:.1f} s: {said.decode()}" if code else "")


def compare(folder: Path, whole: Path, ignore: str = "*.log") -> tuple[list[str], list[str]]:
    """(files that are missing in a folder or differ from those of `whole`, files and folders that it has besides)."""
    ours, theirs = _tree(folder, ignore), _tree(whole, ignore)
    return sorted(name for name in theirs if ours.get(name) != theirs[name]), sorted(set(ours) - set(theirs))


def _tree(folder: Path, ignore: str) -> dict[str, bytes | None]:
    """All that is in a folder, by relative path; None for a folder."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
        if not path.match(ignore)
    }


def _do(work: Callable[[], object], writing: int) -> None:
    """What a child does, and its end: nothing of its parent's is closed, flushed or called."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            said = pickle.dumps((work(), ""))
        except BaseException:
            said = pickle.dumps((None, traceback.format_exc()))
        with os.fdopen(writing, "wb") as file:
            file.write(said)
        code = 0
    finally:
        os._exit(code)


def _require_no_threads() -> None:
    """Raise RuntimeError if there are other threads, Python's or not, that do not end soon."""
    deadline = time.monotonic() + THREADS_END
    while others := _other_threads():
        if time.monotonic() > deadline:
            raise RuntimeError(f"a process with threads cannot be forked: {', '.join(others)}")
        time.sleep(0.005)


def _other_threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    tasks = Path("/proc/self/task")
    if not names and tasks.is_dir() and len(list(tasks.iterdir())) > 1:
        names.append("some that are not Python's (is OMP_NUM_THREADS 1?)")
    return names
