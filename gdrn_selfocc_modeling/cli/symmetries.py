"""Suggest the symmetries of models: print them in BOP's form with how far they are off, and draw them to be judged.

Shape and colours are both looked at. What is taken for a symmetry without being one, or the reverse, is learned wrong:
look at the picture before the suggestions are written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from sopose.core.images.files import require_image_name, write_image
from sopose.core.objects.cad_files import read_cad
from sopose.core.objects.cad_mesh import cleaned, object_model, with_normals
from sopose.core.objects.mesh_files import METERS
from sopose.core.objects.model import ObjectModel
from sopose.core.symmetry.find_symmetry import Symmetries
from sopose.core.symmetry.suggestions import (
    describe,
    folder_models,
    found_fields,
    require_unset,
    suggest_symmetries,
    write_symmetries,
)
from sopose.core.symmetry.tolerance import Tolerance
from sopose.core.utils.arguments import finite
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_writable_file
from sopose.core.vis.maps import stack

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
    """Search, print, draw, and write where that is asked for."""
    require_writable_file(require_image_name(args.output))
    folder = args.models[0] if len(args.models) == 1 and args.models[0].is_dir() else None
    if folder is None and (args.write or args.objects):
        raise UserError("--write and --objects need one folder of BOP models; sopose new makes one of files")
    models = folder_models(folder, args.objects) if folder else dict(enumerate(_file_models(args), start=1))
    if args.write and not args.overwrite:
        require_unset(folder, list(models))
    tolerance = Tolerance(args.tolerance / 100, None if args.ignore_color else args.color_tolerance)
    found = {}
    for obj_id, model in tqdm(models.items(), desc="models", disable=len(models) == 1):
        found[obj_id] = suggest_symmetries(model, tolerance)
    for obj_id, model in models.items():
        print("\n".join(report(model, found[obj_id])))
    from sopose.core.vis.symmetry_views import symmetry_sheet

    sheets = [symmetry_sheet(model, found[obj_id], tolerance) for obj_id, model in models.items()]
    write_image(args.output, stack(sheets))
    print(f"drawn in {args.output}")
    if args.write:
        print(f"written to {write_symmetries(folder, models, found)}")


def _file_models(args: argparse.Namespace) -> Iterator[ObjectModel]:
    """The mesh files as models, numbered in their order."""
    for number, path in enumerate(args.models, start=1):
        if path.is_dir():
            raise UserError(f"{path} is a folder: give one folder of BOP models, or mesh files")
        file = read_cad(path)
        mesh, _ = cleaned(file.mesh, str(path))
        yield object_model(with_normals(mesh.scaled(METERS[file.unit or args.units])), number, path.stem)


def report(model: ObjectModel, found: Symmetries) -> list[str]:
    """Lines that say what was found, what was missed by little, and BOP's form of it."""
    counts = f"{len(found.discrete)} discrete, {len(found.continuous)} continuous"
    lines = [f"{model.obj_id} {model.name}: {counts}"]
    lines += [f"  {line}" for line in describe(found, model.diameter)]
    lines += [f'  "{key}": {json.dumps(value)}' for key, value in found_fields(found).items()]
    return lines
