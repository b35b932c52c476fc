"""Meshes packed for a GPU: the laws of the ray caster, agreement with it, and one walk on two back ends."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sopose.core.geometry.pose import Pose
from sopose.core.rays.bvh_caster import BvhCaster, BvhMeshes, MeshHits
from sopose.core.rays.casters import PosedMeshes
from sopose.core.rays.raycast import RayCaster, camera_rays
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

ONE = torch.zeros(1, dtype=torch.int64)
Rays = tuple[np.ndarray, np.ndarray]


def cast(caster: RayCaster | BvhMeshes, origins: np.ndarray, directions: np.ndarray) -> MeshHits:
    """Hits of one object, on the CPU."""
    meshes = caster if isinstance(caster, BvhMeshes) else BvhMeshes([caster], "cpu", "torch")
    return meshes.cast(ONE, torch.from_numpy(origins), torch.from_numpy(directions))


def assert_same_hits(caster: RayCaster, rays: Rays, where: np.ndarray | None = None) -> int:
    """Compare with the ray caster on the CPU, at the rays of a mask; returns the number of hits."""
    expected, hits = caster.first_hit(*rays), cast(caster, *rays)
    depth, face, points = np.full(len(rays[1]), np.inf), np.full(len(rays[1]), -1), np.zeros((len(rays[1]), 3))
    depth[expected.ray], face[expected.ray], points[expected.ray] = expected.depth, expected.face, expected.points_obj
    where = np.ones(len(depth), bool) if where is None else where
    np.testing.assert_array_equal(hits.hit.numpy(), hits.face.numpy() >= 0)
    np.testing.assert_array_equal(hits.hit.numpy()[where], (face >= 0)[where])
    shared_edge = hits.face.numpy() != face  # both faces are right where the ray meets their edge
    assert np.abs(hits.points_obj.numpy() - points)[where].max(initial=0) < NANOMETRE
    assert (shared_edge & where).sum() <= 0.02 * len(depth)
    np.testing.assert_allclose(hits.depth.numpy()[where], depth[where], rtol=1e-12)
    return int(where.sum() if where.dtype != bool else (where & (face >= 0)).sum())


def bumpy(seed: int, size: float, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A closed mesh with hollows, its centre anywhere."""
    rng = np.random.default_rng(seed)
    vertices, faces = icosphere(1.0, 3)
    waves = np.sin(vertices @ rng.normal(scale=4, size=(3, 3))).sum(axis=1)
    return size * (1 + 0.1 * waves)[:, None] * vertices + center, faces


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.003, 0.1, 2.0]), st.floats(1.5, 200.0), st.floats(0, 20))
def test_names_the_triangles_the_ray_caster_names(seed, size, distance, beside):
    rng = np.random.default_rng(seed)
    center = beside * size * rng.normal(size=3)  # an object off its origin
    vertices, faces = bumpy(seed, size, center)
    pose = random_pose(rng, distance * size)
    uv = pixels_around(pose, 1.3 * size, 300, rng)
    seen = Pose(pose.cam_R_obj, pose.cam_t_obj - pose.cam_R_obj @ center)
    assert assert_same_hits(RayCaster(vertices, faces), camera_rays(seen, K, uv)) > 20


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.003, 0.1, 2.0]), st.floats(1.5, 200.0))
def test_agrees_with_a_float64_ray_caster_wherever_float64_can_decide(seed, size, distance):
    rng = np.random.default_rng(seed)
    vertices = size * rng.uniform(-0.5, 0.5, (30, 3))
    faces = rng.integers(0, 30, (40, 3))  # an open soup; some without area: two corners alike
    pose = random_pose(rng, distance * size)
    uv = pixels_around(pose, size, 150, rng)
    origin, directions = camera_rays(pose, K, uv)
    hits = cast(RayCaster(vertices, faces), origin, directions)
    expected, clearness = brute_force(vertices, faces, origin, directions)
    # The ray caster for the CPU needs 1e-5 here.
    clear = clearness > 1e-8
    assert clear.mean() > 0.9
    np.testing.assert_allclose(hits.depth.numpy()[clear], expected[clear], rtol=1e-8)
    hit = hits.hit.numpy()
    corners = vertices[faces[hits.face.numpy()[hit]]]
    points = hits.points_obj.numpy()[hit]
    assert distance_to_triangles(points, corners).max(initial=0) <= NANOMETRE * max(size, 1)
    on_ray = origin + hits.depth.numpy()[hit, None] * directions[hit]
    np.testing.assert_allclose(points, on_ray, rtol=0, atol=1e-15 * distance * size)


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.2))
def test_objects_around_and_behind_the_camera_are_met_ahead_only(seed, distance):
    rng = np.random.default_rng(seed)
    vertices, faces = bumpy(seed, 0.1, np.zeros(3))
    origin, directions = 0.1 * distance * rng.normal(size=3), rng.normal(size=(200, 3))
    expected, clearness = brute_force(vertices, faces, origin, directions)
    clear = clearness > 1e-8
    depth = cast(RayCaster(vertices, faces), origin, directions).depth.numpy()
    np.testing.assert_allclose(depth[clear], expected[clear], rtol=1e-8)


@given(st.floats(-2000, 2000), st.floats(-2000, 2000), st.floats(-50, 50))
def test_any_principal_point_and_skew(cx, cy, skew):
    camera = np.array([[600.0, skew, cx], [0.0, 500.0, cy], [0.0, 0.0, 1.0]])
    rng = np.random.default_rng(0)
    pose = random_pose(rng, 0.6)
    center = (camera @ pose.cam_t_obj)[:2] / pose.cam_t_obj[2]
    rays = camera_rays(pose, camera, center + rng.uniform(-100, 100, (200, 2)))
    assert assert_same_hits(RayCaster(*bumpy(1, 0.1, np.zeros(3))), rays) > 50


@pytest.mark.parametrize("seed", range(4))
def test_rays_through_edges_and_corners_of_a_closed_mesh_all_hit(seed):
    vertices, faces = icosphere(0.1, 2)
    pose = random_pose(np.random.default_rng(seed), 1.0)
    corners = vertices[faces]
    middle = (corners + np.roll(corners, 1, axis=1)).reshape(-1, 3) / 2
    points_cam = pose.transform(np.concatenate([vertices, middle]))
    # At the outline a ray grazes, and to meet it or not are both right.
    front = np.einsum("ni,ni->n", points_cam, points_cam - pose.cam_t_obj) < -1e-3
    projected = points_cam[front] @ K.T
    hits = cast(RayCaster(vertices, faces), *camera_rays(pose, K, projected[:, :2] / projected[:, 2:]))
    assert hits.hit.all()
    assert np.abs(hits.depth.numpy() - points_cam[front, 2]).max() < 1e-12


def test_triangles_without_area_are_never_hit():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [0.2, 0.2, -0.1]], float)
    faces = np.array([[4, 4, 4], [0, 1, 2], [1, 3, 2], [0, 0, 4]])
    hits = cast(RayCaster(vertices, faces), np.array([0.2, 0.2, -1.0]), np.array([[0.0, 0.0, 1.0]]))
    assert hits.face.tolist() == [1] and hits.depth.tolist() == [1.0]


def test_what_float32_misjudges_is_right_at_once():
    # The ray passes 3e-8 beside the near square: float32 sees it hit.
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    vertices = np.concatenate([square, 3 * square - [1, 1, -0.5]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    hits = cast(RayCaster(vertices, faces), np.array([1 + 3e-8, 0.3, -1.0]), np.array([[0.0, 0.0, 1.0]]))
    assert hits.depth.tolist() == [1.5] and int(hits.face[0]) in (2, 3)


def test_open_meshes_show_their_inside_and_either_winding_the_same():
    vertices, faces = bumpy(2, 0.1, np.zeros(3))
    pose = random_pose(np.random.default_rng(2), 0.5)
    rays = camera_rays(pose, K, pixels_around(pose, 0.1, 400, np.random.default_rng(3)))
    half = faces[vertices[faces].mean(axis=1)[:, 0] > 0]
    assert assert_same_hits(RayCaster(vertices, half), rays) > 30
    whole = cast(RayCaster(vertices, faces), *rays)
    turned = cast(RayCaster(vertices, faces[:, ::-1]), *rays)
    np.testing.assert_allclose(turned.depth, whole.depth, rtol=1e-13)
    assert torch.equal(turned.face, whole.face)


def test_each_group_of_rays_has_its_own_object_and_minus_one_is_none():
    casters = [RayCaster(*bumpy(seed, 0.1 + 0.05 * seed, np.full(3, 0.1 * seed))) for seed in range(3)]
    meshes = BvhMeshes(casters, "cpu")
    assert meshes.backend == "torch"
    rng = np.random.default_rng(0)
    objects = [2, 0, -1, 1, 2]
    origins = np.array([casters[index].center + rng.normal(size=3) for index in objects])
    aims = np.array([casters[index].center for index in objects])[:, None] + rng.normal(scale=0.1, size=(5, 80, 3))
    directions = aims - origins[:, None]
    hits = meshes.cast(torch.tensor(objects)[:, None], torch.from_numpy(origins)[:, None], torch.from_numpy(directions))
    for group, index in enumerate(objects):
        if index < 0:
            assert not hits.hit[group].any() and not hits.points_obj[group].any()
            continue
        expected = casters[index].first_hit(origins[group], directions[group])
        assert np.array_equal(torch.nonzero(hits.hit[group])[:, 0], expected.ray) and len(expected.ray) > 10
        assert np.array_equal(hits.face[group, expected.ray], expected.face)
        np.testing.assert_allclose(hits.points_obj[group, expected.ray], expected.points_obj, rtol=0, atol=1e-14)


def test_occluded_agrees_with_cast_up_to_its_reach():
    rng = np.random.default_rng(6)
    caster = BvhMeshes([RayCaster(*icosphere(0.1))], "cpu")
    origins = torch.from_numpy(rng.normal(scale=0.5, size=(2000, 3)))
    directions = torch.from_numpy(rng.normal(scale=0.1, size=(2000, 3))) - origins
    depth = caster.cast(ONE, origins, directions).depth
    assert 100 < (depth < 0.9).sum() < 1900
    assert torch.equal(caster.occluded(ONE, origins, directions), depth < torch.inf)
    assert torch.equal(caster.occluded(ONE, origins.float(), directions.float(), 0.9), depth < 0.9)
    reach = torch.from_numpy(rng.uniform(0, 2, 2000))
    assert torch.equal(caster.occluded(ONE, origins, directions, reach), depth < reach)


def test_barycentric_weights_and_normals_are_those_of_the_ray_caster():
    casters = [RayCaster(*icosphere(0.1)), RayCaster(*bumpy(0, 0.2, np.ones(3)))]
    meshes = BvhMeshes(casters, "cpu")
    rng = np.random.default_rng(5)
    for index, caster in enumerate(casters):
        hits = caster.first_hit(caster.center, rng.normal(size=(300, 3)))
        named = torch.tensor([index]), torch.from_numpy(hits.face)
        normals, weights = caster.triangles_at(hits.face, hits.points_obj)
        found = meshes.barycentric(*named, torch.from_numpy(hits.points_obj))
        np.testing.assert_allclose(found, weights, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(meshes.face_normals(*named), normals)


def test_a_scene_takes_meshes_that_are_packed_only():
    packed, other = (RayCaster(*icosphere(0.1, 1)) for _ in range(2))
    poses = [random_pose(np.random.default_rng(0), 1.0)]
    BvhCaster(BvhMeshes([packed], "cpu"), [PosedMeshes(K, [packed], poses)])
    with pytest.raises(UserError, match="80 triangles is not on cpu"):
        BvhCaster(BvhMeshes([packed], "cpu"), [PosedMeshes(K, [other], poses)])


def test_no_rays_give_no_hits():
    none = torch.zeros((0, 3), dtype=torch.float64)
    caster = BvhMeshes([RayCaster(*icosphere(0.1, 1))], "cpu")
    assert caster.cast(ONE, none, none).points_obj.shape == (0, 3)
    assert caster.occluded(ONE, none, none).shape == (0,)


def test_an_unknown_backend_is_refused():
    with pytest.raises(UserError, match="auto, torch, triton"):
        BvhMeshes([RayCaster(*icosphere(0.1, 1))], "cpu", "opengl")


@pytest.fixture(scope="module")
def interpreted():
    """A process in which Triton's kernels are interpreted; Triton decides that at its import."""
    pytest.importorskip("triton")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TRITON_INTERPRET", "1")
            pool.submit(len, ()).result(timeout=60)  # the process starts, and inherits
        yield pool


def _both(caster: RayCaster, rays: Rays, work: Callable[..., list[torch.Tensor]]) -> list[tuple[np.ndarray, ...]]:
    return [
        tuple(part.numpy() for part in work(BvhMeshes([caster], "cpu", backend), *map(torch.from_numpy, rays)))
        for backend in ("torch", "triton")
    ]


def _hits(caster: BvhMeshes, origins: torch.Tensor, directions: torch.Tensor) -> list[torch.Tensor]:
    hits = caster.cast(ONE, origins, directions)
    return [hits.face, hits.points_obj, hits.depth]


def _shadows(caster: BvhMeshes, origins: torch.Tensor, directions: torch.Tensor) -> list[torch.Tensor]:
    reaches = [torch.inf, 1.0, torch.linspace(0.5, 1.5, len(directions), dtype=torch.float64)]
    return [caster.occluded(ONE, origins, directions, reach) for reach in reaches]


LONG_WALKS = ("soup", "inside", "edges")  # where kernels are interpreted


@pytest.mark.parametrize("work", [_hits, _shadows])
@pytest.mark.parametrize("case", ["closed", *(pytest.param(case, marks=pytest.mark.slow) for case in LONG_WALKS)])
def test_the_triton_kernel_walks_as_torch_does(interpreted, work, case):
    rng = np.random.default_rng(7)
    vertices, faces = icosphere(0.1, 1)
    pose = random_pose(rng, 1.0)
    origin, directions = camera_rays(pose, K, pixels_around(pose, 0.1, 40, rng))
    if case == "soup":
        faces = np.concatenate([rng.integers(0, len(vertices), (30, 3)), faces[:5, [0, 0, 1]]])
    elif case == "inside":
        origin, directions = np.array([0.01, 0.02, -0.03]), rng.normal(size=(40, 3))
        directions[:3] = np.eye(3)  # along the axes, where slabs divide by zero
        faces = faces[::2]
    elif case == "edges":
        directions = vertices - origin
    walk = interpreted.submit(_both, RayCaster(vertices, faces), (origin, directions), work)
    expected, found = walk.result(timeout=300)
    assert len(np.unique(np.concatenate([part.ravel() for part in expected]))) > 1
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")
@pytest.mark.parametrize("real", ["fp32", "fp64"])
def test_the_triton_kernel_compiles_for_a_gpu(real):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from sopose.core.rays import traversal_triton

    kernel = traversal_triton._walk
    constants = {**traversal_triton.CONSTANTS, "any_hit": False}
    integers = dict.fromkeys(("roots", "slots", "links", "answer"), "*i32")
    kinds = {**integers, "boxes": "*fp32", "count": "i32", "nodes": "i32", **dict.fromkeys(constants, "constexpr")}
    signature = {name: kinds.get(name, f"*{real}") for name in kernel.arg_names}
    source = ASTSource(kernel, signature, {(kernel.arg_names.index(k),): v for k, v in constants.items()})
    built = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": traversal_triton.WARPS})
    assert built.asm["cubin"]
    assert ("div.rn.f64" in built.asm["ptx"]) == (real == "fp64")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_a_gpu_meets_what_the_cpu_meets(backend):
    caster = RayCaster(*bumpy(0, 0.1, np.ones(3)))
    rng = np.random.default_rng(0)
    origins, aims = rng.normal(size=(20000, 3)) + 1, 1 + rng.normal(scale=0.08, size=(20000, 3))
    rays = torch.from_numpy(origins), torch.from_numpy(aims - origins)
    meshes = BvhMeshes([caster], "cuda", backend)
    found = meshes.cast(ONE.to("cuda"), *(part.to("cuda") for part in rays))
    expected = cast(caster, *(part.numpy() for part in rays))
    # Sums may be rounded in another order: a ray through an edge may name either face.
    assert (found.face.cpu() != expected.face).sum() <= 2
    torch.testing.assert_close(found.points_obj.cpu(), expected.points_obj, rtol=0, atol=1e-12)
    shadow = meshes.occluded(ONE.to("cuda"), *(part.to("cuda") for part in rays)).cpu()
    assert (shadow != expected.hit).sum() <= 2
