"""Between backbone and heads: coarse features handed down to finer maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FeaturePyramid(nn.Module):
    """Lin et al., CVPR 2017: each map is summed with the next coarser one, all get the same channels.

    Args:
        in_channels: of the backbone's maps, from the finest to the coarsest.
        out_channels: of every map that comes out.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        from torchvision.ops import FeaturePyramidNetwork

        super().__init__()
        self.pyramid = FeaturePyramidNetwork([*in_channels], out_channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, in_channels[i], h_i, w_i), the finest first -> (B, out_channels, h_i, w_i) each."""
        return [*self.pyramid({str(level): x for level, x in enumerate(features)}).values()]


class TopDownPath(nn.Module):
    """The finest map alone, with what the coarser ones know added on the way up; after the pyramid of Lin et al.

    Args: as of `FeaturePyramid`. Each map has half the size of the one before.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_convolved(channels, out_channels, 1) for channels in in_channels)
        self.mix = nn.ModuleList(_convolved(out_channels, out_channels, 3) for _ in in_channels[1:])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, in_channels[i], h / 2^i, w / 2^i), the finest first -> [(B, out_channels, h, w)]."""
        x = torch.relu(self.lateral[-1](features[-1]))
        for place in reversed(range(len(self.mix))):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = torch.relu(self.mix[place](torch.relu(self.lateral[place](features[place]) + x)))
        return [x]


def _convolved(in_dim: int, out_dim: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_dim, out_dim, kernel_size, padding=kernel_size // 2, bias=False), nn.BatchNorm2d(out_dim)
    )
