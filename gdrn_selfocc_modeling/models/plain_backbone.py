"""Feature extractors of our own for CPUs: plain 3 x 3 convolutions, batch norms and ReLUs, strides 4, 8 and 16.

What makes a CPU fast at mixed precision are dense convolutions in channels-last order. Depthwise ones, group norms and
smooth activations read and write as much memory for a fraction of the arithmetic. A residual network of He et al.
(CVPR 2016), whose stem goes to stride 4 at once, as in ConvNeXt, and whose last stage stands at stride 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from sopose.models.layers.blocks import ResidualBlock

STEM_STRIDE = 4


@dataclass(frozen=True)
class PlainWidths:
    """A size of the network."""

    channels: tuple[int, ...]  # of each stage; each halves the resolution, from stride 4 on
    blocks: tuple[int, ...]  # residual blocks of each stage


PLAIN = {
    "plain": PlainWidths((64, 128, 256), (2, 2, 3)),
    # a third of the arithmetic: for CPUs without matrix units, where arithmetic is what takes the time
    "plain_light": PlainWidths((32, 96, 192), (1, 2, 3)),
}


class PlainBackbone(nn.Module):
    """Images (B, in_chans, H, W) -> maps (B, channels[i], H / 4 / 2^i, W / 4 / 2^i) for each i in `out_indices`.

    Stages behind the last of `out_indices` are left out.
    """

    def __init__(self, widths: PlainWidths, out_indices: Sequence[int], in_chans: int = 3) -> None:
        super().__init__()
        self.feature_info = PlainInfo(widths.channels, tuple(out_indices))
        first = widths.channels[0]
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, first, 7, stride=STEM_STRIDE, padding=3, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
        )
        stages, channels = [], first
        for place, (width, blocks) in enumerate(zip(widths.channels, widths.blocks, strict=True)):
            if place > max(out_indices):
                break
            strides = [2 if place else 1, *[1] * (blocks - 1)]
            stages.append(
                nn.Sequential(*(ResidualBlock(width if n else channels, width, s) for n, s in enumerate(strides)))
            )
            channels = width
        self.stages = nn.ModuleList(stages)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> list[Tensor]:
        x, maps = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [maps[index] for index in self.feature_info.out_indices]


@dataclass(frozen=True)
class PlainInfo:
    """Channels, strides and modules of the maps that come out, under the names that timm's `feature_info` has."""

    stage_channels: tuple[int, ...]
    out_indices: tuple[int, ...]

    @property
    def info(self) -> list[dict[str, str]]:
        """The module at whose end each stage is."""
        return [{"module": f"stages.{place}"} for place in range(len(self.stage_channels))]

    def channels(self) -> list[int]:
        """Channels of the chosen maps."""
        return [self.stage_channels[index] for index in self.out_indices]

    def reduction(self) -> list[int]:
        """Their strides."""
        return [STEM_STRIDE * 2**index for index in self.out_indices]
