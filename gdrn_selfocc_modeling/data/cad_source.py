"""Training samples from CAD models alone: every ROI is a scene drawn, rendered and cast on the fly.

No full image is made. The camera's pixels inside the ROI are rendered (at most as many as the crop has),
pass through a sensor model, and are resampled to the crop as a crop of a real image would be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from sopose.batch import Sample, SampleInfo
from sopose.core.data.augment import Cut, draw_cut
from sopose.core.data.roi import ImageSize, RoiView, inside_image, roi_positions
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.raycast import RayCaster
from sopose.core.render.ground import Ground
from sopose.core.render.shade import Body, render_rgb
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.look import Look
from sopose.core.synthesis.scene_sampling import OccluderRange, PoseRange, Table, resting_of
from sopose.core.utils.errors import UserError
from sopose.data.mapper import TrainAugmentation
from sopose.data.targets import RoiFormat, TrainedObject, cast_layers, make_roi_batch, make_targets

PROBE_CELLS = 40  # a side of the coarse look at a scene that finds the visible box
MIN_RENDER_RES = 32  # camera pixels a side below which an ROI is rendered finer than the camera
MAX_TRIES = 30  # scenes drawn before an object is shown without occluders


@dataclass(frozen=True)
class CadOptions:
    """What rendered samples are drawn from."""

    K: np.ndarray  # (3, 3) pixels
    image_size: ImageSize  # (width, height)
    epoch_length: int = 20000  # samples called an epoch
    poses: PoseRange = field(default_factory=PoseRange)
    occluders: OccluderRange = field(default_factory=OccluderRange)
    look: Look = field(default_factory=Look)
    min_visib: float = 0.3  # visible fraction below which a scene is drawn again

    def __post_init__(self) -> None:
        if self.epoch_length < 1:
            raise UserError(f"CAD.EPOCH_LENGTH must be at least 1, got {self.epoch_length}")
        if not 0 <= self.min_visib < 1:
            raise UserError(f"CAD.MIN_VISIB must be in [0, 1), got {self.min_visib}")


@dataclass(frozen=True, eq=False)
class CadScene:
    """The target (first body) with its occluders, the xyxy box of the target's visible part, and the ground."""

    bodies: list[Body]
    box: np.ndarray
    ground: Ground | None = None

    @property
    def pose(self) -> Pose:
        return self.bodies[0].pose

    def sees(self, points_obj: np.ndarray) -> np.ndarray:
        """(M,) bool: no occluder hides the target's surface points (M, 3), object frame, from the camera."""
        points_cam = self.pose.transform(points_obj)
        seen = np.ones(len(points_obj), bool)
        for body in self.bodies[1:]:
            origin, rays = body.pose.inverse().cam_t_obj, points_cam @ body.pose.cam_R_obj
            seen[seen] = ~body.caster.occluded(origin, rays[seen], max_depth=1.0)
        return seen


class CadSource:
    """Rendered training samples (a `sopose.core.data.loader.SampleSource`): the trained objects in turn."""

    def __init__(
        self,
        objects: Mapping[int, TrainedObject],
        models: Mapping[int, ObjectModel],
        casters: Mapping[int, RayCaster],
        options: CadOptions,
        roi_format: RoiFormat,
        augmentation: TrainAugmentation,
        backgrounds: Backgrounds,
    ) -> None:
        """`models` and `casters` hold every object that may stand in a scene, `objects` those trained for."""
        self.objects, self.models, self.casters = objects, models, casters
        self.options, self.format = options, roi_format
        self.augmentation, self.backgrounds = augmentation, backgrounds
        self._ids = sorted(objects)
        if options.poses.has_table or options.occluders.standing_prob > 0:
            for model in models.values():
                resting_of(model)  # before worker processes are forked, which share it

    def __len__(self) -> int:
        return self.options.epoch_length

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """A fresh scene of the `index % number`-th object, its crop and its truth."""
        target = self.objects[self._ids[index % len(self._ids)]]
        scene = self.draw_scene(target, rng)
        roi = self.augmentation.draw_roi(scene.box, self.options.image_size, rng)
        view = RoiView(self.options.K, self.options.image_size, roi, self.format.output_res)
        layers = cast_layers(target, scene.pose, view)
        visib = layers.mask.copy()
        visib[visib] = scene.sees(layers.P_obj[visib])
        cut = None
        if rng.random() < self.augmentation.truncate_prob:
            cut = draw_cut(visib, view.positions, rng)
        crop = self.augmentation.draw_color(self.render(scene, view, cut, rng), rng)
        keeps = None if cut is None else cut.keeps(view.positions)
        targets = make_targets(target, scene.pose, view, layers, visib, keeps)
        info = SampleInfo(scene_id=0, im_id=index, obj_id=target.model.obj_id)
        return make_roi_batch(crop, view, target.model.extent, target.class_index, self.format), targets, info

    def draw_scene(self, target: TrainedObject, rng: np.random.Generator) -> CadScene:
        """A scene whose target is visible enough; without occluders where that takes too many tries."""
        options, model = self.options, target.model
        others = [obj_id for obj_id in self.models if obj_id != model.obj_id]
        lies = options.poses.rotations == "stable"
        for attempt in range(MAX_TRIES + 1):
            frame = options.poses.draw(options.K, options.image_size, rng)
            frame_R_obj = options.poses.draw_rest(model, rng)
            pose = frame @ Pose(frame_R_obj, np.zeros(3))
            if not self._may_show(model, pose):
                continue
            table = Table.under(model, frame, frame_R_obj) if options.poses.has_table else None
            candidates = others if attempt < MAX_TRIES else []
            placed = options.occluders.draw(self.models, candidates, model, pose, rng, table, lies)
            bodies = [self._body(obj_id, *placing, rng) for obj_id, *placing in [(model.obj_id, pose), *placed]]
            scene, visible = self._probe(bodies)
            if scene is not None and (visible >= options.min_visib or attempt == MAX_TRIES):
                return replace(scene, ground=options.look.ground.draw(bodies, table, self.backgrounds, rng))
        raise UserError(f"object {model.obj_id} is never in the image; check CAD.K, CAD.IMAGE_SIZE and CAD.Z_RANGE")

    def _may_show(self, model: ObjectModel, pose: Pose) -> bool:
        """Whether the object's box touches the image: a quick look before anything is placed around it."""
        box = self.casters[model.obj_id].image_box(pose, self.options.K)
        return box is not None and (box[:2] < self.options.image_size).all() and (box[2:] > 0).all()

    def _body(self, obj_id: int, pose: Pose, rng: np.random.Generator) -> Body:
        return Body(self.casters[obj_id], self.models[obj_id], pose, self.options.look.materials.draw(rng))

    def _probe(self, bodies: list[Body]) -> tuple[CadScene | None, float]:
        """The scene with its target's visible box, and the visible fraction; None where it is not seen."""
        options, target = self.options, bodies[0]
        limits = target.caster.image_box(target.pose, options.K)
        if limits is None:
            return None, 0.0
        cell = (limits[2:] - limits[:2]) / PROBE_CELLS
        steps = (np.arange(PROBE_CELLS) + 0.5)[:, None] * cell + limits[:2]
        positions = np.stack(np.meshgrid(*steps.T), axis=-1).reshape(-1, 2)
        hits = target.caster.cast(target.pose, options.K, positions)
        scene = CadScene(bodies, limits)
        on_target = positions[hits.ray]
        seen = on_target[inside_image(on_target, options.image_size) & scene.sees(hits.points_obj)]
        if not len(seen):
            return None, 0.0
        # As BOP's boxes: from the first to the last pixel's centre, half a pixel inside the outline.
        shrink = np.minimum((cell - 1) / 2, cell / 2)
        box = np.concatenate([seen.min(axis=0) - shrink, seen.max(axis=0) + shrink])
        return CadScene(bodies, box), len(seen) / len(hits.ray)

    def render(self, scene: CadScene, view: RoiView, cut: Cut | None, rng: np.random.Generator) -> np.ndarray:
        """(in, in, 3) uint8 BGR crop of a scene before a background, black where the window leaves the image.

        Where `cut` takes cells away, the target's pixels show the background.
        """
        side = int(np.clip(round(view.roi.size), min(MIN_RENDER_RES, self.format.input_res), self.format.input_res))
        positions = roi_positions(view.roi, side)
        window = _inner_window(positions, view.image_size)
        look, bodies = self.options.look, scene.bodies
        lights = look.draw_lights(scene.pose.cam_t_obj, scene.ground, rng)
        picture = render_rgb(bodies, view.K, positions[window], lights, look.shading, scene.ground)
        owner = picture.owner.reshape(positions[window].shape[:2])
        shown = owner >= 0
        if cut is not None:
            shown &= (owner != 0) | cut.keeps(positions[window])
        image = self.backgrounds.sample((side, side), rng).copy()
        image[window][shown] = picture.rgb.reshape(*owner.shape, 3)[shown, ::-1]
        image = look.sensor(image, side / view.roi.size, rng)
        shown_part = np.zeros_like(image)
        shown_part[window] = image[window]
        return _enlarge(shown_part, self.format.input_res)


def _inner_window(positions: np.ndarray, image_size: ImageSize) -> tuple[slice, slice]:
    """Rows and columns of a grid of positions (h, w, 2), pixels, that lie on the image."""
    middle = (np.asarray(image_size) - 1) / 2
    spans = []
    for axis, line in ((1, positions[:, 0]), (0, positions[0])):
        at = np.tile(middle, (len(line), 1))
        at[:, axis] = line[:, axis]
        used = np.flatnonzero(inside_image(at, image_size))
        spans.append(slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0))
    return spans[0], spans[1]


def _enlarge(image: np.ndarray, out: int) -> np.ndarray:
    """The crop of side `out` from one of side n: sample d lies at d n / out, as in `roi_positions`."""
    side = len(image)
    if side == out:
        return image
    ratio = side / out
    matrix = np.array([[ratio, 0.0, 0.0], [0.0, ratio, 0.0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, (out, out), flags=flags, borderMode=cv2.BORDER_REPLICATE)
