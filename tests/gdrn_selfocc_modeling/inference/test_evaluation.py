"""What becomes of a network's estimates before they are scored, in one process and in several."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist

from sopose.batch import Prediction, RoiBatch
from sopose.core.bop.detections import Detection, write_detections
from sopose.core.bop.results import Estimate, read_results
from sopose.core.data.roi import eval_roi
from sopose.core.engine.distributed import World, join_shares
from sopose.core.engine.modes import evaluation_mode
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.data.eval_set import EvalSet
from sopose.inference import evaluation
from sopose.inference.evaluation import (
    EvaluationPlan,
    build_plan,
    evaluate_model,
    output_folder,
    report_predictions,
    run_inference,
)
from sopose.inference.predict import with_image_times
from sopose.inference.predictions import FILE_NAME, read_predictions
from sopose.models.map_forms import PnPInput
from sopose.settings import Settings
from tests.support.builders import eval_set_of
from tests.support.programs import finish, start_group

POSE = Pose(np.eye(3), np.array([0.0, 0.0, 1.0]))
CPU = torch.device("cpu")


def test_an_images_time_adds_up_and_is_unknown_where_the_detectors_is():
    estimates = [Estimate(1, im_id, obj_id, 1.0, POSE, 0.25) for im_id in (3, 4) for obj_id in (1, 2)]
    test_set = SimpleNamespace(detection_times=lambda: {(1, 3): 0.5, (1, 4): -1.0})
    times = [estimate.time for estimate in with_image_times(estimates, test_set)]
    assert times == pytest.approx([1.0, 1.0, -1.0, -1.0], abs=1e-12)  # seconds


class BoxEcho(torch.nn.Module):
    """Predicts as pose where its ROI lies, so that an estimate shows which ROI it was made from."""

    pnp_input = PnPInput()

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[bool, int]] = []  # training mode and ROIs of each call

    def forward(self, rois: RoiBatch) -> Prediction:
        count = len(rois)
        self.calls.append((self.training, count))
        maps = rois.box_center[:, :1, None, None].expand(count, 3, 32, 32)
        R = torch.eye(3).expand(count, 3, 3)
        t = torch.cat([rois.box_center, rois.box_wh[:, :1]], dim=1)
        return Prediction(maps[:, :1], maps, None, None, None, R, R, t, t)


@pytest.fixture(scope="module")
def crowded_cfg(make_small_config, toy_root, tmp_path_factory) -> Settings:
    """The toy test split with detections that have every object of an image three times."""
    folder = tmp_path_factory.mktemp("crowd")
    base = [
        *("DATASETS.TRAIN=", "DATASETS.TRAIN2=", "DATASETS.TEST=[toy_test]", f"DATASETS.ROOT={toy_root.parent}"),
        *("MODEL.POSE_NET.NUM_CLASSES=4", "MODEL.POSE_NET.LOSS_CFG.NUM_PM_POINTS=16", "DATALOADER.NUM_WORKERS=0"),
        *("TEST.IMS_PER_BATCH=4", "VAL.REPORT_CASES=0", "EXP_NAME=crowd", f"OUTPUT_DIR={folder / 'out'}"),
    ]
    annotated = eval_set_of(make_small_config(*base, "TEST.TEST_BBOX_TYPE=gt"), "toy_test")
    detections = [
        Detection(item.record.scene_id, item.record.im_id, item.obj_id, item.box + 2.0 * n, 0.9 - 0.1 * n, 0.25)
        for item in annotated.source.items
        for n in range(3)
    ]
    write_detections(folder / "detections.json", detections)
    found = [f"DATASETS.DET_FILES_TEST=[{folder / 'detections.json'}]", "DATASETS.DET_TOPK_PER_OBJ=9"]
    return make_small_config(*base, *found, "TEST.TEST_BBOX_TYPE=est")


@pytest.fixture(scope="module")
def crowd(crowded_cfg: Settings) -> EvalSet:
    return eval_set_of(crowded_cfg, "toy_test")


def assert_each_roi_once(estimates: list[Estimate], test_set: EvalSet) -> None:
    assert len(estimates) == len(test_set.source)
    for estimate, item in zip(estimates, test_set.source.items, strict=True):
        roi = eval_roi(item.box, (640, 480), 1.5)
        expected = [*roi.center, roi.wh[0]]
        assert estimate.pose.cam_t_obj == pytest.approx(expected, abs=1e-3)  # pixels, rounded to float32
        ids = estimate.scene_id, estimate.im_id, estimate.obj_id, estimate.score
        assert ids == (item.record.scene_id, item.record.im_id, item.obj_id, item.score)


def test_every_roi_of_a_crowded_image_gets_its_own_estimate(crowd, crowded_cfg):
    keys = [(item.record.im_id, item.obj_id) for item in crowd.source.items]
    assert max(keys.count(key) for key in set(keys)) >= 3
    assert_each_roi_once(run_inference(BoxEcho(), crowd, build_plan(crowded_cfg), CPU).estimates, crowd)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_tested_in_evaluation_mode_and_left_as_it_was(crowd, crowded_cfg, training):
    model = BoxEcho().train(training)
    run_inference(model, crowd, build_plan(crowded_cfg), CPU)
    assert model.training is training
    assert not any(was_training for was_training, _ in model.calls)
    assert {count for _, count in model.calls[:-1]} == {4}


def test_an_images_time_has_the_solver_in_it(crowd, crowded_cfg, monkeypatch):
    def slow(prediction: Prediction, rois: RoiBatch) -> list[Pose]:
        time.sleep(0.01 * len(rois))
        return [POSE] * len(rois)

    monkeypatch.setattr(evaluation, "build_pose_solver", lambda test, net, model: slow)
    estimates = run_inference(BoxEcho(), crowd, build_plan(crowded_cfg), CPU).estimates
    for estimate in estimates:
        same_image = sum(other.im_id == estimate.im_id for other in estimates)
        assert estimate.time >= 0.25 + 0.01 * same_image - 1e-6  # the detector's and the solver's


def test_the_mode_comes_back_after_an_error():
    model = BoxEcho().train()
    with pytest.raises(ZeroDivisionError), evaluation_mode(model):
        assert not model.training
        raise ZeroDivisionError
    assert model.training


def test_shares_that_are_not_the_ranks_own_are_refused():
    with pytest.raises(RuntimeError, match="3 rows and its share is 4"):
        join_shares(torch.zeros(3, 2), 7, World(0, 2), CPU)
    joined = join_shares(torch.arange(6.0).reshape(3, 2), 3, World(), CPU)
    torch.testing.assert_close(joined, torch.arange(6.0).reshape(3, 2), rtol=0, atol=0)


def spread(total: int, count: int) -> list[int]:
    return [round(place) for place in np.linspace(0, total - 1, count)]


@pytest.fixture
def evaluated(crowded_cfg, crowd, tmp_path) -> tuple[BoxEcho, EvaluationPlan]:
    """A network that was evaluated with pictures of six ROIs, and how."""
    plan = replace(build_plan(crowded_cfg), output_dir=tmp_path / "out", report_cases=6)
    model = BoxEcho()
    evaluate_model(model, crowd, plan, CPU, "a test")
    return model, plan


def files_of(plan: EvaluationPlan) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in plan.output_dir.rglob("*") if path.is_file()}


def test_the_network_runs_once_and_all_is_reported_again_without_it(evaluated, crowd):
    model, plan = evaluated
    assert sum(count for _, count in model.calls) == len(crowd.source)
    before = files_of(plan)
    reported = ["best_to_worst.jpg", "report.html", "scores.json", "table.txt"]
    assert sorted(before) == sorted(["crowd_toy-test.csv", FILE_NAME, *reported])
    for name in reported:
        (output_folder(plan, crowd) / name).unlink()
    report_predictions(crowd, plan)
    assert files_of(plan) == before
    assert sum(count for _, count in model.calls) == len(crowd.source)


def test_predictions_of_other_boxes_are_refused(evaluated, crowd):
    _, plan = evaluated
    moved = [replace(item, box=item.box + 0.5) for item in crowd.source.items]
    for items, message in ((moved, "in other places"), (moved[1:], "of other objects")):
        with pytest.raises(UserError, match=message):
            report_predictions(replace(crowd, source=crowd.source.of_items(items)), plan)


def test_a_bad_mask_costs_a_picture_and_nothing_else(crowd, crowded_cfg, tmp_path, caplog):
    """The csv, the scores and the other pictures are there; log and report say what is missing."""
    plan = replace(build_plan(crowded_cfg), output_dir=tmp_path / "out", report_cases=3)
    first = crowd.source.items[0]
    bad = tmp_path / "mask.png"
    bad.write_bytes(b"no image")
    truth = replace(first.truth, mask_visib_path=bad)
    items = [replace(first, truth=truth), *crowd.source.items[1:]]
    scores = evaluate_model(BoxEcho(), replace(crowd, source=crowd.source.of_items(items)), plan, CPU, "")
    report = (output_folder(plan, crowd) / "report.html").read_text()
    assert scores.found == scores.targets and report.count("The picture is missing") == 1
    assert str(bad) in caplog.text and report.count("estimate and truth</figcaption>") == 3
    assert report.count("P truth</figcaption>") == 2


def evaluate_as_rank(cfg: Settings, folder: Path) -> None:
    """One of several processes; what it saw goes to a file of its own."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    try:
        model, test_set = BoxEcho().train(), eval_set_of(cfg, "toy_test")
        # A folder for each rank shows which of them wrote.
        plan = replace(build_plan(cfg), output_dir=Path(folder, f"rank{rank}"), report_cases=5)
        scores = evaluate_model(model, test_set, plan, CPU, "")
        estimates = run_inference(model, test_set, plan, CPU).estimates
        assert_each_roi_once(estimates, test_set)
        total = sum(count for _, count in model.calls) // 2
        (folder / f"counts{rank}").write_text(f"{total} {scores is None} {model.training}")
    finally:
        dist.destroy_process_group()


def test_two_processes_share_the_rois_and_one_writes(crowded_cfg, crowd, tmp_path):
    finish(start_group(tmp_path, 2, evaluate_as_rank, crowded_cfg, tmp_path))
    counts, silent, training = zip(*((tmp_path / f"counts{rank}").read_text().split() for rank in (0, 1)), strict=True)
    assert sum(map(int, counts)) == len(crowd.source) and abs(int(counts[0]) - int(counts[1])) <= 1
    assert silent == ("False", "True") and training == ("True", "True")
    written = list(tmp_path.rglob("*.csv"))
    assert [path.name for path in written] == ["crowd_toy-test.csv"] and "rank0" in str(written[0])
    assert not (tmp_path / "rank1").exists()
    estimates = read_results(written[0])
    assert_each_roi_once(estimates, crowd)
    kept = read_predictions(written[0].with_name(FILE_NAME))
    assert_each_roi_once(kept.estimates, crowd)
    assert kept.pictured.tolist() == spread(len(crowd.source), 5) and len(kept.maps) == 5
    centers = [eval_roi(crowd.source.items[number].box, (640, 480), 1.5).center[0] for number in kept.pictured]
    assert kept.maps.P[:, 0, 0, 0].tolist() == pytest.approx(centers, abs=0.5)  # whichever process saw the ROI
    times = {(e.scene_id, e.im_id): {other.time for other in estimates if other.im_id == e.im_id} for e in estimates}
    assert all(len(of_image) == 1 and min(of_image) > 0.25 for of_image in times.values())  # network and detector
