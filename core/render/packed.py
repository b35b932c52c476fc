"""Scenes to be rendered, one or many at once, as tensors on a caster's device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sopose.core.rays.casters import Caster, PosedMeshes, SceneHits
from sopose.core.render.ground import Ground, Grounds
from sopose.core.render.light_lattice import Grid
from sopose.core.render.lighting import Occlusion, Surface, columns
from sopose.core.render.lights import Lights, light_set
from sopose.core.render.looks import Body, Coats, as_tensor, look_of, turn


@dataclass(frozen=True, eq=False)
class Scene:
    """Bodies before a camera K (3, 3), the light on them, and the plane they stand on."""

    K: np.ndarray
    bodies: Sequence[Body]
    lights: Lights
    ground: Ground | None = None

    @property
    def meshes(self) -> PosedMeshes:
        """What rays meet, the ground apart."""
        return PosedMeshes(self.K, [body.model.caster for body in self.bodies], [body.pose for body in self.bodies])


class PackedScenes:
    """B scenes with G bodies in all, and the pixels at which they are seen; the ground of scene b is number G + b."""

    def __init__(self, scenes: Sequence[Scene], uvs: Sequence[np.ndarray], caster: Caster) -> None:
        """uvs: the pixels of each scene, all of them (N, 2), or all grids (H, W, 2) of any size."""
        self.caster, device = caster, caster.device
        self._bodies = [body for scene in scenes for body in scene.bodies]
        self.first = np.cumsum([0, *(len(scene.bodies) for scene in scenes)])
        flat = [uv.reshape(-1, 2) for uv in uvs]
        self.counts = [len(uv) for uv in flat]
        sizes = [uv.shape[:2] for uv in uvs] if uvs[0].ndim == 3 else []
        self._shape = (len(sizes), *np.max(sizes, axis=0).tolist()) if sizes else None
        if sizes:
            grids = [np.indices(size).reshape(2, -1) for size in sizes]
            self._pixel = as_tensor(np.concatenate(grids, axis=1), device)  # (2, N) row and column
        self.uv = as_tensor(np.concatenate(flat), device)  # (N, 2) float64
        self.scene = as_tensor(np.repeat(np.arange(len(flat)), self.counts), device)  # (N,) int64
        self.lights = light_set([scene.lights for scene in scenes], device)
        rays = [np.linalg.inv(scene.K) for scene in scenes]
        # Single positions have no neighbours, between which a texture would be filtered.
        steps = [uv[1] - uv[0] if sizes and len(uv) > 1 else np.zeros(2) for uv in flat]
        angles = [np.linalg.norm(ray[:, :2] @ step) for ray, step in zip(rays, steps, strict=True)]
        self._grounds = Grounds.of([scene.ground for scene in scenes], angles, device)
        self._rays = as_tensor(np.stack(rays, axis=-1), device)  # (3, 3, B) float64, inverse of K
        self._coats = Coats(self._bodies, device)
        self._models = list(dict.fromkeys(body.model for body in self._bodies))
        places = {model: place for place, model in enumerate(self._models)}
        # Which model bodies have, grounds a place behind the last.
        self._place = np.array([*(places[body.model] for body in self._bodies), *[len(places)] * len(scenes)])
        self._rank = as_tensor(np.argsort(np.argsort(self._place, kind="stable")).astype(np.int32), device)

    def hits(self) -> SceneHits[Tensor]:
        """What the pixels see first."""
        hits = self.caster.first_hits(self.scene, self.uv)
        if self._grounds is None:
            return hits
        depth = self._grounds.depth(self.scene, self._rays, self.uv)
        nearer = depth < hits.depth
        return SceneHits(
            torch.where(nearer, len(self._bodies) + self.scene, hits.owner),
            torch.where(nearer, -1, hits.face),
            hits.points_obj.masked_fill(nearer[:, None], 0.0),
            torch.where(nearer, depth, hits.depth),
        )

    def own_number(self, owner: np.ndarray, scene: int) -> np.ndarray:
        """The numbers of owners (n,) within a scene: its bodies from 0 on, then its ground; -1 stays."""
        first, end = self.first[scene : scene + 2]
        return np.where(owner < 0, -1, np.where(owner < len(self._bodies), owner - first, end - first))

    def seen(self, owner: Tensor) -> Tensor:
        """(M,) the places in owners (N,) of what is seen; bodies of one model are neighbours, grounds come last."""
        places = (owner >= 0).nonzero()[:, 0]
        order = self._rank.index_select(0, owner.index_select(0, places)).argsort(stable=True)
        return places.index_select(0, order)

    def surface(self, hits: SceneHits[Tensor], seen: Tensor) -> Surface:
        """The points to be lit, of the hits at `seen` (M,)."""
        owner = hits.owner.index_select(0, seen)
        numbers, counts = (part.tolist() for part in owner.unique_consecutive(return_counts=True))
        grounds = sum(count for number, count in zip(numbers, counts, strict=True) if number >= len(self._bodies))
        end, parts = len(seen) - grounds, []
        if end:
            sizes = [0] * len(self._models)
            for number, count in zip(numbers, counts, strict=True):
                if number < len(self._bodies):
                    sizes[self._place[number]] += count
            face, points_obj = (part.index_select(0, seen[:end]) for part in (hits.face, hits.points_obj))
            parts.append(self._of_bodies(owner[:end], face, points_obj, sizes))
        if grounds and self._grounds is not None:
            scene, uv, depth = (part.index_select(0, seen[end:]) for part in (self.scene, self.uv, hits.depth))
            ray = columns(self._rays, scene)
            points_cam = (ray[:, 0] * uv[:, 0] + ray[:, 1] * uv[:, 1] + ray[:, 2]) * depth
            parts.append(self._grounds.surface(scene, points_cam.float()))
        return parts[0] if len(parts) == 1 else Surface.joined(parts)

    def occlusion(self, scene: Tensor) -> Occlusion:
        """The `Occlusion` for points of scenes (M,), asked for them all a whole number of times."""

        def occluded(starts_cam: Tensor, towards: Tensor, asked: Tensor) -> Tensor:
            if not len(scene):  # of a thin object the lattice may meet no point
                return torch.zeros_like(asked)
            which = scene.repeat(starts_cam.shape[1] // len(scene))
            if self._grounds is None:
                return self.caster.occluded(which, starts_cam, towards, asked)
            below = self._grounds.occlude(which, starts_cam, towards) & asked
            return below | self.caster.occluded(which, starts_cam, towards, asked & ~below)

        return occluded

    def grid(self, seen: Tensor, owner: Tensor) -> Grid | None:
        """At which pixels of the scenes' grids the points `seen` (M,) of owners (M,) stand; None without grids."""
        if self._shape is None:
            return None
        return Grid(owner, self.scene.index_select(0, seen), *self._pixel.index_select(1, seen), self._shape)

    def _of_bodies(self, owner: Tensor, face: Tensor, points_obj: Tensor, sizes: list[int]) -> Surface:
        """Points (M, 3) on triangles (M,) of bodies (M,), so many of each model in turn."""
        facets = self.caster.facets(owner, face, points_obj)
        looks = [
            look_of(model, self.caster.device).at(*part)
            for model, *part in zip(self._models, face.split(sizes), facets.weights.split(sizes), strict=True)
        ]
        normals, albedo = (torch.cat(part).T for part in zip(*looks, strict=True))
        return Surface(
            facets.points_cam,
            _smooth(turn(self._coats.cam_R_obj, owner, normals), facets.normals_cam),
            facets.normals_cam,
            self._coats.vary(albedo, owner, points_obj),
            *self._coats.shine.index_select(1, owner),
        )


def _smooth(normals: Tensor, facets: Tensor) -> Tensor:
    """Interpolated normals (3, M) of any length as unit ones on the facets' side."""
    length = (normals * normals).sum(dim=0).sqrt()
    # A model without normals has zeros, and a mesh may store no direction at all: the triangle's own is right then.
    unit = torch.where(length > 1e-6, normals / length.clamp(min=1e-6), facets)
    return unit * torch.where((unit * facets).sum(dim=0) < 0, -1.0, 1.0)
