"""Samples rendered from models: their truth, their scenes, and the crop's agreement with the maps."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from core.bop.models import ObjectModel, load_models
from core.data.backgrounds import Backgrounds
from core.data.roi import Roi, roi_positions
from core.data.scene_sampling import OccluderRange, PoseRange
from core.data.sensor import Sensor
from core.geometry.camera import project
from core.render.raycast import RayCaster
from core.utils.errors import UserError
from gdrn_selfocc_modeling.data.build import build_cad_options
from gdrn_selfocc_modeling.data.cad_source import CadOptions, CadScene, CadSource, _enlarge
from gdrn_selfocc_modeling.data.mapper import TrainAugmentation
from gdrn_selfocc_modeling.data.targets import RoiFormat, prepare_objects

K = np.array([[572.4, 0, 325.3], [0, 573.6, 242.0], [0, 0, 1]])
SIZE = (640, 480)
PERFECT = Sensor(blur=(0, 0), gain=0, tint=0, gamma=0, noise=(0, 0), jpeg_prob=0)
OPTIONS = CadOptions(K, SIZE, epoch_length=100, sensor=PERFECT)
PLAIN = TrainAugmentation(color_prob=0.0, change_bg_prob=0.0)


@pytest.fixture(scope="module")
def models(toy_root) -> dict[int, ObjectModel]:
    return load_models(toy_root / "models")


@pytest.fixture(scope="module")
def make_source(models):
    """`make_source(options, augmentation, resolution)`."""
    casters = {obj_id: RayCaster(model.vertices, model.faces) for obj_id, model in models.items()}
    objects = prepare_objects(models, casters, {k: i for i, k in enumerate(models)}, num_points=100)

    def make(options: CadOptions = OPTIONS, augmentation: TrainAugmentation = PLAIN, resolution: int = 64) -> CadSource:
        roi_format = RoiFormat(resolution, 32)
        return CadSource(objects, models, casters, options, roi_format, augmentation, Backgrounds())

    return make


def test_samples_obey_the_laws(make_source, assert_lawful):
    source = make_source(augmentation=replace(PLAIN, truncate_prob=0.5))
    for index in range(24):
        sample = source.sample(index, np.random.default_rng(index))
        assert_lawful(sample, source.objects[sample[2].obj_id])


def test_objects_come_in_turn_and_samples_differ(make_source):
    source = make_source()
    samples = [source.sample(index, np.random.default_rng(index)) for index in range(8)]
    assert [info.obj_id for _, _, info in samples] == [1, 2, 3, 4, 1, 2, 3, 4]
    assert len({roi.image.numpy().tobytes() for roi, _, _ in samples}) == 8
    assert len(source) == 100


def test_a_sample_is_decided_by_its_generator_also_after_pickling(make_source):
    source = make_source(options=replace(OPTIONS, sensor=Sensor()))
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


def test_poses_stay_in_their_range():
    poses = PoseRange(z_range=(0.4, 0.9), center_range=(0.2, 0.7))
    rng = np.random.default_rng(0)
    drawn = [poses.draw(K, SIZE, rng) for _ in range(300)]
    depth = np.array([pose.cam_t_obj[2] for pose in drawn])
    uv = project(np.array([pose.cam_t_obj for pose in drawn]), K) / (np.array(SIZE) - 1)
    assert depth.min() >= 0.4 and depth.max() <= 0.9 and np.ptp(depth) > 0.45
    assert uv.min() >= 0.2 and uv.max() <= 0.7
    assert all(np.linalg.det(pose.cam_R_obj) == pytest.approx(1) for pose in drawn)


def test_upper_views_look_down_on_the_object_with_its_z_axis_up():
    poses = PoseRange(rotations="upper", elevation=(20.0, 70.0), tilt=30.0)
    rng = np.random.default_rng(0)
    for _ in range(200):
        pose = poses.draw(K, SIZE, rng)
        camera_obj = pose.inverse().cam_t_obj
        elevation = np.degrees(np.arcsin(camera_obj[2] / np.linalg.norm(camera_obj)))
        assert 20 - 1e-9 <= elevation <= 70 + 1e-9
        up_image = project(pose.transform(np.array([[0, 0, 0.01], [0, 0, 0]])), K)
        direction = up_image[0] - up_image[1]
        # The roll is drawn for an object on the axis; perspective turns it a little off the axis.
        assert np.degrees(np.arctan2(abs(direction[0]), -direction[1])) < 45


def test_standing_occluders_share_the_plane(models):
    rng = np.random.default_rng(0)
    pose = PoseRange(rotations="upper").draw(K, SIZE, rng)
    placed = OccluderRange(max_count=3, standing_prob=1.0).draw(models, [2, 3, 4], models[1], pose, rng)
    while not placed:
        placed = OccluderRange(max_count=3, standing_prob=1.0).draw(models, [2, 3, 4], models[1], pose, rng)
    for obj_id, other in placed:
        in_target = pose.inverse() @ other
        bottom = in_target.transform(models[obj_id].vertices)[:, 2].min()
        assert bottom == pytest.approx(models[1].bounds_min[2], abs=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PoseRange(rotations="sideways"), "ROTATIONS"),
        (lambda: PoseRange(z_range=(1.0, 0.5)), "Z_RANGE"),
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
    options = build_cad_options(given, tmp_path)
    np.testing.assert_array_equal(options.K, [[500, 0, 320], [0, 510, 240], [0, 0, 1]])
    assert options.image_size == (640, 480)
    assert build_cad_options(make_small_config(), toy_root).image_size == (320, 240)
    with pytest.raises(UserError, match=r"camera\.json is missing; set CAD\.K"):
        build_cad_options(make_small_config(), tmp_path)
    with pytest.raises(UserError, match="go together"):
        build_cad_options(make_small_config("CAD.K=(500, 510, 320, 240)"), tmp_path)
