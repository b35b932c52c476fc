"""A test split with everything that evaluation needs: ROIs, ground truth, targets and evaluation models."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sopose.core.bop.detections import Detection, read_detections, select_detections
from sopose.core.bop.models import load_models
from sopose.core.bop.results import read_results
from sopose.core.bop.scene import ImageRecord, load_split
from sopose.core.bop.splits import SplitSpec, resolve_split
from sopose.core.bop.targets import Target, load_targets, make_targets, with_truth
from sopose.core.bop.unseen import with_unseen
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError
from sopose.data.build import ObjectCache, SplitObjects
from sopose.data.eval_items import detections_from_poses, items_from_detections, items_from_targets
from sopose.data.mapper import EvalItem, EvalSource
from sopose.data.roi_input import build_roi_format
from sopose.settings.groups import DatasetSettings, EvalSettings, Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class EvalSet:
    """One split to test on."""

    spec: SplitSpec
    records: Sequence[ImageRecord]
    targets: Sequence[Target]  # that are scored: those with ground truth
    models_eval: dict[int, ObjectModel]
    source: EvalSource

    def symmetric_ids(self, names: Collection[str]) -> set[int]:
        """Objects scored by ADD-S: those of `names` that the split has, else the data set's own."""
        named = {obj_id for obj_id, name in self.spec.object_names.items() if name in names}
        return named or set(self.spec.symmetric_ids)

    @property
    def images_without_truth(self) -> int:
        """How many images can't be scored, since their scenes have no ground truth."""
        return sum(not record.is_annotated for record in self.records)

    def detection_times(self) -> dict[tuple[int, int], float]:
        """Seconds the detector spent on each image, by (scene id, image id)."""
        return {(item.record.scene_id, item.record.im_id): item.time for item in self.source.items}

    def rolled(self, degrees: float) -> EvalSet:
        """The same, seen by cameras rolled by an angle."""
        return replace(self, source=self.source.rolled(degrees))

    def first_images(self, count: int) -> EvalSet:
        """The same split, cut down to the first `count` images that have a box."""
        chosen = list(dict.fromkeys((i.record.scene_id, i.record.im_id) for i in self.source.items))[:count]
        return replace(
            self,
            records=[record for record in self.records if (record.scene_id, record.im_id) in chosen],
            targets=[target for target in self.targets if (target.scene_id, target.im_id) in chosen],
            source=self.source.of_items(
                [item for item in self.source.items if (item.record.scene_id, item.record.im_id) in chosen]
            ),
        )


def build_test_set(settings: Settings, name: str, cache: ObjectCache) -> EvalSet:
    """The split `name`, its ROIs in the boxes that TEST.TEST_BBOX_TYPE says. Raises `UserError` without any."""
    spec = resolve_split(name, Path(settings.datasets.root))
    objects = cache.get(spec)
    records = with_unseen(load_split(spec, objects.trained), spec, objects.models)
    asked = evaluation_targets(settings.val.targets_filename, spec, records, objects.trained)
    obj_ids = asked_objects(asked, records, objects.trained)
    targets = with_truth(asked, records)
    source = EvalSource(
        _items(settings.test, settings.datasets, name, records, targets, obj_ids, objects.models),
        objects.trained,
        objects.models,
        build_roi_format(settings.input, settings.model),
        settings.input.dzi_pad_scale,
    )
    _warn_of_empty_images(name, asked or records, source.items)
    return EvalSet(spec, records, targets, _models_eval(spec, objects), source)


def _warn_of_empty_images(name: str, asked: Iterable[Target | ImageRecord], items: Iterable[EvalItem]) -> None:
    """Say how many of the images asked for have no box: no row of the csv will be of them."""
    images = {(one.scene_id, one.im_id) for one in asked}
    empty = images - {(item.record.scene_id, item.record.im_id) for item in items}
    if empty:
        logger.warning("%s: %d of %d images have no box, so no pose", name, len(empty), len(images))


def _models_eval(spec: SplitSpec, objects: SplitObjects) -> dict[int, ObjectModel]:
    """The models that poses are scored with; in a folder without models_eval those of the rays."""
    if spec.models_eval_dir == spec.models_dir:
        return {obj_id: objects.models[obj_id] for obj_id in sorted(objects.trained)}
    return load_models(spec.models_eval_dir, objects.trained, spec.object_names)


def _items(
    test: EvalSettings,
    datasets: DatasetSettings,
    name: str,
    records: Sequence[ImageRecord],
    targets: Sequence[Target],
    obj_ids: Collection[int],
    models: dict[int, ObjectModel],
) -> list[EvalItem]:
    source, jitter = test.test_bbox_type, test.bbox_jitter
    if source not in ("gt", "est", "csv"):
        raise UserError(f"TEST.TEST_BBOX_TYPE must be 'gt', 'est' or 'csv', got '{source}'")
    if jitter > 0 and source != "gt":
        raise UserError(
            f"TEST.BBOX_JITTER={jitter} is for ground-truth boxes, TEST.TEST_BBOX_TYPE is '{source}'; set 0"
        )
    if source == "gt":
        if not any(record.is_annotated for record in records):
            raise UserError(
                f"'{name}' has no ground truth (scene_gt.json) to take boxes from; set TEST.TEST_BBOX_TYPE=est and "
                "give detections in DATASETS.DET_FILES_TEST"
            )
        items = items_from_targets(records, targets, models, jitter)
    else:
        boxes = _detections(datasets, name) if source == "est" else _posed_boxes(datasets, name, records, models)
        items = items_from_detections(records, boxes, obj_ids)
    if not items:
        raise UserError(
            f"'{name}' has no box to estimate a pose for: none is of its images and DATASETS.OBJS, or all are below "
            "DATASETS.DET_THR (of poses INIT_POSE_THR); check the file of boxes"
        )
    return items


def evaluation_targets(
    filename: str, spec: SplitSpec, records: Sequence[ImageRecord], object_ids: Iterable[int]
) -> list[Target]:
    """What is to be found in the images of `records`, for these objects.

    From the file of that name in the data set's folder, where one is named, else from the split's own target file,
    else every instance that is visible by a tenth.
    """
    path = spec.root / filename if filename else spec.targets_path
    targets = make_targets(records) if path is None else load_targets(path, records)
    images = {(record.scene_id, record.im_id) for record in records}
    wanted = set(object_ids)
    return [t for t in targets if (t.scene_id, t.im_id) in images and t.obj_id in wanted]


def asked_objects(targets: Iterable[Target], records: Iterable[ImageRecord], object_ids: Iterable[int]) -> set[int]:
    """The objects that are looked for: those of the targets, or all of `object_ids` where nothing names them.

    That is so where images have neither ground truth nor a list of targets that names objects.
    """
    bare = {(record.scene_id, record.im_id) for record in records if not record.is_annotated}
    targets = list(targets)
    is_listed = not bare or any((target.scene_id, target.im_id) in bare for target in targets)
    return {target.obj_id for target in targets} if is_listed else set(object_ids)


def _detections(datasets: DatasetSettings, name: str) -> list[Detection]:
    """The chosen detections of a test split."""
    detections = read_detections(_file_of(datasets, name, "DET_FILES_TEST"))
    return select_detections(detections, datasets.det_topk_per_obj, datasets.det_thr, datasets.det_topk_per_im)


def _posed_boxes(
    datasets: DatasetSettings, name: str, records: Sequence[ImageRecord], models: dict[int, ObjectModel]
) -> list[Detection]:
    """Boxes of the models at the chosen poses of an earlier result on a test split."""
    estimates = read_results(_file_of(datasets, name, "INIT_POSE_FILES_TEST"))
    boxes = detections_from_poses(estimates, records, models)
    per_object, per_image = datasets.init_pose_topk_per_obj, datasets.init_pose_topk_per_im
    return select_detections(boxes, per_object, datasets.init_pose_thr, per_image)


def _file_of(datasets: DatasetSettings, name: str, key: str) -> Path:
    """What the key of DATASETS that has a file for each entry of TEST says for the split `name`."""
    files, splits = getattr(datasets, key.lower()), datasets.test
    if len(files) != len(splits):
        raise UserError(
            f"DATASETS.{key} has {len(files)} files for {len(splits)} test splits; give one for each, or set "
            f"TEST.TEST_BBOX_TYPE=gt"
        )
    if name not in splits:
        raise UserError(f"'{name}' is not in DATASETS.TEST, so DATASETS.{key} has none; set TEST.TEST_BBOX_TYPE=gt")
    return Path(files[splits.index(name)])
