"""Time of MSSD, MSPD and ADD(-S) of one csv against functions of the official kind, one pair after the other.

The reference transforms all vertices of every pair, builds a KD-tree for every estimate's ADI and loops over the
symmetries, as evaluation scripts of the field do. It is timed on a sample of the pairs and given per pair. Two
references are given: ADI of every pair (both ADD and ADI are then known, as those scripts have it), and ADI of the
symmetric objects alone, which is all that ADD(-S) needs and what ours computes. Ours includes grouping, matching,
recalls and bootstrap intervals. Wall time and processor time (of all threads) are given, each the least of the
repeats, since a machine that others use adds to both. Growth is measured on the same csv with every estimate ten times.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.spatial import cKDTree

from sopose.core.bop.catalog import DATASETS_FOLDER, TARGETS_NAME
from sopose.core.bop.fields import read_camera_size
from sopose.core.bop.models import load_models
from sopose.core.bop.results import read_results
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.bop.targets import load_targets
from sopose.core.evaluation.bop19 import TargetGroup, group_targets
from sopose.core.evaluation.evaluator import evaluate
from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import write_json

METRICS = ("add", "bop19")
EPILOG = """example:
  python tools/benchmarks/evaluation.py mine_lmo-test.csv --dataset lmo --datasets-root datasets/BOP_DATASETS
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path, metavar="RESULT.csv", help="a BOP results file")
    parser.add_argument("--dataset", required=True, help="a BOP folder under the root, or a path to one")
    parser.add_argument("--datasets-root", type=Path, default=DATASETS_FOLDER, metavar="DIR")
    parser.add_argument("--pairs", type=int, default=300, help="pairs that the reference is timed on (default: 300)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements, the least is given (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    args = parser.parse_args(argv)
    if args.pairs < 1 or args.repeats < 1:
        parser.error("--pairs and --repeats must be at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse_args(argv)
    spec = resolve_split(f"{args.dataset}:test", args.datasets_root)
    records = load_split(spec, require_images=False)
    targets = load_targets(spec.root / TARGETS_NAME)
    models = load_models(spec.models_eval_dir, {target.obj_id for target in targets}, spec.object_names)
    width = read_camera_size(spec.root)[0]

    def ours(path: Path) -> np.ndarray:
        return _timed(
            lambda: evaluate(read_results(path), records, targets, models, spec.symmetric_ids, width, metrics=METRICS)
        )

    groups = group_targets(read_results(args.result), records, targets)
    pairs = [(group, e.pose, i.pose) for group in groups for e in group.estimates for i in group.instances]
    if not pairs:
        raise UserError(f"{args.result} has no estimate of a target of {args.dataset}; give another file")
    chosen = np.random.default_rng(0).permutation(len(pairs))[: args.pairs]
    sample = [pairs[index] for index in chosen]
    measured: dict[str, list[np.ndarray]] = {"ours": [], "all": [], "needed": [], "ten": []}
    with TemporaryDirectory() as folder:
        ten = _ten_times(args.result, Path(folder))
        for _ in range(args.repeats):  # in turns, so that a busy machine slows all alike
            measured["ours"].append(ours(args.result))
            for key, ids in (("all", set(models)), ("needed", set(spec.symmetric_ids))):
                measured[key].append(len(pairs) * _timed(lambda ids=ids: _reference(sample, models, ids)) / len(sample))
            measured["ten"].append(ours(ten))
    numbers = _numbers(measured, pairs=len(pairs), targets=len(targets))
    _print(numbers)
    if args.json:
        write_json(args.json, numbers)


def _numbers(measured: dict[str, list[np.ndarray]], pairs: int, targets: int) -> dict[str, float]:
    numbers: dict[str, float] = {"targets": targets, "pairs": pairs}
    for index, clock in enumerate(("wall", "cpu")):
        seconds = {key: float(np.min(values, axis=0)[index]) for key, values in measured.items()}
        for key, value in seconds.items():
            numbers[f"{key}_{clock}_s"] = value
        for key in ("all", "needed", "ten"):
            numbers[f"ratio_{key}_{clock}"] = seconds[key] / seconds["ours"]
    numbers["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return numbers


def _print(numbers: dict[str, float]) -> None:
    print(f"{numbers['targets']} targets, {numbers['pairs']} pairs of estimate and truth")
    for key, label in (
        ("ours", "ours"),
        ("all", "pair after pair, ADI of every pair"),
        ("needed", "pair after pair, ADI of symmetric objects"),
        ("ten", "ours, every row ten times"),
    ):
        wall, cpu = numbers[f"{key}_wall_s"], numbers[f"{key}_cpu_s"]
        line = f"{label:42} {wall:7.2f} s wall {cpu:7.2f} s processor"
        if key != "ours":
            line += f"  {numbers[f'ratio_{key}_wall']:5.1f} and {numbers[f'ratio_{key}_cpu']:5.1f} times ours"
        print(line)
    print(f"peak memory of this process {numbers['peak_memory_gb']:.2f} GB")


def _ten_times(path: Path, folder: Path) -> Path:
    """A csv with every row of `path` ten times, the copies with lower scores."""
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    lines = [header]
    for copy in range(10):
        for row in rows:
            head, score, *rest = row.rsplit(",", 4)
            lines.append(",".join([head, repr(float(score) - copy), *rest]))
    ten = folder / "ten.csv"
    ten.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ten


def _timed(work: Callable[[], object]) -> np.ndarray:
    """Wall and processor seconds (2,)."""
    started = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter() - started[0], time.process_time() - started[1]])


def _reference(pairs: list[tuple[TargetGroup, Pose, Pose]], models: dict[int, ObjectModel], adi_ids: set[int]) -> None:
    """ADD, ADI of `adi_ids`, MSSD and MSPD of every pair, each by itself."""
    for group, est, gt in pairs:
        model = models[group.target.obj_id]
        _add(est, gt, model.vertices)
        if model.obj_id in adi_ids:
            _adi(est, gt, model.vertices)
        _mssd(est, gt, model)
        _mspd(est, gt, group.record.K, model)


def _add(est: Pose, gt: Pose, points: np.ndarray) -> float:
    return np.linalg.norm(est.transform(points) - gt.transform(points), axis=1).mean()


def _adi(est: Pose, gt: Pose, points: np.ndarray) -> float:
    return cKDTree(est.transform(points)).query(gt.transform(points), k=1)[0].mean()


def _mssd(est: Pose, gt: Pose, model: ObjectModel) -> float:
    points_est = est.transform(model.vertices)
    return min(
        np.linalg.norm(points_est - (gt @ Pose(S[:3, :3], S[:3, 3])).transform(model.vertices), axis=1).max()
        for S in model.symmetry_transforms
    )


def _mspd(est: Pose, gt: Pose, K: np.ndarray, model: ObjectModel) -> float:
    uv_est = project(est.transform(model.vertices), K)
    return min(
        np.linalg.norm(uv_est - project((gt @ Pose(S[:3, :3], S[:3, 3])).transform(model.vertices), K), axis=1).max()
        for S in model.symmetry_transforms
    )


if __name__ == "__main__":
    run_cli(main)
