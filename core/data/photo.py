"""Anybody's photograph and camera: read, brought to one form, and checked against each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_image

FAR_OFF = 0.15  # of the image's side: usual lenses have their principal point nearer to the middle than this


def as_rgb(image: np.ndarray | Path | str) -> np.ndarray:
    """An image as (H, W, 3) uint8 RGB.

    Taken are paths, and arrays that are grey (H, W) or (H, W, 1), RGB or RGBA, of 8 or 16 bits, or of floating point
    in [0, 1]. Raises `UserError` for anything else.
    """
    if isinstance(image, Path | str):
        # In colour, turned as its EXIF entry says, as images of data sets are read; 16 bits stay.
        image_bgr = read_image(Path(image), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, "give a photograph")
        image = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB)
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3) or not image.size:
        raise UserError(f"an image must be an array (H, W) or (H, W, channels), got {_form(image)}; convert it")
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] not in (1, 3, 4):
        raise UserError(f"an image must have 1, 3 or 4 channels, got {_form(image)}; convert it to RGB")
    levels = _levels(image[..., :3])
    return np.ascontiguousarray(np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels)


def _levels(image: np.ndarray) -> np.ndarray:
    """The image in uint8."""
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return np.round(image / 257.0).astype(np.uint8)
    if image.dtype == bool:
        return image.astype(np.uint8) * 255
    if np.issubdtype(image.dtype, np.floating):
        if not np.isfinite(image).all() or image.min() < 0 or image.max() > 1:
            raise UserError("an image of floating point must lie in [0, 1]; scale it, or convert it to uint8")
        return np.round(255 * image).astype(np.uint8)
    raise UserError(f"an image must be uint8, uint16 or floating point, got {image.dtype}; convert it")


def _form(image: Any) -> str:
    return f"shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__


def as_K(K: np.ndarray | Sequence[float]) -> np.ndarray:
    """Intrinsics (3, 3) float64, pixels, of a matrix or of (fx, fy, cx, cy). Raises `UserError` for what is none."""
    try:
        values = np.asarray(K, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"K must be (3, 3) numbers or (fx, fy, cx, cy), got {str(K)[:60]}") from error
    if values.shape == (4,):
        fx, fy, cx, cy = values
        values = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if values.shape != (3, 3) or not np.isfinite(values).all():
        raise UserError(f"K must be (3, 3) finite numbers or (fx, fy, cx, cy), got {np.asarray(K).tolist()}")
    if values[0, 0] <= 0 or values[1, 1] <= 0 or (values[2] != (0, 0, 1)).any() or values[1, 0] != 0:
        raise UserError(f"K must be [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0, got {values.tolist()}")
    return values


def check_camera(K: np.ndarray, width: int, height: int) -> list[str]:
    """What is odd about a camera K (3, 3) for images of this size, pixels.

    Raises `UserError` where the principal point is outside of the image, as with the K of another resolution.
    """
    (cx, cy), size = K[:2, 2], np.array([width, height])
    if not (0 <= cx <= width - 1 and 0 <= cy <= height - 1):
        raise UserError(
            f"K has its principal point at ({cx:.0f}, {cy:.0f}), outside of the image of {width} x {height} pixels; "
            f"K of another resolution? scale fx, fy, cx, cy by the same factor as the image"
        )
    off = np.abs(np.array([cx, cy]) - (size - 1) / 2) / size
    if off.max() > FAR_OFF:
        return [f"K's principal point ({cx:.0f}, {cy:.0f}) is far from the middle of {width} x {height}"]
    return []
