"""Parts of a pose's error: analytic cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sopose.core.evaluation.pose_parts import CORRECTIONS, error_parts
from sopose.core.geometry.pose import Pose

TRUTH = Pose(np.eye(3), np.array([0.3, -0.4, 1.2]))  # 1.3 m away
SIGHT = TRUTH.cam_t_obj / 1.3
ACROSS = np.array([0.8, 0.6, 0.0])  # at right angles to the line of sight


def moved(along: float = 0.0, across: float = 0.0, degrees: float = 0.0) -> Pose:
    turned = Rotation.from_rotvec([0, 0, np.radians(degrees)]).as_matrix()
    return Pose(turned, TRUTH.cam_t_obj + along * SIGHT + across * ACROSS)


def test_depth_and_place_are_distinguished():
    found = error_parts([moved(0.05, 0.01), moved(0.03, 0.02), moved(-0.02, 0.03)], [TRUTH] * 3)
    assert found.depth_bias == pytest.approx(0.03, abs=1e-12)
    assert found.depth == pytest.approx(0.03, abs=1e-12)
    assert found.lateral == pytest.approx(0.02, abs=1e-12)
    assert found.depth_bias_share == pytest.approx(0.03 / 1.3, abs=1e-12)


def test_each_correction_rights_its_part_alone():
    estimate = moved(along=0.05, degrees=10)
    depth, place, rotation = (
        CORRECTIONS[name](estimate, TRUTH) for name in ("true depth", "true translation", "true rotation")
    )
    np.testing.assert_allclose(depth.cam_t_obj, TRUTH.cam_t_obj, atol=1e-12)
    np.testing.assert_array_equal(depth.cam_R_obj, estimate.cam_R_obj)
    np.testing.assert_array_equal(place.cam_t_obj, TRUTH.cam_t_obj)
    np.testing.assert_array_equal(rotation.cam_R_obj, TRUTH.cam_R_obj)
    np.testing.assert_array_equal(rotation.cam_t_obj, estimate.cam_t_obj)
    assert CORRECTIONS["as estimated"](estimate, TRUTH) is estimate


def test_true_depth_keeps_the_line_of_sight():
    estimate = moved(along=0.2, across=0.1)
    corrected = CORRECTIONS["true depth"](estimate, TRUTH)
    assert np.linalg.norm(corrected.cam_t_obj) == pytest.approx(1.3, abs=1e-12)
    np.testing.assert_allclose(np.cross(corrected.cam_t_obj, estimate.cam_t_obj), 0, atol=1e-12)
