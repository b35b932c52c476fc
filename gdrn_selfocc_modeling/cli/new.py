"""Make a BOP data set of CAD files: models in millimetres, sizes, symmetries, camera and names, ready for training.

Nothing is annotated: training draws its images from the models. The pictures show what was understood; look at them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from sopose.cli.project import NAME, next_command, write_project
from sopose.core.bop.fields import read_camera
from sopose.core.geometry.camera import Camera, as_K
from sopose.core.objects.mesh_files import METERS
from sopose.core.symmetry.tolerance import Tolerance
from sopose.core.utils.arguments import finite
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_writable_dir
from sopose.core.utils.units import M_TO_MM

if TYPE_CHECKING:
    from sopose.core.making.new_dataset import NewObject

FOLDER = Path("datasets/BOP_DATASETS")
EXAMPLES = """examples:
  sopose new part.glb --units mm --camera camera.json --photos path/to/photos
  sopose new --root datasets/BOP_DATASETS/mypart --units mm part.stl other.obj --names part other \\
      --camera 615,615,319.5,239.5 --image-size 640,480
  sopose new --root datasets/BOP_DATASETS/mypart --units m third.glb --add

Formats: stl, obj, ply, glb, gltf, off; 3mf after `pip install lxml`, step after `pip install cascadio`. Bodies of a
file are joined into one object. Symmetries are what sopose symmetries would suggest.
"""
NEARER, FARTHER = 0.5, 0.125  # of the image's height that the largest object takes up: distances suggested for training


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    default = Tolerance()
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a CAD or mesh file for each object")
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help=f"folder of the data set (default: {FOLDER}/ and the first file's name)",
    )
    parser.add_argument("--units", choices=METERS, required=True, help="of the files' coordinates")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="the objects' names (default: the files')")
    parser.add_argument(
        "--camera",
        metavar="FILE",
        help="your camera: a json with fx, fy, cx, cy, width, height, or fx,fy,cx,cy, pixels",
    )
    parser.add_argument("--image-size", type=_numbers(2), metavar="W,H", help="of the images of fx,fy,cx,cy, pixels")
    parser.add_argument(
        "--photos", type=Path, metavar="DIR", help="photographs of anything, for backgrounds: real images need them"
    )
    parser.add_argument("--center", action="store_true", help="put each object's origin into the middle of its box")
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
    if args.camera is not None and not is_file(args.camera):
        if args.image_size is None:
            parser.error("--camera as numbers and --image-size go together")
        try:
            as_K(_numbers(4)(args.camera))
        except (ValueError, UserError) as error:
            parser.error(f"--camera must be a json file or fx,fy,cx,cy of a camera, got '{args.camera}' ({error})")
    if args.root is None and args.add:
        parser.error("--add needs the --root of the data set")
    if not 0 < args.tolerance <= 20:
        parser.error("--tolerance must be above 0 and at most 20")


def _numbers(count: int) -> Callable[[str], list[float]]:
    """A reader of so many numbers with commas between them."""

    def numbers(text: str) -> list[float]:
        values = [finite(part) for part in text.split(",")]
        if len(values) != count:
            raise ValueError
        return values

    return numbers


def handle(args: argparse.Namespace) -> None:
    """Read, search, write, and print what was done and what to do next."""
    from sopose.core.making.new_dataset import (
        add_to_dataset,
        object_names,
        read_object,
        require_place,
        with_found_symmetries,
        write_dataset,
    )

    root = args.root or FOLDER / args.files[0].stem
    require_place(root, args.overwrite, args.add)
    require_writable_dir(root.parent)
    names = object_names(args.files, args.names)
    camera = read_given_camera(args.camera, args.image_size)
    objects = [
        read_object(path, name, args.units, args.force, args.center)
        for path, name in zip(args.files, names, strict=True)
    ]
    tolerance = Tolerance(args.tolerance / 100, None if args.ignore_color else Tolerance().color)
    if not args.no_symmetries:
        objects = [
            with_found_symmetries(new, tolerance) for new in tqdm(objects, "symmetries", disable=len(objects) == 1)
        ]
    write = add_to_dataset if args.add else write_dataset
    objects = write(root, objects, camera, tolerance)
    print("\n".join(table(objects)))
    print("\n".join(farewell(root, objects, camera, args)))


def is_file(camera: str) -> bool:
    """Whether --camera is a file, not numbers."""
    return camera.endswith(".json") or Path(camera).is_file()


def read_given_camera(text: str | None, image_size: Sequence[float] | None) -> Camera | None:
    """--camera: a file, or four numbers with --image-size; None where it isn't given."""
    if text is None:
        return None
    size = None if image_size is None else (int(image_size[0]), int(image_size[1]))
    if not is_file(text):
        return Camera(as_K(_numbers(4)(text)), size)
    camera = read_camera(Path(text), "give a json with fx, fy, cx, cy, width, height")
    if camera.size is None and size is None:
        raise UserError(f"{text} has no width and height of the images; give --image-size W,H")
    return Camera(camera.K, size or camera.size)


def table(objects: list[NewObject]) -> list[str]:
    """Lines that state of each object its size, symmetries, and what was done or is wrong."""
    from sopose.core.symmetry.suggestions import describe

    lines = []
    for new in objects:
        model = new.model
        sides = " x ".join(f"{M_TO_MM * side:.4g}" for side in model.extent)
        lines.append(
            f"{model.obj_id} {model.name}: {sides} mm, diameter {M_TO_MM * model.diameter:.4g} mm, "
            f"{len(model.faces)} triangles, {_surface(new)} ({new.source})"
        )
        if new.symmetries is not None:
            lines += [f"    {line}" for line in describe(new.symmetries, model.diameter)]
        lines += [f"    {note}" for note in new.notes]
    return lines


def _surface(new: NewObject) -> str:
    if new.model.texture is not None:
        return "texture"
    return "no colour" if new.model.colors is None else "colours"


def farewell(root: Path, objects: list[NewObject], camera: Camera | None, args: argparse.Namespace) -> list[str]:
    """What was written, what to look at, and the next commands."""
    from sopose.core.making.new_dataset import COMMON_CAMERA

    used = camera or COMMON_CAMERA
    largest = max(new.model.diameter for new in objects)
    near, far = (used.K[1, 1] * largest / (share * used.size[1]) for share in (NEARER, FARTHER))
    lines = [f"written: {root}"]
    if camera is None and not args.add:
        lines.append(f"no --camera was given: {root / 'camera.json'} has a common webcam's; put yours there")
    pictures = [root / "overview.png"] + ([] if args.no_symmetries else [root / "symmetries.png"])
    lines.append(f"look at: {' and '.join(map(str, pictures))}")
    file = write_project(root, near, far, args.photos) if not args.add and not NAME.exists() else None
    if file is not None:
        lines.append(f"settings: {file}")
        if args.photos is None:
            lines.append("no --photos were given: real images need a folder of them in INPUT.BG_IMGS_ROOT there")
        options = []
    else:
        config = "configs/gdrn_selfocc/custom/cad_only_small.py"
        range_ = f"CAD.Z_RANGE=({near:.2g},{far:.2g})"
        options = ["--config-file", config, "--opts", f"DATASETS.TRAIN=[{root}:cad]", range_]
    look = options or ["--config-file", NAME]
    lines += ["next:", next_command("samples", *look), next_command("train", *options)]
    return lines
