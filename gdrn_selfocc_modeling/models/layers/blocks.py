"""Convolution blocks, and the up-sampling trunk that both dense heads stand on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sopose.core.utils.errors import UserError
from sopose.core.utils.registry import Registry

ACTIVATIONS: Registry[Callable[[], nn.Module]] = Registry("activation")
ACTIVATIONS.register("relu")(nn.ReLU)
ACTIVATIONS.register("lrelu")(lambda: nn.LeakyReLU(0.1))
ACTIVATIONS.register("gelu")(nn.GELU)
ACTIVATIONS.register("silu", "swish")(nn.SiLU)
ACTIVATIONS.register("mish")(nn.Mish)

# channels, groups -> norm; its second name in published weights
NORMS: Registry[tuple[Callable[[int, int], nn.Module], str]] = Registry("norm")
NORMS.register("BN")((lambda channels, groups: nn.BatchNorm2d(channels), "bn"))
NORMS.register("SyncBN")((lambda channels, groups: nn.SyncBatchNorm(channels), "bn"))


# kernel size -> (padding, output padding) for which a stride-2 deconvolution doubles the size exactly
DECONV_PADDING = {2: (0, 0), 3: (1, 1), 4: (1, 0)}
FIRST_LOG_SCALE = -2.3  # of coordinates normalised by the extent, before anything is learned: a tenth of it
LOG_SCALES = (-7.0, 1.0)  # bounds of such logarithms: a thousandth of the extent, more than all of it
SAME_SIZE = "same"  # the one stage of a trunk without up-sampling


def make_activation(name: str) -> nn.Module:
    """The activation of a name, in any case ("GELU" and "gelu" are one)."""
    return ACTIVATIONS[name.lower()]()


def make_norm(name: str, channels: int, num_gn_groups: int = 32) -> nn.Module:
    """Normalisation over `channels`: "GN", "BN", "SyncBN" (over all ranks) or "FrozenBN" (statistics and scale fixed).

    Raises UserError for other names, and for a GN whose groups don't divide the channels.
    """
    make, _ = NORMS[name]
    return make(channels, num_gn_groups)


def _group_norm(channels: int, num_groups: int) -> nn.Module:
    if channels % num_groups:
        raise UserError(f"{channels} channels do not divide into {num_groups} groups; set num_gn_groups to a divisor")
    return nn.GroupNorm(num_groups, channels)


def _frozen_norm(channels: int, _: int) -> nn.Module:
    from torchvision.ops import FrozenBatchNorm2d

    return FrozenBatchNorm2d(channels)


NORMS.register("FrozenBN")((_frozen_norm, "bn"))
NORMS.register("GN")((_group_norm, "gn"))


class ConvBlock(nn.Module):
    """Convolution without bias, norm, activation; keeps the map's size.

    The norm is registered as `norm` and as `gn` (or `bn`), one module under both names: published weights
    carry both, so both load. A writer that forbids shared tensors (safetensors) has to drop one of them.
    """

    def __init__(self, in_dim: int, out_dim: int, kernel_size: int, norm: str, num_gn_groups: int, act: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, out_dim, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = make_norm(norm, out_dim, num_gn_groups)
        self.add_module(NORMS[norm][1], self.norm)
        self.act = make_activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim, H, W) -> (B, out_dim, H, W)."""
        return self.act(self.norm(self.conv(x)))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a short cut."""

    def __init__(self, in_dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_dim, out_dim, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_dim)
        self.conv2 = nn.Conv2d(out_dim, out_dim, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_dim)
        self.act = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity()
        if stride > 1 or in_dim != out_dim:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_dim, out_dim, 1, stride=stride, bias=False), nn.BatchNorm2d(out_dim)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim, H, W) -> (B, out_dim, H / stride, W / stride)."""
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return self.act(y + self.shortcut(x))


@dataclass(frozen=True)
class TrunkConfig:
    """A head's trunk: one stage per up-sampling, each doubles the map's size; without any, one stage that doesn't."""

    in_dim: int  # channels of the backbone's last map
    up_types: tuple[str, ...] = ("deconv", "bilinear", "bilinear")  # also "nearest"; () keeps the map's size
    deconv_kernel_size: int = 3
    num_conv_per_block: int = 2  # conv blocks of a stage
    feat_dim: int = 256
    feat_kernel_size: int = 3
    norm: str = "GN"
    num_gn_groups: int = 32
    act: str = "GELU"

    @property
    def upscale(self) -> int:
        """Size of the trunk's output divided by that of its input."""
        return 2 ** len(self.up_types)


def make_trunk(config: TrunkConfig) -> nn.Sequential:
    """(B, in_dim, h, w) -> (B, feat_dim, h * upscale, w * upscale).

    A flat sequence, so that parameters are named `features.<position>`.
    """
    layers: list[nn.Module] = []
    channels = config.in_dim
    for up_type in config.up_types or (SAME_SIZE,):
        layers += _up_sampling(up_type, channels, config)
        channels = config.feat_dim if up_type == "deconv" else channels
        for _ in range(config.num_conv_per_block):
            layers.append(
                ConvBlock(
                    channels,
                    config.feat_dim,
                    config.feat_kernel_size,
                    config.norm,
                    config.num_gn_groups,
                    config.act,
                )
            )
            channels = config.feat_dim
    if channels != config.feat_dim:
        raise UserError(
            f"a head without convolutions (num_conv_per_block=0, no deconv in up_types) keeps its in_dim={channels} "
            f"channels; set feat_dim={channels}, it is {config.feat_dim}"
        )
    return nn.Sequential(*layers)


def _up_sampling(up_type: str, channels: int, config: TrunkConfig) -> list[nn.Module]:
    """What doubles a map's size; nothing for `SAME_SIZE`."""
    if up_type == SAME_SIZE:
        return []
    if up_type == "deconv":
        return _deconv(channels, config)
    if up_type == "bilinear":
        return [nn.UpsamplingBilinear2d(scale_factor=2)]
    if up_type == "nearest":
        return [nn.UpsamplingNearest2d(scale_factor=2)]
    raise UserError(f"up_types has '{up_type}'; known: deconv, bilinear, nearest")


def _deconv(in_dim: int, config: TrunkConfig) -> list[nn.Module]:
    if config.deconv_kernel_size not in DECONV_PADDING:
        raise UserError(
            f"deconv_kernel_size is {config.deconv_kernel_size}; known: {', '.join(map(str, DECONV_PADDING))}"
        )
    padding, output_padding = DECONV_PADDING[config.deconv_kernel_size]
    return [
        nn.ConvTranspose2d(
            in_dim,
            config.feat_dim,
            config.deconv_kernel_size,
            stride=2,
            padding=padding,
            output_padding=output_padding,
            bias=False,
        ),
        make_norm(config.norm, config.feat_dim, config.num_gn_groups),
        make_activation(config.act),
    ]


@dataclass(frozen=True)
class MapSpec:
    """Channels of one predicted map, and how a class-aware head orders them: group, class, rest."""

    channels: int  # of one class
    num_classes: int = 1  # > 1: one map per class, the ROI's own is taken
    groups: int = 1  # 3 for x, y, z or Q's planes; 6 for the numbers of Q; 1 where classes come first

    @property
    def total(self) -> int:
        """Channels of the output layer."""
        return self.channels * self.num_classes

    def take(self, maps: Tensor, class_index: Tensor) -> Tensor:
        """(B, total, H, W) -> (B, channels, H, W) of each ROI's class; `class_index` is (B,) int64."""
        if self.num_classes == 1:
            return maps
        batch, _, height, width = maps.shape
        by_class = maps.view(batch, self.groups, self.num_classes, -1, height, width)
        own = by_class[torch.arange(batch, device=maps.device), :, class_index]
        return own.reshape(batch, self.channels, height, width)


NO_MAP = MapSpec(0)


def init_normal(module: nn.Module, std: float) -> None:
    """Fill convolution and linear weights from N(0, std) and their biases with 0; norms keep weight 1 and bias 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def make_out_layer(channels: int, specs: Sequence[MapSpec], kernel_size: int) -> nn.Conv2d:
    """What predicts maps, one after another, from a trunk's features: (B, channels, h, w) -> (B, their total, h, w)."""
    layer = nn.Conv2d(channels, sum(spec.total for spec in specs), kernel_size, padding=kernel_size // 2)
    init_normal(layer, std=0.01)
    return layer


def make_scale_layer(channels: int, spec: MapSpec, kernel_size: int) -> nn.Conv2d | None:
    """What predicts logarithms of scales from a trunk's features, a layer of its own; None where there are none.

    Other weights of the head fit with and without it.
    """
    if not spec.total:
        return None
    layer = nn.Conv2d(channels, spec.total, kernel_size, padding=kernel_size // 2)
    init_normal(layer, std=0.01)
    nn.init.constant_(layer.bias, FIRST_LOG_SCALE)
    return layer
