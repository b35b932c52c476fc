"""Draw training samples as the network gets them: crop, P, the three parts of Q, regions and masks.

What looks wrong here is learned wrong; look before a long training. Where rendered windows are used again (CAD.REUSE),
samples of one window come one after another: same pose and light, another crop, background, camera.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """examples:
  sopose samples --config-file configs/gdrn_selfocc/toy/demo.py
  sopose samples --config-file configs/gdrn_selfocc/lmo/cad_only.py --count 24 \\
      --output output/lmo.png --opts DATASETS.ROOT=path/to/bop INPUT.BG_IMGS_ROOT=path/to/photos
  sopose samples --config-file configs/gdrn_selfocc/toy/from_cad.py --grid 64 --output output/grid.jpg

In the column of masks, white is visible, blue hidden, and red cut away by truncation.
"""


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--config-file", type=Path, required=True, help="a .py or .yaml configuration")
    parser.add_argument("--count", type=int, default=12, help="samples to draw (default 12)")
    parser.add_argument("--grid", type=int, metavar="N", help="draw the crops alone of N samples, in a square")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other samples")
    parser.add_argument("--size", type=int, default=160, help="side of a picture in pixels (default 160)")
    parser.add_argument("--output", type=Path, default=Path("output/samples.png"), help="the picture to write")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if min(args.count, args.size, 1 if args.grid is None else args.grid) < 1 or args.seed < 0:
        parser.error("--count, --grid and --size must be at least 1, --seed at least 0")


def handle(args: argparse.Namespace) -> None:
    """See `sopose.vis.samples`."""
    from sopose.vis.samples import SamplesOptions, draw_samples

    count = draw_samples(SamplesOptions(**vars(args)))
    print(f"{count} samples drawn in {args.output}")
