"""The network: one crop of a known object in, two layers of coordinates and a pose out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sopose.batch import Prediction, RoiBatch
from sopose.layers import bin_probability
from sopose.models.map_forms import PnPInput, mask_probability
from sopose.models.pose_decoder import PoseDecoder


class GDRN(nn.Module):
    """Backbone, geometry head, self-occlusion head and Patch-PnP, from finished parts.

    Args:
        backbone: images -> list of feature maps.
        neck: those -> as many other maps; None to go without.
        level: which of the maps the heads see.
        geo_head_net: features, class index -> mask, xyz, region, logarithm of xyz's scale.
        selfocc_head_net: features, class index -> Q, its mask, logarithms of its scales; None for the single-layer
            baseline (GDR-Net).
        pnp_net: maps, mask probability -> rotation, translation as regressed.
        decoder: those numbers -> pose.
        pnp_input: what `pnp_net` sees.
        frozen: names of submodules that do not learn; they also keep their normalisation statistics.
    """

    def __init__(
        self,
        backbone: nn.Module,
        geo_head_net: nn.Module,
        selfocc_head_net: nn.Module | None,
        pnp_net: nn.Module,
        decoder: PoseDecoder,
        pnp_input: PnPInput,
        neck: nn.Module | None = None,
        level: int = -1,
        frozen: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.level = level
        self.geo_head_net = geo_head_net
        self.selfocc_head_net = selfocc_head_net
        self.pnp_net = pnp_net
        self.decoder = decoder
        self.pnp_input = pnp_input
        self.frozen = tuple(frozen)
        for name in self.frozen:
            self.get_submodule(name).requires_grad_(False)

    def train(self, mode: bool = True) -> GDRN:
        """As `nn.Module.train`, but frozen parts stay in evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self

    def forward(self, batch: RoiBatch) -> Prediction:
        """Maps and poses of a batch of ROIs."""
        features = self.backbone(batch.image)
        if self.neck is not None:
            features = self.neck(features)
        features = features[self.level]
        mask, xyz, region, xyz_log_scale = self.geo_head_net(features, batch.class_index)
        q, q_mask, q_log_scale = None, None, None
        if self.selfocc_head_net is not None:
            q, q_mask, q_log_scale = self.selfocc_head_net(features, batch.class_index)
        # The pose is never regressed in half precision: its steps are 2 px at 640 px and 4 mm at a metre.
        with torch.autocast(mask.device.type, enabled=False):
            dtype = next(self.pnp_net.parameters()).dtype
            maps = self.pnp_maps(*(None if x is None else x.to(dtype) for x in (xyz, q, region)), batch)
            mask_prob = mask_probability(mask.to(dtype), self.pnp_input.mask_type)
            rot_raw, trans_raw = self.pnp_net(maps, mask_prob)
        cam_R_raw, cam_R_obj, cam_t_obj = self.decoder(rot_raw, trans_raw, batch)
        return Prediction(
            mask=mask,
            xyz=xyz,
            region=region,
            q=q,
            q_mask=q_mask,
            cam_R_raw=cam_R_raw,
            cam_R_obj=cam_R_obj,
            cam_t_obj=cam_t_obj,
            trans_raw=trans_raw,
            xyz_log_scale=xyz_log_scale,
            q_log_scale=q_log_scale,
        )

    def pnp_maps(self, xyz: Tensor, q: Tensor | None, region: Tensor | None, batch: RoiBatch) -> Tensor:
        """Channels in the order of published weights: xyz, Q, 2D coordinates, region probabilities."""
        layers = [xyz] if q is None else [xyz, q]
        if self.pnp_input.bins:
            layers = [bin_probability(layer, self.pnp_input.bins).flatten(1, 2) for layer in layers]
        elif self.pnp_input.metric_P:
            layers[0] = (xyz - 0.5) * batch.extent.to(xyz.dtype)[:, :, None, None]
        if self.pnp_input.coord_2d:
            layers.append(batch.roi_coord_2d.to(xyz.dtype))
        if self.pnp_input.region:
            layers.append(region[:, 1:].softmax(dim=1))  # channel 0 is background
        return torch.cat(layers, dim=1)
