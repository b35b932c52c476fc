"""P, the first layer: which point of the object's surface each pixel sees."""

from __future__ import annotations

import numpy as np

from core.geometry.pose import Pose
from core.render.raycast import RayCaster


def cast_P(caster: RayCaster, pose: Pose, K: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Surface points seen at pixels `positions` (h, w, 2), and the object's full mask.

    Returns P_obj (h, w, 3) float64, metres, the object's frame, 0 where no ray hits, and mask (h, w) bool.
    """
    h, w, _ = positions.shape
    hits = caster.cast(pose, K, positions.reshape(-1, 2))
    P_obj = np.zeros((h * w, 3))
    mask = np.zeros(h * w, bool)
    P_obj[hits.ray] = hits.points_obj
    mask[hits.ray] = True
    return P_obj.reshape(h, w, 3), mask.reshape(h, w)


def normalise_P(P_obj: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """`P / extent + 0.5` of points (..., 3), metres, by the model's extent (3,): about [0, 1]."""
    return P_obj / extent + 0.5
