"""What a checkpoint says of its network beside the weights: enough to run it without configuration or data set."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.models import load_models
from sopose.core.engine.facts import FACTS
from sopose.core.geometry.symmetry import moved_transforms, symmetry_transforms
from sopose.core.objects.known import MOST_OBJECTS, MOST_SYMMETRIES, objects_fault
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError
from sopose.maps.header import model_hash
from sopose.settings import Settings, plain_settings, settings_of
from sopose.settings.meaning import require_meaning

logger = logging.getLogger(__name__)
OBJECTS, SETTINGS, MODELS, FOCAL = "objects", "settings", "models", "focal"
MIDDLE = "middle"  # of an entry of MODELS
REMEDY = (
    "it is of an older version, of other software or damaged; train again, or evaluate it with its configuration: "
    "sopose eval"
)


@dataclass(frozen=True, eq=False)
class KnownObject:
    """An object that a network was trained for; lengths in metres, in the frame that poses are given in."""

    name: str
    obj_id: int
    extent: np.ndarray  # (3,) size of the model's axis-aligned box
    bounds_min: np.ndarray  # (3,) its lower corner
    diameter: float
    symmetries_discrete: list[np.ndarray]  # (4, 4) each
    symmetries_continuous: list[tuple[np.ndarray, np.ndarray]]  # axis, offset
    mesh_hash: str  # of the model it was trained with, see `model_hash`; "" where it is unknown
    middle: np.ndarray = field(default_factory=lambda: np.zeros(3))  # (3,) origin of the network's own frame

    @cached_property
    def own_symmetries(self) -> np.ndarray:
        """(S, 4, 4) transforms in the network's own frame after which the object looks the same, metres."""
        transforms = symmetry_transforms(self.symmetries_discrete, self.symmetries_continuous)
        return moved_transforms(transforms, self.middle)


@dataclass(frozen=True, eq=False)
class NetworkFacts:
    """What a checkpoint states about its network. `objects` are in the order of the classes."""

    settings: Settings
    objects: list[KnownObject]
    focal: tuple[float, float] | None  # least and largest focal length it was trained with, pixels; None: unknown
    centered: bool = False  # whether its own frames are at the objects' middles, see `TrainedObject`


def network_facts(
    settings: Mapping[str, Any], models: Sequence[ObjectModel], focal: tuple[float, float], centered: bool = False
) -> dict[str, Any]:
    """Plain values for a checkpoint: names of the classes, the settings (plain), the models, the focal lengths.

    centered: whether the network's own frames are at the objects' middles.
    """
    return {
        OBJECTS: [model.name for model in models],
        FOCAL: [float(length) for length in focal],
        SETTINGS: dict(settings),
        MODELS: model_entries(models, centered),
    }


def knows_middles(facts: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's network has its own frames at the objects' middles; older ones have the models'."""
    entries = facts.get(MODELS)
    return isinstance(entries, list | tuple) and any(isinstance(one, Mapping) and MIDDLE in one for one in entries)


def model_entries(models: Sequence[ObjectModel], centered: bool = False) -> list[dict[str, Any]]:
    """What facts say of models, as plain values; lengths in metres. centered: see `network_facts`."""
    entries = [_entry(known_object(model)) for model in models]
    if centered:
        return [{**entry, MIDDLE: model.middle.tolist()} for entry, model in zip(entries, models, strict=True)]
    return entries


def known_object(model: ObjectModel) -> KnownObject:
    """What a network has to know of a model."""
    return KnownObject(
        name=model.name,
        obj_id=model.obj_id,
        extent=model.extent,
        bounds_min=model.bounds_min,
        diameter=model.diameter,
        symmetries_discrete=list(model.symmetries_discrete),
        symmetries_continuous=list(model.symmetries_continuous),
        mesh_hash=model_hash(model),
    )


def known_models(objects: Iterable[KnownObject], folder: Path) -> dict[str, ObjectModel]:
    """The models of some objects by name, from a BOP folder.

    A warning where one is not what the network was trained with. Raises `UserError` as `load_models`.
    """
    objects = list(objects)
    models = load_models(folder, [known.obj_id for known in objects], {known.obj_id: known.name for known in objects})
    for known in objects:
        if known.mesh_hash and model_hash(models[known.obj_id]) != known.mesh_hash:
            logger.warning("%s in %s is not the model that the network was trained with", known.name, folder)
    return {known.name: models[known.obj_id] for known in objects}


def focal_length(K: np.ndarray) -> np.ndarray:
    """Focal lengths (...,) of cameras (..., 3, 3), pixels: the geometric mean of those of x and y."""
    return np.sqrt(K[..., 0, 0] * K[..., 1, 1])


def read_network_facts(state: Mapping[str, Any], path: Path, overrides: Sequence[str] = ()) -> NetworkFacts:
    """What the checkpoint `path` states, with `overrides` of its settings.

    Raises `UserError` where it states nothing, where what it states can't be, or where overrides give the weights
    another meaning.
    """
    facts = state.get(FACTS)
    facts = facts if isinstance(facts, Mapping) else {}
    missing = [key for key in (SETTINGS, MODELS) if not facts.get(key)]
    if missing:
        raise UserError(f"{path} doesn't say what it needs to run alone ({' and '.join(missing)}): {REMEDY}")
    if not isinstance(facts[SETTINGS], Mapping) or not isinstance(facts[MODELS], Sequence):
        raise UserError(f"{path}: {SETTINGS} and {MODELS} are of other types than ours; {REMEDY}")
    settings = settings_of(facts[SETTINGS], str(path), overrides)
    require_meaning(facts[SETTINGS], plain_settings(settings), path)
    objects = _read_objects(facts[MODELS], path)
    net = settings.model.pose_net
    if net.class_aware and len(objects) > net.num_classes:
        raise UserError(
            f"{path}: {MODELS} has {len(objects)} entries for a network of {net.num_classes} classes; {REMEDY}"
        )
    return NetworkFacts(settings, objects, _read_focal(facts.get(FOCAL), path), knows_middles(facts))


def _read_objects(entries: Sequence[Any], path: Path) -> list[KnownObject]:
    if len(entries) > MOST_OBJECTS:
        raise UserError(f"{path}: {MODELS} has {len(entries)} entries, at most {MOST_OBJECTS} can be; {REMEDY}")
    objects = [_read_entry(entry, path) for entry in entries]
    fault = objects_fault([known.name for known in objects], [known.obj_id for known in objects])
    if fault:
        raise UserError(f"{path}: {MODELS}: {fault}; {REMEDY}")
    return objects


def _read_focal(value: Any, path: Path) -> tuple[float, float] | None:
    if value is None:
        return None
    try:
        low, high = _numbers(value, 2)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: {FOCAL} must be two numbers ({error}); {REMEDY}") from error
    if not 0 < low <= high:
        raise UserError(f"{path}: {FOCAL} {low:g} to {high:g} can't be; {REMEDY}")
    return float(low), float(high)


def _entry(known: KnownObject) -> dict[str, Any]:
    """Plain values, metres."""
    return {
        "name": known.name,
        "obj_id": known.obj_id,
        "extent": known.extent.tolist(),
        "bounds_min": known.bounds_min.tolist(),
        "diameter": float(known.diameter),
        "symmetries_discrete": [matrix.tolist() for matrix in known.symmetries_discrete],
        "symmetries_continuous": [[axis.tolist(), offset.tolist()] for axis, offset in known.symmetries_continuous],
        "mesh_hash": known.mesh_hash,
    }


def _read_entry(entry: Any, path: Path) -> KnownObject:
    """The inverse of `_entry`, for files of anyone."""
    try:
        for key, most in MOST_SYMMETRIES.items():
            if len(entry[key]) > most:
                raise ValueError(f"{key} has {len(entry[key])} entries, at most {most} can be")
        known = KnownObject(
            name=str(entry["name"]),
            obj_id=int(entry["obj_id"]),
            extent=_numbers(entry["extent"], 3),
            bounds_min=_numbers(entry["bounds_min"], 3),
            diameter=float(_numbers(entry["diameter"])),
            symmetries_discrete=[_numbers(matrix, 4, 4) for matrix in entry["symmetries_discrete"]],
            symmetries_continuous=[
                (_numbers(axis, 3), _numbers(offset, 3)) for axis, offset in entry["symmetries_continuous"]
            ],
            mesh_hash=str(entry["mesh_hash"]),
            middle=_numbers(entry.get(MIDDLE, [0.0] * 3), 3),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path}: an entry of {MODELS} is damaged ({type(error).__name__}: {error}); {REMEDY}"
        ) from error
    if min(*known.extent, known.diameter) <= 0:
        raise UserError(f"{path}: {known.name} has no size ({known.extent.tolist()} m); {REMEDY}")
    return known


def _numbers(values: Any, *shape: int) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"wanted {shape} finite numbers, got {str(values)[:60]}")
    return array
