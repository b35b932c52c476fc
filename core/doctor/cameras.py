"""Examines cameras: camera.json, cam_K against the size of the images, and depth_scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.fields import CAMERA_NAME, read_camera, read_camera_size, read_intrinsics
from sopose.core.doctor.findings import Finding, words_of
from sopose.core.geometry.camera import Camera
from sopose.core.images.scene_images import SceneNames
from sopose.core.utils.errors import UserError

SOUND_FACTORS = (0.62, 1.6)  # principal point, by the image's middle: a common factor beyond is another resolution's
SAME_FACTOR = 0.15  # by which the factors of x and y may differ to be one
SAME_FOCAL = 1.25  # factor by which those of one set's cameras may differ: zoomed copies of it are twice as large
SOUND_FOCAL = (0.3, 15.0)  # widths of the image: 118° to 4°
SOUND_ASPECT = (0.5, 2.0)  # fx / fy

Size = tuple[int, int]


def check_camera_json(root: Path, sensor: str = "") -> tuple[list[Finding], Camera | None]:
    """Faults of the data set's camera.json, or of a sensor's, and what it says; None without a sound one."""
    name = SceneNames(sensor).of(CAMERA_NAME)
    path = root / name
    if not path.is_file():
        if sensor or any(root.glob("camera_*.json")):  # a camera for each sensor
            return [], None
        return [Finding("absent", name, "not there: sizes are read from the images")], None
    try:
        size = read_camera_size(root, sensor)
        camera = read_camera(path)
    except UserError as error:
        return [Finding("camera-json", name, words_of(error, path))], None
    return list(_against_size(camera.K, name, size)), camera


def check_focal(camera: Camera, focals: Sequence[float], where: str) -> Iterator[Finding]:
    """A focal length of a camera.json that no scene's images have; `focals` are the scenes', in widths of the image.

    Images that are rendered from models are taken by it.
    """
    if camera.size is None or not focals:
        return
    own = camera.K[0, 0] / camera.size[0]
    nearest = min(focals, key=lambda focal: abs(np.log(own / focal)))
    factor = own / nearest
    if not 1 / SAME_FOCAL < factor < SAME_FOCAL:
        fx = nearest * camera.size[0]
        text = f"fx = {camera.K[0, 0]:g} of images {camera.size[0]} × {camera.size[1]}, the scenes' is {fx:.4g}"
        yield Finding("camera-focal", where, f"{text} (factor {_factor(factor)})")


def check_camera(entry: Any, where: str, size: Size | None) -> tuple[np.ndarray | None, list[Finding]]:
    """K (3, 3) of an entry of scene_camera.json, None where nothing can be rendered with it, and its faults."""
    try:
        K = read_intrinsics(entry, "the entry")
    except UserError as error:
        return None, [Finding("K-broken", where, str(error))]
    findings = list(_against_size(K, where, size)) if size else []
    return (None if findings else K), findings


def fits_size(K: np.ndarray, size: Size) -> bool:
    """Whether K (3, 3) with focal lengths above zero may be of images of a width and height."""
    return not any(_against_size(K, "", size))


def _against_size(K: np.ndarray, where: str, size: Size) -> Iterator[Finding]:
    """Faults of sound K (3, 3) for images of a width and height."""
    center = K[:2, 2]
    text = f"principal point ({center[0]:.1f}, {center[1]:.1f}) of images {size[0]} × {size[1]}"
    factors = center / ((np.array(size) - 1) / 2)
    factor = float(factors.mean())
    common = bool(abs(factors[0] - factors[1]) < SAME_FACTOR * abs(factor))
    if common and not SOUND_FACTORS[0] < factor < SOUND_FACTORS[1]:
        yield Finding("K-principal", where, f"{text}: cam_K is that of images about {_factor(factor)} times as large")
        return
    if (center < 0).any() or (center >= size).any():
        yield Finding("K-principal", where, f"{text} lies outside")
        return
    focal, aspect = K[0, 0] / size[0], K[0, 0] / K[1, 1]
    if not SOUND_FOCAL[0] < focal < SOUND_FOCAL[1] or not SOUND_ASPECT[0] < aspect < SOUND_ASPECT[1]:
        yield Finding("K-focal", where, f"fx = {K[0, 0]:g}, fy = {K[1, 1]:g} of images {size[0]} × {size[1]}")


def _factor(value: float) -> str:
    """A factor as one writes it: 2, 0.5, 1.67."""
    return (
        f"{round(value) if value > 1.5 and abs(value - round(value)) < 0.1 else round(value, 1 if value < 1 else 2):g}"
    )
