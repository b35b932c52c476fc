"""Objects that look alike in several poses: truth is the candidate closest to the prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from sopose.batch import Prediction, RoiBatch, RoiTargets
from sopose.core.engine.distributed import sum_over_ranks
from sopose.layers import denormalise_P, denormalise_Q
from sopose.losses.cross_layer import to_camera
from sopose.losses.dense import masked_mean


def closest_rotation(cam_R_pred: Tensor, cam_R_obj: Tensor, symmetry_rotations: Tensor) -> Tensor:
    """The candidate R* S nearest to the prediction by angle, (B, 3, 3).

    cam_R_pred, cam_R_obj are (B, 3, 3), symmetry_rotations (B, S, 3, 3). The choice carries no gradient.
    """
    # trace(R^T R* S) = 1 + 2 cos(angle) falls with the angle: the entries of S weighted by those of R*^T R
    relative = cam_R_obj.mT @ cam_R_pred.detach()
    # (a row times a matrix takes a third of a matrix times a column on a CPU)
    nearest = (relative.flatten(1)[:, None] @ symmetry_rotations.flatten(2).mT)[:, 0].argmax(dim=1)
    chosen = symmetry_rotations[torch.arange(len(nearest), device=nearest.device), nearest]
    return cam_R_obj @ chosen


def is_symmetric(symmetry_rotations: Tensor) -> Tensor:
    """(B,) bool: whether any of the (B, S, 3, 3) rotations differs from the identity."""
    identity = torch.eye(3, dtype=symmetry_rotations.dtype, device=symmetry_rotations.device)
    return ((symmetry_rotations - identity).abs() > 1e-5).any(dim=(1, 2, 3))


def oriented_xyz(prediction: Prediction, batch: RoiBatch, targets: RoiTargets, mask: Tensor) -> Tensor:
    """(3,) loss_coor_* with HANDLE_SYM: symmetric ROIs compare R P with R* P*, metres; others P with P*."""
    plain = (prediction.xyz - targets.P).abs()
    P, P_true = (denormalise_P(maps, batch.extent) for maps in (prediction.xyz, targets.P))
    oriented = _oriented_residual(P, P_true, prediction, targets)
    symmetric = is_symmetric(targets.symmetry_rotations)[:, None, None, None]
    residual = torch.where(symmetric, oriented, plain)
    return masked_mean(residual, mask[:, None].expand_as(residual), dim=(0, 2, 3))


def oriented_Q(prediction: Prediction, batch: RoiBatch, targets: RoiTargets, min_region: int) -> list[Tensor]:
    """loss_Q0 with HANDLE_SYM: as `oriented_xyz`, summed over coordinates, mean over all planes' masks.

    0 where the masks hold fewer than `min_region` cells.
    """
    plain = (prediction.q - targets.Q).abs().unflatten(1, (3, 2)).sum(dim=2)
    Q, Q_true = (denormalise_Q(maps, batch.extent) for maps in (prediction.q, targets.Q))
    oriented = _oriented_residual(Q, Q_true, prediction, targets).sum(dim=2)
    symmetric = is_symmetric(targets.symmetry_rotations)[:, None, None, None]
    enough = sum_over_ranks(targets.q_mask.sum()) >= min_region
    return [masked_mean(torch.where(symmetric, oriented, plain), targets.q_mask) * enough]


def _oriented_residual(maps: Tensor, truth: Tensor, prediction: Prediction, targets: RoiTargets) -> Tensor:
    """|R X - R* X*| of maps (B, ..., 3, H, W) in metres."""
    origin = torch.zeros_like(targets.cam_t_obj)
    seen = to_camera(maps, prediction.cam_R_obj, origin)
    return (seen - to_camera(truth, targets.cam_R_obj, origin)).abs()
