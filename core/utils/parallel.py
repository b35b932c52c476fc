"""The same jobs in this process, in processes of this machine (joblib), or on a Dask cluster, with one progress bar.

A job has to be safe to do twice: it writes whole files or none, and the same ones each time. Then a killed run is
started again and continues, and a cluster does the jobs of a lost worker again.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, TypeVar

from tqdm import tqdm

from sopose.core.utils.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")

CONNECT_TIMEOUT = 20  # seconds for a cluster's scheduler to answer
WORKER_TIMEOUT = 60  # seconds for its first worker to be there
PARENT_CHECK = 0.5  # seconds between a worker process's looks at its parent

# What jobs share in a process (models, Embree scenes) is built by one of them. A Dask worker may run several threads.
_one_at_a_time = threading.Lock()


def run_jobs(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int = -1,
    cluster: str | None = None,
    description: str = "",
    unit: str = "job",
    weights: Sequence[int] | None = None,
) -> Iterator[Result]:
    """`function(job)` of every job, in the order of the jobs; the work continues while results are taken.

    `function` is a module's function, or a `functools.partial` of one; it, jobs and results have to pickle. workers:
    processes, 1 for this one, -1 for one a core. cluster: the address of a Dask scheduler, which then takes the place
    of `workers`. With a description there is a bar of all weights (1 a job by default), counted in `unit`.
    What a job raises is raised here and ends the others. Raises `UserError` where a worker process dies, or where
    the cluster cannot be used.
    """
    jobs = list(jobs)
    weights = [1] * len(jobs) if weights is None else list(weights)
    if workers == 0 or workers < -1:
        raise UserError(f"workers must be a number of processes, or -1 for one a core, and is {workers}")
    if cluster:
        done = _on_cluster(function, jobs, cluster)
    else:
        done = _here(function, jobs, min(_cores() if workers == -1 else workers, max(len(jobs), 1)))
    return _in_order(done, weights, description, unit)


def _in_order(
    done: Iterator[tuple[int, Result]], weights: Sequence[int], description: str, unit: str
) -> Iterator[Result]:
    """Results by their index from pairs in any order; the bar counts what is done."""
    waiting: dict[int, Result] = {}
    following = 0
    with closing(done), tqdm(total=sum(weights), desc=description, unit=unit, disable=not description) as bar:
        for index, result in done:
            bar.update(weights[index])
            waiting[index] = result
            while following in waiting:
                yield waiting.pop(following)
                following += 1


def _cores() -> int:
    from joblib import cpu_count

    return cpu_count()


def _here(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[tuple[int, Result]]:
    """Pairs (index, result), as they are done by this process or by `workers` others."""
    numbered = partial(_numbered, function)
    if workers == 1:
        yield from (numbered(index, job) for index, job in enumerate(jobs))
        return
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    pool = Parallel(workers, return_as="generator_unordered", batch_size=1, initializer=_follow_parent)
    try:
        with closing(pool(delayed(numbered)(index, job) for index, job in enumerate(jobs))) as done:
            yield from done
    except TerminatedWorkerError as error:
        raise UserError(
            "a worker process was killed (out of memory?); start again with fewer --workers, what is done is kept"
        ) from error


def _numbered(function: Callable[[Job], Result], index: int, job: Job) -> tuple[int, Result]:
    with _one_at_a_time:
        return index, function(job)


def _follow_parent() -> None:
    """Leave interrupts to the parent process, which stops this one, and end when it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_after, args=(os.getppid(),), daemon=True).start()


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK)
    os._exit(1)


def _on_cluster(function: Callable[[Job], Result], jobs: Sequence[Job], address: str) -> Iterator[tuple[int, Result]]:
    """Pairs (index, result), as a Dask cluster has done them; it does again what a lost worker had."""
    with _client(address) as client:
        from distributed import KilledWorker, as_completed

        numbered = partial(_numbered, function)
        futures = [client.submit(numbered, index, job, pure=False) for index, job in enumerate(jobs)]
        try:
            for future in as_completed(futures, loop=client.loop):
                yield future.result()
        except KilledWorker as error:
            raise UserError(f"the job '{error.task}' on {address} killed several workers (out of memory?)") from error
        finally:
            client.cancel(futures)


@contextmanager
def _client(address: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError("--cluster needs Dask; install it by: pip install 'sopose[cluster]'") from error
    try:
        client = Client(address, timeout=CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler answers at '{address}'; start one by 'dask scheduler' and give its address, tcp://host:8786"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKER_TIMEOUT)
        except TimeoutError as error:
            raise UserError(f"{address} has no workers; start some by: dask worker {address} --nthreads 1") from error
        yield client
