"""Drawings land where the geometry says."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.raycast import RayCaster
from sopose.core.render.looks import Body
from sopose.core.vis.blended import blend_bodies
from sopose.core.vis.colors import AXES, ESTIMATE, TRUTH, bgr
from sopose.core.vis.overlays import (
    contour,
    draw_axes,
    draw_box,
    draw_pose_contours,
    legend,
    object_view,
    pose_box,
    pose_close_up,
)

K = np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]])
TRUE = Pose(np.eye(3), np.array([0.0, 0.0, 1.0]))


@pytest.fixture
def image() -> np.ndarray:
    return np.zeros((240, 320, 3), np.uint8)


@pytest.fixture
def square() -> RayCaster:
    """A 20 cm square facing the camera; 60 pixels at one metre."""
    corners = 0.1 * np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    return RayCaster(corners, np.array([[0, 1, 2], [0, 2, 3]]))


def where(image: np.ndarray, color: str) -> np.ndarray:
    """(N, 2) pixels u, v of this colour on black, at half its strength or more (lines are smoothed)."""
    target = np.array(bgr(color), float)
    strength = image @ target / (target @ target)
    off = np.abs(image - strength[..., None] * target).max(-1)
    return np.argwhere((strength > 0.5) & (off < 12))[:, ::-1]


def test_a_contour_runs_around_the_mask_and_leaves_the_image_alone(image):
    mask = np.zeros(image.shape[:2], bool)
    mask[50:101, 60:121] = True
    drawn = contour(image, mask, TRUTH, thickness=1)
    pixels = where(drawn, TRUTH)
    np.testing.assert_array_equal(pixels.min(0), [60, 50])
    np.testing.assert_array_equal(pixels.max(0), [120, 100])
    assert not (drawn[60:90, 70:110]).any()
    assert not image.any()


def test_estimate_and_truth_lie_around_their_poses(image, square):
    moved = Pose(np.eye(3), np.array([0.2, 0.1, 1.0]))
    drawn = draw_pose_contours(image, K, square, moved, TRUE, thickness=1)
    drawn[:40] = 0  # the legend
    truth, estimate = where(drawn, TRUTH), where(drawn, ESTIMATE)
    # A pixel belongs to the square if its centre does, so a side is right within one pixel.
    np.testing.assert_allclose(truth.min(0), [129.5, 89.5], atol=1)
    np.testing.assert_allclose(truth.max(0), [189.5, 149.5], atol=1)
    np.testing.assert_allclose(estimate.min(0), [189.5, 119.5], atol=1)
    np.testing.assert_allclose(estimate.max(0), [249.5, 179.5], atol=1)


def test_a_close_up_shows_the_same_rays(image, square):
    view, view_K = object_view(image, K, np.array([100.0, 80, 140, 110]), size=200, margin=1.5)
    assert view.shape == (200, 200, 3)
    uv = project(np.linalg.inv(K) @ [120.0, 95, 1], view_K)
    np.testing.assert_allclose(uv, [99.5, 99.5], atol=1e-9)  # the box's centre is the view's centre


def test_the_close_up_copies_the_image_where_its_camera_says(image):
    image[95, 120] = 255
    view, view_K = object_view(image, K, np.array([100.0, 80, 140, 110]), size=300, margin=1.5)
    bright = np.argwhere(view[..., 0] > 200)[:, ::-1].mean(0)
    expected = (view_K @ np.linalg.inv(K) @ [120, 95, 1])[:2]
    np.testing.assert_allclose(bright, expected, atol=0.5)


def test_a_pose_close_up_is_centred_on_the_truth(image, square):
    drawn = pose_close_up(image, K, square, TRUE, TRUE, size=256)
    drawn[:24] = 0  # the legend
    pixels = where(drawn, ESTIMATE)
    np.testing.assert_allclose(pixels.mean(0), [127.5, 127.5], atol=2)
    assert np.ptp(pixels[:, 0]) > 150


def test_axes_and_box_are_drawn_from_the_pose(image, square):
    axes = draw_axes(image, K, TRUE, 0.2)
    red = where(axes, AXES[0])
    assert red[:, 0].max() == pytest.approx(159.5 + 60, abs=3)
    box = where(draw_box(image, K, TRUE, np.array([-0.1, -0.1, 0]), np.array([0.2, 0.2, 0.1])), ESTIMATE)
    np.testing.assert_allclose([box.min(0), box.max(0)], [[129.5, 89.5], [189.5, 149.5]], atol=1)
    np.testing.assert_allclose(pose_box(K, [TRUE], square.vertices), [129.5, 89.5, 189.5, 149.5])


def test_what_lies_behind_the_camera_is_not_drawn(image):
    behind = Pose(np.eye(3), np.array([0, 0, -1.0]))
    assert not draw_axes(image, K, behind, 0.1).any()
    assert not draw_box(image, K, behind, -np.ones(3) / 10, np.ones(3) / 5).any()


def test_models_are_blended_where_they_are_seen_and_nearest_first(image):
    image[:] = 100
    mesh = trimesh.creation.box((0.2, 0.2, 0.2))
    corners, faces = np.array(mesh.vertices), np.array(mesh.faces)
    bodies = []
    for color, x, z in (((255, 0, 0), 0.0, 1.1), ((0, 255, 0), 0.1, 2.1)):
        model = ObjectModel(1, "box", corners, faces, 0.35, corners.min(0), np.ptp(corners, axis=0),
                            colors=np.tile(np.array([color], np.uint8), (8, 1)))  # fmt: skip
        bodies.append(Body(model, Pose(np.eye(3), np.array([x, 0, z]))))
    blended = blend_bodies(image, K, bodies, alpha=0.5)
    np.testing.assert_array_equal(blended[:80], 100)
    near, far = blended[120, 160].astype(int), blended[120, 184].astype(int)
    hidden = blend_bodies(image, K, bodies[1:], alpha=0.5)[120, 184]
    assert near[2] > 150 and near[2] > near[1] + 100  # the red one, in BGR
    np.testing.assert_allclose(far, near, atol=5)  # levels; the red one is 60 px wide, and hides the green one here
    assert hidden[1] > hidden[2] + 100
    np.testing.assert_array_equal(blend_bodies(image, K, bodies, alpha=0.0), image)
    behind = [Body(bodies[0].model, Pose(np.eye(3), np.array([0, 0, -1.0])))]
    for none in ([], behind):
        np.testing.assert_array_equal(blend_bodies(image, K, none), image)


def test_a_legend_fits_small_and_large_images():
    for size in (64, 480, 2000):
        canvas = np.full((size, size, 3), 128, np.uint8)
        drawn = legend(canvas, {"truth": TRUTH, "estimate": ESTIMATE})
        assert (drawn != canvas).any() and drawn.shape == canvas.shape
