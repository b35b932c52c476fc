"""One pose of an object from several that cameras of known motion found, each as sure as its covariance says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sopose.core.geometry.pose import Pose
from sopose.core.geometry.pose_covariance import turned_covariance
from sopose.core.geometry.rotation import lie_vec_to_matrix, rotation_log
from sopose.core.utils.errors import UserError

STEPS = 20
SETTLED = 1e-10  # of a step, metres and radians
GATE = 4.0  # a pose that is off by more standard deviations, the root of the mean over its six numbers, is left out


@dataclass(frozen=True, eq=False)
class PoseView:
    """What one camera found: a pose with its covariance in its own frame, and where that frame is."""

    pose: Pose  # object to camera
    covariance: np.ndarray  # (6, 6) as of `PoseFit`
    cam_T_ref: Pose  # from the common frame to the camera's


@dataclass(frozen=True, eq=False)
class FusedPose:
    """The most probable pose in the common frame."""

    pose: Pose  # object to the common frame
    covariance: np.ndarray  # (6, 6) as of `PoseFit`, in the common frame
    used: np.ndarray  # (N,) bool, the views that agree with it


def fuse_poses(views: Sequence[PoseView], symmetries: np.ndarray | None = None, gate: float = GATE) -> FusedPose:
    """The pose that explains most of N views, from those that agree with it.

    Each view's pose is tried as the start; the one with the least sum of squared errors, in standard deviations and at
    most `gate`² a number, wins. From there Gauss-Newton over the views within the gate, which are chosen anew in each
    step. An object rotated by one of its symmetries (S, 4, 4), metres, looks the same; the nearest is taken of each
    view. Raises `UserError` without views, and for covariances that aren't positive.
    """
    if not views:
        raise UserError("there is no pose to fuse; give at least one")
    transforms = np.eye(4)[None] if symmetries is None else symmetries
    poses = [view.cam_T_ref.inverse() @ view.pose for view in views]
    precisions = np.stack([_precision(view) for view in views])
    limit = gate**2 * 6
    costs = [np.minimum(_squares(_motions(poses, start, transforms), precisions), limit).sum() for start in poses]
    mean = poses[int(np.argmin(costs))]
    for _ in range(STEPS):
        motions = _motions(poses, mean, transforms)
        used = _squares(motions, precisions) <= limit
        information = precisions[used].sum(axis=0)
        step = np.linalg.solve(information, np.einsum("nij,nj->i", precisions[used], motions[used]))
        mean = Pose(lie_vec_to_matrix(step[3:]) @ mean.cam_R_obj, mean.cam_t_obj + step[:3])
        if np.abs(step).max() < SETTLED:
            break
    return FusedPose(mean, np.linalg.inv(information), used)


def _precision(view: PoseView) -> np.ndarray:
    """(6, 6) the inverse of a view's covariance in the common frame."""
    covariance = np.asarray(view.covariance, np.float64)
    if covariance.shape != (6, 6) or not np.isfinite(covariance).all() or np.linalg.eigvalsh(covariance)[0] <= 0:
        raise UserError("a covariance must be (6, 6), finite and positive; poses have one after second looks")
    return np.linalg.inv(turned_covariance(covariance, view.cam_T_ref.cam_R_obj.T))


def _motions(poses: Sequence[Pose], mean: Pose, transforms: np.ndarray) -> np.ndarray:
    """(N, 6) from a pose to others, as `PoseFit` has motions, each to the nearest of its equal poses."""
    equal = [[pose @ Pose(S[:3, :3], S[:3, 3]) for S in transforms] for pose in poses]
    nearest = [max(row, key=lambda other: float(np.sum(other.cam_R_obj * mean.cam_R_obj))) for row in equal]
    turns = np.stack([pose.cam_R_obj for pose in nearest]) @ mean.cam_R_obj.T
    return np.concatenate([[pose.cam_t_obj - mean.cam_t_obj for pose in nearest], rotation_log(turns)], axis=1)


def _squares(motions: np.ndarray, precisions: np.ndarray) -> np.ndarray:
    """(N,) squared lengths of motions in standard deviations."""
    return np.einsum("ni,nij,nj->n", motions, precisions, motions)
