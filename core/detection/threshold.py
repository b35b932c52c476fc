"""From which score on a box is taken for an object: chosen on images of which some hold no object.

A score of 0.3 means another thing for each detector, and most find something in any picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sopose.core.detection.boxes import overlap
from sopose.core.detection.facts import USUAL_THRESHOLD
from sopose.core.detection.infer import Detector
from sopose.core.detection.sample import DetectionSample

FALSE_SHARE = 0.01  # of images without an object that may get a box
MOST_LOST = 0.03  # of the objects, for that
RANGE = (0.05, 0.9)
RIGHT = 0.5  # IoU of a box with the truth


@dataclass(frozen=True)
class Threshold:
    """A threshold, and what it does to the images that it was chosen on."""

    value: float
    false_share: float  # of images without an object that get a box
    recall: float  # share of the objects that get a right box
    usual_false_share: float  # the same with the usual threshold
    usual_recall: float

    def __str__(self) -> str:
        return (
            f"threshold {self.value:.2f}: finds {100 * self.recall:.0f} % of the objects, and something in "
            f"{100 * self.false_share:.1f} % of the images without any (with {USUAL_THRESHOLD}: "
            f"{100 * self.usual_recall:.0f} % and {100 * self.usual_false_share:.1f} %)"
        )


def choose_threshold(empty: np.ndarray, found: np.ndarray, least: float = RANGE[0]) -> Threshold:
    """The lowest threshold with few boxes in images without objects, as long as few objects are lost for it.

    Args:
        empty: (N,) the best score of each image without an object.
        found: (M,) the score of each object's right box, 0 where there is none.
        least: what may be chosen; the usual one where the empty images are no photographs.
    """
    value = float(np.quantile(empty, 1 - FALSE_SHARE, method="higher")) + 1e-6 if len(empty) else USUAL_THRESHOLD
    usual = _share(found, USUAL_THRESHOLD)
    if len(found) and _share(found, value) < usual - MOST_LOST:
        value = float(np.quantile(found, 1 - max(usual - MOST_LOST, 0.0), method="lower"))
    value = float(np.clip(value, least, RANGE[1]))
    shares = [_share(scores, bound) for bound in (value, USUAL_THRESHOLD) for scores in (empty, found)]
    return Threshold(value, *shares)


def _share(scores: np.ndarray, bound: float) -> float:
    return float((scores >= bound).mean()) if len(scores) else 0.0


def scores_of_nothing(detector: Detector, samples: Iterable[DetectionSample]) -> np.ndarray:
    """The best score in each of N samples that hold no object: (N,)."""
    return np.array([max((box.score for box in detector(sample.image, 0.0)), default=0.0) for sample in samples])


def scores_of_objects(detector: Detector, samples: Iterable[DetectionSample]) -> np.ndarray:
    """For each of the M objects of some samples the best score of a box of its class that is right, 0 without: (M,)."""
    best = []
    for sample in samples:
        boxes = detector(sample.image, 0.0, topk=max(len(sample.classes), 1))
        for truth, class_index in zip(sample.boxes, sample.classes, strict=True):
            own = (box for box in boxes if box.object == detector.facts.objects[class_index])
            best.append(max((box.score for box in own if overlap(box.box, truth) >= RIGHT), default=0.0))
    return np.array(best)
