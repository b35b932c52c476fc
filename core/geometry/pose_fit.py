"""Poses fitted to where points of objects are seen, each as sure as it is: weighted, robust, with covariance.

Levenberg-Marquardt on the reprojection errors (Hartley and Zisserman, Multiple View Geometry, appendix 6), with Huber's
weights recomputed in each step. Written once for arrays of NumPy and tensors of torch; gradients flow through tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Generic

import numpy as np

from sopose.core.geometry.arrays import Array, namespace
from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import lie_vec_to_matrix

FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-4, 1e-6, 1e8  # shares of the normal equations' diagonal
SINGULAR = 1e-12  # added to them, so that what no point determines stays where it is
LEAST_ERROR = 1e-6  # of a pose that is said to have none
ALL_COUNT = 1e6  # Huber's bound that no error reaches, standard deviations
NEAREST = 1e-3  # metres before the camera; a point behind it has no image


@dataclass(frozen=True, eq=False)
class SeenPoints(Generic[Array]):
    """N points of each of B objects, and where a camera sees them."""

    points_obj: Array  # (B, N, 3) metres, object frame
    pixels: Array  # (B, N, 2)
    precision: Array  # (B, N) 1 / pixels², of each coordinate: 1 / variance; 0 for a point that isn't seen
    K: Array  # (B, 3, 3) pixels


@dataclass(frozen=True, eq=False)
class PosePrior(Generic[Array]):
    """What is known of B poses before: they are normally distributed about those here."""

    cam_R_obj: Array  # (B, 3, 3)
    cam_t_obj: Array  # (B, 3) metres
    precision: Array  # (B, 6, 6) the inverse of a covariance as `PoseFit` has it


@dataclass(frozen=True, eq=False)
class PoseFit(Generic[Array]):
    """B poses that fit.

    The covariance is of small motions of the object about its own origin, (x, y, z, rotation about x, y, z) in the
    camera's frame, metres and radians, in the order of ROS's `PoseWithCovariance`:
    `cam_R_obj = exp(rotation) @ mean_R`, `cam_t_obj = (x, y, z) + mean_t`. It is that of independent errors; those of
    neighbouring pixels are not, so that what uses it has to scale it.
    """

    cam_R_obj: Array  # (B, 3, 3)
    cam_t_obj: Array  # (B, 3) metres
    covariance: Array  # (B, 6, 6)
    residual: Array  # (B,) root of the mean squared error over its standard deviation, Huber's weights included


def pose_precision(pose: Pose, diameter: float, rotation: float, depth: float, across: float) -> np.ndarray:
    """(6, 6) what is known of a pose whose errors are these: the inverse of a covariance as `PoseFit` has it.

    diameter: of the object, metres; rotation: root of the mean squared angle, radians; depth: standard deviation along
    the ray of the object's origin, shares of its distance; across: at right angles to it, diameters.
    """
    rotation, depth, across = (max(error, LEAST_ERROR) for error in (rotation, depth, across))
    t, distance = pose.cam_t_obj, max(float(np.linalg.norm(pose.cam_t_obj)), NEAREST)
    along = np.outer(t, t) / distance**2
    precision = np.zeros((6, 6))
    precision[:3, :3] = along / (depth * distance) ** 2 + (np.eye(3) - along) / (across * diameter) ** 2
    precision[3:, 3:] = np.eye(3) * 3 / rotation**2
    return precision


def first_step(
    seen: SeenPoints[Array], cam_R_obj: Array, cam_t_obj: Array, prior: PosePrior[Array]
) -> tuple[Array, Array]:
    """(B, 6) first step of `fit_poses` from poses, and the covariance there (B, 6, 6); gradients flow through both.

    From the true poses it is how wrong the fit will be (Liu et al., Linear-covariance loss, ICCV 2023), where no error
    is so large that Huber's weights count.
    """
    xp = namespace(cam_t_obj)
    errors, weights, _ = _errors(xp, seen, cam_R_obj, cam_t_obj, ALL_COUNT, prior)
    J = _jacobian(xp, seen, cam_R_obj, cam_t_obj)
    pull = (prior.precision @ _from_prior(xp, prior, cam_R_obj, cam_t_obj)[..., None])[..., 0]
    gradient = (J.mT @ (weights[..., None] * errors).reshape(len(J), -1, 1))[..., 0] + pull
    covariance = xp.linalg.inv(_normal_equations(J, weights) + prior.precision)
    return -(covariance @ gradient[..., None])[..., 0], covariance


def fit_poses(
    seen: SeenPoints[Array],
    cam_R_obj: Array,
    cam_t_obj: Array,
    iterations: int = 10,
    huber: float = 1.5,
    prior: PosePrior[Array] | None = None,
) -> PoseFit[Array]:
    """Poses near (B, 3, 3), (B, 3) metres that minimise Huber's cost of the weighted reprojection errors.

    A step that raises the cost isn't taken. What the points leave open stays as it was, and has a huge variance.

    Args:
        iterations: steps tried.
        huber: errors above so many standard deviations count by their length, not its square.
        prior: what is known beside the points; the most probable poses of both are found then.
    """
    xp = namespace(cam_t_obj)
    R, t = cam_R_obj, cam_t_obj
    errors, weights, cost = _errors(xp, seen, R, t, huber, prior)
    damping = xp.full_like(cost, FIRST_DAMPING)
    for _ in range(iterations):
        J = _jacobian(xp, seen, R, t)
        normal = _normal_equations(J, weights)
        gradient = (J.mT @ (weights[..., None] * errors).reshape(len(J), -1, 1))[..., 0]
        if prior is not None:
            normal = normal + prior.precision
            gradient = gradient + (prior.precision @ _from_prior(xp, prior, R, t)[..., None])[..., 0]
        diagonal = xp.einsum("bii->bi", normal)
        damped = normal + _diagonal(xp, damping[:, None] * diagonal + SINGULAR)
        step = -xp.linalg.solve(damped, gradient[..., None])[..., 0]
        next_R, next_t = moved(R, t, step)
        next_errors, next_weights, next_cost = _errors(xp, seen, next_R, next_t, huber, prior)
        better = next_cost <= cost
        R = xp.where(better[:, None, None], next_R, R)
        t = xp.where(better[:, None], next_t, t)
        errors = xp.where(better[:, None, None], next_errors, errors)
        weights = xp.where(better[:, None], next_weights, weights)
        cost = xp.where(better, next_cost, cost)
        damping = xp.where(better, damping / 10, damping * 10).clip(LEAST_DAMPING, MOST_DAMPING)
    normal = _normal_equations(_jacobian(xp, seen, R, t), weights)
    if prior is not None:
        normal = normal + prior.precision
    # What rounding leaves of a direction that no point determines is not taken for knowledge.
    rounding = 10 * xp.finfo(t.dtype).eps * xp.einsum("bii->b", normal) + SINGULAR
    covariance = xp.linalg.inv(normal + rounding[:, None, None] * xp.eye(6, dtype=t.dtype, device=t.device))
    count = 2 * (seen.precision > 0).sum(-1).clip(1)
    squares = (weights * (errors**2).sum(-1)).sum(-1)
    return PoseFit(R, t, covariance, xp.sqrt(squares / count))


def moved(cam_R_obj: Array, cam_t_obj: Array, motion: Array) -> tuple[Array, Array]:
    """Poses after small motions (B, 6) as `PoseFit` has them: metres, radians, about the objects' own origins."""
    return lie_vec_to_matrix(motion[..., 3:]) @ cam_R_obj, cam_t_obj + motion[..., :3]


def _from_prior(xp: ModuleType, prior: PosePrior, R: Array, t: Array) -> Array:
    """(B, 6) motions from a prior's poses to others; of rotations axis times sine, close enough up to 30 degrees."""
    turn = R @ prior.cam_R_obj.mT
    axis = xp.stack([turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]], -1)
    return xp.concatenate([t - prior.cam_t_obj, axis / 2], -1)


def _errors(
    xp: ModuleType, seen: SeenPoints, R: Array, t: Array, huber: float, prior: PosePrior | None
) -> tuple[Array, Array, Array]:
    """Reprojection errors (B, N, 2), pixels, their robust weights (B, N), 1 / pixels², and costs (B,)."""
    points_cam = seen.points_obj @ R.mT + t[:, None]
    ahead = points_cam[..., 2] > NEAREST
    safe = xp.where(ahead[..., None], points_cam, xp.ones_like(points_cam))
    errors = xp.where(ahead[..., None], project(safe, seen.K[:, None]) - seen.pixels, 0.0)
    size = xp.sqrt(seen.precision * (errors**2).sum(-1) + np.finfo(np.float32).tiny)
    linear = huber * (size - huber / 2)
    cost = xp.where(size > huber, linear, size**2 / 2)
    # A pose with points behind the camera is never the better one.
    behind = (~ahead & (seen.precision > 0)).any(-1)
    total = cost.sum(-1)
    if prior is not None:
        off = _from_prior(xp, prior, R, t)
        total = total + xp.einsum("bi,bij,bj->b", off, prior.precision, off) / 2
    return errors, seen.precision * (huber / size).clip(None, 1.0), xp.where(behind, np.inf, total)


def _jacobian(xp: ModuleType, seen: SeenPoints, R: Array, t: Array) -> Array:
    """(B, 2 N, 6) derivatives of the pixels by `PoseFit`'s motions."""
    turned = seen.points_obj @ R.mT
    points_cam = turned + t[:, None]
    z = points_cam[..., 2].clip(NEAREST, None)[..., None, None]
    K = seen.K[:, None]
    uv = (K[..., :2, :] @ points_cam[..., None]) / z
    by_translation = (K[..., :2, :] - uv * K[..., 2:, :]) / z
    by_rotation = -by_translation @ _skew(xp, turned)
    return xp.concatenate([by_translation, by_rotation], -1).reshape(len(R), -1, 6)


def _normal_equations(J: Array, weights: Array) -> Array:
    """(B, 6, 6)."""
    rows = weights.shape[1]
    weighted = weights[..., None, None] * J.reshape(len(J), rows, 2, 6)
    return J.mT @ weighted.reshape(len(J), 2 * rows, 6)


def _skew(xp: ModuleType, vector: Array) -> Array:
    """(..., 3, 3) matrices that multiply as the cross product with (..., 3) does."""
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    o = xp.zeros_like(x)
    return xp.stack([xp.stack(row, -1) for row in ([o, -z, y], [z, o, -x], [-y, x, o])], -2)


def _diagonal(xp: ModuleType, values: Array) -> Array:
    """(B, 6, 6) with (B, 6) on the diagonal."""
    return values[..., None] * xp.eye(6, dtype=values.dtype, device=values.device)
