"""A triangle mesh as a surface: evenly spread points on it, and how far other points are from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEAR_SAMPLES = 4  # the triangles of so many nearest samples are searched for the closest point
AGAIN_PART, AGAIN_SAMPLES = 10, 48  # for one in so many points, the farthest, those of so many
FLATNESS = 1e-12  # of the size squared: with less variance across it a surface is a plane
BLOCK = 500  # points whose distances to all others are computed at once


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """N points of a mesh, in no order of place."""

    face: np.ndarray  # (N,) int64, the triangle each lies on
    weights: np.ndarray  # (N, 3) its barycentric weights, which sum to 1
    points: np.ndarray  # (N, 3)

    def interpolate(self, values: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Vertex values (V, c) of the mesh of `faces` (F, 3) at these points: (N, c)."""
        return np.einsum("nk,nkc->nc", self.weights, values[faces[self.face]])


def face_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F,) areas of the triangles, in the square of the vertices' unit."""
    return np.linalg.norm(_double_normals(vertices, faces), axis=1) / 2


def sample_surface(vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator) -> SurfacePoints:
    """`count` points spread by area over vertices (V, 3) and faces (F, 3); the tessellation doesn't matter.

    Every triangle gets as many as its share of the area, to within one.
    """
    total = np.cumsum(face_areas(vertices, faces))
    at = (np.arange(count) + rng.random(count)) / count * total[-1]
    face = rng.permutation(np.minimum(np.searchsorted(total, at), len(faces) - 1))
    root, share = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - share), root * share], axis=1)
    return SurfacePoints(face, weights, np.einsum("nk,nki->ni", weights, vertices[faces[face]]))


def largest_distance(points: np.ndarray) -> float:
    """The diameter of points (N, 3), however many they are."""
    from scipy.spatial.distance import cdist  # here and below: what estimates poses starts without scipy

    hull = _hull_of(points)  # the farthest pair lies on it
    radius = np.linalg.norm(hull - (hull.min(axis=0) + hull.max(axis=0)) / 2, axis=1)
    hull, radius = hull[np.argsort(-radius)], np.sort(radius)[::-1]
    best, start = 0.0, 0
    # Two points are at most as far from each other as both are from the middle: those near to it need no look.
    while start < len(hull) and radius[start] + radius[0] > best:
        best = max(best, float(cdist(hull[start : start + BLOCK], hull).max()))
        start += BLOCK
    return best


def _hull_of(points: np.ndarray) -> np.ndarray:
    """(H, 3) the corners of the convex hull of points (N, 3), also where all lie in a plane or on a line."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return points[ConvexHull(points).vertices]
    except QhullError:
        _, _, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    in_plane = points @ axes[:2].T
    try:
        return points[ConvexHull(in_plane).vertices]
    except QhullError:
        return points[[in_plane[:, 0].argmin(), in_plane[:, 0].argmax()]]


def is_flat(points: np.ndarray) -> bool:
    """Whether points (N, 3) lie in one plane, to a millionth of their size."""
    size = float(np.ptp(points, axis=0).max())
    return size == 0 or bool(np.linalg.eigvalsh(np.cov((points - points.mean(axis=0)).T / size))[0] < FLATNESS)


class Surface:
    """A mesh that can be asked for its closest points. Lengths are in the vertices' unit."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator) -> None:
        """Take vertices (V, 3) and faces (F, 3), and spread `count` samples; every triangle gets one besides.

        Triangles without area are left out; there must be one that has it.
        """
        from scipy.spatial import cKDTree

        double = _double_normals(vertices, faces)
        length = np.linalg.norm(double, axis=1)
        solid = length > 0
        faces = faces[solid]
        self.corners = vertices[faces]  # (F, 3, 3)
        self.normals = double[solid] / length[solid, None]  # (F, 3)
        spread = sample_surface(vertices, faces, count, rng)
        self._face = np.concatenate([spread.face, np.arange(len(faces))])
        self._tree = cKDTree(np.concatenate([spread.points, self.corners.mean(axis=1)]))

    @property
    def samples(self) -> np.ndarray:
        """(N, 3) points on the surface, in every triangle one at least."""
        return self._tree.data

    def nearest_sample(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The samples nearest to points (..., 3) as points (..., 3) and unit normals (..., 3) of the surface."""
        _, index = self._tree.query(points)
        return self.samples[index], self.normals[self._face[index]]

    def sample_distance(self, points: np.ndarray) -> np.ndarray:
        """(...,) distances of points (..., 3) to the nearest samples: never below those to the surface."""
        return self._tree.query(points)[0]

    def distance(self, points: np.ndarray) -> np.ndarray:
        """(N,) distances of points (N, 3) to the surface.

        Exact where the closest triangle is one of the few that the nearest samples lie on, else a little too long:
        by less than the samples are apart. The farthest points are searched among more, so that the greatest
        distance is right.
        """
        if not len(points):  # of an object too thin for a pixel
            return np.empty(0)
        distance = self._distance(points, NEAR_SAMPLES)
        farthest = np.argsort(-distance, kind="stable")[: len(points) // AGAIN_PART + 1]
        distance[farthest] = self._distance(points[farthest], AGAIN_SAMPLES)
        return distance

    def _distance(self, points: np.ndarray, neighbours: int) -> np.ndarray:
        from trimesh.triangles import closest_point

        _, index = self._tree.query(points, k=min(neighbours, self._tree.n))
        face = self._face[index.reshape(len(points), -1)]
        repeated = np.repeat(points, face.shape[1], axis=0)
        corners = self.corners[face.reshape(-1)]
        # Each triangle at a size of one, about its first corner: trimesh's tolerances are absolute.
        origin, edge = corners[:, :1], np.linalg.norm(corners - corners[:, [1, 2, 0]], axis=2).max(axis=1)
        offset, scaled = repeated - origin[:, 0], (corners - origin) / edge[:, None, None]
        closest = edge[:, None] * closest_point(scaled, offset / edge[:, None])
        return np.linalg.norm(closest - offset, axis=1).reshape(face.shape).min(axis=1)


def _double_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 3) normals of triangles by the right-hand rule, twice as long as their areas."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)
