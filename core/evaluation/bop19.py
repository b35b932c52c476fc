"""The BOP19 localisation protocol: which estimates meet which ground truths, at which thresholds.

Source: https://bop.felk.cvut.cz/challenges/bop-challenge-2019 and the BOP toolkit's
`eval_calc_errors.py`, `eval_calc_scores.py` and `pose_matching.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sopose.core.bop.results import Estimate, Estimates
from sopose.core.bop.scene import ImageRecord, Instance
from sopose.core.bop.targets import Target
from sopose.core.images.files import read_header
from sopose.core.utils.errors import UserError

T = TypeVar("T")

MSSD_THRESHOLDS = 0.05 * np.arange(1, 11)  # diameters
VSD_TAUS = 0.05 * np.arange(1, 11)  # diameters
VSD_THRESHOLDS = 0.05 * np.arange(1, 11)
MSPD_THRESHOLDS = 5.0 * np.arange(1, 11)  # pixels in an image 640 pixels wide
MSPD_IMAGE_WIDTH = 640


@dataclass(frozen=True, eq=False)
class TargetGroup:
    """One target with what the protocol compares: a few estimates and a few ground truths."""

    target: Target
    record: ImageRecord
    estimates: tuple[Estimate, ...]  # at most inst_count, best score first
    instances: tuple[Instance, ...]  # at most inst_count, the most visible first


def group_targets(
    estimates: Iterable[Estimate], records: Iterable[ImageRecord], targets: Sequence[Target]
) -> list[TargetGroup]:
    """For each target its `inst_count` best-scored estimates and `inst_count` most visible ground truths.

    Estimates of other images or objects are ignored; ties keep the order of the file. Raises `UserError`
    for a target that is listed twice, or whose image or object has no ground truth.
    """
    best = _rows_by_key(Estimates.of(estimates))
    record_of = {(record.scene_id, record.im_id): record for record in records}
    groups = {}
    for target in targets:
        key = (target.scene_id, target.im_id, target.obj_id)
        where = f"scene {target.scene_id}, image {target.im_id}, object {target.obj_id}"
        if key in groups:
            raise UserError(f"the targets list {where} twice; a target is named once, with its inst_count")
        record = record_of.get(key[:2])
        if record is None:
            raise UserError(f"target ({where}): no ground truth of this image was loaded; check the targets file")
        if not record.is_annotated:
            raise UserError(f"target ({where}): its scene has no ground truth; add scene_gt.json, or ask BOP's server")
        instances = [instance for instance in record.instances if instance.obj_id == target.obj_id]
        if not instances:
            raise UserError(f"target ({where}): the image has no such object; check the targets file")
        groups[key] = TargetGroup(
            target,
            record,
            estimates=best(key, target.inst_count),
            instances=tuple(_best(instances, visibility, target.inst_count)),
        )
    return list(groups.values())


def _rows_by_key(estimates: Estimates) -> Callable[[tuple[int, int, int], int], tuple[Estimate, ...]]:
    """A function that finds the so many best-scored estimates of (scene, image, object)."""
    # The sort is stable: equal scores keep the order of the file, nan comes last.
    order = np.lexsort((-estimates.score, *estimates.ids.T[::-1]))
    keys = estimates.ids[order]
    starts = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)]) if len(keys) else np.empty(0, int)
    ends = np.r_[starts[1:], len(keys)]
    spans = {tuple(keys[s].tolist()): (s, e) for s, e in zip(starts, ends[: len(starts)], strict=True)}

    def best(key: tuple[int, int, int], count: int) -> tuple[Estimate, ...]:
        start, end = spans.get(key, (0, 0))
        return tuple(estimates[int(row)] for row in order[start : min(end, start + count)])

    return best


def visibility(instance: Instance) -> float:
    """`visib_fract` in [0, 1]; 1 where the data set has no `scene_gt_info.json`."""
    return 1.0 if instance.visib_fract is None else instance.visib_fract


def image_width(records: Iterable[ImageRecord]) -> int:
    """Width in pixels of the first image that is there, which MSPD is scaled by.

    Raises `UserError` where no record's image can be read.
    """
    for record in records:
        if record.rgb_path.is_file():
            with suppress(UserError):  # a damaged image is reported where it is used
                return read_header(record.rgb_path).size[0]
    raise UserError("MSPD needs the image width and no image could be read; restore an image of the split")


def _best(items: list[T], value: Callable[[T], float], count: int) -> list[T]:
    """The `count` items of the highest value; equal ones in their order."""
    return sorted(items, key=value, reverse=True)[:count]
