"""Symmetries suggested for BOP models, and written to their `models_info.json`."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.catalog import known_dataset
from sopose.core.bop.models import (
    INFO_NAME,
    SYMMETRY_KEYS,
    default_name,
    load_model,
    read_models_info,
    size_fields,
    symmetry_fields,
)
from sopose.core.bop.splits import folder_names
from sopose.core.geometry.surface import SurfacePoints
from sopose.core.objects.colors import encode, texture_colors
from sopose.core.objects.model import ObjectModel
from sopose.core.symmetry.find_symmetry import Symmetries, SymmetryAxis, find_symmetries
from sopose.core.symmetry.tolerance import Tolerance
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, require_dir, write_json
from sopose.core.utils.units import M_TO_MM

MODEL_NAME = re.compile(r"obj_(\d{6})\.ply")
MOST_LINES = 3  # of axes of one order that are listed one by one
DIGITS = 9  # of what is written: a billionth of a millimetre


def suggest_symmetries(model: ObjectModel, tolerance: Tolerance | None = None) -> Symmetries:
    """The symmetries of a model's shape, and of its colours where it has some."""
    return find_symmetries(model.vertices, model.faces, model.diameter, surface_colors(model), tolerance)


def surface_colors(model: ObjectModel) -> Callable[[SurfacePoints], np.ndarray] | None:
    """The colours (N, 3), levels, at N points of the model's surface; None for a model without any."""
    if model.texture is not None and model.uv is not None:
        texture, uv = model.texture, model.uv
        return lambda points: encode(texture_colors(texture, points.interpolate(uv, model.faces))).astype(np.float64)
    if model.colors is not None:
        levels = model.colors.astype(np.float64)
        return lambda points: points.interpolate(levels, model.faces)
    return None


def with_symmetries(model: ObjectModel, found: Symmetries) -> ObjectModel:
    """The model with the symmetries found in place of its own."""
    return replace(model, symmetries_discrete=found.discrete, symmetries_continuous=found.continuous)


def folder_models(folder: Path, object_ids: Sequence[int] | None = None) -> dict[int, ObjectModel]:
    """The models `obj_%06d.ply` of a folder by id, all or those given; models_info.json may lack them, or be missing.

    `UserError` where there is no model, or not one of those given.
    """
    folder = require_dir(Path(folder), "name a folder of models or mesh files")
    here = {int(match[1]): path for path in folder.iterdir() if (match := MODEL_NAME.fullmatch(path.name))}
    unknown = sorted(set(object_ids or ()) - set(here))
    if not here or unknown:
        has = ", ".join(map(str, sorted(here))) or "none"
        wanted = f"no model of object {unknown[0]}" if here else "no models"
        raise UserError(f"{folder} has {wanted} (obj_000001.ply, …; objects here: {has}); correct folder or --objects")
    infos = read_models_info(folder / INFO_NAME) if (folder / INFO_NAME).is_file() else {}
    wanted_ids = sorted(here if object_ids is None else set(object_ids))
    root = Path(os.path.abspath(folder)).parent
    dataset = known_dataset(root)
    names = folder_names(root, wanted_ids) if dataset is None else dataset.object_names
    return {
        obj_id: load_model(here[obj_id], obj_id, names.get(obj_id, default_name(obj_id)), infos.get(obj_id))
        for obj_id in wanted_ids
    }


def found_fields(found: Symmetries) -> dict[str, Any]:
    """What `models_info.json` has of the symmetries found, see `symmetry_fields`."""
    return symmetry_fields(found.discrete, found.continuous, DIGITS)


def require_unset(folder: Path, object_ids: list[int]) -> None:
    """`UserError` where `models_info.json` of a folder has symmetries of one of the objects already."""
    path = Path(folder) / INFO_NAME
    content = read_json(path) if path.is_file() else {}
    taken = [obj_id for obj_id in object_ids if any(content.get(str(obj_id), {}).get(key) for key in SYMMETRY_KEYS)]
    if taken:
        raise UserError(f"{path} has symmetries of {', '.join(map(str, taken))} already; --overwrite replaces them")


def write_symmetries(folder: Path, models: Mapping[int, ObjectModel], found: Mapping[int, Symmetries]) -> Path:
    """Put the symmetries found into `models_info.json` of a folder, in place of those there; its path.

    What else stands there is kept. An object without an entry gets one, with its sizes.
    """
    path = Path(folder) / INFO_NAME
    content = read_json(path) if path.is_file() else {}
    for obj_id, symmetries in found.items():
        entry = size_fields(models[obj_id]) | content.get(str(obj_id), {})
        kept = {key: value for key, value in entry.items() if key not in SYMMETRY_KEYS}
        content[str(obj_id)] = kept | found_fields(symmetries)
    write_json(path, dict(sorted(content.items(), key=lambda item: int(item[0]))))
    return path


def describe_axis(axis: SymmetryAxis, diameter: float) -> str:
    """One symmetry in words: `4-fold about (0, 0, 1) through (0, 0, 12.5) mm, off by 0.31 mm (0.21 %), 4 levels`.

    diameter in metres.
    """
    kind = f"{axis.order}-fold" if axis.order else "any turn"
    direction = ", ".join(f"{value + 0.0:.3g}" for value in np.round(axis.axis, 4))
    place = ", ".join(f"{value + 0.0:.3g}" for value in np.round(M_TO_MM * axis.offset, 2))
    off = axis.deviation.greatest
    text = (
        f"{kind} about ({direction}) through ({place}) mm, off by {M_TO_MM * diameter * off:.2f} mm ({100 * off:.2f} %)"
    )
    return text if axis.deviation.color is None else f"{text}, {axis.deviation.color:.0f} levels"


def first_of_each_order(axes: Sequence[SymmetryAxis], count: int) -> list[SymmetryAxis]:
    """At most so many axes of one order: of a gear's many half turns one is like the other."""
    seen: Counter[int] = Counter()
    kept = []
    for axis in axes:
        seen[axis.order] += 1
        if seen[axis.order] <= count:
            kept.append(axis)
    return kept


def describe(found: Symmetries, diameter: float) -> list[str]:
    """Lines that say what was found and what was missed by little; diameter in metres."""
    lines = [f"symmetry: {describe_axis(axis, diameter)}" for axis in first_of_each_order(found.axes, MOST_LINES)]
    if len(found.axes) > len(lines):
        lines.append(f"symmetry: … and {len(found.axes) - len(lines)} more axes of these orders")
    lines = lines or ["no symmetry"]
    lines += [f"not taken: {describe_axis(axis, diameter)}" for axis in found.missed]
    return [*lines, found.note] if found.note else lines
