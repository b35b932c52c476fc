"""Optimizers by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from inspect import signature
from typing import Any

import torch

from sopose.core.solver.ranger import Ranger
from sopose.core.utils.errors import UserError, nearest
from sopose.core.utils.registry import Registry

# Steps that need a closure which computes the loss again, or gradients that are sparse.
OTHER_STEPS = ("LBFGS", "SparseAdam")

OPTIMIZERS: Registry[Callable[..., torch.optim.Optimizer]] = Registry(
    "optimizer (SOLVER.OPTIMIZER_CFG.type)", "sopose.optimizers"
)
OPTIMIZERS.register("Ranger")(Ranger)
for _name, _class in inspect.getmembers(torch.optim, inspect.isclass):
    if issubclass(_class, torch.optim.Optimizer) and _name not in ("Optimizer", *OTHER_STEPS):
        OPTIMIZERS.register(_name)(_class)


def build_optimizer(params: Iterable[Any], type: str, lr: float, **options: Any) -> torch.optim.Optimizer:
    """The optimizer of a name over parameters or groups of them.

    Args:
        params: parameters, or groups with rates of their own.
        type: a name in `OPTIMIZERS`: "Ranger", or a class of torch.optim that steps on gradients alone.
        lr: learning rate of groups without one.
        **options: arguments of that optimizer (`weight_decay`, `betas`, ...).

    Raises:
        UserError: unknown name or option, or a value the optimizer refuses.
    """
    make = OPTIMIZERS[type]
    known = [name for name in signature(make).parameters if name not in ("self", "params")]
    for name in ("momentum", "weight_decay"):
        if name not in known and not options.get(name, 0):
            options.pop(name, None)  # inherited from the base configuration's RMSprop, where it is 0
    for name in options:
        if name not in known:
            raise UserError(
                f"SOLVER.OPTIMIZER_CFG.{name} is no option of {type}{nearest(name, known)} (known: {', '.join(known)})"
            )
    try:
        return make(params, lr=lr, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"SOLVER.OPTIMIZER_CFG does not fit {type}: {' '.join(str(error).split())}") from error


def accumulation(batch_size: int, reference: int) -> tuple[int, float]:
    """Batches that make one step of about `reference` samples, and the factor of the weight decay that goes with it.

    A step of n times as many samples is taken n times more rarely, so that decay per sample stays what it is at
    `reference` samples a step. Without a reference (below 1): (1, 1.0).
    """
    if reference < 1:
        return 1, 1.0
    batches = max(round(reference / batch_size), 1)
    return batches, batches * batch_size / reference
