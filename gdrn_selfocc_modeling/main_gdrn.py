"""Train and evaluate a pose network from a configuration file."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from core.utils.errors import run_cli
from gdrn_selfocc_modeling.evaluation import evaluate_checkpoint
from gdrn_selfocc_modeling.settings import load_settings
from gdrn_selfocc_modeling.training import train

EXAMPLES = """examples:
  python gdrn_selfocc_modeling/main_gdrn.py --config-file configs/gdrn_selfocc/toy/demo.py
  python gdrn_selfocc_modeling/main_gdrn.py --config-file configs/gdrn_selfocc/lmo/cad_only.py --resume \\
      --opts DATASETS.ROOT=/data/bop INPUT.BG_IMGS_ROOT=/data/photos DATASETS.OBJS=[ape]
  python gdrn_selfocc_modeling/main_gdrn.py --config-file configs/gdrn_selfocc/lmo/cad_only.py --eval-only \\
      --opts MODEL.WEIGHTS=output/gdrn_selfocc/lmo/cad_only/model_0030000.pth
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True, help="a .py or .yaml configuration")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="score MODEL.WEIGHTS, or the last checkpoint")
    parser.add_argument(
        "--opts",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="override configuration keys; see configs/_base_",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Train, then evaluate; or only evaluate."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    cfg = load_settings(args.config_file, args.opts)
    if args.eval_only:
        evaluate_checkpoint(cfg)
    else:
        train(cfg, resume=args.resume)


if __name__ == "__main__":
    run_cli(main)
