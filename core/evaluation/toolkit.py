"""The same scores with the errors of the official package, `bop_toolkit_lib`, where it is installed.

Its functions are asked one pair after the other, with models in millimetres and symmetries as it samples them;
matching and recalls are ours. VSD needs its renderers and is not asked for.
"""

from __future__ import annotations

from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from sopose.core.bop.models import symmetry_fields
from sopose.core.evaluation.error_model import ErrorModel
from sopose.core.evaluation.pairs import PosePairs
from sopose.core.evaluation.scores import Scores
from sopose.core.utils.errors import UserError
from sopose.core.utils.units import M_TO_MM, MM_TO_M

MAX_SYMMETRY_STEP = 0.01  # as BOP's evaluation scripts have it
WITH_POINTS = ("add", "adi")
# What is theirs, by name, and its unit in ours.
OFFICIAL = {"add": MM_TO_M, "adi": MM_TO_M, "te": MM_TO_M, "mssd": MM_TO_M, "re": 1.0, "proj": 1.0, "mspd": 1.0}


def import_toolkit() -> tuple[ModuleType, ModuleType]:
    """`pose_error` and `misc` of the official package; `UserError` where it is not installed."""
    try:
        from bop_toolkit_lib import misc, pose_error
    except ImportError as error:
        raise UserError(
            f"--engine bop_toolkit needs the official package ({error}); install it by: "
            "pip install git+https://github.com/thodan/bop_toolkit, or leave --engine out"
        ) from error
    return pose_error, misc


class ToolkitErrorModel(ErrorModel):
    """An `ErrorModel` whose add, adi, re, te, proj, mssd and mspd are the official package's."""

    def _errors(self, pairs: PosePairs, names: set[str]) -> dict[str, np.ndarray]:
        errors = super()._errors(pairs, names - OFFICIAL.keys())
        for name, unit in OFFICIAL.items():
            if name in names:
                errors[name] = unit * np.array([self._official(name, pairs, i) for i in range(len(pairs))], float)
        return errors

    @cached_property
    def official_symmetries(self) -> list[dict[str, np.ndarray]]:
        """The package's own sampling of what `models_info.json` says, millimetres."""
        info = symmetry_fields(self.model.symmetries_discrete, self.model.symmetries_continuous)
        return import_toolkit()[1].get_symmetry_transformations(info, MAX_SYMMETRY_STEP)

    def _official(self, name: str, pairs: PosePairs, index: int) -> float:
        est, gt, K = pairs.poses(index)
        est_t, gt_t = (M_TO_MM * pose.cam_t_obj.reshape(3, 1) for pose in (est, gt))
        points = M_TO_MM * self.model.vertices
        function: Any = getattr(import_toolkit()[0], name)
        if name == "re":
            return function(est.cam_R_obj, gt.cam_R_obj)
        if name == "te":
            return function(est_t, gt_t)
        poses = (est.cam_R_obj, est_t, gt.cam_R_obj, gt_t)
        if name in WITH_POINTS:
            return function(*poses, points)
        if name == "mssd":
            return function(*poses, points, self.official_symmetries)
        if name == "proj":
            return function(*poses, K, points)
        return function(*poses, K, points, self.official_symmetries)


def differences(ours: Scores, official: Scores) -> dict[str, float]:
    """The largest difference of a score over objects, their mean and all targets, by column."""
    rows = [(ours.mean, official.mean), (ours.overall, official.overall)]
    rows += [(a.values, b.values) for a, b in zip(ours.objects, official.objects, strict=True)]
    found: dict[str, float] = {}
    for a, b in rows:
        for key in a.keys() & b.keys():
            if not np.isnan(a[key]):
                found[key] = max(found.get(key, 0.0), abs(a[key] - b[key]))
    return found
