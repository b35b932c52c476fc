"""Self-occlusion head: Q, where each camera ray crosses the object's three coordinate planes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sopose.models.layers.blocks import MapSpec, TrunkConfig, init_normal, make_trunk


class ConvSelfoccHead(nn.Module):
    """SO-Pose's second layer (Di et al., ICCV 2021, section 3.2).

    Args:
        trunk: up-sampling trunk; its output has `trunk.feat_dim` channels.
        q: 6 channels, 6 (bins + 1) where coordinates are classified.
        q_mask: 3 channels of where Q_x, Q_y, Q_z exist, or 0 to leave that out.
        out_kernel_size: kernel of the output convolution.
        out_layer_shared: one output layer for both, in the order Q, mask; else `out_layer` is Q's, as without a mask.
    """

    def __init__(
        self, trunk: TrunkConfig, q: MapSpec, q_mask: MapSpec, out_kernel_size: int = 1, out_layer_shared: bool = True
    ) -> None:
        super().__init__()
        self.q, self.q_mask = q, q_mask
        self.features = make_trunk(trunk)
        init_normal(self.features, std=0.001)
        sizes = {"out_layer": q.total, "mask_out_layer": q_mask.total}
        if out_layer_shared:
            sizes = {"out_layer": q.total + q_mask.total}
        self.out_names = [name for name, size in sizes.items() if size]
        for name in self.out_names:
            layer = nn.Conv2d(trunk.feat_dim, sizes[name], out_kernel_size, padding=out_kernel_size // 2)
            init_normal(layer, std=0.01)
            self.add_module(name, layer)

    def forward(self, features: Tensor, class_index: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, in_dim, h, w), (B,) int64 -> Q (B, 6, out, out) normalised, its mask (B, 3, out, out) or None.

        Channels of Q: Q_x (y, z), Q_y (x, z), Q_z (x, y); each with the logits of its bins where it is classified.
        """
        x = self.features(features)
        maps = torch.cat([getattr(self, name)(x) for name in self.out_names], dim=1)
        q, q_mask = maps.split([self.q.total, self.q_mask.total], dim=1)
        q = self.q.take(q, class_index)
        return q, self.q_mask.take(q_mask, class_index) if self.q_mask.total else None
