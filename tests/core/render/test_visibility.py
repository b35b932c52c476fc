"""Several objects: order in depth, masks, depth images and the numbers of scene_gt_info.json."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sopose.core.bop.models import load_models
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.geometry.camera import pixel_grid
from sopose.core.geometry.pose import Pose
from sopose.core.rays.casters import cast_scene
from sopose.core.rays.raycast import RayCaster
from sopose.core.render.visibility import annotate_scene, render_depth, scene_gt_info

K = np.array([[500.0, 0.0, 100.0], [0.0, 500.0, 75.0], [0.0, 0.0, 1.0]])
SIZE = (200, 150)


def rectangle(width: float, height: float) -> RayCaster:
    """A flat sheet about the origin, of this many pixels at one metre before the camera K."""
    x, y = width / 1000, height / 1000
    return RayCaster(np.array([[-x, -y, 0], [x, -y, 0], [x, y, 0], [-x, y, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))


def box(size: float = 0.1) -> RayCaster:
    import trimesh

    mesh = trimesh.creation.box([size, 0.7 * size, 0.5 * size])
    return RayCaster(mesh.vertices, mesh.faces)


def at(u: float, v: float, depth: float = 1.0) -> Pose:
    """Facing the camera, the origin seen at pixel (u, v)."""
    return Pose(np.eye(3), depth * np.array([(u - 100) / 500, (v - 75) / 500, 1.0]))


def random_scene(seed: int, count: int = 4) -> tuple[list[RayCaster], list[Pose]]:
    rng = np.random.default_rng(seed)
    poses = [
        Pose(Rotation.random(rng=rng).as_matrix(), [*rng.uniform(-0.08, 0.08, 2), rng.uniform(0.8, 1.2)])
        for _ in range(count)
    ]
    return [box() for _ in poses], [Pose(pose.cam_R_obj, np.array(pose.cam_t_obj)) for pose in poses]


@pytest.mark.parametrize("seed", range(3))
def test_the_owner_is_the_nearest_of_all(seed):
    casters, poses = random_scene(seed)
    uv = pixel_grid(*SIZE).reshape(-1, 2)
    depths = np.full((len(casters), len(uv)), np.inf)
    for depth, caster, pose in zip(depths, casters, poses, strict=True):
        hits = caster.cast(pose, K, uv)
        depth[hits.ray] = hits.depth
    hits = cast_scene(casters, poses, K, uv)
    seen = np.isfinite(depths).any(axis=0)
    assert seen.sum() > 1000
    assert np.array_equal(hits.owner, np.where(seen, depths.argmin(axis=0), -1))
    assert np.array_equal(hits.depth, depths.min(axis=0))
    for index, pose in enumerate(poses):
        own = hits.owner == index
        np.testing.assert_allclose(pose.transform(hits.points_obj[own])[:, 2], hits.depth[own], rtol=1e-14)


def test_an_empty_scene_owns_nothing():
    hits = cast_scene([], [], K, np.zeros((5, 2)))
    assert hits.owner.tolist() == [-1] * 5
    assert np.isinf(hits.depth).all()


@pytest.mark.parametrize("seed", range(3))
def test_depth_inside_the_projected_box_equals_depth_of_all_pixels(seed):
    (caster,), (pose,) = random_scene(seed, 1)
    hits = caster.cast(pose, K, pixel_grid(*SIZE).reshape(-1, 2))
    everywhere = np.zeros(SIZE[0] * SIZE[1])
    everywhere[hits.ray] = hits.depth
    assert np.array_equal(render_depth(caster, pose, K, SIZE), everywhere.reshape(SIZE[::-1]))


def test_depth_is_limited_to_a_given_box():
    caster, pose = rectangle(50, 30), at(100.5, 75.5)
    part = render_depth(caster, pose, K, SIZE, np.array([90.0, 70.0, 109.0, 79.0]))
    whole = render_depth(caster, pose, K, SIZE)
    assert whole.sum() == pytest.approx(50 * 30)
    assert np.array_equal(part[70:80, 90:110], whole[70:80, 90:110])
    assert (part > 0).sum() == 20 * 10


def test_an_object_beside_or_behind_the_camera_is_not_seen():
    for pose in (at(1000, 75), at(100, 75, -1.0), at(-400, -900)):
        assert not render_depth(box(), pose, K, SIZE).any()


def test_a_camera_inside_an_object_sees_it_everywhere():
    assert (render_depth(box(1.0), Pose(np.eye(3), np.zeros(3)), K, SIZE) > 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_visible_masks_part_the_union_of_the_whole_ones(seed):
    masks, _ = annotate_scene(*random_scene(seed), K, SIZE)
    whole = np.stack([mask for mask, _ in masks])
    visible = np.stack([mask for _, mask in masks])
    assert np.array_equal(visible.sum(axis=0), whole.any(axis=0))
    assert not (visible & ~whole).any()


def test_gt_info_of_a_sheet_half_hidden_by_a_nearer_one():
    # 40 x 20 pixels behind, its left half covered by a sheet of 20 x 60 pixels at half the distance.
    casters = [rectangle(40, 20), rectangle(10, 30)]
    back, front = scene_gt_info(casters, [at(100.5, 75.5), at(90.5, 75.5, 0.5)], K, SIZE)
    assert back == {
        "bbox_obj": [81, 66, 39, 19],
        "bbox_visib": [101, 66, 19, 19],
        "px_count_all": 800,
        "px_count_valid": 800,
        "px_count_visib": 400,
        "visib_fract": 0.5,
    }
    assert front["px_count_all"] == front["px_count_visib"] == 20 * 60
    assert front["bbox_visib"] == [81, 46, 19, 59]


def test_gt_info_counts_the_silhouette_beyond_the_image():
    # 40 x 20 pixels about the image's left edge: 20 columns inside, 20 outside.
    (entry,) = scene_gt_info([rectangle(40, 20)], [at(-0.5, 75.5)], K, SIZE)
    assert entry["bbox_obj"] == [-20, 66, 39, 19]
    assert entry["bbox_visib"] == [0, 66, 19, 19]
    assert (entry["px_count_all"], entry["px_count_valid"], entry["px_count_visib"]) == (800, 400, 400)
    assert entry["visib_fract"] == 0.5


def test_gt_info_of_an_object_out_of_sight():
    (entry,) = scene_gt_info([rectangle(40, 20)], [at(5000, 75)], K, SIZE)
    assert entry["bbox_obj"] == entry["bbox_visib"] == [-1, -1, -1, -1]
    assert entry["px_count_all"] == 0 and entry["visib_fract"] == 0.0


def test_gt_info_of_no_objects_is_empty():
    assert scene_gt_info([], [], K, SIZE) == []


def test_silhouettes_of_real_annotations_agree_with_bop(real_data):
    record = load_split(resolve_split(f"{real_data / 'lmo'}:test", real_data))[0]
    models = load_models(real_data / "lmo" / "models", [instance.obj_id for instance in record.instances])
    casters = [RayCaster(models[i.obj_id].vertices, models[i.obj_id].faces) for i in record.instances]
    poses = [instance.pose for instance in record.instances]
    for instance, entry in zip(record.instances, scene_gt_info(casters, poses, record.K, (640, 480)), strict=True):
        x, y, w, h = entry["bbox_obj"]
        # BOP's renderer places pixel centres half a pixel off, so a side may round to the neighbouring pixel.
        assert np.abs(np.array([x, y, x + w, y + h]) - instance.bbox_obj).max() <= 1
        # Its visible pixels are judged by measured depth, where clutter hides more than these eight objects.
        assert entry["visib_fract"] > instance.visib_fract - 0.08
