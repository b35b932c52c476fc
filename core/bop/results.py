"""Pose estimates as BOP's csv: `scene_id,im_id,obj_id,score,R,t,time`, t in millimetres."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from sopose.core.bop.fields import ORTHOGONALITY_TOLERANCE
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_file, write_text
from sopose.core.utils.units import M_TO_MM

logger = logging.getLogger(__name__)

HEADER = "scene_id,im_id,obj_id,score,R,t,time"
COLUMNS = HEADER.split(",")
ID_COLUMNS = COLUMNS[:3]
WORDS = {"score": 1, "R": 9, "t": 3, "time": 1}  # numbers in a column, in the order of the file
# BOP's own check lets the times of one image's rows differ by this much, seconds.
TIME_TOLERANCE = 1e-3
ROWS_AT_ONCE = 50_000


@dataclass(frozen=True, eq=False)
class Estimate:
    """One estimated pose. `time` is seconds for the whole image, the same on each row of it, -1 unknown."""

    scene_id: int
    im_id: int
    obj_id: int
    score: float
    pose: Pose
    time: float = -1.0


@dataclass(frozen=True, eq=False)
class Estimates(Sequence[Estimate]):
    """N estimates as columns: a sequence of `Estimate` that holds millions of rows in little memory."""

    ids: np.ndarray  # (N, 3) int64: scene_id, im_id, obj_id
    score: np.ndarray  # (N,) float64
    cam_R_obj: np.ndarray  # (N, 3, 3) float64
    cam_t_obj: np.ndarray  # (N, 3) float64, metres
    time: np.ndarray  # (N,) float64, seconds

    @classmethod
    def of(cls, estimates: Iterable[Estimate]) -> Estimates:
        """The columns of any estimates."""
        if isinstance(estimates, cls):
            return estimates
        items = list(estimates)
        return cls(
            ids=np.array([(e.scene_id, e.im_id, e.obj_id) for e in items], np.int64).reshape(-1, 3),
            score=np.array([e.score for e in items], np.float64),
            cam_R_obj=np.array([e.pose.cam_R_obj for e in items], np.float64).reshape(-1, 3, 3),
            cam_t_obj=np.array([e.pose.cam_t_obj for e in items], np.float64).reshape(-1, 3),
            time=np.array([e.time for e in items], np.float64),
        )

    def __len__(self) -> int:
        return len(self.score)

    @overload
    def __getitem__(self, index: int) -> Estimate: ...
    @overload
    def __getitem__(self, index: slice | np.ndarray) -> Estimates: ...
    def __getitem__(self, index: int | slice | np.ndarray) -> Estimate | Estimates:
        if isinstance(index, slice | np.ndarray):
            return Estimates(*(column[index] for column in self._columns()))
        scene_id, im_id, obj_id = self.ids[index].tolist()
        pose = Pose(self.cam_R_obj[index], self.cam_t_obj[index])
        return Estimate(scene_id, im_id, obj_id, float(self.score[index]), pose, float(self.time[index]))

    def __iter__(self) -> Iterator[Estimate]:
        return (self[index] for index in range(len(self)))

    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.ids, self.score, self.cam_R_obj, self.cam_t_obj, self.time


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


def read_results(path: Path, object_ids: Iterable[int] | None = None) -> Estimates:
    """Estimates of a BOP csv in the order of the file, metres.

    What the official toolkit's check refuses is refused (`UserError`, naming line and column): a row without seven
    fields, words that are no numbers, too many or too few of them, an empty line, and times that differ within an
    image. What it lets pass is read, and reported once a kind in a warning with the first such line and column: no
    header, no row, a matrix that is no rotation, nan or infinity (in R or t the estimate is never right, such a score
    ranks with nan last, such a time is unknown), a row that is there twice, and, with `object_ids` given, an object
    that is not among them.
    """
    path = require_file(Path(path), "run the evaluation first or correct the path")
    ids, values, first_line = array("q"), array("d"), 1
    number = 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if number == 1 and HEADER in line.replace(" ", ""):
                    first_line = 2
                    continue
                _read_row(line, number, path, ids, values)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, after line {number}: not a text file ({error}); give a BOP csv") from error
    estimates = _columns_of(ids, values)
    _refuse_other_times(estimates, first_line, path)
    _warn(estimates, first_line, path, None if object_ids is None else set(object_ids))
    return estimates


def _read_row(line: str, number: int, path: Path, ids: array, values: array) -> None:
    """Append a line's ids and its 14 numbers; the quick path of rows that are right."""
    fields = line.split(",")
    try:
        scene_id, im_id, obj_id, score, R, t, time = fields
        words = [score, *R.split(), *t.split(), time]
        if len(words) == 14 and len(t.split()) == 3:
            row = [float(word) for word in words]
            ids.extend((int(scene_id), int(im_id), int(obj_id)))
            values.extend(row)
            return
    except (ValueError, OverflowError):
        pass
    raise UserError(_complaint(line, f"{path}, line {number}"))


def _complaint(line: str, where: str) -> str:
    """What is wrong with a row that cannot be read."""
    fields = line.split(",")
    if not line.strip():
        return f"{where}: the line is empty, which BOP's check refuses; remove the line"
    if "scene_id" in fields[0]:
        return f"{where}: the header must be '{HEADER}' and is '{line.strip()[:60]}'; correct it"
    if len(fields) != 7:
        return f"{where}: 7 fields separated by ',' are needed, {len(fields)} came; repair the line"
    for name, text in zip(ID_COLUMNS, fields, strict=False):
        if not _is(text, int) or abs(int(text)) >= 1 << 63:
            return f"{where}, column {name}: a whole number is needed and '{text.strip()[:30]}' came; repair the line"
    for (name, count), text in zip(WORDS.items(), fields[3:], strict=True):
        words = text.split()
        if len(words) != count:
            return f"{where}, column {name}: {count} numbers are needed, {len(words)} came; repair the line"
        for word in words:
            if not _is(word, float):
                return f"{where}, column {name}: '{word[:30]}' is no number; repair the line"
    return f"{where}: the line cannot be read; repair it"


def _is(text: str, kind: type[int] | type[float]) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _columns_of(ids: array, values: array) -> Estimates:
    numbers = np.frombuffer(values, np.float64).reshape(-1, 14) if values else np.empty((0, 14))
    keys = np.frombuffer(ids, np.int64).reshape(-1, 3) if ids else np.empty((0, 3), np.int64)
    return Estimates(
        ids=keys,
        score=numbers[:, 0],
        cam_R_obj=numbers[:, 1:10].reshape(-1, 3, 3),
        cam_t_obj=numbers[:, 10:13] / M_TO_MM,
        time=numbers[:, 13],
    )


def _refuse_other_times(estimates: Estimates, first_line: int, path: Path) -> None:
    """`UserError` where a row's time is not that of its image's first row."""
    if not len(estimates):
        return
    order = np.lexsort((estimates.ids[:, 1], estimates.ids[:, 0]))  # stable: an image's first row stays its first
    images = estimates.ids[order, :2]
    starts = np.r_[True, (images[1:] != images[:-1]).any(axis=1)]
    expected = np.empty(len(order))
    expected[order] = estimates.time[order[starts]][np.cumsum(starts) - 1]
    with np.errstate(invalid="ignore"):  # of times that are none
        other = np.flatnonzero(np.abs(estimates.time - expected) > TIME_TOLERANCE)
    if len(other):
        row = other[0]
        scene_id, im_id, _ = estimates.ids[row]
        raise UserError(
            f"{path}, line {first_line + row}, column time: {estimates.time[row]:g} s, but an earlier row of scene "
            f"{scene_id}, image {im_id} has {expected[row]:g} s; write the image's whole time on each of its rows"
        )


def _warn(estimates: Estimates, first_line: int, path: Path, object_ids: set[int] | None) -> None:
    """One warning a kind for rows that are read though they look wrong."""
    if first_line == 1:
        logger.warning("%s, line 1: no header '%s'; read as a row, as BOP's check does", path, HEADER)
    if not len(estimates):
        logger.warning("%s has no estimate; every target counts as missed", path)
        return
    for column, rows, oddity in _oddities(estimates, object_ids):
        if len(rows):
            more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
            logger.warning("%s, line %d, column %s: %s%s", path, first_line + rows[0], column, oddity, more)


def _oddities(estimates: Estimates, object_ids: set[int] | None) -> Iterator[tuple[str, np.ndarray, str]]:
    """Column, rows and words of everything that is odd."""
    if object_ids is not None:
        unknown = np.flatnonzero(~np.isin(estimates.ids[:, 2], sorted(object_ids)))
        yield "obj_id", unknown, "an object that the data set doesn't have; ignored"
    R, t = estimates.cam_R_obj, estimates.cam_t_obj
    for column, values, what in (
        ("score", estimates.score, "it ranks as infinity does, nan last, and counts like others"),
        ("R", R, "such an estimate is never right"),
        ("t", t, "such an estimate is never right"),
        ("time", estimates.time, "it counts as unknown"),
    ):
        odd = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
        yield column, np.flatnonzero(odd), f"nan or infinity; {what}"
    yield "R", np.flatnonzero(_no_rotation(R)), "no rotation matrix; scored as it is"
    yield "scene_id", _repeated(estimates), "the same row is there before; both are estimates"


def _no_rotation(R: np.ndarray) -> np.ndarray:
    """(N,) bool: finite matrices (N, 3, 3) that are no rotations."""
    wrong = np.zeros(len(R), bool)
    for first in range(0, len(R), ROWS_AT_ONCE):
        part = R[first : first + ROWS_AT_ONCE]
        finite = np.isfinite(part).all(axis=(1, 2))
        part = np.where(finite[:, None, None], part, np.eye(3))
        with np.errstate(over="ignore", invalid="ignore"):
            off = np.abs(part @ part.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
            wrong[first : first + ROWS_AT_ONCE] = ~(off <= ORTHOGONALITY_TOLERANCE) | (np.linalg.det(part) < 0)
    return wrong


def _repeated(estimates: Estimates) -> np.ndarray:
    """Rows that equal an earlier one in everything but their time, ascending."""
    seen: set[bytes] = set()
    repeated = []
    # Rows for which this number is the same are the only candidates; mostly there are none.
    quick = estimates.ids @ np.sqrt([2.0, 3, 5]) + np.pi * estimates.score + estimates.cam_R_obj[:, 0, 0]
    order = np.argsort(quick, kind="stable")
    same = quick[order][1:] == quick[order][:-1]
    candidates = np.union1d(order[:-1][same], order[1:][same])
    for row in candidates:
        item = estimates[int(row)]
        numbers = [item.score, *item.pose.cam_R_obj.flat, *item.pose.cam_t_obj]
        key = estimates.ids[row].tobytes() + (np.array(numbers) + 0.0).tobytes()  # -0 and 0 are the same number
        if key in seen:
            repeated.append(row)
        seen.add(key)
    return np.array(repeated, np.int64)
