"""Detections: both forms of file, and which of them are taken."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as rle

from sopose.core.bop.detections import Detection, read_detections, run_lengths, select_detections, write_detections
from sopose.core.utils.errors import UserError

GDRN = {"2/3": [{"obj_id": 5, "bbox_est": [10, 20, 30, 40], "score": 0.9, "time": 0.1}], "2/000008": []}
BOP = [{"scene_id": 2, "image_id": 3, "category_id": 5, "bbox": [10, 20, 30, 40], "score": 0.9, "time": 0.1}]


@pytest.mark.parametrize("content", [GDRN, BOP])
def test_both_forms_say_the_same(tmp_path, content):
    path = tmp_path / "d.json"
    path.write_text(json.dumps(content))
    (only,) = read_detections(path)
    assert (only.scene_id, only.im_id, only.obj_id, only.score, only.time) == (2, 3, 5, 0.9, 0.1)
    np.testing.assert_array_equal(only.bbox, [10, 20, 40, 60])


def test_written_detections_are_read_again(tmp_path):
    before = [
        Detection(1, 2, 3, np.array([0.25, 1, 8, 9.5]), 0.5),
        Detection(1, 2, 4, np.array([1.0, 1, 2, 3]), 0.25, 2),
    ]
    write_detections(tmp_path / "d.json", before)
    after = read_detections(tmp_path / "d.json")
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a.bbox, b.bbox)
        assert (a.obj_id, a.score, a.time) == (b.obj_id, b.score, b.time)


@pytest.mark.parametrize("counts", [[4, 2, 2], "42"])
def test_a_mask_is_kept_in_either_form(tmp_path, counts):
    mask = {"counts": counts, "size": [2, 4]}
    write_detections(tmp_path / "d.json", [Detection(1, 2, 3, np.array([0.0, 1, 8, 9]), 0.5, segmentation=mask)])
    assert read_detections(tmp_path / "d.json")[0].segmentation == mask


SIZES = ([0, 0], [-1, -4], [1e9, 1e9])
# Letters that are none of the code's, a number that does not end, one of endless bits, and a run below zero.
DAMAGED = ["4\x7f", "4P", "4" + "o" * 60 + "0", "4!", "ü", "0000O"]


def test_a_mask_s_text_is_the_run_lengths_that_pycocotools_writes():
    rng = np.random.default_rng(0)
    for size in rng.integers(1, 40, (60, 2)):
        mask = np.asfortranarray(np.kron(rng.random(size) < 0.3, np.ones((5, 7))), np.uint8)
        encoded = rle.encode(mask)
        runs = run_lengths({"counts": encoded["counts"].decode(), "size": list(mask.shape)})
        values = np.arange(len(runs)) % 2
        np.testing.assert_array_equal(np.repeat(values, runs), mask.ravel(order="F"))


@pytest.mark.parametrize(
    "change",
    [
        {"bbox": [10, 20, 0, 40]},
        {"bbox": [float("nan"), 20, 30, 40]},
        {"bbox": [10, 20, 30, float("inf")]},
        {"bbox": [1e308, 20, 1e308, 40]},
        {"bbox": [None, 20, 30, 40]},
        {"score": float("nan")},
        {"score": float("inf")},
    ],
)
def test_one_detection_that_is_none_costs_itself_alone_and_is_reported(tmp_path, change, caplog):
    (tmp_path / "d.json").write_text(json.dumps([BOP[0], BOP[0] | change, BOP[0]]))
    assert len(read_detections(tmp_path / "d.json")) == 2
    (record,) = caplog.records
    assert "1 of 3 detections are left out, the first: " in record.message and "entry 1: " in record.message


@pytest.mark.parametrize("time", [None, float("nan"), float("inf")])
def test_a_time_that_is_none_is_unknown(tmp_path, time):
    (tmp_path / "d.json").write_text(json.dumps([BOP[0] | {"time": time}]))
    assert read_detections(tmp_path / "d.json")[0].time == -1


def test_a_polygon_leaves_its_detection_without_a_mask(tmp_path, caplog):
    (tmp_path / "d.json").write_text(json.dumps([BOP[0] | {"segmentation": [[10, 10, 20, 10, 20, 20]]}]))
    (only,) = read_detections(tmp_path / "d.json")
    assert only.segmentation is None and "1 masks are polygons" in caplog.text


def without(key):
    return [{k: value for k, value in BOP[0].items() if k != key}]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "no detection"),
        ({"2/3": []}, "no detection"),
        (3, "list or object"),
        ({"2-3": [{}]}, "scene/image"),
        ({"2/3": 7}, "must be a list"),
        ({"2/3": [{"obj_id": 1, "score": 1}]}, "bbox_est"),
        (without("score"), "score"),
        (without("category_id"), "category_id"),
        ([BOP[0] | {"bbox": [1, 2, 3]}], "4 numbers"),
        ([BOP[0] | {"bbox": [1, 2, 0, 5]}], "width and height"),
        ([BOP[0] | {"score": "high"}], "score"),
        ([5], "scene_id"),
        ([BOP[0] | {"segmentation": {"counts": [4, 2]}}], "size"),
        ([BOP[0] | {"segmentation": {"counts": [4, 2], "size": [2, 4]}}], "6 pixels do not fill a mask of 2 x 4"),
        ([BOP[0] | {"segmentation": {"counts": [4, -2], "size": [1, 2]}}], "run lengths"),
        ([BOP[0] | {"segmentation": {"counts": {}, "size": [1, 2]}}], "run lengths"),
        *(
            ([BOP[0] | {"segmentation": {"counts": "0", "size": size}}], "size")
            for size in ([0, 0], [-1, -4], [1e9, 1e9])
        ),
        *(([BOP[0] | {"segmentation": {"counts": text, "size": [2, 4]}}], "run lengths") for text in DAMAGED),
        ([BOP[0] | {"segmentation": {"counts": "47", "size": [2, 4]}}], "11 pixels do not fill a mask of 2 x 4"),
        ({"images": [], "annotations": [], "categories": []}, "COCO file of annotations"),
        ({"annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}, "COCO file of annotations"),
    ],
)
def test_a_damaged_file_is_reported_in_one_line(tmp_path, content, words):
    path = tmp_path / "d.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=words) as caught:
        read_detections(path)
    assert "\n" not in str(caught.value)


def make(im_id, obj_id, score):
    return Detection(1, im_id, obj_id, np.array([0.0, 0, 1, 1]), score)


def ids_and_scores(detections):
    return [(item.im_id, item.obj_id, item.score) for item in detections]


def test_the_best_of_each_object_in_each_image():
    given = [make(2, 1, 0.3), make(2, 1, 0.8), make(2, 2, 0.5), make(1, 1, 0.1), make(2, 1, 0.6)]
    assert ids_and_scores(select_detections(given, topk_per_obj=1)) == [(2, 1, 0.8), (2, 2, 0.5), (1, 1, 0.1)]
    assert ids_and_scores(select_detections(given, topk_per_obj=2, threshold=0.5)) == [
        (2, 1, 0.8),
        (2, 1, 0.6),
        (2, 2, 0.5),
    ]
    assert ids_and_scores(select_detections(given, topk_per_image=1)) == [(2, 1, 0.8), (1, 1, 0.1)]
    assert len(select_detections(given)) == 5
