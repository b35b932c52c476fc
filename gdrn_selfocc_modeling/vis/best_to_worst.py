"""A picture of estimated poses beside the true ones, for each object from the best to the worst."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from sopose.core.bop.results import Estimate
from sopose.core.evaluation.error_model import ErrorModel
from sopose.core.evaluation.pairs import PosePairs
from sopose.core.vis.maps import grid, stack
from sopose.core.vis.overlays import pose_close_up
from sopose.data.eval_set import EvalSet
from sopose.data.mapper import EvalItem

COLUMNS, SIZE = 6, 160  # cases side by side; pixels of a side


def draw_best_to_worst(
    test_set: EvalSet, estimates: Sequence[Estimate], symmetric: Collection[int], count: int = COLUMNS
) -> np.ndarray | None:
    """(H, W, 3) uint8 BGR: of each object `count` close-ups, evenly chosen from the best to the worst by ADD(-S).

    estimates: one for each item of the test set, in their order; symmetric: ids of objects scored by ADI. Titles have
    the error in diameters. None where no box has a truth.
    """
    cases: dict[int, list[tuple[EvalItem, Estimate]]] = {}
    for item, estimate in zip(test_set.source.items, estimates, strict=True):
        if item.truth is not None:
            cases.setdefault(item.obj_id, []).append((item, estimate))
    rows = []
    for obj_id in sorted(cases):
        model = test_set.models_eval[obj_id]
        pairs = PosePairs.of([(one.pose, item.truth.pose, item.record.K) for item, one in cases[obj_id]])
        errors = ErrorModel(model, obj_id in symmetric).errors(pairs, ["ad"])["ad"] / model.diameter
        order = np.argsort(errors, kind="stable")
        panels = []
        for place in np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)):
            item, estimate = cases[obj_id][order[place]]
            caster, image = test_set.source.models[obj_id].caster, test_set.source.image(item)
            pose = estimate.pose if estimate.pose.is_finite else None
            picture = pose_close_up(image, item.record.K, caster, pose, item.truth.pose)
            panels.append((f"{model.name}: {errors[order[place]]:.2f} d", picture))
        rows.append(grid(panels, COLUMNS, SIZE))
    return stack(rows) if rows else None
