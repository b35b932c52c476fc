"""Make the toy data set: four coloured objects, rendered with exact annotations, in BOP's format.

It stands in for a download: training, evaluation and every tool run on it as on a BOP set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sopose.core.making.toy import ToyOptions, make_toy_dataset
from sopose.core.utils.errors import run_cli

EXAMPLE = """example:
  python tools/make_toy_dataset.py --root datasets/BOP_DATASETS/toy --train 240 --test 40

The data-set names in configs are then toy_train and toy_test (toy_bop_test for the BOP19 targets).
The same parameters give the same bytes; a folder that is complete with them is left as it is.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    default = ToyOptions()
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path("datasets/BOP_DATASETS/toy"), help="folder to make")
    parser.add_argument("--train", type=int, default=default.num_train, help="images of the split train")
    parser.add_argument("--test", type=int, default=default.num_test, help="images of the split test")
    parser.add_argument("--seed", type=int, default=default.seed, help="another seed gives other images")
    parser.add_argument("--workers", type=int, default=1, help="processes; -1 for one a core")
    args = parser.parse_args(argv)
    if min(args.train, args.test) < 1 or args.seed < 0 or args.workers == 0:
        parser.error("--train and --test must be at least 1, --seed at least 0, --workers not 0")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    written = make_toy_dataset(args.root, args.train, args.test, args.seed, workers=args.workers, progress=True)
    state = "is ready" if written else "was there already with these parameters"
    print(f"toy data set {state}: {args.root} (overview: {args.root / 'overview.png'})")


if __name__ == "__main__":
    run_cli(main)
