"""The numbers that scenes for a device are made of, drawn on the CPU: in this process or ahead by others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from torch.utils.data import Dataset

from sopose.core.data.loader import Loader
from sopose.core.data.roi import ImageSize
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.render.lights import LightRange, Lights
from sopose.core.render.materials import Material, MaterialRange
from sopose.core.render.shade import Shading
from sopose.core.synthesis.scene_sampling import OccluderRange, PoseRange
from sopose.core.synthesis.sensor import Sensor

T = TypeVar("T")


@dataclass(frozen=True)
class DeviceOptions:
    """What batches are drawn from."""

    K: np.ndarray  # (3, 3) pixels
    image_size: ImageSize  # (width, height)
    poses: PoseRange = field(default_factory=PoseRange)
    occluders: OccluderRange = field(default_factory=OccluderRange)
    materials: MaterialRange = field(default_factory=MaterialRange)
    lights: LightRange = field(default_factory=LightRange)
    sensor: Sensor = field(default_factory=Sensor)
    shading: Shading = field(default_factory=Shading)
    min_visib: float = 0.3  # visible fraction below which a scene is drawn again


@dataclass(frozen=True, eq=False)
class SceneDraw:
    """One scene in numbers, the target first; objects by their place in the caster."""

    bodies: list[tuple[int, Pose]]
    materials: list[Material]
    lights: Lights


class SceneDrawer:
    """Draws scenes of the trained objects in turn, among all models; whether a target is seen, rays must tell."""

    def __init__(self, models: Mapping[int, ObjectModel], trained: Sequence[int], options: DeviceOptions) -> None:
        """trained: the ids of those objects that are targets."""
        self.models, self.options = models, options
        self.ids, self.trained = sorted(models), sorted(trained)
        self._place = {obj_id: place for place, obj_id in enumerate(self.ids)}

    def target(self, index: int) -> int:
        """The id of the object that sample `index` shows."""
        return self.trained[index % len(self.trained)]

    def draw(self, obj_id: int, rng: np.random.Generator, occluded: bool = True) -> SceneDraw:
        """A scene of one target, without occluders where not `occluded`."""
        options, target = self.options, self.models[obj_id]
        frame = options.poses.draw(options.K, options.image_size, rng)
        pose = Pose(frame.cam_R_obj @ options.poses.draw_rest(target, rng), frame.cam_t_obj)
        others = [other for other in self.ids if other != obj_id] if occluded else []
        placed = options.occluders.draw(self.models, others, target, pose, rng)
        bodies = [(self._place[name], where) for name, where in [(obj_id, pose), *placed]]
        materials = [options.materials.draw(rng) for _ in bodies]
        return SceneDraw(bodies, materials, options.lights.draw(rng, pose.cam_t_obj))

    def stream(self, batches: range, size: int, seed: int, workers: int) -> Iterator[tuple[list[int], list[SceneDraw]]]:
        """Indices and scenes of these batches of `size`, drawn ahead by `workers` processes (0: here).

        They depend on the seed and the batch's number, not on the number of workers.
        """
        draws = _Draws(self, batches, size, seed)
        return iter(Loader(_only_one, dataset=draws, batch_size=1, num_workers=workers))


class _Draws(Dataset):
    """A batch of scenes by its number."""

    def __init__(self, drawer: SceneDrawer, batches: range, size: int, seed: int) -> None:
        self.drawer, self.batches, self.size, self.seed = drawer, batches, size, seed

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, place: int) -> tuple[list[int], list[SceneDraw]]:
        number = self.batches[place]
        rng = np.random.default_rng((self.seed, number))
        indices = list(range(number * self.size, (number + 1) * self.size))
        return indices, [self.drawer.draw(self.drawer.target(index), rng) for index in indices]


def _only_one(items: list[T]) -> T:
    (item,) = items
    return item
