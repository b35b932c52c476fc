"""Results files of any method, scored on a BOP folder: printed, side by side where there are several, and written."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sopose.core.bop.catalog import DATASETS_FOLDER, TARGETS_NAME, YCBV, dataset_name
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
from sopose.core.evaluation.metrics import DEFAULT_METRICS
from sopose.core.evaluation.scores import Scores, finite, write_scores
from sopose.core.evaluation.tables import format_comparison, format_csv, format_latex, format_table
from sopose.core.evaluation.toolkit import ToolkitErrorModel, differences, import_toolkit
from sopose.core.evaluation.vsd import DELTA, DELTA_OF, VsdScorer
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import distinct_names, require_writable_file, write_json, write_text

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreOptions:
    """What `sopose score` takes, by the names of its options."""

    dataset: str  # a folder's name or path, or the name of a paper's test set
    results: Sequence[Path] = ()
    split: str = "test"
    datasets_root: Path = DATASETS_FOLDER
    targets: Path | None = None  # the data set's, or what is at least 10 % visible
    objects: Sequence[int] | None = None  # all
    symmetric: Sequence[str] | None = None  # ids, or "paper" or "bop"
    models_info: str = INFO_NAME
    image_width: int | None = None  # pixels; of the images
    metrics: Sequence[str] | None = None
    detections: Path | None = None
    boxes: Literal["amodal", "modal"] = "amodal"
    engine: Literal["core", "bop_toolkit"] = "core"
    workers: int = -1
    report: Path | None = None
    cases: int = 6
    json: Path | None = None
    csv: Path | None = None
    latex: Path | None = None


@dataclass(frozen=True, eq=False)
class _Truth:
    """What is scored on."""

    spec: SplitSpec
    records: list[ImageRecord]
    targets: list[Target]
    images: set[tuple[int, int]]  # that a list of targets names alone, whether or not one is there


def score_files(options: ScoreOptions) -> dict[str, Scores]:
    """Read everything, score, print, write; the scores of each results file by what it is called.

    Raises `UserError` for files that are missing or wrong, for options that fit no target, and before any work for
    outputs that cannot be written.
    """
    _check_outputs(options)
    if options.engine == "bop_toolkit":
        import_toolkit()
    labels = distinct_names(options.results)
    spec = _split(options)
    estimates = {labels[path]: read_results(path, spec.object_names) for path in options.results}
    detections = read_detections(options.detections) if options.detections else None
    truth = _truth(options, spec)
    if detections is not None:
        _score_detections(options, detections, truth)
    if not estimates:
        return {}
    score = _Scoring(options, truth)
    results: dict[str, Scores] = {}
    for path, label in labels.items():
        results[label] = score(estimates[label])
        print(f"\n{path}\n{format_table(results[label])}\n")
        if options.engine == "bop_toolkit":
            _print_engines(results[label], score(estimates[label], ToolkitErrorModel))
    if len(results) > 1:
        print(format_comparison(results))
    _write(options, results)
    _write_reports(options, labels, results, estimates, score)
    return results


class _Scoring:
    """Scores estimates on what the options chose."""

    def __init__(self, options: ScoreOptions, truth: _Truth) -> None:
        self.truth, spec = truth, truth.spec
        obj_ids = {target.obj_id for target in truth.targets}
        self.models = load_models(spec.models_eval_dir, obj_ids, spec.object_names, options.models_info)
        self.symmetric_ids = _symmetric_ids(options.symmetric, spec, self.models)
        self.width = options.image_width or _image_width(truth)
        default = (*DEFAULT_METRICS, "auc") if dataset_name(spec.root) == YCBV.folder else DEFAULT_METRICS
        self.metrics = [name for name in options.metrics or default if name != "coco"]
        delta = DELTA_OF.get(dataset_name(spec.root), DELTA)
        self.vsd = VsdScorer(self.models, delta, options.workers, progress=True) if "bop19" in self.metrics else None

    def __call__(self, estimates: Estimates, error_model: type[ErrorModel] = ErrorModel) -> Scores:
        return evaluate(
            estimates,
            self.truth.records,
            self.truth.targets,
            self.models,
            self.symmetric_ids,
            self.width,
            progress=True,
            metrics=self.metrics,
            vsd=self.vsd if error_model is ErrorModel else None,
            error_model=error_model,
            images=self.truth.images,
        )


def _split(options: ScoreOptions) -> SplitSpec:
    if options.dataset in ANCESTOR_SPLITS and not (options.datasets_root / options.dataset).is_dir():
        return resolve_split(options.dataset, options.datasets_root)
    return resolve_split(f"{options.dataset}:{options.split}", options.datasets_root)


def _symmetric_ids(words: Sequence[str] | None, spec: SplitSpec, models: Mapping[int, ObjectModel]) -> list[int]:
    if words is None or list(words) == ["paper"]:
        return list(spec.symmetric_ids)
    if list(words) == ["bop"]:
        return [obj_id for obj_id, model in models.items() if model.is_symmetric]
    if not all(word.isdecimal() for word in words):
        raise UserError(f"--symmetric takes object ids, or 'paper' or 'bop', and got '{' '.join(words)}'")
    return [int(word) for word in words]


def _check_outputs(options: ScoreOptions) -> None:
    """Refuse, before any work, outputs that could not hold the results."""
    inputs = [path for path in (*options.results, options.detections, options.targets) if path]
    for path in filter(None, (options.report, options.json, options.csv, options.latex)):
        if path in inputs:
            raise UserError(f"{path} is an input and would be overwritten; choose another name")
        require_writable_file(path)


def _truth(options: ScoreOptions, spec: SplitSpec) -> _Truth:
    """The ground truth of a split, and the targets that are scored there."""
    records = with_unseen(load_split(spec, options.objects, require_images=False), spec)
    paper = spec.name in ANCESTOR_SPLITS and spec.targets_path is None
    path = options.targets or (None if paper else spec.root / TARGETS_NAME)
    if path is not None and (options.targets or path.is_file()):
        targets, images = load_targets(path, records), images_alone(path)
    else:
        targets, images = make_targets(records, min_visib=0.0 if paper else 0.1), set()
    wanted = set(spec.object_names if options.objects is None else options.objects)
    bare = sum(not record.is_annotated for record in records)
    if bare == len(records):
        raise UserError(f"{spec.images_dir} has no ground truth (scene_gt.json) to score by; BOP's server may have it")
    if bare:
        logger.warning("%d of %d images have no ground truth and are not scored", bare, len(records))
    chosen = [target for target in with_truth(targets, records) if target.obj_id in wanted]
    if not chosen:
        raise UserError(f"no target is of objects {sorted(wanted)}; choose other --objects or --targets")
    annotated = {(record.scene_id, record.im_id) for record in records if record.is_annotated}
    return _Truth(spec, records, chosen, images & annotated)


def _image_width(truth: _Truth) -> int | None:
    """The width that camera.json states where there is no image; None where an image can be read."""
    if any(record.rgb_path.is_file() for record in truth.records):
        return None
    return read_camera_size(truth.spec.root)[0]


def _score_detections(options: ScoreOptions, detections: list[Detection], truth: _Truth) -> None:
    from sopose.core.evaluation.coco import coco_scores

    kinds: list[Literal["bbox", "segm"]] = ["bbox"]
    if all(item.segmentation is not None for item in detections):
        kinds.append("segm")
    found = [coco_scores(detections, truth.records, truth.targets, kind, options.boxes, truth.images) for kind in kinds]
    for scores in found:
        low, high = (100 * bound for bound in scores.interval)
        print(f"COCO {scores.kind}: AP {100 * scores.ap:.1f} (95 % of a bootstrap over images: {low:.1f}–{high:.1f})")
        print(f"  AP50 {100 * scores.ap50:.1f}  AP75 {100 * scores.ap75:.1f}  AR100 {100 * scores.ar100:.1f}")
        names = {obj_id: truth.spec.object_names.get(obj_id, str(obj_id)) for obj_id in scores.per_object}
        print("  " + "  ".join(f"{names[obj_id]} {100 * ap:.1f}" for obj_id, ap in scores.per_object.items()))
    if options.json:
        path = options.json.with_name(f"{options.json.stem}_coco{options.json.suffix}")
        write_json(path, finite({scores.kind: asdict(scores) for scores in found}))
        print(f"wrote {path}")


def _print_engines(ours: Scores, official: Scores) -> None:
    print(format_comparison({"core": ours, "bop_toolkit": official}))
    found = differences(ours, official)
    key = max(found, key=found.get)
    print(f"largest difference of any score: {found[key]:.3g} ({key}); VSD is not compared\n")


def _write(options: ScoreOptions, results: Mapping[str, Scores]) -> None:
    if options.json:
        for label, scores in results.items():
            target = _one_of(options.json, label, len(results))
            write_scores(target, scores)
            print(f"wrote {target}")
    for path, text in ((options.csv, format_csv), (options.latex, format_latex)):
        if path:
            write_text(path, text(results))
            print(f"wrote {path}")


def _write_reports(
    options: ScoreOptions,
    labels: Mapping[Path, str],
    results: Mapping[str, Scores],
    estimates: Mapping[str, Estimates],
    score: _Scoring,
) -> None:
    if not options.report:
        return
    from sopose.core.evaluation.cases import worst_cases
    from sopose.core.evaluation.report import write_report

    spec = score.truth.spec
    for path, label in labels.items():
        target = _one_of(options.report, label, len(results))
        cases = worst_cases(results[label], estimates[label], score.truth.records, score.models, options.cases)
        facts = {
            "results": path.name,
            "data set": f"{dataset_name(spec.root)}, {spec.split}",
            "metrics": ", ".join(score.metrics),
        }
        write_report(target, path.stem, results[label], cases, facts, compared=results if len(results) > 1 else None)
        print(f"wrote {target}")


def _one_of(path: Path, label: str, count: int) -> Path:
    """The name of an output of one of several results."""
    return path.with_name(f"{path.stem}_{label}{path.suffix}") if count > 1 else path
