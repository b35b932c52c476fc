"""A few corners that enclose a mesh: what holds them in an image holds the mesh, at a fraction of the work."""

from __future__ import annotations

from itertools import combinations

import numpy as np

# How far the polytope stays away from the points, in parts of their size: room for rounding, and a thickness for
# points in a plane or on a line.
MARGIN = 1e-4
DIRECTIONS = 58  # beside those of the axes; twice as many make an object's box in an image smaller by 1 %
BLOCK = 1 << 16  # points looked at together
PARALLEL = 1e-6  # determinant of three planes that meet in no point worth the name
DECIMALS = 10  # of corners, in parts of the points' size
ROUNDING = 1e-9  # by which a corner may seem to lie outside of its own planes; `MARGIN` is far more


def enclosing_corners(points: np.ndarray) -> np.ndarray:
    """(n, 3) corners of a convex polytope around points (N, 3), N > 0, n about 120; same frame and unit.

    Every point is at least `MARGIN` of the points' largest distance from their mean inside of it.
    """
    middle = points.mean(axis=0)
    size = max(float(np.sqrt(((points - middle) ** 2).sum(axis=1).max())), np.finfo(float).tiny)
    normals = _directions(DIRECTIONS)
    blocks = (points[start : start + BLOCK] - middle for start in range(0, len(points), BLOCK))
    reach = np.max([(normals @ block.T).max(axis=1) for block in blocks], axis=0) / size + MARGIN
    return middle + size * _polytope_corners(normals, reach)


def _polytope_corners(normals: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """(n, 3) corners of {x: normals @ x <= reach}, of (N, 3) and (N,): where three planes meet inside of the others."""
    triples = np.array([*combinations(range(len(normals)), 3)])
    planes = normals[triples]
    triples, planes = (values[np.abs(np.linalg.det(planes)) > PARALLEL] for values in (triples, planes))
    corners = np.linalg.solve(planes, reach[triples][..., None])[..., 0]
    corners = corners[(corners @ normals.T <= reach + ROUNDING).all(axis=1)]
    return np.unique(corners.round(DECIMALS), axis=0)  # more than three planes may meet in one


def _directions(count: int) -> np.ndarray:
    """(count + 6, 3) unit vectors, the axes' first; the others are spread evenly, on a Fibonacci lattice."""
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    angle = np.pi * (1 + np.sqrt(5)) * index
    around = np.sqrt(1 - z * z)
    lattice = np.stack([around * np.cos(angle), around * np.sin(angle), z], axis=1)
    return np.concatenate([np.eye(3), -np.eye(3), lattice])
