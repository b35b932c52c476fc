"""How an image lies on a network's input: scaled, perhaps mirrored, and set down at a whole pixel.

Boxes are x1, y1, x2, y2 of pixel centres, which lie at integer coordinates, as BOP's are. A scaled image covers what
the image covered, so that the position u, on pixels that reach from -0.5 on, becomes s (u + 0.5) - 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sopose.core.data.roi import ImageSize

STRIDE = 32  # of the coarsest features; sides of an input are multiples of it
FILL = 127  # level of input pixels that no image covers


@dataclass(frozen=True)
class Placement:
    """An image of `image_size` scaled to `scaled_size`, its first pixel at `offset` of a canvas. Sizes are (W, H)."""

    image_size: ImageSize
    scaled_size: ImageSize
    canvas_size: ImageSize
    offset: tuple[int, int] = (0, 0)
    mirrored: bool = False  # left to right, once it is scaled

    @property
    def scale(self) -> np.ndarray:
        """(2,) input pixels that a pixel of the image is wide and high."""
        return np.asarray(self.scaled_size, float) / self.image_size

    def draw(self, image: np.ndarray) -> np.ndarray:
        """The canvas (H, W, 3) uint8 with the image (h, w, 3) uint8 on it; parts outside are cut away."""
        shrinks = self.scaled_size[0] < self.image_size[0]
        if self.scaled_size != self.image_size:
            image = cv2.resize(image, self.scaled_size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        if self.mirrored:
            image = image[:, ::-1]
        canvas = np.full((self.canvas_size[1], self.canvas_size[0], 3), FILL, np.uint8)
        low, high = self._covered()
        from_low, from_high = low - self.offset, high - self.offset
        piece = image[from_low[1] : from_high[1], from_low[0] : from_high[0]]
        canvas[low[1] : high[1], low[0] : high[0]] = piece
        return canvas

    def boxes_to_input(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) of the image as they lie on the input, pixels; they may leave it."""
        moved = (np.asarray(boxes, float).reshape(-1, 2, 2) + 0.5) * self.scale - 0.5
        if self.mirrored:
            moved[..., 0] = (self.scaled_size[0] - 1) - moved[:, ::-1, 0]
        return (moved + self.offset).reshape(-1, 4)

    def boxes_to_image(self, boxes: np.ndarray) -> np.ndarray:
        """The inverse of `boxes_to_input`, within the image's pixel centres."""
        moved = np.asarray(boxes, float).reshape(-1, 2, 2) - self.offset
        if self.mirrored:
            moved[..., 0] = (self.scaled_size[0] - 1) - moved[:, ::-1, 0]
        moved = (moved + 0.5) / self.scale - 0.5
        return np.clip(moved, 0, np.asarray(self.image_size) - 1).reshape(-1, 4)

    def clip(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) of the input within the pixels that the image covers."""
        low, high = self._covered()
        return np.clip(np.asarray(boxes, float).reshape(-1, 2, 2), low, high - 1).reshape(-1, 4)

    def _covered(self) -> tuple[np.ndarray, np.ndarray]:
        """First pixel of the canvas with the image on it, and the one after the last, (2,) int each."""
        low = np.clip(self.offset, 0, self.canvas_size)
        return low, np.clip(np.add(self.offset, self.scaled_size), low, self.canvas_size)


def letterbox(image_size: ImageSize, side: int) -> Placement:
    """The whole image, its longer side `side` pixels, in the corner of the smallest canvas of whole strides."""
    shrink = side / max(image_size)
    scaled = tuple(max(round(length * shrink), 1) for length in image_size)
    return Placement(image_size, scaled, tuple(STRIDE * -(-length // STRIDE) for length in scaled))


def random_placement(
    image_size: ImageSize, side: int, zoom: tuple[float, float], mirror_prob: float, rng: np.random.Generator
) -> Placement:
    """The image `zoom` times as large as in its letterbox, anywhere such that one of the two covers the other."""
    whole = letterbox(image_size, side)
    factor = np.exp(rng.uniform(*np.log(zoom)))
    scaled = tuple(max(round(length * factor), 1) for length in whole.scaled_size)
    room = np.subtract(whole.canvas_size, scaled)
    offset = tuple(int(rng.integers(min(space, 0), max(space, 0) + 1)) for space in room)
    mirrored = bool(rng.random() < mirror_prob)
    return Placement(image_size, scaled, whole.canvas_size, offset, mirrored)
