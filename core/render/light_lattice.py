"""Slowly varying light on a grid of pixels: measured on a coarse lattice, spread over the pixels of the same body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sopose.core.render.lighting import KNOWN, spread

# Values (C, A) of points (A,), by the rays of set (A,) 0 to 3 for each, or by all rays.
Measure = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True, eq=False)
class _Part:
    """The points of one owner in a grid."""

    points: slice  # of the M seen points
    window: tuple[slice, slice]  # rows and columns of the grid that hold them
    mask: np.ndarray  # which pixels of the window they are
    pixels: np.ndarray  # the same as places in it

    def coarse(self, stride: int) -> tuple[slice, slice]:
        """The window in a lattice of the grid."""
        rows, columns = (slice(span.start // stride, -(-span.stop // stride)) for span in self.window)
        return rows, columns


class Grid:
    """At which pixels of a grid the M seen points stand, and whose they are."""

    def __init__(self, seen: np.ndarray, owner: np.ndarray, size: tuple[int, int], align: int) -> None:
        """seen (M,) are pixels ordered by their owner (H W,); windows start at multiples of `align`."""
        self.index = np.full(size, -1)
        self.index.reshape(-1)[seen] = np.arange(len(seen))
        owners = owner.reshape(size)
        numbers, starts = np.unique(owner[seen], return_index=True)
        self.parts = []
        for number, start, end in zip(numbers, starts, [*starts[1:], len(seen)], strict=True):
            mine = owners == number
            rows, columns = (np.flatnonzero(mine.any(axis=axis)) for axis in (1, 0))
            window = tuple(slice(int(used[0]) // align * align, int(used[-1]) + 1) for used in (rows, columns))
            mask = np.ascontiguousarray(mine[window])
            self.parts.append(_Part(slice(start, end), window, mask, np.flatnonzero(mask)))

    def measure(self, stride: int, measure: Measure, counts: Tensor) -> Tensor:
        """(C, M) values of `measure` at the lattice of `stride`, spread over the points of the same owner.

        counts (C, M) bool: where a value means something. A point that has no such value of its own owner near, but
        needs one, is measured by itself.
        """
        lattice = self.index[::stride, ::stride]
        rows, columns = np.nonzero(lattice >= 0)
        anchors = torch.from_numpy(lattice[rows, columns])
        which = torch.from_numpy(2 * (rows & 1) + (columns & 1))
        known = counts[:, anchors].float()
        both = torch.stack([measure(anchors, which), known]).numpy()
        order = np.full(lattice.shape, -1)
        order[rows, columns] = np.arange(len(rows))
        values, weights = np.empty((2, *counts.shape), np.float32)
        for part in self.parts:
            coarse = part.coarse(stride)
            cells = np.flatnonzero(part.mask[::stride, ::stride])
            among = order[coarse].reshape(-1)[cells]
            maps = np.zeros((*both.shape[:2], order[coarse].size), np.float32)
            maps[..., cells] = both[..., among]
            shape = order[coarse].shape
            spread_out = spread(*torch.from_numpy(maps).unflatten(-1, shape), stride, part.mask.shape)
            for target, full in zip((values, weights), spread_out, strict=True):
                target[:, part.points] = full.flatten(1).numpy()[:, part.pixels]
        spread_values = torch.from_numpy(values)
        lacks = (torch.from_numpy(weights) < KNOWN) & counts
        lacking = lacks.any(dim=0).nonzero()[:, 0]
        if len(lacking):
            alone = measure(lacking, None)
            spread_values[:, lacking] = torch.where(lacks[:, lacking], alone, spread_values[:, lacking])
        return spread_values
