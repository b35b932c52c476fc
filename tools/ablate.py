"""Train and test variants of a configuration on the same data with the same seeds, and compare them in one table."""

from __future__ import annotations

import argparse
import csv
import gc
import io
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sopose.core.engine.checkpoint import model_weights, read_checkpoint, save_weights
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.engine.distributed import select_device
from sopose.core.utils.arguments import finite
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import require_writable_dir, write_text
from sopose.core.utils.folder_lock import FolderLock
from sopose.inference.evaluation import build_plan, build_test_sets, build_trained_model, evaluate_model
from sopose.settings import Settings, load_settings
from sopose.training.ablation import (
    COMMON,
    CONDITIONS,
    METRICS,
    VARIANTS,
    Cases,
    MeanInterval,
    Row,
    TargetError,
    as_words,
    by_split,
    choose,
    read_case,
    table_rows,
    target_errors,
    visibility_bins,
    write_case,
)
from sopose.training.run import RunOptions, train

EPILOG = """example:
  python tools/ablate.py --config-file configs/gdrn_selfocc/toy/demo.py --output output/ablation --dry-run
  python tools/ablate.py --config-file configs/gdrn_selfocc/toy/demo.py --output output/ablation --seeds 3 \\
      --start configs/gdrn_selfocc/toy/demo.safetensors --forget selfocc_head_net pnp_net \\
      --opts SOLVER.TOTAL_EPOCHS=2

Runs that are finished are skipped and one that was interrupted goes on, so the same line continues an ablation.
"""


@dataclass(frozen=True)
class Plan:
    """One run: a variant with a seed, where it is kept, and the words of --opts that make it."""

    variant: str
    seed: int
    folder: Path
    words: list[str]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True, help="what all variants share")
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs and the tables")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, … of each variant (default: %(default)s)")
    parser.add_argument("--variants", nargs="+", default=[], metavar="NAME", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--conditions", nargs="+", default=[], metavar="NAME", help=f"of {', '.join(CONDITIONS)}")
    parser.add_argument(
        "--bins", nargs="*", type=finite, default=[0.4, 0.9], metavar="FRACTION", help="ends of the visibility ranges"
    )
    parser.add_argument("--start", type=Path, metavar="WEIGHTS", help="checkpoint that every variant starts from")
    parser.add_argument(
        "--forget", nargs="+", default=[], metavar="PREFIX", help="parts of --start that every variant learns anew"
    )
    parser.add_argument("--dry-run", action="store_true", help="list the runs and their overrides, and leave")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="overrides for all variants")
    args = parser.parse_args(argv)
    if args.seeds < 1 or not all(0 < end < 1 for end in args.bins):
        parser.error("--seeds must be at least 1 and --bins lie between 0 and 1")
    if args.forget and args.start is None:
        parser.error("--forget leaves parts of --start out, which isn't given")
    return args


def main(argv: list[str] | None = None) -> None:
    """Train what isn't trained, test what isn't tested, write the tables."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    plans, conditions = make_plans(args), choose(CONDITIONS, args.conditions, "condition")
    for plan in plans:
        for name, overrides in conditions.items():
            settings = _settings(args, plan, as_words(overrides))  # wrong words are told before the first run
            if not settings.datasets.test:
                raise UserError("DATASETS.TEST is empty; name the splits to compare the variants on")
            if args.dry_run:
                done = "finished" if (plan.folder / f"{name}.json").is_file() else "to do"
                print(f"{plan.folder} {name} ({done})\n    {' '.join([*plan.words, *as_words(overrides)])}")
    if args.dry_run:
        return
    require_writable_dir(args.output)
    with FolderLock(args.output) as lock:
        lock.take()
        compare(args, plans, conditions)


def compare(args: argparse.Namespace, plans: Sequence[Plan], conditions: Mapping[str, Mapping[str, Any]]) -> None:
    """Train and test, and write the tables anew after each run."""
    cases: Cases = {}
    for plan in sorted(plans, key=lambda plan: plan.seed):  # every variant once before the next seed
        for name, targets in run_plan(args, plan, conditions).items():
            cases.setdefault((plan.variant, name), {})[plan.seed] = targets
        tables = {name: table_rows(part, args.bins) for name, part in by_split(cases).items()}
        text = "\n".join(f"{name}\n\n{as_markdown(rows, args.bins)}" for name, rows in tables.items())
        write_text(args.output / "ablation.csv", as_csv(tables))
        write_text(args.output / "ablation.md", text)
    print(text)
    print(f"tables in {args.output / 'ablation.md'} and {args.output / 'ablation.csv'}")


def make_plans(args: argparse.Namespace) -> list[Plan]:
    """Every run, variant by variant."""
    plans = []
    start = [] if args.start is None else [f"MODEL.WEIGHTS={args.output / 'start.safetensors'}"]
    for variant, overrides in choose(VARIANTS, args.variants, "variant").items():
        for seed in range(args.seeds):
            folder = args.output / variant.replace(",", "-") / f"seed{seed}"
            words = [*args.opts, *as_words({**COMMON, **overrides}), *start, f"SEED={seed}", f"OUTPUT_DIR={folder}"]
            plans.append(Plan(variant, seed, folder, words))
    return plans


def run_plan(
    args: argparse.Namespace, plan: Plan, conditions: Mapping[str, dict[str, Any]]
) -> dict[str, list[TargetError]]:
    """The targets of one run under each condition; trained and tested only as far as it isn't yet."""
    trained = False
    results = {}
    for name, overrides in conditions.items():
        path, words = plan.folder / f"{name}.json", [*plan.words, *as_words(overrides)]
        if not path.is_file():
            if not trained:
                write_start(args)
                train(_settings(args, plan, ["DATASETS.TEST="]), RunOptions(resume=True))
                trained = True
            write_case(path, words, _test(_settings(args, plan, as_words(overrides)), plan, name))
            gc.collect()
        results[name] = read_case(path, words)
    return results


def _settings(args: argparse.Namespace, plan: Plan, words: Sequence[str]) -> Settings:
    return load_settings(args.config_file, [*plan.words, *words])


def write_start(args: argparse.Namespace) -> None:
    """The weights that all variants start from: `--start` without what `--forget` names."""
    path = args.output / "start.safetensors"
    if args.start is None or path.is_file():
        return
    weights = model_weights(read_checkpoint(args.start), args.start)
    kept = {name: value for name, value in weights.items() if not name.startswith(tuple(args.forget))}
    if not kept or (args.forget and len(kept) == len(weights)):
        parts = ", ".join(sorted({name.partition(".")[0] for name in weights}))
        raise UserError(f"--forget {' '.join(args.forget)} leaves all or nothing of {args.start}; its parts: {parts}")
    save_weights(kept, path)


def _test(settings: Settings, plan: Plan, condition: str) -> list[TargetError]:
    device = select_device(settings.model.device)
    path = last_checkpoint(plan.folder)
    evaluation = replace(build_plan(settings), output_dir=plan.folder / condition)
    model, cache = build_trained_model(settings, path, device, with_maps=evaluation.report_cases > 0)
    targets = []
    for test_set in build_test_sets(settings, cache):
        scores = evaluate_model(model, test_set, evaluation, device, str(path))
        if scores is None:
            raise UserError(f"'{test_set.spec.name}' has no ground truth to compare by; name another TEST split")
        targets += target_errors(test_set.spec.name, scores)
    return targets


def as_csv(tables: Mapping[str, Sequence[Row]]) -> str:
    """Every number, one a line, of the rows of each split."""
    parts = ("seeds", "targets", "difference")
    names = [f"{part}_{end}" for part in parts for end in ("mean", "low", "high")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["images", "variant", "boxes", "visibility", "metric", *names, "num_seeds", "num_targets"])
    for split, rows in tables.items():
        for row in rows:
            numbers = []
            for part in parts:
                value = getattr(row, part)
                numbers += [""] * 3 if value is None else [f"{x:.4f}" for x in (value.mean, value.low, value.high)]
            words = [split, row.variant, row.condition, row.visibility, row.metric]
            writer.writerow([*words, *numbers, row.num_seeds, row.num_targets])
    return text.getvalue()


def as_markdown(rows: Sequence[Row], edges: Sequence[float]) -> str:
    """A line for each metric, variant and condition: all targets with intervals, then means by visibility."""
    values = {(row.variant, row.condition, row.metric, row.visibility): row for row in rows}
    bins = [name for name in visibility_bins(edges) if any(row.visibility == name for row in rows)][1:]
    counts = {name: next(row.num_targets for row in rows if row.visibility == name) for name in ("all", *bins)}
    headings = ["variant", "boxes", "seeds", f"all {counts['all']}: mean", "seeds' 95 %", "targets' 95 %"]
    headings += ["difference to the first, 95 %", *(f"{name} ({counts[name]})" for name in bins)]
    table = []
    for metric in METRICS:
        table.append([f"**{metric}**", *[""] * (len(headings) - 1)])
        for variant, condition in dict.fromkeys((row.variant, row.condition) for row in rows):
            row = values[variant, condition, metric, "all"]
            cells = [variant, condition, str(row.num_seeds), f"{row.targets.mean:.1f}"]
            cells += [_range(row.seeds), _range(row.targets), _difference(row.difference)]
            found = [values.get((variant, condition, metric, name)) for name in bins]
            table.append(cells + ["" if cell is None else f"{cell.targets.mean:.1f}" for cell in found])
    widths = [max(map(len, column)) for column in zip(headings, *table, strict=True)]
    lines = [headings, ["-" * width for width in widths], *table]
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines) + "\n"


def _range(interval: MeanInterval) -> str:
    return "–" if math.isnan(interval.low) else f"{interval.low:.1f} to {interval.high:.1f}"


def _difference(interval: MeanInterval | None) -> str:
    return "" if interval is None else f"{interval.mean:+.1f} ({interval.low:+.1f} to {interval.high:+.1f})"


if __name__ == "__main__":
    run_cli(main)
