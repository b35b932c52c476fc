"""Confidence intervals by the bootstrap over images: an image's objects share its errors, so it is drawn as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class Credits:
    """What recalls are made of, target by target."""

    found: Mapping[str, np.ndarray]  # for each column, the ground truths found (G,) (a mean over thresholds)
    counts: np.ndarray  # (G,) ground truths
    images: np.ndarray  # (G,) which image, any integers
    objects: np.ndarray  # (G,) which object

    def same_targets(self, other: Credits) -> bool:
        """Whether both are of the same targets in the same order."""
        pairs = ((self.counts, other.counts), (self.images, other.images), (self.objects, other.objects))
        return all(np.array_equal(*pair) for pair in pairs)


@dataclass(frozen=True, eq=False)
class DrawnRecalls:
    """A column's recalls in B draws of images."""

    mean: np.ndarray  # (B,) over objects
    overall: np.ndarray  # (B,) over all targets
    per_object: np.ndarray  # (B, objects), nan where none was drawn


def drawn_recalls(credits: Credits) -> dict[str, DrawnRecalls]:
    """The recalls of each column; two results of the same targets are drawn alike."""
    image_names, image = np.unique(credits.images, return_inverse=True)
    object_names, obj = np.unique(credits.objects, return_inverse=True)
    weights = image_weights(len(image_names))

    def summed(values: np.ndarray) -> np.ndarray:
        table = np.zeros((len(image_names), len(object_names)))
        np.add.at(table, (image, obj), values)
        return weights @ table  # (B, objects)

    drawn, recalls = summed(credits.counts), {}
    for column, values in credits.found.items():
        found = summed(values)
        with np.errstate(invalid="ignore"):
            own = np.where(drawn > 0, found / drawn, np.nan)
        recalls[column] = DrawnRecalls(np.nanmean(own, axis=1), found.sum(axis=1) / drawn.sum(axis=1), own)
    return recalls


def recall_intervals(
    credits: Credits,
) -> tuple[dict[str, Interval], dict[str, Interval], dict[int, dict[str, Interval]]]:
    """Intervals of the mean over objects, of the recall over all targets, and of each object."""
    recalls = drawn_recalls(credits)
    mean = {column: interval(drawn.mean) for column, drawn in recalls.items()}
    overall = {column: interval(drawn.overall) for column, drawn in recalls.items()}
    per_object = {
        int(name): {column: interval(drawn.per_object[:, place]) for column, drawn in recalls.items()}
        for place, name in enumerate(np.unique(credits.objects))
    }
    return mean, overall, per_object


def difference_intervals(credits: Credits, reference: Credits) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """Intervals of what recalls are above those of a reference: of means over objects, and over all targets.

    Both are drawn together, so that what makes an image hard for both counts for neither. Raises `ValueError` where the
    targets aren't the same.
    """
    if not credits.same_targets(reference):
        raise ValueError("differences are of two results on the same targets")
    ours, theirs = drawn_recalls(credits), drawn_recalls(reference)
    both = ours.keys() & theirs.keys()
    mean = {column: interval(ours[column].mean - theirs[column].mean) for column in both}
    return mean, {column: interval(ours[column].overall - theirs[column].overall) for column in both}
