"""Periodic acts of a training run: console lines, metrics.json, TensorBoard, checkpoints, evaluations."""

from __future__ import annotations

import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel
from torch.utils.tensorboard import SummaryWriter

from core.engine.checkpointer import Checkpointer
from core.engine.trainer import Hook
from core.utils.files import write_text

BAR_WIDTH = 20


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


class ConsoleLog(Periodic):
    """A line with progress bar, ETA, losses, learning rate and times."""

    def __init__(self, period: int, iterations_per_epoch: int) -> None:
        super().__init__(period)
        self.iterations_per_epoch = iterations_per_epoch

    def before_train(self) -> None:
        self._started, self._first = time.perf_counter(), self.trainer.iteration

    def act(self) -> None:
        done, whole = self.trainer.iteration, self.trainer.max_iter
        elapsed = time.perf_counter() - self._started
        remaining = elapsed / max(done - self._first, 1) * (whole - done)
        values = self.trainer.events.medians()
        filled = BAR_WIDTH * done // whole
        losses = "  ".join(f"{k.removeprefix('loss_')} {v:.3g}" for k, v in values.items() if k.startswith("loss_"))
        epoch = min((done - 1) // self.iterations_per_epoch + 1, -(-whole // self.iterations_per_epoch))
        print(
            f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] epoch {epoch} iter {done}/{whole}  "
            f"ETA {timedelta(seconds=round(remaining))}  loss {values['total_loss']:.3f} ({losses})  "
            f"lr {values['lr']:.2e}  step {values['time']:.3f} s (data {values['data_time']:.3f} s){_memory()}",
            file=sys.stdout,
            flush=True,
        )


def _memory() -> str:
    """Largest memory taken on the GPU so far, or nothing without one."""
    return f"  mem {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if torch.cuda.is_initialized() else ""


class JsonLog(Periodic):
    """`metrics.json`: one json object a line. A resumed run drops the lines after the iteration it starts from."""

    def __init__(self, period: int, path: Path) -> None:
        super().__init__(period)
        self.path = Path(path)

    def before_train(self) -> None:
        kept = [
            json.dumps(row)
            for row in read_metrics(self.path)
            if row["iteration"] <= self.trainer.iteration and self.trainer.iteration > 0
        ]
        write_text(self.path, "".join(line + "\n" for line in kept))

    def act(self) -> None:
        row = {"iteration": self.trainer.iteration, **self.trainer.events.medians()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a `metrics.json`; none where there is no file. A line cut off by a crash is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("iteration"), int):
            rows.append(row)
    return rows


class TensorBoardLog(Periodic):
    """The same scalars for TensorBoard."""

    def __init__(self, period: int, folder: Path) -> None:
        super().__init__(period)
        self.folder = Path(folder)
        self._writer: SummaryWriter | None = None

    def before_train(self) -> None:
        self._writer = SummaryWriter(str(self.folder), purge_step=self.trainer.iteration + 1)

    def act(self) -> None:
        for name, value in self.trainer.events.medians().items():
            group = "losses" if "loss" in name else "run"
            self._writer.add_scalar(f"{group}/{name}", value, self.trainer.iteration)

    def after_train(self) -> None:
        if self._writer is not None:
            self._writer.close()


class UpdateAverage(Hook):
    """Lets a moving average of the weights follow every step; stands before `SaveCheckpoint`."""

    def __init__(self, average: AveragedModel) -> None:
        self.average = average

    def after_step(self) -> None:
        self.average.update_parameters(self.trainer.model)


class SaveCheckpoint(Periodic):
    """Writes the state of the run."""

    def __init__(self, period: int, checkpointer: Checkpointer) -> None:
        super().__init__(period)
        self.checkpointer = checkpointer

    def act(self) -> None:
        self.checkpointer.save(self.trainer.iteration)


class Evaluate(Periodic):
    """Calls `evaluate`, which leaves the network in evaluation mode. The end of the run is its caller's."""

    def __init__(self, period: int, evaluate: Callable[[], None]) -> None:
        super().__init__(period)
        self.evaluate = evaluate

    def act(self) -> None:
        if self.trainer.iteration < self.trainer.max_iter:
            self.evaluate()
            self.trainer.model.train()
