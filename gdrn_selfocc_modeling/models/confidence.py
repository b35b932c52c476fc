"""The probability that a refined pose is right, from what its last look shows: a small calibrated model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sopose.batch import Displacements, LookBatch
from sopose.core.geometry.arrays import sigmoid
from sopose.core.geometry.pose_fit import PoseFit, PosePrior
from sopose.core.geometry.rotation import rotation_log
from sopose.core.utils.errors import UserError

# Right poses have sure cells that would hardly move, of a fit that leaves little, near the pose before, and that says
# itself how far off it may be along the line of sight, across it and in rotation.
EVIDENCE = ("spread", "scale", "unsure", "left", "residual", "moved", "cells", "along", "across", "turned")
FIRST = 7  # numbers of evidence that older files know weights of
LEAST, LEAST_DEVIATION = 0.01, 1e-4  # of what logarithms are taken of
# Errors of poses before any look, over those that a refiner learned to correct, that a fit's own deviations are taken
# with: whatever a plan of looks allows, so that confidence doesn't depend on it.
FAR = 4.0
RIDGE = 1e-3  # keeps weights finite where the evidence separates all
STEPS, SETTLED = 100, 1e-9


@dataclass(frozen=True)
class Confidence:
    """A logistic model of the numbers of `EVIDENCE`."""

    weights: tuple[float, ...]
    bias: float

    def __call__(self, evidence: np.ndarray) -> np.ndarray:
        """Probabilities (...,) in [0, 1] of evidence (..., 10); 0 where it is not finite."""
        finite = np.isfinite(evidence).all(axis=-1)
        logits = np.where(finite[..., None], evidence, 0.0) @ np.array(self.weights) + self.bias
        return np.where(finite, sigmoid(logits), 0.0)

    @property
    def numbers(self) -> tuple[float, ...]:
        """Weights, then the bias: as a file has them."""
        return (*self.weights, self.bias)


def read_confidence(numbers: Sequence[float], where: str) -> Confidence | None:
    """The model of a file's numbers; None without any. Older files have weights of the `FIRST` numbers alone.

    Raises `UserError` for another count, or infinite ones.
    """
    if not len(numbers):
        return None
    if len(numbers) not in (FIRST + 1, len(EVIDENCE) + 1) or not np.isfinite(numbers).all():
        raise UserError(f"{where} must be {len(EVIDENCE) + 1} finite numbers or none, got {len(numbers)}")
    *weights, bias = map(float, numbers)
    return Confidence((*weights, *[0.0] * (len(EVIDENCE) - len(weights))), bias)


def best_of(probability: float, count: int) -> float:
    """The confidence, in [0, 1], of the surest of `count` poses of an object: its odds over the root of their number.

    The more poses are tried, the surer the surest wrong one is. Half as fast, in logarithms, as if they were
    independent of each other: they begin at the same object and often end alike.
    """
    return probability / (probability + (1 - probability) * math.sqrt(count))


def look_evidence(
    look: LookBatch,
    moved: Displacements,
    fit: PoseFit[np.ndarray],
    prior: PosePrior[np.ndarray],
    scale: float,
    diameter: np.ndarray,
) -> np.ndarray:
    """(B, 10) the numbers of `EVIDENCE` of B looks and the fits that they led to; arrays.

    prior: of the poses before any look, as the refiner learned to correct them; the fits had it times `scale` in
    deviations. diameter: (B,) metres.

    spread, scale: means of the logarithms of both scales over the object's cells, cells; unsure: share of cells whose
    scale is above one; left: logarithm of the root mean square displacement that the look still saw; residual: that of
    the fit's; moved: of how far the pose is from the one before any look, standard deviations of `prior`; cells: of
    their number; along, across, turned: of the fit's own standard deviations along the line of sight and at right
    angles to it, diameters, and of the rotation, radians.
    """
    mask = look.mask
    count = mask.sum(axis=(1, 2)).clip(1)

    def over_object(values: np.ndarray) -> np.ndarray:
        return (values * mask).sum(axis=(1, 2)) / count

    turn = rotation_log(fit.cam_R_obj @ prior.cam_R_obj.mT)
    motion = np.concatenate([fit.cam_t_obj - prior.cam_t_obj, turn], axis=-1)
    far = np.sqrt(np.einsum("bi,bij,bj->b", motion, prior.precision, motion) / motion.shape[1])
    left = np.sqrt(over_object((moved.shift**2).sum(axis=1)))
    logs = [np.log(LEAST + values) for values in (left, fit.residual, far)]
    shares = [over_object(values) for values in (moved.log_spread, moved.log_scale, moved.log_scale > 0)]
    known = np.linalg.inv(fit.covariance) + prior.precision * (FAR**-2 - scale**-2)
    along, across, turned = _deviations(fit.cam_t_obj, np.linalg.inv(known))
    own = [np.log(LEAST_DEVIATION + value) for value in (along / diameter, across / diameter, turned)]
    return np.stack([*shares, *logs, np.log(count), *own], axis=-1)


def _deviations(cam_t_obj: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(B,) each: along the line of sight to the object's origin and across it, metres, and of the rotation, radians."""
    sight = cam_t_obj / np.linalg.norm(cam_t_obj, axis=-1, keepdims=True)
    of_t, of_R = covariance[:, :3, :3], covariance[:, 3:, 3:]
    along = np.einsum("bi,bij,bj->b", sight, of_t, sight)
    across, turned = np.trace(of_t, axis1=1, axis2=2) - along, np.trace(of_R, axis1=1, axis2=2)
    return np.sqrt(along.clip(0)), np.sqrt(across.clip(0)), np.sqrt(turned.clip(0))


def fit_confidence(evidence: np.ndarray, right: np.ndarray) -> Confidence:
    """The model that makes what was seen most probable: evidence (N, 10), right (N,) bool.

    Logistic regression by Newton's method on standardised numbers, with a small ridge. Raises `UserError` unless there
    are right and wrong poses.
    """
    if right.all() or not right.any():
        raise UserError("confidence is learned from right and from wrong poses; there is one kind only")
    mean, deviation = evidence.mean(axis=0), evidence.std(axis=0).clip(1e-9)
    x = np.concatenate([(evidence - mean) / deviation, np.ones((len(evidence), 1))], axis=1)
    w = np.zeros(x.shape[1])
    ridge = RIDGE * len(x) * np.diag([1.0] * (len(w) - 1) + [0.0])
    for _ in range(STEPS):
        p = sigmoid(x @ w)
        gradient = x.T @ (p - right) + ridge @ w
        step = np.linalg.solve((x * (p * (1 - p) + 1e-9)[:, None]).T @ x + ridge, gradient)
        w = w - step
        if np.abs(step).max() < SETTLED:
            break
    weights = w[:-1] / deviation
    return Confidence(tuple(weights.tolist()), float(w[-1] - weights @ mean))
