"""Laws of fused poses: the truth is found from true views, surer views weigh more, wrong ones are left out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sopose.core.geometry.fusion import PoseView, fuse_poses
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.pose_covariance import turned_covariance
from sopose.core.geometry.rotation import lie_vec_to_matrix, random_rotation, rotation_log
from sopose.core.geometry.symmetry import continuous_rotations
from sopose.core.utils.errors import UserError

TRUTH = Pose(random_rotation(np.random.default_rng(1)), np.array([0.1, -0.05, 0.2]))
ALONG, ACROSS, TURN = 0.02, 0.002, 0.02  # metres along the line of sight and across, radians


def views_of(count: int, seed: int = 0, noise: float = 1.0) -> list[PoseView]:
    """Views from around, each unsure along its own line of sight."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        ref = Pose(random_rotation(rng), np.zeros(3))
        ref = Pose(ref.cam_R_obj, np.array([0, 0, 0.8]) - ref.cam_R_obj @ TRUTH.cam_t_obj)
        covariance = np.diag([ACROSS**2, ACROSS**2, ALONG**2, *[TURN**2] * 3])
        motion = noise * rng.multivariate_normal(np.zeros(6), covariance)
        pose = ref @ TRUTH
        pose = Pose(lie_vec_to_matrix(motion[3:]) @ pose.cam_R_obj, pose.cam_t_obj + motion[:3])
        found.append(PoseView(pose, covariance, ref))
    return found


def off(pose: Pose) -> np.ndarray:
    """(6,) metres and radians from the truth."""
    return np.concatenate([pose.cam_t_obj - TRUTH.cam_t_obj, rotation_log(pose.cam_R_obj @ TRUTH.cam_R_obj.T)])


@pytest.mark.parametrize("angle", [0.0, 1e-8, 0.3, 2.0, 3.0, 3.1415, np.pi])
def test_logarithms_of_rotations(angle):
    axis = np.array([0.48, -0.6, 0.64])
    R = Rotation.from_rotvec(angle * axis).as_matrix()
    np.testing.assert_allclose(lie_vec_to_matrix(rotation_log(R)), R, atol=1e-7)
    if angle < 3.14:
        np.testing.assert_allclose(rotation_log(R), angle * axis, atol=1e-7)


def test_true_views_give_the_truth():
    fused = fuse_poses(views_of(4, noise=0.0))
    np.testing.assert_allclose(off(fused.pose), 0, atol=1e-9)
    assert fused.used.all()


def test_one_view_is_itself():
    (view,) = views_of(1)
    fused = fuse_poses([view])
    np.testing.assert_allclose(fused.pose.cam_t_obj, (view.cam_T_ref.inverse() @ view.pose).cam_t_obj, atol=1e-9)
    wanted = turned_covariance(view.covariance, view.cam_T_ref.cam_R_obj.T)
    np.testing.assert_allclose(fused.covariance, wanted, rtol=1e-9, atol=1e-15)


def test_what_one_view_is_unsure_of_another_knows():
    """Two views at right angles: each knows the other's line of sight."""
    one, other = views_of(2, seed=3, noise=0.0)
    turn = Rotation.from_rotvec([0, np.pi / 2, 0]).as_matrix() @ one.cam_T_ref.cam_R_obj
    ref = Pose(turn, np.array([0, 0, 0.8]) - turn @ TRUTH.cam_t_obj)
    off_depth = Pose(one.pose.cam_R_obj, one.pose.cam_t_obj + np.array([0, 0, 0.02]))
    fused = fuse_poses(
        [PoseView(off_depth, one.covariance, one.cam_T_ref), PoseView(ref @ TRUTH, other.covariance, ref)]
    )
    assert np.linalg.norm(off(fused.pose)[:3]) < 0.02 * 1.1 * ACROSS**2 / (ALONG**2 + ACROSS**2) + 1e-6
    assert np.sqrt(np.linalg.eigvalsh(fused.covariance[:3, :3]).max()) < 1.1 * ACROSS


def test_errors_are_as_large_as_the_covariance_says():
    squares = []
    for seed in range(60):
        fused = fuse_poses(views_of(4, seed))
        error = off(fused.pose)
        squares.append(error @ np.linalg.inv(fused.covariance) @ error)
    assert 6 * 0.75 < np.mean(squares) < 6 * 1.25  # a chi-square of 6 numbers


def test_wrong_views_are_left_out():
    views = views_of(5, seed=5)
    for place in (1, 4):
        pose = views[place].pose
        wrong = Pose(random_rotation(np.random.default_rng(place)), pose.cam_t_obj + np.array([0.1, 0, 0.1]))
        views[place] = PoseView(wrong, views[place].covariance, views[place].cam_T_ref)
    fused = fuse_poses(views)
    np.testing.assert_array_equal(fused.used, [True, False, True, True, False])
    assert np.linalg.norm(off(fused.pose)[:3]) < 4 * ACROSS


def test_equal_poses_of_a_symmetric_object_agree():
    turns = continuous_rotations(np.array([0, 0, 1.0]), np.zeros(3), max_step=0.02)
    views = views_of(3, seed=2, noise=0.0)
    spun = [
        PoseView(view.pose @ Pose(turns[k][:3, :3], turns[k][:3, 3]), view.covariance, view.cam_T_ref)
        for view, k in zip(views, (0, 40, 90), strict=True)
    ]
    fused = fuse_poses(spun, turns)
    assert fused.used.all()
    np.testing.assert_allclose(fused.pose.cam_t_obj, TRUTH.cam_t_obj, atol=1e-9)


@pytest.mark.parametrize("covariance", [np.zeros((6, 6)), np.full((6, 6), np.nan), np.eye(3)])
def test_what_is_no_covariance_is_refused(covariance):
    with pytest.raises(UserError, match="finite and positive; poses have one after"):
        fuse_poses([PoseView(TRUTH, covariance, Pose(np.eye(3), np.zeros(3)))])
    with pytest.raises(UserError, match="no pose to fuse"):
        fuse_poses([])
