"""A training run of a detector, and its score."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sopose.core.detection.facts import DetectorDesign
from sopose.core.detection.infer import Detector
from sopose.core.detection.on_torch import TorchHeads, save_detector
from sopose.core.detection.training import build_trainer
from sopose.core.engine.assemble import TrainingOptions
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.engine.distributed import launched_world, select_device
from sopose.core.engine.machine import share_cores
from sopose.core.engine.random_state import seed_everything
from sopose.core.engine.run_record import record_start
from sopose.core.engine.signals import StopSignals
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import remove_parts, require_writable_dir
from sopose.core.utils.folder_lock import FolderLock
from sopose.data.build import class_names
from sopose.models.backbone import LITE0_NAME
from sopose.settings import load_settings, save_settings
from sopose.training.detector import (
    DetectorData,
    build_facts,
    build_network,
    build_source,
    build_test_splits,
    build_trial,
    choose_detector_threshold,
    evaluate_detector,
    input_side,
    training_specs,
)

logger = logging.getLogger(__name__)
FINAL = "detector.safetensors"


@dataclass(frozen=True)
class DetectorOptions:
    """What `sopose detector` takes, by the names of its options."""

    config_file: Path
    output: Path
    epochs: int = 20
    batch_size: int = 4
    lr: float = 0.002
    size: int | None = None
    backbone: str = LITE0_NAME
    pretrained: str | None = None
    objects_per_image: Sequence[int] = (3, 10)
    no_mirror: bool = False
    empty_share: float = 0.2
    workers: int | None = None
    seed: int = 0
    resume: bool = False
    opts: Sequence[str] = ()


def run_detector(options: DetectorOptions) -> None:
    """Train, then evaluate."""
    if launched_world().size > 1:
        raise UserError("a detector is trained by one process; start it without torchrun")
    settings = load_settings(options.config_file, options.opts)
    resumed = last_checkpoint(options.output) is not None
    if resumed and not options.resume:
        raise UserError(f"{options.output} holds a run already; add --resume to continue it, or name another --output")
    require_writable_dir(options.output)
    device = select_device(settings.model.device)
    with StopSignals() as signals, FolderLock(options.output, "wait for it, or name another --output") as lock:
        seed_everything(options.seed)
        names = class_names(settings.datasets)
        test_splits = build_test_splits(settings.datasets, settings.val.targets_filename, names)
        specs = training_specs(settings.datasets)
        design = DetectorDesign(options.size or input_side(settings.cad, specs[0]), options.backbone)
        facts = build_facts(names, specs, design)
        data = DetectorData(
            tuple(options.objects_per_image), not options.no_mirror, options.batch_size, options.empty_share
        )
        source = build_source(settings, data, facts)
        network = build_network(facts, options.pretrained, start_anew=not resumed)
        network = network.to(device, memory_format=torch.channels_last)
        shares = share_cores(
            settings.dataloader.num_workers if options.workers is None else options.workers,
            settings.cpu_threads,
            computes=device.type == "cpu",
        )
        course = training_options(options, shares.workers)
        course = replace(course, max_skipped=settings.train.max_skipped, picture_period=settings.vis_period)
        trainer = build_trainer(network, source, facts, course, options.output, options.resume, signals.asked)
        lock.take()
        remove_parts(options.output)
        save_settings(settings, options.output / "config.py")
        record_start(
            options.output, {"iteration": trainer.iteration, "seed": options.seed, "images": len(source)}, device
        )
        with signals.deferred():
            finished = trainer.train()
        if not finished:
            logger.warning("stopped after iteration %d; continue with --resume", trainer.iteration)
            signals.leave()
        detector = Detector(TorchHeads(network, device, settings.test.amp_test), facts)
        chosen = choose_detector_threshold(
            detector, build_trial(settings, data, facts), options.seed, trainer.iteration * options.batch_size
        )
        save_detector(network, replace(facts, threshold=chosen.value), options.output / FINAL)
        detector = Detector.from_checkpoint(options.output / FINAL, str(device), settings.test.amp_test)
        print(f"detector   {options.output / FINAL}\n{chosen}")
        for split in test_splits:
            evaluate_detector(detector, split, options.output)


def training_options(options: DetectorOptions, workers: int) -> TrainingOptions:
    """How the detector learns, with so many processes that prepare images."""
    return TrainingOptions(options.epochs, options.batch_size, options.lr, seed=options.seed, workers=workers)
