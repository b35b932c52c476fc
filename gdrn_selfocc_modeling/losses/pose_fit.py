"""A loss through PnP: how wrong the pose will be that P's cells lead to, each weighed as sure as it says it is.

Source: the error of a weighted fit is linear in small errors of its points (Liu et al., Linear-covariance loss for
end-to-end learning of 6D pose estimation, ICCV 2023).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sopose.core.geometry.pose_fit import PosePrior, SeenPoints, first_step

# What an error is measured by: where the loss of a part turns from linear to logarithmic
DEPTH, ACROSS, ROTATION = 0.01, 0.01, math.radians(2)  # shares of the distance, metres a metre of extent, radians
LOOSE = 100.0  # a pose that no cell determines is known as well as so many of these


def pose_fit_loss(
    points_obj: Tensor, variance: Tensor, mask: Tensor, pixel: Tensor, K: Tensor, cam_R_obj: Tensor, cam_t_obj: Tensor
) -> Tensor:
    """Mean over B poses of log(1 + |e| / s), summed over the errors e of depth, place across and rotation.

    Args:
        points_obj: (B, 3, H, W) metres, predicted.
        variance: (B, 1, H, W) pixels², of where they are seen.
        mask: (B, H, W) in {0, 1}, cells that count.
        pixel: (B, 2, H, W) where they are seen, pixels.
        K: (B, 3, 3) pixels.
        cam_R_obj: (B, 3, 3), cam_t_obj: (B, 3) metres, the true poses.
    """
    points_obj, variance, mask, pixel, K, R, t = (
        values.double() for values in (points_obj, variance, mask, pixel, K, cam_R_obj, cam_t_obj)
    )
    size = points_obj.detach().flatten(2).std(dim=2).norm(dim=1).clamp_min(1e-3)  # metres, about half an extent
    distance = t.norm(dim=-1)
    deviations = torch.stack([LOOSE * ACROSS * size] * 3 + [torch.full_like(size, LOOSE * ROTATION)] * 3, dim=-1)
    prior = PosePrior(R, t, torch.diag_embed(deviations**-2))
    precision = (mask / variance[:, 0]).flatten(1)
    seen = SeenPoints(points_obj.flatten(2).mT, pixel.flatten(2).mT, precision, K)
    error, _ = first_step(seen, R, t, prior)
    ray = t / distance[:, None]
    depth = (error[:, :3] * ray).sum(-1, keepdim=True)
    parts = (
        depth / (DEPTH * distance[:, None]),
        (error[:, :3] - depth * ray) / (ACROSS * size[:, None]),
        error[:, 3:] / ROTATION,
    )
    lengths = torch.stack([(part.square().sum(-1) + torch.finfo(torch.float32).tiny).sqrt() for part in parts])
    return lengths.log1p().sum(0).mean().to(torch.float32)
