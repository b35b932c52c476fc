"""Score any BOP results csv on any BOP folder: per object, and several results side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.bop.datasets import SplitSpec, resolve_split
from core.bop.models import load_models
from core.bop.results import read_results
from core.bop.scene import ImageRecord, load_split, read_camera_size
from core.bop.targets import TARGETS_NAME, Target, load_targets, make_targets
from core.evaluation.evaluator import Scores, evaluate, write_scores
from core.evaluation.report import write_report
from core.evaluation.tables import format_comparison, format_table
from core.utils.errors import UserError, run_cli
from core.utils.files import require_writable_file

EPILOG = """example:
  python tools/evaluate.py output/mine_lmo-test.csv --dataset lmo --report output/lmo.html
  python tools/evaluate.py a_toy-test.csv b_toy-test.csv --dataset toy --json output/scores.json

The ground truth is all that is read of the data set: images need not be there. Exit code 1 with one line
on stderr where a file is missing or wrong."""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT.csv", help="BOP results files")
    parser.add_argument("--dataset", required=True, help="a BOP folder under the root, or a path to one")
    parser.add_argument("--split", default="test", help="split of the data set (default: test)")
    parser.add_argument("--datasets-root", type=Path, default=Path("datasets/BOP_DATASETS"), metavar="DIR")
    parser.add_argument(
        "--targets",
        type=Path,
        metavar="FILE",
        help=f"targets (default: the data set's {TARGETS_NAME}, else every instance at least 10 %% visible)",
    )
    parser.add_argument("--objects", type=int, nargs="+", metavar="ID", help="only these objects")
    parser.add_argument(
        "--symmetric",
        type=int,
        nargs="*",
        metavar="ID",
        help="ids whose ADD(-S) is ADI (default: the paper's)",
    )
    parser.add_argument("--image-width", type=int, metavar="PX", help="for MSPD (default: of the images)")
    parser.add_argument("--report", type=Path, metavar="HTML", help="write a report of the (only) result")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write scores (several results: one file each, named by it)"
    )
    args = parser.parse_args(argv)
    if args.image_width is not None and args.image_width < 1:
        parser.error("--image-width must be at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    _check_outputs(args)
    labels = _labels(args.results)
    estimates = {path: read_results(path) for path in args.results}
    spec = resolve_split(f"{args.dataset}:{args.split}", args.datasets_root)
    records = load_split(spec, args.objects, require_images=False)
    targets = _targets(args, spec, records)
    models = load_models(spec.models_eval_dir, {target.obj_id for target in targets}, spec.object_names)
    symmetric_ids = spec.symmetric_ids if args.symmetric is None else args.symmetric
    width = args.image_width or _image_width(spec, records)
    results = {}
    for path, found in estimates.items():
        results[path] = evaluate(found, records, targets, models, symmetric_ids, width, progress=True)
        print(f"\n{path}\n{format_table(results[path])}\n")
    if len(results) > 1:
        print(format_comparison({labels[path]: scores for path, scores in results.items()}))
    _write(args, spec, results, labels)


def _labels(paths: list[Path]) -> dict[Path, str]:
    """What to call each file: its name, with as many of its folders' names as tell all of them apart."""
    names = {path: path.absolute().with_suffix("").parts[1:] for path in paths}
    for count in range(1, max(map(len, names.values())) + 1):
        labels = {path: "-".join(parts[-count:]) for path, parts in names.items()}
        if len(set(labels.values())) == len(paths):
            return labels
    raise UserError("a results file is named twice; name each once")


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse, before any work, outputs that could not hold the results."""
    for path in filter(None, (args.report, args.json)):
        if path in args.results:
            raise UserError(f"{path} is a results file and would be overwritten; choose another name")
        require_writable_file(path)
    if args.report and len(args.results) > 1:
        raise UserError(f"--report tells one result and {len(args.results)} came; give one csv a report")


def _targets(args: argparse.Namespace, spec: SplitSpec, records: list[ImageRecord]) -> list[Target]:
    path = args.targets or spec.root / TARGETS_NAME
    targets = load_targets(path) if args.targets or path.is_file() else make_targets(records)
    wanted = set(spec.object_names if args.objects is None else args.objects)
    chosen = [target for target in targets if target.obj_id in wanted]
    if not chosen:
        raise UserError(f"no target is of objects {sorted(wanted)}; choose other --objects or --targets")
    return chosen


def _image_width(spec: SplitSpec, records: list[ImageRecord]) -> int | None:
    """The width that camera.json tells where no image is there; None where an image can be asked."""
    if any(record.rgb_path.is_file() for record in records):
        return None
    return read_camera_size(spec.root)[0]


def _write(args: argparse.Namespace, spec: SplitSpec, results: dict[Path, Scores], labels: dict[Path, str]) -> None:
    for path, scores in results.items():
        if args.report:
            facts = {"results": path.name, "data set": f"{spec.root.name}, {spec.split}"}
            write_report(args.report, path.stem, scores, facts=facts)
            print(f"wrote {args.report}")
        if args.json:
            several = args.json.with_name(f"{args.json.stem}_{labels[path]}{args.json.suffix}")
            target = several if len(results) > 1 else args.json
            write_scores(target, scores)
            print(f"wrote {target}")


if __name__ == "__main__":
    run_cli(main)
