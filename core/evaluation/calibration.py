"""How well probabilities tell right from wrong, and whether they are as large as they should be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Reliability:
    """Bins of equal mass, from the least probable on."""

    predicted: np.ndarray  # (bins,) mean probability
    seen: np.ndarray  # (bins,) share that is right
    count: np.ndarray  # (bins,)

    @property
    def error(self) -> float:
        """The expected calibration error: the mean difference of both, weighed by count."""
        return float(np.average(np.abs(self.predicted - self.seen), weights=self.count))


def area_under_roc(score: np.ndarray, right: np.ndarray) -> float:
    """The probability that a right one scores above a wrong one, ties half; nan without both. score, right (N,)."""
    good, bad = np.sort(score[right]), np.sort(score[~right])
    if not len(good) or not len(bad):
        return float("nan")
    below, upto = (np.searchsorted(bad, good, side) for side in ("left", "right"))
    return float((below + upto).mean() / 2 / len(bad))


def reliability(probability: np.ndarray, right: np.ndarray, bins: int = 5) -> Reliability:
    """Mean probability and share of right ones (N,) in bins of equal mass."""
    parts = [part for part in np.array_split(np.argsort(probability, kind="stable"), bins) if len(part)]
    return Reliability(
        predicted=np.array([probability[part].mean() for part in parts]),
        seen=np.array([right[part].mean() for part in parts]),
        count=np.array([len(part) for part in parts]),
    )
