"""Where pixels and boxes go on a network's input, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopose.core.detection.placement import STRIDE, Placement, letterbox, random_placement

SIZES = st.tuples(st.integers(1, 900), st.integers(1, 900))
SIDES = st.integers(32, 700)
SEEDS = st.integers(0, 10_000)


def boxes_within(size: tuple[int, int], seed: int, count: int = 5) -> np.ndarray:
    """(count, 4) xyxy boxes of an image."""
    corners = np.random.default_rng(seed).uniform(0, np.asarray(size) - 1, (count, 2, 2))
    return np.sort(corners, axis=1).reshape(-1, 4)


@given(SIZES, SIDES)
def test_a_letterbox_shows_the_whole_image_on_whole_strides(size, side):
    placement = letterbox(size, side)
    assert max(placement.scaled_size) == side
    assert all(
        0 <= c - s < STRIDE and c % STRIDE == 0
        for c, s in zip(placement.canvas_size, placement.scaled_size, strict=True)
    )
    corners = placement.boxes_to_input(np.array([[-0.5, -0.5, size[0] - 0.5, size[1] - 0.5]]))
    np.testing.assert_allclose(corners[0] + 0.5, [0, 0, *placement.scaled_size], atol=1e-9)


@given(SIZES, SIDES, SEEDS)
def test_boxes_come_back(size, side, seed):
    placement = random_placement(size, side, (0.5, 2.0), 0.5, np.random.default_rng(seed))
    boxes = boxes_within(size, seed)
    there = placement.boxes_to_input(boxes)
    assert (there[:, 2:] >= there[:, :2]).all()
    np.testing.assert_allclose(placement.boxes_to_image(there), boxes, atol=1e-8)


@given(SIZES, SIDES, SEEDS)
def test_image_or_canvas_covers_the_other(size, side, seed):
    placement = random_placement(size, side, (0.5, 2.0), 0.5, np.random.default_rng(seed))
    for low, length, canvas in zip(placement.offset, placement.scaled_size, placement.canvas_size, strict=True):
        assert (low <= 0 and low + length >= canvas) or (low >= 0 and low + length <= canvas)


@pytest.mark.parametrize("side", [96, 133, 200, 320, 511])
@pytest.mark.parametrize("mirrored", [False, True])
def test_pixels_go_where_boxes_go(side, mirrored):
    """The middle of a bright rectangle, in the image and on the input, to 0.05 pixels."""
    image = np.zeros((150, 200, 3), np.uint8)
    image[40:87, 61:120] = 200
    whole = letterbox((200, 150), side)
    placement = Placement(whole.image_size, whole.scaled_size, whole.canvas_size, (3, 0), mirrored)
    canvas = placement.draw(image)[..., 0].astype(float)
    canvas[:, : placement.offset[0]] = 0
    canvas[whole.scaled_size[1] :] = canvas[:, whole.scaled_size[0] + 3 :] = 0
    middle = [(canvas * grid).sum() / canvas.sum() for grid in np.meshgrid(*map(np.arange, canvas.shape[::-1]))]
    box = placement.boxes_to_input(np.array([[61, 40, 119, 86]]))[0]
    np.testing.assert_allclose(middle, (box[:2] + box[2:]) / 2, atol=0.05)


def test_an_image_of_twice_the_size_has_the_same_input():
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    twice = image.repeat(2, axis=0).repeat(2, axis=1)
    one, two = letterbox((120, 90), 120), letterbox((240, 180), 120)
    np.testing.assert_array_equal(one.draw(image), two.draw(twice))
    boxes = boxes_within((120, 90), 1)
    np.testing.assert_allclose(two.boxes_to_input(2 * (boxes + 0.5) - 0.5), one.boxes_to_input(boxes))


def test_a_mirrored_image_is_drawn_the_other_way_round():
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    placement = Placement((96, 64), (96, 64), (96, 64), mirrored=True)
    np.testing.assert_array_equal(placement.draw(image), image[:, ::-1])
    np.testing.assert_array_equal(placement.boxes_to_input(np.array([[0, 1, 10, 20]])), [[85, 1, 95, 20]])


def test_boxes_are_cut_where_the_image_ends_on_the_input():
    placement = Placement((50, 40), (100, 80), (64, 96), offset=(-20, 10))
    cut = placement.clip(np.array([[-30.0, 0.0, 200.0, 200.0], [5.0, 20.0, 30.0, 40.0]]))
    np.testing.assert_array_equal(cut, [[0, 10, 63, 89], [5, 20, 30, 40]])
