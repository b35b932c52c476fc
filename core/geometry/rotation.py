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


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) rotation drawn uniformly from SO(3)."""
    return quat_to_matrix(np.roll(rng.standard_normal(4), 1))


def _unit(vectors: Array) -> Array:
    """Vectors (..., n) of length 1; 0 where they are."""
    xp = namespace(vectors)
    return vectors / xp.linalg.vector_norm(vectors, axis=-1, keepdims=True).clip(TINY, None)
