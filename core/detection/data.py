"""Training images with boxes: annotated ones of a BOP split, or rendered from models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sopose.core.bop.records import ImageRecord, Instance
from sopose.core.bop.scene import read_rgb
from sopose.core.data.color_ops import Augmenter
from sopose.core.detection.labels import Label, Labeler, with_info
from sopose.core.detection.placement import Placement, letterbox, random_placement
from sopose.core.detection.sample import DetectionSample
from sopose.core.objects.model import ObjectModel
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.rendered_image import render_image
from sopose.core.synthesis.scenes import SceneDrawer, SceneOptions
from sopose.core.utils.errors import UserError

MIN_SIDE = 4.0  # input pixels of a box that is learned
MIN_KEPT = 0.35  # share of a box's area that has to lie on the input


@dataclass(frozen=True)
class DetectionAugmentation:
    """What happens to a training image."""

    zoom: tuple[float, float] = (0.8, 1.3)  # times the size at which the image just fits
    mirror_prob: float = 0.5
    color: Augmenter | None = None
    color_prob: float = 0.8
    change_bg_prob: float = 0.0  # of replacing all but the labelled objects
    empty_prob: float = 0.0  # of a background without any object in an image's place

    def __post_init__(self) -> None:
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise UserError(f"the zoom of training images must be (low, high), 0 < low <= high, got {self.zoom}")

    def finish(
        self, image: np.ndarray, labels: Sequence[Label], placement: Placement, name: str, rng: np.random.Generator
    ) -> DetectionSample:
        """The sample of an image (H, W, 3) uint8 BGR as it is placed, its colours augmented."""
        canvas = placement.draw(image)
        if self.color is not None and rng.random() < self.color_prob:
            canvas = self.color(canvas, rng)
        boxes = placement.boxes_to_input(np.array([label.box for label in labels]).reshape(-1, 4))
        cut = placement.clip(boxes)
        kept = (_sides(cut).min(axis=1) >= MIN_SIDE) & (_areas(cut) >= MIN_KEPT * _areas(boxes))
        classes = np.array([label.class_index for label in labels], np.int64)
        return DetectionSample(canvas[..., ::-1], cut[kept], classes[kept], name)


class DetectionSource:
    """Annotated images (a `sopose.core.data.loader.SampleSource`) at an input whose longer side is `side` pixels."""

    def __init__(
        self,
        records: Iterable[ImageRecord],
        labeler: Labeler,
        side: int,
        augmentation: DetectionAugmentation,
        backgrounds: Backgrounds,
    ) -> None:
        """Images without an object to find are left out."""
        self.records = [record for record in records if labeler.may_have_labels(record)]
        self.labeler, self.side = labeler, side
        self.augmentation, self.backgrounds = augmentation, backgrounds

    def __len__(self) -> int:
        return len(self.records)

    def sample(self, index: int, rng: np.random.Generator) -> DetectionSample:
        """Image `index`, all of its randomness from `rng`."""
        record, given = self.records[index], self.augmentation
        image = read_rgb(record)
        size = (image.shape[1], image.shape[0])
        labels = self.labeler.of_image(record, size)
        if rng.random() < given.empty_prob:
            image, labels = self.backgrounds.sample(size, rng), []
        elif rng.random() < given.change_bg_prob:
            kept = self.labeler.mask(record, labels, size)
            image = np.where(kept[..., None], image, self.backgrounds.sample(size, rng))
        placement = random_placement(size, self.side, given.zoom, given.mirror_prob, rng)
        return given.finish(image, labels, placement, f"{record.scene_id}/{record.im_id}", rng)


class CadDetectionSource:
    """Images rendered from models at the input's own size (a `sopose.core.data.loader.SampleSource`)."""

    def __init__(
        self,
        models: Mapping[int, ObjectModel],
        labeler: Labeler,
        options: SceneOptions,
        side: int,
        count: int,
        augmentation: DetectionAugmentation,
        backgrounds: Backgrounds,
    ) -> None:
        """`options` are those of the camera; `side` is the input's longer side, `count` the images of an epoch."""
        self.drawer = SceneDrawer(dict(models), reduced(options, side), backgrounds)
        self.labeler, self.count, self.augmentation = labeler, count, augmentation

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int, rng: np.random.Generator) -> DetectionSample:
        """A new scene, drawn from `rng` alone."""
        size = self.drawer.options.image_size
        empty = rng.random() < self.augmentation.empty_prob
        image, labels = (self._background(rng), []) if empty else self._rendered(rng)
        mirrored = bool(rng.random() < self.augmentation.mirror_prob)
        placement = replace(letterbox(size, max(size)), mirrored=mirrored)
        return self.augmentation.finish(image, labels, placement, f"rendered {index}", rng)

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        """A background as the camera takes it, like what is rendered."""
        options = self.drawer.options
        return options.sensor(self.drawer.backgrounds.sample(options.image_size, rng).copy(), 1.0, rng)

    def _rendered(self, rng: np.random.Generator) -> tuple[np.ndarray, list[Label]]:
        rendered = render_image(self.drawer, rng)
        pairs = enumerate(zip(rendered.objects, rendered.info, strict=True))
        instances = (with_info(Instance(obj_id, number, pose), info) for number, ((obj_id, pose), info) in pairs)
        return rendered.image, self.labeler.of_instances(instances)


def reduced(options: SceneOptions, side: int) -> SceneOptions:
    """The same camera with images whose longer side is `side` pixels; its blur stays what it was in the scene."""
    placement = letterbox(options.image_size, side)
    width, height = placement.scale
    # Pixel centres are integers: u becomes s (u + 0.5) - 0.5.
    input_A_image = np.array([[width, 0, (width - 1) / 2], [0, height, (height - 1) / 2], [0, 0, 1]])
    sensor = replace(options.sensor, blur=tuple(width * sigma for sigma in options.sensor.blur))
    return replace(options, K=input_A_image @ options.K, image_size=placement.scaled_size, sensor=sensor)


def _sides(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, 2:] - boxes[:, :2]


def _areas(boxes: np.ndarray) -> np.ndarray:
    return _sides(boxes).prod(axis=1)
