"""Compute again the batch at which a run stopped because losses or gradients were not finite, and say what was wrong.

A run that skips too many steps in a row leaves `failed_step.pth` in its OUTPUT_DIR: the batch, the losses and the
weights at that moment.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """example:
  sopose replay output/gdrn_selfocc/lmo/cad_only/failed_step.pth --picture failed.png
"""


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("step", type=Path, help="the failed_step.pth of a run")
    parser.add_argument("--config-file", type=Path, help="default: config.py beside it")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the batch: crops, poses, masks, P and Q")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")


def handle(args: argparse.Namespace) -> None:
    """See `sopose.training.replay_step`."""
    from sopose.training.replay_step import ReplayOptions, run_replay

    run_replay(ReplayOptions(**vars(args)))
