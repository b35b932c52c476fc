"""Training batches whose pictures a GPU renders: the samples of `CadSource`, many at once.

The loader's processes draw scenes and their truth, the device casts and lights the pictures, and threads of this
process put them before backgrounds and through the camera. Rays and light are four fifths of what a sample takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from sopose.batch import RoiBatch, RoiTargets, SampleInfo, collate
from sopose.core.data.loader import make_train_loader
from sopose.core.rays.bvh_caster import Backend, BvhCaster, BvhMeshes
from sopose.core.rays.casters import PosedMeshes
from sopose.core.render.packed import Scene
from sopose.core.render.shade import render_scenes
from sopose.core.synthesis.windows import foreground_of
from sopose.data.cad_source import CadSource, DrawnCrop
from sopose.data.roi_input import make_roi_batch

Batch = tuple[RoiBatch, RoiTargets, list[SampleInfo]]
DrawnBatch = tuple[list[DrawnCrop], RoiTargets, list[SampleInfo]]


class DeviceRenderer:
    """Renders what a `CadSource` draws, on a device."""

    def __init__(
        self, source: CadSource, device: torch.device | str, threads: int = 1, backend: Backend = "auto"
    ) -> None:
        """`threads` finish the pictures."""
        self.source, self.threads = source, threads
        self.meshes = BvhMeshes([model.caster for model in source.drawer.models.values()], device, backend)

    def batches(self, size: int, seed: int, workers: int = 0, **shares: int) -> Iterator[Batch]:
        """The batches that `make_train_loader` makes of the source's samples, whose arguments these are."""
        drawn = make_train_loader(_Drawings(self.source), collate_drawn, size, seed, workers, **shares)
        with ThreadPoolExecutor(self.threads) as pool:
            for batch in drawn:
                yield self.rendered(batch, pool)

    def rendered(self, batch: DrawnBatch, pool: ThreadPoolExecutor) -> Batch:
        """A batch with its pictures, in the host's memory."""
        crops, targets, infos = batch
        pictures = render_scenes(*self.scenes(crops), self.source.drawer.options.shading, self.caster)
        shapes = [crop.positions[crop.window].shape[:2] for crop in crops]
        images = pool.map(self.source.finish, crops, map(foreground_of, pictures, shapes))
        return collate(list(pool.map(self._roi, crops, infos, images))), targets, infos

    def scenes(self, crops: Sequence[DrawnCrop]) -> tuple[list[Scene], list[np.ndarray]]:
        """The crops' scenes, and the pixels (h, w, 2) at which each is to be rendered."""
        models = self.source.drawer.models
        return [crop.scene.of(models) for crop in crops], [crop.positions[crop.window] for crop in crops]

    def caster(self, scenes: Sequence[PosedMeshes]) -> BvhCaster:
        """Rays against scenes of the source's models."""
        return BvhCaster(self.meshes, scenes)

    def _roi(self, crop: DrawnCrop, info: SampleInfo, image: np.ndarray) -> RoiBatch:
        target = self.source.objects[info.obj_id]
        return make_roi_batch(image, crop.view, target.model.extent, target.class_index, self.source.format).tensors()


class _Drawings:
    """The samples of a source before their pictures (a `sopose.core.data.loader.SampleSource`)."""

    def __init__(self, source: CadSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def sample(self, index: int, rng: np.random.Generator) -> tuple[DrawnCrop, RoiTargets, SampleInfo]:
        return self.source.draw(index, rng)


def collate_drawn(samples: Sequence[tuple[DrawnCrop, RoiTargets, SampleInfo]]) -> DrawnBatch:
    """One batch of what `CadSource.draw` gives."""
    crops, targets, infos = zip(*samples, strict=True)
    return list(crops), collate(targets), list(infos)
