"""How a network runs: in evaluation mode for a while, and with parts that stay in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, and then as it was.

    torch's random numbers go on as though nothing had been tested: a loader draws one for its workers.
    """
    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        model.train(training)


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
