"""Anybody's photograph, from a file or an array, brought to one form."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sopose.core.images.files import read_image
from sopose.core.utils.errors import UserError

FEW_BITS = 14  # cameras of 10, 12 or 14 bits store them in 16
logger = logging.getLogger(__name__)


def read_photo(path: Path, remedy: str) -> np.ndarray:
    """An image file as (H, W, 3) uint8 BGR, whatever its channels and bits; turned as its EXIF entry says.

    Raises `UserError`, which ends in `remedy`, where it is missing or damaged.
    """
    image = read_image(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, remedy)
    return _levels(image, f"the images of {Path(path).parent}")


def as_rgb(image: np.ndarray | Path | str) -> np.ndarray:
    """An image as (H, W, 3) uint8 RGB.

    Taken are paths, and arrays that are grey (H, W) or (H, W, 1), RGB or RGBA, of 8 or 16 bits, or of floating point
    in [0, 1]. Raises `UserError` for anything else.
    """
    if isinstance(image, Path | str):
        return cv2.cvtColor(read_photo(Path(image), "give a photograph"), cv2.COLOR_BGR2RGB)
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3) or not image.size:
        raise UserError(f"an image must be an array (H, W) or (H, W, channels), got {_form(image)}; convert it")
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] not in (1, 3, 4):
        raise UserError(f"an image must have 1, 3 or 4 channels, got {_form(image)}; convert it to RGB")
    levels = _levels(image[..., :3], "the arrays given")
    return np.ascontiguousarray(np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels)


def fills_few_bits(image: np.ndarray) -> bool:
    """Whether an image of 16 bits has the values of a camera of 10 to 14: it is nearly black as it is."""
    return image.dtype == np.uint16 and 0 < int(image.max(initial=0)) < 1 << FEW_BITS


def _levels(image: np.ndarray, where: str) -> np.ndarray:
    """The image in uint8; `where` names its like."""
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        if fills_few_bits(image):
            _warn_of_few_bits(where)
        return np.round(image / 257.0).astype(np.uint8)
    if image.dtype == bool:
        return image.astype(np.uint8) * 255
    if np.issubdtype(image.dtype, np.floating):
        if not np.isfinite(image).all() or image.min() < 0 or image.max() > 1:
            raise UserError("an image of floating point must lie in [0, 1]; scale it, or convert it to uint8")
        return np.round(255 * image).astype(np.uint8)
    raise UserError(f"an image must be uint8, uint16 or floating point, got {image.dtype}; convert it")


@cache  # once for all images of a place
def _warn_of_few_bits(where: str) -> None:
    most = f"{(1 << FEW_BITS) - 1} of 65535"
    logger.warning(
        "%s have 16 bits and values up to %s at most: nearly black; scale them to the whole range", where, most
    )


def _form(image: Any) -> str:
    return f"shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
