"""engine: who does the tasks of a study: this process, one after another, or the workers of a dask cluster.

Tasks are functions that can be done again without harm, given to a `concurrent.futures.Executor`. On a cluster a task
whose worker died is done by another one, a bounded number of times.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

from neurolens import NeurolensError, UsageError, first_line

KINDS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}  # of dask-jobqueue
LOCAL = "local"  # workers on this machine
OWN = ("kind", "jobs", "resources", "allowed_failures")  # keys of [cluster] that are not its kind's own
JOBS = 1
ALLOWED_FAILURES = 3  # workers that may die while they do a task, as dask.distributed has it by default
RETRIES = 2  # of a task that fails for another reason than that it cannot be done: a disk that was away, say


class Here(Executor):
    """Does a task when it is submitted, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def open_executor(
    cluster: Mapping[str, Any], scheduler: str | None = None, say: Callable[[str], object] = lambda line: None
) -> Iterator[Executor]:
    """Who does the tasks: the workers of the dask scheduler at that address, those that `cluster` (a job's table)
    starts, else this process.

    `cluster`: `kind`, one of KINDS or LOCAL; `jobs`, how many workers or, of a queue, jobs; `resources`, what a task
    needs of a worker (`{GPU = 1}`: one at a time on each); `allowed_failures`; all else as dask-jobqueue's cluster of
    that kind takes it. Raises UsageError for a table that is none, NeurolensError where dask is missing or nobody
    answers.
    """
    if scheduler is None and not cluster:
        with Here() as executor:
            yield executor
        return
    try:
        import dask.config
        from distributed import Client
    except ImportError as error:
        raise NeurolensError(
            f"a cluster needs dask.distributed ({first_line(error)}): pip install neurolens-llm[distributed]"
        ) from error
    failures = cluster.get("allowed_failures", ALLOWED_FAILURES)
    with dask.config.set({"distributed.scheduler.allowed-failures": failures}):
        workers = None if scheduler is not None else _start(cluster)
        try:
            with _connected(Client, scheduler or workers, say) as client:
                wanted = {"resources": dict(found)} if (found := cluster.get("resources")) else {}
                yield client.get_executor(retries=RETRIES, pure=False, **wanted)
        finally:
            if workers is not None:
                workers.close()


def _start(cluster: Mapping[str, Any]) -> Any:
    """The cluster of a job's table, its workers asked for."""
    kind = cluster.get("kind")
    if kind not in (*KINDS, LOCAL):
        raise UsageError(f"[cluster] kind is {kind!r}; expected {', '.join((*KINDS, LOCAL))}")
    settings = {name: value for name, value in cluster.items() if name not in OWN}
    jobs, resources = cluster.get("jobs", JOBS), dict(cluster.get("resources", {}))
    if type(jobs) is not int or jobs < 1:
        raise UsageError(f"[cluster] jobs is {jobs!r}; expected a number from 1")
    try:
        if kind == LOCAL:
            from distributed import LocalCluster

            known = set(inspect.signature(LocalCluster).parameters)
            if unknown := sorted(set(settings) - known):  # it would hand them to its workers, which die of them
                raise TypeError(f"unexpected key {unknown[0]!r}")
            settings = {"threads_per_worker": 1, "dashboard_address": None, **settings}
            return LocalCluster(n_workers=jobs, resources=resources, **settings)
        import dask_jobqueue

        if resources:
            named = ",".join(f"{name}={value}" for name, value in resources.items())
            settings["worker_extra_args"] = [*settings.get("worker_extra_args", []), "--resources", named]
        workers = getattr(dask_jobqueue, KINDS[kind])(**{"processes": 1, "cores": 1, **settings})
        workers.scale(jobs=jobs)
        return workers
    except ImportError as error:
        raise NeurolensError(
            f"[cluster] kind {kind!r} needs dask-jobqueue ({first_line(error)}): pip install neurolens-llm[distributed]"
        ) from error
    except (TypeError, ValueError) as error:
        raise UsageError(f"[cluster] kind {kind!r}: {first_line(error)}") from error


@contextmanager
def _connected(client: Callable[..., Any], to: Any, say: Callable[[str], object]) -> Iterator[Any]:
    try:
        connected = client(to)
    except (OSError, ValueError) as error:
        raise NeurolensError(
            f"no dask scheduler answers at {to} ({first_line(error)}); start one, or correct --scheduler"
        ) from error
    with connected:
        say(f"tasks go to the dask scheduler at {connected.scheduler.address}")
        yield connected
