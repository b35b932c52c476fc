"""Object models of a BOP data set: `obj_%06d.ply` and `models_info.json`, millimetres to metres."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from sopose.core.bop.fields import by_id, numbers, positive, rotation
from sopose.core.objects.known import MOST_SYMMETRIES
from sopose.core.objects.mesh import Mesh
from sopose.core.objects.model import ObjectModel, measure
from sopose.core.objects.ply import read_ply, write_ply
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, require_dir, require_file, require_key, write_json
from sopose.core.utils.units import M_TO_MM, MM_TO_M

logger = logging.getLogger(__name__)

INFO_NAME = "models_info.json"
SYMMETRY_KEYS = tuple(MOST_SYMMETRIES)
INFO_REMEDY = (
    "it comes with a BOP set's models archive (bop.felk.cvut.cz); "
    "sopose new makes it of your own CAD files, sopose symmetries --write of a models folder"
)


def load_models(
    folder: Path,
    object_ids: Iterable[int] | None = None,
    names: dict[int, str] | None = None,
    info_name: str = INFO_NAME,
) -> dict[int, ObjectModel]:
    """The models of a BOP `models*` folder by object id, ascending; all of them by default.

    `names` gives object names; an object without one is called as its file (`obj_000001`). A model that is still in
    use is not read again, but given once more: its caster too is built once.
    Raises `UserError` for a missing folder, file, entry or key and for a damaged mesh.
    """
    folder = require_dir(Path(folder), "download the data set's models or correct the path")
    infos = read_models_info(folder / info_name)
    wanted = sorted(infos if object_ids is None else set(object_ids))
    models = {}
    for obj_id in wanted:
        if obj_id not in infos:
            known = ", ".join(map(str, sorted(infos)))
            raise UserError(f"{folder / info_name} has no object {obj_id} (it has: {known}); choose among them")
        name = (names or {}).get(obj_id, default_name(obj_id))
        models[obj_id] = _shared_model(folder / f"{default_name(obj_id)}.ply", obj_id, name, folder / info_name, infos)
    return models


_IN_USE: WeakValueDictionary[tuple[Any, ...], ObjectModel] = WeakValueDictionary()


def _shared_model(path: Path, obj_id: int, name: str, info_path: Path, infos: dict[int, Any]) -> ObjectModel:
    """The model of these files as they are now."""
    stamps = [(file.stat().st_mtime_ns, file.stat().st_size) for file in (path, info_path) if file.is_file()]
    key = (path.absolute(), info_path.absolute(), name, *stamps)
    model = _IN_USE.get(key)
    if model is None:
        model = _IN_USE[key] = load_model(path, obj_id, name, infos[obj_id])
    return model


def default_name(obj_id: int) -> str:
    """BOP's name of an object without one: `obj_000001`."""
    return f"obj_{obj_id:06d}"


def read_models_info(path: Path) -> dict[int, dict[str, Any]]:
    """`models_info.json` by object id, entries checked and in metres.

    An entry holds diameter, bounds_min (3,), extent (3,), symmetries_discrete and
    symmetries_continuous as `ObjectModel` has them; the file may lack the symmetries.
    """
    return {obj_id: model_info(entry, f"{path}, object {obj_id}") for obj_id, entry in info_entries(path).items()}


def info_entries(path: Path) -> dict[int, Any]:
    """`models_info.json` by object id, its entries as they are. `UserError` where it is missing or no such file."""
    content = read_json(path, INFO_REMEDY)
    if not isinstance(content, dict) or not content or not all(str(key).isdecimal() for key in content):
        raise UserError(f"{path} must map object ids to their sizes; restore the file")
    return by_id(content, str(path))


def model_info(entry: Any, where: str) -> dict[str, Any]:
    """One entry of `models_info.json`, checked and in metres."""
    sizes = model_sizes(entry, where)
    discrete, continuous = (symmetry_items(entry, key, where) for key in SYMMETRY_KEYS)
    return sizes | {
        "symmetries_discrete": [discrete_symmetry(item, f"{where}: {SYMMETRY_KEYS[0]}") for item in discrete],
        "symmetries_continuous": [continuous_symmetry(item, f"{where}: {SYMMETRY_KEYS[1]}") for item in continuous],
    }


def model_sizes(entry: Any, where: str) -> dict[str, Any]:
    """Diameter, bounds_min (3,) and extent (3,) of one entry, metres."""
    corner = [require_key(entry, f"min_{axis}", where) for axis in "xyz"]
    size = numbers([require_key(entry, f"size_{axis}", where) for axis in "xyz"], 3, f"{where}: size_x, size_y, size_z")
    if size.min() < 0:
        raise UserError(f"{where}: size_x, size_y, size_z must not be below zero; repair the file")
    return {
        "diameter": MM_TO_M * positive(require_key(entry, "diameter", where), f"{where}: diameter"),
        "bounds_min": MM_TO_M * numbers(corner, 3, f"{where}: min_x, min_y, min_z"),
        "extent": MM_TO_M * size,
    }


def symmetry_items(entry: dict[str, Any], key: str, where: str) -> list[Any]:
    """The list of symmetries that an entry has under one of `SYMMETRY_KEYS`; empty without the key."""
    items = entry.get(key, [])
    if not isinstance(items, list):
        raise UserError(f"{where}: {key} must be a list and is {str(items)[:40]}; repair the file")
    if len(items) > MOST_SYMMETRIES[key]:
        raise UserError(
            f"{where}: {key} has {len(items)} entries, at most {MOST_SYMMETRIES[key]} can be; repair the file"
        )
    return items


def discrete_symmetry(item: Any, where: str) -> np.ndarray:
    """(4, 4) object-to-object transform, translation in metres."""
    transform = numbers(item, 16, where).reshape(4, 4)
    if (transform[3] != (0, 0, 0, 1)).any():
        hint = ": it is written column by column" if (transform[:3, 3] == 0).all() else ""
        last = " ".join(f"{x:g}" for x in transform[3])
        raise UserError(f"{where} must have 0 0 0 1 for its last row and has {last}{hint}; repair the file")
    rotation(transform[:3, :3], where)
    transform[:3, 3] *= MM_TO_M
    return transform


def continuous_symmetry(item: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Unit axis (3,), and offset (3,), metres."""
    axis = numbers(require_key(item, "axis", where), 3, f"{where}: axis")
    length = np.linalg.norm(axis)
    if length == 0:
        raise UserError(f"{where}: axis must not be zero; repair the file")
    offset = numbers(item.get("offset", [0, 0, 0]), 3, f"{where}: offset")
    return axis / length, MM_TO_M * offset


def load_model(path: Path, obj_id: int, name: str, info: dict[str, Any] | None = None) -> ObjectModel:
    """One mesh (PLY, text or binary, millimetres) with its entry of `read_models_info`, or with sizes measured."""
    mesh = read_mesh(path)
    sizes = {}
    vertices = MM_TO_M * mesh.vertices
    if info is None:
        sizes = dict(zip(("diameter", "bounds_min", "extent"), measure(vertices), strict=True))
    for note in mesh.notes:
        logger.warning("%s: %s", path, note)
    return ObjectModel(
        obj_id=obj_id,
        name=name,
        vertices=vertices,
        faces=mesh.faces,
        normals=mesh.normals,
        colors=None if mesh.colors is None else np.rint(mesh.colors).astype(np.uint8),
        uv=mesh.uv,
        texture=mesh.texture,
        **(info or sizes),
    )


def read_mesh(path: Path) -> Mesh:
    """The mesh of a model's file, millimetres, vertices in the order of the file. `UserError` for a damaged one."""
    mesh = read_ply(require_file(path, "download the data set's models or choose other objects")).at_vertices()
    if not len(mesh.faces):
        raise UserError(f"{path} is a mesh without faces; restore the file")
    if not np.isfinite(mesh.vertices).all():
        raise UserError(f"{path} has vertices that are no numbers; restore the file")
    return mesh


def write_model(path: Path, model: ObjectModel) -> None:
    """Write a model as binary PLY in millimetres, with what it has of normals, colours and texture.

    A texture goes into the .png of the same name.
    """
    mesh = Mesh(M_TO_MM * model.vertices, model.faces, model.normals, model.colors, model.uv, model.texture)
    write_ply(path, mesh)


def size_fields(model: ObjectModel) -> dict[str, Any]:
    """Diameter and axis-aligned box of a model as `models_info.json` has them, millimetres."""
    entry: dict[str, Any] = {"diameter": M_TO_MM * model.diameter}
    entry |= {f"min_{axis}": M_TO_MM * float(model.bounds_min[k]) for k, axis in enumerate("xyz")}
    return entry | {f"size_{axis}": M_TO_MM * float(model.extent[k]) for k, axis in enumerate("xyz")}


def symmetry_fields(
    discrete: Sequence[np.ndarray], continuous: Sequence[tuple[np.ndarray, np.ndarray]], digits: int | None = None
) -> dict[str, Any]:
    """Symmetries, metres, as `models_info.json` has them: 16 numbers row by row, and axis and offset, millimetres.

    Only keys that are not empty. digits: of the numbers, all of them by default.
    """

    def plain(values: np.ndarray) -> list[float]:
        return (values if digits is None else np.round(values, digits) + 0.0).tolist()

    to_mm = np.array([[1, 1, 1, M_TO_MM]] * 3 + [[1, 1, 1, 1]])
    matrices = [plain((motion * to_mm).reshape(-1)) for motion in discrete]
    axes = [{"axis": plain(np.asarray(axis)), "offset": plain(M_TO_MM * np.asarray(o))} for axis, o in continuous]
    return {key: value for key, value in zip(SYMMETRY_KEYS, (matrices, axes), strict=True) if value}


def write_models_info(folder: Path, models: Iterable[ObjectModel]) -> None:
    """Write `models_info.json` (millimetres) of these models into `folder`."""
    content = {}
    for model in sorted(models, key=lambda model: model.obj_id):
        entry = size_fields(model)
        entry |= symmetry_fields(model.symmetries_discrete, model.symmetries_continuous)
        content[str(model.obj_id)] = entry
    write_json(Path(folder) / INFO_NAME, content)
