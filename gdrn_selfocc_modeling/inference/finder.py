"""Boxes of the objects whose poses are known, from a detector."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sopose.core.detection.infer import Detector
from sopose.core.utils.errors import UserError
from sopose.inference.found import Box

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ObjectFinder:
    """A detector's boxes of the objects whose poses are known."""

    detector: Detector
    names: frozenset[str]  # of those objects

    @property
    def threshold(self) -> float:
        """The detector's own: the score from which on a box is taken for an object."""
        return self.detector.facts.threshold

    def __call__(self, rgb: np.ndarray, threshold: float | None, topk: int) -> list[Box]:
        """The boxes in an image (H, W, 3) uint8 RGB, the best-scored first; see `Detector`."""
        found = self.detector(rgb, threshold, topk)
        return [Box(item.object, item.box, item.score) for item in found if item.object in self.names]


def open_finder(path: Path, objects: Iterable[str], detector: Detector) -> ObjectFinder:
    """The detector of a file for some objects; a warning for each that it doesn't find.

    Raises `UserError` where it finds none of them.
    """
    finds, names = detector.facts.objects, list(objects)
    if not set(finds) & set(names):
        raise UserError(
            f"{path} finds {', '.join(sorted(finds))}, the pose network knows poses of {', '.join(sorted(names))}; "
            "give two that were trained on the same objects"
        )
    for missing in sorted(set(names) - set(finds)):
        logger.warning("the detector doesn't find '%s'", missing)
    return ObjectFinder(detector, frozenset(names))
