"""The lights of a scene, and random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sopose.core.geometry.pose import Pose
from sopose.core.render.lighting import LightSet
from sopose.core.utils.errors import UserError

LOWEST_LAMP = 0.15  # sine of the smallest elevation of a lamp above the ground


@dataclass(frozen=True, eq=False)
class Lights:
    """Ambient light and L lamps, linear RGB. Lamps do not fade with distance."""

    ambient: np.ndarray  # (3,)
    positions_cam: np.ndarray  # (L, 4): (x, y, z, 1) a point, metres; (x, y, z, 0) the direction to a far lamp
    colors: np.ndarray  # (L, 3)
    sizes: np.ndarray | None = None  # (L,) radius: metres, of a far lamp per metre of distance; None: points
    slope: np.ndarray | None = None  # (3,) of the ambient light, see `LightSet`, camera frame; None: 0

    def moved(self, new_T_old: Pose) -> Lights:
        """The same lights in another frame."""
        is_near, R = self.positions_cam[:, 3:], new_T_old.cam_R_obj
        places = self.positions_cam[:, :3] @ R.T + is_near * new_T_old.cam_t_obj
        slope = None if self.slope is None else R @ self.slope
        return replace(self, positions_cam=np.concatenate([places, is_near], axis=1), slope=slope)


def light_set(lights: Sequence[Lights], device: torch.device) -> LightSet:
    """The lights of scenes, a column for each; dark lamps fill those with fewer than others."""
    lamps = max(len(item.colors) for item in lights)
    ambient, slope = np.zeros((2, 3, len(lights)), np.float32)
    positions, colors = np.zeros((lamps, 4, len(lights)), np.float32), np.zeros((lamps, 3, len(lights)), np.float32)
    sizes = np.zeros((lamps, len(lights)), np.float32)
    positions[:, 2] = -1.0  # dark lamps have a direction too
    for scene, item in enumerate(lights):
        own = slice(len(item.colors))
        ambient[:, scene], colors[own, :, scene] = item.ambient, item.colors
        positions[own, :, scene] = item.positions_cam
        if item.sizes is not None:
            sizes[own, scene] = item.sizes
        if item.slope is not None:
            slope[:, scene] = item.slope
    far = positions[:, 3:] == 0
    length = np.linalg.norm(positions[:, :3], axis=1, keepdims=True)
    positions[:, :3] /= np.where(far, length, 1)
    return LightSet(*(torch.from_numpy(part).to(device) for part in (ambient, positions, colors, sizes, slope)))


@dataclass(frozen=True)
class LightRange:
    """What lights are drawn from; pairs are (low, high)."""

    count: tuple[int, int] = (1, 3)  # lamps
    strength: tuple[float, float] = (0.4, 1.2)  # of all lamps together, about; 1 shows an albedo as it is
    ambient: tuple[float, float] = (0.2, 0.6)
    distance: tuple[float, float] = (0.5, 3.0)  # metres, of a near lamp
    far_prob: float = 0.5  # of a lamp so far away that its light is parallel
    size: tuple[float, float] = (0.0, 0.2)  # radius per distance: 0 throws a hard shadow
    tint: float = 0.15  # colour of a lamp: each channel within 1 ± this
    ambient_slope: float = 0.0  # ambient light differs with the direction by up to ± this, of its mean

    def __post_init__(self) -> None:
        low, high = self.count
        if not 0 <= low <= high or not 0 <= self.size[0] <= self.size[1]:
            raise UserError(f"CAD.LAMPS and CAD.LAMP_SIZE must be (low, high), 0 <= low <= high: {self}")
        if not 0 <= self.tint < 1:
            raise UserError(f"CAD.LAMP_TINT must be in [0, 1), got {self.tint}")
        if not 0 <= self.ambient_slope <= 1:
            raise UserError(f"CAD.AMBIENT_SLOPE must be in [0, 1], got {self.ambient_slope}")

    def draw(self, rng: np.random.Generator, center: np.ndarray | None = None, up: np.ndarray | None = None) -> Lights:
        """Lights around `center` (3,), camera frame, metres (default: the camera).

        They stand above the plane of unit normal `up` (3,), or without one on the camera's side.
        """
        count = int(rng.integers(self.count[0], self.count[1] + 1))
        directions = rng.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        if up is None:
            directions[:, 2] = -np.abs(directions[:, 2])  # the visible side of an object faces -z
        else:
            directions = _lifted(directions, up)
        far = rng.random(count) < self.far_prob
        distance = np.where(far, 1.0, rng.uniform(*self.distance, count))
        origin = np.zeros(3) if center is None else center
        positions = distance[:, None] * directions + np.where(far, 0.0, 1.0)[:, None] * origin
        strength = rng.uniform(*self.strength, (count, 1)) / np.sqrt(max(count, 1))
        return Lights(
            ambient=rng.uniform(*self.ambient) * rng.uniform(0.9, 1.1, 3),
            positions_cam=np.concatenate([positions, ~far[:, None]], axis=1),
            colors=strength * rng.uniform(1 - self.tint, 1 + self.tint, (count, 3)),
            sizes=distance * rng.uniform(*self.size, count),
            slope=self._slope(rng) if self.ambient_slope else None,
        )

    def _slope(self, rng: np.random.Generator) -> np.ndarray:
        """(3,) any direction."""
        direction = rng.normal(size=3)
        return rng.uniform(0, self.ambient_slope) * direction / np.linalg.norm(direction)


def _lifted(directions: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Unit directions (L, 3) mirrored and raised to stand above the plane of normal `up` (3,)."""
    height = directions @ up
    level = directions - height[:, None] * up
    height = np.maximum(np.abs(height), LOWEST_LAMP)
    level *= (np.sqrt(1 - height**2) / np.maximum(np.linalg.norm(level, axis=1), 1e-9))[:, None]
    return level + height[:, None] * up
