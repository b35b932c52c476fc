"""Training samples of second looks: rendered scenes, looked at from poses that are a little wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from sopose.batch import LookBatch, LookTargets, SampleInfo
from sopose.core.data.replay import Place, ReplayPool, ReplaySchedule
from sopose.core.data.roi import Roi, RoiView
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.pose_fit import pose_precision
from sopose.core.objects.model import ObjectModel
from sopose.core.synthesis.windows import ShadedWindow, shade_window
from sopose.core.utils.errors import UserError
from sopose.data.cad_source import CadSource, DrawnCrop, crop_side
from sopose.data.look import look_view, make_look, nearest_equal_pose

LookSample = tuple[LookBatch, LookTargets, SampleInfo]
TRIES = 10  # poses drawn until a look lies inside of what was rendered
WINDOW = 2.3  # side of what is rendered over the longer side of the object's outline: room for wrong poses


@dataclass(frozen=True)
class StartRange:
    """How wrong the poses are that a look begins at: normal errors, times one of several factors."""

    rotation: float = 8.0  # degrees, root of the mean squared angle, about an axis of any direction
    depth: float = 0.03  # standard deviation along the ray of the object's middle, shares of the depth
    across: float = 0.05  # standard deviation along x and y of the camera, diameters
    factors: tuple[float, ...] = (0.35, 1.0, 1.0, 2.0)  # drawn with equal probability: looks are repeated

    def draw(self, pose: Pose, diameter: float, rng: np.random.Generator) -> Pose:
        """A pose near `pose`; diameter: of the object, metres."""
        factor = self.factors[rng.integers(len(self.factors))]
        turn = Rotation.from_rotvec(rng.normal(0, factor * np.deg2rad(self.rotation) / np.sqrt(3), 3)).as_matrix()
        cam_t_obj = pose.cam_t_obj * np.exp(factor * self.depth * rng.normal())
        cam_t_obj[:2] += factor * self.across * diameter * rng.normal(size=2)
        return Pose(turn @ pose.cam_R_obj, cam_t_obj)

    def of_model(self, pose: Pose, model: ObjectModel, rng: np.random.Generator) -> Pose:
        """A pose near one of a model, in the model's frame: wrong about its middle."""
        return self.draw(pose.with_origin(model.middle), model.diameter, rng).with_origin(-model.middle)

    def precision(self, pose: Pose, diameter: float) -> np.ndarray:
        """(6, 6) what is known of a pose that was drawn, see `pose_precision`; diameter in metres."""
        return pose_precision(pose, diameter, np.deg2rad(self.rotation), self.depth, self.across)


class LookSource:
    """Second looks at rendered scenes (a `sopose.core.data.loader.SampleSource`); pixels are those of a `CadSource`."""

    def __init__(
        self,
        pictures: CadSource,
        starts: StartRange,
        pad_scale: float = 1.2,
        replay: ReplaySchedule | None = None,
    ) -> None:
        """Take what renders.

        pad_scale: a look's side over the longer side of the object's outline at the start. replay: which rendered
        window a sample uses; by default each has one of its own.
        """
        self.pictures, self.starts, self.pad_scale = pictures, starts, pad_scale
        self.pool = None if replay is None else ReplayPool(replay, self.window)

    def __len__(self) -> int:
        return len(self.pictures)

    def sample(self, index: int, rng: np.random.Generator) -> LookSample:
        """A look at a fresh scene of the `index % number`-th object."""
        return self._look(self.window(index, rng), index, rng)

    def sample_at(self, place: Place, index: int, rng: np.random.Generator) -> LookSample:
        """The sample at a place of a run: in the window that it uses where windows are used again."""
        return self.sample(index, rng) if self.pool is None else self._look(self.pool.get(place), index, rng)

    def window(self, number: int, rng: np.random.Generator) -> ShadedWindow:
        """A fresh scene of the `number % objects`-th object, rendered `WINDOW` times as wide as its outline."""
        drawer, ids = self.pictures.drawer, sorted(self.pictures.objects)
        scene = drawer.around(ids[number % len(ids)], rng)
        obj_id, pose = scene.objects[0]
        box = drawer.models[obj_id].caster.image_box(pose, scene.K)
        assert box is not None, "scenes show their object"
        wh = box[2:] - box[:2]
        roi = Roi((box[:2] + box[2:]) / 2, float(WINDOW * wh.max()), wh)
        return shade_window(drawer, scene, roi, round(WINDOW / self.pad_scale * self.pictures.format.input_res))

    def _look(self, window: ShadedWindow, index: int, rng: np.random.Generator) -> LookSample:
        obj_id, posed = window.scene.objects[0]
        given = self.pictures.objects[obj_id].model
        model, pose = given.centered, posed.with_origin(given.middle)  # as a refiner sees it
        start, view = self._start(window, model, pose, rng)
        side = crop_side(view.roi, self.pictures.format.input_res)
        shown = window.foreground(view.roi, side)
        hiding = self.pictures.augmentation.hiding.draw(shown.target > 0, rng)
        crop = DrawnCrop(window.scene, view, side, None, rng, hiding)
        image = self.pictures.finish(crop, shown.part(crop.window))
        true = nearest_equal_pose(model, pose, start)
        known = true.cam_R_obj, true.cam_t_obj, self.starts.precision(start, model.diameter)
        targets = LookTargets(*(torch.from_numpy(np.float32(part)) for part in known))
        look = make_look(image, model, start, view, self.pictures.format).tensors()
        return look, targets, SampleInfo(scene_id=0, im_id=index, obj_id=obj_id)

    def _start(
        self, window: ShadedWindow, model: ObjectModel, pose: Pose, rng: np.random.Generator
    ) -> tuple[Pose, RoiView]:
        """A wrong pose whose look lies inside of the window, and the look; the true one after too many tries."""
        K, options, out = window.scene.K, self.pictures.drawer.options, self.pictures.format.output_res
        for attempt in range(TRIES + 1):
            start = self.starts.draw(pose, model.diameter, rng) if attempt < TRIES else pose
            view = look_view(model, start, K, options.image_size, self.pad_scale, out)
            if view is not None and _holds(window.roi, view.roi):
                return start, view
        raise UserError(f"object {model.name} is never in the image; check CAD.K, CAD.IMAGE_SIZE and CAD.Z_RANGE")


def _holds(outer: Roi, inner: Roi) -> bool:
    """Whether one square of the image holds another."""
    return bool((np.abs(inner.center - outer.center) <= (outer.size - inner.size) / 2).all())
