"""A data set of CAD files from first to last: read, searched for symmetries, written, and told in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sopose.core.geometry.camera import Camera
from sopose.core.making.new_dataset import (
    COMMON_CAMERA,
    FEWEST_FACES,
    NewObject,
    add_to_dataset,
    object_names,
    read_object,
    require_place,
    with_found_symmetries,
    write_dataset,
)
from sopose.core.symmetry.suggestions import describe
from sopose.core.symmetry.tolerance import Tolerance
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_writable_dir
from sopose.core.utils.units import M_TO_MM

NEARER, FARTHER = 0.5, 0.125  # of the image's height that the largest object takes up: distances suggested for training


@dataclass(frozen=True, eq=False)
class CadDatasetOptions:
    """What a data set is made of, and how."""

    root: Path  # its folder
    files: Sequence[Path]  # one an object
    units: str  # of the files' coordinates, one of `METERS`
    names: Sequence[str] | None = None  # of the objects; the files'
    camera: Camera | None = None  # `COMMON_CAMERA`
    tolerance: Tolerance | None = None  # of the symmetries that are looked for; None: for none
    center: bool = False  # put each origin into the middle of the object's box
    max_faces: int | None = None  # simplify meshes of more triangles
    force: bool = False  # take whatever size comes out
    add: bool = False  # to the data set in `root`
    overwrite: bool = False  # what is in `root`


def make_dataset(options: CadDatasetOptions) -> list[NewObject]:
    """Read, search, write; the objects with their ids.

    Raises `UserError` before any work for a folder that cannot be written to in the way asked for, for fewer triangles
    than training needs, and for names that are no good, then for files without a surface and for unlikely sizes. What
    is in `root` stays as it was then.
    """
    require_place(options.root, options.overwrite, options.add)
    if options.max_faces is not None and options.max_faces < FEWEST_FACES:
        raise UserError(f"--max-faces must be at least {FEWEST_FACES}, got {options.max_faces}: training needs as many")
    require_writable_dir(options.root.parent)
    names = object_names(options.files, options.names)
    objects = [
        read_object(path, name, options.units, options.force, options.center, options.max_faces)
        for path, name in zip(options.files, names, strict=True)
    ]
    if options.tolerance is not None:
        objects = [
            with_found_symmetries(new, options.tolerance)
            for new in tqdm(objects, "symmetries", disable=len(objects) == 1)
        ]
    write = add_to_dataset if options.add else write_dataset
    return write(options.root, objects, options.camera, options.tolerance)


def suggested_range(objects: Sequence[NewObject], camera: Camera | None = None) -> tuple[float, float]:
    """The nearest and the farthest distance to train for, metres: where the largest object fills a part of the image.

    camera: None for `COMMON_CAMERA`.
    """
    used = camera or COMMON_CAMERA
    largest = max(new.model.diameter for new in objects)
    near, far = (used.K[1, 1] * largest / (share * used.size[1]) for share in (NEARER, FARTHER))
    return near, far


def describe_objects(objects: Sequence[NewObject]) -> list[str]:
    """Lines that state of each object its size, symmetries, and what was done or is wrong."""
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
