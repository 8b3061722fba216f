"""progress: how far a piece of work is, told on stderr while it is done: how much, how fast, how long it still takes.

On a terminal a bar. Elsewhere, in the log of a batch job say, whole lines, the longer it takes the fewer:

    collect: 42%, 2.1M of 5.0M tokens, 8,230 tokens/s, 5 min 51 s left

Speed is that of the latest half of the time (`Speed`). Time left is what is left at the speed between pauses, and the
pauses that are still due, each as long as those of its kind were: until a layer is there, or counted. Nothing is told
where nothing is to be done, or with TQDM_DISABLE=1.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from itertools import islice, pairwise
from types import TracebackType
from typing import Any, TextIO, TypeVar

REDRAW = 0.1  # seconds between two states of a bar: it is read by people
SHORT = 10.0  # seconds of work below which a log gets no line: nobody has looked for one
# Seconds until the first line of a log, which says whether it goes as planned, and between two at most: a day of work
# is 300 lines. In between, the next one comes after twice the time.
EVERY = (30.0, 300.0)
RECENT = 900.0  # seconds that speed looks back at most: a machine that others use, too, changes within hours
STEPS = 100  # in which it is remembered what was done when

T = TypeVar("T")
_named: ContextVar[tuple[str, bool]] = ContextVar("named", default=("", True))
_shown: list[Any] = []  # bars that are on the terminal


@contextlib.contextmanager
def named(name: str, *, bars: bool) -> Iterator[None]:
    """Whatever tells its progress meanwhile, in this thread, says whose it is; without `bars` in lines in any case, for
    processes that share a terminal."""
    token = _named.set((name, bars))
    try:
        yield
    finally:
        _named.reset(token)


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Room on stderr for a line of something else: a bar makes way for it, and is there again below it."""
    bars = list(_shown)
    for bar in bars:
        bar.clear()
    try:
        yield
    finally:
        for bar in bars:
            bar.refresh()


class Speed:
    """Units a second over the latest half of the time since the first record, at most RECENT seconds.

    The first record only begins it: what is loaded, opened and compiled before is done once. Half of the time is many
    rounds of whatever is not even: layers that are read, blocks that are written.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()
        self._begun = 0.0
        self._latest = (0.0, 0.0)

    def record(self, at: float, done: float) -> None:
        """So much was done at this time, in seconds that do not decrease."""
        self._latest = (at, done)
        if not self._seen:
            self._begun = at
            self._seen.append(self._latest)
        back = min((at - self._begun) / 2, RECENT)
        if at - self._seen[-1][0] >= back / STEPS:
            self._seen.append(self._latest)
        while len(self._seen) > 1 and self._seen[1][0] <= at - back:
            self._seen.popleft()

    def rate(self) -> float | None:
        """Units a second; None while nothing is known."""
        (first, before), (last, done) = self._seen[0] if self._seen else self._latest, self._latest
        return (done - before) / (last - first) if last > first and done > before else None


@dataclass
class _Pauses:
    """Pauses of a kind: how many are left, and seconds of those that were."""

    left: int
    seen: int = 0
    seconds: float = 0.0


class Progress:
    """Tells how far a piece of work is. A context manager; used by one thread."""

    def __init__(
        self,
        what: str,
        total: float | None,
        unit: str,
        *,
        done: float = 0,
        scale: float = 1,
        pauses: Mapping[str, int] | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        every: tuple[float, float] = EVERY,
        short: float = SHORT,
    ) -> None:
        """`total`: of what `update` is told, None if it is not known; `unit`: of what is told, `scale` of the former
        each, in the plural, or B; `done`: of the total, before. `pauses`: how many there will be, by kind. `stream`
        defaults to stderr; `every` and `short` as EVERY and SHORT."""
        name, self._bars = _named.get()
        self._title = f"{name}: {what}" if name else what
        self._total, self._unit, self._scale = total, unit, scale
        self._before, self._done, self._worked = done, float(done), 0.0
        self._pauses = {kind: _Pauses(count) for kind, count in (pauses or {}).items()}
        self._paused = 0.0
        self._stream, self._clock, self._every, self._short = stream, clock, every, short
        self._speed, self._between = Speed(), Speed()  # with pauses, and without
        self._begun = self._due = 0.0
        self._bar: Any = None
        self._lines: TextIO | None = None
        self._told = False

    def __enter__(self) -> Progress:
        self._begun = self._clock()
        stream = sys.stderr if self._stream is None else self._stream
        nothing = self._total is not None and self._done >= self._total
        if nothing or stream is None or os.environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false"):
            self._due = float("inf")
        elif self._bars and stream.isatty():
            self._bar = _bar_class()(
                file=stream, total=self._total, dynamic_ncols=True, bar_format=self._drawn(self._amount())
            )
            _shown.append(self._bar)
            self._due = self._begun + REDRAW
        else:
            self._lines = stream
            self._due = self._begun + self._every[0]
        return self

    def update(self, amount: float = 1) -> None:
        """So much more is done. What is due is told."""
        self._done += amount
        self._worked += amount
        now = self._clock()
        self._speed.record(now, self._worked)
        self._between.record(now - self._paused, self._worked)
        if now < self._due:
            return
        if self._bar is not None:
            self._draw("  ".join(self._state()))
            self._due = now + REDRAW
        elif self._lines is not None:
            self._write(", ".join([*self._percent(), *self._state()]))
            self._due = now + min(max(now - self._begun, self._every[0]), self._every[1])

    def skip(self, amount: float, **pauses: int) -> None:
        """So much more was done before, which says nothing about speed, and so many pauses of a kind will not be."""
        for kind, count in pauses.items():
            self._pauses[kind].left -= count
        self._done += amount
        self._before += amount

    @contextlib.contextmanager
    def pause(self, kind: str, meanwhile: str = "") -> Iterator[None]:
        """Time in which nothing of the total is done; `meanwhile` is what is done instead, if that is worth telling."""
        started = self._clock()
        if self._bar is not None and meanwhile:
            self._draw(f"{self._amount()}  {meanwhile}")
        try:
            yield
        finally:
            self._passed(kind, started)

    def awaited(self, items: Iterable[T], kind: str) -> Iterator[T]:
        """Items, each after a pause: until it is there."""
        source, started = iter(items), self._clock()
        while found := list(islice(source, 1)):
            self._passed(kind, started)
            yield found[0]
            started = self._clock()

    def _passed(self, kind: str, started: float) -> None:
        took, pauses = self._clock() - started, self._pauses[kind]
        self._paused += took
        pauses.left, pauses.seen, pauses.seconds = pauses.left - 1, pauses.seen + 1, pauses.seconds + took

    def left(self) -> float | None:
        """Seconds until all is done, at the latest speed; None while that is not known. Pauses are in it as soon as
        there was one of the kind."""
        rate = self._between.rate()
        if self._total is None or rate is None:
            return None
        pauses = sum(max(0, each.left) * each.seconds / each.seen for each in self._pauses.values() if each.seen)
        return max(0.0, self._total - self._done) / rate + pauses

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        took = self._clock() - self._begun
        ends = [f"{self._amount()} when it stopped, after {duration(took)}"] if kind else self._ends(took)
        if self._bar is not None:
            _shown.remove(self._bar)
            self._draw("  ".join(ends))
            self._bar.close()  # with a line's end, whatever happened
        elif self._lines is not None and (self._told or took >= self._short):
            self._write(", ".join(ends))

    # -- in words --------------------------------------------------------------------------------------------------

    def _ends(self, took: float) -> list[str]:
        """What was done in all, and the mean speed, pauses and all."""
        own, unit = self._worked / self._scale, _spaced(self._unit)
        rate = [f"{amount(own / took)}{unit}/s"] if took > 0 and own else []
        time = f"in {duration(took)}"
        if self._before:
            return [f"{amount(self._done / self._scale)}{unit}, {amount(own)} of them now, {time}", *rate]
        return [f"{amount(own)}{unit} {time}", *rate]

    def _state(self) -> list[str]:
        rate, left = self._speed.rate(), self.left()
        speed = [] if rate is None else [f"{amount(rate / self._scale)}{_spaced(self._unit)}/s"]
        return [self._amount(), *speed, *([] if left is None else [f"{duration(left)} left"])]

    def _amount(self) -> str:
        of = "" if self._total is None else f" of {amount(self._total / self._scale)}"
        return f"{amount(self._done / self._scale)}{of}{_spaced(self._unit)}"

    def _percent(self) -> list[str]:
        return [f"{min(100, int(100 * self._done / self._total))}%"] if self._total else []

    def _drawn(self, text: str) -> str:
        """A state of the bar as tqdm takes it."""
        title, text = (each.replace("{", "{{").replace("}", "}}") for each in (self._title, text))
        percent = "".join(f"{each:>4} |{{bar}}|" for each in self._percent())
        return f"{title} {percent} {text}"

    def _draw(self, text: str) -> None:
        self._bar.n = self._done if self._total is None else min(self._done, self._total)
        self._bar.bar_format = self._drawn(text)
        self._bar.refresh()

    def _write(self, text: str) -> None:
        self._told = True
        with contextlib.suppress(OSError, ValueError):  # a log that is full, or closed, stops no work
            print(f"{self._title}: {text}", file=self._lines, flush=True)


@cache
def _bar_class() -> Any:
    """tqdm's bar, which takes long to import, without the thread that watches it: when it is drawn is known."""
    from tqdm import tqdm

    return type("Bar", (tqdm,), {"monitor_interval": 0})


def _spaced(unit: str) -> str:
    return unit if unit == "B" else f" {unit}"


def amount(number: float) -> str:
    """A number to be read at a glance.

    >>> [amount(number) for number in (0, 0.0312, 2.04, 17, 8230, 12_345, 2_097_152, 3e11)]
    ['0', '0.031', '2.0', '17', '8,230', '12.3k', '2.1M', '300.0G']
    """
    for unit, scale, least in (("G", 1e9, 999.95e6), ("M", 1e6, 999.95e3), ("k", 1e3, 10e3)):
        if number >= least:
            return f"{number / scale:.1f}{unit}"
    if number == int(number) or number >= 10:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 1 else f"{number:.2g}"


def duration(seconds: float) -> str:
    """Time in the two largest units that it has.

    >>> [duration(seconds) for seconds in (0.2, 51, 351, 7500, 100_000)]
    ['0 s', '51 s', '5 min 51 s', '2 h 5 min', '1 d 3 h']
    """
    whole = round(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (large, scale), (small, part) in pairwise(units):
        if whole >= scale:
            rest = whole % scale // part
            return f"{whole // scale} {large} {rest} {small}" if rest else f"{whole // scale} {large}"
    return f"{whole} s"
