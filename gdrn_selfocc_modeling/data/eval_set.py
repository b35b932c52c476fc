"""A test split with everything that evaluation needs: ROIs, ground truth, targets and evaluation models."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmengine.config import Config

from sopose.core.bop.detections import Detection, read_detections, select_detections
from sopose.core.bop.models import load_models
from sopose.core.bop.results import read_results
from sopose.core.bop.scene import ImageRecord, load_split
from sopose.core.bop.splits import SplitSpec, resolve_split
from sopose.core.bop.targets import Target, load_targets, make_targets
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError
from sopose.data.build import ObjectCache, build_roi_format
from sopose.data.eval_items import detections_from_poses, items_from_detections, items_from_targets
from sopose.data.mapper import TestItem, TestSource


@dataclass(frozen=True, eq=False)
class TestSet:
    """One split to test on."""

    __test__ = False  # not a test case

    spec: SplitSpec
    records: Sequence[ImageRecord]
    targets: Sequence[Target]
    models_eval: dict[int, ObjectModel]
    source: TestSource

    def symmetric_ids(self, names: Collection[str]) -> set[int]:
        """Objects scored by ADD-S: those of `names` that the split has, else the data set's own."""
        named = {obj_id for obj_id, name in self.spec.object_names.items() if name in names}
        return named or set(self.spec.symmetric_ids)

    def detection_times(self) -> dict[tuple[int, int], float]:
        """Seconds the detector spent on each image, by (scene id, image id)."""
        return {(item.record.scene_id, item.record.im_id): item.time for item in self.source.items}

    def first_images(self, count: int) -> TestSet:
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


def build_test_set(cfg: Config, name: str, classes: Sequence[str] = ()) -> TestSet:
    """The split `name`, its ROIs in the boxes that TEST.TEST_BBOX_TYPE says. Raises `UserError` without any.

    `classes` are those the network was trained with, in its order; by default the objects of `cfg`.
    """
    spec = resolve_split(name, Path(cfg.DATASETS.ROOT))
    objects = ObjectCache(cfg, classes).get(spec)
    records = load_split(spec, objects.trained)
    targets = evaluation_targets(cfg, spec, records, objects.trained)
    source = TestSource(
        _items(cfg, name, records, targets, objects.models),
        objects.trained,
        objects.casters,
        build_roi_format(cfg),
        cfg.INPUT.DZI_PAD_SCALE,
    )
    return TestSet(
        spec, records, targets, load_models(spec.models_eval_dir, objects.trained, spec.object_names), source
    )


def _items(
    cfg: Config,
    name: str,
    records: Sequence[ImageRecord],
    targets: Sequence[Target],
    models: dict[int, ObjectModel],
) -> list[TestItem]:
    source, jitter = cfg.TEST.TEST_BBOX_TYPE, cfg.TEST.BBOX_JITTER
    if source not in ("gt", "est", "csv"):
        raise UserError(f"TEST.TEST_BBOX_TYPE must be 'gt', 'est' or 'csv', got '{source}'")
    if jitter > 0 and source != "gt":
        raise UserError(
            f"TEST.BBOX_JITTER={jitter} is for ground-truth boxes, TEST.TEST_BBOX_TYPE is '{source}'; set 0"
        )
    if source == "gt":
        items = items_from_targets(records, targets, models, jitter)
    else:
        boxes = _detections(cfg, name) if source == "est" else _posed_boxes(cfg, name, records, models)
        items = items_from_detections(records, boxes, {target.obj_id for target in targets})
    if not items:
        raise UserError(f"'{name}' has no box to estimate a pose for; check the detections and DATASETS.OBJS")
    return items


def evaluation_targets(
    cfg: Config, spec: SplitSpec, records: Sequence[ImageRecord], object_ids: Sequence[int]
) -> list[Target]:
    """What is to be found in the images of `records`, for these objects.

    From VAL.TARGETS_FILENAME in the data set's folder, else the split's own target file, else every
    instance that is visible by a tenth.
    """
    named = cfg.VAL.TARGETS_FILENAME
    path = spec.root / named if named else spec.targets_path
    targets = make_targets(records) if path is None else load_targets(path)
    images = {(record.scene_id, record.im_id) for record in records}
    wanted = set(object_ids)
    return [t for t in targets if (t.scene_id, t.im_id) in images and t.obj_id in wanted]


def _detections(cfg: Config, name: str) -> list[Detection]:
    """The chosen detections of a test split."""
    data = cfg.DATASETS
    detections = read_detections(_file_of(cfg, name, "DET_FILES_TEST"))
    return select_detections(detections, data.DET_TOPK_PER_OBJ, data.DET_THR, data.DET_TOPK_PER_IM)


def _posed_boxes(
    cfg: Config, name: str, records: Sequence[ImageRecord], models: dict[int, ObjectModel]
) -> list[Detection]:
    """Boxes of the models at the chosen poses of an earlier result on a test split."""
    data = cfg.DATASETS
    estimates = read_results(_file_of(cfg, name, "INIT_POSE_FILES_TEST"))
    boxes = detections_from_poses(estimates, records, models)
    return select_detections(boxes, data.INIT_POSE_TOPK_PER_OBJ, data.INIT_POSE_THR, data.INIT_POSE_TOPK_PER_IM)


def _file_of(cfg: Config, name: str, key: str) -> Path:
    """What the key of DATASETS that has a file for each entry of TEST says for the split `name`."""
    files, splits = cfg.DATASETS[key], list(cfg.DATASETS.TEST)
    if len(files) != len(splits):
        raise UserError(
            f"DATASETS.{key} has {len(files)} files for {len(splits)} test splits; give one for each, or set "
            f"TEST.TEST_BBOX_TYPE=gt"
        )
    if name not in splits:
        raise UserError(f"'{name}' is not in DATASETS.TEST, so DATASETS.{key} has none; set TEST.TEST_BBOX_TYPE=gt")
    return Path(files[splits.index(name)])
