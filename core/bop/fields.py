"""Fields of BOP's files: checked where they enter, converted from millimetres to metres."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.geometry.camera import Camera, intrinsics_fault
from sopose.core.geometry.distortion import as_distortion
from sopose.core.geometry.pose import Pose
from sopose.core.images.scene_images import SceneNames
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, require_key, write_json
from sopose.core.utils.units import MM_TO_M

CAM_K = "cam_K"  # of an image's camera
CAMERA_NAME = "camera.json"
CAMERA_REMEDY = "it comes with the data set's base archive"
# BOP's annotations are rounded to a few digits; anything beyond this is not a rotation.
ORTHOGONALITY_TOLERANCE = 0.01


def numbers(value: Any, count: int, where: str, finite: bool = True) -> np.ndarray:
    """`value` as (count,) float64; `UserError` where it is not that many numbers, or one of them is not `finite`."""
    try:
        array = np.asarray(value, np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if array.size != count:
        came = f"{len(value)} entries" if isinstance(value, list | tuple) else repr(value)[:60]
        raise UserError(f"{where} must be {count} numbers and is {came}; repair the file")
    if finite and not np.isfinite(array).all():
        raise UserError(f"{where} must be {count} finite numbers and has nan or infinity; repair the file")
    return array


def number(value: Any, where: str) -> float:
    """`value` as one finite float, else `UserError`."""
    return float(numbers(value, 1, where)[0])


def integer(value: Any, where: str) -> int:
    """`value` as an int; `UserError` where it is none (a text of digits counts as one)."""
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        whole = None
    if whole is None or (isinstance(value, float) and value != whole):
        raise UserError(f"{where} must be a whole number and is {value!r}; repair the file")
    return whole


def by_id(content: dict[str, Any], where: str) -> dict[int, Any]:
    """The values of a json object whose keys are ids; `UserError` for another key, and for one id of two keys."""
    values = {}
    for key, value in content.items():
        whole = integer(key, f"{where}: the key '{key}'")
        if whole in values:
            raise UserError(f"{where} has the id {whole} twice ('{key}' is one of its keys); repair the file")
        values[whole] = value
    return values


def positive(value: Any, where: str) -> float:
    """`value` as a float above zero, else `UserError`."""
    result = number(value, where)
    if result <= 0:
        raise UserError(f"{where} must be above zero and is {result:g}; repair the file")
    return result


def rotation(value: Any, where: str) -> np.ndarray:
    """9 row-major numbers as a (3, 3) rotation; `UserError` where they are no rotation."""
    matrix = numbers(value, 9, where).reshape(3, 3)
    fault = rotation_fault(matrix)
    if fault:
        raise UserError(f"{where} must be a rotation and is {fault}; repair the file")
    return matrix


def rotation_fault(R: np.ndarray) -> str:
    """What a finite (3, 3) matrix is instead of a rotation; empty where it is one."""
    square = R @ R.T
    off = np.abs(square - np.eye(3)).max()
    if off <= ORTHOGONALITY_TOLERANCE:
        mirrors = np.linalg.det(R) < 0
        return "none, its determinant is -1: a mirror, an axis is turned round" if mirrors else ""
    scale = np.sqrt(np.trace(square) / 3)
    if scale > 0 and np.abs(square / scale**2 - np.eye(3)).max() <= ORTHOGONALITY_TOLERANCE:
        return f"a rotation scaled by {scale:.4g}"
    return f"none, not orthonormal: R R^T is off the identity by {off:.2g}"


def read_pose(entry: Any, where: str) -> Pose:
    """One entry of `scene_gt.json` (millimetres) as an object-to-camera pose (metres)."""
    pose = read_pose_numbers(entry, where)
    rotation(pose.cam_R_obj, f"{where}: cam_R_m2c")
    return pose


def read_pose_numbers(entry: Any, where: str) -> Pose:
    """As `read_pose`, but R (3, 3) is any finite matrix."""
    R = numbers(require_key(entry, "cam_R_m2c", where), 9, f"{where}: cam_R_m2c").reshape(3, 3)
    t = numbers(require_key(entry, "cam_t_m2c", where), 3, f"{where}: cam_t_m2c")
    return Pose(cam_R_obj=R, cam_t_obj=MM_TO_M * t)


def read_obj_id(entry: Any, where: str) -> int:
    """The object of one entry of `scene_gt.json`."""
    return integer(require_key(entry, "obj_id", where), f"{where}: obj_id")


def has_intrinsics(entry: Any) -> bool:
    """Whether an entry says its camera."""
    return isinstance(entry, dict) and CAM_K in entry


def read_intrinsics(entry: Any, where: str) -> np.ndarray:
    """`cam_K` of one entry of `scene_camera.json` as (3, 3) float64, pixels."""
    K = numbers(require_key(entry, CAM_K, where), 9, f"{where}: cam_K").reshape(3, 3)
    fault = intrinsics_fault(K)
    if fault:
        raise UserError(f"{where}: cam_K {fault}; repair the file")
    return K


def read_depth_scale(entry: Any, where: str) -> float:
    """Metres per step of a depth file by its entry of `scene_camera.json`; BOP's default is 1 mm."""
    return MM_TO_M * positive(entry.get("depth_scale", 1.0), f"{where}: depth_scale")


def read_camera(path: Path, remedy: str = CAMERA_REMEDY) -> Camera:
    """A data set's `camera.json`: K, and where the file has them the size of its images and the lens's `distortion`.

    Raises `UserError` where it is missing or damaged.
    """
    content = read_json(path, remedy)
    fx, fy, cx, cy = (
        number(require_key(content, key, str(path)), f"{path}: {key}") for key in ("fx", "fy", "cx", "cy")
    )
    K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    fault = intrinsics_fault(K)
    if fault:
        raise UserError(f"{path} {fault}; repair the file")
    size = _camera_size(content, path) if {"width", "height"} & content.keys() else None
    return Camera(K, size, as_distortion(content.get("distortion"), f"{path}: distortion"))


def write_camera(path: Path, K: np.ndarray, size: tuple[int, int], depth_scale: float = 1.0) -> None:
    """Write a data set's `camera.json`: K (3, 3), width and height, pixels, and millimetres per step of depth."""
    (fx, _, cx), (_, fy, cy), _ = K.tolist()
    intrinsics = {"cx": cx, "cy": cy, "depth_scale": depth_scale, "fx": fx, "fy": fy}
    write_json(path, {**intrinsics, "width": size[0], "height": size[1]})


def read_camera_size(root: Path, sensor: str = "") -> tuple[int, int]:
    """Width and height of a data set's images, pixels, by `camera.json` in its folder. `UserError` without them.

    Of several sensors each has its own, `camera_cam1.json`.
    """
    path = Path(root) / SceneNames(sensor).of(CAMERA_NAME)
    return _camera_size(read_json(path, CAMERA_REMEDY), path)


def _camera_size(content: Any, path: Path) -> tuple[int, int]:
    values = {key: require_key(content, key, str(path)) for key in ("width", "height")}
    width, height = (integer(positive(value, f"{path}: {key}"), f"{path}: {key}") for key, value in values.items())
    return width, height


def xyxy_from_xywh(value: Any, where: str) -> np.ndarray | None:
    """A BOP box [x, y, w, h] as (4,) float64 (x1, y1, x1 + w, y1 + h), pixels.

    None where the box is absent: BOP writes -1 for an object that is not in the image.
    """
    x, y, w, h = numbers(value, 4, where).tolist()
    if w <= 0 or h <= 0:
        return None
    return np.array([x, y, x + w, y + h])
