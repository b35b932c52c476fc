"""A training run, assembled from a configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from sopose.batch import RoiBatch, RoiTargets, collate_samples
from sopose.core.config.load import save_config
from sopose.core.data.loader import SampleSource, make_train_loader
from sopose.core.engine.checkpoint import load_weights, model_weights, read_checkpoint, save_weights
from sopose.core.engine.checkpointer import Checkpointer, last_checkpoint
from sopose.core.engine.distributed import current_world, of_all_ranks, process_group, take_buffers_of_first
from sopose.core.engine.guard import Guard
from sopose.core.engine.hooks import Evaluate, Profile, SaveCheckpoint, UpdateAverage
from sopose.core.engine.launch import seed_everything, select_device
from sopose.core.engine.logs import ConsoleLog, JsonLog, TensorBoardLog
from sopose.core.engine.modes import evaluation_mode
from sopose.core.engine.run_record import record_start
from sopose.core.engine.signals import StopSignals
from sopose.core.engine.trainer import Hook, Trainer
from sopose.core.solver.schedules import set_base_rates
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import remove_parts, require_writable_dir
from sopose.data.build import build_roi_format, build_train_dataset
from sopose.data.build_device import build_device_source
from sopose.data.eval_set import TestSet
from sopose.inference.checkpoint_facts import focal_length, network_facts
from sopose.inference.evaluation import build_test_sets, evaluate_model
from sopose.models.build import build_model, has_selfocc_head
from sopose.training.data_check import first_samples, look_at
from sopose.training.failed_batch import keep_failed_step
from sopose.training.learner import Batch, Learner, RunLength, build_learner, rois_per_rank, rois_per_step
from sopose.vis.batches import batch_pictures

logger = logging.getLogger(__name__)
METRICS = "metrics.json"
FINAL = "model_final.safetensors"  # the weights alone, at the end of a run
LOOKED_AT = 64  # samples of the unit check at the start
DRY_STEPS, DRY_IMAGES = 2, 2
ROIS_TOLD = 4  # of a batch, in a message
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
    evaluate: Callable[[], None]
    start: dict[str, int] = field(default_factory=dict)  # what `run.json` says of it


def train(cfg: Any, options: RunOptions | None = None) -> None:
    """Train as `cfg` says, then evaluate on DATASETS.TEST.

    Everything the run will need, test sets included, is opened before anything is written. SIGINT and SIGTERM write a
    checkpoint and leave the process with exit code 130 and 0. Raises `UserError` for bad input, and where OUTPUT_DIR
    holds another run that is not to be resumed.
    """
    options = options or RunOptions()
    device = select_device(cfg.MODEL.DEVICE)
    with StopSignals() as signals, process_group(device), _output_of(cfg, options) as cfg:
        run = build_run(cfg, options, device, signals)
        first = current_world().is_first
        with signals.deferred():
            if first:
                remove_parts(Path(cfg.OUTPUT_DIR))  # of a run that was killed while it wrote
                save_config(cfg, Path(cfg.OUTPUT_DIR) / "config.py")
                record_start(Path(cfg.OUTPUT_DIR), run.start, device)
            finished = run.trainer.train()
        if not finished:
            level = logging.WARNING if first else logging.DEBUG
            logger.log(level, "stopped after iteration %d; go on with --resume", run.trainer.iteration)
            signals.leave()
        if first:
            save_weights(run.learner.tested.state_dict(), Path(cfg.OUTPUT_DIR) / FINAL, run.checkpointer.facts)
        run.evaluate()
    if options.dry:
        logger.info("dry run: data, network, %d steps, checkpoint and evaluation work; nothing was kept", DRY_STEPS)


@contextmanager
def _output_of(cfg: Any, options: RunOptions) -> Iterator[Any]:
    """The configuration with a folder to write to: its own, or one that a dry run throws away."""
    if options.dry:
        with TemporaryDirectory() as folder:
            dry = Config(cfg.to_dict())
            dry.OUTPUT_DIR, dry.TRAIN.PRINT_FREQ, dry.VIS_PERIOD = folder, 1, DRY_STEPS
            yield dry
        return
    output = Path(cfg.OUTPUT_DIR)
    if not options.resume and last_checkpoint(output) is not None:
        raise UserError(f"{output} holds a run already; add --resume to go on, or name another OUTPUT_DIR in --opts")
    require_writable_dir(output, "name another OUTPUT_DIR in --opts")
    yield cfg


def build_run(cfg: Any, options: RunOptions, device: torch.device, signals: StopSignals) -> Run:
    """Everything of a run, at the iteration it starts from; the data are looked at, nothing is written."""
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    seed = seed_everything(_seed(cfg, options.resume))
    world, per_rank = current_world(), rois_per_rank(cfg.SOLVER)
    source = build_train_dataset(cfg)
    test_sets = build_test_sets(cfg)
    if options.dry:
        test_sets = [test_set.first_images(DRY_IMAGES) for test_set in test_sets]
    model = _initial_model(cfg, options.resume, device)
    length = RunLength(max(len(source) // rois_per_step(cfg.SOLVER), 1), cfg.SOLVER.TOTAL_EPOCHS)
    probe = next(iter(first_samples(source, 2, seed))) if world.size > 1 else None
    learner = build_learner(cfg, model, length, device, probe)
    samples = list(first_samples(source, LOOKED_AT, seed))
    seed_everything(seed + world.rank)  # what ranks draw from here on differs
    facts = network_facts(cfg, _focal_range(samples)) | {"seed": seed}
    run = _assemble(cfg, learner, test_sets, options, signals, facts)
    if options.resume:
        run.trainer.iteration = _resume(run, cfg.OUTPUT_DIR)
    _set_loader(run.trainer, cfg, source, seed, device)
    logger.info(
        "%d samples an epoch, %d epochs of %d iterations, %d x %d ROIs, seed %d, %s, output in %s",
        *(len(source), length.epochs, length.per_epoch, world.size, per_rank, seed, device, cfg.OUTPUT_DIR),
    )
    if world.is_first:
        _look_at_data(samples, has_selfocc_head(cfg.MODEL.POSE_NET))
    start = {"iteration": run.trainer.iteration, "seed": seed, "samples": len(source), "iterations": length.total}
    return replace(run, start=start)


def _seed(cfg: Any, resume: bool) -> int:
    """SEED; where it is to be drawn, a resumed run goes on with the one it drew first, and all ranks with the same."""
    if cfg.SEED >= 0:
        return cfg.SEED
    last = last_checkpoint(Path(cfg.OUTPUT_DIR)) if resume else None
    facts = None if last is None else read_checkpoint(last).get("facts")
    told = facts.get("seed") if isinstance(facts, dict) else None
    drawn = np.random.SeedSequence().generate_state(1)[0] % 2**31
    return told if isinstance(told, int) else int(of_all_ranks(int(drawn))[0])


def _resume(run: Run, output: str) -> int:
    """The iteration to go on from, the same for all ranks; learning rates are those of the configuration."""
    schedule = run.learner.schedule
    rates = list(schedule.base_lrs)
    iteration = run.checkpointer.resume()
    seen = of_all_ranks(iteration)
    if len(set(seen)) > 1:
        raise UserError(
            f"the processes would go on from iterations {seen}: OUTPUT_DIR={output} is not the same folder for all; "
            "name one that every machine sees"
        )
    if rates != list(schedule.base_lrs):
        logger.warning("going on with other learning rates: %s, before %s", rates, list(schedule.base_lrs))
        set_base_rates(schedule, rates)
    return iteration


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
    learner: Learner,
    test_sets: list[TestSet],
    options: RunOptions,
    signals: StopSignals,
    facts: dict[str, Any],
) -> Run:
    """The trainer with its hooks, and what they use."""
    output, length = Path(cfg.OUTPUT_DIR), learner.length
    checkpointer = Checkpointer(output, learner.model, learner.stateful_parts(), facts, keep=cfg.SOLVER.MAX_TO_KEEP)

    def evaluate_all() -> None:
        iteration, metric = trainer.iteration, cfg.SOLVER.BEST_METRIC
        checkpointer.save(iteration)  # what is interrupted from here on goes on after this step
        take_buffers_of_first(learner.tested)
        device = next(learner.model.parameters()).device
        for place, test_set in enumerate(test_sets):
            scores = evaluate_model(learner.tested, test_set, cfg, device, f"{iteration} iterations")
            if scores is not None and place == 0:
                _keep_best(checkpointer, iteration, metric, scores.overall)

    trainer = Trainer(
        learner.model,
        learner.compute_losses,
        batches=(),
        optimizer=learner.optimizer,
        schedule=learner.schedule,
        max_iter=DRY_STEPS if options.dry else length.total,
        hooks=_hooks(cfg, learner, checkpointer, evaluate_all, options),
        options=learner.options,
        scaler=learner.scaler,
        guard=_guard(cfg, learner),
        should_stop=signals.asked,
    )
    return Run(trainer, checkpointer, learner, evaluate_all)


def _keep_best(checkpointer: Checkpointer, iteration: int, metric: str, values: dict[str, float]) -> None:
    """Keep the checkpoint just evaluated where it is the best by SOLVER.BEST_METRIC on the first split."""
    if metric not in values:
        logger.warning("SOLVER.BEST_METRIC=%s was not measured (known: %s); no best is kept", metric, ", ".join(values))
    elif checkpointer.keep_best(iteration, metric, values[metric]):
        logger.info("best so far: %s %.1f %% after %d iterations", metric, 100 * values[metric], iteration)


def _hooks(
    cfg: Any, learner: Learner, checkpointer: Checkpointer, evaluate: Callable[[], None], options: RunOptions
) -> list[Hook]:
    """What is done around the steps; the first rank alone tells and draws."""
    output, per_epoch, solver = Path(cfg.OUTPUT_DIR), learner.length.per_epoch, cfg.SOLVER
    period = solver.CHECKPOINT_PERIOD * (per_epoch if solver.CHECKPOINT_BY_EPOCH else 1)
    hooks: list[Hook] = [] if learner.average is None else [UpdateAverage(learner.average)]
    if current_world().is_first:
        draw = partial(_draw, learner=learner, roi_format=build_roi_format(cfg))
        hooks += [
            ConsoleLog(cfg.TRAIN.PRINT_FREQ, per_epoch),
            JsonLog(cfg.TRAIN.PRINT_FREQ, output / METRICS),
            TensorBoardLog(cfg.TRAIN.PRINT_FREQ, output / "tensorboard", cfg.VIS_PERIOD, draw),
        ]
        hooks += [Profile(output / "profile")] if options.profile else []
    return [*hooks, SaveCheckpoint(period, checkpointer), Evaluate(cfg.TEST.EVAL_PERIOD * per_epoch, evaluate)]


@torch.no_grad()
def _draw(batch: Batch, learner: Learner, roi_format: Any) -> dict[str, np.ndarray]:
    """Pictures of a training batch as the network sees it now."""
    device = next(learner.model.parameters()).device
    rois, targets = (part.map(lambda tensor: tensor[:PICTURES]).to(device) for part in batch[:2])
    with evaluation_mode(learner.model):
        prediction = learner.model(rois)
    return batch_pictures(rois, targets, prediction, roi_format, learner.model.pnp_input, PICTURES)


def _guard(cfg: Any, learner: Learner) -> Guard:
    """Steps that are not finite are skipped; TRAIN.MAX_SKIPPED in a row end the run."""
    rank = current_world().rank
    path = Path(cfg.OUTPUT_DIR) / (f"failed_step_rank{rank}.pth" if rank else "failed_step.pth")
    return Guard(
        cfg.TRAIN.MAX_SKIPPED,
        _describe,
        keep=lambda record: keep_failed_step(path, record, learner.model, learner.length.epoch(record.iteration)),
        remedy=f"see what was wrong by tools/replay_batch.py {path}, or resume with a lower SOLVER.OPTIMIZER_CFG.lr",
    )


def _set_loader(trainer: Trainer, cfg: Any, source: SampleSource, seed: int, device: torch.device) -> None:
    """Let the data start where the iterations do; every rank gets its share of each step's samples."""
    world, size, workers = current_world(), rois_per_rank(cfg.SOLVER), cfg.DATALOADER.NUM_WORKERS
    if cfg.CAD.DEVICE:
        start, end = (n * trainer.options.batches * world.size for n in (trainer.iteration, trainer.max_iter))
        renderer = build_device_source(cfg, select_device(cfg.CAD.DEVICE), seed)
        trainer.batches = renderer.batches(range(start + world.rank, end, world.size), size, seed, workers)
        return
    trainer.batches = make_train_loader(
        source,
        collate_samples,
        size,
        seed,
        num_workers=workers,
        start=trainer.iteration * rois_per_step(cfg.SOLVER),
        rank=world.rank,
        world_size=world.size,
        pin_memory=device.type == "cuda",
    )


def _describe(batch: Batch) -> str:
    """The first ROIs of a batch by scene, image and object."""
    told = [f"{info.scene_id}/{info.im_id} object {info.obj_id}" for info in batch[2][:ROIS_TOLD]]
    more = len(batch[2]) - len(told)
    return ", ".join([*told, *([f"and {more} more"] if more else [])])
