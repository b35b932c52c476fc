"""From a network and a test split to estimates, a BOP csv, a score table and an html report."""

from __future__ import annotations

import logging
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from core.bop.results import Estimate, result_name, write_results
from core.data.loader import make_test_loader
from core.engine.checkpoint import FACTS, last_checkpoint, load_weights, model_weights, read_checkpoint
from core.engine.hooks import read_metrics
from core.engine.launch import select_device
from core.evaluation.bop import group_targets
from core.evaluation.evaluator import Scores, evaluate, write_scores
from core.evaluation.report import write_report
from core.evaluation.tables import format_table
from core.geometry.pose import Pose
from core.utils.errors import UserError
from core.utils.files import require_writable_dir, write_text
from gdrn_selfocc_modeling.data.batch import Prediction, SampleInfo, collate_samples
from gdrn_selfocc_modeling.data.test_set import TestSet, build_test_set
from gdrn_selfocc_modeling.models.build import build_model
from gdrn_selfocc_modeling.pictures import report_cases

logger = logging.getLogger(__name__)


def evaluate_checkpoint(cfg: Any) -> None:
    """Score MODEL.WEIGHTS, or the run's last checkpoint, on every split of DATASETS.TEST."""
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty; name a split to evaluate on")
    path = Path(cfg.MODEL.WEIGHTS) if cfg.MODEL.WEIGHTS else last_checkpoint(Path(cfg.OUTPUT_DIR))
    if path is None:
        raise UserError(f"{cfg.OUTPUT_DIR} has no checkpoint; train first, or name one by MODEL.WEIGHTS in --opts")
    require_writable_dir(Path(cfg.OUTPUT_DIR), "name another OUTPUT_DIR in --opts")
    device = select_device(cfg.MODEL.DEVICE)
    state = read_checkpoint(path)
    weights = model_weights(state, path)
    test_sets = build_test_sets(cfg, _trained_objects(state))
    model = build_model(cfg, pretrained=False)
    load_weights(model, weights, path)
    model.to(device, memory_format=torch.channels_last)
    for test_set in test_sets:
        evaluate_model(model, test_set, cfg, device, str(path))


def _trained_objects(state: dict[str, Any]) -> Sequence[str]:
    """Names of the objects a checkpoint was trained on, in the order of its classes; none where it doesn't tell."""
    facts = state.get(FACTS)
    objects = facts.get("objects") if isinstance(facts, dict) else None
    told = isinstance(objects, list | tuple) and all(isinstance(name, str) for name in objects)
    return objects if told else ()


def build_test_sets(cfg: Any, classes: Sequence[str] = ()) -> list[TestSet]:
    """The splits of DATASETS.TEST; `UserError`, before any work, where targets don't fit their annotations.

    `classes` are those the network was trained with, in its order; by default the objects of `cfg`.
    """
    test_sets = [build_test_set(cfg, name, classes) for name in cfg.DATASETS.TEST]
    for test_set in test_sets:
        group_targets((), test_set.records, test_set.targets)
    return test_sets


def evaluate_model(model: nn.Module, test_set: TestSet, cfg: Any, device: torch.device, origin: str) -> Scores:
    """Estimate, score and report one split; files go to OUTPUT_DIR/inference/<split>.

    `origin` says where the weights come from, for the report.
    """
    folder = Path(cfg.OUTPUT_DIR) / "inference" / re.sub("[/:]", "-", test_set.spec.name)
    estimates = run_inference(model, test_set, cfg, device)
    scores = evaluate(
        estimates,
        test_set.records,
        test_set.targets,
        test_set.models_eval,
        test_set.symmetric_ids(cfg.DATASETS.SYM_OBJS),
        progress=True,
    )
    cases = report_cases(model, test_set, cfg.VAL.REPORT_CASES, device)  # reads files: nothing is written yet
    table = format_table(scores)
    # BOP's tools tell the parts of the name by '_' and '-', which a data set's own name therefore goes without.
    dataset = re.sub("[-_]", "", test_set.spec.root.resolve().name)
    csv = folder / result_name(cfg.EXP_NAME, dataset, test_set.spec.split.replace("/", "-"))
    write_results(csv, estimates)
    write_scores(folder / "scores.json", scores)
    write_text(folder / "table.txt", table + "\n")
    facts = {
        "data": f"{test_set.spec.name}: {len(test_set.records)} images, {scores.targets} targets",
        "boxes": "ground truth" if cfg.TEST.TEST_BBOX_TYPE == "gt" else "detections",
        "weights": origin,
        "device": _device_name(device),
    }
    report = folder / "report.html"
    write_report(
        report,
        f"{cfg.EXP_NAME} on {test_set.spec.name}",
        scores,
        cases,
        facts,
        read_metrics(Path(cfg.OUTPUT_DIR) / "metrics.json"),
    )
    print(table)
    print(f"estimates  {csv}\nscores     {folder / 'scores.json'}\nreport     {report}", flush=True)
    return scores


@torch.inference_mode()
def run_inference(model: nn.Module, test_set: TestSet, cfg: Any, device: torch.device) -> list[Estimate]:
    """One estimate per ROI of the test set, in its order.

    An image's time is that of its ROIs in the network plus the detector's; cropping runs beside it in the workers.
    """
    model.eval()
    loader = make_test_loader(
        test_set.source, collate_samples, cfg.TEST.IMS_PER_BATCH, num_workers=cfg.DATALOADER.NUM_WORKERS
    )
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=cfg.TEST.AMP_TEST and device.type == "cuda")
    estimates: list[Estimate] = []
    for rois, _, infos in tqdm(loader, desc=f"poses of {test_set.spec.name}", unit="batch"):
        started = time.perf_counter()
        with autocast:
            prediction = model(rois.to(device))
        poses = poses_of(prediction)
        seconds = (time.perf_counter() - started) / len(infos)
        estimates += [_estimate(info, pose, seconds) for info, pose in zip(infos, poses, strict=True)]
    return with_image_times(estimates, test_set)


def poses_of(prediction: Prediction) -> list[Pose]:
    """The poses of a prediction, on the host in float64."""
    rotations = prediction.cam_R_obj.double().cpu().numpy()
    translations = prediction.cam_t_obj.double().cpu().numpy()
    return [Pose(R, t) for R, t in zip(rotations, translations, strict=True)]


def _estimate(info: SampleInfo, pose: Pose, seconds: float) -> Estimate:
    return Estimate(info.scene_id, info.im_id, info.obj_id, info.score, pose, seconds)


def with_image_times(estimates: Iterable[Estimate], test_set: TestSet) -> list[Estimate]:
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


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
