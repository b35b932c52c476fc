"""Pictures of scenes, of one or of many at once: bodies and the planes they stand on, lit along a caster's rays.

Light is added in linear RGB and encoded as sRGB at the end. Positions are any pixels, so an ROI is rendered at its
own resolution. Where they form a grid, shadows and ambient occlusion are cast on a coarser lattice of its pixels and
spread over those of the same body. All is torch: a CPU with Embree and a GPU with `BvhCaster` differ in rays alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sopose.core.objects.colors import encode
from sopose.core.rays.casters import Caster, EmbreeCaster, PosedMeshes, SceneHits
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
from sopose.core.render.packed import PackedScenes, Scene
from sopose.core.utils.errors import UserError

CHUNK = 8192  # points lit at once on the CPU: their arrays stay in the cache
LEVELS = 4096  # steps of light that are distinguished when it is encoded

MakeCaster = Callable[[Sequence[PosedMeshes]], Caster]


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
class Picture:
    """Colours of N pixels, and what they show. Where owner is -1 the colour is black, to be filled."""

    rgb: np.ndarray  # (N, 3) uint8 sRGB, in the order R, G, B
    owner: np.ndarray  # (N,) int64, index of the body, the number of bodies for the ground, -1 none
    depth: np.ndarray  # (N,) float64, metres, inf where none
    points_obj: np.ndarray  # (N, 3) float64, metres, in the owner's frame; 0 on the ground


def render_rgb(scene: Scene, uv: np.ndarray, shading: Shading | None = None) -> Picture:
    """The picture of a scene at pixels `uv`, (N, 2) or a grid (H, W, 2), nearest body first; rays by Embree.

    The N = H W pixels of a grid come row by row.
    """
    return render_scenes([scene], [uv], shading)[0]


def render_scenes(
    scenes: Sequence[Scene],
    uvs: Sequence[np.ndarray],
    shading: Shading | None = None,
    make_caster: MakeCaster = EmbreeCaster,
) -> list[Picture]:
    """The pictures of scenes at the pixels of each, all of them (N, 2), or all grids (H, W, 2) of any size."""
    packed = PackedScenes(scenes, uvs, make_caster([scene.meshes for scene in scenes]))
    hits = packed.hits()
    linear = shade(packed, hits, shading)
    steps = (linear.clamp(0, 1) * (LEVELS - 1) + 0.5).int()
    rgb = _levels(linear.device).index_select(0, steps.view(-1)).view(-1, 3)
    parts = (part.cpu().numpy() for part in (rgb, hits.owner, hits.depth, hits.points_obj))
    ends = np.cumsum(packed.counts)[:-1]
    return [
        Picture(rgb, packed.own_number(owner, number), depth, points)
        for number, (rgb, owner, depth, points) in enumerate(
            zip(*(np.split(part, ends) for part in parts), strict=True)
        )
    ]


def shade(packed: PackedScenes, hits: SceneHits[Tensor], shading: Shading | None = None) -> Tensor:
    """Linear RGB (N, 3) float32 of hits of the scenes' pixels, not clipped; 0 where a pixel sees nothing."""
    shading = shading or Shading()
    linear = torch.zeros(len(hits.owner), 3, device=hits.owner.device)
    seen = packed.seen(hits.owner)
    if not len(seen):
        return linear
    surface, scene = packed.surface(hits, seen), packed.scene.index_select(0, seen)
    lights, grid = packed.lights.take(scene), packed.grid(seen, hits.owner.index_select(0, seen))
    openness = _lamps(packed, surface, lights, scene, grid, shading) if shading.shadows else None
    sky = _sky(packed, surface, scene, grid, shading) if shading.ambient_occlusion else None
    chunk = CHUNK if linear.device.type == "cpu" else len(seen)
    for start in range(0, len(seen), chunk):
        part = slice(start, start + chunk)
        of_lamps, of_sky = (None if share is None else share[..., part] for share in (openness, sky))
        linear.index_copy_(0, seen[part], reflect(surface.take(part), lights.take(part), of_lamps, of_sky).T)
    return linear


def _lamps(
    packed: PackedScenes, surface: Surface, lights: LightSet, scene: Tensor, grid: Grid | None, shading: Shading
) -> Tensor:
    """(L, M) openness of the lamps."""
    points = _disk(4 * shading.shadow_rays, scene.device)
    if not bool(lights.sizes.any()):
        points = torch.zeros_like(points[:4])
    alone = points if points.any() else points[:1]  # a lamp that is a point is met by one ray

    def measure(index: Tensor, which: Tensor | None) -> Tensor:
        occluded, offsets = packed.occlusion(scene.index_select(0, index)), _rays(points, alone, which)
        return lamp_openness(surface.take(index), lights.take(index), occluded, offsets)

    if grid is None or not len(lights.sizes):
        return measure(torch.arange(len(scene), device=scene.device), None)
    return grid.measure(shading.shadow_stride, measure, lamps_faced(surface, lights))


def _sky(packed: PackedScenes, surface: Surface, scene: Tensor, grid: Grid | None, shading: Shading) -> Tensor:
    """(M,) openness of the sky."""
    directions = _hemisphere(4 * shading.sky_rays, scene.device)

    def measure(index: Tensor, which: Tensor | None) -> Tensor:
        occluded, rays = packed.occlusion(scene.index_select(0, index)), _rays(directions, directions, which)
        return sky_openness(surface.take(index), occluded, rays)[None]

    if grid is None:
        return measure(torch.arange(len(scene), device=scene.device), None)[0]
    return grid.measure(shading.sky_stride, measure, torch.ones_like(scene, dtype=torch.bool)[None])[0]


def _rays(points: Tensor, alone: Tensor, which: Tensor | None) -> Tensor:
    """(S, 3, N or 1): the set of `points` that each of N places takes, or all of those of a place alone."""
    return alone[..., None] if which is None else interleaved(points, which)


@lru_cache
def _disk(count: int, device: torch.device) -> Tensor:
    return disk_pattern(count).to(device)


@lru_cache
def _hemisphere(count: int, device: torch.device) -> Tensor:
    return hemisphere_pattern(count).to(device)


@lru_cache
def _levels(device: torch.device) -> Tensor:
    """(LEVELS,) uint8 sRGB of steps of light."""
    return torch.from_numpy(encode(np.linspace(0, 1, LEVELS, dtype=np.float32))).to(device)
