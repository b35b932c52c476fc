"""Rotation parametrisations, batched and differentiable. Matrices act on columns: `y = R @ x`.

Written once for arrays of NumPy and tensors of torch.
"""

from __future__ import annotations

import numpy as np

from sopose.core.geometry.arrays import Array, namespace

TINY = 1e-12  # the least length that is divided by


def rot6d_to_matrix(rot6d: Array) -> Array:
    """(..., 6) to (..., 3, 3): `x = â`, `z = (x × b)^`, `y = z × x`, columns [x y z] (Zhou et al., CVPR 2019)."""
    xp = namespace(rot6d)
    a, b = rot6d[..., :3], rot6d[..., 3:]
    x = _unit(a)
    z = _unit(xp.linalg.cross(x, b))
    y = xp.linalg.cross(z, x)
    return xp.stack([x, y, z], -1)


def quat_to_matrix(quat_wxyz: Array) -> Array:
    """(..., 4) quaternions, scalar first and of any length, to (..., 3, 3)."""
    xp, unit = namespace(quat_wxyz), _unit(quat_wxyz)
    w, x, y, z = (unit[..., k] for k in range(4))
    rows = [
        xp.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], -1),
        xp.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], -1),
        xp.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], -1),
    ]
    return xp.stack(rows, -2)


def log_quat_to_matrix(log_quat: Array) -> Array:
    """(..., 3) logarithms of unit quaternions (half the rotation vector) to (..., 3, 3)."""
    return lie_vec_to_matrix(2 * log_quat)


def lie_vec_to_matrix(rotvec: Array) -> Array:
    """(..., 3) rotation vectors (axis times angle, radians) to (..., 3, 3), by their quaternions.

    The closed form of the matrix exponential; exact, gradients included, where the vector is 0.
    """
    xp = namespace(rotvec)
    half = xp.linalg.vector_norm(rotvec, axis=-1, keepdims=True) / 2
    return quat_to_matrix(xp.concatenate([xp.cos(half), xp.sinc(half / np.pi) / 2 * rotvec], -1))


def geodesic_distance(R1: Array, R2: Array) -> Array:
    """Angle in radians between (..., 3, 3) rotations.

    Through `|R1 - R2|_F = 2 √2 sin(angle / 2)`, which keeps its accuracy at small angles.
    """
    xp = namespace(R1)
    half_sine = xp.linalg.matrix_norm(R1 - R2) / (2 * 2**0.5)
    return 2 * xp.asin(half_sine.clip(None, 1.0))


def rotation_log(R: np.ndarray) -> np.ndarray:
    """Rotation vectors (..., 3), radians, of matrices (..., 3, 3): the inverse of `lie_vec_to_matrix`."""
    axis = np.stack([R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], -1) / 2
    sine, cosine = np.linalg.norm(axis, axis=-1), (np.trace(R, axis1=-2, axis2=-1) - 1) / 2
    angle = np.arctan2(sine, cosine)
    # Near half a turn the axis is that of the symmetric part, (1 - c) a a^T + c I; its longest column has most digits.
    columns = (R + np.swapaxes(R, -1, -2)) / 2 - cosine[..., None, None] * np.eye(3)
    longest = np.take_along_axis(columns, np.linalg.norm(columns, axis=-2).argmax(-1)[..., None, None], -1)[..., 0]
    longest = longest / np.linalg.norm(longest, axis=-1, keepdims=True).clip(TINY, None)
    longest = np.where((longest * axis).sum(-1, keepdims=True) < 0, -longest, longest)
    half_turn = (cosine < -0.5)[..., None]
    small = np.where(sine > 1e-9, angle / np.where(sine > 1e-9, sine, 1.0), 1.0)[..., None]
    return np.where(half_turn, longest * angle[..., None], axis * small)


def nearest_rotations(matrices: np.ndarray) -> np.ndarray:
    """The rotations nearest to matrices (N, 3, 3), by their singular values."""
    left, _, right = np.linalg.svd(matrices)
    left[..., 2] *= np.sign(np.linalg.det(left @ right))[:, None]
    return left @ right


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) rotation drawn uniformly from SO(3)."""
    return quat_to_matrix(np.roll(rng.standard_normal(4), 1))


def _unit(vectors: Array) -> Array:
    """Vectors (..., n) of length 1; 0 where they are."""
    xp = namespace(vectors)
    return vectors / xp.linalg.vector_norm(vectors, axis=-1, keepdims=True).clip(TINY, None)
