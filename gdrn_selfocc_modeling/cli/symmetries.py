"""Suggest the symmetries of models: print them in BOP's form with how far they are off, and draw them to be judged.

Shape and colours are both looked at. What is taken for a symmetry without being one, or the reverse, is learned wrong:
look at the picture before the suggestions are written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sopose.core.objects.mesh_files import METERS
from sopose.core.symmetry.tolerance import Tolerance
from sopose.core.utils.arguments import finite

EXAMPLES = """examples:
  sopose symmetries datasets/BOP_DATASETS/mine/models
  sopose symmetries datasets/BOP_DATASETS/mine/models --tolerance 3 --ignore-color --write
  sopose symmetries part.stl other.glb --output output/parts.png

A symmetry is a turn after which no point of the surface is farther from the surface as it was than --tolerance, and the
colours, slightly blurred, differ by less than --color-tolerance on 99 % of it. Scanned models need more than CAD models
(LM-O's eggbox 6 %). Symmetries missed by up to 10 % are reported with what they are off by, and drawn as not taken.
"""


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    default = Tolerance()
    parser.add_argument("models", nargs="+", type=Path, help="a folder of BOP models, or mesh files")
    parser.add_argument("--objects", nargs="+", type=int, metavar="ID", help="only these of the folder")
    parser.add_argument(
        "--units", choices=METERS, default="mm", help="of mesh files that don't state their own (default: mm)"
    )
    parser.add_argument(
        "--tolerance",
        type=finite,
        default=100 * default.deviation,
        metavar="PERCENT",
        help="of the diameter that a point may be off by (default: %(default)g)",
    )
    parser.add_argument(
        "--color-tolerance",
        type=finite,
        default=default.color,
        metavar="LEVELS",
        help="by which colours may differ, 0 to 255 (default: %(default)g)",
    )
    parser.add_argument("--ignore-color", action="store_true", help="look at the shape alone")
    parser.add_argument("--write", action="store_true", help="put the suggestions into the folder's models_info.json")
    parser.add_argument("--overwrite", action="store_true", help="with --write: also in place of others that it has")
    parser.add_argument(
        "--output", type=Path, default=Path("output/symmetries.png"), help="the picture (default: %(default)s)"
    )


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if not 0 < args.tolerance <= 20 or args.color_tolerance < 0:
        parser.error("--tolerance must be above 0 and at most 20, --color-tolerance at least 0")
    if args.overwrite and not args.write:
        parser.error("--overwrite goes with --write")


def handle(args: argparse.Namespace) -> None:
    """See `sopose.core.making.model_symmetries`."""
    from sopose.core.making.model_symmetries import SymmetriesOptions, find_and_draw

    tolerance = Tolerance(args.tolerance / 100, None if args.ignore_color else args.color_tolerance)
    find_and_draw(
        SymmetriesOptions(
            args.models,
            args.output,
            objects=args.objects,
            units=args.units,
            tolerance=tolerance,
            write=args.write,
            overwrite=args.overwrite,
        )
    )
