"""Progress: speed and time left against numbers by hand, lines at the promised times, a bar on a real terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest
from conftest import POSITIONS
from hypothesis import given, settings
from hypothesis import strategies as st
from test_collect import BATCH, random_corpus, stop_after

from neurolens import cli
from neurolens.collect import collect
from neurolens.merge import merge
from neurolens.progress import EVERY, RECENT, SHORT, STEPS, Progress, Speed, aside, duration, named
from neurolens.store import Store

pytestmark = pytest.mark.usefixtures("hasty")
COLUMNS = 70


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment of the tests says."""
    monkeypatch.delenv("TQDM_DISABLE", raising=False)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Log(io.StringIO):
    """A stream that is no terminal, and knows when it was written to and flushed."""

    def __init__(self, clock: Clock, *, terminal: bool = False) -> None:
        super().__init__()
        self._clock, self._begun, self._terminal = clock, clock.now, terminal
        self.times: list[float] = []
        self.waiting = ""

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        self.waiting += text
        if "\n" in text:
            self.times.append(self._clock.now - self._begun)
        return super().write(text)

    def flush(self) -> None:
        self.waiting = ""

    @property
    def lines(self) -> list[str]:
        """What is there, flushed, in whole lines, and without any command for a terminal."""
        text = self.getvalue()
        assert self.waiting == "" and (not text or text.endswith("\n"))
        assert all(c.isprintable() for c in text.replace("\n", ""))
        return text.splitlines()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> Log:
    return Log(clock)


@pytest.fixture
def tell(clock: Clock, log: Log) -> Callable[..., Progress]:
    return partial(Progress, stream=log, clock=clock)


def work(progress: Progress, clock: Clock, seconds: int, rate: float) -> None:
    """So many seconds of work, told of every second."""
    for _ in range(seconds):
        clock.now += 1
        progress.update(rate)


# -- speed and time left -------------------------------------------------------------------------------------------


def test_the_speed_is_that_of_the_latest_half() -> None:
    speed = Speed()
    assert speed.rate() is None
    speed.record(500, 1e6)  # the first piece took long, and says nothing
    assert speed.rate() is None
    for second in range(1, 101):
        speed.record(500 + second, 1e6 + 10 * second)
    assert speed.rate() == pytest.approx(10)
    for second in range(1, 51):
        speed.record(600 + second, 1e6 + 1000 + 30 * second)
    # 150 s have passed: of the latest 75 s, 25 at 10 and 50 at 30
    assert speed.rate() == pytest.approx((25 * 10 + 50 * 30) / 75, rel=0.02)
    for second in range(51, 101):
        speed.record(600 + second, 1e6 + 1000 + 30 * second)
    assert speed.rate() == pytest.approx(30, rel=0.01)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 3000), st.sampled_from([0.001, 1.0, 20.0]))
def test_little_is_remembered_and_it_is_enough(seed: int, pieces: int, length: float) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.5, 1.5, pieces)) * length
    done = np.cumsum(rng.uniform(1, 2, pieces))
    speed = Speed()
    for at, so_far in zip(times, done, strict=True):
        speed.record(at, so_far)
    assert len(speed._seen) <= 2 * STEPS
    back = min((times[-1] - times[0]) / 2, RECENT)
    # with all records: from the last one before the stretch, give or take what is not remembered
    first = np.searchsorted(times, times[-1] - back, side="right") - 1
    slack = int(np.ceil(back / STEPS / (0.5 * length))) + 1
    found = [(done[-1] - done[i]) / (times[-1] - times[i]) for i in range(max(0, first - slack), first + 1)]
    assert min(found) * (1 - 1e-9) <= (speed.rate() or 0) <= max(found) * (1 + 1e-9)


def test_rate_and_time_left_are_those_of_the_whole_run(tell: Callable[..., Progress], clock: Clock, log: Log) -> None:
    """5M tokens through 12 layers, of which a fifth was done before; 8,000 tokens a second through all of them."""
    with tell("collect", 12 * 5_000_000, "tokens", done=12 * 1_000_000, scale=12) as progress:
        assert progress.left() is None
        work(progress, clock, 30, 12 * 8000)
        assert progress.left() == pytest.approx((4_000_000 - 240_000) / 8000)
        work(progress, clock, 470, 12 * 8000)
    assert log.lines[0] == "collect: 24%, 1.2M of 5.0M tokens, 8,000 tokens/s, 7 min 50 s left"
    assert log.lines[-1] == "collect: 5.0M tokens, 4.0M of them now, in 8 min 20 s, 8,000 tokens/s"


def test_what_is_skipped_on_the_way_is_done_but_says_nothing_of_speed(
    tell: Callable[..., Progress], clock: Clock, log: Log
) -> None:
    with tell("merge", 100_000, "B") as progress:
        work(progress, clock, 10, 100)
        progress.skip(60_000)
        work(progress, clock, 30, 100)
        assert progress.left() == (100_000 - 60_000 - 4000) / 100
    assert log.lines[0] == "merge: 63%, 63.0k of 100.0kB, 100B/s, 6 min 10 s left"
    assert log.lines[-1] == "merge: 64.0kB, 4,000 of them now, in 40 s, 100B/s"


def test_a_first_piece_that_takes_long_does_not_count(tell: Callable[..., Progress], clock: Clock) -> None:
    with tell("collect", 1000, "tokens") as progress:
        clock.now += 500  # compiled, loaded
        progress.update(10)
        assert progress.left() is None
        clock.now += 1
        progress.update(10)
        assert progress.left() == pytest.approx(98)


def test_pauses_that_are_due_are_in_the_time_left(tell: Callable[..., Progress], clock: Clock, log: Log) -> None:
    """Five layers of 20 s each, after each of which 7 s pass."""
    expected = []
    with tell("collect", 5 * 200, "tokens", pauses={"count": 5}) as progress:
        for layer in range(5):
            work(progress, clock, 20, 10)
            expected.append((progress.left(), (4 - layer) * 20 + (5 - layer) * 7 * (layer > 0)))
            with progress.pause("count", "it is counted"):
                clock.now += 7
            expected.append((progress.left(), (4 - layer) * 27))
    for found, by_hand in expected:
        assert found == pytest.approx(by_hand)
    assert log.lines[-1] == "collect: 1,000 tokens in 2 min 15 s, 7.4 tokens/s"


def test_layers_that_are_waited_for(tell: Callable[..., Progress], clock: Clock, log: Log) -> None:
    """Two windows through 20 layers; each is waited for 10 s, then 50 pieces of 0.2 s. Of the second window, states of
    5 layers are there. Layers that have been waited for are in the speed, those that will be in the time left."""

    def read(layers: int) -> Iterator[int]:
        for layer in range(layers):
            clock.now += 10
            yield layer

    with tell("collect", 40 * 50, "pieces", pauses={"read": 40, "count": 0}) as progress:
        due = 40
        for window in range(2):
            if window:
                progress.skip(5 * 50, read=5)
                due -= 5
            for _ in progress.awaited(read(20 - 5 * window), "read"):
                due -= 1
                for piece in range(50):
                    clock.now += 0.2
                    progress.update()
                    assert progress.left() in (None, pytest.approx(due * 20 + (49 - piece) * 0.2))
    assert due == 0 and len(log.lines) > 4
    speeds = [float(line.split(", ")[2].split()[0]) for line in log.lines[3:-1]]
    assert all(speed == pytest.approx(50 / 20, rel=0.15) for speed in speeds)


def test_more_than_all_and_nothing_known(tell: Callable[..., Progress], clock: Clock, log: Log) -> None:
    with tell("tokenise", 100, "tokens") as progress:
        work(progress, clock, 40, 5)
        assert progress.left() == 0
    with tell("tokenise", None, "tokens") as progress:
        work(progress, clock, 40, 50)
        assert progress.left() is None
    assert log.lines == [
        "tokenise: 100%, 150 of 100 tokens, 5 tokens/s, 0 s left",
        "tokenise: 200 tokens in 40 s, 5 tokens/s",
        "tokenise: 1,500 tokens, 50 tokens/s",
        "tokenise: 2,000 tokens in 40 s, 50 tokens/s",
    ]


# -- lines ---------------------------------------------------------------------------------------------------------


def test_lines_come_at_the_times_that_are_promised(tell: Callable[..., Progress], clock: Clock, log: Log) -> None:
    with tell("verify", 2000, "chunks") as progress:
        work(progress, clock, 2000, 1)
    assert log.times == [30, 60, 120, 240, 480, 780, 1080, 1380, 1680, 1980, 2000]
    assert EVERY == (30, 300) and len(log.lines) == len(log.times)


def test_a_line_waits_for_the_next_piece(tell: Callable[..., Progress], clock: Clock, log: Log) -> None:
    with tell("updates", 3, "layers") as progress:
        for _ in range(3):
            clock.now += 100
            progress.update()
    assert log.times == [100, 200, 300]  # the last one is the end
    assert log.lines == [
        "updates: 33%, 1 of 3 layers",
        "updates: 66%, 2 of 3 layers, 0.01 layers/s, 1 min 40 s left",
        "updates: 3 layers in 5 min, 0.01 layers/s",
    ]


@pytest.mark.parametrize(("seconds", "lines"), [(int(SHORT) - 1, 0), (int(SHORT), 1), (29, 1), (30, 2)])
def test_what_is_short_is_not_told(
    seconds: int, lines: int, tell: Callable[..., Progress], clock: Clock, log: Log
) -> None:
    with tell("verify", seconds, "chunks") as progress:
        work(progress, clock, seconds, 1)
    assert len(log.lines) == lines
    assert not lines or log.lines[-1] == f"verify: {seconds} chunks in {duration(seconds)}, 1 chunks/s"


@pytest.mark.parametrize(("total", "done"), [(0, 0), (7, 7)])
def test_where_nothing_is_to_be_done_nothing_is_told(
    total: int, done: int, tell: Callable[..., Progress], clock: Clock, log: Log
) -> None:
    with tell("verify", total, "chunks", done=done) as progress:
        clock.now += 1000
        progress.update(0)
        assert progress.left() is None
    assert log.lines == []


def test_no_time_at_all(tell: Callable[..., Progress], clock: Clock, log: Log) -> None:
    with tell("verify", 3, "chunks", every=(0.0, 0.0)) as progress:
        for _ in range(3):
            progress.update()
    assert log.lines[-1] == "verify: 3 chunks in 0 s"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("seconds", [5, 100])
def test_what_stops_is_told_where(
    error: type[BaseException], seconds: int, tell: Callable[..., Progress], clock: Clock, log: Log
) -> None:
    with pytest.raises(error), tell("collect", 400, "tokens") as progress:
        work(progress, clock, seconds, 2)
        raise error
    stopped = ["collect: 200 of 400 tokens when it stopped, after 1 min 40 s"]
    assert log.lines[-1:] == (stopped if seconds == 100 else [])


def test_a_log_that_cannot_be_written_stops_nothing(clock: Clock) -> None:
    class Full(Log):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with Progress("verify", 100, "chunks", stream=Full(clock), clock=clock) as progress:
        work(progress, clock, 100, 1)
    closed = Log(clock)
    closed.close()
    with Progress("verify", 100, "chunks", stream=Log(clock), clock=clock) as progress:
        progress._lines = closed
        work(progress, clock, 100, 1)


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(("value", "silent"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_who_wants_no_bars_gets_none(
    terminal: bool, value: str, silent: bool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TQDM_DISABLE", value)
    log = Log(clock, terminal=terminal)
    with Progress("verify", 100, "chunks", stream=log, clock=clock) as progress:
        work(progress, clock, 100, 1)
    assert (log.getvalue() == "") == silent


def test_no_stderr_at_all(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with Progress("verify", 100, "chunks", clock=clock) as progress:
        work(progress, clock, 100, 1)


def test_a_worker_says_whose_and_draws_no_bars(clock: Clock) -> None:
    log = Log(clock, terminal=True)
    with named("opt-125m 1/2", bars=False), Progress("collect", 100, "tokens", stream=log, clock=clock) as progress:
        work(progress, clock, 100, 1)
    assert len(log.lines) == 3 and all(line.startswith("opt-125m 1/2: collect: ") for line in log.lines)
    with Progress("collect", 100, "tokens", stream=log, clock=clock) as progress:
        work(progress, clock, 100, 1)
    assert "\r" in log.getvalue()  # afterwards it is as before


# -- a terminal ----------------------------------------------------------------------------------------------------


class Screen:
    """What a terminal shows: lines, of which the last one is written over from its start."""

    def __init__(self) -> None:
        self.raw, self.widest = "", 0

    @property
    def lines(self) -> list[str]:
        lines = [""]
        at = 0
        for c in self.raw:
            if c == "\r":
                at = 0
            elif c == "\n":
                lines.append("")
                at = 0
            else:
                assert c.isprintable(), self.raw
                lines[-1] = lines[-1][:at].ljust(at) + c + lines[-1][at + 1 :]
                at += 1
                self.widest = max(self.widest, at)
        return [line.rstrip() for line in lines]


@contextmanager
def terminal() -> Iterator[tuple[TextIO, Screen]]:
    """A real terminal to write to, and what is on it afterwards."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    screen, read = Screen(), []

    def listen() -> None:
        try:
            while found := os.read(here, 4096):
                read.append(found)
        except OSError:  # the other end is closed
            pass

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        with open(there, "w", encoding="utf-8", buffering=1) as stream:  # noqa: PTH123
            assert stream.isatty()
            yield stream, screen
    finally:
        thread.join()
        os.close(here)
        screen.raw = b"".join(read).decode()


def test_collect_draws_one_bar(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurolens.progress.REDRAW", 0.0)
    with terminal() as (stream, screen), monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        collect(tiny_model, random_corpus(40), tmp_path / "r.zarr", batch_tokens=BATCH, block_tokens=2 * BATCH)
    *bar, last = screen.lines
    tokens = f"{40 * POSITIONS:,}"
    assert last == "" and len(bar) == 1 and screen.widest <= COLUMNS
    assert bar[0].startswith("collect 100% |█") and f"| {tokens} tokens in " in bar[0] and "tokens/s" in bar[0]
    assert f" of {tokens} tokens " in screen.raw and " s left" in screen.raw and "collect   0% |" in screen.raw


def test_an_interrupt_leaves_the_terminal_clean(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(4, monkeypatch)
    with terminal() as (stream, screen), monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(sys, "stderr", stream)
        try:
            collect(tiny_model, random_corpus(40), tmp_path / "r.zarr", batch_tokens=BATCH, block_tokens=BATCH)
        finally:
            print("next", file=stream)
    bar, after, last = screen.lines
    assert bar.startswith("collect  1") and "when it stopped" in bar and (after, last) == ("next", "")
    monkeypatch.undo()
    with terminal() as (stream, screen), monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stream)
        for _ in range(2):  # the second time nothing is to be done
            collect(tiny_model, random_corpus(40), tmp_path / "r.zarr", batch_tokens=BATCH, block_tokens=BATCH)
    bar, last = screen.lines
    assert bar.startswith("collect 100%") and last == ""


def test_other_lines_go_above_the_bar(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    with terminal() as (stream, screen):
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress("collect {x}", 10, "tokens", clock=clock, pauses={"count": 1}) as progress:
            work(progress, clock, 5, 1)
            cli.say("a remark")
            with progress.pause("count", "layer 3 is counted"):
                clock.now += 1
            with aside():
                print("and another", file=stream)
            work(progress, clock, 5, 1)
        cli.say("the end")
    remark, another, bar, end, last = screen.lines
    assert (remark, another, end, last) == ("a remark", "and another", "the end", "")
    assert bar.startswith("collect {x} 100% |") and bar.endswith("| 10 tokens in 11 s  0.91 tokens/s")
    assert "layer 3 is counted" in screen.raw


def test_without_a_total_there_is_no_bar_but_a_line(clock: Clock) -> None:
    with terminal() as (stream, screen), Progress("tokenise", None, "tokens", stream=stream, clock=clock) as progress:
        work(progress, clock, 5, 10)
    assert screen.lines == ["tokenise  50 tokens in 5 s  10 tokens/s", ""]


# -- what commands tell --------------------------------------------------------------------------------------------


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> list[Spy]:
    """Every Progress of collect and merge, with all that it was told."""
    seen: list[Spy] = []

    def make(*arguments: Any, **options: Any) -> Progress:
        seen.append(Spy(*arguments, **options))
        return seen[-1]

    for module in ("loop", "merge"):
        monkeypatch.setattr(f"neurolens.{module}.Progress", make)
    return seen


class Spy(Progress):
    """Writes a line whenever it is told anything."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.log, self.done, self.paused = Log(Clock()), 0.0, 0
        super().__init__(*arguments, **options, stream=self.log, every=(0.0, 0.0), short=0.0)
        self.total = self._total or 0.0
        self.counts = pauses["count"] if (pauses := options.get("pauses")) else 0
        self.first = self._done

    def update(self, amount: float = 1) -> None:
        super().update(amount)
        assert self._done > self.done, "it goes on"
        self.done = self._done

    @contextmanager
    def pause(self, kind: str, meanwhile: str = "") -> Iterator[None]:
        self.paused += kind == "count"
        with super().pause(kind, meanwhile):
            yield

    def due(self) -> dict[str, int]:
        return {kind: pauses.left for kind, pauses in self._pauses.items()}


@pytest.mark.parametrize("commits", [0, 1, 5, 8])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weights": "streamed", "window_tokens": 2 * BATCH, "spool": "disk"},
        {"weights": "streamed", "keep_bitmaps": "none"},
        {"layers": [0, 1]},
    ],
    ids=lambda options: " ".join(options) or "resident",
)
def test_all_of_a_run_is_counted_once(
    options: dict[str, Any],
    commits: int,
    tiny_model: Path,
    tmp_path: Path,
    spied: list[Spy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped and continued: it begins with the blocks that are done, and ends with the total, exactly."""
    corpus = random_corpus(19)
    if options.get("spool"):
        options = {**options, "spool": tmp_path}
    asked: dict[str, Any] = {"batch_tokens": BATCH // 2, "block_tokens": BATCH, **options}
    with monkeypatch.context() as patched:
        stop_after(commits, patched)
        with pytest.raises(KeyboardInterrupt):
            collect(tiny_model, corpus, tmp_path / "r.zarr", **asked)
    marks = Store.open(tmp_path / "r.zarr").progress()
    store = collect(tiny_model, corpus, tmp_path / "r.zarr", **asked)
    assert isinstance(store, Store)
    stopped, continued = spied
    passes = max(store.layers) + 1
    sizes = np.array([block.tokens for block in store.blocks])
    assert stopped.total == continued.total == passes * sizes.sum() == continued.done
    assert stopped.done < stopped.total and "when it stopped" in stopped.log.lines[-1]
    # what a continued run begins with: of each block the layers behind the last one without a mark
    behind = np.cumprod(marks[::-1], axis=0).sum(0)
    assert continued.first == (behind * sizes).sum()
    assert f"{store.n_tokens} tokens" in continued.log.lines[-1]
    percents = [int(line.split()[1].rstrip("%,")) for line in continued.log.lines[:-1]]
    assert percents == sorted(percents) and percents[-1] == 100
    if options.get("keep_bitmaps"):
        assert continued.paused == continued.counts == (~marks.astype(bool)).any(1).sum()
    else:
        assert continued.paused == continued.counts == 0
    assert continued.due() == {"read": 0, "count": 0}


def test_a_shard_tells_of_its_own_blocks(tiny_model: Path, tmp_path: Path, spied: list[Spy]) -> None:
    from neurolens.shards import Shard

    for number in (1, 2):
        collect(
            tiny_model,
            random_corpus(20),
            tmp_path / "r.zarr",
            batch_tokens=BATCH,
            block_tokens=BATCH,
            shard=Shard(number, 2),
        )
    store = Store.open(tmp_path / "r.zarr")
    expected = [3 * sum(block.tokens for block in Shard(i, 2).part(store.blocks)) for i in (1, 2)]
    assert [spy.total for spy in spied] == [spy.done for spy in spied] == expected


def test_a_merge_that_continues(tiny_model: Path, tmp_path: Path, spied: list[Spy]) -> None:
    parts = []
    for i in range(2):
        collect(tiny_model, random_corpus(20), tmp_path / f"{i}.zarr", batch_tokens=BATCH, block_tokens=BATCH)
        parts.append(tmp_path / f"{i}.zarr")
    merge(parts, tmp_path / "m.zarr")
    merged = Store.open(tmp_path / "m.zarr", write=True)
    wanted = merged.progress().copy()
    wanted[1:, 2] = False
    merged.unmark(wanted)
    merge(parts, tmp_path / "m.zarr")
    first, second = spied[-2:]
    raw = merged.neurons / 8
    assert first.total == second.total == raw * merged.n_tokens * 3 == first.done == second.done
    assert first.first == 0 and second.first == second.total - raw * 2 * merged.blocks[2].tokens
