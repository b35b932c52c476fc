"""VSD in-process: the model's surface is cast at both poses, and compared with the measured depth.

Definitions: the BOP toolkit's `pose_error.vsd` and `visibility.py` (mode bop19). Distances are along the rays,
metres. A pixel of the model counts as visible where it is at most δ behind what was measured, or where nothing
was; the estimate's also where the truth is visible.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sopose.core.bop.records import ImageRecord
from sopose.core.bop.scene import read_depth, read_image_size
from sopose.core.evaluation.bop19 import VSD_TAUS, TargetGroup
from sopose.core.geometry.camera import check_camera, pixel_grid, pixel_rays
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.raycast import RayCaster
from sopose.core.render.visibility import pixel_limits
from sopose.core.utils.errors import UserError
from sopose.core.utils.parallel import run_jobs

DELTA = 0.015  # metres by which a visible surface may be behind the measured one
DELTA_OF = {"itodd": 0.005}
CACHE_BYTES = 256 << 20
JOBS_PER_WORKER = 4
MANY_IMAGES = 300  # fewer are scored before other processes have started


@dataclass(frozen=True, eq=False)
class DistancePatch:
    """Distances (h, w) of a surface along the rays, metres, 0 where it is not seen, from pixel (x, y) on."""

    x: int
    y: int
    distance: np.ndarray

    def window(self, x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
        """The distances of the pixels [x1, x2) × [y1, y2), which hold the whole patch."""
        height, width = self.distance.shape
        image = np.zeros((y2 - y1, x2 - x1))
        image[self.y - y1 : self.y - y1 + height, self.x - x1 : self.x - x1 + width] = self.distance
        return image


def cast_distance(caster: RayCaster, pose: Pose, K: np.ndarray, size: tuple[int, int]) -> DistancePatch:
    """The object's distances within its projected box; size is (W, H)."""
    x1, y1, x2, y2 = pixel_limits(caster, pose, K, np.array([0, 0, *size]))
    uv = pixel_grid(x2 - x1, y2 - y1).reshape(-1, 2) + np.array([x1, y1])
    hits = caster.cast(pose, K, uv)
    distance = np.zeros(len(uv))
    distance[hits.ray] = hits.depth * np.linalg.norm(pixel_rays(K, uv[hits.ray]), axis=1)
    return DistancePatch(int(x1), int(y1), distance.reshape(y2 - y1, x2 - x1))


def measured_distance(record: ImageRecord) -> np.ndarray:
    """(H, W) measured distances along the rays, metres, 0 where nothing was measured.

    Raises `UserError` where the depth image is damaged or of another size than the colour image beside it: K is of that
    size, so that every distance would be wrong. Without that image, K's principal point must lie in the depth.
    """
    depth = read_depth(record)
    height, width = depth.shape
    if record.rgb_path.is_file():
        size = read_image_size(record, record.rgb_path.parent)
        if size != (width, height):
            raise UserError(
                f"{record.depth_path} has {width} x {height} pixels, its image {size[0]} x {size[1]}; restore the depth"
            )
    else:
        try:
            check_camera(record.K, width, height)
        except UserError as error:
            raise UserError(f"{record.depth_path}: {error}") from error
    return depth * np.linalg.norm(pixel_rays(record.K, pixel_grid(width, height)), axis=-1)


def vsd_errors(
    est: DistancePatch,
    gt: DistancePatch,
    measured: np.ndarray,
    diameter: float,
    delta: float = DELTA,
    taus: np.ndarray = VSD_TAUS,
) -> np.ndarray:
    """VSD (T,) in [0, 1] at each tolerance of `taus` (T,), in diameters; `measured` (H, W) as `measured_distance`.

    A pixel that only one of the two surfaces shows costs 1, one that both show costs 1 where they are τ or
    more apart. Without a visible pixel the error is 1.
    """
    patches = [patch for patch in (est, gt) if patch.distance.size]
    if not patches:
        return np.ones(len(taus))
    x1, y1 = min(patch.x for patch in patches), min(patch.y for patch in patches)
    x2 = max(patch.x + patch.distance.shape[1] for patch in patches)
    y2 = max(patch.y + patch.distance.shape[0] for patch in patches)
    empty = np.zeros((y2 - y1, x2 - x1))
    est_distance, gt_distance = (patch.window(x1, y1, x2, y2) if patch.distance.size else empty for patch in (est, gt))
    test = measured[y1:y2, x1:x2]
    gt_visible = _visible(gt_distance, test, delta)
    est_visible = _visible(est_distance, test, delta) | (gt_visible & (est_distance > 0))
    both = gt_visible & est_visible
    union = int((gt_visible | est_visible).sum())
    if union == 0:
        return np.ones(len(taus))
    apart = np.abs(gt_distance[both] - est_distance[both]) / diameter
    costs = (apart[:, None] >= taus).sum(axis=0)
    return (costs + union - int(both.sum())) / union


def _visible(model: np.ndarray, test: np.ndarray, delta: float) -> np.ndarray:
    return (model > 0) & ((model - test <= delta) | (test == 0))


def spheres_overlap(est: Pose, gt: Pose, diameter: float) -> bool:
    """Whether the projections of the spheres of that diameter around both origins overlap.

    Where they don't, the BOP toolkit says 1 without looking at the surfaces.
    """
    z_est, z_gt = est.cam_t_obj[2], gt.cam_t_obj[2]
    if z_est == 0 or z_gt == 0:
        return False
    apart = np.linalg.norm(est.cam_t_obj[:2] / z_est - gt.cam_t_obj[:2] / z_gt)
    return bool(apart < diameter / 2 / z_est + diameter / 2 / z_gt)


class DistanceCache:
    """Cast distances by object, pose and camera; the least recently used go when `max_bytes` are exceeded."""

    def __init__(self, models: Mapping[int, ObjectModel], max_bytes: int = CACHE_BYTES) -> None:
        self.models = models
        self.max_bytes = max_bytes
        self.hits = self.misses = self.bytes = 0
        self._patches: OrderedDict[tuple, DistancePatch] = OrderedDict()

    def get(self, obj_id: int, pose: Pose, K: np.ndarray, size: tuple[int, int]) -> DistancePatch:
        """`cast_distance` of the object."""
        key = (obj_id, size, *(np.asarray(part, np.float64).tobytes() for part in (pose.cam_R_obj, pose.cam_t_obj, K)))
        if key in self._patches:
            self.hits += 1
            self._patches.move_to_end(key)
            return self._patches[key]
        self.misses += 1
        patch = cast_distance(self.models[obj_id].caster, pose, K, size)
        self._patches[key] = patch
        self.bytes += patch.distance.nbytes
        while self.bytes > self.max_bytes and len(self._patches) > 1:
            _, oldest = self._patches.popitem(last=False)
            self.bytes -= oldest.distance.nbytes
        return patch


@dataclass(eq=False)
class VsdScorer:
    """VSD of target groups, image by image, in this process or in several."""

    models: Mapping[int, ObjectModel]
    delta: float = DELTA
    workers: int = 1
    progress: bool = False
    cache: DistanceCache = field(init=False)

    def __post_init__(self) -> None:
        self.cache = DistanceCache(self.models)

    def errors(self, groups: Sequence[TargetGroup]) -> list[np.ndarray]:
        """For each group (estimates, instances, taus). Raises `UserError` where an image has no depth."""
        images: dict[tuple[int, int], list[int]] = {}
        for index, group in enumerate(groups):
            images.setdefault((group.record.scene_id, group.record.im_id), []).append(index)
        indices = list(images.values())
        workers = self.workers if len(indices) > MANY_IMAGES else 1
        jobs = self._jobs(groups, indices, 1 if workers == 1 else JOBS_PER_WORKER * (os.cpu_count() or 1))
        weights = [len(job.groups) for job in jobs]
        description = "VSD" if self.progress else ""
        found = run_jobs(_errors_of_job, jobs, workers, None, description, "target", weights)
        errors: list[np.ndarray] = [np.empty(0)] * len(groups)
        order = [i for image in indices for i in image]
        for index, values in zip(order, (values for part in found for values in part), strict=True):
            errors[index] = values
        return errors

    def _jobs(self, groups: Sequence[TargetGroup], images: list[list[int]], count: int) -> list[_Job]:
        """The groups of whole images in about `count` jobs; in one, the cache is kept for the next call."""
        diameters = {obj_id: model.diameter for obj_id, model in self.models.items()}
        share = max(1, -(-len(images) // count))
        return [
            _Job(
                [groups[i] for image in images[first : first + share] for i in image], self.cache, diameters, self.delta
            )
            for first in range(0, len(images), share)
        ]


@dataclass(frozen=True, eq=False)
class _Job:
    groups: list[TargetGroup]
    cache: DistanceCache
    diameters: dict[int, float]
    delta: float


def _errors_of_job(job: _Job) -> list[np.ndarray]:
    """Errors of a job's groups, which are sorted by image."""
    errors, path, measured = [], None, np.empty((0, 0))
    for group in job.groups:
        if group.record.depth_path != path:
            path, measured = group.record.depth_path, np.empty((0, 0))
        if group.estimates and not measured.size:
            measured = measured_distance(group.record)
        errors.append(_errors_of_group(group, measured, job))
    return errors


def _errors_of_group(group: TargetGroup, measured: np.ndarray, job: _Job) -> np.ndarray:
    obj_id, K, size = group.target.obj_id, group.record.K, measured.shape[::-1]
    diameter = job.diameters[obj_id]
    errors = np.ones((len(group.estimates), len(group.instances), len(VSD_TAUS)))
    for row, estimate in enumerate(group.estimates):
        est = estimate.pose
        if not est.is_finite:
            continue
        for column, instance in enumerate(group.instances):
            if spheres_overlap(est, instance.pose, diameter):
                patches = (job.cache.get(obj_id, pose, K, size) for pose in (est, instance.pose))
                errors[row, column] = vsd_errors(*patches, measured, diameter, job.delta)
    return errors


def images_without_depth(groups: Iterable[TargetGroup]) -> tuple[int, int]:
    """Number of the groups' images that have no depth file, and of all of them."""
    paths: dict[tuple[int, int], Path | None] = {
        (group.record.scene_id, group.record.im_id): group.record.depth_path for group in groups
    }
    return sum(path is None for path in paths.values()), len(paths)
