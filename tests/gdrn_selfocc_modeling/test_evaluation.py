"""What becomes of a network's estimates before they are scored."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from core.bop.results import Estimate
from core.geometry.pose import Pose
from gdrn_selfocc_modeling.evaluation import with_image_times

POSE = Pose(np.eye(3), np.array([0.0, 0.0, 1.0]))


def test_an_images_time_adds_up_and_is_unknown_where_the_detectors_is():
    estimates = [Estimate(1, im_id, obj_id, 1.0, POSE, 0.25) for im_id in (3, 4) for obj_id in (1, 2)]
    test_set = SimpleNamespace(detection_times=lambda: {(1, 3): 0.5, (1, 4): -1.0})
    times = [estimate.time for estimate in with_image_times(estimates, test_set)]
    assert times == pytest.approx([1.0, 1.0, -1.0, -1.0], abs=1e-12)  # seconds
