"""Thresholds: few boxes where nothing is, few objects lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopose.core.detection.boxes import overlap
from sopose.core.detection.facts import USUAL_THRESHOLD, DetectorFacts
from sopose.core.detection.infer import FoundObject
from sopose.core.detection.sample import DetectionSample
from sopose.core.detection.threshold import (
    FALSE_SHARE,
    MOST_LOST,
    RANGE,
    choose_threshold,
    scores_of_nothing,
    scores_of_objects,
)

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=60).map(np.array)


def test_the_threshold_lies_above_what_empty_images_get():
    chosen = choose_threshold(np.linspace(0, 0.5, 100), np.full(50, 0.8))
    assert 0.49 < chosen.value < 0.51 and chosen.false_share <= FALSE_SHARE and chosen.recall == 1
    assert chosen.usual_false_share == pytest.approx(0.4) and chosen.usual_recall == 1


def test_a_detector_that_sees_nothing_in_empty_images_finds_more():
    chosen = choose_threshold(np.full(100, 0.02), np.linspace(0.1, 0.9, 81))
    assert chosen.value == RANGE[0] and chosen.recall == 1 and chosen.usual_recall == pytest.approx(0.75, abs=0.02)


@given(SCORES, SCORES)
def test_few_objects_are_lost_for_it(empty, found):
    chosen = choose_threshold(empty, found)
    assert RANGE[0] <= chosen.value <= RANGE[1]
    assert chosen.recall >= chosen.usual_recall - MOST_LOST - 1e-9
    if chosen.false_share > FALSE_SHARE and chosen.value < RANGE[1]:
        assert chosen.recall < 1 or (found <= chosen.value + 1e-9).any()


def test_without_empty_images_it_is_the_usual_one():
    assert choose_threshold(np.zeros(0), np.full(3, 0.9)).value == USUAL_THRESHOLD


class Answers:
    """A detector that finds what it is told to."""

    facts = DetectorFacts(("can", "cat"), (1, 2))

    def __init__(self, found):
        self.found = found

    def __call__(self, image, threshold, topk=1):
        return [box for box in self.found if box.score >= threshold][: topk * 2]


def test_scores_are_those_of_right_boxes_and_of_the_best_in_empty_images():
    box = np.array([10.0, 10.0, 29.0, 29.0])
    image = np.zeros((64, 64, 3), np.uint8)
    found = [FoundObject("cat", 0.9, box), FoundObject("can", 0.6, box + 1), FoundObject("can", 0.8, box + 30)]
    both = DetectionSample(image, np.array([box, box + 5]), np.array([0, 1]), "both")
    empty = DetectionSample(image, np.zeros((0, 4)), np.zeros(0, np.int64), "empty")
    np.testing.assert_allclose(scores_of_nothing(Answers(found), [empty]), [0.9])
    # The cat's box, 5 pixels aside, overlaps by 225 of 575 pixels: wrong. What shows no object says nothing.
    np.testing.assert_allclose(scores_of_objects(Answers(found), [both, empty]), [0.6, 0.0])
    assert overlap(box, box) == 1 and overlap(box, box + 20) == 0
    assert overlap(box, box + 5.0) == pytest.approx(225 / 575)


def test_clutter_alone_doesn_t_lower_it():
    assert choose_threshold(np.zeros(200), np.full(100, 0.8), least=USUAL_THRESHOLD).value == USUAL_THRESHOLD
