"""2D detections that the pose network starts from: GDR-Net's json and BOP's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.fields import integer, numbers, xyxy_from_xywh
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, require_key, write_json


@dataclass(frozen=True, eq=False)
class Detection:
    """One detected object. `bbox` is (4,) float64 x1, y1, x2, y2, pixels; `time` seconds, -1 unknown.

    `segmentation`, where there is one, is the mask as COCO's run lengths: {"counts": numbers or text, "size": [H, W]}.
    """

    scene_id: int
    im_id: int
    obj_id: int
    bbox: np.ndarray
    score: float
    time: float = -1.0
    segmentation: dict[str, Any] | None = None


def read_detections(path: Path) -> list[Detection]:
    """Detections in the order of the file.

    Two forms are known by their outermost bracket: `{"scene/im": [{obj_id, bbox_est, score, time}]}`
    and BOP's `[{scene_id, image_id, category_id, bbox, score, time}]`; boxes are [x, y, w, h], `time`
    and `segmentation` may be absent. Raises `UserError` for anything else, for a box without area and for
    an empty file.
    """
    content = read_json(path, "give the detector's json (DATASETS.DET_FILES_TEST)")
    if isinstance(content, dict):
        detections = [item for key, entries in content.items() for item in _of_image(key, entries, path)]
    elif isinstance(content, list):
        detections = [_bop_detection(entry, f"{path}, entry {n}") for n, entry in enumerate(content)]
    else:
        raise UserError(f"{path} must be a json list or object of detections; give another file")
    if not detections:
        raise UserError(f"{path} has no detection; give a file with detections of this test set")
    return detections


def _of_image(key: str, entries: Any, path: Path) -> list[Detection]:
    scene, _, image = key.partition("/")
    scene_id, im_id = (integer(word, f"{path}: the key '{key}' (scene/image)") for word in (scene, image))
    if not isinstance(entries, list):
        raise UserError(f"{path}: '{key}' must be a list of detections; repair the file")
    detections = []
    for n, entry in enumerate(entries):
        where = f"{path}, image {key}, entry {n}"
        obj_id = integer(require_key(entry, "obj_id", where), f"{where}: obj_id")
        detections.append(_detection((scene_id, im_id, obj_id), entry, "bbox_est", where))
    return detections


def _bop_detection(entry: Any, where: str) -> Detection:
    keys = ("scene_id", "image_id", "category_id")
    ids = tuple(integer(require_key(entry, key, where), f"{where}: {key}") for key in keys)
    return _detection(ids, entry, "bbox", where)


def _detection(ids: tuple[int, ...], entry: dict, box_key: str, where: str) -> Detection:
    bbox = xyxy_from_xywh(require_key(entry, box_key, where), f"{where}: {box_key}")
    if bbox is None:
        raise UserError(f"{where}: {box_key} must have a width and height above zero; repair the file")
    score = float(numbers(require_key(entry, "score", where), 1, f"{where}: score")[0])
    time = float(numbers(entry.get("time", -1.0), 1, f"{where}: time")[0])
    segmentation = _segmentation(entry["segmentation"], f"{where}: segmentation") if "segmentation" in entry else None
    return Detection(*ids, bbox=bbox, score=score, time=time, segmentation=segmentation)


def _segmentation(value: Any, where: str) -> dict[str, Any] | None:
    """Run lengths of a mask, checked: whole numbers that fill the size, or COCO's compressed text."""
    if value is None:
        return None
    counts = require_key(value, "counts", where)
    height, width = (integer(side, f"{where}: size") for side in numbers(require_key(value, "size", where), 2, where))
    if isinstance(counts, str) and counts.isascii():
        return {"counts": counts, "size": [height, width]}
    if not isinstance(counts, list) or not all(isinstance(run, int) and run >= 0 for run in counts):
        raise UserError(f"{where}: counts must be COCO's run lengths, whole numbers or text; repair the file")
    if sum(counts) != height * width:
        raise UserError(f"{where}: {sum(counts)} pixels do not fill a mask of {height} x {width}; repair the file")
    return {"counts": counts, "size": [height, width]}


def select_detections(
    detections: Iterable[Detection],
    topk_per_obj: int | None = None,
    threshold: float = 0.0,
    topk_per_image: int | None = None,
) -> list[Detection]:
    """The best-scored `topk_per_obj` detections of each object in each image, scores at least `threshold`.

    `topk_per_image` then limits an image as a whole. Images keep the order in which they came, the
    detections of an image are sorted by falling score (equal scores keep their order).
    """
    of_image: dict[tuple[int, int], list[Detection]] = defaultdict(list)
    for detection in detections:
        if detection.score >= threshold:
            of_image[detection.scene_id, detection.im_id].append(detection)
    return [best for image in of_image.values() for best in _best(image, topk_per_obj)[:topk_per_image]]


def _best(detections: list[Detection], topk_per_obj: int | None) -> list[Detection]:
    taken: dict[int, int] = defaultdict(int)
    best = []
    for detection in sorted(detections, key=lambda detection: -detection.score):
        if topk_per_obj is None or taken[detection.obj_id] < topk_per_obj:
            taken[detection.obj_id] += 1
            best.append(detection)
    return best


def write_detections(path: Path, detections: Iterable[Detection]) -> None:
    """Write detections in BOP's form."""
    entries = []
    for detection in detections:
        x1, y1, x2, y2 = map(float, detection.bbox)
        entry = {
            "scene_id": detection.scene_id,
            "image_id": detection.im_id,
            "category_id": detection.obj_id,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(detection.score),
            "time": float(detection.time),
        }
        if detection.segmentation is not None:
            entry["segmentation"] = detection.segmentation
        entries.append(entry)
    write_json(path, entries)
