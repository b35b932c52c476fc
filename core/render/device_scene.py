"""Many scenes at once on one device, each of a few bodies before a camera: who is seen where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.rays.device_caster import DeviceCaster, DeviceHits


@dataclass(frozen=True, eq=False)
class DeviceScenes:
    """B scenes of up to S bodies. Objects are named as in the `DeviceCaster`; -1 fills shorter scenes."""

    K: Tensor  # (B, 3, 3) float64 pixels
    objects: Tensor  # (B, S) int64
    cam_R_obj: Tensor  # (B, S, 3, 3) float64
    cam_t_obj: Tensor  # (B, S, 3) float64, metres

    def __len__(self) -> int:
        return len(self.objects)

    def body_rays(self, body: int, uv: Tensor) -> tuple[Tensor, Tensor]:
        """Camera centre (B, 1, 3) and directions (B, n, 3) of pixels (B, n, 2), in the frame of each scene's `body`.

        The directions have z = 1 in the camera's frame, as those of `raycast.camera_rays`.
        """
        obj_R_cam = self.cam_R_obj[:, body].mT
        origins = -(obj_R_cam @ self.cam_t_obj[:, body, :, None]).mT
        rays = obj_R_cam @ torch.linalg.inv(self.K)
        return origins, uv @ rays[..., :2].mT + rays[..., 2][:, None]

    def cast(self, caster: DeviceCaster, body: int, uv: Tensor) -> DeviceHits:
        """First hits of the rays of pixels (B, n, 2) with each scene's `body`."""
        return caster.cast(self.objects[:, body, None], *self.body_rays(body, uv))

    def hidden(self, caster: DeviceCaster, uv: Tensor, depth: Tensor) -> Tensor:
        """(B, n) bool: a body after the first stands before `depth` (B, n), metres, at pixels (B, n, 2)."""
        hidden = torch.zeros_like(depth, dtype=torch.bool)
        for body in range(1, self.objects.shape[1]):
            hidden |= caster.occluded(self.objects[:, body, None], *self.body_rays(body, uv), depth)
        return hidden

    def image_boxes(self, caster: DeviceCaster, body: int) -> tuple[Tensor, Tensor]:
        """Pixel boxes (B, 4) xyxy outside which no ray hits each scene's `body`, and whether it is wholly in front.

        Where it is not (B,), the box means nothing.
        """
        objects = self.objects[:, body].clamp_min(0)
        points_cam = caster.box_corners[objects] @ self.cam_R_obj[:, body].mT + self.cam_t_obj[:, body, None]
        ahead = points_cam[..., 2].amin(dim=1) > 1e-3 * caster.radius[objects]
        uv = project(torch.where(ahead[:, None, None], points_cam, 1.0), self.K[:, None])
        return torch.cat([uv.amin(dim=1), uv.amax(dim=1)], dim=1), ahead


@dataclass(frozen=True, eq=False)
class DeviceSceneHits:
    """What n pixels of B scenes see first."""

    owner: Tensor  # (B, n) int64, index of the body, -1 where the pixel sees none
    face: Tensor  # (B, n) int64, index of that body's triangle, -1
    points_obj: Tensor  # (B, n, 3) float64, metres, in the frame of the owner, 0
    depth: Tensor  # (B, n) float64, metres along the optical axis, inf


def pack_scenes(
    cameras: Sequence[np.ndarray], bodies: Sequence[Sequence[tuple[int, Pose]]], device: torch.device | str
) -> DeviceScenes:
    """Scenes of cameras K (3, 3) and bodies, each an object's place in the caster and its pose."""
    longest = max(map(len, bodies))
    objects = np.full((len(bodies), longest), -1)
    rotations, translations = np.tile(np.eye(3), (len(bodies), longest, 1, 1)), np.zeros((len(bodies), longest, 3))
    for scene, row in enumerate(bodies):
        for place, (index, pose) in enumerate(row):
            objects[scene, place] = index
            rotations[scene, place], translations[scene, place] = pose.cam_R_obj, pose.cam_t_obj
    parts = (np.array(cameras, np.float64), objects, rotations, translations)
    return DeviceScenes(*(torch.from_numpy(part).to(device) for part in parts))


def cast_scenes(caster: DeviceCaster, scenes: DeviceScenes, uv: Tensor) -> DeviceSceneHits:
    """The nearest hit of each pixel `uv` (B, n, 2) among the bodies of its scene; the first wins a tie."""
    first = scenes.cast(caster, 0, uv)
    owner = torch.where(first.hit, 0, -1)
    face, points, depth = first.face, first.points_obj, first.depth
    for body in range(1, scenes.objects.shape[1]):
        hits = scenes.cast(caster, body, uv)
        nearer = hits.depth < depth
        owner = torch.where(nearer, body, owner)
        face, depth = torch.where(nearer, hits.face, face), torch.where(nearer, hits.depth, depth)
        points = torch.where(nearer[..., None], hits.points_obj, points)
    return DeviceSceneHits(owner, face, points, depth)
