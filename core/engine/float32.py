"""Parts of a network that compute in float32 while the rest is autocast to half precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _Float32(nn.Module):
    """Stands before a module's own class."""

    def forward(self, x: Tensor) -> Tensor:
        """What the class makes of `x`, of any type and shape, in float32."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def keep_slow_parts_in_float32(network: nn.Module) -> None:
    """Exempt from autocasting what a CPU computes slower in bfloat16: group norms and depthwise convolutions.

    Their backward passes take several times as long in bfloat16, which would lose more than the other convolutions
    win. Names and values of parameters stay.
    """
    for module in network.modules():
        if isinstance(module, nn.GroupNorm) or is_depthwise(module):
            kind = type(module)
            module.__class__ = type(f"Float32{kind.__name__}", (_Float32, kind), {})


def is_depthwise(module: nn.Module) -> bool:
    """Whether it is a convolution that filters each channel by itself."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
