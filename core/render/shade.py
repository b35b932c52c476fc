"""Pictures of bodies and the ground they stand on, from rays that Embree casts; light is told by `lighting`.

Light is added in linear RGB and encoded as sRGB at the end. Positions are any pixels, so an ROI is rendered at its
own resolution. Where they form a grid, shadows and ambient occlusion are cast on a coarser lattice of its pixels and
spread over those of the same body.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sopose.core.geometry.camera import pixel_rays
from sopose.core.geometry.pose import Pose
from sopose.core.objects.colors import encode, texture_colors
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.raycast import RayCaster
from sopose.core.render.ground import START, Ground
from sopose.core.render.light_lattice import Grid
from sopose.core.render.lighting import (
    LightSet,
    Surface,
    disk_pattern,
    hemisphere_pattern,
    interleaved,
    lamp_openness,
    lamps_faced,
    reflect,
    sky_openness,
)
from sopose.core.render.lights import Lights
from sopose.core.render.materials import Material, vary, vertex_attributes
from sopose.core.render.visibility import SceneHits, cast_scene
from sopose.core.utils.errors import UserError

# Shadow rays start this part of the object's radius above its surface, more than float32 errs.
SHADOW_OFFSET = 2e-3
CHUNK = 8192  # points lit at once: their arrays stay in the cache


@dataclass(frozen=True)
class Shading:
    """Which light is followed, and how finely. Strides are in pixels of a grid of positions."""

    shadows: bool = True
    ambient_occlusion: bool = True
    shadow_stride: int = 2  # of the places where rays to lamps are cast
    shadow_rays: int = 1  # to each lamp from a place, four times as many where places stand alone or the stride is 1
    sky_stride: int = 4
    sky_rays: int = 4

    def __post_init__(self) -> None:
        if min(self.shadow_stride, self.shadow_rays, self.sky_stride, self.sky_rays) < 1:
            raise UserError(f"strides and numbers of rays must be at least 1, got {self}")


@dataclass(frozen=True, eq=False)
class Body:
    """A model where it stands before the camera. `caster` holds the model's own vertices and faces."""

    caster: RayCaster
    model: ObjectModel
    pose: Pose
    material: Material = field(default_factory=Material)


@dataclass(frozen=True, eq=False)
class RgbHits:
    """Colours of N pixels, and what they show. Where owner is -1 the colour is black, to be filled."""

    rgb: np.ndarray  # (N, 3) uint8 sRGB, in the order R, G, B
    owner: np.ndarray  # (N,) int64, index of the body, the number of bodies for the ground, -1 none
    depth: np.ndarray  # (N,) float64, metres, inf where none
    points_obj: np.ndarray  # (N, 3) float64, metres, in the owner's frame; 0 on the ground


def render_rgb(
    bodies: Sequence[Body],
    K: np.ndarray,
    uv: np.ndarray,
    lights: Lights,
    shading: Shading | None = None,
    ground: Ground | None = None,
) -> RgbHits:
    """The picture of `bodies` at pixels `uv`, (N, 2) or a grid (H, W, 2), of a camera K (3, 3), nearest body first.

    Of a grid the N = H W pixels are told row by row.
    """
    flat = uv.reshape(-1, 2)
    hits = cast_scene([body.caster for body in bodies], [body.pose for body in bodies], K, flat)
    rays_cam = None
    if ground is not None:
        rays_cam = pixel_rays(K, flat)
        hits = _over_ground(hits, ground, len(bodies), rays_cam)
    size = uv.shape[:2] if uv.ndim == 3 else None
    linear = shade(hits, bodies, lights, shading, ground, rays_cam, size)
    return RgbHits(encode(linear), hits.owner, hits.depth, hits.points_obj)


def shade(
    hits: SceneHits,
    bodies: Sequence[Body],
    lights: Lights,
    shading: Shading | None = None,
    ground: Ground | None = None,
    rays_cam: np.ndarray | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Linear RGB (N, 3) float32 of hits among `bodies`, not clipped; 0 where a pixel sees nothing.

    The ground is the owner after the bodies and needs the pixels' rays (N, 3), z = 1. size (H, W): the hits are
    those of a grid, row by row.
    """
    shading = shading or Shading()
    linear = np.zeros((len(hits.owner), 3), np.float32)
    seen = np.flatnonzero(hits.owner >= 0)
    if not len(seen):
        return linear
    # The points of one body in a row: slices are several times faster than lists of places.
    seen = seen[np.argsort(hits.owner[seen], kind="stable")]
    surface = _surface(hits, seen, bodies, ground, rays_cam, size is not None)
    light_set, casting = lights.tensors(), Occluders(bodies, ground)
    grid = None if size is None else Grid(seen, hits.owner, size, math.lcm(shading.shadow_stride, shading.sky_stride))
    openness = _lamps(surface, light_set, casting, grid, shading) if shading.shadows else None
    sky = _sky(surface, casting, grid, shading) if shading.ambient_occlusion else None
    for start in range(0, len(seen), CHUNK):
        part = slice(start, start + CHUNK)
        of_lamps, of_sky = (None if share is None else share[..., part] for share in (openness, sky))
        linear[seen[part]] = reflect(surface.take(part), light_set, of_lamps, of_sky).T
    return linear


class Occluders:
    """Bodies and the ground as an `Occlusion`: what stands in the way of segments."""

    def __init__(self, bodies: Sequence[Body], ground: Ground | None = None) -> None:
        self.ground = ground
        self._casters = [body.caster for body in bodies]
        self._obj_T_cam = [body.pose.inverse() for body in bodies]
        self._centers = [_column(body.pose.transform(body.caster.center)) for body in bodies]

    def __call__(self, starts_cam: Tensor, towards: Tensor, asked: Tensor) -> Tensor:
        """(M,) bool of segments from starts (3, M) to `start + towards`, camera frame, metres; False if not `asked`."""
        answer = torch.zeros_like(asked)
        index = asked.nonzero()[:, 0]
        answer[index] = self._blocked(starts_cam.index_select(1, index), towards.index_select(1, index))
        return answer

    def _blocked(self, starts_cam: Tensor, towards: Tensor) -> Tensor:
        starts, along = starts_cam.numpy(), towards.numpy()
        blocked = np.zeros(starts.shape[1], bool)
        if self.ground is not None:
            blocked = self.ground.occludes(starts_cam, towards).numpy()
        squared = _dot(along, along)
        for caster, pose, center in zip(self._casters, self._obj_T_cam, self._centers, strict=True):
            # A segment that stays outside the bounding sphere needs no Embree; most between objects do.
            to_center = center - starts
            nearest = to_center - np.clip(_dot(to_center, along) / squared, 0, 1) * along
            near = np.flatnonzero((_dot(nearest, nearest) <= np.float32(1.01 * caster.radius**2)) & ~blocked)
            if not len(near):
                continue
            obj_R_cam = pose.cam_R_obj.astype(np.float32)
            starts_obj = obj_R_cam @ starts[:, near] + _column(pose.cam_t_obj)
            blocked[near] = caster.occluded(starts_obj.T, (obj_R_cam @ along[:, near]).T, 1.0)
        return torch.from_numpy(blocked)


def _lamps(surface: Surface, lights: LightSet, casting: Occluders, grid: Grid | None, shading: Shading) -> Tensor:
    """(L, M) openness of the lamps."""
    points = _disk(4 * shading.shadow_rays)
    if not bool(lights.sizes.any()):
        points = torch.zeros(4, 3)
    alone = points if points.any() else points[:1]  # a lamp that is a point is met by one ray
    if grid is None or shading.shadow_stride == 1 or not len(lights.sizes):
        return lamp_openness(surface, lights, casting, alone[..., None])

    def measure(index: Tensor, which: Tensor | None) -> Tensor:
        offsets = alone[..., None] if which is None else interleaved(points, which)
        return lamp_openness(surface.take(index), lights, casting, offsets)

    return grid.measure(shading.shadow_stride, measure, lamps_faced(surface, lights))


def _sky(surface: Surface, casting: Occluders, grid: Grid | None, shading: Shading) -> Tensor:
    """(M,) openness of the sky."""
    directions = _hemisphere(4 * shading.sky_rays)
    if grid is None or shading.sky_stride == 1:
        return sky_openness(surface, casting, directions[..., None])

    def measure(index: Tensor, which: Tensor | None) -> Tensor:
        rays = directions[..., None] if which is None else interleaved(directions, which)
        return sky_openness(surface.take(index), casting, rays)[None]

    everywhere = torch.ones(1, surface.points_cam.shape[1], dtype=torch.bool)
    return grid.measure(shading.sky_stride, measure, everywhere)[0]


_disk, _hemisphere = lru_cache(disk_pattern), lru_cache(hemisphere_pattern)


def _over_ground(hits: SceneHits, ground: Ground, owner: int, rays_cam: np.ndarray) -> SceneHits:
    """`hits` of rays (N, 3), z = 1, with the ground where it is nearer, as the owner of that number."""
    depth = ground.depth(rays_cam)
    nearer = depth < hits.depth
    points = hits.points_obj
    points[nearer] = 0.0
    face = np.where(nearer, -1, hits.face)
    return SceneHits(np.where(nearer, owner, hits.owner), face, points, np.where(nearer, depth, hits.depth))


def _surface(
    hits: SceneHits,
    seen: np.ndarray,
    bodies: Sequence[Body],
    ground: Ground | None,
    rays_cam: np.ndarray | None,
    on_grid: bool,
) -> Surface:
    """The points to be lit of the hits `seen` (M,)."""
    columns = np.empty((15, len(seen)), np.float32)
    bounds = np.searchsorted(hits.owner[seen], np.arange(len(bodies) + 2))
    for body, start, end in zip(bodies, bounds[:-2], bounds[1:-1], strict=True):
        if end > start:
            places = seen[start:end]
            columns[:, start:end] = _body_columns(body, hits.face[places], hits.points_obj[places])
    if ground is not None and rays_cam is not None and bounds[-1] > bounds[-2]:
        places = seen[bounds[-2] :]
        points = (rays_cam[places] * hits.depth[places, None]).T.astype(np.float32)
        # The angle between neighbouring pixels of a grid; single positions are not filtered.
        pixel_angle = float(np.linalg.norm(rays_cam[1] - rays_cam[0])) if on_grid and len(rays_cam) > 1 else 0.0
        columns[:, bounds[-2] :] = _ground_columns(ground, points, pixel_angle)
    values = torch.from_numpy(columns)
    return Surface(values[:3], values[3:6], values[6:9], values[9:12], *values[12:])


def _ground_columns(ground: Ground, points_cam: np.ndarray, pixel_angle: float) -> np.ndarray:
    """The fields of a `Surface` as rows (15, M), of points (3, M) of the ground."""
    rows = np.empty((15, points_cam.shape[1]), np.float32)
    rows[:3], rows[3:6], rows[6:9] = points_cam, _column(ground.normal_cam), _column(ground.normal_cam)
    rows[9:12] = ground.albedo(points_cam, pixel_angle)
    rows[12:] = _column([ground.material.specular, ground.material.roughness, START])
    return rows


def _body_columns(body: Body, face: np.ndarray, points_obj: np.ndarray) -> np.ndarray:
    """The fields of a `Surface` as rows (15, M), of points (M, 3) on triangles (M,) of a body."""
    model = body.model
    rows = np.empty((15, len(face)), np.float32)
    rows[:3] = body.pose.transform(points_obj).T
    weights = body.caster.barycentric(face, points_obj).astype(np.float32)
    corners = model.faces[face]
    smooth_albedo = np.ascontiguousarray(_interpolate(vertex_attributes(model), corners, weights).T)
    albedo = smooth_albedo[3:]
    if model.texture is not None and model.uv is not None:
        albedo = texture_colors(model.texture, _interpolate(model.uv, corners, weights)).T
    cam_R_obj = body.pose.cam_R_obj.astype(np.float32)
    rows[6:9] = cam_R_obj @ body.caster.face_normals(face).T.astype(np.float32)
    rows[6:9] *= np.where(_dot(rows[6:9], rows[:3]) > 0, np.float32(-1), np.float32(1))
    rows[3:6] = rows[6:9] if model.normals is None else _smooth_normals(cam_R_obj @ smooth_albedo[:3], rows[6:9])
    stains, caster = body.material.stains, body.caster
    factors = None if stains is None else stains.factors(points_obj, caster.center, caster.radius)
    rows[9:12] = vary(albedo, body.material.recolor, factors)
    rows[12:] = _column([body.material.specular, body.material.roughness, SHADOW_OFFSET * body.caster.radius])
    return rows


def _interpolate(values: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Vertex values (V, c) at barycentric weights (M, 3) of corners (M, 3): (M, c)."""
    total = weights[:, :1] * values[corners[:, 0]]
    for corner in (1, 2):
        total += weights[:, corner, None] * values[corners[:, corner]]
    return total


def _smooth_normals(smooth: np.ndarray, facets: np.ndarray) -> np.ndarray:
    """Interpolated normals (3, M) of any length as unit ones on the facets' side."""
    length = np.sqrt(_dot(smooth, smooth))
    # A mesh may store no direction at all: the triangle's own is right then.
    smooth = np.where(length > 1e-6, smooth / np.maximum(length, np.float32(1e-6)), facets)
    return smooth * np.where(_dot(smooth, facets) < 0, np.float32(-1), np.float32(1))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products (N,) of the columns of (3, N) arrays; numpy is faster along long rows."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _column(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Numbers as a float32 column (n, 1)."""
    return np.asarray(values, np.float32)[:, None]
