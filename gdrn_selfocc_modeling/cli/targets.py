"""Write a targets file for a data set of your own, and the scene_gt_info.json and masks that its scenes lack.

A target says how many instances of an object are to be found in an image: by BOP's rule those of which at least a
tenth can be seen. How much that is stands in scene_gt_info.json; where it is missing it is computed, with the masks,
from poses and models alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sopose.core.bop.catalog import DATASETS_FOLDER, TARGETS_NAME
from sopose.core.utils.arguments import finite

EXAMPLES = """examples:
  sopose targets --dataset path/to/mine --split test
  sopose targets --dataset mine --split test --min-visib 0.3 --output easy_targets.json --no-masks

Without --output the file is <data set>/test_targets_bop19.json, where sopose score looks for it. What is there
already is left alone."""


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--dataset", required=True, help="a BOP folder under the root, or a path to one")
    parser.add_argument("--split", default="test", help="split of the data set (default: test)")
    parser.add_argument("--datasets-root", type=Path, default=DATASETS_FOLDER, metavar="DIR")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"default: {TARGETS_NAME} in the data set's folder")
    parser.add_argument(
        "--min-visib", type=finite, default=0.1, metavar="X", help="least visible fraction of a target (default: 0.1)"
    )
    parser.add_argument("--objects", type=int, nargs="+", metavar="ID", help="only these objects")
    parser.add_argument("--no-masks", action="store_true", help="don't write the masks that are missing")
    parser.add_argument("--overwrite", action="store_true", help="write over a targets file that is there")
    parser.add_argument("--workers", type=int, default=-1, metavar="N", help="processes (default: one a core)")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if not 0 <= args.min_visib <= 1:
        parser.error("--min-visib must be between 0 and 1")


def handle(args: argparse.Namespace) -> None:
    """See `sopose.core.making.targets_file`."""
    from sopose.core.making.targets_file import TargetsOptions, write_targets_file

    write_targets_file(TargetsOptions(**vars(args)))
