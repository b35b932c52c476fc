"""Ablations: which runs there are, as tables of overrides, and what their results say, with intervals.

A run is a variant trained with a seed; a case is a finished run tested under a condition. Variants share data, start
and seeds, so that they are compared pair by pair: the same seed, the same targets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.evaluation.bootstrap import LEVEL, SEED, image_weights, interval
from sopose.core.evaluation.scores import Scores, finite
from sopose.core.utils.errors import UserError, nearest
from sopose.core.utils.files import read_json, require_key, write_json

LOSSES = "MODEL.POSE_NET.LOSS_CFG"
CROSS_LAYER_OFF = {f"{LOSSES}.{name}_LW": 0.0 for name in ("Q0_DEF", "CT", "CT_P")}
# What is trained. The weights are those of the released configuration.
VARIANTS: dict[str, dict[str, Any]] = {
    "P": {"MODEL.POSE_NET.SELFOCC_HEAD.ENABLED": False, f"{LOSSES}.Q0_LW": 0.0, **CROSS_LAYER_OFF},
    "P+Q": {**CROSS_LAYER_OFF},
    "P+Q,Q0_DEF": {**CROSS_LAYER_OFF, f"{LOSSES}.Q0_DEF_LW": 10.0},
    "P+Q,CT": {**CROSS_LAYER_OFF, f"{LOSSES}.CT_LW": 10.0},
    "P+Q,CT_P": {**CROSS_LAYER_OFF, f"{LOSSES}.CT_P_LW": 1.0},
    "P+Q,all": {f"{LOSSES}.Q0_DEF_LW": 10.0, f"{LOSSES}.CT_LW": 10.0, f"{LOSSES}.CT_P_LW": 1.0},
}
# What a trained network is tested under.
CONDITIONS: dict[str, dict[str, Any]] = {
    "gt": {"TEST.TEST_BBOX_TYPE": "gt", "TEST.BBOX_JITTER": 0.0},
    "noisy": {"TEST.TEST_BBOX_TYPE": "gt", "TEST.BBOX_JITTER": 0.15},
}
# The same for every run.
# Networks are compared, not what second looks make of their poses.
COMMON = {"VAL.REPORT_CASES": 0, "TEST.EVAL_PERIOD": 0, "SOLVER.MAX_TO_KEEP": 1, "TEST.REFINE.ITERATIONS": 0}


@dataclass(frozen=True)
class TargetError:
    """How far off one target was. One without an estimate counts as turned by 180 degrees and put at the camera."""

    split: str
    scene_id: int
    im_id: int
    obj_id: int
    gt_index: int
    visib_fract: float
    ad: float  # ADD(-S), diameters
    mssd: float  # diameters
    re: float  # degrees, under the best symmetry
    te: float  # metres


# Heading -> how well a target was met, a number whose mean is reported.
METRICS: dict[str, Callable[[TargetError], float]] = {
    "ADD(-S) 0.1 d, %": lambda target: 100.0 * (target.ad < 0.1),
    "AR_MSSD, %": lambda target: 100.0 * float(np.mean(target.mssd < 0.05 * np.arange(1, 11))),
    "rotation error, °": lambda target: target.re,
    "translation error, cm": lambda target: 100.0 * target.te,
}


@dataclass(frozen=True)
class MeanInterval:
    """A mean, and where it may lie."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One number of the table: a variant under a condition, over the targets of one range of visibility.

    `seeds` is Student's interval over the seeds' means, which one seed doesn't give; `targets` a bootstrap over images
    of what the seeds average to; `difference` is that to the first variant, images and seeds drawn together.
    """

    variant: str
    condition: str
    visibility: str
    metric: str
    seeds: MeanInterval
    targets: MeanInterval
    difference: MeanInterval | None
    num_seeds: int
    num_targets: int


Case = tuple[str, str]  # variant, condition
Cases = dict[Case, dict[int, list[TargetError]]]  # by seed


def choose(table: Mapping[str, Any], names: Sequence[str], what: str) -> dict[str, Any]:
    """The rows of `table` with these names, all of them without any. `UserError` for an unknown one."""
    for name in names:
        if name not in table:
            known = list(table)
            raise UserError(f"unknown {what} '{name}'{nearest(name, known)} (known: {', '.join(known)})")
    return {name: table[name] for name in names or table}


def as_words(overrides: Mapping[str, Any]) -> list[str]:
    """Overrides as the words of --opts."""
    return [f"{key}={value}" for key, value in overrides.items()]


def target_errors(split: str, scores: Scores) -> list[TargetError]:
    """What the table needs of the evaluation of a split."""
    diameter = {row.obj_id: row.diameter_m for row in scores.objects}
    return [
        TargetError(
            split=split,
            scene_id=instance.scene_id,
            im_id=instance.im_id,
            obj_id=instance.obj_id,
            gt_index=instance.gt_index,
            visib_fract=instance.visib_fract,
            ad=instance.errors["ad"] / diameter[instance.obj_id],
            mssd=instance.errors["mssd"] / diameter[instance.obj_id],
            re=min(instance.errors["re_sym"], 180.0),
            te=instance.distance_m if instance.score is None else instance.errors["te"],
        )
        for instance in scores.instances
    ]


def write_case(path: Path, overrides: Sequence[str], targets: Iterable[TargetError]) -> None:
    """Write a finished case; an infinite error, which json has no word for, becomes null."""
    rows = finite([asdict(target) for target in targets])
    write_json(path, {"overrides": list(overrides), "targets": rows}, indent=None)


def read_case(path: Path, overrides: Sequence[str]) -> list[TargetError]:
    """A finished case. `UserError` where it was made with other overrides."""
    content = read_json(path, "run the variant again")
    if require_key(content, "overrides", str(path)) != list(overrides):
        raise UserError(f"{path} was made with other settings; give another --output, or remove its folder")
    rows = require_key(content, "targets", str(path))
    return [TargetError(**{k: math.inf if v is None else v for k, v in row.items()}) for row in rows]


def by_split(cases: Mapping[Case, Mapping[int, Sequence[TargetError]]]) -> dict[str, Cases]:
    """The targets of each test split, in the order in which they were tested."""
    names = dict.fromkeys(target.split for seeds in cases.values() for targets in seeds.values() for target in targets)
    return {
        name: {
            case: {seed: [target for target in targets if target.split == name] for seed, targets in seeds.items()}
            for case, seeds in cases.items()
        }
        for name in names
    }


def visibility_bins(edges: Sequence[float]) -> dict[str, tuple[float, float]]:
    """Ranges of visib_fract between 0, `edges` and 1 by their headings, "all" first; the upper end belongs to each."""
    ends = [0.0, *sorted(edges), 1.0]
    ranges = {"all": (-math.inf, math.inf)}
    for low, high in pairwise(ends):
        ranges[f"visible {low:.0%} to {high:.0%}"] = (low if low > 0 else -math.inf, high)
    return ranges


def table_rows(cases: Mapping[Case, Mapping[int, Sequence[TargetError]]], edges: Sequence[float] = ()) -> list[Row]:
    """Every number of the table, from the targets of each case by seed.

    The first variant of `cases` is what the others are compared with. `UserError` where two seeds or variants have
    other targets.
    """
    rows = []
    order = _common_targets(cases)
    first = {condition: variant for variant, condition in reversed(cases)}
    for (variant, condition), seeds in cases.items():
        base = None if first[condition] == variant else cases[first[condition], condition]
        for heading, (low, high) in visibility_bins(edges).items():
            chosen = [i for i, target in enumerate(order) if low < target.visib_fract <= high]
            if not chosen:
                continue
            images = _image_numbers([order[i] for i in chosen])
            for metric, measure in METRICS.items():
                values = _matrix(seeds, chosen, measure)
                reference = None if base is None else _matrix({s: base[s] for s in seeds if s in base}, chosen, measure)
                difference = None
                if reference is not None and reference.shape == values.shape:
                    difference = bootstrap(values - reference, images, over_seeds=True)
                over = (seeds_interval(values.mean(axis=1)), bootstrap(values, images))
                rows.append(Row(variant, condition, heading, metric, *over, difference, *values.shape))
    return rows


def seeds_interval(means: np.ndarray) -> MeanInterval:
    """Mean of the seeds' means (S,) with Student's interval; NaN ends for a single seed."""
    mean, count = float(np.mean(means)), len(means)
    if count < 2:
        return MeanInterval(mean, math.nan, math.nan)
    from scipy.stats import t as student_t  # half a second of every start

    half = float(student_t.ppf((1 + LEVEL) / 2, count - 1) * np.std(means, ddof=1) / math.sqrt(count))
    return MeanInterval(mean, mean - half, mean + half)


def bootstrap(values: np.ndarray, images: np.ndarray, over_seeds: bool = False) -> MeanInterval:
    """Percentile interval of the mean of values (seeds, targets), whole images drawn with repetition.

    `images` (targets,) counts from 0. Targets of an image share its clutter and light, so they are drawn together.
    `over_seeds` draws the seeds as well, where there are several. A single image has no interval, its ends are NaN.
    """
    count = int(images.max()) + 1
    sums = np.stack([np.bincount(images, row, minlength=count) for row in values])  # (seeds, images)
    sizes = np.bincount(images, minlength=count)
    weights = image_weights(count)  # (resamples, images)
    # Seeds are drawn by other random numbers than images, or the two would go together.
    drawn = np.ones((len(weights), len(values)))
    if over_seeds and len(values) > 1:
        drawn = image_weights(len(values), len(weights), SEED + 1)
    means = np.einsum("rs,si,ri->r", drawn / len(values), sums, weights) / np.maximum(weights @ sizes, 1)
    return MeanInterval(float(values.mean()), *interval(means))


def _key(target: TargetError) -> tuple[int, int, int, int]:
    return target.scene_id, target.im_id, target.obj_id, target.gt_index


def _common_targets(cases: Mapping[Case, Mapping[int, Sequence[TargetError]]]) -> Sequence[TargetError]:
    lists = [(case, targets) for case, seeds in cases.items() for targets in seeds.values()]
    if not lists or not lists[0][1]:
        raise UserError("no case is finished, so there is no table; run the ablation first")
    wanted = [_key(target) for target in lists[0][1]]
    for case, targets in lists:
        if [_key(target) for target in targets] != wanted:
            raise UserError(f"'{case[0]}' under '{case[1]}' was tested on other targets; remove its folder")
    return lists[0][1]


def _image_numbers(targets: Sequence[TargetError]) -> np.ndarray:
    """(N,) which image each target is of, counted from 0."""
    _, numbers = np.unique([(t.scene_id, t.im_id) for t in targets], axis=0, return_inverse=True)
    return numbers.reshape(-1)


def _matrix(
    seeds: Mapping[int, Sequence[TargetError]], chosen: Sequence[int], measure: Callable[[TargetError], float]
) -> np.ndarray:
    """(seeds, targets) of one metric."""
    return np.array([[measure(targets[i]) for i in chosen] for _, targets in sorted(seeds.items())])
