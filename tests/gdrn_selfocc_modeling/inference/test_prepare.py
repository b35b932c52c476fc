"""A network that is made ready says the same: in float32 but for rounding, in bfloat16 but for a little more."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sopose.export.onnx_check import differences, made_up_rois
from sopose.inference import prepare
from sopose.inference.estimator import PoseEstimator
from sopose.inference.prepare import Autocast, prepared

CPU = torch.device("cpu")
HALF_DEGREES, HALF_METRES = 0.3, 1e-3  # medians over noise, on which a network is less sure than on objects


@pytest.fixture(scope="module")
def estimator(repository) -> PoseEstimator:
    return PoseEstimator.from_checkpoint(repository / "configs" / "gdrn_selfocc" / "toy" / "demo.safetensors", "cpu")


def ready(estimator: PoseEstimator, half: bool) -> nn.Module:
    return prepared(estimator.network.model, CPU, estimator.crops.roi.input_res, half)


def types_of(network: nn.Module) -> set[torch.dtype]:
    return {value.dtype for value in network.parameters()}


def test_without_batch_norms_it_says_the_same(estimator):
    network = ready(estimator, half=False)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in network.backbone.modules())
    found = differences(estimator.network.model, network, [made_up_rois(estimator, 8)])
    assert found.small, found.largest()


def test_heads_in_bfloat16_move_poses_little(estimator, monkeypatch):
    monkeypatch.setattr(prepare, "has_fast_bfloat16", lambda: True)
    network = ready(estimator, half=True)
    found = differences(estimator.network.model, network, [made_up_rois(estimator, 32)])
    assert 0 < np.median(found.angles) < HALF_DEGREES and 0 < np.median(found.shifts) < HALF_METRES
    assert types_of(network.backbone) == types_of(network.pnp_net) == {torch.float32}
    assert torch.bfloat16 in types_of(network.geo_head_net) & types_of(network.selfocc_head_net)
    assert types_of(estimator.network.model) == {torch.float32}
    prediction = network(made_up_rois(estimator, 2))
    assert {values.dtype for values in vars(prediction).values() if values is not None} == {torch.float32}


def test_a_processor_without_the_arithmetic_stays_in_float32(estimator, monkeypatch):
    monkeypatch.setattr(prepare, "has_fast_bfloat16", lambda: False)
    assert types_of(ready(estimator, half=True)) == {torch.float32}


def test_the_setting_reaches_the_estimator(estimator, repository, monkeypatch):
    monkeypatch.setattr(prepare, "has_fast_bfloat16", lambda: True)
    path = repository / "configs" / "gdrn_selfocc" / "toy" / "demo.safetensors"
    half = PoseEstimator.from_checkpoint(path, "cpu", ["TEST.AMP_TEST=True"])
    rois = made_up_rois(estimator, 4)
    wanted = ready(estimator, half=True)(rois)
    torch.testing.assert_close(half.network(rois.arrays()).tensors().cam_t_obj, wanted.cam_t_obj, rtol=0, atol=1e-6)
    assert not torch.equal(estimator.network(rois.arrays()).tensors().cam_t_obj, wanted.cam_t_obj)


def test_on_another_device_all_but_the_pose_is_autocast(estimator):
    network = Autocast(estimator.network.model, CPU)
    prediction = network(made_up_rois(estimator, 2))
    assert prediction.xyz.dtype == torch.bfloat16 and prediction.cam_t_obj.dtype == torch.float32
    assert isinstance(prepared(estimator.network.model, torch.device("cuda"), 96, half=True), Autocast)
    assert prepared(estimator.network.model, torch.device("cuda"), 96) is estimator.network.model


def test_networks_of_another_kind_stay(estimator):
    other = nn.Identity()
    assert prepared(other, CPU, 64, half=True) is other
