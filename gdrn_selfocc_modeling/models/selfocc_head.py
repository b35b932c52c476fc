"""Self-occlusion head: Q, where each camera ray crosses the object's three coordinate planes."""

from __future__ import annotations

from torch import Tensor, nn

from gdrn_selfocc_modeling.models.layers.blocks import MapSpec, TrunkConfig, init_normal, make_trunk


class ConvSelfoccHead(nn.Module):
    """SO-Pose's second layer (Di et al., ICCV 2021, section 3.2).

    Args:
        trunk: up-sampling trunk; its output has `trunk.feat_dim` channels.
        num_classes: > 1 predicts Q for each class.
        num_mask_classes: the same for the validity mask.
        with_mask: also predict where Q_x, Q_y, Q_z exist (3 channels after Q's).
        out_kernel_size: kernel of the output convolution.
    """

    def __init__(
        self,
        trunk: TrunkConfig,
        num_classes: int = 1,
        num_mask_classes: int = 1,
        with_mask: bool = False,
        out_kernel_size: int = 1,
    ) -> None:
        super().__init__()
        self.q = MapSpec(6, num_classes, groups=6)
        self.q_mask = MapSpec(3 if with_mask else 0, num_mask_classes, groups=3)
        self.features = make_trunk(trunk)
        init_normal(self.features, std=0.001)
        size = self.q.total + self.q_mask.total
        self.out_layer = nn.Conv2d(trunk.feat_dim, size, out_kernel_size, padding=out_kernel_size // 2)
        init_normal(self.out_layer, std=0.01)

    def forward(self, features: Tensor, class_index: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, in_dim, h, w), (B,) int64 -> Q (B, 6, out, out) normalised, its mask (B, 3, out, out) or None.

        Channels of Q: Q_x (y, z), Q_y (x, z), Q_z (x, y).
        """
        q, q_mask = self.out_layer(self.features(features)).split([self.q.total, self.q_mask.total], dim=1)
        q = self.q.take(q, class_index)
        return q, self.q_mask.take(q_mask, class_index) if self.q_mask.total else None
