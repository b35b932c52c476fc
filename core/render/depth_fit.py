"""A pose moved to where a depth camera saw the object's surface, as GDRNPP does: along its line of sight alone."""

from __future__ import annotations

import numpy as np

from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.raycast import RayCaster
from sopose.core.render.visibility import render_depth
from sopose.core.utils.errors import UserError

GATES = (0.5, 0.25, 0.1)  # diameters of difference within which a pixel counts, step by step
LEAST_PIXELS, LEAST_SHARE = 20, 0.1  # of the silhouette that must count


def at_measured_depth(model: ObjectModel, pose: Pose, depth: np.ndarray, K: np.ndarray) -> Pose:
    """`moved_to_depth` of a model's pose; the pose itself where its middle isn't before the camera."""
    middle, own = model.middle, model.centered
    centered = pose.with_origin(middle)
    if not centered.is_ahead:
        return pose
    return moved_to_depth(own.caster, own.diameter, centered, depth, K).with_origin(-middle)


def moved_to_depth(caster: RayCaster, diameter: float, pose: Pose, depth: np.ndarray, K: np.ndarray) -> Pose:
    """The pose with its translation scaled so that the rendered surface lies where the measured one does.

    In each step the median difference of measured and rendered depth is taken of the pixels near it, which leaves out
    what stands before or behind the object, and the object is rendered anew. Where too few pixels have a measurement
    near enough, the pose stays as it is.

    Args:
        caster: the object's.
        diameter: metres.
        pose: with the object before the camera.
        depth: (H, W) metres along the optical axis, 0 or nan where nothing was measured.
        K: (3, 3) pixels.
    """
    if depth.ndim != 2:
        raise UserError(f"a depth image must be (H, W) metres, got shape {depth.shape}")
    for gate in GATES:
        rendered = render_depth(caster, pose, K, depth.shape[::-1])
        seen = rendered > 0
        measured = seen & np.isfinite(depth) & (depth > 0)
        apart = depth[measured] - rendered[measured]
        near = apart[np.abs(apart) < gate * diameter]
        if len(near) < max(LEAST_PIXELS, LEAST_SHARE * seen.sum()):
            return pose
        shift = float(np.median(near))
        pose = Pose(pose.cam_R_obj, pose.cam_t_obj * (1 + shift / pose.cam_t_obj[2]))
    return pose
