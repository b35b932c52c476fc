"""Rendered images of single objects in the two layouts that BOP doesn't know, as records like any other's.

Layout `blender`: `<split>/<object>/` has one image for each id and `<object>_gt.json`, in BOP's terms.
Layout `imgn` (DeepIM): `<split>/<object>/` has `<prefix>-color.png`, `-depth.png`, `-label.png` and
`-pose.txt` for each prefix of the object's list. A scene's id is its object's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.fields import (
    has_intrinsics,
    integer,
    numbers,
    read_camera,
    read_intrinsics,
    read_pose,
    rotation,
)
from sopose.core.bop.models import default_name
from sopose.core.bop.records import (
    Found,
    ImageRecord,
    Instance,
    list_lines,
    parted,
)
from sopose.core.bop.scene_folder import entries_by_image
from sopose.core.bop.splits import SplitSpec
from sopose.core.geometry.camera import Camera
from sopose.core.geometry.pose import Pose
from sopose.core.images.files import read_header
from sopose.core.images.scene_images import bop_stem, ids_by_place, images_by_ids, images_by_stem
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_file
from sopose.core.utils.units import MM_TO_M

CAMERA_DATASETS = ("lm", "lmo")  # whose camera.json says what the renders don't: they have one camera
DEPTH_SCALE = MM_TO_M  # depth images are in millimetres


def read_blender(spec: SplitSpec, wanted: set[int]) -> Found:
    """Images of the wanted objects with the entries of their `<object>_gt.json` (millimetres).

    The file maps an image's id to an entry or a list of entries; one without `obj_id` is of the folder's object.
    Raises `UserError` for what is missing or damaged.
    """
    shared = cache(partial(_shared_camera, spec))
    records = []
    for obj_id in _object_ids(spec, wanted):
        folder = _object_folder(spec, obj_id)
        images = {im_id: path for (im_id,), path in images_by_ids(folder, 1).items()}
        shared_K = cache(partial(_intrinsics_of, shared, images.values()))
        path = _annotation_path(folder)
        for im_id, entries in entries_by_image(path).items():
            where = f"{path}, image {im_id}"
            entries = entries if isinstance(entries, list) else [entries]
            instances = [_blender_instance(entry, index, obj_id, where) for index, entry in enumerate(entries)]
            camera = next(filter(has_intrinsics, entries), None)
            records.append(
                ImageRecord(
                    scene_id=obj_id,
                    im_id=im_id,
                    rgb_path=images.get(im_id, folder / f"{bop_stem(im_id)}.png"),
                    depth_path=None,
                    depth_scale=DEPTH_SCALE,
                    K=shared_K() if camera is None else read_intrinsics(camera, where),
                    **parted(instances, {obj_id}),
                )
            )
    return records, 0


def _annotation_path(folder: Path) -> Path:
    """`<object>_gt.json` inside the object's folder, or beside it."""
    inside = folder / f"{folder.name}_gt.json"
    beside = folder.parent / inside.name
    return require_file(beside if beside.is_file() else inside, f"the poses are read from it or {beside}; copy it")


def _blender_instance(entry: Any, index: int, obj_id: int, where: str) -> Instance:
    where = f"{where}, entry {index}"
    if not isinstance(entry, dict):
        raise UserError(f"{where} must be an object and is {type(entry).__name__}; repair the file")
    return Instance(integer(entry.get("obj_id", obj_id), f"{where}: obj_id"), index, read_pose(entry, where))


def read_imgn(spec: SplitSpec, wanted: set[int]) -> Found:
    """Images of the wanted objects that the split's lists name by a prefix a line; poses in metres.

    An image's id is its prefix; prefixes that are no numbers are counted on from the largest of the list.
    The label file, if there, is the visible mask. Raises `UserError` for what is missing or damaged.
    """
    lists = {item.scene_id: item for item in spec.image_lists}
    shared = cache(partial(_shared_camera, spec))
    records, absent = [], 0
    for obj_id in _object_ids(spec, wanted):
        folder = _object_folder(spec, obj_id)
        images = images_by_stem(folder)
        colors = [path for stem, path in images.items() if stem.endswith("-color")]
        shared_K = cache(partial(_intrinsics_of, shared, colors))
        prefixes = list(dict.fromkeys(line.rpartition("/")[2] for _, line in list_lines(lists[obj_id])))
        for prefix, im_id in zip(prefixes, ids_by_place(prefixes), strict=True):
            pose_path = folder / f"{prefix}-pose.txt"
            if f"{prefix}-color" not in images and not pose_path.is_file():
                absent += 1
                continue
            label = images.get(f"{prefix}-label")
            instance = Instance(obj_id, 0, _read_pose_file(pose_path), mask_visib_path=label)
            records.append(
                ImageRecord(
                    scene_id=obj_id,
                    im_id=im_id,
                    rgb_path=images.get(f"{prefix}-color", folder / f"{prefix}-color.png"),
                    depth_path=images.get(f"{prefix}-depth"),
                    depth_scale=DEPTH_SCALE,
                    K=shared_K(),
                    instances=(instance,),
                )
            )
    return records, absent


def _read_pose_file(path: Path) -> Pose:
    """A 3x4 object-to-camera matrix as text, metres, after an optional line with the index of a class."""
    require_file(path, "each image has its pose there; download the renders again")
    rows = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.split()]
    if len(rows) == 4 and len(rows[0]) == 1:
        rows = rows[1:]
    matrix = numbers([number for row in rows for number in row], 12, f"{path}: the 3x4 pose").reshape(3, 4)
    return Pose(cam_R_obj=rotation(matrix[:, :3], f"{path}: its left 3x3 part"), cam_t_obj=matrix[:, 3])


def _object_ids(spec: SplitSpec, wanted: set[int]) -> list[int]:
    return sorted(wanted & set(spec.object_names))


def _object_folder(spec: SplitSpec, obj_id: int) -> Path:
    """The folder of an object's images, called by its name or its id."""
    names = (spec.object_names[obj_id], f"{obj_id:06d}", str(obj_id), default_name(obj_id))
    for name in names:
        if (spec.images_dir / name).is_dir():
            return spec.images_dir / name
    raise UserError(
        f"folder {spec.images_dir / names[0]} is missing, which '{spec.name}' reads; download those renders or leave "
        "the object out of DATASETS.OBJS"
    )


def _intrinsics_of(shared: Callable[[], Camera], images: Iterable[Path]) -> np.ndarray:
    """K (3, 3) of the shared camera for images of one size, which the first one says that can be read."""
    camera = shared()
    for path in images:
        try:
            size = read_header(path).size
        except UserError:  # a damaged image is reported where it is used
            continue
        return camera.of_images(size, f"{path}: camera.json")
    return camera.K


def _shared_camera(spec: SplitSpec) -> Camera:
    """LM's camera, from `camera.json` of a data set beside the renders."""
    paths = [spec.root.parent / name / "camera.json" for name in CAMERA_DATASETS]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        places = " nor ".join(map(str, paths))
        raise UserError(f"'{spec.name}' has images without cam_K, and neither {places} is there; add one of the two")
    return read_camera(path)
