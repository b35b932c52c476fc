"""Bootstrap intervals: reproducible, of the right width, over whole images."""

from __future__ import annotations

import numpy as np
import pytest

from sopose.core.evaluation.bootstrap import (
    Credits,
    difference_intervals,
    image_weights,
    interval,
    recall_intervals,
)


def test_as_many_images_are_drawn_as_there_are_and_each_time_the_same():
    weights = image_weights(30, resamples=50)
    assert weights.shape == (50, 30) and (weights.sum(axis=1) == 30).all()
    np.testing.assert_array_equal(weights, image_weights(30, resamples=50))
    assert not np.array_equal(weights, image_weights(30, resamples=50, seed=1))


def test_the_interval_holds_the_central_part():
    assert interval(np.arange(101.0), level=0.9) == pytest.approx((5, 95))
    assert interval(np.array([np.nan, 3.0])) == (3, 3)
    assert np.isnan(interval(np.array([np.nan]))).all()


def test_the_width_is_that_of_a_share():
    images = np.arange(400)
    found = (images % 4 == 0).astype(float)
    mean, overall, per_object = recall_intervals(of({"x": found}, np.ones(400), images, np.ones(400, int)))
    low, high = overall["x"]
    # Twice 1.96 standard errors of a share of 1/4 in 400: 0.085; 1000 resamples know it to about 5 %.
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 * 0.75 / 400), rel=0.1)
    assert low < 0.25 < high and mean["x"] == overall["x"] == per_object[1]["x"]


def test_an_image_is_drawn_as_a_whole():
    # The same 40 images with every target ten times: no more is known.
    images = np.arange(40)
    found = (images % 2 == 0).astype(float)
    once = recall_intervals(of({"x": found}, np.ones(40), images, np.ones(40, int)))[1]["x"]
    tenfold = recall_intervals(of({"x": np.repeat(found, 10)}, np.ones(400), np.repeat(images, 10), np.ones(400, int)))
    assert tenfold[1]["x"] == pytest.approx(once)


def test_objects_count_alike_in_their_mean():
    images, objects = np.array([0, 0, 1, 1, 2, 2]), np.array([5, 9, 5, 9, 5, 9])
    found = np.where(objects == 5, 1.0, 0.0)
    mean, overall, per_object = recall_intervals(of({"x": found}, np.ones(6), images, objects))
    assert mean["x"] == overall["x"] == (0.5, 0.5)
    assert per_object == {5: {"x": (1, 1)}, 9: {"x": (0, 0)}}


def test_a_single_image_has_no_interval():
    mean, overall, _ = recall_intervals(of({"x": np.array([1.0, 0])}, np.ones(2), np.zeros(2, int), np.array([1, 2])))
    assert np.isnan([*mean["x"], *overall["x"]]).all()


def test_a_difference_on_hard_and_easy_images_is_seen_though_the_scores_intervals_overlap():
    """One result finds 5 % more of what every image shows: images differ, the gain doesn't."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(40), 20)
    easy = np.repeat(rng.uniform(0.1, 0.8, 40), 20)
    reference = of({"x": easy}, np.ones(800), images, np.ones(800, int))
    better = of({"x": easy + 0.05}, np.ones(800), images, np.ones(800, int))
    mean, overall = difference_intervals(better, reference)
    np.testing.assert_allclose([*mean["x"], *overall["x"]], 0.05, rtol=0, atol=1e-9)
    (low, high), (_, before) = recall_intervals(better)[1]["x"], recall_intervals(reference)[1]["x"]
    assert low < before < high
    other = of({"x": easy}, np.ones(800), images, np.full(800, 2))
    with pytest.raises(ValueError, match="same targets"):
        difference_intervals(better, other)


def of(found: dict[str, np.ndarray], counts: np.ndarray, images: np.ndarray, objects: np.ndarray) -> Credits:
    return Credits(found, counts, images, objects)
