"""A training run, assembled from settings."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from sopose.batch import RoiBatch, RoiTargets, collate_samples
from sopose.core.data.loader import make_train_loader
from sopose.core.data.sources import SampleSource
from sopose.core.engine.checkpoint import save_weights
from sopose.core.engine.checkpointer import Checkpointer, last_checkpoint
from sopose.core.engine.distributed import (
    current_world,
    process_group,
    select_device,
)
from sopose.core.engine.guard import Guard
from sopose.core.engine.hooks import Evaluate, Profile, SaveCheckpoint, UpdateAverage
from sopose.core.engine.logs import ConsoleLog, JsonLog, TensorBoardLog
from sopose.core.engine.machine import keep_freed_memory, share_cores, this_machine
from sopose.core.engine.modes import evaluation_mode
from sopose.core.engine.random_state import seed_everything
from sopose.core.engine.resume import resume_run
from sopose.core.engine.run_record import record_start
from sopose.core.engine.signals import StopSignals
from sopose.core.engine.step import AMP_TYPES
from sopose.core.engine.trainer import Hook, Trainer
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import remove_parts, require_writable_dir
from sopose.core.utils.folder_lock import FolderLock
from sopose.data.build import build_train_dataset, build_training_cache
from sopose.data.cad_source import CadSource
from sopose.data.class_models import class_models
from sopose.data.device_batches import DeviceRenderer
from sopose.data.roi_input import RoiFormat, build_roi_format
from sopose.inference.checkpoint_facts import focal_length, knows_middles, network_facts
from sopose.inference.evaluation import build_plan, build_test_sets
from sopose.models.predicted_maps import read_maps
from sopose.settings import Settings, plain_settings, save_settings
from sopose.training.before import PRECISION, SAMPLES, SEED, facts_before, require_same_run, run_seed
from sopose.training.data_check import first_samples, look_at
from sopose.training.failed_batch import keep_failed_step
from sopose.training.initial_model import build_initial_model
from sopose.training.learner import (
    Batch,
    Learner,
    RunLength,
    build_learner,
    choose_precision,
    rois_per_rank,
    rois_per_step,
)
from sopose.training.run_evaluation import RunEvaluation
from sopose.vis.batches import batch_pictures

logger = logging.getLogger(__name__)
METRICS = "metrics.json"
FINAL = "model_final.safetensors"  # the weights alone, at the end of a run
OTHER_FOLDER = "name another OUTPUT_DIR in --opts"
LOOKED_AT = 64  # samples of the unit check at the start
DRY_STEPS, DRY_IMAGES = 2, 2
MOST_ROIS = 4  # of a batch, in a message
PICTURES = 4  # ROIs in a TensorBoard picture


@dataclass(frozen=True)
class RunOptions:
    """How a run is started, beside its configuration."""

    resume: bool = False  # from the last checkpoint in OUTPUT_DIR
    profile: bool = False  # write a trace of a few steps
    dry: bool = False  # two steps, an evaluation of two images, and nothing is left behind


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is ready to go: its loop, its checkpoints, and its evaluation on all test splits."""

    trainer: Trainer
    checkpointer: Checkpointer
    learner: Learner
    evaluation: RunEvaluation
    start: dict[str, int]  # what `run.json` says of it


def train(settings: Settings, options: RunOptions | None = None) -> None:
    """Train as `settings` say, then evaluate on DATASETS.TEST.

    Everything the run will need, test sets included, is opened before anything is written. SIGINT and SIGTERM write a
    checkpoint and leave the process with exit code 130 and 0. Raises `UserError` for bad input, and where OUTPUT_DIR
    holds another run that is not to be resumed.
    """
    options = options or RunOptions()
    keep_freed_memory()
    if options.dry:
        settings = replace(settings, vis_period=DRY_STEPS, train=replace(settings.train, print_freq=1))
    device = select_device(settings.model.device)
    with (
        StopSignals() as signals,
        process_group(device),
        _output_folder(settings.output_dir, options) as output,
        FolderLock(output, OTHER_FOLDER, writes=current_world().is_first) as lock,
    ):
        settings = replace(settings, output_dir=str(output))
        run = build_run(settings, options, device, signals)
        first = current_world().is_first
        with signals.deferred():
            lock.take()
            if first:
                remove_parts(output)  # of a run that was killed while it wrote
                save_settings(settings, output / "config.py")
                record_start(output, run.start, device)
            finished = run.trainer.train()
        if not finished:
            level = logging.WARNING if first else logging.DEBUG
            logger.log(level, "stopped after iteration %d; continue with --resume", run.trainer.iteration)
            signals.leave()
        if first:
            save_weights(run.learner.tested.state_dict(), output / FINAL, run.checkpointer.facts)
        run.evaluation(run.trainer.iteration)
    if options.dry:
        logger.info("dry run: data, network, %d steps, checkpoint and evaluation work; nothing was kept", DRY_STEPS)


@contextmanager
def _output_folder(given: str, options: RunOptions) -> Iterator[Path]:
    """The folder to write to: OUTPUT_DIR, or one that a dry run throws away."""
    if options.dry:
        with TemporaryDirectory() as folder:
            yield Path(folder)
        return
    output = Path(given)
    if not options.resume and last_checkpoint(output) is not None:
        raise UserError(
            f"{output} holds a run already; add --resume to continue it, or name another OUTPUT_DIR in --opts"
        )
    require_writable_dir(output, OTHER_FOLDER)
    yield output


def build_run(settings: Settings, options: RunOptions, device: torch.device, signals: StopSignals) -> Run:
    """Everything of a run, at the iteration it starts from; the data are looked at, nothing is written."""
    torch.backends.cudnn.benchmark = settings.cudnn_benchmark
    output, solver, net = Path(settings.output_dir), settings.solver, settings.model.pose_net
    before = facts_before(output) if options.resume else {}
    seed = seed_everything(run_seed(settings.seed, before))
    machine, loading = this_machine(), settings.dataloader
    shares = share_cores(loading.num_workers, settings.cpu_threads, computes=device.type == "cpu")
    settings = replace(settings, dataloader=replace(loading, num_workers=shares.workers))
    precision = choose_precision(solver.amp, device, machine.bfloat16, str(before.get(PRECISION, "")))
    world = current_world()
    cache = build_training_cache(settings, centered=not before or knows_middles(before))
    source = build_train_dataset(settings, cache)
    test_sets = build_test_sets(settings, cache)
    if options.dry:
        test_sets = [test_set.first_images(DRY_IMAGES) for test_set in test_sets]
    length = RunLength(max(len(source) // rois_per_step(solver), 1), solver.total_epochs)
    max_iter = DRY_STEPS if options.dry else length.total
    model = build_initial_model(settings, cache.names, bool(before), device)
    probe = next(iter(first_samples(source, 2, seed))) if world.size > 1 else None
    learner = build_learner(settings, model, length, device, AMP_TYPES.get(precision), probe)
    samples = list(first_samples(source, LOOKED_AT, seed))
    seed_everything(seed + world.rank)  # what ranks draw from here on differs
    models = class_models(settings.datasets, cache)
    facts = network_facts(plain_settings(settings), models, _focal_range(samples), cache.centered)
    facts |= {SEED: seed, PRECISION: precision, SAMPLES: len(source)}
    if before:
        require_same_run(before, facts, output)
    checkpointer = Checkpointer(output, learner.model, learner.stateful_parts(), facts, keep=solver.max_to_keep)
    iteration = resume_run(checkpointer, learner.schedule) if options.resume else 0
    evaluation = RunEvaluation(learner, checkpointer, test_sets, build_plan(settings), solver.best_metric)
    trainer = Trainer(
        learner.model,
        learner.compute_losses,
        build_batches(settings, source, iteration, seed, device),
        optimizer=learner.optimizer,
        schedule=learner.schedule,
        max_iter=max_iter,
        hooks=build_hooks(settings, learner, checkpointer, evaluation, options.profile),
        options=learner.options,
        scaler=learner.scaler,
        guard=_guard(output, settings.train.max_skipped, learner),
        should_stop=signals.asked,
        iteration=iteration,
    )
    logger.info(
        "%s: threads that compute %d, in %s on %s; processes that prepare samples %d",
        *(machine, shares.threads, precision, device, shares.workers),
    )
    logger.info(
        "%d samples an epoch, %d epochs of %d iterations, %d x %d ROIs, seed %d, %s, output in %s",
        *(len(source), length.epochs, length.per_epoch, world.size, rois_per_rank(solver), seed, device, output),
    )
    if world.is_first:
        _look_at_data(samples, net.selfocc_head.enabled)
    start = {"iteration": iteration, "seed": seed, "samples": len(source), "iterations": length.total}
    return Run(trainer, checkpointer, learner, evaluation, start)


def _focal_range(samples: list[tuple[RoiBatch, RoiTargets]]) -> tuple[float, float]:
    """The least and the largest focal length of some samples, pixels."""
    lengths = np.concatenate([focal_length(rois.K.numpy()) for rois, _ in samples])
    return float(lengths.min()), float(lengths.max())


def _look_at_data(samples: list[tuple[RoiBatch, RoiTargets]], two_layers: bool) -> None:
    """Say what the first samples are like, and warn where that can't be right."""
    look = look_at(samples)
    logger.info("%s", look.summary())
    for warning in look.warnings(two_layers):
        logger.warning("%s", warning)


def build_batches(
    settings: Settings, source: SampleSource, iteration: int, seed: int, device: torch.device
) -> Iterable[Batch]:
    """The training data from an iteration on; every rank gets its share of each step's samples.

    Raises `UserError` where CAD.DEVICE is to render anything else than one split of CAD models.
    """
    world, size, workers = current_world(), rois_per_rank(settings.solver), settings.dataloader.num_workers
    share = {"start": iteration * rois_per_step(settings.solver), "rank": world.rank, "world_size": world.size}
    if not settings.cad.device:
        pinned = device.type == "cuda"
        return make_train_loader(source, collate_samples, size, seed, workers, **share, pin_memory=pinned)
    if not isinstance(source, CadSource):
        datasets = settings.datasets
        raise UserError(
            f"CAD.DEVICE={settings.cad.device} renders one split of CAD models, DATASETS has "
            f"{', '.join([*datasets.train, *datasets.train2])}; name one *_cad split, or set CAD.DEVICE=''"
        )
    renderer = DeviceRenderer(source, select_device(settings.cad.device), threads=max(workers, 1))
    return renderer.batches(size, seed, workers, **share)


def build_hooks(
    settings: Settings, learner: Learner, checkpointer: Checkpointer, evaluation: RunEvaluation, profile: bool
) -> list[Hook]:
    """What is done around the steps; the first rank alone logs and draws."""
    output, per_epoch, solver = Path(settings.output_dir), learner.length.per_epoch, settings.solver
    period = solver.checkpoint_period * (per_epoch if solver.checkpoint_by_epoch else 1)
    hooks: list[Hook] = [] if learner.average is None else [UpdateAverage(learner.average)]
    if current_world().is_first:
        every = settings.train.print_freq
        draw = partial(_draw, learner=learner, roi_format=build_roi_format(settings.input, settings.model))
        hooks += [
            ConsoleLog(every, per_epoch),
            JsonLog(every, output / METRICS),
            TensorBoardLog(every, output / "tensorboard", settings.vis_period, draw),
        ]
        hooks += [Profile(output / "profile")] if profile else []
    return [
        *hooks,
        SaveCheckpoint(period, checkpointer),
        Evaluate(settings.test.eval_period * per_epoch, evaluation.amid_training),
    ]


@torch.no_grad()
def _draw(batch: Batch, learner: Learner, roi_format: RoiFormat) -> dict[str, np.ndarray]:
    """Pictures of a training batch as the network sees it now."""
    device = next(learner.model.parameters()).device
    rois, targets = (part.map(lambda tensor: tensor[:PICTURES]).to(device) for part in batch[:2])
    with evaluation_mode(learner.model):
        prediction = learner.model(rois)
    maps = read_maps(prediction, learner.model.pnp_input)
    return batch_pictures(rois, targets, maps, prediction.pose, roi_format, PICTURES)


def _guard(output: Path, max_skipped: int, learner: Learner) -> Guard:
    """Steps that are not finite are skipped; TRAIN.MAX_SKIPPED in a row end the run."""
    rank = current_world().rank
    path = output / (f"failed_step_rank{rank}.pth" if rank else "failed_step.pth")
    return Guard(
        max_skipped,
        _describe,
        keep=lambda record: keep_failed_step(path, record, learner.model, learner.length.epoch(record.iteration)),
        remedy=f"see what was wrong by sopose replay {path}, or resume with a lower SOLVER.OPTIMIZER_CFG.lr",
    )


def _describe(batch: Batch) -> str:
    """The first ROIs of a batch by scene, image and object."""
    names = [f"{info.scene_id}/{info.im_id} object {info.obj_id}" for info in batch[2][:MOST_ROIS]]
    more = len(batch[2]) - len(names)
    return ", ".join([*names, *([f"and {more} more"] if more else [])])
