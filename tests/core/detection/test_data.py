"""Training samples: boxes lie on the objects, whatever happens to the image."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from sopose.core.bop.models import load_models
from sopose.core.bop.scene import read_rgb
from sopose.core.detection.data import CadDetectionSource, DetectionAugmentation, DetectionSource, reduced
from sopose.core.detection.labels import Labeler
from sopose.core.detection.sample import collate_samples
from sopose.core.geometry.camera import project
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.many_objects import CrowdRange
from sopose.core.synthesis.scene_sampling import PoseRange
from sopose.core.synthesis.scenes import SceneOptions
from sopose.core.utils.errors import UserError

PLAIN = DetectionAugmentation(zoom=(1.0, 1.0), mirror_prob=0.0)
K = np.array([[384.0, 0, 157.0], [0, 388.0, 121.0], [0, 0, 1]])


def without_info(record):
    """A record of a data set that has neither scene_gt_info.json nor masks."""
    empty = {"bbox_obj": None, "bbox_visib": None, "visib_fract": None, "px_count_visib": None, "mask_visib_path": None}
    return replace(record, instances=tuple(replace(item, **empty) for item in record.instances))


def source_of(records, labeler, augmentation=PLAIN, side=320) -> DetectionSource:
    return DetectionSource(records, labeler, side, augmentation, Backgrounds())


def test_rays_give_the_boxes_that_annotations_lack(toy_records, toy_labeler):
    for record in toy_records[:3]:
        annotated, cast = (toy_labeler.of_image(r, (320, 240)) for r in (record, without_info(record)))
        assert [item.instance.gt_index for item in annotated] == [item.instance.gt_index for item in cast]
        np.testing.assert_array_equal([item.box for item in annotated], [item.box for item in cast])


def test_rays_give_the_masks_that_annotations_lack(toy_records, toy_labeler):
    record = toy_records[0]
    labels = toy_labeler.of_image(record, (320, 240))[:2]
    cast = toy_labeler.of_image(without_info(record), (320, 240))[:2]
    np.testing.assert_array_equal(
        toy_labeler.mask(record, labels, (320, 240)), toy_labeler.mask(without_info(record), cast, (320, 240))
    )


def test_a_mask_of_another_size_is_named(toy_records, toy_labeler, tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), np.zeros((8, 9), np.uint8))
    record = toy_records[0]
    items = tuple(replace(item, mask_visib_path=tmp_path / "m.png") for item in record.instances)
    source = source_of([replace(record, instances=items)], toy_labeler, replace(PLAIN, change_bg_prob=1.0))
    with pytest.raises(UserError, match=r"m\.png has shape \(8, 9\), its image \(240, 320\); make"):
        source.sample(0, np.random.default_rng(0))


def test_an_image_that_just_fits_is_only_moved(toy_records, toy_labeler):
    source = source_of(toy_records, toy_labeler)
    sample = source.sample(0, np.random.default_rng(0))
    record = source.records[0]
    boxes = np.array([label.box for label in toy_labeler.of_image(record, (320, 240))])
    down = int(sample.boxes[0, 1] - boxes[0, 1])  # of 16 rows that the canvas is higher
    assert sample.image.shape == (256, 320, 3) and 0 <= down <= 16
    np.testing.assert_allclose(sample.boxes, boxes + np.array([0, down, 0, down]), atol=1e-9)
    np.testing.assert_array_equal(sample.image[down : down + 240], read_rgb(record)[..., ::-1])


@pytest.mark.parametrize("side", [160, 320, 417])
def test_boxes_frame_the_pixels_through_zoom_and_mirroring(toy_records, toy_labeler, side, tmp_path):
    """A white box on black comes out framed by the sample's box, to a pixel of the input."""
    record = toy_records[1]
    label = toy_labeler.of_image(record, (320, 240))[0]
    x1, y1, x2, y2 = label.box.astype(int)
    image = np.zeros((240, 320), np.uint8)
    image[y1 : y2 + 1, x1 : x2 + 1] = 255
    cv2.imwrite(str(tmp_path / "white.png"), image)
    white = replace(record, rgb_path=tmp_path / "white.png", instances=(label.instance,))
    augmentation = DetectionAugmentation(zoom=(0.8, 0.95), mirror_prob=0.5)
    source = source_of([white], toy_labeler, augmentation, side)
    for seed in range(8):
        sample = source.sample(0, np.random.default_rng(seed))
        seen = sample.image[..., 0] > 150
        columns, rows = seen.any(axis=0).nonzero()[0], seen.any(axis=1).nonzero()[0]
        framed = np.array([columns[0], rows[0], columns[-1], rows[-1]])
        assert np.abs(framed - sample.boxes[0]).max() <= 1.0


def test_what_is_hardly_visible_is_not_learned(toy_records, toy_labeler):
    strict = Labeler(toy_labeler.classes, toy_labeler.models, min_visib=0.8)
    for record in toy_records:
        wanted = [item.gt_index for item in record.instances if item.visib_fract > 0.8]
        assert [label.instance.gt_index for label in strict.of_image(record, (320, 240))] == wanted


def test_images_without_an_object_to_find_are_left_out(toy_records, toy_labeler):
    record = toy_records[0]
    bare = replace(record, instances=())
    assert len(source_of([bare, record, without_info(record)], toy_labeler)) == 2


def test_a_replaced_background_leaves_the_objects(toy_records, toy_labeler):
    augmentation = replace(PLAIN, change_bg_prob=1.0)
    source, plain = source_of(toy_records, toy_labeler, augmentation), source_of(toy_records, toy_labeler)
    record = source.records[0]
    mask = toy_labeler.mask(record, toy_labeler.of_image(record, (320, 240)), (320, 240))
    changed = source.sample(0, np.random.default_rng(3))
    place = np.argwhere((changed.image != 127).any(axis=(1, 2)))[0, 0]
    image = changed.image[place : place + 240]
    original = read_rgb(record)[..., ::-1]
    np.testing.assert_array_equal(image[mask], original[mask])
    assert (image[~mask] != original[~mask]).any(axis=-1).mean() > 0.9
    assert len(plain.sample(0, np.random.default_rng(3)).boxes) == len(changed.boxes)


def test_a_camera_of_smaller_images_sees_the_same():
    options = SceneOptions(K, (320, 240))
    small = reduced(options, 128)
    assert small.image_size == (128, 96)
    points_cam = np.random.default_rng(0).uniform((-0.2, -0.2, 0.5), (0.2, 0.2, 1.0), (20, 3))
    np.testing.assert_allclose(project(points_cam, small.K), 0.4 * (project(points_cam, K) + 0.5) - 0.5, atol=1e-9)
    assert small.sensor.blur == pytest.approx([0.4 * sigma for sigma in options.sensor.blur])


def test_rendered_images_have_boxes_and_follow_their_seed(toy_spec, toy_labeler):
    options = SceneOptions(K, (320, 240), PoseRange(z_range=(0.5, 0.9)), crowd=CrowdRange(count=(3, 5)))
    models = load_models(toy_spec.models_dir)
    source = CadDetectionSource(models, toy_labeler, options, 128, 10, DetectionAugmentation(), Backgrounds())
    one, again, other = (source.sample(0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.image.shape == (96, 128, 3) and len(source) == 10
    assert 1 <= len(one.boxes) <= 5 and one.boxes.min() >= 0 and (one.boxes.max(axis=0) <= [127, 95, 127, 95]).all()
    np.testing.assert_array_equal(one.image, again.image)
    np.testing.assert_array_equal(one.boxes, again.boxes)
    assert (one.image != other.image).any()


def test_empty_images_are_backgrounds(toy_spec, toy_records, toy_labeler):
    options = SceneOptions(K, (320, 240), PoseRange(z_range=(0.5, 0.9)), crowd=CrowdRange(count=(3, 5)))
    always = replace(PLAIN, empty_prob=1.0)
    models = load_models(toy_spec.models_dir)
    sources = (
        CadDetectionSource(models, toy_labeler, options, 128, 10, always, Backgrounds()),
        source_of(toy_records, toy_labeler, always, side=128),
    )
    for source in sources:
        sample = source.sample(0, np.random.default_rng(3))
        source.augmentation = PLAIN
        assert len(source.sample(0, np.random.default_rng(3)).boxes) > 0
        assert sample.boxes.shape == (0, 4) and sample.classes.shape == (0,) and sample.image.shape == (96, 128, 3)


def test_batches_fill_smaller_images_and_take_empty_ones(toy_records, toy_labeler):
    source = source_of(toy_records, toy_labeler, side=96)
    sample = source.sample(0, np.random.default_rng(0))
    empty = replace(sample, image=sample.image[:64], boxes=np.zeros((0, 4)), classes=np.zeros(0, np.int64))
    batch = collate_samples([sample, empty])
    assert batch.images.shape == (2, 3, 96, 96) and batch.counts == [len(sample.boxes), 0]
    assert (batch.images[1, :, 64:] == 127).all()
    np.testing.assert_array_equal(batch.images[0].permute(1, 2, 0).numpy(), sample.image)


def test_a_zoom_that_is_no_range_is_refused():
    with pytest.raises(UserError, match="zoom"):
        DetectionAugmentation(zoom=(1.5, 0.7))
