"""A textured plane without end, on which objects stand or before which they float; and textures from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from sopose.core.geometry.pose import Pose
from sopose.core.objects.colors import DECODE
from sopose.core.render.lighting import Surface, columns
from sopose.core.render.looks import decoded, texels_around
from sopose.core.render.materials import Material

FARTHEST = 30.0  # metres; a plane seen from its edge ends there
START = 2e-4  # metres above the plane, where rays from it begin
FADE = 5.0  # texels that a pixel covers where a texture is gone


@dataclass(frozen=True, eq=False)
class Ground:
    """The plane z = 0 of the frame `pose`, seen from its upper side; its texture repeats every `tile` metres."""

    pose: Pose  # ground to camera
    texture: np.ndarray  # (H, W, 3) uint8 RGB, without a seam
    tile: float = 0.6  # metres
    material: Material = field(default_factory=lambda: Material(specular=0.0))

    @property
    def normal_cam(self) -> np.ndarray:
        """(3,) unit, upwards, camera frame."""
        return self.pose.cam_R_obj[:, 2]

    @property
    def height(self) -> float:
        """Of the camera above the plane, metres."""
        return float(-self.normal_cam @ self.pose.cam_t_obj)

    @cached_property
    def mean(self) -> np.ndarray:
        """(3,) linear colour of the texture from afar."""
        return DECODE[cv2.resize(self.texture, (16, 16), interpolation=cv2.INTER_AREA)].mean(axis=(0, 1))


@dataclass(frozen=True, eq=False)
class Grounds:
    """The planes of B scenes as tensors, a column for each; where a scene has none nothing meets it."""

    normals: Tensor  # (3, B) float64, unit, camera frame
    heights: Tensor  # (B,) float64, of the cameras above the planes, metres
    sizes: Tensor  # (3, B) int64, height and width of the textures, and where each starts in `texels`
    axes: Tensor  # (2, 3, B) float32, the frames' x and y in tiles a metre
    origins: Tensor  # (2, B) float32, of the cameras in the planes, tiles
    texels: Tensor  # (T, 3) float32 levels, RGB
    means: Tensor  # (3, B) float32 linear
    blur: Tensor  # (B,) float32: times a squared depth, the texels that a pixel covers
    shine: Tensor  # (2, B) float32 specular, roughness

    @staticmethod
    def of(grounds: Sequence[Ground | None], angles: Sequence[float], device: torch.device) -> Grounds | None:
        """Planes where there are any. angles (B,): of a pixel, as a tangent; 0 where textures are not filtered."""
        if not any(grounds):
            return None
        count, texels = len(grounds), []
        normals, heights, axes, origins = (
            np.zeros((3, count)),
            np.ones(count),
            np.zeros((2, 3, count)),
            np.zeros((2, count)),
        )
        sizes, means, blur, shine = (
            np.ones((3, count), int),
            np.zeros((3, count)),
            np.zeros(count),
            np.zeros((2, count)),
        )
        for scene, ground in enumerate(grounds):
            if ground is None:
                continue
            normals[:, scene], heights[scene] = ground.normal_cam, ground.height
            axes[..., scene] = ground.pose.cam_R_obj[:, :2].T / ground.tile
            origins[:, scene] = -axes[..., scene] @ ground.pose.cam_t_obj
            side = ground.texture.shape[:2]
            sizes[:, scene] = *side, sum(map(len, texels))
            texels.append(ground.texture.reshape(-1, 3))
            means[:, scene] = ground.mean
            blur[scene] = angles[scene] * max(side) / (ground.tile * max(ground.height, 1e-3))
            shine[:, scene] = ground.material.specular, ground.material.roughness
        single = (part.astype(np.float32) for part in (axes, origins, np.concatenate(texels), means, blur, shine))
        parts = (torch.from_numpy(part).to(device) for part in (normals, heights, sizes, *single))
        return Grounds(*parts)

    def depth(self, scene: Tensor, rays: Tensor, uv: Tensor) -> Tensor:
        """(N,) float64 depth of the planes of scenes (N,) at pixels (N, 2), metres; inf above their horizons.

        rays (3, 3, B): the cameras' K inverted, which makes pixels (u, v, 1) to rays with z = 1.
        """
        sinking = columns(-(self.normals[:, None] * rays).sum(dim=0), scene)
        depth = columns(self.heights, scene) / (sinking[0] * uv[:, 0] + sinking[1] * uv[:, 1] + sinking[2])
        return torch.where((depth > 0) & (depth < FARTHEST), depth, torch.inf)

    def occlude(self, scene: Tensor, starts_cam: Tensor, towards: Tensor) -> Tensor:
        """(M,) bool: the segment from `start` (3, M) to `start + towards` crosses the plane downwards."""
        ends = (columns(self.normals, scene).float() * (starts_cam + towards)).sum(dim=0)
        return ends + columns(self.heights, scene).float() < 0

    def surface(self, scene: Tensor, points_cam: Tensor) -> Surface:
        """Points (3, M) float32 on the planes of scenes (M,), to be lit."""
        normals = columns(self.normals, scene).float().expand_as(points_cam)
        specular, roughness = columns(self.shine, scene).expand(2, len(scene))
        start = torch.full_like(specular, START)
        return Surface(points_cam, normals, normals, self.albedo(scene, points_cam), specular, roughness, start)

    def albedo(self, scene: Tensor, points_cam: Tensor) -> Tensor:
        """(3, M) linear colours at points (3, M) float32 of the planes.

        Where a pixel covers more than a texel, the colour fades to the texture's mean, which is what a camera sees of
        a pattern that is too fine for it.
        """
        tile = (columns(self.axes, scene) * points_cam).sum(dim=1) + columns(self.origins, scene)
        tile = tile - tile.floor()
        height, width, start = columns(self.sizes, scene)
        places, shares = texels_around(tile[0] * width - 0.5, tile[1] * height - 0.5, height, width)
        levels = embedding_bag(places + start[:, None], self.texels, mode="sum", per_sample_weights=shares)
        colors = decoded(levels.round()).T
        covered = points_cam[2].square() * columns(self.blur, scene)
        means = columns(self.means, scene)
        return means + ((FADE - covered) / (FADE - 1)).clamp(0, 1) * (colors - means)


def random_texture(rng: np.random.Generator, size: int = 128) -> np.ndarray:
    """(2 size, 2 size, 3) uint8 RGB: noise of several grain sizes around a random colour, at times striped.

    Mirrored in both directions, so that it repeats without a seam.
    """
    noise = np.zeros((size, size, 3))
    weight = 1.0
    for cells in (4, 8, 16, 32, 64):
        grain = rng.random((cells, cells, 3)).astype(np.float32) - 0.5
        noise += weight * cv2.resize(grain, (size, size), interpolation=cv2.INTER_CUBIC)
        weight *= rng.uniform(0.5, 0.9)
    grey = noise.mean(axis=2, keepdims=True)
    noise = grey + rng.uniform(0.1, 0.7) * (noise - grey)
    base = rng.uniform(0.2, 0.8) + rng.uniform(-0.2, 0.2, 3) + 0.35 * noise
    if rng.random() < 0.4:
        period, direction = rng.integers(2, 8), int(rng.integers(2))
        stripe = np.sin(2 * np.pi * period * np.arange(size) / size) > 0
        base += rng.uniform(-0.25, 0.25, 3) * np.expand_dims(stripe, (direction, 2))
    return mirrored(np.rint(255 * np.clip(base, 0, 1)).astype(np.uint8))


def mirrored(texture: np.ndarray) -> np.ndarray:
    """An image (H, W, C) made to repeat without a seam: (2 H, 2 W, C)."""
    half = np.concatenate([texture, texture[:, ::-1]], axis=1)
    return np.concatenate([half, half[::-1]])


def plane_behind(
    centers_cam: np.ndarray, radii: np.ndarray, max_tilt: float, gap: float, rng: np.random.Generator
) -> Pose:
    """A plane to stand behind balls (B, 3) of radii (B,), metres: turned to the camera, `gap` behind the farthest.

    It is tilted against the image plane by up to `max_tilt` radians.
    """
    tilt, turn = rng.uniform(0, max_tilt), rng.uniform(0, 2 * np.pi)
    away = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)])
    across = np.cross(away, rng.normal(size=3))
    across /= np.linalg.norm(across)
    cam_R_plane = np.stack([across, np.cross(across, away), -away], axis=1)
    return Pose(cam_R_plane, (float(np.max(centers_cam @ away + radii)) + gap) * away)
