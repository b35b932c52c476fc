"""Triangles drawn in numpy are those that Embree's rays meet; what needs other rays says that Embree is missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopose.core.bop.models import load_models
from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import random_rotation
from sopose.core.rays import raycast
from sopose.core.rays.raster import PAIRS, first_triangles
from sopose.core.utils.errors import UserError

K = np.array([[572.4, 0, 325.3], [0, 573.6, 242.0], [0, 0, 1]])


@pytest.fixture(scope="module")
def models(toy_root):
    return load_models(toy_root / "models")


@pytest.fixture
def without_embree(monkeypatch):
    monkeypatch.setattr(raycast, "has_embree", lambda: False)


def square(pose: Pose, caster: raycast.RayCaster, side: int) -> np.ndarray:
    """(side², 2) pixels around an object, some of them beside it."""
    low, high = np.split(caster.image_box(pose, K), 2)
    axes = [np.linspace(low[k] - 3, high[k] + 3, side) for k in (0, 1)]
    return np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)


@pytest.mark.parametrize("side", [9, 96])
def test_drawn_models_are_those_that_rays_meet(models, monkeypatch, side):
    rng = np.random.default_rng(0)
    for model in models.values():
        pose = Pose(random_rotation(rng), np.array([*rng.uniform(-0.1, 0.1, 2), 4 * model.diameter]))
        uv = square(pose, model.caster, side)
        with_rays = model.caster.cast(pose, K, uv)
        with monkeypatch.context() as patched:
            patched.setattr(raycast, "has_embree", lambda: False)
            drawn = model.caster.cast(pose, K, uv)
        assert len(with_rays.ray) > 5
        # A pixel on the outline's very edge may be decided either way.
        assert len(np.setxor1d(with_rays.ray, drawn.ray)) <= 2
        _, mine, theirs = np.intersect1d(drawn.ray, with_rays.ray, return_indices=True)
        np.testing.assert_allclose(drawn.points_obj[mine], with_rays.points_obj[theirs], atol=1e-9)  # metres


@given(seed=st.integers(0, 10**6), faces=st.integers(1, 40), count=st.integers(1, 60))
def test_the_nearest_triangle_over_a_pixel_is_found(seed, faces, count):
    """As by trying every triangle on every pixel."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform([-1, -1, 1], [1, 1, 3], (faces, 3, 3))
    uv, inverse = project(corners, K), 1 / corners[..., 2]
    pixels = rng.uniform([100, 20], [550, 460], (count, 2)).T
    expected = np.full(count, -1)
    nearest = np.zeros(count)
    for face, (a, b, c) in enumerate(uv):
        weights = np.linalg.solve(np.stack([b - a, c - a], 1), pixels - a[:, None])
        all_three = np.stack([1 - weights.sum(0), *weights])
        depth = inverse[face] @ all_three
        nearer = (all_three.min(0) >= 0) & (depth > nearest)
        expected[nearer], nearest[nearer] = face, depth[nearer]
    np.testing.assert_array_equal(first_triangles(uv, inverse, pixels), expected)


def test_many_pairs_are_compared_in_pieces():
    """More triangles over all of the pixels than are compared at once; the nearest lies in the middle of the list."""
    pixels = np.random.default_rng(0).uniform(0, 64, (2, 4096))
    count = 3 * PAIRS // 4096
    whole = np.tile(np.array([[-500.0, -500], [1000, 0], [0, 1000]]), (count, 1, 1))
    inverse = np.full((count, 3), 0.5)
    inverse[count // 2] = 1.0
    assert (first_triangles(whole, inverse, pixels) == count // 2).all()


def test_no_pixel_sees_no_triangle():
    assert first_triangles(np.zeros((1, 3, 2)), np.ones((1, 3)), np.zeros((2, 0))).shape == (0,)
    edge_on = np.array([[[0.0, 0], [1, 1], [2, 2]]])
    assert first_triangles(edge_on, np.ones((1, 3)), np.ones((2, 1))).tolist() == [-1]


def test_other_rays_need_embree(models, without_embree):
    caster = next(iter(models.values())).caster
    with pytest.raises(UserError, match=r"embreex is missing.*pip install embreex"):
        caster.first_hit(np.array([0.0, 0, -1]), np.array([[0.0, 0, 1]]))
