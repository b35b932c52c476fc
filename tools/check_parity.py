"""Compare network and losses of a configuration with numbers of the original code, from a pair of .json and .npz."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from sopose.core.utils.errors import UserError, run_cli
from sopose.settings import load_settings
from sopose.training.parity import REFERENCE_OPTIONS, Comparison, compare, read_pair

EPILOG = """example:
  python tools/check_parity.py parity/lmo_resnet34 \\
      --config-file configs/gdrn_selfocc/lmo/gdrn_selfocc_multistep_40E.py \\
      --opts MODEL.POSE_NET.BACKBONE.INIT_CFG.type=timm/resnet34 \\
             MODEL.POSE_NET.GEO_HEAD.INIT_CFG.in_dim=512 MODEL.POSE_NET.SELFOCC_HEAD.INIT_CFG.in_dim=512

Weights are made from the parameters' names. Leaves with 1 where a deviation exceeds its tolerance.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pair", type=Path, help="one file of the pair, or their name without a suffix")
    parser.add_argument("--config-file", type=Path, required=True, help="the configuration the numbers belong to")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Print every deviation; `UserError` names those beyond their tolerance."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    settings = load_settings(args.config_file, [*REFERENCE_OPTIONS, *args.opts])
    net, epochs = settings.model.pose_net, settings.solver.total_epochs
    comparisons = [*compare(read_pair(args.pair), net, settings.train, epochs)]
    print(format_comparisons(comparisons))
    failed = [item.name for item in comparisons if not item.holds]
    if failed:
        raise UserError(f"{len(failed)} of {len(comparisons)} numbers deviate too far: {', '.join(failed)}")


def format_comparisons(comparisons: list[Comparison]) -> str:
    """A line each: name, deviation, tolerance, and whether it holds."""
    width = max(len(item.name) for item in comparisons)
    return "\n".join(
        f"{item.name:{width}}  {item.deviation:.1e}  (at most {item.tolerance:.0e})  {'' if item.holds else 'TOO FAR'}"
        for item in comparisons
    )


if __name__ == "__main__":
    run_cli(main)
