"""How wrong maps are, as colours with a scale. Pictures are (H, W, 3) uint8 RGB."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from sopose.core.vis.maps import BACKGROUND, enlarged

SHARE_SHOWN = 95  # percent of the values that lie on the scale, at least
BAR_HEIGHT, LABEL_HEIGHT = 0.06, 0.11  # of the colour bar and of its labels, in widths of the picture


@cache
def heat_colors() -> np.ndarray:
    """(256, 3) uint8 colours from dark blue (0) to yellow (the scale's end).

    Their lightness rises evenly, also for colour-blind readers.
    """
    import matplotlib

    return np.rint(255 * matplotlib.colormaps["viridis"](np.arange(256))[:, :3]).astype(np.uint8)


def map_distance(predicted: np.ndarray, truth: np.ndarray, mask: np.ndarray, size: np.ndarray | float) -> np.ndarray:
    """(H, W) distances of two maps (C, H, W), NaN where `mask` (H, W) is false.

    `size` (C,), or one for all channels, is the length of 1 in the maps: the extent of the model for normalised
    coordinates, in the unit that the distance shall have. What is not finite inside the mask is infinitely wrong.
    """
    lengths = np.broadcast_to(np.asarray(size, np.float64), len(predicted))[:, None, None]
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.sqrt(((lengths * (predicted.astype(np.float64) - truth)) ** 2).sum(axis=0))
    distance[np.isnan(distance)] = np.inf
    return np.where(np.asarray(mask, bool), distance, np.nan)


def scale_end(values: np.ndarray) -> float:
    """A round number (1, 2 or 5 times a power of ten) that most of the finite `values` don't exceed; 1 without any."""
    finite = values[np.isfinite(values)]
    top = float(np.percentile(finite, SHARE_SHOWN)) if len(finite) else 0.0
    if top <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(top))
    # One part in 10^9 more than a round number is rounding, no reason for the next one.
    return float(next(power * step for step in (1, 2, 5, 10) if power * step * (1 + 1e-9) >= top))


def heat_to_rgb(values: np.ndarray, end: float) -> np.ndarray:
    """Values (H, W) in `heat_colors` from 0 to `end`, the last one for more; white where NaN."""
    undefined = np.isnan(values)
    level = np.clip(np.where(undefined, 0, values) / end, 0, 1)
    picture = heat_colors()[np.rint(255 * level).astype(np.uint8)]
    picture[undefined] = BACKGROUND
    return picture


def heat_map(values: np.ndarray, unit: str, end: float | None = None, width: int = 256) -> np.ndarray:
    """Values (H, W), NaN where there are none, over a colour bar with labels in `unit`; at least `width` pixels wide.

    The bar runs from 0 to `end`, by default a round number that suits the values; a + says that some exceed it.
    """
    end = scale_end(values) if end is None else end
    picture = enlarged(heat_to_rgb(values, end), width)
    with np.errstate(invalid="ignore"):
        beyond = bool((values > end * (1 + 1e-9)).any())
    return np.concatenate([picture, _color_bar(picture.shape[1], end, unit, beyond)])


def _color_bar(width: int, end: float, unit: str, beyond: bool) -> np.ndarray:
    """The colours from left (0) to right (`end`) above three labels; a gap of their height / 4 on top."""
    bar, label = round(BAR_HEIGHT * width), round(LABEL_HEIGHT * width)
    strip = np.full((label // 4 + bar + label, width, 3), BACKGROUND, np.uint8)
    strip[label // 4 : label // 4 + bar] = heat_to_rgb(np.linspace(0, end, width)[None], end)
    scale = width / 440
    texts = ["0", f"{end / 2:g}", f"{end:g}{'+' if beyond else ''} {unit}"]
    for place, text in zip((0, 0.5, 1), texts, strict=True):
        length = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0]
        origin = round(place * (width - length)), len(strip) - label // 4
        cv2.putText(strip, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (40, 40, 40), 1, cv2.LINE_AA)
    return strip
