"""SIGINT and SIGTERM: a checkpoint and an exit code; a second SIGINT waits for nothing."""

from __future__ import annotations

import signal
import threading
import time
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn

from sopose.core.engine.checkpointer import Checkpointer
from sopose.core.engine.hooks import SaveCheckpoint
from sopose.core.engine.signals import StopSignals
from sopose.core.engine.trainer import Trainer
from sopose.core.utils.errors import run_cli
from tests.support.programs import Program


def run(folder: Path, seconds: float, waits: bool) -> None:
    """A program that trains until it is stopped, with steps of so many seconds; or that waits before the first."""

    def losses(batch: int, iteration: int) -> dict[str, torch.Tensor]:
        print("step", flush=True)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.01)
        return {"loss": model(torch.ones(1, 2)).sum()}

    def main(argv: list[str] | None) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1)
        with StopSignals() as signals:
            hooks = [SaveCheckpoint(1000, Checkpointer(folder, model, {"optimizer": optimizer}))]
            trainer = Trainer(model, losses, count(), optimizer, schedule, 10**6, hooks, should_stop=signals.asked)
            print("ready", flush=True)
            if waits:
                time.sleep(60)
            with signals.deferred():
                finished = trainer.train()
            assert not finished
            signals.leave()

    model = nn.Linear(2, 1)
    run_cli(main)


def start(folder: Path, seconds: float, waits: bool = False) -> Program:
    return Program(folder / "said", run, folder, seconds, waits)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)])
def test_a_signal_leaves_with_a_checkpoint(tmp_path, number, code):
    program = start(tmp_path, 0.05)
    program.read_until("step")
    program.send_signal(number)
    assert program.wait(30) == code
    assert len(list(tmp_path.glob("model_*.pth"))) == 1


def test_a_second_interrupt_leaves_at_once(tmp_path):
    program = start(tmp_path, 60.0)
    program.read_until("step")
    program.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert program.exit_code is None  # it waits for its step
    program.send_signal(signal.SIGINT)
    assert program.wait(5) == 130
    assert not list(tmp_path.glob("model_*.pth"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)])
def test_outside_of_the_steps_a_signal_leaves_at_once(tmp_path, number, code):
    program = start(tmp_path, 0.05, waits=True)
    program.read_until("ready")
    program.send_signal(number)
    assert program.wait(5) == code


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
