"""Errors of one estimated pose against one true pose: those of `pairs`, of a single pair.

Units, symmetries and definitions are those of that module. `points_obj` are the (V, 3) model points; an error with
`symmetries` is the least over all of them.
"""

from __future__ import annotations

import numpy as np

from sopose.core.evaluation import pairs
from sopose.core.evaluation.nearest import NearestPoints
from sopose.core.evaluation.pairs import NO_SYMMETRY, PosePairs
from sopose.core.geometry.pose import Pose


def add_error(est: Pose, gt: Pose, points_obj: np.ndarray) -> float:
    """ADD: mean distance, metres, between the model points under the two poses."""
    return float(pairs.add(_pair(est, gt), points_obj)[0])


def adi_error(est: Pose, gt: Pose, points_obj: np.ndarray) -> float:
    """ADI (ADD-S): mean distance, metres, of each true point to its nearest estimated one."""
    return float(pairs.adi(_pair(est, gt), points_obj, NearestPoints(points_obj))[0])


def re_error(est: Pose, gt: Pose, symmetries: np.ndarray = NO_SYMMETRY) -> float:
    """Angle between the two rotations, degrees in [0, 180]."""
    return float(pairs.re_deg_cm(_pair(est, gt), symmetries)[0][0])


def te_error(est: Pose, gt: Pose) -> float:
    """Distance between the two translations, metres."""
    return float(pairs.te(_pair(est, gt))[0])


def deg_cm_error(est: Pose, gt: Pose, symmetries: np.ndarray = NO_SYMMETRY) -> float:
    """The smallest n for which the pose is right within n degrees and n centimetres."""
    return float(pairs.re_deg_cm(_pair(est, gt), symmetries)[1][0])


def proj_error(
    est: Pose, gt: Pose, K: np.ndarray, points_obj: np.ndarray, symmetries: np.ndarray = NO_SYMMETRY
) -> float:
    """Mean distance, pixels, between the projections of the points under the two poses."""
    return float(pairs.pixels(_pair(est, gt, K), points_obj, symmetries)[1][0])


def mssd_error(est: Pose, gt: Pose, points_obj: np.ndarray, symmetries: np.ndarray) -> float:
    """MSSD: the largest distance, metres, of a surface point; corners of the convex hull give the same as all."""
    return float(pairs.mssd(_pair(est, gt), points_obj, symmetries)[0])


def mspd_error(est: Pose, gt: Pose, K: np.ndarray, points_obj: np.ndarray, symmetries: np.ndarray) -> float:
    """MSPD: the largest distance, pixels, of a projected surface point."""
    return float(pairs.pixels(_pair(est, gt, K), points_obj, symmetries)[2][0])


def _pair(est: Pose, gt: Pose, K: np.ndarray = NO_SYMMETRY[0, :3, :3]) -> PosePairs:
    return PosePairs.of([(est, gt, K)])
