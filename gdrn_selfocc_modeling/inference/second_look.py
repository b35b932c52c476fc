"""Second looks at the poses of a network's objects, as its checkpoint asks for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sopose.core.geometry.arrays import sigmoid
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError
from sopose.inference.checkpoint_facts import NetworkFacts
from sopose.inference.refine import LookPlan, PoseRefiner, RefinedPose, build_look_plan, build_pose_refiner

# How much a box says about whether its object is there, in odds over those of the detector's threshold.
BOX_POWER = 2.0
CERTAIN = 1e-6  # probabilities are this far from 0 and 1 at least


def needed_confidence(least: float, box_score: float, threshold: float) -> float:
    """The confidence from which on a pose in a detector's box is reported; all are numbers in [0, 1].

    `least` where the box's score is the detector's own threshold; less in surer boxes, more in others:
    odds(least) · (odds(threshold) / odds(box_score)) ^ `BOX_POWER`. Where nothing is, boxes are unsure and looks don't
    agree; a pose that looks call doubtful in a sure box is more often a bad pose of an object that is there.
    """
    if least in (0, 1):  # all, and none
        return float(least)
    log_odds = _log_odds(least) + BOX_POWER * (_log_odds(threshold) - _log_odds(box_score))
    return float(sigmoid(np.array(log_odds)))


def _log_odds(probability: float) -> float:
    p = min(max(probability, CERTAIN), 1 - CERTAIN)
    return math.log(p / (1 - p))


@dataclass(frozen=True, eq=False)
class SecondLook:
    """Second looks at poses of known objects."""

    refiner: PoseRefiner
    models: Mapping[str, ObjectModel]  # by name
    plan: LookPlan
    image_error: float = 0.0  # pixels, see `with_image_error`
    confidence_at_threshold: float = 0.0  # of a pose in a detector's box, see `needed_confidence`

    def __call__(
        self,
        rgb: np.ndarray,
        K: np.ndarray,
        names: Sequence[str],
        poses: Sequence[Pose],
        others: Sequence[Sequence[Pose]] = (),
    ) -> list[RefinedPose]:
        """Poses of objects of some names in an image (H, W, 3) uint8 RGB, after the looks; else as of `PoseRefiner`."""
        models = [self.models[name] for name in names]
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        return self.refiner(bgr, K, models, poses, self.plan, others=others)


def build_second_look(facts: NetworkFacts, models: Mapping[str, ObjectModel] | None, device: str) -> SecondLook | None:
    """What TEST.REFINE of a checkpoint asks for; None without iterations. `UserError` where the models are missing."""
    refine = facts.settings.test.refine
    refiner = build_pose_refiner(refine, device)
    if refiner is None:
        return None
    if models is None:
        raise UserError("second looks (TEST.REFINE) render the objects; name the folder of their models (--models)")
    return SecondLook(refiner, models, build_look_plan(refine), refine.image_error, refine.confidence_at_threshold)
