"""COCO AP in BOP's manner, on boxes and masks small enough to do by hand."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from sopose.core.bop.detections import Detection
from sopose.core.bop.records import ImageRecord, Instance
from sopose.core.bop.targets import Target
from sopose.core.evaluation.coco import coco_scores
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from tests.support.evaluation_scene import K

POSE = Pose(np.eye(3), np.array([0, 0, 1.0]))
BOXES = {(1, 1): (10, 10, 50, 30), (1, 2): (60, 20, 90, 80), (2, 1): (5, 5, 25, 45)}  # (image, object): x1 y1 x2 y2


@pytest.fixture
def records(tmp_path) -> list[ImageRecord]:
    found = []
    for im_id in (1, 2):
        instances = []
        for index, ((image, obj_id), box) in enumerate(BOXES.items()):
            if image == im_id:
                path = tmp_path / f"{im_id}_{obj_id}.png"
                cv2.imwrite(str(path), 255 * mask(box).astype(np.uint8))
                half = np.array([box[0], box[1], (box[0] + box[2]) / 2, box[3]])
                item = Instance(obj_id, index, POSE, np.array(box, float), half, 0.5, 9, None, path)
                instances.append(item)
        found.append(ImageRecord(3, im_id, Path("absent.png"), None, 1e-3, K, tuple(instances)))
    return found


def mask(box: tuple[int, ...]) -> np.ndarray:
    image = np.zeros((90, 100), bool)
    image[box[1] : box[3], box[0] : box[2]] = True
    return image


TARGETS = [Target(3, im_id, 1, 1) for im_id in (1, 2)]


def detect(shift: float = 0, score: float = 0.5, **changes) -> list[Detection]:
    return [
        Detection(3, im_id, obj_id, np.array(box, float) + np.array([shift, 0, shift, 0]), score, **changes)
        for (im_id, obj_id), box in BOXES.items()
    ]


def test_the_true_boxes_have_ap_one(records):
    scores = coco_scores(detect(), records, TARGETS)
    assert (scores.ap, scores.ap50, scores.ap75, scores.ar100) == (1, 1, 1, 1)
    assert scores.per_object == {1: 1, 2: 1} and scores.interval == (1, 1)


def test_a_shift_passes_the_thresholds_below_its_overlap(records):
    # Boxes 40, 30 and 20 wide, shifted by 5: IoU 35/45, 25/35, 15/25 = .78, .71, .6.
    scores = coco_scores(detect(5), records, TARGETS)
    assert scores.per_object[2] == pytest.approx(5 / 10)  # .50 to .70
    assert scores.ap50 == 1 and 0 < scores.ap75 < 1


def test_ground_truth_hardly_seen_is_ignored(records):
    hidden = [replace(r, instances=tuple(replace(i, visib_fract=0.09) for i in r.instances)) for r in records[1:]]
    scores = coco_scores([d for d in detect() if d.im_id == 1], [records[0], *hidden], TARGETS)
    assert scores.ap == 1
    assert coco_scores(detect(), [records[0], *hidden], TARGETS).ap == 1


def test_boxes_in_images_that_are_named_alone_are_wrong_where_nothing_is(records):
    empty = replace(records[0], im_id=99, instances=())
    wrong = Detection(3, 99, 1, np.array([0.0, 0, 9, 9]), 0.9)
    all_records, alone = [*records, empty], {(empty.scene_id, 99)}
    assert coco_scores([*detect(), wrong], all_records, TARGETS).ap == 1
    assert coco_scores([*detect(), wrong], all_records, TARGETS, further_images=alone).ap < 1
    assert coco_scores(detect(), all_records, TARGETS, further_images=alone).ap == 1


def test_boxes_may_be_of_visible_parts(records):
    halves = [replace(d, bbox=np.array([d.bbox[0], d.bbox[1], d.bbox[[0, 2]].mean(), d.bbox[3]])) for d in detect()]
    assert coco_scores(halves, records, TARGETS, boxes="modal").ap == 1
    assert coco_scores(halves, records, TARGETS).ap < 0.2


def test_masks_are_scored_as_masks(records):
    from pycocotools import mask as rle

    def detections(shift: int, compressed: bool) -> list[Detection]:
        found = []
        for item, box in zip(detect(), BOXES.values(), strict=True):
            image = np.roll(mask(box), shift, axis=1)
            changes = np.flatnonzero(np.diff(image.T.reshape(-1))) + 1  # the first pixel is background
            runs = np.diff(changes, prepend=0, append=image.size).tolist()
            counts = rle.encode(np.asfortranarray(image, np.uint8))["counts"].decode() if compressed else runs
            found.append(replace(item, segmentation={"counts": counts, "size": [90, 100]}))
        return found

    for compressed in (False, True):
        assert coco_scores(detections(0, compressed), records, TARGETS, "segm").ap == 1
        assert coco_scores(detections(5, compressed), records, TARGETS, "segm").ap == pytest.approx(
            coco_scores(detect(5), records, TARGETS).ap
        )
    with pytest.raises(UserError, match="no 'segmentation'"):
        coco_scores(detect(), records, TARGETS, "segm")
    with pytest.raises(UserError, match=r"no mask.*sopose targets"):
        blind = [replace(r, instances=tuple(replace(i, mask_visib_path=None) for i in r.instances)) for r in records]
        coco_scores(detect(), blind, TARGETS, "segm")


@pytest.mark.parametrize(
    "segmentation",
    [
        {"counts": [], "size": [0, 0]},
        {"counts": "P" * 50, "size": [90, 100]},
        {"counts": [9000, 1], "size": [90, 100]},
        {"counts": [-1, 9001], "size": [90, 100]},
    ],
)
def test_masks_that_pycocotools_would_not_survive_are_reported(records, segmentation):
    with pytest.raises(UserError, match="segmentation"):
        coco_scores(detect(segmentation=segmentation), records, TARGETS, "segm")


def test_the_numbers_are_those_of_pycocotools(records):
    from sopose.core.evaluation import coco

    rng = np.random.default_rng(0)
    noisy = [
        replace(item, bbox=item.bbox + rng.normal(scale=4, size=4), score=float(rng.random())) for item in detect() * 6
    ]
    runs = []

    class Spy(coco._BopEval):
        def accumulate(self, *args, **kwargs):
            super().accumulate(*args, **kwargs)
            runs.append(self)

    original, coco._BopEval = coco._BopEval, Spy
    try:
        scores = coco_scores(noisy, records, TARGETS)
    finally:
        coco._BopEval = original
    with contextlib.redirect_stdout(io.StringIO()):
        runs[0].summarize()
    official = runs[0].stats
    assert [scores.ap, scores.ap50, scores.ap75, scores.ar100] == pytest.approx(official[[0, 1, 2, 8]], abs=1e-12)
    low, high = scores.interval
    assert 0 <= low <= high <= 1


def test_without_a_detection_ap_is_zero(records):
    assert coco_scores([], records, TARGETS).ap == 0
    assert coco_scores([replace(d, im_id=77) for d in detect()], records, TARGETS).ap == 0


def test_ground_truth_without_boxes_or_images_is_reported(records):
    bare = [replace(r, instances=tuple(Instance(i.obj_id, 0, POSE) for i in r.instances)) for r in records]
    with pytest.raises(UserError, match=r"no box.*sopose targets"):
        coco_scores(detect(), bare, TARGETS)
    with pytest.raises(UserError, match="without annotations"):
        coco_scores(detect(), records, [Target(3, 9, 1, 1)])
