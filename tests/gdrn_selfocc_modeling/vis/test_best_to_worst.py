"""Cases of each object, from the best to the worst."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sopose.core.bop.results import Estimate
from sopose.core.geometry.pose import Pose
from sopose.data.eval_set import EvalSet
from sopose.vis import best_to_worst
from sopose.vis.best_to_worst import draw_best_to_worst
from tests.support.builders import eval_set_of


@pytest.fixture(scope="module")
def annotated(make_small_config, toy_root) -> EvalSet:
    words = [
        "DATASETS.TRAIN=",
        "DATASETS.TEST=[toy_test]",
        f"DATASETS.ROOT={toy_root.parent}",
        "TEST.TEST_BBOX_TYPE=gt",
    ]
    return eval_set_of(make_small_config(*words, "MODEL.POSE_NET.NUM_CLASSES=4"), "toy_test")


def off_by(test_set: EvalSet, shifts: list[float]) -> list[Estimate]:
    """The true poses, each farther by a share of its object's diameter."""
    rows = []
    for item, shift in zip(test_set.source.items, shifts, strict=True):
        farther = np.array([0, 0, shift * test_set.models_eval[item.obj_id].diameter])
        pose = Pose(item.truth.pose.cam_R_obj, item.truth.pose.cam_t_obj + farther)
        rows.append(Estimate(item.record.scene_id, item.record.im_id, item.obj_id, 1.0, pose, 0.0))
    return rows


def test_each_object_has_a_row_that_begins_with_its_best_case(annotated, monkeypatch):
    drawn = []
    monkeypatch.setattr(best_to_worst, "grid", lambda panels, *_: drawn.append(panels) or panels[0][1])
    shifts = np.linspace(0.9, 0, len(annotated.source.items)).round(2).tolist()
    draw_best_to_worst(annotated, off_by(annotated, shifts), symmetric=(), count=3)
    names = [annotated.models_eval[obj_id].name for obj_id in sorted(annotated.models_eval)]
    assert [row[0][0].split(":")[0] for row in drawn] == names
    for row, obj_id in zip(drawn, sorted(annotated.models_eval), strict=True):
        errors = [float(title.split(":")[1].split()[0]) for title, _ in row]
        own = sorted(shift for shift, item in zip(shifts, annotated.source.items, strict=True) if item.obj_id == obj_id)
        assert errors == sorted(errors) and len(errors) == min(3, len(own))
        assert [errors[0], errors[-1]] == pytest.approx([own[0], own[-1]], abs=0.006)


def test_a_pose_that_is_none_is_drawn_last_by_its_truth_alone(annotated):
    rows = off_by(annotated, [0.0] * len(annotated.source.items))
    rows[0] = replace(rows[0], pose=Pose(np.full((3, 3), np.nan), np.zeros(3)))
    picture = draw_best_to_worst(annotated, rows, symmetric=())
    assert picture.dtype == np.uint8 and picture.ndim == 3


def test_boxes_without_a_truth_give_no_picture(annotated):
    bare = [replace(item, truth=None) for item in annotated.source.items]
    rows = off_by(annotated, [0.0] * len(bare))
    assert draw_best_to_worst(replace(annotated, source=annotated.source.of_items(bare)), rows, symmetric=()) is None
