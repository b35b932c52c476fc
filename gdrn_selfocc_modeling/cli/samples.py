"""Draw training samples as the network gets them: crop, P, the three parts of Q, regions and masks.

What looks wrong here is learned wrong; look before a long training. Where rendered windows are used again (CAD.REUSE),
samples of one window come one after another: same pose and light, another crop, background, camera.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from sopose.core.data.replay import Place
from sopose.core.images.files import require_image_name, write_image
from sopose.core.utils.files import require_writable_file
from sopose.core.vis.maps import categories_to_rgb, coordinates_to_rgb, grid, pair_to_rgb
from sopose.settings import load_settings

if TYPE_CHECKING:
    from sopose.batch import Sample
    from sopose.core.data.sources import SampleSource
    from sopose.data.roi_input import RoiFormat

EXAMPLES = """examples:
  sopose samples --config-file configs/gdrn_selfocc/toy/demo.py
  sopose samples --config-file configs/gdrn_selfocc/lmo/cad_only.py --count 24 \\
      --output output/lmo.png --opts DATASETS.ROOT=path/to/bop INPUT.BG_IMGS_ROOT=path/to/photos
  sopose samples --config-file configs/gdrn_selfocc/toy/from_cad.py --grid 64 --output output/grid.jpg

In the column of masks, white is visible, blue hidden, and red cut away by truncation.
"""
USES = 4  # of a window that is used again, at most
VISIBLE, HIDDEN, CUT = (255, 255, 255), (60, 90, 220), (220, 60, 60)


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--config-file", type=Path, required=True, help="a .py or .yaml configuration")
    parser.add_argument("--count", type=int, default=12, help="samples to draw (default 12)")
    parser.add_argument("--grid", type=int, metavar="N", help="draw the crops alone of N samples, in a square")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other samples")
    parser.add_argument("--size", type=int, default=160, help="side of a picture in pixels (default 160)")
    parser.add_argument("--output", type=Path, default=Path("output/samples.png"), help="the picture to write")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if min(args.count, args.size, 1 if args.grid is None else args.grid) < 1 or args.seed < 0:
        parser.error("--count, --grid and --size must be at least 1, --seed at least 0")


def sample_panels(sample: Sample, roi_format: RoiFormat) -> list[tuple[str, np.ndarray]]:
    """Titled RGB pictures of one sample."""
    from sopose.layers import plane_channels

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
    from sopose.data.cad_source import CadSource

    if not isinstance(source, CadSource) or source.pool is None:
        return [(int(index), int(index)) for index in np.random.default_rng(seed).permutation(len(source))[:count]]
    windows = source.pool.schedule.uses(seed, things=-(-count // USES), most=USES)
    numbers = [number for uses in windows.values() for number in uses][:count]
    return [(number, number % len(source)) for number in numbers]


def handle(args: argparse.Namespace) -> None:
    """Write the picture."""
    from sopose.core.data.loader import sample_at
    from sopose.data.build import ObjectCache, build_train_dataset
    from sopose.data.roi_input import build_roi_format

    require_writable_file(require_image_name(args.output))
    settings = load_settings(args.config_file, args.opts)
    source = build_train_dataset(settings, ObjectCache(settings.datasets, settings.model.pose_net))
    roi_format = build_roi_format(settings.input, settings.model)
    chosen = choose(source, args.grid or args.count, args.seed)
    samples = (
        sample_at(source, Place(args.seed, number), index, np.random.default_rng([args.seed, position]))
        for position, (number, index) in enumerate(tqdm(chosen, desc="samples"))
    )
    if args.grid:
        picture = crop_sheet([roi_format.image_array(roi.image.numpy()) for roi, _, _ in samples], args.size)
    else:
        rows = [grid(sample_panels(sample, roi_format), size=args.size) for sample in samples]
        picture = np.vstack(rows)[..., ::-1]
    write_image(args.output, picture)
    print(f"{len(chosen)} samples drawn in {args.output}")
