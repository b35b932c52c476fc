"""Random scenes for rendered training images: where the object stands, and what stands around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
from scipy.spatial import QhullError
from scipy.spatial.transform import Rotation

from sopose.core.data.roi import ImageSize
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.resting import (
    RestingPoses,
    apart,
    resting_poses,
    shifted,
    supports,
    touching_distance,
    turned,
)
from sopose.core.geometry.rotation import random_rotation
from sopose.core.objects.model import ObjectModel
from sopose.core.synthesis.pose_statistics import PoseStatistics, level_view
from sopose.core.utils.errors import UserError

NEAREST_OCCLUDER = 0.15  # metres before the camera; closer ones would fill the image
PLACE_TRIES = 10  # headings in which room is looked for on a table
ROTATIONS = ("uniform", "upper", "stable")

_RESTING: WeakKeyDictionary[ObjectModel, RestingPoses] = WeakKeyDictionary()


def resting_of(model: ObjectModel) -> RestingPoses:
    """The stable poses of a model; kept while it lives. `UserError` for a flat one."""
    if model not in _RESTING:
        try:
            _RESTING[model] = resting_poses(model.vertices)
        except QhullError as error:
            raise UserError(
                f"object {model.obj_id} ({model.name}) is flat and can lie on no table; give the model a thickness, or "
                "set CAD.ROTATIONS=uniform and CAD.STANDING_PROB=0"
            ) from error
    return _RESTING[model]


def _turn_to(ray: np.ndarray) -> np.ndarray:
    """(3, 3) smallest rotation that takes the optical axis to a ray (3,): `rotation_to_ray` of one, at once."""
    across = float(np.hypot(ray[0], ray[1]))
    axis = np.array([-ray[1], ray[0], 0.0]) / max(across, 1e-12)
    return Rotation.from_rotvec(np.arctan2(across, ray[2]) * axis).as_matrix()


@dataclass(frozen=True)
class PoseRange:
    """The poses a camera may see an object in. Angles in degrees, lengths in metres."""

    z_range: tuple[float, float] = (0.5, 1.3)  # depth of the object's middle
    center_range: tuple[float, float] = (0.1, 0.9)  # of the middle's projection, shares of width and height
    # "upper": seen from above, the object's z axis upwards; "stable": the same of an object that lies as it likes.
    rotations: Literal["uniform", "upper", "stable"] = "uniform"
    elevation: tuple[float, float] = (0.0, 90.0)  # of the camera above the object's or the table's xy plane
    tilt: float = 45.0  # the camera's roll is within ± this
    statistics: PoseStatistics | None = None  # draws depth, projection, elevation and roll instead of the ranges

    def __post_init__(self) -> None:
        if self.rotations not in ROTATIONS:
            raise UserError(f"CAD.ROTATIONS must be one of {', '.join(ROTATIONS)}, got '{self.rotations}'")
        if not 0 < self.z_range[0] <= self.z_range[1]:
            raise UserError(f"CAD.Z_RANGE must be (near, far) in metres, 0 < near <= far, got {self.z_range}")

    @property
    def has_table(self) -> bool:
        """Whether the drawn frame's z axis points up."""
        return self.rotations != "uniform"

    def draw(self, K: np.ndarray, image_size: ImageSize, rng: np.random.Generator) -> Pose:
        """A pose for a camera K (3, 3) with images of `image_size` (width, height).

        For "stable" it is that of a table's frame at the object's origin, see `draw_rest`.
        """
        if self.statistics is not None:
            depth, share, elevation, roll = self.statistics.draw(rng)
        else:
            share, depth = rng.uniform(*self.center_range, 2), rng.uniform(*self.z_range)
            low, high = np.sin(np.deg2rad(self.elevation))
            elevation, roll = np.arcsin(rng.uniform(low, high)), np.deg2rad(rng.uniform(-self.tilt, self.tilt))
        cam_t_obj = depth * (np.linalg.inv(K) @ [*(share * (np.asarray(image_size) - 1)), 1.0])
        if not self.has_table:
            return Pose(random_rotation(rng), cam_t_obj)
        # The view is drawn as if the object were on the optical axis; off the axis it keeps its looks.
        to_ray = _turn_to(cam_t_obj)
        view = Rotation.from_euler("z", roll).as_matrix() @ level_view(rng.uniform(0, 2 * np.pi), elevation)
        return Pose(to_ray @ view, cam_t_obj)

    def draw_rest(self, model: ObjectModel, rng: np.random.Generator) -> np.ndarray:
        """(3, 3) rotation of an object in the frame that `draw` gives: the identity unless it is a table's."""
        return resting_of(model).draw(rng) if self.rotations == "stable" else np.eye(3)


class Table:
    """Objects that stand on a plane: who stands where, seen from above. Its frame is z up, its height is metres."""

    def __init__(self, cam_T_table: Pose, height: float) -> None:
        self.cam_T_table, self.height = cam_T_table, height
        self._footprints: list[np.ndarray] = []  # of the objects as they stand, and
        self._places: list[np.ndarray] = []  # (2,) where the origins of their frames are

    @classmethod
    def under(cls, model: ObjectModel, cam_T_table: Pose, table_R_obj: np.ndarray) -> Table:
        """The table that a first object stands on, whose origin is the frame's."""
        points = resting_of(model).hull @ table_R_obj.T
        table = cls(cam_T_table, float(points[:, 2].min()))
        table._footprints.append(supports(points))
        table._places.append(np.zeros(2))
        return table

    @property
    def plane(self) -> Pose:
        """The table's top as the plane z = 0 of a frame, to the camera."""
        return self.cam_T_table @ Pose(np.eye(3), np.array([0.0, 0.0, self.height]))

    def stand_beside(
        self,
        model: ObjectModel,
        table_R_obj: np.ndarray,
        gap: Callable[[], float],
        rng: np.random.Generator,
        accept: Callable[[Pose], bool] = lambda _: True,
    ) -> Pose | None:
        """Stand an object `gap()` metres beside one that is there; its pose, None where no accepted one was found."""
        points = resting_of(model).hull @ table_R_obj.T
        foot, lowest = supports(points), points[:, 2].min()
        for _ in range(PLACE_TRIES):
            angle = rng.uniform(0, 2 * np.pi)
            heading = np.array([np.cos(angle), np.sin(angle)])
            chosen = rng.integers(len(self._footprints))
            place = self._places[chosen]
            neighbour = shifted(self._footprints[chosen], -place)
            offset = place + (touching_distance(neighbour, foot, heading) + gap()) * heading
            there = shifted(foot, offset)
            pose = self.cam_T_table @ Pose(table_R_obj, np.array([*offset, self.height - lowest]))
            if accept(pose) and all(apart(other, there, slack=1e-9) for other in self._footprints):
                self._footprints.append(there)
                self._places.append(offset)
                return pose
        return None

    def lifted(self, model: ObjectModel, pose: Pose) -> Pose:
        """`pose`, raised where the object would stick in the table."""
        in_table = self.cam_T_table.inverse() @ pose
        lowest = in_table.transform(resting_of(model).hull)[:, 2].min()
        up = max(self.height - lowest, 0.0) * self.cam_T_table.cam_R_obj[:, 2]
        return Pose(pose.cam_R_obj, pose.cam_t_obj + up)


@dataclass(frozen=True)
class OccluderRange:
    """What may stand around the object."""

    max_count: int = 3
    spacing: tuple[float, float] = (0.5, 1.2)  # of floating ones: distance of centres by the sum of bounding radii
    standing_prob: float = 0.0  # of standing beside the object on the same plane
    gap: tuple[float, float] = (0.0, 0.05)  # metres between those that stand

    def draw(
        self,
        models: Mapping[int, ObjectModel],
        candidates: Sequence[int],
        target: ObjectModel,
        pose: Pose,
        rng: np.random.Generator,
        table: Table | None = None,
        lies: bool = False,
    ) -> list[tuple[int, Pose]]:
        """Object ids (of `candidates`) and poses of 0 to `max_count` occluders of a posed target.

        They stand on the `table`, by default the one under the target's z axis: upright or, where it `lies`, in any
        stable pose.
        """
        count = int(rng.integers(self.max_count + 1)) if candidates else 0
        standing = rng.random(count) < self.standing_prob
        if table is None and standing.any():
            table = Table.under(target, pose, np.eye(3))
        placed = []
        for stands in standing:
            obj_id = int(rng.choice(candidates))
            model = models[obj_id]
            if stands and table is not None:
                table_R_obj = resting_of(model).draw(rng) if lies else turned(rng)
                other = table.stand_beside(model, table_R_obj, lambda: self.draw_gap(rng), rng)
            else:
                other = _floating(model, target, pose, rng.uniform(*self.spacing), rng)
                other = other if table is None else table.lifted(model, other)
            if other is not None and other.cam_t_obj[2] > NEAREST_OCCLUDER + model.diameter / 2:
                placed.append((obj_id, other))
        return placed

    def draw_gap(self, rng: np.random.Generator) -> float:
        """Metres between neighbours on a table; small ones are likelier."""
        low, high = self.gap
        return low + (high - low) * rng.random() ** 2


def _floating(model: ObjectModel, target: ObjectModel, pose: Pose, spacing: float, rng: np.random.Generator) -> Pose:
    """Anywhere around the target, in any orientation."""
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    distance = spacing * (model.diameter + target.diameter) / 2
    center_cam = pose.transform(_center(target)) + distance * direction
    cam_R_obj = random_rotation(rng)
    return Pose(cam_R_obj, center_cam - cam_R_obj @ _center(model))


def _center(model: ObjectModel) -> np.ndarray:
    return model.bounds_min + model.extent / 2
