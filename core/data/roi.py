"""Regions of interest: from a box to a square window of the image, and the window's sample positions.

Pixel centres lie at integer coordinates. An ROI is resampled to `out` x `out` values that lie at the source
positions `c + (dst - out/2) * s/out`; image crops, maps and cast rays all use these same positions, so that
nothing is resampled twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from sopose.core.utils.errors import UserError, nearest

ImageSize = tuple[int, int]  # (width, height), as OpenCV orders sizes

ROI10D_SIDE_SHIFT = 0.15  # Manhardt et al., ROI-10D: each side of the box moves by up to 15 % of its length


@dataclass(frozen=True, eq=False)
class Roi:
    """A square window in pixels: `center` (2,), side `size`, and `wh` (2,) of the box it stands for."""

    center: np.ndarray
    size: float
    wh: np.ndarray


def _roi(center: np.ndarray, size: float, wh: np.ndarray, image_size: ImageSize) -> Roi:
    """An ROI no larger than the longer side of the image and no smaller than a pixel."""
    return Roi(np.asarray(center, float), float(min(max(size, 1.0), max(image_size))), np.asarray(wh, float))


def _center_wh(box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and size (both (2,), px) of an xyxy box; a box without area counts as one pixel."""
    box = np.asarray(box, float)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise UserError(f"a box must be four finite numbers x1, y1, x2, y2, got {box.tolist()}; repair its file")
    return (box[:2] + box[2:]) / 2, np.maximum(box[2:] - box[:2], 1.0)


def eval_roi(box: np.ndarray, image_size: ImageSize, pad_scale: float) -> Roi:
    """The ROI of a box (4,) xyxy in pixels at test time: centred, `pad_scale` times the longer side."""
    center, wh = _center_wh(box)
    return _roi(center, wh.max() * pad_scale, wh, image_size)


def _uniform(box: np.ndarray, rng: np.random.Generator, scale: float, shift: float) -> tuple[np.ndarray, float]:
    center, wh = _center_wh(box)
    return center + wh * rng.uniform(-shift, shift, 2), wh.max() * rng.uniform(1 - scale, 1 + scale)


def _roi10d(box: np.ndarray, rng: np.random.Generator, scale: float, shift: float) -> tuple[np.ndarray, float]:
    _, wh = _center_wh(box)
    moved = np.asarray(box, float) + np.tile(wh, 2) * rng.uniform(-ROI10D_SIDE_SHIFT, ROI10D_SIDE_SHIFT, 4)
    center, moved_wh = _center_wh(moved)
    return center, moved_wh.max()


def _truncnorm(box: np.ndarray, rng: np.random.Generator, scale: float, shift: float) -> tuple[np.ndarray, float]:
    # The same bounds as "uniform"; two standard deviations reach them.
    from scipy.stats import truncnorm  # half a second of every start, and hardly ever asked for

    center, wh = _center_wh(box)
    draws = truncnorm.rvs(-2, 2, size=3, random_state=rng) / 2
    return center + wh * shift * draws[:2], wh.max() * (1 + scale * draws[2])


def _none(box: np.ndarray, rng: np.random.Generator, scale: float, shift: float) -> tuple[np.ndarray, float]:
    center, wh = _center_wh(box)
    return center, wh.max()


DZI_TYPES: dict[str, Callable[..., tuple[np.ndarray, float]]] = {
    "uniform": _uniform,
    "roi10d": _roi10d,
    "truncnorm": _truncnorm,
    "none": _none,
}


def check_dzi_type(dzi_type: str) -> str:
    """`dzi_type` where it is a known kind of dynamic zoom-in; else a `UserError` that names the nearest."""
    if dzi_type not in DZI_TYPES:
        known = sorted(DZI_TYPES)
        raise UserError(
            f"unknown INPUT.DZI_TYPE '{dzi_type}'{nearest(str(dzi_type), known)} (known: {', '.join(known)})"
        )
    return dzi_type


def sample_dzi(
    box: np.ndarray,
    image_size: ImageSize,
    rng: np.random.Generator,
    dzi_type: str = "uniform",
    pad_scale: float = 1.5,
    scale_ratio: float = 0.25,
    shift_ratio: float = 0.25,
) -> Roi:
    """Dynamic zoom-in (CDPN, GDR-Net): a training ROI, moved and scaled about a box (4,) xyxy in pixels.

    "uniform" shifts the centre by U(-shift, shift) (w, h) and scales the side by U(1-scale, 1+scale);
    "roi10d" moves each side of the box by up to 15 %; "truncnorm" has the bounds of "uniform" under a
    normal law; "none" is the test-time ROI. The ROI keeps the size `wh` of the box it was made from.
    """
    center, side = DZI_TYPES[check_dzi_type(dzi_type)](box, rng, scale_ratio, shift_ratio)
    return _roi(center, side * pad_scale, _center_wh(box)[1], image_size)


# How far ROIs reach: the longest side in longer sides of the box before padding, and the largest shift of the centre
# in sides of the box; by `scale` and `shift` ratio.
DZI_REACH: dict[str, Callable[[float, float], tuple[float, float]]] = {
    "uniform": lambda scale, shift: (1 + scale, shift),
    "roi10d": lambda scale, shift: (1 + 2 * ROI10D_SIDE_SHIFT, ROI10D_SIDE_SHIFT),
    "truncnorm": lambda scale, shift: (1 + scale, shift),
    "none": lambda scale, shift: (1.0, 0.0),
}


def dzi_window(
    box: np.ndarray,
    dzi_type: str = "uniform",
    pad_scale: float = 1.5,
    scale_ratio: float = 0.25,
    shift_ratio: float = 0.25,
) -> Roi:
    """The smallest square about a box (4,) xyxy that holds every ROI that `sample_dzi` draws of it."""
    center, wh = _center_wh(box)
    side, shift = DZI_REACH[check_dzi_type(dzi_type)](scale_ratio, shift_ratio)
    return Roi(center, float(wh.max() * (side * pad_scale + 2 * shift)), wh)


def roi_positions(roi: Roi, out: int) -> np.ndarray:
    """(out, out, 2) float64 source positions (u, v) in pixels of the ROI's samples, row by row."""
    offsets = (np.arange(out) - out / 2) * (roi.size / out)
    positions = np.empty((2, out, out))  # all u, then all v: what is computed of them runs along long rows
    positions[0] = roi.center[0] + offsets
    positions[1] = (roi.center[1] + offsets)[:, None]
    return positions.transpose(1, 2, 0)


def crop_positions(uv: np.ndarray, center: np.ndarray, side: float, resolution: int) -> np.ndarray:
    """Pixels (..., 2) of the image as positions (..., 2) in a crop: the inverse of `roi_positions`.

    The crop has `resolution` samples a side, the first at 0; the ROI is `side` pixels long around `center` (2,).
    """
    return (uv - center) * (resolution / side) + resolution / 2


def crop_image(image: np.ndarray, roi: Roi, out: int, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """The image (H, W) or (H, W, C) sampled at `roi_positions(roi, out)`; zero outside of the image."""
    return cv2.warpAffine(image, _dst_to_src(roi, out), (out, out), flags=interpolation | cv2.WARP_INVERSE_MAP)


def crop_of_other_camera(image: np.ndarray, roi: Roi, out: int, image_H_other: np.ndarray) -> np.ndarray:
    """The crop of an ROI of another camera's image, whose pixels a homography (3, 3) takes to those of `image`.

    Zero outside of the image. All of the ROI must lie before both cameras.
    """
    dst_to_image = image_H_other @ np.vstack([_dst_to_src(roi, out), (0, 0, 1)])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(image, dst_to_image, (out, out), flags=flags)


def _dst_to_src(roi: Roi, out: int) -> np.ndarray:
    """(2, 3) affine map from samples of a crop to pixels: `roi_positions`."""
    step, (x, y) = roi.size / out, roi.center - roi.size / 2
    return np.array([[step, 0.0, x], [0.0, step, y]])


def inside_image(positions: np.ndarray, image_size: ImageSize) -> np.ndarray:
    """(...) bool: which positions (..., 2) lie on a pixel of the image."""
    limit = np.asarray(image_size) - 0.5
    return ((positions >= -0.5) & (positions < limit)).all(axis=-1)


def part_inside(positions: np.ndarray, image_size: ImageSize) -> tuple[slice, slice]:
    """Rows and columns of a grid of positions (H, W, 2), parallel to the image's axes, that lie on the image."""
    middle, spans = (np.asarray(image_size) - 1) / 2, []
    for axis, line in ((1, positions[:, 0]), (0, positions[0])):
        at = np.tile(middle, (len(line), 1))
        at[:, axis] = line[:, axis]
        used = np.flatnonzero(inside_image(at, image_size))
        spans.append(slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0))
    return spans[0], spans[1]


def coord_2d(positions: np.ndarray, image_size: ImageSize) -> np.ndarray:
    """(2, out, out) float32 relative image coordinates x/(W-1), y/(H-1) of positions (out, out, 2)."""
    relative = positions / (np.asarray(image_size, float) - 1)
    return np.ascontiguousarray(relative.transpose(2, 0, 1), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class RoiView:
    """A camera K (3, 3) with images of `image_size` (width, height), and an ROI with maps of side `out`."""

    K: np.ndarray
    image_size: ImageSize
    roi: Roi
    out: int

    @cached_property
    def positions(self) -> np.ndarray:
        """(out, out, 2) source pixels of the maps' cells."""
        return roi_positions(self.roi, self.out)

    @cached_property
    def inside(self) -> np.ndarray:
        """(out, out) bool: the cell lies on the image."""
        return inside_image(self.positions, self.image_size)
