"""The law of sample positions, the bounds of dynamic zoom-in, and bad boxes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sopose.core.data.roi import (
    DZI_TYPES,
    Roi,
    coord_2d,
    crop_image,
    crop_of_other_camera,
    eval_roi,
    inside_image,
    roi_positions,
    sample_dzi,
)
from sopose.core.geometry.camera import times_homogeneous
from sopose.core.geometry.rolls import roll_about, rolled_homography
from sopose.core.utils.errors import UserError

SIZE = (640, 480)
K = np.array([[570.0, 0, 320], [0, 570, 240], [0, 0, 1]])
BOX = np.array([100.0, 50.0, 180.0, 90.0])


def ramp(size: tuple[int, int]) -> np.ndarray:
    """(H, W, 2) float32 image whose value is its own pixel position."""
    return np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), axis=-1).astype(np.float32)


def test_test_roi_is_the_padded_longer_side_about_the_centre():
    roi = eval_roi(BOX, SIZE, pad_scale=1.5)
    np.testing.assert_array_equal(roi.center, [140, 70])
    assert roi.size == 120
    np.testing.assert_array_equal(roi.wh, [80, 40])


def test_an_roi_is_no_larger_than_the_image():
    assert eval_roi(np.array([0.0, 0.0, 640.0, 480.0]), SIZE, pad_scale=1.5).size == 640


def test_positions_of_an_roi_that_is_the_image_are_its_pixels():
    roi = Roi(np.array([32.0, 32.0]), 64.0, np.array([64.0, 64.0]))
    positions = roi_positions(roi, 64)
    np.testing.assert_array_equal(positions, ramp((64, 64)))
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(crop_image(image, roi, 64), image)


@pytest.mark.parametrize("out", [37, 64])
def test_a_crop_holds_the_values_at_its_positions(out):
    roi = Roi(np.array([301.3, 199.8]), 91.7, np.array([50.0, 60.0]))
    crop = crop_image(ramp(SIZE), roi, out)
    # OpenCV interpolates at 1/32 pixel.
    np.testing.assert_allclose(crop, roi_positions(roi, out), rtol=0, atol=1 / 32)


@pytest.mark.parametrize("roll", [0.0, 25.0, -170.0])
def test_a_rolled_crop_holds_the_values_at_its_positions(roll):
    roi = Roi(np.array([301.3, 199.8]), 91.7, np.array([50.0, 60.0]))
    H = rolled_homography(K, roll_about(K, roi.center, roll))
    positions = times_homogeneous(H, roi_positions(roi, 40))
    crop = crop_of_other_camera(ramp(SIZE), roi, 40, H)
    np.testing.assert_allclose(crop, positions[..., :2] / positions[..., 2:], rtol=0, atol=1 / 16)
    if roll == 0:
        np.testing.assert_allclose(crop, crop_image(ramp(SIZE), roi, 40), rtol=0, atol=1 / 16)


def test_a_nearest_crop_takes_the_nearest_pixel():
    roi = Roi(np.array([301.3, 199.8]), 91.7, np.array([50.0, 60.0]))
    crop = crop_image(ramp(SIZE), roi, 64, cv2.INTER_NEAREST)
    assert np.abs(crop - roi_positions(roi, 64)).max() <= 0.5 + 1 / 32


def test_a_crop_is_black_outside_of_the_image():
    roi = Roi(np.array([0.0, 0.0]), 100.0, np.array([60.0, 60.0]))
    crop = crop_image(np.full((480, 640), 255, np.uint8), roi, 50)
    positions = roi_positions(roi, 50)
    np.testing.assert_array_equal(crop[(positions <= -1).any(axis=-1)], 0)
    np.testing.assert_array_equal(crop[(positions >= 0).all(axis=-1)], 255)


def test_inside_image_is_within_half_a_pixel_of_a_pixel_centre():
    points = np.array([[0.0, 0.0], [-0.6, 0.0], [-0.5, 479.4], [639.4, 0.0], [639.6, 0.0], [0.0, 479.6]])
    np.testing.assert_array_equal(inside_image(points, SIZE), [True, False, True, True, False, False])


def test_coord_2d_runs_from_zero_to_one_over_the_image():
    relative = coord_2d(ramp(SIZE).astype(float), SIZE)
    assert relative.shape == (2, 480, 640) and relative.dtype == np.float32
    assert relative[0, 0, 0] == 0 and relative[0, 0, -1] == 1 and relative[1, -1, 0] == 1


@pytest.mark.parametrize("dzi_type", ["uniform", "truncnorm"])
def test_dzi_stays_within_and_comes_near_its_bounds(dzi_type):
    rng = np.random.default_rng(1)
    rois = [sample_dzi(BOX, SIZE, rng, dzi_type, 1.5, 0.25, 0.2) for _ in range(1000)]
    shift = (np.array([roi.center for roi in rois]) - [140, 70]) / [80, 40]
    scale = np.array([roi.size for roi in rois]) / 120
    assert np.abs(shift).max() <= 0.2 and np.abs(scale - 1).max() <= 0.25
    assert np.abs(shift).max() > 0.15 and np.abs(scale - 1).max() > 0.2
    assert all((roi.wh == [80, 40]).all() for roi in rois)


def test_dzi_roi10d_moves_each_side_by_at_most_15_percent():
    rng = np.random.default_rng(2)
    rois = [sample_dzi(BOX, SIZE, rng, "roi10d", 1.5) for _ in range(500)]
    assert all(0.7 <= roi.size / 120 <= 1.3 for roi in rois)
    assert all((np.abs(roi.center - [140, 70]) <= [12, 6]).all() for roi in rois)


def test_dzi_none_is_the_test_roi():
    roi = sample_dzi(BOX, SIZE, np.random.default_rng(0), "none", 1.5)
    expected = eval_roi(BOX, SIZE, 1.5)
    assert roi.size == expected.size and (roi.center == expected.center).all()


@pytest.mark.parametrize("dzi_type", sorted(DZI_TYPES))
def test_dzi_repeats_with_its_seed(dzi_type):
    first, second = (sample_dzi(BOX, SIZE, np.random.default_rng(3), dzi_type) for _ in range(2))
    assert first.size == second.size and (first.center == second.center).all()


def test_an_unknown_dzi_type_is_reported_its_neighbour():
    with pytest.raises(UserError, match="did you mean 'uniform'"):
        sample_dzi(BOX, SIZE, np.random.default_rng(0), "unifrm")


@pytest.mark.parametrize("box", [np.zeros(3), np.array([0.0, np.nan, 1.0, 1.0])])
def test_a_box_that_is_none_is_refused(box):
    with pytest.raises(UserError, match="four finite numbers"):
        eval_roi(box, SIZE, 1.5)


def test_a_box_without_area_gives_a_usable_roi():
    roi = eval_roi(np.array([5.0, 5.0, 5.0, 5.0]), SIZE, 1.5)
    assert roi.size > 0 and (roi.wh > 0).all()
