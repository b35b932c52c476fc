"""Self-occlusion head: Q, where each camera ray crosses the object's three coordinate planes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sopose.core.utils.registry import Registry
from sopose.models.layers.blocks import (
    LOG_SCALES,
    NO_MAP,
    MapSpec,
    TrunkConfig,
    init_normal,
    make_out_layer,
    make_scale_layer,
    make_trunk,
)

SELFOCC_HEADS: Registry[type[nn.Module]] = Registry("head (SELFOCC_HEAD.INIT_CFG.type)", "sopose.heads")


@SELFOCC_HEADS.register("ConvSelfoccHead")
class ConvSelfoccHead(nn.Module):
    """SO-Pose's second layer (Di et al., ICCV 2021, section 3.2).

    Args:
        trunk: up-sampling trunk; its output has `trunk.feat_dim` channels.
        q: 6 channels, 6 (bins + 1) where coordinates are classified.
        q_mask: 3 channels of where Q_x, Q_y, Q_z exist, or 0 to leave that out.
        scale: 3 channels, how far each of them may be off, or 0.
        out_kernel_size: kernel of the output convolution.
        out_layer_shared: one output layer for both, in the order Q, mask; else `out_layer` is Q's, as without a mask.
    """

    def __init__(
        self,
        trunk: TrunkConfig,
        q: MapSpec,
        q_mask: MapSpec,
        scale: MapSpec = NO_MAP,
        out_kernel_size: int = 1,
        out_layer_shared: bool = True,
    ) -> None:
        super().__init__()
        self.q, self.q_mask = q, q_mask
        self.features = make_trunk(trunk)
        init_normal(self.features, std=0.001)
        outputs = {"out_layer": [q, q_mask]} if out_layer_shared else {"out_layer": [q], "mask_out_layer": [q_mask]}
        outputs = {name: specs for name, specs in outputs.items() if any(spec.total for spec in specs)}
        self.out_names = [*outputs]
        for name, specs in outputs.items():
            self.add_module(name, make_out_layer(trunk.feat_dim, specs, out_kernel_size))
        self.scale, self.scale_layer = scale, make_scale_layer(trunk.feat_dim, scale, out_kernel_size)
        # The maps of each output layer, in the order of its channels.
        self.output_specs = outputs | ({"scale_layer": [scale]} if scale.total else {})

    def forward(self, features: Tensor, class_index: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(B, in_dim, h, w), (B,) int64 -> Q (B, 6, out, out) normalised, its mask and logarithms of its scales.

        Both are (B, 3, out, out), or None for a head without them.

        Channels of Q: Q_x (y, z), Q_y (x, z), Q_z (x, y); each with the logits of its bins where it is classified.
        """
        x = self.features(features)
        maps = torch.cat([getattr(self, name)(x) for name in self.out_names], dim=1)
        q, q_mask = maps.split([self.q.total, self.q_mask.total], dim=1)
        q = self.q.take(q, class_index)
        mask = self.q_mask.take(q_mask, class_index) if self.q_mask.total else None
        if self.scale_layer is None:
            return q, mask, None
        return q, mask, self.scale.take(self.scale_layer(x), class_index).clamp(*LOG_SCALES)
