"""What an evaluation finds: recalls per object and over all, the error of every instance, curves, intervals."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from sopose.core.evaluation.bootstrap import Credits, Interval
from sopose.core.utils.files import write_json


@dataclass(frozen=True)
class InstanceErrors:
    """One ground-truth instance of the targets and the estimate it got; without one every error is inf."""

    scene_id: int
    im_id: int
    obj_id: int
    gt_index: int
    visib_fract: float  # 1 where the data set does not state it
    distance_m: float  # of the object from the camera, metres
    score: float | None  # of the estimate; None for a miss
    errors: dict[str, float]  # metres, degrees and pixels; deg_cm has the n of n degrees, n cm; vsd a mean over τ


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
    intervals: dict[str, Interval] = field(default_factory=dict)  # 95 %, bootstrap over images


@dataclass(frozen=True)
class Scores:
    """What `evaluate` returns.

    `mean` is the unweighted mean over objects, as ADD(-S) is reported; `overall` has the recalls over all
    targets, as BOP's AR is. `curves` maps an error's name to {"thresholds": …, "mean": …, "<obj_id>": …}.
    The intervals are 95 % bootstrap intervals over images. `notes` say what was left out, a line each.
    """

    objects: list[ObjectScores]
    mean: dict[str, float]
    overall: dict[str, float]
    instances: list[InstanceErrors]
    curves: dict[str, dict[str, list[float]]] = field(repr=False)
    time_per_image: float | None  # seconds, mean over the images of the targets; None where unknown
    mean_intervals: dict[str, Interval] = field(default_factory=dict)
    overall_intervals: dict[str, Interval] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    credits: Credits | None = field(default=None, repr=False, compare=False)  # of differences; not written

    @property
    def targets(self) -> int:
        """Number of instances to be found."""
        return sum(row.targets for row in self.objects)

    @property
    def found(self) -> int:
        """Number of instances that got an estimate."""
        return sum(row.found for row in self.objects)


def write_scores(path: Path, scores: Scores) -> None:
    """Write everything in `scores` as strict json; an infinite or undefined number becomes null."""
    written = asdict(replace(scores, credits=None))
    written.pop("credits")
    write_json(path, finite({"targets": scores.targets, "found": scores.found, **written}))


def finite(data: object) -> object:
    """`data` with None for every number that json has no word for."""
    if isinstance(data, dict):
        return {str(key): finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
