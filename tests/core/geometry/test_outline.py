"""The enclosing polytope holds every point with its margin, has few corners, and is not much larger than the points."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from sopose.core.geometry.outline import BLOCK, MARGIN, enclosing_corners

RNG = np.random.default_rng(0)
CLOUDS = {
    "ball": RNG.normal(size=(BLOCK + 500, 3)),
    "box": RNG.uniform(-1, 1, (500, 3)) * [3, 0.2, 1],
    "sheet": RNG.uniform(-1, 1, (50, 3)) * [1, 1, 0],
    "line": RNG.uniform(-1, 1, (9, 1)) * [1.0, 2.0, -0.5],
    "triangle": np.eye(3),
}


@pytest.mark.parametrize("offset", [0.0, 50.0])
@pytest.mark.parametrize("size", [0.002, 1.0, 300.0])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_point_is_inside_by_the_margin(cloud, size, offset):
    points = size * (CLOUDS[cloud] + offset)
    corners = enclosing_corners(points)
    reach = np.linalg.norm(points - points.mean(axis=0), axis=1).max()
    sides = ConvexHull((corners - points.mean(axis=0)) / reach).equations
    heights = (points - points.mean(axis=0)) / reach @ sides[:, :3].T + sides[:, 3]
    assert heights.max() <= -0.99 * MARGIN
    assert len(corners) < 150


def test_a_ball_is_enclosed_to_a_tenth_of_its_radius():
    directions = RNG.normal(size=(20000, 3))
    ball = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    assert np.linalg.norm(enclosing_corners(ball), axis=1).max() < 1.1


def test_a_single_point_has_corners_at_itself():
    np.testing.assert_allclose(enclosing_corners(np.ones((1, 3))), 1, rtol=0, atol=1e-12)
