"""Time of the P and Q maps of every object in a frame against the bare Embree call on the same rays.

Both are measured in turns, in processor time, so that a busy machine slows both alike; medians are given. The bare
call gets its float32 rays ready-made, and names the triangles only; ours starts from pose and pixel positions and
ends with the P map, the six channels of Q and their masks.

With --reference the maps of one object at the pixels of its box are also made as the ancestor's tools do, in
loops over faces and pixels.
"""

from __future__ import annotations

import argparse
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from sopose.core.bop.models import load_models
from sopose.core.bop.scene import ImageRecord, load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.data.roi import eval_roi, roi_positions
from sopose.core.geometry.camera import pixel_grid, project
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.raycast import camera_rays
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import require_writable_file, write_json
from sopose.layers import Layers, cast_both

PAD_SCALE = 1.5  # an ROI's side in sides of its box, as in training and testing
NO_LIMIT = (1 << 20, 1 << 20)  # an ROI is cut to the image's longer side; here it needs no image
EPILOG = """example:
  python tools/benchmarks/maps.py --dataset-root datasets/BOP_DATASETS/lmo
  python tools/benchmarks/maps.py --dataset-root datasets/BOP_DATASETS/lmo --frames 10 --json output/maps.json
"""


@dataclass(frozen=True, eq=False)
class Job:
    """One instance at its ROI positions: for us, and as float32 rays for Embree."""

    model: ObjectModel
    pose: Pose
    K: np.ndarray  # (3, 3)
    positions: np.ndarray  # (out, out, 2) pixels
    scene: Any  # Embree's, in the object's frame, metres
    rays: tuple[np.ndarray, np.ndarray]  # origins and directions (out * out, 3) float32

    def maps(self) -> None:
        """P and Q, as the data loader computes them."""
        cast_both(self.model, self.pose, self.K, self.positions)

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
    parser.add_argument("--reference", type=int, metavar="OBJ_ID", help="compare with loops over faces and pixels")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    args = parser.parse_args(argv)
    if min(args.frames, args.out, args.repeats) < 1:
        parser.error("--frames, --out and --repeats must be at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    """Measure, and print one line for each frame."""
    args = parse_args(argv)
    if args.json:
        require_writable_file(args.json)
    spec = resolve_split(f"{args.dataset_root.absolute()}:{args.split}", args.dataset_root)
    records = load_split(spec, require_images=False)
    frames = sorted(records, key=lambda record: -len(record.instances))[: args.frames]
    models = load_models(spec.models_dir, {instance.obj_id for frame in frames for instance in frame.instances})
    scenes = {obj_id: _bare_scene(model) for obj_id, model in models.items()}
    results = []
    for frame in frames:
        jobs = _jobs(frame, models, scenes, args.out)
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
    report = {"out": args.out, "repeats": args.repeats, "frames": results}
    if args.reference is not None:
        report["reference"] = _compare_with_loops(records, args.reference, load_models(spec.models_dir), args.repeats)
    if args.json:
        write_json(args.json, report)


def _bare_scene(model: ObjectModel) -> Any:
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene()
    TriangleMesh(scene, model.vertices.astype(np.float32), model.faces.astype(np.int32))
    return scene


def _jobs(
    frame: ImageRecord,
    models: dict[int, ObjectModel],
    scenes: dict[int, Any],
    out: int,
) -> list[Job]:
    """One job for each instance that has a box. `UserError` where there is none."""
    jobs = []
    for instance in frame.instances:
        if instance.bbox_obj is None:
            continue
        positions = roi_positions(eval_roi(instance.bbox_obj, NO_LIMIT, PAD_SCALE), out)
        origin, directions = camera_rays(instance.pose, frame.K, positions.reshape(-1, 2))
        origins = np.tile(origin.astype(np.float32), (len(directions), 1))
        jobs.append(
            Job(
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


def _compare_with_loops(
    records: list[ImageRecord], obj_id: int, models: dict[int, ObjectModel], repeats: int
) -> dict[str, float]:
    """Seconds of an instance's maps at the pixels of its box, by loops over faces and pixels, and by ours."""
    found = ((r, i) for r in records for i in r.instances if i.obj_id == obj_id and i.bbox_obj is not None)
    record, instance = next(found, (None, None))
    if instance is None:
        raise UserError(f"no instance of object {obj_id} has a bbox_obj in this split; choose another --reference")
    model = models[obj_id]
    # Annotated rotations are rounded: loops in the camera's frame and rays in the object's would differ by that.
    pose = Pose(Rotation.from_matrix(instance.pose.cam_R_obj).as_matrix(), instance.pose.cam_t_obj)
    x1, y1, x2, y2 = (int(edge) for edge in instance.bbox_obj)
    positions = pixel_grid(x2 - x1 + 1, y2 - y1 + 1) + np.array([x1, y1])

    def ours() -> Layers:
        return cast_both(model, pose, record.K, positions)

    started = time.perf_counter()
    loop_P, loop_Q = maps_by_loops(model, pose, record.K, positions)
    loops = time.perf_counter() - started
    layers = ours()
    P, Q = layers.P_obj, layers.Q_obj
    seconds = [timeit.timeit(ours, number=1) for _ in range(repeats)]
    result = {"loops_s": loops, "maps_s": float(np.median(seconds)), "pixels": int((P != 0).any(-1).sum())}
    both = (P != 0).any(-1) & (loop_P != 0).any(-1)
    deviation = max(np.abs(P - loop_P)[both].max(), np.abs(Q - loop_Q)[both & (loop_Q != 0).any(-1)].max())
    print(
        f"object {obj_id}, {result['pixels']} of {both.size} pixels, {len(model.faces)} faces: loops {loops:.2f} s, "
        f"ours {1e3 * result['maps_s']:.3f} ms, ratio {loops / result['maps_s']:.0f}; they agree to "
        f"{1e3 * deviation:.0e} mm"
    )
    return result


def maps_by_loops(
    model: ObjectModel, pose: Pose, K: np.ndarray, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """P (h, w, 3) and Q (h, w, 6) as the ancestor's tools make them: a loop over faces, over pixels, over planes.

    Each face visits the pixels of its projected box, rounded outwards, and the nearest hit stays.
    """
    height, width, _ = positions.shape
    left, top = positions[0, 0]
    P, Q, nearest = np.zeros((height, width, 3)), np.zeros((height, width, 6)), np.full((height, width), np.inf)
    vertices_cam = pose.transform(model.vertices)
    uv = project(vertices_cam, K)
    for face in model.faces:
        low = np.maximum(np.floor(uv[face].min(axis=0)) - (left, top), 0).astype(int)
        high = np.minimum(np.ceil(uv[face].max(axis=0)) - (left, top), (width - 1, height - 1)).astype(int)
        first, second, third = vertices_cam[face]
        normal = np.cross(second - first, third - first)
        for y in range(low[1], high[1] + 1):
            for x in range(low[0], high[0] + 1):
                ray = np.linalg.inv(K) @ np.array([*positions[y, x], 1.0])
                slope = normal @ ray
                depth = normal @ first / slope if slope else np.inf
                if not 0 < depth < nearest[y, x]:
                    continue
                point = depth * ray
                sides = [
                    normal @ np.cross(b - a, point - a) for a, b in ((first, second), (second, third), (third, first))
                ]
                if min(sides) >= 0:
                    nearest[y, x] = depth
                    P[y, x] = pose.cam_R_obj.T @ (point - pose.cam_t_obj)
    for y, x in np.argwhere(np.isfinite(nearest)):
        ray = np.linalg.inv(K) @ np.array([*positions[y, x], 1.0])
        for axis, kept in enumerate(((1, 2), (0, 2), (0, 1))):
            plane_normal = pose.cam_R_obj[:, axis]
            depth = plane_normal @ pose.cam_t_obj / (plane_normal @ ray)
            point = pose.cam_R_obj.T @ (depth * ray - pose.cam_t_obj)
            inside = (point > model.bounds_min) & (point < model.bounds_min + model.extent)
            if depth > 0 and all(inside[list(kept)]):
                Q[y, x, 2 * axis : 2 * axis + 2] = point[list(kept)]
    return P, Q


def _in_turns(first: Callable[[], None], second: Callable[[], None], repeats: int, title: str) -> tuple[float, float]:
    """Median processor seconds of two functions, called alternately. Their first calls, which build, don't count."""
    seconds: tuple[list[float], list[float]] = ([], [])
    first()
    second()
    for _ in tqdm(range(repeats), desc=title):
        for function, spent in zip((first, second), seconds, strict=True):
            start = time.process_time()
            function()
            spent.append(time.process_time() - start)
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
