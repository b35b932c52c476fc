"""What checkpoints reach: the error of P, depth, and differences between recipes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sopose.batch import PredictedMaps, RoiTargets
from sopose.core.bop.results import Estimate
from sopose.core.geometry.pose import Pose
from sopose.training.curves import TargetResult, depth_error, differences, error_of_P, means

EXTENT = np.array([0.1, 0.2, 0.3])
TARGET = TargetResult(scene_id=1, im_id=0, gt_index=0, ad=0.05, mssd=0.12, mspd=7.0, P=0.004, depth=-0.02)


def maps_and_targets(P: torch.Tensor, true: torch.Tensor, rotations: torch.Tensor) -> tuple[PredictedMaps, RoiTargets]:
    """A ROI of which all but the first row of cells is visible."""
    visible = torch.ones(P.shape[1:])
    visible[0] = 0
    fields = dict.fromkeys(RoiTargets.__dataclass_fields__)
    targets = RoiTargets(**{**fields, "P": true, "mask_visib": visible, "symmetry_rotations": rotations})
    return PredictedMaps(visible, P, None, None, None), targets


def test_the_error_of_P_is_the_median_distance_where_the_object_is_seen():
    true = torch.full((3, 4, 4), 0.5)
    moved = true + torch.tensor([0.1, 0.0, 0.0])[:, None, None]  # a tenth of 0.1 m
    moved[:, 0] = 9.0
    maps, targets = maps_and_targets(moved, true, torch.eye(3)[None])
    assert error_of_P(maps, targets, EXTENT) == pytest.approx(0.01, abs=1e-6)


def test_of_symmetric_objects_the_best_P_counts():
    torch.manual_seed(0)
    true = torch.rand(3, 4, 4)
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    turned = 0.5 + half_turn @ (true - 0.5).flatten(1)
    maps, targets = maps_and_targets(turned.view(3, 4, 4), true, torch.eye(3)[None])
    assert error_of_P(maps, targets, EXTENT) > 0.01
    targets.symmetry_rotations = torch.stack([torch.eye(3), half_turn])
    assert error_of_P(maps, targets, EXTENT) == pytest.approx(0, abs=1e-6)


def test_what_is_not_seen_has_no_error():
    maps, targets = maps_and_targets(torch.zeros(3, 1, 4), torch.zeros(3, 1, 4), torch.eye(3)[None])
    assert np.isnan(error_of_P(maps, targets, EXTENT))


def test_depth_is_measured_along_the_line_of_sight():
    truth = Pose(np.eye(3), np.array([0.3, 0.0, 0.4]))
    estimate = Estimate(1, 0, 1, 1.0, Pose(np.eye(3), 1.1 * truth.cam_t_obj), 0.0)
    assert depth_error(estimate, truth) == pytest.approx(0.05)


def test_measures_are_in_their_units():
    found = means({0: [TARGET, replace(TARGET, im_id=1)]})
    assert {name: value.mean for name, value in found.items()} == pytest.approx(
        {
            "ADD(-S) 0.1 d, %": 100.0,
            "AR_MSSD, %": 80.0,  # 0.15, 0.20, … 0.50 of ten thresholds
            "AR_MSPD, %": 90.0,  # 10, 15, … 50 px
            "error of P, mm": 4.0,
            "depth bias, mm": -20.0,
        }
    )


def test_recipes_are_compared_target_by_target():
    """Where every target gains the same, the interval is that number, however much targets differ."""
    rng = np.random.default_rng(0)
    before = {s: [replace(TARGET, im_id=i, P=rng.uniform(0, 0.05)) for i in range(20)] for s in range(2)}
    after = {s: [replace(target, P=target.P - 0.001) for target in targets] for s, targets in before.items()}
    gained = differences(after, before)["error of P, mm"]
    assert (gained.mean, gained.low, gained.high) == pytest.approx((-1.0, -1.0, -1.0))
