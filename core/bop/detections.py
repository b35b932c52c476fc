"""2D detections that the pose network starts from: GDR-Net's json and BOP's."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.fields import integer, numbers, read_obj_id, xyxy_from_xywh
from sopose.core.images.files import MOST_PIXELS
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, require_key, write_json

logger = logging.getLogger(__name__)

ID_KEYS = ("scene_id", "image_id", "category_id")
COCO_KEYS = {"images", "annotations"}
MOST_SHIFT = 30  # bits of a run's length


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


class _UnusableError(UserError):
    """One detection that cannot be used in a file that is sound otherwise."""


def read_detections(path: Path) -> list[Detection]:
    """Detections in the order of the file.

    Two forms are known by their outermost bracket: `{"scene/im": [{obj_id, bbox_est, score, time}]}` and BOP's
    `[{scene_id, image_id, category_id, bbox, score, time}]`; boxes are [x, y, w, h]. `time` and `segmentation` may be
    absent, a time that is no number is unknown. A box without area and numbers that are not finite leave their
    detection out, a polygon its mask; one warning counts them. Raises `UserError` for anything else that is damaged,
    and where no detection is left.
    """
    content = read_json(path, "give the detector's json (DATASETS.DET_FILES_TEST)")
    if not isinstance(content, dict | list):
        raise UserError(f"{path} must be a json list or object of detections; give another file")
    if isinstance(content, dict) and content.keys() & COCO_KEYS:
        raise UserError(f"{path} is a COCO file of annotations; give detections, a list in BOP's form (with scene_id)")
    detections, left_out = [], []
    for entry, ids, box_key, where in _entries(content, path):
        try:
            detections.append(_detection(ids, entry, box_key, where))
        except _UnusableError as reason:
            left_out.append(str(reason))
    if not detections:
        reason = f": {left_out[0]}" if left_out else ""
        raise UserError(f"{path} has no detection to use{reason}; give a file with detections of this test set")
    if left_out:
        total = len(left_out) + len(detections)
        logger.warning("%d of %d detections are left out, the first: %s", len(left_out), total, left_out[0])
    polygons = sum(isinstance(entry.get("segmentation"), list) for entry, *_ in _entries(content, path))
    if polygons:
        logger.warning("%s: %d masks are polygons and left out; their boxes are used", path, polygons)
    return detections


def _entries(content: Any, path: Path) -> Iterator[tuple[Any, tuple[int, ...], str, str]]:
    """Every entry with its scene, image and object, the key of its box, and where it stands."""
    if isinstance(content, list):
        for n, entry in enumerate(content):
            where = f"{path}, entry {n}"
            keys = ("scene_id", "image_id", "category_id")
            yield (
                entry,
                tuple(integer(require_key(entry, key, where), f"{where}: {key}") for key in keys),
                "bbox",
                where,
            )
        return
    for key, entries in content.items():
        scene, _, image = key.partition("/")
        image_ids = tuple(integer(word, f"{path}: the key '{key}' (scene/image)") for word in (scene, image))
        if not isinstance(entries, list):
            raise UserError(f"{path}: '{key}' must be a list of detections; repair the file")
        for n, entry in enumerate(entries):
            where = f"{path}, image {key}, entry {n}"
            yield entry, (*image_ids, read_obj_id(entry, where)), "bbox_est", where


def _detection(ids: tuple[int, ...], entry: dict, box_key: str, where: str) -> Detection:
    box = _finite(require_key(entry, box_key, where), 4, f"{where}: {box_key}")
    bbox = xyxy_from_xywh(box, f"{where}: {box_key}")
    if bbox is None or not np.isfinite(bbox).all():
        raise _UnusableError(f"{where}: {box_key} must have a width and height above zero and is {box.tolist()}")
    score = float(_finite(require_key(entry, "score", where), 1, f"{where}: score")[0])
    (time,) = [-1.0] if entry.get("time") is None else numbers(entry["time"], 1, f"{where}: time", finite=False)
    mask = entry.get("segmentation")
    segmentation = None if mask is None or isinstance(mask, list) else read_segmentation(mask, f"{where}: segmentation")
    time = float(time) if np.isfinite(time) else -1.0
    return Detection(*ids, bbox=bbox, score=score, time=time, segmentation=segmentation)


def _finite(value: Any, count: int, where: str) -> np.ndarray:
    array = numbers(value, count, where, finite=False)
    if not np.isfinite(array).all():
        raise _UnusableError(f"{where} must be {count} finite numbers and is {array.tolist()}")
    return array


def read_segmentation(value: Any, where: str) -> dict[str, Any]:
    """Run lengths of a mask as they are, checked: whole numbers that fill the size, or COCO's compressed text.

    Raises `UserError` for any other: pycocotools ends the process on some, and never ends itself on others.
    """
    counts = require_key(value, "counts", where)
    height, width = (integer(side, f"{where}: size") for side in numbers(require_key(value, "size", where), 2, where))
    if height < 1 or width < 1 or height * width > MOST_PIXELS:
        raise UserError(f"{where}: size {height} x {width} is no mask's; repair the file")
    mask = {"counts": counts, "size": [height, width]}
    runs = run_lengths(mask) if isinstance(counts, str | list) else [-1]
    if not all(isinstance(run, int) and run >= 0 for run in runs):
        raise UserError(f"{where}: counts must be COCO's run lengths, whole numbers or text; repair the file")
    if sum(runs) != height * width:
        raise UserError(f"{where}: {sum(runs)} pixels do not fill a mask of {height} x {width}; repair the file")
    return mask


def run_lengths(segmentation: dict[str, Any]) -> list[int]:
    """The lengths of a mask's runs, of zeros first, column by column; [-1] for a text that is none.

    COCO's text has five bits in a letter, the lowest first; from the fourth run on, a number is the difference to the
    run before the last. What such a text leaves open at its end is zeros.
    """
    counts, (height, width) = segmentation["counts"], segmentation["size"]
    if isinstance(counts, list):
        return counts
    runs: list[int] = []
    value, shift = 0, 0
    for letter in counts:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > MOST_SHIFT:
            return [-1]
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            value -= (bits & 0x10) << (shift - 4)  # the sign
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    if shift:
        return [-1]
    open_end = height * width - sum(runs)
    return [*runs, *([] if open_end <= 0 else [open_end] if len(runs) % 2 == 0 else [0, open_end])]


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
