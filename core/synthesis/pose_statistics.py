"""How a data set's camera sees its objects: distances, places in the image and views, never the images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sopose.core.bop.scene import ImageRecord
from sopose.core.data.roi import ImageSize
from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import rotation_to_ray
from sopose.core.utils.errors import UserError

SPREAD_DEPTH = 0.05  # of a drawn depth, as a share: between and beyond what was annotated
SPREAD_SHARE = 0.04  # of a drawn place, of the image's width and height
SPREAD_ANGLE = np.deg2rad(4)


@dataclass(frozen=True, eq=False)
class PoseStatistics:
    """One row for each annotated object; draws are rows with a spread, so that what goes together stays together."""

    depth: np.ndarray  # (N,) of the object's middle, metres
    center: np.ndarray  # (N, 2) of its projection, shares of the image's width and height
    elevation: np.ndarray  # (N,) of the camera above the object's xy plane, radians
    roll: np.ndarray  # (N,) of the camera about its line of sight, radians

    def draw(self, rng: np.random.Generator) -> tuple[float, np.ndarray, float, float]:
        """Depth, centre (2,), elevation and roll of one view."""
        row = rng.integers(len(self.depth))
        elevation, roll = (angles[row] + SPREAD_ANGLE * rng.standard_normal() for angles in (self.elevation, self.roll))
        return (
            float(self.depth[row] * (1 + SPREAD_DEPTH * rng.uniform(-1, 1))),
            self.center[row] + SPREAD_SHARE * rng.uniform(-1, 1, 2),
            float(np.clip(elevation, -np.pi / 2, np.pi / 2)),
            float(roll),
        )


def pose_statistics(
    records: Iterable[ImageRecord], image_size: ImageSize, middles: Mapping[int, np.ndarray] | None = None
) -> PoseStatistics:
    """Statistics of the annotations of `records`, whose images have `image_size` (width, height).

    middles: of objects by id, (3,) metres, see `middle_of`; by default their origins.
    """
    known = [(record.K, item.obj_id, item.pose) for record in records for item in record.instances]
    posed = [(K, pose.with_origin((middles or {}).get(obj_id, np.zeros(3)))) for K, obj_id, pose in known]
    rows = [
        (pose, project(pose.cam_t_obj, K) / (np.asarray(image_size) - 1)) for K, pose in posed if pose.cam_t_obj[2] > 0
    ]
    if not rows:
        raise UserError("the split of CAD.POSES_FROM has no annotated object; name another split")
    import torch

    rotations = np.stack([pose.cam_R_obj for pose, _ in rows])
    translations = np.stack([pose.cam_t_obj for pose, _ in rows])
    views = rotation_to_ray(torch.from_numpy(translations)).numpy().transpose(0, 2, 1) @ rotations
    elevation, roll = np.array([_view_angles(view) for view in views]).T
    return PoseStatistics(translations[:, 2], np.stack([center for _, center in rows]), elevation, roll)


def level_view(azimuth: float, elevation: float) -> np.ndarray:
    """(3, 3) rotation of an object on the optical axis, seen by a level camera from there (radians), z up."""
    flat = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    forward = -(np.cos(elevation) * flat + np.sin(elevation) * np.array([0.0, 0.0, 1.0]))
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    return np.stack([right, np.cross(forward, right), forward])  # camera axes x, y (down), z as rows


def _view_angles(view: np.ndarray) -> tuple[float, float]:
    """Elevation and roll (radians) of a view `Rz(roll) level_view(azimuth, elevation)`."""
    forward = view[2]
    elevation = float(np.arcsin(np.clip(-forward[2], -1, 1)))
    level = level_view(float(np.arctan2(-forward[1], -forward[0])), elevation)
    turn = view @ level.T
    return elevation, float(np.arctan2(turn[1, 0], turn[0, 0]))
