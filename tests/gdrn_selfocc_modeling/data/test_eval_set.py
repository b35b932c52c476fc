"""Which ROIs a test set has: boxes annotated, detected, or of the poses of an earlier result."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from sopose.core.bop.detections import Detection, write_detections
from sopose.core.bop.results import Estimate, write_results
from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import write_json
from sopose.data.eval_items import jittered
from sopose.data.eval_set import EvalSet
from tests.support.bop_files import edit_json
from tests.support.builders import eval_set_of, train_dataset_of


@pytest.fixture(scope="module")
def make_set(make_small_config, toy_root):
    """`make_set("KEY=VALUE", ...)`: the toy data set's test split."""

    def make(*overrides: str) -> EvalSet:
        cfg = make_small_config(
            *("DATASETS.TRAIN=", "DATASETS.TRAIN2=", "DATASETS.TEST=[toy_test]", f"DATASETS.ROOT={toy_root.parent}"),
            *("MODEL.POSE_NET.NUM_CLASSES=4", "MODEL.POSE_NET.LOSS_CFG.NUM_PM_POINTS=16", *overrides),
        )
        return eval_set_of(cfg, "toy_test")

    return make


@pytest.fixture(scope="module")
def annotated(make_set) -> EvalSet:
    return make_set("TEST.TEST_BBOX_TYPE=gt")


def true_estimates(test_set: EvalSet, score: float = 1.0, shift: float = 0.0) -> list[Estimate]:
    """The annotated pose of each item, `shift` metres farther away."""
    return [
        Estimate(
            item.record.scene_id,
            item.record.im_id,
            item.obj_id,
            score,
            Pose(item.truth.pose.cam_R_obj, item.truth.pose.cam_t_obj + np.array([0, 0, shift])),
            0.5,
        )
        for item in test_set.source.items
    ]


def boxes(test_set: EvalSet) -> np.ndarray:
    return np.stack([item.box for item in test_set.source.items])


def test_boxes_of_an_earlier_result_are_those_of_the_projected_models(make_set, annotated, tmp_path):
    write_results(tmp_path / "a.csv", true_estimates(annotated))
    words = "TEST.TEST_BBOX_TYPE=csv", f"DATASETS.INIT_POSE_FILES_TEST=[{tmp_path / 'a.csv'}]"
    posed = make_set(*words, "DATASETS.INIT_POSE_TOPK_PER_OBJ=9")  # an image has an object twice
    assert len(posed.source) == len(annotated.source)
    for item in posed.source.items:
        vertices = posed.source.objects[item.obj_id].model.vertices
        uv = project(item.truth.pose.transform(vertices), item.record.K)
        assert item.box == pytest.approx([*uv.min(0), *uv.max(0)], abs=1e-6)  # pixels
    assert set(posed.detection_times().values()) == {0.5}


def test_poses_are_chosen_by_score_and_number(make_set, annotated, tmp_path):
    estimates = [
        *true_estimates(annotated, score=0.9),
        *true_estimates(annotated, score=0.6, shift=0.1),
        *true_estimates(annotated, score=0.3, shift=0.2),
    ]
    write_results(tmp_path / "a.csv", estimates)
    words = "TEST.TEST_BBOX_TYPE=csv", f"DATASETS.INIT_POSE_FILES_TEST=[{tmp_path / 'a.csv'}]"
    pairs = {(e.scene_id, e.im_id, e.obj_id) for e in estimates}
    assert {item.score for item in make_set(*words).source.items} == {0.9}
    assert len(make_set(*words, "DATASETS.INIT_POSE_TOPK_PER_OBJ=2").source) >= 2 * len(pairs)
    kept = make_set(*words, "DATASETS.INIT_POSE_TOPK_PER_OBJ=9", "DATASETS.INIT_POSE_THR=0.5").source.items
    assert {item.score for item in kept} == {0.9, 0.6}
    one = make_set(*words, "DATASETS.INIT_POSE_TOPK_PER_IM=1").source.items
    assert len(one) == len({(item.record.scene_id, item.record.im_id) for item in one})


@pytest.mark.parametrize("z", [-0.5, np.nan, np.inf])
def test_a_pose_behind_the_camera_or_of_no_numbers_gives_no_box(make_set, annotated, tmp_path, caplog, z):
    first, *others = true_estimates(annotated)
    behind = Estimate(first.scene_id, first.im_id, first.obj_id, 2.0, Pose(np.eye(3), np.array([0, 0, z])), 0.5)
    write_results(tmp_path / "a.csv", [behind, *others])
    with caplog.at_level(logging.WARNING):
        posed = make_set("TEST.TEST_BBOX_TYPE=csv", f"DATASETS.INIT_POSE_FILES_TEST=[{tmp_path / 'a.csv'}]")
    assert len(posed.source) < len(annotated.source)
    assert "1 estimated poses are not ahead of the camera" in caplog.text


def test_detections_of_which_none_is_left_are_reported(make_set, annotated, tmp_path):
    item = annotated.source.items[0]
    write_detections(
        tmp_path / "d.json", [Detection(item.record.scene_id, item.record.im_id, item.obj_id, item.box, 0.2)]
    )
    words = "TEST.TEST_BBOX_TYPE=est", f"DATASETS.DET_FILES_TEST=[{tmp_path / 'd.json'}]"
    assert len(make_set(*words).source) == 1
    with pytest.raises(UserError, match=r"no box to estimate a pose for: .* all are below DATASETS\.DET_THR"):
        make_set(*words, "DATASETS.DET_THR=0.3")


def in_the_ancestors_form(path: Path, detections: list[Detection]) -> None:
    images: dict[str, list[dict]] = {}
    for d in detections:
        x1, y1, x2, y2 = map(float, d.bbox)
        entry = {"obj_id": d.obj_id, "bbox_est": [x1, y1, x2 - x1, y2 - y1], "score": d.score, "time": d.time}
        images.setdefault(f"{d.scene_id}/{d.im_id}", []).append(entry)
    write_json(path, images)


@pytest.mark.parametrize("write", [write_detections, in_the_ancestors_form])
def test_both_forms_of_detections_give_the_same_rois(make_set, annotated, tmp_path, write):
    detections = [
        Detection(i.record.scene_id, i.record.im_id, i.obj_id, i.box, 0.8, 0.1) for i in annotated.source.items
    ]
    write(tmp_path / "d.json", detections)
    words = "TEST.TEST_BBOX_TYPE=est", f"DATASETS.DET_FILES_TEST=[{tmp_path / 'd.json'}]"
    detected = make_set(*words, "DATASETS.DET_TOPK_PER_OBJ=9")
    order = np.lexsort(boxes(detected).T), np.lexsort(boxes(annotated).T)
    assert boxes(detected)[order[0]] == pytest.approx(boxes(annotated)[order[1]], abs=1e-9)
    assert set(detected.detection_times().values()) == {0.1}


def test_jitter_is_the_same_in_every_run_and_bounded(make_set, annotated):
    words = "TEST.TEST_BBOX_TYPE=gt", "TEST.BBOX_JITTER=0.1"
    noisy, again, exact = boxes(make_set(*words)), boxes(make_set(*words)), boxes(annotated)
    np.testing.assert_array_equal(noisy, again)
    wh = exact[:, 2:] - exact[:, :2]
    assert (noisy != exact).any(axis=1).all()
    assert (np.abs(noisy - exact) <= 0.15 * np.tile(wh, 2) + 1e-9).all()  # a tenth moved, a twentieth scaled


def test_jitter_scales_and_moves_about_the_box():
    box = np.array([10.0, 20.0, 30.0, 60.0])
    moved = np.stack([jittered(box, 0.2, np.random.default_rng(seed)) for seed in range(2000)])
    wh = moved[:, 2:] - moved[:, :2]
    assert moved.mean(axis=0) == pytest.approx(box, abs=0.5)  # pixels; standard errors are a quarter of it
    assert (wh >= [16, 32]).all() and (wh <= [24, 48]).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["TEST.TEST_BBOX_TYPE=det"], "'gt', 'est' or 'csv'"),
        (["TEST.TEST_BBOX_TYPE=csv"], "INIT_POSE_FILES_TEST has 0 files for 1 test split"),
        (["TEST.TEST_BBOX_TYPE=csv", "DATASETS.INIT_POSE_FILES_TEST=[absent.csv]"], r"absent\.csv"),
        (["TEST.TEST_BBOX_TYPE=est", "TEST.BBOX_JITTER=0.1"], "TEST.BBOX_JITTER"),
    ],
)
def test_boxes_that_cannot_be_had_are_reported(make_set, words, message):
    with pytest.raises(UserError, match=message) as caught:
        make_set(*words)
    assert "\n" not in str(caught.value)


def test_what_is_not_in_an_image_is_neither_learned_nor_looked_for(make_small_config, toy_root, tmp_path):
    """Of a set without scene_gt_info.json, masks and targets; an object behind the camera has no box either."""
    root = tmp_path / "toy"
    shutil.copytree(toy_root, root, ignore=shutil.ignore_patterns("scene_gt_info.json", "mask*", "test_targets*"))
    for split in ("train", "test"):
        for place, t in ((0, [0.0, 0.0, -600.0]), (1, [3000.0, 0.0, 600.0])):
            edit_json(root / split / "000001/scene_gt.json", lambda gt, k=place, t=t: gt["1"][k].update(cam_t_m2c=t))
    names = ["DATASETS.TRAIN=[toy_train]", "DATASETS.TRAIN2=", "DATASETS.TEST=[toy_test]", "TEST.TEST_BBOX_TYPE=gt"]
    small = ["MODEL.POSE_NET.NUM_CLASSES=4", "MODEL.POSE_NET.LOSS_CFG.NUM_PM_POINTS=16", "INPUT.BG_IMGS_ROOT="]
    cfg = make_small_config(*names, *small, f"DATASETS.ROOT={tmp_path}")
    test_set = eval_set_of(cfg, "toy_test")
    tested = [(item.record, item.truth) for item in test_set.source.items]
    for items in (tested, train_dataset_of(cfg).items):
        of_image = [truth.gt_index for record, truth in items if record.im_id == 1]
        assert not {0, 1} & set(of_image) and of_image, items
        assert {truth.gt_index for record, truth in items if record.im_id == 2} >= {0, 1}
    assert sum(target.inst_count for target in test_set.targets) == len(test_set.source)


def test_images_without_a_box_are_counted(make_set, annotated, tmp_path, caplog):
    found = [Detection(i.record.scene_id, i.record.im_id, i.obj_id, i.box, 0.9) for i in annotated.source.items]
    write_detections(tmp_path / "found.json", [item for item in found if item.im_id != 2])
    make_set("TEST.TEST_BBOX_TYPE=est", f"DATASETS.DET_FILES_TEST=[{tmp_path / 'found.json'}]")
    assert "toy_test: 1 of 4 images have no box, so no pose" in caplog.text
