"""Acts of a training run beside its log: averages, checkpoints, evaluations, profiles."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel
from torch.profiler import ProfilerActivity, profile, schedule

from sopose.core.engine.checkpointer import Checkpointer
from sopose.core.engine.trainer import Hook
from sopose.core.utils.files import write_text

logger = logging.getLogger(__name__)


class Periodic(Hook, ABC):
    """Acts every `period` iterations and after the last one; a period of 0 acts never."""

    def __init__(self, period: int) -> None:
        self.period = period

    def after_step(self) -> None:
        done = self.trainer.iteration
        if self.period > 0 and (done % self.period == 0 or done == self.trainer.max_iter):
            self.act()

    @abstractmethod
    def act(self) -> None:
        """What is done periodically."""


class UpdateAverage(Hook):
    """Lets a moving average of the weights follow every step; stands before `SaveCheckpoint`."""

    def __init__(self, average: AveragedModel) -> None:
        self.average = average

    def after_step(self) -> None:
        self.average.update_parameters(self.trainer.model)


class SaveCheckpoint(Periodic):
    """Writes the state of the run, also where it is asked to stop."""

    def __init__(self, period: int, checkpointer: Checkpointer) -> None:
        super().__init__(period)
        self.checkpointer = checkpointer

    def act(self) -> None:
        self.checkpointer.save(self.trainer.iteration)

    def on_stop(self) -> None:
        self.act()


class Evaluate(Periodic):
    """Calls `evaluate(iteration)`; it may leave the network in evaluation mode. The end of the run is its caller's."""

    def __init__(self, period: int, evaluate: Callable[[int], None]) -> None:
        super().__init__(period)
        self.evaluate = evaluate

    def act(self) -> None:
        if self.trainer.iteration < self.trainer.max_iter:
            self.evaluate(self.trainer.iteration)
            self.trainer.model.train()


class Profile(Hook):
    """Watches a few steps by torch.profiler: a trace for ui.perfetto.dev, and a table of operations.

    The first `skip` steps, in which memory is taken and kernels are chosen, are left out.
    """

    def __init__(self, folder: Path, skip: int = 5, steps: int = 5) -> None:
        self.folder, self.skip, self.steps = Path(folder), skip, steps
        self._profiler: profile | None = None

    def before_train(self) -> None:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self._profiler = profile(
            activities=activities,
            schedule=schedule(wait=self.skip, warmup=1, active=self.steps, repeat=1),
            on_trace_ready=self._write,
        )
        self._profiler.start()

    def after_step(self) -> None:
        self._profiler.step()

    def after_train(self) -> None:
        if self._profiler is not None:
            self._profiler.stop()

    def _write(self, done: profile) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        trace = self.folder / "trace.json.gz"
        done.export_chrome_trace(str(trace))
        order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = done.key_averages().table(sort_by=order, row_limit=25)
        write_text(self.folder / "operations.txt", table + "\n")
        logger.info("%d steps profiled: %s (open it in ui.perfetto.dev) and operations.txt", self.steps, trace)
