"""A training run of a detector, assembled from finished parts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sopose.core.data.loader import make_train_loader
from sopose.core.data.sources import SampleSource
from sopose.core.detection.draw import SHOWN_SCORE, draw_found, sheet
from sopose.core.detection.facts import DetectorFacts
from sopose.core.detection.infer import FoundObject
from sopose.core.detection.model import detection_losses
from sopose.core.detection.sample import DetectionBatch, collate_samples
from sopose.core.engine.checkpoint import checkpoint_facts, read_checkpoint
from sopose.core.engine.checkpointer import Checkpointer, last_checkpoint
from sopose.core.engine.guard import Guard
from sopose.core.engine.hooks import SaveCheckpoint
from sopose.core.engine.logs import ConsoleLog, JsonLog, TensorBoardLog
from sopose.core.engine.modes import evaluation_mode
from sopose.core.engine.resume import resume_run
from sopose.core.engine.step import StepOptions
from sopose.core.engine.trainer import Trainer
from sopose.core.solver.optimizers import build_optimizer
from sopose.core.solver.schedules import build_schedule
from sopose.core.utils.errors import UserError

logger = logging.getLogger(__name__)
PICTURES = 4  # images of a batch in TensorBoard
WARMUP = 50  # iterations, at most a tenth of a run
ANNEAL_POINT = 0.4  # share of a run after which the learning rate falls
NAMES_TOLD = 4  # of a batch, in a message
COURSE = "course"  # facts of a run that may change when it is resumed
STEERING = ("epochs", "batch_size", "lr", "weight_decay", "clip_norm", "seed")  # options among them


@dataclass(frozen=True)
class TrainingOptions:
    """How long and how a detector learns."""

    epochs: int = 20
    batch_size: int = 8
    lr: float = 2e-3
    weight_decay: float = 1e-2
    clip_norm: float = 10.0
    seed: int = 0
    workers: int = 1
    max_skipped: int = 10  # steps in a row that are not finite
    print_period: int = 20  # iterations
    picture_period: int = 0
    keep: int = 2  # checkpoints, one an epoch


def build_trainer(
    network: nn.Module,
    source: SampleSource,
    facts: DetectorFacts,
    options: TrainingOptions,
    output: Path,
    resume: bool,
    should_stop: Callable[[], bool],
) -> Trainer:
    """The trainer of a network on its device, with logs and checkpoints in `output`, at the iteration it starts from.

    Nothing is written before it trains. Raises `UserError` where `resume` finds another run.
    """
    per_epoch = max(len(source) // options.batch_size, 1)
    total = per_epoch * options.epochs
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(learned, "AdamW", options.lr, weight_decay=options.weight_decay)
    warmup = min(WARMUP, total // 10)
    schedule = build_schedule(
        optimizer, "flat_and_anneal", total, warmup_iters=warmup, warmup_factor=0.1, anneal_point=ANNEAL_POINT
    )
    told = facts.plain() | {COURSE: {"images": len(source), **{name: getattr(options, name) for name in STEERING}}}
    if resume:
        _require_same_run(told, output)
    checkpointer = Checkpointer(
        output, network, {"optimizer": optimizer, "schedule": schedule}, told, keep=options.keep
    )
    draw = partial(batch_picture, network=network, facts=facts)
    trainer = Trainer(
        network,
        partial(_losses, network=network),
        batches=(),
        optimizer=optimizer,
        schedule=schedule,
        max_iter=total,
        hooks=[
            ConsoleLog(options.print_period, per_epoch),
            JsonLog(options.print_period, output / "metrics.json"),
            TensorBoardLog(options.print_period, output / "tensorboard", options.picture_period, draw),
            SaveCheckpoint(per_epoch, checkpointer),
        ],
        options=StepOptions(clip_norm=options.clip_norm),
        guard=Guard(options.max_skipped, _describe, remedy="lower --lr and resume, or check these images"),
        should_stop=should_stop,
    )
    if resume:
        trainer.iteration = resume_run(checkpointer, schedule)
    trainer.batches = make_train_loader(
        source,
        collate_samples,
        options.batch_size,
        options.seed,
        num_workers=options.workers,
        start=trainer.iteration * options.batch_size,
    )
    logger.info("%d images an epoch, %d epochs of %d iterations", len(source), options.epochs, per_epoch)
    return trainer


def _require_same_run(told: dict[str, Any], output: Path) -> None:
    """`UserError` where the run in `output` learns other objects or has another design; its course may change."""
    last = last_checkpoint(output)
    before = {} if last is None else checkpoint_facts(read_checkpoint(last))
    was, course = before.pop(COURSE, None), told[COURSE]
    for name, value in before.items():
        if name in told and value != told[name]:
            raise UserError(
                f"{output} holds a run with {name}={value}, and would go on with {told[name]}: its classes and weights "
                f"would mean something else; start it as it was, or train anew in another folder"
            )
    for name, value in was.items() if isinstance(was, dict) else ():
        if name in course and value != course[name]:
            logger.warning("going on with another setting: before %s=%s, now %s", name, value, course[name])


def _losses(batch: DetectionBatch, _iteration: int, network: nn.Module) -> dict[str, torch.Tensor]:
    return detection_losses(network, batch.to(next(network.parameters()).device))


@torch.no_grad()
def batch_picture(batch: DetectionBatch, network: nn.Module, facts: DetectorFacts) -> dict[str, np.ndarray]:
    """The first images of a batch, RGB, with what the network finds now: right green, wrong orange, missed blue."""
    images = batch.images[:PICTURES]
    with evaluation_mode(network):
        outputs = network(list(images.to(next(network.parameters()).device).float() / 255))
    boxes, classes = batch.boxes.split(batch.counts), batch.classes.split(batch.counts)
    drawn = []
    for image, output, truths in zip(images, outputs, zip(boxes, classes, strict=True), strict=False):
        parts = (output[name].cpu() for name in ("labels", "scores", "boxes"))
        found = [
            FoundObject(facts.objects[label], float(score), box.double().numpy())
            for label, score, box in zip(*parts, strict=True)
            if score >= SHOWN_SCORE
        ]
        truth = [(facts.objects[label], box.double().numpy()) for box, label in zip(*truths, strict=True)]
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1])
        drawn.append(draw_found(pixels, found, truth))
    return {"detections": sheet(drawn, min(2, len(drawn)))[..., ::-1]}


def _describe(batch: DetectionBatch) -> str:
    more = len(batch.names) - NAMES_TOLD
    return ", ".join([*batch.names[:NAMES_TOLD], *([f"and {more} more"] if more > 0 else [])])
