"""Rays against one mesh: Embree (float32) names the triangle, float64 says where on the ray.

Embree works in a frame of its own, the object's bounding sphere made the unit sphere, and each ray starts just
before the object: its float32 then resolves about 1e-7 of the object, whatever the object's size and distance.
The hit point is the crossing of the float64 ray with the float64 plane of the named triangle. Where that
point lies outside the triangle (the ray passes an edge by less than float32 resolves, or grazes the plane),
the ray is solved again against all triangles in float64; this happens to about one ray in 100,000 of a scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from sopose.core.geometry.camera import times_homogeneous
from sopose.core.geometry.outline import enclosing_corners
from sopose.core.geometry.pose import Pose
from sopose.core.rays.raster import first_triangles
from sopose.core.utils.errors import UserError

# A point is on its triangle when no barycentric coordinate is below minus this. It is relative to the
# triangle's size, so a point of a triangle of 0.5 m is at most 0.5 nm beside it.
EDGE_TOLERANCE = 1e-9
# Triangles less high than this part of the bounding sphere's radius have no sure normal: nothing hits them.
FLATNESS = 1e-9
# Float32 rays start this part of the radius before the bounding sphere: rounding keeps the surface ahead.
START_MARGIN = 1e-3
# Embree's "no limit" of a ray, and still a number in float32.
MAX_FLOAT32 = 1e30


@cache
def has_embree() -> bool:
    """Whether Embree is installed. Without it an object in front of the camera is drawn in numpy."""
    return find_spec("embreex") is not None


@dataclass(frozen=True, eq=False)
class RayHits:
    """The first hits of those rays that hit. M of N rays; lengths in metres, the object's frame."""

    ray: np.ndarray  # (M,) int64, index of the ray, ascending
    face: np.ndarray  # (M,) int64, index of the triangle
    points_obj: np.ndarray  # (M, 3) float64, on the ray and on the triangle
    depth: np.ndarray  # (M,) float64, the ray parameter λ; for rays of a camera the depth z
    directions_obj: np.ndarray  # (M, 3) float64, as they were given; for rays of a camera z = 1 in its frame

    def only(self, kept: np.ndarray) -> RayHits:
        """Those of the mask `kept` (M,) bool."""
        if kept.all():
            return self
        return RayHits(*(np.compress(kept, column, axis=0) for column in vars(self).values()))


def camera_rays(pose: Pose, K: np.ndarray, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Camera centre (3,) and ray directions (..., 3) of pixels `uv` (..., 2), in the object's frame, metres.

    The directions have z = 1 in the camera's frame, so that λ in `centre + λ direction` is the depth.
    """
    origin, obj_M_pixel = _camera(pose, K)
    return origin, times_homogeneous(obj_M_pixel, uv)


def _camera(pose: Pose, K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Camera centre (3,), object's frame, metres, and the matrix (3, 3) from pixels (u, v, 1) to ray directions."""
    # R^T for both: annotated rotations are off by up to 3e-4, and an inverse beside a transpose would part the rays
    # from the camera's centre by that share of the distance.
    obj_R_cam = pose.cam_R_obj.T
    return -obj_R_cam @ pose.cam_t_obj, obj_R_cam @ np.linalg.inv(K)


class RayCaster:
    """One mesh, ready for rays. The Embree scene is built at first use, and not pickled along."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        """Take vertices (V, 3), metres, and faces (F, 3). `UserError` where they make no mesh.

        Triangles without area stay in the numbering and are never hit.
        """
        self.vertices = np.ascontiguousarray(vertices, dtype=np.float64)
        self.faces = np.ascontiguousarray(faces, dtype=np.int64)
        _check_mesh(self.vertices, self.faces)
        low, high = self.vertices.min(axis=0), self.vertices.max(axis=0)
        self.center = (low + high) / 2
        self.radius = float(np.linalg.norm(self.vertices - self.center, axis=1).max())
        self._outline = enclosing_corners(self.vertices).T.copy()  # (3, n): long rows
        self.planes, self.solid = _triangle_functions(self.vertices[self.faces], FLATNESS * self.radius)
        if not self.solid.any():
            raise UserError(f"none of the mesh's {len(self.faces)} triangles has an area: repair the model file")
        self._scene: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scene": None}

    def cast(self, pose: Pose, K: np.ndarray, uv: np.ndarray) -> RayHits:
        """First hits of the rays through pixels `uv` (N, 2) of the camera K (3, 3), the object at `pose`."""
        origin, obj_M_pixel = _camera(pose, K)
        extent = self._image_extent(origin, obj_M_pixel)
        if extent is None:
            return self.first_hit(origin, times_homogeneous(obj_M_pixel, uv))
        box, start = extent
        # One row per coordinate, here and below: numpy is several times faster along long rows.
        pixels = np.ascontiguousarray(uv.T)
        near = _within(box, pixels)
        # All rays start at the depth of the nearest corner: where they do is as linear in the pixel as whereto.
        unit = np.concatenate([start * obj_M_pixel, obj_M_pixel])
        unit[:3, 2] += origin - self.center
        unit /= self.radius
        pixels = pixels.take(near, axis=1)
        if has_embree():
            rays = unit[:, :2] @ pixels
            rays += unit[:, 2:]
            rays = rays.astype(np.float32)
            named = self._embree().run(rays[:3].T, rays[3:].T)
        else:
            named = self._drawn(origin, obj_M_pixel, pixels)
        hit = (named >= 0).nonzero()[0]
        directions = obj_M_pixel[:, :2] @ pixels.take(hit, axis=1)
        directions += obj_M_pixel[:, 2:]
        return self._met(near.take(hit), named.take(hit), origin[:, None], directions)

    def first_hit(self, origins_obj: np.ndarray, directions_obj: np.ndarray) -> RayHits:
        """First hits of the rays `origin + λ direction`, λ > 0.

        origins_obj is (N, 3) or one (3,) for all, metres; directions_obj is (N, 3), of any length but zero.
        """
        _, rays = _near_rays(*self._unit_rays(origins_obj, directions_obj))
        named = self._embree().run(*rays)
        ray = np.flatnonzero(named >= 0)
        origins = origins_obj[:, None] if origins_obj.ndim == 1 else origins_obj.take(ray, axis=0).T
        return self._met(ray, named.take(ray), origins, directions_obj.take(ray, axis=0).T.copy())

    def occluded(self, origins_obj: np.ndarray, directions_obj: np.ndarray, max_depth: float = np.inf) -> np.ndarray:
        """(N,) bool: something lies on `origin + λ direction` for 0 < λ < max_depth. Shapes as `first_hit`.

        Answered in float32: right to about 1e-7 of the object's size, which is enough for shadows.
        """
        to_center, rows, squared, along = self._unit_rays(origins_obj, directions_obj)
        # A ray that stays outside the bounding sphere needs no Embree; most shadow rays between objects do.
        nearest = np.maximum(along, 0) ** 2 / squared
        x, y, z = to_center
        near = np.flatnonzero(x * x + y * y + z * z - nearest <= 1 + START_MARGIN)
        hit = np.zeros(len(directions_obj), bool)
        if not len(near):
            return hit
        if origins_obj.ndim == 2:
            to_center = to_center[:, near]
        starts, rays = _near_rays(to_center, rows[:, near], squared[near], along[near])
        ends = np.clip(max_depth - starts, 0, MAX_FLOAT32).astype(np.float32)
        hit[near] = self._embree().run(*rays, dists=ends, query="OCCLUDED") >= 0
        return hit

    def triangles_at(self, face: np.ndarray, points_obj: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit normals (M, 3) of triangles (M,), by the right-hand rule of their corners, and the points' weights.

        The weights (M, 3) of the corners are barycentric: at points (M, 3) on the triangles they sum to 1.
        """
        functions, points = self.planes.reshape(-1, 12).take(face, axis=0).T.reshape(3, 4, -1), points_obj.T
        second, third = _affine(functions[1], points), _affine(functions[2], points)
        return functions[0, :3].T, np.stack([1 - second - third, second, third], axis=-1)

    def image_box(self, pose: Pose, K: np.ndarray) -> np.ndarray | None:
        """Pixel box (x1, y1, x2, y2) outside which no ray hits; None unless the object is wholly in front."""
        extent = self._image_extent(*_camera(pose, K))
        return None if extent is None else np.array(extent[0])

    def _image_extent(self, origin: np.ndarray, obj_M_pixel: np.ndarray) -> tuple[list[float], float] | None:
        """`image_box`, and a depth in front of which no ray hits; None unless the object is wholly in front."""
        # The inverse of the rays, not the pose: with a rotation that is rounded they differ.
        corners = np.linalg.inv(obj_M_pixel) @ (self._outline - origin[:, None])
        nearest = float(corners[2].min())
        if nearest <= 1e-3 * self.radius:
            return None
        uv = corners[:2] / corners[2]
        return uv.min(axis=1).tolist() + uv.max(axis=1).tolist(), nearest

    def _drawn(self, origin: np.ndarray, obj_M_pixel: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """(M,) the triangle that each pixel (2, M) sees, -1 for none, of a mesh that is wholly in front."""
        corners = np.linalg.inv(obj_M_pixel) @ (self.vertices - origin).T
        faces = self.faces[self.solid]
        named = first_triangles((corners[:2] / corners[2]).T[faces], 1 / corners[2][faces], pixels)
        return np.where(named >= 0, np.flatnonzero(self.solid).take(named), -1)

    def _embree(self) -> Any:
        """The scene of this process. Importing Embree here keeps it out of programs that cast no ray."""
        if not has_embree():
            raise UserError(
                "the package embreex is missing, which casts rays of any direction, for shadows and for objects partly "
                "behind the camera; run: pip install embreex"
            )
        if self._scene is None:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene

            # Robust: no ray slips through between triangles that share an edge. It costs about a tenth of the tracing.
            self._scene = EmbreeScene(robust=True)
            vertices = (self.vertices - self.center) / self.radius
            # Three equal corners: Embree keeps the number and never hits the triangle.
            faces = np.where(self.solid[:, None], self.faces, self.faces[:, :1])
            TriangleMesh(self._scene, vertices.astype(np.float32), faces.astype(np.int32))
        return self._scene

    def _unit_rays(
        self, origins: np.ndarray, directions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Rays in Embree's frame, one row per coordinate (numpy is several times faster along long rows).

        Returns the vectors from origin to centre (3, N) or (3, 1), the directions (3, N), their squared
        lengths (N,) and the scalar products (N,) of both.
        """
        to_center = ((self.center - origins) / self.radius).T.reshape(3, -1)
        rows = np.divide(directions.T, self.radius, order="C")
        squared = rows[0] * rows[0] + rows[1] * rows[1] + rows[2] * rows[2]
        along = to_center[0] * rows[0] + to_center[1] * rows[1] + to_center[2] * rows[2]
        return to_center, rows, squared, along

    def _met(self, ray: np.ndarray, face: np.ndarray, origins: np.ndarray, directions: np.ndarray) -> RayHits:
        """The hits of rays (M,) with origins (3, M) or (3, 1) and directions (3, M) that Embree says meet `face`."""
        height, second, third = self.planes.reshape(-1, 12).take(face, axis=0).T.copy().reshape(3, 4, -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = -_affine(height, origins) / _linear(height, directions)
            points = depth * directions
            points += origins
            weights = _affine(second, points), _affine(third, points)
            lowest = np.minimum(np.minimum(*weights), 1 - weights[0] - weights[1])
        hits = RayHits(ray, face.astype(np.int64), points.T, depth, directions.T)
        # Whole arrays first: hardly ever is there one that is wrong, or not a number.
        if not len(ray) or (lowest.min() >= -EDGE_TOLERANCE and depth.min() > 0):
            return hits
        return self._solve_again(hits, ~((lowest >= -EDGE_TOLERANCE) & (depth > 0)), origins)

    def _solve_again(self, hits: RayHits, wrong: np.ndarray, origins: np.ndarray) -> RayHits:
        """`hits` with the rays of the mask `wrong` cast again, in float64; those that miss are left out."""
        origins = np.broadcast_to(origins.T, hits.points_obj.shape)
        for place in np.flatnonzero(wrong):
            origin, direction = origins[place], hits.directions_obj[place]
            hits.face[place], hits.depth[place] = face, depth = self._exact_hit(origin, direction)
            if face >= 0:
                hits.points_obj[place] = origin + depth * direction
        return hits.only(hits.face >= 0)

    def _exact_hit(self, origin: np.ndarray, direction: np.ndarray) -> tuple[int, float]:
        """Triangle and ray parameter of one ray's first hit, all in float64; (-1, inf) where it misses."""
        at_origin = self.planes[..., :3] @ origin + self.planes[..., 3]  # (F, 3): height, second, third weight
        along = self.planes[..., :3] @ direction
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = -at_origin[:, 0] / along[:, 0]
            second, third = (at_origin[:, 1:] + depth[:, None] * along[:, 1:]).T
            lowest = np.minimum(np.minimum(second, third), 1 - second - third)
            on_triangle = (lowest >= -EDGE_TOLERANCE) & (depth > 0) & self.solid
        if not on_triangle.any():
            return -1, np.inf
        face = int(np.argmin(np.where(on_triangle, depth, np.inf)))
        return face, float(depth[face])


def _within(box: list[float], pixels: np.ndarray) -> np.ndarray:
    """Indices of the pixels (2, N) inside a box x1, y1, x2, y2, its edges included."""
    u, v = pixels
    inside = u >= box[0]
    inside &= u <= box[2]
    inside &= v >= box[1]
    inside &= v <= box[3]
    return inside.nonzero()[0]


def _near_rays(
    to_center: np.ndarray, rows: np.ndarray, squared: np.ndarray, along: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Ray parameters (N,) just before the unit sphere; float32 origins (N, 3) there, and directions (N, 3).

    Takes what `_unit_rays` returns. A ray that starts inside the sphere, or beyond it, starts where it did.
    """
    starts = along / squared - (1 + START_MARGIN) / np.sqrt(squared)
    np.maximum(starts, 0, out=starts)
    near = starts * rows - to_center
    return starts, (near.astype(np.float32).T, rows.astype(np.float32).T)


def _affine(function: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values (M,) of affine functions (4, M) at points (3, M) or (3, 1)."""
    return _linear(function, points) + function[3]


def _linear(function: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(M,): by how much affine functions (4, M) change along vectors (3, M) or (3, 1)."""
    return function[0] * vectors[0] + function[1] * vectors[1] + function[2] * vectors[2]


def _triangle_functions(corners: np.ndarray, min_height: float) -> tuple[np.ndarray, np.ndarray]:
    """Three affine functions per triangle (F, 3, 3) as (F, 3, 4), and which triangles have an area (F,).

    They are the height above the plane (metres) and the barycentric weights of the second and third corner.
    """
    first, edge_2, edge_3 = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = np.cross(edge_2, edge_3)
    double_area = np.linalg.norm(normal, axis=1)
    edges = np.stack([edge_2, edge_3, edge_3 - edge_2])
    solid = double_area > min_height * np.linalg.norm(edges, axis=-1).max(axis=0)
    safe = np.where(solid, double_area, 1.0)[:, None]
    unit = normal / safe
    linear = np.stack([unit, np.cross(edge_3, unit) / safe, np.cross(unit, edge_2) / safe], axis=1)
    functions = np.concatenate([linear, -np.einsum("fki,fi->fk", linear, first)[..., None]], axis=-1)
    functions[~solid] = 0.0
    return functions, solid


def _check_mesh(vertices: np.ndarray, faces: np.ndarray) -> None:
    """`UserError` unless vertices are (V, 3) finite and faces (F, 3) name them."""
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
        raise UserError(
            f"a mesh needs vertices (V, 3) and faces (F, 3), F > 0; got {vertices.shape} and {faces.shape}: "
            "repair the model file"
        )
    if not np.isfinite(vertices).all() or faces.min() < 0 or faces.max() >= len(vertices):
        raise UserError(
            f"a mesh of {len(vertices)} vertices has coordinates that are not finite or faces that name "
            f"none of them (indices {faces.min()} to {faces.max()}): repair the model file"
        )
