"""One scene's folder: its image files by id, its json files by image, and each entry by itself.

Whatever reads scenes reads them here: the loader ends at the first entry that cannot be read, the doctor lists all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sopose.core.bop.fields import by_id, integer, number, numbers, xyxy_from_xywh
from sopose.core.bop.records import ImageRecord, Instance, parted
from sopose.core.geometry.pose import Pose
from sopose.core.images.scene_images import MASK_FOLDERS, SceneNames, bop_stem, images_by_ids, scene_images
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json

GT_NAME, GT_INFO_NAME = "scene_gt.json", "scene_gt_info.json"
T = TypeVar("T")


def scene_dirs(split_dir: Path) -> list[Path]:
    """The folders of a split that are called by a number, ascending: its scenes."""
    scenes = [path for path in split_dir.iterdir() if path.name.isdecimal() and path.is_dir()]
    return sorted(scenes, key=lambda path: int(path.name))


class SceneFiles:
    """The image files of a scene's folder, of one sensor, listed once (a scene has thousands)."""

    def __init__(self, scene_dir: Path, sensor: str = "") -> None:
        self.dir, self.names = scene_dir, SceneNames(sensor)
        self.images = scene_images(scene_dir, sensor)
        depths = images_by_ids(scene_dir / self.names.of("depth"), 1)
        self.depths = {im_id: path for (im_id,), path in depths.items()}
        self.masks = {name: images_by_ids(scene_dir / self.names.of(name), 2) for name in MASK_FOLDERS}

    def json(self, name: str) -> Path:
        """The sensor's own of the scene's json files."""
        return self.dir / self.names.of(name)

    def image(self, im_id: int) -> Path:
        """The colour or grey image; where neither is there, the path that BOP gives it."""
        return self.images.get(im_id, self.dir / self.names.image_folders[0] / f"{bop_stem(im_id)}.png")

    def instance(self, im_id: int, index: int, obj_id: int, pose: Pose, info: GtInfo | None = None) -> Instance:
        """The annotation at a place of an image's list, with its mask files."""
        mask, mask_visib = (self.masks[name].get((im_id, index)) for name in MASK_FOLDERS)
        fields = {} if info is None else info.instance_fields()
        return Instance(obj_id, index, pose, mask_path=mask, mask_visib_path=mask_visib, **fields)

    def record(
        self,
        im_id: int,
        K: np.ndarray,
        depth_scale: float,
        instances: Iterable[Instance],
        wanted: set[int],
        is_annotated: bool = True,
    ) -> ImageRecord:
        """An image with its files and its annotations, parted into those of `wanted` objects and others."""
        return ImageRecord(
            scene_id=int(self.dir.name),
            im_id=im_id,
            rgb_path=self.image(im_id),
            depth_path=self.depths.get(im_id),
            depth_scale=depth_scale,
            K=K,
            **parted(instances, wanted),
            is_annotated=is_annotated,
            sensor=self.names.sensor,
        )


def entries_by_image(path: Path, optional: bool = False) -> dict[int, Any]:
    """A json file with image ids as keys, its entries as they are; empty where it is missing and `optional`.

    Raises `UserError` where it is missing or damaged, or names an image twice.
    """
    if optional and not path.is_file():
        return {}
    content = read_json(path, "every scene folder has one; download the split again")
    if not isinstance(content, dict):
        raise UserError(f"{path} must be an object with image ids as keys; restore the file")
    return by_id(content, str(path))


def annotation_list(entries: Any, where: str) -> list[Any]:
    """An image's value in `scene_gt.json` as a list of entries."""
    if not isinstance(entries, list):
        raise UserError(f"{where} must be a list of objects and is {type(entries).__name__}; repair the file")
    return entries


def matching_infos(infos: Any, entries: list[Any], where: str) -> list[Any] | None:
    """An image's value in `scene_gt_info.json`, one for each annotation; None where it is absent."""
    if infos is not None and (not isinstance(infos, list) or len(infos) != len(entries)):
        came = len(infos) if isinstance(infos, list) else type(infos).__name__
        raise UserError(f"{where} has {len(entries)} objects but {GT_INFO_NAME} {came}; repair the file")
    return infos


@dataclass(frozen=True, eq=False)
class GtInfo:
    """One entry of `scene_gt_info.json`, as it is written; what it lacks is None."""

    bbox_obj: np.ndarray | None  # (4,) float64 x, y, width, height, pixels
    bbox_visib: np.ndarray | None
    visib_fract: float | None
    px_count_all: int | None
    px_count_valid: int | None
    px_count_visib: int | None

    def instance_fields(self) -> dict[str, Any]:
        """As an `Instance` has them: BOP's -1 is None too."""
        boxes = {"bbox_obj": self.bbox_obj, "bbox_visib": self.bbox_visib}
        fields: dict[str, Any] = {key: None if box is None else xyxy_from_xywh(box, key) for key, box in boxes.items()}
        for key in ("visib_fract", "px_count_visib"):
            value = getattr(self, key)
            fields[key] = value if value is not None and value >= 0 else None
        return fields


def read_info(info: Any, where: str) -> GtInfo:
    """One entry of `scene_gt_info.json`. `UserError` for what is none."""
    if not isinstance(info, dict):
        raise UserError(f"{where} must be an object and is {type(info).__name__}; repair the file")

    def read(key: str, as_value: Callable[[Any, str], T]) -> T | None:
        return as_value(info[key], f"{where}: {key}") if key in info else None

    return GtInfo(
        bbox_obj=read("bbox_obj", _box),
        bbox_visib=read("bbox_visib", _box),
        visib_fract=read("visib_fract", number),
        px_count_all=read("px_count_all", integer),
        px_count_valid=read("px_count_valid", integer),
        px_count_visib=read("px_count_visib", integer),
    )


def _box(value: Any, where: str) -> np.ndarray:
    return numbers(value, 4, where)
