"""Training batches from CAD models that never leave the device: rays, maps, masks and pictures of many ROIs at once.

The CPU only draws numbers: poses, occluders, materials, lamps. Whether a target is seen well enough, its box, its
maps and its picture come from rays on the device. Pictures have the crop's resolution; bodies float, there is no
ground; colours are not augmented beyond the camera.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sopose.batch import RoiBatch, RoiTargets, SampleInfo
from sopose.core.data.roi import RoiView
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.device_caster import Backend, DeviceCaster
from sopose.core.rays.raycast import RayCaster
from sopose.core.render.device_looks import DeviceMaterials, pack_lights, pack_looks, pack_materials
from sopose.core.render.device_scene import DeviceScenes, cast_scenes, pack_scenes
from sopose.core.render.device_shade import SceneShader
from sopose.core.render.lighting import LightSet
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.utils.errors import UserError
from sopose.data.device_camera import DevicePool
from sopose.data.device_draws import DeviceOptions, SceneDraw, SceneDrawer
from sopose.data.device_targets import (
    DeviceCuts,
    DeviceViews,
    cast_device_layers,
    device_cuts,
    make_device_targets,
    pack_objects,
    pack_views,
)
from sopose.data.mapper import TrainAugmentation
from sopose.data.targets import RoiFormat, TrainedObject

PROBE_CELLS = 40  # a side of the coarse look at a scene that finds the visible box
MAX_TRIES = 30  # scenes drawn before an object is shown without occluders
POOL = 256  # backgrounds kept on the device


Batch = tuple[RoiBatch, RoiTargets, list[SampleInfo]]


@dataclass(frozen=True, eq=False)
class PackedScenes:
    """Scenes with their looks and lights, on the device."""

    scenes: DeviceScenes
    materials: DeviceMaterials
    lights: LightSet  # one column for each scene


class DeviceSource:
    """Makes batches of samples of the trained objects, in turn, on a device."""

    def __init__(
        self,
        objects: Mapping[int, TrainedObject],
        models: Mapping[int, ObjectModel],
        casters: Mapping[int, RayCaster],
        options: DeviceOptions,
        roi_format: RoiFormat,
        augmentation: TrainAugmentation,
        backgrounds: Backgrounds,
        device: torch.device | str,
        seed: int = 0,
        backend: Backend = "auto",
        pool_size: int = POOL,
    ) -> None:
        """`models` and `casters` hold every object that may stand in a scene, `objects` those trained for."""
        self.objects, self.options, self.format, self.augmentation = objects, options, roi_format, augmentation
        self.device = torch.device(device)
        self.drawer = SceneDrawer(models, list(objects), options)
        ids = self.drawer.ids
        self.caster = DeviceCaster([casters[obj_id] for obj_id in ids], self.device, backend)
        self.shader = SceneShader(
            self.caster, pack_looks([models[obj_id] for obj_id in ids], self.device), options.shading
        )
        self.trained = pack_objects([objects.get(obj_id) for obj_id in ids], self.device)
        self.pool = DevicePool(backgrounds, pool_size, roi_format.input_res, self.device, seed)

    def batches(self, numbers: range, size: int, seed: int, workers: int = 0) -> Iterator[Batch]:
        """The batches of these numbers, of `size` samples each; ranks of a distributed run take every n-th number.

        The numbers of their scenes are drawn ahead by `workers` processes.
        """
        for number, (indices, draws) in zip(numbers, self.drawer.stream(numbers, size, seed, workers), strict=True):
            rng = np.random.default_rng((seed, number, 1))
            self.pool.generator.manual_seed(int(rng.integers(2**62)))  # a resumed run makes the same batches
            yield self.batch(indices, rng, draws)

    def batch(
        self, indices: Sequence[int], rng: np.random.Generator, draws: Sequence[SceneDraw] | None = None
    ) -> Batch:
        """Fresh scenes of the `index % number`-th objects, their crops and their truth, on the device.

        draws: scenes to begin with, of the same objects; those that show too little are drawn again.
        """
        names = [self.drawer.target(index) for index in indices]
        draws, boxes = self.draw_scenes(names, rng, draws)
        options = self.options
        rois = [self.augmentation.draw_roi(box, options.image_size, rng) for box in boxes]
        views = [RoiView(options.K, options.image_size, roi, self.format.output_res) for roi in rois]
        packed, packed_views = self.pack(draws), pack_views(views, self.device)
        truth, cuts = self.make_targets(packed, packed_views)
        picture = self.take_picture(packed, packed_views, cuts, np.array([roi.size for roi in rois]))
        infos = [SampleInfo(0, index, obj_id) for index, obj_id in zip(indices, names, strict=True)]
        return self.make_roi_batch(picture, packed, packed_views), truth, infos

    def draw_scenes(
        self, names: Sequence[int], rng: np.random.Generator, draws: Sequence[SceneDraw] | None = None
    ) -> tuple[list[SceneDraw], list[np.ndarray]]:
        """For each target id a scene that shows enough of it, and the xyxy box (4,) of its visible part.

        `draws` are tried first. Without occluders where that takes too many tries.
        """
        done: dict[int, tuple[SceneDraw, np.ndarray]] = {}
        for attempt in range(MAX_TRIES + 1):
            last = attempt == MAX_TRIES
            pending = [place for place in range(len(names)) if place not in done]
            if attempt or draws is None:
                draws = [self.drawer.draw(names[place], rng, occluded=not last) for place in pending]
            boxes, visible = self.probe(draws)
            for place, draw, box, share in zip(pending, draws, boxes, visible, strict=True):
                if share > 0 and (share >= self.options.min_visib or last):
                    done[place] = draw, box
            if len(done) == len(names):
                chosen, boxes = zip(*(done[place] for place in range(len(names))), strict=True)
                return list(chosen), list(boxes)
        missing = next(obj_id for place, obj_id in enumerate(names) if place not in done)
        raise UserError(f"object {missing} is never in the image; check CAD.K, CAD.IMAGE_SIZE and CAD.Z_RANGE")

    def probe(self, draws: Sequence[SceneDraw]) -> tuple[np.ndarray, np.ndarray]:
        """The visible boxes (B, 4) xyxy of the scenes' targets, and the shares (B,) of them that are seen.

        The share is 0 where a target is not wholly before the camera.
        """
        scenes = self._pack_scenes(draws)
        corners, ahead = scenes.image_boxes(self.caster, 0)
        low, cell = corners[:, None, :2], ((corners[:, 2:] - corners[:, :2]) / PROBE_CELLS)[:, None]
        steps = torch.arange(PROBE_CELLS, device=self.device) + 0.5
        uv = low + cell * torch.cartesian_prod(steps, steps)
        hits = scenes.cast(self.caster, 0, uv)
        seen = hits.hit & self._inside(uv)
        seen &= ~scenes.hidden(self.caster, uv, torch.where(seen, hits.depth, 0.0))
        first = torch.where(seen[..., None], uv, torch.inf).amin(dim=1) - cell[:, 0] / 2
        last = torch.where(seen[..., None], uv, -torch.inf).amax(dim=1) + cell[:, 0] / 2
        share = ahead * seen.sum(dim=1) / hits.hit.sum(dim=1).clamp_min(1)
        told = torch.cat([first, last, share[:, None]], dim=1).cpu().numpy()
        return told[:, :4], told[:, 4]

    def pack(self, draws: Sequence[SceneDraw]) -> PackedScenes:
        """Scenes in numbers, on the device."""
        materials = pack_materials([draw.materials for draw in draws], self.device)
        return PackedScenes(self._pack_scenes(draws), materials, pack_lights([d.lights for d in draws], self.device))

    def make_targets(self, packed: PackedScenes, views: DeviceViews) -> tuple[RoiTargets, DeviceCuts]:
        """The truth, and what a truncation takes away."""
        layers = cast_device_layers(self.caster, packed.scenes, views, self.trained)
        positions = views.positions(views.out)
        cuts = device_cuts(layers.visib, positions, self.augmentation.truncate_prob, self.pool.generator)
        return make_device_targets(packed.scenes, views, self.trained, layers, cuts.keeps(positions)), cuts

    def take_picture(self, packed: PackedScenes, views: DeviceViews, cuts: DeviceCuts, roi_sizes: np.ndarray) -> Tensor:
        """(B, in, in, 3) float32 RGB levels of crops before backgrounds, black where a window leaves the image.

        roi_sizes (B,): the windows' sides, pixels. Where `cuts` take cells away, the target's pixels show the
        background.
        """
        side = self.format.input_res
        positions = views.positions(side)
        hits = cast_scenes(self.caster, packed.scenes, positions.flatten(1, 2))
        rgb = self.shader.rgb(hits, packed.scenes, packed.materials, packed.lights).view(*positions.shape[:3], 3)
        owner = hits.owner.view(positions.shape[:3])
        shown = (owner > 0) | ((owner == 0) & cuts.keeps(positions))
        image = torch.where(shown[..., None], rgb, self.pool.backgrounds(len(rgb)))
        image = self.pool.take(image, self.options.sensor, side / roi_sizes)
        return torch.where(views.inside(positions)[..., None], image, 0.0)

    def make_roi_batch(self, picture: Tensor, packed: PackedScenes, views: DeviceViews) -> RoiBatch:
        """What the network sees of crops (B, in, in, 3) RGB, as `targets.make_roi_batch`."""
        row = self.trained.place[packed.scenes.objects[:, 0]]
        ordered = picture if self.format.pixel_format == "RGB" else picture.flip(-1)
        mean, std = (ordered.new_tensor(values) for values in (self.format.pixel_mean, self.format.pixel_std))
        last_pixel = views.K.new_tensor(views.image_size) - 1
        return RoiBatch(
            image=((ordered - mean) / std).movedim(-1, 1).contiguous(),
            roi_coord_2d=(views.positions(views.out) / last_pixel).movedim(-1, 1).float().contiguous(),
            K=views.K.float(),
            box_center=views.center.float(),
            box_wh=views.wh.float(),
            resize_ratio=(views.out / views.size).float(),
            extent=self.trained.extent[row].float(),
            class_index=self.trained.class_index[row],
        )

    def _pack_scenes(self, draws: Sequence[SceneDraw]) -> DeviceScenes:
        return pack_scenes([self.options.K] * len(draws), [draw.bodies for draw in draws], self.device)

    def _inside(self, uv: Tensor) -> Tensor:
        """(...) bool: which pixels (..., 2) lie on the image."""
        return ((uv >= -0.5) & (uv < uv.new_tensor(self.options.image_size) - 0.5)).all(dim=-1)
