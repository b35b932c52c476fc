"""Images of a split with their annotations, and what their files hold."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sopose.core.bop.fields import (
    CAMERA_NAME as DATASET_CAMERA_NAME,
)
from sopose.core.bop.fields import (
    read_camera_size,
    read_depth_scale,
    read_intrinsics,
    read_obj_id,
    read_pose,
)
from sopose.core.bop.legacy_layouts import read_blender, read_imgn
from sopose.core.bop.records import (
    Found,
    ImageList,
    ImageRecord,
    Instance,
    list_lines,
    listed_image,
)
from sopose.core.bop.scene_folder import (
    GT_INFO_NAME,
    GT_NAME,
    SceneFiles,
    annotation_list,
    entries_by_image,
    matching_infos,
    read_info,
    scene_dirs,
)
from sopose.core.bop.splits import SplitSpec
from sopose.core.bop.targets import read_targets
from sopose.core.images.files import read_header, read_image
from sopose.core.images.photo import read_photo
from sopose.core.images.scene_images import CAMERA_NAME, SceneNames, sensors_of
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_dir

logger = logging.getLogger(__name__)

Selection = dict[int, set[int]]  # image ids by scene id


def load_split(
    spec: SplitSpec, object_ids: Iterable[int] | None = None, require_images: bool = True
) -> list[ImageRecord]:
    """The images of a split, sorted by scene and image id.

    `object_ids` narrows the split's objects. An image without its file is left out and counted in
    one warning; with `require_images=False` it stays (for scoring, which needs annotations only).
    Raises `UserError` for missing folders, lists or keys, wrong lengths, and a split without images.
    """
    if spec.kind == "cad":
        raise UserError(
            f"the images of '{spec.name}' are rendered from the models, not read; choose a BOP split of {spec.root}"
        )
    read = {"bop": _read_scenes, "blender": read_blender, "imgn": read_imgn}[spec.layout]
    found, absent = read(spec, set(spec.object_names if object_ids is None else object_ids))
    records = [record for record in found if not require_images or record.rgb_path.is_file()]
    absent += sum(not record.rgb_path.is_file() for record in found)
    if absent and records and require_images:
        logger.warning("%s: %d images are listed but have no file; %d are used", spec.name, absent, len(records))
    if not records:
        raise UserError(f"'{spec.name}' has no image in {spec.images_dir} ({absent} listed); download its images")
    return sorted(records, key=lambda record: (record.scene_id, record.im_id))


def _read_scenes(spec: SplitSpec, wanted: set[int]) -> Found:
    """Records of the scene folders of a BOP split."""
    selection = _selection(spec)
    records, absent = [], 0
    for scene_dir in _scene_dirs(spec, selection):
        scene_id = int(scene_dir.name)
        scene_wanted = wanted & {scene_id} if spec.scene_is_object else wanted
        chosen = None if selection is None else selection[scene_id]
        found, missing = _read_scene(SceneFiles(scene_dir, spec.sensor), scene_wanted, chosen)
        records += found
        absent += missing
    return records, absent


def _scene_dirs(spec: SplitSpec, selection: Selection | None) -> list[Path]:
    require_dir(spec.images_dir, f"'{spec.name}' reads it; download the split or choose another")
    scenes = scene_dirs(spec.images_dir)
    if spec.scene_is_object:
        scenes = [path for path in scenes if int(path.name) in spec.object_names]
    if selection is not None:
        scenes = [path for path in scenes if int(path.name) in selection]
    for one, other in pairwise(scenes):
        if int(one.name) == int(other.name):
            raise UserError(f"{one} and {other} are both scene {int(one.name)}; remove or rename one of them")
    if spec.sensor:  # others may have been taken without it
        scenes = [path for path in scenes if spec.sensor in sensors_of(path)]
    if not scenes:
        raise UserError(f"{spec.images_dir} has no scene folder that '{spec.name}' reads; download the split")
    return scenes


def _selection(spec: SplitSpec) -> Selection | None:
    """Images that the split's lists or targets name; None for all of them."""
    lists = [item for item in spec.image_lists if item.required or item.path.is_file()]
    if not lists and spec.targets_path is None:
        return None
    selection: Selection = defaultdict(set)
    for item in lists:
        _read_list(item, selection)
    for target in [] if lists else read_targets(spec.targets_path):
        selection[target.scene_id].add(target.im_id)
    return selection


def _read_list(item: ImageList, selection: Selection) -> None:
    for where, line in list_lines(item):
        scene_id, im_id = listed_image(item, where, line)
        selection[scene_id].add(im_id)


def _read_scene(files: SceneFiles, wanted: set[int], chosen: set[int] | None) -> Found:
    """Records of a scene's (chosen) images and the number of chosen images it doesn't list."""
    camera_path, gt_path = files.json(CAMERA_NAME), files.json(GT_NAME)
    cameras = entries_by_image(camera_path)
    infos = entries_by_image(files.json(GT_INFO_NAME), optional=True)
    gts = entries_by_image(gt_path, optional=not infos)
    for im_id in gts:
        if im_id not in cameras:
            raise UserError(f"{camera_path} needs image {im_id} of {gt_path.name}; repair it")
    images = sorted(cameras if chosen is None else chosen & set(cameras))
    records = []
    for im_id in images:
        where = f"{camera_path}, image {im_id}"
        K, depth_scale = read_intrinsics(cameras[im_id], where), read_depth_scale(cameras[im_id], where)
        instances = _read_instances(files, im_id, gts.get(im_id, []), infos.get(im_id))
        records.append(files.record(im_id, K, depth_scale, instances, wanted, is_annotated=bool(gts)))
    return records, 0 if chosen is None else len(chosen) - len(images)


def _read_instances(files: SceneFiles, im_id: int, entries: Any, infos: Any) -> list[Instance]:
    where = f"{files.json(GT_NAME)}, image {im_id}"
    entries = annotation_list(entries, where)
    infos = matching_infos(infos, entries, where)
    instances = []
    for index, entry in enumerate(entries):
        place = f"{where}, entry {index}"
        obj_id, pose = read_obj_id(entry, place), read_pose(entry, place)
        info = read_info(infos[index], f"{place} of {files.names.of(GT_INFO_NAME)}") if infos else None
        instances.append(files.instance(im_id, index, obj_id, pose, info))
    return instances


def read_rgb(record: ImageRecord) -> np.ndarray:
    """The image as (H, W, 3) uint8 BGR; a grey image has three equal channels."""
    return read_photo(record.rgb_path, "download the split's images")


def read_depth(record: ImageRecord) -> np.ndarray:
    """The depth image as (H, W) float64, metres along the optical axis, 0 where nothing was measured."""
    if record.depth_path is None:
        raise UserError(
            f"image {record.im_id} of scene {record.scene_id} has no depth file beside {record.rgb_path}; "
            "download the split's depth images or choose what needs none"
        )
    depth = read_image(record.depth_path, cv2.IMREAD_UNCHANGED, "download the split's depth images")
    if depth.ndim != 2:
        raise UserError(f"{record.depth_path} must have one channel and has shape {depth.shape}; restore it")
    return record.depth_scale * depth.astype(np.float64)


def read_mask(path: Path) -> np.ndarray:
    """A mask file as (H, W) bool."""
    return read_image(path, cv2.IMREAD_GRAYSCALE, "download the split's masks") > 0


def read_image_size(record: ImageRecord, root: Path) -> tuple[int, int]:
    """Width and height of an image, pixels: from its file's header, or without the file from `root`'s camera.json.

    Raises `UserError` where neither is there.
    """
    if not record.rgb_path.is_file():
        camera = root / SceneNames(record.sensor).of(DATASET_CAMERA_NAME)
        if not camera.is_file():
            raise UserError(
                f"the size of image {record.im_id} of scene {record.scene_id} is not known: neither {record.rgb_path} "
                f"nor {camera} is there; add one of the two"
            )
        return read_camera_size(root, record.sensor)
    return read_header(record.rgb_path).size
