"""The pinhole camera. K is (3, 3) in pixels, pixel centres lie at integer coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", np.ndarray, "Tensor")


def project(points_cam: Array, K: Array) -> Array:
    """Camera-frame points (..., 3), metres, to pixels (..., 2). K is (3, 3) or broadcasts as (..., 3, 3)."""
    # One camera for all points is one matrix product; a product for each point is several times slower.
    homogeneous = points_cam @ K.T if K.ndim == 2 else (K @ points_cam[..., None])[..., 0]
    return homogeneous[..., :2] / homogeneous[..., 2:]


def pixel_rays(K: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Ray directions `K^-1 (u, v, 1)` of pixels (..., 2): (..., 3) with z = 1, so that a point's depth is its λ."""
    return times_homogeneous(np.linalg.inv(K), uv)


def times_homogeneous(matrix: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """`matrix (u, v, 1)` of pixels (..., 2) with a (3, 3) matrix: (..., 3)."""
    rows = matrix[:, :2] @ uv.reshape(-1, 2).T + matrix[:, 2:]  # long rows, along which numpy is faster
    return rows.T.reshape(*uv.shape[:-1], 3)


def pixel_grid(width: int, height: int) -> np.ndarray:
    """(H, W, 2) float64 pixel coordinates (u, v) of an image's pixel centres."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float64)


def backproject(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Lift (H, W) depth along the optical axis, metres, to (H, W, 3) camera-frame points."""
    height, width = depth.shape
    return pixel_rays(K, pixel_grid(width, height)) * depth[..., None]
