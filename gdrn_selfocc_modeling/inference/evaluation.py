"""From a network and a test split to estimates, a BOP csv, a score table and an html report."""

from __future__ import annotations

import logging
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from sopose.batch import collate_samples
from sopose.core.bop.catalog import dataset_name
from sopose.core.bop.results import Estimate, result_name, write_results
from sopose.core.data.loader import make_test_loader
from sopose.core.engine.checkpoint import FACTS, load_weights, model_weights, read_checkpoint
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.engine.distributed import current_world, join_shares, process_group
from sopose.core.engine.launch import select_device
from sopose.core.engine.logs import read_metrics
from sopose.core.engine.modes import evaluation_mode
from sopose.core.evaluation.bop import group_targets
from sopose.core.evaluation.evaluator import Scores, evaluate, write_scores
from sopose.core.evaluation.report import write_report
from sopose.core.evaluation.tables import format_table
from sopose.core.evaluation.vsd import DELTA, DELTA_OF, VsdScorer
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_writable_dir, write_text
from sopose.data.build import ObjectCache
from sopose.data.eval_set import EvalSet, build_test_set
from sopose.data.mapper import EvalItem
from sopose.inference.onnx_network import SUFFIX, OnnxNetwork, read_onnx
from sopose.models.build import build_model, build_pnp_input
from sopose.models.pnp_points import MapReader, PoseSolver
from sopose.models.pnp_solvers import RansacOptions
from sopose.settings.groups import EvalSettings, Settings
from sopose.settings.network import PoseNetSettings
from sopose.vis.predictions import report_cases

logger = logging.getLogger(__name__)


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


def build_plan(settings: Settings) -> EvaluationPlan:
    """What the settings say of evaluations."""
    return EvaluationPlan(
        output_dir=Path(settings.output_dir),
        name=settings.exp_name,
        test=settings.test,
        net=settings.model.pose_net,
        symmetric=settings.datasets.sym_objs,
        report_cases=settings.val.report_cases,
        workers=settings.dataloader.num_workers,
    )


def evaluate_checkpoint(settings: Settings) -> None:
    """Score MODEL.WEIGHTS, or the run's last checkpoint, on every split of DATASETS.TEST."""
    output, given = Path(settings.output_dir), settings.model.weights
    if not settings.datasets.test:
        raise UserError("DATASETS.TEST is empty; name a split to evaluate on")
    path = Path(given) if given else last_checkpoint(output)
    if path is None:
        raise UserError(f"{output} has no checkpoint; train first, or name one by MODEL.WEIGHTS in --opts")
    require_writable_dir(output, "name another OUTPUT_DIR in --opts")
    device, plan = select_device(settings.model.device), build_plan(settings)
    with process_group(device):
        model, classes = trained_model(plan.net, path, device, with_maps=plan.report_cases > 0)
        cache = ObjectCache(settings.datasets, plan.net, classes)
        for test_set in build_test_sets(settings, cache):
            evaluate_model(model, test_set, plan, device, str(path))


def trained_model(
    net: PoseNetSettings, path: Path, device: torch.device, with_maps: bool = False
) -> tuple[nn.Module, Sequence[str]]:
    """The network of a checkpoint or an .onnx file, and the names of its classes where it tells them.

    Raises `UserError` for an .onnx file without maps where a report's pictures are made `with_maps`.
    """
    if path.suffix == SUFFIX:
        network, state = read_onnx(path, device)
        if with_maps and not network.has_maps:
            advice = "set VAL.REPORT_CASES=0, or export with --maps"
            raise UserError(f"{path} has no maps for the report's pictures; {advice}")
        return network, _trained_objects(state)
    state = read_checkpoint(path)
    model = build_model(net, pretrained=False)
    load_weights(model, model_weights(state, path), path)
    return model.to(device, memory_format=torch.channels_last), _trained_objects(state)


def _trained_objects(state: dict[str, Any]) -> Sequence[str]:
    """Names of the objects a checkpoint was trained on, in the order of its classes; none where it doesn't tell."""
    facts = state.get(FACTS)
    objects = facts.get("objects") if isinstance(facts, dict) else None
    told = isinstance(objects, list | tuple) and all(isinstance(name, str) for name in objects)
    return objects if told else ()


def build_test_sets(settings: Settings, cache: ObjectCache) -> list[EvalSet]:
    """The splits of DATASETS.TEST; `UserError`, before any work, where targets don't fit their annotations."""
    test_sets = [build_test_set(settings, name, cache) for name in settings.datasets.test]
    for test_set in test_sets:
        group_targets((), test_set.records, test_set.targets)
    return test_sets


def evaluate_model(
    model: nn.Module, test_set: EvalSet, plan: EvaluationPlan, device: torch.device, origin: str
) -> Scores | None:
    """Estimate, score and report one split; files go to OUTPUT_DIR/inference/<split>.

    `origin` says where the weights come from, for the report. The ROIs are shared out to all ranks; the first of them
    scores and writes, the others return None. The network is left in the mode it came in.
    """
    with evaluation_mode(model):
        estimates = run_inference(model, test_set, plan, device)
        return _report(model, estimates, test_set, plan, device, origin) if current_world().is_first else None


def _report(
    model: nn.Module,
    estimates: list[Estimate],
    test_set: EvalSet,
    plan: EvaluationPlan,
    device: torch.device,
    origin: str,
) -> Scores:
    """Scores of the estimates, and all files of an evaluation."""
    folder = plan.output_dir / "inference" / re.sub("[/:]", "-", test_set.spec.name)
    delta = DELTA_OF.get(dataset_name(test_set.spec.root), DELTA)
    scores = evaluate(
        estimates,
        test_set.records,
        test_set.targets,
        test_set.models_eval,
        test_set.symmetric_ids(plan.symmetric),
        progress=True,
        vsd=VsdScorer(test_set.models_eval, delta, progress=True),
    )
    solver = build_pose_solver(plan.test, plan.net, model)
    cases = report_cases(model, test_set, plan.report_cases, device, solver)  # reads files: nothing is written yet
    table = format_table(scores)
    # BOP's tools tell the parts of the name by '_' and '-', which a data set's own name therefore goes without.
    dataset = re.sub("[-_]", "", dataset_name(test_set.spec.root))
    csv = folder / result_name(plan.name, dataset, test_set.spec.split.replace("/", "-"))
    write_results(csv, estimates)
    write_scores(folder / "scores.json", scores)
    write_text(folder / "table.txt", table + "\n")
    facts = {
        "data": f"{test_set.spec.name}: {len(test_set.records)} images, {scores.targets} targets",
        "boxes": _boxes_in_words(plan.test),
        "poses": _poses_in_words(plan.test),
        "weights": origin,
        "device": _device_name(device),
    }
    report = folder / "report.html"
    write_report(
        report,
        f"{plan.name} on {test_set.spec.name}",
        scores,
        cases,
        facts,
        read_metrics(plan.output_dir / "metrics.json"),
    )
    print(table)
    print(f"estimates  {csv}\nscores     {folder / 'scores.json'}\nreport     {report}", flush=True)
    return scores


def build_pose_solver(test: EvalSettings, net: PoseNetSettings, model: nn.Module) -> PoseSolver:
    """How the poses of a test come about, as TEST.USE_PNP and the keys beside it say."""
    if not test.use_pnp:
        return PoseSolver()
    if isinstance(model, OnnxNetwork) and not model.has_maps:
        raise UserError("TEST.USE_PNP needs maps, which the .onnx file doesn't tell; export it with --maps")
    thresholds = net.geo_head.mask_thr_test, net.selfocc_head.mask_thr_test
    reader = MapReader(build_pnp_input(net), *thresholds, test.pnp_layers)
    return PoseSolver(test.pnp_type, reader, ransac_options(test))


def ransac_options(test: EvalSettings) -> RansacOptions:
    """What the keys of TEST say of RANSAC."""
    return RansacOptions(test.pnp_reproj_error, test.pnp_iterations, test.pnp_confidence)


@torch.inference_mode()
def run_inference(model: nn.Module, test_set: EvalSet, plan: EvaluationPlan, device: torch.device) -> list[Estimate]:
    """One estimate per ROI of the test set, in its order; each rank works on its share and gets all.

    An image's time is that of its ROIs in the network and the PnP solver plus the detector's; cropping runs beside it
    in the workers.
    """
    world, items = current_world(), test_set.source.items
    loader = make_test_loader(
        test_set.source, collate_samples, plan.test.ims_per_batch, plan.workers, world.rank, world.size
    )
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=plan.test.amp_test and device.type == "cuda")
    solve = build_pose_solver(plan.test, plan.net, model)
    rows: list[Tensor] = []
    hidden = not world.is_first
    with evaluation_mode(model):
        for rois, _, infos in tqdm(loader, desc=f"poses of {test_set.spec.name}", unit="batch", disable=hidden):
            started = time.perf_counter()
            rois = rois.to(device)
            with autocast:
                prediction = model(rois)
            poses = solve(prediction, rois)
            seconds = (time.perf_counter() - started) / len(infos)
            rows += [_pack(pose, seconds) for pose in poses]
    share = torch.stack(rows) if rows else torch.zeros(0, PACKED, dtype=torch.float64)
    joined = join_shares(share, len(items), world, device).numpy()
    return with_image_times((_unpack(item, row) for item, row in zip(items, joined, strict=True)), test_set)


PACKED = 13  # numbers of one estimate: R, t and seconds


def _pack(pose: Pose, seconds: float) -> Tensor:
    return torch.from_numpy(np.concatenate([pose.cam_R_obj.ravel(), pose.cam_t_obj, [seconds]]))


def _unpack(item: EvalItem, row: np.ndarray) -> Estimate:
    pose = Pose(row[:9].reshape(3, 3), row[9:12])
    return Estimate(item.record.scene_id, item.record.im_id, item.obj_id, item.score, pose, float(row[12]))


def with_image_times(estimates: Iterable[Estimate], test_set: EvalSet) -> list[Estimate]:
    """The same estimates, each with the time of its whole image, as BOP's csv wants it.

    It is -1 where the detector's is unknown.
    """
    estimates = list(estimates)
    seconds: dict[tuple[int, int], float] = defaultdict(float)
    for estimate in estimates:
        seconds[estimate.scene_id, estimate.im_id] += estimate.time
    for key, detection in test_set.detection_times().items():
        seconds[key] = seconds[key] + detection if detection >= 0 else -1.0  # BOP's word for unknown
    return [replace(estimate, time=seconds[estimate.scene_id, estimate.im_id]) for estimate in estimates]


def _boxes_in_words(test: EvalSettings) -> str:
    words = {"gt": "ground truth", "est": "detections", "csv": "poses of an earlier result"}[test.test_bbox_type]
    return f"{words}, moved and scaled by up to {test.bbox_jitter:.0%}" if test.bbox_jitter > 0 else words


def _poses_in_words(test: EvalSettings) -> str:
    return f"{test.pnp_type} from {test.pnp_layers}" if test.use_pnp else "the network's"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
