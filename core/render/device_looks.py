"""What scenes' bodies look like and which lights fall on them, packed for one device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sopose.core.objects.model import ObjectModel
from sopose.core.render.lighting import LightSet
from sopose.core.render.lights import Lights
from sopose.core.render.materials import Material, vertex_attributes
from sopose.core.render.stains import SIDE


@dataclass(frozen=True, eq=False)
class DeviceLooks:
    """Colours and normals of C objects, packed: V vertices, F triangles, T texels."""

    corners: Tensor  # (F, 3) int64, numbers of vertices
    attributes: Tensor  # (V, 8) float32: normal, linear albedo, texture coordinates
    smooth: Tensor  # (C,) bool, the model has normals
    texels: Tensor  # (T, 3) uint8 RGB
    texture_start: Tensor  # (C,) int64
    texture_size: Tensor  # (C, 2) int64, height and width, (0, 0) without a texture


@dataclass(frozen=True, eq=False)
class DeviceMaterials:
    """How the S bodies of B scenes shine: see `materials.Material`."""

    specular: Tensor  # (B, S) float32
    roughness: Tensor  # (B, S) float32
    recolor: Tensor  # (B, S, 3, 3) float32
    stains: DeviceStains | None = None  # None: no body has any


@dataclass(frozen=True, eq=False)
class DeviceStains:
    """The stains of the S bodies of B scenes: see `stains.Stains`. One without any has zeros."""

    lattices: Tensor  # (B, S, SIDE, SIDE, SIDE, 3) float32
    scale: Tensor  # (B, S) float32
    shift: Tensor  # (B, S, 3) float32


def pack_looks(models: Sequence[ObjectModel], device: torch.device | str) -> DeviceLooks:
    """The looks of a caster's objects, in its order."""
    first = np.cumsum([0, *(len(model.vertices) for model in models)])
    textures = [model.texture if model.uv is not None else None for model in models]
    sizes = np.array([(0, 0) if texture is None else texture.shape[:2] for texture in textures])
    texels = [np.zeros((1, 3), np.uint8), *(texture.reshape(-1, 3) for texture in textures if texture is not None)]
    columns = (
        np.concatenate([model.faces + start for model, start in zip(models, first, strict=False)]),
        np.concatenate([_attributes(model) for model in models]),
        np.array([model.normals is not None for model in models]),
        np.concatenate(texels),
        1 + np.cumsum([0, *sizes.prod(axis=1)[:-1]]),
        sizes,
    )
    return DeviceLooks(*(torch.from_numpy(np.ascontiguousarray(column)).to(device) for column in columns))


def pack_materials(materials: Sequence[Sequence[Material]], device: torch.device | str) -> DeviceMaterials:
    """The materials of scenes' bodies."""
    shape = (len(materials), max(map(len, materials)))
    shine, recolor = np.zeros((2, *shape), np.float32), np.tile(np.eye(3, dtype=np.float32), (*shape, 1, 1))
    for scene, row in enumerate(materials):
        for body, material in enumerate(row):
            shine[:, scene, body] = material.specular, material.roughness
            if material.recolor is not None:
                recolor[scene, body] = material.recolor
    parts = (torch.from_numpy(part).to(device) for part in (*shine, recolor))
    return DeviceMaterials(*parts, stains=_pack_stains(materials, shape, device))


def _pack_stains(
    materials: Sequence[Sequence[Material]], shape: tuple[int, int], device: torch.device | str
) -> DeviceStains | None:
    """The stains of scenes' bodies, `shape` (B, S); None where no body has any."""
    if not any(material.stains for row in materials for material in row):
        return None
    lattices = np.zeros((*shape, SIDE, SIDE, SIDE, 3), np.float32)
    scale, shift = np.zeros(shape, np.float32), np.zeros((*shape, 3), np.float32)
    for scene, row in enumerate(materials):
        for body, stains in enumerate(material.stains for material in row):
            if stains is not None:
                lattices[scene, body] = stains.lattice
                scale[scene, body], shift[scene, body] = stains.scale, stains.shift
    return DeviceStains(*(torch.from_numpy(part).to(device) for part in (lattices, scale, shift)))


def pack_lights(lights: Sequence[Lights], device: torch.device | str) -> LightSet:
    """A light set with a column for each scene; dark lamps fill those with fewer."""
    sets = [item.tensors() for item in lights]
    count = max(len(item.sizes) for item in sets)

    def stacked(name: str) -> Tensor:
        columns = [getattr(item, name) for item in sets]
        rows = [torch.cat([c, c.new_zeros(count - len(c), *c.shape[1:])]) for c in columns]
        return torch.cat(rows, dim=-1).to(device)

    positions = stacked("positions_cam")
    positions[:, 2] = torch.where((positions == 0).all(dim=1), -1.0, positions[:, 2])  # a direction, for dark ones too
    ambient, slope = (torch.cat([getattr(item, name) for item in sets], dim=-1) for name in ("ambient", "slope"))
    return LightSet(ambient.to(device), positions, stacked("colors"), stacked("sizes"), slope.to(device))


def _attributes(model: ObjectModel) -> np.ndarray:
    """(V, 8) float32: normal, linear albedo and texture coordinates of each vertex."""
    uv = np.zeros((len(model.vertices), 2), np.float32) if model.uv is None else model.uv.astype(np.float32)
    return np.concatenate([vertex_attributes(model), uv], axis=1)
