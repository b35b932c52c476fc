"""What learns in a run: network, losses, optimizer and schedule, by its settings and number of processes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sopose.batch import Prediction, RoiBatch, RoiTargets, SampleInfo
from sopose.core.engine.checkpointer import Stateful
from sopose.core.engine.distributed import current_world
from sopose.core.engine.modes import evaluation_mode, keep_slow_parts_in_float32
from sopose.core.engine.step import AMP_TYPES, StepOptions, gradient_scaler
from sopose.core.solver.optimizers import OPTIMIZERS, accumulation, build_optimizer
from sopose.core.solver.schedules import build_schedule
from sopose.core.utils.errors import UserError, nearest
from sopose.losses.build import build_criterion
from sopose.losses.criterion import Criterion
from sopose.models.build import build_parameter_groups
from sopose.models.gdrn import GDRN
from sopose.settings.groups import AmpSettings, Settings, SolverSettings
from sopose.settings.network import EmaSettings

logger = logging.getLogger(__name__)
Batch = tuple[RoiBatch, RoiTargets, list[SampleInfo]]
AUTO, FLOAT32 = "auto", "float32"
FUSED_DEVICES = ("cuda", "cpu")


@dataclass(frozen=True)
class RunLength:
    """How long a run is, in iterations."""

    per_epoch: int
    epochs: int

    @property
    def total(self) -> int:
        return self.per_epoch * self.epochs

    def epoch(self, iteration: int) -> int:
        """The epoch, counted from 1, that an iteration, counted from 0, belongs to."""
        return iteration // self.per_epoch + 1


class LossNetwork(nn.Module):
    """Network and losses in one module, so that DistributedDataParallel sees which parameters the losses reach."""

    def __init__(self, network: Callable[[RoiBatch], Prediction], criterion: Criterion) -> None:
        super().__init__()
        self.network, self.criterion = network, criterion

    def forward(self, rois: RoiBatch, targets: RoiTargets, epoch: float) -> dict[str, Tensor]:
        """The weighted losses of a batch, by name."""
        return self.criterion(self.network(rois), rois, targets, epoch)


@dataclass(frozen=True, eq=False)
class Learner:
    """Finished parts of a run's steps. `average` and `scaler` are None where the settings have none."""

    model: GDRN
    losses: nn.Module  # a `LossNetwork`, or DDP around it
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    options: StepOptions
    length: RunLength
    scaler: torch.amp.GradScaler | None = None
    average: AveragedModel | None = None

    @property
    def tested(self) -> nn.Module:
        """The network that is evaluated: the average where there is one."""
        return self.model if self.average is None else self.average.module

    def compute_losses(self, batch: Batch, iteration: int) -> dict[str, Tensor]:
        """The weighted losses of a batch at an iteration, by name."""
        device = next(self.model.parameters()).device
        rois, targets = (part.to(device, non_blocking=True) for part in batch[:2])
        return self.losses(rois, targets, self.length.epoch(iteration))

    def stateful_parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds beside the network."""
        module = self.losses.module if isinstance(self.losses, DistributedDataParallel) else self.losses
        learned = {"criterion": module.criterion} if list(module.criterion.parameters()) else {}
        optional = {"scaler": self.scaler, "ema_model": self.average}
        parts = {"optimizer": self.optimizer, "schedule": self.schedule, **learned}
        return parts | {name: part for name, part in optional.items() if part is not None}


def build_learner(
    settings: Settings,
    model: GDRN,
    length: RunLength,
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
    probe: Batch | None = None,
) -> Learner:
    """All of it for a network on `device`. Every rank of a distributed run builds its own.

    `amp_dtype` is the type of mixed precision, None for float32, see `choose_precision`.
    `probe` is any batch, alike on all ranks, that shows whether the losses reach every parameter. Raises `UserError`
    for bad input.
    """
    solver, net, world = settings.solver, settings.model.pose_net, current_world()
    if settings.model.sync_bn and device.type == "cuda" and world.size > 1:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if amp_dtype is not None and device.type == "cpu":
        keep_slow_parts_in_float32(model)
    criterion = build_criterion(net, settings.train, solver.total_epochs).to(device)
    losses: nn.Module = LossNetwork(torch.compile(model) if settings.model.compile else model, criterion)
    no_sync: Callable[[], AbstractContextManager] = nullcontext
    if world.size > 1:
        losses = DistributedDataParallel(
            losses,
            device_ids=[device] if device.type == "cuda" else None,
            find_unused_parameters=probe is None or not reaches_all(LossNetwork(model, criterion), probe, length),
        )
        no_sync = losses.no_sync
    batches, decay_factor = accumulation(solver.ims_per_batch, solver.reference_bs)
    groups = build_parameter_groups(model, net, solver.optimizer_cfg["lr"], solver.bias_lr_factor)
    optimizer = _build_optimizer(solver, groups, [*criterion.parameters()], decay_factor, device)
    return Learner(
        model=model,
        losses=losses,
        optimizer=optimizer,
        schedule=make_schedule(optimizer, solver, length.total),
        options=StepOptions(amp_dtype, solver.clip_gradients, batches, no_sync),
        length=length,
        scaler=gradient_scaler(amp_dtype, device),
        average=moving_average(model, settings.model.ema),
    )


def reaches_all(losses: LossNetwork, batch: Batch, length: RunLength) -> bool:
    """Whether the losses of a batch reach every parameter that learns, in the first epoch and in the last."""
    parameters = [parameter for parameter in losses.parameters() if parameter.requires_grad]
    device = parameters[0].device
    rois, targets = (part.to(device) for part in batch[:2])
    with evaluation_mode(losses):
        totals = [sum(losses(rois, targets, epoch).values()) for epoch in (1, length.epochs)]
    slopes = [torch.autograd.grad(total, parameters, allow_unused=True) for total in totals]
    return all(slope is not None for of_epoch in slopes for slope in of_epoch)


def rois_per_step(solver: SolverSettings) -> int:
    """ROIs whose gradients make one step: IMS_PER_BATCH, times the batches that REFERENCE_BS lets accumulate."""
    return solver.ims_per_batch * accumulation(solver.ims_per_batch, solver.reference_bs)[0]


def rois_per_rank(solver: SolverSettings) -> int:
    """ROIs of a batch that each process sees. Raises `UserError` where they don't come out even."""
    size = current_world().size
    if solver.ims_per_batch % size:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH={solver.ims_per_batch} counts the ROIs of all processes and is not divisible by "
            f"their number, {size}; make it a multiple of {size}"
        )
    return solver.ims_per_batch // size


def _build_optimizer(
    solver: SolverSettings,
    groups: list[dict[str, Any]],
    loss_weights: list[nn.Parameter],
    decay_factor: float,
    device: torch.device,
) -> torch.optim.Optimizer:
    """SOLVER.OPTIMIZER_CFG over the network's groups and the learned loss weights; fused where torch has it."""
    options = {**solver.optimizer_cfg}
    if loss_weights:
        groups = [*groups, {"params": loss_weights, "lr": options["lr"], "name": "loss_weights"}]
    if "weight_decay" in options:
        options["weight_decay"] *= decay_factor
    known = signature(OPTIMIZERS[options["type"]]).parameters
    if device.type in FUSED_DEVICES and "fused" in known and not {"fused", "foreach"} & options.keys():
        options["fused"] = True
    return build_optimizer(groups, **options)


def make_schedule(optimizer: torch.optim.Optimizer, solver: SolverSettings, total_iters: int) -> LRScheduler:
    """The learning rate of a run of `total_iters` steps, as SOLVER says."""
    return build_schedule(
        optimizer,
        name=solver.lr_scheduler_name,
        total_iters=total_iters,
        warmup_method=solver.warmup_method,
        # A short run keeps a flat part.
        warmup_iters=min(solver.warmup_iters, total_iters // 10),
        warmup_factor=solver.warmup_factor,
        anneal_method=solver.anneal_method,
        anneal_point=solver.anneal_point,
        poly_power=solver.poly_power,
        rel_steps=solver.rel_steps,
        gamma=solver.gamma,
    )


def choose_precision(amp: AmpSettings, device: torch.device, bfloat16: str, before: str = "") -> str:
    """The name of the type that a run computes in: float32, or that of SOLVER.AMP.

    bfloat16: the CPU's units for that type, "" for none. before: what a run that is resumed computed in so far; it goes
    on in that, for its course depends on it. Raises `UserError` for an unknown type.
    """
    known = [*AMP_TYPES, AUTO]
    if amp.dtype not in known:
        raise UserError(f"SOLVER.AMP.DTYPE is '{amp.dtype}'{nearest(amp.dtype, known)} (known: {', '.join(known)})")
    asked = amp.dtype if amp.enabled else FLOAT32
    if asked == AUTO:
        asked = before or (FLOAT32 if device.type == "cpu" and not bfloat16 else "bfloat16")
    if asked == "float16" and device.type != "cuda":
        logger.info("SOLVER.AMP.DTYPE=float16 is for GPUs; on the CPU the run stays in float32")
        asked = FLOAT32
    if before and before != asked:
        logger.warning("the run began in %s and continues in it; SOLVER.AMP says %s now", before, asked)
        return before
    if asked == "bfloat16" and device.type == "cpu" and not bfloat16:
        logger.warning("this CPU has no units for bfloat16, so float32 is faster; set SOLVER.AMP.DTYPE=auto")
    return asked


def moving_average(model: nn.Module, options: EmaSettings) -> AveragedModel | None:
    """The average that MODEL.EMA asks for; None where it asks for none.

    A step leaves (1 + n) / (10 + n) of it, n steps after the first, and at most the decay: first steps are those of a
    network that knows nothing, and don't stay.
    """
    if not options.enabled:
        return None

    def follow(averages: list[Tensor], values: list[Tensor], steps: Tensor) -> None:
        share = min(options.init_cfg.decay, (1 + int(steps)) / (10 + int(steps)))
        get_ema_multi_avg_fn(share)(averages, values, steps)

    return AveragedModel(model, multi_avg_fn=follow, use_buffers=True)
