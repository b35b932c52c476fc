"""How far the poses of an exported network are from those of the one it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sopose.batch import Prediction, RegressedPose, RoiBatch
from sopose.core.geometry.rotation import geodesic_distance
from sopose.inference.estimator import PoseEstimator
from sopose.inference.found import Box

Network = Callable[[RoiBatch], Prediction | RegressedPose]
TOLERANCE = 1e-4  # of rotation entries, and of metres
NOISE_SIZE = (480, 640)  # height, width of the made-up image
NOISE_FOCAL = 600.0  # pixels


@dataclass(frozen=True, eq=False)
class Differences:
    """Of N poses of two networks."""

    entries: np.ndarray  # (N,) largest of a rotation's entries
    angles: np.ndarray  # (N,) degrees
    shifts: np.ndarray  # (N,) metres
    axes: np.ndarray  # (N,) metres, largest of a translation's axes

    @property
    def small(self) -> bool:
        """Whether both say the same; what isn't a number is not small."""
        return bool((self.entries <= TOLERANCE).all() and (self.axes <= TOLERANCE).all())

    def largest(self) -> str:
        """In words."""
        return f"rotation entries {self.entries.max():.1e}, translation {self.axes.max():.1e} m"

    def spread(self) -> str:
        """In words, for what is not small."""
        angles, shifts = self.angles, 1e3 * self.shifts
        return (
            f"rotation median {np.median(angles):.3f}, max {angles.max():.2f} degrees; "
            f"translation median {np.median(shifts):.3f}, max {shifts.max():.2f} mm"
        )


@torch.inference_mode()
def differences(network: Network, other: Network, batches: Sequence[RoiBatch]) -> Differences:
    """Of the poses that two networks give to some batches of ROIs."""
    rows = []
    for rois in batches:
        one, two = network(rois), other(rois)
        turn = (one.cam_R_obj - two.cam_R_obj).abs().amax(dim=(1, 2))
        angle = geodesic_distance(one.cam_R_obj.double(), two.cam_R_obj.double()).rad2deg()
        shift = one.cam_t_obj - two.cam_t_obj
        rows.append(torch.stack([turn, angle, shift.norm(dim=1), shift.abs().amax(dim=1)]))
    return Differences(*torch.cat(rows, dim=1).double().numpy())


def made_up_rois(estimator: PoseEstimator, count: int, seed: int = 0) -> RoiBatch:
    """ROIs of noise in random boxes, the objects in turn: for a check that needs no data."""
    rng = np.random.default_rng(seed)
    height, width = NOISE_SIZE
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    K = np.array([[NOISE_FOCAL, 0, (width - 1) / 2], [0, NOISE_FOCAL, (height - 1) / 2], [0, 0, 1]])
    names = list(estimator.objects)
    corners = rng.uniform((0, 0), (width - 200, height - 200), (count, 2))
    sides = rng.uniform(30, 200, (count, 2))
    boxes = [
        Box(names[index % len(names)], [*corner, *(corner + side)])
        for index, (corner, side) in enumerate(zip(corners, sides, strict=True))
    ]
    return estimator.make_rois(noise, K, boxes).tensors()
