"""What a network trained on renderings reaches on real images and on renderings it has not seen, and what limits it.

Boxes are the ground truth's. Each set is scored with the network's poses and with poses by PnP from its maps, and again
with one part of each pose put right: the part whose correction raises the score most is what holds it back.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from core.bop.results import Estimate
from core.engine.launch import select_device
from core.evaluation.evaluator import evaluate
from core.evaluation.pose_parts import CORRECTIONS, ErrorParts, error_parts
from core.evaluation.scores import finite
from core.utils.errors import UserError, run_cli
from core.utils.files import require_writable_dir, write_json, write_text
from gdrn_selfocc_modeling.data.test_set import TestSet
from gdrn_selfocc_modeling.evaluation import build_test_sets, run_inference, trained_model
from gdrn_selfocc_modeling.settings import load_settings
from gdrn_selfocc_modeling.tools import generate_training_images

EXAMPLE = """examples:
  python tools/evaluate_real.py --config-file configs/gdrn_selfocc/lmo/cad_only_cpu.py --weights model.safetensors \\
      --opts DATASETS.ROOT=path/to/bop INPUT.BG_IMGS_ROOT=path/to/photos
  python tools/evaluate_real.py --config-file configs/gdrn_selfocc/lmo/cad_only_cpu.py --weights model.safetensors \\
      --methods direct --images 0 --opts DATASETS.ROOT=path/to/bop

The renderings are made once, in --held-out, from the configuration's group CAD and a seed that training doesn't use.
"""
METHODS = {
    "direct": ["TEST.USE_PNP=False"],
    "pnp": ["TEST.USE_PNP=True", "TEST.PNP_TYPE=ransac_pnp"],
    "direct + pnp": ["TEST.USE_PNP=True", "TEST.PNP_TYPE=net_iter_pnp"],
}
SPLIT, SEED = "held_out", 999_983  # of the renderings
METRICS = ("add", "pose")


@dataclass(frozen=True)
class Row:
    """Scores of one set of images by one method."""

    images: str
    method: str
    scores: dict[str, dict[str, float]]  # correction -> name of score -> value, of the mean over objects
    parts: ErrorParts


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True, help="the configuration that was trained")
    parser.add_argument("--weights", type=Path, required=True, help=".safetensors, .pth or .onnx with maps")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="(default: all)")
    parser.add_argument("--images", type=int, default=100, help="renderings; 0: real images alone (default: 100)")
    parser.add_argument("--held-out", type=Path, default=Path("output/held_out"), help="folder of the renderings")
    parser.add_argument("--output", type=Path, default=Path("output/evaluate_real"), help="for table.md, scores.json")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    args = parser.parse_args(argv)
    if args.images < 0:
        parser.error("--images must be at least 0")
    return args


def main(argv: list[str] | None = None) -> None:
    """Score, print the table, write it."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    require_writable_dir(args.output)
    rows = []
    for images, words in image_sets(args).items():
        for method in args.methods:
            cfg = load_settings(args.config_file, [*args.opts, *words, *METHODS[method]])
            rows += score(images, method, cfg, args.weights)
    table = format_rows(rows)
    print(table)
    write_text(args.output / "table.md", table + "\n")
    write_json(args.output / "scores.json", finite([asdict(row) for row in rows]))
    print(f"\nwritten to {args.output}: table.md, scores.json")


def image_sets(args: argparse.Namespace) -> dict[str, list[str]]:
    """Overrides that choose each set of images; the renderings are made where they aren't yet."""
    boxes = ["TEST.TEST_BBOX_TYPE=gt", "TEST.BBOX_JITTER=0.0"]
    cfg = load_settings(args.config_file, args.opts)
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty; name the split of real images")
    sets = {"real": boxes}
    if args.images:
        words = ["--config-file", str(args.config_file), "--output", str(args.held_out), "--split", SPLIT]
        count = ["--images", str(args.images), "--images-per-scene", str(args.images), "--seed", str(SEED)]
        generate_training_images.main([*words, *count, *(["--opts", *args.opts] if args.opts else [])])
        sets["rendered"] = [*boxes, f"DATASETS.TEST=[{args.held_out.resolve()}:{SPLIT}]"]
    return sets


def score(images: str, method: str, cfg: Any, weights: Path) -> list[Row]:
    """Rows of the splits of DATASETS.TEST."""
    device = select_device(cfg.MODEL.DEVICE)
    model, classes = trained_model(cfg, weights, device)
    return [score_split(images, method, cfg, model, split, device) for split in build_test_sets(cfg, classes)]


def score_split(
    images: str, method: str, cfg: Any, model: torch.nn.Module, split: TestSet, device: torch.device
) -> Row:
    """Poses of a split in ground-truth boxes, scored as they are and with each part put right."""
    estimates, truths = run_inference(model, split, cfg, device), [item.truth.pose for item in split.source.items]
    found = {}
    for name, correct in CORRECTIONS.items():
        corrected = [
            replace(estimate, pose=correct(estimate.pose, truth))
            for estimate, truth in zip(estimates, truths, strict=True)
        ]
        found[name] = mean_scores(corrected, split, cfg)
    return Row(images, method, found, error_parts([estimate.pose for estimate in estimates], truths))


def mean_scores(estimates: Sequence[Estimate], split: TestSet, cfg: Any) -> dict[str, float]:
    """Means over objects of recalls and of median errors."""
    symmetric = split.symmetric_ids(cfg.DATASETS.SYM_OBJS)
    scores = evaluate(estimates, split.records, split.targets, split.models_eval, symmetric, metrics=METRICS)
    medians = ("re_deg", "te_cm")
    return {**scores.mean, "targets": scores.targets} | {
        key: sum(row.values[key] for row in scores.objects) / len(scores.objects) for key in medians
    }


def format_rows(rows: Sequence[Row]) -> str:
    """Two markdown tables: scores, and what they would be with a part put right."""
    lines = [
        "| images | poses | targets | ADD(-S) 0.1 d | 5° 5 cm | rotation | translation | depth | across | depth bias |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        now, parts = row.scores["as estimated"], row.parts
        lines.append(
            f"| {row.images} | {row.method} | {now['targets']} | {100 * now['ad_0.10']:.1f} % | "
            f"{100 * now['deg_cm_sym_5']:.1f} % | {now['re_deg']:.1f}° | {now['te_cm']:.2f} cm | "
            f"{100 * parts.depth:.2f} cm | {100 * parts.lateral:.2f} cm | {100 * parts.depth_bias:+.2f} cm "
            f"({100 * parts.depth_bias_share:+.1f} %) |"
        )
    names = list(CORRECTIONS)
    lines += ["", f"ADD(-S) 0.1 d | {' | '.join(names)}", "|".join(["---"] * (1 + len(names)))]
    for row in rows:
        values = [f"{100 * row.scores[name]['ad_0.10']:.1f} %" for name in names]
        lines.append(f"{row.images}, {row.method} | {' | '.join(values)}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_cli(main)
