"""Training samples from CAD models alone: every ROI is a scene drawn, rendered and cast on the fly.

No full image is made. The camera's pixels inside the ROI are rendered (at most as many as the crop has),
pass through a sensor model, and are resampled to the crop as a crop of a real image would be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from sopose.batch import RoiTargets, Sample, SampleInfo
from sopose.core.data.augment import Cut, draw_cut
from sopose.core.data.roi import RoiView, inside_image, roi_positions
from sopose.core.render.shade import Picture, render_rgb
from sopose.core.render.visibility import unhidden
from sopose.core.synthesis.scenes import DrawnScene, SceneDrawer
from sopose.core.utils.errors import UserError
from sopose.data.mapper import TrainAugmentation
from sopose.data.targets import RoiFormat, TrainedObject, cast_layers, make_roi_batch, make_targets

MIN_RENDER_RES = 32  # camera pixels a side below which an ROI is rendered finer than the camera


@dataclass(frozen=True, eq=False)
class DrawnCrop:
    """A crop before it is rendered: numbers alone, small enough to come from another process."""

    scene: DrawnScene
    view: RoiView
    side: int  # pixels of the rendering
    cut: Cut | None  # what is taken away of the target
    rng: np.random.Generator  # that background, camera and colours are drawn from

    @cached_property
    def positions(self) -> np.ndarray:
        """(side, side, 2) pixels of the camera's image."""
        return roi_positions(self.view.roi, self.side)

    @cached_property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the rendering that lie on the image."""
        positions, middle = self.positions, (np.asarray(self.view.image_size) - 1) / 2
        spans = []
        for axis, line in ((1, positions[:, 0]), (0, positions[0])):
            at = np.tile(middle, (len(line), 1))
            at[:, axis] = line[:, axis]
            used = np.flatnonzero(inside_image(at, self.view.image_size))
            spans.append(slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0))
        return spans[0], spans[1]


class CadSource:
    """Rendered training samples (a `sopose.core.data.loader.SampleSource`): the trained objects in turn."""

    def __init__(
        self,
        objects: Mapping[int, TrainedObject],
        drawer: SceneDrawer,
        roi_format: RoiFormat,
        augmentation: TrainAugmentation,
        length: int = 20000,
    ) -> None:
        """`objects` are those trained for, among the drawer's models; `length`: samples called an epoch."""
        if length < 1:
            raise UserError(f"CAD.EPOCH_LENGTH must be at least 1, got {length}")
        self.objects, self.drawer, self.length = objects, drawer, length
        self.format, self.augmentation = roi_format, augmentation
        self._ids = sorted(objects)

    def __len__(self) -> int:
        return self.length

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """A fresh scene of the `index % number`-th object, its crop and its truth."""
        crop, targets, info = self.draw(index, rng)
        scene = crop.scene.of(self.drawer.models)
        picture = render_rgb(scene, crop.positions[crop.window], self.drawer.options.shading)
        target = self.objects[info.obj_id]
        image = self.finish(crop, picture)
        return make_roi_batch(image, crop.view, target.model.extent, target.class_index, self.format), targets, info

    def draw(self, index: int, rng: np.random.Generator) -> tuple[DrawnCrop, RoiTargets, SampleInfo]:
        """Everything of a sample but its picture."""
        target, options = self.objects[self._ids[index % len(self._ids)]], self.drawer.options
        scene = self.drawer.around(target.model.obj_id, rng)
        roi = self.augmentation.draw_roi(scene.box, options.image_size, rng)
        view = RoiView(options.K, options.image_size, roi, self.format.output_res)
        (_, pose), *others = scene.objects
        layers = cast_layers(target, pose, view)
        visib = layers.mask.copy()
        occluders = [(self.drawer.models[obj_id].caster, where) for obj_id, where in others]
        visib[visib] = unhidden(pose.transform(layers.P_obj[visib]), occluders)
        cut = draw_cut(visib, view.positions, rng) if rng.random() < self.augmentation.truncate_prob else None
        keeps = None if cut is None else cut.keeps(view.positions)
        targets = make_targets(target, pose, view, layers, visib, keeps)
        side = int(np.clip(round(roi.size), min(MIN_RENDER_RES, self.format.input_res), self.format.input_res))
        info = SampleInfo(scene_id=0, im_id=index, obj_id=target.model.obj_id)
        return DrawnCrop(scene, view, side, cut, rng), targets, info

    def finish(self, crop: DrawnCrop, picture: Picture) -> np.ndarray:
        """(in, in, 3) uint8 BGR: the rendering of a crop's window before a background, taken by a camera.

        Black where the window leaves the image. Where a cut takes cells away, the target's pixels show the background.
        """
        window, rng, side = crop.window, crop.rng, crop.side
        image = self.drawer.backgrounds.sample((side, side), rng).copy()
        owner = picture.owner.reshape(image[window].shape[:2])
        shown = owner >= 0
        if crop.cut is not None:
            shown &= (owner != 0) | crop.cut.keeps(crop.positions[window])
        image[window][shown] = picture.rgb.reshape(*owner.shape, 3)[shown, ::-1]
        image = self.drawer.options.sensor(image, side / crop.view.roi.size, rng)
        shown_part = np.zeros_like(image)
        shown_part[window] = image[window]
        return self.augmentation.draw_color(_enlarge(shown_part, self.format.input_res), rng)


def _enlarge(image: np.ndarray, out: int) -> np.ndarray:
    """The crop of side `out` from one of side n: sample d lies at d n / out, as in `roi_positions`."""
    side = len(image)
    if side == out:
        return image
    ratio = side / out
    matrix = np.array([[ratio, 0.0, 0.0], [0.0, ratio, 0.0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, (out, out), flags=flags, borderMode=cv2.BORDER_REPLICATE)
