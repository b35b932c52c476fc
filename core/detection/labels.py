"""What is to be found in an image, from its annotations or from rays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sopose.core.bop.fields import xyxy_from_xywh
from sopose.core.bop.records import ImageRecord, Instance
from sopose.core.bop.scene import read_mask
from sopose.core.data.roi import ImageSize
from sopose.core.geometry.camera import pixel_grid
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.casters import cast_scene
from sopose.core.rays.raycast import RayCaster
from sopose.core.render.visibility import scene_gt_info
from sopose.core.utils.errors import UserError

MIN_VISIBLE_PIXELS = 30  # an object with fewer teaches nothing


@dataclass(frozen=True, eq=False)
class Label:
    """An object to find: its class, and the box (4,) xyxy of its visible pixels' centres."""

    instance: Instance
    class_index: int
    box: np.ndarray


class Labeler:
    """Chooses the objects of `classes` (class by object id) that are visible by more than `min_visib`.

    `models` has every one that can occlude; they are cast where a data set lacks boxes or masks.
    """

    def __init__(self, classes: Mapping[int, int], models: Mapping[int, ObjectModel], min_visib: float = 0.0) -> None:
        self.classes, self.models, self.min_visib = dict(classes), models, min_visib

    def may_have_labels(self, record: ImageRecord) -> bool:
        """Whether an image has a label, or lacks the annotations that decide it."""
        wanted = [item for item in record.instances if item.obj_id in self.classes]
        return bool(self.of_instances(wanted)) or not all(map(_is_located, wanted))

    def of_image(self, record: ImageRecord, image_size: ImageSize) -> list[Label]:
        """The labels of an image of `image_size` (W, H)."""
        wanted = [item for item in record.instances if item.obj_id in self.classes]
        if all(map(_is_located, wanted)):
            return self.of_instances(wanted)
        known = self._known(record)
        infos = scene_gt_info(*self._bodies(known), record.K, image_size)
        return self.of_instances(with_info(item, info) for item, info in zip(known, infos, strict=True))

    def of_instances(self, instances: Iterable[Instance]) -> list[Label]:
        """The labels among instances whose boxes are given."""
        return [
            Label(item, self.classes[item.obj_id], item.bbox_visib)
            for item in instances
            if item.obj_id in self.classes and item.bbox_visib is not None and self._is_seen(item)
        ]

    def mask(self, record: ImageRecord, labels: Sequence[Label], image_size: ImageSize) -> np.ndarray:
        """(H, W) bool: the pixels of the labelled objects. `UserError` for a mask of another size than its image."""
        shape = image_size[::-1]
        paths = [label.instance.mask_visib_path for label in labels]
        if None not in paths:
            masks = {path: read_mask(path) for path in paths}
            for path, mask in masks.items():
                if mask.shape != shape:
                    raise UserError(f"{path} has shape {mask.shape}, its image {shape}; make the mask again")
            return np.any([*masks.values()], axis=0) if masks else np.zeros(shape, bool)
        known, wanted = self._known(record), {label.instance.gt_index for label in labels}
        owner = cast_scene(*self._bodies(known), record.K, pixel_grid(*image_size).reshape(-1, 2)).owner
        return np.isin(owner, [n for n, item in enumerate(known) if item.gt_index in wanted]).reshape(shape)

    def _is_seen(self, item: Instance) -> bool:
        enough = item.visib_fract is None or item.visib_fract > self.min_visib
        return enough and (item.px_count_visib is None or item.px_count_visib >= MIN_VISIBLE_PIXELS)

    def _known(self, record: ImageRecord) -> list[Instance]:
        return [item for item in (*record.instances, *record.others) if item.obj_id in self.models]

    def _bodies(self, instances: Iterable[Instance]) -> tuple[list[RayCaster], list[Pose]]:
        instances = list(instances)
        return [self.models[item.obj_id].caster for item in instances], [item.pose for item in instances]


def with_info(item: Instance, info: Mapping[str, Any]) -> Instance:
    """An instance with the box and visibility of its entry of `scene_gt_info.json`."""
    return replace(
        item,
        bbox_visib=xyxy_from_xywh(info["bbox_visib"], "bbox_visib"),
        visib_fract=info["visib_fract"],
        px_count_visib=info["px_count_visib"],
    )


def _is_located(item: Instance) -> bool:
    """Whether the data set says where an instance is seen, be it nowhere."""
    return item.bbox_visib is not None or item.visib_fract is not None
