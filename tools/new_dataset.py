"""Make a BOP data set of CAD files: models in millimetres, sizes, symmetries, camera and names, ready for training.

Nothing is annotated: training draws its images from the models. The pictures show what was understood; look at them.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from sopose.core.geometry.camera import Camera, as_K
from sopose.core.objects.mesh_files import METERS
from sopose.core.symmetry.self_image import Tolerance
from sopose.core.symmetry.suggestions import describe
from sopose.core.utils.arguments import finite
from sopose.core.utils.errors import run_cli
from sopose.core.utils.files import require_writable_dir
from sopose.core.utils.units import M_TO_MM

if TYPE_CHECKING:
    from sopose.core.making.new_dataset import NewObject

EXAMPLE = """examples:
  python tools/new_dataset.py --root datasets/BOP_DATASETS/mypart --units mm part.stl other.obj --names part other \\
      --camera 615,615,319.5,239.5 --image-size 640,480
  python tools/new_dataset.py --root datasets/BOP_DATASETS/mypart --units m third.glb --add

Formats: stl, obj, ply, glb, gltf, off; 3mf after `pip install lxml`, step after `pip install cascadio`. Bodies of a
file are joined into one object. Symmetries are what tools/find_symmetries.py would suggest.
"""
NEARER, FARTHER = 0.5, 0.125  # of the image's height that the largest object takes up: distances suggested for training


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    default = Tolerance()
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a CAD or mesh file for each object")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the data set")
    parser.add_argument("--units", choices=METERS, required=True, help="of the files' coordinates")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="the objects' names (default: the files')")
    parser.add_argument("--camera", type=_numbers(4), metavar="FX,FY,CX,CY", help="your camera, pixels")
    parser.add_argument("--image-size", type=_numbers(2), metavar="W,H", help="of your camera's images, pixels")
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
    args = parser.parse_args(argv)
    if (args.camera is None) != (args.image_size is None):
        parser.error("--camera and --image-size go together")
    if args.camera is not None and (min(args.camera[:2]) <= 0 or min(args.image_size) < 1):
        parser.error("focal lengths and image sizes must be above 0")
    if not 0 < args.tolerance <= 20:
        parser.error("--tolerance must be above 0 and at most 20")
    return args


def _numbers(count: int) -> Callable[[str], list[float]]:
    """A reader of so many numbers with commas between them."""

    def numbers(text: str) -> list[float]:
        values = [finite(part) for part in text.split(",")]
        if len(values) != count:
            raise ValueError
        return values

    return numbers


def main(argv: list[str] | None = None) -> None:
    """Read, search, write, and tell what was done and what to do next."""
    args = parse_args(argv)
    from sopose.core.making.new_dataset import (
        add_to_dataset,
        object_names,
        read_object,
        require_place,
        with_found_symmetries,
        write_dataset,
    )

    require_place(args.root, args.overwrite, args.add)
    require_writable_dir(args.root.parent)
    names = object_names(args.files, args.names)
    camera = None
    if args.camera is not None:
        camera = Camera(as_K(args.camera), (int(args.image_size[0]), int(args.image_size[1])))
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
    objects = write(args.root, objects, camera, tolerance)
    print("\n".join(table(objects)))
    print("\n".join(farewell(args.root, objects, camera, args)))


def table(objects: list[NewObject]) -> list[str]:
    """Lines that tell of each object its size, symmetries, and what was done or is wrong."""
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
    config = "--config-file configs/gdrn_selfocc/custom/cad_only_small.py"
    options = (
        f"--opts {shlex.quote(f'DATASETS.TRAIN=[{root}:cad]')} {shlex.quote(f'CAD.Z_RANGE=({near:.2g},{far:.2g})')}"
    )
    lines += [
        "next, see docs/own_object.md:",
        f"  python tools/show_samples.py {config} {options}",
        f"  python gdrn_selfocc_modeling/main_gdrn.py {config} {options}",
    ]
    return lines


if __name__ == "__main__":
    run_cli(main)
