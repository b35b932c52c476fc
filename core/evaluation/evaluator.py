"""Scores of a list of estimates: one row per object, means, and the error of every instance.

Errors come from `pose_error`, recalls from `recall`, the choice of what meets what from `bop`. All values
are plain numbers: recalls in [0, 1], errors in the units their names say.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from core.bop.models import ObjectModel
from core.bop.results import Estimate
from core.bop.scene import ImageRecord
from core.bop.targets import Target
from core.evaluation import bop, pose_error
from core.evaluation.recall import count_hits, greedy_match, unweighted_mean
from core.geometry.pose import Pose
from core.utils.errors import UserError
from core.utils.files import write_json

# Errors by the unit their thresholds are in.
OF_DIAMETER = ("add", "adi", "ad", "mssd")
ERROR_NAMES = (*OF_DIAMETER, "re", "re_sym", "te", "deg_cm", "deg_cm_sym", "proj", "proj_sym", "mspd")

# Column -> (error, threshold). "ad" is ADD(-S), thresholds in diameters; deg_cm_5 is 5 degrees and 5 cm;
# "_sym" takes the best symmetry of models_info.json; proj is in pixels of the image as it is.
RECALLS: dict[str, tuple[str, float]] = {
    **{f"{name}_{t:.2f}": (name, t) for name in ("ad", "add", "adi") for t in (0.02, 0.05, 0.10)},
    **{f"{name}_{n}": (name, float(n)) for name in ("deg_cm", "deg_cm_sym") for n in (2, 5, 10)},
    **{f"{name}_{n}": (name, float(n)) for name in ("proj", "proj_sym") for n in (2, 5, 10)},
}
AVERAGE_RECALLS = {
    "AR_MSSD": ("mssd", bop.MSSD_THRESHOLDS),
    "AR_MSPD": ("mspd", bop.MSPD_THRESHOLDS),
}
AR_MEAN = "AR_MSSD_MSPD"  # the mean of the two: not BOP's AR, which has VSD as its third part
CURVES = {
    "ad": np.linspace(0, 0.2, 81),
    "mssd": np.linspace(0, 0.5, 101),
    "mspd": np.linspace(0, 50, 101),
}


@dataclass(frozen=True)
class InstanceErrors:
    """One ground-truth instance of the targets and the estimate it got; without one every error is inf."""

    scene_id: int
    im_id: int
    obj_id: int
    gt_index: int
    visib_fract: float  # 1 where the data set does not tell
    distance_m: float  # of the object from the camera, metres
    score: float | None  # of the estimate; None for a miss
    errors: dict[str, float]  # by ERROR_NAMES: metres, degrees and pixels; deg_cm has the n of n degrees, n cm


@dataclass(frozen=True)
class ObjectScores:
    """One object's row: recalls in [0, 1], medians over the instances that got an estimate (NaN if none)."""

    obj_id: int
    name: str
    diameter_m: float
    symmetric: bool  # its ADD(-S) is ADI
    targets: int  # instances to be found
    found: int  # instances that got an estimate
    values: dict[str, float]


@dataclass(frozen=True)
class Scores:
    """What `evaluate` returns.

    `mean` is the unweighted mean over objects, as ADD(-S) is reported; `overall` has the recalls over all
    targets, as BOP's AR is. `curves` maps an error's name to {"thresholds": …, "mean": …, "<obj_id>": …}.
    """

    objects: list[ObjectScores]
    mean: dict[str, float]
    overall: dict[str, float]
    instances: list[InstanceErrors]
    curves: dict[str, dict[str, list[float]]] = field(repr=False)
    time_per_image: float | None  # seconds, mean over the images of the targets; None where unknown

    @property
    def targets(self) -> int:
        """Number of instances to be found."""
        return sum(row.targets for row in self.objects)

    @property
    def found(self) -> int:
        """Number of instances that got an estimate."""
        return sum(row.found for row in self.objects)


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """A model with what its errors need, computed once."""

    model: ObjectModel
    symmetric: bool

    @cached_property
    def tree(self) -> cKDTree:
        return cKDTree(self.model.vertices)

    @cached_property
    def hull(self) -> np.ndarray:
        return pose_error.convex_hull_points(self.model.vertices)

    def errors(self, est: Pose, gt: Pose, K: np.ndarray) -> dict[str, float]:
        """All errors of one pair by ERROR_NAMES, in metres, degrees and pixels."""
        points, symmetries = self.model.vertices, self.model.symmetry_transforms
        asymmetric = len(symmetries) == 1
        errors = {
            "add": pose_error.add_error(est, gt, points),
            "adi": pose_error.adi_error(est, gt, points, self.tree),
            "mssd": pose_error.mssd_error(est, gt, self.hull, symmetries),
            "re": pose_error.re_error(est, gt),
            "te": pose_error.te_error(est, gt),
            "deg_cm": pose_error.deg_cm_error(est, gt),
            "proj": pose_error.proj_error(est, gt, K, points),
            "mspd": pose_error.mspd_error(est, gt, K, points, symmetries, self.hull),
        }
        errors["ad"] = errors["adi" if self.symmetric else "add"]
        errors["re_sym"] = errors["re"] if asymmetric else pose_error.re_error(est, gt, symmetries)
        errors["deg_cm_sym"] = errors["deg_cm"] if asymmetric else pose_error.deg_cm_error(est, gt, symmetries)
        errors["proj_sym"] = errors["proj"] if asymmetric else pose_error.proj_error(est, gt, K, points, symmetries)
        return errors


def evaluate(
    estimates: Sequence[Estimate],
    records: Sequence[ImageRecord],
    targets: Sequence[Target],
    models_eval: Mapping[int, ObjectModel],
    symmetric_ids: Collection[int],
    image_width: int | None = None,
    progress: bool = False,
) -> Scores:
    """Score `estimates` on `targets` by the BOP19 localisation protocol.

    Args:
        estimates: of any images and objects; those that no target asks for are ignored.
        records: ground truth of all target images.
        models_eval: the models that errors are measured on, by object id.
        symmetric_ids: objects whose ADD(-S) is ADI. MSSD and MSPD take the models' own symmetries.
        image_width: pixels, scales MSPD to an image of 640; by default read from the first image there is.
        progress: show a progress bar.

    Raises `UserError` where targets are empty or name an image, an object or a model that is not there.
    """
    if not targets:
        raise UserError("there is nothing to evaluate: no target is left; check the targets and the objects")
    groups = bop.group_targets(estimates, records, targets)
    obj_ids = sorted({group.target.obj_id for group in groups})
    missing = [obj_id for obj_id in obj_ids if obj_id not in models_eval]
    if missing:
        raise UserError(f"the targets ask for objects without an evaluation model: {missing}; load models_eval")
    width = bop.image_width(records) if image_width is None else image_width
    error_models = {i: ErrorModel(models_eval[i], i in set(symmetric_ids)) for i in obj_ids}
    matrices = _error_matrices(groups, error_models, progress)
    tables = [_ObjectTable(error_models[i], width) for i in obj_ids]
    table_of = dict(zip(obj_ids, tables, strict=True))
    instances = []
    for group, errors in zip(groups, matrices, strict=True):
        rows = _assign(group, errors)
        table_of[group.target.obj_id].add(errors, rows)
        instances += rows
    objects = [table.scores() for table in tables]
    return Scores(
        objects=objects,
        mean=unweighted_mean([row.values for row in objects]),
        overall=_overall(objects),
        instances=instances,
        curves=_curves(tables),
        time_per_image=_time_per_image(estimates, targets),
    )


def write_scores(path: Path, scores: Scores) -> None:
    """Write everything in `scores` as strict json; an infinite or undefined number becomes null."""
    write_json(path, _finite({"targets": scores.targets, "found": scores.found, **asdict(scores)}))


def _error_matrices(
    groups: Iterable[bop.TargetGroup], models: Mapping[int, ErrorModel], progress: bool
) -> list[dict[str, np.ndarray]]:
    """For each target all its errors as matrices (estimates, instances)."""
    from tqdm import tqdm

    matrices = []
    for group in tqdm(groups, desc="pose errors", unit="target", disable=not progress):
        model = models[group.target.obj_id]
        errors = {name: np.full((len(group.estimates), len(group.instances)), np.inf) for name in ERROR_NAMES}
        for row, estimate in enumerate(group.estimates):
            for column, instance in enumerate(group.instances):
                for name, value in model.errors(estimate.pose, instance.pose, group.record.K).items():
                    errors[name][row, column] = value
        matrices.append(errors)
    return matrices


def _assign(group: bop.TargetGroup, errors: dict[str, np.ndarray]) -> list[InstanceErrors]:
    """Every instance with the estimate that greedy matching by MSSD gives it when no error is too large."""
    matched = greedy_match(errors["mssd"], np.array([np.inf]))[0]
    return [
        InstanceErrors(
            scene_id=group.target.scene_id,
            im_id=group.target.im_id,
            obj_id=group.target.obj_id,
            gt_index=instance.gt_index,
            visib_fract=bop.visibility(instance),
            distance_m=float(np.linalg.norm(instance.pose.cam_t_obj)),
            score=None if row < 0 else float(group.estimates[row].score),
            errors={name: math.inf if row < 0 else float(errors[name][row, column]) for name in ERROR_NAMES},
        )
        for column, (instance, row) in enumerate(zip(group.instances, matched, strict=True))
    ]


class _ObjectTable:
    """Collects one object's targets and turns them into recalls."""

    def __init__(self, model: ErrorModel, image_width: int) -> None:
        self.model = model
        self.scale = dict.fromkeys(ERROR_NAMES, 1.0)
        self.scale |= dict.fromkeys(OF_DIAMETER, model.model.diameter)
        self.scale["mspd"] = image_width / bop.MSPD_IMAGE_WIDTH
        self.targets: list[dict[str, np.ndarray]] = []
        self.rows: list[InstanceErrors] = []

    def add(self, errors: dict[str, np.ndarray], rows: list[InstanceErrors]) -> None:
        self.targets.append(errors)
        self.rows += rows

    def recalls(self, name: str, thresholds: Sequence[float] | np.ndarray) -> np.ndarray:
        """Share (T,) of this object's instances found with the error `name` below each threshold."""
        hits = sum(count_hits(errors[name] / self.scale[name], thresholds) for errors in self.targets)
        return hits / len(self.rows)

    def scores(self) -> ObjectScores:
        found = [row for row in self.rows if row.score is not None]
        values = {column: float(self.recalls(name, [limit])[0]) for column, (name, limit) in RECALLS.items()}
        for column, (name, thresholds) in AVERAGE_RECALLS.items():
            values[column] = float(self.recalls(name, thresholds).mean())
        values[AR_MEAN] = float(np.mean([values[column] for column in AVERAGE_RECALLS]))
        for column, name, factor in (("re_deg", "re_sym", 1), ("te_cm", "te", 100)):
            errors = [factor * row.errors[name] for row in found]
            values[column] = float(np.median(errors)) if errors else math.nan
        model = self.model.model
        counts = (len(self.rows), len(found))
        return ObjectScores(model.obj_id, model.name, model.diameter, self.model.symmetric, *counts, values)


def _overall(objects: list[ObjectScores]) -> dict[str, float]:
    """Recalls over all targets: the objects' recalls, each weighted by its number of instances."""
    counts = np.array([row.targets for row in objects])
    columns = (*RECALLS, *AVERAGE_RECALLS, AR_MEAN)
    return {c: float(counts @ [row.values[c] for row in objects] / counts.sum()) for c in columns}


def _curves(tables: list[_ObjectTable]) -> dict[str, dict[str, list[float]]]:
    curves = {}
    for name, thresholds in CURVES.items():
        recalls = {str(table.model.model.obj_id): table.recalls(name, thresholds) for table in tables}
        mean = np.mean(list(recalls.values()), axis=0)
        everything = {"thresholds": thresholds, "mean": mean, **recalls}
        curves[name] = {key: value.tolist() for key, value in everything.items()}
    return curves


def _time_per_image(estimates: Iterable[Estimate], targets: Iterable[Target]) -> float | None:
    """BOP's time, seconds: what an image took, the same on each of its rows, averaged over images."""
    wanted = {(target.scene_id, target.im_id) for target in targets}
    times = {(e.scene_id, e.im_id): e.time for e in estimates if (e.scene_id, e.im_id) in wanted}
    known = [time for time in times.values() if time >= 0]
    return float(np.mean(known)) if known else None


def _finite(data: object) -> object:
    """`data` with None for every number that json has no word for."""
    if isinstance(data, dict):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
