"""Evaluate a trained pose network on DATASETS.TEST: scores, a results file for BOP, and a report with pictures.

MODEL.WEIGHTS is evaluated, or the last checkpoint in OUTPUT_DIR.
"""

from __future__ import annotations

import argparse

from sopose.cli.config_options import COMMON_KEYS, add_config_options
from sopose.cli.project import require_config

EXAMPLES = f"""examples:
  sopose eval --config-file configs/gdrn_selfocc/toy/demo.py
  sopose eval --config-file configs/gdrn_selfocc/lmo/cad_only_cpu.py \\
      --opts MODEL.WEIGHTS=configs/gdrn_selfocc/lmo/cad_only_cpu.safetensors DATASETS.ROOT=path/to/bop
  sopose eval --config-file configs/gdrn_selfocc/toy/demo.py --report-only

{COMMON_KEYS}"""
REPORTS = True  # how things go, not warnings alone


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    add_config_options(parser)
    parser.add_argument(
        "--report-only", action="store_true", help="score and report the predictions that an evaluation kept"
    )


def handle(args: argparse.Namespace) -> None:
    """See `sopose.inference.evaluation`."""
    from sopose.inference.evaluation import evaluate_checkpoint, report_again
    from sopose.settings import load_settings

    settings = load_settings(require_config(args.config_file), args.opts)
    if args.report_only:
        report_again(settings)
    else:
        evaluate_checkpoint(settings)
