"""Errors of many pairs at once are those of each pair by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sopose.core.evaluation import pose_error
from sopose.core.evaluation.error_model import ErrorModel
from sopose.core.evaluation.nearest import NearestPoints
from sopose.core.evaluation.pairs import PosePairs
from sopose.core.geometry.pose import Pose
from tests.support.evaluation_scene import K, box_model, random_pose

AXIS_Z = (np.array([0, 0, 1.0]), np.array([0.001, 0, 0]))
SYMMETRIES = {
    "none": {},
    "discrete": {"symmetries_discrete": [np.diag([-1.0, -1, 1, 1]), np.diag([1.0, -1, -1, 1])]},
    "continuous": {"symmetries_continuous": [AXIS_Z]},
}
NAMES = ("add", "adi", "ad", "mssd", "mspd", "re", "re_sym", "te", "deg_cm", "deg_cm_sym", "proj", "proj_sym")


@pytest.mark.parametrize("symmetries", SYMMETRIES)
def test_every_error_is_that_of_the_pair(symmetries):
    rng = np.random.default_rng(4)
    model = box_model(1, "box", **SYMMETRIES[symmetries])
    triples = [(random_pose(rng), random_pose(rng), K) for _ in range(12)]
    together = ErrorModel(model, symmetric=True).errors(PosePairs.of(triples), NAMES)
    points, transforms = model.vertices, model.symmetry_transforms
    for index, (est, gt, _) in enumerate(triples):
        alone = {
            "add": pose_error.add_error(est, gt, points),
            "adi": pose_error.adi_error(est, gt, points),
            "ad": pose_error.adi_error(est, gt, points),
            "mssd": pose_error.mssd_error(est, gt, points, transforms),
            "mspd": pose_error.mspd_error(est, gt, K, points, transforms),
            "re": pose_error.re_error(est, gt),
            "re_sym": pose_error.re_error(est, gt, transforms),
            "te": pose_error.te_error(est, gt),
            "deg_cm": pose_error.deg_cm_error(est, gt),
            "deg_cm_sym": pose_error.deg_cm_error(est, gt, transforms),
            "proj": pose_error.proj_error(est, gt, K, points),
            "proj_sym": pose_error.proj_error(est, gt, K, points, transforms),
        }
        assert {name: together[name][index] for name in NAMES} == pytest.approx(alone, rel=1e-9)


def test_ad_is_add_where_the_object_is_not_symmetric():
    rng = np.random.default_rng(5)
    pairs = PosePairs.of([(random_pose(rng), random_pose(rng), K)])
    errors = ErrorModel(box_model(1, "box"), symmetric=False).errors(pairs, ("ad", "add", "adi"))
    assert errors["ad"] == errors["add"] > errors["adi"]


def test_adi_of_a_matrix_that_is_no_rotation_is_sought_in_the_cameras_frame():
    rng = np.random.default_rng(6)
    model, gt = box_model(1, "box"), random_pose(rng)
    est = Pose(random_pose(rng).cam_R_obj @ np.diag([3.0, 0.2, 0.0]), gt.cam_t_obj)
    expected = np.linalg.norm(gt.transform(model.vertices)[:, None] - est.transform(model.vertices), axis=-1).min(1)
    (adi,) = ErrorModel(model, True).errors(PosePairs.of([(est, gt, K)]), ("adi",))["adi"]
    assert adi == pytest.approx(expected.mean(), rel=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pose_that_is_no_number_has_infinite_errors_and_spoils_no_other(value):
    rng = np.random.default_rng(7)
    pairs = PosePairs.of([(random_pose(rng), random_pose(rng), K) for _ in range(3)])
    model = ErrorModel(box_model(1, "box", **SYMMETRIES["discrete"]), True)
    right = model.errors(pairs, NAMES)
    spoiled = model.errors(replace(pairs, est_t=pairs.est_t + np.array([[0], [value], [0]])), NAMES)
    for name in NAMES:
        assert np.isinf(spoiled[name][1])
        np.testing.assert_array_equal(spoiled[name][[0, 2]], right[name][[0, 2]])


def test_no_pair_has_no_error():
    errors = ErrorModel(box_model(1, "box", **SYMMETRIES["continuous"]), True).errors(PosePairs.of([]), NAMES)
    assert {name: values.shape for name, values in errors.items()} == dict.fromkeys(NAMES, (0,))


def test_the_nearest_point_is_found_whatever_the_number_of_queries():
    rng = np.random.default_rng(8)
    points = rng.normal(size=(300, 3)) + 5
    queries = points[rng.integers(300, size=60_000)] + 0.3 * rng.normal(size=(60_000, 3))
    found = NearestPoints(points).indices(queries.reshape(2, -1, 3)).reshape(-1)
    distance = np.linalg.norm(points[found] - queries, axis=1)
    few = rng.integers(60_000, size=500)
    least = np.linalg.norm(queries[few, None] - points, axis=-1).min(axis=1)
    np.testing.assert_allclose(distance[few], least, rtol=0, atol=1e-6)  # float32 of coordinates of size 3
    np.testing.assert_array_equal(NearestPoints(points).indices(points), np.arange(300))


def test_points_that_lie_in_one_place_are_no_trouble():
    assert NearestPoints(np.ones((100, 3))).indices(np.zeros((5, 3))).shape == (5,)


def test_the_official_errors_are_met_by_all_pairs_at_once(real_data):
    import json

    from sopose.core.bop.models import load_models
    from sopose.core.bop.results import read_results
    from sopose.core.bop.scene import load_split
    from sopose.core.bop.splits import resolve_split

    reference = json.loads((real_data / "lmo/reference.json").read_text())
    spec = resolve_split("lmo_bop_test", real_data)
    records = {(r.scene_id, r.im_id): r for r in load_split(spec, require_images=False)}
    estimates = read_results(real_data / "lmo" / reference["csv"])
    units = {"mssd": 1e3, "mspd": 1, "add": 1e3, "adi": 1e3, "re": 1, "te": 1e3, "proj": 1}
    for obj_id, model in load_models(real_data / "lmo/models_eval").items():
        rows = [row for row in reference["per_pair_sub30"] if row["obj_id"] == obj_id]
        triples = []
        for row in rows:
            record = records[row["scene_id"], row["im_id"]]
            gt = next(item.pose for item in record.instances if item.gt_index == row["gt_id"])
            triples.append((estimates[row["row"]].pose, gt, record.K))
        errors = ErrorModel(model, False).errors(PosePairs.of(triples), list(units))
        for name, unit in units.items():
            np.testing.assert_allclose(unit * errors[name], [row[name] for row in rows], rtol=1e-6, atol=0)
