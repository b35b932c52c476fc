"""Examines an entry of scene_gt_info.json, boxes, counts and the visible share, against masks and rendered scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sopose.core.bop.scene_folder import GtInfo
from sopose.core.doctor.cameras import Size
from sopose.core.doctor.findings import Finding
from sopose.core.doctor.fits import MIN_PIXELS, Seen

BOX_PIXELS, BOX_SHARE = 4.0, 0.1  # a box's sides may be off by the larger of pixels, and of its longer side
COUNT_PIXELS, COUNT_SHARE = 30, 0.15  # likewise counts of pixels, and of what is counted
FRACTION = 0.02  # by which visib_fract may be off px_count_visib / px_count_all
FORMS: dict[str, Callable[[np.ndarray, Size], np.ndarray]] = {  # x, y, w, h from what was written instead
    "x1, y1, x2, y2": lambda b, _: np.array([b[0], b[1], b[2] - b[0], b[3] - b[1]]),
    "centre, width, height": lambda b, _: np.array([b[0] - b[2] / 2, b[1] - b[3] / 2, b[2], b[3]]),
    "y, x, height, width": lambda b, _: b[[1, 0, 3, 2]],
    "shares of the image": lambda b, size: b * np.array([*size, *size]),
}


def check_info(info: GtInfo, seen: Seen, size: Size, where: str) -> Iterator[Finding]:
    """Faults of one instance's entry in an image of a width and height. Only what is sound is compared with."""
    for key, box in (("bbox_obj", info.bbox_obj), ("bbox_visib", info.bbox_visib)):
        if box is not None:
            yield from _check_box(key, box, seen, size, where)
    given = {"all": info.px_count_all, "valid": info.px_count_valid, "visib": info.px_count_visib}
    counts = {name: count for name, count in given.items() if count is not None}
    yield from _check_counts(counts, seen, where)
    if info.visib_fract is not None:
        yield from _check_fraction(info.visib_fract, counts, seen, where)


def _check_box(key: str, box: np.ndarray, seen: Seen, size: Size, where: str) -> Iterator[Finding]:
    expected, source = _expected_box(key, seen)
    if expected is None:
        return
    clipped = _clipped(expected, size)
    off = min(_sides_apart(box, expected), _sides_apart(box, clipped))
    tolerance = max(BOX_PIXELS, BOX_SHARE * max(clipped[2:]))
    if off <= tolerance:
        return
    difference = f"{_box_text(box)}, by {source} it is {_box_text(expected)}"
    forms = {name: _sides_apart(read(box, size), expected) for name, read in FORMS.items()}
    best = min(forms, key=forms.get)
    hint = f"; written as {best}, not x, y, width, height" if forms[best] <= tolerance else ""
    code = {"bbox_obj": "box-obj", "bbox_visib": "box-visib"}[key]
    yield seen.finding(code, where, f"{key} {difference}{hint}", off / max(*expected[2:], 1.0))


def _expected_box(key: str, seen: Seen) -> tuple[np.ndarray | None, str]:
    """What a box should be, x, y, w, h, and what says so; None where nothing sound does."""
    if key == "bbox_visib":
        if seen.visib is None or not seen.mask_is_sound or seen.visib.sum() < MIN_PIXELS:
            return None, ""
        return _box_of(seen.visib), seen.files["mask_visib"]
    if seen.entry is not None and seen.pose_is_sound:
        return (np.array(seen.entry["bbox_obj"], float), "the pose") if _is_large(seen.entry) else (None, "")
    if seen.mask is None or not seen.mask_is_sound or seen.mask.sum() < MIN_PIXELS or _touches_border(seen.mask):
        return None, ""
    return _box_of(seen.mask), seen.files["mask"]


def _is_large(entry: dict[str, Any]) -> bool:
    return entry["px_count_valid"] >= MIN_PIXELS


def _box_of(mask: np.ndarray) -> np.ndarray:
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    return np.array([columns[0], rows[0], columns[-1] - columns[0], rows[-1] - rows[0]], float)


def _touches_border(mask: np.ndarray) -> bool:
    return bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())


def _clipped(box: np.ndarray, size: Size) -> np.ndarray:
    """The part of x, y, w, h that is inside the image."""
    low = np.maximum(box[:2], 0)
    return np.concatenate([low, np.minimum(box[:2] + box[2:], np.array(size) - 1) - low])


def _sides_apart(first: np.ndarray, second: np.ndarray) -> float:
    """The largest distance of two boxes' left, top, right and lower sides."""
    sides = [np.concatenate([box[:2], box[:2] + box[2:]]) for box in (first, second)]
    return float(np.abs(sides[0] - sides[1]).max())


def _check_counts(counts: dict[str, int], seen: Seen, where: str) -> Iterator[Finding]:
    wrong = [
        f"px_count_{key} {counts[key]} is above px_count_all {counts['all']}"
        for key in ("valid", "visib")
        if key in counts and counts[key] > counts.get("all", counts[key])
    ]
    sound_mask = seen.visib is not None and seen.mask_is_sound
    if sound_mask and "visib" in counts and _differ(counts["visib"], int(seen.visib.sum())):
        wrong.append(f"px_count_visib {counts['visib']}, {seen.files['mask_visib']} has {seen.visib.sum()}")
    if seen.entry is not None and seen.pose_is_sound and "all" in counts:
        whole = [
            seen.entry["px_count_all"],
            seen.entry["px_count_valid"],
        ]  # with what is outside the image, and without
        if all(_differ(counts["all"], count) for count in whole):
            wrong.append(f"px_count_all {counts['all']}, by the pose it is {whole[0]}")
    if wrong:
        yield seen.finding("px-count", where, "; ".join(wrong), 0.0)


def _differ(count: int, expected: int) -> bool:
    return abs(count - expected) > max(COUNT_PIXELS, COUNT_SHARE * expected)


def _check_fraction(fraction: float, counts: dict[str, int], seen: Seen, where: str) -> Iterator[Finding]:
    if fraction == -1:  # BOP's word for unknown
        return
    expected, source = None, ""
    if counts.get("all", 0) > 0 and 0 <= counts.get("visib", -1) <= counts["all"]:
        expected, source = counts["visib"] / counts["all"], "px_count_visib / px_count_all"
    elif _has_visible_share(seen):
        expected, source = seen.visib.sum() / seen.entry["px_count_all"], seen.files["mask_visib"]
    tolerance = FRACTION if source.startswith("px") else COUNT_SHARE
    if 0 <= fraction <= 1 and (expected is None or abs(fraction - expected) <= tolerance):
        return
    text = f"visib_fract {fraction:.4g}" + (f", by {source} it is {expected:.2f}" if expected is not None else "")
    is_percent = 1 < fraction <= 100 and (expected is None or abs(fraction / 100 - expected) <= tolerance)
    hint = "; it is in percent" if is_percent else ("" if 0 <= fraction <= 1 else "; it must be between 0 and 1")
    yield seen.finding("visib-fract", where, text + hint, abs(fraction - (expected or 0)))


def _has_visible_share(seen: Seen) -> bool:
    sound = seen.visib is not None and seen.mask_is_sound and seen.pose_is_sound
    return sound and seen.entry is not None and _is_large(seen.entry)


def _box_text(box: np.ndarray) -> str:
    return "[" + ", ".join(f"{x:.4g}" for x in box) + "]"
