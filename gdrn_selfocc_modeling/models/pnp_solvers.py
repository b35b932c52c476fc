"""Poses from 2D-3D correspondences: what can take the learned PnP's place at test.

Four ways are those of GDR-Net's evaluation (Wang et al., CVPR 2021), the fifth weighs each point. A solve that fails,
because points are missing or its pose is impossible, leaves the network's pose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from sopose.core.geometry.pose import Pose
from sopose.core.geometry.pose_fit import SeenPoints, fit_poses
from sopose.core.utils.registry import Registry

MIN_POINTS = 4  # fewer have several poses
EQUALLY_SURE = 2.0  # pixels of standard deviation where points don't say how sure they are
MAX_SHIFT = 1.0  # metres from the network's translation, beyond which a solve that starts from it has failed
REFINEMENT = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 50, 1e-12)


@dataclass(frozen=True)
class RansacOptions:
    """How RANSAC looks for a pose."""

    reprojection_error: float = 3.0  # pixels within which a point agrees with a pose
    iterations: int = 100  # samples at most
    confidence: float = 0.99  # of having found the best pose, at which it ends


@dataclass(frozen=True, eq=False)
class Correspondences:
    """Points of one object and where one camera sees them."""

    points_obj: np.ndarray  # (N, 3) float64 metres, object frame
    pixels: np.ndarray  # (N, 2) float64 pixels
    K: np.ndarray  # (3, 3) float64 pixels
    precision: np.ndarray | None = None  # (N,) float64 1 / pixels², how sure each is; None: all are equally sure

    def __len__(self) -> int:
        return len(self.points_obj)

    def __getitem__(self, chosen: np.ndarray) -> Correspondences:
        """Those of a mask or of indices."""
        precision = None if self.precision is None else self.precision[chosen]
        return Correspondences(self.points_obj[chosen], self.pixels[chosen], self.K, precision)

    def agree_with(self, pose: Pose, tolerance: float) -> np.ndarray:
        """(N,) bool: which points the pose projects to within `tolerance` pixels, ahead of the camera."""
        homogeneous = pose.transform(self.points_obj) @ self.K.T
        ahead = homogeneous[:, 2] > 0
        uv = homogeneous[:, :2] / np.where(ahead, homogeneous[:, 2], 1.0)[:, None]
        return ahead & (((uv - self.pixels) ** 2).sum(axis=1) <= tolerance**2)


Solver = Callable[[Correspondences, Pose, RansacOptions], Pose | None]
PNP_TYPES: Registry[Solver] = Registry("TEST.PNP_TYPE")


def solve_pose(pnp_type: str, found: Correspondences, network: Pose, options: RansacOptions) -> Pose:
    """The pose by one of PNP_TYPES; that of the `network` where there are too few points or the solve fails."""
    if len(found) < MIN_POINTS:
        return network
    pose = PNP_TYPES[pnp_type](found, network, options)
    return network if pose is None else pose


@PNP_TYPES.register("ransac_pnp")
def ransac_pnp(found: Correspondences, network: Pose, options: RansacOptions) -> Pose | None:
    """From the points alone: RANSAC over EPnP, then Levenberg-Marquardt on the points that agree."""
    pose = _ransac(found, options)
    return None if pose is None else _possible(_refine_on_agreeing(found, pose, options))


@PNP_TYPES.register("net_iter_pnp")
def net_iter_pnp(found: Correspondences, network: Pose, options: RansacOptions) -> Pose | None:
    """Levenberg-Marquardt on all points from the network's pose: fine where the maps have no gross errors."""
    return _possible(_refine(found, network), network)


@PNP_TYPES.register("net_ransac_pnp")
def net_ransac_pnp(found: Correspondences, network: Pose, options: RansacOptions) -> Pose | None:
    """The network's pose or RANSAC's, whichever more points agree with, then Levenberg-Marquardt on those."""
    poses = [network, *filter(None, [_ransac(found, options)])]
    counts = [np.count_nonzero(found.agree_with(pose, options.reprojection_error)) for pose in poses]
    return _possible(_refine_on_agreeing(found, poses[int(np.argmax(counts))], options), network)


@PNP_TYPES.register("net_ransac_pnp_rot")
def net_ransac_pnp_rot(found: Correspondences, network: Pose, options: RansacOptions) -> Pose | None:
    """The rotation of `net_ransac_pnp` with the network's translation."""
    pose = net_ransac_pnp(found, network, options)
    return None if pose is None else Pose(pose.cam_R_obj, network.cam_t_obj)


@PNP_TYPES.register("weighted_pnp")
def weighted_pnp(found: Correspondences, network: Pose, options: RansacOptions) -> Pose | None:
    """From the pose of `net_ransac_pnp`: all points, each as much as it is sure, outliers by Huber's weights."""
    start = net_ransac_pnp(found, network, options) or network
    sure = np.full(len(found), 1 / EQUALLY_SURE**2) if found.precision is None else found.precision
    seen = SeenPoints(found.points_obj[None], found.pixels[None], sure[None], found.K[None])
    fit = fit_poses(seen, start.cam_R_obj[None], start.cam_t_obj[None])
    return _possible(Pose(fit.cam_R_obj[0], fit.cam_t_obj[0]), network)


def _ransac(found: Correspondences, options: RansacOptions) -> Pose | None:
    try:
        solved, rotvec, cam_t_obj, _ = cv2.solvePnPRansac(
            found.points_obj,
            found.pixels,
            found.K,
            None,
            flags=cv2.SOLVEPNP_EPNP,
            reprojectionError=options.reprojection_error,
            iterationsCount=options.iterations,
            confidence=options.confidence,
        )
    except cv2.error:  # points on a line, a singular sample
        return None
    return _possible(_pose(rotvec, cam_t_obj)) if solved else None


def _refine_on_agreeing(found: Correspondences, pose: Pose, options: RansacOptions) -> Pose | None:
    agreeing = found[found.agree_with(pose, options.reprojection_error)]
    return _refine(agreeing, pose) if len(agreeing) >= MIN_POINTS else None


def _refine(found: Correspondences, pose: Pose) -> Pose | None:
    rotvec = cv2.Rodrigues(np.ascontiguousarray(pose.cam_R_obj))[0]
    start = rotvec, np.array(pose.cam_t_obj, np.float64).reshape(3, 1)
    try:
        return _pose(*cv2.solvePnPRefineLM(found.points_obj, found.pixels, found.K, None, *start, REFINEMENT))
    except cv2.error:
        return None


def _pose(rotvec: np.ndarray, cam_t_obj: np.ndarray) -> Pose:
    return Pose(cv2.Rodrigues(rotvec)[0], cam_t_obj.reshape(3))


def _possible(pose: Pose | None, network: Pose | None = None) -> Pose | None:
    """`pose` where it is finite, ahead of the camera and, given the network's, not far from it; else None."""
    if pose is None or not pose.is_ahead:
        return None
    far = network is not None and np.linalg.norm(pose.cam_t_obj - network.cam_t_obj) > MAX_SHIFT
    return None if far else pose
