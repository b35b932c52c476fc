"""From predicted maps to the 2D-3D correspondences that a PnP solver takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sopose.batch import Prediction, RegressedPose, RoiBatch
from sopose.core.geometry.pose import Pose
from sopose.layers import PLANE_AXES, likeliest_coordinate, pixel_variance, split_bins, unpack_Q
from sopose.models.map_forms import PnPInput, mask_probability
from sopose.models.pnp_solvers import Correspondences, RansacOptions, solve_pose

# Off the object P is the origin: a cell this near to it, in extents along each axis, is background.
BACKGROUND = 1e-4
NEAREST = 0.01  # metres before the camera, at least, of an object whose points are weighed


@dataclass(frozen=True)
class MapReader:
    """How predicted maps are read as points."""

    form: PnPInput  # in what form the network predicts mask and coordinates
    mask_threshold: float = 0.5  # mask probability above which a cell's P counts
    q_threshold: float = 0.5  # predicted validity above which a cell's Q counts
    layers: str = "P"  # "P" or "P+Q"

    def __call__(self, prediction: Prediction, rois: RoiBatch) -> list[Correspondences]:
        """The correspondences of each ROI, from arrays: those of P, then with "P+Q" those of Q_x, Q_y, Q_z."""
        prediction, rois = prediction.map(np.float64), rois.map(np.float64)
        P, present = self._P(prediction, rois.extent)
        points, chosen = P[:, None], present[:, None]
        scales = [prediction.xyz_log_scale]
        if self.layers == "P+Q":
            Q, valid = self._Q(prediction, rois.extent)
            points, chosen = np.concatenate([points, Q], axis=1), np.concatenate([chosen, valid & chosen], axis=1)
            scales.append(prediction.q_log_scale)
        pixels = np.broadcast_to(cell_positions(rois, P.shape[1])[:, None], (*chosen.shape, 2))
        K, sure = rois.K, _precision(scales, rois, prediction.cam_t_obj[:, 2])
        return [
            Correspondences(points[b, c], pixels[b, c], K[b], None if sure is None else sure[b, c])
            for b, c in enumerate(chosen)
        ]

    def _P(self, prediction: Prediction, extent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, H, W, 3) metres, and where it counts (B, H, W) bool."""
        coordinates, predicted = self._coordinates(prediction.xyz)
        shift = coordinates - 0.5
        mask = mask_probability(prediction.mask, self.form.mask_type)[:, 0] > self.mask_threshold
        present = mask & predicted.all(axis=1) & (np.abs(shift) > BACKGROUND).any(axis=1)
        return np.moveaxis(shift * extent[..., None, None], 1, -1), present

    def _Q(self, prediction: Prediction, extent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, plane, H, W, 3) metres, and where it counts (B, plane, H, W) bool.

        A network that doesn't predict where Q exists is believed within an extent of the object's origin.
        """
        coordinates, predicted = self._coordinates(prediction.q)
        shift = coordinates - 0.5
        valid = (predicted & (np.abs(shift) < 0.5)).reshape(len(shift), 3, 2, *shift.shape[2:]).all(axis=2)
        if prediction.q_mask is not None:
            valid &= prediction.q_mask > self.q_threshold
        Q6 = np.moveaxis(shift * extent[:, PLANE_AXES.ravel(), None, None], 1, -1)
        return np.moveaxis(unpack_Q(Q6), 3, 1), valid

    def _coordinates(self, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, C, H, W) normalised, and where they are predicted at all: binned ones may be background instead."""
        if not self.form.bins:
            return maps, np.ones_like(maps, dtype=bool)
        likeliest = split_bins(maps, self.form.bins).argmax(2)
        return likeliest_coordinate(maps, self.form.bins), likeliest < self.form.bins


@dataclass(frozen=True)
class PoseSolver:
    """Poses of a batch: the network's own, or by PnP from its maps."""

    pnp_type: str = ""  # of PNP_TYPES; "" for the network's own
    reader: MapReader | None = None
    options: RansacOptions = field(default_factory=RansacOptions)

    def __call__(self, prediction: Prediction | RegressedPose, rois: RoiBatch) -> list[Pose]:
        """One pose for each ROI, in float64, of arrays or of tensors. PnP takes a whole `Prediction`."""
        prediction = prediction.arrays()
        poses = poses_of(prediction)
        if self.reader is None:
            return poses
        found = self.reader(prediction, rois.arrays())
        return [solve_pose(self.pnp_type, *pair, self.options) for pair in zip(found, poses, strict=True)]


def poses_of(prediction: Prediction | RegressedPose) -> list[Pose]:
    """The poses that the network regressed, in float64."""
    pairs = zip(prediction.cam_R_obj, prediction.cam_t_obj, strict=True)
    return [Pose(R.astype(np.float64), t.astype(np.float64)) for R, t in pairs]


def cell_positions(rois: RoiBatch, out: int) -> np.ndarray:
    """(B, out, out, 2) float64 source pixels of the map cells: `roi_coord_2d` without its rounding."""
    center, side = rois.box_center.astype(np.float64), out / rois.resize_ratio.astype(np.float64)
    cells = (np.stack(np.meshgrid(np.arange(out), np.arange(out)), axis=-1) - out / 2) / out
    return center[:, None, None] + cells * side[:, None, None, None]


def _precision(log_scales: Sequence[np.ndarray | None], rois: RoiBatch, depth: np.ndarray) -> np.ndarray | None:
    """(B, layers, H, W) float64 1 / pixels² of a network that predicts scales for all layers, else None."""
    known = [scale for scale in log_scales if scale is not None]
    if len(known) < len(log_scales):
        return None
    return 1 / pixel_variance(np.concatenate(known, axis=1), rois.extent, rois.K, depth.clip(NEAREST, None))
