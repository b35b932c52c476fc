"""The training loop: it knows batches, losses, an optimizer and hooks; everything periodic is a hook."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.engine.events import Events
from core.utils.errors import UserError


class Hook:
    """Something done at fixed places of the loop. `trainer` is set before the first call."""

    trainer: Trainer

    def before_train(self) -> None:
        """Called once before the first step."""

    def after_step(self) -> None:
        """Called after every step; `trainer.iteration` counts the steps done, this one included."""

    def after_train(self) -> None:
        """Called once after the last step, and also when a step raised: files are closed here."""


@dataclass(frozen=True)
class StepOptions:
    """How a step is computed."""

    amp_dtype: torch.dtype | None = None  # of mixed-precision autocasting; None for float32 throughout
    clip_norm: float = 0.0  # largest norm of all gradients; 0 for no limit
    batches: int = 1  # how many make one step: their gradients are averaged


class Trainer:
    """Runs `max_iter` optimisation steps.

    Args:
        model: the network; only its parameters are touched here.
        compute_losses: (batch, iteration) -> {name: weighted scalar loss}; the sum is minimised.
        batches: an endless source of batches.
        optimizer, schedule: stepped once per iteration.
        max_iter: iterations of the whole run.
        hooks: called in this order.
        options: mixed precision and gradient clipping.
        describe: what to call a batch in the message about a loss that is not finite.
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
        describe: Callable[[Any], str] = str,
    ) -> None:
        self.model = model
        self.compute_losses = compute_losses
        self.batches = batches
        self.optimizer = optimizer
        self.schedule = schedule
        self.max_iter = max_iter
        self.iteration = 0
        self.events = Events()
        self.options = options or StepOptions()
        self.describe = describe
        self.hooks = list(hooks)
        for hook in self.hooks:
            hook.trainer = self

    def train(self) -> None:
        """Run from `iteration` to `max_iter`. Raises `UserError` at a loss that is not finite."""
        try:
            for hook in self.hooks:
                hook.before_train()
            batches = iter(self.batches)
            self.model.train()
            while self.iteration < self.max_iter:
                self.run_step(batches)
                self.iteration += 1
                for hook in self.hooks:
                    hook.after_step()
        finally:
            for hook in self.hooks:
                hook.after_train()

    def run_step(self, batches: Iterator[Any]) -> None:
        """Take as many batches as a step has and make one optimisation step; what is logged are their means."""
        started = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        waited, sums = 0.0, {}
        for _ in range(self.options.batches):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            for name, loss in self._accumulate(batch).items():
                sums[name] = sums.get(name, 0) + loss
        if self.options.clip_norm > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip_norm)
        learning_rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.schedule.step()
        self.events.put({"total_loss": sum(sums.values()), **sums})
        self.events.put({"lr": learning_rate, "data_time": waited})
        self.events.put({"time": time.perf_counter() - started})

    def _accumulate(self, batch: Any) -> dict[str, Tensor]:
        """Add the gradients of a batch to those there are; its share of the step's losses by name."""
        device = next(self.model.parameters()).device
        amp_dtype = self.options.amp_dtype
        with torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
            losses = self.compute_losses(batch, self.iteration)
        total = torch.stack(list(losses.values())).sum()
        self._require_finite(total, losses, batch)
        (total / self.options.batches).backward()
        return {name: loss.detach() / self.options.batches for name, loss in losses.items()}

    def _require_finite(self, total: Tensor, losses: dict[str, Tensor], batch: Any) -> None:
        """Stop before the weights are touched; `UserError` names the losses and the batch."""
        if bool(torch.isfinite(total)):
            return
        bad = [name for name, loss in losses.items() if not bool(torch.isfinite(loss))] or ["total_loss"]
        raise UserError(
            f"iteration {self.iteration + 1}: {', '.join(bad)} not finite for the batch {self.describe(batch)}; "
            f"the weights were not changed by it, resume with a lower SOLVER.OPTIMIZER_CFG.lr or check these images"
        )
