"""A pose that is wrong in depth alone is right after a look at the measured depth."""

from __future__ import annotations

import numpy as np
import pytest

from sopose.core.geometry.pose import Pose
from sopose.core.rays.raycast import RayCaster
from sopose.core.render.depth_fit import moved_to_depth
from sopose.core.render.visibility import render_depth
from sopose.core.utils.errors import UserError

K = np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]])
TRUTH = Pose(np.eye(3), np.array([0.05, -0.03, 0.6]))


@pytest.fixture(scope="module")
def box() -> RayCaster:
    """A box of 8 x 6 x 10 cm."""
    corners = np.array([[x, y, z] for x in (-0.04, 0.04) for y in (-0.03, 0.03) for z in (-0.05, 0.05)])
    sides = ([0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3])
    return RayCaster(corners, np.array([face for a, b, c, d in sides for face in ([a, b, c], [a, c, d])]))


DIAMETER = float(np.linalg.norm([0.08, 0.06, 0.1]))


@pytest.mark.parametrize("factor", [0.95, 1.0, 1.04])
def test_depth_is_corrected(box, factor):
    depth = render_depth(box, TRUTH, K, (320, 240))
    wrong = Pose(TRUTH.cam_R_obj, factor * TRUTH.cam_t_obj)
    found = moved_to_depth(box, DIAMETER, wrong, depth, K)
    np.testing.assert_allclose(found.cam_t_obj, TRUTH.cam_t_obj, atol=1e-4)  # metres
    np.testing.assert_array_equal(found.cam_R_obj, TRUTH.cam_R_obj)


def test_what_stands_before_and_behind_is_left_out(box):
    depth = render_depth(box, TRUTH, K, (320, 240))
    depth[depth == 0] = 1.5  # a wall
    depth[:, :180] = 0.3  # something that hides a part of it
    depth[::7] = np.nan
    found = moved_to_depth(box, DIAMETER, Pose(TRUTH.cam_R_obj, 1.03 * TRUTH.cam_t_obj), depth, K)
    np.testing.assert_allclose(found.cam_t_obj, TRUTH.cam_t_obj, atol=3e-3)


def test_without_measurements_it_stays(box):
    wrong = Pose(TRUTH.cam_R_obj, 1.03 * TRUTH.cam_t_obj)
    for depth in (np.zeros((240, 320)), np.full((240, 320), 3.0), np.full((240, 320), np.nan)):
        assert moved_to_depth(box, DIAMETER, wrong, depth, K) is wrong
    with pytest.raises(UserError, match="a depth image must be"):
        moved_to_depth(box, DIAMETER, wrong, np.zeros((2, 2, 3)), K)
