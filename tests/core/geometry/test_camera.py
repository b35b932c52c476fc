"""Intrinsics: one rule for what is a camera, and what happens to it when images are scaled."""

from __future__ import annotations

import numpy as np
import pytest

from sopose.core.bop.fields import read_intrinsics
from sopose.core.geometry.camera import Camera, as_K, check_camera, pixel_grid, pixel_rays, project, scaled_intrinsics
from sopose.core.utils.errors import UserError


def test_a_camera_is_a_matrix_or_four_numbers():
    K = np.array([[600.0, 0, 320], [0, 610, 240], [0, 0, 1]])
    assert np.array_equal(as_K(K), K) and np.array_equal(as_K((600, 610, 320, 240)), K)
    assert np.array_equal(as_K(K.tolist()), K)


@pytest.mark.parametrize(
    "K",
    [
        *(np.eye(2), np.zeros((3, 3)), np.full((3, 3), np.nan), np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 2]])),
        *((1, 2, 3), (600, 600, np.inf, 240), (-600, 600, 320, 240), [[1, 2], [3]], "abc"),
    ],
)
def test_what_is_no_camera_is_reported(K):
    with pytest.raises(UserError, match=r"^K must be"):
        as_K(K)


def test_the_camera_of_another_resolution_is_reported():
    K = as_K((600, 600, 320, 240))
    assert check_camera(K, 640, 480) == []
    with pytest.raises(UserError, match="another resolution"):
        check_camera(K, 320, 240)
    assert "far from the middle" in check_camera(K, 1280, 960)[0]


@pytest.mark.parametrize(
    ("K", "words"),
    [
        ([-600, 0, 320, 0, 600, 240, 0, 0, 1], "fx = -600, focal lengths must be above zero"),
        ([600, 0, 0, 0, 600, 0, 320, 240, 1], "end in 0, 0, 1: it is written column by column"),
        ([600, 600, 320, 600, 600, 240, 0, 0, 1], "must have an inverse"),
    ],
)
def test_annotations_and_photographs_follow_one_rule(K, words):
    with pytest.raises(UserError, match=words):
        as_K(np.reshape(K, (3, 3)))
    with pytest.raises(UserError, match=f"image 3: cam_K .*{words}"):
        read_intrinsics({"cam_K": K}, "image 3")


def test_a_scaled_image_s_camera_sees_the_same_scene():
    """A point of the scene lies at the same share of the image: pixels are areas about integer centres."""
    K, factors = as_K((480, 485, 196.7, 151.7)), np.array([0.8, 0.5])
    rays = pixel_rays(K, pixel_grid(400, 300))
    shares = (pixel_grid(400, 300) + 0.5) * factors
    np.testing.assert_allclose(project(rays, scaled_intrinsics(K, factors)) + 0.5, shares, atol=1e-9)


def test_a_camera_fits_scaled_images_and_no_cut_ones():
    K = as_K((480, 484.8, 196.6875, 151.6875))
    camera = Camera(K, (400, 300))
    assert camera.of_images((400, 300), "camera.json") is K
    scaled = camera.of_images((320, 240), "camera.json")
    np.testing.assert_allclose(scaled, [[384, 0, 157.25], [0, 387.84, 121.25], [0, 0, 1]], atol=1e-12)
    assert Camera(K).of_images((7, 5), "camera.json") is K  # nothing says its size
    with pytest.raises(UserError, match=r"camera\.json is the camera of images of 400 x 300 pixels.*640 x 360"):
        camera.of_images((640, 360), "camera.json")
