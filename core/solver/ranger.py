"""Ranger: rectified Adam, gradient centralisation, Lookahead."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Ranger(torch.optim.Optimizer):
    """RAdam (Liu et al., ICLR 2020) on centralised gradients (Yong et al., ECCV 2020), with Lookahead
    (Zhang et al., NeurIPS 2019).

    Each weight with more than one dimension has the mean over all but its first dimension taken out of its
    gradient. Every `k` steps the slow weights move by `alpha` towards the fast ones, which restart there.
    Slow weights are part of the state, so a resumed run continues exactly.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: decay of the first and second moments.
        eps: added to the root of the second moment, which is not corrected for its start at 0.
        weight_decay: decoupled, share of a weight removed per step and unit of learning rate.
        n_sma_threshold: length of the moving average above which the step is rectified; else plain momentum.
        k, alpha: Lookahead's period and step.
        centralise: False leaves the gradients as they are.

    A step with `found_inf` set (a tensor that is not 0, as torch's gradient scaler and fused optimizers have it)
    changes neither weights nor moments, decided on the device; Lookahead keeps its period.
    """

    _step_supports_amp_scaling = True  # makes `torch.amp.GradScaler` leave `found_inf` to this optimizer

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-5,
        weight_decay: float = 0.0,
        n_sma_threshold: float = 5.0,
        k: int = 6,
        alpha: float = 0.5,
        centralise: bool = True,
    ) -> None:
        if not 0 <= alpha <= 1 or k < 1 or lr < 0 or eps <= 0:
            raise ValueError(f"Ranger needs lr >= 0, eps > 0, k >= 1, 0 <= alpha <= 1; got {(lr, eps, k, alpha)}")
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "n_sma_threshold": n_sma_threshold,
            "k": k,
            "alpha": alpha,
            "centralise": centralise,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One step; parameters without a gradient stay. Returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for step, params in self._advance(group).items():
                self._update(params, group, step)
        return loss

    def _advance(self, group: dict[str, Any]) -> dict[int, list[Tensor]]:
        """Parameters with a gradient by the number of their step, which is counted up here."""
        by_step: dict[int, list[Tensor]] = defaultdict(list)
        for param in group["params"]:
            if param.grad is None:
                continue
            if param.grad.is_sparse:
                raise RuntimeError("Ranger does not take sparse gradients")
            state = self.state[param]
            if not state:
                state["step"] = 0
                state["exp_avg"] = torch.zeros_like(param)
                state["exp_avg_sq"] = torch.zeros_like(param)
                state["slow"] = param.detach().clone()
            state["step"] += 1
            by_step[state["step"]].append(param)
        return by_step

    def _update(self, params: list[Tensor], group: dict[str, Any], step: int) -> None:
        """The same step of several parameters at once."""
        beta1, beta2 = group["betas"]
        grads = [_centralised(param.grad) if group["centralise"] else param.grad for param in params]
        exp_avg, exp_avg_sq, slow = (
            [self.state[param][name] for param in params] for name in ("exp_avg", "exp_avg_sq", "slow")
        )
        squares = torch._foreach_mul(grads, grads)
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None:  # moments move towards themselves, which leaves them
            grads = [torch.where(found_inf > 0, mean, grad) for mean, grad in zip(exp_avg, grads, strict=True)]
            squares = [torch.where(found_inf > 0, mean, x) for mean, x in zip(exp_avg_sq, squares, strict=True)]
        torch._foreach_lerp_(exp_avg, grads, 1 - beta1)
        torch._foreach_lerp_(exp_avg_sq, squares, 1 - beta2)
        size, rectified = step_size(step, beta1, beta2, group["n_sma_threshold"])
        change = torch._foreach_mul(exp_avg, size)
        if rectified:
            scale = torch._foreach_sqrt(exp_avg_sq)
            torch._foreach_add_(scale, group["eps"])
            torch._foreach_div_(change, scale)
        if group["weight_decay"]:
            torch._foreach_add_(change, params, alpha=group["weight_decay"])
        if found_inf is not None:
            torch._foreach_mul_(change, (found_inf == 0).to(change[0].dtype))
        torch._foreach_add_(params, change, alpha=-group["lr"])
        if step % group["k"] == 0:
            torch._foreach_lerp_(slow, params, group["alpha"])
            torch._foreach_copy_(params, slow)


def step_size(step: int, beta1: float, beta2: float, n_sma_threshold: float) -> tuple[float, bool]:
    """Factor of the learning rate at a step (from 1), and whether it is the adaptive form (RAdam, alg. 2)."""
    correction1 = 1 - beta1**step
    correction2 = 1 - beta2**step
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * beta2**step / correction2
    if length <= n_sma_threshold:
        return 1 / correction1, False
    rectification = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    return math.sqrt(correction2 * rectification) / correction1, True


def _centralised(grad: Tensor) -> Tensor:
    if grad.ndim <= 1:
        return grad
    return grad - grad.mean(dim=tuple(range(1, grad.ndim)), keepdim=True)
