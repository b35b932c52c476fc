"""Objects that stand still, seen by a camera whose motion is known: one pose of each from all images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.fields import numbers, rotation
from sopose.core.bop.results import Estimate
from sopose.core.bop.scene_folder import entries_by_image
from sopose.core.geometry.fusion import FusedPose, PoseView, fuse_poses
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.pose_covariance import moved_pose
from sopose.core.geometry.symmetry import moved_transforms, symmetry_transforms
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_key
from sopose.core.utils.units import MM_TO_M
from sopose.inference.found import ObjectPose

REMEDY = "give the camera's motion as BOP's scene_camera.json does: cam_R_w2c, cam_t_w2c (millimetres)"
MAX_STEP = 0.1  # radians between the poses that stand for a continuous symmetry


@dataclass(frozen=True, eq=False)
class Sighting:
    """A pose that was found in an image."""

    scene_id: int
    im_id: int
    pose: ObjectPose


@dataclass(frozen=True, eq=False)
class FusedObject:
    """One object's pose in the world, from all images of a scene."""

    scene_id: int
    object: str
    obj_id: int
    score: float  # the mean of those that agree
    fused: FusedPose
    images: tuple[int, ...]  # ids of the images that it was seen in
    agree: tuple[int, ...]  # of those whose poses agree


def read_views(path: Path) -> dict[int, Pose]:
    """Where the camera stood in each image by its id: the world's frame to the camera's, metres.

    Raises `UserError` where the file is missing or damaged, or has images without it.
    """
    views = {}
    for im_id, entry in entries_by_image(path).items():
        where = f"{path}, image {im_id}"
        missing = [key for key in ("cam_R_w2c", "cam_t_w2c") if key not in entry]
        if missing:
            raise UserError(f"{where} doesn't say where the camera is ({', '.join(missing)}); {REMEDY}")
        R = rotation(require_key(entry, "cam_R_w2c", where), f"{where}: cam_R_w2c")
        t = numbers(require_key(entry, "cam_t_w2c", where), 3, f"{where}: cam_t_w2c")
        views[im_id] = Pose(R, MM_TO_M * t)
    return views


def fuse_sightings(sightings: Iterable[Sighting], views: Mapping[int, Pose]) -> list[FusedObject]:
    """One pose of each object of each scene, from the best-scored one of each image that has a covariance.

    Raises `UserError` where an image has no view, and where no pose has a covariance.
    """
    of_object: dict[tuple[int, int], dict[int, Sighting]] = defaultdict(dict)
    seen = list(sightings)
    for sighting in seen:
        if sighting.im_id not in views:
            raise UserError(f"the views say nothing of image {sighting.im_id}; {REMEDY}")
        if sighting.pose.covariance is None:
            continue
        images = of_object[sighting.scene_id, sighting.pose.obj_id]
        if sighting.im_id not in images or sighting.pose.score > images[sighting.im_id].pose.score:
            images[sighting.im_id] = sighting
    if seen and not of_object:
        raise UserError("no pose says how sure it is; add second looks (--looks 2 with --models)")
    return [_fused(scene_id, list(images.values()), views) for (scene_id, _), images in sorted(of_object.items())]


def _fused(scene_id: int, sightings: Sequence[Sighting], views: Mapping[int, Pose]) -> FusedObject:
    known, middle = sightings[0].pose.known, sightings[0].pose.middle
    transforms = symmetry_transforms(known.symmetries_discrete, known.symmetries_continuous, MAX_STEP)
    about_middle = fuse_poses(
        [PoseView(*moved_pose(one.pose.pose, one.pose.covariance, middle), views[one.im_id]) for one in sightings],
        moved_transforms(transforms, middle),
    )
    pose, covariance = moved_pose(about_middle.pose, about_middle.covariance, -middle)
    fused = replace(about_middle, pose=pose, covariance=covariance)
    agreeing = [one for one, used in zip(sightings, fused.used, strict=True) if used]
    score = float(np.mean([one.pose.score for one in agreeing]))
    images, agree = (tuple(sorted(one.im_id for one in some)) for some in (sightings, agreeing))
    return FusedObject(scene_id, known.name, known.obj_id, score, fused, images, agree)


def fused_entry(found: FusedObject) -> dict[str, Any]:
    """A fused pose in plain values, metres."""
    return {
        "scene_id": found.scene_id,
        "object": found.object,
        "score": found.score,
        "world_R_obj": found.fused.pose.cam_R_obj.tolist(),
        "world_t_obj": found.fused.pose.cam_t_obj.tolist(),
        "covariance": found.fused.covariance.tolist(),
        "images": list(found.images),
        "agree": list(found.agree),
    }


def fused_estimates(found: Iterable[FusedObject], views: Mapping[int, Pose]) -> list[Estimate]:
    """The fused poses as each camera sees them, for a csv of BOP's form; times are unknown."""
    return [
        Estimate(one.scene_id, im_id, one.obj_id, one.score, views[im_id] @ one.fused.pose, -1.0)
        for one in found
        for im_id in one.images
    ]
