"""Training samples from CAD models alone: every ROI is a scene drawn, rendered and cast on the fly.

No full image is made. The camera's pixels inside the ROI are rendered (at most as many as the crop has),
pass through a sensor model, and are resampled to the crop as a crop of a real image would be. Where windows are used
again, a crop's pixels come from a window that was rendered before; its truth is cast at its own cells all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from sopose.batch import RoiBatch, RoiTargets, Sample, SampleInfo
from sopose.core.data.augment import Cut, draw_cut
from sopose.core.data.replay import Place, ReplayPool, ReplaySchedule
from sopose.core.data.roi import Roi, RoiView, part_inside, roi_positions
from sopose.core.render.shade import render_rgb
from sopose.core.render.visibility import unhidden
from sopose.core.synthesis.hiding import HidingShape, covered, paint
from sopose.core.synthesis.scenes import DrawnScene, SceneDrawer
from sopose.core.synthesis.windows import Foreground, ShadedWindow, foreground_of, shade_window
from sopose.core.utils.errors import UserError
from sopose.data.mapper import TrainAugmentation
from sopose.data.roi_input import RoiFormat, make_roi_batch
from sopose.data.targets import TrainedObject, cast_layers, make_targets

MIN_RENDER_RES = 32  # camera pixels a side below which an ROI is rendered finer than the camera


@dataclass(frozen=True, eq=False)
class DrawnCrop:
    """A crop before it is rendered: numbers alone, small enough to come from another process."""

    scene: DrawnScene
    view: RoiView
    side: int  # pixels of the rendering
    cut: Cut | None  # what is taken away of the target
    rng: np.random.Generator  # that background, camera and colours are drawn from
    hiding: tuple[HidingShape, ...] = ()  # what stands before it

    @cached_property
    def positions(self) -> np.ndarray:
        """(side, side, 2) pixels of the camera's image."""
        return roi_positions(self.view.roi, self.side)

    @cached_property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the rendering that lie on the image."""
        return part_inside(self.positions, self.view.image_size)


class CadSource:
    """Rendered training samples (a `sopose.core.data.loader.SampleSource`): the trained objects in turn."""

    def __init__(
        self,
        objects: Mapping[int, TrainedObject],
        drawer: SceneDrawer,
        roi_format: RoiFormat,
        augmentation: TrainAugmentation,
        length: int = 20000,
        replay: ReplaySchedule | None = None,
    ) -> None:
        """`objects` are those trained for, among the drawer's models; `length`: samples called an epoch.

        replay: which rendered window a sample uses; by default each has a rendering of its own.
        """
        if length < 1:
            raise UserError(f"CAD.EPOCH_LENGTH must be at least 1, got {length}")
        self.objects, self.drawer, self.length = objects, drawer, length
        self.format, self.augmentation = roi_format, augmentation
        self.pool = None if replay is None else ReplayPool(replay, self.window)
        self._ids = sorted(objects)

    def __len__(self) -> int:
        return self.length

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """A fresh scene of the `index % number`-th object, its crop and its truth."""
        crop, targets, info = self.draw(index, rng)
        positions = crop.positions[crop.window]
        picture = render_rgb(crop.scene.of(self.drawer.models), positions, self.drawer.options.shading)
        return self._seen(self.finish(crop, foreground_of(picture, positions.shape[:2])), crop, info), targets, info

    def sample_at(self, place: Place, index: int, rng: np.random.Generator) -> Sample:
        """The sample at a place of a run: of the window that it uses where windows are used again, else as `sample`."""
        if self.pool is None:
            return self.sample(index, rng)
        window = self.pool.get(place)
        crop, targets, info = self._cropped(window.scene, index, rng)
        seen = window.foreground(crop.view.roi, crop.side).part(crop.window)
        return self._seen(self.finish(crop, seen), crop, info), targets, info

    def window(self, number: int, rng: np.random.Generator) -> ShadedWindow:
        """A fresh scene of the `number % objects`-th object, rendered as wide as any of its crops."""
        scene = self.drawer.around(self._ids[number % len(self._ids)], rng)
        roi = self.augmentation.window(scene.box)
        # As fine as the crops are on average; they are never coarser than the camera.
        most = round(roi.size / (self.augmentation.pad_scale * roi.wh.max()) * self.format.input_res)
        return shade_window(self.drawer, scene, roi, most)

    def draw(self, index: int, rng: np.random.Generator) -> tuple[DrawnCrop, RoiTargets, SampleInfo]:
        """Everything of a sample but its picture."""
        return self._cropped(self.drawer.around(self._ids[index % len(self._ids)], rng), index, rng)

    def _cropped(
        self, scene: DrawnScene, index: int, rng: np.random.Generator
    ) -> tuple[DrawnCrop, RoiTargets, SampleInfo]:
        """A crop of a scene and its exact truth, cast at its own cells."""
        (obj_id, pose), *others = scene.objects
        target, options = self.objects[obj_id], self.drawer.options
        roi = self.augmentation.draw_roi(scene.box, options.image_size, rng)
        view = RoiView(options.K, options.image_size, roi, self.format.output_res)
        pose = target.target_pose(pose)
        layers = cast_layers(target, pose, view)
        visib = layers.mask.copy()
        occluders = [(self.drawer.models[other].caster, where) for other, where in others]
        visib[visib] = unhidden(pose.transform(layers.P_obj[visib]), occluders)
        cut = draw_cut(visib, view.positions, rng) if rng.random() < self.augmentation.truncate_prob else None
        keeps = None if cut is None else cut.keeps(view.positions)
        hiding = self.augmentation.hiding.draw(visib, rng)
        if hiding:
            visib &= ~covered(hiding, view.out)
        targets = make_targets(target, pose, view, layers, visib, keeps)
        crop = DrawnCrop(scene, view, crop_side(roi, self.format.input_res), cut, rng, hiding)
        return crop, targets, SampleInfo(scene_id=0, im_id=index, obj_id=obj_id)

    def _seen(self, image: np.ndarray, crop: DrawnCrop, info: SampleInfo) -> RoiBatch:
        target = self.objects[info.obj_id]
        return make_roi_batch(image, crop.view, target.model.extent, target.class_index, self.format).tensors()

    def finish(self, crop: DrawnCrop, seen: Foreground) -> np.ndarray:
        """(in, in, 3) uint8 BGR: what a crop's window shows before a background, taken by a camera.

        Black where the window leaves the image. Where a cut takes cells away, the target's pixels show the background.
        """
        window, rng, side = crop.window, crop.rng, crop.side
        image = self.drawer.backgrounds.sample((side, side), rng).copy()
        if crop.cut is not None:
            seen = seen.without_target(~crop.cut.keeps(crop.positions[window]))
        image[window] = seen.before(image[window])
        image = paint(image, crop.hiding, self.drawer.backgrounds, rng)
        image = self.drawer.options.sensor(image, side / crop.view.roi.size, rng)
        shown_part = np.zeros_like(image)
        shown_part[window] = image[window]
        return self.augmentation.draw_color(_enlarge(shown_part, self.format.input_res), rng)


def crop_side(roi: Roi, most: int) -> int:
    """Pixels a side of an ROI's rendering: as many as the camera has there, up to the crop's."""
    return int(np.clip(round(roi.size), min(MIN_RENDER_RES, most), most))


def _enlarge(image: np.ndarray, out: int) -> np.ndarray:
    """The crop of side `out` from one of side n: sample d lies at d n / out, as in `roi_positions`."""
    side = len(image)
    if side == out:
        return image
    ratio = side / out
    matrix = np.array([[ratio, 0.0, 0.0], [0.0, ratio, 0.0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, (out, out), flags=flags, borderMode=cv2.BORDER_REPLICATE)
