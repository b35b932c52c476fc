"""Covariances of poses in other frames, about other points, and with errors that a fit doesn't know.

All are (6, 6) as `PoseFit` has them: of translation and rotation in the camera's frame, metres and radians.
"""

from __future__ import annotations

import numpy as np

from sopose.core.geometry.pose import Pose, rotation_to_ray


def turned_covariance(covariance: np.ndarray, R: np.ndarray) -> np.ndarray:
    """A covariance in a frame that R (3, 3) takes its own to."""
    turn = np.kron(np.eye(2), R)
    return turn @ covariance @ turn.T


def moved_covariance(covariance: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """A covariance of motions about another point, `offset` (3,) away from the first, metres.

    A point at d moves by t + w x d where the first one moves by t and the object turns by w.
    """
    x, y, z = offset
    move = np.eye(6)
    move[:3, 3:] = [[0, z, -y], [-z, 0, x], [y, -x, 0]]  # -[d]x
    return move @ covariance @ move.T


def moved_pose(pose: Pose, covariance: np.ndarray, point_obj: np.ndarray) -> tuple[Pose, np.ndarray]:
    """A pose and its covariance in the parallel frame at a point (3,) of the object's, metres.

    What a rotation does to the place of an object is least about its middle: there errors are the nearest to normal.
    """
    return pose.with_origin(point_obj), moved_covariance(covariance, pose.cam_R_obj @ point_obj)


def sight_R_cam(point_cam: np.ndarray) -> np.ndarray:
    """(3, 3) rotation into the frame whose z axis is the line of sight to a point (3,)."""
    return rotation_to_ray(np.asarray(point_cam, np.float64)[None])[0].T


def scaled_covariance(covariance: np.ndarray, point_cam: np.ndarray, factors: tuple[float, float, float]) -> np.ndarray:
    """A covariance whose variances are so many times larger, its correlations the same.

    factors: along the line of sight to a point (3,), at right angles to it, and of the rotation.
    """
    along, across, rotation = np.sqrt(factors)
    R = sight_R_cam(point_cam)
    stretch = np.zeros((6, 6))
    stretch[:3, :3] = R.T @ np.diag([across, across, along]) @ R
    stretch[3:, 3:] = rotation * np.eye(3)
    return stretch @ covariance @ stretch.T


def with_image_error(covariance: np.ndarray, point_cam: np.ndarray, K: np.ndarray, pixels: float) -> np.ndarray:
    """A covariance of a pose that is seen in an image whose places are wrong by so many pixels, all by the same.

    That moves an object at a point (3,), metres, at right angles to the line of sight. K: (3, 3) pixels.
    """
    distance, focal = float(np.linalg.norm(point_cam)), float(np.sqrt(K[0, 0] * K[1, 1]))
    ray = np.asarray(point_cam) / max(distance, 1e-9)
    moved = covariance.copy()
    moved[:3, :3] += (pixels * distance / focal) ** 2 * (np.eye(3) - np.outer(ray, ray))
    return moved
