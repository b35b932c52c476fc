"""The columns of a table of scores: which error, below which thresholds, and which of them belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sopose.core.evaluation import bop19
from sopose.core.utils.errors import UserError, nearest
from sopose.core.utils.plugins import load_plugin, plugged

if TYPE_CHECKING:
    from sopose.core.evaluation.pairs import PosePairs
    from sopose.core.objects.model import ObjectModel

# Errors by the unit their thresholds are in.
OF_DIAMETER = ("add", "adi", "ad", "mssd")
AUC_LIMIT = 0.10  # metres
DEFAULT_METRICS = ("add", "pose", "proj", "bop19")
PLUGINS = "sopose.metrics"  # entry points: a `Metric` each


@dataclass(frozen=True)
class Column:
    """The mean recall over thresholds of an error, or with `area` the area under its recall up to that error.

    Thresholds are in the error's own unit (degrees and centimetres, pixels), in diameters where
    `of_diameter`, else metres.
    """

    error: str
    thresholds: tuple[float, ...] = ()
    area: float | None = None
    of_diameter: bool = False


@dataclass(frozen=True)
class Metric:
    """What another package adds: an error of pairs of poses, and the thresholds that its recall is the mean over."""

    errors: Callable[[PosePairs, ObjectModel], np.ndarray]  # (N,) of N pairs and their model
    thresholds: tuple[float, ...]  # in the error's own unit, or in diameters
    of_diameter: bool = False


def _of_diameter(error: str) -> dict[str, Column]:
    return {f"{error}_{t:.2f}": Column(error, (t,), of_diameter=True) for t in (0.02, 0.05, 0.10)}


def _whole(error: str, limits: Iterable[int]) -> dict[str, Column]:
    return {f"{error}_{n}": Column(error, (float(n),)) for n in limits}


# Group -> columns. "ad" is ADD(-S); deg_cm_5 is 5 degrees and 5 cm; "_sym" takes the best symmetry of
# models_info.json; proj is in pixels of the image as it is; auc is the exact area, auc10 the ancestor's mean
# recall at 1, 2, …, 10 cm.
METRICS: dict[str, dict[str, Column]] = {
    "add": {**_of_diameter("ad"), **_of_diameter("add")},
    "adi": _of_diameter("adi"),
    "auc": {
        **{f"auc_{error}": Column(error, area=AUC_LIMIT) for error in ("ad", "add", "adi")},
        **{f"auc10_{error}": Column(error, tuple(0.01 * np.arange(1, 11))) for error in ("ad", "add", "adi")},
    },
    "pose": {**_whole("deg_cm", (2, 5, 10)), **_whole("deg_cm_sym", (2, 5, 10))},
    "proj": {**_whole("proj", (2, 5, 10)), **_whole("proj_sym", (2, 5, 10))},
    "bop19": {
        "AR_MSSD": Column("mssd", tuple(bop19.MSSD_THRESHOLDS), of_diameter=True),
        "AR_MSPD": Column("mspd", tuple(bop19.MSPD_THRESHOLDS)),
    },
    "bop24": {},  # scored by sopose.core.evaluation.detection_ap
}
RECALLS = {name: column for group in METRICS.values() for name, column in group.items()}
AR_VSD = "AR_VSD"
AR = "AR"  # BOP's: the mean of VSD, MSSD and MSPD
AR_MEAN = "AR_MSSD_MSPD"  # the mean of the two: not BOP's AR
# The errors behind medians over found instances, and by what they are multiplied.
MEDIANS = {"re_deg": ("re_sym", 1), "te_cm": ("te", 100)}
# Error -> thresholds of its curve, in diameters or pixels of an image 640 wide.
CURVES = {
    "ad": np.linspace(0, 0.2, 81),
    "mssd": np.linspace(0, 0.5, 101),
    "mspd": np.linspace(0, 50, 101),
}


def check_metrics(metrics: Iterable[str]) -> tuple[str, ...]:
    """`metrics` in the order of METRICS and of what other packages add; `UserError` for a name that is not there."""
    metrics = list(metrics)
    known = list(METRICS) if set(metrics) <= set(METRICS) else known_metrics()
    for name in metrics:
        if name not in known:
            raise UserError(f"unknown metric '{name}'{nearest(name, known)} (known: {', '.join(known)})")
    return tuple(name for name in known if name in metrics)


def known_metrics() -> list[str]:
    """Names of all groups: ours, then those of other packages."""
    return [*METRICS, *(name for name in sorted(plugged(PLUGINS)) if name not in METRICS)]


def plugged_metric(name: str) -> Metric:
    """A group of another package. Raises `UserError` where it can't be loaded, or is no `Metric`."""
    found = load_plugin(plugged(PLUGINS)[name])
    if not isinstance(found, Metric):
        raise UserError(f"the entry point '{name}' of {PLUGINS} must be a Metric, got a {type(found).__name__}")
    return found


def columns_of(metrics: Iterable[str]) -> dict[str, Column]:
    """The columns of the groups `metrics`."""
    return {name: column for group in metrics for name, column in _columns_of_group(group).items()}


def _columns_of_group(group: str) -> dict[str, Column]:
    if group in METRICS:
        return METRICS[group]
    added = plugged_metric(group)
    return {group: Column(group, tuple(added.thresholds), of_diameter=added.of_diameter)}


def errors_of(metrics: Iterable[str]) -> list[str]:
    """Names of the errors that the groups need; MSSD always, by which estimates are given to instances."""
    names = {"mssd"} | {column.error for column in columns_of(metrics).values()}
    if "pose" in metrics:
        names |= {"re", "re_sym", "te"}
    return sorted(names)
