"""An object compared with itself after a motion: how far its surface comes to lie from where it was, how its colours
differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from sopose.core.geometry.surface import Surface, SurfacePoints, face_areas, sample_surface
from sopose.core.symmetry.motion_search import color_field, distance_field, move, register
from sopose.core.symmetry.tolerance import Tolerance

SAMPLES, TESTED, TESTED_VERTICES, COLORED = 20_000, 2000, 1000, 150_000
REGISTERED, REGISTERED_ROUGHLY = 1000, 300  # points that a motion is improved with
MOST = 0.99  # share of the surface whose colours count


@dataclass(frozen=True)
class Deviation:
    """By how much an object differs from itself after a motion."""

    greatest: float = 0.0  # distance of a point from the surface, as a share of the diameter
    mean: float = 0.0
    color: float | None = None  # levels that 99 % of the surface stay below, after a blur of 2 % of the diameter

    def within(self, tolerance: Tolerance) -> bool:
        """Whether the tolerance is kept."""
        colors_kept = self.color is None or tolerance.color is None or self.color <= tolerance.color
        return self.greatest <= tolerance.deviation and colors_kept


def worst(deviations: Iterable[Deviation]) -> Deviation:
    """The largest of each number."""
    every = list(deviations)
    colors = [each.color for each in every if each.color is not None]
    greatest, mean = max(each.greatest for each in every), max(each.mean for each in every)
    return Deviation(greatest, mean, max(colors) if colors else None)


class SelfImage:
    """A mesh ready for it, in a frame whose origin is its centroid and whose unit of length its diameter.

    Motions are (4, 4) in that frame.
    """

    def __init__(
        self,
        vertices: np.ndarray,
        faces: np.ndarray,
        diameter: float,
        color_at: Callable[[SurfacePoints], np.ndarray] | None = None,
    ) -> None:
        """Take vertices (V, 3), faces (F, 3) and the diameter, all of one unit of length.

        color_at: the colours (N, C), levels, at N points of the mesh; without it colours are left out.
        """
        rng = np.random.default_rng(0)
        areas = face_areas(vertices, faces)
        self.center = areas @ vertices[faces].mean(axis=1) / areas.sum()
        self.diameter = diameter
        unit = (vertices - self.center) / diameter
        half = 1.05 * float(np.linalg.norm(unit, axis=1).max())
        self.surface = Surface(unit, faces, SAMPLES, rng)
        self.spread = sample_surface(unit, faces, TESTED, rng).points
        # A surface reaches farthest at its corners.
        corners = unit[rng.permutation(np.unique(faces))[:TESTED_VERTICES]]
        self.tested = np.concatenate([self.spread, corners])
        self.distances = distance_field(self.surface.samples, half)
        self._colors = None
        if color_at is not None:
            dense = sample_surface(unit, faces, COLORED, rng)
            self._colors = color_field(dense.points, color_at(dense), half)
            self._own_colors = self._colors(self.spread)

    def measure(self, motion: np.ndarray) -> Deviation:
        """How far the object is from itself after a motion."""
        distance = self.surface.distance(move(motion[None], self.tested)[0])
        color = None if self._colors is None else float(self.color_deviations(motion[None])[0])
        return Deviation(float(distance.max()), float(distance[:TESTED].mean()), color)

    def color_deviations(self, motions: np.ndarray) -> np.ndarray:
        """(K,) levels by which colours differ after motions (K, 4, 4); there must be colours."""
        change = np.abs(self._colors(move(motions, self.spread)) - self._own_colors).max(axis=-1)
        return np.quantile(change, MOST, axis=1)

    def rough_distance(self, motions: np.ndarray) -> np.ndarray:
        """(K,) mean distances after motions (K, 4, 4), to about a hundredth of the diameter."""
        return self.distances(move(motions, self.spread[:REGISTERED]))[..., 0].mean(axis=1)

    def improve(self, motions: np.ndarray) -> np.ndarray:
        """Motions (K, 4, 4) brought to where they keep the surface best."""
        return register(self.surface, motions, self.spread[:REGISTERED])

    def improve_roughly(self, motions: np.ndarray) -> np.ndarray:
        """The same for motions that are nearly there already."""
        return register(self.surface, motions, self.spread[:REGISTERED_ROUGHLY], steps=3)

    def is_ball(self, deviation: float) -> bool:
        """Whether all points are equally far from the centroid, to within ± a share of the diameter."""
        return bool(np.ptp(np.linalg.norm(self.tested, axis=1)) <= 2 * deviation)

    def point_of_object(self, point: np.ndarray) -> np.ndarray:
        """A point (3,) of this frame in the mesh's own."""
        return self.center + self.diameter * point

    def motion_of_object(self, motion: np.ndarray) -> np.ndarray:
        """A motion of this frame in the mesh's own."""
        moved = motion.copy()
        moved[:3, 3] = self.point_of_object(motion[:3, 3]) - motion[:3, :3] @ self.center
        return moved
