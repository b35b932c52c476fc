"""Patch-PnP: rotation and translation regressed from the dense maps."""

from __future__ import annotations

import torch
from timm.layers import DropBlock2d
from torch import Tensor, nn

from core.utils.errors import UserError
from gdrn_selfocc_modeling.models.layers.blocks import init_normal, make_activation, make_norm


class ConvPnPNet(nn.Module):
    """Three stride-2 convolutions and two linear layers (Wang et al., CVPR 2021, section 3.3).

    Args:
        in_dim: channels of the maps.
        map_size: side of the maps, a multiple of 8.
        rot_dim: numbers of the rotation (6, 4 or 3).
        feat_dim: channels of the convolutions.
        norm, num_gn_groups, act: as in the heads; "relu" means LeakyReLU(0.1) in the linear layers.
        drop_prob: DropBlock on the maps while training.
        mask_attention: "none", "concat" (the mask is one more channel) or "mul" (maps times mask).
        linear_init: of the two hidden layers, "normal" (N(0, 0.001), as published: at first the pose hardly
            depends on the maps, some thousand steps later it does) or "kaiming" (it does at once; for short
            trainings).
    """

    def __init__(
        self,
        in_dim: int,
        map_size: int,
        rot_dim: int = 6,
        feat_dim: int = 128,
        norm: str = "GN",
        num_gn_groups: int = 32,
        act: str = "relu",
        drop_prob: float = 0.0,
        mask_attention: str = "none",
        linear_init: str = "normal",
    ) -> None:
        super().__init__()
        if map_size % 8:
            raise UserError(f"OUTPUT_RES is {map_size}; ConvPnPNet halves it three times, use a multiple of 8")
        if mask_attention not in ("none", "concat", "mul"):
            raise UserError(f"MASK_ATTENTION is '{mask_attention}'; known: none, concat, mul")
        if linear_init not in ("normal", "kaiming"):
            raise UserError(f"PNP_NET.INIT_CFG.linear_init is '{linear_init}'; known: normal, kaiming")
        self.mask_attention = mask_attention
        self.dropblock = DropBlock2d(drop_prob, block_size=5) if drop_prob > 0 else nn.Identity()
        channels = in_dim + (mask_attention == "concat")
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [
                nn.Conv2d(channels, feat_dim, 3, stride=2, padding=1, bias=False),
                make_norm(norm, feat_dim, num_gn_groups),
                make_activation(act),
            ]
            channels = feat_dim
        self.features = nn.Sequential(*layers)
        self.fc1 = nn.Linear(feat_dim * (map_size // 8) ** 2, 1024)
        self.fc2 = nn.Linear(1024, 256)
        self.fc_r = nn.Linear(256, rot_dim)
        self.fc_t = nn.Linear(256, 3)
        self.act = make_activation("lrelu" if act == "relu" else act)
        init_normal(self, std=0.001)
        if linear_init == "kaiming":
            nn.init.kaiming_normal_(self.fc1.weight)
            nn.init.kaiming_normal_(self.fc2.weight)
        init_normal(self.fc_r, std=0.01)
        init_normal(self.fc_t, std=0.01)

    def forward(self, maps: Tensor, mask_prob: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, in_dim, S, S), (B, 1, S, S) -> rotation (B, rot_dim), translation (B, 3), both as regressed."""
        if self.mask_attention == "concat":
            maps = torch.cat([maps, mask_prob], dim=1)
        elif self.mask_attention == "mul":
            maps = maps * mask_prob
        x = self.features(self.dropblock(maps)).flatten(1)
        x = self.act(self.fc2(self.act(self.fc1(x))))
        return self.fc_r(x), self.fc_t(x)
