"""Heat maps: distances in the unit asked for, and colours that the colour bar explains."""

from __future__ import annotations

import numpy as np
import pytest

from sopose.core.vis.heatmap import (
    BAR_HEIGHT,
    LABEL_HEIGHT,
    heat_colors,
    heat_map,
    heat_to_rgb,
    map_distance,
    scale_end,
)
from sopose.core.vis.maps import BACKGROUND

EXTENT = np.array([100.0, 50, 200])  # mm
MASK = np.array([[True, False], [True, True]])


def bar_color(picture: np.ndarray, share: float) -> np.ndarray:
    """The colour of a heat map's bar at this share of its length."""
    width = picture.shape[1]
    row = width + round(LABEL_HEIGHT * width) // 4 + round(BAR_HEIGHT * width) // 2
    return picture[row, round(share * (width - 1))]


def test_distances_are_in_the_unit_of_the_extent_and_only_inside_the_mask():
    truth = np.random.default_rng(0).uniform(0, 1, (3, 2, 2))
    offset = np.array([3.0, 0, 4]) / EXTENT  # 5 mm
    distance = map_distance(truth + offset[:, None, None], truth, MASK, EXTENT)
    np.testing.assert_allclose(distance[MASK], 5, atol=1e-12)  # mm
    assert np.isnan(distance[~MASK]).all()
    assert map_distance(truth, truth, MASK, EXTENT)[MASK].tolist() == [0, 0, 0]
    share = map_distance(truth[:2] + 0.5, truth[:2], MASK, 1.0)
    np.testing.assert_allclose(share[MASK], 0.5**0.5, atol=1e-12)


def test_a_known_error_has_the_colour_that_the_bar_shows_there():
    picture = heat_map(np.full((8, 8), 5.0), "mm", end=20.0, width=256)
    assert (picture[:256] == picture[0, 0]).all()
    np.testing.assert_array_equal(picture[0, 0], heat_colors()[64])
    np.testing.assert_allclose(bar_color(picture, 0.25).astype(int), picture[0, 0], atol=2)
    for share, level in ((0, 0), (1, 255)):
        np.testing.assert_array_equal(bar_color(picture, share), heat_colors()[level])


def test_identical_maps_are_of_the_bar_s_first_colour():
    picture = heat_map(np.zeros((4, 4)), "mm")
    assert (picture[: picture.shape[1]] == heat_colors()[0]).all()


def test_what_is_undefined_is_white_and_what_exceeds_the_scale_has_its_last_colour():
    picture = heat_to_rgb(np.array([[np.nan, np.inf], [7.0, -1.0]]), end=2.0)
    assert (picture[0, 0] == BACKGROUND).all()
    np.testing.assert_array_equal(picture[[0, 1, 1], [1, 0, 1]], heat_colors()[[255, 255, 0]])
    plain, marked = heat_map(np.full((4, 4), 2.0), "mm", 2.0), heat_map(np.full((4, 4), 2.1), "mm", 2.0)
    assert (plain[:256] == marked[:256]).all() and (plain[256:] != marked[256:]).any()  # the mark for more


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [np.nan, np.inf, 1e38])
def test_no_number_is_too_bad_to_be_drawn(number):
    bad = np.full((3, 2, 2), number, np.float32)
    distance = map_distance(bad, np.zeros((3, 2, 2), np.float32), MASK, EXTENT)
    assert (distance[MASK] > 1e30).all()  # NaN is infinitely wrong, inside the mask
    picture = heat_map(distance, "mm", 10.0, width=64)
    assert (picture[:64][np.kron(MASK, np.ones((32, 32), bool))] == heat_colors()[255]).all()
    assert (picture[:32, 32:] == BACKGROUND).all()
    heat_map(distance, "mm")
    heat_map(np.full((2, 2), np.nan), "mm")


@pytest.mark.parametrize(
    ("values", "end"),
    [([0.0], 1), ([np.nan, np.inf], 1), ([3.0], 5), ([5.0], 5), ([0.012], 0.02), ([70.0], 100), ([0.1 + 0.2], 0.5)],
)
def test_a_scale_ends_at_a_round_number(values, end):
    assert scale_end(np.array(values)) == pytest.approx(end, rel=1e-12)


def test_a_few_outliers_do_not_stretch_the_scale():
    values = np.full(1000, 4.0)
    values[:20] = 900
    assert scale_end(values) == 5


def test_a_map_keeps_its_shape_and_its_cells():
    values = np.zeros((3, 6))
    values[1, 2] = 1.0
    picture = heat_map(values, "mm", 1.0, width=240)[:120]
    assert (picture[40:80, 80:120] == heat_colors()[255]).all()
    assert (picture == heat_colors()[255]).all(-1).sum() == 40 * 40
