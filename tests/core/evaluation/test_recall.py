"""Matching and recall on errors small enough to do by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sopose.core.evaluation.recall import count_hits, greedy_match, recall, unweighted_mean


def test_a_missing_estimate_is_never_right_and_a_threshold_is_strict():
    errors = np.array([0.1, 0.2, 0.3, np.inf])
    assert recall(errors, 0.3) == 0.5
    np.testing.assert_array_equal(recall(errors, np.array([0.1, 0.25, 1e9])), [0, 0.5, 0.75])
    assert np.isnan(recall(np.array([]), 1.0))


def test_recall_grows_with_the_threshold():
    errors = np.random.default_rng(0).exponential(size=200)
    assert (np.diff(recall(errors, np.linspace(0, 5, 50))) >= 0).all()


def test_the_better_score_chooses_first():
    # The first estimate takes ground truth 0, the nearer one; the second would have suited it better.
    errors = np.array([[1.0, 2.0], [0.5, 5.0]])
    np.testing.assert_array_equal(greedy_match(errors, np.array([10.0])), [[0, 1]])
    np.testing.assert_array_equal(greedy_match(errors, np.array([3.0])), [[0, -1]])


def test_an_estimate_beyond_the_threshold_takes_nothing():
    errors = np.array([[4.0, 3.0], [0.5, 9.0]])
    np.testing.assert_array_equal(greedy_match(errors, np.array([1.0])), [[1, -1]])


def test_matching_is_one_to_one():
    errors = np.random.default_rng(1).uniform(size=(7, 5))
    for row in greedy_match(errors, np.linspace(0, 1, 21)):
        used = row[row >= 0]
        assert len(set(used)) == len(used)
    assert count_hits(errors, np.array([2.0])) == [5]


def test_no_estimate_no_hit():
    np.testing.assert_array_equal(count_hits(np.empty((0, 3)), np.array([1.0, 2.0])), [0, 0])
    np.testing.assert_array_equal(greedy_match(np.array([[np.inf, np.nan]]), np.array([np.inf])), [[-1, -1]])


def test_the_mean_over_objects_counts_each_object_once():
    means = unweighted_mean([{"ad": 1.0, "re": np.nan}, {"ad": 0.5, "re": 3.0}])
    assert means == {"ad": pytest.approx(0.75), "re": 3.0}
