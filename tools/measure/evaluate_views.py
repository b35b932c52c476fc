"""What several views of one scene add: errors of poses fused from 1, 2, 4 and 8 images.

Where the camera stood is taken from the ground truth of another object than the one whose pose is fused, in images that
show both standing alike (objects may be put elsewhere within a sequence). Poses are a network's (--weights) after some
looks, each as sure as its covariance. Groups of images are drawn at random; a fused pose is compared with the truth in
each image of its group.
"""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sopose.core.evaluation.tables import aligned
from sopose.core.geometry.fusion import PoseView, fuse_poses
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.pose_covariance import moved_pose
from sopose.core.geometry.rotation import geodesic_distance
from sopose.core.utils.errors import run_cli
from sopose.data.eval_set import EvalSet
from sopose.data.look import nearest_equal_pose
from sopose.data.mapper import EvalItem
from sopose.inference.look_test import build_look_test, network_poses
from sopose.inference.refine import LookPlan, PoseRefiner, RefinedPose

EXAMPLES = """example:
  python tools/measure/evaluate_views.py --config-file configs/gdrn_selfocc/lmo/cad_only_cpu.py \\
      --weights configs/gdrn_selfocc/lmo/cad_only_cpu.safetensors --opts DATASETS.ROOT=path/to/bop
"""
COUNTS = (1, 2, 4, 8)  # views
GROUPS = 200  # drawn of each object and count
ALIKE = (0.003, 0.03)  # metres and radians: annotations of one arrangement differ by less
SEED = 999_961
Found = tuple[EvalItem, RefinedPose, Pose]  # with where the camera stood: the other object's frame to the camera's


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True, help="of the data and the network")
    parser.add_argument("--weights", type=Path, required=True, help="of the network")
    parser.add_argument("--refiner", default="any_object", help="that looks (default: any_object)")
    parser.add_argument("--iterations", type=int, default=2, metavar="N", help="looks (default: 2)")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    args = parser.parse_args(argv)
    if args.iterations < 1:
        parser.error("--iterations must be at least 1: the covariance comes from looks")
    return args


def main(argv: list[str] | None = None) -> None:
    """Estimate, refine, fuse, print."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    test = build_look_test(args.config_file, args.opts, args.refiner, weights=args.weights)
    for test_set in test.sets:
        plan = replace(test.plan(args.iterations), starts=1)
        found = refined(test.refiner, test_set, network_poses(test, args.weights, test_set), plan)
        rows = [["object", "views", "groups", "depth", "across", "rotation"]]
        for obj_id, own in sorted(found.items()):
            rows += [row for count in COUNTS if (row := errors(test_set, obj_id, own, count))]
        print(f"{test_set.spec.name}, medians\n" + "\n".join(aligned(rows)), flush=True)


def refined(
    refiner: PoseRefiner, test_set: EvalSet, coarse: Sequence[Pose], plan: LookPlan
) -> dict[int, list[list[Found]]]:
    """Of each object the refined poses, in lists of images between which it stood alike beside another object."""
    source = test_set.source
    alike: dict[tuple[int, int], list[list[Found]]] = defaultdict(list)
    for item, pose in zip(source.items, coarse, strict=True):
        target = source.objects[item.obj_id].model
        (one,) = refiner(source.image(item), item.record.K, [target], [pose], plan)
        if one.covariance is None:
            continue
        for other in (*item.record.instances, *item.record.others):
            if other.obj_id != item.obj_id:
                add_to_alike(alike[item.obj_id, other.obj_id], (item, one, other.pose))
    found: dict[int, list[list[Found]]] = defaultdict(list)
    for (obj_id, _), groups in alike.items():
        found[obj_id] += groups
    return found


def add_to_alike(groups: list[list[Found]], found: Found) -> None:
    """Put a pose into the first list in whose images its object stands where it does here, or into a new one."""
    here = found[2].inverse() @ found[0].truth.pose
    for group in groups:
        there = group[0][2].inverse() @ group[0][0].truth.pose
        turn = geodesic_distance(here.cam_R_obj, there.cam_R_obj)
        if np.linalg.norm(here.cam_t_obj - there.cam_t_obj) < ALIKE[0] and turn < ALIKE[1]:
            group.append(found)
            return
    groups.append([found])


def errors(test_set: EvalSet, obj_id: int, found: Sequence[list[Found]], count: int) -> list[str] | None:
    """A row of medians over groups of so many views; None where too few images show the object standing alike."""
    enough = [images for images in found if len(images) >= count]
    if not enough:
        return None
    model = test_set.source.objects[obj_id].model
    rng = np.random.default_rng([SEED, obj_id, count])
    values = []
    for _ in range(GROUPS):
        images = enough[rng.integers(len(enough))]
        group = [images[index] for index in rng.choice(len(images), count, replace=False)]
        own = model.centered
        views = [PoseView(*moved_pose(one.pose, one.covariance, model.middle), place) for _, one, place in group]
        fused = fuse_poses(views, own.symmetry_transforms)
        for item, _, place in group:
            pose = place @ fused.pose
            truth = nearest_equal_pose(own, item.truth.pose.with_origin(model.middle), pose)
            shift, ray = pose.cam_t_obj - truth.cam_t_obj, truth.cam_t_obj / np.linalg.norm(truth.cam_t_obj)
            across = np.linalg.norm(shift - (shift @ ray) * ray)
            turn = np.degrees(geodesic_distance(pose.cam_R_obj, truth.cam_R_obj))
            values.append((1e3 * abs(shift @ ray), 1e3 * across, turn))
    depth, across, turn = np.median(values, axis=0)
    return [model.name, str(count), str(GROUPS), f"{depth:.1f} mm", f"{across:.1f} mm", f"{turn:.1f}°"]


if __name__ == "__main__":
    run_cli(main)
