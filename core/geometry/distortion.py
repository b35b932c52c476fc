"""Lenses that bend straight lines: OpenCV's coefficients (k1, k2, p1, p2[, k3[, k4, k5, k6[, s1 to s4[, tx, ty]]]])."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from sopose.core.utils.errors import UserError

COUNTS = (4, 5, 8, 12, 14)  # of coefficients that OpenCV takes
EDGE_POINTS = 9  # of a box's side that are looked at: it is bent too


def as_distortion(values: Sequence[float] | np.ndarray | None, where: str = "the distortion") -> np.ndarray | None:
    """OpenCV's coefficients (n,) float64; None for None and where all are zero.

    Raises `UserError` for anything else.
    """
    if values is None:
        return None
    try:
        coefficients = np.asarray(values, np.float64).reshape(-1)
    except (TypeError, ValueError):
        coefficients = np.empty(0)
    if len(coefficients) not in COUNTS or not np.isfinite(coefficients).all():
        raise UserError(
            f"{where} must be {', '.join(map(str, COUNTS))} finite numbers k1, k2, p1, p2, k3, …, as OpenCV's "
            f"calibration gives them, got {str(values)[:60]}"
        )
    return coefficients if coefficients.any() else None


def undistorted(image: np.ndarray, K: np.ndarray, distortion: np.ndarray, exact: bool = False) -> np.ndarray:
    """An image (H, W) or (H, W, C) as a camera with the same K (3, 3) and no distortion takes it.

    exact: each pixel has the value of one pixel, as of depth images; else values are interpolated. What the camera has
    not seen is 0.
    """
    size = image.shape[1::-1]
    u, v = cv2.initUndistortRectifyMap(K, distortion, None, K, size, cv2.CV_32FC1)
    return cv2.remap(image, u, v, cv2.INTER_NEAREST if exact else cv2.INTER_LINEAR)


def undistorted_box(box: np.ndarray, K: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """The box (4,) xyxy around what a box of the distorted image holds, pixels of the undistorted one."""
    x1, y1, x2, y2 = np.asarray(box, np.float64)
    along = np.linspace(0, 1, EDGE_POINTS)
    x, y = x1 + along * (x2 - x1), y1 + along * (y2 - y1)
    sides = [(x, y1), (x, y2), (x1, y), (x2, y)]
    points = np.concatenate([np.stack(np.broadcast_arrays(*side), axis=-1) for side in sides])
    straight = cv2.undistortPoints(points[:, None], K, distortion, P=K)[:, 0]
    return np.concatenate([straight.min(axis=0), straight.max(axis=0)])
