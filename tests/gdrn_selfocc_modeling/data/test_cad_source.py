"""Samples rendered from models: their truth, their scenes, and the crop's agreement with the maps."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from sopose.batch import Sample, collate_samples
from sopose.core.bop.fields import write_camera
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import SplitSpec, resolve_split
from sopose.core.data.loader import make_train_loader
from sopose.core.data.replay import Place, ReplaySchedule
from sopose.core.data.roi import Roi, roi_positions
from sopose.core.geometry.camera import pixel_grid, project
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.render.visibility import unhidden
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.ground_range import GroundRange
from sopose.core.synthesis.hiding import HidingRange
from sopose.core.synthesis.scene_sampling import OccluderRange, PoseRange
from sopose.core.synthesis.scenes import DrawnScene, SceneDrawer, SceneOptions
from sopose.core.synthesis.sensor import Sensor
from sopose.core.utils.errors import UserError
from sopose.data.build import ObjectCache, build_train_dataset, share_of
from sopose.data.build_cad import build_scene_options, cad_camera
from sopose.data.cad_source import CadSource, _enlarge
from sopose.data.mapper import TrainAugmentation
from sopose.data.roi_input import RoiFormat
from sopose.data.targets import prepare_objects
from sopose.settings import Settings
from tests.support.laws import assert_lawful

K = np.array([[572.4, 0, 325.3], [0, 573.6, 242.0], [0, 0, 1]])
SIZE = (640, 480)
PERFECT = Sensor(blur=(0, 0), gain=0, tint=0, gamma=0, noise=(0, 0), jpeg_prob=0)
OPTIONS = SceneOptions(K, SIZE, ground=GroundRange(prob=0.0), sensor=PERFECT)
ON_TABLE = replace(
    OPTIONS,
    poses=PoseRange(rotations="stable", elevation=(20.0, 80.0)),
    occluders=OccluderRange(standing_prob=0.7),
    ground=GroundRange(prob=1.0),
    sensor=Sensor(),
)
PLAIN = TrainAugmentation(color_prob=0.0, change_bg_prob=0.0)


@pytest.fixture(scope="module")
def make_source(models):
    """`make_source(options, augmentation, resolution)`."""
    objects = prepare_objects(models, {k: i for i, k in enumerate(models)}, num_points=100)

    def make(
        options: SceneOptions = OPTIONS,
        augmentation: TrainAugmentation = PLAIN,
        resolution: int = 64,
        replay: ReplaySchedule | None = None,
    ) -> CadSource:
        drawer = SceneDrawer(models, options, Backgrounds())
        return CadSource(objects, drawer, RoiFormat(resolution, 32), augmentation, length=100, replay=replay)

    return make


@pytest.mark.parametrize("options", [OPTIONS, ON_TABLE], ids=["floating", "on a table"])
def test_samples_obey_the_laws(make_source, options):
    source = make_source(options, augmentation=replace(PLAIN, truncate_prob=0.5))
    for index in range(24):
        sample = source.sample(index, np.random.default_rng(index))
        assert_lawful(sample, source.objects[sample[2].obj_id])


REPLAY = ReplaySchedule(size=8, reuse=4, batch=4)


def replayed(source: CadSource, number: int) -> Sample:
    return source.sample_at(Place(0, number), number % 100, np.random.default_rng(number))


@pytest.mark.parametrize("options", [OPTIONS, ON_TABLE], ids=["floating", "on a table"])
def test_samples_of_windows_used_again_obey_the_laws(make_source, options):
    """Their truth is cast at their own cells, so it is as exact as that of a fresh scene."""
    source = make_source(options, augmentation=replace(PLAIN, truncate_prob=0.5), replay=REPLAY)
    for number in range(48):
        sample = replayed(source, number)
        assert_lawful(sample, source.objects[sample[2].obj_id])
    assert source.pool.made < 24


def test_a_window_used_again_shows_the_object_where_the_maps_say(make_source):
    options = replace(OPTIONS, occluders=OccluderRange(max_count=0))
    source = make_source(options, resolution=64, replay=REPLAY)
    source.drawer.backgrounds.sample = lambda size, rng: np.full((size[1], size[0], 3), (255, 0, 255), np.uint8)
    for number in range(24):
        roi, targets, _ = replayed(source, number)
        image = source.format.image_array(roi.image.numpy())[::2, ::2].astype(int)
        background = (np.abs(image - (255, 0, 255)) < 3).all(axis=-1) | (image == 0).all(axis=-1)
        assert (background == (targets.mask_obj.numpy() > 0)).mean() < 0.06


@pytest.mark.parametrize("replay", [None, REPLAY], ids=["fresh", "used again"])
def test_what_stands_before_a_crop_hides_cells_and_pixels_alike(make_source, replay):
    """Of the object at least a fourth stays visible; where its mask is gone, the picture shows something else."""
    options = replace(OPTIONS, occluders=OccluderRange(max_count=0))
    hiding = HidingRange(prob=1.0, flat_prob=1.0)
    plain, hidden = (make_source(options, replace(PLAIN, hiding=some), 64, replay) for some in (HidingRange(), hiding))
    shares = []
    for number in range(24):
        (seen, whole, _), (image, targets, info) = (replayed(source, number) for source in (plain, hidden))
        assert_lawful((image, targets, info), hidden.objects[info.obj_id])
        assert torch.equal(whole.P, targets.P) and torch.equal(whole.mask_obj, targets.mask_obj)
        gone = (whole.mask_visib > targets.mask_visib).numpy()
        shares.append(float(targets.mask_visib.sum() / whole.mask_visib.sum()))
        changed = (image.image != seen.image).any(dim=0).numpy()[::2, ::2]
        assert not gone.any() or changed[gone].mean() > 0.95
    assert 0.25 <= min(shares) < 0.6 and max(shares) > 0.9


def test_each_use_of_a_window_is_another_sample_of_the_same_pose(make_source):
    source = make_source(ON_TABLE, replay=REPLAY)
    uses: dict[int, list[Sample]] = {}
    for number in range(96):
        uses.setdefault(REPLAY.thing(Place(0, number)), []).append(replayed(source, number))
    several = next(samples for samples in uses.values() if len(samples) == 4)
    assert len({roi.image.numpy().tobytes() for roi, _, _ in several}) == 4
    assert len({targets.P.numpy().tobytes() for _, targets, _ in several}) == 4
    assert len({targets.cam_R_obj.numpy().tobytes() for _, targets, _ in several}) == 1


@pytest.mark.parametrize("num_workers", [1, 2])
def test_windows_used_again_are_the_same_with_any_number_of_workers(make_source, num_workers):
    source = make_source(ON_TABLE, replay=REPLAY)

    def images(workers: int, start: int = 0) -> list[bytes]:
        loader = make_train_loader(source, collate_samples, 4, seed=3, num_workers=workers, start=start)
        return [rois.image.numpy().tobytes() + targets.P.numpy().tobytes() for rois, targets, _ in islice(loader, 9)]

    alone = images(0)
    assert images(num_workers) == alone
    assert images(num_workers, start=12)[:6] == alone[3:]


def test_objects_come_in_turn_and_samples_differ(make_source):
    source = make_source()
    samples = [source.sample(index, np.random.default_rng(index)) for index in range(8)]
    assert [info.obj_id for _, _, info in samples] == [1, 2, 3, 4, 1, 2, 3, 4]
    assert len({roi.image.numpy().tobytes() for roi, _, _ in samples}) == 8
    assert len(source) == 100


@pytest.mark.parametrize("options", [SceneOptions(K, SIZE), ON_TABLE], ids=["floating", "on a table"])
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
    source.drawer.backgrounds.sample = lambda size, rng: np.full((size[1], size[0], 3), (255, 0, 255), np.uint8)
    for index in range(8):
        roi, targets, _ = source.sample(index, np.random.default_rng(index))
        image = source.format.image_array(roi.image.numpy())[::2, ::2].astype(int)
        background = (np.abs(image - (255, 0, 255)) < 3).all(axis=-1) | (image == 0).all(axis=-1)
        # Enlarged by interpolation, the outline is off by up to a cell.
        assert (background == (targets.mask_obj.numpy() > 0)).mean() < 0.06


def test_a_truncated_part_shows_the_background(make_source):
    magenta = (255, 0, 255)
    source = make_source(
        options=replace(OPTIONS, occluders=OccluderRange(max_count=0)),
        augmentation=replace(PLAIN, truncate_prob=1.0),
    )
    source.drawer.backgrounds.sample = lambda size, rng: np.full((size[1], size[0], 3), magenta, np.uint8)
    roi, targets, _ = source.sample(0, np.random.default_rng(0))
    image = source.format.image_array(roi.image.numpy())[::2, ::2].astype(int)
    gone = (targets.mask_visib.numpy() > 0) & (targets.mask_trunc.numpy() == 0)
    assert gone.any()
    assert (np.abs(image[gone] - magenta) < 3).all(axis=-1).mean() > 0.8


def bodies_of(scene: DrawnScene, models: dict[int, ObjectModel]) -> list[tuple[ObjectModel, Pose]]:
    return [(models[obj_id], pose) for obj_id, pose in scene.objects]


def test_an_occluder_in_front_hides_the_target(models):
    target, pose = models[1], OPTIONS.poses.draw(K, SIZE, np.random.default_rng(0))
    hits = target.caster.cast(pose, K, project(pose.transform(target.vertices), K))
    points_cam = pose.transform(hits.points_obj)
    nearer, farther = (replace(pose, cam_t_obj=share * pose.cam_t_obj) for share in (0.7, 1.5))
    # Perspective lets a few points of the outline look past the nearer copy.
    assert unhidden(points_cam, [(target.caster, nearer)]).mean() < 0.05
    assert unhidden(points_cam, [(target.caster, farther)]).all()
    assert unhidden(points_cam, []).all()


def test_enlarging_samples_where_the_positions_say():
    roi = Roi(np.array([100.0, 80.0]), 50.0, np.array([40.0, 40.0]))
    small = roi_positions(roi, 50)
    large = _enlarge(small.astype(np.float32), 128)
    inner = slice(0, 126)  # the last samples lie beyond the last camera pixel
    np.testing.assert_allclose(large[inner, inner], roi_positions(roi, 128)[inner, inner], rtol=0, atol=0.05)


def test_objects_on_a_table_stand_on_its_plane(make_source, models):
    drawer = make_source(ON_TABLE).drawer
    for index in range(12):
        scene = drawer.around(1 + index % 4, np.random.default_rng(index))
        if scene.ground is None:
            continue
        point, up = scene.ground.pose.cam_t_obj, scene.ground.normal_cam
        lowest = [((pose.transform(m.vertices) - point) @ up).min() for m, pose in bodies_of(scene, models)]
        assert abs(lowest[0]) < 1e-6 and min(lowest) > -1e-6  # a micrometre


def test_the_box_is_that_of_the_visible_pixels(make_source, models):
    drawer, pixels = make_source().drawer, pixel_grid(*SIZE).reshape(-1, 2)
    for index in range(6):
        scene = drawer.around(1 + index % 4, np.random.default_rng(index))
        (target, pose), *others = bodies_of(scene, models)
        hits = target.caster.cast(pose, K, pixels)
        occluders = [(other.caster, where) for other, where in others]
        seen = pixels[hits.ray[unhidden(pose.transform(hits.points_obj), occluders)]]
        exact = np.concatenate([seen.min(axis=0), seen.max(axis=0)])
        cell = np.ptp(scene.box.reshape(2, 2), axis=0).max() / 30
        np.testing.assert_allclose(scene.box, exact, rtol=0, atol=max(cell, 1.0))


def test_impossible_numbers_are_refused(make_source):
    with pytest.raises(UserError, match="MIN_VISIB"):
        replace(OPTIONS, min_visib=1.0)
    source = make_source()
    with pytest.raises(UserError, match="EPOCH_LENGTH"):
        CadSource(source.objects, source.drawer, source.format, source.augmentation, length=0)


def test_an_object_that_never_shows_ends_in_an_error(make_source):
    beside = replace(OPTIONS, poses=PoseRange(center_range=(5.0, 6.0)))
    with pytest.raises(UserError, match="never in the image"):
        make_source(options=beside).sample(0, np.random.default_rng(0))


def build_options(settings: Settings, root: Path) -> SceneOptions:
    return build_scene_options(settings.cad, settings.datasets, cad_camera(settings.cad, root))


def test_the_camera_comes_from_the_settings_or_the_data_set(make_small_config, toy_root, tmp_path):
    given = make_small_config("CAD.K=(500, 510, 320, 240)", "CAD.IMAGE_SIZE=(640, 480)")
    options = build_options(given, tmp_path)
    np.testing.assert_array_equal(options.K, [[500, 0, 320], [0, 510, 240], [0, 0, 1]])
    assert options.image_size == (640, 480)
    assert build_options(make_small_config(), toy_root).image_size == (320, 240)
    with pytest.raises(UserError, match=r"camera\.json is missing; set CAD\.K"):
        build_options(make_small_config(), tmp_path)
    with pytest.raises(UserError, match="go together"):
        build_options(make_small_config("CAD.K=(500, 510, 320, 240)"), tmp_path)


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
    options = build_options(given, toy_root)
    shading, lights, materials = options.shading, options.lights, options.materials
    assert not shading.shadows and not shading.ambient_occlusion and shading.sky_rays == 2
    assert lights.count == (2, 2) and lights.size == (0, 0) and options.ground.prob == 0.25
    assert materials.hue == 0 and materials.roughness == (0.5, 0.5) and options.sensor.blur == (1, 1)
    assert options.occluders.gap == (0.01, 0.02) and options.poses.has_table


def test_poses_come_from_a_split_by_its_name(make_small_config, toy_root):
    name = f"CAD.POSES_FROM={toy_root}:train"
    statistics = build_options(make_small_config(name), toy_root).poses.statistics
    assert len(statistics.depth) == sum(len(record.instances) for record in load_split(train_split(toy_root)))


def test_places_are_shares_of_the_images_though_camera_json_is_of_others(make_small_config, toy_root, tmp_path):
    root = tmp_path / "toy"
    root.mkdir()
    for name in ("models", "train", "dataset_info.json"):
        (root / name).symlink_to(toy_root / name)
    write_camera(root / "camera.json", 2 * np.eye(3), (1280, 960))
    places = [
        build_options(make_small_config(f"CAD.POSES_FROM={folder}:train"), toy_root).poses.statistics.center
        for folder in (toy_root, root)
    ]
    np.testing.assert_array_equal(*places)


def test_poses_of_test_images_are_not_drawn_from(make_small_config, toy_root):
    with pytest.raises(UserError, match="TRAIN_ON_TEST_IMAGES=True"):
        build_options(make_small_config(f"CAD.POSES_FROM={toy_root}:test"), toy_root)


def train_split(toy_root) -> SplitSpec:
    return resolve_split(f"{toy_root}:train", toy_root.parent)


def test_the_shares_of_splits_make_a_whole(make_small_config):
    datasets = make_small_config("DATASETS.TRAIN=[a,b]", "DATASETS.TRAIN2=[c]", "DATASETS.TRAIN2_RATIO=0.4").datasets
    assert [share_of(datasets, name) for name in "abc"] == pytest.approx([0.3, 0.3, 0.4])
    assert share_of(replace(datasets, train2=()), "a") == 0.5


def test_windows_of_two_splits_are_used_as_often_as_those_of_one(make_small_config, toy_root):
    """A pool counts the samples of both, and sees half of them."""
    words = [f"DATASETS.ROOT={toy_root.parent}", "DATASETS.TRAIN2=", "CAD.REUSE=4", "CAD.POOL=8"]
    pools = []
    for train in ("toy_cad", f"toy_cad,{toy_root}:cad"):
        settings = make_small_config(*words, f"DATASETS.TRAIN=[{train}]", "MODEL.POSE_NET.LOSS_CFG.NUM_PM_POINTS=16")
        source = build_train_dataset(settings, ObjectCache(settings.datasets, settings.model.pose_net))
        pools.append([one.pool for one in getattr(source, "sources", [source])])
    assert [[pool.schedule.reuse for pool in split] for split in pools] == [[4], [8, 8]]
