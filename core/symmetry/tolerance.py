"""How exact a symmetry has to be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """By how much an object may differ from itself and be called the same."""

    deviation: float = 0.01  # of any point from the surface, as a share of the diameter
    color: float | None = 30.0  # levels (0 to 255) that all but 1 % of the surface stay below; None: no matter
