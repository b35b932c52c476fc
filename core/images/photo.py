"""Anybody's photograph, from a file or an array, brought to one form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sopose.core.images.files import read_image
from sopose.core.utils.errors import UserError


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
