"""Write a BOP split of images rendered from CAD models: colour, depth, masks and all annotation files.

Training needs no such files: <data set>_cad draws its samples on the fly. They are for other programs, for a look at
whole images, and where reading is faster than rendering. Finished scenes are left alone, so a run that was stopped is
started again in the same way; the bytes don't depend on --workers.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sopose.core.bop.catalog import DATASETS
from sopose.core.bop.models import INFO_NAME
from sopose.core.bop.splits import FOLDER_INFO_NAME, SplitSpec, resolve_split
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import atomic_path, require_file, write_json
from sopose.settings import SCHEMA, load_settings
from sopose.settings.groups import DatasetSettings

if TYPE_CHECKING:
    pass

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
        "--floating", type=float, default=0.2, help="share of images whose objects float (default: 0.2)"
    )
    parser.add_argument("--format", choices=("jpg", "png"), default="jpg", help="of the colour images (default: jpg)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other images (default: 0)")
    parser.add_argument("--workers", type=int, default=-1, help="processes (default: -1, one a core)")
    parser.add_argument("--cluster", metavar="ADDRESS", help="a Dask scheduler, tcp://host:8786, instead of --workers")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    args = parser.parse_args(argv)
    if args.config_file is None and args.dataset_root is None:
        parser.error("give --config-file, --dataset-root or both")
    if not args.split.isidentifier() or args.split == "cad":
        parser.error("--split must be a name of letters, digits and _, and not 'cad', which is drawn on the fly")
    return args


def main(argv: list[str] | None = None) -> None:
    """Write the split."""
    args = parse_args(argv)
    from sopose.core.synthesis.many_objects import CrowdRange
    from sopose.core.synthesis.rendered_split import SplitPlan, write_split
    from sopose.data.build_cad import build_scene_options, cad_camera

    defaults = [] if args.config_file else ["CAD.ROTATIONS=stable", "CAD.ELEVATION=(20, 85)"]
    settings = load_settings(args.config_file or SCHEMA, [*defaults, *args.opts])
    source = _source(settings.datasets, args.dataset_root)
    output, photos = (args.output or source.root).resolve(), settings.input.bg_imgs_root
    plan = SplitPlan(
        split_dir=output / args.split,
        models_dir=source.models_dir.resolve(),
        options=build_scene_options(
            settings.cad,
            settings.datasets,
            cad_camera(settings.cad, source.root),
            CrowdRange(tuple(args.objects_per_image), args.floating, settings.cad.gap),
        ),
        images=args.images,
        seed=args.seed,
        images_per_scene=args.images_per_scene,
        rgb_format=args.format,
        backgrounds_dir=Path(photos).resolve() if photos else None,
    )
    require_file(source.models_dir / INFO_NAME, "images are rendered from the models of that folder")
    start = time.monotonic()
    written = write_split(plan, args.workers, args.cluster)
    _complete_folder(source, output)
    print(
        f"{plan.split_dir}: {written} scenes written, {len(plan.scenes) - written} were finished, "
        f"{time.monotonic() - start:.1f} s"
    )


def _source(datasets: DatasetSettings, dataset_root: Path | None) -> SplitSpec:
    """Where models and camera come from: the folder given, else that of the configuration's training data."""
    root = Path(datasets.root)
    if dataset_root is not None:
        return resolve_split(f"{dataset_root.absolute()}:cad", root)
    if not datasets.train:
        raise UserError("DATASETS.TRAIN is empty; name the folder of the models by --dataset-root")
    spec = resolve_split(datasets.train[0], root)
    return spec if spec.kind == "cad" else resolve_split(f"{spec.models_dir.parent.absolute()}:cad", root)


def _complete_folder(source: SplitSpec, output: Path) -> None:
    """Give a folder what it lacks of models, camera.json and names: with the split it is a BOP data set then."""
    files = [source.root / "camera.json", *sorted(source.models_dir.iterdir())]
    for path in files:
        target = output / ("camera.json" if path.name == "camera.json" else f"models/{path.name}")
        if path.is_file() and not target.exists():
            with atomic_path(target) as beside:
                shutil.copyfile(path, beside)
    if output.name not in DATASETS and not (output / FOLDER_INFO_NAME).exists():
        names = {str(obj_id): name for obj_id, name in source.object_names.items()}
        write_json(output / FOLDER_INFO_NAME, {"object_names": names})


if __name__ == "__main__":
    run_cli(main)
