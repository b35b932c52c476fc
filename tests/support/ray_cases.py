"""Meshes, poses and pixels to cast rays at, and a ray caster too slow and simple to be wrong."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from sopose.core.geometry.pose import Pose

K = np.array([[572.4, 0.3, 325.3], [0.0, 573.6, 242.0], [0.0, 0.0, 1.0]])
NANOMETRE = 1e-9


def icosphere(radius: float, subdivisions: int = 3) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def random_pose(rng: np.random.Generator, distance: float) -> Pose:
    return Pose(Rotation.random(rng=rng).as_matrix(), np.array([0.02, -0.01, 1.0]) * distance)


def pixels_around(pose: Pose, radius: float, count: int, rng: np.random.Generator) -> np.ndarray:
    center = (K @ pose.cam_t_obj)[:2] / pose.cam_t_obj[2]
    return center + rng.uniform(-1, 1, (count, 2)) * K[0, 0] * 1.2 * radius / pose.cam_t_obj[2]


def brute_force(
    vertices: np.ndarray, faces: np.ndarray, origin: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Möller and Trumbore in float64: λ (N,), inf for a miss, and how clear (N,) the answer is.

    Clearness is the least distance of the ray from being decided otherwise by any triangle with an area: the
    least |barycentric coordinate| on the triangle's outline, 0 for a triangle seen from its edge.
    """
    a, b, c = vertices[faces].transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) > 0
    a, b, c = a[area], b[area], c[area]
    p = np.cross(directions[:, None], c - a)  # (N, F, 3)
    determinant = np.einsum("fi,nfi->nf", b - a, p)
    size = np.linalg.norm(directions, axis=1)[:, None] * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    q = np.cross(origin - a, b - a)
    u = np.einsum("fi,nfi->nf", origin - a, p) / determinant
    v = directions @ q.T / determinant
    t = np.einsum("fi,fi->f", c - a, q) / determinant
    lowest = np.minimum(np.minimum(u, v), 1 - u - v)
    depth = np.where((lowest >= 0) & (t > 0), t, np.inf).min(axis=1)
    clearness = np.minimum(np.abs(lowest), 1) * np.abs(determinant / size)
    return depth, clearness.min(axis=1)


def distance_to_triangles(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Distance (M,) of points (M, 3) to their triangles (M, 3, 3), in the unit of both.

    To the plane where the point's foot is on the triangle, else to the nearest of its three sides.
    """
    a, b, c = corners.transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    height = np.einsum("mi,mi->m", points - a, normal)
    inside, to_side = np.ones(len(points), bool), np.full(len(points), np.inf)
    for start, end in ((a, b), (b, c), (c, a)):
        side, offset = end - start, points - start
        inside &= np.einsum("mi,mi->m", np.cross(side, offset), normal) >= 0
        along = np.clip(np.einsum("mi,mi->m", offset, side) / np.einsum("mi,mi->m", side, side), 0, 1)
        to_side = np.minimum(to_side, np.linalg.norm(offset - along[:, None] * side, axis=1))
    return np.where(inside, np.abs(height), to_side)
