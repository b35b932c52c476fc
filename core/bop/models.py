"""Object models of a BOP data set: `obj_%06d.ply` and `models_info.json`, millimetres to metres."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sopose.core.bop.fields import numbers, positive, rotation
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import (
    atomic_path,
    read_image,
    read_json,
    require_dir,
    require_file,
    require_key,
    write_image,
    write_json,
)
from sopose.core.utils.units import M_TO_MM, MM_TO_M

INFO_NAME = "models_info.json"
INFO_REMEDY = (
    "it comes with a BOP set's models archive (bop.felk.cvut.cz); "
    "tools/new_dataset.py makes it of your own CAD files, tools/find_symmetries.py --write of a models folder"
)


def load_models(
    folder: Path,
    object_ids: Iterable[int] | None = None,
    names: dict[int, str] | None = None,
    info_name: str = INFO_NAME,
) -> dict[int, ObjectModel]:
    """The models of a BOP `models*` folder by object id, ascending; all of them by default.

    `names` gives object names; an object without one is called as its file (`obj_000001`).
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
        models[obj_id] = load_model(folder / f"{default_name(obj_id)}.ply", infos[obj_id], obj_id, name)
    return models


def default_name(obj_id: int) -> str:
    """BOP's name of an object without one: `obj_000001`."""
    return f"obj_{obj_id:06d}"


def read_models_info(path: Path) -> dict[int, dict[str, Any]]:
    """`models_info.json` by object id, entries checked and in metres.

    An entry holds diameter, bounds_min (3,), extent (3,), symmetries_discrete and
    symmetries_continuous as `ObjectModel` has them; the file may lack the symmetries.
    """
    content = read_json(path, INFO_REMEDY)
    if not isinstance(content, dict) or not content or not all(str(key).isdecimal() for key in content):
        raise UserError(f"{path} must map object ids to their sizes; restore the file")
    return {int(key): _model_info(entry, f"{path}, object {key}") for key, entry in content.items()}


def _model_info(entry: dict, where: str) -> dict[str, Any]:
    corner = [require_key(entry, f"min_{axis}", where) for axis in "xyz"]
    size = numbers([require_key(entry, f"size_{axis}", where) for axis in "xyz"], 3, f"{where}: size_x, size_y, size_z")
    if size.min() < 0:
        raise UserError(f"{where}: size_x, size_y, size_z must not be below zero; repair the file")
    return {
        "diameter": MM_TO_M * positive(require_key(entry, "diameter", where), f"{where}: diameter"),
        "bounds_min": MM_TO_M * numbers(corner, 3, f"{where}: min_x, min_y, min_z"),
        "extent": MM_TO_M * size,
        "symmetries_discrete": _symmetries(entry, "symmetries_discrete", _discrete_symmetry, where),
        "symmetries_continuous": _symmetries(entry, "symmetries_continuous", _continuous_symmetry, where),
    }


def _symmetries(entry: dict, key: str, read: Callable[[Any, str], Any], where: str) -> list[Any]:
    items = entry.get(key, [])
    if not isinstance(items, list):
        raise UserError(f"{where}: {key} must be a list and is {items!r}; repair the file")
    return [read(item, f"{where}: {key}") for item in items]


def _discrete_symmetry(item: Any, where: str) -> np.ndarray:
    transform = numbers(item, 16, where).reshape(4, 4)
    rotation(transform[:3, :3], where)
    transform[:3, 3] *= MM_TO_M
    return transform


def _continuous_symmetry(item: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    axis = numbers(require_key(item, "axis", where), 3, f"{where}: axis")
    length = np.linalg.norm(axis)
    if length == 0:
        raise UserError(f"{where}: axis must not be zero; repair the file")
    offset = numbers(item.get("offset", [0, 0, 0]), 3, f"{where}: offset")
    return axis / length, MM_TO_M * offset


def load_model(path: Path, info: dict[str, Any], obj_id: int, name: str) -> ObjectModel:
    """One mesh (PLY, ASCII or binary, millimetres) with its entry of `read_models_info`."""
    require_file(path, "download the data set's models or choose other objects")
    header = _ply_header(path)
    mesh = _read_ply(path, header)
    vertices = np.asarray(mesh["vertices"], np.float64)
    visual = mesh.get("visual")
    uv = None if visual is None else np.asarray(visual.uv, np.float64)
    return ObjectModel(
        obj_id=obj_id,
        name=name,
        vertices=MM_TO_M * vertices,
        faces=mesh["faces"],
        normals=_vertex_field(mesh.get("vertex_normals"), len(vertices), np.float64),
        colors=_vertex_field(mesh.get("vertex_colors"), len(vertices), np.uint8),
        uv=uv,
        texture=None if uv is None else _read_texture(path, header),
        **info,
    )


def _ply_header(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    end = head.find(b"end_header")
    if not head.startswith(b"ply") or end < 0:
        raise UserError(f"{path} is not a PLY mesh; restore the file")
    return head[:end].decode("latin-1")


def _read_ply(path: Path, header: str) -> dict[str, Any]:
    """trimesh's fields of a PLY file: vertices (V, 3) mm, faces (F, 3) int64 and what else it has."""
    from trimesh.exchange.ply import load_ply
    from trimesh.geometry import triangulate_quads

    # Texture coordinates per corner need vertices split at the seams; per vertex, the order is kept.
    per_corner = "texcoord" in header
    try:
        with open(path, "rb") as file:
            mesh = load_ply(file, fix_texture=per_corner, skip_materials=True, prefer_color="vertex")
        faces = np.asarray(triangulate_quads(mesh["faces"]), np.int64).reshape(-1, 3)
    except KeyError as error:
        raise UserError(f"{path} is a mesh without {error.args[0]}; restore the file") from error
    except Exception as error:  # whatever trimesh stumbles over, the file is at fault
        raise UserError(f"{path} cannot be read as a PLY mesh ({error}); restore the file") from error
    vertices = np.asarray(mesh["vertices"])
    if len(vertices) == 0 or len(faces) == 0:
        raise UserError(f"{path} has {len(vertices)} vertices and {len(faces)} faces; restore the file")
    if not np.isfinite(vertices).all() or faces.min() < 0 or faces.max() >= len(vertices):
        raise UserError(f"{path} has vertices that are no numbers or faces without vertices; restore the file")
    if per_corner:
        mesh.pop("vertex_normals", None)  # they still have the order from before the split
        mesh.pop("vertex_colors", None)
    return {**mesh, "faces": faces}


def _vertex_field(values: np.ndarray | None, count: int, dtype: type) -> np.ndarray | None:
    if values is None or len(values) != count:
        return None
    return np.ascontiguousarray(np.asarray(values)[:, :3], dtype)


def _read_texture(path: Path, header: str) -> np.ndarray | None:
    """The RGB texture that the header names (`comment TextureFile x.png`), else the .png of the same name."""
    named = re.search(r"^comment\s+TextureFile\s+(.+?)\s*$", header, re.IGNORECASE | re.MULTILINE)
    # Only the file's name counts: a data set's textures lie beside its meshes, and nowhere else.
    candidates = [path.with_name(Path(named[1]).name)] if named else []
    candidates.append(path.with_suffix(".png"))
    for candidate in candidates:
        if candidate.is_file():
            return cv2.cvtColor(read_image(candidate), cv2.COLOR_BGR2RGB)
    return None


def write_model(path: Path, model: ObjectModel) -> None:
    """Write a model as binary PLY in millimetres, with what it has of normals, colours and texture.

    A texture goes into the .png of the same name.
    """
    columns: list[tuple[str, str, np.ndarray]] = [
        (axis, "float", M_TO_MM * model.vertices[:, k]) for k, axis in enumerate("xyz")
    ]
    if model.normals is not None:
        columns += [(f"n{axis}", "float", model.normals[:, k]) for k, axis in enumerate("xyz")]
    if model.colors is not None:
        columns += [(c, "uchar", model.colors[:, k]) for k, c in enumerate(("red", "green", "blue"))]
    if model.uv is not None:
        columns += [(f"texture_{axis}", "float", model.uv[:, k]) for k, axis in enumerate("uv")]
    comment = []
    if model.texture is not None:
        write_image(path.with_suffix(".png"), cv2.cvtColor(model.texture, cv2.COLOR_RGB2BGR))
        comment = [f"comment TextureFile {path.with_suffix('.png').name}"]
    with atomic_path(path) as beside:
        beside.write_bytes(_ply_bytes(columns, model.faces, comment))


def _ply_bytes(columns: list[tuple[str, str, np.ndarray]], faces: np.ndarray, comment: list[str]) -> bytes:
    formats = {"float": "<f4", "uchar": "u1"}
    vertices = np.empty(len(columns[0][2]), [(name, formats[kind]) for name, kind, _ in columns])
    for name, _, values in columns:
        vertices[name] = values
    corners = np.empty(len(faces), [("count", "u1"), ("index", "<i4", (3,))])
    corners["count"], corners["index"] = 3, faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *comment,
        f"element vertex {len(vertices)}",
        *(f"property {kind} {name}" for name, kind, _ in columns),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    return "\n".join(header).encode("ascii") + vertices.tobytes() + corners.tobytes()


def size_fields(model: ObjectModel) -> dict[str, Any]:
    """Diameter and axis-aligned box of a model as `models_info.json` has them, millimetres."""
    entry: dict[str, Any] = {"diameter": M_TO_MM * model.diameter}
    entry |= {f"min_{axis}": M_TO_MM * float(model.bounds_min[k]) for k, axis in enumerate("xyz")}
    return entry | {f"size_{axis}": M_TO_MM * float(model.extent[k]) for k, axis in enumerate("xyz")}


def write_models_info(folder: Path, models: Iterable[ObjectModel]) -> None:
    """Write `models_info.json` (millimetres) of these models into `folder`."""
    content = {}
    for model in sorted(models, key=lambda model: model.obj_id):
        entry = size_fields(model)
        if model.symmetries_discrete:
            to_mm = np.array([[1, 1, 1, M_TO_MM]] * 3 + [[1, 1, 1, 1]])
            entry["symmetries_discrete"] = [(S * to_mm).reshape(-1).tolist() for S in model.symmetries_discrete]
        if model.symmetries_continuous:
            entry["symmetries_continuous"] = [
                {"axis": axis.tolist(), "offset": (M_TO_MM * offset).tolist()}
                for axis, offset in model.symmetries_continuous
            ]
        content[str(model.obj_id)] = entry
    write_json(Path(folder) / INFO_NAME, content)
