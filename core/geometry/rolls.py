"""A camera that is rolled about the line of sight to a pixel, and the pose that several such views agree on.

A camera that turns about its centre sees the same rays: its image is a homography of the other one, whatever the scene
(Hartley and Zisserman, Multiple View Geometry, 8.4). So an image can be shown to a network rolled, and the pose that it
finds turned back. A network's errors in such views differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sopose.core.geometry.camera import pixel_rays
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import geodesic_distance, lie_vec_to_matrix, nearest_rotations

APART = np.deg2rad(45.0)  # poses that are turned further from the most central one don't count for the mean


def roll_about(K: np.ndarray, pixel: np.ndarray, degrees: float) -> np.ndarray:
    """(3, 3) rolled_R_cam, to the camera that is K (3, 3) rolled by an angle about the ray of a pixel (2,)."""
    ray = pixel_rays(K, np.asarray(pixel, np.float64))
    return lie_vec_to_matrix(np.deg2rad(degrees) * ray / np.linalg.norm(ray))


def rolled_homography(K: np.ndarray, rolled_R_cam: np.ndarray) -> np.ndarray:
    """(3, 3) image_H_rolled: from pixels of the rolled camera, which has the same K, to those of the image."""
    return K @ rolled_R_cam.T @ np.linalg.inv(K)


def turned_back(pose: Pose, rolled_R_cam: np.ndarray) -> Pose:
    """The pose in the camera's frame of one in that of the rolled camera."""
    return Pose(rolled_R_cam.T @ pose.cam_R_obj, rolled_R_cam.T @ pose.cam_t_obj)


def from_roll(pose: Pose, K: np.ndarray, box: np.ndarray, degrees: float) -> Pose:
    """The pose in the frame of camera K (3, 3) of one in that of the camera rolled about a box (4,) xyxy, pixels."""
    return turned_back(pose, roll_about(K, np.reshape(box, (2, 2)).mean(axis=0), degrees)) if degrees else pose


def agreed_and_single(views: Sequence[Pose], symmetries: np.ndarray) -> tuple[Pose, list[Pose]]:
    """The pose that views of a box agree on, and those of each view as starts of looks, where there are several.

    The first view is that of the camera as it is, which other ways to a pose see too: as a start it comes last.
    """
    return agreed_pose(views, symmetries), [*views[1:], views[0]] if len(views) > 1 else []


def agreed_pose(poses: Sequence[Pose], symmetries: np.ndarray) -> Pose:
    """The mean of the poses that agree; the others are left out.

    The most central pose is that whose rotations to all, each counted as `APART` at most, have the least sum. Those
    within `APART` of it agree. The rotation is their chordal mean (Hartley et al., Rotation Averaging, 2013), the place
    their places' mean. An object moved by one of its symmetries (S, 4, 4), metres, the identity among them, looks the
    same: of each pose the equal one that is nearest to the central one counts. Poses that aren't finite or whose object
    is behind the camera are left out; where there is no other the first comes back.
    """
    known = [pose for pose in poses if pose.is_ahead]
    if len(known) < 2:
        return (known or list(poses))[0]
    R, t = np.stack([pose.cam_R_obj for pose in known]), np.stack([pose.cam_t_obj for pose in known])
    equal_R = R[:, None] @ symmetries[:, :3, :3]  # (N, S, 3, 3)
    apart = geodesic_distance(equal_R[:, :, None], R)  # (N, S, N): of each pose's equal ones to all poses
    central = int(np.minimum(apart.min(axis=1), APART).sum(axis=0).argmin())
    nearest = apart[:, :, central].argmin(axis=1)
    near = np.flatnonzero(apart[:, :, central].min(axis=1) <= APART)
    if len(near) == 1:
        return known[central]
    places = t[near] + (R[near] @ symmetries[nearest[near], :3, 3, None])[..., 0]
    mean = nearest_rotations(equal_R[near, nearest[near]].sum(axis=0)[None])[0]
    return Pose(mean, places.mean(axis=0))
