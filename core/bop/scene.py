"""Images of a BOP split with their annotations: the one place that reads scene folders."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from core.bop.datasets import ImageList, SplitSpec
from core.bop.fields import MM_TO_M, integer, numbers, positive, read_intrinsics, read_pose, xyxy_from_xywh
from core.bop.targets import load_targets
from core.geometry.pose import Pose
from core.utils.errors import UserError
from core.utils.files import read_image, read_json, require_dir, require_file, require_key

logger = logging.getLogger(__name__)

IMAGE_FOLDERS = ("rgb", "gray")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
Selection = dict[int, set[int]]  # image ids by scene id


@dataclass(frozen=True, eq=False, slots=True)
class Instance:
    """One annotated object of an image. Boxes are (4,) float64 x1, y1, x2 = x1 + w, y2 = y1 + h, pixels.

    What a data set doesn't have, or has as BOP's -1, is None.
    """

    obj_id: int
    gt_index: int  # position in the image's list in scene_gt.json, names its mask files
    pose: Pose
    bbox_obj: np.ndarray | None = None  # of the whole object, may leave the image
    bbox_visib: np.ndarray | None = None  # of its visible part
    visib_fract: float | None = None
    px_count_visib: int | None = None
    mask_path: Path | None = None  # of the whole object
    mask_visib_path: Path | None = None


@dataclass(frozen=True, eq=False, slots=True)
class ImageRecord:
    """One image of a split. `instances` are of the wanted objects, `others` the rest (they may occlude)."""

    scene_id: int
    im_id: int
    rgb_path: Path
    depth_path: Path | None
    depth_scale: float  # value in the depth file * depth_scale = metres
    K: np.ndarray  # (3, 3) float64, pixels
    instances: tuple[Instance, ...]
    others: tuple[Instance, ...] = ()


def load_split(
    spec: SplitSpec, object_ids: Iterable[int] | None = None, require_images: bool = True
) -> list[ImageRecord]:
    """The images of a split, sorted by scene and image id.

    `object_ids` narrows the split's objects. An image without its file is left out and counted in
    one warning; with `require_images=False` it stays (for scoring, which needs annotations only).
    Raises `UserError` for missing folders, lists or keys, wrong lengths, and a split without images.
    """
    if spec.kind == "cad" or spec.layout != "bop":
        reason = "rendered from the models, not read" if spec.kind == "cad" else "of a layout not supported yet"
        raise UserError(f"the images of '{spec.name}' are {reason}; choose a BOP split of {spec.root}")
    wanted = set(spec.object_names if object_ids is None else object_ids)
    selection = _selection(spec)
    records, absent = [], 0
    for scene_dir in _scene_dirs(spec, selection):
        scene_id = int(scene_dir.name)
        scene_wanted = wanted & {scene_id} if spec.scene_is_object else wanted
        chosen = None if selection is None else selection[scene_id]
        found, missing = _read_scene(scene_dir, scene_wanted, chosen)
        absent += missing
        records += [record for record in found if not require_images or record.rgb_path.is_file()]
        absent += sum(not record.rgb_path.is_file() for record in found)
    if absent and records and require_images:
        logger.warning("%s: %d images are listed but have no file; %d are used", spec.name, absent, len(records))
    if not records:
        raise UserError(f"'{spec.name}' has no image in {spec.images_dir} ({absent} listed); download its images")
    return records


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
    require_file(item.path, "the split is defined by this list of image ids (GDR-Net's image_set); copy it there")
    for number, line in enumerate(item.path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{item.path}, line {number}"
        scene, _, image = line.strip().rpartition("/")
        if not scene and item.scene_id is None:
            raise UserError(f"{where} must be scene/image and is '{line.strip()}'; repair the list")
        scene_id = integer(scene.rpartition("/")[2], where) if scene else item.scene_id
        selection[scene_id].add(integer(image, where))


class _SceneFiles:
    """Files of a scene folder by sub-folder and stem, listed once (a scene has thousands)."""

    def __init__(self, scene_dir: Path) -> None:
        self._folders = {
            name: {
                path.stem: path
                for path in (scene_dir / name).iterdir()
                if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
            }
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


def _read_scene(scene_dir: Path, wanted: set[int], chosen: set[int] | None) -> tuple[list[ImageRecord], int]:
    """Records of a scene's (chosen) images and the number of chosen images it doesn't list."""
    cameras = _by_image(scene_dir / "scene_camera.json")
    infos = _by_image(scene_dir / "scene_gt_info.json", optional=True)
    gts = _by_image(scene_dir / "scene_gt.json", optional=not infos)
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


def _by_image(path: Path, optional: bool = False) -> dict[int, Any]:
    if optional and not path.is_file():
        return {}
    content = read_json(path, "every BOP scene folder has one; download the split again")
    if not isinstance(content, dict):
        raise UserError(f"{path} must be an object with image ids as keys; restore the file")
    return {integer(key, f"{path}: the key '{key}'"): value for key, value in content.items()}


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
        instances=tuple(item for item in instances if item.obj_id in wanted),
        others=tuple(item for item in instances if item.obj_id not in wanted),
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
    width, height = (integer(require_key(camera, key, str(path)), f"{path}: {key}") for key in ("width", "height"))
    return width, height
