"""Train a 2D detector on the data of a pose configuration, so that prediction needs only an image and its camera.

DATASETS.TRAIN (and TRAIN2) give the images, annotated or rendered from models, DATASETS.OBJS the objects. The trained
detector is scored on DATASETS.TEST by COCO's AP; its detections there are a file for DATASETS.DET_FILES_TEST.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch

from sopose.core.detection.facts import DetectorDesign
from sopose.core.detection.infer import Detector
from sopose.core.detection.training import build_trainer
from sopose.core.engine.assemble import TrainingOptions
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.engine.distributed import launched_world, select_device
from sopose.core.engine.machine import share_cores
from sopose.core.engine.random_state import seed_everything
from sopose.core.engine.run_record import record_start
from sopose.core.engine.signals import StopSignals
from sopose.core.utils.arguments import finite
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import remove_parts, require_writable_dir
from sopose.core.utils.folder_lock import FolderLock
from sopose.data.build import class_names
from sopose.models.backbone import LITE0_NAME, LITE0_PACKAGE
from sopose.settings import load_settings, save_settings
from sopose.training.detector import (
    DetectorData,
    build_facts,
    build_network,
    build_source,
    build_test_splits,
    evaluate_detector,
    input_side,
    training_specs,
)

logger = logging.getLogger(__name__)
EXAMPLES = """examples:
  python tools/train_detector.py --config-file configs/gdrn_selfocc/toy/from_cad.py --output output/detector/toy
  python tools/train_detector.py --config-file configs/gdrn_selfocc/lmo/cad_only.py --output output/detector/lmo \\
      --epochs 30 --size 640 --opts DATASETS.ROOT=path/to/bop INPUT.BG_IMGS_ROOT=path/to/photos
  python gdrn_selfocc_modeling/main_gdrn.py --config-file configs/gdrn_selfocc/toy/demo.py --eval-only \\
      --opts TEST.TEST_BBOX_TYPE=est DATASETS.DET_FILES_TEST=[output/detector/toy/toy_test/detections.json]

Ctrl-C writes a checkpoint; --resume goes on from it with the same bits.
"""
FINAL = "detector.safetensors"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True, help="a pose configuration, .py, .yaml or .json")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument("--epochs", type=int, default=20, metavar="N", help="(default 20)")
    parser.add_argument("--batch-size", type=int, default=4, metavar="B", help="images of a step (default 4)")
    parser.add_argument("--lr", type=finite, default=2e-3, help="learning rate of AdamW (default 0.002)")
    parser.add_argument(
        "--size", type=int, metavar="PX", help="longer side of the input (default: that of the images, at most 640)"
    )
    parser.add_argument("--backbone", default=LITE0_NAME, help=f"a model of timm (default {LITE0_NAME})")
    parser.add_argument(
        "--pretrained",
        metavar="FROM",
        help=f"the backbone's first weights: none, timm (downloaded), a file, or {LITE0_PACKAGE}, the default where "
        "that package is installed",
    )
    parser.add_argument("--objects-per-image", type=int, nargs=2, default=(3, 10), metavar=("LOW", "HIGH"))
    parser.add_argument("--no-mirror", action="store_true", help="for objects that are mirror images of each other")
    parser.add_argument("--workers", type=int, metavar="N", help="(default: DATALOADER.NUM_WORKERS)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another run (default 0)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --output")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    args = parser.parse_args(argv)
    if min(args.epochs, args.batch_size) < 1 or args.lr <= 0 or args.seed < 0 or (args.workers or 0) < 0:
        parser.error("--epochs and --batch-size must be at least 1, --lr above 0, --seed and --workers not below 0")
    return args


def main(argv: list[str] | None = None) -> None:
    """Train, then evaluate."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    if launched_world().size > 1:
        raise UserError("a detector is trained by one process; start it without torchrun")
    settings = load_settings(args.config_file, args.opts)
    resumed = last_checkpoint(args.output) is not None
    if resumed and not args.resume:
        raise UserError(f"{args.output} holds a run already; add --resume to go on, or name another --output")
    require_writable_dir(args.output)
    device = select_device(settings.model.device)
    with StopSignals() as signals, FolderLock(args.output, "wait for it, or name another --output") as lock:
        seed_everything(args.seed)
        names = class_names(settings.datasets)
        test_splits = build_test_splits(settings.datasets, settings.val.targets_filename, names)
        specs = training_specs(settings.datasets)
        design = DetectorDesign(args.size or input_side(settings.cad, specs[0]), args.backbone)
        facts = build_facts(names, specs, design)
        data = DetectorData(tuple(args.objects_per_image), not args.no_mirror, args.batch_size)
        source = build_source(settings, data, facts)
        network = build_network(facts, args.pretrained, start_anew=not resumed)
        network = network.to(device, memory_format=torch.channels_last)
        shares = share_cores(
            settings.dataloader.num_workers if args.workers is None else args.workers,
            settings.cpu_threads,
            computes=device.type == "cpu",
        )
        options = training_options(args, shares.workers)
        options = replace(options, max_skipped=settings.train.max_skipped, picture_period=settings.vis_period)
        trainer = build_trainer(network, source, facts, options, args.output, args.resume, signals.asked)
        lock.take()
        remove_parts(args.output)
        save_settings(settings, args.output / "config.py")
        record_start(args.output, {"iteration": trainer.iteration, "seed": args.seed, "images": len(source)}, device)
        with signals.deferred():
            finished = trainer.train()
        if not finished:
            logger.warning("stopped after iteration %d; go on with --resume", trainer.iteration)
            signals.leave()
        Detector(network, facts, device).save(args.output / FINAL)
        detector = Detector.from_checkpoint(args.output / FINAL, device, settings.test.amp_test)
        print(f"detector   {args.output / FINAL}")
        for split in test_splits:
            evaluate_detector(detector, split, args.output)


def training_options(args: argparse.Namespace, workers: int) -> TrainingOptions:
    """How the detector learns, with so many processes that prepare images."""
    return TrainingOptions(args.epochs, args.batch_size, args.lr, seed=args.seed, workers=workers)


if __name__ == "__main__":
    run_cli(main)
