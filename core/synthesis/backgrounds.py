"""Backgrounds for training images: crops of photographs of a folder, or procedural clutter."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import cv2
import numpy as np

from sopose.core.images.files import IMAGE_SUFFIXES, image_files
from sopose.core.images.photo import read_photo
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_dir

CACHED_IMAGES = 256
CACHED_SIDE = 640  # larger photographs are kept at this size: a crop of a few hundred pixels needs no more
MIN_CROP = 0.4  # of the largest window with the wanted aspect that fits into a photograph


class Backgrounds:
    """Random backgrounds of any size.

    With a folder: windows of its image files (searched to any depth), each window with the wanted
    aspect, flipped half of the time. Without: `procedural_background`. Raises `UserError` where the folder
    is missing or holds no image.
    """

    def __init__(
        self,
        folder: Path | None = None,
        max_images: int | None = None,
        keep_aspect: bool = True,
        left_out: Sequence[str] = (),
    ) -> None:
        """At most `max_images` files, spread over the folder; without `keep_aspect` windows are stretched.

        left_out: shell patterns of files, relative to the folder, that aren't used: photographs kept for tests.
        """
        paths = [] if folder is None else _image_paths(Path(folder), left_out)
        step = max(1.0, len(paths) / max_images) if max_images else 1.0
        self.paths = [paths[int(k * step)] for k in range(int(len(paths) / step))]
        self.keep_aspect = keep_aspect
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()

    def parted(self, every: int) -> tuple[Backgrounds, Backgrounds]:
        """All but each `every`-th photograph, and those alone; where there are too few, or none, all of them twice."""
        if len(self.paths) < every:
            return self, self
        others = [path for place, path in enumerate(self.paths) if place % every != every - 1]
        return self._of(others), self._of(self.paths[every - 1 :: every])

    def _of(self, paths: list[Path]) -> Backgrounds:
        part = copy.copy(self)
        part.paths, part._cache = paths, OrderedDict()
        return part

    def sample(self, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """(H, W, 3) uint8 BGR background of `size` (width, height)."""
        if not self.paths:
            return procedural_background(size, rng)
        image = self._image(int(rng.integers(len(self.paths))))
        window_shape = size if self.keep_aspect else (image.shape[1], image.shape[0])
        return _random_window(image, window_shape, size, rng)

    def _image(self, index: int) -> np.ndarray:
        """Photograph `index`, from the least-recently-used cache where it is there; several threads may call."""
        image = self._cache.pop(index, None)
        if image is None:
            image = read_photo(self.paths[index], "remove it from the backgrounds (INPUT.BG_IMGS_ROOT)")
            shrink = CACHED_SIDE / max(image.shape[:2])
            if shrink < 1:
                image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        self._cache[index] = image
        if len(self._cache) > CACHED_IMAGES:
            self._cache.popitem(last=False)
        return image

    def __getstate__(self) -> dict:
        """Pickled without its cache, for worker processes."""
        return {**self.__dict__, "_cache": OrderedDict()}


def _image_paths(folder: Path, left_out: Sequence[str]) -> list[Path]:
    """All images below a folder but those left out, sorted; hidden files are none."""
    remedy = "set INPUT.BG_IMGS_ROOT to a folder of photographs, or to '' for procedural backgrounds"
    require_dir(folder, remedy)
    paths = image_files(folder, deep=True)
    if not paths:
        raise UserError(f"{folder} has no image ({', '.join(IMAGE_SUFFIXES)}); {remedy}")
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    kept = [path for path in paths if not any(fnmatchcase(names[path], pattern) for pattern in left_out)]
    if not kept:
        raise UserError(f"INPUT.BG_LEFT_OUT leaves out all {len(paths)} images of {folder}; correct its patterns")
    return kept


def _random_window(
    image: np.ndarray, shape: tuple[int, int], size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """A random window of the image with the aspect of `shape` (width, height), resized to `size`."""
    height, width = image.shape[:2]
    scale = min(width / shape[0], height / shape[1]) * rng.uniform(MIN_CROP, 1.0)
    window = max(int(shape[0] * scale), 1), max(int(shape[1] * scale), 1)
    left = int(rng.integers(width - window[0] + 1))
    top = int(rng.integers(height - window[1] + 1))
    cut = image[top : top + window[1], left : left + window[0]]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    shrinks = window[0] > 2 * size[0]
    return cv2.resize(cut, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def procedural_background(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 clutter of `size` (width, height): noise, a gradient, stripes, blobs, polygons."""
    image = _noise_octaves(size, rng) + _gradient(size, rng)
    if rng.random() < 0.4:
        image += _stripes(size, rng)
    image = np.clip(image + rng.uniform(40, 200, 3), 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(0, 12))):
        _draw_shape(image, rng)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 2.0))
    return image


def _noise_octaves(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32 smooth colour noise about 0: grids of 2, 4, … 64 cells a side, enlarged and added."""
    noise = np.zeros((size[1], size[0], 3), np.float32)
    roughness = rng.uniform(0.4, 0.9)
    amplitude = rng.uniform(15, 70)
    for cells in (2, 4, 8, 16, 32, 64):
        grid = rng.standard_normal((cells, cells, 3), dtype=np.float32) * np.float32(amplitude)
        gray = grid.mean(axis=2, keepdims=True)  # surfaces vary more in brightness than in hue
        noise += cv2.resize(gray + 0.5 * (grid - gray), size, interpolation=cv2.INTER_LINEAR)
        amplitude *= roughness
    return noise


def _ramp(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 coordinate along a random direction, from about -1 to 1."""
    angle = rng.uniform(0, 2 * np.pi)
    x = np.linspace(-1, 1, size[0], dtype=np.float32)
    y = np.linspace(-1, 1, size[1], dtype=np.float32)[:, None]
    return np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y


def _gradient(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    return _ramp(size, rng)[..., None] * rng.uniform(-60, 60, 3).astype(np.float32)


def _stripes(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    wave = np.sin(_ramp(size, rng) * np.float32(rng.uniform(5, 60)))
    if rng.random() < 0.5:
        wave = np.sign(wave)
    return wave[..., None] * rng.uniform(-50, 50, 3).astype(np.float32)


def _draw_shape(image: np.ndarray, rng: np.random.Generator) -> None:
    """Draw one filled ellipse or polygon of random place, size and colour into the image."""
    height, width = image.shape[:2]
    color = tuple(int(level) for level in rng.integers(0, 256, 3))
    center = rng.uniform(-0.1, 1.1, 2) * (width, height)
    radius = rng.uniform(0.03, 0.35) * max(width, height)
    if rng.random() < 0.4:
        axes = tuple(int(axis) + 1 for axis in radius * rng.uniform(0.3, 1.0, 2))
        cv2.ellipse(image, tuple(int(c) for c in center), axes, rng.uniform(0, 180), 0, 360, color, -1, cv2.LINE_AA)
        return
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
    radii = radius * rng.uniform(0.5, 1.0, len(angles))
    corners = center + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cv2.fillPoly(image, [np.rint(corners).astype(np.int32)], color, cv2.LINE_AA)
