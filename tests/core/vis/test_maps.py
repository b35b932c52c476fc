"""Maps as colours: known values, masks, layout."""

from __future__ import annotations

import numpy as np
import pytest

from sopose.core.vis.maps import (
    BACKGROUND,
    categories_to_rgb,
    coordinates_to_rgb,
    enlarged,
    grey_to_rgb,
    grid,
    pair_to_rgb,
)


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


def test_neighbouring_labels_have_different_colours_and_a_label_always_the_same():
    labels = np.arange(64).reshape(8, 8)
    picture = categories_to_rgb(labels, labels > 0)
    assert (picture[0, 0] == BACKGROUND).all()
    colors = picture.reshape(64, 3).astype(int)
    distances = np.abs(colors[:, None] - colors[None]).sum(-1)
    assert distances[~np.eye(64, dtype=bool)].min() > 10  # of 765
    assert np.diagonal(distances, 1).min() > 80
    np.testing.assert_array_equal(categories_to_rgb(labels.T, labels.T > 0), picture.swapaxes(0, 1))


def test_strength_is_brightness():
    labels, mask = np.full((1, 4), 3), np.ones((1, 4), bool)
    picture = categories_to_rgb(labels, mask, np.array([[0.0, 0.3, 1.0, np.nan]])).astype(int)[0]
    assert (picture[[0, 3]] == 0).all()
    np.testing.assert_array_equal(picture[2], categories_to_rgb(labels, mask)[0, 0])
    np.testing.assert_allclose(picture[1], 0.584 * picture[2], atol=1)  # levels; sRGB encodes 0.3 of the light so


def test_an_enlarged_map_has_no_colours_between_its_own():
    picture = np.random.default_rng(0).integers(0, 255, (4, 8, 3)).astype(np.uint8)
    large = enlarged(picture, 64)
    np.testing.assert_array_equal(large, picture.repeat(8, axis=0).repeat(8, axis=1))
    assert enlarged(large, 64) is large
