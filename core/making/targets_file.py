"""The targets file of a data set of one's own, and the annotations that its scenes lack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sopose.core.bop.catalog import DATASETS_FOLDER, TARGETS_NAME
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.bop.targets import Target, make_targets, write_targets
from sopose.core.making.annotate import complete_annotations
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_writable_file


@dataclass(frozen=True)
class TargetsOptions:
    """What `sopose targets` takes, by the names of its options."""

    dataset: str  # a folder's name or path
    split: str = "test"
    datasets_root: Path = DATASETS_FOLDER
    output: Path | None = None  # `TARGETS_NAME` in the data set's folder
    min_visib: float = 0.1  # least visible fraction of a target
    objects: Sequence[int] | None = None  # all
    no_masks: bool = False
    overwrite: bool = False
    workers: int = -1


def write_targets_file(options: TargetsOptions) -> list[Target]:
    """Complete the annotations, count, write, and say so; the targets.

    Raises `UserError` for a file that is there already, for models that are missing, and where no instance is visible
    enough.
    """
    spec = resolve_split(f"{options.dataset}:{options.split}", options.datasets_root)
    output = require_writable_file(options.output or spec.root / TARGETS_NAME)
    if output.is_file() and not options.overwrite:
        raise UserError(f"{output} is there already; remove it, name another --output, or give --overwrite")
    records = load_split(spec, options.objects, require_images=False)
    computed = complete_annotations(records, spec, not options.no_masks, options.workers)
    if computed is not None:
        also = "" if options.no_masks else " and masks"
        print(f"computed scene_gt_info.json{also} ({computed} images had no entry)")
        records = load_split(spec, options.objects, require_images=False)
    targets = make_targets(records, options.min_visib)
    if not targets:
        bound = f"{options.min_visib:g}"
        raise UserError(f"no instance is at least {bound} visible; choose other --objects or a lower bound")
    write_targets(output, targets)
    instances = sum(target.inst_count for target in targets)
    images = len({(target.scene_id, target.im_id) for target in targets})
    print(f"wrote {output}: {len(targets)} targets, {instances} instances in {images} images")
    return targets
