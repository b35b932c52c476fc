"""Poses, and the two ways to express a rotation: from the camera (egocentric) or from the ray (allocentric)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sopose.core.geometry.arrays import Array, detached, namespace

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pose:
    """Object to camera: `X_cam = cam_R_obj @ X_obj + cam_t_obj` (OpenCV camera: x right, y down, z forward)."""

    cam_R_obj: np.ndarray  # (3, 3) float64
    cam_t_obj: np.ndarray  # (3,) float64, metres

    def transform(self, points_obj: np.ndarray) -> np.ndarray:
        """(..., 3) points of the object's frame in the camera's frame, metres."""
        return points_obj @ self.cam_R_obj.T + self.cam_t_obj

    def __matmul__(self, other: Pose) -> Pose:
        """Chain two poses: `cam_T_obj @ obj_T_part -> cam_T_part`."""
        return Pose(self.cam_R_obj @ other.cam_R_obj, self.transform(other.cam_t_obj))

    @property
    def is_finite(self) -> bool:
        """Whether all its numbers are."""
        return bool(np.isfinite(self.cam_R_obj).all() and np.isfinite(self.cam_t_obj).all())

    @property
    def is_ahead(self) -> bool:
        """Whether it is finite, with the object's origin before the camera."""
        return self.is_finite and bool(self.cam_t_obj[2] > 0)

    def with_origin(self, point_obj: np.ndarray) -> Pose:
        """The pose of the parallel frame whose origin is at a point (3,) of the object's frame, metres."""
        return Pose(self.cam_R_obj, self.transform(point_obj)) if point_obj.any() else self

    def inverse(self) -> Pose:
        """The same rigid motion backwards, camera to object."""
        return Pose(self.cam_R_obj.T, -self.cam_R_obj.T @ self.cam_t_obj)


def rotation_to_ray(cam_t_obj: Array) -> Array:
    """(B, 3, 3) smallest rotations that take the optical axis (0, 0, 1) to the rays `t / |t|` of (B, 3).

    Rodrigues with the axis unnormalised: R = I + [w]x + [w]x² / (1 + c), w = z × ray, c = z · ray.
    Exact for every ray but the one straight backwards, which has no smallest turn; the identity where t is 0.
    """
    xp = namespace(cam_t_obj)
    tiny = xp.finfo(cam_t_obj.dtype).tiny
    # Brought to a size of 1 first: the squares of what a diverged network says leave float32.
    size = xp.amax(xp.abs(detached(cam_t_obj)), axis=-1, keepdims=True)
    axis = xp.zeros_like(cam_t_obj)
    axis[..., 2] = 1.0
    ray = xp.where(size > 0, cam_t_obj / size.clip(tiny, None), axis)
    ray = ray / xp.sqrt((ray**2).sum(-1))[..., None]
    x, y, c = ray[..., 0], ray[..., 1], ray[..., 2]
    # 1 / (1 + c) is (1 - c) / (x² + y²), which has all its digits behind the camera, where an untrained network looks.
    behind = c < 0
    square = xp.where(behind, x * x + y * y, xp.ones_like(c)).clip(tiny, None)
    k = xp.where(behind, (1 - c) / square, 1 / (1 + c.clip(0, None)))
    rows = [
        xp.stack([1 - k * x * x, -k * x * y, x], -1),
        xp.stack([-k * x * y, 1 - k * y * y, y], -1),
        xp.stack([-x, -y, c], -1),
    ]
    return xp.stack(rows, -2)


def allo_to_ego(cam_R_allo: Tensor, cam_t_obj: Tensor) -> Tensor:
    """Allocentric (B, 3, 3) to egocentric rotations: turned from the left by `rotation_to_ray`.

    cam_t_obj is (B, 3); only its direction counts.
    """
    return rotation_to_ray(cam_t_obj) @ cam_R_allo


def ego_to_allo(cam_R_obj: Tensor, cam_t_obj: Tensor) -> Tensor:
    """The inverse of `allo_to_ego`, same shapes."""
    return rotation_to_ray(cam_t_obj).mT @ cam_R_obj
