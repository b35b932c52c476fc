"""The look at the first samples: known shares, invariance, and which mistakes in data it reports."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sopose.batch import SampleInfo
from sopose.core.bop.records import ImageRecord, Instance
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.data.roi import Roi, coord_2d, roi_positions
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.scenes import SceneDrawer, SceneOptions
from sopose.core.utils.errors import UserError
from sopose.data.cad_source import CadSource
from sopose.data.mapper import InstanceSource, TrainAugmentation, TrainMapper, select_instances
from sopose.data.roi_input import RoiFormat
from sopose.data.targets import prepare_objects
from sopose.training.data_check import FirstLook, TruthBatch, first_samples, look_at
from tests.support.builders import train_dataset_of

FORMAT = RoiFormat(input_res=32, output_res=32)
SOUND = FirstLook(64, distance=6.14, behind=0, inside=0.97, visible=0.88, empty=0, second_layer=0.93, fill=1)
Change = Callable[[ImageRecord], ImageRecord]


@pytest.fixture(scope="module")
def make_objects(models):
    """`make_objects(mesh_scale, info_scale)`: models and trained objects, their meshes and boxes scaled."""

    def make(mesh_scale: float = 1.0, info_scale: float = 1.0):
        scaled = {k: scaled_model(model, mesh_scale, info_scale) for k, model in models.items()}
        return scaled, prepare_objects(scaled, {k: i for i, k in enumerate(scaled)}, num_points=50)

    return make


@pytest.fixture(scope="module")
def make_source(toy_root, make_objects):
    """`make_source(change, mesh_scale=1, info_scale=1, obj_ids=None)`: toy instances with changed annotations."""
    records = load_split(resolve_split("toy_train", toy_root.parent))

    def make(change: Change = lambda record: record, obj_ids=None, **scales: float) -> InstanceSource:
        scaled, objects = make_objects(**scales)
        items = select_instances(map(change, records), obj_ids or objects, min_visib=0.1)
        return InstanceSource(items, TrainMapper(objects, scaled, FORMAT, TrainAugmentation(), Backgrounds()))

    return make


def scaled_model(model: ObjectModel, mesh_scale: float, info_scale: float) -> ObjectModel:
    return replace(
        model,
        vertices=mesh_scale * model.vertices,
        extent=info_scale * model.extent,
        bounds_min=info_scale * model.bounds_min,
    )


def each(change: Callable[[Instance], Instance]) -> Change:
    """The change of a record that changes every instance alike."""
    return lambda record: replace(record, instances=tuple(map(change, record.instances)))


def moved(scale: float) -> Change:
    """Objects `scale` times as far away."""
    return each(lambda item: replace(item, pose=Pose(item.pose.cam_R_obj, scale * item.pose.cam_t_obj)))


def shifted(shift: float) -> Change:
    """Boxes moved to the right by `shift` pixels."""
    return each(lambda item: replace(item, bbox_visib=item.bbox_visib + shift * np.array([1, 0, 1, 0])))


def with_corners_as_sizes(record: ImageRecord) -> ImageRecord:
    """Boxes read as x, y, width, height from files that hold x1, y1, x2, y2."""
    return each(lambda item: replace(item, bbox_visib=item.bbox_visib + np.r_[0, 0, item.bbox_visib[:2]]))(record)


def resized(scale: float) -> Change:
    """The camera of images `scale` times as large."""
    return lambda record: replace(record, K=np.diag([scale, scale, 1.0]) @ record.K)


def with_masks_of_the_next(record: ImageRecord) -> ImageRecord:
    items = record.instances
    pairs = zip(items, (*items[1:], items[0]), strict=True)
    return replace(record, instances=tuple(replace(a, mask_visib_path=b.mask_visib_path) for a, b in pairs))


def without_boxes(record: ImageRecord) -> ImageRecord:
    return each(lambda item: replace(item, bbox_visib=None, bbox_obj=None))(record)


def turned(item: Instance) -> Instance:
    """The instance in a camera that looks along -z with y up."""
    turn = np.diag([1.0, -1.0, -1.0])
    return replace(item, pose=Pose(turn @ item.pose.cam_R_obj, turn @ item.pose.cam_t_obj))


def test_the_distance_is_the_depth_by_the_largest_extent(make_ellipsoids):
    roi, targets = make_ellipsoids(3)
    roi.extent = torch.tensor([[0.1, 0.2, 0.05], [0.1, 0.1, 0.1], [0.3, 0.5, 0.5]])
    targets.cam_t_obj = torch.tensor([[9.0, 9, 1], [0, 0, 1.5], [0, 0, 1]])  # 5, 15 and 2 extents
    assert look_at([(roi, targets)]).distance == pytest.approx(5)


@pytest.mark.parametrize("depth", [-1.0, 0.0, float("nan"), float("inf")])
def test_an_object_behind_the_camera_is_counted_and_has_no_distance(make_ellipsoids, depth):
    roi, targets = make_ellipsoids(4)
    before = look_at([(roi.map(lambda x: x[1:]), targets.map(lambda x: x[1:]))])
    targets.cam_t_obj[0, 2] = depth
    look = look_at([(roi, targets)])
    assert (before.behind, look.behind, look.distance) == (0, 0.25, before.distance)


@pytest.mark.parametrize(
    ("center", "share"),
    [
        ((320, 240), 1.0),
        ((-0.5, 240), 0.5),  # half of the box is left of the first pixel's edge
        ((639.5, 240), 0.5),
        ((639.5, 479.5), 0.25),
        ((614.5, 240), 0.75),
        ((-60, 240), 0.0),
        ((-60, -60), 0.0),
    ],
)
def test_the_share_of_a_box_inside_the_image(make_ellipsoids, center, share):
    roi, targets = make_ellipsoids(1)
    roi.box_center, roi.box_wh = torch.tensor([center], dtype=torch.float32), torch.tensor([[100.0, 80.0]])
    assert look_at([(roi, targets)]).inside == pytest.approx(share, abs=1e-4)


@given(
    width=st.integers(32, 4000),
    height=st.integers(32, 4000),
    at=st.floats(-0.5, 1.5),
    size=st.floats(1, 2000),
    share=st.floats(0, 1),
)
def test_the_size_of_the_image_follows_from_any_window(make_ellipsoids, width, height, at, size, share):
    # A box over all rows, of which `share` is left of the image's right edge, and a window somewhere else.
    roi, targets = make_ellipsoids(1)
    positions = roi_positions(Roi(at * np.array([width, height]), size, np.ones(2)), 32)
    targets.pixel = torch.from_numpy(positions.transpose(2, 0, 1)).float()[None]
    roi.roi_coord_2d = torch.from_numpy(coord_2d(positions, (width, height)))[None]
    roi.box_wh = torch.tensor([[20.0, height]])
    roi.box_center = torch.tensor([[width - 0.5 + 20 * (0.5 - share), (height - 1) / 2]])
    assert look_at([(roi, targets)]).inside == pytest.approx(share, abs=2e-3)  # 0.04 pixels of 4000 in float32


def test_shares_of_masks_are_counted_in_cells(make_ellipsoids):
    roi, targets = make_ellipsoids(3)
    for mask in (targets.mask_obj, targets.mask_visib, targets.mask_erode, targets.q_mask):
        mask.zero_()
    targets.mask_obj[:, 4:12, 4:14] = 1  # 80 cells
    targets.mask_visib[0, 4:8, 4:14] = 1  # 40 of them
    targets.mask_visib[1, 4:10, 4:14] = 1  # 60 of them, and none of the third sample's
    targets.mask_erode[:, 5:11, 5:13] = 1  # 48 cells, of which Q has 48, 24 (in two planes) and none
    targets.q_mask[0, 0, 5:11, 5:13] = 1
    targets.q_mask[1, 1:, 5:8, 5:13] = 1
    roi.resize_ratio = torch.full((3,), 0.5)  # two pixels a cell
    roi.box_wh = torch.tensor([[20.0, 10], [10, 40], [1, 1]])  # what is seen is 20 pixels long in both
    look = look_at([(roi, targets)])
    assert (look.samples, look.visible) == (3, 0.5)
    assert look.empty == pytest.approx(1 / 3)
    assert look.second_layer == pytest.approx(0.5)
    assert look.fill == pytest.approx((1 + 0.5) / 2)


def test_samples_that_show_nothing_are_empty_and_say_no_more(make_ellipsoids):
    roi, targets = make_ellipsoids(2)
    for mask in (targets.mask_obj, targets.mask_visib, targets.mask_erode, targets.q_mask):
        mask.zero_()
    look = look_at([(roi, targets)])
    assert look.empty == 1 and np.isnan([look.visible, look.second_layer, look.fill]).all()
    assert "? % visible, Q valid on ? % of the object" in look.summary()
    (warning,) = look.warnings()
    assert "100 % of the samples" in warning and "millimetres" in warning and "cam_K" in warning


@given(seed=st.integers(0, 50), scale=st.floats(1e-3, 1e3))
def test_the_unit_of_length_changes_nothing(make_ellipsoids, seed, scale):
    roi, targets = make_ellipsoids(5, seed)
    before = look_at([(roi, targets)])
    roi.extent, targets.cam_t_obj = scale * roi.extent, scale * targets.cam_t_obj
    after = look_at([(roi, targets)])
    assert after.distance == pytest.approx(before.distance, rel=1e-6)
    assert replace(after, distance=0) == replace(before, distance=0)


@given(order=st.permutations(range(6)), cut=st.integers(1, 5))
def test_order_and_batches_change_nothing(make_ellipsoids, order, cut):
    roi, targets = make_ellipsoids(6)
    parts = [(roi.map(lambda x, i=i: x[i]), targets.map(lambda x, i=i: x[i])) for i in (order[:cut], order[cut:])]
    assert look_at(parts) == look_at([(roi, targets)])


def test_a_summary_is_one_line():
    assert SOUND.summary() == (
        "64 samples: objects 6.1 extents away, boxes 97 % inside images, 88 % visible, Q valid on 93 % of the object"
    )
    assert "objects 6140 extents away" in replace(SOUND, distance=6140).summary()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"distance": 6140}, "6140 times their largest extent.*millimetres.*models_info"),
        ({"distance": 0.00614}, "0.0061 times their largest extent.*millimetres.*scene_gt"),
        ({"behind": 0.02}, "2 % of the objects are behind the camera"),
        ({"inside": 0.4}, "40 % of the median box.*scene_gt_info"),
        ({"empty": 0.3}, "30 % of the samples show nothing.*cam_K.*boxes.*mask files.*millimetres"),
        ({"visible": 0.2}, "20 % of the median object visible.*poses and the masks don't match.*cam_R_m2c"),
        ({"fill": 0.1}, "10 % of its box's length.*centimetres"),
        ({"second_layer": 0.1}, "Q is valid on only 10 %.*models_info"),
    ],
)
def test_each_sign_has_its_sentence(change, words):
    assert SOUND.warnings() == []
    (warning,) = replace(SOUND, **change).warnings()
    assert "\n" not in warning and re.search(words, warning)


def test_the_second_layer_is_not_missed_where_it_is_not_trained():
    assert replace(SOUND, second_layer=0.0).warnings(two_layers=False) == []


def test_no_sample_is_an_error():
    with pytest.raises(UserError, match=r"DATASETS\.TRAIN"):
        look_at([])


@pytest.mark.parametrize("obj_ids", [None, [1], [2], [3], [4]])
def test_sound_images_give_no_warning(make_source, obj_ids):
    look = look_at(first_samples(make_source(obj_ids=obj_ids)))
    assert look.warnings() == []
    assert look.empty == 0 and look.inside > 0.9 and look.visible > 0.9
    assert look.fill == pytest.approx(1, abs=0.1)


def test_sound_images_without_boxes_give_no_warning(make_source):
    assert look_at(first_samples(make_source(without_boxes))).warnings() == []


@pytest.mark.parametrize("obj_id", [1, 2, 3, 4])
def test_rendered_samples_give_no_warning(models, make_objects, obj_id):
    _, objects = make_objects()
    K = np.array([[572.4, 0, 325.3], [0, 573.6, 242.0], [0, 0, 1]])
    drawer = SceneDrawer(models, SceneOptions(K, (640, 480)), Backgrounds())
    source = CadSource({obj_id: objects[obj_id]}, drawer, FORMAT, TrainAugmentation(), length=100)
    assert look_at(first_samples(source, 12)).warnings() == []


def test_real_images_give_no_warning(make_config, real_data):
    resolution = ("MODEL.POSE_NET.INPUT_RES=64", "MODEL.POSE_NET.OUTPUT_RES=32")
    # To be looked at only.
    split = (f"DATASETS.ROOT={real_data}", "DATASETS.TRAIN=('lmo_test',)", "DATASETS.TRAIN_ON_TEST_IMAGES=True")
    split = (*split, "DATASETS.TRAIN2=()")
    look = look_at(first_samples(train_dataset_of(make_config(*resolution, *split)), 24))
    assert look.samples == 24 and look.warnings() == []


FAR, NEAR = "above 100.*millimetres", "below 1:.*millimetres"
NOTHING, UNLIKE = "show nothing of their object.*millimetres", "the labels' poses and the masks don't match"
BESIDE, OUTSIDE, NO_Q = "of its box's length", "of the median box", "Q is valid on only"
FAULTS = {
    "models too large": ({"mesh_scale": 1000, "info_scale": 1000}, [NEAR, UNLIKE]),
    "models too small": ({"mesh_scale": 1e-3, "info_scale": 1e-3}, [FAR, NOTHING]),
    "meshes too large": ({"mesh_scale": 1000}, [UNLIKE, NO_Q]),
    "meshes too small": ({"mesh_scale": 1e-3}, [NOTHING]),
    "boxes of models too large": ({"info_scale": 1000}, [NEAR]),
    "boxes of models too small": ({"info_scale": 1e-3}, [FAR, NO_Q]),
    "centimetres": ({"mesh_scale": 0.1, "info_scale": 0.1}, [BESIDE]),
    "translations too large": ({"change": moved(1000)}, [FAR, NOTHING]),
    "translations too small": ({"change": moved(1e-3)}, [NEAR, UNLIKE]),
    "masks of others": ({"change": with_masks_of_the_next}, [NOTHING, UNLIKE]),
    "boxes moved": ({"change": shifted(100)}, [NOTHING]),
    "boxes beside the image": ({"change": shifted(2000)}, [OUTSIDE, NOTHING]),
    "boxes by two corners": ({"change": with_corners_as_sizes}, [BESIDE]),
    "K of larger images": ({"change": resized(2)}, [NOTHING]),
    "K of smaller images": ({"change": resized(0.5)}, [NOTHING]),
    "K of larger images, no boxes": ({"change": lambda r: without_boxes(resized(2)(r))}, [OUTSIDE, NOTHING]),
    "another camera": ({"change": each(turned)}, ["OpenGL"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_mistake_is_reported(make_source, fault):
    how, words = FAULTS[fault]
    warnings = look_at(first_samples(make_source(**how), 24)).warnings()
    assert all(any(re.search(word, warning) for warning in warnings) for word in words), warnings


class Ellipsoids:
    """Samples of one batch, which note what they were asked for; some indices are broken."""

    def __init__(self, batch: TruthBatch, length: int, broken: tuple[int, ...] = ()) -> None:
        self.batch, self.length, self.broken = batch, length, broken
        self.asked: list[tuple[int, float]] = []

    def __len__(self) -> int:
        return self.length

    def sample(self, index: int, rng: np.random.Generator):
        self.asked.append((index, rng.random()))
        if index in self.broken:
            raise UserError(f"image {index} is broken")
        roi, targets = self.batch
        place = index % len(roi)
        return roi.map(lambda x: x[place]), targets.map(lambda x: x[place]), SampleInfo(0, index, 1)


def test_samples_are_spread_evenly_with_a_stream_each(make_ellipsoids):
    source = Ellipsoids(make_ellipsoids(3), 1000)
    (batch,) = first_samples(source, 10)
    assert len(batch[0]) == len(batch[1]) == 10
    assert [index for index, _ in source.asked] == list(range(0, 1000, 111))
    assert len({number for _, number in source.asked}) == 10
    again, other = (Ellipsoids(source.batch, 1000) for _ in range(2))
    assert look_at(first_samples(again, 10)) == look_at([batch]) and again.asked == source.asked
    list(first_samples(other, 10, seed=1))
    assert not {number for _, number in source.asked} & {number for _, number in other.asked}


def test_a_short_source_gives_every_sample_once(make_ellipsoids):
    source = Ellipsoids(make_ellipsoids(2), 5)
    assert look_at(first_samples(source)).samples == 5
    assert [index for index, _ in source.asked] == [0, 1, 2, 3, 4]


def test_broken_samples_are_passed_over_unless_all_are(make_ellipsoids):
    batch = make_ellipsoids(2)
    assert look_at(first_samples(Ellipsoids(batch, 6, broken=(0, 5)))).samples == 4
    with pytest.raises(UserError, match="image 5 is broken"):
        look_at(first_samples(Ellipsoids(batch, 6, broken=tuple(range(6)))))


def test_a_look_leaves_the_global_random_states_alone(make_source):
    def states():
        return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()

    source = make_source()
    before = states()
    look_at(first_samples(source, 8))
    assert states() == before
