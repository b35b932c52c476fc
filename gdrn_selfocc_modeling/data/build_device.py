"""From a configuration to batches that are rendered on a device (CAD.DEVICE)."""

from __future__ import annotations

import torch
from mmengine.config import Config

from sopose.core.utils.errors import UserError
from sopose.data.build import ObjectCache, build_augmentation, build_backgrounds, build_roi_format
from sopose.data.build_cad import build_cad_options, split_to_learn
from sopose.data.device_draws import DeviceOptions
from sopose.data.device_source import DeviceSource


def build_device_source(cfg: Config, device: torch.device, seed: int) -> DeviceSource:
    """What makes the training batches of one `*_cad` split on `device`.

    Raises `UserError` where DATASETS.TRAIN is anything else: annotated images are read by the loader's workers.
    """
    names = [*cfg.DATASETS.TRAIN, *(cfg.DATASETS.TRAIN2 if cfg.DATASETS.TRAIN2_RATIO > 0 else ())]
    specs = [split_to_learn(cfg, name) for name in names]
    if len(specs) != 1 or specs[0].split != "cad":
        raise UserError(
            f"CAD.DEVICE={cfg.CAD.DEVICE} renders one split of CAD models, DATASETS has {', '.join(names) or 'none'}; "
            "name one *_cad split, or set CAD.DEVICE=''"
        )
    (spec,) = specs
    objects = ObjectCache(cfg).get(spec)
    drawn = build_cad_options(cfg, spec.root)
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
        build_roi_format(cfg),
        build_augmentation(cfg, spec.kind),
        build_backgrounds(cfg),
        device,
        seed,
    )
