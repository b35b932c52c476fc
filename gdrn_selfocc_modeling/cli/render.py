"""Write a BOP split of images rendered from CAD models: colour, depth, masks and all annotation files.

Training needs no such files: <data set>_cad draws its samples on the fly. They are for other programs, for a look at
whole images, and where reading is faster than rendering. Finished scenes are left alone, so a run that was stopped is
started again with the same command; the bytes don't depend on --workers.
"""

from __future__ import annotations

import argparse

from sopose.tools.generate_training_images import add_options, check_options, run

EXAMPLES = """examples:
  sopose render --dataset-root datasets/BOP_DATASETS/mine --images 1000
  sopose render --config-file configs/gdrn_selfocc/lmo/cad_only.py --output datasets/BOP_DATASETS/lmo --images 20000 \\
      --objects-per-image 8 15 --opts INPUT.BG_IMGS_ROOT=path/to/photos CAD.POSES_FROM=lmo_train_pbr

The split then trains by name: DATASETS.TRAIN=[mine_train_cad].
"""


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_options(parser)


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    check_options(args, parser)


def handle(args: argparse.Namespace) -> None:
    """See `sopose.data.build_split`."""
    run(args)
