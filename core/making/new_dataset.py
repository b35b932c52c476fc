"""From CAD files to a BOP folder ready for training from CAD models: models, sizes, symmetries, camera, names."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.catalog import dataset_name, known_dataset
from sopose.core.bop.fields import CAMERA_NAME, write_camera
from sopose.core.bop.models import INFO_NAME, default_name, read_models_info, write_model
from sopose.core.bop.splits import FOLDER_INFO_NAME
from sopose.core.geometry.camera import Camera, as_K
from sopose.core.images.files import write_image
from sopose.core.objects.cad_files import read_cad
from sopose.core.objects.cad_mesh import CadMesh, cleaned, object_model, refined, with_normals
from sopose.core.objects.decimate import decimated, surface_moved
from sopose.core.objects.mesh_files import METERS
from sopose.core.objects.model import ObjectModel
from sopose.core.symmetry.find_symmetry import Symmetries
from sopose.core.symmetry.suggestions import folder_models, suggest_symmetries, with_symmetries, write_symmetries
from sopose.core.symmetry.tolerance import Tolerance
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, remove_parts, write_json
from sopose.core.utils.units import M_TO_MM
from sopose.core.vis.maps import stack
from sopose.core.vis.model_views import overview
from sopose.core.vis.symmetry_views import symmetry_sheet

SMALLEST, LARGEST = 0.005, 5.0  # metres of diameter: what is not between has most likely another unit
LIKELY = ("mm", "m", "inch", "cm")  # units of CAD files, the most usual first
FEWEST_VERTICES = 3000  # as many model points as the pose loss compares, and many times the surface regions
FEWEST_FACES = 2 * FEWEST_VERTICES  # of a closed mesh with so many vertices
MANY_FACES = 500_000
NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
MOST_DRAWN = 48  # models in a picture of all
MODEL_FOLDERS = ("models_eval", "models")
OF_OBJECTS = ("object_names", "sources")  # what `dataset_info.json` says by object id
ADDED = "added"  # what the folder is called that objects to be added are written to
OURS = {"models", "models_eval", CAMERA_NAME, FOLDER_INFO_NAME, "overview.png", "symmetries.png"}


# 55° wide, as many webcams are; used where no camera is given.
COMMON_CAMERA = Camera(as_K((615.0, 615.0, 319.5, 239.5)), (640, 480))


@dataclass(frozen=True, eq=False)
class NewObject:
    """A file as a model, with notes about it."""

    model: ObjectModel
    source: str  # the file's name
    unit: str
    origin: np.ndarray  # (3,) of the model, in the file's frame, metres
    notes: list[str] = field(default_factory=list)
    symmetries: Symmetries | None = None


def object_names(paths: Sequence[Path], names: Sequence[str] | None) -> list[str]:
    """The objects' names: those given, else those of the files. `UserError` for names that are no good."""
    if names is not None and len(names) != len(paths):
        raise UserError(f"{len(paths)} files and {len(names)} names were given; give a name for each file")
    found = [re.sub(r"[^\w.+-]+", "_", path.stem) for path in paths] if names is None else list(names)
    for name in found:
        if not NAME.fullmatch(name):
            raise UserError(f"'{name}' can be no object's name: letters, digits, _ . + -; give others by --names")
        if found.count(name) > 1:
            raise UserError(f"two objects would be called '{name}'; give names by --names")
    return found


def read_object(
    path: Path, name: str, unit: str, force: bool = False, center: bool = False, max_faces: int | None = None
) -> NewObject:
    """A CAD file as a model, cleaned and fine enough; its id is 0 until it is written.

    unit: one of `METERS`, of the file's coordinates. force: whatever size comes out. center: put the origin into the
    middle of the axis-aligned box. max_faces: simplify a mesh of more, with a progress bar. Raises
    `UserError` for a file without a surface, and for unlikely sizes.
    """
    file = read_cad(path)
    mesh, done = cleaned(file.mesh, str(path))
    notes = [*file.notes, *done]
    mesh = mesh.scaled(METERS[unit])
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    origin = (low + high) / 2 if center else np.zeros(3)
    mesh = replace(mesh, vertices=mesh.vertices - origin)
    mesh, more = _of_good_fineness(mesh, name, max_faces)
    model = object_model(mesh, 0, name)
    if not force and not SMALLEST <= model.diameter <= LARGEST:
        raise UserError(_unlikely_size(path, model.diameter, unit, file.unit))
    if file.unit is not None and file.unit != unit:
        size = _length(model.diameter)
        notes.append(f"UNITS: the file's format counts in {file.unit}; taken in {unit}, as given: {size} in diameter")
    away = float(np.linalg.norm(model.middle))
    if away:
        more.append(f"the origin is {M_TO_MM * away:.0f} mm from the middle: poses are of it; --center moves it there")
    return NewObject(model, Path(path).name, unit, origin, notes + more)


def _of_good_fineness(mesh: CadMesh, name: str, max_faces: int | None) -> tuple[CadMesh, list[str]]:
    """The mesh with normals, simplified if that is asked for, cut where it is too coarse; what was done, in words."""
    notes = []
    if max_faces is not None and len(mesh.faces) > max_faces:
        fewer = decimated(mesh, max_faces, name)
        moved = _length(surface_moved(mesh, fewer))
        colors = "; its texture became colours" if mesh.texture is not None and fewer.colors is not None else ""
        notes = [f"{len(mesh.faces)} to {len(fewer.faces)} triangles, the surface moved by about {moved}{colors}"]
        if len(fewer.faces) > max_faces:
            notes.append(f"it cannot be simplified to {max_faces} triangles")
        mesh = fewer
    mesh, count = with_normals(mesh), len(mesh.faces)
    if count > MANY_FACES:
        return mesh, [*notes, f"{count} triangles are more than training needs; --max-faces {MANY_FACES} simplifies it"]
    finer = refined(mesh, FEWEST_VERTICES)
    if finer is mesh:
        return mesh, notes
    return finer, [
        *notes,
        f"edges halved, the surface is the same: {len(mesh.vertices)} to {len(finer.vertices)} vertices",
    ]


def _unlikely_size(path: Path, diameter: float, unit: str, file_unit: str | None) -> str:
    """What to say of a diameter, metres, that comes out with a unit."""
    sizes = {other: diameter / METERS[unit] * METERS[other] for other in LIKELY}
    fitting = {other: size for other, size in sizes.items() if SMALLEST <= size <= LARGEST}
    text = f"{path} is {_length(diameter)} in diameter if its unit is {unit}"
    if not fitting:
        return f"{text}, and no unit makes it likely; scale it, or take it so by --force"
    others = ", ".join(f"{_length(size)} in {other}" for other, size in fitting.items())
    likely = next(iter(fitting)) if len(fitting) == 1 else file_unit if file_unit in fitting else ""
    advice = f"give --units {likely}" if likely else "give the --units whose size is that of the part"
    return f"{text}; it would be {others}: {advice}, or --force if it is right"


def _length(meters: float) -> str:
    return f"{meters:.3g} m" if meters >= 1 else f"{M_TO_MM * meters:.3g} mm"


def with_found_symmetries(new: NewObject, tolerance: Tolerance) -> NewObject:
    """The object with the symmetries that its shape and colours have."""
    found = suggest_symmetries(new.model, tolerance)
    return replace(new, model=with_symmetries(new.model, found), symmetries=found)


def require_place(root: Path, overwrite: bool, add: bool) -> None:
    """`UserError` where the data set cannot be written to `root` in the way asked for. Ask before work."""
    root = Path(root)
    if known_dataset(root) is not None:
        raise UserError(
            f"'{dataset_name(root)}' is the name of a known data set, whose objects have names; choose another"
        )
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file; choose another folder")
    here = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    if add:
        if not (root / "models" / INFO_NAME).is_file():
            raise UserError(f"{root} has no models/{INFO_NAME} to add to; leave --add out to make a new data set")
    elif here and not overwrite:
        raise UserError(f"{root} exists and is not empty; --add adds objects to it, --overwrite replaces it")
    others = [name for name in here if name not in OURS]
    if overwrite and others:
        raise UserError(f"{root} has more than models ({', '.join(others[:3])}), which would be lost; choose another")


def write_dataset(
    root: Path, objects: Sequence[NewObject], camera: Camera | None, tolerance: Tolerance | None
) -> list[NewObject]:
    """Write a new data set; the objects with their ids. Replaces what is there: ask `require_place` before.

    The folder appears at once when all is written. camera: None for `COMMON_CAMERA`. tolerance: of the symmetries that
    are drawn, None for no picture of them.
    """
    root = Path(root)
    numbered = _numbered(objects, first=1)
    root.parent.mkdir(parents=True, exist_ok=True)
    beside, before = (root.parent / f".{root.name}.{os.getpid()}.{kind}" for kind in ("part", "before"))
    try:
        _write_models(beside, numbered)
        _write_camera(beside, camera)
        _draw(beside, numbered, tolerance)
        if root.exists():
            os.replace(root, before)
        os.replace(beside, root)
    except OSError as error:
        raise UserError(f"{root} cannot be written ({error.strerror or error}); choose another place") from error
    finally:
        if before.exists() and not root.exists():
            os.replace(before, root)
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)
    remove_parts(root.parent, f"{root.name}.*")  # of runs that were killed
    return numbered


def add_to_dataset(
    root: Path, objects: Sequence[NewObject], camera: Camera | None, tolerance: Tolerance | None
) -> list[NewObject]:
    """Add objects to a BOP folder, behind those that it has; the objects with their ids.

    All is written into a folder of its own and moved when it is whole, `models_info.json` last: that file says which
    objects there are. A run that is killed leaves the data set as it was, and can be repeated. camera: written where
    the folder has none.
    """
    root = Path(root)
    present = read_models_info(root / "models" / INFO_NAME)
    names = _read_info(root, present).get("object_names", {})
    for new in objects:
        if new.model.name in names.values():
            raise UserError(f"{root} has an object called '{new.model.name}' already; give another by --names")
    numbered = _numbered(objects, first=max(present) + 1)
    remove_parts(root, f"{ADDED}.*")
    beside = root / f".{ADDED}.{os.getpid()}.part"
    shutil.rmtree(beside, ignore_errors=True)  # of a killed run whose number comes round again
    try:
        _copy_infos(root, beside, present)
        _write_models(beside, numbered)
        if not (root / CAMERA_NAME).is_file():
            _write_camera(beside, camera)
        _draw(beside, numbered, tolerance, folder_models(root / "models", sorted(present)))
        _remove_unlisted(root, present)
        _move_into(root, beside)
    except OSError as error:
        raise UserError(f"{root} cannot be written ({error.strerror or error}); make room or copy it") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return numbered


def _copy_infos(root: Path, beside: Path, present: Collection[int]) -> None:
    """The json files that objects are added to, with what they say of the objects that are there."""
    write_json(beside / FOLDER_INFO_NAME, _read_info(root, present))
    for folder in MODEL_FOLDERS:
        path = root / folder / INFO_NAME
        content = read_json(path) if path.is_file() else {}
        write_json(beside / folder / INFO_NAME, {key: entry for key, entry in content.items() if int(key) in present})


def _remove_unlisted(root: Path, present: Collection[int]) -> None:
    """Remove the models of a killed run: those that `dataset_info.json` has a source of, and no sizes are known."""
    left = [int(key) for key in _read_info(root).get("sources", {}) if key.isdecimal() and int(key) not in present]
    for folder, obj_id, suffix in product(MODEL_FOLDERS, left, (".ply", ".png")):
        (root / folder / f"{default_name(obj_id)}{suffix}").unlink(missing_ok=True)


def _move_into(root: Path, beside: Path) -> None:
    """Move all files to their places; first what shows that a run was killed, last what names the objects."""
    first, last = beside / FOLDER_INFO_NAME, beside / "models" / INFO_NAME
    between = sorted(path for path in beside.rglob("*") if path.is_file() and path not in (first, last))
    for path in (first, *between, last):
        target = root / path.relative_to(beside)
        target.parent.mkdir(exist_ok=True)
        os.replace(path, target)


def _write_camera(root: Path, camera: Camera | None) -> None:
    camera = camera or COMMON_CAMERA
    write_camera(root / CAMERA_NAME, camera.K, camera.size)


def _numbered(objects: Sequence[NewObject], first: int) -> list[NewObject]:
    return [replace(new, model=replace(new.model, obj_id=first + k)) for k, new in enumerate(objects)]


def _write_models(root: Path, objects: Sequence[NewObject]) -> None:
    """Write models, their copies without colours for metrics, and the json files of all."""
    models = {new.model.obj_id: new.model for new in objects}
    bare = {obj_id: replace(model, colors=None, uv=None, texture=None) for obj_id, model in models.items()}
    found = {new.model.obj_id: new.symmetries or Symmetries() for new in objects}
    for folder, written in zip(MODEL_FOLDERS, (bare, models), strict=True):
        for obj_id, model in written.items():
            write_model(root / folder / f"{default_name(obj_id)}.ply", model)
    info = _read_info(root)
    sources = {
        str(new.model.obj_id): {"file": new.source, "units": new.unit, "origin_mm": (M_TO_MM * new.origin).tolist()}
        for new in objects
    }
    names = {str(obj_id): model.name for obj_id, model in models.items()}
    for key, value in zip(OF_OBJECTS, (names, sources), strict=True):
        info[key] = {**info.get(key, {}), **value}
    write_json(root / FOLDER_INFO_NAME, info)
    write_symmetries(root / "models_eval", bare, found)
    write_symmetries(root / "models", models, found)


def _read_info(root: Path, present: Collection[int] | None = None) -> dict[str, Any]:
    """`dataset_info.json`; with `present`, what it says of those objects alone."""
    path = root / FOLDER_INFO_NAME
    content = read_json(path) if path.is_file() else {}
    info = content if isinstance(content, dict) else {}
    for key in OF_OBJECTS if present is not None else ():
        entries = info.get(key)
        known = entries if isinstance(entries, dict) else {}
        info[key] = {obj_id: value for obj_id, value in known.items() if obj_id in map(str, present)}
    return info


def _draw(
    root: Path,
    objects: Sequence[NewObject],
    tolerance: Tolerance | None,
    others: Mapping[int, ObjectModel] | None = None,
) -> None:
    """`overview.png` of the models, the `others` first; with a tolerance `symmetries.png` of those just searched."""
    rows = []
    models = {**(others or {}), **folder_models(root / "models")}
    for obj_id, model in list(models.items())[:MOST_DRAWN]:
        size = " x ".join(f"{M_TO_MM * side:.1f}" for side in model.extent)
        rows.append((model, f"{obj_id} {model.name}: {size} mm, {len(model.faces)} triangles"))
    write_image(root / "overview.png", overview(rows))
    searched = [new for new in objects if new.symmetries is not None] if tolerance is not None else []
    sheets = [symmetry_sheet(new.model, new.symmetries, tolerance) for new in searched]
    if sheets:
        write_image(root / "symmetries.png", stack(sheets))
