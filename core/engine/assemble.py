"""A training run of one network by one process, assembled from finished parts: what learns, from what, and where to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from sopose.core.data.loader import make_train_loader
from sopose.core.data.sources import SampleSource
from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.checkpointer import Checkpointer, last_checkpoint
from sopose.core.engine.facts import checkpoint_facts
from sopose.core.engine.guard import Guard
from sopose.core.engine.hooks import SaveCheckpoint
from sopose.core.engine.logs import ConsoleLog, JsonLog, TensorBoardLog
from sopose.core.engine.resume import resume_run
from sopose.core.engine.step import AMP_TYPES, StepOptions, gradient_scaler
from sopose.core.engine.trainer import Trainer
from sopose.core.solver.optimizers import build_optimizer
from sopose.core.solver.schedules import build_schedule
from sopose.core.utils.errors import UserError

logger = logging.getLogger(__name__)
ANNEAL_POINT = 0.4  # share of a run after which the learning rate falls
COURSE = "course"  # facts of a run that may change when it is resumed
STEERING = ("epochs", "batch_size", "lr", "weight_decay", "clip_norm", "seed", "precision")  # options among them


@dataclass(frozen=True)
class TrainingOptions:
    """How long and how a network learns."""

    epochs: int = 20
    batch_size: int = 8
    lr: float = 2e-3
    weight_decay: float = 1e-2
    clip_norm: float = 10.0
    warmup: int = 50  # iterations, at most a tenth of a run
    seed: int = 0
    workers: int = 1
    precision: str = "float32"  # what it computes in
    max_skipped: int = 10  # steps in a row that are not finite
    print_period: int = 20  # iterations
    picture_period: int = 0
    keep: int = 2  # checkpoints, one an epoch


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a network learns from, whatever it is."""

    source: SampleSource
    collate: Callable[[Sequence[Any]], Any]  # samples -> batch
    losses: Callable[[Any, int], dict[str, Tensor]]  # batch, iteration -> weighted losses by name
    draw: Callable[[Any], Mapping[str, np.ndarray]]  # a batch as the network sees it now
    describe: Callable[[Any], str]  # what a batch is called in a message
    remedy: str  # where its steps are not finite
    samples: str = "samples"  # what they are called


def assemble_trainer(
    network: nn.Module,
    lesson: Lesson,
    facts: Mapping[str, Any],
    options: TrainingOptions,
    output: Path,
    resume: bool,
    should_stop: Callable[[], bool],
) -> Trainer:
    """The trainer of a network on its device, with logs and checkpoints in `output`, at the iteration it starts from.

    facts: what checkpoints say of the network, plain values. Nothing is written before it trains. Raises `UserError`
    where `resume` finds another run.
    """
    per_epoch = max(len(lesson.source) // options.batch_size, 1)
    total = per_epoch * options.epochs
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(learned, "AdamW", options.lr, weight_decay=options.weight_decay)
    warmup = min(options.warmup, total // 10)
    schedule = build_schedule(
        optimizer, "flat_and_anneal", total, warmup_iters=warmup, warmup_factor=0.1, anneal_point=ANNEAL_POINT
    )
    course = {lesson.samples: len(lesson.source), **{name: getattr(options, name) for name in STEERING}}
    run_facts = {**facts, COURSE: course}
    if resume:
        _require_same_run(run_facts, output)
    amp_dtype, device = AMP_TYPES.get(options.precision), next(network.parameters()).device
    scaler = gradient_scaler(amp_dtype, device)
    parts = {"optimizer": optimizer, "schedule": schedule} | ({} if scaler is None else {"scaler": scaler})
    checkpointer = Checkpointer(output, network, parts, run_facts, keep=options.keep)
    trainer = Trainer(
        network,
        lesson.losses,
        batches=(),
        optimizer=optimizer,
        schedule=schedule,
        max_iter=total,
        hooks=[
            ConsoleLog(options.print_period, per_epoch),
            JsonLog(options.print_period, output / "metrics.json"),
            TensorBoardLog(options.print_period, output / "tensorboard", options.picture_period, lesson.draw),
            SaveCheckpoint(per_epoch, checkpointer),
        ],
        options=StepOptions(amp_dtype, clip_norm=options.clip_norm),
        scaler=scaler,
        guard=Guard(options.max_skipped, lesson.describe, remedy=lesson.remedy),
        should_stop=should_stop,
    )
    if resume:
        trainer.iteration = resume_run(checkpointer, schedule)
    trainer.batches = make_train_loader(
        lesson.source,
        lesson.collate,
        options.batch_size,
        options.seed,
        num_workers=options.workers,
        start=trainer.iteration * options.batch_size,
    )
    logger.info(
        "%d %s an epoch, %d epochs of %d iterations", len(lesson.source), lesson.samples, options.epochs, per_epoch
    )
    return trainer


def _require_same_run(now: dict[str, Any], output: Path) -> None:
    """`UserError` where the run in `output` learns other objects or has another design; its course may change."""
    last = last_checkpoint(output)
    before = {} if last is None else checkpoint_facts(read_checkpoint(last))
    was, course = before.pop(COURSE, None), now[COURSE]
    for name, value in before.items():
        if name in now and value != now[name]:
            raise UserError(
                f"{output} holds a run with {name}={value}, and would continue with {now[name]}: its classes and "
                f"weights would mean something else; start it as it was, or train anew in another folder"
            )
    for name, value in was.items() if isinstance(was, dict) else ():
        if name in course and value != course[name]:
            logger.warning("continuing with another setting: before %s=%s, now %s", name, value, course[name])
