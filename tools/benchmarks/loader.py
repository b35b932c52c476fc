"""How fast training samples and images are rendered from CAD models, and where the time goes.

One thread, medians. Parts of a sample are timed in the same run as the whole, so that a busy machine slows all alike;
processor time is given beside wall time, which on a busy machine is what the work takes. Loaders with one and two
workers take turns.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from sopose.batch import collate_samples
from sopose.core.data.loader import make_train_loader
from sopose.core.rays.raycast import RayCaster
from sopose.core.render import shade
from sopose.core.synthesis.many_objects import CrowdRange
from sopose.core.synthesis.rendered_image import render_image
from sopose.core.synthesis.scenes import SceneDrawer
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import require_writable_file, write_json
from sopose.data import cad_source
from sopose.data.build import build_train_dataset, build_training_cache
from sopose.data.cad_source import CadSource
from sopose.settings import load_settings

EPILOG = """example:
  OMP_NUM_THREADS=1 python tools/benchmarks/loader.py --config-file configs/gdrn_selfocc/lmo/cad_only.py \\
      --opts DATASETS.ROOT=path/to/bop INPUT.BG_IMGS_ROOT=path/to/photos

Parts are shares of a sample's processor time. rays: Embree and what surrounds it, everywhere; maps: P and Q with
their rays; shading: the picture from the hits on, shadow rays included.
"""
# What is timed, by the name of the part; parts may overlap.
PARTS: dict[str, list[tuple[Any, str]]] = {
    "scene": [(SceneDrawer, "around")],
    "picture": [(cad_source, "render_rgb"), (CadSource, "finish")],
    "shading": [(shade, "shade")],
    "rays": [(RayCaster, "first_hit"), (RayCaster, "occluded")],
    "maps": [(cad_source, "cast_layers")],
    "targets": [(cad_source, "make_targets")],
}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True, help="a configuration that trains on a _cad split")
    parser.add_argument("--samples", type=int, default=200, help="samples to time (default: 200)")
    parser.add_argument("--images", type=int, default=10, help="whole images to time (default: 10)")
    parser.add_argument("--objects", type=int, default=15, help="objects in an image (default: 15)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of the loaders (default: 5; 0 leaves them out)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    args = parser.parse_args(argv)
    if min(args.samples, args.images, args.objects) < 1 or args.rounds < 0:
        parser.error("--samples, --images and --objects must be at least 1, --rounds at least 0")
    return args


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse_args(argv)
    if args.json:
        require_writable_file(args.json)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    settings = load_settings(args.config_file, args.opts)
    source = build_train_dataset(settings, build_training_cache(settings))
    if not isinstance(source, CadSource):
        names = ", ".join(settings.datasets.train)
        raise UserError(f"DATASETS.TRAIN is {names}; name one split that ends in _cad, and none in DATASETS.TRAIN2")
    results = {
        "samples": time_samples(source, args.samples),
        "image": time_images(source, args.images, args.objects),
    }
    if args.rounds:
        results["workers"] = time_loaders(source, settings.solver.ims_per_batch, args.rounds)
    report(results, args.objects)
    if args.json:
        write_json(args.json, results)


def time_samples(source: CadSource, count: int) -> dict[str, float]:
    """Median milliseconds of a sample, wall and processor, and shares of its parts (of the sums)."""
    wall, cpu = [], []
    for index in range(8):
        source.sample(index, np.random.default_rng([1, index]))
    for index in tqdm(range(count), desc="samples"):
        start = time.perf_counter(), time.process_time()
        source.sample(index, np.random.default_rng(index))
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    with timed_parts() as spent:
        start_cpu = time.process_time()
        for index in range(count):
            source.sample(index, np.random.default_rng(index))
        total = time.process_time() - start_cpu
    medians = {"wall_ms": 1e3 * float(np.median(wall)), "cpu_ms": 1e3 * float(np.median(cpu))}
    rates = {"rois_per_s": 1 / float(np.mean(wall)), "rois_per_cpu_s": 1 / float(np.mean(cpu))}
    return {**medians, **rates, **{f"share_{name}": spent[name] / total for name in PARTS}}


@contextmanager
def timed_parts() -> Iterator[dict[str, float]]:
    """Processor seconds spent in each of `PARTS` while the context is open."""
    spent: dict[str, float] = defaultdict(float)
    originals = [(owner, name, getattr(owner, name)) for pairs in PARTS.values() for owner, name in pairs]

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part] += time.process_time() - start

        return call

    try:
        for part, pairs in PARTS.items():
            for owner, name in pairs:
                setattr(owner, name, timed(getattr(owner, name), part))
        yield spent
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)


def time_images(source: CadSource, count: int, objects: int) -> dict[str, float]:
    """Median seconds of a rendered image with so many objects and all its annotations, without writing it."""
    given = source.drawer
    poses = replace(given.options.poses, rotations="stable" if given.options.poses.has_table else "uniform")
    options = replace(given.options, poses=poses, crowd=CrowdRange((objects, objects)))
    drawer = SceneDrawer(given.models, options, given.backgrounds)
    wall, cpu = [], []
    for index in tqdm(range(-1, count), desc="images"):
        rng = np.random.default_rng([2, index + 1])
        start = time.perf_counter(), time.process_time()
        render_image(drawer, rng)
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    return {"wall_s": float(np.median(wall[1:])), "cpu_s": float(np.median(cpu[1:]))}  # the first one builds


def time_loaders(source: CadSource, batch_size: int, rounds: int, batches: int = 12) -> dict[str, float]:
    """Samples a second of loaders with one and two workers, medians of turns, and their ratio."""
    loaders = {n: iter(make_train_loader(source, collate_samples, batch_size, seed=n, num_workers=n)) for n in (1, 2)}
    for loader in loaders.values():
        for _ in range(4):
            next(loader)
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in tqdm(range(rounds), desc="loaders"):
        for number, loader in loaders.items():
            # What was prepared while the other loader was measured is not counted.
            for _ in range(2 * number + 1):
                next(loader)
            start = time.perf_counter()
            for _ in range(batches):
                next(loader)
            rates[number].append(batches * batch_size / (time.perf_counter() - start))
    one, two = (float(np.median(rates[number])) for number in (1, 2))
    return {"one_per_s": one, "two_per_s": two, "ratio": float(np.median(np.divide(rates[2], rates[1])))}


def report(results: dict[str, dict[str, float]], objects: int) -> None:
    """Print the numbers."""
    sample, image = results["samples"], results["image"]
    print(
        f"sample: {sample['wall_ms']:.1f} ms ({sample['cpu_ms']:.1f} ms of the processor), "
        f"{sample['rois_per_s']:.1f} ROIs/s, {sample['rois_per_cpu_s']:.1f} per processor second"
    )
    print("  " + ", ".join(f"{name} {100 * sample[f'share_{name}']:.0f} %" for name in PARTS))
    print(f"image with {objects} objects: {image['wall_s']:.2f} s ({image['cpu_s']:.2f} s of the processor)")
    if "workers" in results:
        loaders = results["workers"]
        print(
            f"loader: {loaders['one_per_s']:.1f} ROIs/s with one worker, {loaders['two_per_s']:.1f} with two: "
            f"{loaders['ratio']:.2f}x"
        )


if __name__ == "__main__":
    run_cli(main)
