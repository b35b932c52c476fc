"""Between backbone and heads: coarse features handed down to finer maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sopose.core.utils.errors import UserError
from sopose.models.layers.blocks import ResidualBlock

MOST_BLOCKS = 64  # of a map; settings of a file may ask for any number


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

    Args:
        in_channels, out_channels: as of `FeaturePyramid`. Each map has half the size of the one before.
        blocks: residual blocks of each of these maps, behind what joins it; () for none. Each leaves its map as it is
            until it has learned something, so that they can be added to a network that has learned.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, blocks: Sequence[int] = ()) -> None:
        super().__init__()
        if len(blocks) not in (0, len(in_channels)) or not all(0 <= count <= MOST_BLOCKS for count in blocks):
            raise UserError(
                f"MODEL.POSE_NET.NECK.INIT_CFG.blocks is {tuple(blocks)}, wanted a number up to {MOST_BLOCKS} "
                f"for each of the {len(in_channels)} maps, the finest first, or ()"
            )
        self.lateral = nn.ModuleList(_convolved(channels, out_channels, 1) for channels in in_channels)
        self.mix = nn.ModuleList(_convolved(out_channels, out_channels, 3) for _ in in_channels[1:])
        self.blocks = nn.ModuleList(
            nn.Sequential(*(_silent_block(out_channels) for _ in range(count)))
            for count in blocks or [0] * len(in_channels)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, in_channels[i], h / 2^i, w / 2^i), the finest first -> [(B, out_channels, h, w)]."""
        x = self.blocks[-1](torch.relu(self.lateral[-1](features[-1])))
        for place in reversed(range(len(self.mix))):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = torch.relu(self.mix[place](torch.relu(self.lateral[place](features[place]) + x)))
            x = self.blocks[place](x)
        return [x]


def _silent_block(channels: int) -> ResidualBlock:
    """A block that gives back what it gets, none of that being negative: its last norm's scale is 0 (Goyal et al.)."""
    block = ResidualBlock(channels, channels, stride=1)
    nn.init.zeros_(block.bn2.weight)
    return block


def _convolved(in_dim: int, out_dim: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_dim, out_dim, kernel_size, padding=kernel_size // 2, bias=False), nn.BatchNorm2d(out_dim)
    )
