"""study: many runs as one piece of work. What is missing is done, what is done is left alone, and all are compared.

FOLDER/
  opt-125m.zarr, opt-1.3b.zarr, …   the runs, each as `neurolens collect` and `analyze` make it
  corpora/                          text that was tokenised once for all runs that read it alike
  study.json                        the runs' factors, and which were done as the job asks
  comparison/                       what `neurolens compare` makes of them
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from neurolens import IncompleteError, InUseError, NeurolensError, first_line
from neurolens.analyze import analyze_run
from neurolens.collect import collect
from neurolens.compare import PAGE, compare_runs
from neurolens.comparison.members import find_members
from neurolens.curves import PositionRules
from neurolens.data import DataSpec
from neurolens.detectors import Rules
from neurolens.engine import Here, open_executor
from neurolens.index import Index
from neurolens.jobs import Job, RunSpec
from neurolens.location import here
from neurolens.plan import Plan, summarize
from neurolens.progress import duration, named
from neurolens.shards import WHOLE, Shard

T = TypeVar("T")
CORPORA, COMPARISON = "corpora", "comparison"
PATIENCE = 3600.0  # seconds that a task waits for another process that has its run: of a worker that was lost, say
RULES = ("max_covering", "max_covering_ngrams", "coverage", "min_rate", "min_occurrences")  # of detectors

Say = Callable[[str], object]


@dataclass(frozen=True)
class Task:
    """A piece of a run: to collect a shard of it, to analyse it, or both."""

    spec: RunSpec
    folder: str
    shard: Shard | None = WHOLE
    analyze: bool = True

    def __str__(self) -> str:
        return self.spec.name if self.shard is None or self.shard.whole else f"{self.spec.name} {self.shard}"


@dataclass
class Outcome:
    """What became of a study's runs, by their names: `failed` says why."""

    folder: Path
    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """3 if the same command has more to do."""
        return IncompleteError.exit_code if self.failed else 0

    def lines(self) -> Iterator[str]:
        """For people: a line for each run that failed, then how many are done."""
        yield from (f"{name}: failed: {why}" for name, why in self.failed.items())
        there = len(self.done) + len(self.skipped)
        total = there + len(set(self.failed) - {COMPARISON})
        page = self.folder / COMPARISON / PAGE
        yield f"{self.folder}: {there} of {total} runs are done" + (f", compared in {page}" if there else "")


@dataclass
class Planned:
    """What a study's runs would take, or why they cannot be done, by their names; `done` are there."""

    plans: dict[str, Plan] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """1 if a run cannot be done."""
        return NeurolensError.exit_code if self.failed else 0

    def facts(self) -> dict[str, Any]:
        """By run, in plain numbers."""
        found: dict[str, Any] = {name: plan.facts() for name, plan in self.plans.items()}
        found |= {name: {"done": True} for name in self.done}
        return found | {name: {"error": why} for name, why in self.failed.items()}

    def lines(self) -> Iterator[str]:
        """For people: a line a run, then all together."""
        yield from (f"{name}: done" for name in self.done)
        yield from (summarize(name, [plan]) for name, plan in self.plans.items())
        yield from (f"{name}: cannot be done: {why}" for name, why in self.failed.items())
        if self.plans:
            yield summarize("all together, one after another", list(self.plans.values()))


def run_study(job: Job, folder: str | Path, *, scheduler: str | None = None, say: Say = lambda line: None) -> Outcome:
    """Collect and analyse all runs of a job that are not done; a run that fails is named, and the others go on.

    `scheduler`: the address of a dask scheduler whose workers do it, rather than the job's cluster or this process.
    Raises UsageError and NeurolensError where there is nobody to do it; IncompleteError if the scheduler is lost.
    """
    folder = here(folder, "the folder of a study")
    folder.mkdir(parents=True, exist_ok=True)
    index, outcome = Index(folder, job), Outcome(folder)
    index.write()
    due: list[RunSpec] = []
    for run in job.runs:
        if index.is_done(run):
            outcome.skipped.append(run.name)
        else:
            due.append(run)
    if outcome.skipped:
        say(f"{folder}: {len(outcome.skipped)} of {len(job.runs)} runs are done")
    if due:
        with open_executor(job.cluster, scheduler, say) as executor:
            _Tasks(executor, index, outcome, due, say).work()
    done = {*outcome.done, *outcome.skipped}
    there = [folder / run.output for run in job.runs if run.name in done]
    if there and (due or not (folder / COMPARISON).exists()):
        try:
            compare_runs(find_members(there), folder / COMPARISON, say=say)
        except NeurolensError as error:  # the runs are done all the same
            outcome.failed[COMPARISON] = str(error)
    return outcome


def plan_study(job: Job, folder: str | Path, say: Say = lambda line: None) -> Planned:
    """What the runs that are not done would take, or why they cannot be done. Nothing stays of what is written."""
    index, planned = Index(here(folder, "the folder of a study"), job), Planned()
    with tempfile.TemporaryDirectory(prefix="neurolens-") as corpora:
        for run in job.runs:
            if index.is_done(run):
                planned.done.append(run.name)
                continue
            text, asked = DataSpec(**run.text), {**run.collect, "corpora": Path(corpora), "dry_run": True}
            said = partial(_told, run.name, say)
            try:
                with named(run.name, bars=True):
                    plan = collect(run.model, text, index.folder / run.output, **asked, say=said)
            except NeurolensError as error:
                planned.failed[run.name] = str(error)
            else:
                assert isinstance(plan, Plan)
                planned.plans[run.name] = plan
    return planned


def do_task(task: Task, say: Say | None = None) -> float:
    """Do a task; done again it finds that all is there. Returns seconds. Raises as collect and analyze_run.

    `say` None prints on stderr, in lines, for workers: several may share a terminal.
    """
    started, spec, folder = time.monotonic(), task.spec, Path(task.folder)
    path, said = folder / spec.output, partial(_told, str(task), say)
    with _threads(spec.threads), named(str(task), bars=say is not None):
        if task.shard is not None:
            text, corpora = DataSpec(**spec.text), folder / CORPORA
            each = {**spec.collect, "corpora": corpora, "shard": task.shard, "say": said}
            _patiently(lambda: collect(spec.model, text, path, **each), said)
        if task.analyze:
            _patiently(lambda: analyze_run(path, **_analysis(spec), say=said), said)
    return time.monotonic() - started


def attempt_task(task: Task, say: Say | None = None) -> float | NeurolensError:
    """`do_task` for an executor that tries again what has raised: an error that says what to do is returned instead."""
    try:
        return do_task(task, say)
    except NeurolensError as error:
        return error


class _Tasks:
    """The tasks of runs, each given out when those that it needs are done."""

    def __init__(self, executor: Executor, index: Index, outcome: Outcome, runs: list[RunSpec], say: Say) -> None:
        self._executor, self._index, self._outcome, self._say = executor, index, outcome, say
        self._here = isinstance(executor, Here)
        # one after another in one process, shards would only cost
        self._runs = [replace(run, shards=1) for run in runs] if self._here else runs
        self._left = {run.name: run.shards for run in runs}
        self._begun = time.monotonic()
        self._pending: dict[Future[float | NeurolensError], Task] = {}

    def work(self) -> None:
        """Give out and wait until all are done or have failed."""
        for run in self._runs:
            shards = [Shard(i + 1, run.shards) for i in range(run.shards)]
            for shard in shards:
                self._give(Task(run, str(self._index.folder), shard, analyze=shard.whole))
        while self._pending:
            for future in wait(self._pending, return_when=FIRST_COMPLETED).done:
                self._take(future)

    def _give(self, task: Task) -> None:
        future = self._executor.submit(attempt_task, task, self._say if self._here else None)
        self._pending[future] = task
        if future.done():
            self._take(future)

    def _take(self, future: Future[float | NeurolensError]) -> None:
        task = self._pending.pop(future)
        name, outcome = task.spec.name, self._outcome
        try:
            found = future.result()
        except CancelledError as error:
            raise IncompleteError(
                f"{outcome.folder}: the scheduler is gone; the same command continues the study"
            ) from error
        except Exception as error:
            found = NeurolensError(f"{type(error).__name__}: {first_line(error)}")
        if isinstance(found, NeurolensError):
            outcome.failed.setdefault(name, str(found))
            self._say(f"{task}: failed: {found}")
            return
        self._left[name] -= task.shard is not None
        if task.analyze:
            outcome.done.append(name)
            self._index.mark(task.spec)
            self._say(f"{task}: done in {duration(found)}; {self._rest()}")
        elif not self._left[name] and name not in outcome.failed:
            self._give(replace(task, shard=None, analyze=True))

    def _rest(self) -> str:
        """How many runs are done, how many are left, and for about how long at the speed of those that were done now:
        in tokens times parameters, if the job says them of all, else in runs."""
        outcome, runs = self._outcome, self._runs
        done = f"{len(outcome.done) + len(outcome.skipped)} of {len(self._index.job.runs)} runs"
        left = [run for run in runs if run.name not in (*outcome.done, *outcome.failed)]
        if not left:
            return done
        work = {run.name: found for run in runs if (found := run.work()) is not None}
        if guessed := len(work) < len(runs):
            work = {run.name: 1.0 for run in runs}
        took = (time.monotonic() - self._begun) / sum(work[name] for name in outcome.done)
        time_left = duration(took * sum(work[run.name] for run in left))
        return f"{done}, {len(left)} left, about {time_left}{' if they take as long' if guessed else ''}"


def _analysis(spec: RunSpec) -> dict[str, Any]:
    """Keywords of analyze_run."""
    asked = dict(spec.analyze)
    found: dict[str, Any] = {"device": spec.collect.get("device", "cpu"), "model": None}
    found["rules"] = Rules(**{name: asked[name] for name in RULES if name in asked})
    if "min_position_mi" in asked:
        found["positions"] = PositionRules(threshold=asked["min_position_mi"])
    for name, keyword in (("only", "only"), ("ngrams", "lengths"), ("all", "every"), ("fold_norm", "fold_norm")):
        if name in asked:
            found[keyword] = asked[name]
    return found


def _patiently(do: Callable[[], T], say: Say) -> T:
    """Do it once no other process has the run."""
    stop, pause = time.monotonic() + PATIENCE, 0.5
    while True:
        try:
            return do()
        except InUseError as error:
            if time.monotonic() > stop:
                raise
            say(f"{error}; waiting")
            time.sleep(pause)
            pause = min(30.0, 2 * pause)


@contextlib.contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if wanted is not None:
            torch.set_num_threads(wanted)
        yield
    finally:
        if torch.get_num_threads() != before:  # a run that is continued sets its own
            torch.set_num_threads(before)


def _told(name: str, say: Say | None, line: str) -> None:
    if say is not None:
        say(f"{name}: {line}")
    else:
        print(f"{name}: {line}".encode("ascii", "backslashreplace").decode(), file=sys.stderr, flush=True)
