"""Examines a folder of models: meshes, `models_info.json`, units and symmetries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.models import INFO_NAME, default_name, info_entries, load_model, model_sizes
from sopose.core.doctor.findings import Finding, words_of
from sopose.core.doctor.symmetries import check_symmetries
from sopose.core.geometry.surface import is_flat
from sopose.core.objects.model import ObjectModel, middle_of
from sopose.core.utils.errors import UserError
from sopose.core.utils.units import M_TO_MM

SMALLEST, LARGEST = 2e-3, 20.0  # metres: diameters beyond them are of another unit
SIZE_TOLERANCE = 0.02  # diameters; simplified meshes for evaluation are within 0.01 of their originals' sizes
UNIT_TOLERANCE = 0.05  # of a factor 1000
STRAY = 0.01  # diameters by which vertices without a face may widen a box
MODEL_FILE = re.compile(r"obj_(\d+)\.ply")


@dataclass
class ModelFolder:
    """What a `models*` folder holds."""

    folder: Path
    findings: list[Finding] = field(default_factory=list)
    known: set[int] = field(default_factory=set)  # ids that it names, by a mesh or an entry
    diameters: dict[int, float] = field(default_factory=dict)  # metres, of meshes that can be cast
    middles: dict[int, np.ndarray] = field(default_factory=dict)  # (3,) metres, see `middle_of`
    symmetric: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Sizes:
    """Metres: of a mesh, or of its entry."""

    diameter: float
    low: np.ndarray  # (3,) lower corner of the box
    extent: np.ndarray  # (3,)


def check_models(root: Path, folder: Path) -> ModelFolder:
    """Examine every model of a folder below the data set's `root`."""
    found = ModelFolder(folder)
    where = str(folder.relative_to(root))
    matches = {path: MODEL_FILE.fullmatch(path.name) for path in sorted(folder.iterdir())}
    meshes = {int(match[1]): path for path, match in matches.items() if match}
    entries = _read_entries(found, f"{where}/{INFO_NAME}")
    found.known = {*meshes, *(entries or {})}
    if not meshes:
        found.findings.append(Finding("absent", where, "no mesh (obj_000001.ply, …): nothing can be rendered"))
        return found
    for obj_id in sorted(found.known):
        place = f"{where}/{default_name(obj_id)}.ply"
        if obj_id not in meshes:
            found.findings.append(
                Finding("model-missing", place, f"{INFO_NAME} has object {obj_id}, the mesh is missing")
            )
            continue
        if entries is not None and obj_id not in entries:
            found.findings.append(
                Finding("model-entry", f"{where}/{INFO_NAME}", f"no entry for object {obj_id}, which has a mesh")
            )
        _check_model(found, obj_id, meshes[obj_id], place, (entries or {}).get(obj_id))
    return found


def _read_entries(found: ModelFolder, where: str) -> dict[int, Any] | None:
    """Entries of `models_info.json` as they are; None without the file."""
    path = found.folder / INFO_NAME
    if not path.is_file():
        what = "not there: training and scores take diameters, sizes and symmetries from it"
        found.findings.append(Finding("absent", where, what))
        return None
    try:
        return info_entries(path)
    except UserError as error:
        found.findings.append(Finding("json-broken", where, words_of(error, path)))
        return None


def _check_model(found: ModelFolder, obj_id: int, path: Path, where: str, entry: Any) -> None:
    info_where = f"{where.rpartition('/')[0]}/{INFO_NAME}, object {obj_id}"
    try:
        model = load_model(path, obj_id, default_name(obj_id))
        _ = model.caster  # takes what can be rendered
    except UserError as error:
        found.findings.append(Finding("model-broken", where, words_of(error, path)))
        return
    if is_flat(model.vertices):
        found.findings.append(Finding("model-broken", where, "all its vertices lie in one plane"))
        return
    sizes = _Sizes(model.diameter, model.bounds_min, model.extent)
    stored = None
    if entry is not None:
        try:
            stored = _Sizes(*model_sizes(entry, "the entry").values())
        except UserError as error:
            found.findings.append(Finding("model-entry", info_where, str(error)))
    unit = list(_unit_faults(sizes, stored, where, info_where))
    found.findings += unit
    found.findings += _mesh_faults(model, sizes, where)
    if stored is not None and not unit:
        found.findings += _size_faults(sizes, stored, info_where)
    if isinstance(entry, dict):
        faults, symmetric = check_symmetries(model.vertices, model.faces, sizes.diameter, entry, info_where)
        found.findings += faults
        found.symmetric |= {obj_id} if symmetric else set()
    if not unit:
        found.diameters[obj_id] = sizes.diameter
        found.middles[obj_id] = middle_of(sizes.low, sizes.extent, sizes.diameter)


def _unit_faults(mesh: _Sizes, stored: _Sizes | None, where: str, info_where: str) -> Iterator[Finding]:
    text = f"diameter {_mm(mesh.diameter)} mm"
    ratio = 1.0 if stored is None else stored.diameter / mesh.diameter
    if mesh.diameter < SMALLEST:
        yield Finding("model-unit", where, f"{text}: the mesh is in metres, factor 1000")
    elif mesh.diameter > LARGEST:
        yield Finding("model-unit", where, f"{text}: the mesh is in micrometres, factor 1/1000")
    elif abs(ratio / 1e-3 - 1) < UNIT_TOLERANCE or (stored is not None and stored.diameter < SMALLEST):
        what = f"diameter {_mm(stored.diameter)}, the mesh has {_mm(mesh.diameter)} mm"
        yield Finding("model-unit", info_where, f"{what}: the entry is in metres, factor 1000")
    elif abs(ratio / 1e3 - 1) < UNIT_TOLERANCE:
        what = f"{text}, {INFO_NAME} says {_mm(stored.diameter)}: the mesh is in metres, factor 1000"
        yield Finding("model-unit", where, what)


def _size_faults(mesh: _Sizes, stored: _Sizes, where: str) -> Iterator[Finding]:
    tolerance = SIZE_TOLERANCE * mesh.diameter
    wrong = []
    if abs(stored.diameter - mesh.diameter) > tolerance:
        hint = ""
        if abs(stored.diameter - np.linalg.norm(mesh.extent)) < 1e-3 * stored.diameter:
            hint = " (it is the diagonal of the box, not the largest distance of two vertices)"
        wrong.append(f"diameter {_mm(stored.diameter)}, the mesh has {_mm(mesh.diameter)} mm{hint}")
    for key, ours, theirs in (("min", mesh.low, stored.low), ("size", mesh.extent, stored.extent)):
        wrong += [
            f"{key}_{axis} {_mm(theirs[k])}, the mesh has {_mm(ours[k])}"
            for k, axis in enumerate("xyz")
            if abs(theirs[k] - ours[k]) > tolerance
        ]
    if wrong:
        yield Finding("model-size", where, "; ".join(wrong))


def _mesh_faults(model: ObjectModel, sizes: _Sizes, where: str) -> Iterator[Finding]:
    used = np.zeros(len(model.vertices), bool)
    used[model.faces.reshape(-1)] = True
    if not used.all():
        stray = np.flatnonzero(~used)
        surface = model.vertices[used]
        beyond = np.maximum(
            surface.min(axis=0) - model.vertices[stray], model.vertices[stray] - surface.max(axis=0)
        ).max(axis=1)
        first = stray[beyond.argmax()]
        text = f"{len(stray)} of {len(used)} vertices belong to no face"
        if beyond.max() > STRAY * sizes.diameter:
            far = f"vertex {first} lies {_mm(beyond.max())} mm outside the box of the others"
            yield Finding("model-stray", where, f"{text}; {far}")
        else:
            yield Finding("model-unused", where, text)
    away = np.linalg.norm(middle_of(sizes.low, sizes.extent, sizes.diameter))
    if away:
        yield Finding("model-origin", where, f"it is {_mm(away)} mm from the middle of the mesh's box")
    if model.uv is not None and model.texture is None:
        yield Finding("model-texture", where, "no image of its texture lies beside it or below")


def _mm(length: float) -> str:
    """Metres as millimetres to four digits."""
    return f"{M_TO_MM * length:.4g}"
