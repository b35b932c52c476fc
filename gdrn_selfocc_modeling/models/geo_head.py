"""Geometry head: mask, visible-surface coordinates P and surface regions from the backbone's features."""

from __future__ import annotations

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

# Others take the same arguments and give the same maps; "sopose.heads" are entry points of other packages.
GEO_HEADS: Registry[type[nn.Module]] = Registry("head (GEO_HEAD.INIT_CFG.type)", "sopose.heads")


@GEO_HEADS.register("TopDownMaskXyzRegionHead")
class TopDownMaskXyzRegionHead(nn.Module):
    """GDR-Net's dense head (Wang et al., CVPR 2021, section 3.2).

    Args:
        trunk: up-sampling trunk; its output has `trunk.feat_dim` channels.
        mask: 1 channel, 2 where the mask is classified.
        xyz: 3 channels, 3 (bins + 1) where coordinates are classified.
        region: regions + 1 channels, 0 channels without regions.
        scale: 1 channel, how far xyz may be off; 0 channels without.
        out_kernel_size: kernel of the output convolution.
        out_layer_shared: one output layer for all maps in the order mask, xyz, region, else one each.
    """

    def __init__(
        self,
        trunk: TrunkConfig,
        mask: MapSpec,
        xyz: MapSpec,
        region: MapSpec,
        scale: MapSpec = NO_MAP,
        out_kernel_size: int = 1,
        out_layer_shared: bool = True,
    ) -> None:
        super().__init__()
        self.specs = {"mask": mask, "xyz": xyz, "region": region}
        self.features = make_trunk(trunk)
        init_normal(self.features, std=0.001)
        self.out_layer_shared = out_layer_shared
        if out_layer_shared:
            outputs = {"out_layer": [*self.specs.values()]}
        else:
            outputs = {f"{name}_out_layer": [spec] for name, spec in self.specs.items() if spec.total}
        for name, specs in outputs.items():
            self.add_module(name, make_out_layer(trunk.feat_dim, specs, out_kernel_size))
        self.scale, self.scale_layer = scale, make_scale_layer(trunk.feat_dim, scale, out_kernel_size)
        # The maps of each output layer, in the order of its channels.
        self.output_specs = outputs | ({"scale_layer": [scale]} if scale.total else {})

    def forward(self, features: Tensor, class_index: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """(B, in_dim, h, w), (B,) int64 -> maps (B, C, out, out) of mask, xyz, region, logarithm of xyz's scale.

        The last two are None for a head without them.
        """
        x = self.features(features)
        if self.out_layer_shared:
            parts = self.out_layer(x).split([spec.total for spec in self.specs.values()], dim=1)
            maps = dict(zip(self.specs, parts, strict=True))
        else:
            maps = {name: getattr(self, f"{name}_out_layer")(x) for name, spec in self.specs.items() if spec.total}
        mask, xyz = (self.specs[name].take(maps[name], class_index) for name in ("mask", "xyz"))
        has_regions = self.specs["region"].total > 0
        region = self.specs["region"].take(maps["region"], class_index) if has_regions else None
        if self.scale_layer is None:
            return mask, xyz, region, None
        return mask, xyz, region, self.scale.take(self.scale_layer(x), class_index).clamp(*LOG_SCALES)
