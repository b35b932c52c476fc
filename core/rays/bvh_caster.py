"""The caster of a GPU, in torch on any device: boxes are met in float32, triangles in float64.

The counterpart of `EmbreeCaster` where rays are many and a GPU is there. A ray tries every triangle whose box it
passes; which of them it meets, and which first, float64 decides by the same functions of the triangle, so that no ray
has to be cast again. A hit's depth and point are then computed as `RayCaster` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sopose.core.rays.bvh import END, Bvh, build_bvh
from sopose.core.rays.casters import Facets, PosedMeshes, SceneHits, turned_to_camera
from sopose.core.rays.raycast import START_MARGIN, RayCaster
from sopose.core.rays.traversal_torch import Hierarchies, Rays
from sopose.core.utils.errors import UserError

Backend = Literal["auto", "torch", "triton"]
Traverse = Callable[[Hierarchies, Rays, bool], Tensor]


@dataclass(frozen=True, eq=False)
class MeshHits:
    """First hits of rays of shape (...); lengths in metres, the frame of the ray's mesh."""

    hit: Tensor  # (...) bool
    face: Tensor  # (...) int64, index of the mesh's triangle, -1 where none
    points_obj: Tensor  # (..., 3) float64, on the ray and on the triangle, 0 where none
    depth: Tensor  # (...) float64, the ray parameter λ, inf where none


class BvhMeshes:
    """O meshes packed on one device; the index of a mesh is its position in the given sequence.

    In all methods the arguments' leading dimensions broadcast: one mesh and one origin for a group of rays are
    mesh (G, 1), origins (G, 1, 3) and directions (G, n, 3). Mesh -1 is none, and never hit.
    """

    def __init__(self, casters: Sequence[RayCaster], device: torch.device | str, backend: Backend = "auto") -> None:
        """Take meshes as `RayCaster` checked them. "auto" is Triton on a CUDA device where it is installed."""
        self.device = torch.device(device)
        self.backend, self._traverse = _choose(backend, self.device)
        hierarchies = [_hierarchy(caster) for caster in casters]
        nodes = np.cumsum([0, *(len(bvh.boxes) for bvh in hierarchies)])
        slots = np.cumsum([0, *(len(bvh.order) for bvh in hierarchies)])
        if slots[-1] > np.iinfo(np.int32).max // 2:
            raise UserError(f"the models have {slots[-1]} triangles, more than one set of them numbers: use fewer")
        starts = list(zip(hierarchies, nodes, slots, strict=False))
        functions = np.concatenate([_unit_functions(c, bvh) for c, bvh in zip(casters, hierarchies, strict=True)])
        self._exact = Hierarchies(
            boxes=self._tensor(np.concatenate([bvh.boxes for bvh in hierarchies])),
            slots=self._tensor(np.concatenate([bvh.slots + np.int32([slot, 0]) for bvh, _, slot in starts])),
            links=self._tensor(np.concatenate([_shifted(bvh.links(), node) for bvh, node, _ in starts], axis=1)),
            functions=self._tensor(functions),
        )
        self._coarse = Hierarchies(
            self._exact.boxes, self._exact.slots, self._exact.links, self._exact.functions.float()
        )
        self._places = {caster: place for place, caster in enumerate(casters)}
        self._root = self._tensor(nodes[:-1].astype(np.int32))
        self._face = self._tensor(np.concatenate([bvh.order for bvh in hierarchies]))
        faces = np.cumsum([0, *(len(caster.faces) for caster in casters)])
        self._first_face = self._tensor(faces[:-1])
        self._planes = self._tensor(np.concatenate([caster.planes for caster in casters]))
        self.center = self._tensor(np.array([caster.center for caster in casters]))  # (O, 3) float64, metres
        self.radius = self._tensor(np.array([caster.radius for caster in casters]))  # (O,) float64, metres

    def place(self, mesh: RayCaster) -> int:
        """Where a mesh is in the sequence; `UserError` where it isn't."""
        if mesh not in self._places:
            raise UserError(f"a mesh of {len(mesh.faces)} triangles is not on {self.device}: pack it with the others")
        return self._places[mesh]

    def cast(self, mesh: Tensor, origins_obj: Tensor, directions_obj: Tensor) -> MeshHits:
        """First hits of the rays `origin + λ direction`, λ > 0.

        mesh (...) int64; origins_obj and directions_obj (..., 3) float64, metres, directions of any length
        but zero.
        """
        shape = torch.broadcast_shapes(mesh.shape, origins_obj.shape[:-1], directions_obj.shape[:-1])
        rays = self._unit_rays(mesh, origins_obj, directions_obj, torch.inf)
        slot = self._traverse(self._exact, rays, False).view(shape)
        hit = slot >= 0
        face = torch.where(hit, self._face[slot.clamp_min(0)].long(), 0)
        plane = self._planes[self._rows(mesh, face), 0]
        depth = -(_dot(plane, origins_obj) + plane[..., 3]) / _dot(plane, directions_obj)
        points = origins_obj + depth[..., None] * directions_obj
        return MeshHits(
            hit=hit,
            face=torch.where(hit, face, -1),
            points_obj=torch.where(hit[..., None], points, 0.0),
            depth=torch.where(hit, depth, torch.inf),
        )

    def occluded(
        self,
        mesh: Tensor,
        origins_obj: Tensor,
        directions_obj: Tensor,
        max_depth: Tensor | float = torch.inf,
    ) -> Tensor:
        """(...) bool: something lies on `origin + λ direction` for 0 < λ < max_depth (...). Shapes as `cast`.

        Answered in float32: right to about 1e-7 of the object's size, which is enough for shadows.
        """
        shape = torch.broadcast_shapes(mesh.shape, origins_obj.shape[:-1], directions_obj.shape[:-1])
        rays = self._unit_rays(mesh, origins_obj.double(), directions_obj.double(), max_depth)
        rays = Rays(rays.origins.float(), rays.directions.float(), rays.reach.float(), rays.root)
        return (self._traverse(self._coarse, rays, True) >= 0).view(shape)

    def barycentric(self, mesh: Tensor, face: Tensor, points_obj: Tensor) -> Tensor:
        """(..., 3) float64 weights of the triangles' corners at points (..., 3) on them; they sum to 1."""
        functions = self._planes[self._rows(mesh, face)]
        second, third = (_dot(functions[..., k, :], points_obj) + functions[..., k, 3] for k in (1, 2))
        return torch.stack([1 - second - third, second, third], dim=-1)

    def face_normals(self, mesh: Tensor, face: Tensor) -> Tensor:
        """(..., 3) float64 unit normals of triangles (...), by the right-hand rule of their corners."""
        return self._planes[self._rows(mesh, face), 0, :3]

    def _rows(self, mesh: Tensor, face: Tensor) -> Tensor:
        """(...) int64: where triangles (...) stand in the table of all meshes' triangles."""
        return self._first_face[mesh.clamp_min(0)] + face

    def _unit_rays(self, mesh: Tensor, origins: Tensor, directions: Tensor, max_depth: Tensor | float) -> Rays:
        """The rays in one row, in the unit-sphere coordinates of their objects, starting just before the sphere."""
        known = mesh.clamp_min(0)
        radius = self.radius[known]
        to_center = (self.center[known] - origins) / radius[..., None]
        step = directions / radius[..., None]
        squared, along = _dot(step, step), _dot(to_center, step)
        length = squared.sqrt()
        start = (along / squared - (1 + START_MARGIN) / length).clamp_min(0)
        near = start[..., None] * step - to_center
        miss = _dot(to_center, to_center) - along.clamp_min(0).square() / squared > 1 + START_MARGIN
        root = torch.where(miss | (mesh < 0), END, self._root[known])
        reach = ((max_depth - start) * length).clamp_min(0)
        unit = (step / length[..., None]).expand_as(near)
        return Rays(near.reshape(-1, 3), unit.reshape(-1, 3), reach.reshape(-1), root.reshape(-1))

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)


class BvhCaster:
    """Scenes of meshes that are on a device already: a `Caster`."""

    def __init__(self, meshes: BvhMeshes, scenes: Sequence[PosedMeshes]) -> None:
        """`UserError` where a scene has a mesh that is not among `meshes`."""
        self.device, self._meshes = meshes.device, meshes
        placed = [pair for scene in scenes for pair in zip(scene.meshes, scene.poses, strict=True)]
        sizes = [len(scene.meshes) for scene in scenes]
        numbers = np.full((len(scenes), max([1, *sizes])), -1)
        for row, first, size in zip(numbers, np.cumsum([0, *sizes]), sizes, strict=False):
            row[:size] = first + np.arange(size)
        self._numbers = self._tensor(numbers)  # (B, S) of the scenes' meshes; -1 fills shorter ones
        # One more for number -1, which is in none: mesh -1, never hit.
        self._mesh = self._tensor(np.array([*(meshes.place(mesh) for mesh, _ in placed), -1]))
        rotations = np.array([*(pose.cam_R_obj for _, pose in placed), np.eye(3)])
        translations = np.array([*(pose.cam_t_obj for _, pose in placed), np.zeros(3)])
        self._cam_R_obj, self._cam_t_obj = self._tensor(rotations), self._tensor(translations)
        self._rays = self._tensor(np.linalg.inv(np.array([scene.K for scene in scenes])))

    def first_hits(self, scene: Tensor, uv: Tensor) -> SceneHits[Tensor]:
        """As the protocol says."""
        K_inverse = self._rays[scene]
        rays_cam = _turn(K_inverse[..., :2], uv) + K_inverse[..., 2]
        owner, face = (torch.full_like(scene, -1) for _ in range(2))
        points = rays_cam.new_zeros(rays_cam.shape)
        depth = points.new_full((len(uv),), torch.inf)
        for numbers in self._numbers.T:
            number = numbers[scene]
            obj_R_cam = self._cam_R_obj[number].mT
            origins = -_turn(obj_R_cam, self._cam_t_obj[number])
            hits = self._meshes.cast(self._mesh[number], origins, _turn(obj_R_cam, rays_cam))
            nearer = hits.depth < depth
            owner, face = torch.where(nearer, number, owner), torch.where(nearer, hits.face, face)
            depth, points = (
                torch.where(nearer, hits.depth, depth),
                torch.where(nearer[:, None], hits.points_obj, points),
            )
        return SceneHits(owner, face, points, depth)

    def facets(self, owner: Tensor, face: Tensor, points_obj: Tensor) -> Facets:
        """As the protocol says."""
        mesh, cam_R_obj = self._mesh[owner], self._cam_R_obj[owner]
        points_cam = (_turn(cam_R_obj, points_obj) + self._cam_t_obj[owner]).float().T
        normals = _turn(cam_R_obj.float(), self._meshes.face_normals(mesh, face).float()).T
        weights = self._meshes.barycentric(mesh, face, points_obj).float()
        return Facets(points_cam, turned_to_camera(normals, points_cam), weights)

    def occluded(self, scene: Tensor, starts_cam: Tensor, towards: Tensor, asked: Tensor) -> Tensor:
        """As the protocol says."""
        blocked = torch.zeros_like(asked)
        for numbers in self._numbers.T:
            number = numbers[scene]
            mesh = torch.where(asked & ~blocked, self._mesh[number], -1)
            obj_R_cam, cam_t_obj = self._cam_R_obj[number].float().mT, self._cam_t_obj[number].float()
            starts_obj = _turn(obj_R_cam, starts_cam.T - cam_t_obj)
            blocked |= self._meshes.occluded(mesh, starts_obj, _turn(obj_R_cam, towards.T), 1.0)
        return blocked

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)


def _choose(backend: Backend, device: torch.device) -> tuple[str, Traverse]:
    """The walk of a backend by its name."""
    if backend == "auto":
        backend = "triton" if device.type == "cuda" and find_spec("triton") else "torch"
    if backend == "triton":
        if not find_spec("triton"):
            raise UserError("the Triton ray caster needs the package triton: install it or take the backend 'torch'")
        from sopose.core.rays import traversal_triton

        return backend, traversal_triton.traverse
    if backend == "torch":
        from sopose.core.rays import traversal_torch

        return backend, traversal_torch.traverse
    raise UserError(f"unknown backend '{backend}' of the ray caster (known: auto, torch, triton)")


def _hierarchy(caster: RayCaster) -> Bvh:
    """The hierarchy over those triangles of a mesh that have an area, in unit-sphere coordinates."""
    solid = np.flatnonzero(caster.solid)
    corners = (caster.vertices[caster.faces[solid]] - caster.center) / caster.radius
    bvh = build_bvh(corners)
    return Bvh(bvh.boxes, bvh.child, bvh.axis, bvh.slots, solid[bvh.order].astype(np.int32))


def _unit_functions(caster: RayCaster, bvh: Bvh) -> np.ndarray:
    """(S, 3, 4) the functions of the slots' triangles, of points in unit-sphere coordinates."""
    functions = caster.planes[bvh.order]
    linear = functions[..., :3]
    offset = linear @ caster.center + functions[..., 3]
    return np.concatenate([linear * caster.radius, offset[..., None]], axis=-1)


def _shifted(links: np.ndarray, first_node: int) -> np.ndarray:
    """Links of a hierarchy whose nodes are numbered from `first_node`."""
    return np.where(links == END, END, links + first_node).astype(np.int32)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Scalar products (...) of the first three coordinates."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def _turn(matrices: Tensor, vectors: Tensor) -> Tensor:
    """(M, i) products of matrices (M, i, k) with vectors (M, k), each by its own."""
    return (matrices * vectors[:, None]).sum(dim=-1)
