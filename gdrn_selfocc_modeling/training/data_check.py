"""A look at some training samples before training: do units, poses, boxes and masks fit together?

A mistake in them raises no error: a network just learns badly, and that shows after hours. Here it shows at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from sopose.batch import RoiBatch, RoiTargets, Sample, collate_samples
from sopose.core.data.replacing import BREAKS
from sopose.core.data.replay import Place
from sopose.core.data.sources import SampleSource, sample_at
from sopose.core.utils.errors import UserError

TruthBatch = tuple[RoiBatch, RoiTargets]

# Sound data stay clear of these bounds, each object by itself, and common mistakes lie far beyond them.
MIN_DISTANCE = 1.0  # extents; nearer, an object is larger than the image of a usual lens
MAX_DISTANCE = 100.0  # extents; farther, an object has ten pixels of a usual lens
MAX_BEHIND = 0.0  # no camera sees what is behind it
MIN_INSIDE = 0.5  # zoom-in moves a box by up to a quarter of its sides: in a corner of the image 0.75² of it stay
MAX_EMPTY = 0.1  # instances with few visible pixels are left out before, and data that don't count them have few
MIN_VISIBLE = 0.5  # even in clutter most objects are more than half visible
MIN_FILL = 0.6  # a visible part is as long as its box, and the closest zoom-in leaves 0.8 of it
MIN_SECOND_LAYER = 0.5  # even models that stand on their origin have 0.7

UNITS = (
    "BOP's files are in millimetres: check the models, models_info.json and cam_t_m2c of scene_gt.json "
    "(CAD.Z_RANGE is in metres)"
)
MASK_ORDER = "that mask files are numbered in the order of scene_gt.json"


@dataclass(frozen=True)
class FirstLook:
    """What some samples say of a training set; nan where none of them can say it.

    Boxes and masks that a data set lacks are made from its poses: then they agree with wrong poses too.
    """

    samples: int
    distance: float  # median depth of the objects before the camera, by their largest extent
    behind: float  # share of objects without a finite depth above zero
    inside: float  # median share of an object's box (moved by zoom-in) that lies inside the image
    visible: float  # median share of an object's rendered mask that the data set's mask calls visible
    empty: float  # share of samples in which nothing of the object is rendered, or nothing of it visible
    second_layer: float  # share of the objects' eroded masks on which at least one of the three Q is valid
    fill: float = float("nan")  # median length of what is visible, by the longer side of the object's box

    def summary(self) -> str:
        """One line for the log."""
        return (
            f"{self.samples} samples: objects {_short(self.distance)} extents away, boxes {_percent(self.inside)} "
            f"inside images, {_percent(self.visible)} visible, Q valid on {_percent(self.second_layer)} of the object"
        )

    def warnings(self, two_layers: bool = True) -> list[str]:
        """A sentence for each sign of wrong data; empty for data that look sound.

        two_layers: Q is trained, so that samples without it are a fault.
        """
        return [*self._of_lengths(), *self._of_matches(), *(self._of_second_layer() if two_layers else [])]

    def _of_lengths(self) -> list[str]:
        away = f"objects are {_short(self.distance)} times their largest extent away (median)"
        behind = (
            f"{_percent(self.behind)} of the objects are behind the camera or at no finite distance: BOP's camera "
            "looks along +z with y down, OpenGL's and Blender's along -z; check cam_R_m2c and cam_t_m2c of "
            "scene_gt.json"
        )
        far = (
            f"{away}, above {MAX_DISTANCE:g}: the models are too small, as where they are read in metres and files "
            f"hold millimetres, or the translations too large; {UNITS}"
        )
        near = (
            f"{away}, below {MIN_DISTANCE:g}: the translations are too small, as where they are read in metres and "
            f"files hold millimetres, or the models too large; {UNITS}"
        )
        signs = [
            (self.behind > MAX_BEHIND, behind),
            (self.distance > MAX_DISTANCE, far),
            (self.distance < MIN_DISTANCE, near),
        ]
        return [sentence for found, sentence in signs if found]

    def _of_matches(self) -> list[str]:
        outside = (
            f"only {_percent(self.inside)} of the median box is inside its image: check that boxes of "
            "scene_gt_info.json are x, y, width, height in pixels of images of this size, and cam_K, by which boxes "
            "are made where that file is missing"
        )
        empty = (
            f"{_percent(self.empty)} of the samples show nothing of their object: by its label it is outside of its "
            "box or its mask, too small to be seen or behind the camera; check cam_K (is it of images of this size?), "
            f"the boxes of scene_gt_info.json, and {MASK_ORDER}; {UNITS}"
        )
        hidden = (
            f"masks call only {_percent(self.visible)} of the median object visible: unless objects hide each other "
            "that much, the labels' poses and the masks don't match; check cam_K, cam_R_m2c, units, and "
            f"{MASK_ORDER}"
        )
        small = (
            f"what is visible of the median object has only {_percent(self.fill)} of its box's length: by their labels "
            "objects are too small, too far away (centimetres?) or beside their boxes; check cam_K, and that boxes of "
            f"scene_gt_info.json are x, y, width, height; {UNITS}"
        )
        signs = [
            (self.inside < MIN_INSIDE, outside),
            (self.empty > MAX_EMPTY, empty),
            (self.visible < MIN_VISIBLE, hidden),
            (self.fill < MIN_FILL, small),
        ]
        return [sentence for found, sentence in signs if found]

    def _of_second_layer(self) -> list[str]:
        missing = (
            f"Q is valid on only {_percent(self.second_layer)} of the objects: their coordinate planes miss the boxes "
            "of their models; check that min_x, size_x and so on of models_info.json are of these models"
        )
        return [missing] if self.second_layer < MIN_SECOND_LAYER else []


class _Measures(NamedTuple):
    """What is measured of B samples: each (B,) float64."""

    t_z: np.ndarray  # metres
    distance: np.ndarray  # extents
    inside: np.ndarray  # share
    obj: np.ndarray  # map cells, as the next three
    visib: np.ndarray
    erode: np.ndarray
    second_layer: np.ndarray
    fill: np.ndarray  # lengths of the box


def look_at(batches: Iterable[TruthBatch]) -> FirstLook:
    """What batches of ROIs with their targets, on any device, say of the data they are from."""
    measured = [_measure(roi, targets) for roi, targets in batches]
    if not measured:
        raise UserError("there is no training sample to look at; check DATASETS.TRAIN and the visibility filter")
    each = _Measures(*map(np.concatenate, zip(*measured, strict=True)))
    ahead = np.isfinite(each.t_z) & (each.t_z > 0)
    rendered, seen = each.obj > 0, each.visib > 0
    eroded = each.erode.sum()
    return FirstLook(
        samples=len(ahead),
        distance=_median(each.distance[ahead]),
        behind=float(np.mean(~ahead)),
        inside=_median(each.inside),
        visible=_median(each.visib[rendered] / each.obj[rendered]),
        empty=float(np.mean(~(rendered & seen))),
        second_layer=float(each.second_layer.sum() / eroded) if eroded else float("nan"),
        fill=_median(each.fill[seen]),
    )


def first_samples(source: SampleSource, count: int = 64, seed: int = 0) -> Iterator[TruthBatch]:
    """One batch of `count` samples (or all, where there are fewer), spread evenly over a source.

    A seed always gives the same samples. Broken ones are left out; where all are, the last one's error is raised.
    """
    count = min(count, len(source))
    indices = np.rint(np.linspace(0, len(source) - 1, count)).astype(int).tolist()
    samples: list[Sample] = []
    failure: UserError | OSError | None = None
    for number, index in enumerate(indices):
        try:
            # The fourth word keeps these streams apart from those of training's samples and permutations.
            rng = np.random.default_rng([seed, 0, index, 2])
            # As training's first samples: windows that are used again are rendered for both.
            samples.append(sample_at(source, Place(seed, number), index, rng))
        except BREAKS as error:
            failure = error
    if samples:
        roi, targets, _ = collate_samples(samples)
        yield roi, targets
    elif failure is not None:
        raise failure


def _measure(roi: RoiBatch, targets: RoiTargets) -> _Measures:
    t_z, extent = _array(targets.cam_t_obj)[:, 2], _array(roi.extent)
    visib = _array(targets.mask_visib)
    spans = [visib.any(axis=axis).sum(axis=1) for axis in (1, 2)]  # columns and rows that have a visible cell
    return _Measures(
        t_z=t_z,
        distance=t_z / extent.max(axis=1),
        inside=_box_inside(roi, targets),
        obj=_array(targets.mask_obj).sum(axis=(1, 2)),
        visib=visib.sum(axis=(1, 2)),
        erode=_array(targets.mask_erode).sum(axis=(1, 2)),
        second_layer=_array(targets.q_mask).any(axis=1).sum(axis=(1, 2)).astype(float),
        fill=np.max(spans, axis=0) / _array(roi.resize_ratio) / _array(roi.box_wh).max(axis=1),
    )


def _box_inside(roi: RoiBatch, targets: RoiTargets) -> np.ndarray:
    """(B,) share of each box that lies inside its image."""
    # A batch has no image size, but its cells in pixels and as shares of W - 1 and H - 1.
    pixel, share = _array(targets.pixel), _array(roi.roi_coord_2d)
    image_wh = (pixel * share).sum(axis=(2, 3)) / (share**2).sum(axis=(2, 3)) + 1
    center, wh = _array(roi.box_center), _array(roi.box_wh)
    low, high = np.maximum(center - wh / 2, -0.5), np.minimum(center + wh / 2, image_wh - 0.5)
    return (np.maximum(high - low, 0) / wh).prod(axis=1)


def _array(tensor: Tensor) -> np.ndarray:
    """A tensor of any device as float64."""
    return tensor.detach().cpu().double().numpy()


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


def _percent(share: float) -> str:
    return "? %" if np.isnan(share) else f"{100 * share:.0f} %"
