"""What recipes learn for their processor time: scores of the checkpoints of several runs, in one plot and one table.

The time of a checkpoint is its crops times what a crop costs on an idle machine (tools/benchmarks/train.py says it), so
that neighbours don't count. A network sees each box once, whatever TEST.ROLLS says. Held-out renderings are those of
tools/measure/evaluate_real.py. Runs of one label are seeds of one recipe. At the end the labels are compared with the
first, target by target, with 95 % intervals.
"""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sopose.core.engine.distributed import select_device
from sopose.core.engine.machine import share_cores
from sopose.core.evaluation.scores import finite
from sopose.core.evaluation.tables import aligned
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import atomic_path, require_dir, require_writable_dir, write_json, write_text
from sopose.core.vis.colors import PALETTE
from sopose.core.vis.plots import plots_png
from sopose.inference.evaluation import build_plan, build_test_sets, build_trained_model, inference_plan
from sopose.inference.pose_solver import build_pose_solver
from sopose.inference.predict import predict
from sopose.settings import load_settings
from sopose.training.curves import MEASURES, Results, TargetResult, differences, means, plain_results, target_results
from sopose.training.learner import rois_per_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EPILOG = """example:
  python tools/measure/learning_curve.py --sets renderings=output/held_out:held_out photographs=lmo_bop_test \\
      --run before output/before0 50 --run now output/now0 16 --run now output/now1 16 \\
      --opts DATASETS.ROOT=path/to/bop --output output/curve

A run is a label, its OUTPUT_DIR (config.py holds the rest) and milliseconds of processor time a crop.
"""


@dataclass(frozen=True)
class Run:
    """A run of a recipe."""

    label: str
    folder: Path
    ms: float  # processor time of a crop


@dataclass(frozen=True)
class Point:
    """A checkpoint of a recipe, all of its seeds, on a set of images."""

    label: str
    images: str
    minutes: float  # of processor time
    crops: int
    results: Results


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--run", nargs=3, action="append", required=True, metavar=("LABEL", "FOLDER", "MS"), help="a run; repeat it"
    )
    parser.add_argument("--sets", nargs="+", required=True, metavar="NAME=SPLIT", help="images to score on")
    parser.add_argument("--output", type=Path, default=Path("output/learning_curve"), help="curve.png, table, results")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override the runs' keys")
    args = parser.parse_args(argv)
    try:
        args.run = [Run(label, Path(folder), float(ms)) for label, folder, ms in args.run]
        args.sets = dict(word.split("=", 1) for word in args.sets)
    except ValueError:
        parser.error("--run takes LABEL FOLDER MS, --sets NAME=SPLIT")
    return args


def main(argv: list[str] | None = None) -> None:
    """Score, draw, compare."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    require_writable_dir(args.output)
    for run in args.run:
        require_dir(run.folder, "give a run's OUTPUT_DIR")
    points = [point for images, split in args.sets.items() for point in curve(args.run, images, split, args.opts)]
    records = [{**vars(point), "results": plain_results(point.results)} for point in points]
    write_json(args.output / "results.json", finite(records), indent=None)
    rows = [[partial(draw, points=points, images=images, measure=name) for name in MEASURES] for images in args.sets]
    with atomic_path(args.output / "curve.png") as beside:
        beside.write_bytes(plots_png(rows, size=(4.2, 3.2)))
    table = "\n\n".join(compare([point for point in points if point.images == images]) for images in args.sets)
    write_text(args.output / "table.txt", table + "\n")
    print(table)


def curve(runs: Sequence[Run], images: str, split: str, opts: Sequence[str]) -> list[Point]:
    """The points of all labels on a split."""
    found: dict[tuple[str, int], dict[int, list[TargetResult]]] = {}
    cost = {run.label: run.ms for run in runs}
    for run in runs:
        words = [*opts, f"DATASETS.TEST=[{split}]", "TEST.TEST_BBOX_TYPE=gt", "TEST.BBOX_JITTER=0.0"]
        settings = load_settings(run.folder / "config.py", words)
        paths = sorted(run.folder.glob("model_*.pth"))
        if not paths:
            raise UserError(f"{run.folder} has no checkpoint; train it first, with a large SOLVER.MAX_TO_KEEP")
        device, plan = select_device(settings.model.device), build_plan(settings)
        share_cores(0, settings.cpu_threads, computes=device.type == "cpu")
        for path in paths:
            crops = int(re.findall(r"\d+", path.stem)[-1]) * rois_per_step(settings.solver)
            model, cache = build_trained_model(settings, path, device, with_maps=True)
            (test_set,) = build_test_sets(settings, cache)
            solvers = {"": build_pose_solver(settings.test, plan.net)}
            count = len(test_set.source.items)
            predictions = predict(model, test_set, solvers, inference_plan(plan), device, count)[""]
            symmetric = test_set.symmetric_ids(settings.datasets.sym_objs)
            seeds = found.setdefault((run.label, crops), {})
            seeds[settings.seed] = target_results(predictions, test_set, symmetric)
    return [
        Point(label, images, crops * cost[label] / 6e4, crops, results) for (label, crops), results in found.items()
    ]


def draw(axes: Axes, points: Sequence[Point], images: str, measure: str) -> None:
    """One measure over processor time, a line with its interval for each label."""
    chosen = [point for point in points if point.images == images]
    for color, label in zip(PALETTE, dict.fromkeys(point.label for point in chosen), strict=False):
        own = sorted((point for point in chosen if point.label == label), key=lambda point: point.minutes)
        minutes, values = [point.minutes for point in own], [means(point.results)[measure] for point in own]
        axes.plot(minutes, [value.mean for value in values], "o-", color=color, markersize=3, label=label)
        axes.fill_between(
            minutes, [v.low for v in values], [v.high for v in values], color=color, alpha=0.15, linewidth=0
        )
    axes.set(xlabel="processor time, minutes", ylabel=f"{images}: {measure}", xlim=(0, None))
    axes.legend(fontsize=8)


def compare(points: Sequence[Point]) -> str:
    """The last checkpoint of each label, and how it differs from the first label's."""
    last = {point.label: point for point in sorted(points, key=lambda point: point.crops)}
    first = next(iter(dict.fromkeys(point.label for point in points)))
    rows = [[points[0].images, "crops", "minutes", "seeds", *MEASURES]]
    for label, point in last.items():
        head = [label, f"{point.crops:,}", f"{point.minutes:.0f}", str(len(point.results))]
        rows.append([*head, *(f"{m.mean:.1f} ({m.low:.1f} to {m.high:.1f})" for m in means(point.results).values())])
        if label != first:
            other = differences(point.results, last[first].results).values()
            rows.append(
                ["  difference", "", "", "", *(f"{m.mean:+.1f} ({m.low:+.1f} to {m.high:+.1f})" for m in other)]
            )
    return "\n".join(aligned(rows))


if __name__ == "__main__":
    run_cli(main)
