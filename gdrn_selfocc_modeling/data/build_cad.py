"""From the settings of CAD to what rendered samples and images are drawn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sopose.core.bop.fields import read_camera, read_camera_size
from sopose.core.bop.models import INFO_NAME, read_models_info
from sopose.core.bop.scene import load_split, read_image_size
from sopose.core.bop.splits import SplitSpec, training_split
from sopose.core.data.roi import ImageSize
from sopose.core.objects.model import middle_of
from sopose.core.render.lights import LightRange
from sopose.core.render.materials import MaterialRange
from sopose.core.render.shade import Shading
from sopose.core.synthesis.ground_range import GroundRange
from sopose.core.synthesis.many_objects import CrowdRange
from sopose.core.synthesis.pose_statistics import PoseStatistics, pose_statistics
from sopose.core.synthesis.scene_sampling import OccluderRange, PoseRange
from sopose.core.synthesis.scenes import SceneOptions
from sopose.core.synthesis.sensor import Sensor
from sopose.core.utils.errors import UserError
from sopose.settings.groups import CadSettings, DatasetSettings


def build_scene_options(
    cad: CadSettings, datasets: DatasetSettings, camera: tuple[np.ndarray, ImageSize], crowd: CrowdRange | None = None
) -> SceneOptions:
    """What scenes are drawn from. camera: K (3, 3) and image size, see `cad_camera`; crowd: the objects of images."""
    occluders = OccluderRange(
        max_count=cad.max_occluders,
        spacing=cad.occluder_spacing,
        standing_prob=cad.standing_prob,
        gap=cad.gap,
    )
    lights = LightRange(
        count=cad.lamps,
        ambient=cad.ambient,
        size=cad.lamp_size,
        tint=cad.lamp_tint,
        ambient_slope=cad.ambient_slope,
    )
    materials = MaterialRange(
        specular=cad.specular,
        roughness=cad.roughness,
        hue=cad.hue,
        saturation=cad.saturation,
        brightness=cad.brightness,
        stains=cad.stains,
    )
    return SceneOptions(
        *camera,
        poses=_poses(cad, datasets),
        occluders=occluders,
        min_visib=cad.min_visib,
        crowd=crowd or CrowdRange(),
        ground=GroundRange(prob=cad.ground_prob, tile=cad.ground_tile, photo_prob=cad.ground_photo_prob),
        lights=lights,
        materials=materials,
        sensor=_sensor(cad),
        shading=_shading(cad),
    )


def _poses(cad: CadSettings, datasets: DatasetSettings) -> PoseRange:
    """The poses of objects, by ranges or by the statistics of the split CAD.POSES_FROM."""
    return PoseRange(
        z_range=cad.z_range,
        center_range=cad.center_range,
        rotations=cad.rotations,
        elevation=cad.elevation,
        tilt=cad.tilt,
        statistics=_statistics(split_to_learn(datasets, cad.poses_from)) if cad.poses_from else None,
    )


def split_to_learn(datasets: DatasetSettings, name: str) -> SplitSpec:
    """A split to train on or to draw poses like. `UserError` for test images, see DATASETS.TRAIN_ON_TEST_IMAGES."""
    allowed = datasets.train_on_test_images
    return training_split(name, Path(datasets.root), allowed, "DATASETS.TRAIN_ON_TEST_IMAGES")


def _statistics(spec: SplitSpec) -> PoseStatistics:
    records = load_split(spec, require_images=False)
    # By an image where there is one: camera.json may be of another resolution than the split.
    shown = next((record for record in records if record.rgb_path.is_file()), records[0])
    return pose_statistics(records, read_image_size(shown, spec.root), _middles(spec.models_dir / INFO_NAME))


def _middles(info_path: Path) -> dict[int, np.ndarray]:
    """Where the middles of objects are, by their sizes; nothing where these aren't there."""
    infos = read_models_info(info_path) if info_path.is_file() else {}
    return {obj_id: middle_of(info["bounds_min"], info["extent"], info["diameter"]) for obj_id, info in infos.items()}


def _sensor(cad: CadSettings) -> Sensor:
    return Sensor(
        blur=cad.blur,
        gain=cad.gain,
        tint=cad.tint,
        gamma=cad.gamma,
        noise=cad.noise,
        jpeg_prob=cad.jpeg_prob,
        sharpen=cad.sharpen,
    )


def _shading(cad: CadSettings) -> Shading:
    return Shading(
        shadows=cad.shadows,
        ambient_occlusion=cad.ambient_occlusion,
        shadow_stride=cad.shadow_stride,
        shadow_rays=cad.shadow_rays,
        sky_stride=cad.sky_stride,
        sky_rays=cad.sky_rays,
    )


def cad_camera(cad: CadSettings, dataset_root: Path) -> tuple[np.ndarray, ImageSize]:
    """K (3, 3) and image size (width, height), pixels."""
    if bool(cad.k) != bool(cad.image_size):
        raise UserError("CAD.K=(fx, fy, cx, cy) and CAD.IMAGE_SIZE=(width, height) go together; set both or none")
    if cad.k:
        if len(cad.k) != 4 or len(cad.image_size) != 2:
            raise UserError(f"CAD.K must be (fx, fy, cx, cy) and CAD.IMAGE_SIZE (width, height): {cad.k}")
        (fx, fy, cx, cy), (width, height) = cad.k, cad.image_size
    else:
        remedy = "set CAD.K=(fx, fy, cx, cy) and CAD.IMAGE_SIZE=(width, height)"
        return read_camera(dataset_root / "camera.json", remedy).K, read_camera_size(dataset_root)
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], float), (int(width), int(height))
