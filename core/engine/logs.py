"""What a training run reports while it runs: console lines, metrics.json, TensorBoard scalars and pictures."""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sopose.core.engine.hooks import Periodic
from sopose.core.utils.files import write_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

BAR_WIDTH = 20


class ConsoleLog(Periodic):
    """A line with progress bar, ETA, losses, learning rate, times, the share of waiting for data, and memory."""

    def __init__(self, period: int, iterations_per_epoch: int) -> None:
        super().__init__(period)
        self.iterations_per_epoch = iterations_per_epoch

    def before_train(self) -> None:
        self._started, self._first = time.perf_counter(), self.trainer.iteration

    def act(self) -> None:
        """Print the line of this iteration."""
        done, whole = self.trainer.iteration, self.trainer.max_iter
        elapsed = time.perf_counter() - self._started
        remaining = elapsed / max(done - self._first, 1) * (whole - done)
        values = self.trainer.events.medians()
        filled = BAR_WIDTH * done // whole
        losses = "  ".join(f"{k.removeprefix('loss_')} {v:.3g}" for k, v in values.items() if k.startswith("loss_"))
        epoch = min((done - 1) // self.iterations_per_epoch + 1, -(-whole // self.iterations_per_epoch))
        skipped = f"  skipped {self.trainer.guard.skipped}" if self.trainer.guard.skipped else ""
        print(
            f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] epoch {epoch} iter {done}/{whole}  "
            f"ETA {timedelta(seconds=round(remaining))}  loss {values['total_loss']:.3f} ({losses})  "
            f"lr {values['lr']:.2e}  step {values['time']:.3f} s (waiting for data {values['data_share']:.0%})  "
            f"mem {memory_gib():.1f} GiB{skipped}",
            file=sys.stdout,
            flush=True,
        )


def memory_gib() -> float:
    """Largest memory taken so far, GiB: on the GPU where one is used, else of this process."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10  # of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


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
        medians = self.trainer.events.medians().items()
        values = {name: value if math.isfinite(value) else None for name, value in medians}
        own = {"memory_gib": memory_gib(), "skipped_steps": self.trainer.guard.skipped}
        row = {"iteration": self.trainer.iteration, **values, **own}
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
    """The same scalars for TensorBoard, and every `picture_period` iterations pictures of the last batch.

    `draw` makes of a batch a picture (H, W, 3) uint8 RGB for each title.
    """

    def __init__(
        self,
        period: int,
        folder: Path,
        picture_period: int = 0,
        draw: Callable[[Any], Mapping[str, np.ndarray]] | None = None,
    ) -> None:
        super().__init__(period)
        self.folder, self.picture_period, self.draw = Path(folder), picture_period, draw
        self._writer: SummaryWriter | None = None

    def before_train(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.folder), purge_step=self.trainer.iteration + 1)

    def after_step(self) -> None:
        super().after_step()
        if self.draw and self.picture_period > 0 and self.trainer.iteration % self.picture_period == 0:
            for title, picture in self.draw(self.trainer.last_batch).items():
                self._writer.add_image(title, picture, self.trainer.iteration, dataformats="HWC")

    def act(self) -> None:
        for name, value in self.trainer.events.medians().items():
            group = "losses" if "loss" in name else "run"
            self._writer.add_scalar(f"{group}/{name}", value, self.trainer.iteration)

    def after_train(self) -> None:
        if self._writer is not None:
            self._writer.close()
