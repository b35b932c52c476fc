"""Second looks at the poses of a network's objects, as its checkpoint asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError
from sopose.inference.checkpoint_facts import NetworkFacts
from sopose.inference.refine import LookPlan, PoseRefiner, RefinedPose, build_look_plan, build_pose_refiner


@dataclass(frozen=True, eq=False)
class SecondLook:
    """Second looks at poses of known objects."""

    refiner: PoseRefiner
    models: Mapping[str, ObjectModel]  # by name
    plan: LookPlan
    image_error: float = 0.0  # pixels, see `with_image_error`
    least_confidence: float = 0.0  # below which an object that a detector found isn't there

    def __call__(
        self, rgb: np.ndarray, K: np.ndarray, names: Sequence[str], poses: Sequence[Pose]
    ) -> list[RefinedPose]:
        """Poses of objects of some names in an image (H, W, 3) uint8 RGB, after the looks."""
        models = [self.models[name] for name in names]
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        return self.refiner(bgr, K, models, poses, self.plan)


def build_second_look(facts: NetworkFacts, models: Mapping[str, ObjectModel] | None, device: str) -> SecondLook | None:
    """What TEST.REFINE of a checkpoint asks for; None without iterations. `UserError` where the models are missing."""
    refine = facts.settings.test.refine
    refiner = build_pose_refiner(refine, device)
    if refiner is None:
        return None
    if models is None:
        raise UserError("second looks (TEST.REFINE) render the objects; name the folder of their models (--models)")
    return SecondLook(refiner, models, build_look_plan(refine), refine.image_error, refine.least_confidence)
