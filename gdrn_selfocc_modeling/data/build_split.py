"""A BOP split rendered from CAD models, as the group CAD of a configuration says."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from sopose.core.bop.catalog import known_dataset
from sopose.core.bop.models import INFO_NAME
from sopose.core.bop.splits import FOLDER_INFO_NAME, SplitSpec, resolve_split
from sopose.core.synthesis.many_objects import CrowdRange
from sopose.core.synthesis.rendered_split import SplitPlan, write_split
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import atomic_path, require_file, write_json
from sopose.data.build_cad import build_scene_options, cad_camera
from sopose.settings.groups import CadSettings, DatasetSettings


@dataclass(frozen=True)
class RenderedSplit:
    """Which images a rendered split has."""

    name: str  # of the split
    images: int
    images_per_scene: int = 50
    objects_per_image: tuple[int, int] = (5, 15)
    floating: float = 0.2  # share of images whose objects float
    rgb_format: str = "jpg"
    seed: int = 0
    photos: str = ""  # folder of backgrounds
    photos_left_out: tuple[str, ...] = ()  # patterns of those that aren't used
    static: bool = False  # whether a scene's images show one arrangement from several places


def render_split(
    cad: CadSettings,
    datasets: DatasetSettings,
    split: RenderedSplit,
    output: Path | None = None,
    dataset_root: Path | None = None,
    workers: int = -1,
    cluster: str | None = None,
) -> tuple[SplitPlan, int]:
    """Write a split, and what its BOP folder lacks of models and names. Returns its plan and the scenes written.

    Finished scenes are left alone. `output` is the BOP folder, by default that of the models: `dataset_root`, or else
    that of the configuration's first training split. Raises `UserError` where models or camera are missing.
    """
    source = _source(datasets, dataset_root)
    output = (output or source.root).absolute()  # a link keeps its name, which identifies a known data set
    plan = SplitPlan(
        split_dir=output / split.name,
        models_dir=source.models_dir.resolve(),
        options=build_scene_options(
            cad,
            datasets,
            cad_camera(cad, source.root),
            CrowdRange(split.objects_per_image, split.floating, cad.gap),
        ),
        images=split.images,
        seed=split.seed,
        images_per_scene=split.images_per_scene,
        rgb_format=split.rgb_format,
        backgrounds_dir=Path(split.photos).resolve() if split.photos else None,
        backgrounds_left_out=split.photos_left_out,
        static=split.static,
    )
    require_file(source.models_dir / INFO_NAME, "images are rendered from the models of that folder")
    written = write_split(plan, workers, cluster)
    _complete_folder(source, output)
    return plan, written


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
    if known_dataset(output) is None and not (output / FOLDER_INFO_NAME).exists():
        names = {str(obj_id): name for obj_id, name in source.object_names.items()}
        write_json(output / FOLDER_INFO_NAME, {"object_names": names})
