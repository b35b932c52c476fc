"""Stains: smooth, seamless, the same on any device and for any size of object."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.render.looks import Body, Coats
from sopose.core.render.materials import Material
from sopose.core.render.stains import SIDE, Stains, draw_stains, stain_factors


def factors_at(stains: Stains, places: np.ndarray) -> np.ndarray:
    which = torch.zeros(len(places), dtype=torch.long)
    return stain_factors(torch.from_numpy(stains.lattice[None]), which, torch.from_numpy(places.T)).numpy().T


@pytest.fixture
def stains() -> Stains:
    return draw_stains(0.7, np.random.default_rng(0))


def test_lattice_points_have_their_own_factors(stains):
    index = np.stack(np.meshgrid(*[np.arange(SIDE)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    expected = np.exp(stains.lattice[tuple(index.T)])
    np.testing.assert_allclose(factors_at(stains, index.astype(np.float32)), expected, rtol=1e-5)


def test_factors_lie_between_those_of_the_corners(stains):
    places = np.random.default_rng(1).uniform(0, SIDE - 1, (500, 3)).astype(np.float32)
    low, high = np.exp(stains.lattice.min()), np.exp(stains.lattice.max())
    found = factors_at(stains, places)
    assert (found > low * 0.999).all() and (found < high * 1.001).all()


@given(st.floats(-40, 40), st.integers(0, 2))
def test_patterns_have_no_seams(where, axis):
    """A thousandth of a cell changes the logarithm by at most its steepest slope, 1.5 times the largest step."""
    stains = draw_stains(0.7, np.random.default_rng(0))
    places = np.full((2, 3), 2.3, np.float32)
    places[:, axis] = where, where + 1e-3
    steepest = 1.5 * np.ptp(stains.lattice)
    change = np.abs(np.diff(np.log(factors_at(stains, places)), axis=0))
    assert change.max() <= 1e-3 * steepest + 2e-5 * steepest  # and float32's places at 40 cells


def test_patterns_repeat_mirrored(stains):
    places = np.random.default_rng(2).uniform(0, SIDE - 1, (50, 3)).astype(np.float32)
    np.testing.assert_allclose(factors_at(stains, -places), factors_at(stains, places), rtol=1e-4)
    np.testing.assert_allclose(factors_at(stains, places + 2 * (SIDE - 1)), factors_at(stains, places), rtol=1e-4)


def test_each_point_takes_its_own_lattice():
    patterns = [draw_stains(0.5, np.random.default_rng(seed)) for seed in range(3)]
    lattices = torch.from_numpy(np.stack([pattern.lattice for pattern in patterns]))
    places = torch.rand(3, 30, generator=torch.Generator().manual_seed(0)) * 9
    which = torch.arange(30) % 3
    together = stain_factors(lattices, which, places)
    for number, pattern in enumerate(patterns):
        alone = factors_at(pattern, places[:, which == number].numpy().T).T
        np.testing.assert_allclose(together[:, which == number], alone, rtol=1e-5)


def test_the_pattern_grows_with_the_object(stains):
    points, corners = np.random.default_rng(3).normal(size=(20, 3)), np.eye(4, 3)
    found = []
    for size, shift in ((0.1, np.zeros(3)), (3.0, np.array([1.0, 2.0, 3.0]))):
        vertices = size * corners + shift
        model = ObjectModel(1, "thing", vertices, np.array([[0, 1, 2], [0, 1, 3]]), size, *2 * (np.zeros(3),))
        coats = Coats([Body(model, Pose(np.eye(3), np.zeros(3)), Material(stains=stains))], torch.device("cpu"))
        albedo, places = torch.full((3, 20), 0.05), torch.from_numpy(size * points + shift)
        found.append(coats.vary(albedo, torch.zeros(20, dtype=torch.long), places))
    torch.testing.assert_close(*found, rtol=1e-3, atol=0)


def test_strength_is_the_deviation_of_the_logarithm():
    logs = [draw_stains(0.4, np.random.default_rng(seed)).lattice for seed in range(20)]
    assert np.std(logs) == pytest.approx(0.4 * np.sqrt(1 + 0.35**2), rel=0.03)
    assert not draw_stains(0.0, np.random.default_rng(0)).lattice.any()
