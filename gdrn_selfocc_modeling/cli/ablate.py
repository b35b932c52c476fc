"""Train and test variants of a configuration on the same data with the same seeds, and compare them in one table."""

from __future__ import annotations

import argparse
from pathlib import Path

from sopose.core.utils.arguments import finite
from sopose.training.ablation import (
    CONDITIONS,
    VARIANTS,
)

EXAMPLES = """example:
  sopose ablate --config-file configs/gdrn_selfocc/toy/demo.py --output output/ablation --dry-run
  sopose ablate --config-file configs/gdrn_selfocc/toy/demo.py --output output/ablation --seeds 3 \\
      --start configs/gdrn_selfocc/toy/demo.safetensors --forget selfocc_head_net pnp_net \\
      --opts SOLVER.TOTAL_EPOCHS=2

Runs that are finished are skipped and one that was interrupted is resumed, so the same line continues an ablation.
"""
REPORTS = True  # how things go, not warnings alone


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--config-file", type=Path, required=True, help="what all variants share")
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs and the tables")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, … of each variant (default: %(default)s)")
    parser.add_argument("--variants", nargs="+", default=[], metavar="NAME", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--conditions", nargs="+", default=[], metavar="NAME", help=f"of {', '.join(CONDITIONS)}")
    parser.add_argument(
        "--bins", nargs="*", type=finite, default=[0.4, 0.9], metavar="FRACTION", help="ends of the visibility ranges"
    )
    parser.add_argument("--start", type=Path, metavar="WEIGHTS", help="checkpoint that every variant starts from")
    parser.add_argument(
        "--forget", nargs="+", default=[], metavar="PREFIX", help="parts of --start that every variant learns anew"
    )
    parser.add_argument("--dry-run", action="store_true", help="list the runs and their overrides, and leave")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="overrides for all variants")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if args.seeds < 1 or not all(0 < end < 1 for end in args.bins):
        parser.error("--seeds must be at least 1 and --bins lie between 0 and 1")
    if args.forget and args.start is None:
        parser.error("--forget leaves parts of --start out, which isn't given")


def handle(args: argparse.Namespace) -> None:
    """See `sopose.training.ablation_run`."""
    from sopose.training.ablation_run import AblationOptions, run_ablate

    run_ablate(AblationOptions(**vars(args)))
