"""Laws of the filter: a steady motion is followed without lag, what isn't seen grows unsure."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sopose.core.geometry.pose import Pose
from sopose.core.geometry.pose_filter import MotionNoise, PoseState
from sopose.core.geometry.rotation import lie_vec_to_matrix, random_rotation

NOISE = MotionNoise()
SURE = np.diag([1e-3, 1e-3, 1e-2, 0.02, 0.02, 0.02]) ** 2
STEP = 1 / 30  # seconds
VELOCITY = np.array([0.2, -0.1, 0.3, 0.5, -1.0, 0.4])


def moved(pose: Pose, motion: np.ndarray) -> Pose:
    return Pose(lie_vec_to_matrix(motion[3:]) @ pose.cam_R_obj, pose.cam_t_obj + motion[:3])


def path(count: int) -> list[Pose]:
    """A body that moves and turns at a constant rate."""
    start = Pose(random_rotation(np.random.default_rng(4)), np.array([0.1, 0.0, 0.8]))
    return [moved(start, VELOCITY * STEP * place) for place in range(count)]


def test_a_steady_motion_is_followed_without_lag():
    poses = path(90)
    state = PoseState.of(poses[0], SURE, NOISE)
    for pose in poses[1:]:
        state = state.after(STEP, NOISE).seen(pose, SURE)
    assert np.abs(state.motion_to(poses[-1])).max() < 1e-4
    np.testing.assert_allclose(state.velocity, VELOCITY, atol=5e-3)


def test_noise_becomes_less_and_errors_are_as_large_as_stated():
    rng, poses = np.random.default_rng(0), path(400)
    state = PoseState.of(poses[0], SURE, MotionNoise(0.05, 0.5))
    raw, left, squares = [], [], []
    for pose in poses[1:]:
        measured = moved(pose, rng.multivariate_normal(np.zeros(6), SURE))
        state = state.after(STEP, MotionNoise(0.05, 0.5)).seen(measured, SURE)
        off = state.motion_to(pose)
        raw.append(measured.cam_t_obj - pose.cam_t_obj)
        left.append(off[:3])
        squares.append(off @ np.linalg.solve(state.covariance[:6, :6], off))
    assert np.std(left[100:], axis=0).max() < 0.6 * np.std(raw[100:], axis=0).max()
    assert 3 < np.mean(squares[100:]) < 9  # six numbers


@given(st.floats(0.001, 2.0))
def test_it_grows_unsure_where_nothing_is_seen(seconds):
    state = PoseState.of(path(1)[0], SURE, NOISE)
    later = state.after(seconds, NOISE)
    assert (np.linalg.eigvalsh(later.covariance) > 0).all()
    assert (np.diag(later.covariance)[:6] > np.diag(state.covariance)[:6]).all()
    seen = later.seen(state.pose, SURE)
    assert (np.diag(seen.covariance) <= np.diag(later.covariance) + 1e-15).all()
    np.testing.assert_allclose(seen.covariance, seen.covariance.T, atol=1e-15)


def test_two_halves_of_a_time_are_the_whole():
    state = PoseState.of(path(1)[0], SURE, NOISE)
    state = PoseState(state.pose, VELOCITY, state.covariance)
    once, twice = state.after(0.2, NOISE), state.after(0.1, NOISE).after(0.1, NOISE)
    np.testing.assert_allclose(twice.covariance, once.covariance, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(twice.pose.cam_R_obj, once.pose.cam_R_obj, atol=1e-12)


def test_far_is_counted_in_standard_deviations():
    state = PoseState.of(path(1)[0], SURE, NOISE)
    motion = np.sqrt(2 * np.diag(SURE))
    assert abs(state.off(moved(state.pose, motion * [1, 1, 1, 0, 0, 0]), SURE) - np.sqrt(0.5)) < 1e-9
