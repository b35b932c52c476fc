"""Laws of pose errors, and the official toolkit's numbers on real estimates."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sopose.core.bop.models import load_models
from sopose.core.bop.results import read_results
from sopose.core.bop.scene import load_split
from sopose.core.evaluation.pairs import PosePairs, convex_hull_points
from sopose.core.evaluation.pose_error import (
    add_error,
    adi_error,
    deg_cm_error,
    mspd_error,
    mssd_error,
    proj_error,
    re_error,
    te_error,
)
from sopose.core.evaluation.pruning import pruned_mspd, pruned_mssd, pruned_proj, symmetry_distances
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import random_rotation
from sopose.core.geometry.symmetry import symmetry_transforms

K = np.array([[572.4, 0, 325.3], [0, 573.6, 242.0], [0, 0, 1]])
NONE = np.eye(4)[None]
HALF_TURNS = symmetry_transforms([np.diag([-1.0, -1, 1, 1]), np.diag([1.0, -1, -1, 1])], [])
TURNS = symmetry_transforms([], [(np.array([0.0, 0, 1]), np.zeros(3))])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture
def points(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-0.05, 0.05, (400, 3))


@pytest.fixture
def poses(rng: np.random.Generator) -> tuple[Pose, Pose]:
    est = Pose(random_rotation(rng), np.array([0.1, -0.05, 0.9]))
    return est, Pose(random_rotation(rng), np.array([0.08, -0.02, 1.0]))


def brute_force(est: Pose, gt: Pose, points: np.ndarray, symmetries: np.ndarray) -> tuple[float, float, float]:
    """MSSD, MSPD and symmetric projection error, a symmetry at a time."""
    mssd, mspd, proj = [], [], []
    for symmetry in symmetries:
        copy = gt @ Pose(symmetry[:3, :3], symmetry[:3, 3])
        a, b = est.transform(points), copy.transform(points)
        mssd.append(np.linalg.norm(a - b, axis=1).max())
        uv_a, uv_b = ((K @ p.T)[:2] / p[:, 2] for p in (a, b))
        pixels = np.linalg.norm(uv_a - uv_b, axis=0)
        mspd.append(pixels.max())
        proj.append(pixels.mean())
    return min(mssd), min(mspd), min(proj)


def test_a_pure_shift_is_its_length_in_every_metric_error(points, poses):
    gt = poses[1]
    est = Pose(gt.cam_R_obj, gt.cam_t_obj + np.array([0.003, 0.0, 0.004]))
    for error in (add_error(est, gt, points), te_error(est, gt), mssd_error(est, gt, points, NONE)):
        assert error == pytest.approx(0.005, rel=1e-12)
    assert adi_error(est, gt, points) <= 0.005
    assert re_error(est, gt) == pytest.approx(0, abs=1e-5)
    assert deg_cm_error(est, gt) == pytest.approx(0.5, rel=1e-9)


def test_a_shift_along_a_plane_moves_every_pixel_alike(points):
    # All points at one depth z: a sideways shift s moves each pixel by f s / z.
    flat = points * [1, 1, 0]
    gt = Pose(np.eye(3), np.array([0, 0, 0.8]))
    est = Pose(np.eye(3), np.array([0.004, 0, 0.8]))
    expected = K[0, 0] * 0.004 / 0.8
    assert proj_error(est, gt, K, flat) == pytest.approx(expected, rel=1e-9)
    assert mspd_error(est, gt, K, flat, NONE) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("degrees", [0.01, 1.0, 45.0, 179.0])
def test_re_is_the_angle_of_a_rotation(degrees, poses):
    gt = poses[1]
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    # The arc cosine resolves 1e-8 rad near 0 at best; 1e-5 degrees is far below any threshold.
    assert re_error(Pose(turn @ gt.cam_R_obj, gt.cam_t_obj), gt) == pytest.approx(degrees, abs=1e-5)


def test_the_truth_has_no_error(points, poses):
    gt = poses[1]
    assert add_error(gt, gt, points) == adi_error(gt, gt, points) == te_error(gt, gt) == 0
    assert mssd_error(gt, gt, points, TURNS) == pytest.approx(0, abs=1e-15)
    assert mspd_error(gt, gt, K, points, TURNS) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("symmetries", [HALF_TURNS, TURNS], ids=["discrete", "continuous"])
def test_a_symmetric_copy_of_the_truth_has_no_error(symmetries, points, poses):
    gt = poses[1]
    est = gt @ Pose(symmetries[-1, :3, :3], symmetries[-1, :3, 3])
    assert mssd_error(est, gt, points, symmetries) == pytest.approx(0, abs=1e-15)
    assert mspd_error(est, gt, K, points, symmetries) == pytest.approx(0, abs=1e-10)
    assert proj_error(est, gt, K, points, symmetries) == pytest.approx(0, abs=1e-10)
    assert re_error(est, gt, symmetries) == pytest.approx(0, abs=1e-5)
    assert deg_cm_error(est, gt, symmetries) == pytest.approx(0, abs=1e-5)
    assert mssd_error(est, gt, points, NONE) > 1e-4


def test_errors_do_not_depend_on_the_camera_frame(points, poses, rng):
    est, gt = poses
    motion = Pose(random_rotation(rng), np.array([0.3, -0.2, 0.5]))
    moved = motion @ est, motion @ gt
    for error in (add_error, adi_error):
        assert error(*moved, points) == pytest.approx(error(est, gt, points), rel=1e-9)
    assert mssd_error(*moved, points, TURNS) == pytest.approx(mssd_error(est, gt, points, TURNS), rel=1e-9)
    assert re_error(*moved) == pytest.approx(re_error(est, gt), abs=1e-5)


def test_adi_is_at_most_add_and_mssd_at_least(points, poses):
    est, gt = poses
    assert adi_error(est, gt, points) <= add_error(est, gt, points) <= mssd_error(est, gt, points, NONE)


def test_adi_is_the_mean_distance_to_the_nearest_point(points, poses):
    est, gt = poses
    distances = np.linalg.norm(gt.transform(points)[:, None] - est.transform(points)[None], axis=-1)
    assert adi_error(est, gt, points) == pytest.approx(distances.min(1).mean(), rel=1e-12)


@pytest.mark.parametrize("symmetries", [NONE, HALF_TURNS, TURNS], ids=["none", "discrete", "continuous"])
def test_shortcuts_give_the_brute_force_errors(symmetries, points, rng):
    hull = convex_hull_points(points)
    assert len(hull) < len(points)
    for _ in range(5):
        est = Pose(random_rotation(rng), np.array([0.1, -0.05, 0.9]))
        gt = Pose(random_rotation(rng), np.array([0.08, -0.02, 1.0]))
        mssd, mspd, proj = brute_force(est, gt, points, symmetries)
        assert mssd_error(est, gt, hull, symmetries) == pytest.approx(mssd, rel=1e-12)
        assert mspd_error(est, gt, K, points, symmetries) == pytest.approx(mspd, rel=1e-12)
        assert proj_error(est, gt, K, points, symmetries) == pytest.approx(proj, rel=1e-12)
        pair, apart = PosePairs.of([(est, gt, K)]), symmetry_distances(points, symmetries)
        assert pruned_mssd(pair, hull, symmetries, hull[:9]) == pytest.approx([mssd], rel=1e-12)
        assert pruned_mspd(pair, points, symmetries, hull) == pytest.approx([mspd], rel=1e-12)
        assert pruned_proj(pair, points, symmetries, apart) == pytest.approx([proj], rel=1e-12)


def test_points_without_a_volume_are_all_kept(points):
    flat = points * [1, 1, 0]
    assert convex_hull_points(flat) is flat
    assert convex_hull_points(points[:2]).shape == (2, 3)


def test_the_official_toolkit_agrees_on_every_pair(real_data):
    from sopose.core.bop.splits import resolve_split

    reference = json.loads((real_data / "lmo/reference.json").read_text())
    spec = resolve_split("lmo_bop_test", real_data)
    records = {(r.scene_id, r.im_id): r for r in load_split(spec, require_images=False)}
    models = load_models(real_data / "lmo/models_eval", names=spec.object_names)
    hulls = {obj_id: convex_hull_points(model.vertices) for obj_id, model in models.items()}
    estimates = read_results(real_data / "lmo" / reference["csv"])
    assert len(reference["per_pair_sub30"]) == 244
    for pair in reference["per_pair_sub30"]:
        record, est = records[pair["scene_id"], pair["im_id"]], estimates[pair["row"]].pose
        gt = next(i.pose for i in record.instances if i.gt_index == pair["gt_id"])
        model, hull = models[pair["obj_id"]], hulls[pair["obj_id"]]
        ours = {
            "mssd": 1000 * mssd_error(est, gt, hull, model.symmetry_transforms),
            "mspd": mspd_error(est, gt, record.K, model.vertices, model.symmetry_transforms),
            "add": 1000 * add_error(est, gt, model.vertices),
            "adi": 1000 * adi_error(est, gt, model.vertices),
            "re": re_error(est, gt),
            "te": 1000 * te_error(est, gt),
            "proj": proj_error(est, gt, record.K, model.vertices),
        }
        assert ours == pytest.approx({name: pair[name] for name in ours}, rel=1e-6)


def test_symmetric_copies_are_as_far_apart_as_their_points(points):
    copies = points @ TURNS[:40, :3, :3].transpose(0, 2, 1) + TURNS[:40, None, :3, 3]
    expected = np.sqrt(((copies[:, None] - copies) ** 2).sum(-1).mean(-1))
    np.testing.assert_allclose(symmetry_distances(points, TURNS[:40]), expected, rtol=0, atol=3e-8)


def test_no_symmetry_is_passed_over_where_the_object_reaches_the_camera(points, rng):
    apart = symmetry_distances(points, TURNS)
    gt = Pose(random_rotation(rng), np.array([0, 0, 1.01 * np.linalg.norm(points, axis=1).max() / 2]))
    est = Pose(random_rotation(rng), np.array([0, 0, 1.0]))
    found = pruned_proj(PosePairs.of([(est, gt, K)]), points, TURNS, apart)
    assert found == pytest.approx([proj_error(est, gt, K, points, TURNS)], rel=1e-12)
