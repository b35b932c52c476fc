"""Rigid motions that bring a surface back onto itself: started everywhere, improved by least squares.

The surface's centroid is the origin and its diameter the unit of length. Motions are (K, 4, 4).
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from sopose.core.geometry.surface import Surface

ORDERS = (2, 3, 4, 5)  # turns tried about every direction; about the principal axes all angles are
DIRECTIONS = 1000  # of half the sphere, 4° to 5° apart
SMALLEST_TURN = 6  # degrees: a sixtieth of a turn; smaller ones leave every object nearly where it is
APART = 5.0  # degrees between starts that are worth two searches
MANY = 128  # starts at most
HOPELESS = 0.05  # mean distance of the points at a start from which nothing was ever found
COARSE_POINTS, COARSE_STEPS = 300, 6
FINE_STEPS = 12
FIELD_CELLS = 56  # a side
BLUR = 0.02  # standard deviation of the colours' blur


class Field:
    """Values (C, n, n, n) at the points of a cubic lattice around the origin, linear in between."""

    def __init__(self, values: np.ndarray, half: float) -> None:
        self.values, self.half = values, half

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(..., C) values at points (..., 3); outside the lattice those of its border."""
        at = (points.reshape(-1, 3).T / self.half + 1) / 2 * (self.values.shape[1] - 1)
        values = [map_coordinates(channel, at, order=1, mode="nearest") for channel in self.values]
        return np.stack(values, axis=-1).reshape(*points.shape[:-1], len(values))


def distance_field(samples: np.ndarray, half: float) -> Field:
    """Distances to the nearest of samples (N, 3), to about a fifth of a cell, in the cube of half side `half`."""
    flat = _cells(samples, half)
    inside = np.full((FIELD_CELLS**3, 3), np.nan)
    inside[flat] = samples
    empty = np.isnan(inside[:, 0]).reshape((FIELD_CELLS,) * 3)
    nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
    ticks = np.linspace(-half, half, FIELD_CELLS)
    lattice = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1)
    found = inside[np.ravel_multi_index(nearest, empty.shape)]
    return Field(np.linalg.norm(lattice - found, axis=-1)[None], half)


def color_field(points: np.ndarray, colors: np.ndarray, half: float) -> Field:
    """Colours (N, C) of many points (N, 3), blurred over space, so that fine detail and noise count for little."""
    flat = _cells(points, half)
    blur = max(BLUR * (FIELD_CELLS - 1) / (2 * half), 0.7)  # in cells

    def spread(weights: np.ndarray | None) -> np.ndarray:
        grid = np.bincount(flat, weights, FIELD_CELLS**3).reshape((FIELD_CELLS,) * 3)
        return gaussian_filter(grid.astype(np.float64), blur, mode="constant")

    mass = np.maximum(spread(None), 1e-12)
    return Field(np.stack([spread(channel) for channel in colors.T]) / mass, half)


def _cells(points: np.ndarray, half: float) -> np.ndarray:
    """(N,) numbers of the lattice points nearest to points (N, 3)."""
    index = np.rint((points / half + 1) / 2 * (FIELD_CELLS - 1)).astype(np.int64)
    return np.ravel_multi_index(np.clip(index, 0, FIELD_CELLS - 1).T, (FIELD_CELLS,) * 3)


def about(axis: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """(K, 4, 4) turns by angles (K,), degrees, about an axis (3,) or axes (K, 3) through the origin."""
    unit = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
    motions = np.tile(np.eye(4), (len(angles), 1, 1))
    motions[:, :3, :3] = Rotation.from_rotvec(np.radians(angles)[:, None] * unit).as_matrix()
    return motions


def through(point: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """The rotations of motions (K, 4, 4), about a point (3,) instead."""
    motions = turns.copy()
    motions[:, :3, 3] = point - turns[:, :3, :3] @ point
    return motions


def angle_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Degrees between rotations of motions (..., 4, 4) that broadcast."""
    trace = np.einsum("...ij,...ij->...", first[..., :3, :3], second[..., :3, :3])
    return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


def move(motions: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N, 3) after each of the motions (K, 4, 4): (K, N, 3)."""
    return points @ motions[:, :3, :3].mT + motions[:, None, :3, 3]


def starts(points: np.ndarray) -> np.ndarray:
    """Turns (K, 4, 4) about the origin that a symmetry of points (N, 3) would be near to."""
    axes = _half_sphere(DIRECTIONS)
    parts = [about(axes, np.full(len(axes), 360 / order)) for order in ORDERS]
    around = np.arange(0, 180, 2)
    for axis in np.linalg.eigh(points.T @ points)[1].T:
        parts.append(about(axis, np.arange(SMALLEST_TURN, 181)))
        first, second = perpendicular(axis)
        circle = np.outer(np.cos(np.radians(around)), first) + np.outer(np.sin(np.radians(around)), second)
        parts.append(about(circle, np.full(len(circle), 180.0)))
    return np.concatenate(parts)


def search(surface: Surface, field: Field, points: np.ndarray) -> np.ndarray:
    """Motions (K, 4, 4) near to which points (N, 3) of the surface stay on it, the best first.

    They are good to a degree or two, for `register` to finish. The points must be in no order of place. Motions by
    less than `SMALLEST_TURN` are left out.
    """
    few = points[:COARSE_POINTS]

    def cost(motions: np.ndarray) -> np.ndarray:
        return field(move(motions, few))[..., 0].mean(axis=1)

    first = starts(points)
    motions = register(surface, best_apart(first, cost(first)), few, COARSE_STEPS)
    return best_apart(motions, cost(motions))


def register(surface: Surface, motions: np.ndarray, points: np.ndarray, steps: int = FINE_STEPS) -> np.ndarray:
    """Motions (K, 4, 4) improved so that moved points (N, 3) come to lie on the surface: point to plane, robust."""
    for _ in range(steps if len(motions) else 0):
        moved = move(motions, points)
        nearest, normals = surface.nearest_sample(moved)
        away = moved - nearest
        residual = np.einsum("kni,kni->kn", normals, away)
        jacobian = np.concatenate([np.cross(moved, normals), normals], axis=-1)
        distance = np.linalg.norm(away, axis=-1)
        weight = 1 / (1 + (distance / np.maximum(2 * np.median(distance, axis=1, keepdims=True), 0.005)) ** 2)
        weighted = jacobian * weight[..., None]
        normal_matrix = weighted.mT @ jacobian
        # Directions along which the surface slides over itself are left as they are.
        normal_matrix += 1e-4 * np.trace(normal_matrix, axis1=1, axis2=2)[:, None, None] * np.eye(6)
        step = -np.linalg.solve(normal_matrix, weighted.mT @ residual[..., None])[..., 0]
        change = np.tile(np.eye(4), (len(motions), 1, 1))
        change[:, :3, :3] = Rotation.from_rotvec(step[:, :3]).as_matrix()
        change[:, :3, 3] = step[:, 3:]
        motions = change @ motions
    return motions


def perpendicular(axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors at right angles to an axis (3,) and each other; the first near a coordinate axis."""
    unit = axis / np.linalg.norm(axis)
    first = np.eye(3)[np.argmin(np.abs(np.round(unit, 6)))]
    first = first - (first @ unit) * unit
    first /= np.linalg.norm(first)
    return first, np.cross(unit, first)


def _half_sphere(count: int) -> np.ndarray:
    """(count, 3) unit vectors, evenly spread over the upper half of the sphere by a spiral."""
    z = (np.arange(count) + 0.5) / count
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1)


def best_apart(motions: np.ndarray, cost: np.ndarray, limit: float = HOPELESS) -> np.ndarray:
    """The cheapest of motions (K, 4, 4), ascending, `APART` degrees from each other, none of more than `limit`."""
    kept = np.empty((0, 4, 4))
    possible = (cost <= limit) & (angle_between(motions, np.eye(4)) >= SMALLEST_TURN - 1)
    for index in np.flatnonzero(possible)[np.argsort(cost[possible], kind="stable")]:
        if len(kept) == MANY:
            break
        if not len(kept) or angle_between(kept, motions[index]).min() >= APART:
            kept = np.concatenate([kept, motions[index : index + 1]])
    return kept
