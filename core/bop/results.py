"""Pose estimates as BOP's csv: `scene_id,im_id,obj_id,score,R,t,time`, t in millimetres."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.bop.fields import M_TO_MM
from core.geometry.pose import Pose
from core.utils.errors import UserError
from core.utils.files import require_file, write_text

HEADER = "scene_id,im_id,obj_id,score,R,t,time"


@dataclass(frozen=True, eq=False)
class Estimate:
    """One estimated pose. `time` is seconds for the whole image, the same on each row of it, -1 unknown."""

    scene_id: int
    im_id: int
    obj_id: int
    score: float
    pose: Pose
    time: float = -1.0


def result_name(method: str, dataset: str, split: str) -> str:
    """`METHOD_DATASET-SPLIT.csv`, the name by which BOP's tools know what a file holds.

    Raises `UserError` where the method has a `_` (they split the name there) or a part is empty.
    """
    if not method or "_" in method or "/" in method:
        raise UserError(f"the method name '{method}' must be without '_' and '/'; use '-' instead")
    if not dataset or not split or "_" in dataset or "-" in dataset:
        raise UserError(f"a result file needs a data set (without '_', '-') and a split: '{dataset}', '{split}'")
    return f"{method}_{dataset}-{split}.csv"


def write_results(path: Path, estimates: Iterable[Estimate]) -> None:
    """Write estimates in the order given, every number with full double precision, atomically."""
    write_text(path, "\n".join([HEADER, *map(_row, estimates)]) + "\n")


def _row(estimate: Estimate) -> str:
    R = " ".join(map(repr, np.asarray(estimate.pose.cam_R_obj, np.float64).reshape(-1).tolist()))
    t = " ".join(map(repr, (M_TO_MM * np.asarray(estimate.pose.cam_t_obj, np.float64)).tolist()))
    ids = f"{estimate.scene_id},{estimate.im_id},{estimate.obj_id}"
    return f"{ids},{float(estimate.score)!r},{R},{t},{float(estimate.time)!r}"


def read_results(path: Path) -> list[Estimate]:
    """Estimates of a BOP csv in the order of the file, metres.

    Raises `UserError` with the line number where a line is not BOP's.
    """
    path = require_file(Path(path), "run the evaluation first or correct the path")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file ({error}); give a BOP csv") from error
    if not lines or lines[0].replace(" ", "") != HEADER:
        came = lines[0][:60] if lines else "nothing"
        raise UserError(f"{path} must begin with the line '{HEADER}' and begins with '{came}'; add it")
    return [_estimate(line, f"{path}, line {n}") for n, line in enumerate(lines[1:], start=2) if line.strip()]


def _estimate(line: str, where: str) -> Estimate:
    fields = line.split(",")
    if len(fields) != 7:
        raise UserError(f"{where}: 7 fields separated by ',' are needed, {len(fields)} came; repair the line")
    try:
        scene_id, im_id, obj_id = (int(text) for text in fields[:3])
    except ValueError:
        raise UserError(f"{where}: scene_id, im_id and obj_id must be whole numbers; repair the line") from None
    score, time = _floats(fields[3], 1, "score", where), _floats(fields[6], 1, "time", where)
    R = _floats(fields[4], 9, "R", where).reshape(3, 3)
    t = _floats(fields[5], 3, "t", where)
    return Estimate(scene_id, im_id, obj_id, float(score[0]), Pose(R, t / M_TO_MM), float(time[0]))


def _floats(text: str, count: int, name: str, where: str) -> np.ndarray:
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError:
        raise UserError(f"{where}: {name} has a word that is no number; repair the line") from None
    if len(values) != count:
        raise UserError(f"{where}: {name} needs {count} numbers, {len(values)} came; repair the line")
    if not np.isfinite(values).all():
        raise UserError(f"{where}: {name} has nan or infinity; repair the line")
    return values
