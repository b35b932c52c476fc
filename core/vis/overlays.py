"""Poses drawn into photographs: contours, axes, boxes, and close-ups in which they can be seen.

Images are (H, W, 3) uint8 BGR; every function returns a new one. Colours are `#RRGGBB`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import cv2
import numpy as np

from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.rays.raycast import RayCaster
from sopose.core.render.visibility import render_depth
from sopose.core.vis.colors import AXES, ESTIMATE, TRUTH, bgr


def contour(image: np.ndarray, mask: np.ndarray, color: str, thickness: int = 2) -> np.ndarray:
    """`image` with the outline of `mask` (H, W) bool, every part and hole of it."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image.copy(), outlines, -1, bgr(color), thickness, cv2.LINE_AA)


def draw_pose_contours(
    image_bgr: np.ndarray,
    K: np.ndarray,
    caster: RayCaster,
    pose_est: Pose | None,
    pose_gt: Pose | None = None,
    thickness: int = 2,
) -> np.ndarray:
    """The object's outline at the estimate (orange) over the one at the truth (blue), with a legend."""
    height, width = image_bgr.shape[:2]
    entries = {"truth": (TRUTH, pose_gt), "estimate": (ESTIMATE, pose_est)}
    shown = {label: entry for label, entry in entries.items() if entry[1] is not None}
    for color, pose in shown.values():
        silhouette = render_depth(caster, pose, K, (width, height)) > 0
        image_bgr = contour(image_bgr, silhouette, color, thickness)
    return legend(image_bgr, {label: color for label, (color, _) in shown.items()})


def draw_axes(image_bgr: np.ndarray, K: np.ndarray, pose: Pose, length: float) -> np.ndarray:
    """The object's x, y, z axes (red, green, blue) of `length` metres from its origin."""
    image = image_bgr.copy()
    points_cam = pose.transform(length * np.vstack([np.zeros(3), np.eye(3)]))
    if points_cam[:, 2].min() <= 0:
        return image
    origin, *tips = project(points_cam, K)
    for tip, color in zip(tips, AXES, strict=True):
        cv2.arrowedLine(image, _pixel(origin), _pixel(tip), bgr(color), 2, cv2.LINE_AA, tipLength=0.12)
    return image


def draw_box(
    image_bgr: np.ndarray,
    K: np.ndarray,
    pose: Pose,
    bounds_min: np.ndarray,
    extent: np.ndarray,
    color: str = ESTIMATE,
) -> np.ndarray:
    """The edges of the model's axis-aligned box: corner `bounds_min` (3,) and size `extent` (3,), metres."""
    image = image_bgr.copy()
    units = np.array(list(itertools.product((0, 1), repeat=3)))
    points_cam = pose.transform(bounds_min + units * extent)
    if points_cam[:, 2].min() <= 0:
        return image
    uv = project(points_cam, K)
    for first, second in itertools.combinations(range(8), 2):
        if np.abs(units[first] - units[second]).sum() == 1:
            cv2.line(image, _pixel(uv[first]), _pixel(uv[second]), bgr(color), 1, cv2.LINE_AA)
    return image


def object_view(
    image_bgr: np.ndarray, K: np.ndarray, box: np.ndarray, size: int = 384, margin: float = 1.3
) -> tuple[np.ndarray, np.ndarray]:
    """A square close-up around a box, and its intrinsics.

    `box` (4,) is x1, y1, x2, y2 in pixels; the view has `size` pixels a side and shows `margin` times the
    box's longer side, black outside the image. Drawing with the returned (3, 3) intrinsics is as sharp
    in the close-up as in a photograph of that resolution.
    """
    side = margin * max(box[2] - box[0], box[3] - box[1], 8.0)
    scale = size / side
    corner = np.array([box[0] + box[2], box[1] + box[3]]) / 2 - side / 2
    # Pixel centres are integers, so the view begins at -0.5, where the corner comes to lie.
    shift = -scale * corner - 0.5
    view_A_image = np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1]])
    interpolation = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    view = cv2.warpAffine(image_bgr, view_A_image[:2], (size, size), flags=interpolation)
    return view, view_A_image @ K


def pose_box(K: np.ndarray, poses: list[Pose], points_obj: np.ndarray) -> np.ndarray:
    """The box x1, y1, x2, y2 (4,) in pixels around the points (V, 3) seen at all `poses`."""
    uv = np.concatenate([project(pose.transform(points_obj), K) for pose in poses])
    return np.concatenate([uv.min(0), uv.max(0)])


def pose_close_up(
    image_bgr: np.ndarray,
    K: np.ndarray,
    caster: RayCaster,
    pose_est: Pose | None,
    pose_gt: Pose | None = None,
    size: int = 384,
) -> np.ndarray:
    """`draw_pose_contours` in a close-up of `size` pixels around the truth, or the estimate without one."""
    pose = pose_est if pose_gt is None else pose_gt
    view, view_K = object_view(image_bgr, K, pose_box(K, [pose], caster.vertices), size)
    return draw_pose_contours(view, view_K, caster, pose_est, pose_gt)


def legend(image_bgr: np.ndarray, colors: Mapping[str, str]) -> np.ndarray:
    """`image_bgr` with a line of coloured labels in its upper left corner, sized to the image."""
    image = image_bgr.copy()
    scale = max(0.35, min(image.shape[:2]) / 650)
    height = round(34 * scale)
    x = round(10 * scale)
    for label, color in colors.items():
        (width, _), _ = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        corner = (x + width + height, height + 4)
        cv2.rectangle(image, (x - 4, 4), corner, (24, 24, 24), cv2.FILLED)
        middle = 4 + height // 2
        cv2.line(image, (x, middle), (x + height // 2, middle), bgr(color), 2, cv2.LINE_AA)
        origin = (x + height // 2 + 5, middle + round(9 * scale))
        cv2.putText(image, label, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (245, 245, 245), 1, cv2.LINE_AA)
        x = corner[0] + 8
    return image


def _pixel(uv: np.ndarray) -> tuple[int, int]:
    """The nearest pixel as OpenCV's integers, kept within its drawing range."""
    u, v = np.clip(np.round(np.nan_to_num(uv)), -30000, 30000).astype(int)
    return int(u), int(v)
