"""What a BOP evaluation asks for: `test_targets_bop19.json` and its likes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sopose.core.bop.fields import integer
from sopose.core.bop.records import ImageRecord
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, require_key, write_json


@dataclass(frozen=True, order=True)
class Target:
    """`inst_count` instances of one object are to be found in one image."""

    scene_id: int
    im_id: int
    obj_id: int
    inst_count: int


@dataclass(frozen=True)
class TargetEntry:
    """A target as its file has it. BOP24's detection tasks name images alone: there objects and counts are None."""

    scene_id: int
    im_id: int
    obj_id: int | None
    inst_count: int | None


def read_target(entry: Any, where: str) -> TargetEntry:
    """One entry of a list of targets. `UserError` for what is none, and for an object without its count."""
    scene_id, im_id = (integer(require_key(entry, key, where), f"{where}: {key}") for key in ("scene_id", "im_id"))
    if not {"obj_id", "inst_count"} & entry.keys():
        return TargetEntry(scene_id, im_id, None, None)
    target = (integer(require_key(entry, key, where), f"{where}: {key}") for key in ("obj_id", "inst_count"))
    return TargetEntry(scene_id, im_id, *target)


def target_entries(path: Path) -> list[Any]:
    """The entries of a list of targets, as they are. `UserError` where it is missing, empty or no list."""
    content = read_json(path, "it comes with the data set's base archive; or evaluate without a target file")
    if not isinstance(content, list) or not content:
        raise UserError(f"{path} must be a list of targets and has none; restore the file")
    return content


def read_targets(path: Path) -> list[TargetEntry]:
    """Targets of a json file ([{scene_id, im_id, obj_id, inst_count}]), in the order of the file.

    Raises `UserError` where the file is missing, empty or lacks a key.
    """
    return [read_target(entry, f"{path}, entry {index}") for index, entry in enumerate(target_entries(path))]


def load_targets(path: Path, records: Iterable[ImageRecord] = ()) -> list[Target]:
    """As `read_targets`, each with its object: where entries name images alone, all that `make_targets` finds there.

    records: annotated images, for such entries.
    """
    entries = read_targets(path)
    images = {(entry.scene_id, entry.im_id) for entry in entries if entry.obj_id is None}
    made = make_targets(record for record in records if (record.scene_id, record.im_id) in images) if images else []
    return [Target(**vars(entry)) for entry in entries if entry.obj_id is not None] + made


def images_alone(path: Path) -> set[tuple[int, int]]:
    """Scenes and images that a list of targets names without an object: whatever is found in them counts.

    Raises as `read_targets`.
    """
    return {(entry.scene_id, entry.im_id) for entry in read_targets(path) if entry.obj_id is None}


def make_targets(records: Iterable[ImageRecord], min_visib: float = 0.1) -> list[Target]:
    """Targets as BOP19 defines them: every instance whose visible fraction is at least `min_visib`.

    An instance of unknown visibility counts. Sorted by scene, image and object.
    """
    counts = Counter(
        (record.scene_id, record.im_id, instance.obj_id)
        for record in records
        for instance in record.instances
        if instance.visib_fract is None or instance.visib_fract >= min_visib
    )
    return sorted(Target(*key, count) for key, count in counts.items())


def with_truth(targets: Iterable[Target], records: Iterable[ImageRecord]) -> list[Target]:
    """The targets that can be scored: all but those in images whose scene has no ground truth, as BOP's test sets."""
    bare = {(record.scene_id, record.im_id) for record in records if not record.is_annotated}
    return [target for target in targets if (target.scene_id, target.im_id) not in bare]


def write_targets(path: Path, targets: Iterable[Target]) -> None:
    """Write targets in BOP's form."""
    keys = ("im_id", "inst_count", "obj_id", "scene_id")
    write_json(path, [{key: getattr(target, key) for key in keys} for target in targets])
