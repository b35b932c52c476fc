"""AP of ranked estimates: by hand, against pycocotools, and BOP24's rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sopose.core.bop.results import Estimate
from sopose.core.evaluation.average_precision import Ranking, match_detections
from sopose.core.geometry.pose import Pose

AWAY = np.array([0, 0, 30.0])


def ranking(hits: list[int], truths: list[int], image: list[int] | None = None, ignored: list[int] = ()) -> Ranking:
    hit = np.array([hits], bool)
    neutral = np.zeros_like(hit)
    neutral[:, list(ignored)] = True
    where = np.zeros(len(hits), int) if image is None else np.array(image, int)
    return Ranking(where, hit, neutral, np.array(truths))


def test_the_area_is_that_of_the_envelope_at_101_recalls():
    # Right, wrong, right of two: precision 1 up to recall .5 (51 points), 2/3 beyond (50).
    (ap,) = ranking([1, 0, 1], [2]).average_precision()
    assert ap == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert ranking([1, 1], [2]).average_precision() == [1]
    assert ranking([0, 1], [1]).average_precision() == [0.5]
    assert ranking([1], [2]).average_precision() == pytest.approx([51 / 101])
    assert ranking([], [2]).average_precision() == [0]
    assert np.isnan(ranking([0], [0]).average_precision()).all()


def test_what_is_ignored_is_neither_right_nor_wrong():
    with_it, without = ranking([1, 1, 0], [1], ignored=[1]), ranking([1, 0], [1])
    assert with_it.average_precision() == without.average_precision()


def test_an_image_of_weight_two_is_that_image_twice():
    once = ranking([1, 0, 1, 0], [2, 1], image=[0, 1, 1, 0])
    doubled = ranking([1, 0, 0, 1, 1, 0], [2, 1, 1], image=[0, 1, 2, 1, 2, 0])
    assert once.average_precision(np.array([1.0, 2])) == pytest.approx(doubled.average_precision(), rel=1e-2)
    assert once.average_precision(np.array([1.0, 0])) == ranking([1, 0], [2]).average_precision()


def test_a_truth_that_counts_is_taken_before_one_that_is_ignored():
    errors = np.array([[0.1, 0.3], [0.1, 0.3], [0.1, 0.3]])
    got = match_detections(errors, np.array([True, False]), np.array([0.5, 0.2]))
    np.testing.assert_array_equal(got, [[1, 0, -1], [0, -1, -1]])
    assert match_detections(np.empty((2, 0)), np.empty(0, bool), np.array([0.5])).tolist() == [[-1, -1]]


def ap(world, estimates: list[Estimate], obj_id: int = 1) -> float:
    scores = world.score(estimates, metrics=("bop24",))
    return next(row for row in scores.objects if row.obj_id == obj_id).values["AP_MSSD"]


def test_a_wrong_estimate_costs_by_its_rank(world):
    truth = world.truth()
    wrong = replace(truth[0], pose=Pose(truth[0].pose.cam_R_obj, truth[0].pose.cam_t_obj + AWAY))
    assert ap(world, truth) == 1
    assert ap(world, [*truth, replace(wrong, score=0.5)]) == 1  # ranked below all right ones
    # Above all: n right after one wrong have precisions 1/2 … 5/6, whose envelope is 5/6 everywhere.
    assert ap(world, [replace(wrong, score=2.0), *truth]) == pytest.approx(5 / 6)


def test_estimates_of_images_without_the_object_are_wrong_there(world):
    truth = world.truth()
    world.records[1] = replace(world.records[1], instances=world.records[1].instances[1:])  # object 1 is gone
    targets = [t for t in world.targets if (t.im_id, t.obj_id) != (1, 1)]
    first = [replace(e, score=2.0) if (e.im_id, e.obj_id) == (1, 1) else e for e in truth]
    values = world.score(first, targets=targets, metrics=("bop24",)).objects[0].values
    assert values["AP_MSSD"] == pytest.approx(4 / 5)


def test_images_that_are_named_alone_count_though_nothing_is_there(world):
    """As BOP24's lists name them: an estimate in an empty image is wrong, and without any nothing changes."""
    truth = world.truth()
    world.records[1] = replace(world.records[1], instances=())
    targets = [target for target in world.targets if target.im_id != 1]
    alone = {(world.records[1].scene_id, world.records[1].im_id)}
    first = [replace(e, score=2.0) if (e.im_id, e.obj_id) == (1, 1) else e for e in truth]

    def found(estimates: list[Estimate], images: set[tuple[int, int]]) -> float:
        scores = world.score(estimates, targets=targets, metrics=("bop24",), images=images)
        return scores.objects[0].values["AP_MSSD"]

    assert found(first, set()) == 1
    assert found(first, alone) == pytest.approx(4 / 5)
    assert found([e for e in truth if e.im_id != 1], alone) == 1


def test_ground_truth_hardly_seen_is_ignored(world):
    truth = world.truth()
    record = world.records[2]
    hidden = tuple(replace(item, visib_fract=0.05) for item in record.instances)
    world.records[2] = replace(record, instances=hidden)
    found = world.score(truth, metrics=("bop24",)).mean["AP_BOP24"]
    missed = world.score([e for e in truth if e.im_id != 2], metrics=("bop24",)).mean["AP_BOP24"]
    assert found == missed == 1


def test_only_the_hundred_best_of_an_image_count(world):
    truth = world.truth()
    wrong = [replace(e, score=2.0, pose=Pose(e.pose.cam_R_obj, e.pose.cam_t_obj + AWAY)) for e in truth if e.im_id == 1]
    crowd = [wrong[0]] * 100
    assert ap(world, [*crowd, *truth]) < ap(world, [*crowd[:10], *truth]) < 1
    # With a hundred better ones of image 1, its own truth is not looked at: 4 of 5 at recall .8.
    only = [*crowd, *(e for e in truth if e.im_id == 1)]
    assert ap(world, only) == 0


def test_the_mean_is_over_objects_and_has_an_interval(world):
    scores = world.score(world.truth()[2:], metrics=("bop24",))
    rows = [row.values["AP_BOP24"] for row in scores.objects]
    assert scores.mean["AP_BOP24"] == pytest.approx(np.mean(rows)) and rows[0] < rows[1] == 1
    low, high = scores.mean_intervals["AP_BOP24"]
    assert low <= scores.mean["AP_BOP24"] <= high and "AP_BOP24" not in scores.overall
