"""How a rigid body lies on a table: its stable poses, its footprint, and how far bodies must stand apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

SUPPORT_TOLERANCE = 1e-6  # of the hull's size: the centre of mass is over a face that it misses by this
LIKELY = 0.995  # share of the solid angle that the kept faces have; the rest is seldom seen
FOOTPRINT_DIRECTIONS = 32  # half-planes that bound a footprint


@dataclass(frozen=True, eq=False)
class RestingPoses:
    """The F ways a body rests on the plane z = 0, by its hull's faces, the likeliest first."""

    table_R_obj: np.ndarray  # (F, 3, 3): the face downwards
    probability: np.ndarray  # (F,) sums to 1
    hull: np.ndarray  # (H, 3) vertices of the convex hull, object frame, metres

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """(3, 3) rotation to the table's frame, z up, turned about z at random."""
        face = rng.choice(len(self.probability), p=self.probability)
        return turned(rng) @ self.table_R_obj[face]


def turned(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) random turn about z."""
    return Rotation.from_euler("z", rng.uniform(0, 2 * np.pi)).as_matrix()


def resting_poses(vertices: np.ndarray) -> RestingPoses:
    """The stable poses of a body of vertices (V, 3): hull faces that its centre of mass stands over.

    The hull is taken for solid and even. A face is as likely as the solid angle under which the centre of mass
    sees it: that of being hit by a body that falls without turning.
    """
    hull = ConvexHull(vertices)
    center = _center_of_mass(hull)
    # Triangles of one flat face have one plane; they are a pose together.
    step = 10.0 ** (_magnitude(hull) - 6)
    planes, group = np.unique(np.round(hull.equations, 6 - _magnitude(hull)), axis=0, return_inverse=True)
    group = group.reshape(-1)
    angle = np.bincount(group, weights=_solid_angles(vertices[hull.simplices] - center))
    normal = planes[:, :3] / np.linalg.norm(planes[:, :3], axis=1, keepdims=True)
    below = center - (normal @ center + planes[:, 3])[:, None] * normal
    outside = (below @ hull.equations[:, :3].T + hull.equations[:, 3]).max(axis=1)
    stable = np.flatnonzero(outside <= SUPPORT_TOLERANCE * np.ptp(vertices, axis=0).max() + step)
    likeliest = stable[np.argsort(-angle[stable], kind="stable")]
    share = np.cumsum(angle[likeliest]) / angle[likeliest].sum()
    kept = likeliest[: int(np.searchsorted(share, LIKELY)) + 1]
    rotations = np.stack([_downwards(normal[face]) for face in kept])
    return RestingPoses(rotations, angle[kept] / angle[kept].sum(), vertices[hull.vertices])


def supports(points: np.ndarray) -> np.ndarray:
    """(D,) how far points (N, 2 or 3), seen from above, reach along each of the footprint's directions, metres."""
    return (points[:, :2] @ _directions().T).max(axis=0)


def touching_distance(fixed: np.ndarray, moved: np.ndarray, heading: np.ndarray) -> float:
    """How far a footprint is to be shifted along a unit heading (2,) to stand just beside another one, metres.

    Both are `supports` (D,) as they stand. Never too near, and for convex footprints hardly too far.
    """
    along = _directions() @ heading
    reach = fixed + np.roll(moved, FOOTPRINT_DIRECTIONS // 2)  # the moved one's support against the direction
    ahead = along > 1e-6
    return float(np.min(reach[ahead] / along[ahead]))


def apart(fixed: np.ndarray, moved: np.ndarray, slack: float = 0.0) -> bool:
    """Whether two footprints, as `supports` (D,), have a straight line between them; `slack` metres may overlap."""
    return bool((fixed + np.roll(moved, FOOTPRINT_DIRECTIONS // 2)).min() <= slack)


def shifted(footprint: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """`supports` (D,) of points moved by an offset (2,)."""
    return footprint + _directions() @ offset


def _directions() -> np.ndarray:
    angle = np.arange(FOOTPRINT_DIRECTIONS) * (2 * np.pi / FOOTPRINT_DIRECTIONS)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _magnitude(hull: ConvexHull) -> int:
    """Power of ten of a hull's size."""
    return int(np.floor(np.log10(max(np.ptp(hull.points, axis=0).max(), 1e-12))))


def _center_of_mass(hull: ConvexHull) -> np.ndarray:
    """(3,) of the even, solid hull: the mean of its tetrahedra about an inner point."""
    middle = hull.points[hull.vertices].mean(axis=0)
    corners = hull.points[hull.simplices] - middle
    volume = np.abs(np.linalg.det(corners))
    return middle + (volume[:, None] * corners.sum(axis=1) / 4).sum(axis=0) / volume.sum()


def _solid_angles(corners: np.ndarray) -> np.ndarray:
    """(F,) of triangles (F, 3, 3) seen from the origin (Van Oosterom and Strackee, 1983)."""
    a, b, c = (corners / np.linalg.norm(corners, axis=-1, keepdims=True)).transpose(1, 0, 2)
    triple = np.abs(np.einsum("fi,fi->f", a, np.cross(b, c)))
    dots = [np.einsum("fi,fi->f", *pair) for pair in ((a, b), (b, c), (c, a))]
    return 2 * np.arctan2(triple, 1 + sum(dots))


def _downwards(normal: np.ndarray) -> np.ndarray:
    """(3, 3) rotation that takes a unit vector (3,) to (0, 0, -1)."""
    return Rotation.align_vectors([[0.0, 0.0, -1.0]], normal[None])[0].as_matrix()
