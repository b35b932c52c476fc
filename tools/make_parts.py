"""Make a data set of generated parts: models alone, for what is learned from many shapes, such as second looks.

Plates with walls and holes, turned bodies, tubes, and what is put together from these, in all sizes and colours. The
same seed makes the same parts. Train on them as the split path/to/folder:cad.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from sopose.core.utils.errors import run_cli
from sopose.core.utils.files import require_writable_dir

EXAMPLE = """example:
  python tools/make_parts.py --root datasets/BOP_DATASETS/parts --count 200
  python tools/train_refiner.py --config-file configs/gdrn_selfocc/refiner/any_object.py \\
      --opts DATASETS.TRAIN=[datasets/BOP_DATASETS/parts:cad] DATASETS.OBJS=[]

overview.png shows them.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path("datasets/BOP_DATASETS/parts"), help="folder to make")
    parser.add_argument("--count", type=int, default=100, help="(default 100)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other parts (default 0)")
    parser.add_argument("--workers", type=int, default=1, help="processes; -1 for one a core (default 1)")
    parser.add_argument("--overwrite", action="store_true", help="replace the data set in --root")
    args = parser.parse_args(argv)
    if not 1 <= args.count <= 999 or args.seed < 0 or args.workers == 0:
        parser.error("--count must be 1 to 999, --seed at least 0, --workers not 0")
    return args


def main(argv: list[str] | None = None) -> None:
    """Draw, search symmetries, write."""
    args = parse_args(argv)
    from joblib import Parallel, delayed
    from tqdm import tqdm

    from sopose.core.making.new_dataset import require_place, write_dataset
    from sopose.core.making.parts import generated_part

    require_place(args.root, args.overwrite, add=False)
    require_writable_dir(args.root.parent)
    make = partial(generated_part, args.seed)
    found = Parallel(args.workers, return_as="generator")(delayed(make)(number) for number in range(args.count))
    objects = write_dataset(args.root, list(tqdm(found, "parts", total=args.count)), None, tolerance=None)
    symmetric = sum(bool(new.symmetries.discrete or new.symmetries.continuous) for new in objects)
    print(f"{len(objects)} parts, {symmetric} of them symmetric: {args.root} (overview: {args.root / 'overview.png'})")


if __name__ == "__main__":
    run_cli(main)
