"""Learning rate over iterations: warm-up, then a flat part and an annealing, or steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from sopose.core.utils.errors import UserError, nearest
from sopose.core.utils.registry import Registry


@dataclass(frozen=True)
class ScheduleOptions:
    """The options of a schedule. Shares are of all iterations."""

    warmup_iters: int = 0
    warmup_factor: float = 0.001  # of the learning rate at iteration 0
    warmup_method: str = "linear"  # linear, constant, pow (quadratic) or exp
    anneal_point: float = 0.72  # share at which the flat part ends
    anneal_method: str = "cosine"  # cosine, linear, poly, exp, step or none
    target_factor: float = 0.0  # of the learning rate at the end
    poly_power: float = 1.0
    rel_steps: tuple[float, ...] = (2 / 3, 8 / 9)  # shares at which a step schedule steps
    gamma: float = 0.1  # factor of each step


Factor = Callable[[int], float]
SCHEDULES: Registry[Callable[[int, ScheduleOptions], Factor]] = Registry(
    "schedule (SOLVER.LR_SCHEDULER_NAME)", "sopose.schedules"
)

WARMUPS: dict[str, Callable[[float, float], float]] = {
    "linear": lambda share, start: start * (1 - share) + share,
    "constant": lambda share, start: start,
    "pow": lambda share, start: start * (1 - share) + share**2,
    "exp": lambda share, start: start ** (1 - share),
}

# share of the annealing that is over (0 to 1), options -> factor
ANNEALS: dict[str, Callable[[float, ScheduleOptions], float]] = {
    "cosine": lambda share, o: o.target_factor + (1 - o.target_factor) * 0.5 * (1 + math.cos(math.pi * share)),
    "linear": lambda share, o: o.target_factor + (1 - o.target_factor) * (1 - share),
    "poly": lambda share, o: o.target_factor + (1 - o.target_factor) * (1 - share) ** o.poly_power,
    # an exponential never reaches 0, so its target is at least 0.5 %
    "exp": lambda share, o: max(o.target_factor, 5e-3) ** share,
    "none": lambda share, o: 1.0,
}


def build_schedule(
    optimizer: Optimizer, name: str, total_iters: int, **options: float | str | tuple[float, ...]
) -> LambdaLR:
    """A schedule that is stepped once per iteration.

    Args:
        optimizer: each group's own rate is multiplied.
        name: "flat_and_anneal" (flat until `anneal_point`, then `anneal_method` to `target_factor`) or
            "WarmupMultiStepLR" (times `gamma` at each of `rel_steps`).
        total_iters: length of the training.
        **options: fields of `ScheduleOptions`.

    Raises:
        UserError: unknown name, option or method.
    """
    known = [field.name for field in fields(ScheduleOptions)]
    for key in options:
        if key not in known:
            raise UserError(f"'{key}' is no option of a schedule{nearest(key, known)} (known: {', '.join(known)})")
    return LambdaLR(optimizer, SCHEDULES[name](total_iters, ScheduleOptions(**options)))


@SCHEDULES.register("flat_and_anneal")
def flat_and_anneal(total_iters: int, options: ScheduleOptions) -> Factor:
    """Flat, then annealed over the rest of the training."""
    if options.anneal_method == "step":
        return multi_step(total_iters, options)
    anneal = _choice(ANNEALS, "SOLVER.ANNEAL_METHOD", options.anneal_method, extra="step")
    start = options.anneal_point * total_iters

    def factor(iteration: int) -> float:
        if iteration < start:
            return 1.0
        return anneal(min((iteration - start) / max(total_iters - start, 1e-9), 1.0), options)

    return _with_warmup(factor, options)


@SCHEDULES.register("WarmupMultiStepLR")
def multi_step(total_iters: int, options: ScheduleOptions) -> Factor:
    """Times `gamma` from each step on."""

    def factor(iteration: int) -> float:
        return options.gamma ** sum(iteration >= share * total_iters for share in options.rel_steps)

    return _with_warmup(factor, options)


def _with_warmup(factor: Factor, options: ScheduleOptions) -> Factor:
    warmup = _choice(WARMUPS, "SOLVER.WARMUP_METHOD", options.warmup_method)

    def warmed(iteration: int) -> float:
        if iteration < options.warmup_iters:
            return warmup(iteration / options.warmup_iters, options.warmup_factor)
        return factor(iteration)

    return warmed


def _choice(table: dict[str, Callable], key: str, name: str, extra: str = "") -> Callable:
    if name not in table:
        known = [*table, extra] if extra else [*table]
        raise UserError(f"{key} is '{name}'{nearest(name, known)} (known: {', '.join(known)})")
    return table[name]


def set_base_rates(schedule: LambdaLR, rates: Sequence[float]) -> None:
    """Let a schedule continue from where it is with other learning rates, one for each group of its optimizer."""
    schedule.base_lrs = list(rates)
    factors = [factor(schedule.last_epoch) for factor in schedule.lr_lambdas]
    for group, rate, factor in zip(schedule.optimizer.param_groups, rates, factors, strict=True):
        group["initial_lr"], group["lr"] = rate, rate * factor
    schedule._last_lr = [group["lr"] for group in schedule.optimizer.param_groups]
