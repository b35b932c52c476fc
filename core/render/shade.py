"""Colour of ray hits: vertex colours or textures under ambient light and a few lamps that cast shadows.

Light is added in linear RGB and encoded as sRGB at the end. Diffuse reflection is Lambert's, the highlight is
Blinn and Phong's. Positions are any pixels, so an ROI is rendered at its own resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.bop.models import ObjectModel
from core.geometry.pose import Pose
from core.render.raycast import RayCaster
from core.render.scene import SceneHits, cast_scene

PLAIN_ALBEDO = 0.4  # linear reflectance of a model without colours
# Shadow rays start this part of the object's radius above its surface, more than float32 errs.
SHADOW_OFFSET = 2e-3


def _srgb_to_linear(encoded: np.ndarray) -> np.ndarray:
    """Encoded values in [0, 1] as light, IEC 61966-2-1."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """Light in [0, 1] as encoded values, IEC 61966-2-1."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


_DECODE = _srgb_to_linear(np.arange(256) / 255).astype(np.float32)
_ENCODE_STEPS = 4095  # within one grey level everywhere, and a look-up is faster than a power
_ENCODE = np.rint(255 * _linear_to_srgb(np.arange(_ENCODE_STEPS + 1) / _ENCODE_STEPS)).astype(np.uint8)


@dataclass(frozen=True)
class Material:
    """How a surface shines."""

    specular: float = 0.1  # strength of the highlight
    shininess: float = 20.0  # Blinn-Phong exponent: larger is smaller and sharper


@dataclass(frozen=True, eq=False)
class Lights:
    """Ambient light and L lamps, linear RGB. Lamps do not fade with distance."""

    ambient: np.ndarray  # (3,)
    positions_cam: np.ndarray  # (L, 4): (x, y, z, 1) a point, metres; (x, y, z, 0) the direction to a far lamp
    colors: np.ndarray  # (L, 3)


@dataclass(frozen=True, eq=False)
class Body:
    """A model where it stands before the camera. `caster` holds the model's own vertices and faces."""

    caster: RayCaster
    model: ObjectModel
    pose: Pose
    material: Material = Material()


@dataclass(frozen=True, eq=False)
class RgbHits:
    """Colours of N pixels, and what they show. Where owner is -1 the colour is black, to be filled."""

    rgb: np.ndarray  # (N, 3) uint8 sRGB, in the order R, G, B
    owner: np.ndarray  # (N,) int64, index of the body, -1 none
    depth: np.ndarray  # (N,) float64, metres, inf where none
    points_obj: np.ndarray  # (N, 3) float64, metres, in the owner's frame


@dataclass(frozen=True, eq=False)
class _Surface:
    """M points to be lit, float32, camera frame. One row per coordinate: numpy is faster along long rows."""

    points_cam: np.ndarray  # (3, M) metres
    normals: np.ndarray  # (3, M) unit, interpolated over the triangle
    facets: np.ndarray  # (3, M) unit, of the triangle, turned to the camera
    albedo: np.ndarray  # (3, M) linear
    offset: np.ndarray  # (M,) start of shadow rays above the surface, metres
    specular: np.ndarray  # (M,)
    shininess: np.ndarray  # (M,)


def sample_lights(rng: np.random.Generator) -> Lights:
    """Random lights: some ambient, and one to three tinted lamps on the camera's side, near or far."""
    count = int(rng.integers(1, 4))
    directions = rng.normal(size=(count, 3))
    directions[:, 2] = -np.abs(directions[:, 2])  # the visible side of an object faces -z
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    far = rng.random(count) < 0.5
    distance = np.where(far, 1.0, rng.uniform(0.5, 3.0, count))
    positions = np.concatenate([distance[:, None] * directions, ~far[:, None]], axis=1)
    strength = rng.uniform(0.4, 1.2, (count, 1)) / np.sqrt(count)
    return Lights(
        ambient=rng.uniform(0.2, 0.6) * rng.uniform(0.9, 1.1, 3),
        positions_cam=positions,
        colors=strength * rng.uniform(0.85, 1.15, (count, 3)),
    )


def render_rgb(bodies: Sequence[Body], K: np.ndarray, uv: np.ndarray, lights: Lights, shadows: bool = True) -> RgbHits:
    """The picture of `bodies` at pixels `uv` (N, 2) of a camera K (3, 3), nearest body first."""
    hits = cast_scene([body.caster for body in bodies], [body.pose for body in bodies], K, uv)
    linear = shade(hits, bodies, lights, shadows)
    rgb = _ENCODE[np.rint(_ENCODE_STEPS * np.clip(linear, 0, 1)).astype(np.int32)]
    return RgbHits(rgb, hits.owner, hits.depth, hits.points_obj)


def shade(hits: SceneHits, bodies: Sequence[Body], lights: Lights, shadows: bool = True) -> np.ndarray:
    """Linear RGB (N, 3) float32 of hits among `bodies`, not clipped; 0 where a pixel sees no body."""
    linear = np.zeros((len(hits.owner), 3), np.float32)
    seen = np.flatnonzero(hits.owner >= 0)
    if not len(seen):
        return linear
    surface = _surface(hits, seen, bodies)
    light = surface.albedo * _column(lights.ambient)
    for position, color in zip(lights.positions_cam, lights.colors, strict=True):
        _add_lamp(light, surface, position, color, bodies if shadows else ())
    linear[seen] = light.T
    return linear


def _surface(hits: SceneHits, seen: np.ndarray, bodies: Sequence[Body]) -> _Surface:
    """The points to be lit of the hits `seen` (M,)."""
    count = len(seen)
    surface = _Surface(*(np.zeros((*shape, count), np.float32) for shape in [(3,)] * 4 + [()] * 3))
    owner = hits.owner[seen]
    for index, body in enumerate(bodies):
        place = np.flatnonzero(owner == index)
        if not len(place):
            continue
        face, points = hits.face[seen[place]], hits.points_obj[seen[place]]
        weights = body.caster.barycentric(face, points)
        points_cam = body.pose.transform(points).T.astype(np.float32)
        surface.points_cam[:, place] = points_cam
        surface.facets[:, place], surface.normals[:, place] = _normals(body, face, weights, points_cam)
        surface.albedo[:, place] = _albedo(body.model, face, weights).T
        surface.offset[place] = SHADOW_OFFSET * body.caster.radius
        surface.specular[place] = body.material.specular
        surface.shininess[place] = body.material.shininess
    return surface


def _normals(
    body: Body, face: np.ndarray, weights: np.ndarray, points_cam: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (3, M) of the triangles, and those interpolated from the vertices', facing the camera."""
    cam_R_obj = body.pose.cam_R_obj.astype(np.float32)
    facets = cam_R_obj @ body.caster.face_normals(face).T.astype(np.float32)
    facets *= np.where(_dot(facets, points_cam) > 0, np.float32(-1), np.float32(1))
    if body.model.normals is None:
        return facets, facets
    smooth = cam_R_obj @ _interpolate(body.model.normals, body.model.faces[face], weights).T.astype(np.float32)
    length = np.sqrt(_dot(smooth, smooth))
    # A mesh may store no direction at all: the triangle's own is right then.
    smooth = np.where(length > 1e-6, smooth / np.maximum(length, np.float32(1e-6)), facets)
    smooth *= np.where(_dot(smooth, facets) < 0, np.float32(-1), np.float32(1))
    return facets, smooth


def _albedo(model: ObjectModel, face: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Linear reflectance (M, 3) at barycentric `weights` (M, 3) of triangles (M,)."""
    corners = model.faces[face]
    if model.texture is not None and model.uv is not None:
        return _texture_colors(model.texture, _interpolate(model.uv, corners, weights))
    if model.colors is not None:
        return np.einsum("mk,mkc->mc", weights, _DECODE[model.colors[corners]])
    return np.full((len(face), 3), PLAIN_ALBEDO)


def _texture_colors(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Linear colours (M, 3) of a texture (H, W, 3) at (M, 2), v upwards; bilinear; tiled outside [0, 1]."""
    height, width = texture.shape[:2]
    x, y = uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, low = (x - column)[:, None], (y - row)[:, None]

    def texel(down: int, across: int) -> np.ndarray:
        return _DECODE[texture[(row + down) % height, (column + across) % width]]

    upper = (1 - right) * texel(0, 0) + right * texel(0, 1)
    lower = (1 - right) * texel(1, 0) + right * texel(1, 1)
    return (1 - low) * upper + low * lower


def _add_lamp(
    light: np.ndarray, surface: _Surface, position: np.ndarray, color: np.ndarray, casting: Sequence[Body]
) -> None:
    """Add to `light` (3, M) what a lamp (4,) of linear `color` (3,) sends to the eye past `casting`."""
    is_point = position[3] != 0
    to_lamp = np.broadcast_to(_column(position[:3]), surface.points_cam.shape)
    if is_point:
        to_lamp = to_lamp - surface.points_cam
    direction = to_lamp / np.sqrt(_dot(to_lamp, to_lamp))
    lambert = _dot(surface.normals, direction)
    # A smooth normal may face a lamp that its triangle turns away from: no light through the surface.
    lit = np.flatnonzero((lambert > 0) & (_dot(surface.facets, direction) > 0))
    if len(casting):
        starts = surface.points_cam[:, lit] + surface.offset[lit] * surface.facets[:, lit]
        lit = lit[~_in_shadow(starts, to_lamp[:, lit], 1.0 if is_point else np.inf, casting)]
    points = surface.points_cam[:, lit]
    halfway = direction[:, lit] - points / np.sqrt(_dot(points, points))
    length = np.sqrt(np.maximum(_dot(halfway, halfway), np.float32(1e-12)))
    facing = np.clip(_dot(surface.normals[:, lit], halfway) / length, 0, 1)
    highlight = surface.specular[lit] * facing ** surface.shininess[lit]
    light[:, lit] += (surface.albedo[:, lit] * lambert[lit] + highlight) * _column(color)


def _in_shadow(starts_cam: np.ndarray, to_lamp: np.ndarray, reach: float, casting: Sequence[Body]) -> np.ndarray:
    """(M,) bool: a body stands on `start + λ to_lamp` (3, M), 0 < λ < reach, camera frame, metres."""
    shadowed = np.zeros(starts_cam.shape[1], bool)
    for body in casting:
        open_ = np.flatnonzero(~shadowed)
        obj_T_cam = body.pose.inverse()
        obj_R_cam = obj_T_cam.cam_R_obj.astype(np.float32)
        starts_obj = obj_R_cam @ starts_cam[:, open_] + _column(obj_T_cam.cam_t_obj)
        shadowed[open_] = body.caster.occluded(starts_obj.T, (obj_R_cam @ to_lamp[:, open_]).T, reach)
    return shadowed


def _interpolate(values: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Vertex values (V, c) at barycentric weights (M, 3) of corners (M, 3): (M, c)."""
    return np.einsum("mk,mkc->mc", weights, values[corners])


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products (M,) of the columns of (3, M) arrays."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _column(values: np.ndarray) -> np.ndarray:
    """Three numbers as a float32 column (3, 1)."""
    return np.asarray(values, np.float32)[:, None]
