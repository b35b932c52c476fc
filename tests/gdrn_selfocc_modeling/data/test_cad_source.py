"""Samples rendered from models: their truth, their scenes, and the crop's agreement with the maps."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import SplitSpec, resolve_split
from sopose.core.data.roi import Roi, roi_positions
from sopose.core.geometry.camera import pixel_grid, project
from sopose.core.rays.raycast import RayCaster
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.look import GroundRange, Look
from sopose.core.synthesis.scene_sampling import OccluderRange, PoseRange
from sopose.core.synthesis.sensor import Sensor
from sopose.core.utils.errors import UserError
from sopose.data.build_cad import build_cad_options
from sopose.data.cad_source import CadOptions, CadScene, CadSource, _enlarge
from sopose.data.mapper import TrainAugmentation
from sopose.data.targets import RoiFormat, prepare_objects
from sopose.settings import Settings
from tests.support.laws import assert_lawful

K = np.array([[572.4, 0, 325.3], [0, 573.6, 242.0], [0, 0, 1]])
SIZE = (640, 480)
PERFECT = Sensor(blur=(0, 0), gain=0, tint=0, gamma=0, noise=(0, 0), jpeg_prob=0)
FLOATING = Look(ground=GroundRange(prob=0.0), sensor=PERFECT)
OPTIONS = CadOptions(K, SIZE, epoch_length=100, look=FLOATING)
ON_TABLE = replace(
    OPTIONS,
    poses=PoseRange(rotations="stable", elevation=(20.0, 80.0)),
    occluders=OccluderRange(standing_prob=0.7),
    look=Look(ground=GroundRange(prob=1.0)),
)
PLAIN = TrainAugmentation(color_prob=0.0, change_bg_prob=0.0)


@pytest.fixture(scope="module")
def make_source(models):
    """`make_source(options, augmentation, resolution)`."""
    casters = {obj_id: RayCaster(model.vertices, model.faces) for obj_id, model in models.items()}
    objects = prepare_objects(models, casters, {k: i for i, k in enumerate(models)}, num_points=100)

    def make(options: CadOptions = OPTIONS, augmentation: TrainAugmentation = PLAIN, resolution: int = 64) -> CadSource:
        roi_format = RoiFormat(resolution, 32)
        return CadSource(objects, models, casters, options, roi_format, augmentation, Backgrounds())

    return make


@pytest.mark.parametrize("options", [OPTIONS, ON_TABLE], ids=["floating", "on a table"])
def test_samples_obey_the_laws(make_source, options):
    source = make_source(options, augmentation=replace(PLAIN, truncate_prob=0.5))
    for index in range(24):
        sample = source.sample(index, np.random.default_rng(index))
        assert_lawful(sample, source.objects[sample[2].obj_id])


def test_objects_come_in_turn_and_samples_differ(make_source):
    source = make_source()
    samples = [source.sample(index, np.random.default_rng(index)) for index in range(8)]
    assert [info.obj_id for _, _, info in samples] == [1, 2, 3, 4, 1, 2, 3, 4]
    assert len({roi.image.numpy().tobytes() for roi, _, _ in samples}) == 8
    assert len(source) == 100


@pytest.mark.parametrize("options", [replace(OPTIONS, look=Look()), ON_TABLE], ids=["floating", "on a table"])
def test_a_sample_is_decided_by_its_generator_also_after_pickling(make_source, options):
    source = make_source(options=options)
    copy = pickle.loads(pickle.dumps(source))
    first, second = (s.sample(3, np.random.default_rng(1)) for s in (source, copy))
    assert (first[0].image == second[0].image).all()
    assert (first[1].P == second[1].P).all() and (first[1].Q == second[1].Q).all()


def test_the_target_is_visible_enough_and_some_are_occluded(make_source):
    crowded = OccluderRange(max_count=3, spacing=(0.3, 0.8))
    source = make_source(options=replace(OPTIONS, min_visib=0.5, occluders=crowded))
    fractions = []
    for index in range(40):
        _, targets, _ = source.sample(index, np.random.default_rng(index))
        fractions.append(float(targets.mask_visib.sum() / targets.mask_obj.sum()))
    # The limit holds for the whole object; a shifted window may see a little less of it.
    assert min(fractions) > 0.35
    assert sum(fraction < 0.9 for fraction in fractions) > 4


def test_the_crop_shows_the_object_where_the_maps_say(make_source):
    source = make_source(options=replace(OPTIONS, occluders=OccluderRange(max_count=0)), resolution=64)
    source.backgrounds.sample = lambda size, rng: np.full((size[1], size[0], 3), (255, 0, 255), np.uint8)
    for index in range(8):
        roi, targets, _ = source.sample(index, np.random.default_rng(index))
        image = source.format.image_array(roi.image)[::2, ::2].astype(int)
        background = (np.abs(image - (255, 0, 255)) < 3).all(axis=-1) | (image == 0).all(axis=-1)
        # Enlarged by interpolation, the outline is off by up to a cell.
        assert (background == (targets.mask_obj.numpy() > 0)).mean() < 0.06


def test_a_truncated_part_shows_the_background(make_source):
    magenta = (255, 0, 255)
    source = make_source(
        options=replace(OPTIONS, occluders=OccluderRange(max_count=0)),
        augmentation=replace(PLAIN, truncate_prob=1.0),
    )
    source.backgrounds.sample = lambda size, rng: np.full((size[1], size[0], 3), magenta, np.uint8)
    roi, targets, _ = source.sample(0, np.random.default_rng(0))
    image = source.format.image_array(roi.image)[::2, ::2].astype(int)
    gone = (targets.mask_visib.numpy() > 0) & (targets.mask_trunc.numpy() == 0)
    assert gone.any()
    assert (np.abs(image[gone] - magenta) < 3).all(axis=-1).mean() > 0.8


def test_an_occluder_in_front_hides_the_target(make_source, models):
    source = make_source()
    rng = np.random.default_rng(0)
    target = source._body(1, OPTIONS.poses.draw(K, SIZE, rng), rng)
    hits = target.caster.cast(target.pose, K, project(target.pose.transform(models[1].vertices), K))
    nearer = replace(target, pose=replace(target.pose, cam_t_obj=0.7 * target.pose.cam_t_obj))
    farther = replace(target, pose=replace(target.pose, cam_t_obj=1.5 * target.pose.cam_t_obj))
    box = np.zeros(4)
    # Perspective lets a few points of the outline look past the nearer copy.
    assert CadScene([target, nearer], box).sees(hits.points_obj).mean() < 0.05
    assert CadScene([target, farther], box).sees(hits.points_obj).all()
    assert CadScene([target], box).sees(hits.points_obj).all()


def test_enlarging_samples_where_the_positions_say():
    roi = Roi(np.array([100.0, 80.0]), 50.0, np.array([40.0, 40.0]))
    small = roi_positions(roi, 50)
    large = _enlarge(small.astype(np.float32), 128)
    inner = slice(0, 126)  # the last samples lie beyond the last camera pixel
    np.testing.assert_allclose(large[inner, inner], roi_positions(roi, 128)[inner, inner], rtol=0, atol=0.05)


def test_objects_on_a_table_stand_on_its_plane(make_source, models):
    source = make_source(ON_TABLE)
    for index in range(12):
        scene = source.draw_scene(source.objects[1 + index % 4], np.random.default_rng(index))
        if scene.ground is None:
            continue
        target = scene.bodies[0]
        above = (target.pose.transform(models[target.model.obj_id].vertices) - scene.ground.pose.cam_t_obj) @ (
            scene.ground.normal_cam
        )
        assert abs(above.min()) < 1e-6  # a micrometre
        for body in scene.bodies[1:]:
            lowest = (body.pose.transform(body.model.vertices) - scene.ground.pose.cam_t_obj) @ scene.ground.normal_cam
            assert lowest.min() > -1e-6


def test_the_box_is_that_of_the_visible_pixels(make_source):
    source = make_source()
    for index in range(6):
        scene = source.draw_scene(source.objects[1 + index % 4], np.random.default_rng(index))
        hits = scene.bodies[0].caster.cast(scene.pose, K, pixel_grid(*SIZE).reshape(-1, 2))
        seen = pixel_grid(*SIZE).reshape(-1, 2)[hits.ray[scene.sees(hits.points_obj)]]
        exact = np.concatenate([seen.min(axis=0), seen.max(axis=0)])
        cell = np.ptp(scene.box.reshape(2, 2), axis=0).max() / 30
        np.testing.assert_allclose(scene.box, exact, rtol=0, atol=max(cell, 1.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(OPTIONS, epoch_length=0), "EPOCH_LENGTH"),
        (lambda: replace(OPTIONS, min_visib=1.0), "MIN_VISIB"),
    ],
)
def test_an_impossible_range_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_an_object_that_never_shows_ends_in_an_error(make_source):
    beside = replace(OPTIONS, poses=PoseRange(center_range=(5.0, 6.0)))
    with pytest.raises(UserError, match="never in the image"):
        make_source(options=beside).sample(0, np.random.default_rng(0))


def test_the_camera_comes_from_the_settings_or_the_data_set(make_small_config, toy_root, tmp_path):
    given = make_small_config("CAD.K=(500, 510, 320, 240)", "CAD.IMAGE_SIZE=(640, 480)")
    options = options_of(given, tmp_path)
    np.testing.assert_array_equal(options.K, [[500, 0, 320], [0, 510, 240], [0, 0, 1]])
    assert options.image_size == (640, 480)
    assert options_of(make_small_config(), toy_root).image_size == (320, 240)
    with pytest.raises(UserError, match=r"camera\.json is missing; set CAD\.K"):
        options_of(make_small_config(), tmp_path)
    with pytest.raises(UserError, match="go together"):
        options_of(make_small_config("CAD.K=(500, 510, 320, 240)"), tmp_path)


def test_every_switch_of_the_look_arrives(make_small_config, toy_root):
    given = make_small_config(
        "CAD.SHADOWS=False",
        "CAD.AMBIENT_OCCLUSION=False",
        "CAD.LAMPS=(2, 2)",
        "CAD.LAMP_SIZE=(0.0, 0.0)",
        "CAD.GROUND_PROB=0.25",
        "CAD.HUE=0.0",
        "CAD.ROUGHNESS=(0.5, 0.5)",
        "CAD.SKY_RAYS=2",
        "CAD.BLUR=(1.0, 1.0)",
        "CAD.GAP=(0.01, 0.02)",
        "CAD.ROTATIONS=stable",
    )
    options = options_of(given, toy_root)
    look = options.look
    assert not look.shading.shadows and not look.shading.ambient_occlusion and look.shading.sky_rays == 2
    assert look.lights.count == (2, 2) and look.lights.size == (0, 0) and look.ground.prob == 0.25
    assert look.materials.hue == 0 and look.materials.roughness == (0.5, 0.5) and look.sensor.blur == (1, 1)
    assert options.occluders.gap == (0.01, 0.02) and options.poses.has_table


def test_poses_come_from_a_split_by_its_name(make_small_config, toy_root):
    name = f"CAD.POSES_FROM={toy_root}:train"
    statistics = options_of(make_small_config(name), toy_root).poses.statistics
    assert len(statistics.depth) == sum(len(record.instances) for record in load_split(train_split(toy_root)))


def test_poses_of_test_images_are_not_drawn_from(make_small_config, toy_root):
    with pytest.raises(UserError, match="TRAIN_ON_TEST_IMAGES=True"):
        options_of(make_small_config(f"CAD.POSES_FROM={toy_root}:test"), toy_root)


def options_of(settings: Settings, root: Path) -> CadOptions:
    return build_cad_options(settings.cad, settings.datasets, root)


def train_split(toy_root) -> SplitSpec:
    return resolve_split(f"{toy_root}:train", toy_root.parent)
