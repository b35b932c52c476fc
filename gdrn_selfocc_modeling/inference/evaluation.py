"""From a network and a test split to a file of predictions; from that to a BOP csv, a score table and an html report.

The network runs once. What it predicted is on the disk before anything is scored or drawn.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from sopose.core.bop.catalog import dataset_name
from sopose.core.bop.results import Estimates, result_name, write_results
from sopose.core.bop.splits import resolve_split
from sopose.core.engine.checkpoint import model_weights, read_checkpoint
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.engine.distributed import current_world, process_group, select_device
from sopose.core.engine.facts import checkpoint_facts
from sopose.core.engine.logs import read_metrics
from sopose.core.engine.machine import share_cores
from sopose.core.evaluation.bop19 import group_targets
from sopose.core.evaluation.evaluator import Scores, evaluate, write_scores
from sopose.core.evaluation.report import write_report
from sopose.core.evaluation.tables import format_table
from sopose.core.evaluation.vsd import DELTA, DELTA_OF, VsdScorer
from sopose.core.images.files import write_image
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_writable_dir, write_text
from sopose.core.utils.folder_lock import FolderLock
from sopose.data.build import ObjectCache, class_names
from sopose.data.eval_set import EvalSet, build_test_set
from sopose.inference.agreement import recorded_objects, require_same_models, require_trained_for
from sopose.inference.checkpoint_facts import knows_middles, model_entries
from sopose.inference.depth_predictions import predictions_at_depth, require_depth
from sopose.inference.onnx_network import SUFFIX, read_onnx
from sopose.inference.pose_solver import build_other_solvers, build_pose_solver
from sopose.inference.predict import InferencePlan, predict
from sopose.inference.predictions import FILE_NAME, Predictions, read_predictions, require_rois, write_predictions
from sopose.inference.refine import PoseRefiner, build_look_plan, build_pose_refiner
from sopose.inference.refine_predictions import refine_predictions
from sopose.inference.rolls import estimates_with_rolls
from sopose.inference.torch_networks import AsModule
from sopose.models.build import restore_model
from sopose.models.map_forms import build_pnp_input
from sopose.settings import Settings, plain_settings, shipped
from sopose.settings.groups import EvalSettings
from sopose.settings.network import PoseNetSettings
from sopose.vis.best_to_worst import draw_best_to_worst
from sopose.vis.report_cases import report_cases

logger = logging.getLogger(__name__)
OTHER_FOLDER = "name another OUTPUT_DIR in --opts, and the weights by MODEL.WEIGHTS"


@dataclass(frozen=True)
class EvaluationPlan:
    """How test splits are evaluated, and where the results go."""

    output_dir: Path
    name: str  # of the method, in names of files and in reports
    test: EvalSettings
    net: PoseNetSettings
    symmetric: Sequence[str]  # names of the objects scored by ADD-S
    report_cases: int
    workers: int
    refiner: PoseRefiner | None = None  # of second looks, where TEST.REFINE has some


def build_plan(settings: Settings) -> EvaluationPlan:
    """What the settings say of evaluations. Raises `UserError` where TEST.REFINE's network can't be had."""
    return EvaluationPlan(
        output_dir=Path(settings.output_dir),
        name=settings.exp_name,
        test=settings.test,
        net=settings.model.pose_net,
        symmetric=settings.datasets.sym_objs,
        report_cases=settings.val.report_cases,
        workers=settings.dataloader.num_workers,
        refiner=build_pose_refiner(settings.test.refine, str(select_device(settings.model.device))),
    )


def evaluate_checkpoint(settings: Settings) -> None:
    """Score MODEL.WEIGHTS, or the run's last checkpoint, on every split of DATASETS.TEST."""
    output, given = Path(settings.output_dir), settings.model.weights
    if not settings.datasets.test:
        raise UserError("DATASETS.TEST is empty; name a split to evaluate on")
    path = shipped(Path(given)) if given else last_checkpoint(output)
    if path is None:
        raise UserError(f"{output} has no checkpoint; train first, or name one by MODEL.WEIGHTS in --opts")
    require_writable_dir(output, OTHER_FOLDER)
    device, loading = select_device(settings.model.device), settings.dataloader
    shares = share_cores(loading.num_workers, settings.cpu_threads, computes=device.type == "cpu")
    plan = build_plan(replace(settings, dataloader=replace(loading, num_workers=shares.workers)))
    with process_group(device), FolderLock(output, OTHER_FOLDER, writes=current_world().is_first) as lock:
        model, cache = build_trained_model(settings, path, device, with_maps=plan.report_cases > 0)
        test_sets = build_test_sets(settings, cache)
        lock.take()
        for test_set in test_sets:
            evaluate_model(model, test_set, plan, device, str(path))


def build_trained_model(
    settings: Settings, path: Path, device: torch.device, with_maps: bool = False
) -> tuple[nn.Module, ObjectCache]:
    """The network of a checkpoint or an .onnx file, and the models of its classes.

    Raises `UserError` where settings would give the weights another meaning, or test objects that the network was
    not trained for or knows in another size, and for an .onnx file without maps where a report's pictures are made
    `with_maps`.
    """
    if path.suffix == SUFFIX:
        network, state = read_onnx(path, str(device))
        model = AsModule(network)
        if with_maps and not model.has_maps:
            advice = "set VAL.REPORT_CASES=0, or export with --maps"
            raise UserError(f"{path} has no maps for the report's pictures; {advice}")
    else:
        state = read_checkpoint(path)
    facts = checkpoint_facts(state)
    require_trained_for(facts, plain_settings(settings), class_names(settings.datasets), path)
    classes, net = recorded_objects(facts), settings.model.pose_net
    cache = ObjectCache(settings.datasets, net, classes, knows_middles(facts))
    for split in settings.datasets.test:
        objects = cache.get(resolve_split(split, Path(settings.datasets.root)))
        models = [objects.models[obj_id] for obj_id in objects.trained]
        require_same_models(facts, model_entries(models, cache.centered), path)
    if path.suffix != SUFFIX:
        model = restore_model(settings.model.pose_net, model_weights(state, path), path)
        model = model.to(device, memory_format=torch.channels_last)
    return model, cache


def build_test_sets(settings: Settings, cache: ObjectCache) -> list[EvalSet]:
    """The splits of DATASETS.TEST; `UserError`, before any work, where targets don't fit or TEST.DEPTH finds none."""
    test_sets = [build_test_set(settings, name, cache) for name in settings.datasets.test]
    for test_set in test_sets:
        group_targets((), test_set.records, test_set.targets)
        if settings.test.depth:
            require_depth(test_set)
    return test_sets


def evaluate_model(
    model: nn.Module, test_set: EvalSet, plan: EvaluationPlan, device: torch.device, origin: str
) -> Scores | None:
    """Estimate, score and report one split; files go to OUTPUT_DIR/inference/<split>.

    `origin` says where the weights come from, for the report. The ROIs are shared out to all ranks; the first of them
    scores and writes, the others return None. The network is left in the mode it came in.
    """
    folder = output_folder(plan, test_set)
    # BOP's tools split the name at '_' and '-', so they are removed from a data set's own name.
    dataset = re.sub("[-_]", "", dataset_name(test_set.spec.root))
    csv = folder / result_name(plan.name, dataset, test_set.spec.split.replace("/", "-"))
    predictions = run_inference(model, test_set, plan, device)
    if not current_world().is_first:
        return None
    facts = {
        "boxes": _boxes_in_words(plan.test),
        "poses": _poses_in_words(plan.test),
        "weights": origin,
        "device": _device_name(device),
    }
    write_results(csv, predictions.estimates)
    write_predictions(folder / FILE_NAME, replace(predictions, facts=facts))
    print(f"estimates  {csv}\nkept       {folder / FILE_NAME}", flush=True)
    return report_predictions(test_set, plan)


def report_again(settings: Settings) -> None:
    """Score and report what the last evaluation kept in OUTPUT_DIR of every split of DATASETS.TEST; no network runs.

    Raises `UserError` where a split has no predictions, or those of other boxes.
    """
    plan = build_plan(settings)
    with FolderLock(plan.output_dir, OTHER_FOLDER):
        for test_set in build_test_sets(settings, ObjectCache(settings.datasets, plan.net)):
            report_predictions(test_set, plan)


def output_folder(plan: EvaluationPlan, test_set: EvalSet) -> Path:
    """Where an evaluation's files are."""
    return plan.output_dir / "inference" / re.sub("[/:]", "-", test_set.spec.name)


def report_predictions(test_set: EvalSet, plan: EvaluationPlan) -> Scores | None:
    """Scores of the predictions kept of a split: printed, and written as scores.json, table.txt and report.html.

    With pictures in the report there is also best_to_worst.jpg, of cases of each object.
    None, and a line that says so, where the split has no ground truth; of images without it the scores know nothing.
    A picture or a plot that can't be drawn is missing in the report, which says so. Raises `UserError` where the
    predictions are missing, damaged or of other boxes.
    """
    folder = output_folder(plan, test_set)
    predictions = read_predictions(folder / FILE_NAME)
    require_rois(predictions, test_set.source, folder / FILE_NAME)
    if test_set.images_without_truth:
        _warn_of_unscored(test_set)
        if not test_set.targets:
            return None
    delta = DELTA_OF.get(dataset_name(test_set.spec.root), DELTA)
    scores = evaluate(
        predictions.estimates,
        test_set.records,
        test_set.targets,
        test_set.models_eval,
        test_set.symmetric_ids(plan.symmetric),
        progress=True,
        vsd=VsdScorer(test_set.models_eval, delta, progress=True),
    )
    table, report = format_table(scores), folder / "report.html"
    write_scores(folder / "scores.json", scores)
    write_text(folder / "table.txt", table + "\n")
    print(f"{table}\nscores     {folder / 'scores.json'}", flush=True)
    poses = [estimate.pose for estimate in predictions.estimates[predictions.pictured]]
    coarse = None if predictions.coarse is None else [one.pose for one in predictions.coarse[predictions.pictured]]
    data = f"{test_set.spec.name}: {len(test_set.records)} images, {scores.targets} targets"
    write_report(
        report,
        f"{plan.name} on {test_set.spec.name}",
        scores,
        report_cases(test_set.source, predictions.pictured.tolist(), poses, predictions.maps, coarse),
        {"data": data, **predictions.facts},
        read_metrics(plan.output_dir / "metrics.json"),
    )
    print(f"report     {report}", flush=True)
    if plan.report_cases:
        _draw_best_to_worst(folder / "best_to_worst.jpg", test_set, predictions, plan.symmetric)
    return scores


def _draw_best_to_worst(path: Path, test_set: EvalSet, predictions: Predictions, symmetric: Sequence[str]) -> None:
    """Write the picture; scores are never lost to one that can't be drawn."""
    try:
        picture = draw_best_to_worst(test_set, predictions.estimates, test_set.symmetric_ids(symmetric))
    except (OSError, UserError) as error:
        logger.warning("%s is missing: %s", path, error)
        return
    if picture is not None:
        write_image(path, picture)
        print(f"cases      {path}", flush=True)


def _warn_of_unscored(test_set: EvalSet) -> None:
    """One line of what is not scored."""
    bare = f"{test_set.images_without_truth} of {len(test_set.records)} images"
    what = f"{bare} have no ground truth (scene_gt.json)"
    advice = "the scores are of the others" if test_set.targets else "send the csv to BOP's server, or add it"
    print(f"not scored {test_set.spec.name}: {what}; {advice}", flush=True)


def run_inference(model: nn.Module, test_set: EvalSet, plan: EvaluationPlan, device: torch.device) -> Predictions:
    """Poses of all ROIs of a test set as TEST says, and the maps of VAL.REPORT_CASES of them, spread evenly."""
    has_maps = getattr(model, "has_maps", True)
    solvers = [build_pose_solver(plan.test, plan.net, has_maps), *build_other_solvers(plan.test, plan.net, has_maps)]
    named, how = {str(place): solver for place, solver in enumerate(solvers)}, inference_plan(plan)
    found = predict(model, test_set, named, how, device, plan.report_cases, together=True)
    predictions, *others = found.values()
    ways = [one.estimates for one in others]
    if plan.test.rolls:

        def seen_alone(views: EvalSet) -> Estimates:
            return predict(model, views, {"": solvers[0]}, how, device)[""].estimates

        agreed, singles = estimates_with_rolls(test_set, predictions.estimates, plan.test.rolls, seen_alone)
        predictions, ways = replace(predictions, estimates=agreed), [*ways, *singles]
    if plan.refiner is not None:
        looks = build_look_plan(plan.test.refine)
        predictions = refine_predictions(plan.refiner, test_set, predictions, looks, ways)
    return predictions_at_depth(test_set, predictions) if plan.test.depth else predictions


def inference_plan(plan: EvaluationPlan) -> InferencePlan:
    """How the network of a plan runs."""
    net, test = plan.net, plan.test
    return InferencePlan(test.ims_per_batch, plan.workers, test.amp_test, net.input_res, build_pnp_input(net))


def _boxes_in_words(test: EvalSettings) -> str:
    words = {"gt": "ground truth", "est": "detections", "csv": "poses of an earlier result"}[test.test_bbox_type]
    return f"{words}, moved and scaled by up to {test.bbox_jitter:.0%}" if test.bbox_jitter > 0 else words


def _poses_in_words(test: EvalSettings) -> str:
    coarse = f"{test.pnp_type} from {test.pnp_layers}" if test.use_pnp else "the network's"
    if test.rolls:
        degrees = ", ".join(f"{roll:g}" for roll in (0, *test.rolls))
        coarse += f", mean of {len(test.rolls) + 1} views, rolled by {degrees}°"
    refine, depth = test.refine, ", distances by depth images" if test.depth else ""
    if not refine.iterations:
        return coarse + depth
    starts = f", the best of up to {refine.starts} starts" if refine.starts > 1 else ""
    prior = f", prior scale {refine.prior_scale:g}" if refine.prior_scale != 1 else ""
    return f"{coarse}, second looks: {refine.iterations} by {refine.weights}{starts}{prior}{depth}"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
