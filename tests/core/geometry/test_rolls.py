"""Rolled cameras see the same rays, and what several poses agree on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rolls import agreed_pose, roll_about, rolled_homography, turned_back
from sopose.core.geometry.rotation import geodesic_distance, lie_vec_to_matrix, random_rotation
from sopose.core.geometry.symmetry import moved_transforms

K = np.array([[570.0, 0, 320], [0, 575, 250], [0, 0, 1]])
PLACE = np.array([0.1, -0.2, 0.9])
NONE = np.eye(4)[None]  # symmetries
degrees = st.floats(-180, 180)
pixels = st.tuples(st.floats(0, 640), st.floats(0, 480)).map(np.array)


def turned(axis_angle: tuple[float, ...], place: np.ndarray = PLACE) -> Pose:
    """A pose turned by a vector of degrees."""
    return Pose(lie_vec_to_matrix(np.deg2rad(np.array(axis_angle, float))), place)


@given(pixels, degrees, st.integers(0, 100))
def test_the_homography_takes_what_the_rolled_camera_sees_to_the_image(pixel, roll, seed):
    R = roll_about(K, pixel, roll)
    # Before both cameras, within 17 degrees of the line of sight.
    sight = np.linalg.solve(K, [*pixel, 1.0])
    points_cam = sight + np.random.default_rng(seed).uniform(-0.15, 0.15, (20, 3))
    rolled = project(points_cam @ R.T, K)
    found = np.concatenate([rolled, np.ones((20, 1))], axis=1) @ rolled_homography(K, R).T
    np.testing.assert_allclose(found[:, :2] / found[:, 2:], project(points_cam, K), rtol=0, atol=1e-6)


@given(pixels, degrees)
def test_the_pixel_stays_and_what_is_beside_it_turns(pixel, roll):
    H = np.linalg.inv(rolled_homography(K, roll_about(K, pixel, roll)))
    beside = pixel + np.array([1e-3, 0])
    at = [(H @ [*place, 1.0])[:2] / (H @ [*place, 1.0])[2] for place in (pixel, beside)]
    np.testing.assert_allclose(at[0], pixel, rtol=0, atol=1e-6)
    if np.abs(pixel - K[:2, 2]).max() < 20:  # near the optical axis a roll is a turn of the image
        wanted = [np.cos(np.deg2rad(roll)), np.sin(np.deg2rad(roll))]
        np.testing.assert_allclose((at[1] - at[0]) / 1e-3, wanted, rtol=0, atol=0.03)


@given(pixels, degrees, st.integers(0, 100))
def test_a_pose_in_the_rolled_cameras_frame_is_turned_back(pixel, roll, seed):
    pose, R = Pose(random_rotation(np.random.default_rng(seed)), PLACE), roll_about(K, pixel, roll)
    back = turned_back(Pose(R @ pose.cam_R_obj, R @ pose.cam_t_obj), R)
    np.testing.assert_allclose(back.cam_R_obj, pose.cam_R_obj, rtol=0, atol=1e-12)
    np.testing.assert_allclose(back.cam_t_obj, pose.cam_t_obj, rtol=0, atol=1e-12)


@given(st.floats(1, 20), st.integers(0, 100))
def test_errors_to_both_sides_cancel_in_any_frame(angle, seed):
    rng = np.random.default_rng(seed)
    # A frame in which the object is before the camera.
    spin = lie_vec_to_matrix(np.array([0, 0, rng.uniform(-3, 3)]))
    frame, axis, shift = spin, rng.normal(size=3), rng.normal(size=3) * 0.01
    axis *= angle / np.linalg.norm(axis)
    poses = [turned(tuple(axis), PLACE + shift), turned((0, 0, 0)), turned(tuple(-axis), PLACE - shift)]
    mean = agreed_pose([Pose(frame @ pose.cam_R_obj, frame @ pose.cam_t_obj) for pose in poses], NONE)
    np.testing.assert_allclose(mean.cam_R_obj, frame, rtol=0, atol=1e-9)
    np.testing.assert_allclose(mean.cam_t_obj, frame @ PLACE, rtol=0, atol=1e-12)


def test_what_is_turned_far_from_the_others_counts_neither_for_rotation_nor_place():
    near = [turned((5, 0, 0)), turned((-5, 0, 0))]
    wild = turned((170, 0, 0), PLACE + 1.0)
    mean = agreed_pose([wild, *near], NONE)
    assert np.degrees(geodesic_distance(mean.cam_R_obj, np.eye(3))) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(mean.cam_t_obj, PLACE, rtol=0, atol=1e-12)


def test_poses_that_are_none_are_left_out():
    none = Pose(np.full((3, 3), np.nan), PLACE)
    only = turned((0, 30, 0))
    assert agreed_pose([none, only], NONE) is only
    assert agreed_pose([none, none], NONE) is none
    two = agreed_pose([none, turned((0, 10, 0)), turned((0, 20, 0))], NONE)
    np.testing.assert_allclose(two.cam_R_obj, turned((0, 15, 0)).cam_R_obj, rtol=0, atol=1e-9)


@given(st.integers(2, 12), st.integers(0, 100))
def test_views_that_differ_by_symmetries_agree_as_if_they_were_equal(fold, seed):
    """Of a prism whose axis is beside the origin: its equal poses are at other places too."""
    rng = np.random.default_rng(seed)
    turns = [lie_vec_to_matrix(np.array([0, 0, 2 * np.pi * k / fold])) for k in range(fold)]
    symmetries = np.tile(np.eye(4), (fold, 1, 1))
    symmetries[:, :3, :3] = turns
    symmetries = moved_transforms(symmetries, np.array([0.02, 0.01, 0.0]))
    views = [turned(tuple(rng.normal(size=3) * 3)) for _ in range(5)]
    equal = [view @ Pose(S[:3, :3], S[:3, 3]) for view, S in zip(views, rng.choice(symmetries, 5), strict=True)]
    found, wanted = agreed_pose(equal, symmetries), agreed_pose(views, symmetries)
    same = [wanted @ Pose(S[:3, :3], S[:3, 3]) for S in symmetries]
    nearest = min(same, key=lambda one: float(np.abs(found.cam_R_obj - one.cam_R_obj).max()))
    np.testing.assert_allclose(found.cam_R_obj, nearest.cam_R_obj, rtol=0, atol=1e-9)
    # A mean of places is of one origin; of another it differs by the square of the views' errors.
    np.testing.assert_allclose(found.cam_t_obj, nearest.cam_t_obj, rtol=0, atol=3e-4)


def test_a_view_behind_the_camera_does_not_count():
    near = [turned((5, 0, 0)), turned((-5, 0, 0))]
    mean = agreed_pose([turned((0, 0, 0), -PLACE), *near], NONE)
    np.testing.assert_allclose(mean.cam_t_obj, PLACE, rtol=0, atol=1e-12)


def test_a_pose_that_no_other_agrees_with_is_left_as_it_is():
    apart = [turned((0, 0, 0)), turned((120, 0, 0)), turned((-120, 0, 0))]
    assert agreed_pose(apart, NONE) in apart
