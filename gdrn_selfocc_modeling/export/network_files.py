"""From a checkpoint to an .onnx file, compared with the network it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sopose.batch import RoiBatch, collate
from sopose.core.detection.facts import KIND as DETECTOR
from sopose.core.detection.infer import INPUT
from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.facts import plain_facts
from sopose.core.evaluation.evaluator import Scores, evaluate
from sopose.core.evaluation.tables import format_comparison
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import atomic_path, require_writable_file
from sopose.data.build import ObjectCache
from sopose.data.eval_set import EvalSet, build_test_set
from sopose.export.detector_graph import export_detector
from sopose.export.onnx_check import TOLERANCE, differences, made_up_rois
from sopose.export.onnx_graph import export_graph, finish_graph, halved, open_graph
from sopose.export.onnx_quantize import quantised
from sopose.export.refiner_graph import export_refiner, largest_difference
from sopose.inference.checkpoint_facts import NetworkFacts, read_network_facts
from sopose.inference.estimator import PoseEstimator
from sopose.inference.evaluation import EvaluationPlan, build_plan, run_inference
from sopose.inference.onnx_network import SUFFIX
from sopose.inference.onnx_refiner import INPUTS
from sopose.models.refiner_design import KIND as REFINER
from sopose.models.refiner_file import load_refiner

BATCHES = (1, 2, 8)  # sizes that the graph is tried with
CALIBRATION_ROIS = 128
LOGITS = 1e-3  # by which what an exported detector says may differ
CELLS = 1e-2  # by which displacements of an exported refiner may differ
ON_CPU = "cpu"


@dataclass(frozen=True)
class ExportOptions:
    """What `sopose export` takes, by the names of its options."""

    checkpoint: Path
    output: Path
    fp16: bool = False
    int8: bool = False
    calibration: str | None = None
    split: str | None = None
    dataset_root: Path | None = None
    runtime: str = "onnxruntime"
    maps: bool = False


def run_export(options: ExportOptions) -> None:
    """Export, compare, write, and score."""
    if options.output.suffix != SUFFIX:
        raise UserError(f"--output must end in {SUFFIX}, got {options.output}")
    require_writable_file(options.output)
    if options.checkpoint.suffix == SUFFIX:
        raise UserError(f"{options.checkpoint} is exported already; give the .pth or .safetensors it was made from")
    state = read_checkpoint(options.checkpoint)
    kind = plain_facts(state).get("kind")
    if kind in SPECIAL:
        SPECIAL[kind](options)
        return
    # The network alone: second looks would ask for the models.
    estimator = PoseEstimator.from_checkpoint(options.checkpoint, ON_CPU, ["TEST.REFINE.ITERATIONS=0"])
    facts = read_network_facts(state, options.checkpoint, overrides(options))
    splits = {name: open_split(facts, name) for name in (options.split, options.calibration) if name}
    example = made_up_rois(estimator, 2)
    # Poses by PnP need maps, whoever asks for them; so do second looks from several starts.
    test = read_network_facts(state, options.checkpoint).settings.test
    with_maps = options.maps or test.use_pnp or test.refine.starts > 1
    graph = export_graph(estimator.network.model, example, with_maps)
    whole = finish_graph(graph, plain_facts(state), estimator.crops, "fp32")
    compare_with_torch(estimator, open_graph(whole), splits.get(options.split))
    content = whole
    if options.fp16:
        graph = export_graph(halved(estimator.network.model), example, with_maps)
        content = finish_graph(graph, plain_facts(state), estimator.crops, "fp16")
    elif options.int8:
        graph = quantised(graph, rois_of(splits[options.calibration], CALIBRATION_ROIS))
        content = finish_graph(graph, plain_facts(state), estimator.crops, "int8")
    exported = open_graph(content, options.runtime)
    write_graph(options, content, exported.network.inputs)
    if content is not whole or options.runtime != "onnxruntime":
        report_loss(estimator, exported, splits)
    if options.split:
        report_scores(estimator.network.model, exported, splits[options.split], build_plan(facts.settings))


def require_plain(options: ExportOptions, kind: str) -> None:
    """Raise `UserError` where options go with pose networks alone."""
    given = [name for name in ("fp16", "int8", "calibration", "split", "maps") if getattr(options, name)]
    if given:
        raise UserError(f"{options.checkpoint} is a {kind}, which is exported in float32; leave --{given[0]} out")


def write_graph(options: ExportOptions, content: bytes, inputs: Sequence[str]) -> None:
    """Write a file's bytes, and say so."""
    with atomic_path(options.output) as beside:
        beside.write_bytes(content)
    print(f"{options.output}: {len(content) / 2**20:.1f} MiB, reads {', '.join(inputs)}")


def export_boxes(options: ExportOptions) -> None:
    """Write a detector. Raises `UserError` for what goes with pose networks alone."""
    require_plain(options, "detector")
    content, facts, off = export_detector(options.checkpoint)
    if not off <= LOGITS:
        raise UserError(f"the exported graph is not the network: {off:.1e} away, wanted {LOGITS:g}; nothing written")
    print(f"equal to torch on noise of several sizes: {off:.1e}; finds {', '.join(facts.objects)}")
    write_graph(options, content, [INPUT])


def export_second_look(options: ExportOptions) -> None:
    """Write a refiner. Raises `UserError` for what goes with pose networks alone."""
    require_plain(options, "refiner")
    network, design = load_refiner(options.checkpoint)
    content = export_refiner(network, design, plain_facts(read_checkpoint(options.checkpoint)).get("objects", []))
    off = largest_difference(network, content, design, BATCHES)
    if not off <= CELLS:
        raise UserError(
            f"the exported graph is not the network: {off:.1e} cells away, wanted {CELLS:g}; nothing written"
        )
    print(f"equal to torch on made-up looks, in batches of {', '.join(map(str, BATCHES))}: {off:.1e} cells")
    write_graph(options, content, INPUTS)


SPECIAL = {REFINER: export_second_look, DETECTOR: export_boxes}  # what is no pose network, by its kind


def overrides(options: ExportOptions) -> list[str]:
    """Of the checkpoint's configuration."""
    root = [f"DATASETS.ROOT={options.dataset_root}"] if options.dataset_root else []
    return ["TEST.TEST_BBOX_TYPE=gt", "TEST.BBOX_JITTER=0.0", "TEST.USE_PNP=False", "DATALOADER.NUM_WORKERS=0", *root]


def open_split(facts: NetworkFacts, name: str) -> EvalSet:
    """The annotated objects of a split that the network knows."""
    settings = facts.settings
    classes = [known.name for known in facts.objects]
    cache = ObjectCache(settings.datasets, settings.model.pose_net, classes, facts.centered)
    return build_test_set(settings, name, cache)


def rois_of(split: EvalSet, count: int = 0, size: int = BATCHES[-1]) -> list[RoiBatch]:
    """Batches of a split's ROIs: all, or `count` spread evenly."""
    total = len(split.source)
    chosen = np.unique(np.linspace(0, total - 1, min(count or total, total)).round().astype(int))
    rois = [split.source.sample(int(index))[0] for index in chosen]
    return [collate(rois[first : first + size]) for first in range(0, len(rois), size)]


def compare_with_torch(estimator: PoseEstimator, exported: nn.Module, split: EvalSet | None) -> None:
    """Say how far the float32 graph is from torch. Raises `UserError` where that is more than rounding."""
    given: dict[str, Sequence[RoiBatch]] = {"made-up ROIs": [made_up_rois(estimator, size) for size in BATCHES]}
    if split is not None:
        given[f"ROIs of {split.spec.name}"] = [rois for size in BATCHES for rois in rois_of(split, 3 * size, size)]
    for name, batches in given.items():
        found = differences(estimator.network.model, exported, batches)
        text = f"{name}, in batches of {', '.join(map(str, BATCHES))}: {found.largest()}"
        if not found.small:
            raise UserError(
                f"the exported graph is not the network: {text} away from torch, wanted {TOLERANCE:g}; nothing was "
                f"written, try other versions of torch and onnxruntime"
            )
        print(f"equal to torch on {text}")


def report_loss(estimator: PoseEstimator, exported: nn.Module, splits: dict[str, EvalSet]) -> None:
    """Say how far fewer bits put the poses off."""
    for name, split in splits.items():
        batches = rois_of(split)
        found = differences(estimator.network.model, exported, batches)
        print(f"off torch's float32 on {len(found.angles)} ROIs of {name}: {found.spread()}")
    if not splits:
        found = differences(estimator.network.model, exported, [made_up_rois(estimator, 64)])
        print(f"off torch's float32 on 64 ROIs of noise: {found.spread()}; name a --split to see it on images")


def report_scores(model: nn.Module, exported: nn.Module, split: EvalSet, plan: EvaluationPlan) -> None:
    """Print the scores of both networks on a split."""
    scores: dict[str, Scores] = {}
    for name, network in {"torch": model, "exported": exported}.items():
        estimates = run_inference(network, split, plan, torch.device(ON_CPU)).estimates
        symmetric = split.symmetric_ids(plan.symmetric)
        scores[name] = evaluate(estimates, split.records, split.targets, split.models_eval, symmetric)
    print(format_comparison(scores))
