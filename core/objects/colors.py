"""Colours of surfaces: sRGB levels as light and back, and the colour of a texture at a point."""

from __future__ import annotations

import numpy as np


def srgb_to_linear(encoded: np.ndarray) -> np.ndarray:
    """Encoded values in [0, 1] as light, IEC 61966-2-1."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """Light in [0, 1] as encoded values, IEC 61966-2-1."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


DECODE = srgb_to_linear(np.arange(256) / 255).astype(np.float32)
_ENCODE_STEPS = 4095  # within one grey level everywhere, and a look-up is faster than a power
_ENCODE = np.rint(255 * linear_to_srgb(np.arange(_ENCODE_STEPS + 1) / _ENCODE_STEPS)).astype(np.uint8)


def encode(linear: np.ndarray) -> np.ndarray:
    """Light (...) as uint8 sRGB levels; more than 1 is white."""
    return _ENCODE[(np.clip(linear, 0, 1) * np.float32(_ENCODE_STEPS) + np.float32(0.5)).astype(np.int32)]


def texture_colors(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Linear colours (M, 3) of a texture (H, W, 3) at (M, 2), v upwards; bilinear; tiled outside [0, 1]."""
    height, width = texture.shape[:2]
    x, y = uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, low = (x - column)[:, None], (y - row)[:, None]

    def texel(down: int, across: int) -> np.ndarray:
        return DECODE[texture[(row + down) % height, (column + across) % width]]

    upper = (1 - right) * texel(0, 0) + right * texel(0, 1)
    lower = (1 - right) * texel(1, 0) + right * texel(1, 1)
    return (1 - low) * upper + low * lower
