"""Variants of a configuration, trained and tested on the same data with the same seeds."""

from __future__ import annotations

import csv
import gc
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sopose.core.engine.checkpoint import model_weights, read_checkpoint, save_weights
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.engine.distributed import select_device
from sopose.core.utils.errors import UserError
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


@dataclass(frozen=True)
class Plan:
    """One run: a variant with a seed, where it is kept, and the words of --opts that make it."""

    variant: str
    seed: int
    folder: Path
    words: list[str]


@dataclass(frozen=True)
class AblationOptions:
    """What `sopose ablate` takes, by the names of its options."""

    config_file: Path
    output: Path
    seeds: int = 3
    variants: Sequence[str] = ()
    conditions: Sequence[str] = ()
    bins: Sequence[float] = (0.4, 0.9)
    start: Path | None = None
    forget: Sequence[str] = ()
    dry_run: bool = False
    opts: Sequence[str] = ()


def run_ablate(options: AblationOptions) -> None:
    """Train what isn't trained, test what isn't tested, write the tables."""
    plans, conditions = make_plans(options), choose(CONDITIONS, options.conditions, "condition")
    for plan in plans:
        for name, overrides in conditions.items():
            settings = _settings(options, plan, as_words(overrides))  # wrong words are reported before the first run
            if not settings.datasets.test:
                raise UserError("DATASETS.TEST is empty; name the splits to compare the variants on")
            if options.dry_run:
                done = "finished" if (plan.folder / f"{name}.json").is_file() else "to do"
                print(f"{plan.folder} {name} ({done})\n    {' '.join([*plan.words, *as_words(overrides)])}")
    if options.dry_run:
        return
    require_writable_dir(options.output)
    with FolderLock(options.output) as lock:
        lock.take()
        compare(options, plans, conditions)


def compare(options: AblationOptions, plans: Sequence[Plan], conditions: Mapping[str, Mapping[str, Any]]) -> None:
    """Train and test, and write the tables anew after each run."""
    cases: Cases = {}
    for plan in sorted(plans, key=lambda plan: plan.seed):  # every variant once before the next seed
        for name, targets in run_plan(options, plan, conditions).items():
            cases.setdefault((plan.variant, name), {})[plan.seed] = targets
        tables = {name: table_rows(part, options.bins) for name, part in by_split(cases).items()}
        text = "\n".join(f"{name}\n\n{as_markdown(rows, options.bins)}" for name, rows in tables.items())
        write_text(options.output / "ablation.csv", as_csv(tables))
        write_text(options.output / "ablation.md", text)
    print(text)
    print(f"tables in {options.output / 'ablation.md'} and {options.output / 'ablation.csv'}")


def make_plans(options: AblationOptions) -> list[Plan]:
    """Every run, variant by variant."""
    plans = []
    start = [] if options.start is None else [f"MODEL.WEIGHTS={options.output / 'start.safetensors'}"]
    for variant, overrides in choose(VARIANTS, options.variants, "variant").items():
        for seed in range(options.seeds):
            folder = options.output / variant.replace(",", "-") / f"seed{seed}"
            words = [*options.opts, *as_words({**COMMON, **overrides}), *start, f"SEED={seed}", f"OUTPUT_DIR={folder}"]
            plans.append(Plan(variant, seed, folder, words))
    return plans


def run_plan(
    options: AblationOptions, plan: Plan, conditions: Mapping[str, dict[str, Any]]
) -> dict[str, list[TargetError]]:
    """The targets of one run under each condition; trained and tested only as far as it isn't yet."""
    trained = False
    results = {}
    for name, overrides in conditions.items():
        path, words = plan.folder / f"{name}.json", [*plan.words, *as_words(overrides)]
        if not path.is_file():
            if not trained:
                write_start(options)
                train(_settings(options, plan, ["DATASETS.TEST="]), RunOptions(resume=True))
                trained = True
            write_case(path, words, evaluate_run(_settings(options, plan, as_words(overrides)), plan, name))
            gc.collect()
        results[name] = read_case(path, words)
    return results


def _settings(options: AblationOptions, plan: Plan, words: Sequence[str]) -> Settings:
    return load_settings(options.config_file, [*plan.words, *words])


def write_start(options: AblationOptions) -> None:
    """The weights that all variants start from: `--start` without what `--forget` names."""
    path = options.output / "start.safetensors"
    if options.start is None or path.is_file():
        return
    weights = model_weights(read_checkpoint(options.start), options.start)
    kept = {name: value for name, value in weights.items() if not name.startswith(tuple(options.forget))}
    if not kept or (options.forget and len(kept) == len(weights)):
        parts = ", ".join(sorted({name.partition(".")[0] for name in weights}))
        raise UserError(
            f"--forget {' '.join(options.forget)} leaves all or nothing of {options.start}; its parts: {parts}"
        )
    save_weights(kept, path)


def evaluate_run(settings: Settings, plan: Plan, condition: str) -> list[TargetError]:
    """The targets of a trained run under a condition, of all its test splits."""
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
