"""A scene of boxes whose poses are known, and ways to spoil them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sopose.core.bop.results import Estimate
from sopose.core.bop.scene import ImageRecord
from sopose.core.bop.targets import Target
from sopose.core.evaluation.evaluator import Scores, evaluate
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import random_rotation
from sopose.core.objects.model import ObjectModel

K = np.array([[572.4, 0, 325.3], [0, 573.6, 242.0], [0, 0, 1]])
SYMMETRIC = 2


def box_model(obj_id: int, name: str, **symmetries) -> ObjectModel:
    """A 6 x 8 x 10 cm box with points all over it."""
    extent = np.array([0.06, 0.08, 0.10])
    grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 6)] * 3), -1).reshape(-1, 3)
    surface = grid[np.abs(grid).max(1) == 0.5] * extent
    faces = np.array([[0, 1, 2]])
    return ObjectModel(obj_id, name, surface, faces, float(np.linalg.norm(extent)), -extent / 2, extent, **symmetries)


@dataclass
class World:
    """Ground truth of a few images, and everything to score estimates with."""

    records: list[ImageRecord]
    targets: list[Target]
    models: dict[int, ObjectModel]

    def truth(self, **changes) -> list[Estimate]:
        """The ground truth as estimates, with fields changed in all of them."""
        return [
            replace(Estimate(record.scene_id, record.im_id, item.obj_id, 1.0, item.pose, 0.25), **changes)
            for record in self.records
            for item in record.instances
        ]

    def shifted(self, diameters: float) -> list[Estimate]:
        """The ground truth moved sideways by a multiple of each object's diameter."""
        return [
            replace(
                e,
                pose=Pose(e.pose.cam_R_obj, e.pose.cam_t_obj + np.array([diameters * self.diameter(e), 0, 0])),
            )
            for e in self.truth()
        ]

    def diameter(self, estimate: Estimate) -> float:
        return self.models[estimate.obj_id].diameter

    def score(self, estimates: list[Estimate], **changes) -> Scores:
        settings = {"targets": self.targets, "symmetric_ids": (SYMMETRIC,), "image_width": 640} | changes
        return evaluate(estimates, self.records, models_eval=self.models, **settings)


def random_pose(rng: np.random.Generator) -> Pose:
    return Pose(random_rotation(rng), np.array([*rng.uniform(-0.2, 0.2, 2), rng.uniform(0.7, 1.2)]))
