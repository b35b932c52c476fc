"""Errors of many pairs of poses of one object at once: the numbers of `pose_error`, vectorised over the pairs.

Model points are shared by all pairs, so what depends on them alone (KD-tree, convex hull, probes) is made once
a model, and matrix products run over chunks of pairs that fit a processor's cache. All in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from sopose.core.evaluation import pose_error
from sopose.core.evaluation.nearest import NearestPoints
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.sampling import farthest_points
from sopose.core.objects.model import ObjectModel

# Nearest points are sought for about this many queries at a time.
QUERIES_AT_ONCE = 200_000
# Estimates that are further from a rotation than this stretch space: their nearest points are sought in the
# camera's frame, with a tree of their own.
RIGID = 1e-4
# Up to this many symmetries are all met with all points; more are bounded by probes first, pair by pair.
FEW_SYMMETRIES = 8
PROBES = 32


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

    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.est_R, self.est_t, self.gt_R, self.gt_t, self.K


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """A model with what its errors need, computed once."""

    model: ObjectModel
    symmetric: bool  # its ADD(-S) is ADI

    def errors(self, pairs: PosePairs, names: Collection[str]) -> dict[str, np.ndarray]:
        """Errors (N,) of N pairs, by name: metres, degrees and pixels.

        add, adi, ad (ADD(-S)), re, te, deg_cm, proj, mssd, mspd, and with "_sym" the least over the model's
        symmetries. An estimate with nan or infinity, and a point in the camera's plane, give inf.
        """
        values = {name: np.full(len(pairs), np.inf) for name in names}
        good = np.flatnonzero(pairs.finite())
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for name, found in self._errors(pairs[good], set(names)).items():
                values[name][good] = np.where(np.isnan(found), np.inf, found)
        return values

    def _errors(self, pairs: PosePairs, names: set[str]) -> dict[str, np.ndarray]:
        errors = {}
        wanted = names | ({"adi" if self.symmetric else "add"} if "ad" in names else set())
        if "add" in wanted:
            errors["add"] = _by_chunks(pairs, len(self.model.vertices), self._add)
        if "adi" in wanted:
            errors["adi"] = self._adi(pairs)
        if "ad" in names:
            errors["ad"] = errors["adi" if self.symmetric else "add"]
        if "mssd" in names:
            errors["mssd"] = self._mssd(pairs)
        if names & {"re", "re_sym", "te", "deg_cm", "deg_cm_sym"}:
            errors |= _by_chunks(pairs, 4 * len(self.symmetries), self._angles_and_distances)
        if names & {"proj", "proj_sym", "mspd"}:
            errors |= self._pixel_errors(pairs, names)
        return {name: errors[name] for name in names & set(errors)}

    @property
    def symmetries(self) -> np.ndarray:
        return self.model.symmetry_transforms

    @cached_property
    def nearest(self) -> NearestPoints:
        return NearestPoints(self.model.vertices)

    @cached_property
    def neighbours(self) -> np.ndarray:
        """The vertices (V, 3), those beside each other one after the other: queries in such an order are quick."""
        return self.model.vertices[cKDTree(self.model.vertices).indices]

    @cached_property
    def hull(self) -> np.ndarray:
        return pose_error.convex_hull_points(self.model.vertices)

    @cached_property
    def probes(self) -> np.ndarray:
        """A few far-apart corners of the hull: they bound from below what a symmetry can reach."""
        return self.hull[farthest_points(self.hull, min(PROBES, len(self.hull)))]

    @cached_property
    def apart(self) -> np.ndarray:
        return pose_error.symmetry_distances(self.model.vertices, self.symmetries)

    def _add(self, pairs: PosePairs) -> np.ndarray:
        return _displacements(pairs, self.model.vertices).mean(axis=1)

    def _adi(self, pairs: PosePairs) -> np.ndarray:
        """Mean distances (N,) of each true point to its nearest estimated one."""
        if not len(pairs):
            return np.empty(0)
        rigid = np.abs(pairs.est_R @ pairs.est_R.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2)) < RIGID
        errors = np.empty(len(pairs))
        errors[rigid] = _by_chunks(pairs[rigid], len(self.model.vertices), self._adi_of_rigid, QUERIES_AT_ONCE)
        for index in np.flatnonzero(~rigid):
            est, gt, _ = pairs.poses(index)
            tree = cKDTree(est.transform(self.model.vertices))
            errors[index] = tree.query(gt.transform(self.model.vertices))[0].mean()
        return errors

    def _adi_of_rigid(self, pairs: PosePairs) -> np.ndarray:
        points = self.neighbours
        obj_R_cam = np.linalg.inv(pairs.est_R)
        obj_T_gt = obj_R_cam @ pairs.gt_R, np.einsum("nij,nj->ni", obj_R_cam, pairs.gt_t - pairs.est_t)
        queries = _transform(*obj_T_gt, points).transpose(0, 2, 1)
        nearest = self.nearest.indices(queries)
        # Distances in the camera's frame are exact where a file's rotation is orthonormal to a few digits only.
        matched = self.model.vertices[nearest].transpose(0, 2, 1)
        found = pairs.est_R @ matched + pairs.est_t[:, :, None]
        return _norms(_transform(pairs.gt_R, pairs.gt_t, points) - found).mean(axis=1)

    def _mssd(self, pairs: PosePairs) -> np.ndarray:
        if len(self.symmetries) > FEW_SYMMETRIES:
            return np.array(
                [
                    pose_error.mssd_error(est, gt, self.hull, self.symmetries, self.probes)
                    for est, gt, _ in map(pairs.poses, range(len(pairs)))
                ]
            )
        errors = np.full(len(pairs), np.inf)
        for symmetry in self.symmetries:
            turned = _after_symmetry(pairs, symmetry)
            largest = _by_chunks(turned, len(self.hull), lambda part: _displacements(part, self.hull).max(axis=1))
            errors = np.minimum(errors, largest)
        return errors

    def _angles_and_distances(self, pairs: PosePairs) -> dict[str, np.ndarray]:
        R, t = self.symmetries[:, :3, :3], self.symmetries[:, :3, 3]
        # trace(est (gt S)^-1) of every symmetry, with true inverses as in `pose_error`.
        turn = np.linalg.inv(pairs.gt_R) @ pairs.est_R
        traces = turn.reshape(-1, 9) @ np.linalg.inv(R).transpose(0, 2, 1).reshape(-1, 9).T
        degrees = np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))
        offsets = (pairs.est_t - pairs.gt_t)[:, None] - np.einsum("nij,sj->nsi", pairs.gt_R, t)
        metres = np.linalg.norm(offsets, axis=-1)
        both = np.maximum(degrees, 100 * metres)
        return {
            "re": degrees[:, 0],
            "te": metres[:, 0],
            "deg_cm": both[:, 0],
            "re_sym": degrees.min(axis=1),
            "deg_cm_sym": both.min(axis=1),
        }

    def _pixel_errors(self, pairs: PosePairs, names: set[str]) -> dict[str, np.ndarray]:
        few = len(self.symmetries) <= FEW_SYMMETRIES
        least = {}
        for index, symmetry in enumerate(self.symmetries[: len(self.symmetries) if few else 1]):
            turned = _after_symmetry(pairs, symmetry)
            found = _by_chunks(turned, len(self.model.vertices), self._mean_and_max_pixels)
            if index == 0:
                least = {"proj": found["mean"], "proj_sym": found["mean"], "mspd": found["max"]}
            else:
                least["proj_sym"] = np.minimum(least["proj_sym"], found["mean"])
                least["mspd"] = np.minimum(least["mspd"], found["max"])
        return least if few else least | self._pixel_errors_one_by_one(pairs, names)

    def _pixel_errors_one_by_one(self, pairs: PosePairs, names: set[str]) -> dict[str, np.ndarray]:
        points, errors = self.model.vertices, {}
        triples = [pairs.poses(index) for index in range(len(pairs))]
        if "mspd" in names:
            errors["mspd"] = np.array(
                [pose_error.mspd_error(*triple, points, self.symmetries, self.probes) for triple in triples]
            )
        if "proj_sym" in names:
            errors["proj_sym"] = np.array(
                [pose_error.proj_error(*triple, points, self.symmetries, self.apart) for triple in triples]
            )
        return errors

    def _mean_and_max_pixels(self, pairs: PosePairs) -> dict[str, np.ndarray]:
        points = self.model.vertices
        est, gt = (
            _transform(pairs.K @ R, np.einsum("nij,nj->ni", pairs.K, t), points)
            for R, t in ((pairs.est_R, pairs.est_t), (pairs.gt_R, pairs.gt_t))
        )
        dx = est[:, 0] / est[:, 2] - gt[:, 0] / gt[:, 2]
        dy = est[:, 1] / est[:, 2] - gt[:, 1] / gt[:, 2]
        distances = np.sqrt(dx * dx + dy * dy)
        return {"mean": distances.mean(axis=1), "max": distances.max(axis=1)}


def _stacked(arrays: Sequence[np.ndarray], *shape: int) -> np.ndarray:
    return np.array(arrays, np.float64).reshape(-1, *shape)


def _by_chunks(
    pairs: PosePairs,
    points: int,
    errors_of: Callable[[PosePairs], np.ndarray | dict[str, np.ndarray]],
    at_once: int = pose_error.POINTS_AT_ONCE,
) -> np.ndarray | dict[str, np.ndarray]:
    """`errors_of` all pairs, a few pairs at a time, each with `points` points, `at_once` in all."""
    size = max(1, at_once // max(points, 1))
    parts = [errors_of(pairs[first : first + size]) for first in range(0, max(len(pairs), 1), size)]
    if isinstance(parts[0], dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)


def _after_symmetry(pairs: PosePairs, symmetry: np.ndarray) -> PosePairs:
    """The pairs with a symmetry (4, 4) of the object before each truth."""
    t = np.einsum("nij,j->ni", pairs.gt_R, symmetry[:3, 3]) + pairs.gt_t
    return PosePairs(pairs.est_R, pairs.est_t, pairs.gt_R @ symmetry[:3, :3], t, pairs.K)


def _transform(R: np.ndarray, t: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N, 3, V) points after N motions R (N, 3, 3), t (N, 3); one matrix product for all."""
    return (R.reshape(-1, 3) @ points.T).reshape(-1, 3, len(points)) + t[:, :, None]


def _displacements(pairs: PosePairs, points: np.ndarray) -> np.ndarray:
    """Distances (N, V), metres, between points (V, 3) under the estimates and the truths."""
    return _norms(_transform(pairs.est_R - pairs.gt_R, pairs.est_t - pairs.gt_t, points))


def _norms(vectors: np.ndarray) -> np.ndarray:
    """Lengths (N, V) of vectors (N, 3, V)."""
    return np.sqrt(np.einsum("niv,niv->nv", vectors, vectors))
