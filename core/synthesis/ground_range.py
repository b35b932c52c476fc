"""The planes that objects stand on, or float before, drawn at random with their textures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from sopose.core.geometry.pose import Pose
from sopose.core.rays.raycast import RayCaster
from sopose.core.render.ground import Ground, mirrored, plane_behind, random_texture
from sopose.core.render.materials import Material
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.scene_sampling import Table
from sopose.core.utils.errors import UserError

TEXTURES = 64  # procedural ones, made once in each process
TEXTURE_SIDE = 160  # of a photograph as a texture, before it is mirrored
LOWEST_VIEW = 0.05  # metres of the camera above a ground that is drawn


@dataclass(frozen=True)
class GroundRange:
    """The plane that objects stand on, or float before."""

    prob: float = 0.6  # of scenes that have one; the others float before a background
    tile: tuple[float, float] = (0.2, 1.0)  # metres that a texture covers before it repeats
    photo_prob: float = 0.5  # of textures cut from the backgrounds' photographs; the others come from nothing
    contrast: tuple[float, float] = (0.15, 1.0)  # of textures: a table is often plain
    gap: tuple[float, float] = (0.0, 0.15)  # metres between floating objects and a plane behind them
    tilt: float = 60.0  # degrees of such a plane against the image plane, at most

    def __post_init__(self) -> None:
        if not (0 <= self.prob <= 1 and 0 <= self.photo_prob <= 1 and 0 < self.tile[0] <= self.tile[1]):
            raise UserError(f"CAD.GROUND_PROB must be in [0, 1] and CAD.GROUND_TILE (low, high) in metres: {self}")

    def draw(
        self,
        placed: Sequence[tuple[RayCaster, Pose]],
        table: Table | None,
        backgrounds: Backgrounds,
        rng: np.random.Generator,
    ) -> Ground | None:
        """The top of the `table`, or a plane behind what is placed; None without one, or seen from below."""
        if rng.random() >= self.prob:
            return None
        if table is not None:
            pose = table.plane
        else:
            centers = np.stack([pose.transform(caster.center) for caster, pose in placed])
            radii = np.array([caster.radius for caster, _ in placed])
            pose = plane_behind(centers, radii, np.deg2rad(self.tilt), rng.uniform(*self.gap), rng)
        tile, material = rng.uniform(*self.tile), Material(rng.uniform(0, 0.05), rng.uniform(0.3, 1.0))
        ground = Ground(pose, self._texture(backgrounds, rng), tile, material)
        return ground if ground.height > LOWEST_VIEW else None

    def _texture(self, backgrounds: Backgrounds, rng: np.random.Generator) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        photo, number = rng.random() < self.photo_prob, int(rng.integers(TEXTURES))
        contrast = rng.uniform(*self.contrast)
        if photo and backgrounds.paths:
            texture = mirrored(backgrounds.sample((TEXTURE_SIDE, TEXTURE_SIDE), rng)[..., ::-1])
        else:
            texture = _procedural(number)
        table = np.arange(256)[None, :, None] * contrast + (1 - contrast) * np.array(cv2.mean(texture)[:3])
        return cv2.LUT(texture, np.rint(table).astype(np.uint8))


@lru_cache(maxsize=TEXTURES)
def _procedural(number: int) -> np.ndarray:
    return random_texture(np.random.default_rng([number, 1]))
