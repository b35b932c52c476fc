"""Objects before a camera: their depth, masks, visible parts, and the entries of `scene_gt_info.json`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sopose.core.geometry.camera import pixel_grid
from sopose.core.geometry.pose import Pose
from sopose.core.rays.raycast import RayCaster

NO_BOX = [-1, -1, -1, -1]


def unhidden(points_cam: np.ndarray, occluders: Sequence[tuple[RayCaster, Pose]]) -> np.ndarray:
    """(M,) bool: no posed occluder hides points (M, 3), camera frame, metres, from the camera."""
    seen = np.ones(len(points_cam), bool)
    for caster, pose in occluders:
        origin, rays = pose.inverse().cam_t_obj, points_cam @ pose.cam_R_obj
        seen[seen] = ~caster.occluded(origin, rays[seen], max_depth=1.0)
    return seen


def render_depth(
    caster: RayCaster,
    pose: Pose,
    K: np.ndarray,
    size: tuple[int, int],
    bbox: np.ndarray | None = None,
) -> np.ndarray:
    """Depth image (H, W) float64 of one object, metres along the optical axis, 0 where it is not seen.

    size is (W, H). Rays are cast only inside the object's projected box, and inside `bbox` (x1, y1, x2, y2)
    if given.
    """
    width, height = size
    limits = np.array([0, 0, width, height])
    if bbox is not None:
        limits = _intersect(limits, _integer_limits(np.asarray(bbox)))
    x, y, patch = _depth_patch(caster, pose, K, limits)
    depth = np.zeros((height, width))
    depth[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
    return depth


def scene_gt_info(
    casters: Sequence[RayCaster], poses: Sequence[Pose], K: np.ndarray, size: tuple[int, int]
) -> list[dict[str, int | float | list[int]]]:
    """The entries of `scene_gt_info.json` for one image, as BOP's `calc_gt_info.py` defines them.

    size is (W, H). px_count_all and bbox_obj count the silhouette also outside the image; px_count_valid
    counts its pixels inside, where this exact scene always has a depth; boxes are [x, y, xmax - xmin,
    ymax - ymin] of pixel indices, four times -1 without pixels; visib_fract = px_count_visib / px_count_all.
    """
    return annotate_scene(casters, poses, K, size)[1]


def annotate_scene(
    casters: Sequence[RayCaster], poses: Sequence[Pose], K: np.ndarray, size: tuple[int, int]
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[dict[str, int | float | list[int]]]]:
    """For each object its whole mask and the visible part of it, (H, W) bool; and what `scene_gt_info` returns."""
    width, height = size
    around = np.array([-width, -height, 2 * width, 2 * height])  # BOP's canvas for whole silhouettes
    patches = [_depth_patch(caster, pose, K, around) for caster, pose in zip(casters, poses, strict=True)]
    depths = [_paste(patch, x, y, size) for x, y, patch in patches]
    masks, entries = [], []
    for (x, y, patch), depth, visible in zip(patches, depths, _visible(depths), strict=True):
        silhouette = patch > 0
        count_all, count_visible = int(silhouette.sum()), int(visible.sum())
        masks.append((depth > 0, visible))
        entries.append(
            {
                "bbox_obj": _bop_box(silhouette, x, y),
                "bbox_visib": _bop_box(visible, 0, 0),
                "px_count_all": count_all,
                "px_count_valid": int((depth > 0).sum()),
                "px_count_visib": count_visible,
                "visib_fract": count_visible / count_all if count_all else 0.0,
            }
        )
    return masks, entries


def pixel_limits(caster: RayCaster, pose: Pose, K: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Half-open pixel limits [x1, y1, x2, y2) within `limits` outside which the object is not; (4,) int."""
    box = caster.image_box(pose, K)
    return limits if box is None else _intersect(limits, _integer_limits(box))


def _visible(depths: list[np.ndarray]) -> list[np.ndarray]:
    """For each depth image (0 where empty) where it is the nearest, (H, W) bool; the first wins a tie."""
    if not depths:
        return []
    # Background is infinitely far, and as the first of all it wins where nothing is seen.
    far = np.stack([np.full_like(depths[0], np.inf), *(np.where(depth > 0, depth, np.inf) for depth in depths)])
    nearest = far.argmin(axis=0)
    return [nearest == index + 1 for index in range(len(depths))]


def _depth_patch(caster: RayCaster, pose: Pose, K: np.ndarray, limits: np.ndarray) -> tuple[int, int, np.ndarray]:
    """Left and top pixel, and depth (h, w), of the object's projected box within limits [x1, y1, x2, y2)."""
    x1, y1, x2, y2 = pixel_limits(caster, pose, K, limits)
    uv = pixel_grid(x2 - x1, y2 - y1) + np.array([x1, y1])
    hits = caster.cast(pose, K, uv.reshape(-1, 2))
    depth = np.zeros(uv.shape[:2])
    depth.reshape(-1)[hits.ray] = hits.depth
    return int(x1), int(y1), depth


def _integer_limits(box: np.ndarray) -> np.ndarray:
    """Half-open pixel limits [x1, y1, x2, y2) that hold every pixel centre of a box."""
    # Far outside any image the numbers may exceed an integer; a million pixels is as good as infinity.
    box = np.clip(box, -1e6, 1e6)
    return np.concatenate([np.floor(box[:2]), np.floor(box[2:]) + 1]).astype(int)


def _intersect(limits: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Common part of two half-open limits; of size zero, inside `limits`, where they are apart."""
    low = np.clip(other[:2], limits[:2], limits[2:])
    return np.concatenate([low, np.clip(other[2:], low, limits[2:])])


def _paste(patch: np.ndarray, x: int, y: int, size: tuple[int, int]) -> np.ndarray:
    """An image (H, W) of zeros with `patch` at pixel (x, y), cut where it leaves the image."""
    width, height = size
    image = np.zeros((height, width), patch.dtype)
    x1, y1 = max(x, 0), max(y, 0)
    part = patch[y1 - y : max(height - y, 0), x1 - x : max(width - x, 0)]
    image[y1 : y1 + part.shape[0], x1 : x1 + part.shape[1]] = part
    return image


def _bop_box(mask: np.ndarray, x: int, y: int) -> list[int]:
    """BOP's [x, y, w, h] of a mask whose first pixel is (x, y): w and h are differences of pixel indices."""
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    if not len(rows):
        return list(NO_BOX)
    extent = [columns[-1] - columns[0], rows[-1] - rows[0]]
    return [int(value) for value in (columns[0] + x, rows[0] + y, *extent)]
