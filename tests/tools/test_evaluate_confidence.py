"""The probability of a pose to be right, learned and reported from the command line; and poses of several views."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sopose.core.evaluation.calibration import reliability
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.inference.refine import SHIPPED, LookPlan, PoseRefiner
from sopose.settings import load_settings
from tests.support.builders import eval_set_of
from tools.measure.evaluate_confidence import Looked, measures, parted
from tools.measure.evaluate_confidence import main as confidence_main
from tools.measure.evaluate_views import add_to_alike, errors, refined

REFINER = SHIPPED["any_object"]


@pytest.fixture(scope="module")
def words(toy_root, repository) -> list[str]:
    config = repository / "configs" / "gdrn_selfocc" / "toy" / "demo.py"
    root = [f"DATASETS.ROOT={toy_root.parent}", "DATASETS.TEST=[toy_test]", "CPU_THREADS=1"]
    return ["--config-file", str(config), "--opts", *root]


@pytest.mark.slow
def test_a_refiner_learns_how_sure_it_is(words, tmp_path, capsys):
    out, fitted = tmp_path / "out", tmp_path / "fitted.safetensors"
    confidence_main(["--refiner", str(REFINER), "--fit", str(fitted), "--output", str(out), "--images", "8", *words])
    own = PoseRefiner.from_file(fitted)
    assert own.confidence is not None and own.confidence != PoseRefiner.from_file(REFINER).confidence
    table = capsys.readouterr().out
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
    nothing = np.zeros((400, 2))
    found = Looked(np.zeros((400, 7)), right, present | right, np.arange(400) // 4, nothing[:, 0], nothing, nothing)
    texts = measures(found, np.where(right, 0.999, 0.001))
    *areas, error, of_present = (float(text.split()[0]) for text in texts)
    assert areas == [1, 1] and error < 0.01 and of_present < 0.01
    assert reliability(np.where(right, 0.9, 0.1), right).error < 0.15


def test_errors_are_parted_along_the_line_of_sight_and_across():
    from sopose.inference.refine import RefinedPose

    covariance = np.diag([4e-6, 4e-6, 9e-4, 1e-4, 1e-4, 1e-4])
    found = RefinedPose(Pose(np.eye(3), np.array([0.0, 0.0, 1.0])), covariance)
    square, depth, across = parted(found, Pose(np.eye(3), np.array([0.002, 0.0, 1.03])))
    assert square == pytest.approx(1 + 1)
    np.testing.assert_allclose(depth, [0.03, 0.03])
    np.testing.assert_allclose(across, [0.002, 0.002])
    assert parted(found, None)[0] == np.inf


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
