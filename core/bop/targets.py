"""What a BOP evaluation asks for: `test_targets_bop19.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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


def load_targets(path: Path) -> list[Target]:
    """Targets of a json file ([{scene_id, im_id, obj_id, inst_count}]), in the order of the file.

    Raises `UserError` where the file is missing, empty or lacks a key.
    """
    content = read_json(path, "it comes with the data set's base archive; or evaluate without a target file")
    if not isinstance(content, list) or not content:
        raise UserError(f"{path} must be a list of targets and has none; restore the file")
    return [_target(entry, f"{path}, entry {index}") for index, entry in enumerate(content)]


def _target(entry: dict, where: str) -> Target:
    keys = ("scene_id", "im_id", "obj_id", "inst_count")
    return Target(*(integer(require_key(entry, key, where), f"{where}: {key}") for key in keys))


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


def write_targets(path: Path, targets: Iterable[Target]) -> None:
    """Write targets in BOP's form."""
    keys = ("im_id", "inst_count", "obj_id", "scene_id")
    write_json(path, [{key: getattr(target, key) for key in keys} for target in targets])
