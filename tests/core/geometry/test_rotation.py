"""Rotations: every parametrisation gives rotations, and those that have an inverse are recovered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sopose.core.geometry import rotation
from sopose.core.geometry.pose import Pose, allo_to_ego, ego_to_allo, rotation_to_ray

SEEDS = st.integers(0, 2**31)
CONVERSIONS = {
    rotation.rot6d_to_matrix: 6,
    rotation.quat_to_matrix: 4,
    rotation.log_quat_to_matrix: 3,
    rotation.lie_vec_to_matrix: 3,
}


def random_matrices(seed: int, count: int = 4) -> torch.Tensor:
    return torch.from_numpy(Rotation.random(count, rng=seed).as_matrix())


@pytest.mark.parametrize(("convert", "size"), CONVERSIONS.items())
@given(seed=SEEDS)
def test_every_parametrisation_gives_rotations(convert, size, seed):
    numbers = torch.from_numpy(np.random.default_rng(seed).standard_normal((5, size)))
    R = convert(numbers)
    identity = torch.eye(3, dtype=R.dtype).expand(5, 3, 3)
    torch.testing.assert_close(R @ R.mT, identity, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(5, dtype=R.dtype), rtol=0, atol=1e-12)


@given(seed=SEEDS)
def test_rot6d_recovers_the_rotation_whose_first_two_columns_it_is_given(seed):
    R = random_matrices(seed)
    rot6d = torch.cat([R[..., 0], R[..., 1]], dim=-1)
    torch.testing.assert_close(rotation.rot6d_to_matrix(rot6d), R, rtol=0, atol=1e-12)


@given(seed=SEEDS)
def test_quaternion_and_rotation_vector_agree_with_scipy(seed):
    rotations = Rotation.random(4, rng=seed)
    R = torch.from_numpy(rotations.as_matrix())
    quat_wxyz = torch.from_numpy(np.roll(rotations.as_quat(), 1, axis=-1))
    rotvec = torch.from_numpy(rotations.as_rotvec())
    torch.testing.assert_close(rotation.quat_to_matrix(3 * quat_wxyz), R, rtol=0, atol=1e-12)
    torch.testing.assert_close(rotation.lie_vec_to_matrix(rotvec), R, rtol=0, atol=1e-12)
    torch.testing.assert_close(rotation.log_quat_to_matrix(rotvec / 2), R, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("convert", "size"), CONVERSIONS.items())
def test_gradients(convert, size):
    numbers = torch.from_numpy(np.random.default_rng(3).standard_normal((2, size))).requires_grad_()
    assert torch.autograd.gradcheck(convert, (numbers,))


@given(seed=SEEDS, angle=st.floats(1e-4, 3.1))
def test_geodesic_distance_is_the_angle_and_left_invariant(seed, angle):
    R, M = random_matrices(seed, 2)
    turn = torch.from_numpy(Rotation.from_rotvec([0, angle, 0]).as_matrix())
    assert float(rotation.geodesic_distance(R, R @ turn)) == pytest.approx(angle, abs=1e-7)
    assert float(rotation.geodesic_distance(M @ R, M @ R @ turn)) == pytest.approx(angle, abs=1e-7)


def test_random_rotation_covers_the_group_evenly():
    rng = np.random.default_rng(0)
    matrices = np.stack([rotation.random_rotation(rng) for _ in range(4000)])
    assert np.abs(matrices.mean(axis=0)).max() < 0.05  # the mean of uniform rotations is 0


@given(seed=SEEDS)
def test_allocentric_rotation_is_the_egocentric_one_on_the_optical_axis(seed):
    R = random_matrices(seed, 3)
    ahead = torch.tensor([0.0, 0.0, 0.7], dtype=torch.float64).expand(3, 3)
    torch.testing.assert_close(allo_to_ego(R, ahead), R, rtol=0, atol=1e-15)


@given(seed=SEEDS)
def test_allocentric_conversion_takes_the_axis_to_the_ray_and_back(seed):
    rng = np.random.default_rng(seed)
    t = torch.from_numpy(rng.uniform([-1, -1, 0.1], [1, 1, 2], (5, 3)))
    R = random_matrices(seed, 5)
    turn = rotation_to_ray(t)
    ray = torch.nn.functional.normalize(t, dim=-1)
    torch.testing.assert_close(turn[..., 2], ray, rtol=0, atol=1e-12)
    # the smallest such turn: its angle is the angle between axis and ray
    angle = rotation.geodesic_distance(turn, torch.eye(3, dtype=t.dtype).expand_as(turn))
    torch.testing.assert_close(angle, torch.acos(ray[:, 2]), rtol=0, atol=1e-6)
    torch.testing.assert_close(ego_to_allo(allo_to_ego(R, t), t), R, rtol=0, atol=1e-12)


def test_a_turn_to_the_ray_is_a_rotation_for_any_length_and_side_in_float32():
    rays = [[0.0, 0.0, 0.0], [1e-30, 0.0, 1e-30], [2.5e22, -2.7e22, 3e11], [2e-4, -1e-4, -1.0], [0.03, 0.02, -1.0]]
    t = torch.tensor(rays, requires_grad=True)
    turn = rotation_to_ray(t)
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand(5, 3, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(turn[0], torch.eye(3), rtol=0, atol=0)
    turn.sum().backward()
    assert t.grad.isfinite().all()


def test_poses_chain_and_invert():
    rng = np.random.default_rng(1)
    cam_T_obj, obj_T_part = (Pose(rotation.random_rotation(rng), rng.standard_normal(3)) for _ in range(2))
    points_part = rng.standard_normal((7, 3))
    chained = (cam_T_obj @ obj_T_part).transform(points_part)
    np.testing.assert_allclose(chained, cam_T_obj.transform(obj_T_part.transform(points_part)), atol=1e-12)
    back = cam_T_obj.inverse().transform(cam_T_obj.transform(points_part))
    np.testing.assert_allclose(back, points_part, atol=1e-12)
