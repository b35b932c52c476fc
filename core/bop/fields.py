"""Fields of BOP's files: checked where they enter, converted from millimetres to metres."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, require_key
from sopose.core.utils.units import MM_TO_M

# BOP's annotations are rounded to a few digits; anything beyond this is not a rotation.
ORTHOGONALITY_TOLERANCE = 0.01


def numbers(value: Any, count: int, where: str) -> np.ndarray:
    """`value` as (count,) float64; `UserError` where it is not that many finite numbers."""
    try:
        array = np.asarray(value, np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if array.size != count:
        came = f"{len(value)} entries" if isinstance(value, list | tuple) else repr(value)[:60]
        raise UserError(f"{where} must be {count} numbers and is {came}; repair the file")
    if not np.isfinite(array).all():
        raise UserError(f"{where} must be {count} finite numbers and has nan or infinity; repair the file")
    return array


def integer(value: Any, where: str) -> int:
    """`value` as an int; `UserError` where it is none (a text of digits counts as one)."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or (isinstance(value, float) and value != number):
        raise UserError(f"{where} must be a whole number and is {value!r}; repair the file")
    return number


def positive(value: Any, where: str) -> float:
    """`value` as a float above zero, else `UserError`."""
    number = float(numbers(value, 1, where)[0])
    if number <= 0:
        raise UserError(f"{where} must be above zero and is {number:g}; repair the file")
    return number


def rotation(value: Any, where: str) -> np.ndarray:
    """9 row-major numbers as a (3, 3) rotation; `UserError` where they are no rotation."""
    matrix = numbers(value, 9, where).reshape(3, 3)
    off = np.abs(matrix @ matrix.T - np.eye(3)).max()
    if off > ORTHOGONALITY_TOLERANCE or np.linalg.det(matrix) < 0:
        raise UserError(f"{where} must be a rotation and is none (R R^T off by {off:.2g}); repair the file")
    return matrix


def read_pose(entry: dict, where: str) -> Pose:
    """One entry of `scene_gt.json` (millimetres) as an object-to-camera pose (metres)."""
    R = rotation(require_key(entry, "cam_R_m2c", where), f"{where}: cam_R_m2c")
    t = numbers(require_key(entry, "cam_t_m2c", where), 3, f"{where}: cam_t_m2c")
    return Pose(cam_R_obj=R, cam_t_obj=MM_TO_M * t)


def read_intrinsics(entry: dict, where: str) -> np.ndarray:
    """`cam_K` of one entry of `scene_camera.json` as (3, 3) float64, pixels."""
    K = numbers(require_key(entry, "cam_K", where), 9, f"{where}: cam_K").reshape(3, 3)
    if K[0, 0] <= 0 or K[1, 1] <= 0:
        raise UserError(f"{where}: cam_K must have focal lengths above zero; repair the file")
    if (K[2] != (0, 0, 1)).any() or np.linalg.det(K) <= 0:
        raise UserError(f"{where}: cam_K must have an inverse and end in 0, 0, 1; repair the file")
    return K


def read_camera_K(path: Path, remedy: str = "it comes with the data set's base archive") -> np.ndarray:
    """K (3, 3) float64, pixels, of a data set's `camera.json`."""
    camera = read_json(path, remedy)
    fx, fy = (positive(require_key(camera, key, str(path)), f"{path}: {key}") for key in ("fx", "fy"))
    cx, cy = (numbers(require_key(camera, key, str(path)), 1, f"{path}: {key}")[0] for key in ("cx", "cy"))
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def xyxy_from_xywh(value: Any, where: str) -> np.ndarray | None:
    """A BOP box [x, y, w, h] as (4,) float64 (x1, y1, x1 + w, y1 + h), pixels.

    None where the box is absent: BOP writes -1 for an object that is not in the image.
    """
    x, y, w, h = numbers(value, 4, where)
    if w <= 0 or h <= 0:
        return None
    return np.array([x, y, x + w, y + h])
