"""Which boxes a test set consists of: annotated ones of its targets, or a detector's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from core.bop.detections import Detection
from core.bop.models import ObjectModel
from core.bop.scene import ImageRecord, Instance
from core.bop.targets import Target
from gdrn_selfocc_modeling.data.mapper import TestItem, instance_box


def items_from_targets(
    records: Sequence[ImageRecord], targets: Sequence[Target], models: Mapping[int, ObjectModel]
) -> list[TestItem]:
    """Annotated boxes: for each target its `inst_count` most visible instances, image after image."""
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
                items.append(TestItem(record, obj_id, box, truth=instance))
    return items


def items_from_detections(
    records: Sequence[ImageRecord], detections: Sequence[Detection], object_ids: Collection[int]
) -> list[TestItem]:
    """Detected boxes of these images and objects; a box belongs to the nearest annotation of its object."""
    by_image = {(record.scene_id, record.im_id): record for record in records}
    items = []
    for detection in detections:
        record = by_image.get((detection.scene_id, detection.im_id))
        if record is not None and detection.obj_id in object_ids:
            truth = _nearest_instance(record, detection)
            items.append(TestItem(record, detection.obj_id, detection.bbox, detection.score, detection.time, truth))
    items.sort(key=lambda item: (item.record.scene_id, item.record.im_id))
    return items


def _nearest_instance(record: ImageRecord, detection: Detection) -> Instance | None:
    """The annotation of the detected object whose box centre is nearest to the detection's."""

    def distance(instance: Instance) -> float:
        box = instance.bbox_visib if instance.bbox_visib is not None else instance.bbox_obj
        if box is None:
            return np.inf
        return float(np.linalg.norm(box[:2] + box[2:] - detection.bbox[:2] - detection.bbox[2:]))

    same = [instance for instance in record.instances if instance.obj_id == detection.obj_id]
    return min(same, key=distance, default=None)
