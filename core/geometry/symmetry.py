"""The motions of an object that leave it unchanged, as models_info.json tells them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

MAX_ANGLE_STEP = 0.01  # of half a turn's arc, as the BOP toolkit samples: 315 rotations in a full turn


def continuous_rotations(axis: np.ndarray, offset: np.ndarray, max_step: float = MAX_ANGLE_STEP) -> np.ndarray:
    """(S, 4, 4) turns about `axis` (3,) through the point `offset` (3,), metres; the first is the identity.

    A turn is divided into ceil(π / max_step) equal steps (BOP toolkit, `get_symmetry_transformations`).
    """
    count = int(np.ceil(np.pi / max_step))
    angles = 2 * np.pi / count * np.arange(count)
    unit = np.asarray(axis, float) / np.linalg.norm(axis)
    transforms = np.tile(np.eye(4), (count, 1, 1))
    transforms[:, :3, :3] = Rotation.from_rotvec(angles[:, None] * unit).as_matrix()
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
