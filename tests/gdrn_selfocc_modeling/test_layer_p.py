"""P as an image: zero outside the mask, the right pixel inside, normalised by the extent."""

from __future__ import annotations

import numpy as np

from sopose.core.geometry.pose import Pose
from sopose.core.rays.raycast import RayCaster
from sopose.layers import cast_P, normalise_P

K = np.array([[500.0, 0.0, 320.0], [0.0, 500.0, 240.0], [0.0, 0.0, 1.0]])
# A rectangle of 0.2 x 0.1 m, facing the camera at one metre: 100 x 50 pixels.
RECTANGLE = RayCaster(
    np.array([[-0.1, -0.05, 0], [0.1, -0.05, 0], [0.1, 0.05, 0], [-0.1, 0.05, 0]]),
    np.array([[0, 1, 2], [0, 2, 3]]),
)
FACING = Pose(np.eye(3), np.array([0.0, 0.0, 1.0]))


def test_a_facing_rectangle_shows_its_own_coordinates():
    positions = np.stack(np.meshgrid(np.arange(240.5, 400), np.arange(200.5, 280)), axis=-1)
    P, mask = cast_P(RECTANGLE, FACING, K, positions)
    inside = (np.abs(positions - (320, 240)) < (50, 25)).all(axis=-1)
    assert P.shape == (80, 160, 3)
    assert np.array_equal(mask, inside)
    np.testing.assert_allclose(P[mask][:, :2], (positions[mask] - (320, 240)) / 500, rtol=0, atol=1e-15)
    assert (P[~mask] == 0).all()


def test_an_object_out_of_view_leaves_an_empty_mask():
    P, mask = cast_P(RECTANGLE, FACING, K, np.zeros((4, 6, 2)))
    assert not mask.any() and not P.any()
    assert mask.shape == (4, 6)


def test_normalising_maps_the_box_to_zero_and_one():
    extent = np.array([0.2, 0.1, 0.4])
    assert normalise_P(np.stack([-extent / 2, 0 * extent, extent / 2]), extent).tolist() == [
        [0, 0, 0],
        [0.5, 0.5, 0.5],
        [1, 1, 1],
    ]
