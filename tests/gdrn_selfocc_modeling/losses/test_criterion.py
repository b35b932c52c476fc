"""Laws of the losses as a whole: the truth costs nothing, weights and epochs count, one ROI counts too."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from sopose.core.utils.errors import UserError
from sopose.layers import bin_labels
from tests.support.builders import criterion_of

ZERO_AT_TRUTH = [
    "loss_coor_x",
    "loss_coor_y",
    "loss_coor_z",
    "loss_mask",
    "loss_Q0_x",
    "loss_Q0_y",
    "loss_Q0_z",
    "loss_q_def",
    "loss_ct",
    "loss_ct_pro",
    "loss_PM_R",
    "loss_centroid",
    "loss_z",
]
LOSSES = "MODEL.POSE_NET.LOSS_CFG"


def test_truth_costs_nothing(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(4)
    losses = criterion_of(make_config())(predict_truth(targets), batch, targets, epoch=40)
    assert set(losses) == {*ZERO_AT_TRUTH, "loss_region"}
    for name in ZERO_AT_TRUTH:
        # float32: pixels of 600 are known to 6e-5, over a focal length of 600 and times a weight of 10
        assert abs(float(losses[name])) < 5e-6, name


@pytest.mark.parametrize("count", [1, 3])
def test_errors_cost_something_at_any_batch_size(count, make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(count, seed=1, out=64)
    wrong = predict_truth(targets)
    turn = torch.tensor([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    wrong.cam_R_obj = wrong.cam_R_obj @ turn
    wrong.xyz += 0.1
    wrong.q += 0.1
    wrong.trans_raw += 0.1
    wrong.mask += 0.1
    losses = criterion_of(make_config())(wrong, batch, targets, epoch=40)
    cheap = {name: float(value) for name, value in losses.items() if float(value) < 1e-3}
    assert not cheap


def test_constant_errors_are_their_own_mean(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(3)
    prediction = predict_truth(targets)
    prediction.xyz += torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    prediction.q += 0.05
    prediction.mask += 0.25
    prediction.trans_raw += torch.tensor([0.1, 0.3, -0.4])
    losses = criterion_of(make_config())(prediction, batch, targets, epoch=1)
    expected = {"loss_coor_x": 0.1, "loss_coor_y": 0.2, "loss_coor_z": 0.3, "loss_mask": 0.25}
    expected |= {name: 0.1 for name in ("loss_Q0_x", "loss_Q0_y", "loss_Q0_z")}  # two numbers a plane
    expected |= {"loss_centroid": 0.2, "loss_z": 0.4}
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-5), name


def test_cross_layer_losses_start_after_their_share_of_epochs(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(1)
    criterion = criterion_of(make_config("SOLVER.TOTAL_EPOCHS=10", "TRAIN.CT_START=0.2", "TRAIN.CT_P_START=0.5"))
    names = [set(criterion(predict_truth(targets), batch, targets, epoch)) for epoch in (2, 3, 5, 6)]
    assert ["loss_ct" in found for found in names] == [False, True, True, True]
    assert ["loss_ct_pro" in found for found in names] == [False, False, False, True]


def test_weights_scale_and_zero_leaves_out(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(2)
    prediction = predict_truth(targets)
    prediction.xyz += 0.1
    losses = criterion_of(make_config(f"{LOSSES}.XYZ_LW=3.0", f"{LOSSES}.REGION_LW=0.0"))(
        prediction, batch, targets, epoch=1
    )
    assert float(losses["loss_coor_x"]) == pytest.approx(0.3, rel=1e-5)
    assert "loss_region" not in losses


def test_nothing_visible_is_zero_with_finite_gradients(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(2)
    for name in ("mask_obj", "mask_visib", "mask_trunc", "mask_erode", "q_mask"):
        setattr(targets, name, torch.zeros_like(getattr(targets, name)))
    prediction = predict_truth(targets).map(lambda x: x.requires_grad_())
    losses = criterion_of(make_config())(prediction, batch, targets, epoch=40)
    for name in ("loss_coor_x", "loss_Q0_x", "loss_q_def", "loss_ct", "loss_ct_pro"):
        assert float(losses[name].detach()) == 0, name
    sum(losses.values()).backward()
    for field in ("xyz", "q", "cam_R_obj", "cam_t_obj"):
        assert getattr(prediction, field).grad.isfinite().all(), field


def test_a_plane_with_few_cells_does_not_count(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(1)
    targets.q_mask[:] = 0
    targets.q_mask[:, 0, 0, :19] = 1
    targets.q_mask[:, 1, 0, :20] = 1
    prediction = predict_truth(targets)
    prediction.q += 1
    losses = criterion_of(make_config())(prediction, batch, targets, epoch=1)
    assert float(losses["loss_Q0_x"]) == 0
    assert float(losses["loss_Q0_y"]) == pytest.approx(2, rel=1e-5)


def test_pixel_losses_are_in_focal_lengths(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(2)
    targets.pixel += 6  # f_x is 600: 0.01 focal lengths on either coordinate and each of three planes
    weights = [f"{LOSSES}.Q0_DEF_LW=1.0", f"{LOSSES}.CT_P_LW=1.0"]
    losses = criterion_of(make_config(*weights))(predict_truth(targets), batch, targets, epoch=40)
    assert float(losses["loss_q_def"]) == pytest.approx(0.03, rel=1e-3)
    assert float(losses["loss_ct_pro"]) == pytest.approx(0.02, rel=1e-3)
    constant = criterion_of(make_config(*weights, f"{LOSSES}.FOCAL_NORM='lm'"))
    ancestor = constant(predict_truth(targets), batch, targets, epoch=40)
    assert float(ancestor["loss_q_def"]) == pytest.approx(0.03 * 600 / 572.5, rel=1e-3)
    assert float(ancestor["loss_ct_pro"]) == pytest.approx(0.02 * 600 / 572.3, rel=1e-3)


def test_half_precision_predictions_are_compared_in_float32(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(2)
    prediction = predict_truth(targets)
    prediction.xyz = prediction.xyz.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = criterion_of(make_config())(prediction, batch, targets, epoch=40)
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert abs(float(losses["loss_PM_R"])) < 1e-6


def test_pose_losses_by_their_names(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(2)
    prediction = predict_truth(targets)
    prediction.cam_t_obj = prediction.cam_t_obj + torch.tensor([0.03, 0.01, -0.02])
    on = [f"{LOSSES}.{key}=1.0" for key in ("ROT_LW", "TRANS_LW", "BIND_LW")]
    losses = criterion_of(make_config(*on))(prediction, batch, targets, epoch=1)
    assert float(losses["loss_rot"]) == pytest.approx(0, abs=1e-6)
    assert float(losses["loss_trans_xy"]) == pytest.approx(0.02, rel=1e-4)
    assert float(losses["loss_trans_z"]) == pytest.approx(0.02, rel=1e-4)
    shift = (targets.cam_R_obj.mT @ (prediction.cam_t_obj - targets.cam_t_obj)[..., None]).abs().mean()
    assert float(losses["loss_bind"]) == pytest.approx(float(shift), rel=1e-4)
    together = criterion_of(make_config(*on, f"{LOSSES}.TRANS_LOSS_DISENTANGLE=False"))
    assert float(together(prediction, batch, targets, 1)["loss_trans_LPnP"]) == pytest.approx(0.02, rel=1e-4)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([f"{LOSSES}.XYZ_LOSS_TYPE='L7'"], "XYZ_LOSS_TYPE.*'L7'.*CE_coor"),
        ([f"{LOSSES}.MASK_LOSS_GT='amodal'"], "MASK_LOSS_GT.*'amodal'.*erode"),
        ([f"{LOSSES}.PM_LOSS_TYPE='L3'"], "'L3'.*smooth_l1"),
        ([f"{LOSSES}.OCC_LW=1.0"], "OCC_LW.*OCCMASK_AWARE"),
        (["MODEL.POSE_NET.PNP_NET.TRANS_TYPE='trans'"], "CENTROID_LW.*'trans'"),
    ],
)
def test_unknown_choices_are_reported(overrides, words, make_config):
    with pytest.raises(UserError, match=words):
        criterion_of(make_config(*overrides))


def test_learned_weights_start_at_one_and_settle_at_balance(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(2)
    prediction = predict_truth(targets)
    prediction.xyz += 0.1
    criterion = criterion_of(make_config("MODEL.POSE_NET.USE_MTL=True"))
    fixed = criterion_of(make_config())(prediction, batch, targets, epoch=40)
    losses = criterion(prediction, batch, targets, epoch=40)
    for name, value in fixed.items():
        assert float(losses[name].detach()) == pytest.approx(float(value) + math.log(2), rel=1e-5), name
    losses["loss_coor_x"].backward()
    slopes = dict(zip(criterion.names, criterion.log_variance.grad.tolist(), strict=True))
    assert slopes.pop("loss_coor_x") == pytest.approx(0.5 - 0.1, rel=1e-5)
    assert set(slopes.values()) == {0}


def test_single_layer_baseline_has_no_second_layer_losses(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(1)
    prediction = predict_truth(targets)
    prediction.q = None
    criterion = criterion_of(make_config("MODEL.POSE_NET.SELFOCC_HEAD.ENABLED=False"))
    losses = criterion(prediction, batch, targets, epoch=40)
    assert not [name for name in losses if "Q0" in name or "ct" in name or "q_def" in name]


def test_symmetric_rois_are_compared_as_the_camera_sees_them(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(2)
    half_turn = torch.diag(torch.tensor([-1.0, -1, 1]))
    targets.symmetry_rotations = torch.stack([torch.eye(3), half_turn]).expand(2, 2, 3, 3)
    prediction = predict_truth(targets)
    # The other name of the same view: R S with P, Q turned by S, x -> -x and y -> -y
    prediction.cam_R_obj = targets.cam_R_obj @ half_turn
    flip = torch.tensor([-1.0, -1, 1])
    prediction.xyz = (targets.P - 0.5) * flip[:, None, None] + 0.5
    prediction.q = (targets.Q - 0.5) * torch.tensor([-1.0, 1, -1, 1, -1, -1])[:, None, None] + 0.5
    on = [f"{LOSSES}.HANDLE_SYM=True", f"{LOSSES}.PM_LOSS_SYM=True", f"{LOSSES}.PM_NORM_BY_EXTENT=True"]
    losses = criterion_of(make_config(*on))(prediction, batch, targets, epoch=1)
    assert not [name for name in losses if name.startswith("loss_Q0_")]
    for name in ("loss_coor_x", "loss_coor_y", "loss_coor_z", "loss_Q0", "loss_PM_R"):
        assert abs(float(losses[name])) < 1e-6, name


def certain_logits(labels: torch.Tensor, bins: int = 64) -> torch.Tensor:
    """(B, C, H, W) labels as (B, C (bins + 1), H, W) logits of a network that has no doubt."""
    return 40 * torch.nn.functional.one_hot(labels, bins + 1).movedim(-1, 2).flatten(1, 2).float()


def test_classified_layers_cost_least_at_the_true_bins(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(2)
    prediction = predict_truth(targets)
    prediction.xyz = certain_logits(bin_labels(targets.P, targets.mask_obj[:, None].expand_as(targets.P), 64))
    prediction.q = certain_logits(bin_labels(targets.Q, torch.ones_like(targets.Q), 64))
    criterion = criterion_of(make_config(f"{LOSSES}.XYZ_LOSS_TYPE='CE_coor'"))
    losses = criterion(prediction, batch, targets, epoch=40)
    # every cell outside a mask adds ln 65
    for name, mask, count in (
        ("loss_coor_y", targets.mask_erode, 1),
        ("loss_Q0_z", targets.q_mask[:, 2], 2),
    ):
        outside = count * (1 - mask).sum() / mask.sum()
        assert float(losses[name]) == pytest.approx(float(outside) * math.log(65), rel=1e-4), name
    # What ties the layers together sees the middles of the bins: half a bin of 16 cm is 1.25 mm off at most.
    assert float(losses["loss_ct"]) / 10 < 2e-3
    assert float(losses["loss_q_def"]) / 10 < 2e-2


def test_a_wrong_bin_of_either_layer_costs_more(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(2)
    right = predict_truth(targets)
    right.xyz = certain_logits(bin_labels(targets.P, torch.ones_like(targets.P), 64))
    right.q = certain_logits(bin_labels(targets.Q, torch.ones_like(targets.Q), 64))
    wrong = replace(right, xyz=right.xyz.roll(1, 1), q=right.q.roll(1, 1))
    criterion = criterion_of(make_config(f"{LOSSES}.XYZ_LOSS_TYPE='CE_coor'", f"{LOSSES}.Q0_LOSS_TYPE='CE_coor'"))
    at_truth, off = (criterion(prediction, batch, targets, epoch=1) for prediction in (right, wrong))
    for name in ("loss_coor_x", "loss_coor_y", "loss_coor_z", "loss_Q0_x", "loss_Q0_y", "loss_Q0_z"):
        assert float(off[name]) > float(at_truth[name]) + 10, name


HEADS = "MODEL.POSE_NET"
SCALED = (f"{HEADS}.GEO_HEAD.XYZ_SCALE=True", f"{HEADS}.SELFOCC_HEAD.Q0_SCALE=True", f"{LOSSES}.FIT_LW=1.0")


def unsure(prediction, log_scale: float):
    """The prediction of a network that says everywhere how far its coordinates may be off."""
    size = prediction.xyz.shape[0], 3, *prediction.xyz.shape[2:]
    scales = torch.full(size, log_scale)
    return replace(prediction, xyz_log_scale=scales[:, :1], q_log_scale=scales)


def test_coordinates_with_scales_are_cheapest_at_their_own_errors(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(3)
    criterion = criterion_of(make_config(*SCALED))
    wrong = predict_truth(targets)
    wrong.xyz += 0.1
    wrong.q += 0.1

    def costs(scale: float) -> dict[str, float]:
        return {name: float(x) for name, x in criterion(unsure(wrong, math.log(scale)), batch, targets, 1).items()}

    # Of errors e the best scale is e, where |e| / b + log b is 1 + log e; of a plane of Q two numbers are summed.
    for name, numbers in (("loss_coor_x", 1), ("loss_Q0_y", 2)):
        assert costs(0.1)[name] == pytest.approx(numbers * (1 + math.log(0.1)), rel=1e-4)
        assert costs(0.1)[name] < min(costs(0.08)[name], costs(0.125)[name])


def test_the_loss_of_the_fit_is_that_of_the_pose_it_leads_to(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(4)
    criterion = criterion_of(make_config(*SCALED))
    exact = unsure(predict_truth(targets), -4.0)
    assert float(criterion(exact, batch, targets, 1)["loss_fit"]) < 1e-2
    # An object that is predicted too large by 1 % is seen too near: P scaled about the origin moves the pose's depth.
    larger = replace(exact, xyz=0.5 + 1.01 * (exact.xyz - 0.5))
    depth_alone = math.log1p(1.0)  # 1 % of the distance is one unit of the loss
    assert float(criterion(larger, batch, targets, 1)["loss_fit"]) == pytest.approx(depth_alone, rel=0.2)
    wrong = replace(exact, xyz=(exact.xyz + 0.02).requires_grad_())
    before = criterion(wrong, batch, targets, 1)["loss_fit"]
    before.backward()
    inside = (targets.mask_visib > 0)[:, None].expand_as(wrong.xyz)
    assert wrong.xyz.grad.isfinite().all() and not wrong.xyz.grad[~inside].any()
    step = replace(wrong, xyz=wrong.xyz.detach() - 1e-3 * wrong.xyz.grad / wrong.xyz.grad.abs().max())
    assert criterion(step, batch, targets, 1)["loss_fit"] < before


def test_nothing_visible_leaves_the_fit_where_it_is(make_config, make_ellipsoids, predict_truth):
    batch, targets = make_ellipsoids(2)
    targets = replace(targets, mask_visib=torch.zeros_like(targets.mask_visib))
    prediction = unsure(predict_truth(targets), -4.0).map(lambda x: x.requires_grad_())
    loss = criterion_of(make_config(*SCALED))(prediction, batch, targets, 1)["loss_fit"]
    loss.backward()
    assert float(loss.detach()) < 1e-3 and prediction.xyz.grad.isfinite().all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((f"{HEADS}.GEO_HEAD.XYZ_SCALE=True", f"{LOSSES}.HANDLE_SYM=True"), "XYZ_SCALE needs.*HANDLE_SYM False"),
        ((f"{HEADS}.SELFOCC_HEAD.Q0_SCALE=True", f"{LOSSES}.HANDLE_SYM=True"), "Q0_SCALE needs.*HANDLE_SYM False"),
        ((f"{LOSSES}.FIT_LW=1.0",), "FIT_LW is above 0 but GEO_HEAD.XYZ_SCALE is False"),
    ],
)
def test_scales_go_with_plain_coordinates(make_config, words, message):
    with pytest.raises(UserError, match=message):
        criterion_of(make_config(*words))
