"""Well-spread points of a model."""

from __future__ import annotations

import numpy as np


def farthest_points(points: np.ndarray, count: int) -> np.ndarray:
    """Indices (count,) of farthest-point samples of (V, 3) points; `count` must not exceed V.

    The first is the point farthest from the mean, each next one the farthest from all before (ties: lowest index).
    """
    points = np.asarray(points, np.float64)
    if not 0 < count <= len(points):
        raise ValueError(f"count must be between 1 and {len(points)} points, got {count}")
    indices = np.empty(count, np.int64)
    indices[0] = np.argmax(((points - points.mean(axis=0)) ** 2).sum(axis=1))
    distance = np.full(len(points), np.inf)
    for i in range(1, count):
        distance = np.minimum(distance, ((points - points[indices[i - 1]]) ** 2).sum(axis=1))
        indices[i] = np.argmax(distance)
    return indices
