"""What bodies look like, as tensors on any device: their models' colours and normals, and their materials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from sopose.core.geometry.pose import Pose
from sopose.core.objects.colors import DECODE
from sopose.core.objects.model import ObjectModel
from sopose.core.render.materials import MAX_ALBEDO, PLAIN_ALBEDO, Material
from sopose.core.render.stains import SIDE, stain_factors

# Shadow rays start this part of the object's radius above its surface, more than float32 errs.
SHADOW_OFFSET = 2e-3


@dataclass(frozen=True, eq=False)
class Body:
    """A model where it stands before the camera."""

    model: ObjectModel
    pose: Pose
    material: Material = field(default_factory=Material)


@dataclass(frozen=True, eq=False)
class Look:
    """The colours and normals of a model with V vertices and F triangles."""

    corners: Tensor  # (F, 3) int64
    attributes: Tensor  # (V, 6 or 8) float32: normal (0 without one), linear albedo, with a texture its coordinates
    texels: Tensor | None  # (height * width, 3) uint8 RGB
    size: tuple[int, int]  # height, width

    def at(self, face: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Normals of any length in the model's frame, and albedo, both (M, 3), at (M, 3) weights of triangles (M,)."""
        corners = self.corners.index_select(0, face)
        values = embedding_bag(corners, self.attributes, mode="sum", per_sample_weights=weights)
        if self.texels is None:
            return values[:, :3], values[:, 3:]
        height, width = self.size
        x, y = values[:, 6] * width - 0.5, (1 - values[:, 7]) * height - 0.5
        places, shares = texels_around(x, y, height, width)
        return values[:, :3], (
            shares[..., None] * decoded(self.texels.index_select(0, places.view(-1))).view(-1, 4, 3)
        ).sum(dim=1)


_LOOKS: WeakKeyDictionary[ObjectModel, dict[torch.device, Look]] = WeakKeyDictionary()


def look_of(model: ObjectModel, device: torch.device) -> Look:
    """The look of a model on a device; kept while the model lives."""
    known = _LOOKS.setdefault(model, {})
    if device not in known:
        count, texture = len(model.vertices), model.texture if model.uv is not None else None
        table = np.zeros((count, 6 if texture is None else 8), np.float32)
        if model.normals is not None:
            table[:, :3] = model.normals
        table[:, 3:6] = PLAIN_ALBEDO if model.colors is None else DECODE[model.colors]
        texels = None
        if texture is not None:
            table[:, 6:] = model.uv
            texels = as_tensor(texture.reshape(-1, 3), device)
        size = (0, 0) if texture is None else texture.shape[:2]
        known[device] = Look(as_tensor(model.faces, device), as_tensor(table, device), texels, size)
    return known[device]


class Coats:
    """The materials of G bodies, one column for each."""

    def __init__(self, bodies: Sequence[Body], device: torch.device) -> None:
        materials = [body.material for body in bodies]
        offsets = [SHADOW_OFFSET * body.model.caster.radius for body in bodies]
        rows = ([m.specular for m in materials], [m.roughness for m in materials], offsets)
        self.shine = as_tensor(np.array(rows, np.float32), device)  # (3, G) specular, roughness, offset of rays
        self.cam_R_obj = _matrices([body.pose.cam_R_obj for body in bodies], device)  # (9, G)
        self._stained = any(material.stains for material in materials)
        self._recolor, self._limit = None, None
        if self._stained or any(material.recolor is not None for material in materials):
            same = np.eye(3)
            self._recolor = _matrices([same if m.recolor is None else m.recolor for m in materials], device)
            changed = [m.recolor is not None or m.stains is not None for m in materials]
            self._limit = as_tensor(np.where(changed, MAX_ALBEDO, np.inf).astype(np.float32), device)
        if self._stained:
            self._pack_stains(bodies, device)

    def _pack_stains(self, bodies: Sequence[Body], device: torch.device) -> None:
        """The patterns, zeros for a body without; and its bounding sphere's centre, in cells, with cells a metre."""
        lattices = np.zeros((len(bodies), SIDE, SIDE, SIDE, 3), np.float32)
        place = np.zeros((4, len(bodies)))
        for number, body in enumerate(bodies):
            stains, caster = body.material.stains, body.model.caster
            if stains is not None:
                lattices[number] = stains.lattice
                scale = stains.scale / caster.radius
                place[:3, number], place[3, number] = stains.shift - scale * caster.center, scale
        self._lattices, self._place = as_tensor(lattices, device), as_tensor(place.astype(np.float32), device)

    def vary(self, albedo: Tensor, owner: Tensor, points_obj: Tensor) -> Tensor:
        """Albedo (3, M) of bodies (M,) at points (M, 3), metres, object frame, with their colours changed."""
        if self._recolor is None or self._limit is None:
            return albedo
        albedo = turn(self._recolor, owner, albedo)
        if self._stained:
            place = self._place.index_select(1, owner)
            albedo = albedo * stain_factors(self._lattices, owner, place[:3] + place[3] * points_obj.T.float())
        return albedo.clamp(min=0).minimum(self._limit.index_select(0, owner))


def texels_around(x: Tensor, y: Tensor, height: int | Tensor, width: int | Tensor) -> tuple[Tensor, Tensor]:
    """The places (M, 4) of four texels `row * width + column` of textures that repeat, and their bilinear weights.

    x and y (M,): column and row, texels lie at whole numbers; height and width: one, or (M,).
    """
    column, row = x.floor(), y.floor()
    right, low = x - column, y - row
    # In float32, which holds these whole numbers and is much faster than the remainder of integers.
    columns = [place - (place / width).floor() * width for place in (column, column + 1)]
    rows = [place - (place / height).floor() * height for place in (row, row + 1)]
    places = torch.stack([line * width + place for line in rows for place in columns], dim=1)
    shares = [down * across for down in (1 - low, low) for across in (1 - right, right)]
    return places.long(), torch.stack(shares, dim=1)


def decoded(levels: Tensor) -> Tensor:
    """Light, float32, of uint8 sRGB levels of any shape."""
    return _decode(levels.device).index_select(0, levels.reshape(-1).int()).view(levels.shape)


@lru_cache
def _decode(device: torch.device) -> Tensor:
    return as_tensor(DECODE, device)


def turn(matrices: Tensor, which: Tensor, vectors: Tensor) -> Tensor:
    """Vectors (3, M) times the columns `which` (M,) of matrices (9, G), row by row."""
    return (matrices.index_select(1, which).view(3, 3, -1) * vectors).sum(dim=1)


def _matrices(matrices: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """G matrices (3, 3) as float32 columns (9, G)."""
    return as_tensor(np.reshape(matrices, (-1, 9)).T.astype(np.float32), device)


def as_tensor(values: np.ndarray, device: torch.device) -> Tensor:
    """An array on a device; on the CPU it shares its memory where it can."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)
