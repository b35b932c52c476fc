"""Whether rendered silhouettes and mask files are of the same thing, and if not, what would explain it.

Masks are (H, W) bool of the whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sopose.core.bop.records import Instance
from sopose.core.doctor.findings import Finding, Place
from sopose.core.geometry.pose import Pose

MIN_PIXELS = 100  # of fewer, a shift by one pixel is a large share
BAD, LOOSE = 0.6, 0.8  # IoU of a silhouette and its mask: an error below the first, a warning below the second
GAIN = 0.15  # of IoU by which an explanation has to be better
INSIDE = 0.95  # least share of a visible part that has to be within its whole
NOT_HIDDEN = 0.8  # least share of a visible part that no annotated object may be in front of
SLACK = 2  # pixels by which masks of other renderers and of hands may be off

Cast = Callable[[int, Pose, np.ndarray], np.ndarray]  # object id, pose, K -> the whole mask


@dataclass
class Seen:
    """One instance in an image: what its files and what its label says. What there isn't is None."""

    item: Instance
    where: str  # its entry of scene_gt.json
    place: Place
    files: dict[str, str]  # names of its files in `mask` and `mask_visib` below the data set's folder
    mask: np.ndarray | None = None  # of the whole object, from the file
    visib: np.ndarray | None = None  # of its visible part, from the file
    whole: np.ndarray | None = None  # rendered
    visible: np.ndarray | None = None  # rendered, behind all annotated objects that could be rendered
    is_hidden: bool = False  # its entry of scene_gt_info.json says that nothing of it is visible
    entry: dict | None = None  # of scene_gt_info.json, as it should be by the rendered scene
    fit: float | None = None  # IoU of `mask` and `whole`, where they are large enough to be compared
    pose_is_sound: bool = True  # no finding contradicts it
    mask_is_sound: bool = True

    @property
    def has_file(self) -> bool:
        """Whether there is a mask to compare with."""
        return self.mask is not None or self.visib is not None

    def finding(self, code: str, where: str, what: str, badness: float) -> Finding:
        """A finding that can be drawn."""
        return Finding(code, where, what, self.place, badness)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union; 0 for two empty masks."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 0.0


def share(part: np.ndarray, whole: np.ndarray) -> float:
    """How much of `part`, which is not empty, is in `whole`."""
    return np.count_nonzero(part & whole) / np.count_nonzero(part)


def widened(mask: np.ndarray) -> np.ndarray:
    """`mask` with a margin of `SLACK` pixels."""
    side = 2 * SLACK + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0


def check_poses(seen: Sequence[Seen], K: np.ndarray, cast: Cast) -> Iterator[Finding]:
    """Compare rendered silhouettes with mask files; notes in `seen` how they fit and what is sound."""
    for one in seen:
        if one.whole is None or not one.has_file:
            continue
        if one.mask is None:
            yield from _check_visible_alone(one, K, cast)
            continue
        if max(one.whole.sum(), one.mask.sum()) < MIN_PIXELS:
            continue
        one.fit = iou(one.mask, one.whole)
        if one.fit < LOOSE:
            yield _misfit(one, seen, K, cast)


def _misfit(one: Seen, seen: Sequence[Seen], K: np.ndarray, cast: Cast) -> Finding:
    """What to make of a mask that doesn't fit its pose."""
    file, least = one.files["mask"], max(LOOSE, one.fit + GAIN)
    badness = 1 - one.fit
    if not one.mask.any():
        one.mask_is_sound = False
        what = f"the label shows {one.whole.sum()} pixels of object {one.item.obj_id}"
        return one.finding("mask-empty", file, what, 1.0)
    better = max(
        (other for other in seen if other is not one and other.whole is not None),
        key=lambda other: iou(one.mask, other.whole),
        default=None,
    )
    if better is not None and iou(one.mask, better.whole) > least:
        one.mask_is_sound = False
        what = f"it fits {_entry(better)} (IoU {iou(one.mask, better.whole):.2f}), not {_entry(one)} ({one.fit:.2f})"
        return one.finding("mask-order", file, what, badness)
    inverted = iou(~one.mask, one.whole)
    if inverted > least:
        one.mask_is_sound = False
        return one.finding("mask-inverted", file, f"its background fits the pose (IoU {inverted:.2f})", badness)
    one.pose_is_sound = one.mask_is_sound = False
    text = f"IoU {one.fit:.2f} of silhouette and {file}"
    explained = _explain(one, K, cast, lambda silhouette: iou(one.mask, silhouette), least)
    code = "pose-loose" if one.fit >= BAD and not explained else "pose-mask"
    return one.finding(code, one.where, text + explained, badness)


def _check_visible_alone(one: Seen, K: np.ndarray, cast: Cast) -> Iterator[Finding]:
    """Without the whole mask: the visible part has to be within the silhouette."""
    if one.visib.sum() < MIN_PIXELS:
        return
    inside = share(one.visib, widened(one.whole))
    if inside >= LOOSE:
        return
    one.pose_is_sound = one.mask_is_sound = False
    text = f"only {inside:.0%} of {one.files['mask_visib']} is within the silhouette"
    explained = _explain(
        one, K, cast, lambda silhouette: share(one.visib, widened(silhouette)), max(INSIDE, inside + GAIN)
    )
    code = "pose-loose" if inside >= BAD and not explained else "pose-mask"
    yield one.finding(code, one.where, text + explained, 1 - inside)


def _explain(one: Seen, K: np.ndarray, cast: Cast, fit: Callable[[np.ndarray], float], least: float) -> str:
    """The words for the change of pose or K that fits best, empty where none has a fit above `least`."""
    fits = {words: fit(cast(one.item.obj_id, pose, K)) for words, pose, K in _changes(one.item.pose, K)}
    words = max(fits, key=fits.get)
    return f"; {words} ({fits[words]:.2f} then)" if fits[words] > least else ""


def _changes(pose: Pose, K: np.ndarray) -> Iterator[tuple[str, Pose, np.ndarray]]:
    """Common mistakes, each with the pose and K (3, 3) that are right if it was made."""
    R, t = pose.cam_R_obj, pose.cam_t_obj
    yield "R looks transposed", Pose(R.T, t), K
    yield "the pose looks like camera to object, not object to camera", pose.inverse(), K
    yield "R looks like OpenGL's (y and z rows turned round)", Pose(np.diag([1.0, -1.0, -1.0]) @ R, t), K
    yield "t looks like centimetres", Pose(R, 10 * t), K
    for factor in (2, 0.5):
        scaled = np.diag([1 / factor, 1 / factor, 1.0]) @ K
        yield f"cam_K looks like that of images {factor:g} times as large", pose, scaled


def check_visible(seen: Sequence[Seen], complete: bool) -> Iterator[Finding]:
    """Compare visible parts with the whole masks, and with what is rendered in front.

    complete: all annotated objects were rendered.
    """
    in_front_is_known = complete and all(one.pose_is_sound for one in seen)
    for one in seen:
        if one.visib is None or one.visib.sum() < MIN_PIXELS or not one.mask_is_sound:
            continue
        whole = one.whole if one.mask is None else one.mask
        if one.mask is not None and share(one.visib, whole) < INSIDE:
            one.mask_is_sound = False
            yield _outside(one, seen)
        elif in_front_is_known and one.visible is not None:
            inside = share(one.visib, widened(one.visible))
            if inside < NOT_HIDDEN:
                one.mask_is_sound = False
                what = f"only {inside:.0%} of it is where {_entry(one)} is the nearest annotated object"
                yield one.finding("visib-pose", one.files["mask_visib"], what, 1 - inside)


def _outside(one: Seen, seen: Sequence[Seen]) -> Finding:
    inside, file = share(one.visib, one.mask), one.files["mask_visib"]
    others = [other for other in seen if other is not one and other.mask is not None]
    better = max(others, key=lambda other: share(one.visib, other.mask), default=None)
    if better is not None and share(one.visib, better.mask) >= INSIDE:
        what = f"it is within mask of {_entry(better)}, and only {inside:.0%} within that of {_entry(one)}"
        return one.finding("mask-order", file, what, 1 - inside)
    is_around = one.mask.any() and not (one.mask & ~one.visib).any()
    hint = ", which is within it: are the two exchanged?" if is_around else ""
    what = f"{1 - inside:.0%} of it is outside {one.files['mask']}{hint}"
    return one.finding("visib-outside", file, what, 1 - inside)


def _entry(one: Seen) -> str:
    return f"entry {one.item.gt_index} (object {one.item.obj_id})"
