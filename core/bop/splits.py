"""Which images a data-set name stands for: the ancestor's names, BOP folders by name, or a path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sopose.core.bop.catalog import DATASETS, LM, LMO, TARGETS_NAME, YCBV, BopDataset, Kind, known_dataset
from sopose.core.bop.models import INFO_NAME, default_name, read_models_info
from sopose.core.bop.records import ImageList
from sopose.core.bop.scene_folder import scene_dirs
from sopose.core.images.scene_images import IMAGE_FOLDERS, sensors_of
from sopose.core.utils.errors import UserError, nearest
from sopose.core.utils.files import read_json, require_dir

TEST_REMEDY = "scores on images that were trained on mean nothing; name another split, or set {key}=True"
TRAINING_LISTS = ("_train", "_all")  # LINEMOD keeps its training images in the folder test, selected by lists
FOLDER_INFO_NAME = "dataset_info.json"  # of a folder that is none of the known data sets


@dataclass(frozen=True)
class SplitSpec:
    """The images and objects that a name like `lmo_bop_test` stands for."""

    name: str
    root: Path  # folder of the data set that has the images
    split: str  # folder of the split within `root`
    object_names: dict[int, str]  # the objects to train or evaluate
    models_dir: Path
    kind: Kind = "real"
    symmetric_ids: tuple[int, ...] = ()
    image_lists: tuple[ImageList, ...] = ()
    targets_path: Path | None = None  # only images in this target file
    scene_is_object: bool = False  # LM: a scene has the id of its object, and only that one is used
    layout: Literal["bop", "blender", "imgn"] = "bop"
    sensor: str = ""  # of the scenes' several; "" where their files name none

    @property
    def images_dir(self) -> Path:
        """Folder of the scenes."""
        return self.root / self.split

    @property
    def models_eval_dir(self) -> Path:
        """Models that metrics are computed with: `models_eval`, or those for training without it."""
        folder = self.models_dir.with_name("models_eval")
        return folder if folder.is_dir() else self.models_dir


@dataclass(frozen=True)
class _Entry:
    """A name of the ancestor's: which folder it reads and which data set names its objects."""

    dataset: BopDataset
    split: str
    object_names: dict[int, str]
    folder: str = ""  # of the images, where it is not the data set's own
    kind: Kind = "real"
    lists: tuple[tuple[str, int | None], ...] = ()  # (path within the folder, scene id)
    lists_required: bool = True
    targets: bool = False
    scene_is_object: bool = False
    layout: Literal["bop", "blender", "imgn"] = "bop"


def _lm_real(objects: dict[int, str], which: str, dataset: BopDataset = LM) -> _Entry:
    lists = tuple((f"image_set/{name}_{which}.txt", obj_id) for obj_id, name in objects.items())
    return _Entry(dataset, "test", objects, folder="lm", lists=lists, scene_is_object=True)


def _lm_imgn(objects: dict[int, str]) -> _Entry:
    lists = tuple((f"image_set/train_{name}.txt", obj_id) for obj_id, name in objects.items())
    return _Entry(LM, "imgn", objects, "lm_imgn", "syn", lists, scene_is_object=True, layout="imgn")


def _lm_blender(dataset: BopDataset, objects: dict[int, str]) -> _Entry:
    folder = "lm_renders_blender"
    return _Entry(dataset, "renders", objects, folder, "syn", scene_is_object=True, layout="blender")


def _ancestor_entries() -> Iterator[tuple[str, _Entry]]:
    lm13 = {k: name for k, name in LM.object_names.items() if name not in ("bowl", "cup")}
    lmo = LMO.object_names
    for which in ("train", "test"):
        yield f"lm_13_{which}", _lm_real(lm13, which)
    yield "lm_pbr_13_train", _Entry(LM, "train_pbr", lm13, kind="pbr")
    yield "lm_blender_13_train", _lm_blender(LM, lm13)
    yield "lm_imgn_13_train_1k_per_obj", _lm_imgn(lm13)
    for obj_id, name in LM.object_names.items():
        one = {obj_id: name}
        for which in ("train", "test", "all"):
            yield f"lm_real_{name}_{which}", _lm_real(one, which)
        yield f"lm_pbr_{name}_train", _Entry(LM, "train_pbr", one, kind="pbr")
        yield f"lm_blender_{name}_train", _lm_blender(LM, one)
        yield f"lm_imgn_13_{name}_train_1k", _lm_imgn(one)

    yield "lmo_train", _lm_real(lmo, "all", LMO)
    for which in ("test", "bop_test"):
        lists = ((f"image_set/lmo_{which}.txt", 2),)
        targets = which == "bop_test"
        yield f"lmo_{which}", _Entry(LMO, "test", lmo, lists=lists, lists_required=False, targets=targets)
    yield "lmo_pbr_train", _Entry(LMO, "train_pbr", lmo, kind="pbr")
    yield "lmo_blender_train", _lm_blender(LMO, lmo)
    for obj_id, name in lmo.items():
        yield f"lmo_pbr_{name}_train", _Entry(LMO, "train_pbr", {obj_id: name}, kind="pbr")
        yield f"lmo_blender_{name}_train", _lm_blender(LMO, {obj_id: name})
    yield from _ycbv_entries()


def _ycbv_entries() -> Iterator[tuple[str, _Entry]]:
    objects = YCBV.object_names
    for sensor, parts in (("real", ("_uw", "_uw_every10", "_cmu")), ("synt", ("_50k", "_30k", "_100"))):
        folder, kind = f"train_{sensor}", "real" if sensor == "real" else "syn"
        # The whole folder; its list, if any, need not be there.
        whole = (("image_sets/train.txt" if sensor == "real" else "image_sets/train_synt.txt", None),)
        yield f"ycbv_{folder}", _Entry(YCBV, folder, objects, kind=kind, lists=whole, lists_required=False)
        for part in parts:
            lists = ((f"image_sets/{folder}{part}.txt", None),)
            yield f"ycbv_{folder}{part}", _Entry(YCBV, folder, objects, kind=kind, lists=lists)
    yield "ycbv_test", _Entry(YCBV, "test", objects, lists=(("image_sets/keyframe.txt", None),))


ANCESTOR_SPLITS = dict(_ancestor_entries())


def image_lists_of(root: Path) -> dict[ImageList, str]:
    """The lists of images in a folder that names of the ancestor's read, and the split that each is of."""
    dataset = known_dataset(root)
    folder = dataset.folder if dataset else root.name
    entries = [e for e in ANCESTOR_SPLITS.values() if (e.folder or e.dataset.folder) == folder and e.layout == "bop"]
    found = {ImageList(root / path, scene): entry.split for entry in entries for path, scene in entry.lists}
    return {item: split for item, split in found.items() if item.path.is_file()}


def resolve_split(name: str, datasets_root: Path) -> SplitSpec:
    """What a data-set name of a config stands for.

    `name` is a name of the ancestor's (`lmo_pbr_train`), `<folder>_<split>` of any BOP folder under
    `datasets_root` (`tless_train_pbr`; `<folder>_bop_test` for the images of the BOP19 targets;
    `<folder>_cad` for images rendered from the models), `<folder>_<object>_<split>` for one object of a
    known data set, or a path with a split, `path/to/folder:split`. Where scenes have the files of several sensors, the
    split's name ends in one, `test_cam1`. Raises `UserError` for an unknown
    name or a missing folder.
    """
    datasets_root = Path(datasets_root)
    if ":" in name:
        return _split_of_path(name, datasets_root)
    if name in ANCESTOR_SPLITS:
        return _split_of_entry(name, ANCESTOR_SPLITS[name], datasets_root)
    here = [path.name for path in datasets_root.iterdir() if path.is_dir()] if datasets_root.is_dir() else []
    folders = [folder for folder in {*here, *DATASETS} if name.startswith(f"{folder}_")]
    if not folders:
        known = sorted({*ANCESTOR_SPLITS, *(f"{folder}_test" for folder in {*here, *DATASETS})})
        raise UserError(
            f"unknown data set '{name}'{nearest(name, known)} (it may be <folder>_<split> of a folder in "
            f"{datasets_root}, where there are: {', '.join(sorted(here)) or 'none'}; or path/to/folder:split)"
        )
    folder = max(folders, key=len)
    split = name[len(folder) + 1 :]
    known_names = DATASETS[folder].object_names if folder in DATASETS else {}
    for obj_id, object_name in known_names.items():
        if split.startswith(f"{object_name}_"):
            whole = resolve_split(f"{folder}_{split[len(object_name) + 1 :]}", datasets_root)
            return _of_one_object(whole, name, obj_id)
    return _split_of_folder(name, datasets_root / folder, split)


def training_split(name: str, datasets_root: Path, allow_test: bool, key: str) -> SplitSpec:
    """As `resolve_split`, for a split that is learned from.

    Raises `UserError` for one of test images unless `allow_test`, which the user sets by the configuration's `key`.
    """
    spec = resolve_split(name, datasets_root)
    if not allow_test and has_test_images(spec):
        raise UserError(f"'{name}' has the test images {spec.images_dir}: {TEST_REMEDY.format(key=key)}")
    return spec


def has_test_images(spec: SplitSpec) -> bool:
    """Whether a split reads images of a folder `test…` that no list assigns to training."""
    if spec.kind == "cad" or not Path(spec.split).name.startswith("test"):
        return False
    return not (spec.image_lists and all(item.path.stem.endswith(TRAINING_LISTS) for item in spec.image_lists))


def _of_one_object(whole: SplitSpec, name: str, obj_id: int) -> SplitSpec:
    """A split narrowed to one of its objects, and in LM to that object's list."""
    if obj_id not in whole.object_names:
        known = ", ".join(whole.object_names.values())
        raise UserError(f"'{name}': '{whole.name}' doesn't have that object (it has: {known}); choose among them")
    lists = whole.image_lists
    if whole.scene_is_object:
        lists = tuple(item for item in lists if item.scene_id == obj_id)
    return replace(
        whole,
        name=name,
        object_names={obj_id: whole.object_names[obj_id]},
        symmetric_ids=tuple({obj_id} & set(whole.symmetric_ids)),
        image_lists=lists,
    )


def _split_of_entry(name: str, entry: _Entry, datasets_root: Path) -> SplitSpec:
    own_root = datasets_root / entry.dataset.folder
    root = datasets_root / entry.folder if entry.folder else own_root
    require_dir(root / entry.split, f"{name} reads it; download that BOP set or correct the data sets' root")
    models_dir = own_root / entry.dataset.models_folder
    return SplitSpec(
        name=name,
        root=root,
        split=entry.split,
        object_names=entry.object_names,
        models_dir=models_dir if models_dir.is_dir() else root / entry.dataset.models_folder,
        kind=entry.kind,
        symmetric_ids=tuple(k for k in entry.dataset.symmetric_ids or () if k in entry.object_names),
        image_lists=tuple(ImageList(root / path, scene, entry.lists_required) for path, scene in entry.lists),
        targets_path=root / TARGETS_NAME if entry.targets else None,
        scene_is_object=entry.scene_is_object,
        layout=entry.layout,
    )


def _split_of_path(name: str, datasets_root: Path) -> SplitSpec:
    folder, _, split = name.rpartition(":")
    root = next((path for path in (Path(folder), datasets_root / folder) if path.is_dir()), None)
    if root is None or not folder or not split:
        raise UserError(
            f"'{name}' must be an existing folder (here or in {datasets_root}) and a split, path/to/folder:split; "
            "correct it or that root"
        )
    return _split_of_folder(name, root, split)


def _split_of_folder(name: str, root: Path, split: str) -> SplitSpec:
    """A split of one BOP folder, known by a row of `DATASETS` or by its files alone."""
    require_dir(root, f"{name} reads it; download that BOP set or correct the data sets' root")
    dataset = known_dataset(root)
    models_dir = root / "models"
    if dataset is not None and (root / dataset.models_folder).is_dir():
        models_dir = root / dataset.models_folder
    symmetric = _symmetric_by_id(models_dir, required=dataset is None)
    names = dataset.object_names if dataset else folder_names(root, sorted(symmetric))
    if dataset is not None and dataset.symmetric_ids is not None:
        symmetric_ids = dataset.symmetric_ids
    else:
        symmetric_ids = tuple(obj_id for obj_id in names if symmetric.get(obj_id))
    spec = SplitSpec(name, root, split, names, models_dir, symmetric_ids=symmetric_ids)
    if split == "cad":
        return replace(spec, kind="cad")
    if split == "bop_test":
        spec = replace(spec, split="test", targets_path=root / TARGETS_NAME)
    elif split.startswith("bop_test_"):
        spec = replace(spec, split=split.removeprefix("bop_"), targets_path=root / TARGETS_NAME)
    found = _existing_split(spec, dataset.sensor if dataset else "")
    spec = replace(spec, split=found.folder, sensor=found.sensor)
    kinds = dict(dataset.split_kinds) if dataset else {}
    return replace(spec, kind=kinds.get(spec.split, _kind_of(spec.split)))


def folder_names(root: Path, object_ids: Iterable[int]) -> dict[int, str]:
    """Names of a folder's objects: what `dataset_info.json` calls them in `object_names`, else those of their files."""
    path = root / FOLDER_INFO_NAME
    content = read_json(path) if path.is_file() else None
    names = content.get("object_names") if isinstance(content, dict) else None
    names = names if isinstance(names, dict) else {}
    return {obj_id: str(names.get(str(obj_id), default_name(obj_id))) for obj_id in object_ids}


def _symmetric_by_id(models_dir: Path, required: bool) -> dict[int, bool]:
    """Whether `models_info.json` gives an object symmetries, by id; empty without the file."""
    path = models_dir / INFO_NAME
    if not required and not path.is_file():
        return {}
    infos = read_models_info(path)
    keys = ("symmetries_discrete", "symmetries_continuous")
    return {obj_id: any(info[key] for key in keys) for obj_id, info in infos.items()}


@dataclass(frozen=True)
class SplitFolder:
    """A folder of scenes, as one of their sensors took them."""

    folder: str
    sensor: str = ""  # "" where the scenes' files name none

    @property
    def name(self) -> str:
        """By which it is chosen: `test`, or `test_cam1` of a sensor."""
        return f"{self.folder}_{self.sensor}" if self.sensor else self.folder


def split_folders(root: Path) -> list[SplitFolder]:
    """The folders of a data set that hold scenes, by name; of a set taken with several sensors one for each of them.

    A folder whose scenes have no camera at all counts too: what it lacks is reported where it is read.
    """
    found = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        scenes = scene_dirs(folder)
        sensors = set().union(*map(sensors_of, scenes))
        if not sensors and any(_has_content(scene) for scene in scenes):
            sensors = {""}
        found += [SplitFolder(folder.name, sensor) for sensor in sorted(sensors)]
    return found


def _has_content(scene_dir: Path) -> bool:
    return any(scene_dir.glob("scene_*.json")) or any((scene_dir / name).is_dir() for name in IMAGE_FOLDERS)


def _existing_split(spec: SplitSpec, sensor: str) -> SplitFolder:
    """The split's folder and sensor; the name of the data set's `sensor`, or of the only one, may follow `test`, ….

    T-LESS has the folders `test_primesense` and `train_primesense`; HOT3D and others have `test` with files of each.
    """
    sensors = set().union(*map(sensors_of, scene_dirs(spec.images_dir))) if spec.images_dir.is_dir() else set()
    if spec.images_dir.is_dir() and len(sensors - {""}) < 2:
        return SplitFolder(spec.split, "" if "" in sensors else next(iter(sensors), ""))
    if "" in sensors:
        return SplitFolder(spec.split)
    known = {item.name: item for item in split_folders(spec.root)}
    for name in (spec.split, f"{spec.split}_{sensor}"):
        if name in known:
            return known[name]
    longer = [item for name, item in known.items() if name.startswith("test_")]
    if spec.split == "test" and len(longer) == 1:
        return longer[0]
    splits = f"(splits: {', '.join([*known, 'cad'])})"
    if sensors:
        raise UserError(
            f"'{spec.name}': scenes of {spec.images_dir} were taken by several sensors; choose one {splits}"
        )
    raise UserError(
        f"'{spec.name}': {spec.root} has no split '{spec.split}'{nearest(spec.split, list(known))} "
        f"{splits}; choose one or download it"
    )


def _kind_of(split: str) -> Kind:
    if split.endswith(("pbr", "_cad")):  # rendered before whole scenes
        return "pbr"
    return "syn" if "synt" in split or "render" in split else "real"
