"""Map files for a whole split: which work there is, done in parallel, once, and only where it is not done yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.models import INFO_NAME, default_name, load_models, read_models_info
from sopose.core.bop.records import ImageRecord, Instance
from sopose.core.bop.scene import load_split, read_image_size
from sopose.core.bop.splits import SplitSpec
from sopose.core.images.scene_images import MASK_FOLDERS, SceneNames
from sopose.core.making.annotate import (
    add_gt_info,
    all_instances,
    annotate_image,
    images_with_info,
    lacks_masks,
    scene_folder,
)
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError, nearest
from sopose.core.utils.files import remove_parts, require_file, require_writable_dir
from sopose.core.utils.parallel import run_jobs
from sopose.maps.files import MAX_COORDINATE, P_MAP, MapKind, existing_map, read_map
from sopose.maps.header import Header, map_header, model_hash
from sopose.maps.writer import DType, PixelMap, map_state, pixel_P, pixel_Q, too_far, write_map

JOB_INSTANCES = 64  # a job has the next images of a scene with at least so many: a few tenths of a second's work


@dataclass(frozen=True)
class MapPlan:
    """What is written for a split; sent to every worker."""

    kind: MapKind
    spec: SplitSpec
    dtype: DType = "float16"
    overwrite: bool = False
    also_masks: bool = False
    legacy: bool = False  # .pkl, as the ancestor names its files

    def path(self, record: ImageRecord, instance: Instance) -> Path:
        """The file of an instance."""
        path = self.kind.path(self.spec.images_dir, record, instance.gt_index)
        return path.with_suffix(".pkl") if self.legacy else path


@dataclass
class Tally:
    """What was done."""

    written: int = 0
    fresh: int = 0  # files that were finished already
    foreign: int = 0  # files of other programs, left as they are
    size: int = 0  # bytes written
    infos: dict[int, list[dict[str, Any]]] = field(default_factory=dict)  # entries of scene_gt_info.json by image

    def add(self, other: Tally) -> None:
        """Count what another part has done."""
        self.written += other.written
        self.fresh += other.fresh
        self.foreign += other.foreign
        self.size += other.size


@dataclass(frozen=True, eq=False)
class CastObject:
    """A model ready for rays, and its hash."""

    model: ObjectModel
    digest: str


def select_records(spec: SplitSpec, scenes: Sequence[int] = (), objects: Sequence[str] = ()) -> list[ImageRecord]:
    """The annotated images of a split, with or without their files; of these scenes and objects, or of all.

    Objects are names or ids. Raises `UserError` for what the split doesn't have.
    """
    ids = [_object_id(spec, word) for word in objects] or None
    records = load_split(spec, ids, require_images=False)
    known = {record.scene_id for record in records}
    if unknown := sorted(set(scenes) - known):
        raise UserError(
            f"'{spec.name}' has no scene {', '.join(map(str, unknown))} (it has {min(known)} to {max(known)}, "
            f"{len(known)} in all); choose among them"
        )
    return [record for record in records if not scenes or record.scene_id in scenes]


def _object_id(spec: SplitSpec, word: str) -> int:
    ids = {name: obj_id for obj_id, name in spec.object_names.items()}
    ids |= {str(obj_id): obj_id for obj_id in spec.object_names}
    if word not in ids:
        names = list(spec.object_names.values())
        raise UserError(f"'{spec.name}' has no object '{word}'{nearest(word, names)} (it has: {', '.join(names)})")
    return ids[word]


def generate(plan: MapPlan, records: Sequence[ImageRecord], workers: int = -1, cluster: str | None = None) -> Tally:
    """Write what is not there yet; the tally of it. Raises `UserError` for input that allows no map.

    workers and cluster are those of `run_jobs`; a cluster's workers need the split at the same path.
    """
    plan = replace(
        plan, spec=replace(plan.spec, root=plan.spec.root.resolve(), models_dir=plan.spec.models_dir.resolve())
    )
    _check_before(plan, records)
    _remove_parts(plan, records)
    try:
        return _generate(plan, list(_jobs(records)), workers, cluster)
    finally:  # also of workers that an error or an interrupt has stopped amid a file
        _remove_parts(plan, records)


def _generate(plan: MapPlan, jobs: Sequence[Sequence[ImageRecord]], workers: int, cluster: str | None) -> Tally:
    weights = [sum(len(record.instances) for record in job) for job in jobs]
    work = run_jobs(partial(_write_job, plan), jobs, workers, cluster, plan.kind.folder, "instance", weights)
    total = Tally()
    infos: dict[int, list[dict[str, Any]]] = {}
    with closing(work) as results:
        for index, (job, tally) in enumerate(zip(jobs, results, strict=True)):
            total.add(tally)
            infos |= tally.infos
            is_last = index + 1 == len(jobs) or jobs[index + 1][0].scene_id != job[0].scene_id
            if is_last and infos:
                add_gt_info(scene_folder(job[0]), infos, plan.overwrite, plan.spec.sensor)
                infos = {}
    return total


def _check_before(plan: MapPlan, records: Iterable[ImageRecord]) -> None:
    """What would stop the work after hours stops it now."""
    require_writable_dir(plan.kind.folder_of(plan.spec.images_dir, plan.spec.sensor))
    if plan.also_masks and plan.spec.layout != "bop":
        raise UserError(f"'{plan.spec.name}' has no scene folders for masks; leave out --also-masks")
    needed = {
        item.obj_id for record in records for item in (all_instances(record) if plan.also_masks else record.instances)
    }
    for obj_id in sorted(needed):
        require_file(_model_path(plan.spec.models_dir, obj_id), "download the data set's models or choose --objects")
    info_path = plan.spec.models_dir / INFO_NAME
    for obj_id, info in read_models_info(info_path).items() if needed else ():
        furthest = float(np.abs([info["bounds_min"], info["bounds_min"] + info["extent"]]).max())
        if obj_id in needed and furthest > MAX_COORDINATE:
            raise UserError(too_far(f"{info_path}: object {obj_id}", furthest))


def _jobs(records: Iterable[ImageRecord]) -> Iterator[tuple[ImageRecord, ...]]:
    """Consecutive images of one scene with about `JOB_INSTANCES` instances."""
    job: list[ImageRecord] = []
    for record in records:
        full = sum(len(item.instances) for item in job) >= JOB_INSTANCES
        if job and (full or record.scene_id != job[0].scene_id):
            yield tuple(job)
            job = []
        job.append(record)
    if job:
        yield tuple(job)


def _remove_parts(plan: MapPlan, records: Iterable[ImageRecord]) -> None:
    """Remove the unfinished files that killed runs have left."""
    folders = {plan.path(record, instance).parent for record in records for instance in record.instances[:1]}
    if plan.also_masks:
        scenes = {scene_folder(record) for record in records}
        names = ("", *map(SceneNames(plan.spec.sensor).of, MASK_FOLDERS))
        folders |= {scene / name for scene in scenes for name in names}
    for folder in folders:
        remove_parts(folder)


def _write_job(plan: MapPlan, records: Sequence[ImageRecord]) -> Tally:
    """Write the files of some images of one scene."""
    tally = Tally()
    with_info = images_with_info(scene_folder(records[0]), plan.spec.sensor) if plan.also_masks else set()
    for record in records:
        image_size = read_image_size(record, plan.spec.root)
        for instance in record.instances:
            _write_instance(plan, record, instance, image_size, tally)
        lacks_info = record.im_id not in with_info
        if plan.also_masks and (plan.overwrite or lacks_info or lacks_masks(record)):
            items = all_instances(record)
            models = {item.obj_id: cast_object(plan.spec.models_dir, item.obj_id).model for item in items}
            entries = annotate_image(record, models, image_size, plan.overwrite)
            if plan.overwrite or lacks_info:
                tally.infos[record.im_id] = entries
    return tally


def _write_instance(
    plan: MapPlan, record: ImageRecord, instance: Instance, image_size: tuple[int, int], tally: Tally
) -> None:
    known = cast_object(plan.spec.models_dir, instance.obj_id)
    header = map_header(instance, record.K, image_size, known.digest)
    path = plan.path(record, instance)
    if not plan.overwrite:
        state = map_state(path, plan.kind, {**header, "dtype": plan.dtype})
        tally.fresh += state == "fresh"
        tally.foreign += state == "foreign"
        if state in ("fresh", "foreign"):
            return
    pixels = _pixels(plan, record, instance, known, header)
    tally.size += write_map(path, plan.kind, pixels, header, plan.dtype)
    tally.written += 1


def _pixels(plan: MapPlan, record: ImageRecord, instance: Instance, known: CastObject, header: Header) -> PixelMap:
    """The layer of an instance; for Q the mask comes from its P file where there is a right one."""
    size = tuple(header["image_size"])
    if plan.kind == P_MAP:
        return pixel_P(known.model.caster, instance.pose, record.K, size)
    path = existing_map(P_MAP.path(plan.spec.images_dir, record, instance.gt_index))
    if map_state(path, P_MAP, header) == "fresh":
        P_obj, box = read_map(path, P_MAP, size)
        mask = (P_obj != 0).any(axis=-1)
    else:
        P = pixel_P(known.model.caster, instance.pose, record.K, size)
        box, mask = P.box, P.valid[..., 0]
    return pixel_Q(known.model, instance.pose, record.K, box, mask)


def cast_object(models_dir: Path, obj_id: int) -> CastObject:
    """An object, read once in a process and again when its files have changed. `UserError` naming its file."""
    paths = _model_path(models_dir, obj_id), models_dir / INFO_NAME
    for path in paths:
        require_file(path, "download the data set's models or choose other objects")
    return _load_object(models_dir, obj_id, tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in paths))


@cache
def _load_object(models_dir: Path, obj_id: int, stamps: tuple[tuple[int, int], ...]) -> CastObject:
    model = load_models(models_dir, [obj_id])[obj_id]
    # Rays need no colours, and every worker has its own copy.
    model = replace(model, normals=None, colors=None, uv=None, texture=None)
    try:
        _ = model.caster  # built here, so that an error names the file
    except UserError as error:
        raise UserError(f"{_model_path(models_dir, obj_id)}: {error}") from error
    return CastObject(model, model_hash(model))


def _model_path(models_dir: Path, obj_id: int) -> Path:
    return models_dir / f"{default_name(obj_id)}.ply"
