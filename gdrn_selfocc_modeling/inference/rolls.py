"""Poses of a whole test set from crops that are seen by rolled cameras too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sopose.core.bop.results import Estimate, Estimates
from sopose.core.geometry.rolls import agreed_and_single, from_roll
from sopose.data.eval_set import EvalSet


def estimates_with_rolls(
    test_set: EvalSet, own: Estimates, rolls: Sequence[float], estimate: Callable[[EvalSet], Estimates]
) -> tuple[Estimates, list[Estimates]]:
    """Of each ROI the pose that its views agree on, and lists of those of each view, as of `agreed_and_single`.

    Args:
        test_set: the ROIs.
        own: what the camera as it is sees.
        rolls: degrees of the others.
        estimate: what a network says of a test set.
    """
    views = [own, *(_in_own_cameras(estimate(test_set.rolled(roll)), test_set, roll) for roll in rolls)]
    detected, answers, singles = test_set.detection_times(), [], []
    for first, *others in zip(*views, strict=True):
        known, spent = test_set.source.objects[first.obj_id], first.time
        poses = [known.network_pose(one.pose) for one in (first, *others)]
        agreed, alone = agreed_and_single(poses, known.centered.symmetry_transforms)
        if spent >= 0:  # else the detector's is unknown, which is in each of them and counts once
            spent += sum(one.time - detected[first.scene_id, first.im_id] for one in others)
        answers.append(replace(first, pose=known.model_pose(agreed), time=spent))
        singles.append([replace(first, pose=known.model_pose(pose)) for pose in alone])
    return Estimates.of(answers), [Estimates.of(column) for column in zip(*singles, strict=True)]


def _in_own_cameras(estimates: Estimates, test_set: EvalSet, roll: float) -> list[Estimate]:
    """Poses that rolled cameras saw, in the frames of the images' own."""
    rows = zip(estimates, test_set.source.items, strict=True)
    return [replace(row, pose=from_roll(row.pose, item.record.K, item.box, roll)) for row, item in rows]
