"""The probability of a pose to be right, learned and reported from the command line; and poses of several views."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sopose.core.evaluation.calibration import reliability
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.inference.refine import SHIPPED, LookPlan, PoseRefiner, RefinedPose
from sopose.models.confidence import Confidence
from sopose.settings import load_settings
from tests.support.builders import eval_set_of
from tools.measure.evaluate_confidence import Looked, fitted_factors, in_sight, measures, sureness
from tools.measure.evaluate_confidence import main as confidence_main
from tools.measure.evaluate_views import add_to_alike, errors, refined

REFINER = SHIPPED["any_object"]


@pytest.fixture(scope="module")
def words(toy_root, repository) -> list[str]:
    config = repository / "configs" / "gdrn_selfocc" / "toy" / "demo.py"
    root = [f"DATASETS.ROOT={toy_root.parent}", "DATASETS.TEST=[toy_test]", "CPU_THREADS=1"]
    return ["--config-file", str(config), "--opts", *root]


def make_photos(folder: Path) -> Path:
    """Two photographs of nothing."""
    folder.mkdir()
    for number in range(2):
        image = np.random.default_rng(number).integers(0, 255, (60, 90, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.GaussianBlur(image, (0, 0), 4))
    return folder


@pytest.mark.slow
def test_a_refiner_learns_how_sure_it_is(words, tmp_path, capsys):
    out, fitted = tmp_path / "out", tmp_path / "fitted.safetensors"
    empty = make_photos(tmp_path / "empty")
    more = ["--empty", str(empty), "--images", "8"]
    confidence_main(["--refiner", str(REFINER), "--fit", str(fitted), "--output", str(out), *more, *words])
    own = PoseRefiner.from_file(fitted)
    assert own.confidence is not None and own.confidence != PoseRefiner.from_file(REFINER).confidence
    table = capsys.readouterr().out
    assert "photographs without the objects" in table
    assert "AUC right/wrong" in table and "inside 68%" in table and (out / "reliability.png").stat().st_size > 1000
    (bins,) = json.loads((out / "reliability.json").read_text()).values()
    assert len(bins["predicted"]) == 5 and 0 <= bins["error"] <= 1


def test_a_refiner_without_it_is_answered_by_what_to_do(words, tmp_path):
    from sopose.models.refiner_design import RefinerDesign
    from sopose.models.refiner_file import build_refiner, save_refiner

    design = RefinerDesign(channels=8, input_res=64, output_res=16)
    save_refiner(build_refiner(design), design, ["x"], tmp_path / "plain.safetensors")
    more = ["--refiner", str(tmp_path / "plain.safetensors"), "--output", str(tmp_path / "out"), "--images", "1"]
    with pytest.raises(UserError, match="has no confidence yet; learn it: --fit FILE"):
        confidence_main([*more, *words])


def test_measures_of_what_is_sure_and_right():
    rng = np.random.default_rng(0)
    right, present = rng.random(400) < 0.5, rng.random(400) < 0.9
    unused = np.zeros((400, 6)), np.tile(np.eye(6), (400, 1, 1)), np.zeros(400)
    found = Looked(np.zeros((400, 7)), right, present | right, np.arange(400) // 4, *unused)
    texts = measures(found, np.where(right, 0.999, 0.001))
    *areas, error, of_present = (float(text.split()[0]) for text in texts)
    assert areas == [1, 1] and error < 0.01 and of_present < 0.01
    assert reliability(np.where(right, 0.9, 0.1), right).error < 0.15


def drawn(covariance: np.ndarray, count: int) -> Looked:
    """Sure poses whose errors have a covariance that they believe to be the identity, at a metre and 500 pixels."""
    motion = np.random.default_rng(1).multivariate_normal(np.zeros(6), covariance, count)
    all_true, known = np.ones(count, bool), np.tile(np.eye(6), (count, 1, 1))
    return Looked(np.zeros((count, 7)), all_true, all_true, np.arange(count), motion, known, np.full(count, 2e-3))


def test_factors_are_those_that_errors_ask_for():
    truth = np.diag([4.0, 4, 9, 0.25, 0.25, 0.25])
    assert fitted_factors([drawn(truth, 20_000)]) == pytest.approx([9, 4, 0.25], rel=0.05)  # along, across, rotation


def test_ellipsoids_of_the_right_size_hold_what_they_should():
    sure = Confidence((0.0,) * 7, 5.0)
    sizes = np.array([0.003, 0.003, 0.01, 0.02, 0.02, 0.02])  # that poses believe in; 2 pixels are 4 mm more across
    exact = drawn(np.diag(sizes**2 + [0.004**2, 0.004**2, 0, 0, 0, 0]), 20_000)
    found = replace(exact, covariance=np.tile(np.diag(sizes**2), (20_000, 1, 1)))

    def inside(image_error: float) -> list[float]:
        _, row = sureness({"set": found}, sure, np.ones(3), image_error)
        return [float(row[place].split()[0]) for place in (2, 3)]

    assert inside(2.0) == pytest.approx([68, 95], abs=1)
    assert inside(0.0)[0] < 50


def test_motions_to_the_truth_have_the_line_of_sight_for_their_third_axis():
    covariance = np.diag([4e-6, 4e-6, 9e-4, 1e-4, 1e-4, 1e-4])
    found = RefinedPose(Pose(np.eye(3), np.array([0.0, 0.0, 1.0])), covariance)
    K = np.diag([500.0, 500.0, 1.0])
    motion, same, pixel = in_sight(found, Pose(np.eye(3), np.array([0.002, 0.0, 1.03])), K)
    np.testing.assert_allclose(motion, [0.002, 0, 0.03, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(same, covariance, atol=1e-12)
    assert pixel == pytest.approx(0.002)
    aside = RefinedPose(Pose(np.eye(3), np.array([1.0, 0.0, 1.0])), covariance)
    motion, _, _ = in_sight(aside, Pose(np.eye(3), np.array([1.1, 0.0, 1.1])), K)
    np.testing.assert_allclose(motion[:3], [0, 0, 0.1 * 2**0.5], atol=1e-12)
    assert np.isinf(in_sight(found, None, K)[0]).all()


@pytest.fixture(scope="module")
def test_set(words):
    """The toy test images in ground-truth boxes."""
    return eval_set_of(load_settings(Path(words[1]), [*words[3:], "TEST.TEST_BBOX_TYPE=gt"]), "toy_test")


def test_images_that_show_an_object_alike_come_together(test_set):
    item = test_set.source.items[0]
    place = Pose(Rotation.from_euler("x", 30, degrees=True).as_matrix(), np.array([0, 0, 0.5]))
    moved = Pose(place.cam_R_obj, place.cam_t_obj + np.array([0.05, 0, 0]))
    groups: list = []
    for other in (place, moved, place):
        add_to_alike(groups, (item, None, other))
    assert [len(group) for group in groups] == [2, 1]


@pytest.mark.slow
def test_refined_poses_of_true_ones_are_fused_to_the_truth(test_set):
    true = [item.truth.pose for item in test_set.source.items]
    found = refined(PoseRefiner.from_file("any_object"), test_set, true, LookPlan(1))
    rows = [errors(test_set, obj_id, groups, 1) for obj_id, groups in found.items()]
    assert rows and all(float(row[3].split()[0]) < 20 for row in rows)  # mm of depth
    assert errors(test_set, 1, [], 2) is None
