"""Confidence intervals by the bootstrap over images: an image's objects share its errors, so it is drawn as a whole."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0
Interval = tuple[float, float]


def image_weights(images: int, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """(resamples, images) float64: how often each image is drawn when as many are drawn with replacement.

    One image says nothing about others: it is never drawn, (0, 1), and what is made of it has no interval.
    """
    if images < 2:
        return np.empty((0, images))
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), resamples).astype(np.float64)


def interval(values: np.ndarray, level: float = LEVEL) -> Interval:
    """The central `level` of resampled values (B,); nan entries are left out, without any it is nan, nan."""
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(known, [tail, 100 - tail])
    return float(low), float(high)


def recall_intervals(
    credits: Mapping[str, np.ndarray], counts: np.ndarray, images: np.ndarray, objects: np.ndarray
) -> tuple[dict[str, Interval], dict[str, Interval], dict[int, dict[str, Interval]]]:
    """Intervals of the mean over objects, of the recall over all targets, and of each object.

    Args:
        credits: for each column, the ground truths found (G,) in each target (a mean over thresholds).
        counts: ground truths (G,) of each target.
        images, objects: image and object (G,) of each target, any integers.
    """
    image_names, image = np.unique(images, return_inverse=True)
    object_names, obj = np.unique(objects, return_inverse=True)
    weights = image_weights(len(image_names))
    shape = (len(image_names), len(object_names))

    def summed(values: np.ndarray) -> np.ndarray:
        table = np.zeros(shape)
        np.add.at(table, (image, obj), values)
        return weights @ table  # (B, objects)

    drawn = summed(counts)
    mean, overall = {}, {}
    per_object: dict[int, dict[str, Interval]] = {int(name): {} for name in object_names}
    for column, values in credits.items():
        found = summed(values)
        with np.errstate(invalid="ignore"):
            recalls = np.where(drawn > 0, found / drawn, np.nan)
        overall[column] = interval(found.sum(axis=1) / drawn.sum(axis=1))
        mean[column] = interval(np.nanmean(recalls, axis=1))
        for name, values_of_object in zip(object_names, recalls.T, strict=True):
            per_object[int(name)][column] = interval(values_of_object)
    return mean, overall, per_object
