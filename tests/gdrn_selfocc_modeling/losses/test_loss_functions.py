"""Laws of single losses, and their gradients in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sopose.core.geometry.rotation import lie_vec_to_matrix, random_rotation
from sopose.layers import denormalise_P, denormalise_Q
from sopose.losses.cross_layer import (
    cross_projection_loss,
    cross_task_loss,
    cross_task_residual,
    plane_reprojection_loss,
    project_map,
    to_camera,
)
from sopose.losses.dense import (
    bin_cross_entropy,
    mask_loss,
    masked_mean,
    region_loss,
    self_occlusion_l1,
    xyz_l1,
)
from sopose.losses.point_matching import PointMatching, angular_loss, bind_loss, make_distance
from sopose.losses.symmetry import closest_rotation, is_symmetric

F64 = torch.float64


def rotations(count: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([random_rotation(rng) for _ in range(count)]))


def test_masked_mean_ignores_what_is_outside():
    x = torch.tensor([1.0, 3.0, torch.inf, torch.nan])
    assert float(masked_mean(x, torch.tensor([1.0, 1, 0, 0]))) == 2
    assert float(masked_mean(x, torch.zeros(4))) == 0


def test_region_loss_adds_the_constant_outside():
    region = torch.randn(2, 65, 4, 4)
    mask = torch.zeros(2, 4, 4)
    mask[:, :2] = 1
    label = torch.zeros(2, 4, 4, dtype=torch.long)
    everywhere = region_loss(torch.zeros_like(region), label, mask)
    assert float(everywhere) == pytest.approx(2 * math.log(65), rel=1e-6)


def test_points_of_a_rotated_rod():
    points = torch.tensor([[[1.0, 0, 0], [-1, 0, 0]]], dtype=F64)
    quarter = lie_vec_to_matrix(torch.tensor([[0, 0, math.pi / 2]], dtype=F64))
    identity, origin = torch.eye(3, dtype=F64)[None], torch.zeros(1, 3, dtype=F64)
    extent = torch.tensor([[2.0, 1, 1]], dtype=F64)
    plain = PointMatching(make_distance("L1"), norm_by_extent=False, parts="R")
    (value,) = plain((quarter, origin), (identity, origin), points, extent)
    assert float(value) == pytest.approx(2, rel=1e-12)  # |(0,1,0) - (1,0,0)|_1
    scaled = PointMatching(make_distance("L1"), norm_by_extent=True, parts="R")
    (value,) = scaled((quarter, origin), (identity, origin), points, extent)
    assert float(value) == pytest.approx(1, rel=1e-12)
    euclid = PointMatching(make_distance("L2"), norm_by_extent=False, parts="R")
    (value,) = euclid((quarter, origin), (identity, origin), points, extent)
    assert float(value) == pytest.approx(3 * math.sqrt(2), rel=1e-12)


@pytest.mark.parametrize(
    ("parts", "use_points", "expected"),
    [
        ("RT", True, {"loss_PM_RT": 0.06}),
        ("R/T", True, {"loss_PM_R": 0, "loss_PM_T": 0.06}),
        ("R/xy/z", True, {"loss_PM_R": 0, "loss_PM_xy": 0.05, "loss_PM_z": 0.01}),
        ("R/T", False, {"loss_PM_R": 0, "loss_PM_T_noP": 0.02}),
        ("R/xy/z", False, {"loss_PM_R": 0, "loss_PM_xy_noP": 0.025, "loss_PM_z_noP": 0.01}),
    ],
)
def test_a_pure_shift_costs_its_length(parts, use_points, expected):
    R, t = rotations(2), torch.tensor([[0, 0, 0.5], [0, 0.1, 0.6]], dtype=F64)
    points = torch.randn(2, 10, 3, dtype=F64)
    shifted = t + torch.tensor([0.02, 0.03, -0.01], dtype=F64)
    matching = PointMatching(make_distance("L1"), False, parts, use_points)
    values = matching((R, shifted), (R, t), points, torch.ones(2, 3, dtype=F64))
    for (name, value), found in zip(expected.items(), values, strict=True):
        assert float(found) == pytest.approx(value, abs=1e-12), name
    assert matching.names == tuple(expected)


def test_symmetric_matching_does_not_see_the_symmetry():
    R_pred, R_true = rotations(4, 1), rotations(4, 2)
    angles = 2 * math.pi * torch.arange(6, dtype=F64) / 6
    group = lie_vec_to_matrix(torch.stack([0 * angles, 0 * angles, angles], -1)).expand(4, 6, 3, 3)
    closest = closest_rotation(R_pred, R_true, group)
    for k in range(6):
        again = closest_rotation(R_pred, R_true @ group[:, k], group)
        torch.testing.assert_close(again, closest, rtol=0, atol=1e-12)
    # no candidate is nearer
    loss = angular_loss(R_pred, closest)
    assert all(loss <= angular_loss(R_pred, R_true @ group[:, k]) + 1e-12 for k in range(6))


def test_only_other_rotations_make_a_symmetry():
    identity = torch.eye(3).expand(2, 3, 3, 3).clone()
    identity[1, 2] = torch.diag(torch.tensor([-1.0, -1, 1]))
    assert is_symmetric(identity).tolist() == [False, True]


def test_angular_loss_runs_from_zero_to_one():
    R = rotations(3)
    half_turn = torch.diag(torch.tensor([1.0, -1, -1], dtype=F64))
    assert float(angular_loss(R, R)) == pytest.approx(0, abs=1e-12)
    assert float(angular_loss(R @ half_turn, R)) == pytest.approx(1, rel=1e-12)


def test_residual_vanishes_on_the_ray():
    """Q = λ P with λ = (n·t) / (n·P) is on P's ray and on the plane through the object's origin."""
    R, t = rotations(2), torch.tensor([[0.1, 0, 0.5], [0, 0.1, 0.6]], dtype=F64)
    P_cam = torch.randn(2, 3, 4, 4, dtype=F64) * 0.05 + t[:, :, None, None]
    n_dot_t = torch.einsum("bik,bi->bk", R, t)[..., None, None]
    Q_cam = (n_dot_t / torch.einsum("bik,bihw->bkhw", R, P_cam))[:, :, None] * P_cam[:, None]
    residual = cross_task_residual(P_cam, Q_cam, R, t)
    torch.testing.assert_close(residual, torch.zeros_like(residual), rtol=0, atol=1e-15)


def test_denormalised_planes_pass_through_the_origin():
    q = torch.arange(6, dtype=F64).view(1, 6, 1, 1) + 0.5
    Q = denormalise_Q(q, torch.tensor([[1.0, 10, 100]], dtype=F64))[0, :, :, 0, 0]
    expected = [[0, 0, 100], [2, 0, 300], [4, 50, 0]]
    assert Q.tolist() == expected


@pytest.fixture
def maps() -> dict[str, torch.Tensor]:
    """Small float64 maps away from kinks, for gradients."""
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, dtype=F64, generator=generator)

    return {
        "P": rand(2, 3, 3, 3),
        "Q": rand(2, 6, 3, 3),
        "P_true": rand(2, 3, 3, 3) + 2,
        "Q_true": rand(2, 6, 3, 3) + 2,
        "mask": (rand(2, 3, 3) > 0.3).double(),
        "q_mask": (rand(2, 3, 3, 3) > 0.3).double(),
        "pixel": 600 * rand(2, 2, 3, 3),
        "extent": rand(2, 3) + 0.1,
        "logits": rand(2, 5, 3, 3),
        "label": torch.randint(0, 5, (2, 3, 3), generator=generator),
        "t": rand(2, 3) + torch.tensor([0, 0, 3.0]),
        "K": torch.tensor([[600.0, 0, 320], [0, 590, 240], [0, 0, 1]], dtype=F64).expand(2, 3, 3),
    }


def check(function, *inputs: torch.Tensor) -> None:
    inputs = tuple(x.detach().clone().requires_grad_() for x in inputs)
    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-5)


def test_gradients_of_dense_losses(maps):
    m = maps
    check(lambda P: xyz_l1(P, m["P_true"], m["mask"]), m["P"])
    check(lambda q: self_occlusion_l1(q, m["Q_true"], m["q_mask"], 1), m["Q"])
    check(lambda x: region_loss(x, m["label"], m["mask"]), m["logits"])
    check(lambda x: mask_loss(x[:, :1], m["mask"] + 2, "L1"), m["logits"])
    check(lambda x: mask_loss(x[:, :1], m["mask"], "BCE"), m["logits"])
    check(lambda x: mask_loss(x[:, :2], m["mask"], "CE"), m["logits"])
    bins = torch.cat([m["logits"]] * 3, dim=1)
    check(lambda x: bin_cross_entropy(x, m["P"], m["mask"][:, None], m["mask"][:, None]), bins)


def test_gradients_of_cross_layer_losses(maps):
    m = maps

    def poses(rotvec, t):
        return lie_vec_to_matrix(rotvec), t

    def task(P, q, rotvec, t):
        P_obj, Q_obj = denormalise_P(P, m["extent"]), denormalise_Q(q, m["extent"])
        return cross_task_loss(P_obj, Q_obj, m["q_mask"], *poses(rotvec, t))

    def projection(P, q, rotvec, t):
        pose = poses(rotvec, t)
        P_uv = project_map(to_camera(denormalise_P(P, m["extent"]), *pose), m["K"])
        Q_uv = project_map(to_camera(denormalise_Q(q, m["extent"]), *pose), m["K"])
        value = cross_projection_loss(P_uv, Q_uv, m["pixel"], m["q_mask"], torch.tensor(600.0))
        return value + plane_reprojection_loss(Q_uv, m["pixel"], m["q_mask"], torch.tensor(600.0))

    rotvec = torch.tensor([[0.3, -0.2, 0.5], [1.0, 0.4, -0.1]], dtype=F64)
    check(task, m["P"], m["Q"], rotvec, m["t"])
    check(projection, m["P"], m["Q"], rotvec, m["t"])


@pytest.mark.parametrize("name", ["L1", "L2", "MSE", "smooth_l1"])
@pytest.mark.parametrize("parts", ["RT", "R/xy/z"])
def test_gradients_of_pose_losses(name, parts, maps):
    distance = make_distance(name)
    points = torch.linspace(-1, 1, 30, dtype=F64).view(2, 5, 3) ** 2
    true = rotations(2), maps["t"] + 0.3
    matching = PointMatching(distance, True, parts)

    def total(rotvec, t):
        pred = lie_vec_to_matrix(rotvec), t
        values = matching(pred, true, points, maps["extent"])
        return sum(values) + bind_loss(pred, true, distance) + angular_loss(pred[0], true[0])

    check(total, torch.tensor([[0.3, -0.2, 0.5], [1.0, 0.4, -0.1]], dtype=F64), maps["t"])
