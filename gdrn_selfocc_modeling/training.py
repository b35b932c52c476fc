"""A training run, assembled from a configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from core.config.load import save_config
from core.data.loader import SampleSource, make_train_loader
from core.engine.checkpoint import load_weights, model_weights, read_checkpoint
from core.engine.checkpointer import Checkpointer, last_checkpoint
from core.engine.hooks import ConsoleLog, Evaluate, JsonLog, SaveCheckpoint, TensorBoardLog, UpdateAverage
from core.engine.launch import seed_everything, select_device
from core.engine.trainer import StepOptions, Trainer
from core.solver.optimizers import accumulation, build_optimizer
from core.solver.schedules import build_schedule
from core.utils.errors import UserError
from core.utils.files import require_writable_dir
from gdrn_selfocc_modeling.data.batch import RoiBatch, RoiTargets, SampleInfo, collate_samples
from gdrn_selfocc_modeling.data.build import build_train_dataset, class_names
from gdrn_selfocc_modeling.data.build_device import build_device_source
from gdrn_selfocc_modeling.data.test_set import TestSet
from gdrn_selfocc_modeling.evaluation import build_test_sets, evaluate_model
from gdrn_selfocc_modeling.losses.build import build_criterion
from gdrn_selfocc_modeling.models.build import build_model, build_parameter_groups

logger = logging.getLogger(__name__)
METRICS = "metrics.json"
Batch = tuple[RoiBatch, RoiTargets, list[SampleInfo]]


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is ready to go: its loop, its checkpoints, and its evaluation on all test splits."""

    trainer: Trainer
    checkpointer: Checkpointer
    evaluate: Callable[[], None]


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


def train(cfg: Any, resume: bool = False) -> None:
    """Train as `cfg` says, then evaluate on DATASETS.TEST.

    Everything the run will need, test sets included, is opened before anything is written. Raises `UserError` for
    bad input, and where OUTPUT_DIR holds another run that is not to be resumed.
    """
    output = Path(cfg.OUTPUT_DIR)
    if not resume and last_checkpoint(output) is not None:
        raise UserError(f"{output} holds a run already; add --resume to go on, or name another OUTPUT_DIR in --opts")
    require_writable_dir(output, "name another OUTPUT_DIR in --opts")
    device = select_device(cfg.MODEL.DEVICE)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    seed = seed_everything(_seed(cfg, resume))
    source = build_train_dataset(cfg)
    test_sets = build_test_sets(cfg)
    model = _initial_model(cfg, resume, device)
    length = RunLength(max(len(source) // rois_per_step(cfg.SOLVER), 1), cfg.SOLVER.TOTAL_EPOCHS)
    run = _assemble(cfg, model, source, length, seed, test_sets, device)
    if resume:
        run.trainer.iteration = run.checkpointer.resume()
    _set_loader(run.trainer, cfg, source, seed, device)
    save_config(cfg, output / "config.py")
    logger.info(
        "%d samples an epoch, %d epochs of %d iterations, seed %d, %s, output in %s",
        *(len(source), length.epochs, length.per_epoch, seed, device, output),
    )
    run.trainer.train()
    run.evaluate()


def rois_per_step(solver: Any) -> int:
    """ROIs whose gradients make one step: IMS_PER_BATCH, times the batches that REFERENCE_BS lets accumulate."""
    return solver.IMS_PER_BATCH * accumulation(solver.IMS_PER_BATCH, solver.REFERENCE_BS)[0]


def _seed(cfg: Any, resume: bool) -> int:
    """SEED; where it is to be drawn, a resumed run goes on with the one it drew first."""
    last = last_checkpoint(Path(cfg.OUTPUT_DIR)) if resume and cfg.SEED < 0 else None
    facts = None if last is None else read_checkpoint(last).get("facts")
    drawn = facts.get("seed") if isinstance(facts, dict) else None
    return drawn if isinstance(drawn, int) else cfg.SEED


def _initial_model(cfg: Any, resume: bool, device: torch.device) -> nn.Module:
    """The network with the weights a run starts from; a run that is resumed reads its own later.

    What fits of MODEL.WEIGHTS is taken; where these have no backbone, it starts as BACKBONE.PRETRAINED says.
    """
    resumed = resume and last_checkpoint(Path(cfg.OUTPUT_DIR)) is not None
    path = Path(cfg.MODEL.WEIGHTS)
    weights = model_weights(read_checkpoint(path), path) if cfg.MODEL.WEIGHTS and not resumed else {}
    model = build_model(cfg, pretrained=not resumed and not any("backbone." in name for name in weights))
    if weights:
        load_weights(model, weights, path, partial=True)
    # Convolutions are faster in this layout, on the CPU by 1.7.
    return model.to(device, memory_format=torch.channels_last)


def _assemble(
    cfg: Any,
    model: nn.Module,
    source: SampleSource,
    length: RunLength,
    seed: int,
    test_sets: list[TestSet],
    device: torch.device,
) -> Run:
    """The trainer with its hooks, and what they use."""
    output, solver = Path(cfg.OUTPUT_DIR), cfg.SOLVER
    criterion = build_criterion(cfg).to(device)
    groups = build_parameter_groups(model, cfg)
    learned_weights = list(criterion.parameters())
    if learned_weights:
        groups.append({"params": learned_weights, "lr": solver.OPTIMIZER_CFG.lr, "name": "loss_weights"})
    batches, decay_factor = accumulation(solver.IMS_PER_BATCH, solver.REFERENCE_BS)
    options = {**solver.OPTIMIZER_CFG}
    if "weight_decay" in options:
        options["weight_decay"] *= decay_factor
    optimizer = build_optimizer(groups, **options)
    schedule = make_schedule(optimizer, solver, length.total)
    average = _moving_average(model, cfg.MODEL.EMA)
    parts = {"optimizer": optimizer, "schedule": schedule}
    parts |= {"criterion": criterion} if learned_weights else {}
    parts |= {"ema_model": average} if average is not None else {}
    tested = model if average is None else average.module
    facts = {"objects": class_names(cfg), "seed": seed, "config": cfg.pretty_text}
    checkpointer = Checkpointer(output, model, parts, facts, keep=solver.MAX_TO_KEEP)

    def compute_losses(batch: Batch, iteration: int) -> dict[str, Tensor]:
        rois, targets = (part.to(device, non_blocking=True) for part in batch[:2])
        return criterion(model(rois), rois, targets, length.epoch(iteration))

    def evaluate_all() -> None:
        for test_set in test_sets:
            evaluate_model(tested, test_set, cfg, device, f"{trainer.iteration} iterations")

    amp_dtype = torch.bfloat16 if solver.AMP.ENABLED and device.type == "cuda" else None
    checkpoint_period = solver.CHECKPOINT_PERIOD * (length.per_epoch if solver.CHECKPOINT_BY_EPOCH else 1)
    trainer = Trainer(
        model,
        compute_losses,
        batches=(),
        optimizer=optimizer,
        schedule=schedule,
        max_iter=length.total,
        hooks=[
            *([UpdateAverage(average)] if average is not None else []),
            ConsoleLog(cfg.TRAIN.PRINT_FREQ, length.per_epoch),
            JsonLog(cfg.TRAIN.PRINT_FREQ, output / METRICS),
            TensorBoardLog(cfg.TRAIN.PRINT_FREQ, output / "tensorboard"),
            SaveCheckpoint(checkpoint_period, checkpointer),
            Evaluate(cfg.TEST.EVAL_PERIOD * length.per_epoch, evaluate_all),
        ],
        options=StepOptions(amp_dtype, solver.CLIP_GRADIENTS, batches),
        describe=_describe,
    )
    return Run(trainer, checkpointer, evaluate_all)


def _set_loader(trainer: Trainer, cfg: Any, source: SampleSource, seed: int, device: torch.device) -> None:
    """Let the data start where the iterations do."""
    if cfg.CAD.DEVICE:
        size, start = cfg.SOLVER.IMS_PER_BATCH, trainer.iteration * trainer.options.batches
        renderer = build_device_source(cfg, select_device(cfg.CAD.DEVICE), seed)
        count = trainer.max_iter * trainer.options.batches - start
        trainer.batches = renderer.batches(count, size, seed, cfg.DATALOADER.NUM_WORKERS, start)
        return
    trainer.batches = make_train_loader(
        source,
        collate_samples,
        cfg.SOLVER.IMS_PER_BATCH,
        seed,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        start=trainer.iteration * rois_per_step(cfg.SOLVER),
        pin_memory=device.type == "cuda",
    )


def make_schedule(
    optimizer: torch.optim.Optimizer, solver: Any, total_iters: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate of a run of `total_iters` steps, as SOLVER says."""
    return build_schedule(
        optimizer,
        name=solver.LR_SCHEDULER_NAME,
        total_iters=total_iters,
        warmup_method=solver.WARMUP_METHOD,
        # A short run keeps a flat part.
        warmup_iters=min(solver.WARMUP_ITERS, total_iters // 10),
        warmup_factor=solver.WARMUP_FACTOR,
        anneal_method=solver.ANNEAL_METHOD,
        anneal_point=solver.ANNEAL_POINT,
        poly_power=solver.POLY_POWER,
        rel_steps=solver.REL_STEPS,
        gamma=solver.GAMMA,
    )


def _moving_average(model: nn.Module, options: Any) -> AveragedModel | None:
    if not options.ENABLED:
        return None
    average = get_ema_multi_avg_fn(options.INIT_CFG.decay)
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


def _describe(batch: Batch) -> str:
    """The ROIs of a batch by scene, image and object."""
    return ", ".join(f"{info.scene_id}/{info.im_id} object {info.obj_id}" for info in batch[2])
