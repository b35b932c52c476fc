"""Make a BOP data set of CAD files: models in millimetres, sizes, symmetries, camera and names, ready for training.

Nothing is annotated: training draws its images from the models. The pictures show what was understood; look at them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sopose.cli.project import next_steps
from sopose.core.bop.catalog import DATASETS_FOLDER
from sopose.core.making.given_camera import given_camera, given_K, is_camera_file
from sopose.core.objects.mesh_files import METERS
from sopose.core.symmetry.tolerance import Tolerance
from sopose.core.utils.arguments import finite, numbers
from sopose.core.utils.errors import UserError

EXAMPLES = """examples:
  sopose new part.glb --units mm --camera camera.json --photos path/to/photos
  sopose new --root datasets/BOP_DATASETS/mypart --units mm part.stl other.obj --names part other \\
      --camera 615,615,319.5,239.5 --image-size 640,480
  sopose new --root datasets/BOP_DATASETS/mypart --units m third.glb --add
  sopose new scan.ply --units mm --max-faces 500000

Formats: stl, obj, ply, glb, gltf, off; 3mf after `pip install lxml`, step after `pip install cascadio`. Bodies of a
file are joined into one object. Symmetries are what sopose symmetries would suggest.
"""


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    default = Tolerance()
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a CAD or mesh file for each object")
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help=f"folder of the data set (default: {DATASETS_FOLDER}/ and the first file's name)",
    )
    parser.add_argument("--units", choices=METERS, required=True, help="of the files' coordinates")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="the objects' names (default: the files')")
    parser.add_argument(
        "--camera",
        metavar="FILE",
        help="your camera: a json with fx, fy, cx, cy, width, height, or fx,fy,cx,cy, pixels",
    )
    parser.add_argument("--image-size", type=numbers(2), metavar="W,H", help="of the images of fx,fy,cx,cy, pixels")
    parser.add_argument(
        "--photos", type=Path, metavar="DIR", help="photographs of anything, for backgrounds: real images need them"
    )
    parser.add_argument("--center", action="store_true", help="put each object's origin into the middle of its box")
    parser.add_argument(
        "--max-faces", type=int, metavar="N", help="simplify meshes of more triangles (500000 are plenty)"
    )
    parser.add_argument("--no-symmetries", action="store_true", help="look for none")
    parser.add_argument("--ignore-color", action="store_true", help="look for symmetries of the shape alone")
    parser.add_argument(
        "--tolerance",
        type=finite,
        default=100 * default.deviation,
        metavar="PERCENT",
        help="of the diameter that a symmetry may be off by (default: %(default)g)",
    )
    parser.add_argument("--force", action="store_true", help="take sizes below 5 mm and above 5 m")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--add", action="store_true", help="add the objects to the data set in --root")
    place.add_argument("--overwrite", action="store_true", help="replace the data set in --root")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if args.image_size is not None and (args.camera is None or min(args.image_size) < 1):
        parser.error("--image-size is that of the images of --camera, above 0")
    if args.camera is not None and not is_camera_file(args.camera):
        if args.image_size is None:
            parser.error("--camera as numbers and --image-size go together")
        try:
            given_K(args.camera)
        except (ValueError, argparse.ArgumentTypeError, UserError) as error:
            parser.error(f"--camera must be a json file or fx,fy,cx,cy of a camera, got '{args.camera}' ({error})")
    if args.root is None and args.add:
        parser.error("--add needs the --root of the data set")
    if not 0 < args.tolerance <= 20:
        parser.error("--tolerance must be above 0 and at most 20")


def handle(args: argparse.Namespace) -> None:
    """See `sopose.core.making.cad_dataset`; prints what was done and what to do next."""
    from sopose.core.making.cad_dataset import CadDatasetOptions, describe_objects, make_dataset, suggested_range

    root = args.root or DATASETS_FOLDER / args.files[0].stem
    camera = None if args.camera is None else given_camera(args.camera, args.image_size)
    tolerance = Tolerance(args.tolerance / 100, None if args.ignore_color else Tolerance().color)
    options = CadDatasetOptions(
        root,
        args.files,
        args.units,
        args.names,
        camera,
        tolerance=None if args.no_symmetries else tolerance,
        center=args.center,
        max_faces=args.max_faces,
        force=args.force,
        add=args.add,
        overwrite=args.overwrite,
    )
    objects = make_dataset(options)
    print("\n".join(describe_objects(objects)))
    lines = [f"written: {root}"]
    if camera is None and not args.add:
        lines.append(f"no --camera was given: {root / 'camera.json'} has a common webcam's; put yours there")
    pictures = [root / "overview.png"] + ([] if args.no_symmetries else [root / "symmetries.png"])
    lines.append(f"look at: {' and '.join(map(str, pictures))}")
    lines += next_steps(root, suggested_range(objects, camera), args.photos, args.add)
    print("\n".join(lines))
