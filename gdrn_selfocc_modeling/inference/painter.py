"""Estimated poses drawn into the photograph they were found in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from sopose.core.geometry.distortion import undistorted
from sopose.core.images.files import write_image
from sopose.core.images.photo import as_rgb
from sopose.core.render.visibility import render_depth
from sopose.core.vis.colors import ESTIMATE, bgr
from sopose.core.vis.overlays import contour, draw_axes, draw_box
from sopose.inference.found import ObjectPose

AXIS = 0.5  # length of the axes, diameters
DOUBTFUL, COARSE = "#888888", "#CCCCCC"  # the latter of poses before second looks


def draw(image: np.ndarray | Path | str, poses: Iterable[ObjectPose], path: Path | str | None = None) -> np.ndarray:
    """An image with the poses that an estimator found in it: (H, W, 3) uint8 RGB, also written to `path`.

    image: as of `core.images.photo.as_rgb`. What is drawn is said by `draw_poses`. Raises `UserError` where the image
    can't be read, or the picture can't be written.
    """
    picture_bgr = draw_poses(as_rgb(image), poses)
    if path is not None:
        write_image(Path(path), picture_bgr)
    return np.ascontiguousarray(picture_bgr[..., ::-1])


def draw_poses(rgb: np.ndarray, poses: Iterable[ObjectPose]) -> np.ndarray:
    """The image (H, W, 3) uint8 RGB with the poses, as BGR; undistorted where its lens was known.

    Outlines where the estimator has models, else boxes; axes, names, and doubtful estimates in grey. The outline of a
    pose before second looks is thin and light. What is not before the camera is not drawn.
    """
    poses = list(poses)
    lens = next((pose.distortion for pose in poses if pose.distortion is not None), None)
    image = np.ascontiguousarray((rgb if lens is None else undistorted(rgb, poses[0].K, lens))[..., ::-1])
    for pose in poses:
        if pose.pose.with_origin(pose.known.middle).is_ahead:
            image = _drawn(image, pose)
    return image


def _drawn(image: np.ndarray, found: ObjectPose) -> np.ndarray:
    known, K, color = found.known, found.K, ESTIMATE if found.reliable else DOUBTFUL
    if found.model is None:
        image = draw_box(image, K, found.pose, known.bounds_min, known.extent, color)
    else:
        caster, size = found.model.caster, image.shape[1::-1]
        image = contour(image, render_depth(caster, found.pose, K, size) > 0, color)
        if found.coarse is not None:
            image = contour(image, render_depth(caster, found.coarse, K, size) > 0, COARSE, 1)
    if found.pose.is_ahead:  # its origin may lie beside the object
        image = draw_axes(image, K, found.pose, AXIS * known.diameter)
    x, y = (int(value) for value in np.clip(np.nan_to_num(found.box[:2]), 0, 30000))
    number = "" if found.track is None else f" {found.track}"
    label = f"{found.object}{number} {found.score:.2f}"
    return cv2.putText(image, label, (x, max(y - 5, 12)), cv2.FONT_HERSHEY_SIMPLEX, 0.45, bgr(color), 1, cv2.LINE_AA)
