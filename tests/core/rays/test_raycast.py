"""The ray caster: exact points, agreement with a float64 ray caster, and use in other processes."""

from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sopose.core.geometry.pose import Pose
from sopose.core.rays.raycast import RayCaster, RayHits, camera_rays
from sopose.core.utils.errors import UserError
from tests.support.ray_cases import (
    NANOMETRE,
    K,
    brute_force,
    distance_to_triangles,
    icosphere,
    pixels_around,
    random_pose,
)


@pytest.mark.parametrize("size", [0.001, 0.1, 1.0])
def test_points_lie_on_the_surface_and_on_their_ray(size):
    rng = np.random.default_rng(1)
    vertices, faces = icosphere(size)
    caster, pose = RayCaster(vertices, faces), random_pose(rng, 8 * size)
    uv = pixels_around(pose, size, 5000, rng)
    hits = caster.cast(pose, K, uv)
    origin, directions = camera_rays(pose, K, uv)
    assert len(hits.ray) > 1000
    assert distance_to_triangles(hits.points_obj, vertices[faces[hits.face]]).max() <= NANOMETRE
    on_ray = origin + hits.depth[:, None] * directions[hits.ray]
    np.testing.assert_allclose(hits.points_obj, on_ray, rtol=0, atol=1e-15 * 8 * size)


def test_depth_is_the_camera_z_and_points_project_to_their_pixels():
    rng = np.random.default_rng(2)
    pose = random_pose(rng, 1.0)
    uv = pixels_around(pose, 0.1, 500, rng)
    hits = RayCaster(*icosphere(0.1)).cast(pose, K, uv)
    points_cam = pose.transform(hits.points_obj)
    projected = points_cam @ K.T
    np.testing.assert_allclose(hits.depth, points_cam[:, 2], rtol=1e-14)
    np.testing.assert_allclose(projected[:, :2] / projected[:, 2:], uv[hits.ray], rtol=0, atol=1e-9)  # pixel


def test_a_sphere_is_met_where_the_formula_says():
    rng = np.random.default_rng(3)
    radius, pose = 0.1, random_pose(rng, 1.0)
    uv = pixels_around(pose, 0.4 * radius, 400, rng)  # the middle of it, away from the outline
    hits = RayCaster(*icosphere(radius, 6)).cast(pose, K, uv)
    origin, directions = camera_rays(pose, K, uv)
    assert np.array_equal(hits.ray, np.arange(400))
    dd, od, oo = (directions**2).sum(1), directions @ origin, origin @ origin
    exact = (-od - np.sqrt(od**2 - dd * (oo - radius**2))) / dd
    # The triangles are inscribed: corners 1.2 % of the radius from each centre leave a sagitta of 7e-5.
    assert np.abs(hits.depth - exact).max() < 1e-4 * radius


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.003, 0.1, 2.0]), st.floats(1.5, 200.0))
def test_agrees_with_a_float64_ray_caster(seed, size, distance):
    rng = np.random.default_rng(seed)
    vertices = size * rng.uniform(-0.5, 0.5, (30, 3))
    faces = rng.integers(0, 30, (40, 3))  # some without area: two corners alike
    pose = random_pose(rng, distance * size)
    uv = pixels_around(pose, size, 150, rng)
    hits = RayCaster(vertices, faces).cast(pose, K, uv)
    depth = np.full(len(uv), np.inf)
    depth[hits.ray] = hits.depth
    expected, clearness = brute_force(vertices, faces, *camera_rays(pose, K, uv))
    clear = clearness > 1e-5
    assert clear.mean() > 0.8
    np.testing.assert_allclose(depth[clear], expected[clear], rtol=1e-12, atol=0)
    corners = vertices[faces[hits.face]]
    assert distance_to_triangles(hits.points_obj, corners).max(initial=0) <= NANOMETRE * max(size, 1)


def test_rays_through_edges_and_corners_of_a_closed_mesh_all_hit():
    vertices, faces = icosphere(0.1, 2)
    pose = random_pose(np.random.default_rng(4), 1.0)
    corners = vertices[faces]
    middle = (corners + np.roll(corners, 1, axis=1)).reshape(-1, 3) / 2
    points_cam = pose.transform(np.concatenate([vertices, middle]))
    # Not at the outline, where a ray through an edge grazes: those seen at less than about 70°.
    front = np.einsum("ni,ni->n", points_cam, points_cam - pose.cam_t_obj) < -0.03
    projected = points_cam[front] @ K.T
    uv = projected[:, :2] / projected[:, 2:]
    hits = RayCaster(vertices, faces).cast(pose, K, uv)
    assert np.array_equal(hits.ray, np.arange(len(uv)))
    assert np.abs(hits.depth - points_cam[front, 2]).max() < 1e-12


def test_barycentric_weights_rebuild_the_point():
    vertices, faces = icosphere(0.1)
    caster, rng = RayCaster(vertices, faces), np.random.default_rng(5)
    pose = random_pose(rng, 1.0)
    hits = caster.cast(pose, K, pixels_around(pose, 0.1, 500, rng))
    normals, weights = caster.triangles_at(hits.face, hits.points_obj)
    rebuilt = np.einsum("mk,mki->mi", weights, vertices[faces[hits.face]])
    np.testing.assert_allclose(rebuilt, hits.points_obj, rtol=0, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, rtol=1e-14)


def test_triangles_without_area_are_never_hit():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0.2, 0.2, -0.1]], float)
    faces = np.array([[4, 4, 4], [0, 1, 2], [1, 3, 2], [0, 0, 4]])
    hits = RayCaster(vertices, faces).first_hit(np.array([0.2, 0.2, -1.0]), np.array([[0.0, 0.0, 1.0]]))
    assert hits.face.tolist() == [1]
    assert hits.depth.tolist() == [1.0]


def test_a_ray_that_float32_misjudges_is_solved_in_float64():
    # The ray passes 3e-8 beside the near square: float32 sees it hit, float64 knows better.
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    vertices = np.concatenate([square, 3 * square - [1, 1, -0.5]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    origin, directions = np.array([1 + 3e-8, 0.3, -1.0]), np.array([[0.0, 0.0, 1.0]])
    hits = RayCaster(vertices, faces).first_hit(origin, directions)
    assert hits.depth.tolist() == [1.5]
    assert hits.face[0] in (2, 3)


def test_first_hit_looks_ahead_only_and_takes_an_origin_per_ray():
    vertices, faces = icosphere(1.0, 4)
    origins = np.array([[0.0, 0.0, -5.0], [0.0, 0.0, 5.0], [0.0, 0.0, 0.0]])
    directions = np.array([[0.0, 0.0, 2.0], [0.0, 0.0, 2.0], [0.0, 0.0, -0.5]])
    hits = RayCaster(vertices, faces).first_hit(origins, directions)
    assert hits.ray.tolist() == [0, 2]
    np.testing.assert_allclose(hits.depth, [2.0, 2.0], atol=2e-3)


def test_occluded_agrees_with_first_hit_up_to_its_reach():
    rng = np.random.default_rng(6)
    caster = RayCaster(*icosphere(0.1))
    origins = rng.normal(scale=0.5, size=(2000, 3))
    directions = rng.normal(scale=0.1, size=(2000, 3)) - origins
    depth = np.full(2000, np.inf)
    hits = caster.first_hit(origins, directions)
    depth[hits.ray] = hits.depth
    assert np.array_equal(caster.occluded(origins, directions), depth < np.inf)
    assert np.array_equal(caster.occluded(origins, directions, 0.9), depth < 0.9)
    assert np.array_equal(caster.occluded(origins[0], directions), _reached(caster.first_hit(origins[0], directions)))


def _reached(hits: RayHits, count: int = 2000) -> np.ndarray:
    return np.isin(np.arange(count), hits.ray)


def test_no_rays_give_no_hits():
    caster = RayCaster(*icosphere(0.1, 1))
    hits = caster.cast(Pose(np.eye(3), np.array([0, 0, 1.0])), K, np.zeros((0, 2)))
    assert hits.points_obj.shape == (0, 3)
    assert caster.occluded(np.zeros(3), np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize("rounding", [0.0, 3e-4])
def test_pixels_and_their_rays_meet_the_same(rounding):
    # Annotated rotations are rounded: the pixels that are left out must follow from the rays, not from the pose.
    rng = np.random.default_rng(9)
    vertices, faces = icosphere(0.1)
    caster, pose = RayCaster(vertices + np.array([0.3, 0, 0]), faces), random_pose(rng, 0.9)
    pose = Pose(pose.cam_R_obj + rng.uniform(-rounding, rounding, (3, 3)), pose.cam_t_obj)
    uv = pixels_around(Pose(pose.cam_R_obj, pose.transform(caster.center)), 0.1, 20000, rng)
    origin, directions = camera_rays(pose, K, uv)
    by_pixel, by_ray = caster.cast(pose, K, uv), caster.first_hit(origin, directions)
    assert 1000 < len(by_ray.ray) < 20000
    assert np.array_equal(by_pixel.ray, by_ray.ray)
    np.testing.assert_allclose(by_pixel.points_obj, by_ray.points_obj, rtol=0, atol=1e-15)
    np.testing.assert_allclose(by_pixel.directions_obj, directions[by_pixel.ray], rtol=0, atol=1e-15)


def test_image_box_holds_every_hit():
    rng = np.random.default_rng(7)
    caster, pose = RayCaster(*icosphere(0.1)), random_pose(rng, 0.5)
    uv = rng.uniform(0, 640, (20000, 2))
    box, seen = caster.image_box(pose, K), uv[caster.cast(pose, K, uv).ray]
    assert len(seen) > 100
    assert (seen >= box[:2]).all() and (seen <= box[2:]).all()
    assert caster.image_box(Pose(np.eye(3), np.zeros(3)), K) is None


def _count_hits(casters: list[RayCaster], uv: np.ndarray, answers: multiprocessing.Queue) -> None:
    pose = Pose(np.eye(3), np.array([0, 0, 1.0]))
    answers.put([len(caster.cast(pose, K, uv).ray) for caster in casters])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_cast_the_same(method):
    caster = RayCaster(*icosphere(0.1, 2))
    pose = Pose(np.eye(3), np.array([0, 0, 1.0]))
    uv = pixels_around(pose, 0.1, 1000, np.random.default_rng(8))
    here = len(caster.cast(pose, K, uv).ray)
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    # A forked worker has the first caster's scene from its parent, and builds the second's.
    casters = [caster, RayCaster(caster.vertices, caster.faces)]
    worker = context.Process(target=_count_hits, args=(casters, uv, answers))
    worker.start()
    assert answers.get(timeout=60) == [here, here]
    worker.join(60)
    assert worker.exitcode == 0


def test_pickle_leaves_the_scene_behind():
    caster = RayCaster(*icosphere(0.1, 1))
    ray = (np.array([0, 0, -1.0]), np.array([[0.01, 0.02, 1.0]]))
    before = caster.first_hit(*ray)
    after = pickle.loads(pickle.dumps(caster)).first_hit(*ray)
    assert np.array_equal(before.points_obj, after.points_obj)


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (np.zeros((3, 2)), np.array([[0, 1, 2]]), "vertices"),
        (np.zeros((3, 3)), np.zeros((0, 3), int), "F > 0"),
        (np.zeros((3, 3)), np.array([[0, 1, 3]]), "0 to 3"),
        (np.full((3, 3), np.nan), np.array([[0, 1, 2]]), "finite"),
        (np.zeros((3, 3)), np.array([[0, 1, 2]]), "area"),
    ],
)
def test_what_is_no_mesh_is_refused(vertices, faces, message):
    with pytest.raises(UserError, match=message):
        RayCaster(vertices, faces)
