"""The loss of a second look: displacements under a Laplace law whose scale is learned.

Source: Kendall and Gal, What uncertainties do we need in Bayesian deep learning for computer vision?, NeurIPS 2017.
"""

from __future__ import annotations

from torch import Tensor

from sopose.batch import Displacements, LookBatch, LookTargets
from sopose.core.geometry.camera import project
from sopose.losses.dense import masked_mean

NEAREST = 1e-3  # metres: what lies behind the camera moves as if it were just before it


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
