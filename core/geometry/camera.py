"""The pinhole camera. K is (3, 3) in pixels, pixel centres lie at integer coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sopose.core.geometry.arrays import Array
from sopose.core.utils.errors import UserError

FAR_OFF = 0.15  # of the image's side: usual lenses have their principal point nearer to the middle than this
SAME_ASPECT = 0.01  # by which the factors of width and height may differ: sides are whole pixels


@dataclass(frozen=True, eq=False)
class Camera:
    """Intrinsics with the size of the images that they are of."""

    K: np.ndarray  # (3, 3) float64, pixels
    size: tuple[int, int] | None = None  # width and height, pixels; None where nothing says it
    distortion: np.ndarray | None = None  # of the lens, as of `core.geometry.distortion`; None: a pinhole

    def of_images(self, size: tuple[int, int], where: str) -> np.ndarray:
        """K (3, 3) for the same images scaled to a width and height; as it is where its own size is unknown.

        Raises `UserError`, which names `where`, for a size of another aspect: that is no scaled image.
        """
        if self.size is None or tuple(size) == tuple(self.size):
            return self.K
        factors = np.array(size) / self.size
        if abs(factors[0] / factors[1] - 1) > SAME_ASPECT:
            raise UserError(
                f"{where} is the camera of images of {self.size[0]} x {self.size[1]} pixels, and the image has "
                f"{size[0]} x {size[1]}, which is no scaled one; give the camera of these images"
            )
        return scaled_intrinsics(self.K, factors)


def scaled_intrinsics(K: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """K (3, 3) for images whose width and height are multiplied by factors (2,)."""
    # A resize scales about the image corner (-0.5, -0.5), not about the first pixel's centre.
    x, y = factors
    return np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1]]) @ K


def intrinsics_fault(K: np.ndarray) -> str:
    """Why (3, 3) numbers are no intrinsics, in words that follow a name; empty where they are."""
    if not np.isfinite(K).all():
        return "must be finite numbers"
    negative = [f"{name} = {K[k, k]:g}" for k, name in enumerate(("fx", "fy")) if K[k, k] <= 0]
    if negative:
        has = " and ".join(negative)
        return f"has {has}, focal lengths must be above zero where x points right, y down and z forward"
    if (K[2] != (0, 0, 1)).any() or not np.linalg.det(K) > 0:
        by_columns = tuple(K[:, 2]) == (0, 0, 1) and K[2, :2].any()
        return "must have an inverse and end in 0, 0, 1" + (": it is written column by column" if by_columns else "")
    return ""


def as_K(K: np.ndarray | Sequence[float]) -> np.ndarray:
    """Intrinsics (3, 3) float64, pixels, of a matrix or of (fx, fy, cx, cy). Raises `UserError` for what is none."""
    try:
        values = np.asarray(K, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"K must be (3, 3) numbers or (fx, fy, cx, cy), got {str(K)[:60]}") from error
    if values.shape == (4,):
        fx, fy, cx, cy = values
        values = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    fault = intrinsics_fault(values) if values.shape == (3, 3) else "has another shape"
    if fault:
        raise UserError(f"K must be (3, 3) or (fx, fy, cx, cy), pixels, and {fault}; got {np.asarray(K).tolist()}")
    return values


def check_camera(K: np.ndarray, width: int, height: int) -> list[str]:
    """What is odd about a camera K (3, 3) for images of this size, pixels.

    Raises `UserError` where the principal point is outside of the image, as with the K of another resolution.
    """
    (cx, cy), size = K[:2, 2], np.array([width, height])
    if not (0 <= cx <= width - 1 and 0 <= cy <= height - 1):
        raise UserError(
            f"K has its principal point at ({cx:.0f}, {cy:.0f}), outside of the image of {width} x {height} pixels; "
            f"K of another resolution? scale fx, fy, cx, cy by the same factor as the image"
        )
    off = np.abs(np.array([cx, cy]) - (size - 1) / 2) / size
    if off.max() > FAR_OFF:
        return [f"K's principal point ({cx:.0f}, {cy:.0f}) is far from the middle of {width} x {height}"]
    return []


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
    grid = np.empty((2, height, width))  # all u, then all v: what is computed of them runs along long rows
    grid[0] = np.arange(width)
    grid[1] = np.arange(height)[:, None]
    return grid.transpose(1, 2, 0)


def backproject(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Lift (H, W) depth along the optical axis, metres, to (H, W, 3) camera-frame points."""
    height, width = depth.shape
    return pixel_rays(K, pixel_grid(width, height)) * depth[..., None]
