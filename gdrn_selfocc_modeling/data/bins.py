"""Coordinates told as bins: `XYZ_LOSS_TYPE` "CE_coor" classifies each normalised coordinate, background last.

Logits are (B, C (bins + 1), H, W): C coordinates, each with its bins and then the background.
"""

from __future__ import annotations

import torch
from torch import Tensor


def bin_labels(coordinates: Tensor, present: Tensor, bins: int) -> Tensor:
    """(B, C, H, W) normalised coordinates -> int64 bins; `bins`, the background, where `present` (B, C, H, W) is 0."""
    return torch.where(present > 0, (coordinates * bins).long().clamp(0, bins - 1), bins)


def bin_probability(logits: Tensor, bins: int) -> Tensor:
    """Logits -> (B, C, bins, H, W) probabilities of each coordinate's bins, background left out."""
    return logits.unflatten(1, (-1, bins + 1))[:, :, :bins].softmax(dim=2)


def expected_coordinate(logits: Tensor, bins: int) -> Tensor:
    """Logits -> (B, C, H, W) normalised: the mean of the bins' middles, through which gradients flow."""
    middles = (torch.arange(bins, dtype=logits.dtype, device=logits.device) + 0.5) / bins
    return torch.einsum("bcnhw,n->bchw", bin_probability(logits, bins), middles)


def likeliest_coordinate(logits: Tensor, bins: int) -> Tensor:
    """Logits -> (B, C, H, W) normalised: the middle of each coordinate's likeliest bin."""
    return (bin_probability(logits, bins).argmax(dim=2) + 0.5) / bins
