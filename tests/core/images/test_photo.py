"""Photographs of all kinds become RGB of 8 bits."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sopose.core.images.photo import as_rgb, read_photo
from sopose.core.utils.errors import UserError

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        RGB,
        np.dstack([RGB, np.full((6, 8), 7, np.uint8)]),
        RGB.astype(np.uint16) * 257,
        RGB.astype(np.float32) / 255,
        np.asfortranarray(RGB),
    ],
    ids=["rgb", "rgba", "16 bit", "float", "other layout"],
)
def test_what_is_the_same_image_becomes_the_same(image):
    assert np.array_equal(as_rgb(image), RGB)
    assert as_rgb(image).dtype == np.uint8 and as_rgb(image).flags.c_contiguous


def test_grey_has_three_equal_channels():
    grey = RGB[..., 0]
    for image in (grey, grey[..., None], grey.astype(np.uint16) * 257):
        assert np.array_equal(as_rgb(image), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "tiff", "bmp"])
def test_files_are_read_in_this_order_of_channels(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), RGB[..., ::-1])
    assert np.array_equal(as_rgb(path), RGB)
    assert np.array_equal(as_rgb(str(path)), RGB)


def test_files_of_16_bits_grey_and_with_alpha(tmp_path):
    for name, written in {
        "deep.png": RGB[..., ::-1].astype(np.uint16) * 257,
        "alpha.png": np.dstack([RGB[..., ::-1], np.full((6, 8), 9, np.uint8)]),
    }.items():
        cv2.imwrite(str(tmp_path / name), written)
        assert np.array_equal(as_rgb(tmp_path / name), RGB), name
    cv2.imwrite(str(tmp_path / "grey.png"), RGB[..., 0])
    assert np.array_equal(as_rgb(tmp_path / "grey.png"), np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize(
    "image",
    [
        *(np.zeros(shape, np.uint8) for shape in ((2, 2, 5), 4, (0, 3, 3))),
        *(RGB.astype(kind) for kind in (np.int64, np.float32)),
        np.full((2, 2, 3), np.nan),
        None,
        3,
    ],
)
def test_what_is_no_image_is_reported(image):
    with pytest.raises(UserError) as caught:
        as_rgb(image)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_few_bits_in_16_are_reported_once(tmp_path, bits, caplog):
    few = RGB.astype(np.uint16) << (bits - 8)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), few)
        assert as_rgb(tmp_path / name).max() < 64
    (record,) = caplog.records
    assert f"the images of {tmp_path} have 16 bits and values up to 16383 of 65535 at most" in record.message


def test_whole_16_bits_and_black_are_not_reported(tmp_path, caplog):
    for image in (RGB.astype(np.uint16) * 257, np.zeros_like(RGB, np.uint16)):
        cv2.imwrite(str(tmp_path / "a.png"), image)
        read_photo(tmp_path / "a.png", "")
    assert not caplog.records


def test_images_of_data_sets_and_photographs_have_the_same_levels(tmp_path):
    for name, written in {"deep.png": RGB.astype(np.uint16) * 250, "grey.png": RGB[..., 0]}.items():
        cv2.imwrite(str(tmp_path / name), written)
        assert np.array_equal(read_photo(tmp_path / name, "")[..., ::-1], as_rgb(tmp_path / name)), name
