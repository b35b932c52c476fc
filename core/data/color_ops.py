"""Operations on the colours of an image, under the names and argument names of imgaug.

Each is a callable `(image (H, W, 3) uint8, rng) -> uint8`, small enough to run on every training sample:
changes of single values go through look-up tables. A parameter is a number, a range `(low, high)` drawn
from uniformly, a list to choose from, or a function of the generator.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from sopose.core.images.files import through_jpeg
from sopose.core.utils.errors import UserError
from sopose.core.utils.registry import Registry

Draw = Callable[[np.random.Generator], float]
Parameter = float | tuple[float, float] | list[float] | Draw
Image = np.ndarray
Rng = np.random.Generator

_LEVELS = np.arange(256, dtype=np.float32)[:, None]
_GREY = np.array([0.114, 0.587, 0.299])  # what blue, green and red add to grey (ITU-R BT.601)
# Principal components of ImageNet's colours of 0-1 (Krizhevsky et al., 2012): deviations and, a column each, directions
# in red, green, blue.
_PCA_DEVIATIONS = np.array([0.2175, 0.0188, 0.0045])
_PCA_DIRECTIONS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


class Augmenter(ABC):
    """An operation on an image (H, W, 3) uint8; `rng` is its only source of randomness."""

    @abstractmethod
    def __call__(self, image: Image, rng: Rng) -> Image:
        """The image after the operation, of the same shape and type."""


AUGMENTERS: Registry[Callable[..., Augmenter]] = Registry("colour augmentation")


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

    def __call__(self, image: Image, rng: Rng) -> Image:
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
        _check_parameters("Sometimes", {"p": self.p})
        self._then = Sequential(self.then_list)

    def __call__(self, image: Image, rng: Rng) -> Image:
        return self._then(image, rng) if _happens(self.p, rng) else image


@dataclass(frozen=True)
class Operation(Augmenter):
    """One of the functions below with its parameters, which are drawn from at each application."""

    function: Callable[..., Image]  # (image, rng, **parameters)
    parameters: Mapping[str, Parameter]

    def __call__(self, image: Image, rng: Rng) -> Image:
        return self.function(image, rng, **self.parameters)


def operation(*names: str, **defaults: Parameter) -> Callable[[Callable[..., Image]], Callable[..., Image]]:
    """Decorator that registers a function as an operation under `names`, with its parameters and their defaults."""
    places = [inspect.Parameter(k, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=v) for k, v in defaults.items()]

    def register(function: Callable[..., Image]) -> Callable[..., Image]:
        def build(**parameters: Parameter) -> Operation:
            _check_parameters(names[0], parameters)
            return Operation(function, defaults | parameters)

        build.__signature__ = inspect.Signature(places)  # what the parser matches arguments with
        AUGMENTERS.register(*names)(build)
        return function

    return register


def _check_parameters(owner: str, parameters: Mapping[str, object]) -> None:
    """Refuse what cannot be drawn from, when the text is read rather than in the middle of training."""
    for name, value in parameters.items():
        plain = isinstance(value, (int, float, tuple)) or (callable(value) and not isinstance(value, Augmenter))
        if not (plain or (isinstance(value, list) and value and all(isinstance(v, (int, float)) for v in value))):
            raise UserError(
                f"COLOR_AUG_CODE: {owner}({name}=...) wants a number, a range (low, high) or a list of numbers, "
                f"got {value!r}"
            )


def draw(parameter: Parameter, rng: Rng, size: int = 1) -> np.ndarray:
    """(size,) float32 values of a parameter."""
    if isinstance(parameter, tuple):
        return rng.uniform(*parameter, size).astype(np.float32)
    if isinstance(parameter, list):
        return rng.choice(np.asarray(parameter, np.float32), size)
    if callable(parameter):
        return np.array([parameter(rng) for _ in range(size)], np.float32)
    return np.full(size, parameter, np.float32)


def _one(parameter: Parameter, rng: Rng) -> float:
    return float(draw(parameter, rng)[0])


def _happens(probability: Parameter, rng: Rng) -> bool:
    return rng.random() < _one(probability, rng)


def _draw_channels(parameter: Parameter, per_channel: Parameter, rng: Rng, channels: int) -> np.ndarray:
    """(channels,) values: one for all, or with probability `per_channel` one for each."""
    apart = _happens(per_channel, rng)
    return draw(parameter, rng, channels) if apart else np.repeat(draw(parameter, rng), channels)


def _apply_curves(image: Image, curves: np.ndarray) -> Image:
    """Map the levels of each channel by `curves` (256, C), rounded and clipped to bytes."""
    table = np.clip(np.rint(curves), 0, 255).astype(np.uint8)
    return cv2.LUT(image, np.ascontiguousarray(table[None]))


@operation("CoarseDropout", p=0.1, size_percent=0.05, per_channel=False)
def coarse_dropout(image: Image, rng: Rng, p: Parameter, size_percent: Parameter, per_channel: Parameter) -> Image:
    """Cells of a coarse grid, `size_percent` of the image's size (at least 4 cells a side), turn black."""
    height, width, channels = image.shape
    share = _one(size_percent, rng)
    grid = max(round(height * share), 4), max(round(width * share), 4)
    apart = _happens(per_channel, rng)
    kept = rng.random((*grid, channels if apart else 1)) >= _one(p, rng)
    kept = np.broadcast_to(kept, (*grid, channels)).astype(np.uint8)
    return image * cv2.resize(kept, (width, height), interpolation=cv2.INTER_NEAREST)


@operation("GaussianBlur", sigma=(0.0, 3.0))
def gaussian_blur(image: Image, rng: Rng, sigma: Parameter) -> Image:
    """Gaussian blur of standard deviation `sigma` pixels; below 0.05 nothing happens."""
    deviation = _one(sigma, rng)
    return cv2.GaussianBlur(image, (0, 0), deviation) if deviation >= 0.05 else image


@operation("MotionBlur", k=(3.0, 7.0), angle=(0.0, 180.0))
def motion_blur(image: Image, rng: Rng, k: Parameter, angle: Parameter) -> Image:
    """Mean along a line of `k` pixels at a random angle (degrees)."""
    length = max(_one(k, rng), 1.0)
    radians = np.deg2rad(_one(angle, rng))
    side = int(np.ceil(length)) // 2 * 2 + 1
    steps = np.linspace(-(length - 1) / 2, (length - 1) / 2, 4 * side)
    kernel = np.zeros((side, side), np.float32)
    column = np.rint(side // 2 + steps * np.cos(radians)).astype(int)
    row = np.rint(side // 2 + steps * np.sin(radians)).astype(int)
    np.add.at(kernel, (row, column), 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum())


@operation("Add", value=(-20.0, 20.0), per_channel=False)
def add(image: Image, rng: Rng, value: Parameter, per_channel: Parameter) -> Image:
    """`value` added to every level."""
    return _apply_curves(image, _LEVELS + _draw_channels(value, per_channel, rng, image.shape[2]))


@operation("Multiply", mul=(0.8, 1.2), per_channel=False)
def multiply(image: Image, rng: Rng, mul: Parameter, per_channel: Parameter) -> Image:
    """Every level times `mul`."""
    return _apply_curves(image, _LEVELS * _draw_channels(mul, per_channel, rng, image.shape[2]))


@operation("Invert", p=1.0, per_channel=False)
def invert(image: Image, rng: Rng, p: Parameter, per_channel: Parameter) -> Image:
    """255 minus the level: with probability `p` for the image, or for each channel by itself."""
    channels = image.shape[2]
    coins = rng.random(channels) if _happens(per_channel, rng) else np.repeat(rng.random(), channels)
    return _apply_curves(image, np.where(coins < _one(p, rng), 255 - _LEVELS, _LEVELS))


@operation("LinearContrast", "ContrastNormalization", alpha=(0.6, 1.4), per_channel=False)
def linear_contrast(image: Image, rng: Rng, alpha: Parameter, per_channel: Parameter) -> Image:
    """Distance to the middle level 128 times `alpha`."""
    return _apply_curves(image, 128 + _draw_channels(alpha, per_channel, rng, image.shape[2]) * (_LEVELS - 128))


@operation("MeanContrast", alpha=(0.95, 1.05))
def mean_contrast(image: Image, rng: Rng, alpha: Parameter) -> Image:
    """Distance to the image's mean grey times `alpha`. Channels are taken as blue, green, red."""
    mean = image.mean(axis=(0, 1)) @ _GREY
    return _apply_curves(image, mean + draw(alpha, rng) * (_LEVELS - mean))


@operation("PCALighting", scale=0.3)
def pca_lighting(image: Image, rng: Rng, scale: Parameter) -> Image:
    """A colour added to every pixel along ImageNet's principal components: normal, `scale` deviations wide.

    Channels are taken as blue, green, red.
    """
    weights = draw(scale, rng) * rng.standard_normal(3) * _PCA_DEVIATIONS
    return _apply_curves(image, _LEVELS + 255 * (_PCA_DIRECTIONS @ weights)[::-1])


@operation("GammaContrast", gamma=(0.7, 1.7), per_channel=False)
def gamma_contrast(image: Image, rng: Rng, gamma: Parameter, per_channel: Parameter) -> Image:
    """255 (level / 255) ** `gamma`."""
    return _apply_curves(image, 255 * (_LEVELS / 255) ** _draw_channels(gamma, per_channel, rng, image.shape[2]))


@operation("AdditiveGaussianNoise", scale=(0.0, 15.0), per_channel=False)
def additive_gaussian_noise(image: Image, rng: Rng, scale: Parameter, per_channel: Parameter) -> Image:
    """Normal noise of standard deviation `scale` levels, the same in all channels or one for each."""
    shape = (*image.shape[:2], image.shape[2] if _happens(per_channel, rng) else 1)
    noise = rng.standard_normal(shape, dtype=np.float32) * draw(scale, rng)[0]
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


@operation("Grayscale", alpha=1.0)
def grayscale(image: Image, rng: Rng, alpha: Parameter) -> Image:
    """Blend with the grey image; `alpha` 1 leaves grey alone, below 0 colours grow. Channels: blue, green, red."""
    share = _one(alpha, rng)
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(gray, share, image, 1 - share, 0)


@operation("JpegCompression", compression=(20.0, 60.0))
def jpeg_compression(image: Image, rng: Rng, compression: Parameter) -> Image:
    """Written as JPEG and read again; `compression` 0 is the best quality, 100 the worst."""
    quality = int(np.clip(100 - draw(compression, rng)[0], 1, 100))
    return through_jpeg(image, quality)
