"""What makes a rendered scene look as it does: its ground, lights, materials and camera, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from sopose.core.render.ground import Ground, mirrored, plane_behind, random_texture
from sopose.core.render.lights import LightRange, Lights
from sopose.core.render.materials import Material, MaterialRange
from sopose.core.render.shade import Body, Shading
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.scene_sampling import Table
from sopose.core.synthesis.sensor import Sensor
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
        self, bodies: Sequence[Body], table: Table | None, backgrounds: Backgrounds, rng: np.random.Generator
    ) -> Ground | None:
        """The top of the `table`, or a plane behind the bodies; None where there is none, or it is seen from below."""
        if rng.random() >= self.prob:
            return None
        if table is not None:
            pose = table.plane
        else:
            centers = np.stack([body.pose.transform(body.caster.center) for body in bodies])
            radii = np.array([body.caster.radius for body in bodies])
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


@dataclass(frozen=True)
class Look:
    """Ranges of all that a picture shows besides shapes and poses."""

    lights: LightRange = field(default_factory=LightRange)
    materials: MaterialRange = field(default_factory=MaterialRange)
    ground: GroundRange = field(default_factory=GroundRange)
    sensor: Sensor = field(default_factory=Sensor)
    shading: Shading = field(default_factory=Shading)

    def draw_lights(self, center: np.ndarray, ground: Ground | None, rng: np.random.Generator) -> Lights:
        """Lights about `center` (3,), camera frame, metres: above the ground, or on the camera's side."""
        if ground is None:
            return self.lights.draw(rng)
        return self.lights.draw(rng, center, ground.normal_cam)


@lru_cache(maxsize=TEXTURES)
def _procedural(number: int) -> np.ndarray:
    return random_texture(np.random.default_rng([number, 1]))
