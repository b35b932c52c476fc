"""Pictures of many scenes at once on one device: the light of `lighting`, along the rays of a `DeviceCaster`.

What `shade.render_rgb` does scene by scene on the CPU: shadows and ambient occlusion are cast on a coarse lattice of
pixels and spread over those of the same body.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from sopose.core.objects.colors import DECODE, encode
from sopose.core.rays.device_caster import DeviceCaster
from sopose.core.render.device_looks import DeviceLooks, DeviceMaterials, DeviceStains
from sopose.core.render.device_scene import DeviceSceneHits, DeviceScenes
from sopose.core.render.lighting import (
    KNOWN,
    LightSet,
    Occlusion,
    Surface,
    disk_pattern,
    hemisphere_pattern,
    interleaved,
    lamp_openness,
    lamps_faced,
    reflect,
    sky_openness,
    spread,
)
from sopose.core.render.materials import MAX_ALBEDO
from sopose.core.render.shade import SHADOW_OFFSET, Shading
from sopose.core.render.stains import stain_factors

# Values (C, A) of points (A,), by the rays of set (A,) 0 to 3 for each, or by all of them.
Measure = Callable[[Tensor, Tensor | None], Tensor]
LEVELS = 4096  # steps of light that are told apart when it is encoded


class SceneOcclusion:
    """What stands in the way of segments in any of several scenes."""

    def __init__(self, caster: DeviceCaster, scenes: DeviceScenes) -> None:
        self.caster, self.objects, self.bodies = caster, scenes.objects, scenes.objects.shape[1]
        self.cam_R_obj, self.cam_t_obj = scenes.cam_R_obj.float(), scenes.cam_t_obj.float()

    def of(self, scene: Tensor) -> Occlusion:
        """The `Occlusion` for points of scenes (N,), asked for them all a whole number of times."""

        def occluded(starts_cam: Tensor, towards: Tensor, asked: Tensor) -> Tensor:
            return self._blocked(scene.repeat(starts_cam.shape[1] // len(scene)), starts_cam, towards, asked)

        return occluded

    def _blocked(self, scene: Tensor, starts_cam: Tensor, towards: Tensor, asked: Tensor) -> Tensor:
        blocked = torch.zeros_like(asked)
        for body in range(self.bodies):
            objects = torch.where(asked & ~blocked, self.objects[scene, body], -1)
            cam_R_obj, cam_t_obj = self.cam_R_obj[scene, body], self.cam_t_obj[scene, body]
            starts_obj = _rotate(cam_R_obj.mT, starts_cam.T - cam_t_obj)
            blocked |= self.caster.occluded(objects, starts_obj, _rotate(cam_R_obj.mT, towards.T), 1.0)
        return blocked


class SceneShader:
    """Shades what pixels of scenes see; the pixels of a scene are a square grid, row by row."""

    def __init__(self, caster: DeviceCaster, looks: DeviceLooks, shading: Shading) -> None:
        self.caster, self.looks, self.shading = caster, looks, shading
        device = caster.device
        self._decode = torch.from_numpy(DECODE).to(device)
        self._levels = torch.from_numpy(encode(np.linspace(0, 1, LEVELS, dtype=np.float32))).to(device)
        self._disk = disk_pattern(4 * shading.shadow_rays).to(device)
        self._hemisphere = hemisphere_pattern(4 * shading.sky_rays).to(device)

    def rgb(self, hits: DeviceSceneHits, scenes: DeviceScenes, materials: DeviceMaterials, lights: LightSet) -> Tensor:
        """(B, n, 3) uint8 sRGB of `hits` (B, n), in the order R, G, B; black where a pixel sees nothing."""
        image = torch.zeros((*hits.owner.shape, 3), device=hits.owner.device)
        scene, pixel = (hits.owner >= 0).nonzero(as_tuple=True)
        if len(scene):
            surface = self._surface(hits, scenes, materials, scene, pixel)
            occlusion = SceneOcclusion(self.caster, scenes)
            image[scene, pixel] = self._light(surface, lights, occlusion, hits, scene, pixel).T
        return self._levels[(image.clamp(0, 1) * (LEVELS - 1) + 0.5).long()]

    def _light(
        self,
        surface: Surface,
        lights: LightSet,
        occlusion: SceneOcclusion,
        hits: DeviceSceneHits,
        scene: Tensor,
        pixel: Tensor,
    ) -> Tensor:
        """(3, M) linear RGB of the points."""
        columns = _columns(lights, scene)
        grid = _Grid(hits.owner, scene, pixel, occlusion.bodies)
        shading, openness, share = self.shading, None, None

        def lamps(index: Tensor, which: Tensor | None) -> Tensor:
            lit, offsets = _columns(columns, index), _rays(self._disk, which)
            return lamp_openness(surface.take(index), lit, occlusion.of(scene[index]), offsets)

        def sky(index: Tensor, which: Tensor | None) -> Tensor:
            return sky_openness(surface.take(index), occlusion.of(scene[index]), _rays(self._hemisphere, which))[None]

        if shading.shadows and len(lights.sizes):
            openness = grid.measure(shading.shadow_stride, lamps, lamps_faced(surface, columns))
        if shading.ambient_occlusion:
            share = grid.measure(shading.sky_stride, sky, torch.ones_like(scene, dtype=torch.bool)[None])[0]
        return reflect(surface, columns, openness, share)

    def _surface(
        self, hits: DeviceSceneHits, scenes: DeviceScenes, materials: DeviceMaterials, scene: Tensor, pixel: Tensor
    ) -> Surface:
        """The points to be lit: `pixel` (M,) of `scene` (M,)."""
        body, face, points_obj = (part[scene, pixel] for part in (hits.owner, hits.face, hits.points_obj))
        objects = scenes.objects[scene, body]
        cam_R_obj = scenes.cam_R_obj[scene, body]
        points_cam = (_rotate(cam_R_obj, points_obj) + scenes.cam_t_obj[scene, body]).float()
        weights = self.caster.barycentric(objects, face, points_obj).float()
        corners = self.looks.corners[self.caster.face_rows(objects, face)]
        values = (weights[..., None] * self.looks.attributes[corners]).sum(dim=1)
        facets = _rotate(cam_R_obj, self.caster.face_normals(objects, face)).float()
        facets = facets * torch.where((facets * points_cam).sum(dim=1, keepdim=True) > 0, -1.0, 1.0)
        normals = _smooth(_rotate(cam_R_obj.float(), values[:, :3]), facets, self.looks.smooth[objects])
        albedo = _rotate(materials.recolor[scene, body], self._albedo(objects, values))
        if materials.stains is not None:
            albedo = albedo * self._stains(materials.stains, objects, scene, body, points_obj)
        return Surface(
            points_cam=points_cam.T,
            normals=normals.T,
            facets=facets.T,
            albedo=albedo.clamp(0, MAX_ALBEDO).T,
            specular=materials.specular[scene, body],
            roughness=materials.roughness[scene, body],
            offset=(SHADOW_OFFSET * self.caster.radius[objects]).float(),
        )

    def _stains(self, stains: DeviceStains, objects: Tensor, scene: Tensor, body: Tensor, points_obj: Tensor) -> Tensor:
        """(M, 3) factors of the albedo at points (M, 3)."""
        centered = (points_obj - self.caster.center[objects]) / self.caster.radius[objects][:, None]
        places = stains.scale[scene, body][:, None] * centered.float() + stains.shift[scene, body]
        return stain_factors(stains.lattices.flatten(0, 1), scene * stains.scale.shape[1] + body, places)

    def _albedo(self, objects: Tensor, values: Tensor) -> Tensor:
        """(M, 3) linear reflectance of interpolated attributes (M, 8): vertex colours, or the bilinear texture."""
        looks = self.looks
        if len(looks.texels) == 1:
            return values[:, 3:6]
        size = looks.texture_size[objects]  # (M, 2) height, width
        height, width = size.clamp_min(1).T
        x, y = values[:, 6] * width - 0.5, (1 - values[:, 7]) * height - 0.5
        column, row = x.floor().long(), y.floor().long()
        right, low = (x - column)[:, None], (y - row)[:, None]

        def texel(down: int, across: int) -> Tensor:
            place = (row + down) % height * width + (column + across) % width
            place = torch.where(size[:, 0] > 0, looks.texture_start[objects] + place, 0)
            return self._decode[looks.texels[place].long()]

        upper = (1 - right) * texel(0, 0) + right * texel(0, 1)
        lower = (1 - right) * texel(1, 0) + right * texel(1, 1)
        return torch.where(size[:, :1] > 0, (1 - low) * upper + low * lower, values[:, 3:6])


class _Grid:
    """Which of the M seen points stands at which pixel of B square grids, and whose it is."""

    def __init__(self, owner: Tensor, scene: Tensor, pixel: Tensor, bodies: int) -> None:
        scenes, count = owner.shape
        self.bodies = bodies
        self.side = round(count**0.5)
        self.owner = owner.view(scenes, self.side, self.side)
        self.index = torch.full_like(self.owner, -1)
        self.rows, self.columns, self.scene = pixel // self.side, pixel % self.side, scene
        self.index[scene, self.rows, self.columns] = torch.arange(len(scene), device=scene.device)

    def measure(self, stride: int, measure: Measure, counts: Tensor) -> Tensor:
        """(C, M) values of `measure` at the lattices of `stride`, spread over the points of the same owner.

        counts (C, M) bool: where a value means something. A point that has no such value of its own owner near, but
        needs one, is measured by itself, as all are at stride 1.
        """
        if stride == 1:
            return measure(torch.arange(len(self.scene), device=self.scene.device), None)
        lattice, owners = self.index[:, ::stride, ::stride], self.owner[:, ::stride, ::stride]
        scene, rows, columns = (lattice >= 0).nonzero(as_tuple=True)
        values, weights = torch.zeros((2, *counts.shape), device=scene.device)
        if len(scene):
            index = lattice[scene, rows, columns]
            maps = torch.zeros((2, len(counts), *lattice.shape), device=scene.device)
            maps[0, :, scene, rows, columns] = measure(index, 2 * (rows % 2) + columns % 2)
            maps[1, :, scene, rows, columns] = counts[:, index].float()
            values, weights = self._spread(maps, owners, stride)
        lacks = (weights < KNOWN) & counts
        lacking = lacks.any(dim=0).nonzero()[:, 0]
        if len(lacking):
            values[:, lacking] = torch.where(lacks[:, lacking], measure(lacking, None), values[:, lacking])
        return values

    def _spread(self, maps: Tensor, owners: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        """Values and weights (C, M) of the points, from values and whether they count (2, C, B, h, w) of a lattice."""
        parts = maps.new_zeros(2, maps.shape[1], len(self.scene))
        at = self.owner[self.scene, self.rows, self.columns]
        for owner in range(self.bodies):
            spread_maps = spread(maps[0], maps[1] * (owners == owner), stride, (self.side, self.side))
            for part, full in zip(parts, spread_maps, strict=True):
                part += full[:, self.scene, self.rows, self.columns] * (at == owner)
        return parts[0], parts[1]


def _rays(points: Tensor, which: Tensor | None) -> Tensor:
    """(S, 3, N or 1): the set of `points` that each of N places takes, or all of them for each."""
    return points[..., None] if which is None else interleaved(points, which)


def _columns(lights: LightSet, index: Tensor) -> LightSet:
    """The lights of points `index` (M,), each by its column."""
    return LightSet(*(getattr(lights, field.name)[..., index] for field in fields(lights)))


def _smooth(normals: Tensor, facets: Tensor, smooth: Tensor) -> Tensor:
    """Interpolated normals (M, 3) of any length as unit ones on the facets' side; the facets where not `smooth`."""
    length = normals.norm(dim=1, keepdim=True)
    # A mesh may store no direction at all: the triangle's own is right then.
    unit = torch.where(smooth[:, None] & (length > 1e-6), normals / length.clamp_min(1e-6), facets)
    return unit * torch.where((unit * facets).sum(dim=1, keepdim=True) < 0, -1.0, 1.0)


def _rotate(rotations: Tensor, vectors: Tensor) -> Tensor:
    """(M, 3) vectors turned by matrices (M, 3, 3), each by its own."""
    return (rotations * vectors[:, None]).sum(dim=-1)
