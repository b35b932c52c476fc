"""Cameras around a scene that stands still."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.spatial.transform import Rotation

from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.synthesis.scenes import DrawnScene
from sopose.core.utils.errors import UserError

TILT = np.deg2rad(8.0)  # standard deviation about each axis, of a camera that went round
NEARER, FARTHER = 0.85, 1.2  # of the distance that the scene was drawn from
LOWEST = 0.15  # of the distance: height of the camera above the ground
TRIES = 100


def draw_camera(scene: DrawnScene, models: Mapping[int, ObjectModel], rng: np.random.Generator) -> Pose:
    """A camera that looks at a scene from another side: the pose of the scene's drawn frame before it.

    It goes round the middle of the objects, about the ground's normal where there is one, else about any axis; never
    below the ground, and with all objects before it. Raises `UserError` where no such place is found.
    """
    middle = np.mean([pose.transform(models[obj_id].middle) for obj_id, pose in scene.objects], axis=0)
    for _ in range(TRIES):
        if scene.ground is None:
            turn = Rotation.random(random_state=rng)
        else:
            turn = Rotation.from_rotvec(rng.uniform(-np.pi, np.pi) * scene.ground.normal_cam)
        R = (Rotation.from_rotvec(rng.normal(0, TILT, 3)) * turn).as_matrix()
        new_T_old = Pose(R, rng.uniform(NEARER, FARTHER) * middle - R @ middle)
        moved = scene.moved(new_T_old)
        above = moved.ground is None or moved.ground.height > LOWEST * np.linalg.norm(middle)
        seen = [(models[obj_id], pose) for obj_id, pose in moved.objects]
        if above and all(pose.transform(model.middle)[2] > model.diameter for model, pose in seen):
            return new_T_old
    raise UserError(
        "no camera was found that sees all of a scene; draw fewer objects, or from farther away (CAD.Z_RANGE)"
    )
