"""Patch-PnP: rotation and translation regressed from the dense maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sopose.core.utils.errors import UserError
from sopose.core.utils.registry import Registry
from sopose.models.layers.blocks import init_normal, make_activation, make_norm

MASK_ATTENTIONS = ("none", "concat", "mul")
LINEAR_INITS = ("normal", "kaiming")
# statistics over the cells that stand for a map: (B, C, cells) -> (B, C) each
POOLS: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "avg": (lambda x: x.mean(-1),),
    "avg-max": (lambda x: x.mean(-1), lambda x: x.amax(-1)),
    "avg-max-min": (lambda x: x.mean(-1), lambda x: x.amax(-1), lambda x: x.amin(-1)),
}
FLAT_OPS = ("flatten", *POOLS)
PNP_NETS: Registry[type[PnPNet]] = Registry("network (PNP_NET.INIT_CFG.type)", "sopose.pnp_nets")


@dataclass(frozen=True)
class PnPConfig:
    """What the networks from maps to a pose have in common."""

    in_dim: int  # channels of the maps
    map_size: int  # side of the maps
    rot_dim: int = 6  # numbers of the rotation (6, 4 or 3)
    featdim: int = 128  # channels of the convolutions
    norm: str = "GN"
    num_gn_groups: int = 32
    act: str = "relu"  # "relu" means LeakyReLU(0.1) in the linear layers
    drop_prob: float = 0.0  # DropBlock on the maps while training
    dropblock_size: int = 5  # side of a dropped block, cells
    mask_attention: str = "none"  # "concat": the mask is one more channel; "mul": maps times mask
    flat_op: str = "flatten"  # how maps become numbers: all cells, or statistics over them (`POOLS`)
    # Of the two hidden linear layers: "normal" (N(0, 0.001), as published: at first the pose hardly depends on the
    # maps, some thousand steps later it does) or "kaiming" (it does at once; for short trainings).
    linear_init: str = "normal"

    def __post_init__(self) -> None:
        for key, value, known in (
            ("MASK_ATTENTION", self.mask_attention, MASK_ATTENTIONS),
            ("INIT_CFG.flat_op", self.flat_op, FLAT_OPS),
            ("INIT_CFG.linear_init", self.linear_init, LINEAR_INITS),
        ):
            if value not in known:
                raise UserError(f"MODEL.POSE_NET.PNP_NET.{key} is '{value}'; known: {', '.join(known)}")

    @property
    def channels(self) -> int:
        """Channels of the first convolution's input."""
        return self.in_dim + (self.mask_attention == "concat")


class PnPNet(nn.Module):
    """Maps -> features -> hidden layers -> rotation and translation; subclasses say what the features are.

    Parameters are named as in published weights: `features.<position>`, `fc1`, `fc2`, `fc_r`, `fc_t`.
    """

    def __init__(self, config: PnPConfig, features: nn.Sequential, feature_shape: tuple[int, int], hidden: int) -> None:
        """`features` maps the input to (B, channels, h, w) with `feature_shape` = (channels, h * w)."""
        super().__init__()
        self.config = config
        self.dropblock = _make_dropblock(config)
        self.features = features
        channels, cells = feature_shape
        self.fc1 = nn.Linear(channels * (cells if config.flat_op == "flatten" else len(POOLS[config.flat_op])), hidden)
        self.fc2 = nn.Linear(hidden, 256)
        self.fc_r = nn.Linear(256, config.rot_dim)
        self.fc_t = nn.Linear(256, 3)
        self.act = make_activation("lrelu" if config.act == "relu" else config.act)
        init_normal(self, std=0.001)
        if config.linear_init == "kaiming":
            nn.init.kaiming_normal_(self.fc1.weight)
            nn.init.kaiming_normal_(self.fc2.weight)
        init_normal(self.fc_r, std=0.01)
        init_normal(self.fc_t, std=0.01)

    def forward(self, maps: Tensor, mask_prob: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, in_dim, S, S), (B, 1, S, S) -> rotation (B, rot_dim), translation (B, 3), both as regressed."""
        if self.config.mask_attention == "concat":
            maps = torch.cat([maps, mask_prob], dim=1)
        elif self.config.mask_attention == "mul":
            maps = maps * mask_prob
        x = self.features(self.dropblock(maps))
        if self.config.flat_op == "flatten":
            x = x.flatten(1)
        else:
            x = torch.cat([pool(x.flatten(2)) for pool in POOLS[self.config.flat_op]], dim=1)
        x = self.act(self.fc2(self.act(self.fc1(x))))
        return self.fc_r(x), self.fc_t(x)


def _make_dropblock(config: PnPConfig) -> nn.Module:
    if config.drop_prob <= 0:
        return nn.Identity()
    from timm.layers import DropBlock2d

    return DropBlock2d(config.drop_prob, config.dropblock_size)


@PNP_NETS.register("ConvPnPNet")
class ConvPnPNet(PnPNet):
    """Three stride-2 convolutions and two linear layers (Wang et al., CVPR 2021, section 3.3)."""

    def __init__(self, config: PnPConfig) -> None:
        """Raises UserError where the maps' side is no multiple of 8."""
        if config.map_size % 8:
            raise UserError(f"OUTPUT_RES is {config.map_size}; ConvPnPNet halves it three times, use a multiple of 8")
        layers = _conv_layers(config, [config.featdim] * 3, kernel_size=3, stride=2)
        super().__init__(config, layers, (config.featdim, (config.map_size // 8) ** 2), hidden=1024)


@PNP_NETS.register("SimplePointPnPNet")
class SimplePointPnPNet(PnPNet):
    """Every cell is a 2D-3D correspondence: a shared perceptron of each, then statistics over all of them.

    After Hu et al. (CVPR 2020) and PointNet. The order of cells does not matter, so WITH_2D_COORD is what gives
    their positions. `flat_op` names the statistics; "flatten" would depend on the order and means "max" here.
    """

    WIDTHS = (1, 1, 4)  # channels of the three layers, in featdim

    def __init__(self, config: PnPConfig) -> None:
        widths = [config.featdim * width for width in self.WIDTHS]
        layers = _conv_layers(config, widths, kernel_size=1, stride=1)
        if config.flat_op == "flatten":
            layers.append(nn.AdaptiveMaxPool2d(1))
        super().__init__(config, layers, (widths[-1], 1), hidden=512)


def _conv_layers(config: PnPConfig, widths: list[int], kernel_size: int, stride: int) -> nn.Sequential:
    """Convolution without bias, norm and activation for each of `widths`."""
    layers: list[nn.Module] = []
    channels = config.channels
    for width in widths:
        layers += [
            nn.Conv2d(channels, width, kernel_size, stride=stride, padding=kernel_size // 2, bias=False),
            make_norm(config.norm, width, config.num_gn_groups),
            make_activation(config.act),
        ]
        channels = width
    return nn.Sequential(*layers)
