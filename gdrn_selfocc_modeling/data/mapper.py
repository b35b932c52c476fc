"""From annotated images to samples: training with augmentation, testing without."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from sopose.batch import RoiTargets, Sample, SampleInfo
from sopose.core.bop.scene import ImageRecord, Instance, read_mask, read_rgb
from sopose.core.data.augment import draw_cut
from sopose.core.data.color_ops import Augmenter
from sopose.core.data.roi import (
    ImageSize,
    Roi,
    RoiView,
    crop_image,
    dzi_window,
    eval_roi,
    inside_image,
    roi_positions,
    sample_dzi,
)
from sopose.core.geometry.camera import project
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.casters import cast_scene
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.hiding import HidingRange
from sopose.core.utils.errors import UserError
from sopose.data.roi_input import RoiFormat, make_roi_batch, seen_crop
from sopose.data.targets import TrainedObject, cast_layers, make_targets
from sopose.maps.files import MapFiles

MIN_VISIBLE_PIXELS = 30  # an instance with fewer teaches nothing


@dataclass(frozen=True)
class TrainAugmentation:
    """What happens to a training sample besides being cropped."""

    pad_scale: float = 1.5
    dzi_type: str = "uniform"
    dzi_scale_ratio: float = 0.25
    dzi_shift_ratio: float = 0.25
    color: Augmenter | None = None
    color_prob: float = 0.8
    change_bg_prob: float = 0.5  # of replacing what is not the object
    truncate_prob: float = 0.0  # of cutting one side of the object away, where the background is replaced
    hiding: HidingRange = field(default_factory=HidingRange)  # what stands before rendered crops

    def draw_roi(self, box: np.ndarray, image_size: ImageSize, rng: np.random.Generator) -> Roi:
        """A dynamically zoomed-in ROI about a box (4,) xyxy."""
        scale, shift = self.dzi_scale_ratio, self.dzi_shift_ratio
        return sample_dzi(box, image_size, rng, self.dzi_type, self.pad_scale, scale, shift)

    def window(self, box: np.ndarray) -> Roi:
        """The smallest square that holds every ROI about a box (4,) xyxy."""
        return dzi_window(box, self.dzi_type, self.pad_scale, self.dzi_scale_ratio, self.dzi_shift_ratio)

    def draw_color(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The crop (in, in, 3) uint8 with its colours augmented, or as it is."""
        if self.color is None or rng.random() >= self.color_prob:
            return image
        return self.color(image, rng)


def select_instances(
    records: Iterable[ImageRecord], object_ids: Iterable[int], min_visib: float = 0.0
) -> list[tuple[ImageRecord, Instance]]:
    """The instances to train on: of these objects, visible by more than `min_visib` and at least 30 pixels.

    What a data set does not state of an instance is taken to be sufficient.
    """
    wanted = set(object_ids)
    return [
        (record, instance)
        for record in records
        for instance in record.instances
        if instance.obj_id in wanted
        and (instance.visib_fract is None or instance.visib_fract > min_visib)
        and (instance.px_count_visib is None or instance.px_count_visib >= MIN_VISIBLE_PIXELS)
    ]


def projected_box(vertices: np.ndarray, instance: Instance, K: np.ndarray) -> np.ndarray:
    """(4,) xyxy box in pixels of an instance's model vertices (V, 3), metres."""
    uv = project(instance.pose.transform(vertices), K)
    return np.concatenate([uv.min(axis=0), uv.max(axis=0)])


def instance_box(instance: Instance, vertices: np.ndarray, K: np.ndarray) -> np.ndarray:
    """(4,) xyxy: the visible box of an instance, else its whole box, else that of the projected model."""
    for box in (instance.bbox_visib, instance.bbox_obj):
        if box is not None:
            return box
    return projected_box(vertices, instance, K)


class InstanceMasks:
    """Where an instance is visible: from its mask file, or cast with the other objects of its image."""

    def __init__(
        self, record: ImageRecord, instance: Instance, view: RoiView, models: Mapping[int, ObjectModel]
    ) -> None:
        """`models` holds every one that can occlude. `UserError` where the mask's size is not the image's."""
        self.record, self.instance, self.roi, self.models = record, instance, view.roi, models
        path = instance.mask_visib_path
        self._file = None if path is None else read_mask(path).astype(np.uint8)
        if self._file is not None and self._file.shape[::-1] != tuple(view.image_size):
            width, height = view.image_size
            raise UserError(
                f"{path} has {self._file.shape[1]} x {self._file.shape[0]} pixels and its image {width} x {height}; "
                f"make the mask again, or remove the folder to have masks computed"
            )

    def visible(self, resolution: int) -> np.ndarray:
        """(resolution, resolution) bool at the ROI's positions."""
        if self._file is not None:
            return crop_image(self._file, self.roi, resolution, cv2.INTER_NEAREST) > 0
        known = [i for i in (*self.record.instances, *self.record.others) if i.obj_id in self.models]
        casters = [self.models[instance.obj_id].caster for instance in known]
        positions = roi_positions(self.roi, resolution).reshape(-1, 2)
        hits = cast_scene(casters, [instance.pose for instance in known], self.record.K, positions)
        me = next(i for i, other in enumerate(known) if other.gt_index == self.instance.gt_index)
        return (hits.owner == me).reshape(resolution, resolution)


class TrainMapper:
    """Makes a training sample of an instance: zoom-in, background, truncation, colours, and maps."""

    def __init__(
        self,
        objects: Mapping[int, TrainedObject],
        models: Mapping[int, ObjectModel],
        roi_format: RoiFormat,
        augmentation: TrainAugmentation,
        backgrounds: Backgrounds,
        map_files: MapFiles | None = None,
    ) -> None:
        """`models` holds every one that can occlude, by object id; `objects` those trained for.

        P and Q are cast, or read where there are `map_files`.
        """
        self.objects, self.models = objects, models
        self.format, self.augmentation, self.backgrounds = roi_format, augmentation, backgrounds
        self.map_files = map_files

    def __call__(self, record: ImageRecord, instance: Instance, rng: np.random.Generator) -> Sample:
        """The sample of one instance of an image; `rng` is the only source of randomness."""
        target = self.objects[instance.obj_id]
        image = read_rgb(record)
        size = (image.shape[1], image.shape[0])
        box = instance_box(instance, target.model.vertices, record.K)
        view = RoiView(record.K, size, self.augmentation.draw_roi(box, size, rng), self.format.output_res)
        masks = InstanceMasks(record, instance, view, self.models)
        crop = crop_image(image, view.roi, self.format.input_res)
        visib = masks.visible(view.out)
        keeps = None
        if rng.random() < self.augmentation.change_bg_prob:
            crop, keeps = self._change_background(crop, masks, visib, view, rng)
        crop = self.augmentation.draw_color(crop, rng)
        pose = target.target_pose(instance.pose)
        if self.map_files is None or target.canonical:  # files hold the maps of the pose that is annotated
            layers = cast_layers(target, pose, view)
        else:
            layers = self.map_files.layers(record, instance, view)
        targets = make_targets(target, pose, view, layers, visib, keeps)
        info = SampleInfo(record.scene_id, record.im_id, instance.obj_id, instance.gt_index)
        rois = make_roi_batch(crop, view, target.model.extent, target.class_index, self.format)
        return rois.tensors(), targets, info

    def _change_background(
        self,
        crop: np.ndarray,
        masks: InstanceMasks,
        visib: np.ndarray,
        view: RoiView,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The crop with all but the (truncated) visible object replaced, and which map cells were kept."""
        positions = roi_positions(view.roi, self.format.input_res)
        background = self.backgrounds.sample((crop.shape[1], crop.shape[0]), rng)
        keeps_crop = masks.visible(self.format.input_res)
        cut = None
        if rng.random() < self.augmentation.truncate_prob:
            cut = draw_cut(visib, view.positions, rng)
        if cut is not None:
            keeps_crop = keeps_crop & cut.keeps(positions)
        replaced = ~keeps_crop & inside_image(positions, view.image_size)
        crop = np.where(replaced[..., None], background, crop)
        return crop, None if cut is None else cut.keeps(view.positions)


class InstanceSource:
    """Training samples of a list of instances (a `sopose.core.data.loader.SampleSource`)."""

    def __init__(self, items: Sequence[tuple[ImageRecord, Instance]], mapper: TrainMapper) -> None:
        self.items, self.mapper = items, mapper

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        record, instance = self.items[index]
        return self.mapper(record, instance, rng)


@dataclass(frozen=True, eq=False)
class EvalItem:
    """One ROI to estimate a pose for."""

    record: ImageRecord
    obj_id: int
    box: np.ndarray  # (4,) xyxy pixels
    score: float = 1.0
    time: float = 0.0  # seconds the detector took
    truth: Instance | None = None  # the annotation behind the box, for reports only


class EvalSource:
    """Test samples (a `sopose.core.data.loader.SampleSource`); the network's input carries no truth.

    `roll` is by how many degrees the samples' camera is rolled about the line of sight to the middle of each box.
    Images, crops for pictures and targets are those of the camera itself.
    """

    def __init__(
        self,
        items: Sequence[EvalItem],
        objects: Mapping[int, TrainedObject],
        models: Mapping[int, ObjectModel],
        roi_format: RoiFormat,
        pad_scale: float,
    ) -> None:
        self.items, self.objects, self.models = items, objects, models
        self.format, self.pad_scale, self.roll = roi_format, pad_scale, 0.0
        self._last: tuple[Path, np.ndarray] | None = None  # ROIs of one image come one after another

    def of_items(self, items: Sequence[EvalItem]) -> EvalSource:
        """The same for other items."""
        source = EvalSource(items, self.objects, self.models, self.format, self.pad_scale)
        source.roll = self.roll
        return source

    def rolled(self, degrees: float) -> EvalSource:
        """The same, seen by cameras rolled by an angle."""
        source = copy(self)
        source.roll = degrees
        return source

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, index: int, rng: np.random.Generator | None = None) -> Sample:
        """The network's input and where it came from; no targets, no randomness."""
        item = self.items[index]
        image = self.image(item)
        view = self._view(item, image)
        crop = seen_crop(image, view, self.format.input_res, self.roll)
        gt_index = None if item.truth is None else item.truth.gt_index
        info = SampleInfo(item.record.scene_id, item.record.im_id, item.obj_id, gt_index, item.score, item.time)
        target = self.objects[item.obj_id]
        rois = make_roi_batch(crop, view, target.model.extent, target.class_index, self.format)
        return rois.tensors(), None, info

    def targets(self, index: int) -> RoiTargets | None:
        """The truth of a sample (unbatched), or None where its box has no annotation."""
        item = self.items[index]
        if item.truth is None:
            return None
        view = self._view(item, self.image(item))
        visib = InstanceMasks(item.record, item.truth, view, self.models).visible(view.out)
        target = self.objects[item.obj_id]
        pose = target.target_pose(item.truth.pose)
        return make_targets(target, pose, view, cast_layers(target, pose, view), visib)

    def crop(self, index: int) -> np.ndarray:
        """(in, in, 3) uint8 BGR crop of a sample, for pictures."""
        item = self.items[index]
        image = self.image(item)
        return crop_image(image, self._view(item, image).roi, self.format.input_res)

    def _view(self, item: EvalItem, image: np.ndarray) -> RoiView:
        size = (image.shape[1], image.shape[0])
        return RoiView(item.record.K, size, eval_roi(item.box, size, self.pad_scale), self.format.output_res)

    def image(self, item: EvalItem) -> np.ndarray:
        """(H, W, 3) uint8 BGR image of an item; the last one is kept."""
        if self._last is None or self._last[0] != item.record.rgb_path:
            self._last = item.record.rgb_path, read_rgb(item.record)
        return self._last[1]
