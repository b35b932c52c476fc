"""From errors to recalls: greedy matching, thresholds, averages. Pure functions of arrays.

An error counts as correct strictly below its threshold; a missing estimate is an infinite error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def recall(errors: np.ndarray, thresholds: np.ndarray | float) -> np.ndarray | float:
    """Share of `errors` (N,) strictly below each of `thresholds` (T,) or one number; NaN without errors."""
    errors = np.asarray(errors, float)
    if errors.size == 0:
        return np.full(np.shape(thresholds), np.nan)[()]
    return (errors[:, None] < np.reshape(thresholds, (1, -1))).mean(0).reshape(np.shape(thresholds))[()]


def greedy_match(errors: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Estimates matched one-to-one to ground truths, as BOP does, at each of T thresholds.

    `errors` (E, G) has the estimates in order of falling score. Each in turn takes the free ground truth
    with its smallest error, if that is below the threshold. Returns (T, G) int64: the index of the
    estimate a ground truth got, or -1.
    """
    thresholds = np.asarray(thresholds, float)
    matched = np.full((len(thresholds), errors.shape[1]), -1, np.int64)
    rows = np.arange(len(thresholds))
    for index, error in enumerate(errors):
        allowed = np.where((matched < 0) & (error < thresholds[:, None]), error, np.inf)
        best = allowed.argmin(1)
        hit = np.isfinite(allowed[rows, best])
        matched[rows[hit], best[hit]] = index
    return matched


def count_hits(errors: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Number of ground truths (T,) found at each threshold, by `greedy_match`."""
    if errors.size == 0:
        return np.zeros(len(thresholds), np.int64)
    return (greedy_match(errors, thresholds) >= 0).sum(1)


def unweighted_mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of every key over the rows, each row counting the same; NaN entries are left out."""
    means = {}
    for key in rows[0] if rows else ():
        values = np.array([row[key] for row in rows], float)
        known = values[~np.isnan(values)]
        means[key] = float(known.mean()) if known.size else float("nan")
    return means


def hits_of_groups(errors: Sequence[np.ndarray], thresholds: np.ndarray) -> np.ndarray:
    """Ground truths found (G, T) in each of G groups with errors (E, I), at each threshold, by `greedy_match`.

    Groups of one estimate and one ground truth, which are most, are compared all at once.
    """
    thresholds = np.asarray(thresholds, float)
    hits = np.zeros((len(errors), len(thresholds)), np.int64)
    single = np.array([matrix.shape == (1, 1) for matrix in errors], bool)
    if single.any():
        values = np.array([errors[index][0, 0] for index in np.flatnonzero(single)])
        hits[single] = values[:, None] < thresholds
    for index in np.flatnonzero(~single):
        hits[index] = count_hits(errors[index], thresholds)
    return hits


def area_of_groups(errors: Sequence[np.ndarray], limit: float) -> np.ndarray:
    """Area (G,) under the number of ground truths found over the threshold from 0 to `limit`, over `limit`.

    The number is a step function, so the area is exact.
    """
    areas = np.zeros(len(errors))
    for index, matrix in enumerate(errors):
        if matrix.shape == (1, 1):
            areas[index] = max(0.0, 1 - matrix[0, 0] / limit)
            continue
        steps = np.unique(np.append(matrix[matrix < limit], limit))
        areas[index] = count_hits(matrix, steps) @ np.diff(steps, prepend=0.0) / limit
    return areas
