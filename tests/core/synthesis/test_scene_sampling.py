"""Scenes: poses in their ranges or as a data set has them, objects that stand, touch, and never meet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sopose.core.bop.models import load_models
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.resting import apart, supports, turned
from sopose.core.objects.model import ObjectModel
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.many_objects import CrowdRange
from sopose.core.synthesis.pose_statistics import level_view, pose_statistics
from sopose.core.synthesis.scene_sampling import OccluderRange, PoseRange, Table, resting_of
from sopose.core.synthesis.scenes import SceneDrawer, SceneOptions
from sopose.core.utils.errors import UserError

K = np.array([[572.4, 0, 325.3], [0, 573.6, 242.0], [0, 0, 1]])
SIZE = (640, 480)


@pytest.fixture(scope="module")
def models(toy_root) -> dict[int, ObjectModel]:
    return load_models(toy_root / "models")


def test_poses_stay_in_their_range():
    poses = PoseRange(z_range=(0.4, 0.9), center_range=(0.2, 0.7))
    rng = np.random.default_rng(0)
    drawn = [poses.draw(K, SIZE, rng) for _ in range(300)]
    depth = np.array([pose.cam_t_obj[2] for pose in drawn])
    uv = project(np.array([pose.cam_t_obj for pose in drawn]), K) / (np.array(SIZE) - 1)
    assert depth.min() >= 0.4 and depth.max() <= 0.9 and np.ptp(depth) > 0.45
    assert uv.min() >= 0.2 and uv.max() <= 0.7
    assert all(np.linalg.det(pose.cam_R_obj) == pytest.approx(1) for pose in drawn)


def test_upper_views_look_down_on_the_object_with_its_z_axis_up():
    poses = PoseRange(rotations="upper", elevation=(20.0, 70.0), tilt=30.0)
    rng = np.random.default_rng(0)
    for _ in range(200):
        pose = poses.draw(K, SIZE, rng)
        camera_obj = pose.inverse().cam_t_obj
        elevation = np.degrees(np.arcsin(camera_obj[2] / np.linalg.norm(camera_obj)))
        assert 20 - 1e-9 <= elevation <= 70 + 1e-9
        up_image = project(pose.transform(np.array([[0, 0, 0.01], [0, 0, 0]])), K)
        direction = up_image[0] - up_image[1]
        # The roll is drawn for an object on the axis; perspective turns it a little off the axis.
        assert np.degrees(np.arctan2(abs(direction[0]), -direction[1])) < 45


def test_standing_occluders_share_the_plane(models):
    rng = np.random.default_rng(0)
    pose = PoseRange(rotations="upper").draw(K, SIZE, rng)
    occluders = OccluderRange(max_count=3, standing_prob=1.0)
    placed = []
    while not placed:
        placed = occluders.draw(models, [2, 3, 4], models[1], pose, rng)
    for obj_id, other in placed:
        in_target = pose.inverse() @ other
        bottom = in_target.transform(models[obj_id].vertices)[:, 2].min()
        assert bottom == pytest.approx(models[1].bounds_min[2], abs=1e-9)


def test_a_stable_object_lies_on_a_face_of_its_hull(models):
    poses = PoseRange(rotations="stable")
    rng = np.random.default_rng(0)
    for model in models.values():
        for _ in range(5):
            heights = (model.vertices @ poses.draw_rest(model, rng).T)[:, 2]
            assert (heights < heights.min() + 1e-6 * model.diameter).sum() >= 3


def test_a_flat_model_lies_on_no_table(models):
    flat = replace(models[1], vertices=models[1].vertices * [1, 1, 0])
    with pytest.raises(UserError, match="is flat"):
        resting_of(flat)


def test_objects_on_a_table_stand_apart_and_may_touch(models):
    rng = np.random.default_rng(0)
    table = Table.under(models[1], Pose(np.eye(3), np.zeros(3)), np.eye(3))
    points = [models[1].vertices]
    for number in range(8):
        model = models[1 + number % 4]
        pose = table.stand_beside(model, resting_of(model).draw(rng), lambda: 0.0, rng)
        if pose is not None:
            points.append(pose.transform(model.vertices))
    footprints = [supports(cloud) for cloud in points]
    assert len(points) > 5
    assert all(abs(cloud[:, 2].min() - table.height) < 1e-9 for cloud in points)
    for index, first in enumerate(footprints):
        others = footprints[:index] + footprints[index + 1 :]
        assert all(apart(first, other, slack=1e-8) for other in others)
        assert not all(apart(first, other, slack=-1e-3) for other in others)  # a millimetre nearer would be too near


def test_what_floats_over_a_table_is_not_in_it(models):
    rng = np.random.default_rng(0)
    table = Table.under(models[1], PoseRange(rotations="upper").draw(K, SIZE, rng), np.eye(3))
    for _ in range(20):
        pose = table.lifted(models[2], Pose(turned(rng), rng.uniform(-1, 1, 3)))
        in_table = table.cam_T_table.inverse() @ pose
        assert in_table.transform(models[2].vertices)[:, 2].min() >= table.height - 1e-9


@pytest.mark.parametrize("rotations", ["upper", "stable", "uniform"])
def test_a_crowd_is_in_the_image_and_nothing_meets(models, rotations):
    crowd, poses = CrowdRange(count=(4, 6), floating_prob=0.0), PoseRange(rotations=rotations, z_range=(0.6, 1.0))
    for seed in range(6):
        placed, table = crowd.draw(models, poses, K, SIZE, np.random.default_rng(seed))
        assert (table is None) == (rotations == "uniform")
        assert 2 <= len(placed) <= 6
        uv = project(np.array([pose.cam_t_obj for _, pose in placed]), K)
        assert (uv >= 0).all() and (uv < SIZE).all()
        centers = [pose.transform(models[k].bounds_min + models[k].extent / 2) for k, pose in placed]
        if table is None:
            radii = [models[k].diameter / 2 for k, _ in placed]
            pairs = [(i, j) for i in range(len(placed)) for j in range(i)]
            assert all(np.linalg.norm(centers[i] - centers[j]) > radii[i] + radii[j] for i, j in pairs)
        again, _ = crowd.draw(models, poses, K, SIZE, np.random.default_rng(seed))
        assert all(np.array_equal(a.cam_t_obj, b.cam_t_obj) for (_, a), (_, b) in zip(placed, again, strict=True))


def test_strangers_stand_beside_objects_or_alone(models):
    """Of images with strangers alone there is the share asked for."""
    own, strange = sorted(models)[:-1], sorted(models)[-1:]
    crowd = CrowdRange((2, 2), strangers=frozenset(strange), stranger_count=(0, 1), alone_prob=0.25)
    poses, alone, beside = PoseRange(z_range=(0.6, 1.0)), 0, 0
    for seed in range(200):
        placed, _ = crowd.draw(models, poses, K, SIZE, np.random.default_rng(seed))
        ids = [obj_id for obj_id, _ in placed]
        assert len(set(ids)) == len(ids) and set(ids) <= {*own, *strange}
        alone += ids == strange
        beside += len(ids) > 1 and strange[0] in ids
    assert 30 <= alone <= 70 and 40 <= beside <= 110  # 50, and at most half of 150


def test_statistics_give_back_how_the_camera_saw(toy_root):
    records = load_split(resolve_split(f"{toy_root}:train", toy_root.parent))
    statistics = pose_statistics(records, (320, 240))
    depth = [instance.pose.cam_t_obj[2] for record in records for instance in record.instances]
    np.testing.assert_allclose(np.sort(statistics.depth), np.sort(depth))
    poses = PoseRange(rotations="upper", statistics=statistics)
    rng = np.random.default_rng(0)
    drawn = np.array([poses.draw(K, SIZE, rng).cam_t_obj for _ in range(300)])
    assert 0.9 * min(depth) < drawn[:, 2].min() and drawn[:, 2].max() < 1.1 * max(depth)
    assert abs(np.median(drawn[:, 2]) - np.median(depth)) < 0.1


def test_statistics_read_elevation_and_roll_of_a_view(toy_root):
    records = load_split(resolve_split(f"{toy_root}:train", toy_root.parent))[:1]
    rng = np.random.default_rng(0)
    given = PoseRange(rotations="upper", elevation=(50.0, 50.0), tilt=0.0, center_range=(0.2, 0.8))
    views = [given.draw(K, SIZE, rng) for _ in records[0].instances]
    for instance, pose in zip(records[0].instances, views, strict=True):
        object.__setattr__(instance, "pose", pose)
    statistics = pose_statistics(records, SIZE)
    np.testing.assert_allclose(statistics.elevation, np.deg2rad(50), atol=1e-9)
    np.testing.assert_allclose(statistics.roll, 0, atol=1e-9)


def test_statistics_of_nothing_are_refused():
    with pytest.raises(UserError, match="POSES_FROM"):
        pose_statistics([], SIZE)


def test_a_level_view_has_the_object_s_z_axis_up():
    view = level_view(0.3, 0.5)
    assert view[0, 2] == pytest.approx(0) and view[1, 2] < 0 and np.linalg.det(view) == pytest.approx(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PoseRange(rotations="sideways"), "ROTATIONS"),
        (lambda: PoseRange(z_range=(1.0, 0.5)), "Z_RANGE"),
        (lambda: CrowdRange(count=(0, 3)), "number of objects"),
        (lambda: CrowdRange(floating_prob=2.0), "floating"),
        (lambda: CrowdRange(alone_prob=-0.1), "images without objects"),
    ],
)
def test_an_impossible_range_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_crowd_that_has_no_place_before_the_camera_is_refused(models):
    """Floating objects are larger than the view so near to the camera: none is ever inside the image."""
    poses, crowd = PoseRange(z_range=(0.01, 0.02)), CrowdRange(count=(2, 3), floating_prob=1.0)
    drawer = SceneDrawer(models, SceneOptions(K, SIZE, poses, crowd=crowd), Backgrounds())
    with pytest.raises(UserError, match=r"no object found a place .* check CAD\.Z_RANGE"):
        drawer.crowd(np.random.default_rng(0))
