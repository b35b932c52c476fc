"""Maps as pictures: coordinates as colours, and grids of titled panels. Pictures are (H, W, 3) uint8 RGB."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from sopose.core.objects.colors import linear_to_srgb

BACKGROUND = 255  # outside of a mask: white, so that dark (small) coordinates stay visible
# Corners of the colour square of a pair of coordinates: dark blue, sky blue; orange, pale yellow.
PAIR_CORNERS = np.array([[[0.06, 0.15, 0.35], [0.35, 0.71, 0.91]], [[0.90, 0.50, 0.05], [0.98, 0.95, 0.75]]])

GOLDEN = (5**0.5 - 1) / 2  # of a turn from one label's hue to the next: never the same again


def coordinates_to_rgb(coordinates: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Normalised coordinates (3, H, W) in [0, 1] as (H, W, 3): x red, y green, z blue; white off `mask`."""
    return _masked(np.moveaxis(coordinates, 0, -1), mask)


def pair_to_rgb(pair: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Two normalised coordinates (2, H, W) as (H, W, 3), both readable at once; white outside `mask`.

    The first runs from blue to orange, the second from dark to light (bilinear in `PAIR_CORNERS`).
    """
    first, second = np.clip(np.nan_to_num(pair), 0, 1)[..., None]
    low = (1 - second) * PAIR_CORNERS[0, 0] + second * PAIR_CORNERS[0, 1]
    high = (1 - second) * PAIR_CORNERS[1, 0] + second * PAIR_CORNERS[1, 1]
    return _masked((1 - first) * low + first * high, mask)


def grey_to_rgb(values: np.ndarray, maximum: float = 1.0) -> np.ndarray:
    """A map (H, W) from 0 (black) to `maximum` (white) as (H, W, 3)."""
    levels = np.clip(np.nan_to_num(values / maximum), 0, 1)
    return np.repeat(np.round(255 * levels).astype(np.uint8)[..., None], 3, axis=-1)


def categories_to_rgb(labels: np.ndarray, mask: np.ndarray, strength: np.ndarray | None = None) -> np.ndarray:
    """Labels (H, W), integers, as (H, W, 3): a hue for each, neighbouring numbers far apart; white outside `mask`.

    `strength` (H, W) in [0, 1] is how much light the colours have: 0 is black.
    """
    from matplotlib.colors import hsv_to_rgb

    labels = np.asarray(labels, np.int64)
    hue = labels * GOLDEN % 1
    value = np.where(labels % 2 > 0, 1.0, 0.78)  # hues that come near each other differ in lightness
    saturation = np.where(labels // 2 % 2 > 0, 0.9, 0.55)
    colors = hsv_to_rgb(np.stack([hue, saturation, value], axis=-1))
    if strength is not None:
        colors *= linear_to_srgb(np.clip(np.nan_to_num(strength), 0, 1))[..., None]
    return _masked(colors, mask)


def enlarged(picture: np.ndarray, width: int = 256) -> np.ndarray:
    """A map's picture (H, W, 3) with `width` columns, every cell a rectangle of one colour; itself where it is wider.

    Maps are enlarged without blending: a blend of two coordinates is a point of neither surface.
    """
    if picture.shape[1] >= width:
        return picture
    height = round(width * picture.shape[0] / picture.shape[1])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST)


def grid(panels: Sequence[tuple[str, np.ndarray]], columns: int | None = None, size: int = 192) -> np.ndarray:
    """Titled pictures side by side, each fitted into `size` pixels; one row unless `columns` is given."""
    if not panels:
        raise ValueError("grid needs at least one panel")
    columns = len(panels) if columns is None else min(columns, len(panels))
    tiles = [_tile(title, picture, size) for title, picture in panels]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[first : first + columns], axis=1) for first in range(0, len(tiles), columns)]
    return np.concatenate(rows, axis=0)


def stack(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (H, W, 3) one below the other, the narrower ones filled up with white."""
    width = max(picture.shape[1] for picture in pictures)
    fitted = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures]
    return np.concatenate(fitted)


def _tile(title: str, picture: np.ndarray, size: int, gap: int = 4, bar: int = 22) -> np.ndarray:
    """One picture below its title, centred on white."""
    tile = np.full((size + bar + gap, size + gap, 3), 255, np.uint8)
    scale = size / max(picture.shape[:2])
    width, height = (max(1, round(scale * length)) for length in picture.shape[1::-1])
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA)
    top, left = bar + (size - height) // 2, (size - width) // 2
    tile[top : top + height, left : left + width] = resized
    font_scale = min(0.45, 0.45 * (size - 4) / max(1, cv2.getTextSize(title, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)[0][0]))
    cv2.putText(tile, title, (2, bar - 7), cv2.FONT_HERSHEY_SIMPLEX, font_scale, (40, 40, 40), 1, cv2.LINE_AA)
    return tile


def _masked(colors: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) in [0, 1] as uint8, `BACKGROUND` where `mask` (H, W) is false."""
    picture = np.round(255 * np.clip(np.nan_to_num(colors), 0, 1)).astype(np.uint8)
    picture[~np.asarray(mask, bool)] = BACKGROUND
    return picture
