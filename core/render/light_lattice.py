"""Slowly varying light on grids of pixels: measured on a coarse lattice, spread over the pixels of the same owner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import pad

KNOWN = 0.02  # weight below which a point is to be measured by itself
SMALLEST = 1e-4  # weight that is divided by

# Values (C, A) of points (A,), by the rays of set (A,) 0 to 3 for each, or by all rays.
Measure = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True, eq=False)
class Grid:
    """At which pixels of several grids M points stand, and whose they are."""

    owner: Tensor  # (M,) int64
    grid: Tensor  # (M,) int64
    row: Tensor  # (M,) int64
    column: Tensor  # (M,) int64
    shape: tuple[int, int, int]  # grids, and the rows and columns of the largest

    def measure(self, stride: int, measure: Measure, counts: Tensor) -> Tensor:
        """(C, M) values of `measure` at every `stride`-th row and column, spread over the points of the same owner.

        Four neighbours of the lattice are averaged, whose rays go different ways, and the averages are interpolated.
        counts (C, M) bool: where a value means something. A point that has no such value of its own owner near, but
        needs one, is measured by itself, as all are at stride 1.
        """
        if stride == 1:
            return measure(torch.arange(len(self.owner), device=self.owner.device), None)
        on_lattice = torch.arange(max(self.shape), device=self.owner.device) % stride == 0
        at = on_lattice.index_select(0, self.row) & on_lattice.index_select(0, self.column)
        anchors = at.nonzero()[:, 0]
        grid, down, across = (part.index_select(0, anchors) for part in (self.grid, self.row, self.column))
        down, across = down // stride, across // stride
        known = counts.index_select(1, anchors).float()
        both = torch.cat([measure(anchors, 2 * (down % 2) + across % 2) * known, known])
        total, weight = self._spread(stride, (grid, down, across), both).chunk(2)
        values = total / weight.clamp(min=SMALLEST)
        lacks = (weight < KNOWN) & counts
        lacking = lacks.any(dim=0).nonzero()[:, 0]
        if len(lacking):
            values[:, lacking] = torch.where(lacks[:, lacking], measure(lacking, None), values[:, lacking])
        return values

    def _spread(self, stride: int, places: tuple[Tensor, ...], values: Tensor) -> Tensor:
        """(C, M) weighted sums of values (C, A) at `places` (A,) of the lattice: grid, row, column.

        Pixels are sorted into planes by where they lie between those of the lattice, since all of a plane have the
        same weights. A plane of all grids is one long row with borders, in which a neighbour is so many places away.
        """
        half, device = stride // 2, self.owner.device
        grids, rows, width = self.shape[0], *(-(-(count + half) // stride) + 2 for count in self.shape[1:])
        length, margin = grids * rows * width, width + 1
        # By tables of all rows and columns: whole numbers are slow to divide.
        pixel = torch.arange(half, half + max(self.shape), device=device)
        place, phase = pixel // stride + 1, pixel % stride
        cell = (place * width + phase * stride * length).index_select(0, self.row)
        cell += (place + phase * length).index_select(0, self.column) + self.grid * (rows * width)
        owners = torch.full((stride * stride, length), -1, dtype=torch.int32, device=device)
        owners.view(-1).index_copy_(0, cell, self.owner.int())
        grid, down, across = places
        maps = values.new_zeros(len(values), length + 2 * margin)
        maps.index_copy_(1, margin + (grid * rows + down + 1) * width + across + 1, values)
        # The lattice's own pixels are the plane of half a stride.
        near_owners = pad(owners[half * stride + half], (margin, margin), value=-1)
        # The mean of neighbours k - 1 and k, and that of k and k + 1, interpolated: three weights along each axis.
        phase = (torch.arange(stride, device=device) + 0.5 * (stride % 2)) / stride
        weights = torch.stack([(1 - phase) / 2, torch.full_like(phase, 0.5), phase / 2])
        nothing, total = values.new_zeros(()), values.new_zeros(len(values), *owners.shape)
        for down, across in product(range(3), range(3)):
            near = slice(down * width + across, down * width + across + length)
            weight = (weights[down, :, None] * weights[across]).view(-1, 1)
            # One neighbour at a time: what they share stays in the cache.
            total.addcmul_(maps[:, None, near], torch.where(near_owners[near] == owners, weight, nothing))
        return total.flatten(1).index_select(1, cell)
