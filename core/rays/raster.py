"""Triangles that a camera sees first, without Embree: for looks at single objects where it isn't installed.

Triangles are brought to the image and compared with the pixels under them, all in float64. Some ten times slower than
Embree, and it needs the whole mesh before the camera; what it answers is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

PAIRS = 1 << 20  # of a triangle and a pixel that are compared at once
EDGE = 1e-12  # barycentric weights down to minus this are inside: a pixel on an edge belongs to both triangles


@dataclass(frozen=True, eq=False)
class PixelBins:
    """Pixels in the square cells of a grid, about one in each."""

    low: np.ndarray  # (2,) corner of the grid, pixels
    side: float  # of a cell, pixels
    shape: np.ndarray  # (2,) int64, cells along u and v
    order: np.ndarray  # (M,) numbers of the pixels, cell by cell
    starts: np.ndarray  # (cells + 1,) where each cell's begin in `order`

    @classmethod
    def of(cls, pixels: np.ndarray) -> PixelBins:
        """Of pixels (2, M), M > 0."""
        low, size = pixels.min(axis=1), np.ptp(pixels, axis=1)
        side = max(float(np.sqrt(size.prod() / pixels.shape[1])), float(size.max()) / pixels.shape[1], 1e-9)
        shape = (size / side).astype(np.int64) + 1
        cell = ((pixels - low[:, None]) / side).astype(np.int64)
        number = cell[1] * shape[0] + cell[0]
        counts = np.bincount(number, minlength=int(shape.prod()))
        return cls(low, side, shape, np.argsort(number, kind="stable"), np.concatenate([[0], np.cumsum(counts)]))

    def under(self, low: np.ndarray, high: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of a box, of corners (2, F) each, and a pixel in a cell that it touches, in pieces of some `PAIRS`."""
        first = np.floor((low - self.low[:, None]) / self.side)
        last = np.floor((high - self.low[:, None]) / self.side)
        touching = np.flatnonzero((last >= 0).all(axis=0) & (first < self.shape[:, None]).all(axis=0))
        first = np.maximum(first.take(touching, axis=1), 0).astype(np.int64)
        last = np.minimum(last.take(touching, axis=1), self.shape[:, None] - 1).astype(np.int64)
        # A row of cells is one run of `order`.
        rows = last[1] - first[1] + 1
        run_box = np.repeat(np.arange(len(touching)), rows)
        row = first[1].take(run_box) + np.arange(len(run_box)) - np.repeat(np.cumsum(rows) - rows, rows)
        begin = self.starts.take(row * self.shape[0] + first[0].take(run_box))
        counts = self.starts.take(row * self.shape[0] + last[0].take(run_box) + 1) - begin
        ends = np.cumsum(counts)
        place = 0
        while place < len(counts):
            stop = max(int(np.searchsorted(ends, (ends[place - 1] if place else 0) + PAIRS, "right")), place + 1)
            own = counts[place:stop]
            within = np.arange(own.sum()) - np.repeat(np.cumsum(own) - own, own)
            boxes = np.repeat(touching.take(run_box[place:stop]), own)
            yield boxes, self.order.take(np.repeat(begin[place:stop], own) + within)
            place = stop


def first_triangles(corners_uv: np.ndarray, inverse_depth: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """(M,) int64: the nearest of F triangles over each of the pixels (2, M), -1 where there is none.

    corners_uv: (F, 3, 2) where the camera sees their corners, pixels; inverse_depth: (F, 3) of these, 1 / metres,
    above 0. Triangles that are seen from their edge are over no pixel.
    """
    found, nearest = np.full(pixels.shape[1], -1), np.zeros(pixels.shape[1])
    if not pixels.size:
        return found
    first, second, third = corners_uv.transpose(1, 2, 0)  # (2, F) each
    across, along = second - first, third - first
    area = across[0] * along[1] - across[1] * along[0]
    face = np.flatnonzero(area)
    low, high = corners_uv.min(axis=1)[face].T, corners_uv.max(axis=1)[face].T
    for box, pixel in PixelBins.of(pixels).under(low, high):
        triangle = face.take(box)
        off = pixels.take(pixel, axis=1) - first.take(triangle, axis=1)
        a, b, double_area = across.take(triangle, axis=1), along.take(triangle, axis=1), area.take(triangle)
        weights = (off[0] * b[1] - off[1] * b[0]) / double_area, (a[0] * off[1] - a[1] * off[0]) / double_area
        inside = np.flatnonzero(np.minimum(np.minimum(*weights), 1 - weights[0] - weights[1]) >= -EDGE)
        triangle, pixel = triangle.take(inside), pixel.take(inside)
        w = np.stack([1 - weights[0] - weights[1], *weights]).take(inside, axis=1)
        near = (w * inverse_depth.take(triangle, axis=0).T).sum(axis=0)  # linear in the image
        # The last of equal indices is what an assignment leaves: the nearest, and of those the first triangle.
        order = np.lexsort((-triangle, near))
        triangle, pixel, near = triangle[order], pixel[order], near[order]
        best, best_near = np.full(len(found), -1), np.zeros(len(found))
        best[pixel], best_near[pixel] = triangle, near
        nearer = best_near > nearest
        found[nearer], nearest[nearer] = best[nearer], best_near[nearer]
    return found
