"""Whether a configuration means by a checkpoint's weights what these were trained to mean."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.models import default_name
from sopose.core.utils.errors import UserError
from sopose.inference.checkpoint_facts import MIDDLE, MODELS, OBJECTS, SETTINGS
from sopose.settings.meaning import Change, changed_settings, require_meaning

logger = logging.getLogger(__name__)
SAME_SIZE = 0.01  # of an extent: P and Q are shares of it, and models that differ by less give the same pose
SEEN_AT_TEST = ("INPUT.DZI_PAD_SCALE",)  # weights mean the same, and see the object at another size
MOST_NAMES = 8


def changes_since(facts: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """What of the settings that a checkpoint holds differs now (plain ones); nothing where it holds none."""
    return changed_settings(recorded_settings(facts), now)


def recorded_settings(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The plain settings that a checkpoint holds; empty where it holds none."""
    settings = facts.get(SETTINGS)
    return settings if isinstance(settings, Mapping) else {}


def recorded_objects(facts: Mapping[str, Any]) -> list[str]:
    """Names of the objects a checkpoint was trained for, in the order of its classes; empty where it names none."""
    objects = facts.get(OBJECTS)
    is_sound = isinstance(objects, list | tuple) and all(isinstance(name, str) for name in objects)
    return list(objects) if is_sound else []


def require_trained_for(facts: Mapping[str, Any], now: Mapping[str, Any], names: Sequence[str], path: Path) -> None:
    """`UserError` where weights mean something else by settings `now`, or don't know one of the objects `names`.

    Warns where the test shows the objects at another size than the training.
    """
    require_meaning(recorded_settings(facts), now, path, ", or give the configuration it was trained with")
    known = recorded_objects(facts)
    # Objects of a data set without names are called by their ids.
    by_id = [default_name(entry["obj_id"]) for entry in _entries(facts) if isinstance(entry.get("obj_id"), int)]
    unknown = [name for name in names if name not in known and name not in by_id]
    if known and unknown:
        raise UserError(
            f"{path} was trained for {_listed(known)}, not for {_listed(unknown)}; name its objects by DATASETS.OBJS"
        )
    for change in changes_since(facts, now):
        if change.key in SEEN_AT_TEST:
            logger.warning("%s was trained with %s: the network sees objects at another size", path, change)


def warn_of_start(facts: Mapping[str, Any], now: Mapping[str, Any], names: Sequence[str], path: Path) -> None:
    """One line for each thing that a training which starts from weights has to learn anew."""
    known = recorded_objects(facts)
    if known and known != list(names):
        logger.warning("%s was trained for %s; this run learns %s", path, _listed(known), _listed(names))
    for change in changes_since(facts, now):
        if change.of_meaning:
            logger.warning("%s was trained with %s", path, change)


def require_same_models(facts: Mapping[str, Any], now: Sequence[Mapping[str, Any]], path: Path) -> None:
    """`UserError` where `model_entries` now have another size than a checkpoint's facts; warns of another mesh."""
    was = {entry.get("name"): entry for entry in _entries(facts)}
    for entry in now:
        earlier = was.get(entry["name"])
        if earlier is None:
            continue
        old, new = (_extent(one) for one in (earlier, entry))
        if old is not None and new is not None and np.abs(old - new).max() > SAME_SIZE * np.abs(old).max():
            raise UserError(
                f"{path} was trained on a {entry['name']} of {_size(old)}, the model now has {_size(new)}: P and Q are "
                f"shares of that size; put the model it was trained with back, or train anew"
            )
        here, there = (_middle(one) for one in (entry, earlier))
        if old is not None and np.abs(here - there).max() > SAME_SIZE * np.abs(old).max():
            raise UserError(
                f"{path} knows {entry['name']} about the point {_point(there)} of its frame, and would now about "
                f"{_point(here)}: put the model it was trained with back, INPUT.XYZ_SOURCE too, or train anew"
            )
        if earlier.get("mesh_hash") and earlier.get("mesh_hash") != entry.get("mesh_hash"):
            logger.warning("%s was trained on another mesh of %s; P and Q differ where it does", path, entry["name"])


def _entries(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    entries = facts.get(MODELS)
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []


def _extent(entry: Mapping[str, Any]) -> np.ndarray | None:
    try:
        extent = np.asarray(entry["extent"], np.float64)
    except (KeyError, TypeError, ValueError):
        return None
    return extent if extent.shape == (3,) and np.isfinite(extent).all() else None


def _middle(entry: Mapping[str, Any]) -> np.ndarray:
    """(3,) metres; zeros where an entry has none, of older networks and of those whose maps come from files."""
    try:
        middle = np.asarray(entry.get(MIDDLE, [0.0] * 3), np.float64)
    except (TypeError, ValueError):
        return np.zeros(3)
    return middle if middle.shape == (3,) and np.isfinite(middle).all() else np.zeros(3)


def _point(middle: np.ndarray) -> str:
    return "(" + ", ".join(f"{1000 * x:.0f}" for x in middle) + ") mm"


def _size(extent: np.ndarray) -> str:
    return " x ".join(f"{1000 * side:.0f}" for side in extent) + " mm"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join([*names[:MOST_NAMES], *([f"and {more} more"] if more > 0 else [])])
