"""From a crop to the network's input, in arrays of NumPy; torch is not needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cv2
import numpy as np

from sopose.batch import RoiBatch
from sopose.core.data.roi import RoiView, coord_2d, crop_image, crop_of_other_camera
from sopose.core.geometry.rolls import roll_about, rolled_homography
from sopose.core.utils.errors import UserError
from sopose.settings.groups import InputSettings
from sopose.settings.network import ModelSettings


@dataclass(frozen=True)
class RoiFormat:
    """How an ROI is given to the network."""

    input_res: int = 256  # side of the image crop, pixels
    output_res: int = 64  # side of the maps
    pixel_format: Literal["BGR", "RGB"] = "BGR"
    pixel_mean: tuple[float, ...] = (0.0, 0.0, 0.0)  # of levels 0-255, in the order of pixel_format
    pixel_std: tuple[float, ...] = (255.0, 255.0, 255.0)

    def __post_init__(self) -> None:
        if self.pixel_format not in ("BGR", "RGB"):
            raise UserError(f"INPUT.FORMAT must be 'BGR' or 'RGB', got '{self.pixel_format}'")
        if min(self.pixel_std) <= 0:
            raise UserError(f"MODEL.PIXEL_STD must be above zero, got {self.pixel_std}")

    @cached_property
    def _normalised(self) -> np.ndarray:
        """(3, 256) float32: what each level of each channel, in the order of pixel_format, becomes."""
        levels = np.arange(256, dtype=np.float32)[:, None]
        return np.ascontiguousarray(((levels - np.float32(self.pixel_mean)) / np.float32(self.pixel_std)).T)

    def network_image(self, image: np.ndarray) -> np.ndarray:
        """(3, in, in) float32, what the network sees of a crop (in, in, 3) uint8 BGR."""
        ordered = image if self.pixel_format == "BGR" else image[..., ::-1]
        # Levels are looked up in a table, which is several times as fast as arithmetic on each pixel.
        channels = np.empty((3, *ordered.shape[:2]), np.float32)
        for channel, table in enumerate(self._normalised):
            channels[channel] = cv2.LUT(np.ascontiguousarray(ordered[..., channel]), table)
        return channels

    def image_array(self, image: np.ndarray) -> np.ndarray:
        """The inverse of `network_image`: (in, in, 3) uint8 BGR."""
        levels = image.transpose(1, 2, 0) * np.float32(self.pixel_std) + np.float32(self.pixel_mean)
        ordered = levels if self.pixel_format == "BGR" else levels[..., ::-1]
        return np.clip(np.rint(ordered), 0, 255).astype(np.uint8)


def build_roi_format(given: InputSettings, model: ModelSettings) -> RoiFormat:
    """Resolution and pixel values of the network's input."""
    return RoiFormat(
        input_res=model.pose_net.input_res,
        output_res=model.pose_net.output_res,
        pixel_format=given.format,
        pixel_mean=model.pixel_mean,
        pixel_std=model.pixel_std,
    )


def seen_crop(image: np.ndarray, view: RoiView, resolution: int, roll: float = 0.0) -> np.ndarray:
    """(resolution, resolution, 3) what a view shows of an image (H, W, 3), its camera rolled by `roll` degrees.

    The camera rolls about the line of sight to the ROI's middle, which stays where it is. The box of what the object
    covers of the rolled view is another one; that of the image stands for it.
    """
    if roll == 0:
        return crop_image(image, view.roi, resolution)
    H = rolled_homography(view.K, roll_about(view.K, view.roi.center, roll))
    return crop_of_other_camera(image, view.roi, resolution, H)


def make_roi_batch(
    image: np.ndarray, view: RoiView, extent: np.ndarray, class_index: int, roi_format: RoiFormat
) -> RoiBatch:
    """What the network sees, in arrays: the crop (in, in, 3) uint8 BGR, its window and the object; no batch dimension.

    extent (3,): the size of the model's box, metres; class_index: of the object among those trained.
    """
    return RoiBatch(
        image=roi_format.network_image(image),
        roi_coord_2d=coord_2d(view.positions, view.image_size),
        K=float_array(view.K),
        box_center=float_array(view.roi.center),
        box_wh=float_array(view.roi.wh),
        resize_ratio=float_array(view.out / view.roi.size),
        extent=float_array(extent),
        class_index=np.array(class_index),
    )


def float_array(values: np.ndarray | float) -> np.ndarray:
    """Numbers of any shape in float32."""
    return np.array(values, np.float32)


def channels_first(maps: np.ndarray) -> np.ndarray:
    """(h, w, C) as (C, h, w) float32."""
    return np.ascontiguousarray(maps.transpose(2, 0, 1), dtype=np.float32)
