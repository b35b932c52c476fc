"""How a network runs: parts that stay in float32 while the rest is autocast, and batch norms that are folded."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import timm
import torch
from torch import nn

from sopose.core.engine.modes import keep_slow_parts_in_float32, without_batch_norms


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, stride=2, groups=8),
        nn.GroupNorm(2, 8),
        nn.Conv2d(8, 4, 1),
    )


def dtypes(model: nn.Sequential, x: torch.Tensor) -> list[torch.dtype]:
    """Of what each part gives."""
    seen = []
    with torch.autocast("cpu", torch.bfloat16):
        for part in model:
            x = part(x)
            seen.append(x.dtype)
    return seen


def test_depthwise_filters_and_group_norms_stay_in_float32():
    model, x = network(), torch.rand(2, 4, 9, 9)
    half, full = torch.bfloat16, torch.float32
    assert dtypes(model, x) == [half, half, half, half]
    keep_slow_parts_in_float32(model)
    assert dtypes(model, x) == [half, full, full, half]


@pytest.mark.parametrize("copied", [False, True])
def test_parameters_and_results_without_autocasting_stay(copied):
    model, x = network(), torch.rand(2, 4, 9, 9)
    expected, names = model(x), list(model.state_dict())
    keep_slow_parts_in_float32(model)
    changed = copy.deepcopy(model) if copied else model
    torch.testing.assert_close(changed(x), expected, rtol=0, atol=0)
    assert list(changed.state_dict()) == names and isinstance(changed[1], nn.Conv2d)


def test_a_copy_has_parameters_of_its_own():
    model, x = network(), torch.rand(2, 4, 9, 9)
    keep_slow_parts_in_float32(model)
    average = copy.deepcopy(model)
    before = average(x)
    with torch.no_grad():
        model[1].weight.add_(1)
    torch.testing.assert_close(average(x), before, rtol=0, atol=0)


def normed() -> nn.Sequential:
    """A network with a batch norm that has seen something."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8).eval()
    for values in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
        values.uniform_(0.5, 2)
    parts = {"conv": nn.Conv2d(3, 8, 3, bias=False), "norm": norm, "act": nn.ReLU(), "last": nn.Conv2d(8, 8, 1)}
    return nn.Sequential(OrderedDict(parts)).eval()


class LastFirst(nn.Sequential):
    """Convolves once more before it normalises, which the order of its parts doesn't show."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.last(self.conv(x))))


def norms_of(network: nn.Module) -> list[nn.Module]:
    return [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]


def test_a_network_without_batch_norms_says_the_same():
    model, x = normed(), torch.rand(2, 3, 9, 9)
    folded = without_batch_norms(model, x)
    assert not norms_of(folded) and norms_of(model)
    torch.testing.assert_close(folded(x), model(x), rtol=1e-5, atol=1e-6)


def test_norms_with_an_activation_keep_it():
    torch.manual_seed(0)
    model, x = timm.create_model("tf_efficientnet_lite0", features_only=True).eval(), torch.rand(1, 3, 64, 64)
    folded = without_batch_norms(model, x)
    assert not norms_of(folded)
    for found, wanted in zip(folded(x), model(x), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_norm_behind_another_convolution_stays():
    model, x = LastFirst(OrderedDict(normed().named_children())).eval(), torch.rand(2, 3, 9, 9)
    assert without_batch_norms(model, x) is model and norms_of(model)
