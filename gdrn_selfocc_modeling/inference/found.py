"""Where objects are, and the poses that are found there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sopose.core.geometry.pose import Pose
from sopose.core.geometry.pose_covariance import with_image_error
from sopose.core.objects.model import ObjectModel
from sopose.inference.checkpoint_facts import KnownObject


@dataclass(frozen=True, eq=False)
class Box:
    """Where an object is: `xyxy` (4,) x1, y1, x2, y2 in pixels of the image."""

    object: str
    xyxy: Sequence[float] | np.ndarray
    score: float = 1.0


@dataclass(frozen=True, eq=False)
class ObjectPose:
    """An object's pose in the camera's frame: X_cam = cam_R_obj X_obj + cam_t_obj."""

    object: str
    obj_id: int
    score: float  # the confidence where it is known, else that of the box
    cam_R_obj: np.ndarray  # (3, 3)
    cam_t_obj: np.ndarray  # (3,) metres
    box: np.ndarray  # (4,) xyxy pixels, of the undistorted image
    warnings: tuple[str, ...] = ()  # why it is not to be relied on
    coarse: Pose | None = None  # as it was before second looks; None without any
    fitted: np.ndarray | None = None  # (6, 6) covariance as the fit of second looks knows it
    image_error: float = 0.0  # pixels by which places in the image may all be wrong
    confidence: float | None = None  # probability that its surface is within 0.1 diameters; a refiner says it
    box_score: float = 1.0  # the detector's
    K: np.ndarray | None = None  # (3, 3) of the image it was found in, pixels
    distortion: np.ndarray | None = None  # of that image's lens, as of `as_distortion`
    track: int | None = None  # its number in a video where objects are followed
    known: KnownObject | None = None  # what the network knows of the object
    model: ObjectModel | None = None  # where the estimator was given models

    @property
    def reliable(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.warnings

    @property
    def covariance(self) -> np.ndarray | None:
        """(6, 6) as of `PoseFit`: metres and radians, ROS's order; None without second looks."""
        if self.fitted is None or self.K is None or not self.image_error:
            return self.fitted
        return with_image_error(self.fitted, self.pose.transform(self.middle), self.K, self.image_error)

    @property
    def middle(self) -> np.ndarray:
        """(3,) the point of the object's frame about which it is learned and followed, metres."""
        if self.model is not None:
            return self.model.middle
        return np.zeros(3) if self.known is None else self.known.middle

    @property
    def pose(self) -> Pose:
        """Rotation and translation together."""
        return Pose(self.cam_R_obj, self.cam_t_obj)
