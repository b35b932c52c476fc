"""Parts that stay in float32 while the rest is autocast."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sopose.core.engine.modes import keep_slow_parts_in_float32


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
