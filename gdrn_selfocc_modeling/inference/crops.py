"""From a photograph and boxes to what a network sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sopose.batch import RoiBatch
from sopose.core.data.roi import ImageSize
from sopose.core.geometry.camera import as_K
from sopose.core.geometry.distortion import as_distortion, undistorted, undistorted_box
from sopose.core.images.photo import as_rgb
from sopose.core.utils.errors import UserError
from sopose.data.roi_input import RoiFormat, build_roi_format
from sopose.inference.checkpoint_facts import NetworkFacts, focal_length
from sopose.inference.found import Box


@dataclass(frozen=True, eq=False)
class Photo:
    """An image without distortion."""

    rgb: np.ndarray  # (H, W, 3) uint8
    K: np.ndarray  # (3, 3) pixels
    distortion: np.ndarray | None  # that it had
    depth: np.ndarray | None  # (H, W) metres

    @classmethod
    def of(
        cls,
        image: np.ndarray | Path | str,
        K: np.ndarray | Sequence[float],
        distortion: Sequence[float] | np.ndarray | None,
        depth: np.ndarray | None,
    ) -> Photo:
        """What `PoseEstimator` takes, checked. Raises `UserError`."""
        rgb, K, lens = as_rgb(image), as_K(K), as_distortion(distortion)
        if depth is not None and np.shape(depth) != rgb.shape[:2]:
            raise UserError(f"depth must have the image's size {rgb.shape[:2]}, got {np.shape(depth)}; resample it")
        depth = None if depth is None else np.asarray(depth, np.float32)
        if lens is not None:
            rgb = undistorted(rgb, K, lens)
            depth = None if depth is None else undistorted(depth, K, lens, exact=True)
        return cls(rgb, K, lens, depth)

    @property
    def size(self) -> ImageSize:
        """Width and height, pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]

    def straight(self, box: Box) -> Box:
        """A box of the image as it was given, in this one."""
        if self.distortion is None:
            return box
        return replace(box, xyxy=undistorted_box(np.asarray(box.xyxy), self.K, self.distortion))


@dataclass(frozen=True)
class CropFormat:
    """How a box becomes the network's input.

    What the network says of depth goes by the size of the crop in pixels, so for one focal length. An image of another
    one is taken for its enlargement to a focal length that the network knows: the same picture, with K scaled.
    """

    roi: RoiFormat
    pad_scale: float  # side of the crop in longer sides of the box
    focal: tuple[float, float] | None = None  # least and largest focal length known, pixels; None: take any

    def enlargement(self, K: np.ndarray) -> float:
        """The factor by which images of a camera (3, 3) are thought enlarged; 1 for one that is known."""
        if self.focal is None:
            return 1.0
        length = float(focal_length(K))
        return float(np.clip(length, *self.focal)) / length


def build_crop_format(facts: NetworkFacts) -> CropFormat:
    """What a network sees of a box, as its checkpoint states."""
    given = facts.settings.input
    return CropFormat(build_roi_format(given, facts.settings.model), given.dzi_pad_scale, facts.focal)


def enlarged(rois: RoiBatch, factor: float) -> RoiBatch:
    """A ROI, or a batch, of an image that was enlarged by a factor, as it is described to the network."""
    K = rois.K * np.array([[factor], [factor], [1]], rois.K.dtype)
    return replace(
        rois,
        K=K,
        box_center=np.float32(factor) * rois.box_center,
        box_wh=np.float32(factor) * rois.box_wh,
        resize_ratio=np.asarray(rois.resize_ratio / np.float32(factor)),
    )
