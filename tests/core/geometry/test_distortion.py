"""Laws of distorted images: undistorted, points lie where a pinhole camera has them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sopose.core.geometry.distortion import as_distortion, undistorted, undistorted_box
from sopose.core.utils.errors import UserError

K = np.array([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]])
LENS = np.array([-0.25, 0.08, 0.001, -0.0005, 0.0])


def seen(points_cam: np.ndarray, lens: np.ndarray) -> np.ndarray:
    """Pixels (N, 2) of points (N, 3) through a lens."""
    return cv2.projectPoints(points_cam, np.zeros(3), np.zeros(3), K, lens)[0][:, 0]


def test_dots_lie_where_a_pinhole_camera_has_them():
    points = np.array([[x, y, 1.0] for x in (-0.5, -0.2, 0.1, 0.4) for y in (-0.35, 0.0, 0.3)])
    image = np.zeros((480, 640), np.float32)
    for u, v in seen(points, LENS):
        grid = np.stack(np.meshgrid(np.arange(640), np.arange(480)), axis=-1)
        image += np.exp(-((grid - [u, v]) ** 2).sum(axis=-1) / 18).astype(np.float32)
    straight = undistorted(image, K, LENS)
    for (x, y, _), (u, v) in zip(points, seen(points, np.zeros(5)), strict=True):
        window = straight[round(v) - 12 : round(v) + 13, round(u) - 12 : round(u) + 13]
        at = np.stack(np.meshgrid(*[np.arange(-12, 13)] * 2), axis=-1)
        middle = (at * window[..., None]).sum((0, 1)) / window.sum() + [round(u), round(v)]
        assert np.linalg.norm(middle - [u, v]) < 0.6, (x, y)  # pixels


def test_boxes_hold_what_they_held():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-0.5, 0.5, (200, 2)) * [1, 0.7], np.ones((200, 1))], axis=1)
    bent = seen(points, LENS)
    box = undistorted_box(np.concatenate([bent.min(0), bent.max(0)]), K, LENS)
    straight = seen(points, np.zeros(5))
    assert (straight >= box[:2] - 0.5).all() and (straight <= box[2:] + 0.5).all()


def test_depth_keeps_its_values():
    depth = np.random.default_rng(0).choice([0.5, 2.0], (480, 640))
    assert set(np.unique(undistorted(depth, K, LENS, exact=True))) <= {0.0, 0.5, 2.0}


def test_none_is_none():
    assert as_distortion(None) is None and as_distortion([0, 0, 0, 0, 0]) is None
    np.testing.assert_array_equal(as_distortion([0.1, 0, 0, 0]), [0.1, 0, 0, 0])


@pytest.mark.parametrize("wrong", [[0.1], [0.1, 0, 0, np.nan], "k1", [[1, 2], [3]], [0.1] * 7])
def test_what_is_no_lens_is_refused(wrong):
    with pytest.raises(UserError, match="must be 4, 5, 8, 12, 14 finite numbers"):
        as_distortion(wrong)
