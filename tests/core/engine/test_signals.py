"""SIGINT and SIGTERM: a checkpoint and an exit code; a second SIGINT waits for nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from sopose.core.engine.signals import StopSignals

RUN = """
import sys, time, torch
from itertools import count
from pathlib import Path
from torch import nn
from sopose.core.engine.checkpointer import Checkpointer
from sopose.core.engine.hooks import SaveCheckpoint
from sopose.core.engine.signals import StopSignals
from sopose.core.engine.trainer import Trainer
from sopose.core.utils.errors import run_cli

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])

def losses(batch, iteration):
    print("step", flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    return {"loss": model(torch.ones(1, 2)).sum()}

def main(argv):
    global model
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1)
    with StopSignals() as signals:
        checkpointer = Checkpointer(folder, model, {"optimizer": optimizer})
        hooks = [SaveCheckpoint(1000, checkpointer)]
        trainer = Trainer(model, losses, count(), optimizer, schedule, 10**6, hooks, should_stop=signals.asked)
        print("ready", flush=True)
        if "wait" in sys.argv:
            time.sleep(60)
        with signals.deferred():
            finished = trainer.train()
        assert not finished
        signals.leave()

run_cli(main)
"""


def start(folder, seconds: float, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-c", RUN, str(folder), str(seconds), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen, word: str) -> None:
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_leaves_with_a_checkpoint(tmp_path, number, code):
    process = start(tmp_path, 0.05)
    wait_for(process, "step")
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    assert len(list(tmp_path.glob("model_*.pth"))) == 1


def test_a_second_interrupt_leaves_at_once(tmp_path):
    process = start(tmp_path, 60.0)
    wait_for(process, "step")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None  # it waits for its step
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=5)
    assert process.returncode == 130
    assert not list(tmp_path.glob("model_*.pth"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_outside_of_the_steps_a_signal_leaves_at_once(tmp_path, number, code):
    process = start(tmp_path, 0.05, "wait")
    wait_for(process, "ready")
    process.send_signal(number)
    process.communicate(timeout=5)
    assert process.returncode == code


def test_handlers_come_back_and_other_threads_do_without():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals() as signals:
        assert not signals.asked()
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    failures: list[BaseException] = []

    def elsewhere() -> None:
        try:
            with StopSignals():
                pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert failures == []
