"""Average precision of ranked detections: COCO's 101 points on the envelope, and its bootstrap over images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RECALL_POINTS = np.linspace(0, 1, 101)


@dataclass(frozen=True, eq=False)
class Ranking:
    """The D detections of one class at T thresholds, in order of falling score."""

    image: np.ndarray  # (D,) int64, index of the image
    hit: np.ndarray  # (T, D) bool: matched to a true object
    ignored: np.ndarray  # (T, D) bool: neither right nor wrong
    truths: np.ndarray  # (I,) int64: true objects of each image that count

    def average_precision(self, weights: np.ndarray | None = None) -> np.ndarray:
        """AP (T,), NaN without a true object; `weights` (I,) say how often each image is there (1 by default)."""
        weights = np.ones(len(self.truths)) if weights is None else weights
        total = weights @ self.truths
        if total == 0:
            return np.full(len(self.hit), np.nan)
        of_detection = weights[self.image]
        right = np.cumsum(self.hit * ~self.ignored * of_detection, axis=1)
        wrong = np.cumsum(~self.hit * ~self.ignored * of_detection, axis=1)
        return np.array([_interpolated(r, w, total) for r, w in zip(right, wrong, strict=True)])


def _interpolated(right: np.ndarray, wrong: np.ndarray, total: float) -> float:
    """Mean over RECALL_POINTS of the best precision at that recall or more; 0 where it is never reached."""
    if not len(right):
        return 0.0
    precision = right / np.maximum(right + wrong, np.spacing(1.0))
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(right / total, RECALL_POINTS, side="left")].mean())


def match_detections(errors: np.ndarray, ignored_truth: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """COCO's matching of one image's detections of one class at T thresholds.

    `errors` (D, G) has the detections in order of falling score. Each takes the free truth with the smallest
    error below the threshold; one that counts goes before those of `ignored_truth` (G,) bool. Returns (T, D)
    int64, the truth that a detection got, or -1.
    """
    got = np.full((len(thresholds), len(errors)), -1, np.int64)
    for row, threshold in enumerate(thresholds):
        free = np.ones(errors.shape[1], bool)
        for index, error in enumerate(errors):
            for some in (~ignored_truth, ignored_truth):
                allowed = np.where(free & some & (error < threshold), error, np.inf)
                if allowed.size and np.isfinite(allowed.min()):
                    got[row, index] = best = int(allowed.argmin())
                    free[best] = False
                    break
    return got
