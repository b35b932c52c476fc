"""A picture of training samples as the network gets them: crop, P, the three parts of Q, regions and masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from sopose.batch import Sample
from sopose.core.data.loader import sample_at
from sopose.core.data.replay import Place
from sopose.core.data.sources import SampleSource
from sopose.core.images.files import require_image_name, write_image
from sopose.core.utils.files import require_writable_file
from sopose.core.vis.maps import categories_to_rgb, coordinates_to_rgb, grid, pair_to_rgb
from sopose.data.build import build_train_dataset, build_training_cache
from sopose.data.cad_source import CadSource
from sopose.data.roi_input import RoiFormat, build_roi_format
from sopose.layers import plane_channels
from sopose.settings import load_settings

USES = 4  # of a window that is used again, at most
VISIBLE, HIDDEN, CUT = (255, 255, 255), (60, 90, 220), (220, 60, 60)


@dataclass(frozen=True)
class SamplesOptions:
    """What `sopose samples` takes, by the names of its options."""

    config_file: Path
    output: Path
    count: int = 12
    grid: int | None = None  # so many crops alone, in a square
    seed: int = 0
    size: int = 160  # side of a picture, pixels
    opts: Sequence[str] = ()


def draw_samples(options: SamplesOptions) -> int:
    """Write the picture; how many samples are in it.

    Raises `UserError` for a configuration or data that are wrong, and before any work for a picture that cannot be
    written.
    """
    require_writable_file(require_image_name(options.output))
    settings = load_settings(options.config_file, options.opts)
    source = build_train_dataset(settings, build_training_cache(settings))
    roi_format = build_roi_format(settings.input, settings.model)
    chosen = choose(source, options.grid or options.count, options.seed)
    samples = (
        sample_at(source, Place(options.seed, number), index, np.random.default_rng([options.seed, position]))
        for position, (number, index) in enumerate(tqdm(chosen, desc="samples"))
    )
    if options.grid:
        picture = crop_sheet([roi_format.image_array(roi.image.numpy()) for roi, _, _ in samples], options.size)
    else:
        rows = [grid(sample_panels(sample, roi_format), size=options.size) for sample in samples]
        picture = np.vstack(rows)[..., ::-1]
    write_image(options.output, picture)
    return len(chosen)


def sample_panels(sample: Sample, roi_format: RoiFormat) -> list[tuple[str, np.ndarray]]:
    """Titled RGB pictures of one sample."""
    roi, targets, info = sample
    on_object = targets.mask_obj.numpy() > 0
    panels = [
        (f"object {info.obj_id}", roi_format.image_array(roi.image.numpy())[..., ::-1]),
        ("P", coordinates_to_rgb(targets.P.numpy(), on_object)),
    ]
    for k, axis in enumerate("xyz"):
        panels.append((f"Q_{axis}", pair_to_rgb(targets.Q[plane_channels(k)].numpy(), targets.q_mask[k].numpy() > 0)))
    regions = targets.region.numpy()
    panels.append(("regions", categories_to_rgb(regions, regions > 0)))
    masks = np.zeros((*on_object.shape, 3), np.uint8)
    for mask, color in ((targets.mask_obj, HIDDEN), (targets.mask_visib, CUT), (targets.mask_trunc, VISIBLE)):
        masks[mask.numpy() > 0] = color
    return [*panels, ("masks", masks)]


def crop_sheet(crops: list[np.ndarray], size: int) -> np.ndarray:
    """Crops (in, in, 3) side by side, about as many across as down, each of side `size`; black where one lacks."""
    across = math.isqrt(len(crops) - 1) + 1
    tiles = [cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA) for crop in crops]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % across)
    return np.vstack([np.hstack(tiles[start : start + across]) for start in range(0, len(tiles), across)])


def choose(source: SampleSource, count: int, seed: int) -> list[tuple[int, int]]:
    """Numbers in a run and indices of at most `count` samples: any, or windows and several uses of each."""
    if not isinstance(source, CadSource) or source.pool is None:
        return [(int(index), int(index)) for index in np.random.default_rng(seed).permutation(len(source))[:count]]
    windows = source.pool.schedule.uses(seed, things=-(-count // USES), most=USES)
    numbers = [number for uses in windows.values() for number in uses][:count]
    return [(number, number % len(source)) for number in numbers]
