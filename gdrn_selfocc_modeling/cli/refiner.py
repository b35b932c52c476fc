"""Train the network of the second look: it corrects poses by comparing the image with the object rendered there.

DATASETS.TRAIN names splits of CAD models (lmo_cad, path/to/folder:cad). Of a split that has some of DATASETS.OBJS those
are learned, of another one all. MODEL.REFINE is the network and the errors it learns to correct, SOLVER the course.
Weights start from MODEL.WEIGHTS: another refiner, or a pose network with the same trunk. TEST.REFINE uses what comes
out, for any object.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """examples:
  sopose refiner --config-file configs/gdrn_selfocc/refiner/toy.py
  sopose refiner --config-file configs/gdrn_selfocc/refiner/any_object.py --resume \\
      --opts DATASETS.ROOT=path/to/bop INPUT.BG_IMGS_ROOT=path/to/photos
  sopose eval --config-file configs/gdrn_selfocc/toy/demo.py \\
      --opts TEST.REFINE.ITERATIONS=2 TEST.REFINE.WEIGHTS=output/gdrn_selfocc/refiner/toy/refiner.safetensors

Ctrl-C writes a checkpoint; --resume continues from it with the same bits.
"""
REPORTS = True  # how things go, not warnings alone


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--config-file", type=Path, required=True, help="a .py, .yaml or .json configuration")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")


def handle(args: argparse.Namespace) -> None:
    """See `sopose.training.refiner_run`."""
    from sopose.training.refiner_run import RefinerOptions, run_refiner

    run_refiner(RefinerOptions(**vars(args)))
