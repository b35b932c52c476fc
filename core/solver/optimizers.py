"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import signature
from typing import Any

import torch

from core.solver.ranger import Ranger
from core.utils.errors import UserError, nearest
from core.utils.registry import Registry

OPTIMIZERS: Registry[Callable[..., torch.optim.Optimizer]] = Registry("optimizer (SOLVER.OPTIMIZER_CFG.type)")
OPTIMIZERS.register("Ranger")(Ranger)
OPTIMIZERS.register("AdamW")(torch.optim.AdamW)
OPTIMIZERS.register("Adam")(torch.optim.Adam)
OPTIMIZERS.register("RAdam")(torch.optim.RAdam)
OPTIMIZERS.register("SGD")(torch.optim.SGD)
OPTIMIZERS.register("RMSprop")(torch.optim.RMSprop)


def build_optimizer(params: Iterable[Any], type: str, lr: float, **options: Any) -> torch.optim.Optimizer:
    """The optimizer of a name over parameters or groups of them.

    Args:
        params: parameters, or groups with rates of their own.
        type: a name in `OPTIMIZERS`.
        lr: learning rate of groups without one.
        **options: arguments of that optimizer (`weight_decay`, `betas`, ...).

    Raises:
        UserError: unknown name or option, or a value the optimizer refuses.
    """
    make = OPTIMIZERS[type]
    known = [name for name in signature(make).parameters if name not in ("self", "params")]
    if "momentum" not in known and not options.get("momentum", 0):
        options.pop("momentum", None)  # inherited from the base configuration's RMSprop, where it is 0
    for name in options:
        if name not in known:
            raise UserError(
                f"SOLVER.OPTIMIZER_CFG.{name} is no option of {type}{nearest(name, known)} (known: {', '.join(known)})"
            )
    try:
        return make(params, lr=lr, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"SOLVER.OPTIMIZER_CFG does not fit {type}: {error}") from error
