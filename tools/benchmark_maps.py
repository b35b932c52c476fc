"""Time of the P and Q maps of every object in a frame against the bare Embree call on the same rays.

Both are measured in turns, so that a busy machine slows both alike; medians are told. The bare call gets its
float32 rays ready-made, and names the triangles only; ours starts from pose and pixel positions and ends with
the P map, the six channels of Q and their masks.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from core.bop.datasets import resolve_split
from core.bop.models import ObjectModel, load_models
from core.bop.scene import ImageRecord, load_split
from core.data.roi import roi_positions, test_roi
from core.geometry.pose import Pose
from core.render.raycast import RayCaster, camera_rays
from core.utils.errors import UserError, run_cli
from core.utils.files import require_writable_file, write_json
from gdrn_selfocc_modeling.data.correspondence import cast_P
from gdrn_selfocc_modeling.data.self_occlusion import cast_Q

PAD_SCALE = 1.5  # an ROI's side in sides of its box, as in training and testing
NO_LIMIT = (1 << 20, 1 << 20)  # an ROI is cut to the image's longer side; here it needs no image
EPILOG = """example:
  python tools/benchmark_maps.py --dataset-root datasets/BOP_DATASETS/lmo
  python tools/benchmark_maps.py --dataset-root datasets/BOP_DATASETS/lmo --frames 10 --json output/maps.json
"""


@dataclass(frozen=True, eq=False)
class Job:
    """One instance at its ROI positions: for us, and as float32 rays for Embree."""

    caster: RayCaster
    model: ObjectModel
    pose: Pose
    K: np.ndarray  # (3, 3)
    positions: np.ndarray  # (out, out, 2) pixels
    scene: Any  # Embree's, in the object's frame, metres
    rays: tuple[np.ndarray, np.ndarray]  # origins and directions (out * out, 3) float32

    def maps(self) -> None:
        """P and Q, as the data loader computes them."""
        _, mask = cast_P(self.caster, self.pose, self.K, self.positions)
        cast_Q(self.pose, self.K, self.positions, mask, self.model.bounds_min, self.model.extent)

    def bare(self) -> None:
        """The same rays, Embree alone."""
        self.scene.run(*self.rays)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset-root", type=Path, required=True, metavar="DIR", help="a BOP folder")
    parser.add_argument("--split", default="test", help="split of it (default: test)")
    parser.add_argument(
        "--frames", type=int, default=3, help="frames to measure, those with most objects first (default: 3)"
    )
    parser.add_argument("--out", type=int, default=64, help="side of the maps (default: 64)")
    parser.add_argument("--repeats", type=int, default=40, help="measurements of each (default: 40)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    args = parser.parse_args(argv)
    if min(args.frames, args.out, args.repeats) < 1:
        parser.error("--frames, --out and --repeats must be at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.json:
        require_writable_file(args.json)
    spec = resolve_split(f"{args.dataset_root.resolve()}:{args.split}", args.dataset_root)
    records = load_split(spec, require_images=False)
    frames = sorted(records, key=lambda record: -len(record.instances))[: args.frames]
    models = load_models(spec.models_dir, {instance.obj_id for frame in frames for instance in frame.instances})
    casters = {obj_id: RayCaster(model.vertices, model.faces) for obj_id, model in models.items()}
    scenes = {obj_id: _bare_scene(model) for obj_id, model in models.items()}
    results = []
    for frame in frames:
        jobs = _jobs(frame, models, casters, scenes, args.out)
        title = f"scene {frame.scene_id} image {frame.im_id}"
        ours, bare = _in_turns(lambda j=jobs: _run(j, Job.maps), lambda j=jobs: _run(j, Job.bare), args.repeats, title)
        results.append(
            {
                "scene_id": frame.scene_id,
                "im_id": frame.im_id,
                "instances": len(jobs),
                "maps_s_per_instance": ours / len(jobs),
                "embree_s_per_instance": bare / len(jobs),
                "ratio": ours / bare,
            }
        )
    _print(results, args.out)
    if args.json:
        write_json(args.json, {"out": args.out, "repeats": args.repeats, "frames": results})


def _bare_scene(model: ObjectModel) -> Any:
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene()
    TriangleMesh(scene, model.vertices.astype(np.float32), model.faces.astype(np.int32))
    return scene


def _jobs(
    frame: ImageRecord,
    models: dict[int, ObjectModel],
    casters: dict[int, RayCaster],
    scenes: dict[int, Any],
    out: int,
) -> list[Job]:
    """One job for each instance that has a box. `UserError` where there is none."""
    jobs = []
    for instance in frame.instances:
        if instance.bbox_obj is None:
            continue
        positions = roi_positions(test_roi(instance.bbox_obj, NO_LIMIT, PAD_SCALE), out)
        origin, directions = camera_rays(instance.pose, frame.K, positions.reshape(-1, 2))
        origins = np.tile(origin.astype(np.float32), (len(directions), 1))
        jobs.append(
            Job(
                caster=casters[instance.obj_id],
                model=models[instance.obj_id],
                pose=instance.pose,
                K=frame.K,
                positions=positions,
                scene=scenes[instance.obj_id],
                rays=(origins, directions.astype(np.float32)),
            )
        )
    if not jobs:
        raise UserError(
            f"scene {frame.scene_id} image {frame.im_id} has no bbox_obj in its annotations; choose another split"
        )
    return jobs


def _run(jobs: list[Job], work: Callable[[Job], None]) -> None:
    for job in jobs:
        work(job)


def _in_turns(first: Callable[[], None], second: Callable[[], None], repeats: int, title: str) -> tuple[float, float]:
    """Median seconds of two functions, called alternately. Their first calls, which build, don't count."""
    seconds: tuple[list[float], list[float]] = ([], [])
    first()
    second()
    for _ in tqdm(range(repeats), desc=title):
        for function, spent in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            function()
            spent.append(time.perf_counter() - start)
    return float(np.median(seconds[0])), float(np.median(seconds[1]))


def _print(results: list[dict[str, Any]], out: int) -> None:
    print(f"P and Q at {out} x {out} ROI positions, milliseconds per instance (medians)")
    print(f"{'scene':>6} {'image':>6} {'objects':>8} {'maps':>8} {'Embree':>8} {'ratio':>6}")
    for row in results:
        maps, embree = 1e3 * row["maps_s_per_instance"], 1e3 * row["embree_s_per_instance"]
        place = f"{row['scene_id']:>6} {row['im_id']:>6} {row['instances']:>8}"
        print(f"{place} {maps:>8.3f} {embree:>8.3f} {row['ratio']:>6.2f}")


if __name__ == "__main__":
    run_cli(main)
