"""Make the toy data set: four coloured objects, rendered with exact annotations, in BOP's format.

It stands in for a download: training, evaluation and every verb run on it as on a BOP set. With --parts instead: models
of so many generated parts, plates, turned bodies, tubes and what is put together from these, for what is learned from
many shapes, such as second looks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """examples:
  sopose toy --root datasets/BOP_DATASETS/toy --train 240 --test 40
  sopose toy --parts 200 --root datasets/BOP_DATASETS/parts

The splits are then toy_train and toy_test (toy_bop_test for the BOP19 targets), and path/to/parts:cad. The same
parameters give the same bytes; a toy data set that is complete with them is left as it is. overview.png shows all.
"""
DEFAULT_ROOT = Path("datasets/BOP_DATASETS/toy")


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT, help=f"folder to make (default: {DEFAULT_ROOT})")
    parser.add_argument("--train", type=int, default=240, help="images of the split train (default: 240)")
    parser.add_argument("--test", type=int, default=40, help="images of the split test (default: 40)")
    parser.add_argument("--parts", type=int, metavar="N", help="models of N generated parts instead")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other images or parts (default: 0)")
    parser.add_argument("--workers", type=int, default=1, help="processes; -1 for one a core (default: 1)")
    parser.add_argument("--overwrite", action="store_true", help="with --parts: replace the data set in --root")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for numbers that can't be."""
    if min(args.train, args.test) < 1 or args.seed < 0 or args.workers == 0:
        parser.error("--train and --test must be at least 1, --seed at least 0, --workers not 0")
    if args.parts is not None and not 1 <= args.parts <= 999:
        parser.error("--parts must be 1 to 999")
    if args.parts is not None and args.root == DEFAULT_ROOT:
        parser.error(f"--parts need a --root of their own; {DEFAULT_ROOT} is the toy data set's")


def handle(args: argparse.Namespace) -> None:
    """See `sopose.core.making`."""
    if args.parts is not None:
        from sopose.core.making.parts import write_parts

        objects = write_parts(args.root, args.parts, args.seed, args.workers, args.overwrite)
        symmetric = sum(bool(new.symmetries.discrete or new.symmetries.continuous) for new in objects)
        print(f"{len(objects)} parts, {symmetric} of them symmetric: {args.root} (see {args.root / 'overview.png'})")
        return
    from sopose.core.making.toy import make_toy_dataset

    written = make_toy_dataset(args.root, args.train, args.test, args.seed, workers=args.workers, progress=True)
    state = "is ready" if written else "was there already with these parameters"
    print(f"toy data set {state}: {args.root} (see {args.root / 'overview.png'})")
