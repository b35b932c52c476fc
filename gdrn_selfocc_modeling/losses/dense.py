"""Losses on maps: mask, visible-surface coordinates, regions and self-occlusion coordinates.

Pure functions. Maps are (B, C, H, W), masks (B, H, W) in {0, 1}. A masked mean is a sum over the mask divided
by the mask's size, at least 1. In a distributed run the size is the mean of all ranks' sizes, so that the mean of the
ranks' losses is that of one process with all their samples.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sopose.core.engine.distributed import current_world, sum_over_ranks
from sopose.layers import bin_labels

MASK_LOSSES = ("L1", "BCE", "CE")
XYZ_LOSSES = ("L1", "CE_coor")


def masked_mean(x: Tensor, mask: Tensor, dim: tuple[int, ...] | None = None) -> Tensor:
    """Sum of `x` over `mask` / max(sum of `mask`, 1), over all or the given dimensions.

    Cells outside the mask do not count even where `x` is infinite or NaN.
    """
    inside = mask > 0
    return torch.where(inside, x, 0).sum(dim) / mask_size(inside.to(x.dtype).sum(dim))


def mask_size(count: Tensor) -> Tensor:
    """What a sum over a mask is divided by for its mean: the cells of all ranks' masks, at least 1, shared out.

    `count` are this rank's cells, a number for each mask.
    """
    return sum_over_ranks(count).clamp(min=1) / current_world().size


def xyz_l1(xyz: Tensor, P: Tensor, mask: Tensor) -> Tensor:
    """(3,) mean |xyz - P| of each axis over the mask; both (B, 3, H, W) normalised."""
    return masked_mean((xyz - P).abs(), mask[:, None].expand_as(P), dim=(0, 2, 3))


def xyz_laplace(xyz: Tensor, P: Tensor, log_scale: Tensor, mask: Tensor) -> Tensor:
    """(3,) mean of |xyz - P| / b + log b of each axis over the mask, b the scale of each cell.

    xyz, P are (B, 3, H, W) normalised, log_scale (B, 1, H, W). Source: Kendall and Gal, NeurIPS 2017.
    """
    negative_log_likelihood = (xyz - P).abs() * (-log_scale).exp() + log_scale
    return masked_mean(negative_log_likelihood, mask[:, None].expand_as(P), dim=(0, 2, 3))


def bin_cross_entropy(logits: Tensor, coordinates: Tensor, present: Tensor, mask: Tensor) -> Tensor:
    """(C,) cross-entropy of each coordinate's bins over its mask.

    logits (B, C (bins + 1), H, W), coordinates (B, C, H, W) normalised, present and mask (B, C or 1, H, W); the last
    bin is background, where a coordinate is not `present`. As for the regions, logits and labels are zeroed outside
    the mask rather than left out.
    """
    logits = logits.unflatten(1, (coordinates.shape[1], -1))  # (B, C, bins + 1, H, W)
    mask = mask.expand_as(coordinates)
    bins = logits.shape[2] - 1
    label = bin_labels(coordinates, present.expand_as(coordinates), bins) * mask.long()
    entropy = F.cross_entropy((logits * mask[:, :, None]).transpose(1, 2), label, reduction="none")
    return entropy.sum(dim=(0, 2, 3)) / mask_size(mask.sum(dim=(0, 2, 3)))


def mask_loss(mask: Tensor, target: Tensor, kind: str) -> Tensor:
    """Mean over all cells; `mask` is (B, 1, H, W), or (B, 2, H, W) logits for "CE", `target` (B, H, W)."""
    if kind == "CE":
        return F.cross_entropy(mask, target.long())
    if kind == "BCE":
        return F.binary_cross_entropy_with_logits(mask[:, 0], target)
    return F.l1_loss(mask[:, 0], target)


def region_loss(region: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of (B, regions + 1, H, W) logits and (B, H, W) labels, over the mask's size.

    Logits and labels are zeroed outside the mask and summed everywhere, so each cell outside adds a constant,
    ln(regions + 1): the weights of published configurations were tuned with it.
    """
    entropy = F.cross_entropy(region * mask[:, None], label * mask.long(), reduction="sum")
    return entropy / mask_size(mask.sum())


def self_occlusion_l1(q: Tensor, Q: Tensor, q_mask: Tensor, min_region: int) -> Tensor:
    """(3,) mean over q_mask_k of |q - Q| summed over the two numbers of Q_k.

    q, Q are (B, 6, H, W) normalised, q_mask (B, 3, H, W). 0 for a plane with fewer than `min_region` cells.
    """
    residual = (q - Q).abs().unflatten(1, (3, 2)).sum(dim=2)
    return masked_mean(residual, q_mask, dim=(0, 2, 3)) * _has_cells(q_mask, min_region)


def self_occlusion_laplace(q: Tensor, Q: Tensor, log_scale: Tensor, q_mask: Tensor, min_region: int) -> Tensor:
    """(3,) as `self_occlusion_l1`, but of |q - Q| / b + log b, b the scale of each Q_k: log_scale is (B, 3, H, W)."""
    residual = (q - Q).abs().unflatten(1, (3, 2)).sum(dim=2)
    negative_log_likelihood = residual * (-log_scale).exp() + 2 * log_scale
    return masked_mean(negative_log_likelihood, q_mask, dim=(0, 2, 3)) * _has_cells(q_mask, min_region)


def self_occlusion_cross_entropy(q: Tensor, Q: Tensor, q_mask: Tensor, min_region: int) -> Tensor:
    """(3,) the same for (B, 6 (bins + 1), H, W) logits: `bin_cross_entropy` summed over the two numbers of Q_k."""
    mask = q_mask.repeat_interleave(2, dim=1)
    entropy = bin_cross_entropy(q, Q, mask, mask).unflatten(0, (3, 2)).sum(dim=1)
    return entropy * _has_cells(q_mask, min_region)


def _has_cells(q_mask: Tensor, min_region: int) -> Tensor:
    return sum_over_ranks(q_mask.sum(dim=(0, 2, 3))) >= min_region
