"""Scenes of posed meshes before cameras, and what rays meet in them: one protocol for the CPU and for a GPU.

B scenes hold G meshes in all, numbered from 0 on, scene by scene. Tensors live on the caster's device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol

import numpy as np
import torch
from torch import Tensor

from sopose.core.geometry.arrays import Array
from sopose.core.geometry.pose import Pose
from sopose.core.rays.raycast import RayCaster


@dataclass(frozen=True, eq=False)
class PosedMeshes:
    """The meshes of one scene, at their poses before a camera K (3, 3)."""

    K: np.ndarray
    meshes: Sequence[RayCaster]
    poses: Sequence[Pose]


@dataclass(frozen=True, eq=False)
class SceneHits(Generic[Array]):
    """What each of N pixels sees first."""

    owner: Array  # (N,) int64, number of the mesh, -1 where the pixel sees none
    face: Array  # (N,) int64, index of that mesh's triangle, -1
    points_obj: Array  # (N, 3) float64, metres, in the frame of the owner, 0
    depth: Array  # (N,) float64, metres along the optical axis, inf


@dataclass(frozen=True, eq=False)
class Facets:
    """The triangles under M points, float32."""

    points_cam: Tensor  # (3, M) the points, metres
    normals_cam: Tensor  # (3, M) unit, turned to the camera
    weights: Tensor  # (M, 3) barycentric weights of the triangles' corners


class Caster(Protocol):
    """Rays against the meshes of B scenes."""

    device: torch.device

    def first_hits(self, scene: Tensor, uv: Tensor) -> SceneHits[Tensor]:
        """The nearest hits of pixels `uv` (N, 2) float64 of the scenes (N,) int64, ascending; the first wins a tie."""

    def facets(self, owner: Tensor, face: Tensor, points_obj: Tensor) -> Facets:
        """The triangles `face` (M,) of meshes (M,) at points (M, 3); fastest where those of a mesh are neighbours."""

    def occluded(self, scene: Tensor, starts_cam: Tensor, towards: Tensor, asked: Tensor) -> Tensor:
        """(M,) bool: a mesh of the scene (M,) lies on the segment from `start` to `start + towards`, both (3, M).

        Float32, the camera's frame, metres. False where `asked` (M,) bool is.
        """


def cast_scene(casters: Sequence[RayCaster], poses: Sequence[Pose], K: np.ndarray, uv: np.ndarray) -> SceneHits:
    """The nearest hit of each pixel `uv` (N, 2) among the meshes `casters[i]` at `poses[i]`; numpy, on the CPU."""
    count = len(uv)
    owner, face = np.full(count, -1), np.full(count, -1)
    points, depth = np.zeros((count, 3)), np.full(count, np.inf)
    for index, (caster, pose) in enumerate(zip(casters, poses, strict=True)):
        hits = caster.cast(pose, K, uv)
        nearer = hits.depth < depth[hits.ray]
        pixel = hits.ray[nearer]
        owner[pixel], face[pixel] = index, hits.face[nearer]
        points[pixel], depth[pixel] = hits.points_obj[nearer], hits.depth[nearer]
    return SceneHits(owner, face, points, depth)


class EmbreeCaster:
    """The caster of the CPU: every mesh keeps its own Embree scene, and rays are moved into its frame."""

    device = torch.device("cpu")

    def __init__(self, scenes: Sequence[PosedMeshes]) -> None:
        self._scenes = scenes
        self._first = np.cumsum([0, *(len(scene.meshes) for scene in scenes)])
        self._blockers = [[_Blocker(*pair) for pair in zip(s.meshes, s.poses, strict=True)] for s in scenes]
        self._placed = [blocker for row in self._blockers for blocker in row]

    def first_hits(self, scene: Tensor, uv: Tensor) -> SceneHits[Tensor]:
        """As the protocol says."""
        bounds = np.searchsorted(scene.numpy(), np.arange(len(self._scenes) + 1))
        parts = []
        for item, first, start, end in zip(self._scenes, self._first[:-1], bounds[:-1], bounds[1:], strict=True):
            hits = cast_scene(item.meshes, item.poses, item.K, uv[start:end].numpy())
            parts.append((np.where(hits.owner >= 0, hits.owner + first, -1), hits.face, hits.points_obj, hits.depth))
        return SceneHits(*(torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True)))

    def facets(self, owner: Tensor, face: Tensor, points_obj: Tensor) -> Facets:
        """As the protocol says."""
        columns, weights = np.empty((6, len(owner)), np.float32), np.empty((len(owner), 3), np.float32)
        end = 0
        for number, count in zip(*map(Tensor.tolist, owner.unique_consecutive(return_counts=True)), strict=True):
            start, end = end, end + count
            placed, points = self._placed[number], points_obj[start:end].numpy()
            normals, weights[start:end] = placed.mesh.triangles_at(face[start:end].numpy(), points)
            columns[:3, start:end] = placed.pose.transform(points).T
            columns[3:, start:end] = placed.obj_R_cam.T @ normals.astype(np.float32).T
        points_cam, normals_cam = torch.from_numpy(columns).split(3)
        return Facets(points_cam, turned_to_camera(normals_cam, points_cam), torch.from_numpy(weights))

    def occluded(self, scene: Tensor, starts_cam: Tensor, towards: Tensor, asked: Tensor) -> Tensor:
        """As the protocol says."""
        answer = torch.zeros_like(asked)
        for number, blockers in enumerate(self._blockers):
            mine = asked if len(self._blockers) == 1 else asked & (scene == number)
            index = mine.nonzero()[:, 0]
            starts, along = (part.index_select(1, index).numpy() for part in (starts_cam, towards))
            blocked = np.zeros(len(index), bool)
            for blocker in blockers:
                blocked |= blocker.between(starts, along)
            answer.index_copy_(0, index, torch.from_numpy(blocked))
        return answer


class _Blocker:
    """A posed mesh, ready to stand in the way of segments in the camera's frame."""

    def __init__(self, mesh: RayCaster, pose: Pose) -> None:
        self.mesh, self.pose = mesh, pose
        self.obj_R_cam = pose.cam_R_obj.T.astype(np.float32)
        self._origin_obj = _column(-pose.cam_R_obj.T @ pose.cam_t_obj)  # the camera's centre

    def between(self, starts: np.ndarray, along: np.ndarray) -> np.ndarray:
        """(M,) bool: the mesh lies on the segment from a start (3, M) to `start + along`, float32."""
        return self.mesh.occluded((self.obj_R_cam @ starts + self._origin_obj).T, (self.obj_R_cam @ along).T, 1.0)


def turned_to_camera(normals: Tensor, points_cam: Tensor) -> Tensor:
    """Normals (3, M) on that side of their triangles, at points (3, M), which the camera sees."""
    return normals * torch.where((normals * points_cam).sum(dim=0) > 0, -1.0, 1.0)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products (N,) of the columns of (3, N) arrays; numpy is faster along long rows."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _column(values: np.ndarray) -> np.ndarray:
    """Numbers as a float32 column (n, 1)."""
    return np.asarray(values, np.float32)[:, None]
