"""Score any BOP results csv on any BOP folder: per object, and several results side by side."""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict
from pathlib import Path

from sopose.core.bop.catalog import TARGETS_NAME, YCBV, dataset_name
from sopose.core.bop.detections import Detection, read_detections
from sopose.core.bop.fields import read_camera_size
from sopose.core.bop.models import INFO_NAME, load_models
from sopose.core.bop.results import Estimates, read_results
from sopose.core.bop.scene import ImageRecord, load_split
from sopose.core.bop.splits import ANCESTOR_SPLITS, SplitSpec, resolve_split
from sopose.core.bop.targets import Target, images_alone, load_targets, make_targets, with_truth
from sopose.core.bop.unseen import with_unseen
from sopose.core.evaluation.error_model import ErrorModel
from sopose.core.evaluation.evaluator import evaluate
from sopose.core.evaluation.metrics import DEFAULT_METRICS, known_metrics
from sopose.core.evaluation.scores import Scores, finite, write_scores
from sopose.core.evaluation.tables import format_comparison, format_csv, format_latex, format_table
from sopose.core.evaluation.toolkit import ToolkitErrorModel, differences, import_toolkit
from sopose.core.evaluation.vsd import DELTA, DELTA_OF, VsdScorer
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import distinct_names, require_writable_file, write_json, write_text

EXAMPLES = """examples:
  sopose score output/mine_lmo-test.csv --dataset lmo --report output/lmo.html
  sopose score a_toy-test.csv b_toy-test.csv --dataset toy --json output/scores.json
  sopose score mine_ycbv-test.csv --dataset ycbv --metrics add auc bop19 bop24 --latex table.tex
  sopose score --dataset lmo --detections yolox_lmo.json

Ground truth and models are all that is read of the data set; VSD asks for depth images, and the report shows the
worst cases where colour images are there. --dataset may also be a name of a paper's test set (lm_13_test, lmo_test,
ycbv_test: key frames), then every instance of its images counts. Exit code 1 with one line on stderr where a file
is missing or wrong."""
logger = logging.getLogger(__name__)
OUTPUTS = ("report", "json", "csv", "latex")


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULT.csv", help="BOP results files")
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
        nargs="*",
        metavar="ID",
        help="ids whose ADD(-S) is ADI; 'paper' (default) or 'bop': those that models_info.json calls symmetric",
    )
    parser.add_argument(
        "--models-info", default=INFO_NAME, metavar="NAME", help=f"sizes and symmetries beside the models ({INFO_NAME})"
    )
    parser.add_argument("--image-width", type=int, metavar="PX", help="for MSPD (default: of the images)")
    parser.add_argument(
        "--metrics",
        nargs="+",
        choices=[*known_metrics(), "coco"],
        metavar="NAME",
        help=f"of: {', '.join(known_metrics())}, coco (default: {' '.join(DEFAULT_METRICS)}; for YCB-V auc as well)",
    )
    parser.add_argument("--detections", type=Path, metavar="FILE", help="2D detections to score by COCO's AP")
    parser.add_argument(
        "--boxes", choices=("amodal", "modal"), default="amodal", help="boxes of whole objects, or of visible parts"
    )
    parser.add_argument("--engine", choices=("core", "bop_toolkit"), default="core", help="whose errors to print")
    parser.add_argument(
        "--workers",
        type=int,
        default=-1,
        metavar="N",
        help="processes for VSD of more than 300 images (default: one a core)",
    )
    parser.add_argument("--report", type=Path, metavar="HTML", help="write a report (several results: one file each)")
    parser.add_argument("--cases", type=int, default=6, metavar="N", help="worst cases in a report (default: 6)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write scores (several results: one file each, named after it)"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all scores of all results as one csv")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="write a LaTeX table")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if args.image_width is not None and args.image_width < 1:
        parser.error("--image-width must be at least 1")
    if not args.results and not args.detections:
        parser.error("give a RESULT.csv, or --detections")
    if args.metrics and "coco" in args.metrics and not args.detections:
        parser.error("--metrics coco scores 2D detections; give them by --detections")


def handle(args: argparse.Namespace) -> None:
    """Read everything, score, print, write."""
    _check_outputs(args)
    if args.engine == "bop_toolkit":
        import_toolkit()
    labels = distinct_names(args.results)
    spec = _split(args)
    estimates = {path: read_results(path, spec.object_names) for path in args.results}
    detections = read_detections(args.detections) if args.detections else None
    records = with_unseen(load_split(spec, args.objects, require_images=False), spec)
    targets, images = _targets(args, spec, records)
    if detections is not None:
        _score_detections(args, detections, records, targets, images, spec)
    if not estimates:
        return
    obj_ids = {target.obj_id for target in targets}
    models = load_models(spec.models_eval_dir, obj_ids, spec.object_names, args.models_info)
    score = _Scoring(args, spec, records, targets, images, models)
    results = {}
    for path, found in estimates.items():
        results[path] = score(found)
        print(f"\n{path}\n{format_table(results[path])}\n")
        if args.engine == "bop_toolkit":
            _print_engines(results[path], score(found, ToolkitErrorModel))
    if len(results) > 1:
        print(format_comparison({labels[path]: scores for path, scores in results.items()}))
    _write(args, spec, results, labels)
    if args.report:
        _write_reports(args, spec, results, labels, estimates, score)


class _Scoring:
    """Scores estimates on what the command line chose."""

    def __init__(
        self,
        args: argparse.Namespace,
        spec: SplitSpec,
        records: list[ImageRecord],
        targets: list[Target],
        images: set[tuple[int, int]],
        models: dict[int, ObjectModel],
    ) -> None:
        self.records, self.targets, self.images, self.models = records, targets, images, models
        self.symmetric_ids = _symmetric_ids(args.symmetric, spec, models)
        self.width = args.image_width or _image_width(spec, records)
        default = (*DEFAULT_METRICS, "auc") if dataset_name(spec.root) == YCBV.folder else DEFAULT_METRICS
        self.metrics = [name for name in args.metrics or default if name != "coco"]
        delta = DELTA_OF.get(dataset_name(spec.root), DELTA)
        self.vsd = VsdScorer(models, delta, args.workers, progress=True) if "bop19" in self.metrics else None

    def __call__(self, estimates: Estimates, error_model: type[ErrorModel] = ErrorModel) -> Scores:
        return evaluate(
            estimates,
            self.records,
            self.targets,
            self.models,
            self.symmetric_ids,
            self.width,
            progress=True,
            metrics=self.metrics,
            vsd=self.vsd if error_model is ErrorModel else None,
            error_model=error_model,
            images=self.images,
        )


def _split(args: argparse.Namespace) -> SplitSpec:
    if args.dataset in ANCESTOR_SPLITS and not (args.datasets_root / args.dataset).is_dir():
        return resolve_split(args.dataset, args.datasets_root)
    return resolve_split(f"{args.dataset}:{args.split}", args.datasets_root)


def _symmetric_ids(words: list[str] | None, spec: SplitSpec, models: dict[int, ObjectModel]) -> list[int]:
    if words is None or words == ["paper"]:
        return list(spec.symmetric_ids)
    if words == ["bop"]:
        return [obj_id for obj_id, model in models.items() if model.is_symmetric]
    if not all(word.isdecimal() for word in words):
        raise UserError(f"--symmetric takes object ids, or 'paper' or 'bop', and got '{' '.join(words)}'")
    return [int(word) for word in words]


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse, before any work, outputs that could not hold the results."""
    inputs = [path for path in (*args.results, args.detections, args.targets) if path]
    for path in filter(None, (getattr(args, name) for name in OUTPUTS)):
        if path in inputs:
            raise UserError(f"{path} is an input and would be overwritten; choose another name")
        require_writable_file(path)


def _targets(
    args: argparse.Namespace, spec: SplitSpec, records: list[ImageRecord]
) -> tuple[list[Target], set[tuple[int, int]]]:
    """The targets that are scored, and the images that a list names alone, whether or not one is there."""
    paper = spec.name in ANCESTOR_SPLITS and spec.targets_path is None
    path = args.targets or (None if paper else spec.root / TARGETS_NAME)
    if path is not None and (args.targets or path.is_file()):
        targets, images = load_targets(path, records), images_alone(path)
    else:
        images: set[tuple[int, int]] = set()
        targets = make_targets(records, min_visib=0.0 if paper else 0.1)
    wanted = set(spec.object_names if args.objects is None else args.objects)
    bare = sum(not record.is_annotated for record in records)
    if bare == len(records):
        raise UserError(f"{spec.images_dir} has no ground truth (scene_gt.json) to score by; BOP's server may have it")
    if bare:
        logger.warning("%d of %d images have no ground truth and are not scored", bare, len(records))
    chosen = [target for target in with_truth(targets, records) if target.obj_id in wanted]
    if not chosen:
        raise UserError(f"no target is of objects {sorted(wanted)}; choose other --objects or --targets")
    return chosen, images & {(record.scene_id, record.im_id) for record in records if record.is_annotated}


def _image_width(spec: SplitSpec, records: list[ImageRecord]) -> int | None:
    """The width that camera.json states where there is no image; None where an image can be read."""
    if any(record.rgb_path.is_file() for record in records):
        return None
    return read_camera_size(spec.root)[0]


def _score_detections(
    args: argparse.Namespace,
    detections: list[Detection],
    records: list[ImageRecord],
    targets: list[Target],
    images: set[tuple[int, int]],
    spec: SplitSpec,
) -> None:
    from sopose.core.evaluation.coco import coco_scores

    kinds = ["bbox"] + (["segm"] if all(item.segmentation is not None for item in detections) else [])
    found = [coco_scores(detections, records, targets, kind, args.boxes, images) for kind in kinds]
    for scores in found:
        low, high = (100 * bound for bound in scores.interval)
        print(f"COCO {scores.kind}: AP {100 * scores.ap:.1f} (95 % of a bootstrap over images: {low:.1f}–{high:.1f})")
        print(f"  AP50 {100 * scores.ap50:.1f}  AP75 {100 * scores.ap75:.1f}  AR100 {100 * scores.ar100:.1f}")
        names = {obj_id: spec.object_names.get(obj_id, str(obj_id)) for obj_id in scores.per_object}
        print("  " + "  ".join(f"{names[obj_id]} {100 * ap:.1f}" for obj_id, ap in scores.per_object.items()))
    if args.json:
        path = args.json.with_name(f"{args.json.stem}_coco{args.json.suffix}")
        write_json(path, finite({scores.kind: asdict(scores) for scores in found}))
        print(f"wrote {path}")


def _print_engines(ours: Scores, official: Scores) -> None:
    print(format_comparison({"core": ours, "bop_toolkit": official}))
    found = differences(ours, official)
    key = max(found, key=found.get)
    print(f"largest difference of any score: {found[key]:.3g} ({key}); VSD is not compared\n")


def _write(args: argparse.Namespace, spec: SplitSpec, results: dict[Path, Scores], labels: dict[Path, str]) -> None:
    named = {labels[path]: scores for path, scores in results.items()}
    if args.json:
        for path, scores in results.items():
            target = _one_of(args.json, labels[path], len(results))
            write_scores(target, scores)
            print(f"wrote {target}")
    for path, text in ((args.csv, format_csv), (args.latex, format_latex)):
        if path:
            write_text(path, text(named))
            print(f"wrote {path}")


def _write_reports(
    args: argparse.Namespace,
    spec: SplitSpec,
    results: dict[Path, Scores],
    labels: dict[Path, str],
    estimates: dict[Path, Estimates],
    score: _Scoring,
) -> None:
    from sopose.core.evaluation.cases import worst_cases
    from sopose.core.evaluation.report import write_report

    named = {labels[path]: scores for path, scores in results.items()}
    for path, scores in results.items():
        target = _one_of(args.report, labels[path], len(results))
        cases = worst_cases(scores, estimates[path], score.records, score.models, args.cases)
        facts = {
            "results": path.name,
            "data set": f"{dataset_name(spec.root)}, {spec.split}",
            "metrics": ", ".join(score.metrics),
        }
        write_report(target, path.stem, scores, cases, facts, compared=named if len(named) > 1 else None)
        print(f"wrote {target}")


def _one_of(path: Path, label: str, count: int) -> Path:
    """The name of an output of one of several results."""
    return path.with_name(f"{path.stem}_{label}{path.suffix}") if count > 1 else path
