"""The files of a scene of rendered images in a BOP split. Whoever makes the scene's folder lets it appear at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from sopose.core.synthesis.rendered_image import RenderedImage
from sopose.core.utils.errors import UserError
from sopose.core.utils.units import M_TO_MM

DEPTH_SCALE_MM = 0.1  # millimetres a step in depth files, as YCB-V has it
JPEG_QUALITY = 95
PNG_LEVEL = 1  # zlib's: more takes several times as long and saves a tenth
FOLDERS = ("rgb", "depth", "mask", "mask_visib")

Entries = dict[str, Any]  # of one image in the scene's json files, by their names


def make_folders(scene_dir: Path) -> None:
    """The folders that images are written to."""
    for name in FOLDERS:
        (scene_dir / name).mkdir(parents=True)


def write_image_files(
    scene_dir: Path, im_id: int, rendered: RenderedImage, rgb_format: Literal["jpg", "png"] = "png"
) -> Entries:
    """Write picture, depth and masks of an image; its entries of the scene's json files."""
    _save(scene_dir / "rgb" / f"{im_id:06d}.{rgb_format}", rendered.image)
    steps = np.minimum(np.rint(rendered.depth * (M_TO_MM / DEPTH_SCALE_MM)), 65535).astype(np.uint16)
    _save(scene_dir / "depth" / f"{im_id:06d}.png", steps)
    for number, pair in enumerate(rendered.masks):
        for folder, mask in zip(("mask", "mask_visib"), pair, strict=True):
            _save(scene_dir / folder / f"{im_id:06d}_{number:06d}.png", mask.view(np.uint8) * np.uint8(255))
    camera: dict[str, Any] = {"cam_K": rendered.K.reshape(-1).tolist(), "depth_scale": DEPTH_SCALE_MM}
    if rendered.cam_T_world is not None:
        camera["cam_R_w2c"] = rendered.cam_T_world.cam_R_obj.reshape(-1).tolist()
        camera["cam_t_w2c"] = (M_TO_MM * rendered.cam_T_world.cam_t_obj).tolist()
    return {
        "scene_camera": camera,
        "scene_gt": [
            {
                "cam_R_m2c": pose.cam_R_obj.reshape(-1).tolist(),
                "cam_t_m2c": (M_TO_MM * pose.cam_t_obj).tolist(),
                "obj_id": obj_id,
            }
            for obj_id, pose in rendered.objects
        ],
        "scene_gt_info": rendered.info,
    }


def write_scene_json(scene_dir: Path, entries: Sequence[Entries]) -> None:
    """Write the scene's json files, of the entries of its images in their order."""
    for name in ("scene_camera", "scene_gt", "scene_gt_info"):
        content = {str(im_id): entry[name] for im_id, entry in enumerate(entries)}
        (scene_dir / f"{name}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


def _save(path: Path, image: np.ndarray) -> None:
    # Not `write_image`: the scene appears at once, so its files need no names of their own on the way.
    options = [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL, cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    encoded, data = cv2.imencode(path.suffix, image, options)
    if not encoded:
        raise UserError(f"{path} cannot be written as an image; choose another --format")
    path.write_bytes(data)
