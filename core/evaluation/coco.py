"""COCO AP of 2D detections, and of their masks, by pycocotools and in BOP's manner.

Ground truth below 10 % visibility is ignored, boxes are those of whole objects (`bbox_obj`; BOP's "amodal") unless
those of visible parts are asked for, masks are those of visible parts, and an image's 100 best-scored detections
count. Only the images of the targets are looked at, with every annotated object in them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sopose.core.bop.detections import Detection, read_segmentation, run_lengths, select_detections
from sopose.core.bop.records import ImageRecord, Instance
from sopose.core.bop.scene import read_mask
from sopose.core.bop.targets import Target
from sopose.core.evaluation.average_precision import Ranking
from sopose.core.evaluation.bootstrap import Interval, image_weights, interval
from sopose.core.evaluation.bop19 import visibility
from sopose.core.utils.errors import UserError

MAX_PER_IMAGE = 100
MIN_VISIBILITY = 0.1
RESAMPLES = 200
INFO_REMEDY = "sopose targets computes scene_gt_info.json and masks"
Boxes = Literal["amodal", "modal"]


@dataclass(frozen=True)
class CocoScores:
    """AP of detections, in [0, 1], NaN where no object counts. `interval` is 95 % of a bootstrap over images."""

    kind: str  # "bbox" or "segm"
    ap: float  # mean over IoU .50:.05:.95 and objects
    ap50: float
    ap75: float
    ar100: float  # recall, mean over the same
    per_object: dict[int, float]  # AP by object id
    interval: Interval


def coco_scores(
    detections: Iterable[Detection],
    records: Sequence[ImageRecord],
    targets: Iterable[Target],
    kind: Literal["bbox", "segm"] = "bbox",
    boxes: Boxes = "amodal",
    further_images: Iterable[tuple[int, int]] = (),
) -> CocoScores:
    """AP of `detections` on the images of `targets`, and on further ones (scene, image) that have none.

    Raises `UserError` where the ground truth lacks boxes or masks, or a detection its mask.
    """
    keys = sorted({*((target.scene_id, target.im_id) for target in targets), *further_images})
    record_of = {(record.scene_id, record.im_id): record for record in records}
    absent = [key for key in keys if key not in record_of or not record_of[key].is_annotated]
    if absent or not keys:
        raise UserError(f"detections are scored on images of the targets; without annotations: {absent or 'all'}")
    image_of = {key: index for index, key in enumerate(keys, start=1)}
    with redirect_stdout(io.StringIO()):  # pycocotools prints its progress there
        truth = COCO()
        truth.dataset = _truth([record_of[key] for key in keys], kind, boxes)
        truth.createIndex()
        entries = _entries(detections, image_of, kind)
        found = truth.loadRes(entries) if entries else COCO()
        run = _BopEval(truth, found, kind)
        run.params.imgIds = list(image_of.values())
        run.params.catIds = truth.getCatIds()
        run.evaluate()
        run.accumulate()
    return _scores(run, kind)


class _BopEval(COCOeval):
    """COCO's evaluation, in which `ignore` means ignored; pycocotools overwrites it by `iscrowd`."""

    def _prepare(self) -> None:
        super()._prepare()
        for truths in self._gts.values():
            for truth in truths:
                truth["ignore"] = truth["bop_ignore"]


def _truth(records: Sequence[ImageRecord], kind: str, boxes: Boxes) -> dict[str, Any]:
    annotations = []
    images = [{"id": image} for image in range(1, len(records) + 1)]
    for image, record in enumerate(records, start=1):
        for item in record.instances:
            annotation = _annotation(record, item, kind, boxes)
            if annotation is not None:
                ids = {"id": len(annotations) + 1, "image_id": image, "category_id": item.obj_id}
                annotations.append({**ids, "iscrowd": 0, "bop_ignore": visibility(item) < MIN_VISIBILITY, **annotation})
                if kind == "segm":
                    images[image - 1]["height"], images[image - 1]["width"] = annotation["segmentation"]["size"]
    obj_ids = sorted({annotation["category_id"] for annotation in annotations})
    return {
        "images": images,
        "categories": [{"id": obj_id} for obj_id in obj_ids],
        "annotations": annotations,
    }


def _annotation(record: ImageRecord, item: Instance, kind: str, boxes: Boxes) -> dict[str, Any] | None:
    """Box or mask of an instance, None for one that is not in the image."""
    where = f"scene {record.scene_id}, image {record.im_id}, object {item.obj_id}"
    if kind == "segm":
        if item.mask_visib_path is None:
            raise UserError(f"{where} has no mask in mask_visib; {INFO_REMEDY}")
        encoded = rle.encode(np.asfortranarray(read_mask(item.mask_visib_path), np.uint8))
        return {"segmentation": encoded, "area": float(rle.area(encoded)), "bbox": rle.toBbox(encoded).tolist()}
    box = item.bbox_obj if boxes == "amodal" else item.bbox_visib
    if box is None and item.visib_fract is None:
        raise UserError(f"{where} has no box in scene_gt_info.json; {INFO_REMEDY}")
    if box is None:
        return None
    x1, y1, x2, y2 = map(float, box)
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}


def _entries(
    detections: Iterable[Detection], image_of: Mapping[tuple[int, int], int], kind: str
) -> list[dict[str, Any]]:
    entries = []
    wanted = [item for item in detections if (item.scene_id, item.im_id) in image_of]
    for item in select_detections(wanted, threshold=-np.inf, topk_per_image=MAX_PER_IMAGE):
        image = image_of[item.scene_id, item.im_id]
        entry = {"image_id": image, "category_id": item.obj_id, "score": item.score}
        if kind == "segm":
            if item.segmentation is None:
                raise UserError(
                    f"the detection of object {item.obj_id} in scene {item.scene_id}, image {item.im_id} has no "
                    "'segmentation'; give a file with masks, or score boxes"
                )
            entries.append({**entry, "segmentation": _compressed(item.segmentation)})
        else:
            x1, y1, x2, y2 = map(float, item.bbox)
            entries.append({**entry, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    return entries


def _compressed(segmentation: dict[str, Any]) -> dict[str, Any]:
    """pycocotools' run lengths of a mask in either of its forms; `UserError` for one that it can't take."""
    mask = read_segmentation(segmentation, "a detection's segmentation")
    return rle.frPyObjects({**mask, "counts": run_lengths(mask)}, *mask["size"])


def _scores(run: COCOeval, kind: str) -> CocoScores:
    rankings = _rankings(run)
    thresholds = run.params.iouThrs
    aps = {obj_id: ranking.average_precision() for obj_id, ranking in rankings.items()}
    weights = image_weights(len(run.params.imgIds), RESAMPLES)
    samples = [_mean([ranking.average_precision(w) for ranking in rankings.values()]) for w in weights]
    recall = run.eval["recall"][:, :, 0, -1]
    return CocoScores(
        kind=kind,
        ap=_mean(list(aps.values())),
        ap50=_mean([ap[np.isclose(thresholds, 0.50)] for ap in aps.values()]),
        ap75=_mean([ap[np.isclose(thresholds, 0.75)] for ap in aps.values()]),
        ar100=_mean([recall[recall > -1]]),
        per_object={obj_id: float(ap.mean()) for obj_id, ap in aps.items()},
        interval=interval(np.array(samples)),
    )


def _mean(values: list[np.ndarray]) -> float:
    known = np.concatenate([np.ravel(value) for value in values]) if values else np.empty(0)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else float("nan")


def _rankings(run: COCOeval) -> dict[int, Ranking]:
    """pycocotools' matches of every category, objects of all sizes."""
    images, areas = len(run.params.imgIds), len(run.params.areaRng)
    rankings = {}
    for index, obj_id in enumerate(run.params.catIds):
        first = index * areas * images
        parts = run.evalImgs[first : first + images]
        there = [(image, part) for image, part in enumerate(parts) if part is not None]
        score = np.concatenate([part["dtScores"] for _, part in there] or [np.empty(0)])
        order = np.argsort(-score, kind="mergesort")
        image = np.concatenate([np.full(len(part["dtScores"]), image) for image, part in there] or [np.empty(0, int)])
        empty = np.empty((len(run.params.iouThrs), 0), bool)
        hit = np.concatenate([part["dtMatches"] > 0 for _, part in there] or [empty], axis=1)
        ignored = np.concatenate([part["dtIgnore"].astype(bool) for _, part in there] or [empty], axis=1)
        truths = np.zeros(images, np.int64)
        for number, part in there:
            truths[number] = np.sum(~np.asarray(part["gtIgnore"], bool))
        rankings[int(obj_id)] = Ranking(image[order].astype(int), hit[:, order], ignored[:, order], truths)
    return rankings
