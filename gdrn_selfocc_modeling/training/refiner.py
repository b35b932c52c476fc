"""A training run of the second look's network, on looks at scenes rendered from CAD models."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from scipy.special import chdtri
from torch import Tensor

from sopose.batch import LookBatch, LookTargets, SampleInfo, collate
from sopose.core.data.sources import SampleSource
from sopose.core.engine.assemble import COURSE, Lesson, TrainingOptions, assemble_trainer
from sopose.core.engine.distributed import select_device
from sopose.core.engine.machine import share_cores, this_machine
from sopose.core.engine.modes import evaluation_mode, keep_slow_parts_in_float32
from sopose.core.engine.random_state import seed_everything
from sopose.core.engine.trainer import Trainer
from sopose.data.build import LookData, build_look_data
from sopose.data.look import look_format
from sopose.data.look_source import LookSample
from sopose.data.roi_input import RoiFormat
from sopose.losses.look import look_losses, pose_loss, true_shift
from sopose.models.refiner import Refiner, refined
from sopose.models.refiner_design import RANGES, RefinerDesign, seen_points
from sopose.models.refiner_file import build_refiner, save_refiner, start_from
from sopose.settings import Settings, shipped
from sopose.settings.groups import SolverSettings, TrainSettings
from sopose.settings.network import ModelSettings
from sopose.training.before import PRECISION, facts_before, run_seed
from sopose.training.learner import choose_precision
from sopose.vis.looks import look_pictures

logger = logging.getLogger(__name__)

Batch = tuple[LookBatch, LookTargets, list[SampleInfo]]
PICTURES = 4  # looks of a batch in TensorBoard
MOST_LOOKS = 4  # looks of a batch in a message
MEASURED, SEED = 256, 999_983  # looks that errors' correlation is measured on, and their seed


def build_design(model: ModelSettings, pixel_format: str) -> RefinerDesign:
    """The design that MODEL.REFINE asks for; colours are those of the pose network."""
    refine = model.refine
    return RefinerDesign(
        backbone=refine.backbone,
        out_indices=refine.out_indices,
        channels=refine.channels,
        input_res=refine.input_res,
        output_res=refine.output_res,
        pad_scale=refine.pad_scale,
        pixel_format=pixel_format,
        pixel_mean=model.pixel_mean,
        pixel_std=model.pixel_std,
        start_rotation=refine.start.rotation,
        start_depth=refine.start.depth,
        start_across=refine.start.across,
    )


def build_options(solver: SolverSettings, train: TrainSettings, **given: int | str) -> TrainingOptions:
    """How the refiner learns, of SOLVER and TRAIN; AdamW at the rate of OPTIMIZER_CFG."""
    options = TrainingOptions(
        epochs=solver.total_epochs,
        batch_size=solver.ims_per_batch,
        lr=solver.optimizer_cfg["lr"],
        weight_decay=solver.optimizer_cfg.get("weight_decay", 0.0),
        clip_norm=solver.clip_gradients,
        warmup=solver.warmup_iters,
        max_skipped=train.max_skipped,
        print_period=train.print_freq,
        keep=solver.max_to_keep,
    )
    return replace(options, **given)


def collate_looks(samples: Sequence[LookSample]) -> Batch:
    """The batch of a list of samples."""
    looks, targets, infos = zip(*samples, strict=True)
    return collate(looks), collate(targets), list(infos)


@dataclass(frozen=True, eq=False)
class RefinerRun:
    """A run that is ready to go."""

    trainer: Trainer
    network: Refiner
    design: RefinerDesign
    data: LookData
    device: torch.device
    start: dict[str, int]  # what `run.json` says of it
    caution: float = 1.0  # by how much less sure displacements are in photographs

    def save(self, path: Path) -> None:
        """Write the refiner alone, with how far its cells' errors go together."""
        correlation = measured_correlation(self.network, self.data.source) * self.caution
        logger.info("errors of cells go together: covariances are %.3g times those of independent ones", correlation)
        save_refiner(
            self.network,
            replace(self.design, correlation=float(np.clip(correlation, *RANGES["correlation"]))),
            self.data.objects,
            path,
        )


def build_refiner_run(settings: Settings, resume: bool, should_stop: Callable[[], bool]) -> RefinerRun:
    """Everything of a run, at the iteration it starts from; nothing is written. Raises `UserError` for bad input."""
    output, given, loading = Path(settings.output_dir), settings.model, settings.dataloader
    device, before = select_device(given.device), facts_before(output).get(COURSE, {}) if resume else {}
    seed = seed_everything(run_seed(settings.seed, before))
    data, design = build_look_data(settings), build_design(given, settings.input.format)
    network = build_refiner(design, "" if before else given.refine.pretrained)
    if given.weights and not before:
        start_from(network, shipped(Path(given.weights)))
    network = network.to(device, memory_format=torch.channels_last)
    shares, machine = share_cores(loading.num_workers, settings.cpu_threads, device.type == "cpu"), this_machine()
    precision = choose_precision(settings.solver.amp, device, machine.bfloat16, str(before.get(PRECISION, "")))
    values = {"seed": seed, "workers": shares.workers, "precision": precision, "picture_period": settings.vis_period}
    options = build_options(settings.solver, settings.train, **values)
    trainer = build_refiner_trainer(
        network, data.source, design, data.objects, options, output, resume, should_stop, given.refine.pose_lw
    )
    logger.info(
        "%s: threads that compute %d, in %s on %s; processes that prepare looks %d",
        *(machine, shares.threads, precision, device, shares.workers),
    )
    start = {"iteration": trainer.iteration, "seed": seed, "looks": len(data.source)}
    return RefinerRun(trainer, network, design, data, device, start, given.refine.caution)


def build_refiner_trainer(
    network: Refiner,
    source: SampleSource,
    design: RefinerDesign,
    objects: Sequence[str],
    options: TrainingOptions,
    output: Path,
    resume: bool,
    should_stop: Callable[[], bool],
    pose_weight: float = 0.0,
) -> Trainer:
    """The trainer of a refiner of the objects, see `assemble_trainer`."""
    if next(network.parameters()).device.type == "cpu":
        keep_slow_parts_in_float32(network)
    roi_format = look_format(design)
    lesson = Lesson(
        source,
        collate_looks,
        partial(_losses, network=network, correlation=design.correlation, pose_weight=pose_weight),
        partial(_draw, network=network, roi_format=roi_format),
        _describe,
        remedy="lower SOLVER.OPTIMIZER_CFG.lr and resume, or check these looks",
        samples="looks",
    )
    return assemble_trainer(network, lesson, design.facts(objects), options, output, resume, should_stop)


@torch.inference_mode()
def measured_correlation(network: Refiner, source: SampleSource, count: int = MEASURED, seed: int = SEED) -> float:
    """By how much the covariance that independent cells would have is too small: the factor that fits the middle.

    Of so many looks that training doesn't see, each solved from the displacements alone: the median of the truth's
    squared Mahalanobis distances over that of the chi-squared law.
    """
    device, squares = next(network.parameters()).device, []
    with evaluation_mode(network):
        for index in range(count):
            look, targets, _ = collate_looks([source.sample(index % len(source), np.random.default_rng([seed, index]))])
            moved = network(look.to(device)).map(lambda values: values.cpu().double())
            look, targets = (part.map(lambda values: values.double()) for part in (look, targets))
            fit = refined(look, moved)
            turn = Rotation.from_matrix((targets.cam_R_obj[0] @ fit.cam_R_obj[0].T).numpy()).as_rotvec()
            motion = np.concatenate([(targets.cam_t_obj[0] - fit.cam_t_obj[0]).numpy(), turn])
            squares.append(float(motion @ np.linalg.solve(fit.covariance[0].numpy(), motion)))
    return float(np.median(squares) / chdtri(len(motion), 0.5))


def _losses(
    batch: Batch, _iteration: int, network: Refiner, correlation: float, pose_weight: float
) -> dict[str, Tensor]:
    device = next(network.parameters()).device
    look, targets = (part.to(device, non_blocking=True) for part in batch[:2])
    moved = network(look)
    with torch.autocast(device.type, enabled=False):  # positions in pixels need more bits than a half has
        losses = look_losses(moved, look, targets)
        if pose_weight > 0:
            exact = (part.map(lambda values: values.double()) for part in (look, moved))
            seen = seen_points(*exact, correlation)
            losses["loss_pose"] = pose_weight * pose_loss(seen, look, targets).to(moved.shift.dtype)
        return losses


@torch.no_grad()
def _draw(batch: Batch, network: Refiner, roi_format: RoiFormat) -> dict[str, np.ndarray]:
    """Pictures of a batch as the network sees it now."""
    device = next(network.parameters()).device
    look, targets = (part.map(lambda tensor: tensor[:PICTURES]).to(device) for part in batch[:2])
    with evaluation_mode(network):
        moved = network(look)
    return look_pictures(look, true_shift(look, targets), moved, roi_format, PICTURES)


def _describe(batch: Batch) -> str:
    names = [f"look {info.im_id} at object {info.obj_id}" for info in batch[2][:MOST_LOOKS]]
    more = len(batch[2]) - len(names)
    return ", ".join([*names, *([f"and {more} more"] if more else [])])
