"""Losses on the pose: distances of model points, rotation, translation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from sopose.core.utils.errors import UserError

Distance = Callable[[Tensor, Tensor], Tensor]


def make_distance(name: str, beta: float = 1.0) -> Distance:
    """(..., D), (..., D) -> mean distance: "L1", "MSE" (both over all numbers), "L2" (norm of the last
    dimension) or "smooth_l1" with its `beta`, in any case. Raises UserError for another name."""
    known: dict[str, Distance] = {
        "l1": F.l1_loss,
        "mse": F.mse_loss,
        "l2": lambda x, y: torch.linalg.vector_norm(x - y, dim=-1).mean(),
        "smooth_l1": partial(F.smooth_l1_loss, beta=beta),
    }
    if name.lower() not in known:
        raise UserError(f"unknown distance '{name}' for a *_LOSS_TYPE; known: L1, MSE, L2, smooth_l1")
    return known[name.lower()]


class PointMatching:
    """Distance of model points under the predicted and the true pose (Li et al., DeepIM, eq. 8).

    Args:
        distance: of (B, N, 3) points; counted three times, so that "L1" is a sum over x, y, z.
        norm_by_extent: divide each ROI's points by the largest side of its model's box.
        parts: "R" (rotation alone), "RT" (the whole pose at once), "R/T" or "R/xy/z" (each part with the
            others at ground truth).
        use_points: for the translation's parts; False compares the translations themselves.
    """

    PARTS = ("R", "RT", "R/T", "R/xy/z")
    AXES: ClassVar = {"T": slice(0, 3), "xy": slice(0, 2), "z": slice(2, 3)}

    def __init__(self, distance: Distance, norm_by_extent: bool, parts: str, use_points: bool = True) -> None:
        if parts not in self.PARTS:
            raise ValueError(f"parts is '{parts}'; known: {', '.join(self.PARTS)}")
        self.distance = distance
        self.norm_by_extent = norm_by_extent
        self.shifts = () if parts == "RT" else tuple(parts.split("/")[1:])
        self.use_points = use_points
        suffix = "" if use_points else "_noP"
        first = "loss_PM_RT" if parts == "RT" else "loss_PM_R"
        self.names = (first, *(f"loss_PM_{shift}{suffix}" for shift in self.shifts))

    def __call__(
        self,
        pred: tuple[Tensor, Tensor],
        true: tuple[Tensor, Tensor],
        points_obj: Tensor,
        extent: Tensor,
    ) -> list[Tensor]:
        """Values in the order of `names`.

        Poses are (cam_R_obj (B, 3, 3), cam_t_obj (B, 3) m); points (B, N, 3) m, extent (B, 3) m.
        """
        (R, t), (R_true, t_true) = pred, true
        scale = 1 / extent.amax(dim=1)[:, None, None] if self.norm_by_extent else 1.0

        def between(t_pred: Tensor, R_pred: Tensor = R_true) -> Tensor:
            moved = points_obj @ R_pred.mT + t_pred[:, None]
            expected = points_obj @ R_true.mT + t_true[:, None]
            return 3 * self.distance(scale * moved, scale * expected)

        if self.names == ("loss_PM_RT",):
            return [between(t, R)]
        values = [between(t_true, R)]
        for axes in map(self.AXES.__getitem__, self.shifts):
            if self.use_points:
                values.append(between(_with_axes(t_true, t, axes)))
            else:
                values.append(self.distance(t[:, axes], t_true[:, axes]))
        return values


def _with_axes(base: Tensor, source: Tensor, axes: slice) -> Tensor:
    """(B, 3) `base` with some columns taken from `source`."""
    return torch.cat([base[:, : axes.start], source[:, axes], base[:, axes.stop :]], dim=1)


def angular_loss(R: Tensor, R_true: Tensor) -> Tensor:
    """Mean (1 - cos angle) / 2 between (B, 3, 3) rotations, in [0, 1]."""
    cosine = (torch.einsum("bij,bij->b", R, R_true) - 1) / 2
    return ((1 - cosine) / 2).mean()


def bind_loss(pred: tuple[Tensor, Tensor], true: tuple[Tensor, Tensor], distance: Distance) -> Tensor:
    """Distance of the camera's place in the object's frame, R^T t, for poses as in `PointMatching`."""
    bound = [(rotation.mT @ shift[..., None])[..., 0] for rotation, shift in (pred, true)]
    return distance(bound[0], bound[1])
