"""MSSD, MSPD and symmetric proj of objects with many symmetries: most of them are ruled out without their points.

The numbers are those of `pairs`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sopose.core.evaluation.pairs import PosePairs, displacements, pixel_distances
from sopose.core.geometry.pose import Pose

# Metres by which a distance from second moments may be too small: the root of what rounding leaves of a square.
ROUNDING = 1e-8


def pruned_mssd(pairs: PosePairs, points: np.ndarray, symmetries: np.ndarray, probes: np.ndarray) -> np.ndarray:
    """MSSD (N,), metres. `probes` (M, 3) are some of the points (corners of their hull are a good choice).

    The largest distance of a probe bounds a symmetry's error from below, so few symmetries need to see all points.
    """
    return _least_maximum(displacements, pairs, points, symmetries, probes)


def pruned_mspd(pairs: PosePairs, points: np.ndarray, symmetries: np.ndarray, probes: np.ndarray) -> np.ndarray:
    """MSPD (N,), pixels; `probes` as in `pruned_mssd`."""
    return _least_maximum(pixel_distances, pairs, points, symmetries, probes)


def pruned_proj(pairs: PosePairs, points: np.ndarray, symmetries: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """The least mean distances (N,) of projected points, pixels; `apart` (S, S) are `symmetry_distances` of the points.

    Symmetries that are near each other have errors near each other, so those near bad ones are left out.
    """
    best = np.full(len(pairs), np.inf)
    for pair in range(len(pairs)):
        slope = _pixels_per_metre(*pairs.poses(pair)[1:], points, symmetries)
        bounds, unseen = np.zeros(len(symmetries)), np.ones(len(symmetries), bool)
        while unseen.any():
            index = int(np.where(unseen, bounds, np.inf).argmin())
            if bounds[index] >= best[pair]:
                break
            error = pixel_distances(pairs[[pair]].after(symmetries[index, None]), points).mean()
            unseen[index], best[pair] = False, min(best[pair], error)
            bounds = np.maximum(bounds, error - slope * apart[index])
    return best


def symmetry_distances(points: np.ndarray, symmetries: np.ndarray) -> np.ndarray:
    """(S, S) root mean square distances, metres, of the (V, 3) points after each two symmetries."""
    homogeneous = np.column_stack([points, np.ones(len(points))])
    moments = homogeneous.T @ homogeneous / len(points)
    rows = symmetries[:, :3].reshape(-1, 12)
    # |A - B|² = |A|² + |B|² - 2 A·B, with the product that the points' second moments define.
    products = (symmetries[:, :3] @ moments).reshape(-1, 12) @ rows.T
    squares = np.diag(products)
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0)) + ROUNDING


def _least_maximum(
    distances: Callable[[PosePairs, np.ndarray], np.ndarray],  # of N pairs and V points, (N, V)
    pairs: PosePairs,
    points: np.ndarray,
    symmetries: np.ndarray,
    probes: np.ndarray,
) -> np.ndarray:
    """The least (N,) over symmetries of the largest distance of a point."""
    best = np.full(len(pairs), np.inf)
    for pair in range(len(pairs)):
        bounds = distances(pairs[[pair]].after(symmetries), probes).max(axis=1)
        for index in np.argsort(bounds, kind="stable"):
            if bounds[index] >= best[pair]:
                break
            largest = distances(pairs[[pair]].after(symmetries[index, None]), points).max()
            best[pair] = min(best[pair], largest)
    return best


def _pixels_per_metre(gt: Pose, K: np.ndarray, points: np.ndarray, symmetries: np.ndarray) -> float:
    """Pixels by which a point of any symmetric truth moves at most when it moves by a metre.

    It is inf where a point may lie behind the camera. A point (x, y, z) that moves by d to depth z' moves in the
    image by |(dx - x/z dz, dy - y/z dz)| / z' ≤ |d| sqrt(1 + (x/z)² + (y/z)²) / z' in focal lengths.
    """
    offsets = np.linalg.norm(symmetries[:, :3, 3], axis=1).max()
    stretch = np.linalg.norm(gt.cam_R_obj, 2)  # 1, but for a file's rounding
    radius = stretch * (np.linalg.norm(points, axis=1).max() + offsets)
    x, y, z = gt.cam_t_obj
    nearest = z - radius
    if nearest <= 0:
        return np.inf
    tangent = (np.hypot(x, y) + radius) / nearest
    return float(stretch * np.linalg.norm(K[:2, :2], 2) * np.sqrt(1 + tangent**2) / nearest)
