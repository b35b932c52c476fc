"""Boxes drawn into images: what was found, right or wrong, and what was missed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from sopose.core.detection.infer import FoundObject
from sopose.core.vis.colors import ESTIMATE, PALETTE, TRUTH, bgr

RIGHT, WRONG, MISSED = PALETTE[2], ESTIMATE, TRUTH  # green, orange, blue
LEAST_WIDTH = 480  # pixels of a picture, so that names can be read
RIGHT_IOU = 0.5
SHOWN_SCORE = 0.5  # of a box in a picture


def box_overlap(one: np.ndarray, other: np.ndarray) -> float:
    """IoU of two boxes (4,) xyxy, in [0, 1]; 0 where both are without area."""
    inner = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None).prod()
    outer = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - inner
    return float(inner / outer) if outer > 0 else 0.0


def judge(found: Sequence[FoundObject], truths: Sequence[tuple[str, np.ndarray]]) -> tuple[list[bool], list[int]]:
    """Which of `found`, best-scored first, are right, and which truths (name, box (4,)) were missed.

    Right is the first that overlaps a truth of its object by `RIGHT_IOU`.
    """
    left = dict(enumerate(truths))
    right = []
    for item in found:
        overlaps = {key: box_overlap(item.box, box) for key, (name, box) in left.items() if name == item.object}
        best = max(overlaps, key=overlaps.get, default=None)
        right.append(best is not None and overlaps[best] >= RIGHT_IOU)
        if right[-1]:
            del left[best]
    return right, [*left]


def draw_found(
    image_bgr: np.ndarray, found: Sequence[FoundObject], truths: Sequence[tuple[str, np.ndarray]] | None = None
) -> np.ndarray:
    """The image (H, W, 3) uint8 BGR, small ones enlarged, with boxes, names and scores.

    With truths (name, box (4,) xyxy of pixel centres), right boxes are green, wrong ones orange, missed ones blue; all
    are green without.
    """
    right, missed = ([True] * len(found), []) if truths is None else judge(found, truths)
    factor = max(1, -(-LEAST_WIDTH // image_bgr.shape[1]))
    image = cv2.resize(image_bgr, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    for key in missed:
        _draw_box(image, truths[key][1], factor, MISSED, truths[key][0])
    for item, is_right in reversed([*zip(found, right, strict=True)]):
        _draw_box(image, item.box, factor, RIGHT if is_right else WRONG, f"{item.object} {item.score:.2f}")
    return image


def sheet(pictures: Iterable[np.ndarray], columns: int) -> np.ndarray:
    """Pictures side by side, row by row, each as large as the first."""
    tiles = [*pictures]
    size = (tiles[0].shape[1], tiles[0].shape[0])
    tiles = [tile if tile.shape == tiles[0].shape else cv2.resize(tile, size) for tile in tiles]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)])


def _draw_box(image: np.ndarray, box: np.ndarray, factor: int, color: str, text: str) -> None:
    corners = np.rint((box + 0.5) * factor - 0.5).astype(int)
    cv2.rectangle(image, corners[:2].tolist(), corners[2:].tolist(), bgr(color), 2)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    x = int(np.clip(corners[0], 0, max(image.shape[1] - width - 6, 0)))
    y = int(np.clip(corners[1], height + 6, image.shape[0]))
    cv2.rectangle(image, (x, y - height - 6), (x + width + 6, y), bgr(color), cv2.FILLED)
    cv2.putText(image, text, (x + 3, y - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (20, 20, 20), 1, cv2.LINE_AA)
