"""Stains: smooth random factors of a surface's colour, laid out in the object's own space.

A scanned or modelled surface is never quite what the camera sees: paint differs, dirt and wear are missing, holes are
closed that are dark in truth. A network that has seen a part in a thousand colourings looks at its shape.
Pure torch, on any device. A pattern is a lattice of random numbers, interpolated and repeated in mirror images, so that
it has no seams and covers any object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

SIDE = 6  # lattice points along an axis
OWN = 0.35  # deviation of a channel's own factor, in parts of the common one: stains are mostly light and dark


@dataclass(frozen=True, eq=False)
class Stains:
    """Logarithms of factors on a lattice, and the lattice's place in the object."""

    lattice: np.ndarray  # (SIDE, SIDE, SIDE, 3) float32, of linear RGB
    scale: float  # lattice cells in the object's bounding radius
    shift: np.ndarray  # (3,) cells at the centre of the bounding sphere


def draw_stains(strength: float, rng: np.random.Generator) -> Stains:
    """A random pattern, the standard deviation of whose common logarithm is about `strength`.

    From half a cell to four in the bounding radius: from one side dark to spots.
    """
    shades = rng.standard_normal((SIDE, SIDE, SIDE, 1)) + OWN * rng.standard_normal((SIDE, SIDE, SIDE, 3))
    scale, shift = float(np.exp(rng.uniform(np.log(0.5), np.log(4.0)))), rng.uniform(0, 2 * SIDE, 3)
    return Stains((strength * shades).astype(np.float32), scale, shift)


def stain_factors(lattices: Tensor, which: Tensor, places: Tensor) -> Tensor:
    """(3, M) factors at `places` (3, M), in cells, of the lattices `which` (M,) of `lattices` (L, SIDE, SIDE, SIDE, 3).

    Between lattice points the logarithms are interpolated with a smooth step; beyond them they are mirrored.
    """
    count, side = lattices.shape[:2]
    # A triangle wave: 0 … side - 1 … 0 and so on.
    period = 2 * (side - 1)
    folded = (side - 1) - (places.remainder(period) - (side - 1)).abs()
    cell = folded.floor().clamp(0, side - 2)
    part = folded - cell
    x, y, z = cell + part * part * (3 - 2 * part)
    # One volume of all lattices, one behind the other along the first axis; grid_sample has it last, in -1 … 1.
    deep = 2 * (x + side * which) / (count * side - 1) - 1
    grid = torch.stack([2 * z / (side - 1) - 1, 2 * y / (side - 1) - 1, deep], dim=-1)
    volume = lattices.reshape(1, count * side, side, side, 3).movedim(-1, 1)
    return grid_sample(volume, grid.view(1, 1, 1, -1, 3), align_corners=True)[0, :, 0, 0].exp()
