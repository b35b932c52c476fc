"""The worst estimates of a result, as pictures for the report."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

from sopose.core.bop.results import Estimate, Estimates
from sopose.core.bop.scene import ImageRecord, read_rgb
from sopose.core.evaluation.pose_error import convex_hull_points, mssd_error
from sopose.core.evaluation.report import ReportCase
from sopose.core.evaluation.scores import InstanceErrors, Scores
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError
from sopose.core.vis.overlays import draw_pose_contours, object_view, pose_box

logger = logging.getLogger(__name__)

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
    cases = []
    for row in chosen:
        try:
            cases.append(_case(row, record_of[row.scene_id, row.im_id], columns, models[row.obj_id]))
        except UserError as error:  # a damaged picture is no reason to lose the report
            logger.warning("no picture of a worst case: %s", error)
    return cases


def _has_image(record: ImageRecord) -> bool:
    return record.rgb_path.is_file()


def _case(row: InstanceErrors, record: ImageRecord, estimates: Estimates, model: ObjectModel) -> ReportCase:
    truth = next(item.pose for item in record.instances if item.gt_index == row.gt_index)
    estimate = _estimate_of(row, truth, estimates, model)
    image = read_rgb(record)
    caster = model.caster
    poses = [truth]
    near = row.errors["mssd"] < MAX_OFFSET * model.diameter
    if near and min(estimate.transform(model.vertices)[:, 2]) > 0:
        poses.append(estimate)
    view, view_K = object_view(image, record.K, pose_box(record.K, poses, model.vertices), VIEW_SIZE)
    panels = [
        ("truth and estimate", draw_pose_contours(view, view_K, caster, estimate, truth)[..., ::-1]),
        ("whole image", draw_pose_contours(image, record.K, caster, estimate, truth)[..., ::-1]),
    ]
    visible = f", visible {row.visib_fract:.0%}"
    told = [f"MSSD {1000 * row.errors['mssd']:.1f} mm ({row.errors['mssd'] / model.diameter:.2f} diameters)"]
    told += [f"{row.errors['mspd']:.1f} px MSPD"] if "mspd" in row.errors else []
    told += [f"score {row.score:.3f}"]
    return ReportCase(f"{model.name}, image {row.scene_id}/{row.im_id}{visible}", ", ".join(told), panels)


def _estimate_of(row: InstanceErrors, truth: Pose, estimates: Estimates, model: ObjectModel) -> Pose:
    """The pose behind a row: of its object in its image with its score, and of several the one with its error."""
    same = (estimates.ids == (row.scene_id, row.im_id, row.obj_id)).all(axis=1) & (estimates.score == row.score)
    candidates = [estimates[int(index)].pose for index in same.nonzero()[0]]
    hull = convex_hull_points(model.vertices)
    return min(
        candidates,
        key=lambda pose: abs(mssd_error(pose, truth, hull, model.symmetry_transforms) - row.errors["mssd"]),
    )
