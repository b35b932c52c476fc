"""Which part of poses is wrong: depth, place across the line of sight, or rotation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sopose.core.geometry.pose import Pose


def with_true_depth(estimate: Pose, truth: Pose) -> Pose:
    """The estimate moved along its own line of sight to the true distance from the camera."""
    length = np.linalg.norm(estimate.cam_t_obj)
    direction = estimate.cam_t_obj / length if length > 0 else np.array([0.0, 0.0, 1.0])
    return Pose(estimate.cam_R_obj, direction * np.linalg.norm(truth.cam_t_obj))


def with_true_translation(estimate: Pose, truth: Pose) -> Pose:
    """The estimated rotation at the true place."""
    return Pose(estimate.cam_R_obj, truth.cam_t_obj)


def with_true_rotation(estimate: Pose, truth: Pose) -> Pose:
    """The true rotation at the estimated place."""
    return Pose(truth.cam_R_obj, estimate.cam_t_obj)


# What a score would be if one part were right.
CORRECTIONS: dict[str, Callable[[Pose, Pose], Pose]] = {
    "as estimated": lambda estimate, truth: estimate,
    "true depth": with_true_depth,
    "true translation": with_true_translation,
    "true rotation": with_true_rotation,
}


@dataclass(frozen=True)
class ErrorParts:
    """Medians over poses; lengths in metres."""

    depth_bias: float  # signed, along the true line of sight: above zero is too far away
    depth: float  # its absolute value
    lateral: float  # across the line of sight
    depth_bias_share: float  # the signed error divided by the true distance


def error_parts(estimates: Sequence[Pose], truths: Sequence[Pose]) -> ErrorParts:
    """How far translations are off along and across the line of sight. The sequences are of one length, above 0."""
    found = np.array([pose.cam_t_obj for pose in estimates])
    true = np.array([pose.cam_t_obj for pose in truths])
    distance = np.linalg.norm(true, axis=1)
    sight = true / distance[:, None]
    along = ((found - true) * sight).sum(axis=1)
    across = np.linalg.norm(found - true - along[:, None] * sight, axis=1)
    return ErrorParts(
        depth_bias=float(np.median(along)),
        depth=float(np.median(np.abs(along))),
        lateral=float(np.median(across)),
        depth_bias_share=float(np.median(along / distance)),
    )
