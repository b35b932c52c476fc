"""A detector on an annotated split: detections for the pose network, COCO AP, and a picture."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sopose.core.bop.detections import Detection, write_detections
from sopose.core.bop.records import ImageRecord
from sopose.core.bop.scene import read_rgb
from sopose.core.bop.targets import Target
from sopose.core.detection.draw import SHOWN_SCORE, draw_found, sheet
from sopose.core.detection.infer import Detector, FoundObject
from sopose.core.evaluation.coco import CocoScores, coco_scores
from sopose.core.evaluation.scores import finite
from sopose.core.images.files import write_image
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import write_json

logger = logging.getLogger(__name__)
KEPT_SCORE = 0.02  # of a detection in the file; AP looks at doubtful ones too
KEPT_PER_OBJECT = 10  # in an image
PICTURES, COLUMNS = 8, 4
MIN_VISIBILITY = 0.1  # of a truth in the picture


def detect_images(
    detector: Detector, records: Sequence[ImageRecord], obj_ids: Mapping[str, int], topk: int = KEPT_PER_OBJECT
) -> list[Detection]:
    """All that a detector finds in the images; `obj_ids` are the data set's ids of objects, others are left out.

    `time` is that of the whole image in the detector, seconds, as BOP wants it.
    """
    detections = []
    for record in tqdm(records, "detector", unit="image", leave=False):
        image = read_rgb(record)
        started = time.perf_counter()
        found = detector(image[..., ::-1], KEPT_SCORE, topk)
        seconds = time.perf_counter() - started
        detections += [
            Detection(record.scene_id, record.im_id, obj_ids[item.object], item.box, item.score, seconds)
            for item in found
            if item.object in obj_ids
        ]
    return detections


def evaluate_detections(
    detections: Sequence[Detection], records: Sequence[ImageRecord], targets: Sequence[Target]
) -> dict[str, CocoScores]:
    """COCO's AP in boxes of visible parts ("modal", which the detector learns) and of whole objects ("amodal").

    Empty, with a warning, where the split's annotations don't give the boxes.
    """
    try:
        return {boxes: coco_scores(detections, records, targets, boxes=boxes) for boxes in ("modal", "amodal")}
    except UserError as error:
        logger.warning("no AP: %s", error)
        return {}


def report(
    detections: Sequence[Detection],
    records: Sequence[ImageRecord],
    targets: Sequence[Target],
    names: Mapping[int, str],
    folder: Path,
) -> dict[str, CocoScores]:
    """Score the detections of a split and write `detections.json`, `scores.json` and `detections.jpg` to `folder`.

    `names` are those of the split's objects by id. What was written is printed.
    """
    write_detections(folder / "detections.json", detections)
    write_image(folder / "detections.jpg", picture(detections, records, names))
    scores = evaluate_detections(detections, records, targets)
    write_json(folder / "scores.json", finite({boxes: asdict(found) for boxes, found in scores.items()}))
    seconds = [item.time for item in {(item.scene_id, item.im_id): item for item in detections}.values()]
    if scores:
        print(format_scores(scores, names))
    if seconds:
        print(f"{1000 * float(np.median(seconds)):.0f} ms an image (median of {len(seconds)})")
    print(f"detections {folder / 'detections.json'}\npicture    {folder / 'detections.jpg'}", flush=True)
    return scores


def format_scores(scores: Mapping[str, CocoScores], names: Mapping[int, str]) -> str:
    """A line for each kind of boxes, and one of the objects' AP in the first, in percent."""
    lines = []
    for boxes, found in scores.items():
        low, high = (100 * bound for bound in found.interval)
        values = {"AP": found.ap, "AP50": found.ap50, "AP75": found.ap75, "AR100": found.ar100}
        text = "  ".join(f"{name} {100 * value:.1f}" for name, value in values.items())
        lines.append(f"{boxes} boxes: {text}  (95 % of a bootstrap over images: AP {low:.1f} to {high:.1f})")
    first = next(iter(scores.values()))
    lines.append("  ".join(f"{names.get(obj_id, obj_id)} {100 * ap:.1f}" for obj_id, ap in first.per_object.items()))
    return "\n".join(lines)


def picture(detections: Sequence[Detection], records: Sequence[ImageRecord], names: Mapping[int, str]) -> np.ndarray:
    """A sheet (H, W, 3) uint8 BGR of images spread over the split: right boxes green, wrong orange, missed blue."""
    places = np.linspace(0, len(records) - 1, min(PICTURES, len(records))).astype(int)
    return sheet((_with_boxes(detections, records[place], names) for place in places), min(COLUMNS, len(places)))


def _with_boxes(detections: Sequence[Detection], record: ImageRecord, names: Mapping[int, str]) -> np.ndarray:
    found = [
        FoundObject(names[item.obj_id], item.score, item.bbox)
        for item in detections
        if (item.scene_id, item.im_id) == (record.scene_id, record.im_id) and item.score >= SHOWN_SCORE
    ]
    truths = [
        (names[item.obj_id], item.bbox_visib)
        for item in record.instances
        if item.bbox_visib is not None and item.obj_id in names and (item.visib_fract or 1) >= MIN_VISIBILITY
    ]
    return draw_found(read_rgb(record), sorted(found, key=lambda item: -item.score), truths or None)
