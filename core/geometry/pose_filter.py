"""A pose followed through time: what was seen, each time as sure as its covariance, and the motion in between.

A Kalman filter on the error of a pose (Solà, Quaternion kinematics for the error-state Kalman filter, 2017): twelve
numbers, the small motion from the mean as `PoseFit` has motions and its velocity. Accelerations are white noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import lie_vec_to_matrix, rotation_log


@dataclass(frozen=True)
class MotionNoise:
    """How an object may move: standard deviations."""

    acceleration: float = 2.0  # metres / s², after one second of it the velocity is off by so much
    turning: float = 12.0  # radians / s²
    first_velocity: float = 0.5  # metres / s, of an object that was just found
    first_turning: float = 2.0  # radians / s


@dataclass(frozen=True, eq=False)
class PoseState:
    """Where an object is and how it moves, and how sure that is."""

    pose: Pose
    velocity: np.ndarray  # (6,) metres / s and radians / s, in the camera's frame, about the object's origin
    covariance: np.ndarray  # (12, 12) of the motion from `pose`, then of the velocity

    @classmethod
    def of(cls, pose: Pose, covariance: np.ndarray, noise: MotionNoise) -> PoseState:
        """At first sight: a pose with its covariance (6, 6), at rest as far as anyone knows."""
        first = np.repeat([noise.first_velocity, noise.first_turning], 3) ** 2
        zero = np.zeros((6, 6))
        return cls(pose, np.zeros(6), np.block([[covariance, zero], [zero, np.diag(first)]]))

    def after(self, seconds: float, noise: MotionNoise) -> PoseState:
        """Some time later, nothing seen."""
        moved = self.velocity * seconds
        pose = Pose(lie_vec_to_matrix(moved[3:]) @ self.pose.cam_R_obj, self.pose.cam_t_obj + moved[:3])
        drift = np.eye(12)
        drift[:6, 6:] = seconds * np.eye(6)
        density = np.diag(np.repeat([noise.acceleration, noise.turning], 3) ** 2)
        white = np.kron([[seconds**3 / 3, seconds**2 / 2], [seconds**2 / 2, seconds]], density)
        return PoseState(pose, self.velocity, drift @ self.covariance @ drift.T + white)

    def seen(self, pose: Pose, covariance: np.ndarray) -> PoseState:
        """After a pose was seen with its covariance (6, 6)."""
        total = self.covariance[:6, :6] + covariance
        gain = np.linalg.solve(total, self.covariance[:6]).T  # (12, 6)
        step = gain @ self.motion_to(pose)
        keep = np.eye(12)
        keep[:, :6] -= gain
        rest = keep @ self.covariance @ keep.T + gain @ covariance @ gain.T  # Joseph's form stays symmetric
        moved = Pose(lie_vec_to_matrix(step[3:6]) @ self.pose.cam_R_obj, self.pose.cam_t_obj + step[:3])
        return PoseState(moved, self.velocity + step[6:], rest)

    def motion_to(self, pose: Pose) -> np.ndarray:
        """(6,) the motion from this pose to another."""
        turn = rotation_log(pose.cam_R_obj @ self.pose.cam_R_obj.T)
        return np.concatenate([pose.cam_t_obj - self.pose.cam_t_obj, turn])

    def off(self, pose: Pose, covariance: np.ndarray) -> float:
        """How far a seen pose is from this one: root of the mean squared error of its numbers, standard deviations."""
        motion, total = self.motion_to(pose), self.covariance[:6, :6] + covariance
        return float(np.sqrt(motion @ np.linalg.solve(total, motion) / len(motion)))
