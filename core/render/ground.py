"""A textured plane without end, on which objects stand or before which they float; and textures from nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor

from sopose.core.geometry.pose import Pose
from sopose.core.objects.colors import DECODE
from sopose.core.render.materials import Material

FARTHEST = 30.0  # metres; a plane seen from its edge ends there
START = 2e-4  # metres above the plane, where rays from it begin
FADE = 5.0  # texels that a pixel covers where a texture is gone
REMAP_ROW = 1024  # OpenCV maps images of less than 2^15 columns


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

    def depth(self, rays_cam: np.ndarray) -> np.ndarray:
        """(N,) float64 depth of the plane along rays (N, 3), z = 1, metres; inf above its horizon."""
        with np.errstate(divide="ignore"):
            depth = self.height / (rays_cam @ -self.normal_cam)
        return np.where((depth > 0) & (depth < FARTHEST), depth, np.inf)

    def albedo(self, points_cam: np.ndarray, pixel_angle: float = 0.0) -> np.ndarray:
        """(3, M) linear colours at points (3, M) float32 of the plane.

        Where a pixel (as a tangent) covers more than a texel, the colour fades to the texture's mean, which is what a
        camera sees of a pattern that is too fine for it.
        """
        axes = self.pose.cam_R_obj[:, :2].T
        place = (axes @ points_cam - (axes @ self.pose.cam_t_obj)[:, None]) / self.tile
        height, width = self.texture.shape[:2]
        count = place.shape[1]
        at = np.zeros((2, max(-(-count // REMAP_ROW), 1) * REMAP_ROW), np.float32)
        # Brought near the image first: OpenCV keeps positions in 16 bits.
        at[:, :count] = (place - np.floor(place)) * [[width], [height]] - 0.5
        x, y = at.reshape(2, -1, REMAP_ROW)
        levels = cv2.remap(self.texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        colors = DECODE[levels.reshape(-1, 3)[:count]].T
        texel = self.tile / max(height, width)
        covered = points_cam[2] ** 2 * np.float32(pixel_angle / (texel * max(self.height, 1e-3)))
        if covered.max(initial=0) <= 1:
            return colors
        keep = np.clip(np.float32(FADE) - covered, 0, np.float32(FADE - 1)) / np.float32(FADE - 1)
        small = cv2.resize(self.texture, (16, 16), interpolation=cv2.INTER_AREA)
        mean = DECODE[small].mean(axis=(0, 1))[:, None]
        return mean + keep * (colors - mean)

    def occludes(self, starts_cam: Tensor, towards: Tensor) -> Tensor:
        """(M,) bool: the segment from `start` (3, M) to `start + towards` crosses the plane downwards."""
        normal = torch.from_numpy(self.normal_cam).to(starts_cam)
        return (normal @ starts_cam + self.height) + (normal @ towards) < 0


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
