"""Write a targets file for a data set of your own, and the scene_gt_info.json and masks that its scenes lack.

A target says how many instances of an object are to be found in an image: by BOP's rule those of which at least a
tenth can be seen. How much that is stands in scene_gt_info.json; where it is missing it is computed, with the masks,
from poses and models alone.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sopose.core.bop.catalog import TARGETS_NAME
from sopose.core.bop.models import default_name, load_models
from sopose.core.bop.records import ImageRecord
from sopose.core.bop.scene import load_split, read_image_size
from sopose.core.bop.splits import SplitSpec, resolve_split
from sopose.core.bop.targets import make_targets, write_targets
from sopose.core.making.annotate import (
    add_gt_info,
    all_instances,
    annotate_image,
    images_with_info,
    lacks_masks,
    scene_folder,
)
from sopose.core.objects.model import ObjectModel
from sopose.core.render.visibility import scene_gt_info
from sopose.core.utils.arguments import finite
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_file, require_writable_dir, require_writable_file
from sopose.core.utils.parallel import run_jobs

EXAMPLES = """examples:
  sopose targets --dataset path/to/mine --split test
  sopose targets --dataset mine --split test --min-visib 0.3 --output easy_targets.json --no-masks

Without --output the file is <data set>/test_targets_bop19.json, where sopose score looks for it. What is there
already is left alone."""
JOB_IMAGES = 8


def register_parser(parser: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    parser.add_argument("--dataset", required=True, help="a BOP folder under the root, or a path to one")
    parser.add_argument("--split", default="test", help="split of the data set (default: test)")
    parser.add_argument("--datasets-root", type=Path, default=Path("datasets/BOP_DATASETS"), metavar="DIR")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"default: {TARGETS_NAME} in the data set's folder")
    parser.add_argument(
        "--min-visib", type=finite, default=0.1, metavar="X", help="least visible fraction of a target (default: 0.1)"
    )
    parser.add_argument("--objects", type=int, nargs="+", metavar="ID", help="only these objects")
    parser.add_argument("--no-masks", action="store_true", help="don't write the masks that are missing")
    parser.add_argument("--overwrite", action="store_true", help="write over a targets file that is there")
    parser.add_argument("--workers", type=int, default=-1, metavar="N", help="processes (default: one a core)")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Leave with a usage error for options that don't go together."""
    if not 0 <= args.min_visib <= 1:
        parser.error("--min-visib must be between 0 and 1")


def handle(args: argparse.Namespace) -> None:
    """Complete the annotations, count, write."""
    spec = resolve_split(f"{args.dataset}:{args.split}", args.datasets_root)
    output = require_writable_file(args.output or spec.root / TARGETS_NAME)
    if output.is_file() and not args.overwrite:
        raise UserError(f"{output} is there already; remove it, name another --output, or give --overwrite")
    records = load_split(spec, args.objects, require_images=False)
    if _complete(records, spec, not args.no_masks, args.workers):
        records = load_split(spec, args.objects, require_images=False)
    targets = make_targets(records, args.min_visib)
    if not targets:
        raise UserError(f"no instance is at least {args.min_visib:g} visible; choose other --objects or a lower bound")
    write_targets(output, targets)
    instances = sum(target.inst_count for target in targets)
    images = len({(target.scene_id, target.im_id) for target in targets})
    print(f"wrote {output}: {len(targets)} targets, {instances} instances in {images} images")


@dataclass(frozen=True, eq=False)
class _Job:
    """Images of one scene, and which of them lack their entries in scene_gt_info.json."""

    records: list[ImageRecord]
    lacking: set[int]
    spec: SplitSpec
    masks: bool


def _complete(records: list[ImageRecord], spec: SplitSpec, masks: bool, workers: int) -> bool:
    """Write the info and masks that scenes lack; whether there were any."""
    jobs = list(_jobs(records, spec, masks))
    if not jobs:
        return False
    needed = {item.obj_id for job in jobs for record in job.records for item in all_instances(record)}
    for obj_id in sorted(needed):
        require_file(spec.models_dir / f"{default_name(obj_id)}.ply", "masks are cast from the models; add it")
    for job in jobs:
        require_writable_dir(scene_folder(job.records[0]))
    weights = [len(job.records) for job in jobs]
    infos: dict[Path, dict[int, list[dict[str, Any]]]] = defaultdict(dict)
    for job, entries in zip(
        jobs, run_jobs(_annotate, jobs, workers, None, "annotations", "image", weights), strict=True
    ):
        infos[scene_folder(job.records[0])].update(entries)
    for scene_dir, entries in infos.items():
        if entries:
            add_gt_info(scene_dir, entries, sensor=spec.sensor)
    count = sum(map(len, infos.values()))
    print(f"computed scene_gt_info.json{' and masks' if masks else ''} ({count} images had no entry)")
    return True


def _jobs(records: Iterable[ImageRecord], spec: SplitSpec, masks: bool) -> Iterator[_Job]:
    by_scene: dict[Path, list[ImageRecord]] = defaultdict(list)
    for record in records:
        by_scene[scene_folder(record)].append(record)
    for scene_dir, of_scene in by_scene.items():
        have = images_with_info(scene_dir, spec.sensor)
        incomplete = [record for record in of_scene if record.im_id not in have or (masks and lacks_masks(record))]
        for first in range(0, len(incomplete), JOB_IMAGES):
            part = incomplete[first : first + JOB_IMAGES]
            yield _Job(part, {record.im_id for record in part} - have, spec, masks)


def _annotate(job: _Job) -> dict[int, list[dict[str, Any]]]:
    """Write the masks of a job's images; the entries of those that lack them."""
    entries = {}
    for record in job.records:
        items = all_instances(record)
        models = {item.obj_id: _model(job.spec.models_dir, item.obj_id) for item in items}
        size = read_image_size(record, job.spec.root)
        if job.masks:
            found = annotate_image(record, models, size)
        else:
            found = scene_gt_info([models[i.obj_id].caster for i in items], [i.pose for i in items], record.K, size)
        if record.im_id in job.lacking:
            entries[record.im_id] = found
    return entries


@lru_cache(maxsize=64)
def _model(models_dir: Path, obj_id: int) -> ObjectModel:
    return load_models(models_dir, [obj_id])[obj_id]
