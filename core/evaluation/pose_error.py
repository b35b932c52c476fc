"""Errors of one estimated pose against one true pose, each a pure function.

Units: metres, pixels and, as every table of the field has it, degrees. `symmetries` are (S, 4, 4)
transforms of the object onto itself (metres, the identity among them); an error with symmetries is the
smallest over all of them. Definitions: the BOP toolkit (https://github.com/thodan/bop_toolkit),
Hodan et al., "BOP Challenge 2020 on 6D Object Localization", and Hinterstoisser et al., ACCV 2012.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import ConvexHull, QhullError, cKDTree

from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose

NO_SYMMETRY = np.eye(4)[None]
NO_SYMMETRY.flags.writeable = False
# Symmetric copies of a model are formed this many points at a time: what a processor's cache holds.
POINTS_AT_ONCE = 30_000
# Metres by which a distance from second moments may be too small: the root of what rounding leaves of a square.
ROUNDING = 1e-8


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
    est: Pose,
    gt: Pose,
    K: np.ndarray,
    points_obj: np.ndarray,
    symmetries: np.ndarray = NO_SYMMETRY,
    apart: np.ndarray | None = None,
) -> float:
    """Mean distance, pixels, between the projections of the (V, 3) points under the two poses.

    `apart` (S, S), the `symmetry_distances` of the points, saves time and changes nothing: symmetries that are
    near each other have errors near each other, so most need not be looked at.
    """
    uv_est = project(est.transform(points_obj), K)
    chunk = max(1, POINTS_AT_ONCE // len(points_obj))
    if apart is None:
        return min(
            float(_pixel_distances(uv_est, gt, K, points_obj, symmetries[first : first + chunk]).mean(1).min())
            for first in range(0, len(symmetries), chunk)
        )
    slope = _pixels_per_metre(gt, K, points_obj, symmetries)
    bounds, unseen, best = np.zeros(len(symmetries)), np.ones(len(symmetries), bool), np.inf
    while unseen.any():
        index = int(np.where(unseen, bounds, np.inf).argmin())
        if bounds[index] >= best:
            break
        error = float(_pixel_distances(uv_est, gt, K, points_obj, symmetries[index, None]).mean())
        unseen[index], best = False, min(best, error)
        bounds = np.maximum(bounds, error - slope * apart[index])
    return best


def symmetry_distances(points_obj: np.ndarray, symmetries: np.ndarray) -> np.ndarray:
    """(S, S) root mean square distances, metres, of the (V, 3) points after each two symmetries."""
    homogeneous = np.column_stack([points_obj, np.ones(len(points_obj))])
    moments = homogeneous.T @ homogeneous / len(points_obj)
    rows = symmetries[:, :3].reshape(-1, 12)
    # |A - B|² = |A|² + |B|² - 2 A·B, with the product that the points' second moments define.
    products = (symmetries[:, :3] @ moments).reshape(-1, 12) @ rows.T
    squares = np.diag(products)
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0)) + ROUNDING


def _pixels_per_metre(gt: Pose, K: np.ndarray, points_obj: np.ndarray, symmetries: np.ndarray) -> float:
    """Pixels by which a point of any symmetric truth moves at most when it moves by a metre.

    It is inf where a point may lie behind the camera. A point (x, y, z) that moves by d to depth z' moves in the
    image by |(dx - x/z dz, dy - y/z dz)| / z' ≤ |d| sqrt(1 + (x/z)² + (y/z)²) / z' in focal lengths.
    """
    offsets = np.linalg.norm(symmetries[:, :3, 3], axis=1).max()
    stretch = np.linalg.norm(gt.cam_R_obj, 2)  # 1, but for a file's rounding
    radius = stretch * (np.linalg.norm(points_obj, axis=1).max() + offsets)
    x, y, z = gt.cam_t_obj
    nearest = z - radius
    if nearest <= 0:
        return np.inf
    tangent = (np.hypot(x, y) + radius) / nearest
    return float(stretch * np.linalg.norm(K[:2, :2], 2) * np.sqrt(1 + tangent**2) / nearest)


def mssd_error(
    est: Pose, gt: Pose, points_obj: np.ndarray, symmetries: np.ndarray, probes_obj: np.ndarray | None = None
) -> float:
    """MSSD: the largest distance, metres, of a surface point, under the best symmetry.

    The distance is a convex function of the point, so `convex_hull_points(points_obj)` gives the same
    value as all points. `probes_obj` as in `mspd_error`.
    """
    return _least_maximum(
        lambda points, some: _displacements(est, gt, points, some), points_obj, symmetries, probes_obj
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

    `probes_obj` (M, 3), some of the points (corners of their hull are a good choice), save time and change
    nothing: their maximum bounds a symmetry's error from below, so most symmetries need not see all points.
    """
    return _least_maximum(
        lambda points, some: _pixel_distances(project(est.transform(points), K), gt, K, points, some),
        points_obj,
        symmetries,
        probes_obj,
    )


def _least_maximum(
    distances: Callable[[np.ndarray, np.ndarray], np.ndarray],
    points_obj: np.ndarray,
    symmetries: np.ndarray,
    probes_obj: np.ndarray | None,
) -> float:
    """The least over symmetries (S, 4, 4) of the largest of `distances(points, symmetries)` (S, V)."""
    bounds = np.zeros(len(symmetries))
    if probes_obj is not None and len(symmetries) > 1:
        bounds = distances(probes_obj, symmetries).max(axis=1)
    order = np.argsort(bounds, kind="stable")
    chunk = 1 if probes_obj is not None else max(1, POINTS_AT_ONCE // len(points_obj))
    best = np.inf
    for first in range(0, len(order), chunk):
        some = order[first : first + chunk]
        if bounds[some[0]] >= best:
            break
        best = min(best, float(distances(points_obj, symmetries[some]).max(axis=1).min()))
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
