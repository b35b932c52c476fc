"""Laws of the probability that a pose is right: learned from both kinds, calibrated, and 0 for what is no number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopose.core.evaluation.calibration import area_under_roc, reliability
from sopose.core.utils.errors import UserError
from sopose.models import confidence as module
from sopose.models.confidence import EVIDENCE, FIRST, Confidence, best_of, fit_confidence, read_confidence

RNG = np.random.default_rng(0)
TRUE = Confidence((2.0, -1.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.3, 0.0, -0.4), -0.5)


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Evidence, and poses that are right with just the probability that `TRUE` says."""
    rng = np.random.default_rng(seed)
    deviation, mean = [1, 2, 1, 1, 3, 1, 5, 1, 1, 2], [0, 1, 0, -3, 0, 0, 6, -4, -5, -3]
    evidence = rng.normal(size=(count, len(EVIDENCE))) * deviation + mean
    return evidence, rng.random(count) < TRUE(evidence)


def test_the_model_that_drew_is_found():
    evidence, right = drawn(20_000)
    found = fit_confidence(evidence, right)
    np.testing.assert_allclose(found.weights, TRUE.weights, atol=0.15)
    fresh, answers = drawn(20_000, seed=1)
    assert reliability(found(fresh), answers).error < 0.02
    assert area_under_roc(found(fresh), answers) == pytest.approx(area_under_roc(TRUE(fresh), answers), abs=0.003)


def test_what_separates_all_stays_finite():
    evidence, right = drawn(200)
    evidence[:, 0] = np.where(right, 1.0, -1.0)
    found = fit_confidence(evidence, right)
    assert np.isfinite(found.numbers).all()
    assert found(evidence)[right].min() > 0.9 and found(evidence)[~right].max() < 0.1


def test_what_is_no_number_is_not_believed():
    evidence, _ = drawn(3)
    evidence[1, 2] = np.nan
    probability = TRUE(evidence)
    assert probability[1] == 0 and (probability[[0, 2]] > 0).all()


def test_one_kind_alone_teaches_nothing():
    evidence, _ = drawn(10)
    for right in (np.ones(10, bool), np.zeros(10, bool)):
        with pytest.raises(UserError, match="one kind only"):
            fit_confidence(evidence, right)


def test_numbers_of_a_file():
    assert read_confidence((), "x") is None
    assert read_confidence(TRUE.numbers, "x") == TRUE
    for wrong in ((1.0, 2.0), (np.nan,) * 11, (1.0,) * 10):
        with pytest.raises(UserError, match="x must be 11 finite numbers or none"):
            read_confidence(wrong, "x")


def test_areas():
    score = np.array([0.1, 0.4, 0.4, 0.9])
    assert area_under_roc(score, np.array([False, False, True, True])) == pytest.approx((0.75 + 1.0) / 2)
    assert area_under_roc(score, np.array([True, True, False, False])) == pytest.approx(0.125)
    assert np.isnan(area_under_roc(score, np.ones(4, bool)))


def test_reliability_of_what_is_sure_and_wrong():
    bins = reliability(np.full(50, 0.9), np.zeros(50, bool))
    assert bins.error == pytest.approx(0.9) and bins.count.sum() == 50


@given(st.floats(0, 1), st.integers(1, 18), st.integers(1, 18))
def test_the_surest_of_more_poses_is_the_less_sure(probability, few, many):
    few, many = sorted((few, many))
    assert best_of(probability, 1) == probability
    assert 0 <= best_of(probability, many) <= best_of(probability, few) <= 1
    assert best_of(0.0, many) == 0 and best_of(1.0, many) == 1


def test_four_poses_halve_the_odds():
    assert best_of(0.8, 4) == pytest.approx(2 / 3)  # odds 4, then 2


def test_numbers_of_an_older_file_mean_what_they_did():
    evidence, _ = drawn(50)
    older = Confidence((*TRUE.weights[:FIRST], 0.0, 0.0, 0.0), TRUE.bias)
    found = read_confidence((*TRUE.weights[:FIRST], TRUE.bias), "x")
    np.testing.assert_array_equal(found(evidence), older(evidence))


def test_a_fits_own_deviations_are_along_the_line_of_sight_across_it_and_of_the_rotation():
    t = np.array([[0.0, 0.0, 0.5], [0.3, 0.0, 0.4]])
    sight = t / np.linalg.norm(t, axis=1, keepdims=True)
    covariance = np.zeros((2, 6, 6))
    for one, ray in zip(covariance, sight, strict=True):
        one[:3, :3] = 0.03**2 * np.outer(ray, ray) + 0.001**2 * (np.eye(3) - np.outer(ray, ray))
        one[3:, 3:] = np.diag([0.1, 0.2, 0.2]) ** 2
    along, across, turned = module._deviations(t, covariance)
    np.testing.assert_allclose(along, 0.03)
    np.testing.assert_allclose(across, 0.001 * np.sqrt(2))  # both directions
    np.testing.assert_allclose(turned, 0.3)
