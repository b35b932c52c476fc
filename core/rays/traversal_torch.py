"""The walk of rays through bounding volume hierarchies in plain torch: the reference, and what runs anywhere.

All rays take one step at a time; those that are done leave. `traversal_triton` walks in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sopose.core.rays.bvh import END, LEAF_FACES
from sopose.core.rays.raycast import EDGE_TOLERANCE

MIN_SLOPE = 1e-12  # a direction's coordinates are at least this far from zero where a slab divides by them
COMPACT_SHARE = 0.7  # rays are gathered anew when fewer than this share are still under way


@dataclass(frozen=True, eq=False)
class Hierarchies:
    """The hierarchies of several meshes in one numbering of nodes (M) and slots (S), on one device."""

    boxes: Tensor  # (M, 6) float32
    slots: Tensor  # (M, 2) int32, first slot and number of slots
    links: Tensor  # (8, M, 2) int32, by octant; where the box is met, where it is passed by
    functions: Tensor  # (S, 3, 4) float32 or float64: height, second and third weight of a slot's triangle


@dataclass(frozen=True, eq=False)
class Rays:
    """N rays in unit-sphere coordinates, of the dtype of the triangles' functions."""

    origins: Tensor  # (N, 3)
    directions: Tensor  # (N, 3), of length 1
    reach: Tensor  # (N,) triangles at this distance or beyond are not met
    root: Tensor  # (N,) int32, the node to start at; -1: the ray meets nothing

    def __getitem__(self, index: Tensor) -> Rays:
        return Rays(self.origins[index], self.directions[index], self.reach[index], self.root[index])


def octants(directions: Tensor) -> Tensor:
    """(N,) int64, bit k set where coordinate k of directions (N, 3) is negative."""
    return (directions < 0).long() @ torch.tensor([1, 2, 4], device=directions.device)


def traverse(tables: Hierarchies, rays: Rays, any_hit: bool = False) -> Tensor:
    """(N,) int32 slot of the first triangle each ray meets (with `any_hit`, of one it meets), -1 for none."""
    answer = torch.full_like(rays.root, END)
    ray = torch.nonzero(rays.root >= 0)[:, 0]
    walk = _Walk(tables, rays[ray])
    while len(ray):
        walk.step(any_hit)
        under_way = walk.node >= 0
        share = float(under_way.float().mean())
        if share < COMPACT_SHARE:
            answer[ray] = walk.slot
            kept = torch.nonzero(under_way)[:, 0]
            ray = ray[kept]
            walk.keep(kept)
    return answer


class _Walk:
    """Rays under way: where each is, and what it met so far."""

    def __init__(self, tables: Hierarchies, rays: Rays) -> None:
        self.tables = tables
        self.origins, self.directions, self.reach = rays.origins, rays.directions, rays.reach.clone()
        self.node, self.slot = rays.root.long(), torch.full_like(rays.root, END)
        self.octant = octants(rays.directions)
        slope = rays.directions.float()
        tiny = torch.where(slope < 0, -MIN_SLOPE, MIN_SLOPE)
        self.inverse = 1 / torch.where(slope.abs() < MIN_SLOPE, tiny, slope)
        self.start = rays.origins.float()

    def keep(self, index: Tensor) -> None:
        """Continue with these rays only."""
        for name in ("origins", "directions", "reach", "node", "slot", "octant", "inverse", "start"):
            setattr(self, name, getattr(self, name)[index])

    def step(self, any_hit: bool) -> None:
        """Each ray one node further."""
        tables, node = self.tables, self.node.clamp_min(0)
        box = tables.boxes[node]
        low, high = (box[:, :3] - self.start) * self.inverse, (box[:, 3:] - self.start) * self.inverse
        enter = torch.minimum(low, high).amax(dim=1).clamp_min(0)
        leave = torch.maximum(low, high).amin(dim=1)
        met = (self.node >= 0) & (enter <= leave) & (enter <= self.reach)
        slots = tables.slots[node]
        at_leaf = torch.nonzero(met & (slots[:, 1] > 0))[:, 0]
        if len(at_leaf):
            self._meet_leaves(at_leaf, slots[at_leaf])
        following = tables.links[self.octant, node, torch.where(met, 0, 1)].long()
        if any_hit:
            following[self.slot >= 0] = END
        self.node = torch.where(self.node >= 0, following, END)

    def _meet_leaves(self, ray: Tensor, slots: Tensor) -> None:
        """Rays (A,) against the triangles of the leaves (A, 2) they are in."""
        offset = torch.arange(LEAF_FACES, device=ray.device)
        candidate = slots[:, :1] + offset
        present = offset < slots[:, 1:]
        functions = self.tables.functions[torch.where(present, candidate, 0)]  # (A, leaf, 3, 4)
        at_origin = (functions[..., :3] * self.origins[ray, None, None]).sum(dim=-1) + functions[..., 3]
        along = (functions[..., :3] * self.directions[ray, None, None]).sum(dim=-1)
        depth = -at_origin[..., 0] / along[..., 0]
        second, third = (at_origin[..., 1:] + depth[..., None] * along[..., 1:]).unbind(-1)
        lowest = torch.minimum(torch.minimum(second, third), 1 - second - third)
        on_triangle = present & (lowest >= -EDGE_TOLERANCE) & (depth > 0)
        nearest, which = torch.where(on_triangle, depth, torch.inf).min(dim=1)
        nearer = nearest < self.reach[ray]
        ray, which = ray[nearer], which[nearer]
        self.reach[ray] = nearest[nearer]
        self.slot[ray] = candidate[nearer].gather(1, which[:, None])[:, 0].to(self.slot.dtype)
