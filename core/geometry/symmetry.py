"""The motions of an object that leave it unchanged, as models_info.json states them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import lie_vec_to_matrix

# Object to camera where one looks along the object's y axis and its z axis points up in the image.
UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
MAX_ANGLE_STEP = 0.01  # of half a turn's arc, as the BOP toolkit samples: 315 rotations in a full turn


def continuous_rotations(axis: np.ndarray, offset: np.ndarray, max_step: float = MAX_ANGLE_STEP) -> np.ndarray:
    """(S, 4, 4) turns about `axis` (3,) through the point `offset` (3,), metres; the first is the identity.

    A turn is divided into ceil(π / max_step) equal steps (BOP toolkit, `get_symmetry_transformations`).
    """
    count = int(np.ceil(np.pi / max_step))
    angles = 2 * np.pi / count * np.arange(count)
    unit = np.asarray(axis, float) / np.linalg.norm(axis)
    transforms = np.tile(np.eye(4), (count, 1, 1))
    transforms[:, :3, :3] = lie_vec_to_matrix(angles[:, None] * unit)
    transforms[:, :3, 3] = offset - transforms[:, :3, :3] @ np.asarray(offset, float)
    return transforms


def symmetry_transforms(
    discrete: Sequence[np.ndarray],
    continuous: Sequence[tuple[np.ndarray, np.ndarray]],
    max_step: float = MAX_ANGLE_STEP,
) -> np.ndarray:
    """All symmetries of a model as (S, 4, 4) object-frame motions in metres; the identity comes first.

    `discrete` holds (4, 4) matrices, `continuous` pairs of axis (3,) and offset (3,). Every discrete symmetry is
    followed by every sampled continuous one, in the BOP toolkit's order.
    """
    fixed = np.stack([np.eye(4), *[np.asarray(matrix, float).reshape(4, 4) for matrix in discrete]])
    if not continuous:
        return fixed
    turns = np.concatenate([continuous_rotations(axis, offset, max_step) for axis, offset in continuous])
    return (turns[None] @ fixed[:, None]).reshape(-1, 4, 4)


def canonical_pose(pose: Pose, transforms: np.ndarray) -> Pose:
    """Of all poses that look the same, the one whose rotation is nearest to an upright view (`UPRIGHT`).

    transforms: (S, 4, 4) symmetries of the object, metres. The rotation is seen from the ray to the object's origin, as
    a crop around it shows the object. Whichever of the equal poses is given, the same one comes back, but where two are
    equally near: there lies the border that one pose for each view must have (Pitteri et al., "On Object Symmetries and
    6D Pose Estimation from Images", 3DV 2019).
    """
    if len(transforms) == 1:
        return pose
    equal = [pose @ Pose(S[:3, :3], S[:3, 3]) for S in transforms]
    x, y, z = pose.cam_t_obj
    across = np.array([-y, x, 0.0])  # optical axis × ray
    turn = across / max(np.linalg.norm(across), np.finfo(float).tiny) * np.arctan2(np.hypot(x, y), z)
    reference = lie_vec_to_matrix(turn) @ UPRIGHT
    return max(equal, key=lambda candidate: float(np.sum(reference * candidate.cam_R_obj)))


def moved_transforms(transforms: np.ndarray, point_obj: np.ndarray) -> np.ndarray:
    """Object-to-object transforms (S, 4, 4) in the parallel frame at a point (3,) of the object's, metres."""
    moved = transforms.copy()
    moved[:, :3, 3] += transforms[:, :3, :3] @ point_obj - point_obj
    return moved
