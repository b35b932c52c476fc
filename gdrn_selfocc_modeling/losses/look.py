"""The losses of a second look: of each displacement, and of the pose that all of them lead to.

Sources: the law of the displacements, Kendall and Gal, What uncertainties do we need in Bayesian deep learning for
computer vision?, NeurIPS 2017; the pose's error by the fit's own first step, Liu et al., Linear-covariance loss for
end-to-end learning of 6D pose estimation, ICCV 2023.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sopose.batch import Displacements, LookBatch, LookTargets
from sopose.core.geometry.camera import project
from sopose.core.geometry.pose_fit import PosePrior, SeenPoints, first_step
from sopose.losses.dense import masked_mean

NEAREST = 1e-3  # metres: what lies behind the camera moves as if it were just before it
# Mean length of a vector of so many independent normal numbers: what a standard deviation is measured by
MEAN_LENGTH = {1: math.sqrt(2 / math.pi), 2: math.sqrt(math.pi / 2), 3: math.sqrt(8 / math.pi)}


def true_shift(look: LookBatch, targets: LookTargets) -> Tensor:
    """(B, 2, out, out) displacement of each rendered surface point to where the true pose projects it, cells."""
    size = look.mask.shape[-2:]
    points_cam = look.points_obj.flatten(2).mT @ targets.cam_R_obj.mT + targets.cam_t_obj[:, None]
    ahead = points_cam.clone()
    ahead[..., 2] = points_cam[..., 2].clamp_min(NEAREST)
    pixels = project(ahead, look.K[:, None]).mT.unflatten(2, size)
    return (pixels - look.pixel) / look.cell[:, None, None, None]


def look_losses(moved: Displacements, look: LookBatch, targets: LookTargets) -> dict[str, Tensor]:
    """`loss_shift`: mean of (|e_u| + |e_v|) / b + 2 log b, b the scale, over the rendered cells, hidden ones too."""
    errors = (moved.shift - true_shift(look, targets)).abs().sum(1)
    return {"loss_shift": masked_mean(errors * (-moved.log_scale).exp() + 2 * moved.log_scale, look.mask)}


def pose_loss(seen: SeenPoints[Tensor], look: LookBatch, targets: LookTargets) -> Tensor:
    """Mean over B looks of |e| / s + n log s of the fitted pose, for its depth, its place across and its rotation.

    e are the n coordinates of the error that the fit of `seen` will have, s is their standard deviation by the fit's
    covariance times the mean length of n normal numbers over n, so that the loss is least where the covariance is
    right. Computed in the precision of `seen`.
    """
    true_R, true_t, precision, R, t = (
        values.to(seen.pixels.dtype)
        for values in (targets.cam_R_obj, targets.cam_t_obj, targets.precision, look.cam_R_obj, look.cam_t_obj)
    )
    error, covariance = first_step(seen, true_R, true_t, PosePrior(R, t, precision))
    ray = torch.nn.functional.normalize(true_t, dim=-1)
    depth = (error[:, :3] * ray).sum(-1)
    depth_variance = torch.einsum("bi,bij,bj->b", ray, covariance[:, :3, :3], ray)
    variances = covariance.diagonal(dim1=1, dim2=2)
    across = error[:, :3] - depth[:, None] * ray
    parts = (
        (1, depth.abs(), depth_variance),
        (2, _length(across), (variances[:, :3].sum(-1) - depth_variance) / 2),
        (3, _length(error[:, 3:]), variances[:, 3:].mean(-1)),
    )
    total = sum(n * (length / (MEAN_LENGTH[n] * variance.sqrt()) + variance.log() / 2) for n, length, variance in parts)
    return total.mean()


def _length(vector: Tensor) -> Tensor:
    """(B,) lengths with a gradient at 0."""
    return (vector.square().sum(-1) + torch.finfo(torch.float32).tiny).sqrt()
