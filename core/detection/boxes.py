"""From what a detector's heads say to boxes, in arrays; torch is not needed.

As FCOS says it (Tian et al., ICCV 2019): a place's score is the root of its class's probability times its centre-ness,
and a box's sides lie at distances from the place, in strides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopose.core.geometry.arrays import sigmoid

STRIDES = (8, 16, 32)  # of the features that boxes are found in
LEAST_SCORE = 0.01  # of a box that is returned
OVERLAP = 0.5  # IoU with a better box of the same object from which on a box is dropped
CANDIDATES = 300  # boxes of each stride that are compared
MOST_BOXES = 100  # of an image


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """What the heads say of the N places of one input: of each stride all rows, one behind the other."""

    logits: np.ndarray  # (N, classes)
    distances: np.ndarray  # (N, 4) of the left, upper, right and lower side, in strides
    centerness: np.ndarray  # (N, 1) logits


@dataclass(frozen=True, eq=False)
class Boxes:
    """M boxes of one input, the best-scored first."""

    xyxy: np.ndarray  # (M, 4) float64, pixels of the input
    score: np.ndarray  # (M,) in [0, 1]
    label: np.ndarray  # (M,) int


def places_of(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the N places of an input lie (N, 2), x and y in its pixels, and the stride of each (N,).

    Sides are multiples of the largest stride.
    """
    points, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[0:height:stride, 0:width:stride]
        points.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full(points[-1].shape[:1], stride))
    return np.concatenate(points).astype(np.float64), np.concatenate(strides)


def find_boxes(output: HeadOutput, height: int, width: int) -> Boxes:
    """The boxes of an input of so many pixels, without those that overlap a better one of the same object."""
    points, strides = places_of(height, width)
    scores = np.sqrt(sigmoid(output.logits.astype(np.float64)) * sigmoid(output.centerness.astype(np.float64)))
    chosen = [_best(scores, strides == stride) for stride in STRIDES]
    place, label = (np.concatenate(column) for column in zip(*chosen, strict=True))
    reach = output.distances[place].astype(np.float64) * strides[place, None]
    boxes = np.concatenate([points[place] - reach[:, :2], points[place] + reach[:, 2:]], axis=1)
    boxes = boxes.clip(0, [width, height, width, height])
    score = scores[place, label]
    order = np.argsort(-score, kind="stable")
    kept = _without_overlaps(boxes[order], label[order])[:MOST_BOXES]
    return Boxes(boxes[order][kept], score[order][kept], label[order][kept])


def _best(scores: np.ndarray, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places and labels (n,) of the best scores (N, classes) among the places where `here` (N,) is True."""
    first = int(here.argmax()) if here.any() else 0
    own = scores[here]
    flat = own.ravel()
    found = np.flatnonzero(flat > LEAST_SCORE)
    found = found[np.argsort(-flat[found], kind="stable")[:CANDIDATES]]
    return first + found // own.shape[1], found % own.shape[1]


def _without_overlaps(boxes: np.ndarray, label: np.ndarray) -> list[int]:
    """Indices of those of some boxes (N, 4), the best first, that overlap no better one of their label."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    left = np.arange(len(boxes))
    kept: list[int] = []
    while len(left):
        best, left = int(left[0]), left[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[left, :2])
        high = np.minimum(boxes[best, 2:], boxes[left, 2:])
        inner = (high - low).clip(0, None).prod(axis=1)
        outer = area[best] + area[left] - inner
        left = left[(label[left] != label[best]) | (inner <= OVERLAP * outer)]
    return kept


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes (4,) xyxy of pixels' centres."""
    inner = (np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]) + 1).clip(0).prod()
    areas = (one[2:] - one[:2] + 1).prod() + (other[2:] - other[:2] + 1).prod()
    return float(inner / (areas - inner))
