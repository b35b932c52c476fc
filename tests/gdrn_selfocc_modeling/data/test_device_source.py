"""Batches made on a device: the truth of the CPU path, lawful samples, and a camera that spoils them as told."""

from __future__ import annotations

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch

from sopose.batch import RoiTargets, collate
from sopose.core.data.augment import Cut
from sopose.core.data.roi import Roi, RoiView, roi_positions
from sopose.core.geometry.pose import Pose
from sopose.core.rays.raycast import RayCaster
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.scene_sampling import OccluderRange, PoseRange
from sopose.core.synthesis.sensor import Sensor
from sopose.core.utils.errors import UserError
from sopose.data.device_camera import DevicePool
from sopose.data.device_draws import DeviceOptions, SceneDraw
from sopose.data.device_source import DeviceSource
from sopose.data.device_targets import (
    DeviceCuts,
    cast_device_layers,
    device_cuts,
    make_device_targets,
    pack_views,
)
from sopose.data.mapper import TrainAugmentation
from sopose.data.targets import RoiFormat, TrainedObject, cast_layers, make_roi_batch, make_targets, prepare_objects
from tests.support.laws import assert_lawful

K = np.array([[572.4, 0, 325.3], [0, 573.6, 242.0], [0, 0, 1]])
SKEWED = np.array([[572.4, 0.7, 300.3], [0, 500.6, 262.0], [0, 0, 1]])
SIZE = (640, 480)
PERFECT = Sensor(blur=(0, 0), gain=0, tint=0, gamma=0, noise=(0, 0), jpeg_prob=0)
OPTIONS = DeviceOptions(K, SIZE, sensor=PERFECT)
PLAIN = TrainAugmentation(color_prob=0.0, change_bg_prob=0.0)


@pytest.fixture(scope="module")
def make_source(models):
    """`make_source(options, augmentation, seed)`; object 3 is scenery only."""
    casters = {obj_id: RayCaster(model.vertices, model.faces) for obj_id, model in models.items()}
    objects = prepare_objects(models, casters, {1: 0, 2: 1, 4: 2}, num_points=100)

    def make(options: DeviceOptions = OPTIONS, augmentation: TrainAugmentation = PLAIN, seed: int = 0) -> DeviceSource:
        roi_format, rest = RoiFormat(64, 32), (Backgrounds(), "cpu", seed)
        return DeviceSource(objects, models, casters, options, roi_format, augmentation, *rest, pool_size=3)

    return make


def views_of(source: DeviceSource, boxes: list[np.ndarray], rng: np.random.Generator) -> list[RoiView]:
    rois = [source.augmentation.draw_roi(box, SIZE, rng) for box in boxes]
    return [RoiView(source.options.K, SIZE, roi, source.format.output_res) for roi in rois]


def truth_on_the_cpu(casters: list[RayCaster], draw: SceneDraw, target: TrainedObject, view: RoiView) -> RoiTargets:
    """One scene's targets as the CPU path makes them."""
    (_, pose), *others = draw.bodies
    layers = cast_layers(target, pose, view)
    points_cam = pose.transform(layers.P_obj[layers.mask])
    seen = np.ones(len(points_cam), bool)
    for place, other in others:
        seen &= ~casters[place].occluded(other.inverse().cam_t_obj, points_cam @ other.cam_R_obj, max_depth=1.0)
    visib = layers.mask.copy()
    visib[visib] = seen
    return make_targets(target, pose, view, layers, visib)


def assert_same_regions(
    source: DeviceSource, P_obj: torch.Tensor, objects: torch.Tensor, mine: torch.Tensor, expected: torch.Tensor
) -> None:
    """The same regions, or where two centres are equally near, either."""
    assert torch.equal(mine > 0, expected > 0)
    scene, row, column = (mine != expected).nonzero(as_tuple=True)
    centers = source.trained.region_centers[source.trained.place[objects[scene]]]
    picks = torch.arange(len(scene))
    distances = [
        (P_obj[scene, row, column] - centers[picks, region[scene, row, column] - 1]).norm(dim=-1)
        for region in (mine, expected)
    ]
    assert len(scene) < 10
    torch.testing.assert_close(*distances, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_targets_are_those_of_the_cpu_path(make_source, models, seed):
    source, rng = (
        make_source(replace(OPTIONS, poses=PoseRange(center_range=(-0.05, 1.05)))),
        np.random.default_rng(seed),
    )
    names = [1, 2, 4] * 3
    targets = [source.objects[obj_id] for obj_id in names]
    draws, boxes = source.draw_scenes(names, rng)
    views = views_of(source, boxes, rng)
    packed, packed_views = source.pack(draws), pack_views(views, "cpu")
    layers = cast_device_layers(source.caster, packed.scenes, packed_views, source.trained)
    ours = make_device_targets(packed.scenes, packed_views, source.trained, layers)
    rows = zip(draws, targets, views, strict=True)
    casters = [RayCaster(models[obj_id].vertices, models[obj_id].faces) for obj_id in source.drawer.ids]
    theirs = collate([truth_on_the_cpu(casters, draw, target, view) for draw, target, view in rows])
    for field in fields(RoiTargets):
        mine, expected = getattr(ours, field.name), getattr(theirs, field.name)
        assert mine.dtype == expected.dtype
        if field.name == "region":
            assert_same_regions(source, layers.P_obj, packed.scenes.objects[:, 0], mine, expected)
            continue
        if field.name == "symmetry_rotations":
            mine = mine[:, : expected.shape[1]]  # padded to the longest of all objects, not of the batch
        torch.testing.assert_close(mine, expected, rtol=3e-7, atol=3e-7)
    assert (ours.mask_visib < ours.mask_obj).any() and (ours.q_mask > 0).any()

    rois = source.make_roi_batch(torch.zeros(len(draws), 64, 64, 3), packed, packed_views)
    crop, rows = np.zeros((64, 64, 3), np.uint8), zip(targets, views, strict=True)
    alone = collate([make_roi_batch(crop, view, t.model.extent, t.class_index, source.format) for t, view in rows])
    for field in fields(alone):
        torch.testing.assert_close(getattr(rois, field.name), getattr(alone, field.name), rtol=2e-7, atol=0)


def test_batches_obey_the_laws(make_source):
    source = make_source(augmentation=replace(PLAIN, truncate_prob=0.5))
    rois, targets, infos = source.batch(range(9), np.random.default_rng(0))
    assert [info.obj_id for info in infos] == [1, 2, 4] * 3
    for index, info in enumerate(infos):
        one = lambda tensor, index=index: tensor[index]  # noqa: E731
        assert_lawful((rois.map(one), targets.map(one), info), source.objects[info.obj_id])
    gone = (targets.mask_visib > 0) & (targets.mask_trunc == 0)
    assert 1 <= gone.flatten(1).any(dim=1).sum() < 9


def test_a_seed_repeats_its_batch(make_source):
    spoiled = replace(OPTIONS, sensor=Sensor())
    batches = [make_source(spoiled, seed=3).batch(range(3), np.random.default_rng(3))[0] for _ in range(2)]
    other = make_source(spoiled, seed=4).batch(range(3), np.random.default_rng(4))[0]
    assert torch.equal(batches[0].image, batches[1].image)
    assert not torch.equal(batches[0].image, other.image)


def test_workers_draw_the_same_scenes_ahead(make_source):
    runs = [list(make_source(seed=5).batches(range(3), 4, seed=6, workers=workers)) for workers in (0, 2)]
    for here, ahead in zip(*runs, strict=True):
        assert [info.im_id for info in here[2]] == [info.im_id for info in ahead[2]]
        assert torch.equal(here[0].image, ahead[0].image) and torch.equal(here[1].P, ahead[1].P)
    assert len({batch[0].image.numpy().tobytes() for batch in runs[0]}) == 3


def test_a_later_start_gives_the_later_batches(make_source):
    spoiled = replace(OPTIONS, sensor=Sensor())
    last = [*make_source(spoiled).batches(range(3), 2, seed=6)][2]
    (again,) = make_source(spoiled).batches(range(2, 3), 2, seed=6)
    assert [info.im_id for info in again[2]] == [4, 5]
    assert torch.equal(last[0].image, again[0].image) and torch.equal(last[1].Q, again[1].Q)


def test_image_boxes_are_those_of_the_ray_caster(make_source, models):
    source = make_source()
    draws = [source.drawer.draw(obj_id, np.random.default_rng(obj_id)) for obj_id in (1, 2, 4)]
    behind = Pose(np.eye(3), np.array([0.0, 0.0, 0.001]))
    draws.append(replace(draws[0], bodies=[(0, behind)]))
    boxes, ahead = source.pack(draws).scenes.image_boxes(source.caster, 0)
    assert ahead.tolist() == [True, True, True, False]
    for draw, box in zip(draws[:3], boxes, strict=False):
        place, pose = draw.bodies[0]
        model = models[source.drawer.ids[place]]
        expected = RayCaster(model.vertices, model.faces).image_box(pose, K)
        np.testing.assert_allclose(box, expected, rtol=0, atol=1e-5)  # pixel
    assert source.probe(draws)[1][3] == 0


def test_the_crop_shows_the_object_where_the_maps_say(make_source):
    source = make_source(replace(OPTIONS, occluders=OccluderRange(max_count=0)), replace(PLAIN, truncate_prob=0.5))
    source.pool._images[:] = torch.tensor([255, 0, 255], dtype=torch.uint8)
    rois, targets, _ = source.batch(range(9), np.random.default_rng(1))
    images = torch.stack([torch.from_numpy(source.format.image_array(image)) for image in rois.image]).int()
    magenta = (images - torch.tensor([255, 0, 255])).abs().amax(dim=-1) == 0
    black = images.sum(dim=-1) == 0
    shown = ~(magenta | black)[:, ::2, ::2]  # the maps' cells are every second pixel of the crop, exactly
    assert torch.equal(shown, targets.mask_trunc > 0)


def test_scenes_show_enough_and_boxes_hold_what_is_seen(make_source):
    source = make_source(replace(OPTIONS, occluders=OccluderRange(max_count=3, spacing=(0.2, 0.5)), min_visib=0.6))
    draws, boxes = source.draw_scenes([2] * 12, np.random.default_rng(2))
    again, share = source.probe(draws)
    np.testing.assert_array_equal(np.array(boxes), again)
    assert share.min() >= 0.6 and share.min() < 1
    rois = [Roi((box[:2] + box[2:]) / 2, 2 * (box[2:] - box[:2]).max(), box[2:] - box[:2]) for box in boxes]
    views = [RoiView(K, SIZE, roi, 64) for roi in rois]
    packed = source.pack(draws)
    layers = cast_device_layers(source.caster, packed.scenes, pack_views(views, "cpu"), source.trained)
    for box, view, visib in zip(boxes, views, layers.visib.numpy(), strict=True):
        seen, cell = view.positions[visib], (box[2:] - box[:2]) / 40
        within = ((seen >= box[:2] - cell) & (seen <= box[2:] + cell)).all(axis=1)
        assert within.mean() > 0.98  # the coarse look may miss a sliver


def test_an_object_that_never_shows_ends_in_an_error(make_source):
    with pytest.raises(UserError, match="never in the image"):
        make_source(replace(OPTIONS, poses=PoseRange(center_range=(5.0, 6.0)))).batch([0], np.random.default_rng(0))


def test_cuts_keep_what_a_cut_keeps_and_take_a_side_up_to_its_middle():
    positions = torch.from_numpy(np.stack([roi_positions(Roi(np.array([90.0, 60.0]), 50.0, np.ones(2)), 16)] * 200))
    mask = torch.zeros(200, 16, 16, dtype=torch.bool)
    mask[:, 3:12, 5:10] = True
    mask[7] = False
    cuts = device_cuts(mask, positions, 0.5, torch.Generator().manual_seed(0))
    keeps = cuts.keeps(positions)
    assert 70 < cuts.applies.sum() < 130 and not cuts.applies[7]
    for index in range(200):
        parts = (int(cuts.axis[index]), float(cuts.bound[index]), bool(cuts.keep_above[index]))
        expected = Cut(*parts).keeps(positions[index].numpy()) if cuts.applies[index] else True
        assert (keeps[index].numpy() == expected).all()
    left = (keeps & mask).sum(dim=(1, 2))[cuts.applies] / 45
    assert left.min() >= 0.4 and left.min() < 0.7  # half of 9 rows or 5 columns, in whole ones
    everything = DeviceCuts(cuts.axis, cuts.bound, cuts.keep_above, torch.zeros_like(cuts.applies))
    assert everything.keeps(positions).all()


@pytest.fixture(scope="module")
def pool() -> DevicePool:
    return DevicePool(Backgrounds(), 4, 48, "cpu", seed=0)


def test_a_perfect_camera_changes_nothing(pool):
    image = torch.randint(0, 256, (3, 48, 48, 3), generator=torch.Generator().manual_seed(0))
    assert torch.equal(pool.take(image, PERFECT, np.ones(3)), image.float())


def test_blur_is_opencvs(pool):
    levels = np.random.default_rng(0).uniform(0, 255, (2, 48, 48, 3)).astype(np.float32)
    softness = replace(PERFECT, blur=(0.8, 0.8))
    taken = pool.take(torch.from_numpy(levels), softness, np.array([1.0, 2.5]))
    for image, expected, sigma in zip(taken.numpy(), levels, (0.8, 2.0), strict=True):
        blurred = cv2.GaussianBlur(expected, (15, 15), sigma, borderType=cv2.BORDER_REPLICATE)
        assert np.abs(image - blurred).max() < 1.0  # grey level


def test_sharpening_is_that_of_the_cpu(pool):
    levels = np.random.default_rng(3).integers(80, 170, (2, 48, 48, 3), dtype=np.uint8)
    sharp = replace(PERFECT, sharpen=(0.7, 0.7))
    taken = pool.take(torch.from_numpy(levels), sharp, np.array([1.0, 1.8])).numpy()
    for image, scale, found in zip(levels, (1.0, 1.8), taken, strict=True):
        expected = sharp(image, scale, np.random.default_rng(0)).astype(int)
        off = np.abs(found - expected)[8:-8, 8:-8]  # borders are filled up in different ways
        assert off.max() <= 2 and off.mean() < 0.6  # OpenCV rounds the soft image to bytes
        assert np.abs(expected - image)[8:-8, 8:-8].mean() > 5


def test_noise_gain_and_tint_are_within_their_range(pool):
    grey = torch.full((64, 48, 48, 3), 100)
    noisy = pool.take(grey, replace(PERFECT, noise=(5.0, 5.0)), np.ones(64))
    assert noisy.std() == pytest.approx(5.0, rel=0.03) and noisy.mean() == pytest.approx(100, abs=0.1)
    brighter = pool.take(grey, replace(PERFECT, gain=0.2), np.ones(64))[:, 0, 0]
    assert brighter.min() >= 80 and brighter.max() <= 120 and brighter.std() > 5
    assert (brighter == brighter[:, :1]).all()
    tinted = pool.take(grey, replace(PERFECT, tint=0.1), np.ones(64))[:, 0, 0]
    assert tinted.min() >= 90 and tinted.max() <= 110 and not (tinted == tinted[:, :1]).all()


def test_backgrounds_are_windows_of_the_pool(pool):
    windows = pool.backgrounds(40)
    assert windows.shape == (40, 48, 48, 3) and windows.dtype == torch.uint8
    stored = pool._images.unfold(1, 48, 1).unfold(2, 48, 1).permute(0, 1, 2, 4, 5, 3).reshape(-1, 48, 48, 3)
    mirrored = [bool((stored == window.flip(1)).flatten(1).all(dim=1).any()) for window in windows]
    straight = [bool((stored == window).flatten(1).all(dim=1).any()) for window in windows]
    assert all(np.logical_or(mirrored, straight)) and 8 < sum(mirrored) < 32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_targets_of_the_cpu(make_source, models):
    here, rng = make_source(), np.random.default_rng(0)
    casters = {obj_id: RayCaster(model.vertices, model.faces) for obj_id, model in models.items()}
    there = DeviceSource(here.objects, models, casters, OPTIONS, here.format, PLAIN, Backgrounds(), "cuda", pool_size=3)
    draws, boxes = here.draw_scenes([1, 2, 4] * 5, rng)
    views = views_of(here, boxes, rng)
    ours, theirs = (
        source.make_targets(source.pack(draws), pack_views(views, source.device))[0].to("cpu")
        for source in (there, here)
    )
    for field in fields(RoiTargets):
        off = (getattr(ours, field.name).double() - getattr(theirs, field.name).double()).abs() > 1e-6
        assert off.double().mean() < 1e-4  # a ray at an outline, a point between two regions
