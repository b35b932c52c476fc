"""Operations on the colours of an image, under the names and argument names of imgaug.

Each is a callable `(image (H, W, 3) uint8, rng) -> uint8`, small enough to run on every training sample:
changes of single values go through look-up tables. A parameter is a number, a range `(low, high)` drawn
from uniformly, a list to choose from, or a function of the generator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from sopose.core.images.files import through_jpeg
from sopose.core.utils.errors import UserError
from sopose.core.utils.registry import Registry

Draw = Callable[[np.random.Generator], float]
Parameter = float | tuple[float, float] | list[float] | Draw

_LEVELS = np.arange(256, dtype=np.float32)
_GREY = np.array([0.114, 0.587, 0.299])  # what blue, green and red add to grey (ITU-R BT.601)
# Principal components of ImageNet's colours of 0-1 (Krizhevsky et al., 2012): deviations and, a column each, directions
# in red, green, blue.
_PCA_DEVIATIONS = np.array([0.2175, 0.0188, 0.0045])
_PCA_DIRECTIONS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


class Augmenter(ABC):
    """An operation on an image (H, W, 3) uint8; `rng` is its only source of randomness."""

    @abstractmethod
    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image after the operation, of the same shape and type."""


AUGMENTERS: Registry[type[Augmenter]] = Registry("colour augmentation")


def draw(parameter: Parameter, rng: np.random.Generator, size: int = 1) -> np.ndarray:
    """(size,) float32 values of a parameter."""
    if isinstance(parameter, tuple):
        return rng.uniform(*parameter, size).astype(np.float32)
    if isinstance(parameter, list):
        return rng.choice(np.asarray(parameter, np.float32), size)
    if callable(parameter):
        return np.array([parameter(rng) for _ in range(size)], np.float32)
    return np.full(size, parameter, np.float32)


def _check_parameters(owner: Augmenter, **parameters: object) -> None:
    """Refuse what cannot be drawn from, when the text is read rather than in the middle of training."""
    for name, value in parameters.items():
        plain = isinstance(value, (int, float, tuple)) or (callable(value) and not isinstance(value, Augmenter))
        if not (plain or (isinstance(value, list) and value and all(isinstance(v, (int, float)) for v in value))):
            raise UserError(
                f"COLOR_AUG_CODE: {type(owner).__name__}({name}=...) wants a number, a range (low, high) "
                f"or a list of numbers, got {value!r}"
            )


def _draw_channels(parameter: Parameter, per_channel: Parameter, rng: np.random.Generator, channels: int) -> np.ndarray:
    """(channels,) values: one for all, or with probability `per_channel` one for each."""
    apart = rng.random() < float(draw(per_channel, rng)[0])
    return draw(parameter, rng, channels) if apart else np.repeat(draw(parameter, rng), channels)


def _apply_curves(image: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Map the levels of each channel by `curves` (256, C), rounded and clipped to bytes."""
    table = np.clip(np.rint(curves), 0, 255).astype(np.uint8)
    return cv2.LUT(image, np.ascontiguousarray(table[None]))


@AUGMENTERS.register("Sequential")
@dataclass
class Sequential(Augmenter):
    """All children, in the given order or a random one."""

    children: Sequence[Augmenter] = field(default_factory=list)
    random_order: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.children, Augmenter):
            self.children = [self.children]
        if not isinstance(self.children, list) or not all(isinstance(c, Augmenter) for c in self.children):
            raise UserError("COLOR_AUG_CODE: Sequential wants a list of operations")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        order = rng.permutation(len(self.children)) if self.random_order else range(len(self.children))
        for index in order:
            image = self.children[index](image, rng)
        return image


@AUGMENTERS.register("Sometimes")
@dataclass
class Sometimes(Augmenter):
    """The children with probability `p`, else the image as it is."""

    p: Parameter = 0.5
    then_list: Augmenter | Sequence[Augmenter] = field(default_factory=list)

    def __post_init__(self) -> None:
        _check_parameters(self, p=self.p)
        self._then = Sequential(self.then_list)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self._then(image, rng) if rng.random() < float(draw(self.p, rng)[0]) else image


@AUGMENTERS.register("CoarseDropout")
@dataclass
class CoarseDropout(Augmenter):
    """Cells of a coarse grid, `size_percent` of the image's size (at least 4 cells a side), turn black."""

    p: Parameter = 0.1
    size_percent: Parameter = 0.05
    per_channel: Parameter = False

    def __post_init__(self) -> None:
        _check_parameters(self, p=self.p, size_percent=self.size_percent, per_channel=self.per_channel)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width, channels = image.shape
        share = float(draw(self.size_percent, rng)[0])
        grid = max(round(height * share), 4), max(round(width * share), 4)
        apart = rng.random() < float(draw(self.per_channel, rng)[0])
        kept = rng.random((*grid, channels if apart else 1)) >= float(draw(self.p, rng)[0])
        kept = np.broadcast_to(kept, (*grid, channels)).astype(np.uint8)
        return image * cv2.resize(kept, (width, height), interpolation=cv2.INTER_NEAREST)


@AUGMENTERS.register("GaussianBlur")
@dataclass
class GaussianBlur(Augmenter):
    """Gaussian blur of standard deviation `sigma` pixels; below 0.05 nothing happens."""

    sigma: Parameter = (0.0, 3.0)

    def __post_init__(self) -> None:
        _check_parameters(self, sigma=self.sigma)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        sigma = float(draw(self.sigma, rng)[0])
        return cv2.GaussianBlur(image, (0, 0), sigma) if sigma >= 0.05 else image


@AUGMENTERS.register("MotionBlur")
@dataclass
class MotionBlur(Augmenter):
    """Mean along a line of `k` pixels at a random angle (degrees)."""

    k: Parameter = (3.0, 7.0)
    angle: Parameter = (0.0, 180.0)

    def __post_init__(self) -> None:
        _check_parameters(self, k=self.k, angle=self.angle)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        length = max(float(draw(self.k, rng)[0]), 1.0)
        angle = np.deg2rad(float(draw(self.angle, rng)[0]))
        side = int(np.ceil(length)) // 2 * 2 + 1
        steps = np.linspace(-(length - 1) / 2, (length - 1) / 2, 4 * side)
        kernel = np.zeros((side, side), np.float32)
        column = np.rint(side // 2 + steps * np.cos(angle)).astype(int)
        row = np.rint(side // 2 + steps * np.sin(angle)).astype(int)
        np.add.at(kernel, (row, column), 1.0)
        return cv2.filter2D(image, -1, kernel / kernel.sum())


@AUGMENTERS.register("Add")
@dataclass
class Add(Augmenter):
    """`value` added to every level."""

    value: Parameter = (-20.0, 20.0)
    per_channel: Parameter = False

    def __post_init__(self) -> None:
        _check_parameters(self, value=self.value, per_channel=self.per_channel)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        value = _draw_channels(self.value, self.per_channel, rng, image.shape[2])
        return _apply_curves(image, _LEVELS[:, None] + value)


@AUGMENTERS.register("Multiply")
@dataclass
class Multiply(Augmenter):
    """Every level times `mul`."""

    mul: Parameter = (0.8, 1.2)
    per_channel: Parameter = False

    def __post_init__(self) -> None:
        _check_parameters(self, mul=self.mul, per_channel=self.per_channel)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        factor = _draw_channels(self.mul, self.per_channel, rng, image.shape[2])
        return _apply_curves(image, _LEVELS[:, None] * factor)


@AUGMENTERS.register("Invert")
@dataclass
class Invert(Augmenter):
    """255 minus the level: with probability `p` for the image, or for each channel by itself."""

    p: Parameter = 1.0
    per_channel: Parameter = False

    def __post_init__(self) -> None:
        _check_parameters(self, p=self.p, per_channel=self.per_channel)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        channels = image.shape[2]
        apart = rng.random() < float(draw(self.per_channel, rng)[0])
        coins = rng.random(channels) if apart else np.repeat(rng.random(), channels)
        inverted = coins < float(draw(self.p, rng)[0])
        return _apply_curves(image, np.where(inverted, 255 - _LEVELS[:, None], _LEVELS[:, None]))


@AUGMENTERS.register("LinearContrast", "ContrastNormalization")
@dataclass
class LinearContrast(Augmenter):
    """Distance to the middle level 128 times `alpha`."""

    alpha: Parameter = (0.6, 1.4)
    per_channel: Parameter = False

    def __post_init__(self) -> None:
        _check_parameters(self, alpha=self.alpha, per_channel=self.per_channel)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        alpha = _draw_channels(self.alpha, self.per_channel, rng, image.shape[2])
        return _apply_curves(image, 128 + alpha * (_LEVELS[:, None] - 128))


@AUGMENTERS.register("MeanContrast")
@dataclass
class MeanContrast(Augmenter):
    """Distance to the image's mean grey times `alpha`. Channels are taken as blue, green, red."""

    alpha: Parameter = (0.95, 1.05)

    def __post_init__(self) -> None:
        _check_parameters(self, alpha=self.alpha)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        mean = image.mean(axis=(0, 1)) @ _GREY
        return _apply_curves(image, mean + draw(self.alpha, rng) * (_LEVELS[:, None] - mean))


@AUGMENTERS.register("PCALighting")
@dataclass
class PCALighting(Augmenter):
    """A colour added to every pixel along ImageNet's principal components: normal, `scale` deviations wide.

    Channels are taken as blue, green, red.
    """

    scale: Parameter = 0.3

    def __post_init__(self) -> None:
        _check_parameters(self, scale=self.scale)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        weights = draw(self.scale, rng) * rng.standard_normal(3) * _PCA_DEVIATIONS
        return _apply_curves(image, _LEVELS[:, None] + 255 * (_PCA_DIRECTIONS @ weights)[::-1])


@AUGMENTERS.register("GammaContrast")
@dataclass
class GammaContrast(Augmenter):
    """255 (level / 255) ** `gamma`."""

    gamma: Parameter = (0.7, 1.7)
    per_channel: Parameter = False

    def __post_init__(self) -> None:
        _check_parameters(self, gamma=self.gamma, per_channel=self.per_channel)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        gamma = _draw_channels(self.gamma, self.per_channel, rng, image.shape[2])
        return _apply_curves(image, 255 * (_LEVELS[:, None] / 255) ** gamma)


@AUGMENTERS.register("AdditiveGaussianNoise")
@dataclass
class AdditiveGaussianNoise(Augmenter):
    """Normal noise of standard deviation `scale` levels, the same in all channels or one for each."""

    scale: Parameter = (0.0, 15.0)
    per_channel: Parameter = False

    def __post_init__(self) -> None:
        _check_parameters(self, scale=self.scale, per_channel=self.per_channel)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        apart = rng.random() < float(draw(self.per_channel, rng)[0])
        shape = (*image.shape[:2], image.shape[2] if apart else 1)
        noise = rng.standard_normal(shape, dtype=np.float32) * draw(self.scale, rng)[0]
        return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


@AUGMENTERS.register("Grayscale")
@dataclass
class Grayscale(Augmenter):
    """Blend with the grey image; `alpha` 1 leaves grey alone, below 0 colours grow. Channels: blue, green, red."""

    alpha: Parameter = 1.0

    def __post_init__(self) -> None:
        _check_parameters(self, alpha=self.alpha)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        alpha = float(draw(self.alpha, rng)[0])
        gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        return cv2.addWeighted(gray, alpha, image, 1 - alpha, 0)


@AUGMENTERS.register("JpegCompression")
@dataclass
class JpegCompression(Augmenter):
    """Written as JPEG and read again; `compression` 0 is the best quality, 100 the worst."""

    compression: Parameter = (20.0, 60.0)

    def __post_init__(self) -> None:
        _check_parameters(self, compression=self.compression)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        quality = int(np.clip(100 - draw(self.compression, rng)[0], 1, 100))
        return through_jpeg(image, quality)
