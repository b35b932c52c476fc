"""Covariances of poses: laws of frames and points, and how errors add."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopose.core.geometry.pose_covariance import (
    moved_covariance,
    scaled_covariance,
    sight_R_cam,
    turned_covariance,
    with_image_error,
)
from sopose.core.geometry.rotation import lie_vec_to_matrix

K = np.array([[600.0, 0, 320], [0, 600.0, 240], [0, 0, 1]])


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """A covariance, a point before the camera, and more chance."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(6, 6))
    return root @ root.T, rng.normal(size=3) + np.array([0, 0, 3.0]), rng


@given(seed=st.integers(0, 2**16))
def test_a_covariance_about_another_point_is_that_of_its_motions(seed: int):
    rng = np.random.default_rng(seed)
    root, offset = rng.normal(size=(6, 6)), rng.normal(size=3)
    covariance = moved_covariance(root @ root.T, offset)
    # Motions of one unit along the columns of the root make the first covariance up.
    tiny = 1e-6
    motions = []
    for column in (tiny * root).T:
        turn = lie_vec_to_matrix(column[3:])
        motions.append([*(column[:3] + turn @ offset - offset), *column[3:]])
    moved = np.array(motions).T / tiny
    np.testing.assert_allclose(covariance, moved @ moved.T, atol=1e-3 * np.abs(covariance).max())
    np.testing.assert_allclose(moved_covariance(covariance, -offset), root @ root.T, atol=1e-9)


@given(seed=st.integers(0, 2**16))
def test_factors_count_along_and_across_the_line_of_sight(seed: int):
    covariance, point, rng = drawn(seed)
    factors = tuple(rng.uniform(0.1, 9, 3))
    both = covariance, scaled_covariance(covariance, point, factors)
    in_sight, scaled = (turned_covariance(one, sight_R_cam(point)) for one in both)
    along, across, rotation = factors
    wanted = np.array([across, across, along, rotation, rotation, rotation])
    np.testing.assert_allclose(np.diag(scaled), wanted * np.diag(in_sight), rtol=1e-9)
    correlations = [one / np.sqrt(np.outer(np.diag(one), np.diag(one))) for one in (in_sight, scaled)]
    np.testing.assert_allclose(*correlations, atol=1e-9)


@given(seed=st.integers(0, 2**16))
def test_the_line_of_sight_is_the_third_axis(seed: int):
    _, point, _ = drawn(seed)
    np.testing.assert_allclose(sight_R_cam(point) @ point, [0, 0, np.linalg.norm(point)], atol=1e-9)


def test_an_error_of_the_image_moves_across_alone_and_by_pixels():
    point = np.array([0, 0, 1.5])
    wrong = with_image_error(np.zeros((6, 6)), point, K, 2.0)
    assert np.sqrt(np.diag(wrong)) == pytest.approx([2 * 1.5 / 600] * 2 + [0] * 4)
    np.testing.assert_array_equal(with_image_error(wrong, point, K, 0.0), wrong)
