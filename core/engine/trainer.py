"""The training loop: it knows batches, losses, an optimizer and hooks; everything periodic is a hook."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sopose.core.engine.distributed import current_world, sum_over_ranks
from sopose.core.engine.events import Delayed, Events
from sopose.core.engine.guard import Guard, StepRecord
from sopose.core.engine.step import OptimisationStep, StepOptions
from sopose.core.utils.errors import LostWorkerError, UserError

LAG = 2  # steps after which a device's answers are read on the host; nobody waits for them then


class Hook:
    """Something done at fixed places of the loop. `trainer` is set before the first call."""

    trainer: Trainer

    def before_train(self) -> None:
        """Called once before the first step."""

    def after_step(self) -> None:
        """Called after every step; `trainer.iteration` counts the steps done, this one included."""

    def on_stop(self) -> None:
        """Called where the loop leaves before its end because it was asked to."""

    def after_train(self) -> None:
        """Called once after the last step, and also when a step raised: files are closed here."""


class Trainer:
    """Runs `max_iter` optimisation steps.

    Args:
        model: the network; only its parameters and buffers are touched here.
        compute_losses: (batch, iteration) -> {name: weighted scalar loss}; the sum is minimised.
        batches: an endless source of batches.
        optimizer, schedule: stepped once per iteration.
        max_iter: iterations of the whole run.
        hooks: called in this order.
        options: mixed precision, gradient clipping, accumulation.
        scaler: of float16 gradients.
        guard: what is done about steps that are not finite; by default the first one ends the run.
        should_stop: asked after every step; where it says so on one rank, all leave after the same step.
        iteration: steps that were done before.
    """

    def __init__(
        self,
        model: nn.Module,
        compute_losses: Callable[[Any, int], dict[str, Tensor]],
        batches: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        max_iter: int,
        hooks: Sequence[Hook] = (),
        options: StepOptions | None = None,
        scaler: torch.amp.GradScaler | None = None,
        guard: Guard | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        iteration: int = 0,
    ) -> None:
        self.model = model
        self.batches = batches
        self.optimizer = optimizer
        self.schedule = schedule
        self.max_iter = max_iter
        self.iteration = iteration
        self.events = Events()
        self.options = options or StepOptions()
        self.step = OptimisationStep(model, compute_losses, optimizer, self.options, scaler)
        self.guard = guard or Guard(limit=1)
        self.should_stop = should_stop
        self.last_batch: Any = None
        self._stopping = False
        self._answers = Delayed(LAG if self.step.device.type == "cuda" else 0)
        self.hooks = list(hooks)
        for hook in self.hooks:
            hook.trainer = self

    def train(self) -> bool:
        """Run from `iteration` to `max_iter`; False where it was asked to stop before.

        Raises `UserError` after too many steps in a row that were not finite.
        """
        with warnings.catch_warnings():
            # The schedule continues where a step, and be it the first, was skipped.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            try:
                for hook in self.hooks:
                    hook.before_train()
                self._loop()
            finally:
                for hook in self.hooks:
                    hook.after_train()
        return self.iteration >= self.max_iter

    def _loop(self) -> None:
        batches = iter(self.batches)
        self.model.train()
        while self.iteration < self.max_iter and not self._stopping:
            try:
                self.run_step(batches)
            except LostWorkerError as error:
                raise self._without_worker(error) from error
            self.iteration += 1
            for hook in self.hooks:
                hook.after_step()
        self._look_back(everything=True)
        if self.iteration < self.max_iter:
            for hook in self.hooks:
                hook.on_stop()

    def _without_worker(self, error: LostWorkerError) -> UserError:
        """Leave as if asked to, after the last step that was whole; other ranks would not know of it."""
        if current_world().size > 1:
            return error
        self._look_back(everything=True)
        for hook in self.hooks:
            hook.on_stop()
        return UserError(f"stopped after iteration {self.iteration}, continue with --resume: {error}")

    def run_step(self, batches: Iterator[Any]) -> None:
        """Take as many batches as a step has and make one optimisation step; what is logged are their means."""
        started = time.perf_counter()
        self.step.begin()
        waited, used, sums = 0.0, [], {}
        for left in reversed(range(self.options.batches)):
            asked = time.perf_counter()
            used.append(next(batches))
            waited += time.perf_counter() - asked
            for name, loss in self.step.backward(used[-1], self.iteration, last=left == 0).items():
                sums[name] = sums[name] + loss if name in sums else loss
        learning_rate = self.optimizer.param_groups[0]["lr"]
        bad = self.step.finish()
        self.schedule.step()
        self.last_batch = used[-1]
        self._report(bad, sums, StepRecord(self.iteration, used, sums))
        self._look_back()  # where a device is behind, the host waits here
        seconds = time.perf_counter() - started
        self.events.put({"lr": learning_rate, "data_time": waited, "time": seconds, "data_share": waited / seconds})

    def _report(self, bad: Tensor, losses: dict[str, Tensor], record: StepRecord) -> None:
        """Log the losses, means over all ranks, and put aside what the host will want to know of the step."""
        stop = torch.full_like(bad, self.should_stop())
        summed = sum_over_ranks(torch.stack([bad, stop, *losses.values()]).float())
        means = summed[2:] / current_world().size
        self.events.put({"total_loss": means.sum(), **dict(zip(losses, means.unbind(), strict=True))})
        self._answers.put(summed[:2], record)

    def _look_back(self, everything: bool = False) -> None:
        """Act on what became of earlier steps: of all of them, or of those whose answers should be there by now."""
        for (bad, stop), record in self._answers.take(everything):
            self.guard.check(bad > 0, record)
            self._stopping |= stop > 0
