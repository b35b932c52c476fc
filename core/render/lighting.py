"""Light at surface points: what lamps and a uniform sky send to the eye. Pure torch, on any device.

Points are columns: N of them, of one scene or of many. What a whole scene shares (its lights) has one column, or
one for each point where points of several scenes are lit together. Whether something stands in the way is asked of
an `Occlusion`, so that the same light falls wherever rays are cast. All in linear RGB, float32, camera frame, metres.

Diffuse reflection is Lambert's. The highlight is a GGX microfacet lobe (Walter et al., EGSR 2007) with the
visibility and Fresnel terms approximated together (Karis, "Physically Based Shading on Mobile", 2014, after Lazarov).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

FAR = 100.0  # metres that a ray to a far lamp, or to the sky, is followed
GOLDEN = 0.618034  # turns of this part of a circle never meet
MIN_ALPHA = 0.02  # of the lobe: a sharper highlight would fall between the pixels

# (starts_cam (3, M), towards (3, M), asked (M,) bool) -> (M,) bool: something lies on the open segment
# start + λ towards, 0 < λ < 1; False where it is not asked. A mask has a known length; a list's would have to
# be read from the device.
Occlusion = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Surface:
    """N points to be lit."""

    points_cam: Tensor  # (3, N) metres
    normals: Tensor  # (3, N) unit, interpolated over the triangle
    facets: Tensor  # (3, N) unit, of the triangle, turned to the camera
    albedo: Tensor  # (3, N) linear
    specular: Tensor  # (N,) reflectance seen straight on
    roughness: Tensor  # (N,) 0 a mirror, 1 chalk
    offset: Tensor  # (N,) start of rays above the surface, metres

    def take(self, index: Tensor | slice) -> Surface:
        """The points `index` (M,)."""
        return Surface(*(_take(column, index) for column in _values(self)))

    @staticmethod
    def joined(parts: Sequence[Surface]) -> Surface:
        """The points of all parts."""
        return Surface(*(torch.cat(columns, dim=-1) for columns in zip(*map(_values, parts), strict=True)))

    @property
    def starts_cam(self) -> Tensor:
        """(3, N) where rays that leave the surface begin."""
        return self.points_cam + self.offset * self.facets


@dataclass(frozen=True, eq=False)
class LightSet:
    """A sky and L lamps. Columns: 1 for all points alike, or N. Lamps do not fade with distance."""

    ambient: Tensor  # (3, 1 or N), of the sky's mean
    positions_cam: Tensor  # (L, 4, 1 or N): (x, y, z, 1) a point, metres; (x, y, z, 0) unit direction to a far lamp
    colors: Tensor  # (L, 3, 1 or N)
    sizes: Tensor  # (L, 1 or N) radius: metres, of a far lamp per metre of distance
    # (3, 1 or N) where ambient light comes from: a normal n gets 1 + slope n of the mean, the first order of any
    # surroundings (Ramamoorthi and Hanrahan, SIGGRAPH 2001)
    slope: Tensor = field(default_factory=lambda: torch.zeros(3, 1))

    def take(self, index: Tensor | slice) -> LightSet:
        """The lights of the columns `index` (M,); what is the same for all stays."""
        return LightSet(*(columns(values, index) for values in _values(self)))


def lamp_openness(surface: Surface, lights: LightSet, occluded: Occlusion, offsets: Tensor) -> Tensor:
    """(L, N) share of each lamp that a point sees, in [0, 1].

    offsets is (S, 3, 1 or N): S points of the unit ball, in a lamp's radii; a ray is cast to each. A lamp that a
    point's triangle turns away from is not seen.
    """
    starts, count = surface.starts_cam, surface.points_cam.shape[1]
    towards = [
        _towards(surface.points_cam, lights, lamp, offset).expand(3, count)
        for lamp in range(len(lights.positions_cam))
        for offset in offsets
    ]
    if not towards:
        return starts.new_zeros(0, count)
    # All rays in one go: each question to the casters has a price of its own.
    rays = torch.cat(towards, dim=1)
    facets, sources = (columns.repeat(1, len(towards)) for columns in (surface.facets, starts))
    facing = _dot(facets, rays) > 0
    seen = facing & ~occluded(sources, rays, facing)
    return seen.to(starts).view(len(lights.positions_cam), len(offsets), count).mean(dim=1)


def lamps_faced(surface: Surface, lights: LightSet) -> Tensor:
    """(L, N) bool: a point's triangle is turned to the lamp's centre."""
    lamps = range(len(lights.positions_cam))
    faced = [_dot(surface.facets, _towards(surface.points_cam, lights, lamp)) > 0 for lamp in lamps]
    return torch.stack(faced) if faced else torch.zeros(0, surface.points_cam.shape[1], dtype=torch.bool)


def sky_openness(surface: Surface, occluded: Occlusion, directions: Tensor) -> Tensor:
    """(N,) share of the sky's light that reaches a point past what stands around: ambient occlusion, in [0, 1].

    directions is (S, 3, 1 or N): unit vectors about (0, 0, 1), spread by the cosine, so that a mean weighs them
    rightly (`hemisphere_pattern`).
    """
    starts, frame = surface.starts_cam, _tangent_frame(surface.facets)
    rays = torch.cat([(FAR * _turn(frame, direction)).expand_as(starts) for direction in directions], dim=1)
    everywhere = torch.ones(rays.shape[1], dtype=torch.bool, device=rays.device)
    blocked = occluded(starts.repeat(1, len(directions)), rays, everywhere)
    return 1 - blocked.view(len(directions), -1).float().mean(dim=0)


def reflect(surface: Surface, lights: LightSet, openness: Tensor | None, sky: Tensor | None) -> Tensor:
    """(3, N) linear RGB that the points send to the camera; not clipped.

    openness (L, N) and sky (N,) are the shares of `lamp_openness` and `sky_openness`; None: all is seen.
    """
    ambient = surface.albedo if sky is None else surface.albedo * _with_bounces(sky, surface.albedo)
    total = ambient * lights.ambient * (1 + _dot(surface.normals, lights.slope)).clamp(min=0)
    to_eye = -_unit(surface.points_cam)
    for lamp in range(len(lights.positions_cam)):
        towards = _towards(surface.points_cam, lights, lamp)
        distance = _dot(towards, towards).sqrt()
        direction = towards / distance
        cosine = _dot(surface.normals, direction).clamp(min=0)
        # A smooth normal may face a lamp that its triangle turns away from: no light through the surface.
        cosine *= _dot(surface.facets, direction) > 0
        if openness is not None:
            cosine *= openness[lamp]
        near = lights.positions_cam[lamp, 3]
        width = lights.sizes[lamp] * (near / distance + (1 - near))
        total += (surface.albedo + _highlight(surface, direction, to_eye, width)) * cosine * lights.colors[lamp]
    return total


def _highlight(surface: Surface, direction: Tensor, to_eye: Tensor, width: Tensor) -> Tensor:
    """(N,) specular reflection, as a factor of light that Lambert's law would see as 1.

    A lamp of a radius (`width`, per distance) widens the lobe by its half (Karis, 2013).
    """
    halfway = _unit(direction + to_eye)
    alpha = (surface.roughness.square() + width / 2).clamp(MIN_ALPHA, 1)
    square = alpha * alpha
    facing = _dot(surface.normals, halfway).clamp(0, 1)
    lobe = facing * facing * (square - 1) + 1
    along = _dot(direction, halfway).square().clamp(min=0.1)
    return surface.specular * square / (4 * lobe * lobe * along * (alpha.sqrt() + 0.5))


def _with_bounces(sky: Tensor, albedo: Tensor) -> Tensor:
    """(3, N) sky openness with light that comes over bright neighbours: the cubic fit of Jimenez et al., 2016."""
    a, b, c = 2.0404 * albedo - 0.3324, -4.7951 * albedo + 0.6417, 2.7552 * albedo + 0.6903
    return torch.maximum(sky.expand_as(albedo), ((sky * a + b) * sky + c) * sky)


def interleaved(points: Tensor, which: Tensor) -> Tensor:
    """(S, 3, N): of four sets of S `points` (4 S, 3) the set `which` (N,), 0 to 3, for each of N places.

    Interleaved sampling (Keller and Heidrich, EGWR 2001): neighbours of a lattice take different sets, and their
    average has seen all points, without noise.
    """
    return points.unflatten(0, (-1, 4))[:, which].movedim(-1, 1)


def disk_pattern(count: int) -> Tensor:
    """(count, 3) points spread over the unit disk; count is a multiple of 4, see `interleaved`.

    The disk is tipped, so that lamps have a width from any side.
    """
    x, y, _ = _polar_pattern(count)
    axes = torch.linalg.qr(torch.tensor([[1.0, 0.3, 0.2], [0.1, 1.0, -0.4], [-0.3, 0.5, 1.0]]))[0]
    return x[:, None] * axes[0] + y[:, None] * axes[1]


def hemisphere_pattern(count: int) -> Tensor:
    """(count, 3) unit vectors about (0, 0, 1), spread by the cosine; count is a multiple of 4, see `interleaved`."""
    x, y, square = _polar_pattern(count)
    return torch.stack([x, y, (1 - square).sqrt()], dim=1)


def _polar_pattern(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """x, y and squared radius (count,) of points over the unit disk: four sets, each with all directions and radii."""
    within, which = torch.arange(count) // 4, torch.arange(count) % 4
    angle = 2 * torch.pi * (4 * within / count + GOLDEN * which)
    square = (within * 4 + which + 0.5) / count
    return square.sqrt() * angle.cos(), square.sqrt() * angle.sin(), square


def _towards(points_cam: Tensor, lights: LightSet, lamp: int, offset: Tensor | None = None) -> Tensor:
    """(3, N) vectors from points to a lamp, or to a point of it; `FAR` long to a far one."""
    position, near = lights.positions_cam[lamp, :3], lights.positions_cam[lamp, 3:]
    if offset is not None:
        position = position + lights.sizes[lamp] * offset
    return torch.where(near > 0, 1.0, FAR) * position - near * points_cam


def _tangent_frame(normal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two unit vectors (3, N) square to unit normals (3, N), and these (Duff et al., JCGT 2017)."""
    x, y, z = normal
    sign = torch.where(z < 0, -1.0, 1.0)
    a = -1 / (sign + z)
    b = x * y * a
    first = torch.stack([1 + sign * x * x * a, sign * b, -sign * x])
    return first, torch.stack([b, sign + y * y * a, -y]), normal


def _turn(frame: tuple[Tensor, Tensor, Tensor], local: Tensor) -> Tensor:
    """(3, N) vectors of coordinates `local` (3, 1 or N) along the axes of a frame."""
    return frame[0] * local[0] + frame[1] * local[1] + frame[2] * local[2]


def _unit(vectors: Tensor) -> Tensor:
    return vectors * _dot(vectors, vectors).clamp(min=1e-12).rsqrt()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Scalar products (N,) of the columns of (3, N) tensors."""
    return (a * b).sum(dim=0)


def columns(values: Tensor, index: Tensor | slice) -> Tensor:
    """Columns `index` (M,) of values (..., N); those of one column are the same for all points and stay as they are."""
    return values if values.shape[-1] == 1 else _take(values, index)


def _take(values: Tensor, index: Tensor | slice) -> Tensor:
    return values[..., index] if isinstance(index, slice) else values.index_select(-1, index)


def _values(columns: Surface | LightSet) -> list[Tensor]:
    return [getattr(columns, column.name) for column in fields(columns)]
