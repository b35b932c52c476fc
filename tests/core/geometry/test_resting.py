"""Stable poses, and how far footprints must stand apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sopose.core.geometry.resting import apart, resting_poses, shifted, supports, touching_distance

BRICK = np.array([[x, y, z] for x in (-0.1, 0.1) for y in (-0.05, 0.05) for z in (-0.02, 0.02)])


def test_a_brick_lies_on_its_six_faces_and_best_on_the_largest():
    resting = resting_poses(BRICK)
    heights = [np.ptp((BRICK @ R.T)[:, 2]) for R in resting.table_R_obj]
    np.testing.assert_allclose(heights, [0.04, 0.04, 0.1, 0.1, 0.2, 0.2], atol=1e-12)
    assert resting.probability.sum() == pytest.approx(1)
    # The solid angle of a face from the middle: 4 atan(a b / (d sqrt(a² + b² + d²))), half sides a, b, distance d.
    angle = 4 * np.arctan(0.1 * 0.05 / (0.02 * np.sqrt(0.1**2 + 0.05**2 + 0.02**2)))
    assert resting.probability[0] == pytest.approx(angle / (4 * np.pi), rel=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_every_pose_is_a_rotation_with_the_centre_of_mass_over_the_feet(seed):
    rng = np.random.default_rng(seed)
    cloud = 0.1 * rng.standard_normal((20, 3)) + rng.uniform(-1, 1, 3)
    resting = resting_poses(cloud)
    import trimesh

    center = trimesh.convex.convex_hull(cloud).center_mass
    for R in resting.table_R_obj:
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(R) == pytest.approx(1)
        on_table = cloud @ R.T
        feet = on_table[on_table[:, 2] < on_table[:, 2].min() + 1e-6][:, :2] - (R @ center)[:2]
        angles = np.sort(np.arctan2(feet[:, 1], feet[:, 0]))
        widest = np.diff([*angles, angles[0] + 2 * np.pi]).max()
        assert len(feet) >= 3 and widest <= np.pi + 1e-3  # the feet surround the centre


def test_a_leaning_tower_does_not_stand():
    shear = np.array([[1, 0, 4.0], [0, 1, 0], [0, 0, 1]])
    tower = np.array([[x, y, z] for x in (0, 0.02) for y in (0, 0.02) for z in (0, 0.05)]) @ shear.T
    for R in resting_poses(tower).table_R_obj:
        assert abs(R[2, 2]) < 0.99  # not on the small end faces


@given(st.integers(0, 2**32 - 1), st.floats(0, 2 * np.pi))
def test_touching_footprints_are_apart_and_nearer_ones_are_not(seed, angle):
    rng = np.random.default_rng(seed)
    first, second = (rng.uniform(-0.1, 0.1, (12, 3)) for _ in range(2))
    heading = np.array([np.cos(angle), np.sin(angle)])
    distance = touching_distance(supports(first), supports(second), heading)
    assert apart(supports(first), shifted(supports(second), distance * heading), slack=1e-12)
    assert not apart(supports(first), shifted(supports(second), (distance - 1e-6) * heading))
    moved = second + np.array([*distance * heading, 0.0])
    np.testing.assert_allclose(supports(moved), shifted(supports(second), distance * heading), atol=1e-12)


def test_round_feet_touch_at_the_sum_of_their_radii():
    angle = np.linspace(0, 2 * np.pi, 1000)
    disk = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    distance = touching_distance(supports(0.05 * disk), supports(0.03 * disk), np.array([0.6, 0.8]))
    assert 0.08 - 1e-6 <= distance < 0.081


def test_a_turned_brick_rests_the_same():
    turn = Rotation.from_euler("xyz", [0.3, -0.7, 1.1]).as_matrix()
    np.testing.assert_allclose(resting_poses(BRICK @ turn.T).probability, resting_poses(BRICK).probability, atol=1e-9)
