"""Q, the second layer: where each pixel's ray crosses the object's three coordinate planes (SO-Pose).

In the object's frame a pixel's ray is `o + λ d` with the camera centre o = -R^T t and d = R^T K^-1 (u, v, 1).
It meets the plane through the object's origin with normal axis k at λ_k = -o_k / d_k. P, Q and the camera
centre lie on one line. Only the pose and K enter, not the mesh.
"""

from __future__ import annotations

import numpy as np

from core.geometry.camera import Array
from core.geometry.pose import Pose
from core.render.raycast import camera_rays

# Below this |d_k| (rays have z = 1 in the camera's frame) the ray runs along the plane and never crosses it.
MIN_SLOPE = 1e-6
# The two coordinates that remain of each plane's point; channel order Q_x: (y, z), Q_y: (x, z), Q_z: (x, y).
PLANE_AXES = np.array([[1, 2], [0, 2], [0, 1]])
_KEPT = (3 * np.arange(3)[:, None] + PLANE_AXES).ravel()  # of the nine numbers (plane, xyz) the six that are stored


def crossings(origin: Array, directions: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Where rays `origin + λ directions` cross the planes, of numpy or torch alike: points (plane, 2, ...), accepted.

    All arguments are (3, ...) with the coordinate first (long rows are faster), metres, the object's frame, and
    broadcast; low and high are the box's corners. accepted is (plane, ...) bool: ahead of the camera, not along the
    plane, strictly inside the box.
    """
    depth = -origin / directions
    points = origin[PLANE_AXES] + depth[:, None] * directions[PLANE_AXES]
    inside = ((points > low[PLANE_AXES]) & (points < high[PLANE_AXES])).all(1)
    # A plane goes through the origin: a box beside the origin has no point of it.
    through = (low < 0) & (high > 0)
    return points, inside & (abs(directions) >= MIN_SLOPE) & (depth > 0) & through


def cast_Q(
    pose: Pose,
    K: np.ndarray,
    positions: np.ndarray,
    mask: np.ndarray,
    bounds_min: np.ndarray,
    extent: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Crossings of the rays of pixels `positions` (h, w, 2) with the object's coordinate planes.

    A crossing is valid where the pixel is on the object (`mask` (h, w) bool) and the point lies ahead of the
    camera and strictly inside the model's box from bounds_min (3,) to bounds_min + extent (3,), metres.
    Returns the six channels of Q (h, w, 6) float64, metres, the object's frame, 0 where invalid, and valid
    (h, w, plane) bool.
    """
    pixel = np.flatnonzero(mask)
    origin, directions = camera_rays(pose, K, positions.reshape(-1, 2).take(pixel, axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        points, accepted = crossings(
            origin[:, None], directions.T.copy(), bounds_min[:, None], (bounds_min + extent)[:, None]
        )
    Q, valid = np.zeros((6, mask.size)), np.zeros((3, mask.size), bool)
    # Row by row: numpy scatters into one row faster than into several at once.
    for row, channel in zip(Q, np.where(accepted[:, None], points, 0.0).reshape(6, -1), strict=True):
        row[pixel] = channel
    for row, plane in zip(valid, accepted, strict=True):
        row[pixel] = plane
    return Q.T.reshape(*mask.shape, 6), valid.T.reshape(*mask.shape, 3)


def plane_hits(
    pose: Pose, K: np.ndarray, positions: np.ndarray, mask: np.ndarray, bounds_min: np.ndarray, extent: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As `cast_Q`, with points (h, w, plane, xyz) in place of channels."""
    Q, valid = cast_Q(pose, K, positions, mask, bounds_min, extent)
    return unpack_Q(Q), valid


def pack_Q(Q: np.ndarray) -> np.ndarray:
    """(..., plane, xyz) to the six channels (..., 6) that are stored and predicted."""
    return Q.reshape(*Q.shape[:-2], 9)[..., _KEPT]


def unpack_Q(Q6: np.ndarray) -> np.ndarray:
    """Six channels (..., 6) to points (..., plane, xyz); the coordinate across each plane is 0."""
    nine = np.zeros((*Q6.shape[:-1], 9), Q6.dtype)
    nine[..., _KEPT] = Q6
    return nine.reshape(*Q6.shape[:-1], 3, 3)


def normalise_Q(Q6: np.ndarray, extent: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Channels (..., 6), metres, each by the extent (3,) of its axis, + 0.5; 0 where not valid (..., 3)."""
    scaled = Q6 / extent[PLANE_AXES.ravel()]
    scaled += 0.5
    scaled *= np.repeat(valid, 2, axis=-1)
    return scaled
