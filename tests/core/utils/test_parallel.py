"""Jobs in this process, in others and on a cluster: every result once and in order, one line where it goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sopose.core.utils import parallel
from sopose.core.utils.errors import UserError
from sopose.core.utils.parallel import run_jobs
from tests.support import worker_jobs

HERE = Path(__file__).parent


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("workers", [1, 2, -1])
def test_results_come_in_the_order_of_the_jobs(workers):
    assert list(run_jobs(worker_jobs.slow_first, range(9), workers)) == list(range(9))


@pytest.mark.parametrize("workers", [1, 2])
def test_no_job_is_no_work(workers):
    assert list(run_jobs(worker_jobs.square, [], workers)) == []


def test_the_bar_counts_weights(capsys):
    jobs = run_jobs(worker_jobs.square, [1, 2, 3], 1, description="squares", unit="thing", weights=[5, 10, 15])
    assert list(jobs) == [1, 4, 9]
    printed = capsys.readouterr().err
    assert "squares: 100%" in printed and "30/30" in printed and "thing/s" in printed
    assert list(run_jobs(worker_jobs.square, [1], 1)) == [1] and not capsys.readouterr().err


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_job_raises_is_raised(workers):
    results = run_jobs(worker_jobs.fail_at_three, range(50), workers)
    with pytest.raises(UserError, match=r"^three is too many$"):
        list(results)


def test_a_killed_process_is_reported_in_one_line():
    with pytest.raises(UserError, match="a worker process was killed") as caught:
        list(run_jobs(worker_jobs.die_at_three, range(8), 2))
    assert "\n" not in str(caught.value)
    assert list(run_jobs(worker_jobs.square, range(3), 2)) == [0, 1, 4], "the next run has processes again"


@pytest.mark.parametrize("workers", [0, -2])
def test_a_number_of_processes_is_asked_for(workers):
    with pytest.raises(UserError, match="workers must be"):
        run_jobs(worker_jobs.square, [1], workers)


PROGRAM = """
import signal, sys
from functools import partial
from pathlib import Path
from tests.support import worker_jobs
from sopose.core.utils.errors import run_cli
from sopose.core.utils.parallel import run_jobs
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
run_cli(lambda argv: list(run_jobs(partial(worker_jobs.note, Path(sys.argv[1])), range(1000), 2, description="notes")))
"""


@pytest.fixture
def noting_program(tmp_path: Path, repository: Path) -> Iterator[subprocess.Popen]:
    """A program with two worker processes that are at work, leaving notes in the test's folder."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), str(HERE)])}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True) as program:
        wait_until(lambda: len(workers_of(tmp_path)) == 2)
        yield program
        if program.poll() is None:
            program.kill()


def workers_of(folder: Path) -> set[int]:
    return {int(path.name.rsplit("-", 1)[1]) for path in folder.glob("begun-*")}


def test_an_interrupt_stops_all_processes(noting_program, tmp_path):
    os.killpg(noting_program.pid, signal.SIGINT)  # as a terminal does
    _, printed = noting_program.communicate(timeout=60)
    assert noting_program.returncode == 130
    lines = printed.decode().splitlines()  # behind it a process may still say that a file of another is gone
    assert "interrupted" in lines and "Traceback" not in printed.decode()
    wait_until(lambda: not any(map(is_running, workers_of(tmp_path))))


def test_processes_do_not_outlive_a_killed_program(noting_program, tmp_path):
    noting_program.kill()
    wait_until(lambda: not any(map(is_running, workers_of(tmp_path))), 10)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Dask cluster of two processes on this machine."""
    distributed = pytest.importorskip("distributed")
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), before])
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as made:
        yield made
    os.environ["PYTHONPATH"] = before


def test_a_cluster_gives_the_same(cluster):
    results = run_jobs(worker_jobs.slow_first, range(20), cluster=cluster.scheduler_address)
    assert list(results) == list(range(20))
    with pytest.raises(UserError, match=r"^three is too many$"):
        list(run_jobs(worker_jobs.fail_at_three, range(50), cluster=cluster.scheduler_address))


def test_a_cluster_does_the_jobs_of_a_killed_worker_again(cluster, tmp_path):
    results = run_jobs(partial(worker_jobs.note, tmp_path), range(40), cluster=cluster.scheduler_address)
    first = [next(results) for _ in range(5)]
    begun = {path.name for path in tmp_path.glob("begun-*")}
    killed = next(iter(workers_of(tmp_path)))
    os.kill(killed, signal.SIGKILL)
    assert first + list(results) == list(range(40)), "nothing is lost, nothing comes twice"
    assert begun and len(workers_of(tmp_path)) >= 2
    done = {path.name for path in tmp_path.glob(f"done-*-{killed}")}
    again = {path.name.split("-")[1] for path in tmp_path.glob("begun-*")}
    assert len(done) < 40 and again == {str(number) for number in range(40)}


def test_a_cluster_that_is_not_there_is_reported(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(parallel, "CONNECT_TIMEOUT", 1)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(UserError, match="no Dask scheduler answers") as caught:
            list(run_jobs(worker_jobs.square, [1], cluster=address))
        assert "\n" not in str(caught.value)
