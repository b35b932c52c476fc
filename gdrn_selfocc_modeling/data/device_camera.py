"""Backgrounds and the camera's faults for a batch of crops on a device.

What `sopose.core.synthesis.backgrounds` and `sopose.core.synthesis.sensor` do to one image on the CPU, without JPEG.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.sensor import SHARPEN_SIGMA, Sensor

SPARE = 1.5  # side of a stored background in sides of the crops cut from it


class DevicePool:
    """Random numbers and a pool of backgrounds on a device. Crops have the side `side`."""

    def __init__(self, backgrounds: Backgrounds, count: int, side: int, device: torch.device | str, seed: int) -> None:
        """Draw `count` backgrounds once; each batch shows random windows of them, half of them mirrored."""
        self.device, self.side = torch.device(device), side
        self.generator = torch.Generator(self.device).manual_seed(seed)
        rng, full = np.random.default_rng(seed), round(SPARE * side)
        images = np.stack([backgrounds.sample((full, full), rng) for _ in range(count)])
        self._images = torch.from_numpy(images[..., ::-1].copy()).to(self.device)  # (count, full, full, 3) uint8 RGB

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Float32 numbers between `low` and `high`."""
        return low + (high - low) * torch.rand(shape, generator=self.generator, device=self.device)

    def integers(self, end: int, *shape: int) -> Tensor:
        """Int64 numbers from 0 to below `end`."""
        return torch.randint(end, shape, generator=self.generator, device=self.device)

    def backgrounds(self, batch: int) -> Tensor:
        """(B, side, side, 3) uint8 RGB."""
        count, full = self._images.shape[:2]
        places = torch.arange(self.side, device=self.device)
        row, column = self.integers(full - self.side + 1, 2, batch, 1)
        across = torch.where(self.integers(2, batch, 1) > 0, places, self.side - 1 - places)
        which = self.integers(count, batch)[:, None, None]
        return self._images[which, (row + places)[:, :, None], (column + across)[:, None]]

    def take(self, image: Tensor, sensor: Sensor, pixel_scale: np.ndarray) -> Tensor:
        """Images (B, H, W, 3), levels 0 to 255, as a camera of the range `sensor` takes them; float32 whole levels.

        pixel_scale (B,): the side of a camera pixel in image pixels.
        """
        batch = len(image)
        sigma = self.uniform(*sensor.blur, batch) * torch.from_numpy(pixel_scale.astype(np.float32)).to(self.device)
        radius = min(int(np.ceil(3 * sensor.blur[1] * pixel_scale.max())), self.side - 1)
        levels = _blurred(image.movedim(-1, 1).float(), sigma, radius)
        exponent = self.uniform(1 - sensor.gamma, 1 + sensor.gamma, batch, 1, 1, 1)
        gain = self.uniform(1 - sensor.gain, 1 + sensor.gain, batch, 1, 1, 1)
        tint = self.uniform(1 - sensor.tint, 1 + sensor.tint, batch, 3, 1, 1)
        levels = (255 * (levels / 255) ** exponent * gain * tint).clamp(0, 255)
        deviation = self.uniform(*sensor.noise, batch, 1, 1, 1) * 0.7071
        grain = torch.randn((batch, 4, *levels.shape[2:]), generator=self.generator, device=self.device)
        # Half of the noise is common to the channels, as after demosaicing.
        levels = (levels + deviation * (grain[:, :3] + grain[:, 3:])).round().clamp(0, 255)
        if sensor.sharpen[1]:
            strength = self.uniform(*sensor.sharpen, batch, 1, 1, 1)
            scale = torch.from_numpy(pixel_scale.astype(np.float32)).to(self.device)
            radius = min(int(np.ceil(3 * SHARPEN_SIGMA * pixel_scale.max())), self.side - 1)
            levels = levels + strength * (levels - _blurred(levels, SHARPEN_SIGMA * scale, radius))
        return levels.round().clamp(0, 255).movedim(1, -1)


def _blurred(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """(B, C, H, W) float32 images, each blurred by its own Gaussian of `sigma` (B,) pixels, cut off at `radius`."""
    batch, channels = images.shape[:2]
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernels = torch.exp(-0.5 * (offsets / sigma.clamp_min(1e-3)[:, None]) ** 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)[:, None]
    stacked = pad(images, (radius,) * 4, mode="replicate").flatten(0, 1)[None]
    rows = conv2d(stacked, kernels[..., None, :], groups=batch * channels)
    return conv2d(rows, kernels[..., None], groups=batch * channels).view(images.shape)
