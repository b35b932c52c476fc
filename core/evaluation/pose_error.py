"""Errors of one estimated pose against one true pose, each a pure function.

Units: metres, pixels and, as every table of the field has it, degrees. `symmetries` are (S, 4, 4)
transforms of the object onto itself (metres, the identity among them); an error with symmetries is the
smallest over all of them. Definitions: the BOP toolkit (https://github.com/thodan/bop_toolkit),
Hodan et al., "BOP Challenge 2020 on 6D Object Localization", and Hinterstoisser et al., ACCV 2012.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull, QhullError, cKDTree

from core.geometry.camera import project
from core.geometry.pose import Pose

NO_SYMMETRY = np.eye(4)[None]
NO_SYMMETRY.flags.writeable = False
# Symmetric copies of a model are formed this many points at a time: what a processor's cache holds.
POINTS_AT_ONCE = 30_000


def add_error(est: Pose, gt: Pose, points_obj: np.ndarray) -> float:
    """ADD: mean distance, metres, between the (V, 3) model points under the two poses."""
    return float(_displacements(est, gt, points_obj, NO_SYMMETRY)[0].mean())


def adi_error(est: Pose, gt: Pose, points_obj: np.ndarray, tree: cKDTree | None = None) -> float:
    """ADI (ADD-S): mean distance, metres, of each true point to its nearest estimated one.

    `tree` is the KD-tree of `points_obj`, for callers that score many pairs of one object.
    """
    tree = cKDTree(points_obj) if tree is None else tree
    points_gt = gt.transform(points_obj)
    # The tree stays in the object's frame, so it is built once per object. Distances are taken in the
    # camera's frame, which keeps them exact where a file's rotation is orthonormal to a few digits only.
    queries_obj = np.linalg.solve(est.cam_R_obj, (points_gt - est.cam_t_obj).T).T
    nearest = tree.query(queries_obj, workers=-1)[1]
    return float(np.linalg.norm(points_gt - est.transform(points_obj[nearest]), axis=1).mean())


def re_error(est: Pose, gt: Pose, symmetries: np.ndarray = NO_SYMMETRY) -> float:
    """Angle between the two rotations, degrees in [0, 180]."""
    return float(_rotation_angles(est, gt, symmetries).min())


def te_error(est: Pose, gt: Pose) -> float:
    """Distance between the two translations, metres."""
    return float(np.linalg.norm(est.cam_t_obj - gt.cam_t_obj))


def deg_cm_error(est: Pose, gt: Pose, symmetries: np.ndarray = NO_SYMMETRY) -> float:
    """The smallest n for which the pose is right within n degrees and n centimetres."""
    _, cam_t_gt = symmetric_poses(gt, symmetries)
    centimetres = 100 * np.linalg.norm(est.cam_t_obj - cam_t_gt, axis=1)
    return float(np.maximum(_rotation_angles(est, gt, symmetries), centimetres).min())


def proj_error(
    est: Pose, gt: Pose, K: np.ndarray, points_obj: np.ndarray, symmetries: np.ndarray = NO_SYMMETRY
) -> float:
    """Mean distance, pixels, between the projections of the (V, 3) points under the two poses."""
    uv_est = project(est.transform(points_obj), K)
    chunk = max(1, POINTS_AT_ONCE // len(points_obj))
    return min(
        float(_pixel_distances(uv_est, gt, K, points_obj, symmetries[first : first + chunk]).mean(1).min())
        for first in range(0, len(symmetries), chunk)
    )


def mssd_error(est: Pose, gt: Pose, points_obj: np.ndarray, symmetries: np.ndarray) -> float:
    """MSSD: the largest distance, metres, of a surface point, under the best symmetry.

    The distance is a convex function of the point, so `convex_hull_points(points_obj)` gives the same
    value as all points.
    """
    chunk = max(1, POINTS_AT_ONCE // len(points_obj))
    return min(
        float(_displacements(est, gt, points_obj, symmetries[first : first + chunk]).max(1).min())
        for first in range(0, len(symmetries), chunk)
    )


def mspd_error(
    est: Pose,
    gt: Pose,
    K: np.ndarray,
    points_obj: np.ndarray,
    symmetries: np.ndarray,
    probes_obj: np.ndarray | None = None,
) -> float:
    """MSPD: the largest distance, pixels, of a projected surface point, under the best symmetry.

    `probes_obj` (M, 3), some of the points (their hull is a good choice), save time and change nothing:
    their maximum bounds a symmetry's error from below, so most symmetries need not see all points.
    """
    if probes_obj is None or len(symmetries) == 1:
        bounds = np.zeros(len(symmetries))
    else:
        bounds = _pixel_distances(project(est.transform(probes_obj), K), gt, K, probes_obj, symmetries).max(1)
    uv_est = project(est.transform(points_obj), K)
    best = np.inf
    for index in np.argsort(bounds, kind="stable"):
        if bounds[index] >= best:
            break
        error = _pixel_distances(uv_est, gt, K, points_obj, symmetries[index, None]).max()
        best = min(best, float(error))
    return best


def convex_hull_points(points_obj: np.ndarray) -> np.ndarray:
    """The (H, 3) points that are corners of the convex hull; all points where they span no volume."""
    try:
        return points_obj[np.sort(ConvexHull(points_obj).vertices)]
    except (QhullError, ValueError):
        return points_obj


def symmetric_poses(gt: Pose, symmetries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`gt` after each symmetry: rotations (S, 3, 3) and translations (S, 3) in metres."""
    cam_R_gt = gt.cam_R_obj @ symmetries[:, :3, :3]
    cam_t_gt = symmetries[:, :3, 3] @ gt.cam_R_obj.T + gt.cam_t_obj
    return cam_R_gt, cam_t_gt


def _displacements(est: Pose, gt: Pose, points_obj: np.ndarray, symmetries: np.ndarray) -> np.ndarray:
    """Distances (S, V), metres, between points under the estimate and under each symmetric truth."""
    cam_R_gt, cam_t_gt = symmetric_poses(gt, symmetries)
    differences = (est.cam_R_obj - cam_R_gt) @ points_obj.T + (est.cam_t_obj - cam_t_gt)[:, :, None]
    return np.sqrt(np.einsum("siv,siv->sv", differences, differences))


def _pixel_distances(
    uv_est: np.ndarray, gt: Pose, K: np.ndarray, points_obj: np.ndarray, symmetries: np.ndarray
) -> np.ndarray:
    """Distances (S, V), pixels, between `uv_est` (V, 2) and the points under each symmetric truth."""
    cam_R_gt, cam_t_gt = symmetric_poses(gt, symmetries)
    # K R and K t once a symmetry, not once a point.
    x, y, z = np.moveaxis((K @ cam_R_gt) @ points_obj.T + (cam_t_gt @ K.T)[:, :, None], 1, 0)
    dx, dy = x / z - uv_est[:, 0], y / z - uv_est[:, 1]
    return np.sqrt(dx * dx + dy * dy)


def _rotation_angles(est: Pose, gt: Pose, symmetries: np.ndarray) -> np.ndarray:
    """Angles (S,), degrees, between the estimate's rotation and each symmetric truth's."""
    cam_R_gt, _ = symmetric_poses(gt, symmetries)
    # The toolkit's formula with its true inverse: files hold rotations rounded to a few digits, and a
    # formula that repairs them would give other numbers than the published ones.
    traces = np.trace(est.cam_R_obj @ np.linalg.inv(cam_R_gt), axis1=1, axis2=2)
    return np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))
