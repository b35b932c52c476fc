"""Scenes that stand still: all their images are of one arrangement, and say where their cameras were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sopose.core.bop.models import load_models
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.geometry.camera import pixel_grid
from sopose.core.geometry.pose import Pose
from sopose.core.render.lights import Lights
from sopose.core.render.shade import Shading, render_rgb
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.camera_path import draw_camera
from sopose.core.synthesis.ground_range import GroundRange
from sopose.core.synthesis.many_objects import CrowdRange
from sopose.core.synthesis.rendered_split import SplitPlan, write_split
from sopose.core.synthesis.scene_sampling import PoseRange
from sopose.core.synthesis.scenes import SceneDrawer, SceneOptions

SIZE = (121, 97)
K = np.array([[130.0, 0, 60.0], [0, 130.0, 48.0], [0, 0, 1]])  # the principal point is the image's middle
OPTIONS = SceneOptions(
    *(K, SIZE, PoseRange(rotations="stable", elevation=(25, 80))),
    crowd=CrowdRange(count=(3, 4), floating_prob=0.0),
    ground=GroundRange(prob=1.0),
)
PLAIN = Shading(shadows=False, ambient_occlusion=False)


@pytest.fixture(scope="module")
def drawer(toy_root) -> SceneDrawer:
    return SceneDrawer(load_models(toy_root / "models"), OPTIONS, Backgrounds())


def test_a_scene_before_a_camera_on_its_head_is_the_picture_on_its_head(drawer):
    scene = drawer.crowd(np.random.default_rng(5))
    rolled = scene.moved(Pose(np.diag([-1.0, -1.0, 1.0]), np.zeros(3)))
    pictures = [render_rgb(one.of(drawer.models), pixel_grid(*SIZE), PLAIN) for one in (scene, rolled)]
    first, second = (one.rgb.reshape(SIZE[1], SIZE[0], 3).astype(int) for one in pictures)
    assert (np.abs(first - second[::-1, ::-1]).max(axis=2) > 2).mean() < 0.02  # pixels at edges, and of the texture
    assert first.std() > 10


def test_lamps_and_slopes_move_with_the_scene():
    R = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    lights = Lights(np.ones(3), np.array([[1.0, 0, 2, 1], [1, 0, 0, 0]]), np.ones((2, 3)), slope=np.array([0.5, 0, 0]))
    moved = lights.moved(Pose(R, np.array([0.0, 0, 1])))
    np.testing.assert_allclose(moved.positions_cam, [[0, 1, 3, 1], [0, 1, 0, 0]])
    np.testing.assert_allclose(moved.slope, [0, 0.5, 0])


def test_cameras_stay_above_the_ground_and_see_all(drawer):
    rng = np.random.default_rng(0)
    for _ in range(20):
        scene = drawer.crowd(rng)
        moved = scene.moved(draw_camera(scene, drawer.models, rng))
        assert moved.ground.height > 0
        assert all(pose.cam_t_obj[2] > 0 for _, pose in moved.objects)


def test_a_static_split_has_one_arrangement_a_scene_and_its_cameras(toy_root, tmp_path):
    plan = SplitPlan(tmp_path / "toy/train_cad", toy_root / "models", OPTIONS, 6, 1, 3, static=True)
    plan.split_dir.parent.mkdir()
    (plan.split_dir.parent / "models").symlink_to(toy_root / "models")
    write_split(plan, workers=1, progress=False)
    records = load_split(resolve_split(f"{plan.split_dir.parent}:train_cad", Path()))
    worlds = []
    for record in records:
        camera = json.loads((record.rgb_path.parent.parent / "scene_camera.json").read_text())[str(record.im_id)]
        R, t = np.reshape(camera["cam_R_w2c"], (3, 3)), np.array(camera["cam_t_w2c"]) / 1000
        inverse = Pose(R, t).inverse()
        worlds.append([(item.obj_id, inverse @ item.pose) for item in record.instances])
    for first in (0, 3):
        for other in worlds[first + 1 : first + 3]:
            for (obj_id, pose), (same, there) in zip(worlds[first], other, strict=True):
                assert obj_id == same
                np.testing.assert_allclose(pose.cam_R_obj, there.cam_R_obj, atol=1e-9)
                np.testing.assert_allclose(pose.cam_t_obj, there.cam_t_obj, atol=1e-9)
    apart = [records[0].instances[0].pose, records[1].instances[0].pose]
    assert np.linalg.norm(apart[0].cam_R_obj - apart[1].cam_R_obj) > 0.1
    assert not np.allclose(worlds[0][0][1].cam_t_obj, worlds[3][0][1].cam_t_obj)
