"""The command that estimates poses: whose camera and whose ids it takes."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from sopose.core.data.frames import open_frames
from sopose.core.utils.errors import UserError
from tools.predict import open_camera, parse_args


def camera_of(source, *words: str):
    args = parse_args([str(source), "--checkpoint", "x.pth", "--box", "can,0,0,9,9", *words])
    return open_camera(args, open_frames(str(source)))


@pytest.fixture
def scene(tmp_path):
    """A scene with image 3, 32 wide and 24 high, and its camera."""
    (tmp_path / "000007/rgb").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "000007/rgb/000003.png"), np.zeros((24, 32, 3), np.uint8))
    entry = {"cam_K": [50, 0, 15.5, 0, 51, 11.5, 0, 0, 1]}
    (tmp_path / "000007/scene_camera.json").write_text(json.dumps({"000003": entry}))
    return tmp_path / "000007"


def test_a_scene_s_own_camera_is_taken_by_the_image_s_id(scene):
    (frame,) = open_frames(str(scene))
    assert camera_of(scene)(frame, (32, 24)).tolist() == [[50, 0, 15.5], [0, 51, 11.5], [0, 0, 1]]
    edited = {"4": {"cam_K": [50, 0, 15.5, 0, 51, 11.5, 0, 0, 1]}}
    (scene / "scene_camera.json").write_text(json.dumps(edited))
    with pytest.raises(UserError, match="needs the key '3' and has: 4"):
        camera_of(scene)(frame, (32, 24))


def test_a_camera_file_is_scaled_to_the_images_and_a_given_K_is_not(scene):
    path = scene / "camera.json"
    content = {"fx": 500, "fy": 500, "cx": 199.5, "cy": 149.5}
    path.write_text(json.dumps({**content, "width": 400, "height": 300}))
    (frame,) = open_frames(str(scene))
    scaled = camera_of(scene, "--camera", str(path))(frame, (320, 240))
    np.testing.assert_allclose(scaled, [[400, 0, 159.5], [0, 400, 119.5], [0, 0, 1]], atol=1e-12)
    with pytest.raises(UserError, match=r"camera\.json is the camera of images of 400 x 300 pixels.*320 x 180"):
        camera_of(scene, "--camera", str(path))(frame, (320, 180))
    path.write_text(json.dumps(content))
    assert camera_of(scene, "--camera", str(path))(frame, (320, 240))[0, 0] == 500
    assert camera_of(scene, "--K", "500,500,199.5,149.5")(frame, (320, 240))[0, 2] == 199.5
