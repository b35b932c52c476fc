"""Random scenes for rendered training images: where the object stands, and what stands around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from core.bop.models import ObjectModel
from core.data.roi import ImageSize
from core.geometry.pose import Pose, rotation_to_ray
from core.geometry.rotation import random_rotation
from core.utils.errors import UserError

NEAREST_OCCLUDER = 0.15  # metres before the camera; closer ones would fill the image


@dataclass(frozen=True)
class PoseRange:
    """The poses a camera may see an object in. Angles in degrees, lengths in metres."""

    z_range: tuple[float, float] = (0.5, 1.3)  # depth of the object's origin
    center_range: tuple[float, float] = (0.1, 0.9)  # of the origin's projection, shares of width and height
    rotations: Literal["uniform", "upper"] = "uniform"  # "upper": seen from above, the object's z axis upwards
    elevation: tuple[float, float] = (0.0, 90.0)  # of the camera above the object's xy plane, for "upper"
    tilt: float = 45.0  # the camera's roll is within ± this, for "upper"

    def __post_init__(self) -> None:
        if self.rotations not in ("uniform", "upper"):
            raise UserError(f"CAD.ROTATIONS must be 'uniform' or 'upper', got '{self.rotations}'")
        if not 0 < self.z_range[0] <= self.z_range[1]:
            raise UserError(f"CAD.Z_RANGE must be (near, far) in metres, 0 < near <= far, got {self.z_range}")

    def draw(self, K: np.ndarray, image_size: ImageSize, rng: np.random.Generator) -> Pose:
        """A pose for a camera K (3, 3) with images of `image_size` (width, height)."""
        uv = rng.uniform(*self.center_range, 2) * (np.asarray(image_size) - 1)
        ray = np.linalg.inv(K) @ [*uv, 1.0]
        cam_t_obj = ray * rng.uniform(*self.z_range)
        if self.rotations == "uniform":
            return Pose(random_rotation(rng), cam_t_obj)
        # The view is drawn as if the object were on the optical axis; off the axis it keeps its looks.
        to_ray = rotation_to_ray(torch.from_numpy(cam_t_obj)[None])[0].numpy()
        return Pose(to_ray @ self._upper_view(rng), cam_t_obj)

    def _upper_view(self, rng: np.random.Generator) -> np.ndarray:
        """(3, 3) rotation of an object seen from a direction uniform on the sphere between the elevations."""
        azimuth = rng.uniform(0, 2 * np.pi)
        low, high = np.sin(np.deg2rad(self.elevation))
        sine = rng.uniform(low, high)
        cosine = np.sqrt(1 - sine**2)
        forward = -np.array([cosine * np.cos(azimuth), cosine * np.sin(azimuth), sine])
        right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
        level = np.stack([right, np.cross(forward, right), forward])  # camera axes x, y (down), z as rows
        roll = Rotation.from_euler("z", rng.uniform(-self.tilt, self.tilt), degrees=True)
        return roll.as_matrix() @ level


@dataclass(frozen=True)
class OccluderRange:
    """What may stand around the object."""

    max_count: int = 3
    spacing: tuple[float, float] = (0.5, 1.2)  # distance of centres, times the sum of the bounding radii
    standing_prob: float = 0.0  # of standing beside the object on the same plane, upright as it is

    def draw(
        self,
        models: Mapping[int, ObjectModel],
        candidates: Sequence[int],
        target: ObjectModel,
        pose: Pose,
        rng: np.random.Generator,
    ) -> list[tuple[int, Pose]]:
        """Object ids (of `candidates`) and poses of 0 to `max_count` occluders of a posed target."""
        count = int(rng.integers(self.max_count + 1)) if candidates else 0
        placed = []
        for _ in range(count):
            obj_id = int(rng.choice(candidates))
            place = _standing if rng.random() < self.standing_prob else _floating
            occluder_pose = place(models[obj_id], target, pose, rng.uniform(*self.spacing), rng)
            if occluder_pose.cam_t_obj[2] > NEAREST_OCCLUDER + models[obj_id].diameter / 2:
                placed.append((obj_id, occluder_pose))
        return placed


def _floating(model: ObjectModel, target: ObjectModel, pose: Pose, spacing: float, rng: np.random.Generator) -> Pose:
    """Anywhere around the target, in any orientation."""
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    distance = spacing * (model.diameter + target.diameter) / 2
    center_cam = pose.transform(_center(target)) + distance * direction
    cam_R_obj = random_rotation(rng)
    return Pose(cam_R_obj, center_cam - cam_R_obj @ _center(model))


def _standing(model: ObjectModel, target: ObjectModel, pose: Pose, spacing: float, rng: np.random.Generator) -> Pose:
    """Beside the target, turned about its z axis, the lower faces of both boxes on one plane."""
    heading, turn = rng.uniform(0, 2 * np.pi, 2)
    distance = spacing * (model.diameter + target.diameter) / 2
    bottom = np.array([*_center(target)[:2], target.bounds_min[2]])
    target_R_model = Rotation.from_euler("z", turn).as_matrix()
    foot = np.array([*_center(model)[:2], model.bounds_min[2]])
    offset = bottom + distance * np.array([np.cos(heading), np.sin(heading), 0.0]) - target_R_model @ foot
    return pose @ Pose(target_R_model, offset)


def _center(model: ObjectModel) -> np.ndarray:
    return model.bounds_min + model.extent / 2
