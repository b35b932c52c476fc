"""ROIs per second of the device source, part by part, and its rays against Embree on the CPU.

One batch after the other is drawn and made; every part waits for the device before and after it is timed, and
medians are told. The same rays are then cast by Embree on one core, and the hits compared.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from sopose.core.bop.models import load_models
from sopose.core.data.roi import RoiView, roi_positions
from sopose.core.geometry.pose import Pose
from sopose.core.rays.raycast import RayCaster
from sopose.core.render.device_scene import cast_scenes
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import require_writable_file, write_json
from sopose.data.device_draws import DeviceOptions, SceneDraw
from sopose.data.device_source import DeviceSource
from sopose.data.device_targets import pack_views
from sopose.data.mapper import TrainAugmentation
from sopose.data.targets import RoiFormat, prepare_objects

K = np.array([[572.4, 0, 325.3], [0, 573.6, 242.0], [0, 0, 1]])  # of LINEMOD's camera
IMAGE_SIZE = (640, 480)
PARTS = {
    "draw": "scenes drawn, probed and packed",
    "maps": "P, Q, masks, regions (rays and formulas)",
    "rays": "rays of the picture, target and occluders",
    "light": "colours, lamps, shadows, ambient occlusion",
    "picture": "the whole picture: rays, light, background, camera",
    "batch": "everything, one process",
}
EPILOG = """example:
  python tools/benchmark_device.py --models datasets/BOP_DATASETS/lmo/models
  python tools/benchmark_device.py --models datasets/BOP_DATASETS/lmo/models --device cpu --batch 2 --repeats 2
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, required=True, metavar="DIR", help="a BOP models folder")
    parser.add_argument("--device", default="cuda", help="where to run (default: cuda)")
    parser.add_argument("--backend", default="auto", choices=("auto", "torch", "triton"), help="of the ray caster")
    parser.add_argument("--batch", type=int, default=64, help="ROIs of a batch (default: 64)")
    parser.add_argument("--resolution", type=int, default=256, help="side of the picture (default: 256)")
    parser.add_argument("--repeats", type=int, default=20, help="measured batches, after two others (default: 20)")
    parser.add_argument("--workers", type=int, default=4, help="processes that draw scenes ahead (default: 4)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    args = parser.parse_args(argv)
    if min(args.batch, args.repeats) < 1 or args.resolution < 4:
        parser.error("--batch and --repeats must be at least 1, --resolution at least 4")
    return args


def main(argv: list[str] | None = None) -> None:
    """Measure the parts of a batch, whole batches and the rays against Embree; print, and write the numbers."""
    args = parse_args(argv)
    if args.json:
        require_writable_file(args.json)
    device = _device(args.device)
    source = _source(args, device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    print(f"{name}, back end {source.caster.backend}, torch {torch.__version__}")
    seconds: dict[str, list[float]] = {part: [] for part in PARTS}
    rng = np.random.default_rng(0)
    for turn in tqdm(range(-2, args.repeats)):
        spent = dict(_measure(source, args.batch, rng))
        if turn >= 0:
            for part, value in spent.items():
                seconds[part].append(value)
    result: dict[str, Any] = {**vars(args), "device": name, "backend": source.caster.backend}
    result["ms_per_batch"] = {part: 1e3 * median(values) for part, values in seconds.items()}
    result["rois_per_second"] = _throughput(source, args)
    result |= _against_embree(source, args.batch, rng)
    _print(result)
    if args.json:
        write_json(args.json, {key: str(value) if isinstance(value, Path) else value for key, value in result.items()})


def _device(name: str) -> torch.device:
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("torch sees no CUDA device: run where there is one, or give --device cpu with small numbers")
    return torch.device(name)


def _source(args: argparse.Namespace, device: torch.device) -> DeviceSource:
    models = load_models(args.models)
    casters = {obj_id: RayCaster(model.vertices, model.faces) for obj_id, model in models.items()}
    objects = prepare_objects(models, casters, {obj_id: index for index, obj_id in enumerate(models)})
    roi_format = RoiFormat(args.resolution, args.resolution // 4)
    parts = (DeviceOptions(K, IMAGE_SIZE), roi_format, TrainAugmentation(truncate_prob=0.5), Backgrounds())
    return DeviceSource(objects, models, casters, *parts, device, backend=args.backend, pool_size=64)


def _measure(source: DeviceSource, batch: int, rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    """Seconds of each part, for one batch."""
    draws, views = _draw(source, batch, rng)
    yield "draw", _timed(source.device, lambda: source.pack(_draw(source, batch, rng)[0]))
    packed, packed_views = source.pack(draws), pack_views(views, source.device)
    with _watch(source.device) as spent:
        _, cuts = source.make_targets(packed, packed_views)
    yield "maps", spent[0]
    uv = packed_views.positions(source.format.input_res).flatten(1, 2)
    with _watch(source.device) as spent:
        hits = cast_scenes(source.caster, packed.scenes, uv)
    yield "rays", spent[0]
    looks = packed.materials, packed.lights
    yield "light", _timed(source.device, lambda: source.shader.rgb(hits, packed.scenes, *looks))
    sizes = np.array([view.roi.size for view in views])
    yield "picture", _timed(source.device, lambda: source.take_picture(packed, packed_views, cuts, sizes))
    yield "batch", _timed(source.device, lambda: source.batch(range(batch), rng))


def _throughput(source: DeviceSource, args: argparse.Namespace) -> float:
    """ROIs per second of a stream of batches, as training calls it; the first two do not count."""
    stream = source.batches(range(args.repeats + 2), args.batch, seed=1, workers=args.workers)
    for _ in range(2):
        next(stream)
    with _watch(source.device) as spent:
        for _ in stream:
            pass
    return args.batch * args.repeats / spent[0]


def _draw(source: DeviceSource, batch: int, rng: np.random.Generator) -> tuple[list[SceneDraw], list[RoiView]]:
    """Scenes of all objects in turn, and a view of each."""
    draws, boxes = source.draw_scenes([source.drawer.target(index) for index in range(batch)], rng)
    rois = [source.augmentation.draw_roi(box, IMAGE_SIZE, rng) for box in boxes]
    return draws, [RoiView(K, IMAGE_SIZE, roi, source.format.output_res) for roi in rois]


def _against_embree(source: DeviceSource, batch: int, rng: np.random.Generator) -> dict[str, Any]:
    """Rays per second of targets alone on the device and by Embree on one core, and how far their hits differ."""
    draws, views = _draw(source, batch, rng)
    packed, packed_views = source.pack(draws), pack_views(views, source.device)
    uv = packed_views.positions(source.format.input_res).flatten(1, 2)
    packed.scenes.cast(source.caster, 0, uv)
    seconds = _timed(source.device, lambda: packed.scenes.cast(source.caster, 0, uv))
    hits = packed.scenes.cast(source.caster, 0, uv)
    models = [source.drawer.models[obj_id] for obj_id in source.drawer.ids]
    casters = [RayCaster(model.vertices, model.faces) for model in models]
    jobs = [(casters[draw.bodies[0][0]], draw.bodies[0][1], view) for draw, view in zip(draws, views, strict=True)]
    embree, missing, largest = 0.0, 0, 0.0
    for (caster, pose, view), hit, points in zip(
        jobs, hits.hit.cpu().numpy(), hits.points_obj.cpu().numpy(), strict=True
    ):
        spent, differing, distance = _embree(caster, pose, view, source.format.input_res, hit, points)
        embree, missing, largest = embree + spent, missing + differing, max(largest, distance)
    count = uv.shape[0] * uv.shape[1]
    return {
        "rays": count,
        "rays_per_second": count / seconds,
        "embree_rays_per_second": count / embree,
        "rays_hit_by_one_only": missing,
        "largest_distance_m": largest,
    }


def _embree(
    caster: RayCaster, pose: Pose, view: RoiView, side: int, hit: np.ndarray, points: np.ndarray
) -> tuple[float, int, float]:
    """Embree's seconds for one ROI, the number of rays that only one of the two sees hit, the largest distance."""
    uv = roi_positions(view.roi, side).reshape(-1, 2)
    caster.cast(pose, view.K, uv[:1])
    start = time.perf_counter()
    expected = caster.cast(pose, view.K, uv)
    spent = time.perf_counter() - start
    here = np.zeros(len(uv), bool)
    here[expected.ray] = True
    both = hit[expected.ray]
    distance = np.linalg.norm(points[expected.ray[both]] - expected.points_obj[both], axis=1)
    return spent, int((here != hit).sum()), float(distance.max(initial=0.0))


@contextmanager
def _watch(device: torch.device) -> Iterator[list[float]]:
    """A list that holds the seconds of the block when it ends; the device is idle before and after."""
    spent: list[float] = []
    _wait(device)
    start = time.perf_counter()
    yield spent
    _wait(device)
    spent.append(time.perf_counter() - start)


def _timed(device: torch.device, work: Callable[[], Any]) -> float:
    with _watch(device) as spent:
        work()
    return spent[0]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _print(result: dict[str, Any]) -> None:
    print(f"milliseconds for {result['batch']} ROIs at {result['resolution']} x {result['resolution']} (medians)")
    for part, told in PARTS.items():
        print(f"  {part:<8} {result['ms_per_batch'][part]:>10.2f}  {told}")
    print(f"{result['rois_per_second']:.1f} ROIs/s with {result['workers']} processes that draw scenes ahead")
    ours, embree = 1e-6 * result["rays_per_second"], 1e-6 * result["embree_rays_per_second"]
    print(f"targets alone: {ours:.1f} million rays/s, Embree on one core {embree:.1f}")
    print(
        f"of {result['rays']} rays {result['rays_hit_by_one_only']} hit for one of the two only; "
        f"points differ by up to {result['largest_distance_m']:.1e} m"
    )


if __name__ == "__main__":
    run_cli(main)
