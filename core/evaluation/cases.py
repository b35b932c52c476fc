"""The worst estimates of a result, as pictures for the report."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sopose.core.bop.results import Estimate, Estimates
from sopose.core.bop.scene import ImageRecord, read_rgb
from sopose.core.evaluation.pairs import convex_hull_points
from sopose.core.evaluation.pose_error import mssd_error
from sopose.core.evaluation.report import Panel, ReportCase, drawn_case
from sopose.core.evaluation.scores import InstanceErrors, Scores
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.vis.overlays import draw_pose_contours, object_view, pose_box

VIEW_SIZE = 480
MAX_OFFSET = 3.0  # diameters; an estimate further off is not brought into the truth's close-up


def worst_cases(
    scores: Scores,
    estimates: Sequence[Estimate],
    records: Sequence[ImageRecord],
    models: Mapping[int, ObjectModel],
    count: int,
) -> list[ReportCase]:
    """Up to `count` found instances of the largest MSSD, each object's worst first; of images that are there."""
    record_of = {(record.scene_id, record.im_id): record for record in records}
    rows = [row for row in scores.instances if row.score is not None and _has_image(record_of[row.scene_id, row.im_id])]
    rows.sort(key=lambda row: -row.errors["mssd"] / models[row.obj_id].diameter)
    of_object: dict[int, list[InstanceErrors]] = defaultdict(list)
    for row in rows:
        of_object[row.obj_id].append(row)
    rounds = [(place, row) for ranked in of_object.values() for place, row in enumerate(ranked[:count])]
    chosen = [row for _, row in sorted(rounds, key=lambda item: item[0])][:count]
    columns = Estimates.of(estimates)
    return [_case(row, record_of[row.scene_id, row.im_id], columns, models[row.obj_id]) for row in chosen]


def _has_image(record: ImageRecord) -> bool:
    return record.rgb_path.is_file()


def _case(row: InstanceErrors, record: ImageRecord, estimates: Estimates, model: ObjectModel) -> ReportCase:
    title = f"{model.name}, image {row.scene_id}/{row.im_id}, visible {row.visib_fract:.0%}"
    facts = [f"MSSD {1000 * row.errors['mssd']:.1f} mm ({row.errors['mssd'] / model.diameter:.2f} diameters)"]
    facts += [f"{row.errors['mspd']:.1f} px MSPD"] if "mspd" in row.errors else []
    facts += [f"score {row.score:.3f}"]
    return drawn_case(title, ", ".join(facts), _panels(row, record, estimates, model))


def _panels(row: InstanceErrors, record: ImageRecord, estimates: Estimates, model: ObjectModel) -> Iterator[Panel]:
    truth = next(item.pose for item in record.instances if item.gt_index == row.gt_index)
    estimate = _estimate_of(row, truth, estimates, model)
    image = read_rgb(record)
    poses = [truth]
    near = row.errors["mssd"] < MAX_OFFSET * model.diameter
    if near and min(estimate.transform(model.vertices)[:, 2]) > 0:
        poses.append(estimate)
    view, view_K = object_view(image, record.K, pose_box(record.K, poses, model.vertices), VIEW_SIZE)
    yield "truth and estimate", draw_pose_contours(view, view_K, model.caster, estimate, truth)[..., ::-1]
    yield "whole image", draw_pose_contours(image, record.K, model.caster, estimate, truth)[..., ::-1]


def _estimate_of(row: InstanceErrors, truth: Pose, estimates: Estimates, model: ObjectModel) -> Pose:
    """The pose behind a row: of its object in its image with its score, and of several the one with its error."""
    scored = np.isnan(estimates.score) if math.isnan(row.score) else estimates.score == row.score
    same = (estimates.ids == (row.scene_id, row.im_id, row.obj_id)).all(axis=1) & scored
    candidates = [estimates[int(index)].pose for index in same.nonzero()[0]]
    hull = convex_hull_points(model.vertices)
    return min(
        candidates,
        key=lambda pose: abs(mssd_error(pose, truth, hull, model.symmetry_transforms) - row.errors["mssd"]),
    )
