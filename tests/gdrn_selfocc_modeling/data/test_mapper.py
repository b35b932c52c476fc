"""Samples of annotated images: their truth, their augmentation, filters, boxes and test items."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sopose.batch import collate_samples
from sopose.core.bop.detections import Detection
from sopose.core.bop.scene import ImageRecord, load_split, read_mask, read_rgb
from sopose.core.bop.splits import resolve_split
from sopose.core.bop.targets import Target
from sopose.core.data.augment import parse_augmentation
from sopose.core.data.roi import Roi, RoiView, crop_image, inside_image, roi_positions
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.utils.errors import UserError
from sopose.data.build import build_augmentation, class_names
from sopose.data.eval_items import items_from_detections, items_from_targets
from sopose.data.mapper import (
    EvalSource,
    InstanceMasks,
    InstanceSource,
    TrainAugmentation,
    TrainMapper,
    instance_box,
    select_instances,
)
from sopose.data.roi_input import RoiFormat
from sopose.data.targets import prepare_objects
from tests.support.builders import eval_set_of, train_dataset_of
from tests.support.laws import assert_lawful

FORMAT = RoiFormat(input_res=64, output_res=32)
PLAIN = TrainAugmentation(color_prob=0.0, change_bg_prob=0.0)


@pytest.fixture(scope="module")
def objects(models):
    return prepare_objects(models, {k: i for i, k in enumerate(models)}, num_points=200)


@pytest.fixture(scope="module")
def records(toy_root):
    return load_split(resolve_split("toy_train", toy_root.parent))


@pytest.fixture(scope="module")
def items(records, objects):
    return select_instances(records, objects, min_visib=0.1)


def make_mapper(objects, models, augmentation: TrainAugmentation) -> TrainMapper:
    return TrainMapper(objects, models, FORMAT, augmentation, Backgrounds())


def without_masks(record: ImageRecord) -> ImageRecord:
    bare = tuple(replace(instance, mask_visib_path=None) for instance in record.instances)
    return replace(record, instances=bare)


def test_samples_obey_the_laws(items, objects, models):
    augmentation = TrainAugmentation(color=parse_augmentation("Add((-20, 20))"), change_bg_prob=0.5, truncate_prob=0.8)
    source = InstanceSource(items, make_mapper(objects, models, augmentation))
    for index in range(len(source)):
        sample = source.sample(index, np.random.default_rng(index))
        assert sample[0].image.shape == (3, 64, 64)
        assert_lawful(sample, objects[sample[2].obj_id])


def test_a_sample_is_decided_by_its_generator(items, objects, models):
    augmentation = TrainAugmentation(change_bg_prob=0.5, truncate_prob=0.8)
    source = InstanceSource(items, make_mapper(objects, models, augmentation))
    first, second = (source.sample(0, np.random.default_rng(1)) for _ in range(2))
    other = source.sample(0, np.random.default_rng(2))
    assert (first[0].image == second[0].image).all() and (first[1].P == second[1].P).all()
    assert not (first[0].image == other[0].image).all()


def test_without_augmentation_the_crop_is_of_the_image(items, objects, models):
    record, instance = items[0]
    roi, targets, info = make_mapper(objects, models, PLAIN)(record, instance, np.random.default_rng(0))
    assert info.gt_index == instance.gt_index
    size = 32 / float(roi.resize_ratio)
    image = read_rgb(record)
    window = Roi(roi.box_center.numpy().astype(float), size, roi.box_wh.numpy())
    expected = crop_image(image, window, 64)
    difference = np.abs(FORMAT.image_array(roi.image.numpy()).astype(int) - expected)
    assert np.median(difference) == 0 and difference.mean() < 0.5
    assert (targets.mask_trunc == targets.mask_visib).all()


def test_cast_visibility_agrees_with_the_mask_files(items, models):
    for record, instance in items[:10]:
        bare = without_masks(record)
        same = next(other for other in bare.instances if other.gt_index == instance.gt_index)
        roi = TrainAugmentation(dzi_type="none").draw_roi(instance.bbox_visib, (320, 240), np.random.default_rng(0))
        on_image = inside_image(roi_positions(roi, 48), (320, 240))
        view = RoiView(record.K, (320, 240), roi, 48)
        read = InstanceMasks(record, instance, view, models).visible(48)
        cast = InstanceMasks(bare, same, view, models).visible(48) & on_image
        # The file is sampled at the nearest pixel: outlines differ by up to a cell.
        assert (read != cast).mean() < 0.05


def test_a_replaced_background_keeps_what_is_visible_only(items, objects, models):
    record, instance = items[0]
    keep = make_mapper(objects, models, PLAIN)
    change = make_mapper(objects, models, replace(PLAIN, change_bg_prob=1.0, truncate_prob=1.0))
    before, _, _ = keep(record, instance, np.random.default_rng(0))
    after, targets, _ = change(record, instance, np.random.default_rng(0))
    same = (before.image == after.image).all(dim=0).numpy()[::2, ::2]
    on_image = inside_image(targets.pixel.numpy().transpose(1, 2, 0), (320, 240))
    trunc, visib = targets.mask_trunc.numpy() > 0, targets.mask_visib.numpy() > 0
    assert same[trunc].mean() > 0.97
    assert same[~visib & on_image].mean() < 0.1
    assert trunc.sum() < visib.sum()


def test_synthetic_images_lose_their_background_and_pbr_images_keep_it(make_small_config):
    cfg = make_small_config("INPUT.CHANGE_BG_PROB=0.3")
    probabilities = [build_augmentation(cfg.input, cfg.cad, kind).change_bg_prob for kind in ("real", "syn", "pbr")]
    assert probabilities == [0.3, 1.0, 0.0]


def test_each_type_of_colour_augmentation_is_its_own(make_small_config):
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    results = []
    for aug_type in ("ROI10D", "roi10d", "AAE", "code"):
        cfg = make_small_config("INPUT.COLOR_AUG_PROB=1.0", f"INPUT.COLOR_AUG_TYPE='{aug_type}'")
        given = replace(cfg.input, color_aug_code="Invert(1.0)")
        augment = build_augmentation(given, cfg.cad, "real").color
        results.append(np.stack([augment(image, np.random.default_rng(seed)) for seed in range(20)]))
    roi10d, same, aae, code = results
    np.testing.assert_array_equal(roi10d, same)
    np.testing.assert_array_equal(code[0], 255 - image)
    change, aae_change = (np.abs(result.astype(int) - image).mean(axis=(1, 2, 3)) for result in (roi10d, aae))
    assert (change > 0).all() and change.max() < 60 < aae_change.max()  # gentle: brightness by up to 32 levels


def test_instances_are_filtered_by_visibility_pixels_and_object(records):
    instance = records[0].instances[0]

    def kept(**changes) -> bool:
        record = replace(records[0], instances=(replace(instance, **changes),))
        return bool(select_instances([record], [instance.obj_id], min_visib=0.2))

    assert kept(visib_fract=0.5, px_count_visib=100)
    assert not kept(visib_fract=0.2, px_count_visib=100)
    assert not kept(visib_fract=0.9, px_count_visib=29)
    assert kept(visib_fract=None, px_count_visib=None)
    assert not select_instances([records[0]], [999])


def test_a_box_falls_back_to_the_projected_model(items, models):
    record, instance = items[0]
    vertices = models[instance.obj_id].vertices
    assert instance_box(instance, vertices, record.K) is instance.bbox_visib
    whole = replace(instance, bbox_visib=None)
    assert instance_box(whole, vertices, record.K) is instance.bbox_obj
    projected = instance_box(replace(whole, bbox_obj=None), vertices, record.K)
    np.testing.assert_allclose(projected, instance.bbox_obj, rtol=0, atol=1.5)  # pixels


def test_the_visible_mask_file_is_read_at_the_positions(items, models):
    record, instance = items[0]
    box = instance.bbox_visib
    roi = TrainAugmentation(dzi_type="none").draw_roi(box, (320, 240), np.random.default_rng(0))
    visible = InstanceMasks(record, instance, RoiView(record.K, (320, 240), roi, 64), models).visible(64)
    area = visible.sum() * (roi.size / 64) ** 2
    assert area == pytest.approx(read_mask(instance.mask_visib_path).sum(), rel=0.05)


def test_rgb_input_is_the_bgr_one_reversed():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    bgr, rgb = RoiFormat(), RoiFormat(pixel_format="RGB", pixel_mean=(1, 2, 3), pixel_std=(4, 5, 6))
    assert bgr.network_image(image) == pytest.approx(image.transpose(2, 0, 1) / 255)
    expected = (image[..., ::-1].transpose(2, 0, 1) - np.array([1, 2, 3])[:, None, None]) / np.array([4, 5, 6])[
        :, None, None
    ]
    assert rgb.network_image(image) == pytest.approx(expected)
    for roi_format in (bgr, rgb):
        np.testing.assert_array_equal(roi_format.image_array(roi_format.network_image(image)), image)
    with pytest.raises(UserError, match=r"INPUT\.FORMAT"):
        RoiFormat(pixel_format="GBR")


def test_model_points_and_regions_are_fixed_per_object(models, objects):
    again = prepare_objects(models, {1: 0}, num_points=200)[1]
    np.testing.assert_array_equal(again.model_points, objects[1].model_points)
    np.testing.assert_array_equal(again.region_centers, objects[1].region_centers)
    assert len(again.region_centers) == 64


def test_a_model_with_fewer_vertices_than_regions_is_refused(models):
    with pytest.raises(UserError, match="fewer than the 1000000 regions"):
        prepare_objects(models, {1: 0}, num_regions=1_000_000)


def test_test_items_are_the_targets_most_visible_instances(records, models):
    record = records[0]
    instance = record.instances[0]
    twin = replace(instance, gt_index=99, visib_fract=0.01)
    doubled = replace(record, instances=(twin, *record.instances))
    key = (record.scene_id, record.im_id, instance.obj_id)
    one = items_from_targets([doubled], [Target(*key, 1)], models)
    assert [item.truth.gt_index for item in one] == [instance.gt_index]
    assert len(items_from_targets([doubled], [Target(*key, 2)], models)) == 2
    assert items_from_targets([doubled], [], models) == []


def test_detections_become_items_of_their_images(records, objects, models):
    record = records[0]
    instance = record.instances[0]
    detections = [
        Detection(record.scene_id, record.im_id, instance.obj_id, instance.bbox_visib, 0.7, 0.02),
        Detection(999, 0, instance.obj_id, instance.bbox_visib, 0.9),
        Detection(record.scene_id, record.im_id, 999, instance.bbox_visib, 0.9),
    ]
    items = items_from_detections(records, detections, set(objects))
    assert len(items) == 1 and items[0].truth.gt_index == instance.gt_index
    source = EvalSource(items, objects, models, FORMAT, pad_scale=1.5)
    _, targets, info = source.sample(0)
    assert targets is None and (info.score, info.time) == (0.7, 0.02)


def test_the_test_source_sees_no_truth_and_can_give_it(items, objects, models):
    record = items[0][0]
    targets = [Target(record.scene_id, record.im_id, obj_id, 1) for obj_id in models]
    source = EvalSource(items_from_targets([record], targets, models), objects, models, FORMAT, 1.5)
    for index in range(len(source)):
        roi, nothing, info = source.sample(index)
        assert nothing is None
        assert float(roi.resize_ratio) * 1.5 * float(roi.box_wh.max()) == pytest.approx(32)
        assert_lawful((roi, source.targets(index), info), objects[info.obj_id])
        np.testing.assert_array_equal(source.crop(index), FORMAT.image_array(roi.image.numpy()))


def test_samples_collate_with_padded_symmetries(items, objects, models):
    mapper = make_mapper(objects, models, PLAIN)
    by_object = {instance.obj_id: (record, instance) for record, instance in items}
    samples = [mapper(*item, np.random.default_rng(0)) for item in by_object.values()]
    roi, targets, infos = collate_samples(samples)
    longest = max(len(target.symmetry_rotations) for target in objects.values())
    assert targets.symmetry_rotations.shape == (len(samples), longest, 3, 3)
    assert roi.image.shape == (len(samples), 3, 64, 64) and len(infos) == len(samples)


def test_a_configuration_builds_mixed_sources(make_small_config, toy_root):
    cfg = make_small_config(
        f"DATASETS.ROOT={toy_root.parent}",
        "DATASETS.TRAIN=['toy_train']",
        "DATASETS.TRAIN2=['toy_cad']",
        "DATASETS.TRAIN2_RATIO=0.5",
        "CAD.Z_RANGE=(0.4, 0.9)",
    )
    source = train_dataset_of(cfg)
    rng = np.random.default_rng(0)
    scenes = {source.sample(0, rng)[2].scene_id for _ in range(10)}
    assert len(scenes) == 2  # rendered samples are of scene 0


def test_classes_are_those_of_the_configuration(make_small_config, toy_root):
    root = f"DATASETS.ROOT={toy_root.parent}"
    names = class_names(make_small_config(root, "DATASETS.TRAIN=['toy_train']").datasets)
    assert len(names) == 4
    chosen = f"DATASETS.OBJS=['{names[2]}','{names[0]}']"
    cfg = make_small_config(root, "DATASETS.TRAIN=['toy_train']", "DATASETS.TRAIN2=[]", chosen)
    assert class_names(cfg.datasets) == [names[2], names[0]]
    source = train_dataset_of(cfg)
    assert {instance.obj_id for _, instance in source.items} == {1, 3}
    assert {k: target.class_index for k, target in source.mapper.objects.items()} == {3: 0, 1: 1}
    test_only = ("DATASETS.TRAIN2=[]", "DATASETS.TEST=['toy_test']")
    absent = make_small_config(root, "DATASETS.TRAIN=['toy_absent']", *test_only)
    assert class_names(absent.datasets) == names


@pytest.mark.parametrize("splits", [("toy_test", "toy_train"), ("toy_train", "toy_bop_test")])
def test_test_images_are_not_trained_on_unless_forced(splits, make_small_config, toy_root):
    first, second = splits
    words = (f"DATASETS.ROOT={toy_root.parent}", f"DATASETS.TRAIN=['{first}']", f"DATASETS.TRAIN2=['{second}']")
    with pytest.raises(UserError, match="TRAIN_ON_TEST_IMAGES=True"):
        train_dataset_of(make_small_config(*words))
    assert len(train_dataset_of(make_small_config(*words, "DATASETS.TRAIN_ON_TEST_IMAGES=True")))


def test_splits_of_single_objects_each_have_their_own(make_small_config, toy_root):
    overrides = ("DATASETS.TRAIN=['toy_bracket_train','toy_mug_train']", "DATASETS.TRAIN2=[]")
    cfg = make_small_config(f"DATASETS.ROOT={toy_root.parent}", "DATASETS.OBJS=['bracket','mug']", *overrides)
    trained = [{i.obj_id for _, i in source.items} for source in train_dataset_of(cfg).sources]
    assert trained == [{1}, {2}]


CLASS_AWARE = "MODEL.POSE_NET.GEO_HEAD.XYZ_CLASS_AWARE=True"


def test_a_class_aware_network_is_tested_on_the_classes_it_was_trained_with(make_small_config, toy_root):
    root, boxes = f"DATASETS.ROOT={toy_root.parent}", "TEST.TEST_BBOX_TYPE=gt"
    cfg = make_small_config(root, boxes, CLASS_AWARE, "DATASETS.TEST=['toy_test']", "DATASETS.OBJS=['mug']")
    rois, _, _ = eval_set_of(cfg, "toy_test", ["bracket", "mug", "cross"]).source.sample(0)
    assert rois.class_index == 1
    with pytest.raises(UserError, match="not trained for mug"):
        eval_set_of(cfg, "toy_test", ["bracket", "cross"])


def test_more_objects_than_a_class_aware_network_has_classes_are_refused(make_small_config, toy_root):
    data = (f"DATASETS.ROOT={toy_root.parent}", "DATASETS.TRAIN=['toy_train']", "DATASETS.TRAIN2=[]")
    few = "MODEL.POSE_NET.NUM_CLASSES=2"
    assert len(train_dataset_of(make_small_config(*data, few)))
    with pytest.raises(UserError, match="NUM_CLASSES is 2"):
        train_dataset_of(make_small_config(*data, few, CLASS_AWARE))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("DATASETS.OBJS=['brackett']", "did you mean 'bracket'"),
        ("DATASETS.OBJS=['bracket','mugg']", "did you mean 'mug'"),
        ("DATASETS.TRAIN=[]", "is empty"),
        ("INPUT.DZI_TYPE='unifrm'", "did you mean 'uniform'"),
        ("INPUT.COLOR_AUG_TYPE='ROI1D'", "did you mean 'ROI10D'.*COLOR_AUG_CODE"),
        ("INPUT.BG_IMGS_ROOT='/absent'", "BG_IMGS_ROOT"),
        ("DATALOADER.FILTER_VISIB_THR=1.0", "FILTER_VISIB_THR"),
    ],
)
def test_a_wrong_setting_is_reported(make_small_config, toy_root, override, message):
    cfg = make_small_config(
        f"DATASETS.ROOT={toy_root.parent}", "DATASETS.TRAIN=['toy_train']", "DATASETS.TRAIN2=[]", override
    )
    with pytest.raises(UserError, match=message):
        train_dataset_of(cfg)


def test_a_broken_image_names_its_file(items, objects, models, tmp_path: Path):
    broken = tmp_path / "000007.png"
    broken.write_bytes(b"no png")
    record, instance = items[0]
    with pytest.raises(UserError, match=r"000007\.png"):
        make_mapper(objects, models, PLAIN)(replace(record, rgb_path=broken), instance, np.random.default_rng(0))


def test_a_mask_of_another_size_is_refused(items, models):
    record, instance = items[0]
    roi = TrainAugmentation(dzi_type="none").draw_roi(instance.bbox_visib, (640, 480), np.random.default_rng(0))
    with pytest.raises(UserError, match=r"320 x 240 pixels and its image 640 x 480"):
        InstanceMasks(record, instance, RoiView(record.K, (640, 480), roi, 48), models)


def test_a_pixel_scale_of_zero_is_refused():
    with pytest.raises(UserError, match="PIXEL_STD"):
        RoiFormat(pixel_std=(1.0, 0.0, 1.0))
