"""One optimisation step: gradients of batches, and the weights' change, without asking the device for a number.

A step whose gradients are not all finite changes nothing: neither weights, nor the optimizer's moments, nor the
statistics that normalisation layers keep. Whether it was such a step stays on the device too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

AMP_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}  # of mixed precision, by name


def gradient_scaler(amp_dtype: torch.dtype | None, device: torch.device) -> torch.amp.GradScaler | None:
    """What keeps gradients of a type from vanishing; None for types that don't need it."""
    return torch.amp.GradScaler(device.type) if amp_dtype == torch.float16 else None


@dataclass(frozen=True)
class StepOptions:
    """How a step is computed."""

    amp_dtype: torch.dtype | None = None  # of mixed-precision autocasting; None for float32 throughout
    clip_norm: float = 0.0  # largest norm of all gradients; 0 for no limit
    batches: int = 1  # how many make one step: their gradients are averaged
    no_sync: Callable[[], AbstractContextManager] = nullcontext  # around all but the last, as DDP's no_sync


class OptimisationStep:
    """Gradients of a step's batches one after another (`backward`), then the change of the weights (`finish`).

    Args:
        model: the network; only its parameters and buffers are touched here.
        compute_losses: (batch, iteration) -> {name: weighted scalar loss}; the sum is minimised.
        optimizer: of the model's parameters, and perhaps of the losses'.
        options: mixed precision, clipping, accumulation.
        scaler: scales the loss so that float16 gradients don't vanish; None for other precisions.
    """

    def __init__(
        self,
        model: nn.Module,
        compute_losses: Callable[[Any, int], dict[str, Tensor]],
        optimizer: torch.optim.Optimizer,
        options: StepOptions,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.model, self.compute_losses, self.optimizer = model, compute_losses, optimizer
        self.options, self.scaler = options, scaler
        self.device = next(model.parameters()).device
        self._statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self._kept: list[Tensor] = []

    def begin(self) -> None:
        """Forget the gradients of the step before."""
        self.optimizer.zero_grad(set_to_none=True)
        self._kept = [buffer.clone() for buffer in self._statistics]

    def backward(self, batch: Any, iteration: int, last: bool) -> dict[str, Tensor]:
        """Add the gradients of a batch, the step's `last` or not; its share of the step's losses by name."""
        amp_dtype, share = self.options.amp_dtype, 1 / self.options.batches
        with nullcontext() if last else self.options.no_sync():
            with torch.autocast(self.device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
                losses = self.compute_losses(batch, iteration)
            total = torch.stack(list(losses.values())).sum()
            # Gradients of a sum that is not finite may be finite. They are made NaN, on all ranks of a run.
            total = total * torch.where(torch.isfinite(total), 1.0, torch.nan) * share
            (total if self.scaler is None else self.scaler.scale(total)).backward()
        return {name: loss.detach() * share for name, loss in losses.items()}

    def finish(self) -> Tensor:
        """Change the weights by the gradients; () bool on the device, whether these were not finite."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        bad = ~torch.isfinite(self._clip())
        self._change_weights(bad)
        for buffer, kept in zip(self._statistics, self._kept, strict=True):
            torch.where(bad, kept, buffer, out=buffer)
        return bad

    def _clip(self) -> Tensor:
        """The norm of all gradients as they were, () float."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters])
        if self.options.clip_norm > 0:
            nn.utils.clip_grads_with_norm_(parameters, self.options.clip_norm, norm)
        return norm

    def _change_weights(self, bad: Tensor) -> None:
        if self.scaler is not None:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        elif bad.device.type == "cpu" or not takes_found_inf(self.optimizer):
            if not bool(bad):
                self.optimizer.step()
        else:
            self.optimizer.grad_scale, self.optimizer.found_inf = None, bad.float()
            self.optimizer.step()
            del self.optimizer.grad_scale, self.optimizer.found_inf


def takes_found_inf(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer's `step` looks at its `found_inf` (as torch's fused ones do); others wait for the device."""
    return getattr(optimizer, "_step_supports_amp_scaling", False)
