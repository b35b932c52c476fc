"""Poses of a test set at the distances that its depth images say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sopose.core.bop.results import Estimate, Estimates
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.data.eval_set import EvalSet
from sopose.inference.depth_predictions import predictions_at_depth, require_depth
from sopose.inference.predictions import Predictions, roi_ids
from sopose.settings import load_settings
from tests.support.builders import eval_set_of


@pytest.fixture(scope="module")
def test_set(repository, toy_root) -> EvalSet:
    config = repository / "configs/gdrn_selfocc/toy/demo.py"
    return eval_set_of(load_settings(config, [f"DATASETS.ROOT={toy_root.parent}"]), "toy_test")


def too_far(test_set: EvalSet) -> Predictions:
    """The truth, 5 % too far away."""
    poses = [Pose(item.truth.pose.cam_R_obj, 1.05 * item.truth.pose.cam_t_obj) for item in test_set.source.items]
    estimates = [
        Estimate(*roi_ids(item), 1.0, pose, 0.1) for item, pose in zip(test_set.source.items, poses, strict=True)
    ]
    return Predictions("toy_test", Estimates.of(estimates), np.zeros((len(poses), 4)), np.zeros(0, int), None, {})


def errors(test_set: EvalSet, found: Predictions) -> np.ndarray:
    truths = [item.truth.pose.cam_t_obj[2] for item in test_set.source.items]
    return np.abs([one.pose.cam_t_obj[2] for one in found.estimates] - np.array(truths))


def test_distances_become_those_of_the_depth_images(test_set):
    given = too_far(test_set)
    found = predictions_at_depth(test_set, given)
    assert np.median(errors(test_set, found)) < 0.1 * np.median(errors(test_set, given))
    for one, other in zip(found.estimates, given.estimates, strict=True):
        np.testing.assert_array_equal(one.pose.cam_R_obj, other.pose.cam_R_obj)
        assert one.time > other.time


def without_depth(test_set: EvalSet, images: int) -> EvalSet:
    """The same where so many images have no depth file."""
    bare = list(dict.fromkeys(item.record.rgb_path for item in test_set.source.items))[:images]
    items = [
        replace(item, record=replace(item.record, depth_path=None)) if item.record.rgb_path in bare else item
        for item in test_set.source.items
    ]
    return replace(test_set, source=test_set.source.of_items(items))


def test_images_without_depth_keep_their_poses_and_are_counted(test_set, caplog):
    some = without_depth(test_set, 1)
    given = too_far(test_set)
    found = predictions_at_depth(some, given)
    both = zip(found.estimates, given.estimates, strict=True)
    same = [np.array_equal(one.pose.cam_t_obj, other.pose.cam_t_obj) for one, other in both]
    assert 0 < sum(same) < len(same)
    require_depth(some)
    assert "1 of 4 images have no depth image" in caplog.text
    with pytest.raises(UserError, match="has no depth images; download them"):
        require_depth(without_depth(test_set, 4))
