"""Comparing poses with those of an evaluation."""

from __future__ import annotations

import numpy as np

from sopose.core.geometry.pose import Pose
from sopose.data.eval_set import EvalSet
from sopose.data.mapper import EvalItem

TOLERANCE = 1e-4  # of rotation entries and metres


def items_by_image(test_set: EvalSet) -> dict[tuple[int, int], list[EvalItem]]:
    """What is to be found, by scene and image."""
    by_image: dict[tuple[int, int], list[EvalItem]] = {}
    for item in test_set.source.items:
        by_image.setdefault((item.record.scene_id, item.record.im_id), []).append(item)
    return by_image


def assert_same_pose(found: Pose, wanted: Pose) -> None:
    """Equal to `TOLERANCE`."""
    np.testing.assert_allclose(found.cam_R_obj, wanted.cam_R_obj, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found.cam_t_obj, wanted.cam_t_obj, rtol=0, atol=TOLERANCE)
