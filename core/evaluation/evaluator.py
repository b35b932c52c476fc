"""Scores of a list of estimates: one row per object, means, and the error of every instance.

Errors come from `error_model` and `vsd`, recalls from `recall`, the choice of what meets what from `bop19`, the columns
from `metrics`. All values are plain numbers: recalls in [0, 1], errors in the units their names say.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from sopose.core.bop.results import Estimate, Estimates
from sopose.core.bop.scene import ImageRecord
from sopose.core.bop.targets import Target
from sopose.core.evaluation import bop19
from sopose.core.evaluation.bootstrap import Credits, recall_intervals
from sopose.core.evaluation.detection_ap import add_detection_ap
from sopose.core.evaluation.error_model import ErrorModel
from sopose.core.evaluation.metrics import (
    AR,
    AR_MEAN,
    AR_VSD,
    CURVES,
    DEFAULT_METRICS,
    MEDIANS,
    OF_DIAMETER,
    Column,
    check_metrics,
    columns_of,
    errors_of,
)
from sopose.core.evaluation.pairs import PosePairs
from sopose.core.evaluation.recall import area_of_groups, greedy_match, hits_of_groups, unweighted_mean
from sopose.core.evaluation.scores import InstanceErrors, ObjectScores, Scores, write_scores
from sopose.core.evaluation.vsd import VsdScorer, images_without_depth
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError

logger = logging.getLogger(__name__)

UNIT_TOLERANCE = 1.5  # by which the median distance may be off another unit's and still be reported as that unit

__all__ = ["Scores", "evaluate", "write_scores"]


def evaluate(
    estimates: Sequence[Estimate],
    records: Sequence[ImageRecord],
    targets: Sequence[Target],
    models_eval: Mapping[int, ObjectModel],
    symmetric_ids: Collection[int],
    image_width: int | None = None,
    progress: bool = False,
    metrics: Collection[str] = DEFAULT_METRICS,
    vsd: VsdScorer | None = None,
    error_model: Callable[[ObjectModel, bool], ErrorModel] = ErrorModel,
    images: Collection[tuple[int, int]] = (),
) -> Scores:
    """Score `estimates` on `targets` by the BOP19 localisation protocol.

    Args:
        estimates: of any images and objects; those that no target asks for are ignored.
        records: ground truth of all target images.
        models_eval: the models that errors are measured on, by object id.
        symmetric_ids: objects whose ADD(-S) is ADI. MSSD and MSPD take the models' own symmetries.
        image_width: pixels, scales MSPD to an image of 640; by default read from the first image there is.
        progress: show a progress bar.
        metrics: groups of `sopose.core.evaluation.metrics.METRICS`, or of other packages.
        vsd: scores VSD with it, if every target image has its depth; without it AR_VSD and AR are left out.
        images: scenes and images that BOP24's AP counts too, though no target is there.
        error_model: what computes the errors of pairs of poses (`sopose.core.evaluation.toolkit` has another).

    Raises `UserError` where targets are empty or name an image, an object or a model that is not there.
    """
    metrics = check_metrics(metrics)
    if not targets:
        raise UserError("there is nothing to evaluate: no target is left; check the targets and the objects")
    estimates = Estimates.of(estimates)
    groups = bop19.group_targets(estimates, records, targets)
    obj_ids = sorted({group.target.obj_id for group in groups})
    missing = [obj_id for obj_id in obj_ids if obj_id not in models_eval]
    if missing:
        raise UserError(f"the targets ask for objects without an evaluation model: {missing}; load models_eval")
    pixels = {"bop19", "bop24"} & set(metrics)
    width = bop19.image_width(records) if image_width is None and pixels else image_width or bop19.MSPD_IMAGE_WIDTH
    error_models = {i: error_model(models_eval[i], i in set(symmetric_ids)) for i in obj_ids}
    tables = [
        _ObjectTable(error_models[i], [group for group in groups if group.target.obj_id == i], width, metrics)
        for i in _bar(obj_ids, progress)
    ]
    notes = [*odd_estimates(groups), *(_add_vsd(tables, vsd) if "bop19" in metrics else [])]
    scores = _scores(tables, groups, estimates, targets, tuple(notes))
    if "bop24" in metrics:
        scores = add_detection_ap(scores, estimates, records, targets, error_models, width, images)
    return scores


def _bar(obj_ids: list[int], progress: bool) -> Collection[int]:
    from tqdm import tqdm

    return tqdm(obj_ids, desc="pose errors", unit="object", disable=not progress)


class _ObjectTable:
    """One object's targets, their errors, and what they become."""

    def __init__(
        self, model: ErrorModel, groups: list[bop19.TargetGroup], image_width: int, metrics: Collection[str]
    ) -> None:
        self.model = model
        self.groups = groups
        self.metrics = metrics
        self.scale = dict.fromkeys(OF_DIAMETER, model.model.diameter) | {"mspd": image_width / bop19.MSPD_IMAGE_WIDTH}
        columns = columns_of(metrics)
        self.scale |= {column.error: model.model.diameter for column in columns.values() if column.of_diameter}
        self.errors = group_errors(model, groups, errors_of(metrics))
        self.counts = np.array([len(group.instances) for group in groups])
        self.rows = [row for index in range(len(groups)) for row in self._assign(index)]
        self.credits = {name: self._credit(column) for name, column in columns.items()}
        if "bop19" in metrics:
            self.credits[AR_MEAN] = (self.credits["AR_MSSD"] + self.credits["AR_MSPD"]) / 2

    def add_vsd(self, errors: list[np.ndarray]) -> None:
        """Add AR_VSD and AR; `errors` (E, I, taus) are of the table's groups."""
        hits = [hits_of_groups([e[..., k] for e in errors], bop19.VSD_THRESHOLDS) for k in range(len(bop19.VSD_TAUS))]
        self.credits[AR_VSD] = np.mean(hits, axis=(0, 2))
        self.credits[AR] = (self.credits[AR_VSD] + self.credits["AR_MSSD"] + self.credits["AR_MSPD"]) / 3
        self.errors["vsd"] = [matrix.mean(axis=-1) for matrix in errors]
        self.rows = [row for index in range(len(self.groups)) for row in self._assign(index)]

    def curve(self, name: str) -> np.ndarray:
        """Share (T,) of the instances found with the error `name` below each threshold of its curve."""
        return self._hits(name, CURVES[name], scaled=True).sum(axis=0) / self.counts.sum()

    def scores(self) -> ObjectScores:
        """The object's row."""
        total = self.counts.sum()
        values = {name: float(credit.sum() / total) for name, credit in self.credits.items()}
        found = [row for row in self.rows if row.score is not None]
        for name, (error, factor) in MEDIANS.items() if "pose" in self.metrics else ():
            errors = [factor * row.errors[error] for row in found]
            values[name] = float(np.median(errors)) if errors else math.nan
        model = self.model.model
        counts = (len(self.rows), len(found))
        return ObjectScores(model.obj_id, model.name, model.diameter, self.model.symmetric, *counts, values)

    def _credit(self, column: Column) -> np.ndarray:
        """Ground truths found (G,) in each group, the mean over the column's thresholds."""
        if column.area is not None:
            return area_of_groups(self.errors[column.error], column.area)
        scaled = column.of_diameter or column.error == "mspd"
        return self._hits(column.error, np.array(column.thresholds), scaled).mean(axis=1)

    def _hits(self, name: str, thresholds: np.ndarray, scaled: bool) -> np.ndarray:
        scale = self.scale.get(name, 1.0) if scaled else 1.0
        return hits_of_groups([matrix / scale for matrix in self.errors[name]], thresholds)

    def _assign(self, index: int) -> list[InstanceErrors]:
        """Every instance with the estimate that matching by MSSD gives it when no error is too large."""
        group = self.groups[index]
        matched = greedy_match(self.errors["mssd"][index], np.array([np.inf]))[0]
        return [
            InstanceErrors(
                scene_id=group.target.scene_id,
                im_id=group.target.im_id,
                obj_id=group.target.obj_id,
                gt_index=instance.gt_index,
                visib_fract=bop19.visibility(instance),
                distance_m=float(np.linalg.norm(instance.pose.cam_t_obj)),
                score=None if row < 0 else float(group.estimates[row].score),
                errors={
                    name: math.inf if row < 0 else float(matrices[index][row, column])
                    for name, matrices in self.errors.items()
                },
            )
            for column, (instance, row) in enumerate(zip(group.instances, matched, strict=True))
        ]


def group_errors(
    model: ErrorModel, groups: Sequence[bop19.TargetGroup], names: Collection[str]
) -> dict[str, list[np.ndarray]]:
    """For each error the matrices (estimates, instances) of one object's groups, all pairs at once."""
    pairs = PosePairs.of(
        [
            (estimate.pose, instance.pose, group.record.K)
            for group in groups
            for estimate in group.estimates
            for instance in group.instances
        ]
    )
    shapes = [(len(group.estimates), len(group.instances)) for group in groups]
    ends = np.cumsum([rows * columns for rows, columns in shapes])[:-1]
    return {
        name: [part.reshape(shape) for part, shape in zip(np.split(values, ends), shapes, strict=True)]
        for name, values in model.errors(pairs, names).items()
    }


def odd_estimates(groups: Sequence[bop19.TargetGroup]) -> list[str]:
    """What speaks against the estimates as a whole, a line each: numbers that are none, or another unit of length."""
    count = sum(len(group.estimates) for group in groups)
    t = np.array([estimate.pose.cam_t_obj for group in groups for estimate in group.estimates]).reshape(-1, 3)
    R = np.array([estimate.pose.cam_R_obj for group in groups for estimate in group.estimates]).reshape(-1, 9)
    finite = np.isfinite(t).all(axis=1) & np.isfinite(R).all(axis=1)
    notes = []
    if not finite.all():
        notes.append(
            f"{count - finite.sum()} of {count} estimates have nan or infinity, which is never right: the weights "
            "may be damaged, or a training that diverged may have left them."
        )
    truths = [np.linalg.norm(item.pose.cam_t_obj) for group in groups if group.estimates for item in group.instances]
    if finite.any() and np.median(truths) > 0:
        factor = float(np.median(np.linalg.norm(t[finite], axis=1)) / np.median(truths))
        for wrong, unit in ((1e-3, "metres"), (1e-2, "decimetres"), (0.1, "centimetres"), (1e3, "micrometres")):
            if wrong / UNIT_TOLERANCE < factor < wrong * UNIT_TOLERANCE:
                far = f"{factor:.2g} times as far as the truth"
                notes.append(f"The estimates lie {far}, as if t were in {unit}; a BOP csv has millimetres.")
                break
    return notes


def _add_vsd(tables: list[_ObjectTable], vsd: VsdScorer | None) -> list[str]:
    """Add VSD to all tables; or the line that says why not."""
    groups = [group for table in tables for group in table.groups]
    absent, images = images_without_depth(groups)
    errors: list[np.ndarray] = []
    why = "it was not asked for"
    if vsd is not None and absent:
        why = f"{absent} of {images} target images have no depth"
    elif vsd is not None:
        try:
            errors, why = vsd.errors(groups), ""
        except UserError as error:  # one damaged file is no reason to lose the other scores
            logger.warning("VSD is left out: %s", error)
            why = str(error)
    if why:
        return [f"VSD is left out ({why}): AR is then the mean of AR_MSSD and AR_MSPD only, which is not BOP's AR."]
    for table in tables:
        table.add_vsd(errors[: len(table.groups)])
        errors = errors[len(table.groups) :]
    return []


def _scores(
    tables: list[_ObjectTable],
    groups: list[bop19.TargetGroup],
    estimates: Estimates,
    targets: Sequence[Target],
    notes: tuple[str, ...],
) -> Scores:
    found = {name: np.concatenate([table.credits[name] for table in tables]) for name in tables[0].credits}
    ordered = [group.target for table in tables for group in table.groups]
    counts = np.concatenate([table.counts for table in tables])
    image_ids = np.unique([(t.scene_id, t.im_id) for t in ordered], axis=0, return_inverse=True)[1].reshape(-1)
    credits = Credits(found, counts, image_ids, np.array([t.obj_id for t in ordered]))
    mean, overall, per_object = recall_intervals(credits)
    objects = [replace(row, intervals=per_object[row.obj_id]) for row in (table.scores() for table in tables)]
    row_of = {(r.scene_id, r.im_id, r.obj_id, r.gt_index): r for table in tables for r in table.rows}
    return Scores(
        objects=objects,
        mean=unweighted_mean([row.values for row in objects]),
        overall={name: float(credit.sum() / counts.sum()) for name, credit in found.items()},
        instances=[
            row_of[group.target.scene_id, group.target.im_id, group.target.obj_id, instance.gt_index]
            for group in groups
            for instance in group.instances
        ],
        curves=_curves(tables),
        time_per_image=_time_per_image(estimates, targets),
        mean_intervals=mean,
        overall_intervals=overall,
        notes=notes,
        credits=credits,
    )


def _curves(tables: list[_ObjectTable]) -> dict[str, dict[str, list[float]]]:
    curves = {}
    for name, thresholds in CURVES.items():
        if name in tables[0].errors:
            recalls = {str(table.model.model.obj_id): table.curve(name) for table in tables}
            mean = np.mean(list(recalls.values()), axis=0)
            everything = {"thresholds": thresholds, "mean": mean, **recalls}
            curves[name] = {key: value.tolist() for key, value in everything.items()}
    return curves


def _time_per_image(estimates: Estimates, targets: Sequence[Target]) -> float | None:
    """BOP's time, seconds: what an image took, the same on each of its rows, averaged over images."""
    wanted = {(target.scene_id, target.im_id) for target in targets}
    # The times of an image's rows are equal, so any row gives it.
    images, first = np.unique(estimates.ids[:, :2], axis=0, return_index=True)
    asked = np.array([tuple(image) in wanted for image in images.tolist()], bool)
    times = estimates.time[first[asked]]
    known = times[np.isfinite(times) & (times >= 0)]
    return float(np.mean(known)) if known.size else None
