"""Masks and `scene_gt_info.json` for data sets that lack them, from poses and models alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.models import default_name, load_models
from sopose.core.bop.records import ImageRecord, Instance
from sopose.core.bop.scene import read_image_size
from sopose.core.bop.scene_folder import GT_INFO_NAME, entries_by_image
from sopose.core.bop.splits import SplitSpec
from sopose.core.images.files import write_image
from sopose.core.images.scene_images import SceneNames
from sopose.core.objects.model import ObjectModel
from sopose.core.render.visibility import annotate_scene, scene_gt_info
from sopose.core.utils.files import require_file, require_writable_dir, write_json
from sopose.core.utils.parallel import run_jobs

JOB_IMAGES = 8  # of one scene


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


def complete_annotations(
    records: Iterable[ImageRecord], spec: SplitSpec, masks: bool = True, workers: int = -1
) -> int | None:
    """Write what the scenes of images lack: entries of `scene_gt_info.json`, and masks unless told otherwise.

    How many images had no entry; None where nothing was missing. workers: processes, -1 for one a core. Raises
    `UserError` where a model is missing or a scene's folder cannot be written.
    """
    jobs = list(_jobs(records, spec, masks))
    if not jobs:
        return None
    needed = {item.obj_id for job in jobs for record in job.records for item in all_instances(record)}
    for obj_id in sorted(needed):
        require_file(spec.models_dir / f"{default_name(obj_id)}.ply", "masks are cast from the models; add it")
    for job in jobs:
        require_writable_dir(scene_folder(job.records[0]))
    weights = [len(job.records) for job in jobs]
    infos: dict[Path, dict[int, list[dict[str, Any]]]] = defaultdict(dict)
    work = run_jobs(_annotate, jobs, workers, None, "annotations", "image", weights)
    for job, entries in zip(jobs, work, strict=True):
        infos[scene_folder(job.records[0])].update(entries)
    for scene_dir, entries in infos.items():
        if entries:
            add_gt_info(scene_dir, entries, sensor=spec.sensor)
    return sum(map(len, infos.values()))


@dataclass(frozen=True, eq=False)
class _Job:
    """Images of one scene, and which of them lack their entries in scene_gt_info.json."""

    records: list[ImageRecord]
    lacking: set[int]
    spec: SplitSpec
    masks: bool


def _jobs(records: Iterable[ImageRecord], spec: SplitSpec, masks: bool) -> Iterator[_Job]:
    by_scene: dict[Path, list[ImageRecord]] = defaultdict(list)
    for record in records:
        by_scene[scene_folder(record)].append(record)
    for scene_dir, of_scene in by_scene.items():
        have = images_with_info(scene_dir, spec.sensor)
        incomplete = [record for record in of_scene if record.im_id not in have or (masks and lacks_masks(record))]
        for first in range(0, len(incomplete), JOB_IMAGES):
            part = incomplete[first : first + JOB_IMAGES]
            yield _Job(part, {record.im_id for record in part} - have, spec, masks)


def _annotate(job: _Job) -> dict[int, list[dict[str, Any]]]:
    """Write the masks of a job's images; the entries of those that lack them."""
    entries = {}
    for record in job.records:
        items = all_instances(record)
        models = {item.obj_id: _model(job.spec.models_dir, item.obj_id) for item in items}
        size = read_image_size(record, job.spec.root)
        if job.masks:
            found = annotate_image(record, models, size)
        else:
            found = scene_gt_info([models[i.obj_id].caster for i in items], [i.pose for i in items], record.K, size)
        if record.im_id in job.lacking:
            entries[record.im_id] = found
    return entries


@lru_cache(maxsize=64)
def _model(models_dir: Path, obj_id: int) -> ObjectModel:
    return load_models(models_dir, [obj_id])[obj_id]
