"""Masks and `scene_gt_info.json` for data sets that lack them, from poses and models alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.records import ImageRecord, Instance
from sopose.core.bop.scene_folder import GT_INFO_NAME, entries_by_image
from sopose.core.images.files import write_image
from sopose.core.images.scene_images import SceneNames
from sopose.core.objects.model import ObjectModel
from sopose.core.render.visibility import annotate_scene
from sopose.core.utils.files import write_json


def all_instances(record: ImageRecord) -> list[Instance]:
    """Every annotated object of an image, in the order of `scene_gt.json`."""
    return sorted((*record.instances, *record.others), key=lambda instance: instance.gt_index)


def scene_folder(record: ImageRecord) -> Path:
    """The scene's folder of an image of a BOP split."""
    return record.rgb_path.parent.parent


def images_with_info(scene_dir: Path, sensor: str = "") -> set[int]:
    """Ids of the images that a scene's `scene_gt_info.json` has, none without the file."""
    return set(entries_by_image(scene_dir / SceneNames(sensor).of(GT_INFO_NAME), optional=True))


def lacks_masks(record: ImageRecord) -> bool:
    """Whether an object of the image has no file in `mask` or `mask_visib`."""
    return any(item.mask_path is None or item.mask_visib_path is None for item in all_instances(record))


def annotate_image(
    record: ImageRecord, models: Mapping[int, ObjectModel], image_size: tuple[int, int], overwrite: bool = False
) -> list[dict[str, Any]]:
    """Write the masks that an image of a BOP split lacks, or all of them; its entries of `scene_gt_info.json`.

    `models` holds those of all annotated objects by id; image_size is (W, H). Raises `UserError` where a
    file cannot be written.
    """
    items = all_instances(record)
    masks, entries = annotate_scene(
        [models[item.obj_id].caster for item in items], [item.pose for item in items], record.K, image_size
    )
    for item, (whole, visible) in zip(items, masks, strict=True):
        for folder, present, mask in (
            ("mask", item.mask_path, whole),
            ("mask_visib", item.mask_visib_path, visible),
        ):
            if overwrite or present is None:
                name = f"{record.im_id:06d}_{item.gt_index:06d}.png"
                write_image(
                    scene_folder(record) / SceneNames(record.sensor).of(folder) / name, 255 * mask.astype(np.uint8)
                )
    return entries


def add_gt_info(
    scene_dir: Path, entries: Mapping[int, list[dict[str, Any]]], overwrite: bool = False, sensor: str = ""
) -> None:
    """Add images' entries to a scene's `scene_gt_info.json`; one that is there stays unless `overwrite`."""
    path = scene_dir / SceneNames(sensor).of(GT_INFO_NAME)
    have = entries_by_image(path, optional=True)
    content = {**have, **entries} if overwrite else {**entries, **have}
    write_json(path, {str(im_id): content[im_id] for im_id in sorted(content)}, indent=None)
