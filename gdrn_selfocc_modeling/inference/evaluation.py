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

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from sopose.batch import collate_samples
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
from sopose.data.eval_set import TestSet, build_test_set
from sopose.data.mapper import TestItem
from sopose.inference.onnx_network import SUFFIX, OnnxNetwork, read_onnx
from sopose.models.build import build_model, build_pnp_input
from sopose.models.pnp_points import MapReader, PoseSolver
from sopose.models.pnp_solvers import RansacOptions
from sopose.vis.predictions import report_cases

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
    with process_group(device):
        model, classes = trained_model(cfg, path, device)
        for test_set in build_test_sets(cfg, classes):
            evaluate_model(model, test_set, cfg, device, str(path))


def trained_model(cfg: Any, path: Path, device: torch.device) -> tuple[nn.Module, Sequence[str]]:
    """The network of a checkpoint or an .onnx file, and the names of its classes where it tells them."""
    if path.suffix == SUFFIX:
        return _exported_model(cfg, path, device)
    state = read_checkpoint(path)
    model = build_model(cfg, pretrained=False)
    load_weights(model, model_weights(state, path), path)
    return model.to(device, memory_format=torch.channels_last), _trained_objects(state)


def _exported_model(cfg: Any, path: Path, device: torch.device) -> tuple[nn.Module, Sequence[str]]:
    network, state = read_onnx(path, device)
    if cfg.VAL.REPORT_CASES and not network.has_maps:
        raise UserError(f"{path} has no maps for the report's pictures; set VAL.REPORT_CASES=0, or export with --maps")
    return network, _trained_objects(state)


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


def evaluate_model(model: nn.Module, test_set: TestSet, cfg: Any, device: torch.device, origin: str) -> Scores | None:
    """Estimate, score and report one split; files go to OUTPUT_DIR/inference/<split>.

    `origin` says where the weights come from, for the report. The ROIs are shared out to all ranks; the first of them
    scores and writes, the others return None. The network is left in the mode it came in.
    """
    with evaluation_mode(model):
        estimates = run_inference(model, test_set, cfg, device)
        return _report(model, estimates, test_set, cfg, device, origin) if current_world().is_first else None


def _report(
    model: nn.Module, estimates: list[Estimate], test_set: TestSet, cfg: Any, device: torch.device, origin: str
) -> Scores:
    """Scores of the estimates, and all files of an evaluation."""
    folder = Path(cfg.OUTPUT_DIR) / "inference" / re.sub("[/:]", "-", test_set.spec.name)
    delta = DELTA_OF.get(test_set.spec.root.resolve().name, DELTA)
    scores = evaluate(
        estimates,
        test_set.records,
        test_set.targets,
        test_set.models_eval,
        test_set.symmetric_ids(cfg.DATASETS.SYM_OBJS),
        progress=True,
        vsd=VsdScorer(test_set.models_eval, delta, progress=True),
    )
    solver = build_pose_solver(cfg, model)
    cases = report_cases(model, test_set, cfg.VAL.REPORT_CASES, device, solver)  # reads files: nothing is written yet
    table = format_table(scores)
    # BOP's tools tell the parts of the name by '_' and '-', which a data set's own name therefore goes without.
    dataset = re.sub("[-_]", "", test_set.spec.root.resolve().name)
    csv = folder / result_name(cfg.EXP_NAME, dataset, test_set.spec.split.replace("/", "-"))
    write_results(csv, estimates)
    write_scores(folder / "scores.json", scores)
    write_text(folder / "table.txt", table + "\n")
    facts = {
        "data": f"{test_set.spec.name}: {len(test_set.records)} images, {scores.targets} targets",
        "boxes": _boxes_in_words(cfg.TEST),
        "poses": _poses_in_words(cfg.TEST),
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


def build_pose_solver(cfg: Any, model: nn.Module) -> PoseSolver:
    """How the poses of a test come about, as TEST.USE_PNP and the keys beside it say."""
    test, net = cfg.TEST, cfg.MODEL.POSE_NET
    if not test.USE_PNP:
        return PoseSolver()
    if isinstance(model, OnnxNetwork) and not model.has_maps:
        raise UserError("TEST.USE_PNP needs maps, which the .onnx file doesn't tell; export it with --maps")
    thresholds = net.GEO_HEAD.MASK_THR_TEST, net.SELFOCC_HEAD.MASK_THR_TEST
    reader = MapReader(build_pnp_input(net), *thresholds, test.PNP_LAYERS)
    return PoseSolver(test.PNP_TYPE, reader, ransac_options(test))


def ransac_options(test: Any) -> RansacOptions:
    """What the keys of TEST say of RANSAC."""
    return RansacOptions(test.PNP_REPROJ_ERROR, test.PNP_ITERATIONS, test.PNP_CONFIDENCE)


@torch.inference_mode()
def run_inference(model: nn.Module, test_set: TestSet, cfg: Any, device: torch.device) -> list[Estimate]:
    """One estimate per ROI of the test set, in its order; each rank works on its share and gets all.

    An image's time is that of its ROIs in the network and the PnP solver plus the detector's; cropping runs beside it
    in the workers.
    """
    world, items = current_world(), test_set.source.items
    loader = make_test_loader(
        test_set.source, collate_samples, cfg.TEST.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS, world.rank, world.size
    )
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=cfg.TEST.AMP_TEST and device.type == "cuda")
    solve = build_pose_solver(cfg, model)
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


def _unpack(item: TestItem, row: np.ndarray) -> Estimate:
    pose = Pose(row[:9].reshape(3, 3), row[9:12])
    return Estimate(item.record.scene_id, item.record.im_id, item.obj_id, item.score, pose, float(row[12]))


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


def _boxes_in_words(test: Any) -> str:
    words = {"gt": "ground truth", "est": "detections", "csv": "poses of an earlier result"}[test.TEST_BBOX_TYPE]
    return f"{words}, moved and scaled by up to {test.BBOX_JITTER:.0%}" if test.BBOX_JITTER > 0 else words


def _poses_in_words(test: Any) -> str:
    return f"{test.PNP_TYPE} from {test.PNP_LAYERS}" if test.USE_PNP else "the network's"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
