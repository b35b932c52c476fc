"""Pictures of what is being trained on: a row for each ROI, the prediction beside the truth."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from sopose.batch import PredictedMaps, RegressedPose, RoiBatch, RoiTargets, T
from sopose.core.data.roi import crop_positions
from sopose.core.evaluation.report import Panel
from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.vis.colors import ESTIMATE, TRUTH, bgr
from sopose.core.vis.maps import grey_to_rgb, grid
from sopose.core.vis.overlays import legend
from sopose.data.roi_input import RoiFormat
from sopose.vis.report_cases import map_panels

TILE = 192  # side of each picture in a row, pixels
DOTS = 60  # model points drawn of a pose, at most
FAR = 4000  # pixels, beyond which nothing is handed to OpenCV's integers
SUBPIXEL = 4  # binary places of the outlines' pixels


def batch_pictures(
    rois: RoiBatch,
    targets: RoiTargets,
    maps: PredictedMaps,
    poses: RegressedPose,
    roi_format: RoiFormat,
    count: int = 4,
) -> dict[str, np.ndarray]:
    """(H, W, 3) uint8 RGB pictures by topic, in each a row for every one of the first `count` ROIs of a batch.

    "overlay" is the crop, and the crop with the model at both poses; "masks", "P" and "Q" are maps, "Q" only where
    it is predicted. The tensors may lie on any device and require gradients. No number is too bad to be drawn: a pose
    that isn't finite or is behind the camera is left out, for a training that goes wrong is the one to look at.
    """
    parts = [_first(part, count) for part in (rois, targets, maps, poses)]
    rows = [
        _topics(*(part.map(lambda tensor, b=b: tensor[b]) for part in parts), roi_format) for b in range(len(parts[0]))
    ]
    return {topic: np.concatenate([grid(row[topic], size=TILE) for row in rows]) for topic in rows[0]}


def _first(part: T, count: int) -> T:
    """The first `count` of a batch, in float32 on the host and free of any graph."""
    return part.map(lambda tensor: tensor[:count].detach().float().cpu())


def _topics(
    roi: RoiBatch, truth: RoiTargets, maps: PredictedMaps, pose: RegressedPose, roi_format: RoiFormat
) -> dict[str, list[Panel]]:
    """The titled pictures of one ROI by topic; unbatched arguments."""
    layers = map_panels(maps, truth)
    masks = {
        "mask": maps.mask,
        "whole, truth": truth.mask_obj,
        "visible, truth": truth.mask_visib,
        "truncated, truth": truth.mask_trunc,
    }
    topics = {
        "overlay": _overlay(roi, truth, pose, roi_format),
        "masks": [(title, grey_to_rgb(mask.numpy())) for title, mask in masks.items()],
        "P": layers[:2],
    }
    return topics if maps.Q is None else {**topics, "Q": layers[2:]}


def _overlay(roi: RoiBatch, truth: RoiTargets, estimate: RegressedPose, roi_format: RoiFormat) -> list[Panel]:
    """The crop as the network sees it, and the same with the model at the estimate (orange) over the truth (blue)."""
    crop = roi_format.image_array(torch.nan_to_num(roi.image, nan=0.0, posinf=0.0, neginf=0.0).numpy())
    tile = cv2.resize(crop, (TILE, TILE), interpolation=cv2.INTER_AREA if len(crop) > TILE else cv2.INTER_LINEAR)
    drawn, shown = tile, {}
    for label, color, said, width in (("truth", TRUTH, truth, 2), ("estimate", ESTIMATE, estimate, 1)):
        pose = Pose(*(part.double().numpy() for part in (said.cam_R_obj, said.cam_t_obj)))
        points = _tile_positions(roi, pose, truth.model_points.double().numpy(), roi_format)
        if len(points):
            drawn, shown[label] = _draw_model(drawn, points, color, width), color
    drawn = legend(drawn, shown)
    return [("input", tile[..., ::-1]), ("poses", drawn[..., ::-1])]


def _tile_positions(roi: RoiBatch, pose: Pose, points_obj: np.ndarray, roi_format: RoiFormat) -> np.ndarray:
    """(M, 2) positions on the tile of those of the points (N, 3), metres, that lie in front of the camera."""
    K, center, ratio = (part.double().numpy() for part in (roi.K, roi.box_center, roi.resize_ratio))
    resolution = roi_format.input_res
    with np.errstate(all="ignore"):
        points_cam = pose.transform(points_obj)
        position = crop_positions(project(points_cam, K), center, roi_format.output_res / ratio, resolution)
    position = position[(points_cam[:, 2] > 0) & np.isfinite(position).all(axis=1)]
    return (position + 0.5) * (TILE / resolution) - 0.5  # cv2.resize lets the outer edges meet, not the first samples


def _draw_model(image: np.ndarray, points: np.ndarray, color: str, thickness: int) -> np.ndarray:
    """The BGR image with the convex outline of the points (M, 2), and some of them as dots."""
    image, points = image.copy(), np.clip(points, -FAR, FAR)
    for dot in np.rint(points[:: -(-len(points) // DOTS)]).astype(int).tolist():
        cv2.circle(image, dot, thickness, bgr(color), cv2.FILLED)
    outline = cv2.convexHull(np.rint(points * 2**SUBPIXEL).astype(np.int32))
    return cv2.polylines(image, [outline], True, bgr(color), thickness, cv2.LINE_AA, SUBPIXEL)
