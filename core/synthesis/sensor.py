"""What a camera does to a clean rendering: softness, white balance, exposure, noise, sharpening and compression."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from sopose.core.images.files import through_jpeg
from sopose.core.utils.errors import UserError

SHARPEN_SIGMA = 1.0  # camera pixels
NOISE_POOL = 1 << 20  # numbers; drawing them anew for every image takes longer than all else the sensor does


@lru_cache(maxsize=1)
def _noise_pool() -> np.ndarray:
    """(NOISE_POOL,) float32 from the normal law, the same in every process."""
    return np.random.default_rng(0).standard_normal(NOISE_POOL, dtype=np.float32)


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Noise of a shape: a piece of the pool from a random place on, repeated where that is too short."""
    pool, count = _noise_pool(), int(np.prod(shape))
    start = int(rng.integers(NOISE_POOL))
    if start + count <= NOISE_POOL:
        return pool[start : start + count].reshape(shape)
    return np.resize(np.concatenate([pool[start:], pool[:start]]), shape)


@dataclass(frozen=True)
class Sensor:
    """Ranges that each image draws its camera from; pairs are (low, high). All zero: a perfect camera."""

    blur: tuple[float, float] = (0.4, 1.4)  # Gaussian sigma of lens and demosaicing, pixels of the camera
    gain: float = 0.15  # exposure factor in 1 ± gain
    tint: float = 0.06  # white-balance factor of each channel in 1 ± tint
    gamma: float = 0.2  # response exponent in 1 ± gamma
    noise: tuple[float, float] = (0.0, 6.0)  # standard deviation, levels
    jpeg_prob: float = 0.3  # of compression with a quality of 50 to 95
    # Strength of the camera's own sharpening: how many times what a Gaussian of SHARPEN_SIGMA takes away is added.
    sharpen: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("blur", "noise", "sharpen"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise UserError(f"the camera's {name} must be a range (low, high), 0 <= low <= high: {low, high}")

    def __call__(self, image: np.ndarray, pixel_scale: float, rng: np.random.Generator) -> np.ndarray:
        """The image (H, W, 3) uint8 as taken; `pixel_scale` is the side of a camera pixel in image pixels."""
        sigma = rng.uniform(*self.blur) * pixel_scale
        if sigma >= 0.05:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        image = cv2.LUT(image, self._response(rng))
        deviation = rng.uniform(*self.noise)
        if deviation > 0:
            # Half of the noise is common to the channels, as after demosaicing.
            common, own = _noise(image.shape[:2], rng)[..., None], _noise(image.shape, rng)
            image = np.clip(image + np.float32(deviation * 0.7071) * (common + own) + np.float32(0.5), 0, 255)
            image = image.astype(np.uint8)
        strength = rng.uniform(*self.sharpen) if self.sharpen[1] else 0.0
        if strength > 0:
            soft = cv2.GaussianBlur(image, (0, 0), SHARPEN_SIGMA * pixel_scale)
            image = cv2.addWeighted(image, 1 + strength, soft, -strength, 0)
        if rng.random() < self.jpeg_prob:
            image = through_jpeg(image, int(rng.integers(50, 96)))
        return image

    def _response(self, rng: np.random.Generator) -> np.ndarray:
        """(1, 256, 3) uint8 table of exposure, white balance and response curve."""
        gains = (1 + rng.uniform(-self.gain, self.gain)) * (1 + rng.uniform(-self.tint, self.tint, 3))
        exponent = 1 + rng.uniform(-self.gamma, self.gamma)
        curve = 255 * (np.arange(256) / 255) ** exponent
        return np.clip(np.rint(curve[None, :, None] * gains), 0, 255).astype(np.uint8)
