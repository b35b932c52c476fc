"""Maps as colours: known values, masks, layout."""

from __future__ import annotations

import numpy as np
import pytest

from core.vis.maps import BACKGROUND, coordinates_to_rgb, grey_to_rgb, grid, pair_to_rgb


def test_coordinates_are_colours_inside_the_mask_only():
    coordinates = np.zeros((3, 2, 2))
    coordinates[:, 0, 1] = [1.0, 0.5, -3.0]  # beyond the range is cut
    mask = np.array([[False, True], [True, False]])
    picture = coordinates_to_rgb(coordinates, mask)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[0, 1], [255, 128, 0])
    np.testing.assert_array_equal(picture[1, 0], [0, 0, 0])
    assert (picture[~mask] == BACKGROUND).all()


def test_different_pairs_have_different_colours():
    steps = np.linspace(0, 1, 6)
    pair = np.stack(np.meshgrid(steps, steps))
    colors = pair_to_rgb(pair, np.ones((6, 6), bool)).reshape(-1, 3).astype(int)
    distances = np.abs(colors[:, None] - colors[None]).sum(-1)
    assert distances[~np.eye(36, dtype=bool)].min() > 20  # of 765


def test_undefined_values_do_not_fail():
    picture = pair_to_rgb(np.full((2, 3, 3), np.nan), np.zeros((3, 3), bool))
    assert (picture == BACKGROUND).all()
    np.testing.assert_array_equal(grey_to_rgb(np.array([[0.0, 1, 9, np.nan]]))[0, :, 0], [0, 255, 255, 0])


def test_a_grid_keeps_every_picture_whole():
    red = np.zeros((10, 20, 3), np.uint8)
    red[..., 0] = 255
    panels = [("first", red), ("a title that is far too long for its panel", red), ("third", red)]
    row, block = grid(panels, size=100), grid(panels, columns=2, size=100)
    assert block.shape == (2 * row.shape[0], row.shape[1] * 2 // 3, 3)
    assert (row == [255, 0, 0]).all(-1).sum() == 3 * 100 * 50
    with pytest.raises(ValueError, match="panel"):
        grid([])
