"""From settings to batches that are rendered on a device (CAD.DEVICE)."""

from __future__ import annotations

import torch

from sopose.core.utils.errors import UserError
from sopose.data.build import ObjectCache, build_augmentation, build_backgrounds, build_roi_format
from sopose.data.build_cad import build_cad_options, split_to_learn
from sopose.data.device_draws import DeviceOptions
from sopose.data.device_source import DeviceSource
from sopose.settings.groups import Settings


def build_device_source(settings: Settings, cache: ObjectCache, device: torch.device, seed: int) -> DeviceSource:
    """What makes the training batches of one `*_cad` split on `device`.

    Raises `UserError` where DATASETS.TRAIN is anything else: annotated images are read by the loader's workers.
    """
    cad, datasets, given = settings.cad, settings.datasets, settings.input
    names = [*datasets.train, *(datasets.train2 if datasets.train2_ratio > 0 else ())]
    specs = [split_to_learn(datasets, name) for name in names]
    if len(specs) != 1 or specs[0].split != "cad":
        raise UserError(
            f"CAD.DEVICE={cad.device} renders one split of CAD models, DATASETS has {', '.join(names) or 'none'}; "
            "name one *_cad split, or set CAD.DEVICE=''"
        )
    (spec,) = specs
    objects = cache.get(spec)
    drawn = build_cad_options(cad, datasets, spec.root)
    options = DeviceOptions(
        K=drawn.K,
        image_size=drawn.image_size,
        poses=drawn.poses,
        occluders=drawn.occluders,
        materials=drawn.look.materials,
        lights=drawn.look.lights,
        sensor=drawn.look.sensor,
        shading=drawn.look.shading,
        min_visib=drawn.min_visib,
    )
    return DeviceSource(
        objects.trained,
        objects.models,
        objects.casters,
        options,
        build_roi_format(given, settings.model),
        build_augmentation(given, cad, spec.kind),
        build_backgrounds(given),
        device,
        seed,
    )
