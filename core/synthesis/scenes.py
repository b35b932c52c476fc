"""Scenes drawn at random, for whatever is made of them: crops, whole images, twins of photographs, detector images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sopose.core.data.roi import ImageSize, inside_image
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.render.ground import Ground
from sopose.core.render.lights import LightRange, Lights
from sopose.core.render.looks import Body
from sopose.core.render.materials import Material, MaterialRange
from sopose.core.render.packed import Scene
from sopose.core.render.shade import Shading
from sopose.core.render.visibility import unhidden
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.ground_range import GroundRange
from sopose.core.synthesis.many_objects import CrowdRange
from sopose.core.synthesis.scene_sampling import OccluderRange, PoseRange, Table, resting_of
from sopose.core.synthesis.sensor import Sensor
from sopose.core.utils.errors import UserError

PROBE_CELLS = 32  # a side of the coarse look at a scene that finds the visible box
MAX_TRIES = 30  # scenes drawn before an object is shown without occluders
CROWD_TRIES = 20  # scenes drawn until one has an object in the image


@dataclass(frozen=True)
class SceneOptions:
    """What scenes are drawn from."""

    K: np.ndarray  # (3, 3) pixels
    image_size: ImageSize  # (width, height)
    poses: PoseRange = field(default_factory=PoseRange)
    occluders: OccluderRange = field(default_factory=OccluderRange)  # around one object
    min_visib: float = 0.3  # visible fraction of that object below which a scene is drawn again
    crowd: CrowdRange = field(default_factory=CrowdRange)  # of scenes that are not about one object
    ground: GroundRange = field(default_factory=GroundRange)
    lights: LightRange = field(default_factory=LightRange)
    materials: MaterialRange = field(default_factory=MaterialRange)
    sensor: Sensor = field(default_factory=Sensor)
    shading: Shading = field(default_factory=Shading)

    def __post_init__(self) -> None:
        if not 0 <= self.min_visib < 1:
            raise UserError(f"CAD.MIN_VISIB must be in [0, 1), got {self.min_visib}")


@dataclass(frozen=True, eq=False)
class DrawnScene:
    """A scene in numbers: objects by their ids, their materials, light and ground."""

    K: np.ndarray  # (3, 3) pixels
    objects: list[tuple[int, Pose]]
    materials: list[Material]
    lights: Lights
    ground: Ground | None = None
    box: np.ndarray | None = None  # (4,) xyxy, of what is seen of the first object where the scene is about it

    def of(self, models: Mapping[int, ObjectModel]) -> Scene:
        """The scene to be rendered."""
        placed = zip(self.objects, self.materials, strict=True)
        return Scene(self.K, [Body(models[k], pose, coat) for (k, pose), coat in placed], self.lights, self.ground)

    def moved(self, new_T_old: Pose) -> DrawnScene:
        """The same scene before a camera at another place, whose frame is given by that of this one."""
        ground = None if self.ground is None else replace(self.ground, pose=new_T_old @ self.ground.pose)
        objects = [(obj_id, new_T_old @ pose) for obj_id, pose in self.objects]
        return replace(self, objects=objects, lights=self.lights.moved(new_T_old), ground=ground, box=None)


class SceneDrawer:
    """Draws scenes of `models` (by id); what a scene is like follows from a random generator alone."""

    def __init__(self, models: Mapping[int, ObjectModel], options: SceneOptions, backgrounds: Backgrounds) -> None:
        """`UserError` for a flat model where some are to stand on tables."""
        self.models, self.options, self.backgrounds = models, options, backgrounds
        # Places and views are drawn of the middles of objects; what is drawn is in the frames of `models`.
        self._centered = {obj_id: model.centered for obj_id, model in models.items()}
        for model in models.values():
            # Made before worker processes are forked, which share them.
            model.caster, model.centered.caster  # noqa: B018
        for model in self._centered.values():
            if options.poses.has_table or options.occluders.standing_prob > 0:
                resting_of(model)

    def seen_by(self, K: np.ndarray, image_size: ImageSize) -> SceneDrawer:
        """The same before another camera."""
        return SceneDrawer(self.models, replace(self.options, K=K, image_size=image_size), self.backgrounds)

    def crowd(self, rng: np.random.Generator) -> DrawnScene:
        """Many objects. Raises `UserError` where none is ever in the image."""
        options = self.options
        for _ in range(CROWD_TRIES):
            placed, table = options.crowd.draw(self._centered, options.poses, options.K, options.image_size, rng)
            if placed:
                return self.dressed(self._own_frames(placed), table, rng)
        raise UserError(
            f"no object found a place before the camera in {CROWD_TRIES} tries; check "
            f"CAD.Z_RANGE={options.poses.z_range} and CAD.CENTER_RANGE, or draw fewer floating objects"
        )

    def around(self, obj_id: int, rng: np.random.Generator) -> DrawnScene:
        """One object, the first, with others around it; it is visible enough, or alone after too many tries.

        Raises `UserError` where it is never in the image.
        """
        options, model = self.options, self._centered[obj_id]
        others = [other for other in self.models if other != obj_id]
        for attempt in range(MAX_TRIES + 1):
            frame = options.poses.draw(options.K, options.image_size, rng)
            frame_R_obj = options.poses.draw_rest(model, rng)
            pose = frame @ Pose(frame_R_obj, np.zeros(3))
            if not self._may_show(model, pose):
                continue
            table = Table.under(model, frame, frame_R_obj) if options.poses.has_table else None
            candidates, lies = others if attempt < MAX_TRIES else [], options.poses.rotations == "stable"
            others_placed = options.occluders.draw(self._centered, candidates, model, pose, rng, table, lies)
            placed = self._own_frames([(obj_id, pose), *others_placed])
            box, visible = self._probe(placed)
            if box is not None and (visible >= options.min_visib or attempt == MAX_TRIES):
                return replace(self.dressed(placed, table, rng, pose.cam_t_obj), box=box)
        raise UserError(f"object {obj_id} is never in the image; check CAD.K, CAD.IMAGE_SIZE and CAD.Z_RANGE")

    def dressed(
        self,
        placed: list[tuple[int, Pose]],
        table: Table | None,
        rng: np.random.Generator,
        center: np.ndarray | None = None,
    ) -> DrawnScene:
        """Objects (ids and poses, at least one) with looks, on the `table` where there is one.

        Lamps stand around `center` (3,), camera frame, metres (default: the objects' mean).
        """
        options = self.options
        materials = [options.materials.draw(rng) for _ in placed]
        casters = [(self.models[obj_id].caster, pose) for obj_id, pose in placed]
        ground = options.ground.draw(casters, table, self.backgrounds, rng)
        if ground is None:
            lights = options.lights.draw(rng)  # on the camera's side
        else:
            middles = [pose.transform(self.models[obj_id].middle) for obj_id, pose in placed]
            center = np.mean(middles, axis=0) if center is None else center
            lights = options.lights.draw(rng, center, ground.normal_cam)
        return DrawnScene(options.K, placed, materials, lights, ground)

    def _own_frames(self, placed: list[tuple[int, Pose]]) -> list[tuple[int, Pose]]:
        """Objects' poses from those of their middles."""
        return [(obj_id, pose.with_origin(-self.models[obj_id].middle)) for obj_id, pose in placed]

    def _may_show(self, model: ObjectModel, pose: Pose) -> bool:
        """Whether the object's box touches the image: a quick look before anything is placed around it."""
        box = model.caster.image_box(pose, self.options.K)
        return box is not None and (box[:2] < self.options.image_size).all() and (box[2:] > 0).all()

    def _probe(self, placed: list[tuple[int, Pose]]) -> tuple[np.ndarray | None, float]:
        """The xyxy box (4,) of what is seen of the first object, and which fraction that is; None where it is not."""
        options, (obj_id, pose) = self.options, placed[0]
        caster = self.models[obj_id].caster
        limits = caster.image_box(pose, options.K)
        if limits is None:
            return None, 0.0
        cell = (limits[2:] - limits[:2]) / PROBE_CELLS
        steps = (np.arange(PROBE_CELLS) + 0.5)[:, None] * cell + limits[:2]
        positions = np.stack(np.meshgrid(*steps.T)).reshape(2, -1).T  # all u, then all v: faster along long rows
        hits = caster.cast(pose, options.K, positions)
        on_target = positions[hits.ray]
        occluders = [(self.models[other].caster, where) for other, where in placed[1:]]
        is_seen = inside_image(on_target, options.image_size) & unhidden(pose.transform(hits.points_obj), occluders)
        seen = on_target[is_seen]
        if not len(seen):
            return None, 0.0
        # As BOP's boxes: from the first to the last pixel's centre, half a pixel inside the outline.
        shrink = np.minimum((cell - 1) / 2, cell / 2)
        return np.concatenate([seen.min(axis=0) - shrink, seen.max(axis=0) + shrink]), len(seen) / len(hits.ray)
