"""Images of a split with their annotations: the one place that reads BOP's scene folders."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sopose.core.bop.fields import integer, numbers, positive, read_intrinsics, read_pose, xyxy_from_xywh
from sopose.core.bop.legacy_layouts import read_blender, read_imgn
from sopose.core.bop.records import (
    Found,
    ImageList,
    ImageRecord,
    Instance,
    annotations_by_image,
    images_by_stem,
    list_lines,
    parted,
)
from sopose.core.bop.splits import SplitSpec
from sopose.core.bop.targets import load_targets
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_image, read_json, require_dir, require_key
from sopose.core.utils.units import MM_TO_M

logger = logging.getLogger(__name__)

IMAGE_FOLDERS = ("rgb", "gray")
EXIF_ORIENTATION, EXIF_FIRST_TURNED = 274, 5  # from this value on, width and height change places
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
        found, missing = _read_scene(scene_dir, scene_wanted, None if selection is None else selection[scene_id])
        records += found
        absent += missing
    return records, absent


def _scene_dirs(spec: SplitSpec, selection: Selection | None) -> list[Path]:
    require_dir(spec.images_dir, f"'{spec.name}' reads it; download the split or choose another")
    scenes = [path for path in spec.images_dir.iterdir() if path.is_dir() and path.name.isdecimal()]
    if spec.scene_is_object:
        scenes = [path for path in scenes if int(path.name) in spec.object_names]
    if selection is not None:
        scenes = [path for path in scenes if int(path.name) in selection]
    if not scenes:
        raise UserError(f"{spec.images_dir} has no scene folder that '{spec.name}' reads; download the split")
    return sorted(scenes, key=lambda path: int(path.name))


def _selection(spec: SplitSpec) -> Selection | None:
    """Images that the split's lists or targets name; None for all of them."""
    lists = [item for item in spec.image_lists if item.required or item.path.is_file()]
    if not lists and spec.targets_path is None:
        return None
    selection: Selection = defaultdict(set)
    for item in lists:
        _read_list(item, selection)
    for target in [] if lists else load_targets(spec.targets_path):
        selection[target.scene_id].add(target.im_id)
    return selection


def _read_list(item: ImageList, selection: Selection) -> None:
    for where, line in list_lines(item):
        scene, _, image = line.rpartition("/")
        if not scene and item.scene_id is None:
            raise UserError(f"{where} must be scene/image and is '{line}'; repair the list")
        scene_id = integer(scene.rpartition("/")[2], where) if scene else item.scene_id
        selection[scene_id].add(integer(image, where))


class _SceneFiles:
    """Files of a scene folder by sub-folder and stem, listed once (a scene has thousands)."""

    def __init__(self, scene_dir: Path) -> None:
        self._folders = {
            name: images_by_stem(scene_dir / name)
            for name in (*IMAGE_FOLDERS, "depth", "mask", "mask_visib")
            if (scene_dir / name).is_dir()
        }
        self.scene_dir = scene_dir

    def get(self, folder: str, stem: str) -> Path | None:
        return self._folders.get(folder, {}).get(stem)

    def image(self, im_id: int) -> Path:
        """The colour or grey image; where neither is there, the path that BOP gives it."""
        found = (self.get(folder, f"{im_id:06d}") for folder in IMAGE_FOLDERS)
        return next(filter(None, found), self.scene_dir / "rgb" / f"{im_id:06d}.png")


def _read_scene(scene_dir: Path, wanted: set[int], chosen: set[int] | None) -> Found:
    """Records of a scene's (chosen) images and the number of chosen images it doesn't list."""
    cameras = annotations_by_image(scene_dir / "scene_camera.json")
    infos = annotations_by_image(scene_dir / "scene_gt_info.json", optional=True)
    gts = annotations_by_image(scene_dir / "scene_gt.json", optional=not infos)
    for im_id in gts:
        if im_id not in cameras:
            raise UserError(f"{scene_dir / 'scene_camera.json'} needs image {im_id} of scene_gt.json; repair it")
    files = _SceneFiles(scene_dir)
    images = sorted(cameras if chosen is None else chosen & set(cameras))
    records = []
    for im_id in images:
        instances = _read_instances(files, im_id, gts.get(im_id, []), infos.get(im_id))
        records.append(_record(files, im_id, cameras[im_id], instances, wanted))
    return records, 0 if chosen is None else len(chosen) - len(images)


def _record(files: _SceneFiles, im_id: int, camera: Any, instances: list[Instance], wanted: set[int]) -> ImageRecord:
    where = f"{files.scene_dir / 'scene_camera.json'}, image {im_id}"
    K = read_intrinsics(camera, where)
    return ImageRecord(
        scene_id=int(files.scene_dir.name),
        im_id=im_id,
        rgb_path=files.image(im_id),
        depth_path=files.get("depth", f"{im_id:06d}"),
        depth_scale=MM_TO_M * positive(camera.get("depth_scale", 1.0), f"{where}: depth_scale"),
        K=K,
        **parted(instances, wanted),
    )


def _read_instances(files: _SceneFiles, im_id: int, gts: Any, infos: Any) -> list[Instance]:
    where = f"{files.scene_dir / 'scene_gt.json'}, image {im_id}"
    if not isinstance(gts, list):
        raise UserError(f"{where} must be a list of objects and is {type(gts).__name__}; repair the file")
    if infos is not None and (not isinstance(infos, list) or len(infos) != len(gts)):
        came = len(infos) if isinstance(infos, list) else type(infos).__name__
        raise UserError(f"{where} has {len(gts)} objects but scene_gt_info.json {came}; repair the file")
    instances = []
    for index, gt in enumerate(gts):
        stem = f"{im_id:06d}_{index:06d}"
        instances.append(
            Instance(
                obj_id=integer(require_key(gt, "obj_id", f"{where}, entry {index}"), f"{where}: obj_id"),
                gt_index=index,
                pose=read_pose(gt, f"{where}, entry {index}"),
                mask_path=files.get("mask", stem),
                mask_visib_path=files.get("mask_visib", stem),
                **_read_info(infos[index] if infos else {}, f"{where}, entry {index} of scene_gt_info.json"),
            )
        )
    return instances


def _read_info(info: Any, where: str) -> dict[str, Any]:
    if not isinstance(info, dict):
        raise UserError(f"{where} must be an object and is {type(info).__name__}; repair the file")
    fields: dict[str, Any] = {}
    for key in ("bbox_obj", "bbox_visib"):
        if key in info:
            fields[key] = xyxy_from_xywh(info[key], f"{where}: {key}")
    if "visib_fract" in info:
        visib_fract = float(numbers(info["visib_fract"], 1, f"{where}: visib_fract")[0])
        fields["visib_fract"] = visib_fract if visib_fract >= 0 else None
    if "px_count_visib" in info:
        count = integer(info["px_count_visib"], f"{where}: px_count_visib")
        fields["px_count_visib"] = count if count >= 0 else None
    return fields


def read_rgb(record: ImageRecord) -> np.ndarray:
    """The image as (H, W, 3) uint8 BGR; a grey image has three equal channels."""
    return read_image(record.rgb_path, cv2.IMREAD_COLOR, "download the split's images")


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


def read_camera_size(root: Path) -> tuple[int, int]:
    """Width and height of a data set's images, pixels, from `camera.json` in its folder."""
    path = Path(root) / "camera.json"
    camera = read_json(path, "it comes with the data set's base archive")
    values = {key: require_key(camera, key, str(path)) for key in ("width", "height")}
    width, height = (integer(positive(value, f"{path}: {key}"), f"{path}: {key}") for key, value in values.items())
    return width, height


def read_image_size(record: ImageRecord, root: Path) -> tuple[int, int]:
    """Width and height of an image, pixels: from its file's header, or without the file from `root`'s camera.json.

    Raises `UserError` where neither is there.
    """
    if not record.rgb_path.is_file():
        if not (root / "camera.json").is_file():
            raise UserError(
                f"the size of image {record.im_id} of scene {record.scene_id} is not known: neither {record.rgb_path} "
                f"nor {root / 'camera.json'} is there; add one of the two"
            )
        return read_camera_size(root)
    from PIL import Image  # OpenCV reads an image whole or not at all

    try:
        with Image.open(record.rgb_path) as image:
            turned = image.getexif().get(EXIF_ORIENTATION, 1) >= EXIF_FIRST_TURNED
            return image.size[::-1] if turned else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{record.rgb_path} cannot be read as an image; restore the file") from error
