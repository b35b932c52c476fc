"""What second looks do to poses: scores before and after some of them, by visibility, and how sure they are rightly.

They begin at the poses of a network (--weights), at true poses that were made wrong as in training (perturbed), and at
the true ones, from which they should not walk away (true). Differences are to the poses before, target by target, with
95 % intervals over images. The covariance of a refined pose is checked by how often the truth lies inside of its
68 % and 95 % ellipsoids, as it is and scaled by the one factor that fits the middle of all.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.special import chdtri
from tqdm import tqdm

from sopose.core.bop.results import Estimate, Estimates
from sopose.core.evaluation.scores import finite
from sopose.core.evaluation.tables import aligned
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import run_cli
from sopose.core.utils.files import require_writable_dir, write_json, write_text
from sopose.data.eval_set import EvalSet
from sopose.data.look import nearest_equal_pose
from sopose.data.look_source import StartRange
from sopose.data.mapper import EvalItem
from sopose.inference.look_test import LookTest, build_look_test, network_poses
from sopose.inference.predictions import roi_ids
from sopose.inference.refine import RefinedPose
from sopose.settings.network import StartSettings
from sopose.training.curves import POSE_MEASURES, TargetResult, differences, means, pose_results

EXAMPLES = """examples:
  python tools/measure/evaluate_refiner.py --refiner refiner.safetensors \\
      --config-file configs/gdrn_selfocc/lmo/cad_only_cpu.py --weights model.safetensors \\
      --opts DATASETS.ROOT=path/to/bop
  python tools/measure/evaluate_refiner.py --refiner refiner.safetensors --starts perturbed true \\
      --config-file configs/gdrn_selfocc/refiner/any_object.py \\
      --opts DATASETS.ROOT=path/to/bop DATASETS.TEST=[lmo_bop_test] DATASETS.OBJS=[driller,cat]

Test sets are those of DATASETS.TEST, in ground-truth boxes.
"""
STARTS = ("network", "perturbed", "true")
RANGES = {"all": (0.0, 1.01), "95 to 100 %": (0.95, 1.01), "80 to 95 %": (0.8, 0.95), "50 to 80 %": (0.5, 0.8)}
SEED = 999_983
LEVELS = (0.68, 0.95)
Row = list[str]


@dataclass(frozen=True, eq=False)
class Looked:
    """Poses of a test set's items after so many looks."""

    iterations: int
    poses: list[RefinedPose]
    seconds: float  # of processor time an object and iteration


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--refiner", type=Path, required=True, help="file that sopose refiner wrote")
    parser.add_argument("--config-file", type=Path, required=True, help="of the data, and of the network of --weights")
    parser.add_argument("--weights", type=Path, help="a pose network, whose poses are refined")
    parser.add_argument("--starts", nargs="+", choices=STARTS, help="(default: all; network with --weights alone)")
    parser.add_argument("--iterations", type=int, nargs="+", default=[1, 2, 4], metavar="N", help="(default 1 2 4)")
    parser.add_argument("--images", type=int, metavar="N", help="the first N images of each set alone")
    parser.add_argument("--output", type=Path, default=Path("output/evaluate_refiner"), help="table.txt, results.json")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    args = parser.parse_args(argv)
    args.starts = args.starts or [start for start in STARTS if args.weights or start != "network"]
    if "network" in args.starts and not args.weights:
        parser.error("--starts network needs --weights")
    if min(args.iterations) < 1 or (args.images or 1) < 1:
        parser.error("--iterations and --images must be at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    """Refine, score, print the tables, write them."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    require_writable_dir(args.output)
    test = build_look_test(args.config_file, args.opts, args.refiner, args.images, args.weights)
    settings = test.settings
    texts, records = [], []
    for test_set in test.sets:
        for start in args.starts:
            coarse = build_starts(start, test, args.weights, test_set)
            looked = look(test, test_set, coarse, sorted(set(args.iterations)))
            symmetric = test_set.symmetric_ids(settings.datasets.sym_objs)
            results = {
                one.iterations: pose_results(estimates_of(test_set, one.poses), test_set, symmetric)
                for one in (Looked(0, [RefinedPose(pose) for pose in coarse], 0.0), *looked)
            }
            title = f"{test_set.spec.name}, from {start} poses: {len(coarse)} targets"
            texts.append("\n".join([title, *score_table(results), *sureness(test_set, looked[-1]), ""]))
            print(texts[-1], flush=True)
            records.append({"set": test_set.spec.name, "start": start, "results": _plain(results)})
    write_text(args.output / "table.txt", "\n".join(texts))
    write_json(args.output / "results.json", finite(records), indent=None)


def build_starts(start: str, test: LookTest, weights: Path | None, test_set: EvalSet) -> list[Pose]:
    """The poses that looks begin at, in the order of the items."""
    items = test_set.source.items
    if start == "network":
        return network_poses(test, weights, test_set)
    if start == "true":
        return [item.truth.pose for item in items]
    given = test.settings.model.refine.start
    return [perturbed(item, test_set.source.models[item.obj_id], given) for item in items]


def perturbed(item: EvalItem, model: ObjectModel, given: StartSettings) -> Pose:
    """The true pose of an item made wrong, the same in every run."""
    rng = np.random.default_rng([SEED, *roi_ids(item), item.truth.gt_index])
    return StartRange(given.rotation, given.depth, given.across, (1.0,)).of_model(item.truth.pose, model, rng)


def look(test: LookTest, test_set: EvalSet, coarse: Sequence[Pose], counts: Sequence[int]) -> list[Looked]:
    """The items' poses after each of some ascending numbers of looks, one item after the other."""
    source, spent, looks = test_set.source, 0.0, 0
    found: dict[int, list[RefinedPose]] = {count: [] for count in counts}
    pairs = zip(source.items, coarse, strict=True)
    for item, pose in tqdm(pairs, desc="second looks", total=len(coarse), unit="object"):
        image, model, before, refined = source.image(item), source.objects[item.obj_id].model, 0, RefinedPose(pose)
        for count in counts:
            started = time.process_time()
            plan = replace(test.plan(count - before), starts=1)
            (refined,) = test.refiner(image, item.record.K, [model], [refined.pose], plan, [pose])
            spent, looks, before = spent + time.process_time() - started, looks + count - before, count
            found[count].append(refined)
    return [Looked(count, poses, spent / max(looks, 1)) for count, poses in found.items()]


def estimates_of(test_set: EvalSet, poses: Sequence[RefinedPose]) -> Estimates:
    """The poses as estimates of the set's items."""
    pairs = zip(test_set.source.items, poses, strict=True)
    return Estimates.of(Estimate(*roi_ids(item), 1.0, one.pose) for item, one in pairs)


def score_table(results: dict[int, list[TargetResult]]) -> list[str]:
    """A row for each range of visibility and number of looks."""
    rows = [["visible", "targets", "looks", *POSE_MEASURES, "rotation", "depth", "across", "depth bias"]]
    for name, (low, high) in RANGES.items():
        chosen = {
            count: [target for target in targets if low <= target.visibility < high]
            for count, targets in results.items()
        }
        if chosen[0]:
            rows += [_row(name, count, own, chosen[0]) for count, own in chosen.items()]
    return aligned(rows)


def _row(name: str, count: int, targets: list[TargetResult], before: list[TargetResult]) -> Row:
    cells = [name, str(len(targets)), str(count)] if count == 0 else ["", "", str(count)]
    for measure, mean in means({0: targets}, POSE_MEASURES).items():
        text = f"{mean.mean:.1f}"
        if count:
            other = differences({0: targets}, {0: before}, POSE_MEASURES)[measure]
            text += f" ({other.mean:+.1f}: {other.low:+.1f} to {other.high:+.1f})"
        cells.append(text)
    parts: dict[str, Callable[[TargetResult], float]] = {
        "{:.1f}°": lambda target: target.rotation,
        "{:.1f} mm": lambda target: 1e3 * abs(target.depth),
        "{:.1f}  mm": lambda target: 1e3 * target.across,
        "{:+.1f} mm": lambda target: 1e3 * target.depth,
    }
    return [*cells, *(form.format(np.median([part(target) for target in targets])) for form, part in parts.items())]


def sureness(test_set: EvalSet, looked: Looked) -> list[str]:
    """How often the truth lies inside of the covariances' ellipsoids, and the time of a look."""
    squares = []
    for item, one in zip(test_set.source.items, looked.poses, strict=True):
        if one.covariance is not None:
            model = test_set.source.objects[item.obj_id].model
            squares.append(squared_distance(one, nearest_equal_pose(model, item.truth.pose, one.pose)))
    lines = [f"{1e3 * looked.seconds:.1f} ms of processor time an object and look"]
    if squares:
        factor = float(np.median(squares) / chdtri(6, 0.5))
        for words, scale in (("as it is", 1.0), (f"times {factor:.3g}", factor)):
            inside = [100 * np.mean(np.array(squares) / scale < chdtri(6, 1 - level)) for level in LEVELS]
            shares = ", ".join(f"{level:.0%}: {share:.0f} %" for level, share in zip(LEVELS, inside, strict=True))
            lines.append(f"truths inside of ellipsoids, covariance {words}: {shares}")
    return lines


def squared_distance(refined: RefinedPose, truth: Pose) -> float:
    """Mahalanobis distance of the truth, squared: 6 on average where the covariance is right."""
    rotation = Rotation.from_matrix(truth.cam_R_obj @ refined.pose.cam_R_obj.T).as_rotvec()
    motion = np.concatenate([truth.cam_t_obj - refined.pose.cam_t_obj, rotation])
    return float(motion @ np.linalg.solve(refined.covariance, motion))


def _plain(results: dict[int, list[TargetResult]]) -> dict[str, list[dict[str, float | int]]]:
    return {str(count): [asdict(target) for target in targets] for count, targets in results.items()}


if __name__ == "__main__":
    run_cli(main)
