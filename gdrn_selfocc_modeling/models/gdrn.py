"""The network: one crop of a known object in, two layers of coordinates and a pose out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gdrn_selfocc_modeling.data.batch import Prediction, RoiBatch
from gdrn_selfocc_modeling.models.pose_decoder import PoseDecoder


class GDRN(nn.Module):
    """Backbone, geometry head, self-occlusion head and Patch-PnP, from finished parts.

    Args:
        backbone: images -> list of feature maps; the last one is used.
        geo_head_net: features, class index -> mask, xyz, region.
        selfocc_head_net: features, class index -> Q, its mask; None for the single-layer baseline (GDR-Net).
        pnp_net: maps, mask probability -> rotation, translation as regressed.
        decoder: those numbers -> pose.
        mask_type: the mask's loss ("L1", "BCE", "CE"), which says how to read it as a probability.
        with_coord_2d: give the source pixel coordinates to `pnp_net`.
        with_region: give the probabilities of the surface regions to `pnp_net`.
        xyz_bins: > 0 where coordinates are classified into so many bins and a background.
        frozen: names of submodules that do not learn; they also keep their normalisation statistics.
    """

    def __init__(
        self,
        backbone: nn.Module,
        geo_head_net: nn.Module,
        selfocc_head_net: nn.Module | None,
        pnp_net: nn.Module,
        decoder: PoseDecoder,
        mask_type: str = "L1",
        with_coord_2d: bool = True,
        with_region: bool = True,
        xyz_bins: int = 0,
        frozen: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.geo_head_net = geo_head_net
        self.selfocc_head_net = selfocc_head_net
        self.pnp_net = pnp_net
        self.decoder = decoder
        self.mask_type = mask_type
        self.with_coord_2d = with_coord_2d
        self.with_region = with_region
        self.xyz_bins = xyz_bins
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
        features = self.backbone(batch.image)[-1]
        mask, xyz, region = self.geo_head_net(features, batch.class_index)
        q, q_mask = None, None
        if self.selfocc_head_net is not None:
            q, q_mask = self.selfocc_head_net(features, batch.class_index)
        # The pose is never regressed in half precision: bfloat16 tells apart 2 px of 640 and 4 mm of a metre.
        with torch.autocast(mask.device.type, enabled=False):
            dtype = next(self.pnp_net.parameters()).dtype
            parts = (None if x is None else x.to(dtype) for x in (xyz, q, region, batch.roi_coord_2d))
            mask_prob = mask_probability(mask.to(dtype), self.mask_type)
            rot_raw, trans_raw = self.pnp_net(self.pnp_input(*parts), mask_prob)
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
        )

    def pnp_input(self, xyz: Tensor, q: Tensor | None, region: Tensor | None, coord_2d: Tensor) -> Tensor:
        """Channels in the order of published weights: xyz, Q, 2D coordinates, region probabilities."""
        if self.xyz_bins:
            xyz = xyz_bin_probability(xyz, self.xyz_bins)
        parts = [xyz]
        if q is not None:
            parts.append(q)
        if self.with_coord_2d:
            parts.append(coord_2d)
        if self.with_region:
            parts.append(region[:, 1:].softmax(dim=1))  # channel 0 is background
        return torch.cat(parts, dim=1)


def mask_probability(mask: Tensor, mask_type: str) -> Tensor:
    """(B, 1 or 2, H, W) as predicted -> (B, 1, H, W) in [0, 1]. An L1 mask is stretched to that range."""
    if mask_type == "CE":
        return mask.softmax(dim=1)[:, 1:]
    if mask_type == "BCE":
        return mask.sigmoid()
    low, high = mask.amin(dim=(1, 2, 3), keepdim=True), mask.amax(dim=(1, 2, 3), keepdim=True)
    return (mask - low) / (high - low).clamp(min=1e-6)


def xyz_bin_probability(xyz: Tensor, bins: int) -> Tensor:
    """(B, 3 (bins + 1), H, W) logits -> (B, 3 bins, H, W) probabilities of each axis, without background."""
    return xyz.unflatten(1, (3, bins + 1))[:, :, :bins].softmax(dim=2).flatten(1, 2)
