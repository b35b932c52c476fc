"""ROIs per second with pictures rendered on a device, part by part, and its rays against Embree on the CPU.

Every part waits for the device before and after it is timed; times are medians. The same pixels are then cast by
Embree on one core, and the hits compared.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from sopose.core.bop.models import load_models
from sopose.core.rays.casters import Caster, EmbreeCaster
from sopose.core.render.packed import PackedScenes
from sopose.core.render.shade import render_scenes
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.scenes import SceneDrawer, SceneOptions
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import require_writable_file, write_json
from sopose.data.cad_source import CadSource
from sopose.data.device_batches import DeviceRenderer, collate_drawn
from sopose.data.mapper import TrainAugmentation
from sopose.data.roi_input import RoiFormat
from sopose.data.targets import prepare_objects

K = np.array([[572.4, 0, 325.3], [0, 573.6, 242.0], [0, 0, 1]])  # of LINEMOD's camera
IMAGE_SIZE = (640, 480)
PARTS = {
    "draw": "scenes and their truth, by one process of the loader",
    "rays": "what the pixels see",
    "picture": "the same with light: lamps, shadows, ambient occlusion",
    "batch": "the same with backgrounds and camera, by threads",
}
EPILOG = """example:
  python tools/benchmarks/device.py --models datasets/BOP_DATASETS/lmo/models
  python tools/benchmarks/device.py --models datasets/BOP_DATASETS/lmo/models --device cpu --batch 2 --repeats 2
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, required=True, metavar="DIR", help="a BOP models folder")
    parser.add_argument("--device", default="cuda", help="where to render (default: cuda)")
    parser.add_argument("--backend", default="auto", choices=("auto", "torch", "triton"), help="of the ray caster")
    parser.add_argument("--batch", type=int, default=64, help="ROIs of a batch (default: 64)")
    parser.add_argument("--resolution", type=int, default=256, help="side of the crop (default: 256)")
    parser.add_argument("--repeats", type=int, default=20, help="measured batches, after two others (default: 20)")
    parser.add_argument("--workers", type=int, default=4, help="processes that draw, threads that finish (default: 4)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    args = parser.parse_args(argv)
    if min(args.batch, args.repeats, args.workers) < 1 or args.resolution < 4:
        parser.error("--batch, --repeats and --workers must be at least 1, --resolution at least 4")
    return args


def main(argv: list[str] | None = None) -> None:
    """Measure the parts of a batch, whole batches and the rays against Embree; print, and write the numbers."""
    args = parse_args(argv)
    if args.json:
        require_writable_file(args.json)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("torch sees no CUDA device: run where there is one, or give --device cpu with small numbers")
    source = _source(args)
    renderer = DeviceRenderer(source, args.device, args.workers, args.backend)
    device = renderer.meshes.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    seconds: dict[str, list[float]] = {part: [] for part in PARTS}
    with ThreadPoolExecutor(args.workers) as pool:
        for turn in tqdm(range(-2, args.repeats)):
            for part, value in _measure(renderer, args.batch, turn + 2, pool).items():
                seconds[part] += [value] if turn >= 0 else []
    result: dict[str, Any] = {
        **vars(args),
        "device": name,
        "backend": renderer.meshes.backend,
        "ms_per_batch": {part: 1e3 * median(values) for part, values in seconds.items()},
        "rois_per_second": _throughput(renderer, args),
        **_against_embree(renderer, args.batch),
    }
    _print(result)
    if args.json:
        write_json(args.json, {key: str(value) if isinstance(value, Path) else value for key, value in result.items()})


def _source(args: argparse.Namespace) -> CadSource:
    models = load_models(args.models)
    objects = prepare_objects(models, {obj_id: index for index, obj_id in enumerate(models)})
    drawer = SceneDrawer(models, SceneOptions(K, IMAGE_SIZE), Backgrounds())
    return CadSource(objects, drawer, RoiFormat(args.resolution, args.resolution // 4), TrainAugmentation())


def _measure(renderer: DeviceRenderer, batch: int, turn: int, pool: ThreadPoolExecutor) -> dict[str, float]:
    """Seconds of each part, for one batch."""
    source, device = renderer.source, renderer.meshes.device
    spent, drawn = _timed(device, lambda: collate_drawn(_draw(source, batch, turn)))
    scenes, windows = renderer.scenes(drawn[0])
    packed = _pack(renderer.caster, scenes, windows)
    rays, _ = _timed(device, packed.hits)
    shading = source.drawer.options.shading
    picture, _ = _timed(device, lambda: render_scenes(scenes, windows, shading, renderer.caster))
    whole, _ = _timed(device, lambda: renderer.rendered(drawn, pool))
    return dict(zip(PARTS, (spent, rays, picture, whole), strict=True))


def _draw(source: CadSource, batch: int, turn: int) -> list[Any]:
    return [source.draw(index, np.random.default_rng([turn, index])) for index in range(batch)]


def _pack(make_caster: Callable[..., Caster], scenes: list[Any], windows: list[np.ndarray]) -> PackedScenes:
    return PackedScenes(scenes, windows, make_caster([scene.meshes for scene in scenes]))


def _throughput(renderer: DeviceRenderer, args: argparse.Namespace) -> float:
    """ROIs per second of a stream of batches, as training calls it; the first two do not count."""
    stream = renderer.batches(args.batch, seed=1, workers=args.workers)
    for _ in range(2):
        next(stream)
    spent, _ = _timed(renderer.meshes.device, lambda: [next(stream) for _ in range(args.repeats)])
    stream.close()
    return args.batch * args.repeats / spent


def _against_embree(renderer: DeviceRenderer, batch: int) -> dict[str, Any]:
    """Pixels per second on the device and by Embree on one core, and how far the hits differ."""
    scenes, windows = renderer.scenes(collate_drawn(_draw(renderer.source, batch, 0))[0])
    seconds, hits = {}, {}
    for name, make_caster in (("device", renderer.caster), ("embree", EmbreeCaster)):
        packed = _pack(make_caster, scenes, windows)
        packed.hits()
        seconds[name], hits[name] = _timed(renderer.meshes.device, packed.hits)
    owner, expected = hits["device"].owner.cpu(), hits["embree"].owner
    same = owner == expected
    distance = (hits["device"].points_obj.cpu() - hits["embree"].points_obj)[same].norm(dim=1)
    return {
        "pixels": len(owner),
        "pixels_per_second": len(owner) / seconds["device"],
        "embree_pixels_per_second": len(owner) / seconds["embree"],
        "pixels_that_differ": int((~same).sum()),
        "largest_distance_m": float(distance.max()),
    }


def _timed(device: torch.device, work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of `work`, and what it gives; the device is idle before and after."""
    _wait(device)
    start = time.perf_counter()
    result = work()
    _wait(device)
    return time.perf_counter() - start, result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _print(result: dict[str, Any]) -> None:
    print(f"{result['device']}, back end {result['backend']}, torch {torch.__version__}")
    print(f"milliseconds for {result['batch']} ROIs of at most {result['resolution']} pixels a side (medians)")
    for part, what in PARTS.items():
        print(f"  {part:<8} {result['ms_per_batch'][part]:>10.2f}  {what}")
    print(f"{result['rois_per_second']:.1f} ROIs/s with {result['workers']} processes that draw ahead")
    ours, embree = 1e-6 * result["pixels_per_second"], 1e-6 * result["embree_pixels_per_second"]
    print(f"{ours:.2f} million pixels/s, Embree on one core {embree:.2f}")
    print(
        f"of {result['pixels']} pixels {result['pixels_that_differ']} see different bodies; "
        f"points differ by up to {result['largest_distance_m']:.1e} m"
    )


if __name__ == "__main__":
    run_cli(main)
