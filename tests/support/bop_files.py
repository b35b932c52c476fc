"""A tiny BOP data set, written by hand, for tests to damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sopose.core.bop.models import write_model, write_models_info
from sopose.core.objects.model import ObjectModel, measure

K = [100.0, 0.0, 31.5, 0.0, 110.0, 23.5, 0.0, 0.0, 1.0]
R = [0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]


def tetrahedron(obj_id: int, **fields: Any) -> ObjectModel:
    """A model with 4 vertices, metres."""
    vertices = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.05, 0], [0, 0, 0.025]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    return ObjectModel(obj_id, f"obj_{obj_id:06d}", vertices, faces, *measure(vertices), **fields)


def edit_json(path: Path, change: Any) -> None:
    """Let `change` edit the content of a json file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def write_tiny_bop(root: Path) -> Path:
    """A BOP folder of two models and one scene `test/000001` with images 3 and 7, object 1 and 2 in each."""
    models = [tetrahedron(1), tetrahedron(2, symmetries_continuous=[(np.array([0, 0, 1.0]), np.zeros(3))])]
    for model in models:
        write_model(root / "models" / f"obj_{model.obj_id:06d}.ply", model)
    write_models_info(root / "models", models)
    scene = root / "test" / "000001"
    for folder in ("rgb", "depth", "mask_visib"):
        (scene / folder).mkdir(parents=True)
    for im_id in (3, 7):
        cv2.imwrite(str(scene / f"rgb/{im_id:06d}.png"), np.full((48, 64, 3), im_id, np.uint8))
        cv2.imwrite(str(scene / f"mask_visib/{im_id:06d}_000001.png"), np.full((48, 64), 255, np.uint8))
    cv2.imwrite(str(scene / "depth/000003.png"), np.full((48, 64), 5000, np.uint16))
    camera = {"cam_K": K, "depth_scale": 0.1}
    gt = [{"obj_id": k, "cam_R_m2c": R, "cam_t_m2c": [10.0, -20.0, 500.0 * k]} for k in (1, 2)]
    info = [
        {"bbox_obj": [-3, 4, 10, 20], "bbox_visib": [0, 4, 7, 20], "visib_fract": 0.5, "px_count_visib": 99},
        {"bbox_obj": [1, 2, 3, 4], "bbox_visib": [-1, -1, -1, -1], "visib_fract": 0.0, "px_count_visib": 0},
    ]
    for name, entry in (("scene_camera", camera), ("scene_gt", gt), ("scene_gt_info", info)):
        (scene / f"{name}.json").write_text(json.dumps({"3": entry, "7": entry}))
    target = {"im_id": 7, "inst_count": 1, "obj_id": 1, "scene_id": 1}
    (root / "test_targets_bop19.json").write_text(json.dumps([target]))
    (root / "camera.json").write_text(json.dumps({"width": 64, "height": 48}))
    return root


def name_sensor(scene: Path, sensor: str) -> None:
    """Rename what a scene has to what it is called where several sensors took it: `rgb_cam1`, `scene_gt_cam1.json`."""
    for path in sorted(scene.iterdir()):
        path.rename(path.with_name(f"{path.stem}_{sensor}{path.suffix}"))


def of_sensors(scene: Path, *sensors: str) -> None:
    """Make a scene one that several sensors took, each of which saw the same; "" has files that name no sensor."""
    pristine = scene.rename(scene.with_name("pristine"))
    for sensor in sensors:
        copy = Path(shutil.copytree(pristine, scene.with_name("copy")))
        if sensor:
            name_sensor(copy, sensor)
        shutil.copytree(copy, scene, dirs_exist_ok=True)
        shutil.rmtree(copy)
    shutil.rmtree(pristine)
