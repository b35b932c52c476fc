"""Poses of several images become one of the world, and again one of each camera."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.inference.checkpoint_facts import KnownObject
from sopose.inference.found import ObjectPose
from sopose.inference.views import Sighting, fuse_sightings, fused_entry, fused_estimates, read_views

TRUTH = Pose(Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix(), np.array([0.1, 0.2, 0.0]))
COVARIANCE = np.diag([1e-6, 1e-6, 1e-4, 1e-4, 1e-4, 1e-4])
MUG = KnownObject("mug", 5, np.full(3, 0.1), np.full(3, -0.05), 0.17, [], [], "")


def camera(angle: float) -> Pose:
    """A metre from the world's origin, turned about its vertical."""
    return Pose(Rotation.from_euler("y", angle, degrees=True).as_matrix(), np.array([0, 0, 1.0]))


VIEWS = {1: camera(0), 2: camera(40), 7: camera(-70)}


def sighting(im_id: int, score: float = 0.5, shift: float = 0.0, covariance=COVARIANCE) -> Sighting:
    pose = VIEWS[im_id] @ TRUTH
    t = pose.cam_t_obj + np.array([0, 0, shift])
    return Sighting(3, im_id, ObjectPose("mug", 5, score, pose.cam_R_obj, t, np.zeros(4), fitted=covariance, known=MUG))


def test_one_pose_from_all_images():
    (found,) = fuse_sightings([sighting(1), sighting(2), sighting(7, score=0.9, shift=0.5)], VIEWS)
    np.testing.assert_allclose(found.fused.pose.cam_t_obj, TRUTH.cam_t_obj, atol=1e-9)
    assert found.images == (1, 2, 7) and found.agree == (1, 2) and found.score == 0.5
    estimates = fused_estimates([found], VIEWS)
    assert [one.im_id for one in estimates] == [1, 2, 7]
    for one in estimates:  # also where the image's own pose was wrong
        np.testing.assert_allclose(one.pose.cam_t_obj, (VIEWS[one.im_id] @ TRUTH).cam_t_obj, atol=1e-9)
    assert json.loads(json.dumps(fused_entry(found)))["agree"] == [1, 2]


def test_of_several_poses_in_an_image_the_best_scored_counts():
    (found,) = fuse_sightings([sighting(1, 0.2, 0.3), sighting(1, 0.8), sighting(2)], VIEWS)
    assert found.agree == (1, 2) and found.score == pytest.approx(0.65)


def test_what_is_missing_is_said():
    with pytest.raises(UserError, match="say nothing of image 1; give the camera"):
        fuse_sightings([sighting(1)], {2: VIEWS[2]})
    with pytest.raises(UserError, match="add second looks"):
        fuse_sightings([sighting(1, covariance=None)], VIEWS)
    assert fuse_sightings([], VIEWS) == []


def test_views_are_read_as_bop_writes_them(tmp_path):
    path = tmp_path / "scene_camera.json"
    entry = {"cam_R_w2c": VIEWS[2].cam_R_obj.ravel().tolist(), "cam_t_w2c": (1000 * VIEWS[2].cam_t_obj).tolist()}
    path.write_text(json.dumps({"2": entry}))
    np.testing.assert_allclose(read_views(path)[2].cam_t_obj, VIEWS[2].cam_t_obj)
    path.write_text(json.dumps({"2": {"cam_K": [1] * 9}}))
    with pytest.raises(UserError, match="image 2 doesn't say where the camera is"):
        read_views(path)
