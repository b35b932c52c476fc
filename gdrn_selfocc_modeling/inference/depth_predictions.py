"""Poses of a whole test set, corrected by the depth images beside its photographs."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from dataclasses import replace
from itertools import groupby

import numpy as np

from sopose.core.bop.results import Estimates
from sopose.core.bop.scene import ImageRecord, read_depth
from sopose.core.engine.distributed import current_world, of_all_ranks
from sopose.core.geometry.pose import Pose
from sopose.core.render.depth_fit import at_measured_depth
from sopose.core.utils.errors import UserError
from sopose.data.eval_set import EvalSet
from sopose.inference.predictions import Predictions, roi_ids

logger = logging.getLogger(__name__)


def require_depth(test_set: EvalSet) -> None:
    """`UserError` where no image of a test set has a depth image; a warning counts those that have none."""
    records = {item.record.rgb_path: item.record for item in test_set.source.items}.values()
    without = sum(not has_depth(record) for record in records)
    if records and without == len(records):
        raise UserError(f"{test_set.spec.name} has no depth images; download them, or set TEST.DEPTH=False")
    if without:
        text = "%s: %d of %d images have no depth image; their poses stay"
        logger.warning(text, test_set.spec.name, without, len(records))


def has_depth(record: ImageRecord) -> bool:
    """Whether an image has a depth image beside it."""
    return record.depth_path is not None and record.depth_path.is_file()


def predictions_at_depth(test_set: EvalSet, predictions: Predictions) -> Predictions:
    """The predictions of a test set with distances that its depth images say; each rank corrects its share.

    Poses of images without one stay. An image's time grows by that of its objects, not by that of reading. Raises
    `UserError` for a depth image of another size than its photograph.
    """
    world, items = current_world(), test_set.source.items
    mine: dict[int, tuple[Pose, float]] = {}
    for _, numbers in groupby(world.share(len(items)), key=lambda number: roi_ids(items[number])[:2]):
        places = list(numbers)
        record = items[places[0]].record
        if not has_depth(record):
            continue
        depth, shape = np.float32(read_depth(record)), test_set.source.image(items[places[0]]).shape[:2]
        if depth.shape != shape:
            raise UserError(f"{record.depth_path} is {depth.shape}, its photograph {shape}: both must be of one camera")
        for place in places:
            started = time.perf_counter()
            model, pose = test_set.source.models[items[place].obj_id], predictions.estimates[place].pose
            mine[place] = at_measured_depth(model, pose, depth, record.K), time.perf_counter() - started
    found = {place: answer for part in of_all_ranks(mine) for place, answer in part.items()}
    spent: dict[tuple[int, int], float] = defaultdict(float)
    for place, (_, seconds) in found.items():
        spent[roi_ids(items[place])[:2]] += seconds
    estimates = [
        replace(
            estimate,
            pose=found[place][0] if place in found else estimate.pose,
            time=estimate.time + spent[estimate.scene_id, estimate.im_id] if estimate.time >= 0 else estimate.time,
        )
        for place, estimate in enumerate(predictions.estimates)
    ]
    return replace(predictions, estimates=Estimates.of(estimates))
