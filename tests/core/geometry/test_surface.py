"""Distances to a mesh, whatever its unit and however fine."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from sopose.core.geometry.surface import Surface, sample_surface


@pytest.mark.parametrize("radius", [0.01, 0.05, 1.0, 50.0])
def test_points_on_a_fine_mesh_are_on_it_and_others_are_as_far_as_they_were_moved(radius):
    ball = trimesh.creation.icosphere(6, radius)  # triangles of a hundredth of the radius
    vertices, faces = np.asarray(ball.vertices), np.asarray(ball.faces)
    rng = np.random.default_rng(0)
    points = sample_surface(vertices, faces, 3000, rng).points
    surface = Surface(vertices, faces, 100_000, rng)
    assert surface.distance(points).max() < 1e-9 * radius
    np.testing.assert_allclose(surface.distance(1.01 * points), 0.01 * radius, rtol=0.02)


@pytest.mark.parametrize("thin", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("size", [0.1, 100.0])
def test_thin_triangles_are_triangles(thin, size):
    """Distances to a single one are those of its edges' segments and its plane, whatever its shape and size."""
    corners = size * np.array([[0.0, 0, 0], [1, 0, 0], [0.5, thin, 0]])
    surface = Surface(corners, np.array([[0, 1, 2]]), 100, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    along, up = size * rng.uniform(0.1, 0.9, 200), size * rng.uniform(0.01, 1, 200)
    points = np.stack([along, np.zeros(200), up], axis=1)  # above its longest edge
    np.testing.assert_allclose(surface.distance(points), up, rtol=1e-6)
    beside = np.stack([along, -up, np.zeros(200)], axis=1)
    np.testing.assert_allclose(surface.distance(beside), up, rtol=1e-6)
