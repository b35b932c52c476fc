"""Which boxes a test set consists of: annotated ones of its targets, a detector's, or those of estimated poses."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from sopose.core.bop.detections import Detection
from sopose.core.bop.results import Estimate
from sopose.core.bop.scene import ImageRecord, Instance
from sopose.core.bop.targets import Target
from sopose.core.geometry.camera import project
from sopose.core.objects.model import ObjectModel
from sopose.data.mapper import EvalItem, instance_box

logger = logging.getLogger(__name__)


def items_from_targets(
    records: Sequence[ImageRecord],
    targets: Sequence[Target],
    models: Mapping[int, ObjectModel],
    jitter: float = 0.0,
) -> list[EvalItem]:
    """Annotated boxes: for each target its `inst_count` most visible instances, image after image.

    `jitter` > 0 makes them as inexact as a detector's, see `jittered`; an instance's box is the same in every run.
    """
    counts = {(t.scene_id, t.im_id, t.obj_id): t.inst_count for t in targets}
    items = []
    for record in records:
        by_object: dict[int, list[Instance]] = {}
        for instance in record.instances:
            by_object.setdefault(instance.obj_id, []).append(instance)
        for obj_id, instances in sorted(by_object.items()):
            count = counts.get((record.scene_id, record.im_id, obj_id), 0)
            instances.sort(key=lambda i: 1.0 if i.visib_fract is None else i.visib_fract, reverse=True)
            for instance in instances[:count]:
                box = instance_box(instance, models[obj_id].vertices, record.K)
                if jitter > 0:
                    seed = [record.scene_id, record.im_id, obj_id, instance.gt_index]
                    box = jittered(box, jitter, np.random.default_rng(seed))
                items.append(EvalItem(record, obj_id, box, truth=instance))
    return items


def items_from_detections(
    records: Sequence[ImageRecord], detections: Sequence[Detection], object_ids: Collection[int]
) -> list[EvalItem]:
    """Detected boxes of these images and objects; a box belongs to the nearest annotation of its object."""
    by_image = {(record.scene_id, record.im_id): record for record in records}
    items = []
    for detection in detections:
        record = by_image.get((detection.scene_id, detection.im_id))
        if record is not None and detection.obj_id in object_ids:
            truth = _nearest_instance(record, detection)
            items.append(EvalItem(record, detection.obj_id, detection.bbox, detection.score, detection.time, truth))
    items.sort(key=lambda item: (item.record.scene_id, item.record.im_id))
    return items


def jittered(box: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A box (4,) xyxy moved by U(-share, share) of its width and height, each of which is scaled by 1 + as much."""
    center, wh = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    moved, scaled = rng.uniform(-share, share, (2, 2))
    center, wh = center + moved * wh, (1 + scaled) * wh
    return np.concatenate([center - wh / 2, center + wh / 2])


def detections_from_poses(
    estimates: Iterable[Estimate], records: Sequence[ImageRecord], models: Mapping[int, ObjectModel]
) -> list[Detection]:
    """The box of each estimate's projected model, with its score and its time.

    Estimates of other images or objects are left out; of those that are not wholly ahead of the camera, or no numbers,
    a warning says so.
    """
    K_of = {(record.scene_id, record.im_id): record.K for record in records}
    detections, behind = [], 0
    for estimate in estimates:
        K = K_of.get((estimate.scene_id, estimate.im_id))
        if K is None or estimate.obj_id not in models:
            continue
        points_cam = estimate.pose.transform(models[estimate.obj_id].vertices)
        if not (points_cam[:, 2].min() > 0 and np.isfinite(points_cam).all()):
            behind += 1
            continue
        uv = project(points_cam, K)
        box = np.concatenate([uv.min(axis=0), uv.max(axis=0)])
        ids = estimate.scene_id, estimate.im_id, estimate.obj_id
        detections.append(Detection(*ids, bbox=box, score=estimate.score, time=estimate.time))
    if behind:
        logger.warning("%d estimated poses are not ahead of the camera, or no numbers, and give no box", behind)
    return detections


def _nearest_instance(record: ImageRecord, detection: Detection) -> Instance | None:
    """The annotation of the detected object whose box centre is nearest to the detection's."""

    def distance(instance: Instance) -> float:
        box = instance.bbox_visib if instance.bbox_visib is not None else instance.bbox_obj
        if box is None:
            return np.inf
        return float(np.linalg.norm(box[:2] + box[2:] - detection.bbox[:2] - detection.bbox[2:]))

    same = [instance for instance in record.instances if instance.obj_id == detection.obj_id]
    return min(same, key=distance, default=None)
