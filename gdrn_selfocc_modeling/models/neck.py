"""Between backbone and heads: coarse features handed down to finer maps."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


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
