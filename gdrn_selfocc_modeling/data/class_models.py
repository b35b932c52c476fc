"""The models of a network's classes, wherever a data set has them."""

from __future__ import annotations

from pathlib import Path

from sopose.core.bop.splits import resolve_split
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError
from sopose.data.build import ObjectCache, class_indices
from sopose.settings.groups import DatasetSettings


def class_models(datasets: DatasetSettings, cache: ObjectCache) -> list[ObjectModel]:
    """The model of each class, from the first split of TRAIN, TRAIN2 and TEST that has it.

    Raises `UserError` where they can't be loaded.
    """
    found: dict[str, ObjectModel] = {}
    for split in (*datasets.train, *datasets.train2, *datasets.test):
        missing = [name for name in cache.names if name not in found]
        if not missing:
            break
        try:
            spec = resolve_split(split, Path(datasets.root))
            ids = class_indices(missing, spec)
        except UserError:  # a split that isn't there, or has none of them
            continue
        models = cache.get(spec).models
        found |= {models[obj_id].name: models[obj_id] for obj_id in ids}
    return [found[name] for name in cache.names]
