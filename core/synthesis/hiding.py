"""Things that stand before an object: shapes and bars, filled with photographs or a flat colour.

What hides objects on photographs are hands, cables, tools, other parts: nothing that there are models of. Pasted shapes
are no likeness of them, and teach that a part of the object may be missing anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.utils.errors import UserError

SUBPIXEL = 4  # bits: corners are drawn at sixteenths of a pixel
FINE = 256  # pixels a side that shapes are drawn with, where a crop has fewer


@dataclass(frozen=True, eq=False)
class HidingShape:
    """A polygon before a crop, and its colour."""

    corners: np.ndarray  # (n, 2) shares of the crop's side, x and y
    color: tuple[int, int, int] | None  # BGR; None: a part of a photograph


@dataclass(frozen=True)
class HidingRange:
    """How much stands before crops."""

    prob: float = 0.0  # of a crop that has any
    most: int = 3  # shapes in it
    bar_prob: float = 0.4  # of a shape that is a bar from side to side, thin as a cable or a finger
    flat_prob: float = 0.5  # of a shape of one colour
    radius: tuple[float, float] = (0.08, 0.3)  # of other shapes, shares of the crop's side
    width: tuple[float, float] = (0.02, 0.12)  # of bars
    leaves: float = 0.25  # of the object's visible part, at least: shapes that would leave less are left out

    def __post_init__(self) -> None:
        if not 0 <= self.prob <= 1:
            raise UserError(f"CAD.HIDE_PROB must be in [0, 1], got {self.prob}")

    def draw(self, visible: np.ndarray, rng: np.random.Generator) -> tuple[HidingShape, ...]:
        """Shapes before a crop whose object is seen at the cells `visible` (n, n) bool; nothing is drawn at prob 0."""
        if not self.prob or rng.random() >= self.prob:
            return ()
        shapes: tuple[HidingShape, ...] = ()
        for _ in range(int(rng.integers(1, self.most + 1))):
            more = (*shapes, self._shape(rng))
            if (visible & ~covered(more, len(visible))).sum() >= self.leaves * visible.sum():
                shapes = more
        return shapes

    def _shape(self, rng: np.random.Generator) -> HidingShape:
        corners = self._bar(rng) if rng.random() < self.bar_prob else self._blob(rng)
        flat = rng.random() < self.flat_prob
        return HidingShape(corners, tuple(int(level) for level in rng.integers(0, 256, 3)) if flat else None)

    def _bar(self, rng: np.random.Generator) -> np.ndarray:
        """A strip through a point of the crop, in any direction, longer than the crop."""
        middle, angle, half = rng.uniform(0.15, 0.85, 2), rng.uniform(0, np.pi), rng.uniform(*self.width) / 2
        along = np.array([np.cos(angle), np.sin(angle)])
        side = half * np.array([-along[1], along[0]])
        far = 2 * along
        return np.array([middle - far - side, middle + far - side, middle + far + side, middle - far + side])

    def _blob(self, rng: np.random.Generator) -> np.ndarray:
        """Corners around a point, as far from it as they like."""
        middle, radius, count = rng.uniform(0.1, 0.9, 2), rng.uniform(*self.radius), int(rng.integers(3, 10))
        angles = np.sort(rng.uniform(0, 2 * np.pi, count))
        lengths = radius * rng.uniform(0.5, 1.5, count)
        return middle + lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def covered(shapes: Sequence[HidingShape], side: int) -> np.ndarray:
    """(side, side) bool: cells of a crop that shapes stand before; cell k lies at k / side, as in `roi_positions`."""
    # OpenCV fills every pixel that a polygon touches: few cells are looked up among many, or bars would be too wide.
    finer = max(FINE // side, 1)
    mask = np.zeros((side * finer, side * finer), np.uint8)
    for shape in shapes:
        corners = np.rint(shape.corners * len(mask) * 2**SUBPIXEL).astype(np.int32)
        cv2.fillPoly(mask, [corners], 1, shift=SUBPIXEL)
    return mask[::finer, ::finer] > 0


def paint(
    image: np.ndarray, shapes: Sequence[HidingShape], backgrounds: Backgrounds, rng: np.random.Generator
) -> np.ndarray:
    """A crop (n, n, 3) uint8 BGR with shapes before it, the last in front; the crop itself where there is none."""
    image = image.copy() if shapes else image
    for shape in shapes:
        inside = covered([shape], len(image))
        image[inside] = backgrounds.sample(image.shape[1::-1], rng)[inside] if shape.color is None else shape.color
    return image
