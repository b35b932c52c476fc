"""The command line that the generators of P and Q share, and what it does."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from sopose.core.bop.catalog import DATASETS_FOLDER
from sopose.core.bop.splits import SplitSpec, resolve_split
from sopose.core.utils.errors import UserError
from sopose.maps.check import check_maps
from sopose.maps.files import MapKind
from sopose.maps.generation import MapPlan, generate, select_records

CHECK_COUNT = 100
PURPOSE = """
The files are for INPUT.XYZ_SOURCE=files. Training needs no such files: by default it casts its maps on the fly.
Finished files are left alone, so a run that was stopped is started again in the same way.
"""
EXAMPLES = (
    "--dataset lmo --split train_pbr",
    "--dataset lmo_pbr_train --scenes 0 1 --objects ape can --workers 8",
    "--dataset path/to/mine --split train --also-masks",
    "--dataset lmo --split train_pbr --check 200",
    "--dataset lmo --split train_pbr --cluster tcp://head:8786",
)


def parse_args(argv: list[str] | None, script: str, description: str) -> argparse.Namespace:
    """The command line of the generator `script`, a file's name in this folder."""
    examples = [f"  python gdrn_selfocc_modeling/tools/{script} {example}" for example in EXAMPLES]
    parser = argparse.ArgumentParser(
        description=description + PURPOSE,
        epilog="\n".join(["examples:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    args = parser.parse_args(argv)
    check_options(args, parser)
    return args


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is written, and how."""
    parser.add_argument(
        "--dataset", required=True, help="a BOP folder by name or path, or a whole name such as lmo_pbr_train"
    )
    parser.add_argument("--split", default="", help="split of the folder, such as train_pbr")
    parser.add_argument("--datasets-root", type=Path, default=DATASETS_FOLDER, metavar="DIR")
    parser.add_argument("--scenes", type=int, nargs="+", default=[], metavar="ID", help="these scenes only")
    parser.add_argument("--objects", nargs="+", default=[], metavar="NAME", help="these objects only, by name or id")
    parser.add_argument("--workers", type=int, default=-1, help="processes (default: -1, one a core)")
    parser.add_argument("--cluster", metavar="ADDRESS", help="a Dask scheduler, tcp://host:8786, instead of --workers")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="of the maps in the files")
    parser.add_argument("--overwrite", action="store_true", help="write files again that are finished")
    parser.add_argument(
        "--also-masks", action="store_true", help="mask, mask_visib and scene_gt_info.json where they are missing"
    )
    parser.add_argument("--legacy", action="store_true", help="the ancestor's .pkl files instead of .npz")
    parser.add_argument(
        "--check",
        type=int,
        nargs="?",
        const=CHECK_COUNT,
        default=0,
        metavar="N",
        help=f"write nothing: cast N instances (default: {CHECK_COUNT}) again and report how far their files are off",
    )


def check_options(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for numbers that can't be."""
    if args.workers == 0 or args.workers < -1 or args.check < 0:
        parser.error("--workers must be a number of processes or -1, --check a number of instances")


def find_split(dataset: str, split: str, datasets_root: Path) -> SplitSpec:
    """The split that --dataset and --split name. `UserError` where there is none."""
    if not split:
        return resolve_split(dataset, datasets_root)
    is_path = os.sep in dataset or (Path(dataset).is_dir() and not (datasets_root / dataset).is_dir())
    return resolve_split(f"{dataset}:{split}" if is_path else f"{dataset}_{split}", datasets_root)


def run(kind: MapKind, args: argparse.Namespace) -> None:
    """Write or check the map files of a kind."""
    spec = find_split(args.dataset, args.split, args.datasets_root)
    records = select_records(spec, args.scenes, args.objects)
    if args.check:
        found = check_maps(spec, records, kind, args.check)
        print("\n".join(found.lines()))
        if not found.is_rounding:
            raise UserError(f"files of '{spec.name}' are off by more than their rounding; write them with --overwrite")
        return
    plan = MapPlan(kind, spec, args.dtype, args.overwrite, args.also_masks, args.legacy)
    start = time.monotonic()
    tally = generate(plan, records, args.workers, args.cluster)
    seconds = time.monotonic() - start
    folder = kind.folder_of(spec.images_dir, spec.sensor)
    print(
        f"{folder}: {tally.written} instances written ({tally.size / 2**20:.1f} MiB), "
        f"{tally.fresh} were finished, {seconds:.1f} s"
    )
    if tally.foreign:
        print(f"{tally.foreign} files without a header are another program's and stay; --overwrite replaces them")
