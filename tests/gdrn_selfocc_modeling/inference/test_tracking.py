"""Objects followed through frames: numbers stay, what is hidden is reported for a moment, what is lost is found."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.inference.found import Box, ObjectPose
from sopose.inference.tracking import UNSEEN, PoseTracker, TrackPlan

COVARIANCE = np.diag([1e-3, 1e-3, 4e-3, 0.02, 0.02, 0.02]) ** 2
K = np.array([[500.0, 0, 160], [0, 500, 120], [0, 0, 1]])
IMAGE = np.zeros((240, 320, 3), np.uint8)
STEP = 1 / 25


@dataclass
class Known:
    diameter: float = 0.1
    middle: np.ndarray = field(default_factory=lambda: np.zeros(3))


class Scene:
    """An estimator whose looks see the truth within a reach, and its detector; `there` is what an image shows."""

    confidence = object()  # of the refiner, which is this too

    def __init__(self):
        self.refiner = self.second_look = self
        self.there: dict[str, Pose] = {}
        self.asked = 0

    def outlined(self, photo, name, pose):
        return Box(name, self._box(pose))

    def finder(self, rgb, threshold, topk):
        self.asked += 1
        return [Box(name, self._box(pose), 0.9) for name, pose in self.there.items()]

    def of_boxes(self, photo, boxes):
        return [self._found(box.object, self.there[box.object], 0.9) for box in boxes]

    def look(self, photo, poses):
        found = []
        for name, pose in poses:
            truth = self.there.get(name)
            near = truth is not None and np.linalg.norm(truth.cam_t_obj - pose.cam_t_obj) < 0.05
            found.append(self._found(name, truth if near else pose, 0.9 if near else 0.05))
        return found

    def _box(self, pose):
        u, v = (K @ pose.cam_t_obj)[:2] / pose.cam_t_obj[2]
        return np.array([u - 30, v - 30, u + 30, v + 30])

    def _found(self, name, pose, confidence):
        return ObjectPose(
            name,
            1,
            confidence,
            pose.cam_R_obj,
            pose.cam_t_obj,
            self._box(pose),
            confidence=confidence,
            fitted=COVARIANCE,
            known=Known(),
        )


def at(x: float, z: float = 0.8) -> Pose:
    return Pose(np.eye(3), np.array([x, 0.0, z]))


def followed(scene, tracker, frames, poses_of):
    """What is reported in each frame."""
    answers = []
    for frame in frames:
        scene.there = poses_of(frame)
        answers.append(tracker(IMAGE, K, frame * STEP))
    return answers


def test_numbers_stay_and_the_detector_is_rarely_asked():
    scene = Scene()
    tracker = PoseTracker(scene, TrackPlan(detect_every=10))
    both = {"mug": 0.004, "can": -0.004}  # metres a frame
    answers = followed(
        scene, tracker, range(50), lambda n: {name: at(step * (n - 25), 0.9) for name, step in both.items()}
    )
    assert {(pose.object, pose.track) for found in answers for pose in found} == {("mug", 0), ("can", 1)}
    assert scene.asked == 5
    for number, found in enumerate(answers[10:], start=10):
        mug = next(pose for pose in found if pose.object == "mug")
        assert abs(mug.cam_t_obj[0] - 0.004 * (number - 25)) < 1e-3 and not mug.warnings


def test_what_is_hidden_is_reported_for_a_moment_then_not_and_is_found_again():
    scene = Scene()
    tracker = PoseTracker(scene, TrackPlan(shown=0.2, remembered=2.0))
    answers = followed(scene, tracker, range(60), lambda n: {} if 20 <= n < 40 else {"mug": at(0.002 * n)})
    assert all(len(found) == 1 and not found[0].warnings for found in answers[:20] + answers[45:])
    hidden = [pose for found in answers[20:40] for pose in found]
    assert 4 <= len(hidden) <= 6  # 0.2 seconds
    assert all(UNSEEN in pose.warnings and pose.score == 0 for pose in hidden)
    # It moved on while nobody saw it.
    assert hidden[-1].cam_t_obj[0] > hidden[0].cam_t_obj[0]
    assert {pose.track for found in answers for pose in found} == {0}


def test_what_was_away_for_long_is_another_one():
    scene = Scene()
    tracker = PoseTracker(scene, TrackPlan(remembered=0.5))
    answers = followed(scene, tracker, range(60), lambda n: {} if 20 <= n < 40 else {"mug": at(0.0)})
    assert {pose.track for pose in answers[0]} == {0} and {pose.track for pose in answers[-1]} == {1}


def test_a_doubtful_beginning_is_not_followed():
    scene = Scene()
    scene.of_boxes = lambda photo, boxes: [scene._found(box.object, at(0), 0.2) for box in boxes]
    assert followed(scene, PoseTracker(scene), range(5), lambda n: {"mug": at(0)}) == [[]] * 5


def test_a_jump_is_not_believed():
    """A look that is sure of a pose that the object can't have reached leaves it where it was expected."""
    scene = Scene()
    tracker = PoseTracker(scene, TrackPlan(detect_every=1000))
    followed(scene, tracker, range(30), lambda n: {"mug": at(0.0)})
    scene.there, scene.look = {}, lambda photo, poses: [scene._found("mug", at(0.2), 0.9)]
    (found,) = tracker(IMAGE, K, 30 * STEP)
    assert abs(found.cam_t_obj[0]) < 0.01 and UNSEEN in found.warnings


def test_without_second_looks_or_a_detector_nothing_is_followed():
    for name in ("second_look", "finder"):
        scene = Scene()
        setattr(scene, name, None)
        with pytest.raises(UserError, match="--looks 1"):
            PoseTracker(scene)
    unsure = Scene()
    unsure.confidence = None
    with pytest.raises(UserError, match="how sure"):
        PoseTracker(unsure)


def test_two_of_a_kind_stay_two():
    """A look that moves one onto the other is not believed of the later one."""
    scene = Scene()
    places = [at(-0.1), at(0.1)]
    scene.finder = lambda rgb, threshold, topk: [Box("mug", scene._box(pose), 0.9) for pose in places]
    scene.of_boxes = lambda photo, boxes: [
        scene._found("mug", min(places, key=lambda p, b=box: abs(scene._box(p)[0] - b.xyxy[0])), 0.9) for box in boxes
    ]
    scene.look = lambda photo, poses: [scene._found(name, pose, 0.9) for name, pose in poses]
    tracker = PoseTracker(scene, TrackPlan(detect_every=1000, gate=1e9))
    assert [pose.track for pose in tracker(IMAGE, K, 0.0, topk=2)] == [0, 1]
    scene.look = lambda photo, poses: [scene._found(name, at(-0.1), 0.9) for name, _ in poses]
    one, other = tracker(IMAGE, K, STEP, topk=2)
    assert one.track == 0 and not one.warnings
    assert other.track == 1 and UNSEEN in other.warnings and abs(other.cam_t_obj[0] - 0.1) < 1e-6


def test_at_most_topk_of_an_object_are_reported():
    scene = Scene()
    tracker = PoseTracker(scene, TrackPlan(shown=10.0, remembered=10.0))
    answers = followed(scene, tracker, range(30), lambda n: {"mug": at(0.0 if n < 15 else 0.4)})
    assert all(len(found) == 1 for found in answers) and answers[-1][0].track == 1
