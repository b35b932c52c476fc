"""Batches whose pictures a device renders: the loader's own samples, with every option of CAD on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from sopose.batch import RoiTargets, collate_samples
from sopose.core.data.color_ops import AUGMENTERS
from sopose.core.data.loader import make_train_loader
from sopose.core.render.lights import LightRange
from sopose.core.render.materials import MaterialRange
from sopose.core.render.shade import render_rgb, render_scenes
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.ground_range import GroundRange
from sopose.core.synthesis.scene_sampling import OccluderRange, PoseRange
from sopose.core.synthesis.scenes import SceneDrawer, SceneOptions
from sopose.core.synthesis.sensor import Sensor
from sopose.data.cad_source import CadSource
from sopose.data.device_batches import DeviceRenderer, collate_drawn
from sopose.data.mapper import TrainAugmentation
from sopose.data.roi_input import RoiFormat
from sopose.data.targets import prepare_objects

K = np.array([[572.4, 0, 325.3], [0, 573.6, 242.0], [0, 0, 1]])
EVERYTHING = SceneOptions(
    K,
    (640, 480),
    poses=PoseRange(rotations="stable", elevation=(10.0, 80.0), center_range=(0.0, 1.0)),
    occluders=OccluderRange(standing_prob=0.5, spacing=(0.4, 0.9)),
    ground=GroundRange(prob=0.7),
    lights=LightRange(count=(0, 3), ambient_slope=1.0),
    materials=MaterialRange(hue=20.0, stains=1.5),
    sensor=Sensor(jpeg_prob=0.5, sharpen=(0.0, 1.5)),
)
SPOILED = TrainAugmentation(color=AUGMENTERS["Multiply"](mul=(0.8, 1.2)), color_prob=0.5, truncate_prob=0.5)
GREY_LEVEL = 1


@pytest.fixture(scope="module")
def make_source(models) -> Callable[..., CadSource]:
    """`make_source(options)`; object 3 is scenery only."""
    objects = prepare_objects(models, {1: 0, 2: 1, 4: 2}, num_points=100)

    def make(options: SceneOptions = EVERYTHING) -> CadSource:
        drawer = SceneDrawer(models, options, Backgrounds())
        return CadSource(objects, drawer, RoiFormat(96, 32), SPOILED, length=40)

    return make


@pytest.mark.parametrize("rotations", ["uniform", "stable"])
def test_both_casters_see_and_show_the_same_scenes(make_source, rotations):
    source = make_source(replace(EVERYTHING, poses=replace(EVERYTHING.poses, rotations=rotations)))
    shading, caster = source.drawer.options.shading, DeviceRenderer(source, "cpu").caster
    crops = [source.draw(index, np.random.default_rng([1, index]))[0] for index in range(9)]
    scenes, windows = [crop.scene.of(source.drawer.models) for crop in crops], [c.positions[c.window] for c in crops]
    assert any(scene.ground for scene in scenes) and len({window.shape for window in windows}) > 3
    wrong = []
    pictures = render_scenes(scenes, windows, shading, caster)
    for scene, window, there in zip(scenes, windows, pictures, strict=True):
        here = render_rgb(scene, window, shading)
        np.testing.assert_array_equal(there.owner, here.owner)
        np.testing.assert_allclose(there.points_obj, here.points_obj, rtol=0, atol=1e-12)
        np.testing.assert_allclose(there.depth, here.depth, rtol=1e-12)
        wrong.append(np.abs(there.rgb.astype(int) - here.rgb).max(axis=-1) > GREY_LEVEL)
    # A shadow ray that grazes an edge may pass it for one of the two, and a few pixels share its light.
    assert np.concatenate(wrong).mean() < 1e-3


def test_batches_are_those_of_the_loader(make_source):
    source = make_source()
    there = DeviceRenderer(source, "cpu", threads=2).batches(4, seed=3, start=8)
    here = iter(make_train_loader(source, collate_samples, 4, seed=3, start=8))
    for (rois, targets, infos), (rois_there, targets_there, infos_there) in ((next(here), next(there)) for _ in "ab"):
        assert infos == infos_there
        for field in fields(RoiTargets):
            assert torch.equal(getattr(targets, field.name), getattr(targets_there, field.name)), field.name
        for field in fields(rois):
            if field.name != "image":
                assert torch.equal(getattr(rois, field.name), getattr(rois_there, field.name)), field.name
        difference = 255 * (rois.image - rois_there.image).abs().amax(dim=1)
        # Sharpening and JPEG spread what little differs.
        assert (difference > GREY_LEVEL + 0.01).float().mean() < 5e-3


def test_workers_draw_the_same_batches_ahead(make_source):
    source = make_source(replace(EVERYTHING, occluders=OccluderRange(max_count=1)))
    alone, ahead = (DeviceRenderer(source, "cpu").batches(3, seed=5, workers=workers) for workers in (0, 2))
    for _ in range(2):
        (rois, targets, _), (rois_ahead, targets_ahead, _) = next(alone), next(ahead)
        assert torch.equal(rois.image, rois_ahead.image) and torch.equal(targets.Q, targets_ahead.Q)
    ahead.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_shows_what_the_cpu_shows(make_source):
    source = make_source()
    images = []
    for device in ("cuda", "cpu"):
        drawn = collate_drawn([source.draw(index, np.random.default_rng([2, index])) for index in range(12)])
        with ThreadPoolExecutor(2) as pool:
            images.append(DeviceRenderer(source, device).rendered(drawn, pool)[0].image)
    difference = 255 * (images[0] - images[1]).abs().amax(dim=1)
    assert (difference > GREY_LEVEL + 0.01).float().mean() < 5e-3
