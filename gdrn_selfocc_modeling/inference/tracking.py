"""Objects followed through a video: each frame's look begins where an object is expected, and a filter joins the looks.

The detector and the pose network are asked for what is not followed yet, or not any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sopose.core.detection.boxes import overlap
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.pose_covariance import moved_pose
from sopose.core.geometry.pose_filter import MotionNoise, PoseState
from sopose.core.utils.errors import UserError
from sopose.inference.crops import Photo
from sopose.inference.estimator import SURE, PoseEstimator
from sopose.inference.found import Box, ObjectPose

SAME = 0.3  # IoU of a found box with that of an object followed, from which on they are the same
ONE = 0.5  # diameters between two of the same kind, below which they are one
NEAR = 3.0  # diameters from where a lost object is expected, within which it is found again
UNSEEN = "it is not seen here; this is where it would be if it moved on"


@dataclass(frozen=True)
class TrackPlan:
    """How objects are followed."""

    kept: float = 0.3  # confidence of a look from which on it is believed of an object that is followed
    gate: float = 5.0  # standard deviations from where it was expected, beyond which it isn't
    detect_every: int = 10  # frames; and in each where nothing is followed
    shown: float = 0.3  # seconds that an object that isn't seen is still reported
    remembered: float = 2.0  # seconds until it is another one where it is found again
    noise: MotionNoise = field(default_factory=MotionNoise)


@dataclass(frozen=True, eq=False)
class _Track:
    """An object that is followed."""

    number: int
    state: PoseState  # of the frame at the object's middle
    found: ObjectPose  # as it was last seen
    time: float  # seconds, of `state`
    seen: float  # when it was last seen


class PoseTracker:
    """Follows objects through frames of one camera, given in their order.

    Args:
        estimator: with second looks that know how sure they are, and a detector.
        plan: see there.

    Raises `UserError` for an estimator without one of them.
    """

    def __init__(self, estimator: PoseEstimator, plan: TrackPlan | None = None) -> None:
        look = estimator.second_look
        if look is None or look.refiner.confidence is None or estimator.finder is None:
            raise UserError(
                "objects are followed by second looks that know how sure they are, and found by a detector; give "
                "--looks 1 with --models, and --detector"
            )
        self.estimator, self.plan = estimator, plan or TrackPlan()
        self._tracks: list[_Track] = []
        self._frames = self._count = 0

    def __call__(
        self,
        image: np.ndarray | Path | str,
        K: np.ndarray | Sequence[float],
        time: float,
        threshold: float | None = None,
        topk: int = 1,
        distortion: Sequence[float] | np.ndarray | None = None,
        depth: np.ndarray | None = None,
    ) -> list[ObjectPose]:
        """The objects in a frame, with `track` numbers that stay theirs.

        time: of the frame, seconds, above that of the one before. topk: at most so many of each object, those that are
        seen first. Others as of `PoseEstimator.predict`.
        """
        photo = Photo.of(image, K, distortion, depth)
        expected = [self._expected(track, time) for track in self._tracks]
        self._tracks = self._apart(self._looked_at(photo, expected, time), expected)
        live = [track for track in self._tracks if track.seen == time]
        if not live or self._frames % self.plan.detect_every == 0:
            self._find(photo, time, threshold, topk)
        self._frames += 1
        self._tracks = [track for track in self._tracks if time - track.seen <= self.plan.remembered]
        shown = [track for track in self._tracks if time - track.seen <= self.plan.shown]
        taken: Counter[str] = Counter()
        answers = []
        for track in sorted(shown, key=lambda track: (track.seen, track.found.score), reverse=True):
            taken[track.found.object] += 1
            if taken[track.found.object] <= topk:
                answers.append(self._answer(photo, track, time))
        return answers

    def _expected(self, track: _Track, time: float) -> _Track:
        return replace(track, state=track.state.after(max(time - track.time, 0.0), self.plan.noise), time=time)

    def _looked_at(self, photo: Photo, expected: Sequence[_Track], time: float) -> list[_Track]:
        """The objects after a look at each; what is not believed leaves an object where it was expected."""
        looks = self.estimator.look(photo, [(track.found.object, _own_frame(track)) for track in expected])
        after = []
        for track, found in zip(expected, looks, strict=True):
            believed = found.fitted is not None and (found.confidence or 0.0) >= self.plan.kept
            if believed and track.state.off(*_about_middle(found)) <= self.plan.gate:
                state = track.state.seen(*_about_middle(found))
                found = replace(found, box_score=track.found.box_score)
                track = replace(track, state=state, found=found, seen=time)
            after.append(track)
        return after

    def _apart(self, tracks: Sequence[_Track], expected: Sequence[_Track]) -> list[_Track]:
        """The same, but of two that came to one place the later one isn't seen: it stays where it was expected."""
        kept: list[_Track] = []
        for track, before in zip(tracks, expected, strict=True):
            met = any(_is_near(track.found, other, ONE) and other.seen == track.time for other in kept)
            kept.append(before if met and track.seen == track.time else track)
        return kept

    def _find(self, photo: Photo, time: float, threshold: float | None, topk: int) -> None:
        """Begin to follow what the detector finds and nobody follows; a lost object that is near is that one."""
        boxes = [
            box
            for box in self.estimator.finder(photo.rgb, threshold, topk)
            if not any(_is_same(box, track) for track in self._tracks if track.seen == time)
        ]
        for found in self.estimator.of_boxes(photo, boxes):
            if found.fitted is None or (found.confidence or 0.0) < SURE:
                continue
            if any(_is_near(found, track, ONE) for track in self._tracks if track.seen == time):
                continue  # another box of what is followed
            state = PoseState.of(*_about_middle(found), self.plan.noise)
            lost = [track for track in self._tracks if track.seen < time and _is_near(found, track)]
            if lost:
                number = min(lost, key=lambda track: _distance(found, track)).number
                self._tracks = [track for track in self._tracks if track.number != number]
            else:
                number, self._count = self._count, self._count + 1
            self._tracks.append(_Track(number, state, found, time, time))

    def _answer(self, photo: Photo, track: _Track, time: float) -> ObjectPose:
        pose, covariance = moved_pose(track.state.pose, track.state.covariance[:6, :6], -track.found.middle)
        answer = replace(
            track.found,
            cam_R_obj=pose.cam_R_obj,
            cam_t_obj=pose.cam_t_obj,
            fitted=covariance,
            coarse=None,
            track=track.number,
        )
        if track.seen == time:
            return answer
        box = np.asarray(self.estimator.outlined(photo, answer.object, pose).xyxy)
        return replace(answer, box=box, warnings=(*answer.warnings, UNSEEN), score=0.0, confidence=0.0)


def _is_same(box: Box, track: _Track) -> bool:
    return box.object == track.found.object and overlap(np.asarray(box.xyxy), track.found.box) >= SAME


def _is_near(found: ObjectPose, track: _Track, diameters: float = NEAR) -> bool:
    reach = diameters * found.known.diameter
    return found.object == track.found.object and _distance(found, track) <= reach


def _distance(found: ObjectPose, track: _Track) -> float:
    """Metres between the middles of a found and a followed object."""
    return float(np.linalg.norm(found.pose.transform(found.middle) - track.state.pose.cam_t_obj))


def _about_middle(found: ObjectPose) -> tuple[Pose, np.ndarray]:
    """The pose, and its covariance (6, 6) as of `PoseFit`, of the frame at an object's middle."""
    return moved_pose(found.pose, found.fitted, found.middle)


def _own_frame(track: _Track) -> Pose:
    """Where the object's own frame is expected."""
    return track.state.pose.with_origin(-track.found.middle)
