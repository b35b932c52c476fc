"""Where predictions meet the truth and losses meet their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from sopose.batch import Prediction, RoiBatch, RoiTargets
from sopose.core.engine.distributed import current_world, sum_over_ranks
from sopose.layers import denormalise_P, denormalise_Q, expected_coordinate, pixel_variance
from sopose.losses.cross_layer import (
    cross_projection_loss,
    cross_task_loss,
    plane_reprojection_loss,
    project_map,
    to_camera,
)
from sopose.losses.point_matching import Distance, PointMatching
from sopose.losses.pose_fit import pose_fit_loss
from sopose.losses.symmetry import closest_rotation

Loss = Callable[[Prediction, RoiBatch, RoiTargets], Sequence[Tensor] | Tensor]
Focal = Callable[[RoiBatch], Tensor | float]


@dataclass(frozen=True)
class Term:
    """One or more losses that are computed together."""

    names: tuple[str, ...]  # as logged
    loss: Loss  # one value per name
    weight: float
    start_epoch: float = 0.0  # counts while epoch > start_epoch


class Criterion(nn.Module):
    """Weighted losses by name. Their sum is minimised.

    Args:
        terms: what to compute.
        learn_weights: balance the losses by a learned s for each, L exp(-s) + log(1 + exp(s)) (after Kendall
            et al., CVPR 2018); `log_variance` (losses,) is then a parameter to optimise.
    """

    def __init__(self, terms: Sequence[Term], learn_weights: bool = False) -> None:
        super().__init__()
        self.terms = tuple(terms)
        self.names = tuple(name for term in terms for name in term.names)
        self.log_variance = nn.Parameter(torch.zeros(len(self.names))) if learn_weights else None

    def forward(self, prediction: Prediction, batch: RoiBatch, targets: RoiTargets, epoch: float) -> dict[str, Tensor]:
        """Name -> weighted scalar. Epochs count from 1. Computed in float32 (float64 stays)."""
        with torch.autocast(prediction.cam_R_obj.device.type, enabled=False):
            prediction = prediction.map(lambda x: x.to(torch.promote_types(x.dtype, torch.float32)))
            losses: dict[str, Tensor] = {}
            for term in self.terms:
                if epoch > term.start_epoch:
                    values = term.loss(prediction, batch, targets)
                    losses.update({name: term.weight * x for name, x in zip(term.names, values, strict=True)})
            if self.log_variance is None:
                return losses
            learned = dict(zip(self.names, self.log_variance, strict=True))
            return {name: x * (-learned[name]).exp() + softplus(learned[name]) for name, x in losses.items()}


# Adapters: one per kind of loss, from typed data to the pure function.


def on_coordinates(loss: Loss, bins: int) -> Loss:
    """A loss on coordinates for a network that predicts them as `bins` (0: it doesn't): it sees their expectation."""

    def of_expectation(prediction: Prediction, batch: RoiBatch, targets: RoiTargets) -> Sequence[Tensor] | Tensor:
        P, Q = (expected_coordinate(maps, bins) for maps in (prediction.xyz, prediction.q))
        return loss(replace(prediction, xyz=P, q=Q), batch, targets)

    return of_expectation if bins else loss


def mean_focal(batch: RoiBatch) -> Tensor:
    """Mean f_x of all ranks' ROIs, pixels."""
    return sum_over_ranks(batch.K[:, 0, 0].mean()) / current_world().size


def mask_named(targets: RoiTargets, name: str) -> Tensor:
    """(B, H, W) mask "obj", "visib", "trunc" or "erode"."""
    return getattr(targets, f"mask_{name}")


def pose_fit(prediction: Prediction, batch: RoiBatch, targets: RoiTargets, mask: str) -> list[Tensor]:
    """loss_fit, over the cells of a mask."""
    variance = pixel_variance(prediction.xyz_log_scale, batch.extent, batch.K, targets.cam_t_obj[:, 2])
    P_obj, true = denormalise_P(prediction.xyz, batch.extent), (targets.cam_R_obj, targets.cam_t_obj)
    return [pose_fit_loss(P_obj, variance, mask_named(targets, mask), targets.pixel, batch.K, *true)]


def cross_task(prediction: Prediction, batch: RoiBatch, targets: RoiTargets) -> list[Tensor]:
    """loss_ct, under the predicted pose."""
    P_obj = denormalise_P(prediction.xyz, batch.extent)
    Q_obj = denormalise_Q(prediction.q, batch.extent)
    pose = prediction.cam_R_obj, prediction.cam_t_obj
    return [cross_task_loss(P_obj, Q_obj, targets.q_mask, *pose)]


def cross_projection(prediction: Prediction, batch: RoiBatch, targets: RoiTargets, focal: Focal) -> list[Tensor]:
    """loss_ct_pro, under the predicted pose."""
    pose = prediction.cam_R_obj, prediction.cam_t_obj
    P_uv = project_map(to_camera(denormalise_P(prediction.xyz, batch.extent), *pose), batch.K)
    Q_uv = project_map(to_camera(denormalise_Q(prediction.q, batch.extent), *pose), batch.K)
    return [cross_projection_loss(P_uv, Q_uv, targets.pixel, targets.q_mask, focal(batch))]


def plane_reprojection(prediction: Prediction, batch: RoiBatch, targets: RoiTargets, focal: Focal) -> list[Tensor]:
    """loss_q_def, under the true pose."""
    Q_cam = to_camera(denormalise_Q(prediction.q, batch.extent), targets.cam_R_obj, targets.cam_t_obj)
    Q_uv = project_map(Q_cam, batch.K)
    return [plane_reprojection_loss(Q_uv, targets.pixel, targets.q_mask, focal(batch))]


def point_matching(
    prediction: Prediction,
    batch: RoiBatch,
    targets: RoiTargets,
    matching: PointMatching,
    symmetric: bool,
) -> list[Tensor]:
    """loss_PM_*; with `symmetric`, the true rotation is the closest of its equivalents."""
    cam_R_true = targets.cam_R_obj
    if symmetric:
        cam_R_true = closest_rotation(prediction.cam_R_obj, cam_R_true, targets.symmetry_rotations)
    pred = prediction.cam_R_obj, prediction.cam_t_obj
    return matching(pred, (cam_R_true, targets.cam_t_obj), targets.model_points, batch.extent)


def site_depth(
    prediction: Prediction, batch: RoiBatch, targets: RoiTargets, distance: Distance, z_type: str
) -> list[Tensor]:
    """loss_z on the depth as regressed: relative to the zoom, or metres."""
    truth = targets.trans_ratio if z_type == "REL" else targets.cam_t_obj
    return [distance(prediction.trans_raw[:, 2:], truth[:, 2:])]
