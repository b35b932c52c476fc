"""Rotation parametrisations, batched and differentiable. Matrices act on columns: `y = R @ x`."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn.functional import normalize


def rot6d_to_matrix(rot6d: Tensor) -> Tensor:
    """(..., 6) to (..., 3, 3): `x = â`, `z = (x × b)^`, `y = z × x`, columns [x y z] (Zhou et al., CVPR 2019)."""
    a, b = rot6d[..., :3], rot6d[..., 3:]
    x = normalize(a, dim=-1)
    z = normalize(torch.linalg.cross(x, b), dim=-1)
    y = torch.linalg.cross(z, x)
    return torch.stack([x, y, z], dim=-1)


def quat_to_matrix(quat_wxyz: Tensor) -> Tensor:
    """(..., 4) quaternions, scalar first and of any length, to (..., 3, 3)."""
    w, x, y, z = normalize(quat_wxyz, dim=-1).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], -1),
        torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], -1),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def log_quat_to_matrix(log_quat: Tensor) -> Tensor:
    """(..., 3) logarithms of unit quaternions (half the rotation vector) to (..., 3, 3)."""
    return lie_vec_to_matrix(2 * log_quat)


def lie_vec_to_matrix(rotvec: Tensor) -> Tensor:
    """(..., 3) rotation vectors (axis times angle, radians) to (..., 3, 3), by their quaternions.

    The closed form of the matrix exponential; exact, gradients included, where the vector is 0.
    """
    half = torch.linalg.vector_norm(rotvec, dim=-1, keepdim=True) / 2
    return quat_to_matrix(torch.cat([half.cos(), torch.sinc(half / torch.pi) / 2 * rotvec], dim=-1))


def geodesic_distance(R1: Tensor, R2: Tensor) -> Tensor:
    """Angle in radians between (..., 3, 3) rotations.

    Through `|R1 - R2|_F = 2 √2 sin(angle / 2)`, which keeps its accuracy at small angles.
    """
    half_sine = torch.linalg.matrix_norm(R1 - R2) / (2 * 2**0.5)
    return 2 * torch.asin(half_sine.clamp(max=1.0))


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) rotation drawn uniformly from SO(3)."""
    return Rotation.from_quat(rng.standard_normal(4)).as_matrix()
