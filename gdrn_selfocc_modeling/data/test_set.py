"""A test split with everything that evaluation needs: ROIs, ground truth, targets and evaluation models."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from core.bop.datasets import SplitSpec, resolve_split
from core.bop.detections import Detection, read_detections, select_detections
from core.bop.models import ObjectModel, load_models
from core.bop.scene import ImageRecord, load_split
from core.bop.targets import Target, load_targets, make_targets
from core.utils.errors import UserError
from gdrn_selfocc_modeling.data.build import ObjectCache, build_roi_format
from gdrn_selfocc_modeling.data.eval_items import items_from_detections, items_from_targets
from gdrn_selfocc_modeling.data.mapper import TestItem, TestSource


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
    if cfg.TEST.TEST_BBOX_TYPE == "gt":
        items = items_from_targets(records, targets, models)
    elif cfg.TEST.TEST_BBOX_TYPE == "est":
        items = items_from_detections(records, _detections(cfg, name), {target.obj_id for target in targets})
    else:
        raise UserError(f"TEST.TEST_BBOX_TYPE must be 'gt' or 'est', got '{cfg.TEST.TEST_BBOX_TYPE}'")
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
    if len(data.DET_FILES_TEST) != len(data.TEST):
        raise UserError(
            f"DATASETS.DET_FILES_TEST has {len(data.DET_FILES_TEST)} files for {len(data.TEST)} test splits; "
            "give one for each, or set TEST.TEST_BBOX_TYPE=gt"
        )
    if name not in data.TEST:
        raise UserError(f"'{name}' is not in DATASETS.TEST, so it has no detections; set TEST.TEST_BBOX_TYPE=gt")
    path = Path(data.DET_FILES_TEST[list(data.TEST).index(name)])
    return select_detections(read_detections(path), data.DET_TOPK_PER_OBJ, data.DET_THR, data.DET_TOPK_PER_IM)
