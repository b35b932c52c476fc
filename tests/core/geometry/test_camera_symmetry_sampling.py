"""Camera, symmetries and farthest points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sopose.core.geometry.camera import backproject, pixel_grid, pixel_rays, project
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import random_rotation
from sopose.core.geometry.sampling import farthest_points
from sopose.core.geometry.symmetry import UPRIGHT, canonical_pose, continuous_rotations, symmetry_transforms

K = np.array([[572.4, 0.3, 325.2], [0, 573.5, 242.0], [0, 0, 1]])


@given(seed=st.integers(0, 2**31), depth=st.floats(0.01, 10))
def test_a_point_on_a_pixels_ray_projects_to_the_pixel_and_lambda_is_its_depth(seed, depth):
    uv = np.random.default_rng(seed).uniform(0, 640, (6, 2))
    points_cam = depth * pixel_rays(K, uv)
    np.testing.assert_allclose(points_cam[:, 2], depth, rtol=1e-15)
    np.testing.assert_allclose(project(points_cam, K), uv, atol=1e-9)
    as_tensor = project(torch.from_numpy(points_cam), torch.from_numpy(K))
    np.testing.assert_allclose(as_tensor.numpy(), uv, atol=1e-9)


def test_backprojection_is_the_inverse_of_projection():
    depth = np.random.default_rng(0).uniform(0.5, 2, (6, 8))
    np.testing.assert_allclose(project(backproject(depth, K), K), pixel_grid(8, 6), atol=1e-9)


def test_continuous_symmetry_is_a_group_of_turns_about_its_axis():
    axis, offset = np.array([0.0, 2.0, 0.0]), np.array([0.1, 0.0, -0.2])
    turns = continuous_rotations(axis, offset)
    assert turns.shape == (315, 4, 4)
    np.testing.assert_array_equal(turns[0], np.eye(4))
    on_axis = np.append(offset + 0.7 * axis, 1)
    np.testing.assert_allclose(turns @ on_axis, np.tile(on_axis, (315, 1)), atol=1e-14)
    np.testing.assert_allclose(turns[1] @ turns[314], np.eye(4), atol=1e-14)


def test_discrete_and_continuous_symmetries_are_combined_identity_first():
    flip = np.diag([1.0, -1, -1, 1])
    both = symmetry_transforms([flip], [(np.array([0, 0, 1.0]), np.zeros(3))])
    assert both.shape == (2 * 315, 4, 4)
    np.testing.assert_array_equal(both[0], np.eye(4))
    np.testing.assert_allclose(both[315], flip, atol=1e-15)
    assert symmetry_transforms([], []).shape == (1, 4, 4)
    assert symmetry_transforms([flip.ravel()], []).shape == (2, 4, 4)


def test_farthest_points_of_a_line_are_its_ends_then_its_middle():
    line = np.stack([np.linspace(0, 1, 11) ** 1.01, np.zeros(11), np.zeros(11)], axis=1)
    first = farthest_points(line, 3)
    assert set(first[:2]) == {0, 10}
    assert first[2] in (5, 6)


@given(seed=st.integers(0, 2**31))
def test_each_farthest_point_is_at_least_as_far_as_any_other(seed):
    points = np.random.default_rng(seed).standard_normal((40, 3))
    chosen = farthest_points(points, 10)
    assert len(set(chosen)) == 10
    for i in range(1, 10):
        to_chosen = np.linalg.norm(points[:, None] - points[chosen[:i]], axis=-1).min(axis=1)
        assert to_chosen[chosen[i]] == pytest.approx(to_chosen.max(), rel=1e-12)


def test_more_farthest_points_than_points_are_refused():
    with pytest.raises(ValueError, match="between 1 and 4"):
        farthest_points(np.zeros((4, 3)), 5)


def quarter_turns() -> list[np.ndarray]:
    """About the z axis, without the identity."""
    return [continuous_rotations(np.array([0.0, 0.0, 1.0]), np.zeros(3), np.pi / 4)[k] for k in (1, 2, 3)]


@given(seed=st.integers(0, 10**6), turn=st.integers(0, 3))
def test_of_poses_that_look_alike_one_is_canonical(seed, turn):
    """Whichever of a symmetric object's equal poses is given; it looks like them, and an upright view stays."""
    rng = np.random.default_rng(seed)
    quarter = symmetry_transforms(quarter_turns(), [])
    pose = Pose(random_rotation(rng), np.array([*rng.uniform(-0.3, 0.3, 2), 0.8]))
    S = quarter[turn]
    other = pose @ Pose(S[:3, :3], S[:3, 3])
    first, second = canonical_pose(pose, quarter), canonical_pose(other, quarter)
    np.testing.assert_allclose(first.cam_R_obj, second.cam_R_obj, atol=1e-9)
    np.testing.assert_allclose(first.cam_t_obj, second.cam_t_obj, atol=1e-9)
    distances = [np.abs((pose @ Pose(one[:3, :3], one[:3, 3])).cam_R_obj - first.cam_R_obj).max() for one in quarter]
    assert min(distances) < 1e-9


def test_an_upright_view_is_its_own_canonical_pose():
    ahead = Pose(UPRIGHT, np.array([0.0, 0.0, 1.0]))
    assert np.array_equal(canonical_pose(ahead, symmetry_transforms(quarter_turns(), [])).cam_R_obj, UPRIGHT)
    assert canonical_pose(ahead, np.eye(4)[None]) is ahead
