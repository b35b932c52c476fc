"""Write a BOP split of images rendered from CAD models: colour, depth, masks and all annotation files.

Training needs no such files: <data set>_cad draws its samples on the fly. They are for other programs, for a look at
whole images, and where reading is faster than rendering. Finished scenes are left alone, so a run that was stopped is
started again in the same way; the bytes don't depend on --workers.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from sopose.core.utils.arguments import finite
from sopose.core.utils.errors import run_cli
from sopose.settings import SCHEMA, load_settings

EPILOG = """examples:
  python gdrn_selfocc_modeling/tools/generate_training_images.py --dataset-root datasets/BOP_DATASETS/mine --images 1000
  python gdrn_selfocc_modeling/tools/generate_training_images.py \\
      --config-file configs/gdrn_selfocc/lmo/cad_only.py --output datasets/BOP_DATASETS/lmo --images 20000 \\
      --objects-per-image 8 15 --opts INPUT.BG_IMGS_ROOT=path/to/photos CAD.POSES_FROM=lmo_train_pbr

The split then trains by name: DATASETS.TRAIN=[mine_train_cad].
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    args = parser.parse_args(argv)
    check_options(args, parser)
    return args


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which images, and where."""
    parser.add_argument(
        "--config-file",
        type=Path,
        help="its group CAD and INPUT.BG_IMGS_ROOT count (default: objects that lie on a table)",
    )
    parser.add_argument(
        "--dataset-root",
        type=Path,
        metavar="DIR",
        help="the BOP folder with models and camera.json (default: that of the configuration's first training split)",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="BOP folder to write to (default: --dataset-root)")
    parser.add_argument("--split", default="train_cad", help="name of the split (default: train_cad)")
    parser.add_argument("--images", type=int, required=True, metavar="N", help="images of the split")
    parser.add_argument("--images-per-scene", type=int, default=50, metavar="N", help="images of a scene (default: 50)")
    parser.add_argument(
        "--objects-per-image", type=int, nargs=2, default=(5, 15), metavar=("LOW", "HIGH"), help="(default: 5 15)"
    )
    parser.add_argument(
        "--floating", type=finite, default=0.2, help="share of images whose objects float (default: 0.2)"
    )
    parser.add_argument(
        "--static",
        action="store_true",
        help="each scene is one arrangement that a camera sees from several places",
    )
    parser.add_argument("--format", choices=("jpg", "png"), default="jpg", help="of the colour images (default: jpg)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other images (default: 0)")
    parser.add_argument("--workers", type=int, default=-1, help="processes (default: -1, one a core)")
    parser.add_argument("--cluster", metavar="ADDRESS", help="a Dask scheduler, tcp://host:8786, instead of --workers")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")


def check_options(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if args.config_file is None and args.dataset_root is None:
        parser.error("give --config-file, --dataset-root or both")
    if not args.split.isidentifier() or args.split == "cad":
        parser.error("--split must be a name of letters, digits and _, and not 'cad', which is drawn on the fly")


def main(argv: list[str] | None = None) -> None:
    """Write the split."""
    run(parse_args(argv))


def run(args: argparse.Namespace) -> None:
    """Write the split, and say what was written."""
    from sopose.data.build_split import RenderedSplit, render_split

    defaults = [] if args.config_file else ["CAD.ROTATIONS=stable", "CAD.ELEVATION=(20, 85)"]
    settings = load_settings(args.config_file or SCHEMA, [*defaults, *args.opts])
    split = RenderedSplit(
        name=args.split,
        images=args.images,
        images_per_scene=args.images_per_scene,
        objects_per_image=tuple(args.objects_per_image),
        floating=args.floating,
        rgb_format=args.format,
        seed=args.seed,
        photos=settings.input.bg_imgs_root,
        photos_left_out=settings.input.bg_left_out,
        static=args.static,
    )
    start = time.monotonic()
    plan, written = render_split(
        settings.cad, settings.datasets, split, args.output, args.dataset_root, args.workers, args.cluster
    )
    print(
        f"{plan.split_dir}: {written} scenes written, {len(plan.scenes) - written} were finished, "
        f"{time.monotonic() - start:.1f} s"
    )


if __name__ == "__main__":
    run_cli(main)
