"""In what form a network gives its maps."""

from __future__ import annotations

from dataclasses import dataclass

from sopose.core.geometry.arrays import Array, namespace, sigmoid, softmax
from sopose.settings.network import PoseNetSettings


@dataclass(frozen=True)
class PnPInput:
    """Which maps the pose is regressed from, besides P and Q, and in what form."""

    mask_type: str = "L1"  # the mask's loss (L1, BCE, CE), which says how to read it as a probability
    coord_2d: bool = True  # the source pixel coordinates
    region: bool = True  # the probabilities of the surface regions
    bins: int = 0  # > 0 where coordinates are classified into so many bins and a background
    metric_P: bool = False  # P in metres instead of normalised


def build_pnp_input(net: PoseNetSettings) -> PnPInput:
    """What MODEL.POSE_NET says of the maps that the pose is regressed from."""
    bins = coordinate_bins(net)
    return PnPInput(
        mask_type=net.loss_cfg.mask_loss_type,
        coord_2d=net.pnp_net.with_2d_coord,
        region=net.pnp_net.region_attention,
        bins=bins,
        metric_P=net.pnp_net.init_cfg.denormalize_by_extent and not (bins or net.selfocc_head.enabled),
    )


def coordinate_bins(net: PoseNetSettings) -> int:
    """Of each coordinate; 0 where it is regressed."""
    return net.geo_head.xyz_bin if net.loss_cfg.xyz_loss_type == "CE_coor" else 0


def mask_probability(mask: Array, mask_type: str) -> Array:
    """(B, 1 or 2, H, W) as predicted -> (B, 1, H, W) in [0, 1]. An L1 mask is stretched to that range."""
    if mask_type == "CE":
        return softmax(mask, 1)[:, 1:]
    if mask_type == "BCE":
        return sigmoid(mask)
    xp = namespace(mask)
    low, high = (find(mask, axis=(1, 2, 3), keepdims=True) for find in (xp.amin, xp.amax))
    return (mask - low) / (high - low).clip(1e-6, None)
