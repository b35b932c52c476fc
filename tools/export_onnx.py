"""Write a checkpoint, or a refiner, as one .onnx file that runs by onnxruntime, TensorRT and others without torch.

The graph takes what is known of a region of interest, any number of them, and ends in their poses, cam_R_obj and
cam_t_obj (metres). Its metadata say all that is needed beside it. It is compared with torch before anything is written.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sopose.batch import RoiBatch, collate
from sopose.core.engine.checkpoint import plain_facts, read_checkpoint
from sopose.core.evaluation.evaluator import Scores, evaluate
from sopose.core.evaluation.tables import format_comparison
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import atomic_path, require_writable_file
from sopose.data.build import ObjectCache
from sopose.data.eval_set import EvalSet, build_test_set
from sopose.export.onnx_check import TOLERANCE, differences, made_up_rois
from sopose.export.onnx_graph import export_graph, finish_graph, halved, open_graph
from sopose.export.onnx_quantize import quantised
from sopose.export.refiner_graph import export_refiner, largest_difference
from sopose.inference.checkpoint_facts import NetworkFacts, read_network_facts
from sopose.inference.estimator import PoseEstimator
from sopose.inference.evaluation import EvaluationPlan, build_plan, run_inference
from sopose.inference.onnx_network import SUFFIX, OnnxNetwork
from sopose.inference.onnx_refiner import INPUTS
from sopose.inference.onnx_runtimes import RUNTIMES
from sopose.models.refiner_file import KIND, load_refiner

EPILOG = """examples:
  python tools/export_onnx.py --checkpoint model_final.safetensors --output model.onnx
  python tools/export_onnx.py --checkpoint model_final.safetensors --output model-int8.onnx --int8 \\
      --calibration lmo_train --split lmo_bop_test --dataset-root datasets/BOP_DATASETS

  python tools/export_onnx.py --checkpoint refiner.safetensors --output refiner.onnx

  python tools/predict.py photo.jpg --checkpoint model.onnx --K 572.4,573.6,325.3,242.0 --box can,210,140,330,290
"""
BATCHES = (1, 2, 8)  # sizes that the graph is tried with
CALIBRATION_ROIS = 128
CELLS = 1e-2  # by which displacements of an exported refiner may differ
ON_CPU = torch.device("cpu")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="of a run: .pth or .safetensors")
    parser.add_argument("--output", type=Path, required=True, help="the .onnx file to write")
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument("--fp16", action="store_true", help="backbone and heads in half precision; for GPUs")
    precision.add_argument("--int8", action="store_true", help="the heads in 8 bits; needs --calibration")
    parser.add_argument("--calibration", metavar="SPLIT", help="images like those to come, such as lmo_train")
    parser.add_argument("--split", help="a BOP split: compare on its ROIs too, and score both (ground-truth boxes)")
    parser.add_argument("--dataset-root", type=Path, help="folder of the data sets (default: as the checkpoint says)")
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default="onnxruntime",
        help="what the written file is measured by",
    )
    parser.add_argument("--maps", action="store_true", help="P, Q and masks are outputs too, for PnP and pictures")
    args = parser.parse_args(argv)
    if args.int8 != (args.calibration is not None):
        parser.error("--int8 and --calibration go together")
    return args


def main(argv: list[str] | None = None) -> None:
    """Export, compare, write, and score."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    if args.output.suffix != SUFFIX:
        raise UserError(f"--output must end in {SUFFIX}, got {args.output}")
    require_writable_file(args.output)
    if args.checkpoint.suffix == SUFFIX:
        raise UserError(f"{args.checkpoint} is exported already; give the .pth or .safetensors it was made from")
    state = read_checkpoint(args.checkpoint)
    if plain_facts(state).get("kind") == KIND:
        export_second_look(args)
        return
    estimator = PoseEstimator.from_checkpoint(args.checkpoint, ON_CPU)
    facts = read_network_facts(state, args.checkpoint, overrides(args))
    splits = {name: open_split(facts, name) for name in (args.split, args.calibration) if name}
    example = made_up_rois(estimator, 2)
    graph = export_graph(estimator.model, example, args.maps)
    whole = finish_graph(graph, plain_facts(state), estimator.crops, "fp32")
    compare_with_torch(estimator, open_graph(whole), splits.get(args.split))
    content = whole
    if args.fp16:
        graph = export_graph(halved(estimator.model), example, args.maps)
        content = finish_graph(graph, plain_facts(state), estimator.crops, "fp16")
    elif args.int8:
        graph = quantised(graph, rois_of(splits[args.calibration], CALIBRATION_ROIS))
        content = finish_graph(graph, plain_facts(state), estimator.crops, "int8")
    with atomic_path(args.output) as beside:
        beside.write_bytes(content)
    exported = open_graph(content, args.runtime)
    print(f"{args.output}: {len(content) / 2**20:.1f} MiB, reads {', '.join(exported.inputs)}")
    if content is not whole or args.runtime != "onnxruntime":
        tell_loss(estimator, exported, splits)
    if args.split:
        tell_scores(estimator.model, exported, splits[args.split], build_plan(facts.settings))


def export_second_look(args: argparse.Namespace) -> None:
    """Write a refiner. Raises `UserError` for what goes with pose networks alone."""
    given = [name for name in ("fp16", "int8", "calibration", "split", "maps") if getattr(args, name)]
    if given:
        raise UserError(f"{args.checkpoint} is a refiner, which is exported in float32; leave --{given[0]} out")
    network, design = load_refiner(args.checkpoint)
    content = export_refiner(network, design, plain_facts(read_checkpoint(args.checkpoint)).get("objects", []))
    off = largest_difference(network, content, design, BATCHES)
    if not off <= CELLS:
        raise UserError(
            f"the exported graph is not the network: {off:.1e} cells away, wanted {CELLS:g}; nothing written"
        )
    with atomic_path(args.output) as beside:
        beside.write_bytes(content)
    print(f"equal to torch on made-up looks, in batches of {', '.join(map(str, BATCHES))}: {off:.1e} cells")
    print(f"{args.output}: {len(content) / 2**20:.1f} MiB, reads {', '.join(INPUTS)}")


def overrides(args: argparse.Namespace) -> list[str]:
    """Of the checkpoint's configuration."""
    root = [f"DATASETS.ROOT={args.dataset_root}"] if args.dataset_root else []
    return ["TEST.TEST_BBOX_TYPE=gt", "TEST.BBOX_JITTER=0.0", "TEST.USE_PNP=False", "DATALOADER.NUM_WORKERS=0", *root]


def open_split(facts: NetworkFacts, name: str) -> EvalSet:
    """The annotated objects of a split that the network knows."""
    settings = facts.settings
    classes = [known.name for known in facts.objects]
    return build_test_set(settings, name, ObjectCache(settings.datasets, settings.model.pose_net, classes))


def rois_of(split: EvalSet, count: int = 0, size: int = BATCHES[-1]) -> list[RoiBatch]:
    """Batches of a split's ROIs: all, or `count` spread evenly."""
    total = len(split.source)
    chosen = np.unique(np.linspace(0, total - 1, min(count or total, total)).round().astype(int))
    rois = [split.source.sample(int(index))[0] for index in chosen]
    return [collate(rois[first : first + size]) for first in range(0, len(rois), size)]


def compare_with_torch(estimator: PoseEstimator, exported: OnnxNetwork, split: EvalSet | None) -> None:
    """Say how far the float32 graph is from torch. Raises `UserError` where that is more than rounding."""
    given: dict[str, Sequence[RoiBatch]] = {"made-up ROIs": [made_up_rois(estimator, size) for size in BATCHES]}
    if split is not None:
        given[f"ROIs of {split.spec.name}"] = [rois for size in BATCHES for rois in rois_of(split, 3 * size, size)]
    for name, batches in given.items():
        found = differences(estimator.model, exported, batches)
        told = f"{name}, in batches of {', '.join(map(str, BATCHES))}: {found.largest()}"
        if not found.small:
            raise UserError(
                f"the exported graph is not the network: {told} away from torch, wanted {TOLERANCE:g}; nothing was "
                f"written, try other versions of torch and onnxruntime"
            )
        print(f"equal to torch on {told}")


def tell_loss(estimator: PoseEstimator, exported: OnnxNetwork, splits: dict[str, EvalSet]) -> None:
    """Say how far fewer bits put the poses off."""
    for name, split in splits.items():
        batches = rois_of(split)
        found = differences(estimator.model, exported, batches)
        print(f"off torch's float32 on {len(found.angles)} ROIs of {name}: {found.spread()}")
    if not splits:
        found = differences(estimator.model, exported, [made_up_rois(estimator, 64)])
        print(f"off torch's float32 on 64 ROIs of noise: {found.spread()}; name a --split to see it on images")


def tell_scores(model: nn.Module, exported: OnnxNetwork, split: EvalSet, plan: EvaluationPlan) -> None:
    """Print the scores of both networks on a split."""
    scores: dict[str, Scores] = {}
    for name, network in {"torch": model, "exported": exported}.items():
        estimates = run_inference(network, split, plan, ON_CPU).estimates
        symmetric = split.symmetric_ids(plan.symmetric)
        scores[name] = evaluate(estimates, split.records, split.targets, split.models_eval, symmetric)
    print(format_comparison(scores))


if __name__ == "__main__":
    run_cli(main)
