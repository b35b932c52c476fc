"""Light measured on a lattice and spread over pixels: what is even or linear stays so, and owners stay apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sopose.core.render.light_lattice import Grid, Measure


def grid_of(owners: Tensor) -> Grid:
    """The pixels of owner maps (B, H, W) that have one, in any order."""
    places = (owners >= 0).nonzero()
    places = places[torch.randperm(len(places), generator=torch.Generator().manual_seed(0))]
    return Grid(owners[tuple(places.T)], *places.T, tuple(owners.shape))


def measure_of(values: Tensor, asked: list[Tensor]) -> Measure:
    """Values (C, M) of points; what is measured point by point is kept in `asked`."""

    def measure(index: Tensor, which: Tensor | None) -> Tensor:
        if which is None:
            asked.append(index)
        return values[:, index]

    return measure


def everywhere(values: Tensor) -> Tensor:
    return torch.ones(values.shape, dtype=torch.bool)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_what_is_even_or_linear_stays_so(stride):
    grid = grid_of(torch.zeros(2, 37, 50, dtype=torch.long))
    values = torch.stack([torch.full((2 * 37 * 50,), 0.3), grid.row + 0.5 * grid.column - grid.grid])
    found = grid.measure(stride, measure_of(values, []), everywhere(values))
    inner = (grid.row >= stride) & (grid.row < 37 - 2 * stride) & (grid.column >= stride)
    inner &= grid.column < 50 - 2 * stride
    torch.testing.assert_close(found[0], values[0])
    torch.testing.assert_close(found[1, inner], values[1, inner], rtol=0, atol=1e-4)


@pytest.mark.parametrize("stride", [2, 4])
def test_owners_and_grids_keep_their_light_to_themselves(stride):
    owners = torch.zeros(2, 40, 40, dtype=torch.long)
    owners[:, 7:23, 11:30], owners[1] = 1, owners[1] + 2
    owners[:, 30:] = -1
    grid = grid_of(owners)
    values = grid.owner[None].float()
    asked: list[Tensor] = []
    assert torch.equal(grid.measure(stride, measure_of(values, asked), everywhere(values)).round(decimals=4), values)
    assert sum(map(len, asked)) < 0.1 * values.numel()


def test_a_point_without_a_neighbour_of_its_owner_is_measured_by_itself():
    owners = torch.zeros(1, 16, 16, dtype=torch.long)
    owners[0, 5, 5] = 1
    grid, asked = grid_of(owners), []
    values = grid.owner[None].float()
    found = grid.measure(4, measure_of(values, asked), everywhere(values))
    assert torch.equal(found, values) and torch.cat(asked).tolist() == (grid.owner == 1).nonzero()[:, 0].tolist()


def test_values_that_do_not_count_are_not_spread():
    grid = grid_of(torch.zeros(1, 16, 16, dtype=torch.long))
    counts = (grid.column < 8)[None]
    values = torch.where(counts, 0.25, 99.0)
    found = grid.measure(2, measure_of(values, []), counts)
    assert found[counts].sub(0.25).abs().max() < 1e-5
