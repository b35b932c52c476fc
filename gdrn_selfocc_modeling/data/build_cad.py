"""From the group CAD of a configuration to what rendered samples and images are drawn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mmengine.config import Config

from sopose.core.bop.fields import read_camera_K
from sopose.core.bop.scene import load_split, read_camera_size
from sopose.core.bop.splits import SplitSpec, training_split
from sopose.core.data.roi import ImageSize
from sopose.core.render.lights import LightRange
from sopose.core.render.materials import MaterialRange
from sopose.core.render.shade import Shading
from sopose.core.synthesis.look import GroundRange, Look
from sopose.core.synthesis.pose_statistics import PoseStatistics, pose_statistics
from sopose.core.synthesis.scene_sampling import OccluderRange, PoseRange
from sopose.core.synthesis.sensor import Sensor
from sopose.core.utils.errors import UserError
from sopose.data.cad_source import CadOptions


def build_cad_options(cfg: Config, dataset_root: Path) -> CadOptions:
    """What rendered samples are drawn from, with the camera of CAD or of the data set's camera.json."""
    cad = cfg.CAD
    K, image_size = cad_camera(cad, dataset_root)
    return CadOptions(
        K=K,
        image_size=image_size,
        epoch_length=cad.EPOCH_LENGTH,
        poses=build_poses(cfg),
        occluders=OccluderRange(
            max_count=cad.MAX_OCCLUDERS,
            spacing=tuple(cad.OCCLUDER_SPACING),
            standing_prob=cad.STANDING_PROB,
            gap=tuple(cad.GAP),
        ),
        look=build_look(cad),
        min_visib=cad.MIN_VISIB,
    )


def build_poses(cfg: Config) -> PoseRange:
    """The poses of objects, by ranges or by the statistics of the split CAD.POSES_FROM."""
    cad = cfg.CAD
    return PoseRange(
        z_range=tuple(cad.Z_RANGE),
        center_range=tuple(cad.CENTER_RANGE),
        rotations=cad.ROTATIONS,
        elevation=tuple(cad.ELEVATION),
        tilt=cad.TILT,
        statistics=_statistics(split_to_learn(cfg, cad.POSES_FROM)) if cad.POSES_FROM else None,
    )


def split_to_learn(cfg: Config, name: str) -> SplitSpec:
    """A split to train on or to draw poses like. `UserError` for test images, see DATASETS.TRAIN_ON_TEST_IMAGES."""
    data = cfg.DATASETS
    return training_split(name, Path(data.ROOT), data.TRAIN_ON_TEST_IMAGES, "DATASETS.TRAIN_ON_TEST_IMAGES")


def _statistics(spec: SplitSpec) -> PoseStatistics:
    return pose_statistics(load_split(spec, require_images=False), read_camera_size(spec.root))


def build_look(cad: Config) -> Look:
    """Ground, lights, materials and camera of the group CAD."""
    return Look(
        lights=LightRange(
            count=tuple(cad.LAMPS),
            ambient=tuple(cad.AMBIENT),
            size=tuple(cad.LAMP_SIZE),
            tint=cad.LAMP_TINT,
            ambient_slope=cad.AMBIENT_SLOPE,
        ),
        materials=MaterialRange(
            specular=tuple(cad.SPECULAR),
            roughness=tuple(cad.ROUGHNESS),
            hue=cad.HUE,
            saturation=cad.SATURATION,
            brightness=cad.BRIGHTNESS,
            stains=cad.STAINS,
        ),
        ground=GroundRange(prob=cad.GROUND_PROB, tile=tuple(cad.GROUND_TILE), photo_prob=cad.GROUND_PHOTO_PROB),
        sensor=Sensor(
            blur=tuple(cad.BLUR),
            gain=cad.GAIN,
            tint=cad.TINT,
            gamma=cad.GAMMA,
            noise=tuple(cad.NOISE),
            jpeg_prob=cad.JPEG_PROB,
            sharpen=tuple(cad.SHARPEN),
        ),
        shading=Shading(
            shadows=cad.SHADOWS,
            ambient_occlusion=cad.AMBIENT_OCCLUSION,
            shadow_stride=cad.SHADOW_STRIDE,
            shadow_rays=cad.SHADOW_RAYS,
            sky_stride=cad.SKY_STRIDE,
            sky_rays=cad.SKY_RAYS,
        ),
    )


def cad_camera(cad: Config, dataset_root: Path) -> tuple[np.ndarray, ImageSize]:
    """K (3, 3) and image size (width, height), pixels."""
    if bool(cad.K) != bool(cad.IMAGE_SIZE):
        raise UserError("CAD.K=(fx, fy, cx, cy) and CAD.IMAGE_SIZE=(width, height) go together; set both or none")
    if cad.K:
        if len(cad.K) != 4 or len(cad.IMAGE_SIZE) != 2:
            raise UserError(f"CAD.K must be (fx, fy, cx, cy) and CAD.IMAGE_SIZE (width, height): {cad.K}")
        (fx, fy, cx, cy), (width, height) = cad.K, cad.IMAGE_SIZE
    else:
        K = read_camera_K(dataset_root / "camera.json", "set CAD.K=(fx, fy, cx, cy) and CAD.IMAGE_SIZE=(width, height)")
        return K, read_camera_size(dataset_root)
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], float), (int(width), int(height))
