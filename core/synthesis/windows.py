"""Shaded windows: a lit scene around one object, rendered once and cropped many times.

Light and rays are nearly all that a rendered crop costs. A window holds the picture of everything that crops of its
object may show, before background, camera and colours; these and the crop are drawn anew each time.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sopose.core.data.roi import Roi, part_inside, roi_positions
from sopose.core.render.shade import Picture, render_rgb
from sopose.core.synthesis.scenes import DrawnScene, SceneDrawer


@dataclass(frozen=True, eq=False)
class Foreground:
    """What stands before a background: colours (H, W, 3) uint8 BGR times opacity, opacity and target (H, W) uint8.

    `target` is 255 where the first object is seen.
    """

    bgr: np.ndarray
    opacity: np.ndarray
    target: np.ndarray

    def part(self, rows_columns: tuple[slice, slice]) -> Foreground:
        """Some rows and columns of it."""
        return Foreground(self.bgr[rows_columns], self.opacity[rows_columns], self.target[rows_columns])

    def without_target(self, where: np.ndarray) -> Foreground:
        """The same with the target taken away at cells (H, W) bool."""
        kept = ~((self.target > 0) & where)
        return Foreground(self.bgr * kept[..., None], self.opacity * kept, self.target * kept)

    def before(self, background: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8: the foreground before a background (H, W, 3) uint8 BGR."""
        if not self.opacity.size:
            return background
        clear = cv2.merge([cv2.bitwise_not(self.opacity)] * 3)
        return cv2.add(self.bgr, cv2.multiply(background, clear, scale=1 / 255))


def foreground_of(picture: Picture, shape: tuple[int, int]) -> Foreground:
    """The pixels of a rendering whose grid has `shape` (H, W): opaque, or clear where nothing is seen."""
    owner = picture.owner.reshape(shape)
    bgr = np.ascontiguousarray(picture.rgb.reshape(*shape, 3)[..., ::-1])
    return Foreground(bgr, _as_opacity(owner >= 0), _as_opacity(owner == 0))


def _as_opacity(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.uint8) * np.uint8(255)


@dataclass(frozen=True, eq=False)
class ShadedWindow:
    """A scene, the square of the image that was rendered, and its n x n pixels."""

    scene: DrawnScene
    roi: Roi
    layers: np.ndarray  # (n, n, 4) uint8: blue, green, red, opacity; 0 where nothing is seen or off the image
    target: np.ndarray  # (n, n) uint8, 255 where the first object is seen

    def foreground(self, roi: Roi, side: int) -> Foreground:
        """What an ROI of the image shows at `roi_positions(roi, side)`."""
        count = len(self.target)
        density = count / self.roi.size
        step = roi.size / side * density
        corner = (roi.center - roi.size / 2 - self.roi.center) * density + count / 2
        to_window = np.array([[step, 0.0, corner[0]], [0.0, step, corner[1]]])
        layers = cv2.warpAffine(self.layers, to_window, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        target = cv2.warpAffine(self.target, to_window, (side, side), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
        return Foreground(layers[..., :3].copy(), layers[..., 3].copy(), target)


def shade_window(drawer: SceneDrawer, scene: DrawnScene, roi: Roi, most: int) -> ShadedWindow:
    """A scene's picture inside of a square of the image: the camera's pixels, but at most `most` a side."""
    side = max(min(round(roi.size), most), 1)
    positions = roi_positions(roi, side)
    part = part_inside(positions, drawer.options.image_size)
    layers, target = np.zeros((side, side, 4), np.uint8), np.zeros((side, side), np.uint8)
    inside = positions[part]
    picture = render_rgb(scene.of(drawer.models), inside, drawer.options.shading)
    seen = foreground_of(picture, inside.shape[:2])
    layers[part] = np.dstack([seen.bgr, seen.opacity])
    target[part] = seen.target
    return ShadedWindow(scene, roi, layers, target)
