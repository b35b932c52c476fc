"""Many objects before one camera: on a table, touching or apart, or floating clear of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sopose.core.data.roi import ImageSize
from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.resting import turned
from sopose.core.objects.model import ObjectModel
from sopose.core.synthesis.scene_sampling import NEAREST_OCCLUDER, OccluderRange, PoseRange, Table, resting_of
from sopose.core.utils.errors import UserError

PLACE_TRIES = 20  # for one object, before the image does without it
FRAME = 0.02  # share of the image's sides that objects' centres keep clear of


@dataclass(frozen=True)
class CrowdRange:
    """The objects of one image."""

    count: tuple[int, int] = (5, 15)
    floating_prob: float = 0.2  # of images whose objects float; of all where the poses know no table
    gap: tuple[float, float] = (0.0, 0.08)  # metres between neighbours on a table
    strangers: frozenset[int] = frozenset()  # models that images have beside the objects, and don't count as such
    stranger_count: tuple[int, int] = (0, 3)  # of an image, where there are some
    alone_prob: float = 0.0  # of images that have strangers alone

    def __post_init__(self) -> None:
        if not 1 <= self.count[0] <= self.count[1]:
            raise UserError(f"the number of objects must be (low, high), 1 <= low <= high, got {self.count}")
        for name, share in (("floating images", self.floating_prob), ("images without objects", self.alone_prob)):
            if not 0 <= share <= 1:
                raise UserError(f"the share of {name} must be in [0, 1], got {share}")

    def draw(
        self,
        models: Mapping[int, ObjectModel],
        poses: PoseRange,
        K: np.ndarray,
        image_size: ImageSize,
        rng: np.random.Generator,
    ) -> tuple[list[tuple[int, Pose]], Table | None]:
        """Object ids and poses, and the table where there is one.

        Objects differ as long as there are enough models. Where room is short there are fewer than drawn.
        """
        order = self._chosen(models, rng)
        view = _View(K, image_size)
        if not poses.has_table or rng.random() < self.floating_prob:
            return _floating(order, models, replace(poses, rotations="uniform"), view, rng), None
        return self._standing(order, models, poses, view, rng)

    def _chosen(self, models: Mapping[int, ObjectModel], rng: np.random.Generator) -> np.ndarray:
        """The ids of an image's objects, strangers behind the others."""
        own = sorted(models.keys() - self.strangers)
        count = int(rng.integers(self.count[0], self.count[1] + 1))
        order = np.concatenate([rng.permutation(own) for _ in range(-(-count // len(own)))])[:count]
        if not self.strangers:
            return order
        alone = rng.random() < self.alone_prob
        more = int(rng.integers(self.stranger_count[0], self.stranger_count[1] + 1))
        strangers = rng.permutation(sorted(self.strangers))[: max(more, 1) if alone else more]
        return strangers if alone else np.concatenate([order, strangers])

    def _standing(
        self,
        order: Sequence[int],
        models: Mapping[int, ObjectModel],
        poses: PoseRange,
        view: _View,
        rng: np.random.Generator,
    ) -> tuple[list[tuple[int, Pose]], Table]:
        first = models[int(order[0])]
        frame, frame_R_obj = poses.draw(view.K, view.image_size, rng), poses.draw_rest(first, rng)
        table = Table.under(first, frame, frame_R_obj)
        placed = [(first.obj_id, frame @ Pose(frame_R_obj, np.zeros(3)))]
        gaps = OccluderRange(gap=self.gap)
        for obj_id in order[1:]:
            model = models[int(obj_id)]
            for _ in range(PLACE_TRIES):
                lies = poses.rotations == "stable"
                table_R_obj = resting_of(model).draw(rng) if lies else turned(rng)
                pose = table.stand_beside(model, table_R_obj, lambda: gaps.draw_gap(rng), rng, view.shows(model))
                if pose is not None:
                    placed.append((model.obj_id, pose))
                    break
        return placed, table


@dataclass(frozen=True, eq=False)
class _View:
    """A camera K (3, 3) with images of `image_size` (width, height)."""

    K: np.ndarray
    image_size: ImageSize

    def shows(self, model: ObjectModel):
        """A test of poses: the object's origin is in the image, and the object not too near."""

        def test(pose: Pose) -> bool:
            if pose.cam_t_obj[2] < NEAREST_OCCLUDER + model.diameter / 2:
                return False
            share = project(pose.cam_t_obj, self.K) / (np.asarray(self.image_size) - 1)
            return bool((share > FRAME).all() and (share < 1 - FRAME).all())

        return test


def _floating(
    order: Sequence[int], models: Mapping[int, ObjectModel], poses: PoseRange, view: _View, rng: np.random.Generator
) -> list[tuple[int, Pose]]:
    """Objects whose bounding balls are clear of each other."""
    placed: list[tuple[int, Pose]] = []
    centers, radii = np.zeros((0, 3)), np.zeros(0)
    for obj_id in order:
        model = models[int(obj_id)]
        radius, middle = model.diameter / 2, model.bounds_min + model.extent / 2
        for _ in range(PLACE_TRIES):
            pose = poses.draw(view.K, view.image_size, rng)
            center = pose.transform(middle)
            clear = (np.linalg.norm(centers - center, axis=1) > radii + radius).all()
            if clear and view.shows(model)(pose):
                placed.append((model.obj_id, pose))
                centers, radii = np.vstack([centers, center]), np.append(radii, radius)
                break
    return placed
