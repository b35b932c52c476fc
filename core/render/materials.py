"""What surfaces are made of: their colour at a point, how it may vary, and how they shine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from sopose.core.render.stains import Stains, draw_stains
from sopose.core.utils.errors import UserError

PLAIN_ALBEDO = 0.4  # linear reflectance of a model without colours
MAX_ALBEDO = 0.98  # of a varied colour: nothing sends back more light than it gets
MAX_STAINS = 2.0  # one in six places is then a seventh as bright, or darker
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of linear RGB, Rec. 709


@dataclass(frozen=True, eq=False)
class Material:
    """How a surface shines, and how its colour differs from the model's."""

    specular: float = 0.04  # reflectance seen straight on: 0.04 plastic, paint, glass; 0 no highlight
    roughness: float = 0.5  # 0 a mirror, 1 chalk
    recolor: np.ndarray | None = None  # (3, 3) applied to the model's linear RGB; None: as it is
    stains: Stains | None = None  # factors of the colour from place to place; None: none


@dataclass(frozen=True)
class MaterialRange:
    """What materials are drawn from; pairs are (low, high)."""

    specular: tuple[float, float] = (0.0, 0.06)
    roughness: tuple[float, float] = (0.2, 0.9)
    hue: float = 8.0  # colours are turned by up to ± this, degrees
    saturation: float = 0.3  # factor within 1 ± this
    brightness: float = 0.3  # factor within 1 ± this
    stains: float = 0.0  # strength of stains up to this, see `draw_stains`

    def __post_init__(self) -> None:
        if not (0 <= self.specular[0] <= self.specular[1] <= 1 and 0 <= self.roughness[0] <= self.roughness[1] <= 1):
            raise UserError(f"CAD.SPECULAR and CAD.ROUGHNESS must be (low, high) within 0 and 1: {self}")
        if not (0 <= self.saturation <= 1 and 0 <= self.brightness < 1):
            raise UserError(f"CAD.SATURATION and CAD.BRIGHTNESS must be within 0 and 1: {self}")
        if not 0 <= self.stains <= MAX_STAINS:
            raise UserError(f"CAD.STAINS must be in [0, {MAX_STAINS:g}], got {self.stains}")

    def draw(self, rng: np.random.Generator) -> Material:
        specular, roughness = rng.uniform(*self.specular), rng.uniform(*self.roughness)
        turn = rng.uniform(-self.hue, self.hue)
        saturation, brightness = (1 + rng.uniform(-x, x) for x in (self.saturation, self.brightness))
        varies = self.hue or self.saturation or self.brightness
        recolor = recolor_matrix(turn, saturation, brightness) if varies else None
        stains = draw_stains(rng.uniform(0, self.stains), rng) if self.stains else None
        return Material(specular, roughness, recolor, stains)


def recolor_matrix(hue: float, saturation: float, brightness: float) -> np.ndarray:
    """(3, 3) of linear RGB: turn the hue (degrees) about the grey axis, then scale saturation and brightness.

    Grey stays grey.
    """
    turn = Rotation.from_rotvec(hue * np.ones(3) / np.sqrt(3), degrees=True).as_matrix()
    grey = np.tile(LUMINANCE, (3, 1))
    return brightness * (saturation * np.eye(3) + (1 - saturation) * grey) @ turn
