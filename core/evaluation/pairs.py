"""Errors of many pairs of poses of one object at once.

Units: metres, pixels and, as every table of the field has it, degrees. `symmetries` are (S, 4, 4) transforms of the
object onto itself (metres, the identity first); an error with symmetries is the least over all of them. Definitions:
the BOP toolkit (https://github.com/thodan/bop_toolkit), Hodan et al., "BOP Challenge 2020 on 6D Object Localization",
and Hinterstoisser et al., ACCV 2012. Model points are shared by all pairs, so what depends on them alone (trees, convex
hull, probes) is made once a model, and products run over chunks of pairs that fit a processor's cache. All in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError, cKDTree

from sopose.core.evaluation.nearest import NearestPoints
from sopose.core.geometry.pose import Pose

NO_SYMMETRY = np.eye(4)[None]
NO_SYMMETRY.flags.writeable = False
# Points are moved this many at a time: what a processor's cache holds.
POINTS_AT_ONCE = 30_000
# Nearest points are sought for about this many queries at a time.
QUERIES_AT_ONCE = 200_000
# Estimates that are further from a rotation than this stretch space: their nearest points are sought in the
# camera's frame, with a tree of their own.
RIGID = 1e-4


@dataclass(frozen=True, eq=False)
class PosePairs:
    """N estimates, each beside one truth, of one object."""

    est_R: np.ndarray  # (N, 3, 3)
    est_t: np.ndarray  # (N, 3), metres
    gt_R: np.ndarray  # (N, 3, 3)
    gt_t: np.ndarray  # (N, 3), metres
    K: np.ndarray  # (N, 3, 3), pixels

    @classmethod
    def of(cls, pairs: Sequence[tuple[Pose, Pose, np.ndarray]]) -> PosePairs:
        """Of tuples (estimate, truth, K)."""
        return cls(
            est_R=_stacked([est.cam_R_obj for est, _, _ in pairs], 3, 3),
            est_t=_stacked([est.cam_t_obj for est, _, _ in pairs], 3),
            gt_R=_stacked([gt.cam_R_obj for _, gt, _ in pairs], 3, 3),
            gt_t=_stacked([gt.cam_t_obj for _, gt, _ in pairs], 3),
            K=_stacked([K for _, _, K in pairs], 3, 3),
        )

    def __len__(self) -> int:
        return len(self.est_t)

    def __getitem__(self, index: slice | np.ndarray) -> PosePairs:
        return PosePairs(*(column[index] for column in self._columns()))

    def finite(self) -> np.ndarray:
        """(N,) bool: pairs without nan and infinity."""
        return np.all(
            [np.isfinite(column).all(axis=tuple(range(1, column.ndim))) for column in self._columns()], axis=0
        )

    def poses(self, index: int) -> tuple[Pose, Pose, np.ndarray]:
        """Estimate, truth and K of one pair."""
        return Pose(self.est_R[index], self.est_t[index]), Pose(self.gt_R[index], self.gt_t[index]), self.K[index]

    def after(self, symmetries: np.ndarray) -> PosePairs:
        """The pairs with symmetries of the object before each truth: one (1, 4, 4) for N, or S for a single pair."""
        t = (self.gt_R @ symmetries[:, :3, 3, None])[..., 0] + self.gt_t
        return PosePairs(self.est_R, self.est_t, self.gt_R @ symmetries[:, :3, :3], t, self.K)

    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.est_R, self.est_t, self.gt_R, self.gt_t, self.K


def add(pairs: PosePairs, points: np.ndarray) -> np.ndarray:
    """ADD: mean distances (N,) between the (V, 3) model points under the two poses."""
    return _by_chunks(pairs, len(points), lambda some: displacements(some, points).mean(axis=1))


def adi(pairs: PosePairs, points: np.ndarray, nearest: NearestPoints) -> np.ndarray:
    """ADI (ADD-S): mean distances (N,) of each true point to its nearest estimated one; `nearest` knows `points`."""
    rigid = np.abs(pairs.est_R @ pairs.est_R.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2)) < RIGID
    errors = np.empty(len(pairs))
    errors[rigid] = _by_chunks(
        pairs[rigid], len(points), lambda some: _adi_of_rigid(some, points, nearest), QUERIES_AT_ONCE
    )
    for index in np.flatnonzero(~rigid):
        est, gt, _ = pairs.poses(index)
        errors[index] = cKDTree(est.transform(points)).query(gt.transform(points))[0].mean()
    return errors


def _adi_of_rigid(pairs: PosePairs, points: np.ndarray, nearest: NearestPoints) -> np.ndarray:
    obj_R_cam = np.linalg.inv(pairs.est_R)
    offset = (obj_R_cam @ (pairs.gt_t - pairs.est_t)[..., None])[..., 0]
    queries = _transform(obj_R_cam @ pairs.gt_R, offset, points).transpose(0, 2, 1)
    matched = points[nearest.indices(queries)].transpose(0, 2, 1)
    # Distances in the camera's frame are exact where a file's rotation is orthonormal to a few digits only.
    found = pairs.est_R @ matched + pairs.est_t[:, :, None]
    return _norms(_transform(pairs.gt_R, pairs.gt_t, points) - found).mean(axis=1)


def te(pairs: PosePairs) -> np.ndarray:
    """Distances (N,) between the two translations, metres."""
    return np.linalg.norm(pairs.est_t - pairs.gt_t, axis=1)


def re_deg_cm(pairs: PosePairs, symmetries: np.ndarray = NO_SYMMETRY) -> tuple[np.ndarray, np.ndarray]:
    """Angles (N,) between the two rotations in degrees, and the least n for which n degrees and n cm hold."""
    return tuple(_by_chunks(pairs, 4 * len(symmetries), lambda some: _re_deg_cm(some, symmetries)).T)


def _re_deg_cm(pairs: PosePairs, symmetries: np.ndarray) -> np.ndarray:
    """(N, 2)."""
    R, t = symmetries[:, :3, :3], symmetries[:, :3, 3]
    # The toolkit's formula, trace(est (gt S)^-1) with true inverses: files hold rotations rounded to a few digits, and
    # a formula that repairs them would give other numbers than the published ones.
    turn = np.linalg.inv(pairs.gt_R) @ pairs.est_R
    traces = turn.reshape(-1, 9) @ np.linalg.inv(R).transpose(0, 2, 1).reshape(-1, 9).T
    degrees = np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))
    offsets = (pairs.est_t - pairs.gt_t)[:, None] - np.einsum("nij,sj->nsi", pairs.gt_R, t)
    both = np.maximum(degrees, 100 * np.linalg.norm(offsets, axis=-1))
    return np.stack([degrees.min(axis=1), both.min(axis=1)], axis=1)


def mssd(pairs: PosePairs, points: np.ndarray, symmetries: np.ndarray) -> np.ndarray:
    """MSSD: the largest distances (N,), metres, of a surface point, under the best symmetry.

    The distance is a convex function of the point, so `convex_hull_points` give the same value as all points.
    """
    return _least(pairs, points, symmetries, lambda some: displacements(some, points).max(axis=1))[1]


def pixels(pairs: PosePairs, points: np.ndarray, symmetries: np.ndarray = NO_SYMMETRY) -> tuple[np.ndarray, ...]:
    """proj without and with symmetries and MSPD (N,): mean and largest distances of projected points, in pixels."""

    def mean_and_max(some: PosePairs) -> np.ndarray:
        distances = pixel_distances(some, points)
        return np.stack([distances.mean(axis=1), distances.max(axis=1)], axis=1)

    plain, least = _least(pairs, points, symmetries, mean_and_max)
    return plain[:, 0], *least.T


def displacements(pairs: PosePairs, points: np.ndarray) -> np.ndarray:
    """Distances (N, V), metres, between points (V, 3) under the estimates and the truths."""
    return _norms(_transform(pairs.est_R - pairs.gt_R, pairs.est_t - pairs.gt_t, points))


def pixel_distances(pairs: PosePairs, points: np.ndarray) -> np.ndarray:
    """Distances (N, V), pixels, between the projections of points (V, 3) under the estimates and the truths."""
    # K R and K t once a pair, not once a point.
    est, gt = (
        _transform(pairs.K @ R, (pairs.K @ t[..., None])[..., 0], points)
        for R, t in ((pairs.est_R, pairs.est_t), (pairs.gt_R, pairs.gt_t))
    )
    dx = est[:, 0] / est[:, 2] - gt[:, 0] / gt[:, 2]
    dy = est[:, 1] / est[:, 2] - gt[:, 1] / gt[:, 2]
    return np.sqrt(dx * dx + dy * dy)


def convex_hull_points(points: np.ndarray) -> np.ndarray:
    """The (H, 3) points that are corners of the convex hull; all points where they span no volume."""
    try:
        return points[np.sort(ConvexHull(points).vertices)]
    except (QhullError, ValueError):
        return points


def _least(
    pairs: PosePairs, points: np.ndarray, symmetries: np.ndarray, errors_of: Callable[[PosePairs], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Errors (N, ...) under the first symmetry, and the least under any."""
    found = [_by_chunks(pairs.after(symmetry[None]), len(points), errors_of) for symmetry in symmetries]
    return found[0], np.min(found, axis=0)


def _stacked(arrays: Sequence[np.ndarray], *shape: int) -> np.ndarray:
    return np.array(arrays, np.float64).reshape(-1, *shape)


def _by_chunks(
    pairs: PosePairs, points: int, errors_of: Callable[[PosePairs], np.ndarray], at_once: int = POINTS_AT_ONCE
) -> np.ndarray:
    """`errors_of` all pairs, a few pairs at a time, each with `points` points, `at_once` in all."""
    size = max(1, at_once // max(points, 1))
    return np.concatenate([errors_of(pairs[first : first + size]) for first in range(0, max(len(pairs), 1), size)])


def _transform(R: np.ndarray, t: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N, 3, V) points after N motions R (N, 3, 3), t (N, 3); one matrix product for all."""
    return (R.reshape(-1, 3) @ points.T).reshape(-1, 3, len(points)) + t[:, :, None]


def _norms(vectors: np.ndarray) -> np.ndarray:
    """Lengths (N, V) of vectors (N, 3, V)."""
    return np.sqrt(np.einsum("niv,niv->nv", vectors, vectors))
