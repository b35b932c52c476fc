"""A bounding volume hierarchy over triangles, as flat arrays that any device can walk without a stack.

Built from the top, a whole level at a time, by the surface area heuristic over bins (Wald, 2007). Each node has
for every octant of ray directions two links: the next node where its box is met, and where it is passed by; a
walk needs no more state than the number of a node, and sees the nearer of two children first (Hachisuka's
multiple-threaded hierarchy, 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAF_FACES = 4  # most triangles of a leaf
BINS = 16  # places along a node's longest side where it may be split
# Below this depth nodes are halved by number: no arrangement of triangles makes a tree much deeper.
SAH_LEVELS = 48
# A box is larger than its triangles by this, in unit-sphere coordinates. A ray within the sphere has coordinates
# up to 1 and parameters up to 2: rounding it to float32, and slabs computed in float32, move a box by less.
BOX_MARGIN = 2e-6
SMALLEST = 1e-30  # a side that may be divided by in float32
END = -1  # the link behind the last node
OCTANTS = 8


@dataclass(frozen=True, eq=False)
class Bvh:
    """M nodes, the root first, the two children of a node side by side, over S slots of triangles."""

    boxes: np.ndarray  # (M, 6) float32, lower then upper corner
    child: np.ndarray  # (M,) int32, the first child, -1 for a leaf
    axis: np.ndarray  # (M,) int8, along which the first child is the lower one
    slots: np.ndarray  # (M, 2) int32, first slot and number of slots of a leaf; (0, 0) for inner nodes
    order: np.ndarray  # (S,) int32, the triangle in each slot

    def links(self) -> np.ndarray:
        """(8, M, 2) int32: the next node for directions of each octant, where the box is met or passed by.

        Bit k of an octant is set where a direction's coordinate k is negative.
        """
        links = np.full((OCTANTS, len(self.child), 2), END, np.int32)
        for level in self._levels():
            inner = level[self.child[level] >= 0]
            for octant, (met, passed) in enumerate(links.transpose(0, 2, 1)):
                backwards = (octant >> self.axis[inner].astype(np.int32)) & 1
                near, far = self.child[inner] + backwards, self.child[inner] + 1 - backwards
                passed[near], passed[far] = far, passed[inner]
                met[inner] = near
        leaf = self.child < 0
        links[:, leaf, 0] = links[:, leaf, 1]
        return links

    def _levels(self) -> list[np.ndarray]:
        """The nodes by their depth."""
        levels = [np.zeros(1, np.int32)]
        while len(levels[-1]):
            first = self.child[levels[-1]]
            first = first[first >= 0]
            levels.append(np.stack([first, first + 1], axis=1).ravel())
        return levels[:-1]


def build_bvh(corners: np.ndarray) -> Bvh:
    """The hierarchy over triangles (F, 3, 3), F > 0, given in coordinates of which none is beyond ±1."""
    lower, upper = corners.min(axis=1).astype(np.float32), corners.max(axis=1).astype(np.float32)
    centers = (lower + upper) / 2
    order = np.arange(len(corners), dtype=np.int32)
    first, count = np.zeros(1, np.int64), np.array([len(corners)])
    levels, total = [], 1
    while len(first):
        split = np.flatnonzero(count > LEAF_FACES)
        child, axis = np.full(len(first), END, np.int32), np.zeros(len(first), np.int8)
        child[split] = total + 2 * np.arange(len(split))
        total += 2 * len(split)
        axis[split], lower_count = _split(
            order, first[split], count[split], lower, upper, centers, by_area=len(levels) < SAH_LEVELS
        )
        levels.append((child, axis, first, count))
        starts = np.stack([first[split], first[split] + lower_count], axis=1).ravel()
        count = np.stack([lower_count, count[split] - lower_count], axis=1).ravel()
        first = starts
    child, axis, first, count = (np.concatenate(parts) for parts in zip(*levels, strict=True))
    slots = np.where(child[:, None] < 0, np.stack([first, count], axis=1), 0).astype(np.int32)
    boxes = _boxes(child, slots, [len(level[0]) for level in levels], lower[order], upper[order])
    return Bvh(boxes, child, axis, slots, order)


def _split(
    order: np.ndarray,
    first: np.ndarray,
    count: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    centers: np.ndarray,
    by_area: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Sort the slots of nodes (first, count) (n,) along an axis each; return it, and the size of the lower part."""
    if not len(first):
        return np.zeros(0, np.int8), np.zeros(0, np.int64)
    offsets = np.concatenate([[0], np.cumsum(count)[:-1]])
    node = np.repeat(np.arange(len(first)), count)
    place = np.arange(len(node)) + np.repeat(first - offsets, count)
    center = centers[order[place]]
    low, high = np.minimum.reduceat(center, offsets), np.maximum.reduceat(center, offsets)
    axis = np.argmax(high - low, axis=1)
    rows = np.arange(len(first))
    low, size = low[rows, axis], (high - low)[rows, axis]
    along = center[np.arange(len(node)), axis[node]]
    scale = np.divide(BINS, size, out=np.zeros_like(size), where=size > SMALLEST)
    bin_ = np.minimum(((along - low[node]) * scale[node]).astype(np.int64), BINS - 1)
    key = node * BINS + bin_
    rank = np.lexsort((along, node)) if not by_area else np.argsort(key, kind="stable")
    order[place] = order[place][rank]
    half = count // 2
    if not by_area:
        return axis.astype(np.int8), half
    faces = order[place]
    lower_count = _cheapest(key[rank], lower[faces], upper[faces], len(first))
    # All centres in one bin: no plane parts them, so the number does.
    return axis.astype(np.int8), np.where(lower_count > 0, lower_count, half)


def _cheapest(key: np.ndarray, lower: np.ndarray, upper: np.ndarray, nodes: int) -> np.ndarray:
    """Triangles (nodes,) below the plane of least expected cost, 0 where no plane parts them.

    key (P,) is node * BINS + bin, ascending; lower and upper (P, 3) are the triangles' boxes.
    """
    runs = np.flatnonzero(np.diff(key, prepend=-1))
    low = np.full((nodes * BINS, 3), np.inf, np.float32)
    high = np.full((nodes * BINS, 3), -np.inf, np.float32)
    low[key[runs]], high[key[runs]] = np.minimum.reduceat(lower, runs), np.maximum.reduceat(upper, runs)
    low, high = low.reshape(nodes, BINS, 3), high.reshape(nodes, BINS, 3)
    number = np.bincount(key, minlength=nodes * BINS).reshape(nodes, BINS)
    below = np.cumsum(number, axis=1)[:, :-1]
    above = number.sum(axis=1, keepdims=True) - below
    cost = below * _areas(low, high)[:, :-1] + above * _areas(low[:, ::-1], high[:, ::-1])[:, -2::-1]
    cost = np.where((below > 0) & (above > 0), cost, np.inf)
    best = np.argmin(cost, axis=1)
    rows = np.arange(nodes)
    return np.where(np.isfinite(cost[rows, best]), below[rows, best], 0)


def _areas(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Half the surface (n, BINS) of the boxes around the first 1, 2, … of the bins' boxes (n, BINS, 3)."""
    size = np.maximum.accumulate(high, axis=1) - np.minimum.accumulate(low, axis=1)
    x, y, z = np.moveaxis(np.maximum(size, 0), -1, 0)
    return x * y + y * z + z * x


def _boxes(
    child: np.ndarray, slots: np.ndarray, level_sizes: list[int], lower: np.ndarray, upper: np.ndarray
) -> np.ndarray:
    """(M, 6) float32 boxes of all nodes, grown by the margin, from the slots' boxes (S, 3)."""
    boxes = np.empty((len(child), 6), np.float32)
    leaves = np.flatnonzero(child < 0)
    leaves = leaves[np.argsort(slots[leaves, 0])]  # one after the other they hold every slot
    boxes[leaves, :3] = np.minimum.reduceat(lower, slots[leaves, 0]) - np.float32(BOX_MARGIN)
    boxes[leaves, 3:] = np.maximum.reduceat(upper, slots[leaves, 0]) + np.float32(BOX_MARGIN)
    end = len(child)
    for size in reversed(level_sizes):
        inner = np.arange(end - size, end)
        inner = inner[child[inner] >= 0]
        first, second = boxes[child[inner]], boxes[child[inner] + 1]
        boxes[inner, :3] = np.minimum(first[:, :3], second[:, :3])
        boxes[inner, 3:] = np.maximum(first[:, 3:], second[:, 3:])
        end -= size
    return boxes
